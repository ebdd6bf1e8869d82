//! What the index tells others.

use crate::envelope::SiteName;
use crate::id::QueueId;

use super::super::effect::PairFacts;
use super::super::segments::Place;
use super::{DAMAGED, HELD, IN_FILE, Index, MessageFacts, PairPlaces, PairState};

impl Index {
    /// Where a pair stands in the log.
    pub(in crate::spool::segment) fn places(&self, id: QueueId, site: &SiteName) -> Option<PairPlaces> {
        let pair = self.pairs[self.pair_number(id, site)?];
        Some(PairPlaces { progress: pair.has_place.then_some(pair.place) })
    }

    pub(in crate::spool::segment) fn contains(&self, id: QueueId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(in crate::spool::segment) fn message(&self, id: QueueId) -> Option<MessageFacts> {
        self.by_id.get(&id).map(|number| self.facts(*number))
    }

    /// The messages after that one, by arrival.
    pub(in crate::spool::segment) fn messages_after(
        &self,
        after: Option<QueueId>,
    ) -> impl Iterator<Item = MessageFacts> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        self.by_id.range::<QueueId, _>(range).map(|(_, number)| self.facts(*number))
    }

    fn facts(&self, number: u32) -> MessageFacts {
        let entry = &self.messages[number];
        let pairs = self.pairs_of(number).into_iter().map(|number| {
            let pair = &self.pairs[number];
            let site = self.sites[pair.site as usize].name.clone();
            let facts = PairFacts {
                site,
                next_attempt: pair.next_attempt,
                attempts: u32::from(pair.attempts),
                waiting: pair.waiting,
            };
            let key = self.sites[self.key_of(number) as usize].name.clone();
            let (place, is_leased) = (pair.has_place.then_some(pair.place), self.leases.contains_key(&number));
            PairState { facts, key, place, is_leased }
        });
        MessageFacts {
            id: self.id_of(number),
            place: entry.place,
            octets: u64::from(entry.octets),
            recipients: u32::from(entry.recipients),
            held: entry.flags & HELD != 0,
            damaged: entry.flags & DAMAGED != 0,
            in_file: entry.flags & IN_FILE != 0,
            pairs: pairs.collect(),
        }
    }

    /// Whether the record of that kind at that place still says something that no other record says.
    pub(in crate::spool::segment) fn is_note(&self, id: QueueId, place: Place) -> bool {
        self.notes_of(id).contains(&place)
    }
}
