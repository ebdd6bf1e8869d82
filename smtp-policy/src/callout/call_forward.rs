//! Recipients whose mailboxes are at a next hop of ours: it is asked before mail for them is taken (PRACTICES S17, S40).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_core::{
    ClientConfig, Connection, Domain, ForwardPath, Lookup, LookupError, Mailbox, Ownership, RecipientLookup,
    Transaction, async_trait,
};
use thiserror::Error;

use crate::clock::Clock;
use crate::rate_limit::Rate;
use crate::state::StateStore;

use super::caller::{Caller, Heard, Question, Target};

/// How often each next hop is asked: 600 a minute, 100 at once.
const EACH: Rate = Rate::new(600, Duration::from_secs(60)).with_burst(100);

/// Nobody at the next hop could say whether the mailbox exists.
#[derive(Debug, Error)]
#[error("{hop} does not say whether {mailbox} exists: {why}")]
struct NoAnswer {
    hop: String,
    mailbox: String,
    why: String,
}

/// A lookup that asks the next hop about mailboxes of some domains.
///
/// What the lookup within it knows stays: it is asked first, and only about what it calls [`Lookup::Mailbox`] the next hop is. Who
/// is unknown there is unknown here, `550 5.1.1`; where the next hop does not say, the client is told `451 4.3.0`. Role
/// mailboxes are taken unasked. Answers are remembered as those of other callouts. It answers also clients that make a callout
/// themselves; one that comes back to where it began meets the question on its way, and ends.
///
/// ```
/// use smtp_core::{ClientConfig, LocalDomains};
/// use smtp_policy::{CallForward, MemoryStateStore};
///
/// let domain: smtp_core::Domain = "example.org".parse()?;
/// let recipients = CallForward::new(LocalDomains::new([domain.clone()]), MemoryStateStore::new(), ClientConfig::new("mx.example.org")?)
///     .with_next_hop(&domain, "mail.internal.example:25");
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Clone)]
pub struct CallForward<L> {
    lookup: L,
    caller: Caller,
    each: Rate,
    hops: HashMap<Domain, Arc<str>>,
}

impl<L: RecipientLookup> CallForward<L> {
    /// Around that lookup, with what is in that store; next hops are told the name of the configuration, and TLS is as it says.
    pub fn new(lookup: L, store: impl StateStore + 'static, config: ClientConfig) -> Self {
        Self { lookup, caller: Caller::new(Arc::new(store), config), each: EACH, hops: HashMap::new() }
    }

    /// The mailboxes of that domain are there: `host:port`. It is the operator's word, so any address may be called.
    #[must_use]
    pub fn with_next_hop(mut self, domain: &Domain, host_and_port: impl Into<Arc<str>>) -> Self {
        self.hops.insert(domain.to_ascii(), host_and_port.into());
        self
    }

    /// With another number of callouts for each next hop. Default: 600 a minute, 100 at once.
    #[must_use]
    pub fn with_rate(self, each: Rate) -> Self {
        Self { each, ..self }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.caller.clock = Clock::new(now);
        self
    }

    async fn ask(&self, hop: &str, mailbox: &Mailbox, to: &ForwardPath) -> Result<Lookup, LookupError> {
        let domain = mailbox.domain().map(Domain::to_ascii);
        let domain = domain.as_ref().map_or("", Domain::as_str).to_lowercase();
        let about = format!("recipient {}@{domain} at {hop}", mailbox.local_part().to_nfc());
        let rates = [(format!("next hop {hop}"), self.each)];
        let target = Target::Host(hop);
        let question = Question { one_at_a_time: about.clone(), about, target, recipient: Some(to), rates: &rates };
        match self.caller.ask(&question).await {
            Heard::Good => Ok(Lookup::Mailbox),
            Heard::Bad(_) => Ok(Lookup::Unknown),
            Heard::Unknown(why) => {
                let (hop, mailbox, why) = (hop.to_owned(), mailbox.to_string(), why.to_string());
                Err(LookupError::new(NoAnswer { hop, mailbox, why }))
            }
        }
    }
}

#[async_trait]
impl<L: RecipientLookup> RecipientLookup for CallForward<L> {
    async fn lookup(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
    ) -> Result<Lookup, LookupError> {
        let found = self.lookup.lookup(connection, transaction, to).await?;
        let hop = to.domain().and_then(|domain| self.hops.get(&domain.to_ascii()));
        match (found, hop, to.mailbox()) {
            (Lookup::Mailbox, Some(hop), Some(mailbox)) if !self.is_role(to) => self.ask(hop, mailbox, to).await,
            (found, _, _) => Ok(found),
        }
    }

    fn is_role(&self, to: &ForwardPath) -> bool {
        self.lookup.is_role(to)
    }

    fn honours_rrvs(&self) -> bool {
        self.lookup.honours_rrvs()
    }

    async fn ownership(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
        since: SystemTime,
    ) -> Result<Ownership, LookupError> {
        self.lookup.ownership(connection, transaction, to, since).await
    }
}

impl<L> fmt::Debug for CallForward<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallForward").field("hops", &self.hops).finish_non_exhaustive()
    }
}
