//! What a spool has promised: written down beside it, and compared with what it says after a crash.
//!
//! A promise is what the spool has acknowledged. What was asked for and not acknowledged may have happened or not, but
//! as a whole. Once a recovery has shown what became of it, that is a promise too.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::envelope::Envelope;
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::{Change, NewMessage};

/// What a spool has promised.
#[derive(Debug, Clone, Default)]
pub struct SpoolLedger {
    messages: BTreeMap<QueueId, Promise>,
    /// Messages that came to their end: they must not be there.
    ended: HashSet<QueueId>,
    /// Changes that were asked for and cause messages.
    open: Vec<OpenChange>,
    acknowledged: u64,
}

/// What is promised of a message.
#[derive(Debug, Clone)]
struct Promise {
    envelope: Arc<Envelope>,
    content: Bytes,
    /// Whether it must be there, unless something below says otherwise.
    kept: bool,
    /// Whether its removal was asked for.
    may_be_removed: bool,
    /// The promised one first, then those that were asked for.
    held: Vec<bool>,
    pairs: Vec<Pair>,
}

/// Recipients that are worked on together.
#[derive(Debug, Clone)]
struct Pair {
    recipients: BTreeSet<u32>,
    /// The promised one first, then those that were asked for; `None` where all is done.
    states: Vec<Option<Progress>>,
}

#[derive(Debug, Clone)]
struct OpenChange {
    id: QueueId,
    pair: usize,
    state: Option<Progress>,
    caused: Vec<QueueId>,
}

/// A message as a spool shows it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Its content, head and all.
    pub content: Bytes,
    /// Whether it is held.
    pub held: bool,
    /// What remains to be done.
    pub progress: Vec<Progress>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// A message that was acknowledged is not there, or not for all its recipients.
    Lost(QueueId),
    /// A message whose end was acknowledged is there again.
    Back(QueueId),
    /// Nobody ever asked to keep this message.
    Unknown(QueueId),
    /// Envelope or content is not what was given.
    Altered(QueueId, &'static str),
    /// What remains to be done is neither what was promised last nor what was asked for since.
    WrongProgress(QueueId),
    /// An outcome is there without a message that it caused, or the other way round.
    HalfChange(QueueId, QueueId),
    /// The spool failed where nothing was wrong.
    Failed(String),
}

impl Breach {
    /// Whether mail was lost.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Altered(..) | Self::HalfChange(..) | Self::Failed(_))
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(id) => write!(f, "{id} was acknowledged and is lost"),
            Self::Back(id) => write!(f, "{id} had come to its end and is there again"),
            Self::Unknown(id) => write!(f, "{id} is there and nobody put it there"),
            Self::Altered(id, what) => write!(f, "the {what} of {id} is not what was given"),
            Self::WrongProgress(id) => write!(f, "the progress of {id} is one that was never recorded, or too old"),
            Self::HalfChange(id, caused) => {
                write!(f, "of an outcome of {id} and {caused}, which it caused, one is there")
            }
            Self::Failed(what) => f.write_str(what),
        }
    }
}

/// The octets of a message that is put.
fn octets_of(message: &NewMessage) -> Bytes {
    let content = message.content.content.to_bytes().unwrap_or_default();
    let skipped = usize::try_from(message.content.skipped_octets).unwrap_or(usize::MAX).min(content.len());
    [&message.content.head[..], &content[skipped..]].concat().into()
}

impl SpoolLedger {
    /// How many messages were acknowledged, those that were caused included.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The message may be there from now on.
    pub fn ask_put(&mut self, message: &NewMessage) {
        let pair = |new: &crate::spool::NewProgress| Pair {
            recipients: new.progress.waiting.iter().map(|recipient| recipient.index).collect(),
            states: vec![Some(new.progress.clone())],
        };
        let promise = Promise {
            envelope: message.envelope.clone(),
            content: octets_of(message),
            kept: false,
            may_be_removed: false,
            held: vec![false],
            pairs: message.progress.iter().map(pair).collect(),
        };
        self.messages.insert(message.envelope.id, promise);
    }

    /// The message must be there from now on.
    pub fn keep(&mut self, id: QueueId) {
        if let Some(promise) = self.messages.get_mut(&id).filter(|promise| !promise.kept) {
            promise.kept = true;
            self.acknowledged += 1;
        }
    }

    /// That outcome of the recipients of `before` may be recorded from now on.
    pub fn ask_record(&mut self, id: QueueId, before: &Progress, change: &Change) {
        for message in &change.caused {
            self.ask_put(message);
        }
        let Some((pair, found)) = self.messages.get_mut(&id).and_then(|promise| promise.pair_of(before)) else {
            return;
        };
        found.states.push(change.progress.clone());
        if !change.caused.is_empty() {
            let caused = change.caused.iter().map(|message| message.envelope.id).collect();
            self.open.push(OpenChange { id, pair, state: change.progress.clone(), caused });
        }
    }

    /// That outcome is recorded from now on.
    pub fn recorded(&mut self, id: QueueId, before: &Progress, change: &Change) {
        for message in &change.caused {
            self.keep(message.envelope.id);
        }
        let Some(promise) = self.messages.get_mut(&id) else { return };
        if let Some((pair, found)) = promise.pair_of(before) {
            found.states = vec![change.progress.clone()];
            self.open.retain(|open| open.id != id || open.pair != pair);
        }
        if promise.pairs.iter().all(|pair| pair.states == [None]) {
            self.end(id);
        }
    }

    /// The message may be gone from now on.
    pub fn ask_remove(&mut self, id: QueueId) {
        if let Some(promise) = self.messages.get_mut(&id) {
            promise.may_be_removed = true;
        }
    }

    /// The message must be gone from now on.
    pub fn removed(&mut self, id: QueueId) {
        self.end(id);
    }

    fn end(&mut self, id: QueueId) {
        self.messages.remove(&id);
        self.ended.insert(id);
        self.open.retain(|open| open.id != id);
    }

    /// The message may be held, or not, from now on.
    pub fn ask_held(&mut self, id: QueueId, held: bool) {
        if let Some(promise) = self.messages.get_mut(&id) {
            promise.held.push(held);
        }
    }

    /// The message is held, or not, from now on.
    pub fn held(&mut self, id: QueueId, held: bool) {
        if let Some(promise) = self.messages.get_mut(&id) {
            promise.held = vec![held];
        }
    }

    /// All pairs of the message may be due at that time from now on.
    pub fn ask_reschedule(&mut self, id: QueueId, next_attempt: std::time::SystemTime) {
        for pair in self.messages.get_mut(&id).into_iter().flat_map(|promise| &mut promise.pairs) {
            let later = |state: &Option<Progress>| state.clone().map(|state| Some(Progress { next_attempt, ..state }));
            let new: Vec<_> = pair.states.iter().filter_map(later).collect();
            pair.states.extend(new);
        }
    }

    /// All pairs of the message are due at that time from now on.
    pub fn rescheduled(&mut self, id: QueueId, next_attempt: std::time::SystemTime) {
        for pair in self.messages.get_mut(&id).into_iter().flat_map(|promise| &mut promise.pairs) {
            pair.states.retain(|state| state.as_ref().is_none_or(|state| state.next_attempt == next_attempt));
        }
    }

    /// Compares what a spool shows with what it has promised: the first breach.
    ///
    /// # Errors
    /// [`Breach`].
    pub fn check(&self, found: &BTreeMap<QueueId, Found>) -> Result<(), Breach> {
        for (id, found) in found {
            let unknown = || if self.ended.contains(id) { Breach::Back(*id) } else { Breach::Unknown(*id) };
            self.messages.get(id).ok_or_else(unknown)?.check(*id, found)?;
        }
        for (id, promise) in &self.messages {
            if promise.must_be_there() && !found.contains_key(id) {
                return Err(Breach::Lost(*id));
            }
        }
        self.open.iter().try_for_each(|open| self.check_open(open, found))
    }

    /// An outcome and what it caused are there together, or neither is.
    fn check_open(&self, open: &OpenChange, found: &BTreeMap<QueueId, Found>) -> Result<(), Breach> {
        let Some(promise) = self.messages.get(&open.id) else { return Ok(()) };
        let happened = match found.get(&open.id) {
            Some(found) => promise.pairs[open.pair].found_in(found) == open.state.as_ref(),
            // It could have been removed instead.
            None if promise.may_be_removed || !promise.kept => return Ok(()),
            None => true,
        };
        match open.caused.iter().find(|caused| found.contains_key(caused) != happened) {
            Some(caused) => Err(Breach::HalfChange(open.id, *caused)),
            None => Ok(()),
        }
    }

    /// Takes what a recovery has shown as promised.
    pub fn settle(&mut self, found: &BTreeMap<QueueId, Found>) {
        self.open.clear();
        let absent: Vec<_> = self.messages.keys().filter(|id| !found.contains_key(id)).copied().collect();
        for id in absent {
            self.end(id);
        }
        for (id, promise) in &mut self.messages {
            let found = &found[id];
            promise.kept = true;
            promise.may_be_removed = false;
            promise.held = vec![found.held];
            for pair in &mut promise.pairs {
                pair.states = vec![pair.found_in(found).cloned()];
            }
        }
    }
}

impl Promise {
    /// The pair of those recipients.
    fn pair_of(&mut self, progress: &Progress) -> Option<(usize, &mut Pair)> {
        let first = progress.waiting.first()?.index;
        self.pairs.iter_mut().enumerate().find(|(_, pair)| pair.recipients.contains(&first))
    }

    fn must_be_there(&self) -> bool {
        self.kept && !self.may_be_removed && self.pairs.iter().any(|pair| !pair.states.contains(&None))
    }

    fn check(&self, id: QueueId, found: &Found) -> Result<(), Breach> {
        if found.envelope != self.envelope {
            return Err(Breach::Altered(id, "envelope"));
        }
        if found.content != self.content {
            return Err(Breach::Altered(id, "content"));
        }
        if !self.held.contains(&found.held) {
            return Err(Breach::Altered(id, "hold"));
        }
        let mut known = 0;
        for pair in &self.pairs {
            let state = pair.found_in(found);
            known += usize::from(state.is_some());
            if !pair.states.iter().any(|possible| possible.as_ref() == state) {
                return Err(if state.is_none() { Breach::Lost(id) } else { Breach::WrongProgress(id) });
            }
        }
        if known == found.progress.len() && known > 0 { Ok(()) } else { Err(Breach::WrongProgress(id)) }
    }
}

impl Pair {
    fn found_in<'a>(&self, found: &'a Found) -> Option<&'a Progress> {
        let is_ours =
            |progress: &&Progress| progress.waiting.iter().any(|waiting| self.recipients.contains(&waiting.index));
        found.progress.iter().find(is_ours)
    }
}
