//! Who is it? The hook behind `AUTH` (RFC 4954).

use async_trait::async_trait;

use crate::sasl::credential::ClientCertificate;
use crate::sasl::keys::{ScramHash, ScramKeys};
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity};
use crate::syntax::mechanism::Mechanisms;
use crate::syntax::path::ReversePath;
use crate::syntax::secret::Secret;

/// Decides who a client is.
///
/// Only the methods of the mechanisms that [`Authenticator::mechanisms`] lists are called. Names and passwords come
/// prepared by RFC 4013, and never empty. Where the directory cannot be asked, the answer is
/// [`AuthError::Unavailable`], as it is where a method panics or takes longer than
/// [`Limits::hook_timeout`](crate::Limits::hook_timeout).
///
/// An unknown user and a wrong password must take the same time: derive a key from the password in both cases.
///
/// ```
/// use smtp_core::{
///     AuthError, Authenticator, Connection, Identity, Mechanism, Mechanisms, ReversePath, Secret, async_trait,
/// };
///
/// struct OnlyAlice(Secret);
///
/// #[async_trait]
/// impl Authenticator for OnlyAlice {
///     fn mechanisms(&self) -> Mechanisms {
///         Mechanisms::from([Mechanism::Plain])
///     }
///
///     async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
///         let is_right = *password == self.0;
///         if user == "alice" && is_right { Ok(Identity::new("alice")) } else { Err(AuthError::Rejected) }
///     }
///
///     async fn may_send_as(&self, _: &Connection, _: &Identity, from: &ReversePath) -> Result<bool, AuthError> {
///         Ok(from.to_string() == "<alice@example.org>")
///     }
/// }
/// ```
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// What clients may authenticate with. Asked once.
    fn mechanisms(&self) -> Mechanisms;

    /// How many iterations an unknown user of SCRAM seems to have: as many as others. Asked once. Default:
    /// [`ScramKeys::DEFAULT_ITERATIONS`].
    fn scram_iterations(&self) -> u32 {
        ScramKeys::DEFAULT_ITERATIONS
    }

    /// Checks a password (mechanisms PLAIN and LOGIN). Default: rejects all.
    ///
    /// # Errors
    /// [`AuthError`], by what is wrong.
    async fn password(&self, _connection: &Connection, _user: &str, _password: &Secret) -> Result<Identity, AuthError> {
        Err(AuthError::Rejected)
    }

    /// Finds the keys of a user and who that is (mechanisms SCRAM); `None` where there is no such user, which the client
    /// cannot tell from a wrong password. Default: there is none.
    ///
    /// # Errors
    /// As for [`Authenticator::password`].
    async fn scram(
        &self,
        _connection: &Connection,
        _user: &str,
        _hash: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        Ok(None)
    }

    /// Checks a token (mechanisms OAUTHBEARER and XOAUTH2). Where the client says whom it is for, it must be for that
    /// user. Default: rejects all.
    ///
    /// # Errors
    /// As for [`Authenticator::password`].
    async fn token(
        &self,
        _connection: &Connection,
        _user: Option<&str>,
        _token: &Secret,
    ) -> Result<Identity, AuthError> {
        Err(AuthError::Rejected)
    }

    /// Says whose certificate that is (mechanism EXTERNAL). TLS has verified it. Default: nobody's.
    ///
    /// # Errors
    /// As for [`Authenticator::password`].
    async fn certificate(
        &self,
        _connection: &Connection,
        _certificate: &ClientCertificate,
    ) -> Result<Identity, AuthError> {
        Err(AuthError::Rejected)
    }

    /// Whether `who` may act as `authzid` (RFC 4616 §2), and who it is then. Asked where a client names somebody else than
    /// the user it authenticates as. Default: only as itself.
    ///
    /// # Errors
    /// As for [`Authenticator::password`].
    async fn act_as(&self, who: &Identity, authzid: &str) -> Result<Identity, AuthError> {
        if who.as_str() == authzid { Ok(who.clone()) } else { Err(AuthError::Rejected) }
    }

    /// Whether `who` may use that reverse-path (RFC 6409 §6.1). Asked at each `MAIL` of an authenticated client, also for
    /// `<>`; no is `550 5.7.1`.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`] where that cannot be found out: `451 4.3.0`.
    async fn may_send_as(&self, connection: &Connection, who: &Identity, from: &ReversePath)
    -> Result<bool, AuthError>;
}
