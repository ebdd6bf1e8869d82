//! Is there such a mailbox? The only hook that makes a recipient valid.

use std::sync::Arc;

use async_trait::async_trait;

use crate::session::connection::Connection;
use crate::session::decision::{Lookup, LookupError};
use crate::session::transaction::Transaction;
use crate::syntax::address::ForwardPath;

/// Finds out whether mail for a forward-path is taken, at `RCPT`.
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

    /// Whether the mailbox must stay reachable for those who are refused otherwise. Default: `postmaster`, `abuse`,
    /// `security`.
    ///
    /// A role mailbox is accepted without held refusals and without asking policies at `RCPT` (PRACTICES P4, P7).
    fn is_role(&self, to: &ForwardPath) -> bool {
        ["postmaster", "abuse", "security"].iter().any(|role| to.local_part().eq_ignore_ascii_case(role))
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
}
