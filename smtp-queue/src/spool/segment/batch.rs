//! What waits becomes one batch of records.
//!
//! All of it is made before any of it is durable, so a piece of work sees the index as it was, and what is in the batch
//! already.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::record::from_micros;
use crate::spool::{Lease, SpoolError};

use super::committer::{Committer, Done, Waiting, Work};
use super::effect::NewRecord;
use super::lock;
use super::log::Log;
use super::read::Reader;

/// A piece of work whose records are in the batch.
pub(super) struct Prepared {
    pub(super) waiting: Waiting,
    pub(super) records: usize,
}

/// What is in a batch already.
#[derive(Default)]
struct InBatch {
    /// The tokens of leases that are used up.
    leases: HashSet<u64>,
    /// Messages that it puts there.
    messages: HashSet<QueueId>,
    /// Messages that it removes.
    removed: HashSet<QueueId>,
    /// Messages of which it records outcomes, and of how many pairs those are the last.
    outcomes: HashMap<QueueId, usize>,
    /// Where it moves pairs to.
    moves: HashSet<(QueueId, SiteName)>,
}

impl InBatch {
    /// Whether work depends on what the index will know when this batch is durable.
    fn must_end_before(&self, work: &Work) -> bool {
        match work {
            // Its lease is lost with the message: when that is removed, and not before.
            Work::Record { lease, .. } => self.removed.contains(&lease.id),
            // It is made from the progress that the index knows.
            Work::Reschedule(id, _) => self.outcomes.contains_key(id) || self.removed.contains(id),
            Work::Put { .. } | Work::Remove(_) | Work::Hold(..) => false,
        }
    }
}

impl Committer {
    /// Turns work into records, as far as there is room. What cannot be done is answered at once.
    pub(super) fn prepare_batch(&mut self, taken: &mut VecDeque<Waiting>) -> (Vec<NewRecord>, Vec<Prepared>) {
        let mut records = Vec::new();
        let mut prepared = Vec::with_capacity(taken.len());
        let mut batch = InBatch::default();
        let mut octets = 0;
        while let Some(mut waiting) = taken.pop_front() {
            if batch.must_end_before(&waiting.work) {
                taken.push_front(waiting);
                break;
            }
            let is_message = waiting.work.takes_messages();
            let needed = Log::batch_octets(octets + waiting.work.octets());
            if !prepared.is_empty() && !self.log.has_room(needed, is_message) {
                taken.push_front(waiting);
                break;
            }
            let made = match self.records_of(&mut waiting.work, &mut batch) {
                Ok(made) => made,
                Err(refused) => {
                    waiting.answer(refused);
                    continue;
                }
            };
            let extents: u64 = made.iter().map(NewRecord::extent).sum();
            if !self.log.has_room(Log::batch_octets(octets + extents), is_message) {
                waiting.answer(Err(SpoolError::Full(None)));
                continue;
            }
            octets += extents;
            if let Work::Record { lease, progress, .. } = &waiting.work {
                *batch.outcomes.entry(lease.id).or_default() += usize::from(progress.is_none());
            }
            prepared.push(Prepared { waiting, records: made.len() });
            records.extend(made);
        }
        (records, prepared)
    }

    /// The records of work on what is already there; or what to answer without any.
    fn records_of(&self, work: &mut Work, batch: &mut InBatch) -> Result<Vec<NewRecord>, Result<Done, SpoolError>> {
        const TOO_LARGE: SpoolError = SpoolError::Invalid("a record is too large");
        let some = |record: Option<NewRecord>| record.map(|record| vec![record]).ok_or(Err(TOO_LARGE));
        match work {
            Work::Put { message, id, .. } => {
                if lock(&self.shared.index).contains(*id) || !batch.messages.insert(*id) {
                    return Err(Err(SpoolError::Invalid("its name is taken")));
                }
                Ok(std::mem::take(message))
            }
            Work::Record { lease, progress, caused } => {
                let index = lock(&self.shared.index);
                let Lease { id, site, token, .. } = &*lease;
                if !index.holds_lease(*id, site, *token) || !batch.leases.insert(*token) {
                    return Err(Err(SpoolError::LeaseLost { id: *id }));
                }
                // What a repeated outcome causes again is there already, and stays as it is.
                caused.retain(|new| !index.contains(new.id) && batch.messages.insert(new.id));
                let message = index.view(*id).ok_or(Err(SpoolError::LeaseLost { id: *id }))?;
                // Where the others end in this batch, too, it is the last.
                let others_done = batch.outcomes.get(id).copied().unwrap_or(0);
                let (recipients, is_last) = (message.recipients(), message.pairs().count() == 1 + others_done);
                let is_there = |progress: &Progress| message.pairs().any(|pair| *pair.site == progress.site);
                let is_taken = progress.as_ref().is_some_and(is_there);
                let key = index.key(*id, site).ok_or(Err(SpoolError::LeaseLost { id: *id }))?;
                let graves = if progress.is_none() { index.graves_of(*id) } else { Vec::new() };
                drop(index);
                let own = match progress {
                    Some(progress) => {
                        let recipients = if recipients < u16::MAX { usize::from(recipients) } else { usize::MAX };
                        progress.check(recipients).map_err(Err)?;
                        let moves = progress.site != lease.site;
                        if moves && (is_taken || !batch.moves.insert((*id, progress.site.clone()))) {
                            let why = "the message already waits at the site that it is moved to";
                            return Err(Err(SpoolError::Invalid(why)));
                        }
                        NewRecord::progress(*id, key, progress)
                    }
                    None if is_last => NewRecord::removal(*id, &graves),
                    None => NewRecord::done(*id, key, &graves),
                };
                // What an outcome causes stands in front of it: a message is never without both.
                let mut records = std::mem::take(caused);
                let forgets = self.shared.settings.faults().forgets_removals && progress.is_none();
                if !forgets {
                    records.extend(some(own)?);
                }
                Ok(records)
            }
            Work::Remove(id) => {
                self.must_be_there(*id)?;
                batch.removed.insert(*id);
                let graves = lock(&self.shared.index).graves_of(*id);
                some(NewRecord::removal(*id, &graves))
            }
            Work::Hold(id, held) => {
                self.must_be_there(*id)?;
                some(NewRecord::held(*id, *held))
            }
            Work::Reschedule(id, time) => {
                let facts = lock(&self.shared.index).message(*id).ok_or(Ok(Done::Absent))?;
                let records = facts.pairs.into_iter().map(|pair| {
                    let mut progress = Reader::new(&self.shared).progress(*id, &pair.facts.site).map_err(Err)?;
                    progress.next_attempt = from_micros(*time);
                    NewRecord::progress(*id, pair.key, &progress).ok_or(Err(TOO_LARGE))
                });
                records.collect()
            }
        }
    }

    fn must_be_there(&self, id: QueueId) -> Result<(), Result<Done, SpoolError>> {
        if lock(&self.shared.index).contains(id) { Ok(()) } else { Err(Ok(Done::Absent)) }
    }
}
