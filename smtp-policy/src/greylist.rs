//! Has this client come before? Who sends mail comes again, who only sprays does not. (PRACTICES S43, S44; RFC 6647)

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_core::{ForwardPath, ReversePath, Treatment, async_trait};

use crate::chain::Greylisting;
use crate::check::{Check, Observation, Scope, Subject};
use crate::clock::Clock;
use crate::dnswl::{KnownClient, Trust};
use crate::finding::{Action, Finding, Outcome};
use crate::network::network_of;
use crate::practice::Practice;
use crate::stable_sender::stable_sender;
use crate::state::{Change, StateError, StateStore, short_key};

/// Nobody comes for the first time. Where it is on, no other finding is needed.
const FAMILIAR: Practice = Practice::new("familiar", "S43", "The client has written from there to here before")
    .fails([Action::Off, Action::Off, Action::Greylist], [0; 3]);

/// Those who are asked to come again.
const WAITING: &str = "greylist-waiting";
/// Those who did.
const PASSED: &str = "greylist-passed";
/// How many good messages a network sent.
const CLIENTS: &str = "greylist-clients";

/// The practices for which it does not matter that a client is known (PRACTICES S36).
const EVEN_KNOWN: &str = "spf-softfail";

/// Remembers who wrote from where to whom, and lets pass who comes again after a while.
///
/// A client is its /24 or /64, and a reverse-path is the same with any tag of SRS, BATV or VERP. Clients that a list knows
/// ([`KnownClient`], from [`Trust::Low`] on) need not wait, and neither do those that have sent good messages often enough; except
/// where SPF came out as softfail. Where the store fails, everybody passes.
///
/// It is to be given to a chain twice: as what decides who may pass, and as check, whose practice asks everybody who is not
/// known where the preset is [`BcpStrict`](crate::Preset::BcpStrict).
///
/// ```
/// use smtp_policy::{Chain, Greylist, MemoryStateStore, Preset};
///
/// let greylist = Greylist::new(MemoryStateStore::new());
/// let chain = Chain::new("greylist", Preset::Bcp).with(greylist.clone()).with_greylisting(greylist);
/// ```
#[derive(Clone)]
pub struct Greylist {
    store: Arc<dyn StateStore>,
    clock: Clock,
    wait: Duration,
    window: Duration,
    memory: Duration,
    successes: u8,
}

/// Whether somebody came early, late, or never before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It may pass.
    Pass,
    /// It is to come again after that time.
    Wait(Duration),
}

impl Greylist {
    /// With what is in that store.
    pub fn new(store: impl StateStore + 'static) -> Self {
        Self {
            store: Arc::new(store),
            clock: Clock::default(),
            wait: Duration::from_secs(5 * 60),
            window: Duration::from_secs(24 * 60 * 60),
            memory: Duration::from_secs(36 * 24 * 60 * 60),
            successes: 5,
        }
    }

    /// With another time to wait. Default: 5 min.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// With another time after the first attempt until which a client must have come again; later it is a stranger. Default:
    /// 24 h.
    #[must_use]
    pub fn with_window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// With another time after which a client that does not write is forgotten. Default: 36 days.
    #[must_use]
    pub fn with_memory(self, memory: Duration) -> Self {
        Self { memory, ..self }
    }

    /// With another number of good messages after which a network is known; 0 learns nobody. Default: 5.
    #[must_use]
    pub fn with_successes(self, successes: u8) -> Self {
        Self { successes, ..self }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    /// Somebody attempts to write from there to there.
    ///
    /// # Errors
    /// [`StateError`]. Then it is to pass.
    pub async fn attempt(&self, client: IpAddr, from: &ReversePath, to: &ForwardPath) -> Result<Attempt, StateError> {
        let (key, now) = (key(client, from, to), self.clock.now());
        let mut is_known = false;
        let mut refresh = |passed: Option<&[u8]>| {
            is_known = passed.is_some();
            if is_known { self.passed(now) } else { Change::Keep }
        };
        self.store.update(PASSED, &key, now, &mut refresh).await?;
        if is_known {
            return Ok(Attempt::Pass);
        }
        let mut attempt = Attempt::Wait(self.wait);
        let mut come = |first: Option<&[u8]>| {
            let first = first.and_then(|first| first.try_into().ok().map(u64::from_be_bytes));
            let waited = first.and_then(|first| millis(now).checked_sub(first)).map(Duration::from_millis);
            match waited {
                Some(waited) if waited >= self.wait => {
                    attempt = Attempt::Pass;
                    Change::Remove
                }
                Some(waited) => {
                    attempt = Attempt::Wait(self.wait.saturating_sub(waited));
                    Change::Keep
                }
                // The first time; or the clock was wrong then.
                None => {
                    attempt = Attempt::Wait(self.wait);
                    Change::Set { value: millis(now).to_be_bytes().to_vec(), expires: now + self.window }
                }
            }
        };
        self.store.update(WAITING, &key, now, &mut come).await?;
        if attempt == Attempt::Pass {
            self.store.update(PASSED, &key, now, &mut |_: Option<&[u8]>| self.passed(now)).await?;
        }
        Ok(attempt)
    }

    fn passed(&self, now: SystemTime) -> Change {
        Change::Set { value: Vec::new(), expires: now + self.memory }
    }

    /// Whether the network of a client has sent good messages often enough.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn knows(&self, client: IpAddr) -> Result<bool, StateError> {
        if self.successes == 0 {
            return Ok(false);
        }
        let counted = self.store.get(CLIENTS, &client_key(client), self.clock.now()).await?;
        Ok(counted.and_then(|counted| counted.first().copied()).unwrap_or(0) >= self.successes)
    }

    /// A client sent a good message.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn learn_from(&self, client: IpAddr) -> Result<(), StateError> {
        let now = self.clock.now();
        let mut add = |counted: Option<&[u8]>| {
            let counted = counted.and_then(|counted| counted.first().copied()).unwrap_or(0);
            Change::Set { value: vec![counted.saturating_add(1)], expires: now + self.memory }
        };
        self.store.update(CLIENTS, &client_key(client), now, &mut add).await
    }

    async fn decide(&self, subject: &Subject<'_>) -> Result<bool, StateError> {
        let (Some(transaction), Some(recipient)) = (subject.transaction(), subject.recipient()) else {
            return Ok(true);
        };
        let client = subject.connection().peer().ip();
        let even_known = |finding: &Finding| finding.practice() == EVEN_KNOWN && finding.outcome() == Outcome::Fail;
        if !subject.findings().any(even_known) {
            let is_listed = subject.fact().is_some_and(|KnownClient(trust)| *trust >= Trust::Low);
            if is_listed || self.knows(client).await? {
                return Ok(true);
            }
        }
        let attempt = self.attempt(client, transaction.reverse_path(), recipient.path()).await?;
        Ok(attempt == Attempt::Pass)
    }
}

impl std::fmt::Debug for Greylist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Greylist").field("wait", &self.wait).field("window", &self.window).finish_non_exhaustive()
    }
}

#[async_trait]
impl Greylisting for Greylist {
    async fn may_pass(&self, subject: &Subject<'_>) -> bool {
        // PRACTICES P5: what is not known refuses nobody.
        self.decide(subject).await.unwrap_or(true)
    }

    async fn learn(&self, subject: &Subject<'_>) {
        if subject.connection().treatment() != Treatment::Submission {
            // Not to learn costs a few clients some minutes.
            let _ = self.learn_from(subject.connection().peer().ip()).await;
        }
    }
}

#[async_trait]
impl Check for Greylist {
    fn practices(&self) -> &[Practice] {
        &[FAMILIAR]
    }

    fn scope(&self) -> Scope {
        Scope::Recipient
    }

    /// Whom everybody is until it is asked who may pass.
    async fn examine(&self, _: &Subject<'_>) -> Observation {
        Finding::fail(FAMILIAR.name(), "everybody must have come before").into()
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn client_key(client: IpAddr) -> Vec<u8> {
    network_of(client).to_string().into_bytes()
}

fn key(client: IpAddr, from: &ReversePath, to: &ForwardPath) -> Vec<u8> {
    let (from, to) = (stable_sender(from), to.to_string().to_lowercase());
    short_key(&format!("{} {from} {to}", network_of(client)))
}
