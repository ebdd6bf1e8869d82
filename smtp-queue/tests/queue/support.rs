//! A queue over a spool in memory, next hops that do as they are told, and a record of what happened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use smtp_core::{
    AttemptResult, Connection, Content, DeliveryEvent, Mailbox, Observer, Refusal, ReversePath, SessionEvent,
    async_trait,
};
use smtp_queue::{
    Attempt, MemorySpool, Outcome, Queue, QueueBuilder, QueueId, QueueSettings, Route, Router, Spool, Transport,
    VirtualClock,
};
use tokio::time::Instant;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// When the clocks of the tests start.
pub(crate) fn start_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

pub(crate) fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("in the grammar")
}

pub(crate) fn path(text: &str) -> ReversePath {
    ReversePath::parse(text).expect("in the grammar")
}

/// What a next hop does with a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// A next hop takes it, and does not offer `DSN`.
    Accept,
    /// A next hop takes it, and what the sender asked for.
    PassOn,
    /// It is delivered here.
    Keep,
    /// `451`, said by the next hop.
    Defer,
    /// `550`, said by the next hop.
    Refuse,
    /// Nobody answers the connection.
    NotThere,
    /// Nobody answers, after that many seconds.
    Silence(u64),
    /// Accepts after that many seconds.
    Slow(u64),
    Panic,
    Hang,
    /// Gives no outcome.
    Nothing,
}

/// One attempt as a next hop saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    pub(crate) id: QueueId,
    pub(crate) site: String,
    pub(crate) number: u32,
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) octets: Vec<u8>,
}

#[derive(Default)]
struct HopState {
    does: HashMap<String, Does>,
    otherwise: Option<Does>,
    seen: Vec<Seen>,
    at_once: HashMap<String, usize>,
    most_at_once: HashMap<String, usize>,
}

/// All next hops: what each recipient's does can be set.
#[derive(Clone)]
pub(crate) struct Hops {
    state: Arc<Mutex<HopState>>,
    start: Instant,
}

impl Hops {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), start: Instant::now() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recipients that are not named do this. Default: they accept.
    pub(crate) fn otherwise(&self, does: Does) {
        self.lock().otherwise = Some(does);
    }

    pub(crate) fn set(&self, recipient: &str, does: Does) {
        self.lock().does.insert(recipient.to_owned(), does);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// The times of attempts for a recipient, since the start.
    pub(crate) fn times(&self, recipient: &str) -> Vec<Duration> {
        let state = self.lock();
        let seen = state.seen.iter().filter(|seen| seen.recipients.iter().any(|known| known == recipient));
        seen.map(|seen| seen.at).collect()
    }

    /// The most attempts at a time at a site.
    pub(crate) fn most_at_once(&self, site: &str) -> usize {
        self.lock().most_at_once.get(site).copied().unwrap_or(0)
    }

    fn begin(&self, attempt: &Attempt) -> Vec<Does> {
        let mut state = self.lock();
        let site = attempt.site().to_string();
        let now = {
            let at_once = state.at_once.entry(site.clone()).or_default();
            *at_once += 1;
            *at_once
        };
        let most = state.most_at_once.entry(site.clone()).or_default();
        *most = now.max(*most);
        let recipients: Vec<_> = attempt.recipients().map(|recipient| recipient.mailbox.to_string()).collect();
        let mut octets = Vec::new();
        std::io::Read::read_to_end(&mut attempt.content().reader(), &mut octets).expect("it can be read");
        let does = recipients.iter().map(|recipient| state.does.get(recipient).copied());
        let does = does.map(|does| does.or(state.otherwise).unwrap_or(Does::Accept)).collect();
        state.seen.push(Seen {
            at: self.start.elapsed(),
            id: attempt.id(),
            site,
            number: attempt.number(),
            reverse_path: attempt.reverse_path().to_string(),
            recipients,
            octets,
        });
        does
    }
}

/// Counts down when the attempt ends, however it ends.
struct AtOnce<'a>(&'a Hops, String);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        *self.0.lock().at_once.entry(self.1.clone()).or_default() -= 1;
    }
}

#[async_trait]
impl Transport for Hops {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        let does = self.begin(&attempt);
        let _at_once = AtOnce(self, attempt.site().to_string());
        let remote = || smtp_core::SafeText::new("mx.example [192.0.2.1]");
        let mut outcomes = Vec::new();
        for does in does {
            match does {
                Does::Accept => outcomes.push(Outcome::delivered("Ok").said_by(remote())),
                Does::PassOn => {
                    let Outcome::Relayed(diagnosis) = Outcome::delivered("Ok").said_by(remote()) else {
                        panic!("a hop")
                    };
                    outcomes.push(Outcome::PassedOn(diagnosis));
                }
                Does::Keep => outcomes.push(Outcome::delivered("Kept")),
                Does::Defer => outcomes.push(Outcome::from(Refusal::transient(7, 1, "Later")).said_by(remote())),
                Does::Refuse => outcomes.push(Outcome::from(Refusal::permanent(1, 1, "Nobody")).said_by(remote())),
                Does::NotThere => outcomes.push(Refusal::transient(4, 1, "Connection refused").into()),
                Does::Silence(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    outcomes.push(Refusal::transient(4, 1, "Connection timed out").into());
                }
                Does::Slow(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    outcomes.push(Outcome::delivered("Ok").said_by(remote()));
                }
                Does::Panic => panic!("the transport panics, as it was told"),
                Does::Hang => std::future::pending().await,
                Does::Nothing => {}
            }
        }
        outcomes
    }
}

/// Each domain is a site of its own, named after it.
pub(crate) struct ByDomain<T>(pub(crate) T);

impl<T: Transport + Clone> Router for ByDomain<T> {
    fn route(&self, mailbox: &Mailbox) -> Route {
        Route::new(mailbox.host().to_string(), self.0.clone())
    }

    fn site(&self, name: &str) -> Option<Route> {
        Some(Route::new(name, self.0.clone()))
    }
}

/// Keeps events in words.
#[derive(Default, Clone)]
pub(crate) struct Events(Arc<Mutex<Vec<String>>>);

impl Observer for Events {
    fn session(&self, _: &Connection, _: &SessionEvent) {}

    fn delivery(&self, event: &DeliveryEvent) {
        let text = match event {
            DeliveryEvent::Queued { recipients, .. } => format!("queued for {recipients}"),
            DeliveryEvent::Discarded { recipient, reason, .. } => format!("discarded {recipient}: {reason}"),
            DeliveryEvent::Attempted { attempt, result } => {
                let word = match result {
                    AttemptResult::Delivered => "delivered",
                    AttemptResult::Quarantined => "quarantined",
                    AttemptResult::Deferred { .. } => "deferred",
                    AttemptResult::Failed => "failed",
                    _ => "unknown",
                };
                format!("{word} {} at {}: {}", attempt.recipient, attempt.number, attempt.reply)
            }
            DeliveryEvent::Expired { attempt } => {
                format!("expired {} at {}: {}", attempt.recipient, attempt.number, attempt.reply)
            }
            DeliveryEvent::RoleMailFailed { role, recipient, reply, .. } => {
                format!("role mail failed {role} for {recipient}: {reply}")
            }
            DeliveryEvent::NotificationQueued { recipient, .. } => format!("notification to {recipient}"),
            DeliveryEvent::NotificationWithheld { recipient, reason, .. } => format!("withheld {recipient}: {reason}"),
            DeliveryEvent::Moved { from, to, .. } => format!("moved from {from} to {to}"),
            DeliveryEvent::Removed { recipients, .. } => format!("removed {recipients}"),
            DeliveryEvent::Released { recipients, .. } => format!("released for {recipients}"),
            DeliveryEvent::QuarantineExpired { recipients, .. } => format!("expired in quarantine for {recipients}"),
            DeliveryEvent::TransportFailed { failure, .. } => format!("transport {failure}"),
            DeliveryEvent::StoreFailed { action, stops, .. } => format!("store failed to {action}, stops {stops}"),
            DeliveryEvent::OutcomeLost { recipient, .. } => format!("outcome lost {recipient}"),
            DeliveryEvent::ClockJumped { distance, is_back, .. } => {
                format!("clock jumped {} s, back {is_back}", distance.as_secs())
            }
            DeliveryEvent::PastDue { site, .. } => format!("past due at {site}"),
            _ => "unknown".to_owned(),
        };
        self.0.lock().expect("no panic").push(text);
    }
}

impl Events {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.all().iter().filter(|event| event.starts_with(start)).count()
    }
}

/// A queue and everything around it.
pub(crate) struct World {
    pub(crate) spool: Arc<MemorySpool>,
    pub(crate) clock: VirtualClock,
    pub(crate) hops: Hops,
    pub(crate) events: Events,
    pub(crate) queue: Queue,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(QueueSettings::default())
    }

    pub(crate) fn with(settings: QueueSettings) -> Self {
        Self::build(|builder| builder.settings(settings))
    }

    pub(crate) fn build(change: impl FnOnce(QueueBuilder) -> QueueBuilder) -> Self {
        let spool = Arc::new(MemorySpool::new());
        Self::over(spool.clone(), spool, change)
    }

    /// `spool` is what the queue uses, and `memory` what is behind it.
    pub(crate) fn over(
        spool: Arc<dyn Spool>,
        memory: Arc<MemorySpool>,
        change: impl FnOnce(QueueBuilder) -> QueueBuilder,
    ) -> Self {
        let hops = Hops::new();
        let events = Events::default();
        let clock = VirtualClock::starting_at(start_time());
        let builder = Queue::builder(spool, "mx.example.org".parse().expect("in the grammar"), ByDomain(hops.clone()))
            .observer(Arc::new(events.clone()))
            .clock(clock.clone())
            .seed(1);
        let queue = change(builder).start();
        Self { spool: memory, clock, hops, events, queue }
    }

    pub(crate) async fn submit(&self, recipients: &[&str]) -> QueueId {
        self.submit_from("<alice@client.example>", recipients).await
    }

    pub(crate) async fn submit_from(&self, from: &str, recipients: &[&str]) -> QueueId {
        let content = Content::new("Subject: test\r\n\r\nbody\r\n");
        let recipients = recipients.iter().map(|recipient| mailbox(recipient));
        self.queue.submit(path(from), recipients, content).await.expect("it is taken")
    }

    /// Everything that can happen within that time happens.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        // Timers of the same moment, and what they wake.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// The accounts balance, and nothing is in the window.
    pub(crate) fn assert_balanced(&self) {
        let totals = self.queue.totals();
        assert_eq!(totals.difference(), 0, "{totals:?}");
        assert_eq!((totals.in_window, totals.in_flight), (0, 0), "{totals:?}");
    }
}

impl World {
    /// How many messages and pairs there are.
    pub(crate) fn messages_and_pairs(&self) -> (u64, u64) {
        let totals = self.spool.totals();
        (totals.messages, totals.pairs)
    }
}
