//! The segments of the log: which are written, which hold living records, which can be recycled.
//!
//! A record is living while the index needs it: the newest record of a message, the newest progress of a pair, and the
//! notes (a site is done, a message is held) of a message that is there. Besides, a segment must be kept while it
//! *buries* another: it says that messages are gone whose records can still be read in that other segment. A segment
//! that has no living record and buries nothing says nothing any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::storage::StorageFile;

/// Where a record stands: 12 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The number of the segment in memory; it stays the same when the segment is recycled.
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Header and payload.
    pub(super) octets: u32,
}

/// What a segment is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing of its epoch was written yet.
    Spare,
    /// It is written to.
    Active,
    /// It was written to.
    Written,
}

pub(super) struct Segment {
    pub(super) epoch: u64,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) usage: Use,
    pub(super) octets: u64,
    living_octets: u64,
    living_records: u64,
    /// The epochs whose records this segment says are dead.
    buries: BTreeSet<u64>,
}

impl Segment {
    /// Whether a record in it is living.
    pub(super) fn is_living(&self) -> bool {
        self.living_records > 0
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, file: _, usage, octets, living_octets, living_records, buries } = self;
        f.debug_struct("Segment")
            .field("epoch", epoch)
            .field("usage", usage)
            .field("octets", octets)
            .field("living_octets", living_octets)
            .field("living_records", living_records)
            .field("buries", buries)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct Segments {
    all: Vec<Option<Segment>>,
    /// Epochs out of which messages were appended again: their old records can still be read.
    draining: BTreeSet<u64>,
    /// A fault that tests must find: what a segment buries does not keep it.
    ignores_graves: bool,
}

impl Segments {
    /// Plants the fault [`Faults::drops_removals_early`](super::settings::Faults).
    pub(super) fn ignore_graves(&mut self) {
        self.ignores_graves = true;
    }

    fn says_nothing(&self, segment: &Segment) -> bool {
        let buries_nothing = self.ignores_graves || segment.buries.is_empty();
        segment.usage == Use::Written && segment.living_records == 0 && buries_nothing
    }

    /// Registers a segment; its number.
    pub(super) fn add(&mut self, epoch: u64, file: Arc<dyn StorageFile>, octets: u64, usage: Use) -> u32 {
        let (living_octets, living_records) = (0, 0);
        let segment = Segment { epoch, file, usage, octets, living_octets, living_records, buries: BTreeSet::new() };
        let free = self.all.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.all[number] = Some(segment);
        u32::try_from(number).expect("no file system has so many files")
    }

    pub(super) fn get(&self, number: u32) -> Option<&Segment> {
        self.all.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.all.iter().zip(0..).filter_map(|(segment, number)| segment.as_ref().map(|segment| (number, segment)))
    }

    /// Whether a place lies within its segment.
    pub(super) fn holds(&self, place: Place) -> bool {
        let end = u64::from(place.offset) + u64::from(place.octets);
        self.get(place.segment).is_some_and(|segment| end <= segment.octets)
    }

    pub(super) fn add_living(&mut self, place: Place) {
        if let Some(segment) = self.get_mut(place.segment) {
            segment.living_octets += u64::from(place.octets);
            segment.living_records += 1;
        }
    }

    pub(super) fn end_living(&mut self, place: Place) {
        if let Some(segment) = self.get_mut(place.segment) {
            segment.living_octets -= u64::from(place.octets);
            segment.living_records -= 1;
        }
    }

    /// A message was appended again elsewhere.
    pub(super) fn drain(&mut self, number: u32) {
        if let Some(segment) = self.get(number) {
            self.draining.insert(segment.epoch);
        }
    }

    /// A message in segment `dead` is gone, says a record in segment `by`. Older records of the same message may lie in
    /// every segment that is drained.
    pub(super) fn bury(&mut self, dead: u32, by: u32) {
        let dead = self.get(dead).map(|segment| segment.epoch);
        let Self { all, draining, .. } = self;
        if let Some(segment) = all.get_mut(by as usize).and_then(Option::as_mut) {
            let own = segment.epoch;
            segment.buries.extend(draining.iter().copied().chain(dead).filter(|epoch| *epoch != own));
        }
    }

    /// Where records can be read of a message whose newest one stands in segment `number`.
    pub(super) fn readable(&self, number: u32) -> Vec<u64> {
        let newest = self.get(number).map(|segment| segment.epoch);
        let drained = self.draining.iter().copied().filter(|epoch| Some(*epoch) != newest);
        newest.into_iter().chain(drained).collect()
    }

    /// Messages in any older segment may be gone, says a record in segment `by`.
    pub(super) fn bury_older(&mut self, by: u32) {
        let Some(own) = self.get(by).map(|segment| segment.epoch) else { return };
        let older: Vec<u64> = self.iter().map(|(_, segment)| segment.epoch).filter(|epoch| *epoch < own).collect();
        if let Some(segment) = self.get_mut(by) {
            segment.buries.extend(older);
        }
    }

    /// The oldest segment that says nothing any more.
    pub(super) fn recyclable(&self) -> Option<u32> {
        let all = self.iter().filter(|(_, segment)| self.says_nothing(segment));
        all.min_by_key(|(_, segment)| segment.epoch).map(|(number, _)| number)
    }

    /// How many segments say nothing any more.
    pub(super) fn recyclable_count(&self) -> usize {
        self.iter().filter(|(_, segment)| self.says_nothing(segment)).count()
    }

    /// The segment that it pays most to empty, where more than `spared` are sparse: have at most a tenth that is living.
    /// Of these the one with the least, and of equal ones the oldest. One that only buries others is emptied too: what it
    /// says takes little room.
    pub(super) fn worth_emptying(&self, except: &HashSet<u64>, spared: usize) -> Option<u32> {
        let is_sparse = |segment: &Segment| {
            segment.usage == Use::Written
                && !self.says_nothing(segment)
                && segment.living_octets * 10 <= segment.octets
                && !except.contains(&segment.epoch)
        };
        let sparse: Vec<_> = self.iter().filter(|(_, segment)| is_sparse(segment)).collect();
        let worth = sparse.iter().min_by_key(|(_, segment)| (segment.living_octets, segment.epoch));
        worth.filter(|_| sparse.len() > spared).map(|(number, _)| *number)
    }

    /// What a segment said about dead records now stands in the segment `by`, or need not be said any more.
    pub(super) fn bury_elsewhere(&mut self, number: u32, by: Option<u32>) {
        let epochs = self.get_mut(number).map(|segment| std::mem::take(&mut segment.buries)).unwrap_or_default();
        if let Some(segment) = by.and_then(|by| self.get_mut(by)) {
            let own = segment.epoch;
            segment.buries.extend(epochs.into_iter().filter(|epoch| *epoch != own));
        }
    }

    #[cfg(test)]
    pub(super) fn number_of(&self, epoch: u64) -> Option<u32> {
        self.iter().find(|(_, segment)| segment.epoch == epoch).map(|(number, _)| number)
    }

    /// What a segment held can never be read again: its new name is durable, or it is gone.
    pub(super) fn forget(&mut self, epoch: u64) {
        self.draining.remove(&epoch);
        for segment in self.all.iter_mut().flatten() {
            segment.buries.remove(&epoch);
        }
    }

    /// Gives a segment another epoch. Its old name is durably gone.
    pub(super) fn recycle(&mut self, number: u32, epoch: u64) {
        let Some(old) = self.get(number).map(|segment| segment.epoch) else { return };
        self.forget(old);
        if let Some(segment) = self.get_mut(number) {
            segment.epoch = epoch;
            segment.usage = Use::Spare;
            segment.buries.clear();
        }
    }

    /// Takes a segment out; its file is removed.
    pub(super) fn remove(&mut self, number: u32) -> Option<Segment> {
        let segment = self.all.get_mut(number as usize).and_then(Option::take)?;
        self.forget(segment.epoch);
        Some(segment)
    }

    /// What a snapshot must say so that a later recovery knows which segments bury which.
    pub(super) fn graves(&self) -> (Vec<u64>, BTreeMap<u64, Vec<u64>>) {
        let buries = |segment: &Segment| (segment.epoch, segment.buries.iter().copied().collect());
        let all = self.iter().filter(|(_, segment)| !segment.buries.is_empty());
        (self.draining.iter().copied().collect(), all.map(|(_, segment)| buries(segment)).collect())
    }

    /// Restores [`Segments::graves`], as far as the segments are still there.
    pub(super) fn restore_graves(&mut self, draining: &[u64], buries: &BTreeMap<u64, Vec<u64>>) {
        let there: BTreeSet<u64> = self.iter().map(|(_, segment)| segment.epoch).collect();
        self.draining.extend(draining.iter().filter(|epoch| there.contains(epoch)));
        for segment in self.all.iter_mut().flatten() {
            let epochs = buries.get(&segment.epoch).into_iter().flatten();
            segment.buries.extend(epochs.filter(|epoch| there.contains(epoch)));
        }
    }
}
