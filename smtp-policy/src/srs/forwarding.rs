//! SRS at work: what leaves us is rewritten, what comes back finds its way.

use std::fmt;
use std::time::SystemTime;

use smtp_core::{
    Connection, Domain, ForwardPath, Lookup, LookupError, Outbound, OutboundPolicy, OutboundRecipient, RecipientLookup,
    Refusal, ReversePath, Transaction, Transient, Treatment, async_trait,
};

use super::{Srs, SrsError};
use crate::clock::Clock;

/// Rewrites the reverse-path of mail that arrived here from outside and goes on to others.
///
/// What authenticated clients and relays send is theirs and stays as it is; so does mail of our own domains, mail to them, and
/// the null reverse-path, and one that a policy before this has set. One that would become too long stays as well: SPF fails for it at the next hop, as it would without
/// SRS.
#[derive(Debug, Clone)]
pub struct SrsForwarding {
    srs: Srs,
    ours: Vec<Domain>,
    clock: Clock,
}

impl SrsForwarding {
    /// With these domains as ours: the local ones, and those to which we relay.
    pub fn new(srs: Srs, ours: impl IntoIterator<Item = Domain>) -> Self {
        Self { srs, ours: ours.into_iter().collect(), clock: Clock::default() }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    fn is_ours(&self, domain: Option<&Domain>) -> bool {
        domain.is_some_and(|domain| domain == self.srs.domain() || self.ours.contains(domain))
    }
}

#[async_trait]
impl OutboundPolicy for SrsForwarding {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        let came_from_outside = message.connection().is_some_and(|client| client.treatment() == Treatment::Mx);
        let sender = message.reverse_path().mailbox().filter(|sender| !self.is_ours(sender.domain()));
        let (true, Some(sender)) = (came_from_outside, sender) else { return Ok(()) };
        let Ok(rewritten) = self.srs.forward(sender, self.clock.now()) else { return Ok(()) };
        for recipient in recipients {
            let is_as_received = recipient.reverse_path() == message.reverse_path();
            if is_as_received && !self.is_ours(recipient.mailbox().domain()) {
                recipient.set_reverse_path(ReversePath::Mailbox(rewritten.clone()));
            }
        }
        Ok(())
    }
}

/// Finds recipients as another lookup does, and those besides whose addresses we have rewritten: mail for them goes to where it
/// came from.
///
/// A wrong hash is `550 5.7.1`, an address that has expired `550 5.1.1` (PRACTICES S30).
#[derive(Clone)]
pub struct SrsLookup<L> {
    inner: L,
    srs: Srs,
    clock: Clock,
}

impl<L: RecipientLookup> SrsLookup<L> {
    /// Around that lookup.
    pub fn new(inner: L, srs: Srs) -> Self {
        Self { inner, srs, clock: Clock::default() }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }
}

impl<L> fmt::Debug for SrsLookup<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrsLookup").field("srs", &self.srs).finish_non_exhaustive()
    }
}

#[async_trait]
impl<L: RecipientLookup> RecipientLookup for SrsLookup<L> {
    async fn lookup(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
    ) -> Result<Lookup, LookupError> {
        let Some(mailbox) = to.mailbox() else { return self.inner.lookup(connection, transaction, to).await };
        match self.srs.reverse(mailbox, self.clock.now()) {
            Ok(original) => {
                // A mailbox of ours has its own rules; anybody else is where the mail came from.
                let path = ForwardPath::Mailbox(original.clone());
                Ok(match self.inner.lookup(connection, transaction, &path).await? {
                    Lookup::Mailbox | Lookup::NotLocal => Lookup::Alias(vec![original]),
                    other => other,
                })
            }
            Err(SrsError::BadHash) => {
                Ok(Lookup::Refused(Refusal::permanent(7, 1, "This rewritten address is not one of ours")))
            }
            Err(SrsError::Expired) => Ok(Lookup::Unknown),
            Err(_) => self.inner.lookup(connection, transaction, to).await,
        }
    }

    fn is_role(&self, to: &ForwardPath) -> bool {
        self.inner.is_role(to)
    }
}
