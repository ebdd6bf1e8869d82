//! What is in the spool, where, and when it is due: in memory, made from the log.
//!
//! The same [`Index::apply`] is used when a batch has become durable and when the log is read again, so what a restart
//! finds is what was known before. Leases are not in the log: a restart forgets them.

mod facts;
mod moves;
mod restore;
mod schedule;
mod slab;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::spool::record::micros;

pub(super) use self::facts::MessageView;
pub(super) use self::restore::{DiskPlace, Restoring, SavedMessage, SavedPair};
use self::slab::Slab;
use self::waiting::Waiting;
use super::effect::{Effect, PairFacts};
use super::segments::{Place, Segments};

/// No pair: the end of a chain.
const NONE: u32 = u32::MAX;

const IN_FILE: u8 = 1;
const HELD: u8 = 2;
const DAMAGED: u8 = 4;

/// A message: 40 octets.
#[derive(Debug, Clone, Copy)]
struct MessageEntry {
    /// Its id, in halves because a whole one would be aligned to 16 octets.
    id: [u64; 2],
    place: Place,
    /// Head and content; what is larger than 4 GiB counts as that.
    octets: u32,
    first_pair: u32,
    /// In its envelope; what is more than the number can say counts as its largest.
    recipients: u16,
    flags: u8,
    priority: i8,
}

/// A pair of message and site: 40 octets.
#[derive(Debug, Clone, Copy)]
struct PairEntry {
    next_attempt: u64,
    message: u32,
    site: u32,
    /// Its progress; without one it stands in the record of the message.
    place: Place,
    next_pair: u32,
    waiting: u32,
    attempts: u16,
    has_place: bool,
}

#[derive(Debug)]
struct Site {
    name: SiteName,
    /// What is neither leased nor held, by time.
    order: Waiting,
}

/// What applying a record did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The content file of this message is no longer needed.
    pub(super) unneeded_content: Option<QueueId>,
    /// A message was removed for which so many recipients waited.
    pub(super) removed: Option<u64>,
}

/// Where a pair stands in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairPlaces {
    /// Its progress, where that does not stand in the record of the message.
    pub(super) progress: Option<Place>,
}

/// A message as the index sees it.
#[derive(Debug, Clone)]
pub(super) struct MessageFacts {
    pub(super) id: QueueId,
    pub(super) place: Place,
    pub(super) octets: u64,
    pub(super) recipients: u32,
    pub(super) held: bool,
    pub(super) damaged: bool,
    pub(super) in_file: bool,
    pub(super) priority: i8,
    pub(super) pairs: Vec<PairState>,
}

/// A pair as the index sees it.
#[derive(Debug, Clone)]
pub(super) struct PairState {
    pub(super) facts: PairFacts,
    /// The site that the record of the message names: what records about this pair call it, wherever it has moved.
    pub(super) key: SiteName,
    /// Where its progress stands, unless that is in the record of the message.
    pub(super) place: Option<Place>,
    pub(super) is_leased: bool,
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) segments: Segments,
    messages: Slab<MessageEntry>,
    pairs: Slab<PairEntry>,
    by_id: BTreeMap<QueueId, u32>,
    sites: Vec<Site>,
    site_numbers: HashMap<SiteName, u32>,
    /// Pairs that have moved since the record of their message was written: the site that is named there.
    moved: HashMap<u32, u32>,
    /// Whether the log is being read again: what is not known may have been forgotten for a good reason.
    is_recovering: bool,
    /// The first time of each site that has something waiting.
    due_sites: BTreeSet<(u64, u32)>,
    leases: HashMap<u32, u64>,
    last_token: u64,
    /// Living records of messages that are neither the message itself nor its progress: where, and how long.
    notes: HashMap<u32, Vec<Place>>,
    pair_count: u64,
    /// Recipients that wait, in all pairs.
    waiting_count: u64,
    held_count: u64,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            segments: Segments::default(),
            messages: Slab::new(),
            pairs: Slab::new(),
            by_id: BTreeMap::new(),
            sites: Vec::new(),
            site_numbers: HashMap::new(),
            moved: HashMap::new(),
            is_recovering: true,
            due_sites: BTreeSet::new(),
            leases: HashMap::new(),
            // A lease of an earlier owner of the directory must not pass for one of this.
            last_token: micros(SystemTime::now()),
            notes: HashMap::new(),
            pair_count: 0,
            waiting_count: 0,
            held_count: 0,
        }
    }

    /// The log has been read.
    pub(super) fn recovered(&mut self) {
        self.is_recovering = false;
    }

    pub(super) fn message_count(&self) -> u64 {
        self.by_id.len() as u64
    }

    pub(super) fn pair_count(&self) -> u64 {
        self.pair_count
    }

    pub(super) fn waiting_count(&self) -> u64 {
        self.waiting_count
    }

    pub(super) fn held_count(&self) -> u64 {
        self.held_count
    }

    /// A record at that place is durable.
    pub(super) fn apply(&mut self, id: QueueId, effect: &Effect, place: Place) -> Applied {
        match effect {
            Effect::Message { octets, recipients, priority, in_file, held, pairs } => {
                self.put(id, place, (*octets, *recipients, *priority), (*in_file, *held), pairs);
                Applied::default()
            }
            Effect::Removal => self.remove(id, place),
            Effect::Progress { from, pair } => {
                let number = self.by_id.get(&id).and_then(|message| self.pair_by_key(*message, from));
                if let Some(number) = number {
                    self.advance(number, pair, place);
                    self.set_key(number, from);
                }
                Applied::default()
            }
            Effect::Done { site } => self.finish_pair(id, site, place),
            Effect::Held(held) => {
                if let Some(&number) = self.by_id.get(&id) {
                    self.set_flag(number, HELD, *held);
                    self.add_note(number, place);
                }
                Applied::default()
            }
        }
    }

    fn put(
        &mut self,
        id: QueueId,
        place: Place,
        (octets, recipients, priority): (u64, u32, i8),
        (in_file, held): (bool, bool),
        pairs: &[PairFacts],
    ) {
        self.segments.add_living(place);
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        let number = if let Some(&number) = self.by_id.get(&id) {
            self.supersede(number, pairs);
            number
        } else {
            let entry =
                MessageEntry { id: halves(id), place, octets, first_pair: NONE, recipients: 0, flags: 0, priority };
            let number = self.messages.insert(entry);
            self.by_id.insert(id, number);
            number
        };
        self.set_flag(number, HELD, held);
        self.set_priority(number, priority);
        let entry = &mut self.messages[number];
        entry.place = place;
        entry.octets = octets;
        entry.recipients = u16::try_from(recipients).unwrap_or(u16::MAX);
        entry.flags = entry.flags & !IN_FILE | if in_file { IN_FILE } else { 0 };
        for facts in pairs {
            let site = self.site_number(&facts.site);
            let known = self.pairs_of(number).find(|pair| self.pairs[*pair].site == site);
            match known {
                Some(pair) => self.set_times(pair, facts),
                None => self.add_pair(number, site, facts),
            }
        }
    }

    /// A newer record of the message says everything: what was known so far is dead.
    fn supersede(&mut self, number: u32, pairs: &[PairFacts]) {
        let place = self.messages[number].place;
        self.segments.end_living(place);
        self.segments.drain(place.segment);
        self.end_notes(number);
        let mut kept = Vec::new();
        self.change_pairs(number, |index, pair| {
            if index.pairs[pair].has_place {
                let place = index.pairs[pair].place;
                index.segments.end_living(place);
                index.pairs[pair].has_place = false;
            }
            // The new record names the site where it is now.
            index.moved.remove(&pair);
            let site = index.pairs[pair].site;
            let is_named = pairs.iter().any(|facts| facts.site == index.sites[site as usize].name);
            if is_named && !kept.contains(&site) {
                kept.push(site);
            } else {
                index.drop_pair(pair);
            }
        });
    }

    fn add_pair(&mut self, message: u32, site: u32, facts: &PairFacts) {
        let pair = self.pairs.insert(PairEntry {
            next_attempt: facts.next_attempt,
            message,
            site,
            place: Place::default(),
            next_pair: NONE,
            waiting: facts.waiting,
            attempts: u16::try_from(facts.attempts).unwrap_or(u16::MAX),
            has_place: false,
        });
        // At the end of the chain, so that sites are listed in the order in which they were given.
        let last = self.pairs_of(message).last();
        match last {
            Some(last) => self.pairs[last].next_pair = pair,
            None => self.messages[message].first_pair = pair,
        }
        self.pair_count += 1;
        self.waiting_count += u64::from(facts.waiting);
        self.enqueue(pair);
    }

    fn advance(&mut self, pair: u32, facts: &PairFacts, place: Place) {
        self.segments.add_living(place);
        if self.pairs[pair].has_place {
            let old = self.pairs[pair].place;
            self.segments.end_living(old);
        }
        self.pairs[pair].place = place;
        self.pairs[pair].has_place = true;
        self.set_times(pair, facts);
    }

    fn set_times(&mut self, pair: u32, facts: &PairFacts) {
        self.dequeue(pair);
        let site = self.site_number(&facts.site);
        let entry = &mut self.pairs[pair];
        self.waiting_count = self.waiting_count + u64::from(facts.waiting) - u64::from(entry.waiting);
        entry.site = site;
        entry.waiting = facts.waiting;
        entry.next_attempt = facts.next_attempt;
        entry.attempts = u16::try_from(facts.attempts).unwrap_or(u16::MAX);
        self.enqueue(pair);
    }

    /// The epochs of the segments in which records of a message can be read.
    pub(super) fn graves_of(&self, id: QueueId) -> Vec<u64> {
        let message = self.by_id.get(&id).map(|number| &self.messages[*number]);
        message.map(|message| self.segments.readable(message.place.segment)).unwrap_or_default()
    }

    fn finish_pair(&mut self, id: QueueId, site: &SiteName, place: Place) -> Applied {
        let Some(&number) = self.by_id.get(&id) else { return Applied::default() };
        if let Some(pair) = self.pair_by_key(number, site) {
            self.drop_pair(pair);
        }
        if self.messages[number].first_pair != NONE {
            self.add_note(number, place);
            return Applied::default();
        }
        // Without pairs it is gone. As long as its record can be read again, all that says so must be kept.
        for note in self.notes.get(&number).into_iter().flatten() {
            self.segments.bury(self.messages[number].place.segment, note.segment);
        }
        self.remove(id, place)
    }

    fn remove(&mut self, id: QueueId, place: Place) -> Applied {
        let Some(number) = self.by_id.remove(&id) else {
            if self.is_recovering {
                // Its record may stand in any older segment, where a snapshot left it out.
                self.segments.bury_older(place.segment);
            }
            return Applied::default();
        };
        let waited = self.waiting_count;
        self.change_pairs(number, Self::drop_pair);
        self.end_notes(number);
        let entry = self.messages[number];
        if entry.flags & HELD != 0 {
            self.held_count -= 1;
        }
        self.segments.end_living(entry.place);
        self.segments.bury(entry.place.segment, place.segment);
        self.messages.release(number);
        Applied {
            unneeded_content: (entry.flags & IN_FILE != 0).then_some(id),
            removed: Some(waited - self.waiting_count),
        }
    }

    /// The same note may be met twice: in a snapshot, and in the log behind it.
    fn add_note(&mut self, number: u32, place: Place) {
        let notes = self.notes.entry(number).or_default();
        if !notes.contains(&place) {
            notes.push(place);
            self.segments.add_living(place);
        }
    }

    fn end_notes(&mut self, number: u32) {
        for place in self.notes.remove(&number).unwrap_or_default() {
            self.segments.end_living(place);
        }
    }

    /// Takes a pair out of the chain of its message and out of everything else.
    fn drop_pair(&mut self, pair: u32) {
        self.dequeue(pair);
        self.leases.remove(&pair);
        self.moved.remove(&pair);
        let entry = self.pairs[pair];
        if entry.has_place {
            self.segments.end_living(entry.place);
        }
        let before = self.pairs_of(entry.message).take_while(|other| *other != pair).last();
        match before {
            Some(before) => self.pairs[before].next_pair = entry.next_pair,
            None => self.messages[entry.message].first_pair = entry.next_pair,
        }
        self.pairs.release(pair);
        self.pair_count -= 1;
        self.waiting_count -= u64::from(entry.waiting);
    }

    fn set_flag(&mut self, number: u32, flag: u8, on: bool) {
        if (self.messages[number].flags & flag != 0) == on {
            return;
        }
        self.change_pairs(number, Self::dequeue);
        self.messages[number].flags ^= flag;
        if flag == HELD {
            self.held_count = if on { self.held_count + 1 } else { self.held_count - 1 };
        }
        self.change_pairs(number, Self::enqueue);
    }

    fn set_priority(&mut self, number: u32, priority: i8) {
        if self.messages[number].priority != priority {
            self.change_pairs(number, Self::dequeue);
            self.messages[number].priority = priority;
            self.change_pairs(number, Self::enqueue);
        }
    }

    /// The pairs of a message, in the order in which its record names them.
    fn pairs_of(&self, message: u32) -> impl Iterator<Item = u32> {
        let real = |pair: u32| (pair != NONE).then_some(pair);
        std::iter::successors(real(self.messages[message].first_pair), move |pair| real(self.pairs[*pair].next_pair))
    }

    /// Does something to each pair of a message; it may take the pair out of the chain.
    fn change_pairs(&mut self, message: u32, mut change: impl FnMut(&mut Self, u32)) {
        let mut next = self.messages[message].first_pair;
        while next != NONE {
            let pair = next;
            next = self.pairs[pair].next_pair;
            change(self, pair);
        }
    }

    /// The pair that is at that site now.
    fn pair_number(&self, id: QueueId, site: &SiteName) -> Option<u32> {
        let message = *self.by_id.get(&id)?;
        let site = *self.site_numbers.get(site)?;
        self.pairs_of(message).find(|pair| self.pairs[*pair].site == site)
    }

    fn site_number(&mut self, name: &SiteName) -> u32 {
        if let Some(&number) = self.site_numbers.get(name) {
            return number;
        }
        let number = u32::try_from(self.sites.len()).expect("memory ends long before the numbers do");
        self.sites.push(Site { name: name.clone(), order: Waiting::default() });
        self.site_numbers.insert(name.clone(), number);
        number
    }

    fn id_of(&self, number: u32) -> QueueId {
        let [high, low] = self.messages[number].id;
        QueueId::from_u128(u128::from(high) << 64 | u128::from(low))
    }

    /// A record of this message cannot be read: it stays where it is, and nobody is given it.
    pub(super) fn set_damaged(&mut self, id: QueueId) {
        if let Some(&number) = self.by_id.get(&id) {
            self.set_flag(number, DAMAGED, true);
        }
    }

    /// A note says nothing that still matters.
    pub(super) fn drop_note(&mut self, id: QueueId, place: Place) {
        let Some(notes) = self.by_id.get(&id).and_then(|number| self.notes.get_mut(number)) else { return };
        if let Some(at) = notes.iter().position(|note| *note == place) {
            notes.swap_remove(at);
            self.segments.end_living(place);
        }
    }
}

fn halves(id: QueueId) -> [u64; 2] {
    let number = id.as_u128();
    let half = |half: u128| u64::try_from(half & u128::from(u64::MAX)).expect("it was cut to 64 bits");
    [half(number >> 64), half(number)]
}
