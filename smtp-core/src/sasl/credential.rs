//! What an application is asked about.

use std::fmt;
use std::sync::Arc;

use crate::syntax::secret::Secret;

/// The certificate that a client showed in the TLS handshake, verified by the rules of the listener.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate(Arc<[u8]>);

impl ClientCertificate {
    /// From DER (RFC 5280).
    pub fn from_der(der: impl Into<Arc<[u8]>>) -> Self {
        Self(der.into())
    }

    /// As DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} octets)", self.0.len())
    }
}

/// What a client gives to prove who it is. Names and passwords are prepared by RFC 4013; none is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// Mechanisms `PLAIN` and `LOGIN`.
    Password {
        /// The authentication identity.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// Mechanisms `OAUTHBEARER` and `XOAUTH2`.
    Token {
        /// Whom the client says the token is for.
        user: Option<String>,
        /// The token.
        token: Secret,
    },
    /// Mechanism `EXTERNAL`.
    Certificate(ClientCertificate),
}

impl Credential {
    /// The name that the client gave.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } => Some(user),
            Self::Token { user, .. } => user.as_deref(),
            Self::Certificate(_) => None,
        }
    }
}
