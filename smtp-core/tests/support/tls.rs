//! Certificates and TLS clients of tests.

use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use smtp_core::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::Client;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The authority that all certificates of a test come from.
fn authority() -> &'static Issuer {
    static AUTHORITY: OnceLock<Issuer> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
    })
}

/// A certificate for that name and its key, in PEM.
pub(crate) fn pem(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority()).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// The root in PEM.
pub(crate) fn root_pem() -> String {
    authority().pem()
}

pub(crate) fn server_tls() -> ServerTls {
    let (chain, key) = pem("mx.example.org");
    ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they belong together")
}

/// The rules of a client that trusts the authority.
pub(crate) fn client_config() -> ClientConfig {
    client_config_for(rustls::DEFAULT_VERSIONS)
}

/// The same of one that speaks that version alone.
pub(crate) fn client_config_of(version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    client_config_for(&[version])
}

fn client_config_for(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority().der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    builder.expect("the versions are there").with_root_certificates(roots).with_no_client_auth()
}

/// The handshake of a client that expects a certificate for that name.
pub(crate) async fn shake_hands<S>(stream: S, config: ClientConfig, name: &str) -> std::io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Goes on under TLS, behind the `220` to `STARTTLS`.
    pub(crate) async fn under_tls(self) -> Client<TlsStream<S>> {
        let stream = shake_hands(self.stream, client_config(), "mx.example.org").await.expect("a handshake");
        Client::new(stream)
    }

    /// Greets, and goes on under TLS before the next `EHLO`.
    pub(crate) async fn start_tls(mut self) -> Client<TlsStream<S>> {
        self.greet().await;
        self.ask("STARTTLS", "220 2.0.0").await;
        self.under_tls().await
    }
}

/// The rules of a client that shows a certificate.
pub(crate) fn client_config_with(chain: &str, key: &str) -> ClientConfig {
    use rustls_pki_types::pem::PemObject;
    let chain = rustls_pki_types::CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(authority().der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the versions are there").with_root_certificates(roots);
    builder.with_client_auth_cert(vec![chain], key).expect("they belong together")
}
