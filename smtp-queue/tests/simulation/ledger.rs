//! What is true: who sent what, what each next hop said, what the queue reported. At the end the accounts must balance.
//!
//! - Nothing acknowledged is lost: each recipient was delivered to, was refused by its own next hop, has expired, or was
//!   removed by an operator.
//! - A recipient is delivered to once, and once more for each crash that came between the word of its next hop and the
//!   record of it.
//! - What the queue reports of a recipient is what a next hop said of that recipient.
//! - A failure is told to the sender; to the null reverse-path nothing is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smtp_core::{AttemptResult, Connection, DeliveryEvent, Observer, SessionEvent};
use smtp_queue::QueueId;
use tokio::sync::watch;

/// What happened in a run, or in many.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) lives: u64,
    pub(crate) crashes: u64,
    pub(crate) acknowledged: u64,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) expired: u64,
    pub(crate) removed: u64,
    pub(crate) notifications: u64,
    pub(crate) duplicated: u64,
    pub(crate) attempts: u64,
    /// Of everything that happened, in order.
    pub(crate) hash: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.crashes += other.crashes;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.expired += other.expired;
        self.removed += other.removed;
        self.notifications += other.notifications;
        self.duplicated += other.duplicated;
        self.attempts += other.attempts;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lives {}, crashes {}, attempts {}, acknowledged {}, delivered {}, failed {}, expired {}, removed {}, \
             notifications {}, duplicated {}",
            self.lives,
            self.crashes,
            self.attempts,
            self.acknowledged,
            self.delivered,
            self.failed,
            self.expired,
            self.removed,
            self.notifications,
            self.duplicated
        )
    }
}

/// A message that somebody sent.
#[derive(Debug, Clone)]
struct Sent {
    has_sender: bool,
    recipients: Vec<String>,
    acknowledged: Option<QueueId>,
    is_removed: bool,
}

/// What became of one recipient of one message.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// How often its next hop said that it has the message.
    delivered: u32,
    /// How often it said that it never will.
    refused: u32,
    deferred: u32,
    /// How often that was forgotten in a crash.
    excused: u32,
    /// Its next hop has spoken and the queue has not reported it.
    is_open: bool,
    has_expired: bool,
}

/// What a next hop said of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Delivered,
    Deferred,
    Refused,
}

#[derive(Default)]
struct State {
    sent: Vec<Sent>,
    fates: BTreeMap<(String, String), Fate>,
    /// Notifications that arrived: who they name, by the number of the message.
    named: BTreeSet<(usize, String)>,
    /// What each notification is about.
    about: BTreeMap<String, String>,
    /// Copies of notifications to postmaster that have arrived.
    at_postmaster: BTreeSet<String>,
    counts: Counts,
    hasher: DefaultHasher,
    wrong: Option<String>,
    /// Everything is written to standard output.
    is_told: bool,
}

/// Copies are one ledger.
#[derive(Clone)]
pub(crate) struct Ledger {
    state: Arc<Mutex<State>>,
    /// How often a next hop has spoken.
    spoken: watch::Sender<u64>,
}

impl Ledger {
    /// An empty one; with `is_told` it writes to standard output what happens.
    pub(crate) fn new(is_told: bool) -> Self {
        let state = State { is_told, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), spoken: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when next hops have spoken so many times more.
    pub(crate) async fn have_spoken(&self, times: u64) {
        let mut spoken = self.spoken.subscribe();
        let until = *spoken.borrow_and_update() + times;
        // The sender is in `self`.
        let _ = spoken.wait_for(|now| *now >= until).await;
    }

    /// Somebody begins to send a message: its number.
    pub(crate) fn send(&self, has_sender: bool, recipients: &[String]) -> usize {
        let mut state = self.lock();
        state.sent.push(Sent { has_sender, recipients: recipients.to_vec(), acknowledged: None, is_removed: false });
        state.sent.len() - 1
    }

    /// The queue has said that it keeps the message.
    pub(crate) fn acknowledge(&self, number: usize, id: QueueId) {
        let mut state = self.lock();
        state.note(&format!("acknowledged {number} as {id}"));
        state.sent[number].acknowledged = Some(id);
        state.counts.acknowledged += state.sent[number].recipients.len() as u64;
    }

    /// Any message that was acknowledged and not removed.
    pub(crate) fn any(&self, rng: &mut fastrand::Rng) -> Option<QueueId> {
        let state = self.lock();
        let known: Vec<_> =
            state.sent.iter().filter(|sent| !sent.is_removed).filter_map(|sent| sent.acknowledged).collect();
        (!known.is_empty()).then(|| known[rng.usize(..known.len())])
    }

    /// An operator is about to remove a message.
    pub(crate) fn remove(&self, id: QueueId) {
        let mut state = self.lock();
        state.note(&format!("removed {id}"));
        if let Some(sent) = state.sent.iter_mut().find(|sent| sent.acknowledged == Some(id)) {
            sent.is_removed = true;
        }
    }

    pub(crate) fn attempt(&self, id: QueueId, about: Option<QueueId>, number: u32, recipients: &[String]) {
        let mut state = self.lock();
        if let Some(about) = about {
            state.about.insert(id.to_string(), about.to_string());
        }
        state.counts.attempts += 1;
        state.note(&format!("attempt {number} of {id} for {recipients:?}"));
    }

    /// A next hop has spoken.
    pub(crate) fn said(&self, id: QueueId, recipient: &str, said: Said) {
        self.spoken.send_modify(|times| *times += 1);
        let mut state = self.lock();
        let fate = state.fate(&id.to_string(), recipient);
        fate.is_open = true;
        if said == Said::Delivered && recipient.starts_with("postmaster@") {
            state.at_postmaster.insert(id.to_string());
        }
        let fate = state.fate(&id.to_string(), recipient);
        match said {
            Said::Delivered => fate.delivered += 1,
            Said::Deferred => fate.deferred += 1,
            Said::Refused => fate.refused += 1,
        }
        state.note(&format!("{said:?} {id} {recipient}"));
    }

    /// A notification has arrived at its sender, or at postmaster. `content` is what arrived.
    pub(crate) fn notified(&self, content: &str) {
        let mut state = self.lock();
        state.counts.notifications += 1;
        let number = content.rsplit_once("X-Number: ").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
        let Some(number) = number else {
            return state.is_wrong("a notification does not say what it is about".to_owned());
        };
        for line in content.lines() {
            if let Some(recipient) = line.strip_prefix("Final-Recipient: rfc822; ") {
                state.named.insert((number, recipient.trim().to_owned()));
            }
        }
    }

    /// A life has ended. In a crash, what next hops said and the queue did not report may be forgotten.
    pub(crate) fn end_life(&self, is_crash: bool) {
        let mut state = self.lock();
        state.counts.lives += 1;
        state.counts.crashes += u64::from(is_crash);
        // Of what an operator removed, the queue does not report that it was deferred. After a crash it may be there again.
        let removed: BTreeSet<String> = state
            .sent
            .iter()
            .filter(|sent| sent.is_removed)
            .filter_map(|sent| sent.acknowledged)
            .map(|id| id.to_string())
            .collect();
        let mut open = Vec::new();
        for ((id, recipient), fate) in &mut state.fates {
            if std::mem::take(&mut fate.is_open) && (is_crash || !removed.contains(id)) {
                fate.excused += 1;
                open.push(format!("{id} {recipient}"));
            }
        }
        if !is_crash && !open.is_empty() {
            state.is_wrong(format!("a shutdown left outcomes unrecorded: {open:?}"));
        }
        state.note(if is_crash { "crash" } else { "shutdown" });
    }

    /// Something that must not be.
    pub(crate) fn is_wrong(&self, what: String) {
        self.lock().is_wrong(what);
    }

    /// Whether everything has come to its end as it must.
    pub(crate) fn close(&self) -> Result<Counts, String> {
        let mut state = self.lock();
        if let Some(wrong) = state.wrong.take() {
            return Err(wrong);
        }
        for ((id, recipient), fate) in &state.fates {
            if fate.delivered > 1 + fate.excused {
                return Err(format!("{id} was delivered {} times to {recipient}: {fate:?}", fate.delivered));
            }
            if fate.delivered > 0 && fate.refused > 0 && fate.excused == 0 {
                return Err(format!("{id} was tried again for {recipient} after its end: {fate:?}"));
            }
        }
        for (number, sent) in state.sent.clone().into_iter().enumerate() {
            state.close_message(number, &sent)?;
        }
        let duplicated: u32 = state.fates.values().map(|fate| fate.delivered.saturating_sub(1)).sum();
        state.counts.duplicated = duplicated.into();
        state.counts.hash = state.hasher.finish();
        Ok(state.counts.clone())
    }
}

impl State {
    fn note(&mut self, what: &str) {
        if self.is_told {
            println!("{what}");
        }
        what.hash(&mut self.hasher);
    }

    fn is_wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn fate(&mut self, id: &str, recipient: &str) -> &mut Fate {
        self.fates.entry((id.to_owned(), recipient.to_owned())).or_default()
    }

    fn close_message(&mut self, number: usize, sent: &Sent) -> Result<(), String> {
        let Some(id) = sent.acknowledged else { return Ok(()) };
        if sent.is_removed {
            self.counts.removed += 1;
            return Ok(());
        }
        for recipient in &sent.recipients {
            let is_named = self.named.contains(&(number, recipient.clone()));
            let mut fate = *self.fate(&id.to_string(), recipient);
            // A crash may come behind the record of its end and in front of the event; then the notification tells.
            fate.has_expired |= is_named && fate.delivered + fate.refused == 0 && self.counts.crashes > 0;
            let has_failed = fate.delivered == 0 && (fate.refused > 0 || fate.has_expired);
            if fate.delivered > 0 {
                self.counts.delivered += 1;
            } else if fate.refused > 0 {
                self.counts.failed += 1;
            } else if fate.has_expired {
                self.counts.expired += 1;
            } else {
                return Err(format!("lost: message {number}, {id}, for {recipient}: {fate:?}"));
            }
            if has_failed && sent.has_sender && !is_named && !self.was_given_up(&id.to_string()) {
                return Err(format!("nobody was told that {id} failed for {recipient}: {fate:?}"));
            }
            if is_named && !sent.has_sender {
                return Err(format!("somebody was told of {id}, whose reverse-path is null"));
            }
            if is_named && fate.refused == 0 && !fate.has_expired {
                return Err(format!("somebody was told that {id} failed for {recipient}: {fate:?}"));
            }
        }
        Ok(())
    }

    /// Whether a notification about a message could not be delivered, and its copy to postmaster neither: that is the
    /// end, with a line in the log (STANDARDS.md Q5).
    fn was_given_up(&self, id: &str) -> bool {
        let about =
            |id: &str| self.about.iter().filter(move |(_, about)| *about == id).map(|(copy, _)| copy.clone()).collect();
        let notifications: Vec<String> = about(id);
        let mut copies = notifications.iter().flat_map(|notification| -> Vec<String> { about(notification) });
        copies.any(|copy| !self.at_postmaster.contains(&copy))
    }

    fn report(&mut self, event: &DeliveryEvent) {
        match event {
            DeliveryEvent::NotificationQueued { about, id, .. } => {
                self.note(&format!("{id} tells of {about}"));
                self.about.insert(id.to_string(), about.to_string());
            }
            DeliveryEvent::Attempted { attempt, result } => {
                let (id, recipient) = (attempt.id.to_string(), attempt.recipient.to_string());
                let fate = self.fate(&id, &recipient);
                fate.is_open = false;
                let was_said = match result {
                    AttemptResult::Delivered | AttemptResult::Quarantined => fate.delivered > 0,
                    AttemptResult::Failed => fate.refused > 0,
                    _ => true,
                };
                let fate = *fate;
                self.note(&format!("{id} {recipient} {result:?}"));
                if !was_said {
                    self.is_wrong(format!("{id} {recipient}: {result:?}, which no next hop said: {fate:?}"));
                }
            }
            DeliveryEvent::Expired { attempt } => {
                let (id, recipient) = (attempt.id.to_string(), attempt.recipient.to_string());
                let fate = self.fate(&id, &recipient);
                fate.is_open = false;
                fate.has_expired = true;
                self.note(&format!("{id} {recipient} expired"));
            }
            DeliveryEvent::OutcomeLost { id, recipient, .. } => {
                let (id, recipient) = (id.to_string(), recipient.to_string());
                self.fate(&id, &recipient).is_open = false;
            }
            other => self.note(&format!("{other:?}")),
        }
    }
}

impl Observer for Ledger {
    fn session(&self, _: &Connection, _: &SessionEvent) {}

    fn delivery(&self, event: &DeliveryEvent) {
        self.lock().report(event);
    }
}
