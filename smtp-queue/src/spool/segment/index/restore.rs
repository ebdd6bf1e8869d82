//! An index made from a snapshot in one go.
//!
//! A snapshot lists messages by arrival, so a million of them need not find their places one by one: entries are
//! appended, and each ordered set is made when all that belongs in it is known. What comes out is what
//! [`Index::apply`] would have made; a test compares the two.

use std::collections::HashMap;

use crate::envelope::SiteName;
use crate::id::QueueId;

use super::super::segments::Place;
use super::{HELD, IN_FILE, Index, MessageEntry, NONE, PairEntry, halves};

/// A place that does not depend on this process: the epoch in the place of the number.
#[derive(Debug, Clone, Copy)]
pub(in crate::spool::segment) struct DiskPlace {
    pub(in crate::spool::segment) epoch: u64,
    pub(in crate::spool::segment) offset: u32,
    pub(in crate::spool::segment) octets: u32,
}

/// A message in a snapshot, without its pairs.
#[derive(Debug, Clone, Copy)]
pub(in crate::spool::segment) struct SavedMessage {
    pub(in crate::spool::segment) id: QueueId,
    pub(in crate::spool::segment) place: DiskPlace,
    pub(in crate::spool::segment) octets: u32,
    pub(in crate::spool::segment) recipients: u16,
    pub(in crate::spool::segment) held: bool,
    pub(in crate::spool::segment) in_file: bool,
    pub(in crate::spool::segment) priority: i8,
}

/// A pair in a snapshot. Sites are numbers that [`Restoring::add_site`] gave.
#[derive(Debug, Clone, Copy)]
pub(in crate::spool::segment) struct SavedPair {
    pub(in crate::spool::segment) site: u32,
    pub(in crate::spool::segment) next_attempt: u64,
    pub(in crate::spool::segment) attempts: u16,
    pub(in crate::spool::segment) waiting: u32,
    /// Where its progress stands, and the site by which that calls it; without, it is as the record of the message says.
    pub(in crate::spool::segment) progress: Option<(DiskPlace, u32)>,
}

/// An index that is being made. What it is given need not be true yet: an index made from it in vain is dropped.
#[derive(Debug)]
pub(in crate::spool::segment) struct Restoring {
    /// Without any order until the end.
    index: Index,
    /// What waits at each site.
    waiting: Vec<Vec<(i8, u64, u32)>>,
    /// For each site the last message that had a pair of that name.
    named_by: Vec<u32>,
    last_id: Option<QueueId>,
    segments: HashMap<u64, u32>,
    /// Neighbours mostly stand in the same segment.
    last_segment: (u64, Option<u32>),
    cut_off: Vec<QueueId>,
}

impl Restoring {
    /// From an index that knows the segments and nothing else.
    pub(in crate::spool::segment) fn new(index: Index) -> Self {
        let segments: HashMap<_, _> = index.segments.iter().map(|(number, segment)| (segment.epoch, number)).collect();
        let last_segment = (0, segments.get(&0).copied());
        let (waiting, named_by) = (Vec::new(), Vec::new());
        Self { index, waiting, named_by, last_id: None, segments, last_segment, cut_off: Vec::new() }
    }

    /// The next site. `None` where there is one of that name.
    pub(in crate::spool::segment) fn add_site(&mut self, name: &SiteName) -> Option<()> {
        let is_new = self.index.site_number(name) as usize == self.waiting.len();
        self.waiting.push(Vec::new());
        self.named_by.push(NONE);
        is_new.then_some(())
    }

    /// The next message; one whose segment is gone is left out. Then nothing living stood in it, so the message was
    /// removed, or it was appended again and is found in the log. `None` where no index can be such.
    pub(in crate::spool::segment) fn add_message(
        &mut self,
        saved: &SavedMessage,
        pairs: &[SavedPair],
        notes: &[DiskPlace],
    ) -> Option<()> {
        if self.last_id.is_some_and(|last| last >= saved.id) {
            return None;
        }
        self.last_id = Some(saved.id);
        let Some(place) = self.place(saved.place) else { return Some(()) };
        let flags = if saved.held { HELD } else { 0 } | if saved.in_file { IN_FILE } else { 0 };
        let SavedMessage { octets, recipients, priority, .. } = *saved;
        let entry = MessageEntry { id: halves(saved.id), place, octets, first_pair: NONE, recipients, flags, priority };
        let number = self.index.messages.insert(entry);
        self.index.segments.add_living(place);
        self.index.held_count += u64::from(saved.held);
        let mut is_within = self.index.segments.holds(place);
        let mut last_pair = None;
        for saved in pairs {
            let progress = saved.progress.map(|(place, key)| (self.place(place), key));
            let (site, key, place) = match progress {
                None => (saved.site, saved.site, None),
                Some((Some(place), key)) => (saved.site, key, Some(place)),
                // Its progress is gone, so the log says something newer of it.
                Some((None, key)) => (key, key, None),
            };
            let pair = self.add_pair(number, saved, site, place)?;
            if std::mem::replace(self.named_by.get_mut(key as usize)?, number) == number {
                return None;
            }
            if key != site {
                self.index.moved.insert(pair, key);
            }
            is_within &= place.is_none_or(|place| self.index.segments.holds(place));
            match last_pair.replace(pair) {
                Some(last) => self.index.pairs[last].next_pair = pair,
                None => self.index.messages[number].first_pair = pair,
            }
        }
        for note in notes {
            if let Some(place) = self.place(*note) {
                self.index.add_note(number, place);
            }
        }
        if !is_within {
            self.cut_off.push(saved.id);
        }
        Some(())
    }

    fn add_pair(&mut self, message: u32, saved: &SavedPair, site: u32, place: Option<Place>) -> Option<u32> {
        let SavedPair { next_attempt, attempts, waiting, .. } = *saved;
        let order = self.waiting.get_mut(site as usize)?;
        let has_place = place.is_some();
        if let Some(place) = place {
            self.index.segments.add_living(place);
        }
        let place = place.unwrap_or_default();
        let entry = PairEntry { next_attempt, message, site, place, next_pair: NONE, waiting, attempts, has_place };
        let pair = self.index.pairs.insert(entry);
        if self.index.messages[message].flags & HELD == 0 {
            order.push((self.index.messages[message].priority, next_attempt, pair));
        }
        self.index.pair_count += 1;
        self.index.waiting_count += u64::from(waiting);
        Some(pair)
    }

    fn place(&mut self, at: DiskPlace) -> Option<Place> {
        if self.last_segment.0 != at.epoch {
            self.last_segment = (at.epoch, self.segments.get(&at.epoch).copied());
        }
        Some(Place { segment: self.last_segment.1?, offset: at.offset, octets: at.octets })
    }

    /// The index, and the messages of which a segment ends in front of a record.
    pub(in crate::spool::segment) fn finish(self) -> (Index, Vec<QueueId>) {
        let Self { mut index, waiting, cut_off, .. } = self;
        index.by_id = (0..index.messages.len()).map(|number| (index.id_of(number), number)).collect();
        for (site, waiting) in index.sites.iter_mut().zip(waiting) {
            site.order.extend(waiting);
        }
        let first_times =
            index.sites.iter().zip(0..).filter_map(|(site, number)| Some((site.order.first_time()?, number)));
        index.due_sites = first_times.collect();
        (index, cut_off)
    }
}
