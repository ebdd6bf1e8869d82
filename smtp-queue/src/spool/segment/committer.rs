//! One committer for a spool: it takes whatever waits, writes it as one batch, syncs once, and answers everybody.
//!
//! [`Committer::step`] is one turn. A thread of its own calls it, never one that serves sessions; tests call it
//! themselves. It alone changes what the index knows of the log, so a turn meets no surprise between looking and
//! writing. The lock of the index is held for memory only, never for the disk, and enqueuing needs another lock.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::{Lease, SpoolError};
use crate::storage::Storage;

use super::batch::Prepared;
use super::effect::NewRecord;
use super::inbox::Inbox;
use super::index::{Applied, Index};
use super::log::{Log, WriteError};
use super::settings::{SegmentSettings, SpoolAlarm};
use super::turn::TurnOfOthers;
use super::{lock, relocation, snapshot};

/// What a caller wants to have done.
#[derive(Debug)]
pub(super) enum Work {
    /// Take a message, and lease these of its sites.
    Put { message: Vec<NewRecord>, id: QueueId, leases: Vec<SiteName> },
    /// Record what came of an attempt, and take the messages that it caused.
    Record { lease: Lease, progress: Option<Progress>, caused: Vec<NewRecord> },
    /// Forget a message.
    Remove(QueueId),
    /// Hold a message, or let it go on.
    Hold(QueueId, bool),
    /// Make a message due at another time, in microseconds.
    Reschedule(QueueId, u64),
}

impl Work {
    pub(super) fn takes_messages(&self) -> bool {
        matches!(self, Self::Put { .. })
    }

    /// About how many octets it writes.
    pub(super) fn octets(&self) -> u64 {
        const SMALL: u64 = 1024;
        match self {
            Self::Put { message, .. } => message.iter().map(NewRecord::extent).sum(),
            Self::Record { caused, .. } => SMALL + caused.iter().map(NewRecord::extent).sum::<u64>(),
            _ => SMALL,
        }
    }
}

/// What a caller is told.
#[derive(Debug)]
pub(super) enum Done {
    /// It is durable; the tokens of the leases.
    Yes(Vec<Option<u64>>),
    /// A message was removed for which so many recipients waited.
    Removed(u64),
    /// There is no such message.
    Absent,
}

pub(super) type Answer = Result<Done, SpoolError>;
pub(super) type Waiting = super::inbox::Waiting<Work, Answer>;

/// What sessions and the committer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) settings: SegmentSettings,
    pub(super) index: Mutex<Index>,
    inbox: Inbox<Work, Answer>,
    /// Whoever hands work over lets others go first, so that they come into the same batch.
    gathers: bool,
    pub(super) is_read_only: AtomicBool,
    /// Octets that messages can take in the log as it is; [`NO_SPARE`] where not even a small one is taken.
    pub(super) log_free_octets: AtomicU64,
    /// The last batch that is durable.
    pub(super) last_batch: AtomicU64,
    pub(super) is_snapshot_running: AtomicBool,
}

/// There is no room in the log for any message.
pub(super) const NO_SPARE: u64 = u64::MAX;

impl Shared {
    pub(super) fn new(storage: Arc<dyn Storage>, settings: SegmentSettings, index: Index, gathers: bool) -> Self {
        Self {
            storage,
            settings,
            index: Mutex::new(index),
            inbox: Inbox::new(),
            gathers,
            is_read_only: AtomicBool::new(false),
            log_free_octets: AtomicU64::new(0),
            last_batch: AtomicU64::new(0),
            is_snapshot_running: AtomicBool::new(false),
        }
    }

    /// Hands work over and waits until it is durable.
    pub(super) async fn submit(&self, work: Work) -> Answer {
        let Some((answer, ring)) = self.inbox.submit(work) else { return Err(SpoolError::Closed) };
        if self.gathers {
            TurnOfOthers::default().await;
        }
        drop(ring);
        // A committer that is gone answers nobody.
        answer.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// No more work is taken; what waits is still done.
    pub(super) fn close(&self) {
        self.inbox.close();
    }

    pub(super) fn has_work(&self) -> bool {
        self.inbox.has_work()
    }

    /// Waits for work; `false` where there will be none.
    pub(super) fn wait(&self) -> bool {
        self.inbox.wait()
    }
}

/// The one who writes.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    /// Log octets at the last snapshot, and how long that was.
    snapshot: (u64, u64),
    /// Snapshots are written by a thread of their own.
    has_threads: bool,
    snapshot_thread: Option<JoinHandle<()>>,
    /// Segments that cannot be emptied.
    pub(super) stuck: HashSet<u64>,
    /// The last batch when there was no room to empty a segment.
    pub(super) no_room_since: Option<u64>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, log: Log, has_threads: bool) -> Self {
        // The one that the start read was as long as the next one is.
        let snapshot = (0, snapshot::estimate(&lock(&shared.index)));
        Self { shared, log, snapshot, has_threads, snapshot_thread: None, stuck: HashSet::new(), no_room_since: None }
    }

    /// One turn: one batch, or a few where there is not room for all in one. `false` where nothing waited.
    pub(super) fn step(&mut self) -> bool {
        let limit = self.shared.settings.batch_octets.min(self.log.segment_octets() / 2);
        let mut taken = self.shared.inbox.take(limit, Work::octets);
        if taken.is_empty() {
            return false;
        }
        while let Some(first) = taken.front() {
            if self.shared.is_read_only.load(Ordering::Acquire) {
                for waiting in taken {
                    waiting.answer(Err(SpoolError::ReadOnly));
                }
                return true;
            }
            // Room is made while nothing is prepared: it may append messages again, and records that were made before
            // would be those of messages as they were.
            self.make_room(Log::batch_octets(first.work.octets()), first.work.takes_messages());
            let (records, prepared) = self.prepare_batch(&mut taken);
            if !prepared.is_empty() {
                self.commit(&records, prepared);
            }
        }
        self.keep_house();
        true
    }

    fn make_room(&mut self, octets: u64, is_message: bool) {
        if !self.log.has_room(octets, is_message) {
            self.prepare_segments();
        }
    }

    fn commit(&mut self, records: &[NewRecord], prepared: Vec<Prepared>) {
        let syncs = !self.shared.settings.faults().acknowledges_before_sync;
        match self.write(records, syncs) {
            Ok(applied) => {
                let mut each = &applied[..];
                let answers: Vec<_> = {
                    let mut index = lock(&self.shared.index);
                    let next = |prepared: &Prepared| {
                        let (own, rest) = each.split_at(prepared.records);
                        each = rest;
                        done(&mut index, &prepared.waiting.work, own)
                    };
                    prepared.iter().map(next).collect()
                };
                for (Prepared { waiting, .. }, done) in prepared.into_iter().zip(answers) {
                    waiting.answer(Ok(done));
                }
                self.remove_contents(&applied);
            }
            Err(error) => self.refuse(prepared, error),
        }
    }

    /// Writes records as a batch, and publishes it.
    pub(super) fn write(&mut self, records: &[NewRecord], sync: bool) -> Result<Vec<Applied>, WriteError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.log.write(records, &self.shared.index, sync)?;
        let mut index = lock(&self.shared.index);
        let each = records.iter().zip(places);
        let applied = each.map(|(record, place)| index.apply(record.id, &record.effect, place)).collect();
        // Only now, and under the lock: a snapshot that says that it has this batch must have all of it.
        self.shared.last_batch.store(self.log.last_batch(), Ordering::Release);
        Ok(applied)
    }

    fn refuse(&mut self, prepared: Vec<Prepared>, error: WriteError) {
        let error = self.note(error);
        for Prepared { waiting, records } in prepared {
            let nothing_to_do = records == 0;
            waiting.answer(if nothing_to_do { Ok(Done::Yes(Vec::new())) } else { Err(copy(&error)) });
        }
    }

    /// After a failed write or sync nobody knows what is on the disk: nothing is written any more (STANDARDS.md C7).
    pub(super) fn note(&self, error: WriteError) -> SpoolError {
        match error {
            WriteError::Full(cause) => SpoolError::Full(cause.map(Arc::new)),
            WriteError::Failed { action, cause } => {
                let cause = Arc::new(cause);
                self.shared.is_read_only.store(true, Ordering::Release);
                self.shared.settings.alarm(&SpoolAlarm::ReadOnly { action, cause: cause.clone() });
                SpoolError::Io { action, source: cause }
            }
        }
    }

    fn remove_contents(&self, applied: &[Applied]) {
        for id in applied.iter().filter_map(|applied| applied.unneeded_content) {
            match self.shared.storage.remove(&super::content::path(id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.shared.settings.alarm(&SpoolAlarm::NotRemoved { id, cause: Arc::new(error) });
                }
                _ => {}
            }
        }
    }

    /// What is done between batches: ready segments, sparse ones emptied, a snapshot now and then.
    pub(super) fn keep_house(&mut self) {
        if self.log.needs_segments() {
            self.prepare_segments();
        }
        self.publish_room();
        let (at, last) = self.snapshot;
        let interval = self.shared.settings.snapshot_octets.max(last.saturating_mul(20));
        if self.log.written_octets() - at >= interval {
            self.start_snapshot();
        }
    }

    pub(super) fn publish_room(&self) {
        self.shared.log_free_octets.store(self.log.free_octets().unwrap_or(NO_SPARE), Ordering::Relaxed);
    }

    /// Makes segments ready, emptying one first where that pays.
    pub(super) fn prepare_segments(&mut self) {
        if self.shared.is_read_only.load(Ordering::Acquire) {
            return;
        }
        let emptied = relocation::empty_one(self);
        let prepared = emptied.and_then(|()| self.log.prepare(&self.shared.index));
        let shrunk = prepared.and_then(|()| {
            let recyclable = lock(&self.shared.index).segments.recyclable_count();
            if recyclable > self.shared.settings.kept_segments { self.log.shrink(&self.shared.index) } else { Ok(()) }
        });
        if let Err(error) = shrunk {
            // Only a failure is remembered; a full disk may have room later.
            let _ = self.note(error);
        }
        self.publish_room();
    }

    /// The last thing before the spool is closed: a snapshot, so that the next start is quick.
    pub(super) fn finish(&mut self) {
        self.has_threads = false;
        // A snapshot that is being written must not meet the next owner of the directory.
        if let Some(thread) = self.snapshot_thread.take() {
            let _ = thread.join();
        }
        if !self.shared.is_read_only.load(Ordering::Acquire) {
            self.start_snapshot();
        }
    }

    /// Writes a snapshot, on a thread of its own where there are threads.
    pub(super) fn start_snapshot(&mut self) {
        if self.shared.is_snapshot_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let octets = snapshot::estimate(&lock(&self.shared.index));
        self.snapshot = (self.log.written_octets(), octets);
        let shared = self.shared.clone();
        let write = move || {
            if let Err(cause) = snapshot::write(&shared) {
                shared.settings.alarm(&SpoolAlarm::SnapshotFailed { cause: Arc::new(cause) });
            }
            shared.is_snapshot_running.store(false, Ordering::Release);
        };
        if !self.has_threads {
            write();
            return;
        }
        match std::thread::Builder::new().name("spool-snapshot".into()).spawn(write) {
            Ok(thread) => self.snapshot_thread = Some(thread),
            Err(_) => self.shared.is_snapshot_running.store(false, Ordering::Release),
        }
    }
}

impl Drop for Committer {
    /// Also where it panicked: nobody waits for somebody who has gone.
    fn drop(&mut self) {
        self.shared.inbox.abandon();
    }
}

/// What whoever waits is told, now that it is durable.
fn done(index: &mut Index, work: &Work, applied: &[Applied]) -> Done {
    match work {
        Work::Put { id, leases, .. } => Done::Yes(leases.iter().map(|site| index.lease(*id, site)).collect()),
        Work::Remove(_) => match applied.iter().find_map(|applied| applied.removed) {
            Some(waited) => Done::Removed(waited),
            None => Done::Absent,
        },
        Work::Record { lease, progress, .. } => {
            // The pair may have moved with its progress.
            let site = progress.as_ref().map_or(&lease.site, |progress| &progress.site);
            index.give_back(lease.id, site, lease.token);
            Done::Yes(Vec::new())
        }
        Work::Hold(..) | Work::Reschedule(..) => Done::Yes(Vec::new()),
    }
}

fn copy(error: &SpoolError) -> SpoolError {
    match error {
        SpoolError::Full(cause) => SpoolError::Full(cause.clone()),
        SpoolError::Io { action, source } => SpoolError::Io { action, source: source.clone() },
        _ => SpoolError::ReadOnly,
    }
}
