//! Which mailboxes there are: those of a list, or all of the local domains; and that others cannot be reached where there is no
//! way to them.

use smtp_core::{
    Connection, Domain, ForwardPath, LocalDomains, Lookup, LookupError, MailboxTable, Policy, PolicyContext, Recipient,
    RecipientLookup, Refusal, Stages, Transaction, Verdict, async_trait,
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

    fn is_role(&self, to: &ForwardPath) -> bool {
        self.table.is_role(to)
    }
}

/// Refuses mail of users for other hosts where there is no way to these: otherwise it would wait in vain for days.
#[derive(Debug)]
pub(crate) struct NoWayOut {
    /// The domains whose mail stays here.
    pub(crate) domains: Vec<Domain>,
}

#[async_trait]
impl Policy for NoWayOut {
    fn name(&self) -> &'static str {
        "no-way-out"
    }

    fn stages(&self) -> Stages {
        Stages::RECIPIENT
    }

    async fn recipient(&self, _: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        match recipient.path() {
            ForwardPath::Mailbox(mailbox) if !mailbox.domain().is_some_and(|domain| self.domains.contains(domain)) => {
                Verdict::Refuse(Refusal::permanent(4, 4, "No way to other hosts is configured here"))
            }
            _ => Verdict::Continue,
        }
    }
}
