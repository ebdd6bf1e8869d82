//! Which mailboxes there are: those of a list, or all of the local domains.

use smtp_core::{
    Connection, ForwardPath, LocalDomains, Lookup, LookupError, MailboxTable, RecipientLookup, Transaction, async_trait,
};
use smtp_queue::mailbox_directory;

/// A table, and behind it, where the configuration says so, every mailbox of the domains.
#[derive(Debug)]
pub(crate) struct Recipients {
    table: MailboxTable,
    any: Option<LocalDomains>,
}

impl Recipients {
    /// The mailboxes of `table`, and those of `any`.
    pub(crate) fn new(table: MailboxTable, any: Option<LocalDomains>) -> Self {
        Self { table, any }
    }
}

#[async_trait]
impl RecipientLookup for Recipients {
    async fn lookup(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
    ) -> Result<Lookup, LookupError> {
        match (self.table.lookup(connection, transaction, to).await?, &self.any) {
            // What cannot have a directory does not exist (SECURITY.md D-13).
            (Lookup::Unknown, Some(any)) if to.mailbox().is_none_or(|mailbox| mailbox_directory(mailbox).is_ok()) => {
                any.lookup(connection, transaction, to).await
            }
            (found, _) => Ok(found),
        }
    }
}
