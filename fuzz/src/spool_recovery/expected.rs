//! What must be there after damage, and what may be: from what a spool was known to hold, and the octets that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use smtp_queue::QueueId;

use super::damage;
use super::memory::Image;
use super::reader::{self, Batch};
use super::script::Known;

/// What must be known after damage.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) known: BTreeMap<QueueId, Known>,
    /// Of these a record or the content file was touched.
    touched: BTreeSet<QueueId>,
    /// Of these a record stood in the last batches of a segment, which cannot be told from such as were never written.
    unsaid: BTreeSet<QueueId>,
    /// Of these a record stood in the last batches of all, which may be dropped as such that were never whole.
    tail: BTreeSet<QueueId>,
    /// A file is gone or shorter: nothing is left that could say what it held.
    loses_blocks: bool,
}

impl Expected {
    pub(super) fn new(known: &BTreeMap<QueueId, Known>, before: &Image, after: &Image) -> Self {
        let ranges = damage::touched(before, after);
        let is_touched = |path: &str, octets: &Range<usize>| {
            ranges.iter().any(|(name, range)| name == path && range.start < octets.end && octets.start < range.end)
        };
        let batches = reader::batches(before);
        let mut touched = BTreeSet::new();
        for batch in &batches {
            let records = batch.records.iter().filter(|record| is_touched(&batch.path, &record.octets));
            touched.extend(records.map(|record| record.id));
        }
        // A damaged last batch cannot be told from one whose sync never returned, unless a snapshot knows it.
        let certain = match reader::newest_snapshot(before) {
            Some((number, path)) if !is_touched(path, &(0..usize::MAX)) => number,
            _ => 0,
        };
        let is_uncertain = |batch: &&Batch| batch.number > certain && is_touched(&batch.path, &batch.octets);
        let tail = batches.iter().rev().take_while(is_uncertain);
        let tail: BTreeSet<_> = tail.flat_map(|batch| &batch.records).map(|record| record.id).collect();
        touched.extend(&tail);
        let mut unsaid = BTreeSet::new();
        for path in before.keys() {
            let own = batches.iter().rev().filter(|batch| batch.path == *path);
            let last = own.take_while(|batch| is_touched(&batch.path, &batch.octets));
            unsaid.extend(last.flat_map(|batch| &batch.records).map(|record| record.id));
        }
        for id in known.keys() {
            let path = format!("content/{id}");
            if before.get(&path) != after.get(&path) {
                touched.insert(*id);
            }
        }
        let length = |image: &Image, path: &String| image.get(path).map_or(0, Vec::len);
        let loses_blocks = before.keys().any(|path| length(after, path) < length(before, path));
        Self { known: known.clone(), touched, unsaid, tail, loses_blocks }
    }

    pub(super) fn is_touched(&self, id: QueueId) -> bool {
        self.touched.contains(&id)
    }

    /// Whether it may be taken for what was never whole at one start, and found at a wrong place at another.
    pub(super) fn may_change(&self, id: QueueId) -> bool {
        self.tail.contains(&id)
    }

    /// Whether it must be said that something is wrong with it.
    pub(super) fn must_be_said(&self, id: QueueId) -> bool {
        !self.loses_blocks && !self.unsaid.contains(&id)
    }
}
