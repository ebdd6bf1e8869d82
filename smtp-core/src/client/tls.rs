//! TLS of a client: what it demands of a server (RFC 3207, RFC 7435, RFC 8314), and the handshake.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::tls::TlsError;
use crate::session::client::StartTls;
use crate::session::tls::TlsFacts;
use crate::syntax::text::SafeText;

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
}

impl ClientTls {
    /// Encrypts where the server offers it, whatever its certificate (RFC 7435): that keeps mail from those who only
    /// listen. Where the handshake fails, another connection goes on in clear.
    ///
    /// # Errors
    /// [`TlsError::NoProvider`].
    pub fn opportunistic() -> Result<Self, TlsError> {
        Self::with_verifier(StartTls::IfOffered, None, |provider| Ok(Arc::new(Anybody(provider))))
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
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or_else(|| "there is none".to_owned(), ToString::to_string);
            return Err(TlsError::Certificate(format!("authorities of the system: {why}")));
        }
        Self::verified_by(names, roots)
    }

    /// The same with authorities of one's own, in PEM.
    ///
    /// # Errors
    /// As [`ClientTls::verified`].
    pub fn verified_with_roots<N: AsRef<str>>(
        names: impl IntoIterator<Item = N>,
        roots: &[u8],
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for root in crate::tls::certificates(roots).map_err(TlsError::Certificate)? {
            store.add(root).map_err(|error| TlsError::Certificate(error.to_string()))?;
        }
        Self::verified_by(names, store)
    }

    fn verified_by<N: AsRef<str>>(names: impl IntoIterator<Item = N>, roots: RootCertStore) -> Result<Self, TlsError> {
        let parse = |name: N| {
            let name = name.as_ref();
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Unusable(format!("`{name}` is no name")))
        };
        let names = names.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let first = names.first().cloned().ok_or_else(|| TlsError::Unusable("no name to verify".to_owned()))?;
        Self::with_verifier(StartTls::Required, Some(first), |provider| {
            let by_authorities = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build();
            let by_authorities = by_authorities.map_err(|error| TlsError::Unusable(error.to_string()))?;
            Ok(Arc::new(OneOf { names, by_authorities }))
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

    fn with_verifier(
        use_of_starttls: StartTls,
        server_name: Option<ServerName<'static>>,
        verifier: impl FnOnce(Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError>,
    ) -> Result<Self, TlsError> {
        let provider = crate::tls::provider().ok_or(TlsError::NoProvider)?;
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(crate::tls::VERSIONS);
        let builder = builder.map_err(|error| TlsError::Unusable(error.to_string()))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier(provider)?);
        let config = Arc::new(builder.with_no_client_auth());
        Ok(Self { config, server_name, use_of_starttls, is_implicit: false })
    }

    pub(super) fn use_of_starttls(&self) -> StartTls {
        self.use_of_starttls
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

/// Takes any certificate; who has the key for it must still prove that.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate for any of these names.
#[derive(Debug)]
struct OneOf {
    names: Vec<ServerName<'static>>,
    by_authorities: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OneOf {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut result = Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName));
        for name in &self.names {
            result = self.by_authorities.verify_server_cert(own, chain, name, ocsp, now);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authorities.supported_verify_schemes()
    }
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
