//! What the index tells others.

use crate::envelope::SiteName;
use crate::id::QueueId;

use super::super::effect::PairFacts;
use super::super::segments::Place;
use super::{DAMAGED, HELD, IN_FILE, Index, MessageEntry, MessageFacts, PairPlaces, PairState};

/// A message in the index, looked at without copying anything.
#[derive(Clone, Copy)]
pub(in crate::spool::segment) struct MessageView<'a> {
    index: &'a Index,
    number: u32,
    entry: &'a MessageEntry,
}

/// A pair in the index, looked at likewise.
#[derive(Clone, Copy)]
pub(in crate::spool::segment) struct PairView<'a> {
    /// Where it is now.
    pub(in crate::spool::segment) site: &'a SiteName,
    /// The site that the record of the message names: what records about this pair call it, wherever it has moved.
    pub(in crate::spool::segment) key: &'a SiteName,
    pub(in crate::spool::segment) next_attempt: u64,
    pub(in crate::spool::segment) attempts: u16,
    pub(in crate::spool::segment) waiting: u32,
    /// Where its progress stands, unless that is in the record of the message.
    pub(in crate::spool::segment) place: Option<Place>,
    number: u32,
}

impl<'a> MessageView<'a> {
    pub(in crate::spool::segment) fn id(self) -> QueueId {
        self.index.id_of(self.number)
    }

    pub(in crate::spool::segment) fn place(self) -> Place {
        self.entry.place
    }

    /// Head and content; what is larger than 4 GiB counts as that.
    pub(in crate::spool::segment) fn octets(self) -> u32 {
        self.entry.octets
    }

    /// In its envelope; what is more than the number can say counts as its largest.
    pub(in crate::spool::segment) fn recipients(self) -> u16 {
        self.entry.recipients
    }

    /// Of its envelope.
    pub(in crate::spool::segment) fn priority(self) -> i8 {
        self.entry.priority
    }

    pub(in crate::spool::segment) fn is_held(self) -> bool {
        self.entry.flags & HELD != 0
    }

    pub(in crate::spool::segment) fn is_in_file(self) -> bool {
        self.entry.flags & IN_FILE != 0
    }

    pub(in crate::spool::segment) fn pairs(self) -> impl Iterator<Item = PairView<'a>> {
        let Self { index, number, .. } = self;
        index.pairs_of(number).map(|number| {
            let pair = &index.pairs[number];
            PairView {
                site: &index.sites[pair.site as usize].name,
                key: &index.sites[index.key_of(number) as usize].name,
                next_attempt: pair.next_attempt,
                attempts: pair.attempts,
                waiting: pair.waiting,
                place: pair.has_place.then_some(pair.place),
                number,
            }
        })
    }

    /// Where its notes stand.
    pub(in crate::spool::segment) fn notes(self) -> &'a [Place] {
        self.index.notes.get(&self.number).map_or(&[], Vec::as_slice)
    }

    /// A copy that outlives the lock of the index.
    pub(in crate::spool::segment) fn facts(self) -> MessageFacts {
        let pairs = self.pairs().map(|pair| {
            let PairView { next_attempt, waiting, .. } = pair;
            let facts = PairFacts { site: pair.site.clone(), next_attempt, attempts: pair.attempts.into(), waiting };
            let is_leased = self.index.leases.contains_key(&pair.number);
            PairState { facts, key: pair.key.clone(), place: pair.place, is_leased }
        });
        MessageFacts {
            id: self.id(),
            place: self.place(),
            octets: self.octets().into(),
            recipients: self.recipients().into(),
            held: self.is_held(),
            damaged: self.entry.flags & DAMAGED != 0,
            in_file: self.is_in_file(),
            priority: self.priority(),
            pairs: pairs.collect(),
        }
    }
}

impl Index {
    /// Where a pair stands in the log.
    pub(in crate::spool::segment) fn places(&self, id: QueueId, site: &SiteName) -> Option<PairPlaces> {
        let pair = self.pairs[self.pair_number(id, site)?];
        Some(PairPlaces { progress: pair.has_place.then_some(pair.place) })
    }

    pub(in crate::spool::segment) fn contains(&self, id: QueueId) -> bool {
        self.by_id.contains_key(&id)
    }

    fn view_of(&self, number: u32) -> MessageView<'_> {
        MessageView { index: self, number, entry: &self.messages[number] }
    }

    pub(in crate::spool::segment) fn view(&self, id: QueueId) -> Option<MessageView<'_>> {
        self.by_id.get(&id).map(|number| self.view_of(*number))
    }

    pub(in crate::spool::segment) fn message(&self, id: QueueId) -> Option<MessageFacts> {
        self.view(id).map(MessageView::facts)
    }

    /// The messages after that one, by arrival.
    pub(in crate::spool::segment) fn messages_after(
        &self,
        after: Option<QueueId>,
    ) -> impl Iterator<Item = MessageView<'_>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        self.by_id.range::<QueueId, _>(range).map(|(_, number)| self.view_of(*number))
    }

    /// Whether the record of that kind at that place still says something that no other record says.
    pub(in crate::spool::segment) fn is_note(&self, id: QueueId, place: Place) -> bool {
        self.view(id).is_some_and(|message| message.notes().contains(&place))
    }
}
