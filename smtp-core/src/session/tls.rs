//! What a session knows of the TLS beneath it (RFC 3207, RFC 8314).

use std::fmt;

use crate::syntax::text::SafeText;

/// A version of TLS. Older ones are never negotiated (RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS1.2",
            Self::Tls13 => "TLS1.3",
        })
    }
}

/// What a handshake settled.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The version.
    pub version: TlsVersion,
    /// The cipher suite by its IANA name, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: SafeText,
    /// The name that the client asked for (RFC 6066 §3).
    pub server_name: Option<SafeText>,
    /// The certificate that the client showed, verified by the rules of the listener: DER.
    pub client_certificate: Option<Vec<u8>>,
    /// What binds an authentication to this connection: `tls-exporter` (RFC 9266 §4.2), 32 octets.
    pub exporter: Option<[u8; 32]>,
}

impl TlsFacts {
    /// Of a handshake that settled nothing else.
    pub fn new(version: TlsVersion, cipher: impl Into<String>) -> Self {
        let cipher = SafeText::new(cipher.into());
        Self { version, cipher, server_name: None, client_certificate: None, exporter: None }
    }
}

impl fmt::Debug for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The exporter is a secret of the two sides.
        f.debug_struct("TlsFacts")
            .field("version", &self.version)
            .field("cipher", &self.cipher)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
