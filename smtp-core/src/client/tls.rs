//! TLS of a client: what it demands of a server (RFC 3207, RFC 7435, RFC 8314), and the handshake.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::tls::{TlsError, certified_key};
use crate::session::client::StartTls;
use crate::session::tls::TlsFacts;
use crate::syntax::text::SafeText;

use super::verify::{Accepts, TlsaRecord, Verifier};

/// What a client demands of a connection. Cheap to copy.
///
/// ```
/// use smtp_core::{ClientConfig, ClientTls};
///
/// // To any mail exchanger: encrypted where the server can, without knowing who it is.
/// let to_anybody = ClientConfig::new("mail.client.example")?.with_tls(ClientTls::opportunistic()?);
/// // To the submission server of a provider: never without, and never to somebody else.
/// let to_provider = ClientTls::verified(["mail.provider.example"])?.implicit();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    use_of_starttls: StartTls,
    is_implicit: bool,
    is_verified: bool,
}

impl ClientTls {
    /// Encrypts where the server offers it, whatever its certificate (RFC 7435): that keeps mail from those who only
    /// listen. Where the handshake fails, another connection goes on in clear.
    ///
    /// # Errors
    /// [`TlsError::NoProvider`].
    pub fn opportunistic() -> Result<Self, TlsError> {
        Self::with_verifier(StartTls::IfOffered, None, |_| Ok(Accepts::Anybody))
    }

    /// Never in clear, whatever the certificate of the server.
    ///
    /// # Errors
    /// [`TlsError::NoProvider`].
    pub fn encrypted() -> Result<Self, TlsError> {
        Ok(Self { use_of_starttls: StartTls::Required, ..Self::opportunistic()? })
    }

    /// Never in clear, and only to a server whose certificate is for one of these names, by an authority that the system
    /// trusts.
    ///
    /// # Errors
    /// [`TlsError`]: there is no name, one is no name, or the system has no authorities.
    pub fn verified<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, TlsError> {
        Self::verified_by(names, authorities_of_system()?)
    }

    /// The same with authorities of one's own, in PEM.
    ///
    /// # Errors
    /// As [`ClientTls::verified`].
    pub fn verified_with_roots<N: AsRef<str>>(
        names: impl IntoIterator<Item = N>,
        roots: &[u8],
    ) -> Result<Self, TlsError> {
        Self::verified_by(names, authorities(roots)?)
    }

    pub(super) fn verified_by<N: AsRef<str>>(
        names: impl IntoIterator<Item = N>,
        roots: Arc<RootCertStore>,
    ) -> Result<Self, TlsError> {
        let (names, first) = parse_names(names)?;
        Self::with_verifier(StartTls::Required, Some(first), |provider| {
            let by_authorities = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            let by_authorities = by_authorities.map_err(|error| TlsError::Unusable(error.to_string()))?;
            Ok(Accepts::Names(names, by_authorities))
        })
    }

    /// Never in clear, and only to a server whose certificate one of these records matches (RFC 7672): by DANE-EE whatever
    /// else it says, by DANE-TA for one of these names, the host and the domain of the mailboxes. The first is the one
    /// that is asked for.
    ///
    /// The records are those of a host whose DNSSEC is in order. Where none of them is
    /// [usable](TlsaRecord::is_usable), TLS is demanded and nobody is verified (RFC 7672 §2.2).
    ///
    /// ```
    /// use smtp_core::{ClientTls, TlsaRecord};
    ///
    /// let record = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![0; 32] };
    /// let tls = ClientTls::dane([record], ["mx.example.org", "example.org"])?;
    /// # let _ = tls;
    /// # Ok::<(), smtp_core::TlsError>(())
    /// ```
    ///
    /// # Errors
    /// [`TlsError`]: there is no name, or one is no name.
    pub fn dane<N: AsRef<str>>(
        records: impl IntoIterator<Item = TlsaRecord>,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, TlsError> {
        let (names, first) = parse_names(names)?;
        let records: Vec<_> = records.into_iter().filter(TlsaRecord::is_usable).collect();
        Self::with_verifier(StartTls::Required, Some(first), |_| {
            Ok(if records.is_empty() { Accepts::Anybody } else { Accepts::Dane(records, names) })
        })
    }

    /// The handshake comes first (RFC 8314 §3.3), as on port 465, and not by `STARTTLS`. Then there is no going on in
    /// clear.
    #[must_use]
    pub fn implicit(self) -> Self {
        Self { is_implicit: true, use_of_starttls: StartTls::Required, ..self }
    }

    /// Says which name it wants to reach (RFC 6066 §3). Default: the first of those that are verified, otherwise none.
    ///
    /// # Errors
    /// [`TlsError::Unusable`]: it is no name.
    pub fn with_server_name(self, name: &str) -> Result<Self, TlsError> {
        let parsed = ServerName::try_from(name.to_owned());
        let name = parsed.map_err(|_| TlsError::Unusable(format!("`{name}` is no name")))?;
        Ok(Self { server_name: Some(name), ..self })
    }

    /// Shows this chain of certificates, its own first, to servers that ask for one, and proves to have the private key (both
    /// PEM): for `EXTERNAL` ([`ClientAuth::certificate`](crate::ClientAuth::certificate)), and where a server serves
    /// nobody else. Default: none.
    ///
    /// ```no_run
    /// use smtp_core::{ClientAuth, ClientConfig, ClientTls};
    ///
    /// let (chain, key) = (std::fs::read("client.pem")?, std::fs::read("client.key")?);
    /// let tls = ClientTls::verified(["mail.provider.example"])?.with_certificate(&chain, &key)?;
    /// let config = ClientConfig::new("client.example")?.with_tls(tls).with_auth(ClientAuth::certificate());
    /// # let _ = config;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`TlsError`]: either is no PEM, or they do not belong together.
    pub fn with_certificate(self, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let mut config = ClientConfig::clone(&self.config);
        let certified = certified_key(config.crypto_provider(), chain, key)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        // A session that was begun without the certificate is not to be taken up with it.
        config.resumption = Resumption::default();
        Ok(Self { config: Arc::new(config), ..self })
    }

    fn with_verifier(
        use_of_starttls: StartTls,
        server_name: Option<ServerName<'static>>,
        accepts: impl FnOnce(Arc<CryptoProvider>) -> Result<Accepts, TlsError>,
    ) -> Result<Self, TlsError> {
        let provider = crate::tls::provider().ok_or(TlsError::NoProvider)?;
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(crate::tls::VERSIONS);
        let builder = builder.map_err(|error| TlsError::Unusable(error.to_string()))?;
        let accepts = accepts(provider.clone())?;
        let is_verified = !matches!(accepts, Accepts::Anybody);
        let verifier = Verifier { provider, accepts };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = Arc::new(builder.with_no_client_auth());
        Ok(Self { config, server_name, use_of_starttls, is_implicit: false, is_verified })
    }

    pub(super) fn use_of_starttls(&self) -> StartTls {
        self.use_of_starttls
    }

    /// Whether a handshake is made only with a server whose certificate is for one of the names that were given.
    pub fn is_verified(&self) -> bool {
        self.is_verified
    }

    pub(super) fn is_implicit(&self) -> bool {
        self.is_implicit
    }

    /// The stream under TLS, or why there is none.
    pub(super) async fn connect<S>(
        &self,
        stream: S,
        peer: IpAddr,
        limit: Duration,
    ) -> Result<(TlsStream<S>, TlsFacts), SafeText>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(peer.into()));
        match tokio::time::timeout(limit, TlsConnector::from(self.config.clone()).connect(name, stream)).await {
            Ok(Ok(stream)) => {
                let mut facts = crate::tls::facts(stream.get_ref().1);
                facts.server_name = self.server_name.as_ref().map(|name| SafeText::new(name.to_str().into_owned()));
                Ok((stream, facts))
            }
            Ok(Err(error)) => Err(SafeText::new(error.to_string())),
            Err(_elapsed) => Err(SafeText::new("the handshake took too long")),
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("use_of_starttls", &self.use_of_starttls)
            .field("is_implicit", &self.is_implicit)
            .finish_non_exhaustive()
    }
}

/// Those that the system trusts. Blocks: they are in files.
pub(super) fn authorities_of_system() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| "there is none".to_owned(), ToString::to_string);
        return Err(TlsError::Certificate(format!("authorities of the system: {why}")));
    }
    Ok(roots.into())
}

/// Those in PEM.
pub(super) fn authorities(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in crate::tls::certificates(pem).map_err(TlsError::Certificate)? {
        roots.add(root).map_err(|error| TlsError::Certificate(error.to_string()))?;
    }
    Ok(roots.into())
}

/// The names, and the first of them.
fn parse_names<N: AsRef<str>>(
    names: impl IntoIterator<Item = N>,
) -> Result<(Vec<ServerName<'static>>, ServerName<'static>), TlsError> {
    let parse = |name: N| {
        let name = name.as_ref();
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Unusable(format!("`{name}` is no name")))
    };
    let names = names.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let first = names.first().cloned().ok_or_else(|| TlsError::Unusable("no name to verify".to_owned()))?;
    Ok((names, first))
}

/// A stream that may be under TLS.
#[derive(Debug)]
pub(super) enum Channel<S> {
    Clear(S),
    Tls(Box<TlsStream<S>>),
    /// Its handshake failed.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
