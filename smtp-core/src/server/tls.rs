//! TLS of a server: certificates by name, reloaded while it runs, and the handshake (RFC 3207, RFC 8314).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::session::tls::TlsFacts;
use crate::syntax::text::SafeText;

/// Certificates or keys of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate in it, or something else that is no PEM.
    #[error("no certificate in PEM: {0}")]
    Certificate(String),
    /// There is no private key in it, or something else that is no PEM.
    #[error("no private key in PEM: {0}")]
    Key(String),
    /// The key does not belong to the certificate, or neither can be used.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(String),
    /// The crate was built without `aws-lc-rs` and `ring`, and the process has no default.
    #[error("there is no cryptography: enable the feature `aws-lc-rs` or `ring`")]
    NoProvider,
}

impl TlsError {
    /// Whether the same may work later: a file can be there by then.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    crate::tls::provider().ok_or(TlsError::NoProvider)
}

/// What a server shows and asks for in a TLS handshake. Cheap to copy; copies share their certificates.
///
/// TLS 1.2 and 1.3 only (RFC 8996), no renegotiation; session tickets where the
/// [listener](crate::Listener::session_tickets) sends them. A client that offers protocols by ALPN, and
/// `smtp` not among them, is refused: it wants to speak something else.
///
/// ```no_run
/// use smtp_core::ServerTls;
///
/// let tls = ServerTls::from_pem_files("/etc/ssl/mx.pem", "/etc/ssl/mx.key")?
///     .and_pem_files("/etc/ssl/other.pem", "/etc/ssl/other.key")?;
/// // When the files have changed:
/// tls.reload()?;
/// # Ok::<(), smtp_core::TlsError>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    certificates: Arc<ArcSwap<Vec<Certificate>>>,
    provider: Arc<CryptoProvider>,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Tickets for one handshake of TLS 1.3: mail clients open more than one connection at a time, and show each ticket once.
const TICKETS: usize = 2;

#[derive(Clone)]
struct Certificate {
    key: Arc<CertifiedKey>,
    /// Where it came from, so that it can be read again.
    files: Option<(PathBuf, PathBuf)>,
}

impl ServerTls {
    /// With a chain of certificates, the server's own first, and its private key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let provider = provider()?;
        let first = Certificate { key: certified_key(&provider, chain, key)?, files: None };
        Ok(Self { certificates: Arc::new(ArcSwap::from_pointee(vec![first])), provider, client_verifier: None })
    }

    /// With files, which [`ServerTls::reload`] reads again.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let provider = provider()?;
        let first = Certificate::read(&provider, chain.as_ref(), key.as_ref())?;
        Ok(Self { certificates: Arc::new(ArcSwap::from_pointee(vec![first])), provider, client_verifier: None })
    }

    /// With another certificate, for clients that ask for one of its names (RFC 6066 §3). Those that ask for a name that
    /// none has, or for none, see the first.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn and_pem_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let mut all = Vec::clone(&self.certificates.load());
        all.push(Certificate::read(&self.provider, chain.as_ref(), key.as_ref())?);
        Ok(Self { certificates: Arc::new(ArcSwap::from_pointee(all)), ..self })
    }

    /// Asks clients for a certificate that one of these roots (PEM) vouches for. Who shows none is served as well; who
    /// shows another one is not. No session tickets are sent then: a certificate is shown and verified each time.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn ask_for_client_certificates(mut self, roots: &[u8]) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for root in chain_of(roots)? {
            store.add(root).map_err(|error| TlsError::Certificate(error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(store.into(), self.provider.clone());
        let verifier = builder.allow_unauthenticated().build();
        self.client_verifier = Some(verifier.map_err(|error| TlsError::Certificate(error.to_string()))?);
        Ok(self)
    }

    /// Reads all files again. Handshakes from now on use what they hold; connections stay as they are.
    ///
    /// # Errors
    /// [`TlsError`]: then nothing has changed.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = |old: &Certificate| match &old.files {
            Some((chain, key)) => Certificate::read(&self.provider, chain, key),
            None => Ok(old.clone()),
        };
        let all = self.certificates.load().iter().map(read).collect::<Result<Vec<_>, _>>()?;
        self.certificates.store(Arc::new(all));
        Ok(())
    }

    /// The rules of one listener. Those of another know nothing of the tickets that it sends (SECURITY D-47).
    pub(crate) fn acceptor(&self, sends_tickets: bool) -> Result<Acceptor, TlsError> {
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let builder = ServerConfig::builder_with_provider(self.provider.clone());
        let builder = builder.with_protocol_versions(crate::tls::VERSIONS).map_err(unusable)?;
        let builder = match &self.client_verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(self.certificates.clone())));
        config.alpn_protocols = vec![b"smtp".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if sends_tickets
            && self.client_verifier.is_none()
            && let Some(ticketer) = crate::tls::ticketer()
        {
            config.ticketer = ticketer.map_err(unusable)?;
            config.send_tls13_tickets = TICKETS;
        }
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("certificates", &self.certificates.load().len()).finish_non_exhaustive()
    }
}

impl Certificate {
    fn read(provider: &CryptoProvider, chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        let certified = certified_key(provider, &read(chain)?, &read(key)?)?;
        Ok(Self { key: certified, files: Some((chain.to_owned(), key.to_owned())) })
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.key.end_entity_cert().and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }
}

fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    crate::tls::certificates(pem).map_err(TlsError::Certificate)
}

/// The certificates and the key of one side, in PEM.
pub(crate) fn certified_key(
    provider: &CryptoProvider,
    chain: &[u8],
    key: &[u8],
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = chain_of(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, provider);
    certified.map(Arc::new).map_err(|error| TlsError::Unusable(error.to_string()))
}

/// Finds the certificate that a client asks for.
struct ByName(Arc<ArcSwap<Vec<Certificate>>>);

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByName").field(&self.0.load().len()).finish()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.0.load();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let asked_for = name.filter(|_| all.len() > 1).and_then(|name| all.iter().find(|each| each.is_for(&name)));
        asked_for.or(all.first()).map(|found| found.key.clone())
    }
}

/// Makes handshakes.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// The stream under TLS, or why there is none.
    pub(crate) async fn accept<S>(&self, stream: S, limit: Duration) -> Result<(TlsStream<S>, TlsFacts), SafeText>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match tokio::time::timeout(limit, self.0.accept(stream)).await {
            Ok(Ok(stream)) => {
                let facts = facts(stream.get_ref().1);
                Ok((stream, facts))
            }
            Ok(Err(error)) => Err(SafeText::new(error.to_string())),
            Err(_) => Err(SafeText::new("it took too long")),
        }
    }
}

fn facts(connection: &ServerConnection) -> TlsFacts {
    let mut facts = crate::tls::facts(connection);
    facts.server_name = connection.server_name().map(|name| SafeText::new(name.to_owned()));
    let certificates = connection.peer_certificates();
    facts.client_certificate = certificates.and_then(|chain| chain.first()).map(|own| own.to_vec());
    facts
}
