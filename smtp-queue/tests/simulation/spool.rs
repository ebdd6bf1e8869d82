//! A spool that takes its time, and spools with a planted fault.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use smtp_core::async_trait;
use smtp_queue::{
    Change, Due, Envelope, Lease, Listed, NewMessage, Progress, QueueId, Room, Shown, Spool, SpoolError, SpoolTotals,
    StoredContent,
};
use tokio::sync::Notify;

use crate::disk::Opened;

/// What can be wrong with a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It says that it keeps a message before it does.
    AcknowledgesEarly,
    /// It says that the end of a pair is recorded and keeps the pair.
    ForgetsRemoval,
    /// It keeps those waiting who have their outcome.
    LosesOutcome,
    /// It does not keep what an outcome causes.
    LosesNotification,
    /// It gives one pair to two.
    LeasesTwice,
    /// It confuses the recipients of a message.
    ConfusesRecipients,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] = [
        Self::AcknowledgesEarly,
        Self::ForgetsRemoval,
        Self::LosesOutcome,
        Self::LosesNotification,
        Self::LeasesTwice,
        Self::ConfusesRecipients,
    ];
}

/// A spool whose operations take time before and behind their effect, so that a crash can come between.
pub(crate) struct SlowSpool {
    inner: Arc<dyn Spool>,
    work: Arc<Notify>,
    rng: Mutex<fastrand::Rng>,
    fault: Option<Fault>,
}

impl SlowSpool {
    pub(crate) fn new(disk: &Opened, seed: u64, fault: Option<Fault>) -> Self {
        let (inner, work) = (disk.spool.clone(), disk.work.clone());
        Self { inner, work, rng: Mutex::new(fastrand::Rng::with_seed(seed ^ 0xd15c)), fault }
    }

    fn random(&self, below: u64) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(..below)
    }

    async fn asked<T>(&self, operation: impl Future<Output = T>) -> T {
        Opened::asked(&self.work, operation).await
    }

    async fn delay(&self) {
        let most = [1, 1, 20, 200][usize::try_from(self.random(4)).expect("below 4")];
        let delay = self.random(most);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }

    /// Whether the planted fault is that one, and it is its turn.
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault) && self.random(3) == 0
    }
}

#[async_trait]
impl Spool for SlowSpool {
    async fn put(&self, mut message: NewMessage) -> Result<Vec<Lease>, SpoolError> {
        self.delay().await;
        if self.has(Fault::AcknowledgesEarly) {
            for new in &mut message.progress {
                new.lease = false;
            }
            let (inner, work) = (self.inner.clone(), self.work.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Opened::asked(&work, inner.put(message)).await.map(drop)
            });
            return Ok(Vec::new());
        }
        let leases = self.asked(self.inner.put(message)).await?;
        self.delay().await;
        Ok(leases)
    }

    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError> {
        let mut due = self.inner.due(now, room).await?;
        if self.has(Fault::LeasesTwice) {
            due.leases.extend(due.leases.first().cloned());
        }
        self.delay().await;
        Ok(due)
    }

    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        self.delay().await;
        self.inner.load(lease).await
    }

    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        self.delay().await;
        self.inner.content(id).await
    }

    async fn record(&self, lease: Lease, mut change: Change) -> Result<(), SpoolError> {
        self.delay().await;
        if change.progress.is_none() && self.has(Fault::ForgetsRemoval) {
            self.inner.give_back(lease).await;
            return Ok(());
        }
        if self.has(Fault::LosesOutcome)
            && let Ok((_, before)) = self.inner.load(&lease).await
            && let Some(progress) = &mut change.progress
        {
            progress.waiting = before.waiting;
        }
        if self.has(Fault::LosesNotification) {
            change.caused.clear();
        }
        if self.has(Fault::ConfusesRecipients)
            && let Ok((_, before)) = self.inner.load(&lease).await
            && let Some(progress) = &mut change.progress
            && let [only] = &mut progress.waiting[..]
            && let Some(other) = before.waiting.iter().find(|other| other.index != only.index)
        {
            only.index = other.index;
        }
        self.asked(self.inner.record(lease, change)).await?;
        self.delay().await;
        Ok(())
    }

    async fn give_back(&self, lease: Lease) {
        self.delay().await;
        self.inner.give_back(lease).await;
    }

    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        self.delay().await;
        self.asked(self.inner.remove(id)).await
    }

    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError> {
        self.delay().await;
        self.asked(self.inner.set_held(id, held)).await
    }

    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError> {
        self.delay().await;
        self.asked(self.inner.reschedule(id, next_attempt)).await
    }

    async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        self.inner.list(after, limit).await
    }

    async fn show(&self, id: QueueId) -> Result<Option<Shown>, SpoolError> {
        self.inner.show(id).await
    }

    fn totals(&self) -> SpoolTotals {
        self.inner.totals()
    }

    fn has_room(&self, octets: Option<u64>) -> bool {
        self.inner.has_room(octets)
    }
}
