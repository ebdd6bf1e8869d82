//! The embedded spool: an append-only log in segments, an index in memory, one committer.
//!
//! `DESIGN.md` of this crate has the format, and what each crash leaves behind.
//!
//! ```text
//! put          a new message becomes a record
//! committer    takes what waits, writes one batch, syncs once, answers everybody
//!   batch      what waits becomes records
//!   inbox      work and answers change hands; sync: what it is made of; turn: others may come into the same batch
//!   log        batches in segments; segments are made ready, used again, removed
//!   relocation what still matters in a sparse segment is appended again
//!   snapshot   the index on disk, so that a restart need not read the whole log
//! recovery     makes the index from what a directory holds
//!   scan       finds batches and records, also behind damage
//! index        what is there, where, and when it is due; segments: which can be used again
//!   effect     what a record means; format: what it looks like on disk
//! read         records, back from the log; content: files of large content
//! ```

mod batch;
mod committer;
mod content;
mod effect;
mod format;
mod inbox;
mod index;
mod log;
mod put;
mod read;
mod recovery;
mod relocation;
mod scan;
mod segments;
mod settings;
mod snapshot;
mod sync;
mod turn;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use smtp_core::async_trait;
use thiserror::Error;

use crate::content::StoredContent;
use crate::envelope::Envelope;
use crate::id::QueueId;
use crate::progress::Progress;
use crate::storage::Storage;

use super::record::{from_micros, micros};
use super::{Change, Due, Lease, Listed, ListedPair, NewMessage, Room, Shown, Spool, SpoolError, SpoolTotals};

use self::committer::{Committer, Done, NO_SPARE, Shared, Work};
use self::index::MessageFacts;
use self::log::Log;
use self::read::{Reader, would_wait};
use self::recovery::Access;

#[cfg(feature = "simulation")]
pub(super) use self::effect::rewrite_payload;
#[cfg(feature = "simulation")]
pub(super) use self::format::rewrite_header;
pub use self::recovery::{Damage, RecoveryReport};
#[cfg(feature = "simulation")]
pub use self::settings::Faults;
pub use self::settings::{AlarmFn, SegmentSettings, SpoolAlarm};

/// A spool in a directory, owned by one process.
///
/// ```
/// # async fn example() -> Result<(), smtp_queue::OpenError> {
/// use std::sync::Arc;
/// use smtp_queue::{FileStorage, SegmentSettings, SegmentSpool};
///
/// let storage = Arc::new(FileStorage::open("/var/spool/example")?);
/// let (spool, report) = SegmentSpool::open(storage, SegmentSettings::default())?;
/// println!("{} messages are waiting", report.messages);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SegmentSpool {
    shared: Arc<Shared>,
    driver: Driver,
    incoming: Option<PathBuf>,
    segment_octets: u64,
    reserve_octets: u64,
    space: Mutex<Option<(Instant, crate::storage::Space)>>,
}

/// Who calls the committer.
#[derive(Debug)]
enum Driver {
    Thread(Option<JoinHandle<()>>),
    Caller(Box<Mutex<Owned>>),
}

/// A committer, and the lock of the directory for as long as it may write.
#[derive(Debug)]
struct Owned {
    committer: Committer,
    _lock: LockGuard,
}

impl Owned {
    /// Writes whatever comes until nothing comes any more.
    fn run(mut self) {
        while self.committer.shared.wait() {
            self.committer.step();
        }
        self.committer.finish();
    }
}

struct LockGuard(#[expect(dead_code, reason = "it is held, not read")] Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockGuard")
    }
}

/// A spool cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{0}")]
    InUse(io::Error),
    /// The system gave an error.
    #[error("cannot open the spool")]
    Io(#[from] io::Error),
}

/// How old a look at the file system may be.
const SPACE_AGE: Duration = Duration::from_millis(100);

impl SegmentSpool {
    /// Opens a spool, and makes it where there is none. A thread of its own writes it until this is dropped.
    ///
    /// # Errors
    /// [`OpenError::InUse`], and what the system gave.
    pub fn open(storage: Arc<dyn Storage>, settings: SegmentSettings) -> Result<(Self, RecoveryReport), OpenError> {
        let (mut spool, owned, report) = Self::prepare(storage, settings, true)?;
        let run = move || owned.run();
        spool.driver = Driver::Thread(Some(std::thread::Builder::new().name("spool-committer".into()).spawn(run)?));
        Ok((spool, report))
    }

    /// Opens a spool that writes when the caller says so ([`SegmentSpool::commit_step`]): for simulations in one thread.
    ///
    /// # Errors
    /// As [`SegmentSpool::open`].
    pub fn open_manual(
        storage: Arc<dyn Storage>,
        settings: SegmentSettings,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let (mut spool, owned, report) = Self::prepare(storage, settings, false)?;
        spool.driver = Driver::Caller(Box::new(Mutex::new(owned)));
        Ok((spool, report))
    }

    fn prepare(
        storage: Arc<dyn Storage>,
        settings: SegmentSettings,
        has_threads: bool,
    ) -> Result<(Self, Owned, RecoveryReport), OpenError> {
        let lock = storage.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse(error),
            _ => OpenError::Io(error),
        })?;
        for directory in [log::LOG, content::CONTENT, content::INCOMING, snapshot::SNAPSHOTS] {
            storage.make_directory(directory.as_ref())?;
        }
        let space = storage.space()?;
        let sizes = (settings.segment_octets(&space), settings.reserve_octets(&space));
        let faults = settings.faults();
        let mut recovered = recovery::recover(&*storage, Access::Repair, false, faults.trusts_stale_payloads)?;
        if recovered.report.segments == 0 {
            recovered.resume.next_epoch = settings.first_epoch();
        }
        let mut log = Log::new(storage.clone(), sizes, recovered.resume, &recovered.index);
        if faults.skips_directory_sync {
            log.skip_directory_sync();
        }
        let mut index = recovered.index;
        if faults.drops_removals_early {
            index.segments.ignore_graves();
        }
        let incoming = storage.root().map(|root| root.join(content::INCOMING));
        let shared = Arc::new(Shared::new(storage, settings, index, has_threads));
        shared.last_batch.store(log.last_batch(), Ordering::Release);
        log.drop_short_spares(&shared.index).map_err(log::WriteError::into_io)?;
        let mut committer = Committer::new(shared.clone(), log, has_threads);
        committer.prepare_segments();
        let driver = Driver::Thread(None);
        let (segment_octets, reserve_octets) = sizes;
        let space = Mutex::new(None);
        let spool = Self { shared, driver, incoming, segment_octets, reserve_octets, space };
        Ok((spool, Owned { committer, _lock: LockGuard(lock) }, recovered.report))
    }

    /// Verifies a spool without changing it, every checksum included. Nobody may have it open.
    ///
    /// # Errors
    /// As [`SegmentSpool::open`].
    pub fn check(storage: &dyn Storage) -> Result<RecoveryReport, OpenError> {
        let _lock = storage.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse(error),
            _ => OpenError::Io(error),
        })?;
        Ok(recovery::recover(storage, Access::Look, true, false)?.report)
    }

    /// One turn of the committer: writes what waits as one batch, syncs it, and answers. `false` where nothing waited,
    /// or where a thread does this.
    pub fn commit_step(&self) -> bool {
        match &self.driver {
            Driver::Thread(_) => false,
            Driver::Caller(owned) => lock(owned).committer.step(),
        }
    }

    /// Whether there is something to be written.
    pub fn has_work(&self) -> bool {
        self.shared.has_work()
    }

    /// Writes a snapshot of the index now, where the caller is the one who writes.
    pub fn write_snapshot(&self) {
        if let Driver::Caller(owned) = &self.driver {
            lock(owned).committer.start_snapshot();
        }
    }

    /// Whether a failed write or sync has made it read-only (STANDARDS.md C7).
    pub fn is_read_only(&self) -> bool {
        self.shared.is_read_only.load(Ordering::Acquire)
    }

    /// Does what may wait for the disk where that harms nobody.
    async fn off_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        if matches!(self.driver, Driver::Caller(_)) {
            return work(&self.shared);
        }
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared)).await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Reads: at once where that needs no waiting for the disk, because a change of threads costs more than the read.
    async fn read<T: Send + 'static>(
        &self,
        look: impl Fn(Reader<'_>) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        match look(Reader::that_never_waits(&self.shared)) {
            Err(error) if would_wait(&error) => self.off_the_runtime(move |shared| look(Reader::new(shared))).await,
            found => found,
        }
    }

    fn listed(facts: MessageFacts) -> Listed {
        let pairs = facts.pairs.into_iter().map(|pair| ListedPair {
            site: pair.facts.site,
            next_attempt: from_micros(pair.facts.next_attempt),
            attempts: pair.facts.attempts,
            leased: pair.is_leased,
        });
        Listed { id: facts.id, octets: facts.octets, held: facts.held || facts.damaged, pairs: pairs.collect() }
    }

    fn space(&self) -> Option<crate::storage::Space> {
        let mut known = lock(&self.space);
        let is_fresh = |at: &Instant| matches!(self.driver, Driver::Thread(_)) && at.elapsed() < SPACE_AGE;
        if let Some((_, space)) = known.as_ref().filter(|(at, _)| is_fresh(at)) {
            return Some(*space);
        }
        let space = self.shared.storage.space().ok()?;
        *known = Some((Instant::now(), space));
        Some(space)
    }
}

impl Drop for SegmentSpool {
    fn drop(&mut self) {
        self.shared.close();
        if let Driver::Thread(thread) = &mut self.driver
            && let Some(thread) = thread.take()
        {
            // A committer that panicked has told everybody who waited that it is gone.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Spool for SegmentSpool {
    async fn put(&self, message: NewMessage) -> Result<Vec<Lease>, SpoolError> {
        let (id, priority) = (message.envelope.id, message.envelope.priority);
        let is_large = self.is_large(&message);
        let wanted = message.progress.iter().filter(|new| new.lease).map(|new| new.progress.site.clone());
        let leases: Vec<_> = wanted.collect();
        let record = self.ready(message).await?;
        let work = Work::Put { message: vec![record], id, leases: leases.clone() };
        match self.shared.submit(work).await {
            Ok(Done::Yes(tokens)) => {
                let tokens = leases.into_iter().zip(tokens);
                Ok(tokens.filter_map(|(site, token)| token.map(|token| Lease { id, site, priority, token })).collect())
            }
            Ok(Done::Absent | Done::Removed(_)) => Err(SpoolError::Absent { id }),
            Err(error) => {
                // After a failed sync the record may be on the disk all the same, and needs its content.
                if is_large && matches!(error, SpoolError::Full(_) | SpoolError::ReadOnly | SpoolError::Invalid(_)) {
                    self.discard(&[id]);
                }
                Err(error)
            }
        }
    }

    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError> {
        if self.is_read_only() {
            return Err(SpoolError::ReadOnly);
        }
        let (leases, next) = lock(&self.shared.index).due(micros(now), room.total, |site| room.of(site));
        Ok(Due { leases, next: next.map(from_micros) })
    }

    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        let Lease { id, site, token, .. } = lease.clone();
        if !lock(&self.shared.index).holds_lease(id, &site, token) {
            return Err(SpoolError::LeaseLost { id });
        }
        self.read(move |reader| reader.pair(id, &site)).await
    }

    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        self.read(move |reader| reader.content(id)).await
    }

    async fn record(&self, lease: Lease, change: Change) -> Result<(), SpoolError> {
        let id = lease.id;
        let mut caused = Vec::with_capacity(change.caused.len());
        let mut files = Vec::new();
        for message in change.caused {
            if self.is_large(&message) {
                files.push(message.envelope.id);
            }
            caused.push(self.ready(message).await?);
        }
        match self.shared.submit(Work::Record { lease, progress: change.progress, caused }).await {
            Ok(Done::Yes(_)) => Ok(()),
            Ok(Done::Absent | Done::Removed(_)) => Err(SpoolError::Absent { id }),
            Err(error) => {
                if !matches!(error, SpoolError::Io { .. } | SpoolError::Closed) {
                    self.discard(&files);
                }
                Err(error)
            }
        }
    }

    async fn give_back(&self, lease: Lease) {
        lock(&self.shared.index).give_back(lease.id, &lease.site, lease.token);
    }

    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        Ok(match self.shared.submit(Work::Remove(id)).await? {
            Done::Removed(waited) => Some(waited),
            Done::Yes(_) | Done::Absent => None,
        })
    }

    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError> {
        Ok(matches!(self.shared.submit(Work::Hold(id, held)).await?, Done::Yes(_)))
    }

    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError> {
        Ok(matches!(self.shared.submit(Work::Reschedule(id, micros(next_attempt))).await?, Done::Yes(_)))
    }

    async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        Ok(lock(&self.shared.index)
            .messages_after(after)
            .take(limit)
            .map(|message| Self::listed(message.facts()))
            .collect())
    }

    async fn show(&self, id: QueueId) -> Result<Option<Shown>, SpoolError> {
        let Some(facts) = lock(&self.shared.index).message(id) else { return Ok(None) };
        self.read(move |reader| {
            let envelope = reader.envelope(id)?;
            let progress = facts.pairs.iter().map(|pair| reader.progress(id, &pair.facts.site));
            let progress = progress.collect::<Result<_, _>>()?;
            Ok(Some(Shown { listed: Self::listed(facts.clone()), envelope, progress }))
        })
        .await
    }

    fn totals(&self) -> SpoolTotals {
        let index = lock(&self.shared.index);
        SpoolTotals {
            messages: index.message_count(),
            pairs: index.pair_count(),
            recipients: index.waiting_count(),
            held: index.held_count(),
        }
    }

    fn has_room(&self, octets: Option<u64>) -> bool {
        if self.is_read_only() {
            return false;
        }
        let log_free = self.shared.log_free_octets.load(Ordering::Relaxed);
        let Some(space) = self.space().filter(|_| log_free != NO_SPARE) else { return false };
        let octets = octets.unwrap_or(0);
        // RFC 1870 §6.1 asks for room; half as much again is for what else arrives meanwhile.
        let needed = octets.saturating_add(octets / 2);
        let is_large = octets > self.shared.settings.content_octets;
        let enough_files = space.free_inodes.is_none_or(|free| free >= self.shared.settings.reserve_inodes);
        let room = if is_large { space.free_octets } else { space.free_octets.saturating_add(log_free) };
        enough_files && room >= needed.max(self.reserve_octets)
    }

    fn content_dir(&self) -> Option<&Path> {
        self.incoming.as_deref()
    }
}

fn io_error(action: &'static str, cause: io::Error) -> SpoolError {
    SpoolError::Io { action, source: Arc::new(cause) }
}

/// Locks whatever a panic elsewhere left: every change under these locks is one that leaves things whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
