//! Is there such a mailbox? The only hook that makes a recipient valid.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use async_trait::async_trait;

use crate::session::connection::Connection;
use crate::session::decision::{Lookup, LookupError};
use crate::session::ownership::Ownership;
use crate::session::transaction::Transaction;
use crate::syntax::path::ForwardPath;

use super::role_mailboxes::RoleMailboxes;

/// Finds out whether mail for a forward-path is taken, at `RCPT`.
///
/// ```
/// use smtp_core::{Connection, ForwardPath, Lookup, LookupError, RecipientLookup, Transaction, async_trait};
///
/// # struct Database;
/// # impl Database {
/// #     async fn has_user(&self, _: &str) -> std::io::Result<bool> { Ok(true) }
/// # }
/// struct Users {
///     database: Database,
/// }
///
/// #[async_trait]
/// impl RecipientLookup for Users {
///     async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
///         if to.domain().is_none_or(|domain| !domain.as_str().eq_ignore_ascii_case("example.org")) {
///             return Ok(Lookup::NotLocal);
///         }
///         let exists = self.database.has_user(to.local_part()).await.map_err(LookupError::new)?;
///         Ok(if exists { Lookup::Mailbox } else { Lookup::Unknown })
///     }
/// }
/// ```
///
/// No policy can make a recipient valid, so no policy can open a relay: mail for what this trait calls
/// [`Lookup::NotLocal`] is taken only from clients that are authenticated or listed as relay clients.
#[async_trait]
pub trait RecipientLookup: Send + Sync {
    /// Whether the mailbox exists, and where its mail goes.
    ///
    /// `<postmaster>` without a domain is asked about too, but accepted whatever the answer, unless it is an error.
    /// Called once for each `RCPT`; ended after 30 s ([`Limits::hook_timeout`](crate::Limits::hook_timeout)), so it
    /// must be safe to drop at each `await`.
    ///
    /// # Errors
    /// [`LookupError`] where the directory did not answer: the client is told `451 4.3.0`.
    async fn lookup(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
    ) -> Result<Lookup, LookupError>;

    /// Whether the mailbox must stay reachable for those who are refused otherwise. Default:
    /// [`RoleMailboxes::default`].
    ///
    /// A role mailbox that exists here is accepted without held refusals and without asking policies at `RCPT`. Of other
    /// domains, to which a client may relay, there is none.
    fn is_role(&self, to: &ForwardPath) -> bool {
        static DEFAULT: LazyLock<RoleMailboxes> = LazyLock::new(RoleMailboxes::default);
        DEFAULT.spare(to)
    }

    /// Whether this lookup knows since when mailboxes have had their owners, so that `RRVS` is offered (RFC 7293). Asked
    /// once, when the server is built. Default: no.
    fn honours_rrvs(&self) -> bool {
        false
    }

    /// Whether the mailbox has had one owner since that moment; of an alias, the alias itself. Asked behind
    /// [`RecipientLookup::lookup`], of recipients with `RRVS=` that exist here and are no role mailbox (RFC 7293 §5.1).
    /// Default: that is not known.
    ///
    /// # Errors
    /// [`LookupError`] where the directory did not answer: the client is told `451 4.3.0`.
    async fn ownership(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
        since: SystemTime,
    ) -> Result<Ownership, LookupError> {
        let _ = (connection, transaction, to, since);
        Ok(Ownership::Unknown)
    }
}

#[async_trait]
impl<L: RecipientLookup + ?Sized> RecipientLookup for Arc<L> {
    async fn lookup(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
    ) -> Result<Lookup, LookupError> {
        (**self).lookup(connection, transaction, to).await
    }

    fn is_role(&self, to: &ForwardPath) -> bool {
        (**self).is_role(to)
    }

    fn honours_rrvs(&self) -> bool {
        (**self).honours_rrvs()
    }

    async fn ownership(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
        since: SystemTime,
    ) -> Result<Ownership, LookupError> {
        (**self).ownership(connection, transaction, to, since).await
    }
}
