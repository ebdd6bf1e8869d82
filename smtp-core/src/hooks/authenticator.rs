//! Who is it? The hook behind `AUTH` (RFC 4954).
//!
//! The engine does not offer `AUTH` yet, because it has no TLS yet and never offers it in clear; until then no
//! server asks an authenticator. The trait is here so that applications can be written against its shape.

use async_trait::async_trait;

use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity};
use crate::syntax::path::ReversePath;
use crate::syntax::secret::Secret;

/// Decides who a client is.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Checks a password (mechanisms PLAIN and LOGIN).
    ///
    /// # Errors
    /// [`AuthError`]; where the user directory cannot be asked, [`AuthError::Unavailable`].
    async fn password(&self, connection: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError>;

    /// Whether `who` may act as `authzid` (RFC 4616 §2). Default: only as itself.
    ///
    /// # Errors
    /// As for [`Authenticator::password`].
    async fn act_as(&self, who: &Identity, authzid: &str) -> Result<Identity, AuthError> {
        if who.as_str() == authzid { Ok(who.clone()) } else { Err(AuthError::Rejected) }
    }

    /// Whether `who` may use that reverse-path (RFC 6409 §6.1).
    ///
    /// # Errors
    /// [`AuthError::Unavailable`] where that cannot be found out.
    async fn may_send_as(&self, connection: &Connection, who: &Identity, from: &ReversePath)
    -> Result<bool, AuthError>;
}
