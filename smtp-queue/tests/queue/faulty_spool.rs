//! A spool whose operations fail when they are told to.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use smtp_core::async_trait;
use smtp_queue::{
    Change, Due, Envelope, Lease, Listed, MemorySpool, NewMessage, Progress, QueueId, Room, Shown, Spool, SpoolError,
    SpoolTotals, StoredContent,
};

/// An operation that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Due,
    Load,
    Content,
    Record,
    /// It says that there is no room; with what error does not matter.
    Room,
}

/// An operation, how often it fails yet, and with what.
type Fault = (Operation, u32, fn(QueueId) -> SpoolError);

/// Fails operations with an error, so many times.
#[derive(Clone)]
pub(crate) struct FaultySpool {
    pub(crate) inner: Arc<MemorySpool>,
    faults: Arc<Mutex<Vec<Fault>>>,
    seconds: Arc<Mutex<Vec<Fault>>>,
}

/// What a disk says that will be better later.
pub(crate) fn passing(_: QueueId) -> SpoolError {
    SpoolError::Io { action: "write", source: Arc::new(std::io::Error::other("a fault")) }
}

/// What a spool says after a sync has failed.
pub(crate) fn read_only(_: QueueId) -> SpoolError {
    SpoolError::ReadOnly
}

impl FaultySpool {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(MemorySpool::new()), faults: Arc::default(), seconds: Arc::default() }
    }

    /// The next `times` such operations fail.
    pub(crate) fn fail(&self, operation: Operation, times: u32, error: fn(QueueId) -> SpoolError) {
        self.faults.lock().expect("no panic").push((operation, times, error));
    }

    /// One such operation succeeds, and the next fails.
    pub(crate) fn fail_second(&self, operation: Operation, error: fn(QueueId) -> SpoolError) {
        self.seconds.lock().expect("no panic").push((operation, 2, error));
    }

    fn check(&self, operation: Operation, id: QueueId) -> Result<(), SpoolError> {
        if let Some((_, left, error)) =
            self.seconds.lock().expect("no panic").iter_mut().find(|fault| fault.0 == operation)
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Err(error(id));
            }
        }
        let mut faults = self.faults.lock().expect("no panic");
        let fault = faults.iter_mut().find(|(of, times, _)| *of == operation && *times > 0);
        let Some((_, times, error)) = fault else { return Ok(()) };
        *times -= 1;
        Err(error(id))
    }
}

#[async_trait]
impl Spool for FaultySpool {
    async fn put(&self, message: NewMessage) -> Result<Vec<Lease>, SpoolError> {
        self.check(Operation::Put, message.envelope.id)?;
        self.inner.put(message).await
    }

    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError> {
        self.check(Operation::Due, QueueId::from_u128(0))?;
        self.inner.due(now, room).await
    }

    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        self.check(Operation::Load, lease.id)?;
        self.inner.load(lease).await
    }

    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        self.check(Operation::Content, id)?;
        self.inner.content(id).await
    }

    async fn record(&self, lease: Lease, change: Change) -> Result<(), SpoolError> {
        self.check(Operation::Record, lease.id)?;
        self.inner.record(lease, change).await
    }

    async fn give_back(&self, lease: Lease) {
        self.inner.give_back(lease).await;
    }

    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        self.inner.remove(id).await
    }

    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError> {
        self.inner.set_held(id, held).await
    }

    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError> {
        self.inner.reschedule(id, next_attempt).await
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
        self.check(Operation::Room, QueueId::from_u128(0)).is_ok() && self.inner.has_room(octets)
    }

    fn content_dir(&self) -> Option<&Path> {
        self.inner.content_dir()
    }
}
