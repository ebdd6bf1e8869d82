//! What is known of the client: a snapshot that outlives the session.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::message::trace::Protocol;
use crate::syntax::address::Host;
use crate::syntax::domain::Domain;
use crate::syntax::mechanism::Mechanism;
use crate::syntax::xclient::{Said, Xclient};

use super::decision::Identity;
use super::tls::TlsFacts;

/// Names a session in the log: 64 random bits, 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

impl SessionId {
    /// From random bits.
    pub fn new(random: u64) -> Self {
        Self(random)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a transaction: its session and its number in it. Stands in `Received` and in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId {
    session: SessionId,
    number: u32,
}

impl TransactionId {
    pub(crate) fn new(session: SessionId, number: u32) -> Self {
        Self { session, number }
    }

    /// The session it belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.number)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which rules hold for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Treatment {
    /// An unknown mail server: it may send to local domains only.
    #[default]
    Mx,
    /// A network that the operator lists as a relay client: it may send anywhere.
    RelayClient,
    /// A client that has authenticated: it may send anywhere, as itself, and its mail may be completed (RFC 6409).
    Submission,
}

/// What is believed of the peer of a connection when it speaks of others: nothing, unless it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PeerRights {
    /// It may say with `XCLIENT` in whose place it speaks.
    pub xclient: bool,
    /// And who that client has proved to be.
    pub xclient_login: bool,
    /// It may say with `XFORWARD` where a message came from.
    pub xforward: bool,
}

/// How a client introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    host: Host,
    protocol: Protocol,
}

impl Greeting {
    pub(crate) fn new(host: Host, protocol: Protocol) -> Self {
        Self { host, protocol }
    }

    /// The name in `EHLO`, `HELO` or `LHLO`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `EHLO` means ESMTP, `HELO` means SMTP, `LHLO` means LMTP.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// An immutable snapshot of a connection. A new one is made when the client introduces itself, under TLS, and when
/// the client has proved who it is.
#[derive(Debug, Clone)]
pub struct Connection {
    id: SessionId,
    peer: SocketAddr,
    local: SocketAddr,
    treatment: Treatment,
    greeting: Option<Greeting>,
    identity: Option<Identity>,
    mechanism: Option<Mechanism>,
    tls: Option<Arc<TlsFacts>>,
    proxy: Option<SocketAddr>,
    client_name: Option<Domain>,
    peer_rights: PeerRights,
}

impl Connection {
    /// A connection on which nothing was said yet. IPv4-mapped IPv6 addresses become IPv4.
    pub fn new(id: SessionId, peer: SocketAddr, local: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            id,
            peer: canonical(peer),
            local: canonical(local),
            treatment: Treatment::default(),
            greeting: None,
            identity: None,
            mechanism: None,
            tls: None,
            proxy: None,
            client_name: None,
            peer_rights: PeerRights::default(),
        }
    }

    /// The same of a peer that is believed so much.
    #[must_use]
    pub fn with_peer_rights(mut self, rights: PeerRights) -> Self {
        self.peer_rights = rights;
        self
    }

    /// The same with other rules.
    #[must_use]
    pub fn with_treatment(mut self, treatment: Treatment) -> Self {
        self.treatment = treatment;
        self
    }

    /// The same under TLS.
    #[must_use]
    pub fn with_tls(mut self, facts: TlsFacts) -> Self {
        self.tls = Some(Arc::new(facts));
        self
    }

    /// The same through a proxy at that address: the peer is who the proxy says it is.
    #[must_use]
    pub fn with_proxy(mut self, proxy: SocketAddr) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// What is believed of the peer when it speaks of others.
    pub fn peer_rights(&self) -> PeerRights {
        self.peer_rights
    }

    /// The name of the client's address, as a proxy said it with `XCLIENT`. Nobody here has looked it up.
    pub fn client_name(&self) -> Option<&Domain> {
        self.client_name.as_ref()
    }

    /// The session.
    pub fn session_id(&self) -> SessionId {
        self.id
    }

    /// The address of the client.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address it connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Which rules hold. Between `MAIL` and the end of its transaction they stay the same: `AUTH` has no place there (RFC 4954
    /// §4).
    pub fn treatment(&self) -> Treatment {
        if self.identity.is_some() { Treatment::Submission } else { self.treatment }
    }

    /// How the client introduced itself; `None` before `EHLO` and `HELO`.
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// What is spoken, as `Received` says it (RFC 3848).
    pub fn protocol(&self) -> Protocol {
        let greeted = self.greeting.as_ref().map_or(Protocol::Smtp, |greeting| greeting.protocol);
        match (greeted, self.tls.is_some(), self.identity.is_some()) {
            (Protocol::Esmtp, true, false) => Protocol::Esmtps,
            (Protocol::Esmtp, false, true) => Protocol::Esmtpa,
            (Protocol::Esmtp, true, true) => Protocol::Esmtpsa,
            (Protocol::Lmtp, true, false) => Protocol::Lmtps,
            (Protocol::Lmtp, false, true) => Protocol::Lmtpa,
            (Protocol::Lmtp, true, true) => Protocol::Lmtpsa,
            (greeted, ..) => greeted,
        }
    }

    /// Who the client has proved to be.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// By which mechanism it has proved that; `None` also where a listed peer said so with `XCLIENT`.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// The proxy that passed the connection on; `None` where the client connected itself.
    pub fn proxy(&self) -> Option<SocketAddr> {
        self.proxy
    }

    /// What the TLS handshake settled; `None` in clear.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_deref()
    }

    /// Whether mail for other domains may be taken from it.
    pub(crate) fn may_relay(&self) -> bool {
        self.treatment() != Treatment::Mx
    }

    /// The same, before the client introduced itself.
    pub(crate) fn without_greeting(&self) -> Self {
        Self { greeting: None, identity: None, mechanism: None, ..self.clone() }
    }

    /// The same for a client whose place the peer takes. Its address gives it no right: it is treated as unknown.
    pub(crate) fn passed_on(&self, said: Xclient) -> Self {
        let address = |before: SocketAddr, ip: Option<Said<IpAddr>>, port: Option<Said<u16>>| {
            let unknown = || if before.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let ip = ip.map_or(before.ip(), |said| said.value().unwrap_or_else(unknown));
            SocketAddr::new(ip, port.map_or(before.port(), |said| said.value().unwrap_or(0)))
        };
        let identity = said.login.and_then(Said::value).map(Identity::new);
        Self {
            peer: address(self.peer, said.address, said.port),
            local: address(self.local, said.local_address, said.local_port),
            treatment: Treatment::Mx,
            greeting: None,
            identity,
            mechanism: None,
            proxy: self.proxy.or(Some(self.peer)),
            client_name: said.name.map_or_else(|| self.client_name.clone(), Said::value),
            ..self.clone()
        }
    }

    pub(crate) fn authenticated(&self, identity: Identity, mechanism: Mechanism) -> Arc<Self> {
        Arc::new(Self { identity: Some(identity), mechanism: Some(mechanism), ..self.clone() })
    }

    pub(crate) fn greeted(&self, greeting: Greeting) -> Arc<Self> {
        Arc::new(Self { greeting: Some(greeting), ..self.clone() })
    }
}
