//! What a client is told: its name, its limits, its address.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::RootCertStore;

use crate::sasl::client::ClientAuth;
use crate::server::tls::TlsError;
use crate::session::client::limits::ClientLimits;
use crate::session::transfer_protocol::TransferProtocol;
use crate::syntax::SyntaxError;
use crate::syntax::address::{AddressLiteral, Host};

use super::tls::{self, ClientTls};

/// How a client introduces itself and what it allows. Fields may grow: start from [`ClientConfig::new`].
///
/// ```
/// use smtp_core::{ClientConfig, ClientLimits};
///
/// let config = ClientConfig::new("mail.client.example")?.with_limits(ClientLimits::default());
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    name: Option<Host>,
    limits: ClientLimits,
    local_addresses: Vec<IpAddr>,
    /// Names that stand for some of them.
    local_names: Vec<(IpAddr, Host)>,
    tls: Option<ClientTls>,
    authorities: Option<Arc<RootCertStore>>,
    auth: Option<ClientAuth>,
    prefers_chunks: bool,
    asks_for_each: bool,
    protocol: TransferProtocol,
}

impl ClientConfig {
    /// The name is the argument of `EHLO` (RFC 5321 §4.1.1.1): a domain that resolves to the client, or an address
    /// literal.
    ///
    /// # Errors
    /// [`SyntaxError`] where it is neither a domain nor an address literal.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        Ok(Self::named(Host::parse(name)?))
    }

    /// The same with a name that was parsed before.
    pub fn named(name: Host) -> Self {
        // RFC 6531 §3.7.1: nobody knows yet what the server understands.
        Self { name: Some(name.into_ascii()), ..Self::default() }
    }

    /// With other limits and time limits.
    #[must_use]
    pub fn with_limits(self, limits: ClientLimits) -> Self {
        Self { limits, ..self }
    }

    /// Connects from this address. Servers that have no address of the same family are not reached.
    #[must_use]
    pub fn with_local_address(self, address: IpAddr) -> Self {
        self.with_local_addresses([address])
    }

    /// Connects from the first of these addresses that is of the family of the server's and that this host has now. Servers of
    /// a family that none of them has are not reached. Default: the system chooses.
    #[must_use]
    pub fn with_local_addresses(self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { local_addresses: addresses.into_iter().map(|address| address.to_canonical()).collect(), ..self }
    }

    /// Introduces itself by that name over connections from that address: the one that leads to it in DNS (RFC 5321
    /// §2.3.5). Default: the name of [`ClientConfig::new`] over all.
    #[must_use]
    pub fn with_name_at(mut self, address: IpAddr, name: Host) -> Self {
        let address = address.to_canonical();
        self.local_names.retain(|(other, _)| *other != address);
        self.local_names.push((address, name.into_ascii()));
        self
    }

    /// With TLS. Default: none.
    #[must_use]
    pub fn with_tls(self, tls: ClientTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Believes these authorities (PEM), and no others, where a [`TlsPolicy`](crate::TlsPolicy) wants a certificate by name.
    /// Default: those that the system trusts.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn with_authorities(self, roots: &[u8]) -> Result<Self, TlsError> {
        Ok(Self { authorities: Some(tls::authorities(roots)?), ..self })
    }

    /// Authenticates before any message. Default: not at all.
    #[must_use]
    pub fn with_auth(self, auth: ClientAuth) -> Self {
        Self { auth: Some(auth), ..self }
    }

    /// Sends all content by `BDAT` where the server offers `CHUNKING` (RFC 3030). Default: only what cannot go by `DATA`.
    #[must_use]
    pub fn with_chunking(self) -> Self {
        Self { prefers_chunks: true, ..self }
    }

    /// Asks with `PRDR` for a reply for each recipient behind the content, where the server offers that and a message has
    /// several (draft-hall-prdr-00): whoever refuses it then does not keep the others from having it. Default: no, since
    /// the draft never became an RFC.
    #[must_use]
    pub fn with_prdr(self) -> Self {
        Self { asks_for_each: true, ..self }
    }

    /// Whether each recipient is to have a reply of its own where the server offers `PRDR`.
    pub fn asks_for_each(&self) -> bool {
        self.asks_for_each
    }

    /// Whether all content goes by `BDAT` where that is possible.
    pub fn prefers_chunks(&self) -> bool {
        self.prefers_chunks
    }

    /// Speaks LMTP in the place of SMTP (RFC 2033), as to a mail store: each recipient has the reply that the server gave for
    /// it behind the content, and one without a reply is deferred. Never to port 25 (RFC 2033 §5).
    #[must_use]
    pub fn with_lmtp(self) -> Self {
        Self { protocol: TransferProtocol::Lmtp, ..self }
    }

    /// What is spoken. Default: SMTP.
    pub fn protocol(&self) -> TransferProtocol {
        self.protocol
    }

    /// With what the client authenticates.
    pub fn auth(&self) -> Option<&ClientAuth> {
        self.auth.as_ref()
    }

    /// What is demanded of a connection; `None` where all is said in clear.
    pub fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// Who vouches for certificates, where that is not for the system to say.
    pub(super) fn authorities(&self) -> Option<&Arc<RootCertStore>> {
        self.authorities.as_ref()
    }

    /// The same in clear.
    pub(super) fn without_tls(&self) -> Self {
        self.under(None)
    }

    /// The same with other demands.
    pub(super) fn under(&self, tls: Option<ClientTls>) -> Self {
        Self { tls, ..self.clone() }
    }

    /// The name; `None` where the address of the connection stands for it, as an address literal (RFC 5321 §4.1.3).
    pub fn name(&self) -> Option<&Host> {
        self.name.as_ref()
    }

    /// What is allowed.
    pub fn limits(&self) -> &ClientLimits {
        &self.limits
    }

    /// The addresses to connect from, the best first; none where the system chooses.
    pub fn local_addresses(&self) -> &[IpAddr] {
        &self.local_addresses
    }

    /// What `EHLO` says over a connection from that address.
    pub(super) fn name_at(&self, address: IpAddr) -> Host {
        let address = address.to_canonical();
        let own = self.local_names.iter().find(|(at, _)| *at == address).map(|(_, name)| name);
        own.or(self.name.as_ref()).cloned().unwrap_or_else(|| Host::Literal(AddressLiteral::from(address)))
    }
}
