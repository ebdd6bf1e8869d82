//! The disk: one that forgets nothing, or the embedded spool over a storage that loses power.
//!
//! The committer of the embedded spool runs in the future that is the life itself, and never as a task. So when power
//! fails between two of its operations, nobody has heard of what came after.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smtp_queue::{MemorySpool, PowerLoss, SegmentSettings, SegmentSpool, SimStorage, Spool, small_spool};
use tokio::sync::Notify;

/// What outlives a process.
#[derive(Clone)]
pub(crate) enum Disk {
    /// A spool in memory: a crash ends the leases.
    Memory(Arc<MemorySpool>),
    /// What the embedded spool has written.
    Segments {
        /// Where it has written it.
        storage: SimStorage,
        settings: SegmentSettings,
    },
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        if seed.is_multiple_of(2) {
            Self::Memory(Arc::new(MemorySpool::new()))
        } else {
            Self::Segments { storage: SimStorage::new(), settings: small_spool(seed) }
        }
    }

    /// Starts a process. What is damaged is an error: no fault is planted in the storage.
    pub(crate) fn open(&self) -> Result<Opened, String> {
        let (spool, segments): (Arc<dyn Spool>, _) = match self {
            Self::Memory(memory) => {
                memory.reopen();
                (memory.clone(), None)
            }
            Self::Segments { storage, settings } => {
                let opened = SegmentSpool::open_manual(Arc::new(storage.clone()), settings.clone());
                let (spool, report) = opened.map_err(|error| format!("the spool does not open: {error:?}"))?;
                if !report.damage.is_empty() {
                    return Err(format!("the spool is damaged: {:?}", report.damage));
                }
                let spool = Arc::new(spool);
                (spool.clone(), Some((spool, storage.clone())))
            }
        };
        Ok(Opened { spool, segments, work: Arc::new(Notify::new()), image: Arc::default() })
    }

    /// Ends a process. `image` is what a power failure in the middle of an operation left.
    pub(crate) fn crash(&mut self, image: Option<SimStorage>, rng: &mut fastrand::Rng) {
        let Self::Segments { storage, .. } = self else { return };
        *storage = match image {
            Some(image) => image,
            None if rng.bool() => storage.kill(),
            None => storage.crash(PowerLoss::Journaled(rng.u64(..))),
        };
    }
}

/// A disk in use.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) spool: Arc<dyn Spool>,
    segments: Option<(Arc<SegmentSpool>, SimStorage)>,
    /// Something was asked of the spool.
    pub(crate) work: Arc<Notify>,
    image: Arc<Mutex<Option<SimStorage>>>,
}

impl Opened {
    /// Writes what is asked of the spool. Returns when power fails in the middle of that: at the `fatal`th time.
    pub(crate) async fn write(&self, rng: &mut fastrand::Rng, mut fatal: u64) {
        let Some((spool, storage)) = &self.segments else { return std::future::pending().await };
        loop {
            if !spool.has_work() {
                self.work.notified().await;
                tokio::time::sleep(Duration::from_millis(rng.u64(..30))).await;
                continue;
            }
            fatal = fatal.saturating_sub(1);
            if fatal > 0 {
                spool.commit_step();
                // Others run before the next turn.
                tokio::task::yield_now().await;
                continue;
            }
            storage.keep_crash_points();
            spool.commit_step();
            let mut points = storage.take_crash_points();
            if points.is_empty() {
                points.push(storage.crash_point());
            }
            let point = points.swap_remove(rng.usize(..points.len()));
            let image = point.crash(PowerLoss::Journaled(rng.u64(..)));
            *self.image.lock().unwrap_or_else(PoisonError::into_inner) = Some(image);
            return;
        }
    }

    /// What a power failure left, if there was one.
    pub(crate) fn take_image(&self) -> Option<SimStorage> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for an operation, and says that there is something to write as soon as it was asked.
    pub(crate) async fn asked<T>(work: &Notify, operation: impl Future<Output = T>) -> T {
        let mut operation = pin!(operation);
        let mut is_asked = false;
        std::future::poll_fn(|cx| {
            let polled = operation.as_mut().poll(cx);
            if !std::mem::replace(&mut is_asked, true) {
                work.notify_one();
            }
            polled
        })
        .await
    }
}
