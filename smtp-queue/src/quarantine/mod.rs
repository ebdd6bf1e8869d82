//! Mail that a policy set aside, kept apart from mail that is on its way: a spool of its own, in which nothing is due
//! before it is to be forgotten.
//!
//! A copy is on stable storage here before its recipient counts as quarantined, and out of here only when it was removed,
//! has expired, or is on stable storage in the queue again. Messages are named by [`QueueId`] and lie as records of the
//! spool, so no name that came from outside becomes the name of a file (SECURITY.md D-13).
//!
//! [`keeping`] takes what the queue brings; what the queue does with it later (release, expiry, and what a crash left half
//! done) is in `queue::quarantined`.

mod keeping;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use smtp_core::{Disposition, Mailbox};
use tokio::sync::{Mutex, MutexGuard};

use crate::content::StoredContent;
use crate::envelope::Envelope;
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::{Lease, Listed, Shown, Spool, SpoolError};

/// The site of what is set aside. No host and no domain has such a name, and no route may.
pub(crate) const SITE: &str = "(quarantine)";
/// Messages that are read together when the contents are counted.
const PAGE: usize = 1000;

/// How much is set aside, and for how long. Start from [`QuarantineSettings::default`] and change single values.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QuarantineSettings {
    /// How long a message is kept: 30 days (PRACTICES.md S33). It is fixed for each when it comes.
    pub retention: Duration,
    /// The most messages: 100,000 (ours).
    pub messages_limit: u64,
    /// The most octets of their contents: 1 GiB (ours).
    pub octets_limit: u64,
}

impl Default for QuarantineSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { retention: 30 * DAY, messages_limit: 100_000, octets_limit: 1 << 30 }
    }
}

/// The place of what policies set aside (PRACTICES.md S33), for a [`QueueBuilder::quarantine`](crate::QueueBuilder::quarantine).
/// Cheap to copy; all copies are one place.
///
/// The queue brings each copy with [`Disposition::Quarantine`] here, wherever its recipient lives, and takes nothing in
/// while there is no room: a client is told `452 4.3.1` and keeps its message. What is here leads to no notification, not
/// even when it was released (PRACTICES.md S19).
///
/// ```
/// use std::sync::Arc;
/// use smtp_queue::{Discard, MemorySpool, Quarantine, QuarantineSettings, Queue, Route, Routing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let quarantine = Quarantine::open(Arc::new(MemorySpool::new()), QuarantineSettings::default()).await?;
/// let routing = Routing::new(Route::new("nowhere", Discard));
/// let queue = Queue::builder(Arc::new(MemorySpool::new()), "mx.example.org".parse()?, routing)
///     .quarantine(quarantine.clone())
///     .start();
/// for entry in quarantine.list(None, 20).await? {
///     println!("{} until {:?}", entry.id, entry.expires);
///     queue.release_quarantined(entry.id).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Quarantine {
    inner: Arc<Inner>,
}

struct Inner {
    spool: Arc<dyn Spool>,
    settings: QuarantineSettings,
    messages: AtomicU64,
    octets: AtomicU64,
    /// Messages that are in the queue again, but not yet out of here: nobody may deliver them before. Whoever takes
    /// something out of the quarantine holds this.
    leaving: Mutex<Leaving>,
    /// Content in a file is read into memory here: one at a time.
    reading: Mutex<()>,
}

/// By what they are called here, with the leases that keep the queue from delivering them.
pub(crate) type Leaving = HashMap<QueueId, Vec<Lease>>;

/// A message that is set aside, in a list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QuarantinedMessage {
    /// Its name, which is that of the queue.
    pub id: QueueId,
    /// Its size in octets.
    pub octets: u64,
    /// When it was set aside.
    pub since: SystemTime,
    /// When it is forgotten.
    pub expires: SystemTime,
    /// Whether a release of it has begun and did not end.
    pub is_leaving: bool,
    /// Its envelope: all recipients whose copy is here, and no other.
    pub envelope: Arc<Envelope>,
}

impl QuarantinedMessage {
    /// For whom it was, and why it is here.
    pub fn reasons(&self) -> impl Iterator<Item = (&Mailbox, &str)> {
        self.envelope.recipients.iter().map(|recipient| match &recipient.disposition {
            Disposition::Quarantine(reason) => (&recipient.mailbox, reason.as_str()),
            _ => (&recipient.mailbox, ""),
        })
    }

    fn of(shown: Shown) -> Self {
        let Shown { listed: Listed { id, octets, held, .. }, envelope, progress } = shown;
        let times = |progress: &Progress| (progress.last_attempt.unwrap_or(envelope.arrival), progress.next_attempt);
        // Each has one pair.
        let (since, expires) = progress.first().map_or((envelope.arrival, envelope.arrival), times);
        Self { id, octets, since, expires, is_leaving: held, envelope }
    }
}

/// How much is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QuarantineTotals {
    /// Messages.
    pub messages: u64,
    /// Octets of their contents.
    pub octets: u64,
}

impl Quarantine {
    /// Opens the quarantine that is kept in that spool, which must be used for nothing else. Looks through what is there
    /// once.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn open(spool: Arc<dyn Spool>, settings: QuarantineSettings) -> Result<Self, SpoolError> {
        let (mut messages, mut octets, mut after) = (0, 0, None);
        loop {
            let page = spool.list(after, PAGE).await?;
            messages += page.len() as u64;
            octets += page.iter().map(|listed| listed.octets).sum::<u64>();
            after = page.last().map(|last| last.id);
            if page.len() < PAGE {
                break;
            }
        }
        let (messages, octets) = (AtomicU64::new(messages), AtomicU64::new(octets));
        let (leaving, reading) = (Mutex::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { spool, settings, messages, octets, leaving, reading }) })
    }

    /// The messages after that one in the order of arrival, the oldest first, at most `limit`. What cannot be read is
    /// left out.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<QuarantinedMessage>, SpoolError> {
        let mut messages = Vec::new();
        for listed in self.inner.spool.list(after, limit).await? {
            match self.show(listed.id).await {
                Ok(shown) => messages.extend(shown),
                Err(SpoolError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(messages)
    }

    /// One message; `None` where there is none of that name.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn show(&self, id: QueueId) -> Result<Option<QuarantinedMessage>, SpoolError> {
        Ok(self.inner.spool.show(id).await?.map(QuarantinedMessage::of))
    }

    /// The content of a message.
    ///
    /// # Errors
    /// [`SpoolError::Absent`], [`SpoolError::Damaged`].
    pub async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        self.inner.spool.content(id).await
    }

    /// How much is set aside. Costs nothing.
    pub fn totals(&self) -> QuarantineTotals {
        let (messages, octets) = (&self.inner.messages, &self.inner.octets);
        QuarantineTotals { messages: messages.load(Ordering::Relaxed), octets: octets.load(Ordering::Relaxed) }
    }

    /// Whether a message of that size can be set aside now. Costs nothing.
    pub fn has_room(&self, octets: u64) -> bool {
        let (totals, settings) = (self.totals(), &self.inner.settings);
        totals.messages < settings.messages_limit
            && totals.octets.saturating_add(octets) <= settings.octets_limit
            && self.inner.spool.has_room(Some(octets))
    }

    pub(crate) fn spool(&self) -> &dyn Spool {
        &*self.inner.spool
    }

    /// Who holds it may take messages out.
    pub(crate) async fn leaving(&self) -> MutexGuard<'_, Leaving> {
        self.inner.leaving.lock().await
    }

    /// Forgets a message: how many recipients it had here.
    pub(crate) async fn forget(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        // What cannot be read can still be removed.
        let before = id.as_u128().checked_sub(1).map(QueueId::from_u128);
        let listed = self.inner.spool.list(before, 1).await?;
        let octets = listed.first().filter(|listed| listed.id == id).map_or(0, |listed| listed.octets);
        let removed = self.inner.spool.remove(id).await?;
        if removed.is_some() {
            self.gone(octets);
        }
        Ok(removed)
    }

    fn gone(&self, octets: u64) {
        let less = |count: &AtomicU64, by: u64| {
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(by)));
        };
        less(&self.inner.messages, 1);
        less(&self.inner.octets, octets);
    }
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}
