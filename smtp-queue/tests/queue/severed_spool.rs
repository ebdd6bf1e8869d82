//! A spool in memory that ends in the middle of a series of writes, and some of whose messages are in trouble.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use smtp_core::async_trait;
use smtp_queue::{
    Change, Due, Envelope, Lease, Listed, MemorySpool, NewMessage, Progress, QueueId, Room, Shown, Spool, SpoolError,
    SpoolTotals, StoredContent,
};

/// Names of messages with which something is wrong.
pub(crate) type Names = Arc<Mutex<Vec<QueueId>>>;

/// What is wrong, shared by the spools of a test.
#[derive(Default, Clone)]
pub(crate) struct Trouble {
    /// Their records are damaged.
    pub(crate) damaged: Names,
    /// Nobody can say now what their records are.
    pub(crate) unreadable: Names,
    /// They cannot be removed.
    pub(crate) stuck: Names,
}

/// Ends with the process: after so many writes, of all that share the number, nothing is answered any more.
pub(crate) struct Severed {
    inner: Arc<MemorySpool>,
    left: Arc<AtomicI64>,
    /// The write at which it ends is done, and its answer lost.
    takes_effect: bool,
    trouble: Trouble,
}

impl Severed {
    pub(crate) fn over(inner: &Arc<MemorySpool>, left: &Arc<AtomicI64>) -> Self {
        Self { inner: inner.clone(), left: left.clone(), takes_effect: false, trouble: Trouble::default() }
    }

    pub(crate) fn answering_late(self, takes_effect: bool) -> Self {
        Self { takes_effect, ..self }
    }

    pub(crate) fn with(self, trouble: &Trouble) -> Self {
        Self { trouble: trouble.clone(), ..self }
    }

    fn error() -> SpoolError {
        SpoolError::Io { action: "go on", source: Arc::new(std::io::Error::other("the process has ended")) }
    }

    /// Whether the write is done, and whether its answer arrives.
    fn write(&self) -> (bool, bool) {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        (left > 0 || (left == 0 && self.takes_effect), left > 0)
    }

    async fn written<T>(&self, work: impl Future<Output = Result<T, SpoolError>>) -> Result<T, SpoolError> {
        let (is_done, is_answered) = self.write();
        let result = if is_done { work.await } else { Err(Self::error()) };
        if is_answered { result } else { Err(Self::error()) }
    }

    fn read(&self) -> Result<(), SpoolError> {
        if self.left.load(Ordering::SeqCst) >= 0 { Ok(()) } else { Err(Self::error()) }
    }
}

#[async_trait]
impl Spool for Severed {
    async fn put(&self, message: NewMessage) -> Result<Vec<Lease>, SpoolError> {
        self.written(self.inner.put(message)).await
    }

    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError> {
        self.read()?;
        self.inner.due(now, room).await
    }

    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        self.read()?;
        self.inner.load(lease).await
    }

    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        self.read()?;
        self.inner.content(id).await
    }

    async fn record(&self, lease: Lease, change: Change) -> Result<(), SpoolError> {
        self.written(self.inner.record(lease, change)).await
    }

    async fn give_back(&self, lease: Lease) {
        self.inner.give_back(lease).await;
    }

    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        if self.trouble.stuck.lock().expect("no panic").contains(&id) {
            return Err(Self::error());
        }
        self.written(self.inner.remove(id)).await
    }

    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError> {
        self.written(self.inner.set_held(id, held)).await
    }

    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError> {
        self.written(self.inner.reschedule(id, next_attempt)).await
    }

    async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        self.read()?;
        self.inner.list(after, limit).await
    }

    async fn show(&self, id: QueueId) -> Result<Option<Shown>, SpoolError> {
        self.read()?;
        if self.trouble.damaged.lock().expect("no panic").contains(&id) {
            return Err(SpoolError::Damaged { id });
        }
        if self.trouble.unreadable.lock().expect("no panic").contains(&id) {
            return Err(Self::error());
        }
        self.inner.show(id).await
    }

    fn totals(&self) -> SpoolTotals {
        self.inner.totals()
    }

    fn has_room(&self, octets: Option<u64>) -> bool {
        self.inner.has_room(octets)
    }
}
