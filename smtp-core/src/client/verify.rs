//! Whose certificate a client takes: anybody's, one for a name by an authority, or one that DNS names (DANE).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha512};

/// One TLSA record (RFC 6698 §2.1). Where it comes from, and whether DNSSEC vouches for it, is for the application to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsaRecord {
    /// Certificate usage: 2 (an authority, DANE-TA) or 3 (the certificate of the server, DANE-EE); no other is of use for mail
    /// (RFC 7672 §3.1.3).
    pub usage: u8,
    /// Selector: 0 (the certificate) or 1 (its public key).
    pub selector: u8,
    /// Matching type: 0 (the octets), 1 (SHA-256 of them) or 2 (SHA-512).
    pub matching: u8,
    /// What must match.
    pub data: Vec<u8>,
}

impl TlsaRecord {
    /// Whether it can match at all (RFC 7672 §3.1): of a set without any such, TLS is demanded and nobody is verified.
    pub fn is_usable(&self) -> bool {
        matches!(self.usage, 2 | 3)
            && match (self.selector, self.matching) {
                (0 | 1, 0) => !self.data.is_empty(),
                (0 | 1, 1) => self.data.len() == 32,
                (0 | 1, 2) => self.data.len() == 64,
                _ => false,
            }
    }

    /// Whether it is about this certificate (RFC 6698 §2.1). It does not say for which name, nor until when.
    pub fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        let selected = match self.selector {
            0 => certificate.to_vec(),
            1 => match ParsedCertificate::try_from(certificate) {
                Ok(parsed) => parsed.subject_public_key_info().to_vec(),
                Err(_) => return false,
            },
            _ => return false,
        };
        match self.matching {
            0 => self.data == selected,
            1 => self.data[..] == Sha256::digest(&selected)[..],
            2 => self.data[..] == Sha512::digest(&selected)[..],
            _ => false,
        }
    }
}

/// What makes a certificate one to go on with. Whoever shows it must still prove to have its key.
#[derive(Debug)]
pub(super) enum Accepts {
    Anybody,
    /// One for any of these names.
    Names(Vec<ServerName<'static>>, Arc<WebPkiServerVerifier>),
    /// One that any of these records matches; of an authority, for one of these names.
    Dane(Vec<TlsaRecord>, Vec<ServerName<'static>>),
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) accepts: Accepts,
}

impl Verifier {
    /// RFC 7672 §3.1.1, §3.1.2, §3.2.
    fn by_dane(
        &self,
        records: &[TlsaRecord],
        names: &[ServerName<'static>],
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let of_usage = |usage| records.iter().filter(move |record| record.usage == usage);
        // Names and dates of such a certificate mean nothing: DNS has both.
        if of_usage(3).any(|record| record.matches(own)) {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(own)?;
        let mut result = Err(CertificateError::UnknownIssuer.into());
        for authority in chain.iter().filter(|certificate| of_usage(2).any(|record| record.matches(certificate))) {
            let mut roots = RootCertStore::empty();
            roots.add(authority.clone().into_owned())?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            result = verify_server_cert_signed_by_trust_anchor(&parsed, &roots, chain, now, algorithms);
            if result.is_ok() {
                let mut name = Err(CertificateError::NotValidForName.into());
                for reference in names {
                    name = name.or_else(|_: rustls::Error| verify_server_name(&parsed, reference));
                }
                return name.map(|()| ServerCertVerified::assertion());
            }
        }
        result.map(|()| ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.accepts {
            Accepts::Anybody => Ok(ServerCertVerified::assertion()),
            Accepts::Names(names, by_authorities) => {
                let mut result = Err(CertificateError::NotValidForName.into());
                for name in names {
                    result = by_authorities.verify_server_cert(own, chain, name, ocsp, now);
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
            Accepts::Dane(records, names) => self.by_dane(records, names, own, chain, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
