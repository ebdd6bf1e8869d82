//! A log in memory whose segments are used again, and that checks how it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use loom::sync::{Mutex, MutexGuard};

/// Batches in a segment. One, so that few pieces of work come to a segment that is used again.
const SEGMENT: usize = 1;
/// Segments; the oldest is used again when all are full.
const SEGMENTS: usize = 2;

#[derive(Debug)]
pub(super) struct ModelLog(Mutex<State>);

#[derive(Debug)]
struct State {
    next: u64,
    /// What each batch holds. A batch whose segment was used again is no longer here.
    segments: Vec<BTreeMap<u64, Vec<u32>>>,
    active: usize,
    /// The last batch whose sync returned.
    synced: u64,
    /// All work that was ever durable.
    durable: BTreeSet<u32>,
}

impl ModelLog {
    pub(super) fn new() -> Self {
        let segments = vec![BTreeMap::new(); SEGMENTS];
        Self(Mutex::new(State { next: 1, segments, active: 0, synced: 0, durable: BTreeSet::new() }))
    }

    /// A disk takes its time: at each lock others may come in between.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch; its number.
    pub(super) fn write(&self, work: &[u32]) -> u64 {
        let mut state = self.lock();
        let batch = state.next;
        assert_eq!(batch, state.synced + 1, "the batch before is not synced");
        state.next += 1;
        if state.segments[state.active].len() == SEGMENT {
            state.active = (state.active + 1) % SEGMENTS;
            let active = state.active;
            assert!(state.segments[active].keys().all(|batch| *batch <= state.synced), "its batches are not synced");
            state.segments[active].clear();
        }
        let active = state.active;
        state.segments[active].insert(batch, work.to_vec());
        batch
    }

    pub(super) fn sync(&self, batch: u64) {
        let mut state = self.lock();
        let work: Vec<u32> =
            state.segments.iter().filter_map(|segment| segment.get(&batch)).flatten().copied().collect();
        state.durable.extend(work);
        state.synced = state.synced.max(batch);
    }

    /// A writer was told that its work is in that batch.
    pub(super) fn is_durable(&self, work: u32, batch: u64) {
        let state = self.lock();
        assert!(batch <= state.synced, "work {work} was answered before the sync of batch {batch}");
        assert!(state.durable.contains(&work), "work {work} was answered and is in no batch");
    }

    /// Nothing is durable that nobody was told of, where everybody is told. The number of batches.
    pub(super) fn holds_exactly(&self, answered: &[u32]) -> u64 {
        let told: BTreeSet<u32> = answered.iter().copied().collect();
        assert_eq!(told.len(), answered.len(), "answered twice: {answered:?}");
        let state = self.lock();
        assert_eq!(state.durable, told, "what is durable, and what was answered");
        state.synced
    }
}
