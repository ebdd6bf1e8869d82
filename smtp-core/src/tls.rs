//! What TLS of both sides has in common: the cryptography, and what a handshake settled.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::{ConnectionCommon, ProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::session::tls::{TlsFacts, TlsVersion};

/// TLS 1.2 and 1.3 only (RFC 8996).
pub(crate) const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The cryptography of this build: `aws-lc-rs` before `ring`, before the default of the process.
pub(crate) fn provider() -> Option<Arc<CryptoProvider>> {
    #[cfg(feature = "aws-lc-rs")]
    let built_in = Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let built_in = Some(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    let built_in = None;
    built_in.or_else(|| CryptoProvider::get_default().cloned())
}

/// Makes and reads session tickets by a key of its own, which changes every 6 hours; a ticket is good for 12 at most. `None`
/// where this build has no cryptography of its own.
pub(crate) fn ticketer() -> Option<Result<Arc<dyn ProducesTickets>, rustls::Error>> {
    #[cfg(feature = "aws-lc-rs")]
    let built_in = Some(rustls::crypto::aws_lc_rs::Ticketer::new());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let built_in = Some(rustls::crypto::ring::Ticketer::new());
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    let built_in = None;
    built_in
}

/// All certificates in PEM; what is wrong where there is none.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if all.is_empty() { Err("it holds none".to_owned()) } else { Ok(all) }
}

/// What a handshake settled, but for names and certificates.
pub(crate) fn facts<Side>(connection: &ConnectionCommon<Side>) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
        _ => TlsVersion::Tls12,
    };
    let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let mut facts = TlsFacts::new(version, cipher.unwrap_or_default());
    if version == TlsVersion::Tls13 {
        // RFC 9266 §2: with TLS 1.2 only where the handshake was bound to the whole of itself.
        facts.exporter = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[])).ok();
    }
    facts
}
