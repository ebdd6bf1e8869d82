//! Where messages are kept until every recipient has an outcome: the trait, and the backends behind it.

pub mod contract;
mod memory;
pub(crate) mod record;
pub(crate) mod segment;
#[cfg(feature = "simulation")]
pub mod stored_form;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::{Content, Priority, async_trait};
use thiserror::Error;

use crate::content::StoredContent;
use crate::envelope::{Envelope, SiteName};
use crate::id::QueueId;
use crate::progress::Progress;

pub use self::memory::MemorySpool;

/// Keeps messages: what it has taken survives `kill -9` and power loss.
///
/// Messages are named by [`QueueId`]; what is scheduled is the pair of a message and a site ([`Progress`]). Whoever
/// works on a pair holds a [`Lease`]; nobody else is given the pair until the lease is given back. A lease that was
/// lost (its message was removed, or its owner was taken for dead) cannot record anything: that is the fence.
///
/// Backends are tested by the contract test of this crate.
#[async_trait]
pub trait Spool: Send + Sync + 'static {
    /// Takes a message. When it returns, the message is on stable storage. The leases are those that were asked for, in
    /// the order of [`NewMessage::progress`]. No id is ever used twice, not even when its message is long gone
    /// ([`QueueIds`](crate::QueueIds) keeps to that): what removed the first could be taken for what removes the second.
    ///
    /// # Errors
    /// [`SpoolError`]: the client must be told 4yz. The message may be there after a restart all the same, whole.
    async fn put(&self, message: NewMessage) -> Result<Vec<Lease>, SpoolError>;

    /// Leases what is due: the pairs whose next attempt is not after `now`, of no site and in all not more than `room` says.
    /// Where there is not room for all, the sites that waited longest come first. Of one site the pairs of the highest
    /// priority come first (RFC 6710 §5.1), the earliest of these first; but every fourth place, counted while anything waits there, goes to the earliest of all that are due there, so that
    /// nobody waits for ever.
    ///
    /// # Errors
    /// [`SpoolError`].
    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError>;

    /// The envelope and the progress of a leased pair.
    ///
    /// # Errors
    /// [`SpoolError::LeaseLost`]; [`SpoolError::Damaged`] where the record cannot be read: it is set aside then.
    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError>;

    /// The content of a message.
    ///
    /// # Errors
    /// [`SpoolError::Absent`], [`SpoolError::Damaged`].
    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError>;

    /// Records what came of an attempt, together with the messages that it caused, all or nothing, and gives the lease
    /// back. When it returns, it is on stable storage. The message is forgotten with the last of its pairs. A message
    /// that it caused and that is there already stays as it is.
    ///
    /// # Errors
    /// [`SpoolError`]: nothing has changed and the lease is still held, so that it can be tried again.
    /// [`SpoolError::LeaseLost`] where somebody else has decided in the meantime. [`SpoolError::Invalid`] where the pair
    /// would move to a site at which the message has another pair.
    async fn record(&self, lease: Lease, change: Change) -> Result<(), SpoolError>;

    /// Gives a lease back unused; the pair is due when it was.
    async fn give_back(&self, lease: Lease);

    /// Forgets a message, wherever it stands: how many of its recipients had no final outcome. `None` where there is no
    /// such message.
    ///
    /// # Errors
    /// [`SpoolError`].
    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError>;

    /// Holds a message (it is never due, nor does it expire), or lets it go on. Who works on it may finish.
    /// `false` where there is none.
    ///
    /// # Errors
    /// [`SpoolError`].
    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError>;

    /// Makes a message due at that time at all its sites. `false` where there is none.
    ///
    /// # Errors
    /// [`SpoolError`].
    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError>;

    /// The messages after that one in the order of arrival, the oldest first, at most `limit`. It costs as much as what
    /// it returns.
    ///
    /// # Errors
    /// [`SpoolError`].
    async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError>;

    /// One message with all its pairs.
    ///
    /// # Errors
    /// [`SpoolError`].
    async fn show(&self, id: QueueId) -> Result<Option<Shown>, SpoolError>;

    /// How much there is. Costs nothing.
    fn totals(&self) -> SpoolTotals;

    /// Whether a message of that size can be taken now (SECURITY.md D-32). Costs nothing.
    fn has_room(&self, octets: Option<u64>) -> bool;

    /// Where content may lie while it arrives, so that it can be renamed into the spool.
    fn content_dir(&self) -> Option<&Path> {
        None
    }
}

/// A message to be taken.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Its content.
    pub content: NewContent,
    /// One for each site.
    pub progress: Vec<NewProgress>,
}

impl NewMessage {
    /// Checks what every backend relies on: there are recipients, and each is waiting at exactly one site.
    ///
    /// # Errors
    /// [`SpoolError::Invalid`].
    pub fn check(&self) -> Result<(), SpoolError> {
        let recipients = self.envelope.recipients.len();
        if recipients == 0 {
            return Err(SpoolError::Invalid("it has no recipient"));
        }
        let mut waiting = vec![false; recipients];
        for (place, new) in self.progress.iter().enumerate() {
            new.progress.check(recipients)?;
            if self.progress[..place].iter().any(|earlier| earlier.progress.site == new.progress.site) {
                return Err(SpoolError::Invalid("a site is named twice"));
            }
            for recipient in &new.progress.waiting {
                if std::mem::replace(&mut waiting[recipient.index as usize], true) {
                    return Err(SpoolError::Invalid("a recipient waits at two sites"));
                }
            }
        }
        if waiting.contains(&false) {
            return Err(SpoolError::Invalid("a recipient waits nowhere"));
        }
        Ok(())
    }
}

impl Progress {
    /// Checks what every backend relies on: somebody is waiting, each is one of so many recipients, and they ascend.
    ///
    /// # Errors
    /// [`SpoolError::Invalid`].
    pub fn check(&self, recipients: usize) -> Result<(), SpoolError> {
        let indexes = || self.waiting.iter().map(|recipient| recipient.index as usize);
        if self.waiting.is_empty() {
            return Err(SpoolError::Invalid("nobody waits at a site"));
        }
        if indexes().any(|index| index >= recipients) || !indexes().is_sorted_by(|a, b| a < b) {
            return Err(SpoolError::Invalid("who waits is not in the envelope, or not in order"));
        }
        Ok(())
    }
}

/// The octets of a message: `head`, then `content` without its first octets.
#[derive(Debug, Clone)]
pub struct NewContent {
    /// What is written in front.
    pub head: Bytes,
    /// The content.
    pub content: Content,
    /// How many octets of the content are left out because they are in the head.
    pub skipped_octets: u64,
}

/// The first attempt at one site.
#[derive(Debug, Clone)]
pub struct NewProgress {
    /// What is to be done.
    pub progress: Progress,
    /// Whether the caller wants to work on it at once.
    pub lease: bool,
}

/// The right to work on a pair of message and site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The message.
    pub id: QueueId,
    /// The site.
    pub site: SiteName,
    /// That of the message.
    pub priority: Priority,
    /// The fencing token: a later lease of the same pair has a higher one.
    pub token: u64,
}

/// How many pairs may be leased.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Of all sites together.
    pub total: usize,
    /// Of a site that is not named below.
    pub others: usize,
    /// Of these.
    pub sites: HashMap<SiteName, usize>,
}

impl Room {
    /// So many in all, wherever they are.
    pub fn anywhere(total: usize) -> Self {
        Self { total, others: total, sites: HashMap::new() }
    }

    /// Of that site.
    pub fn of(&self, site: &SiteName) -> usize {
        self.sites.get(site).copied().unwrap_or(self.others)
    }
}

/// What is due.
#[derive(Debug, Default)]
pub struct Due {
    /// Leased to the caller.
    pub leases: Vec<Lease>,
    /// When more will be due at a site that has room left; `None` where nothing waits there. Means nothing where all the
    /// room together was used.
    pub next: Option<SystemTime>,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub struct Change {
    /// What remains to be done; `None` where every recipient of the pair has its final outcome. The site may be another
    /// than before: the pair moves there.
    pub progress: Option<Progress>,
    /// Messages that this outcome causes: notifications.
    pub caused: Vec<NewMessage>,
}

/// A message in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: QueueId,
    /// Its size in octets: head and content.
    pub octets: u64,
    /// Whether it is held.
    pub held: bool,
    /// Its pairs.
    pub pairs: Vec<ListedPair>,
}

/// A pair in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPair {
    /// The site.
    pub site: SiteName,
    /// When the next attempt is due.
    pub next_attempt: SystemTime,
    /// How many attempts there were.
    pub attempts: u32,
    /// Whether somebody works on it.
    pub leased: bool,
}

/// A message with everything that is known of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What the list says.
    pub listed: Listed,
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// What remains to be done, for each pair.
    pub progress: Vec<Progress>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolTotals {
    /// Messages.
    pub messages: u64,
    /// Pairs of a message and a site.
    pub pairs: u64,
    /// Recipients without a final outcome: what "queued" means where messages are accounted for (STANDARDS.md, after C10).
    pub recipients: u64,
    /// Messages that are held.
    pub held: u64,
}

/// The store failed; becomes `451 4.3.0` or `452 4.3.1`, and `250` is never sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// There is no room.
    #[error("no room in the spool")]
    Full(#[source] Option<Arc<io::Error>>),
    /// A sync failed earlier, so nothing is taken and nothing is recorded until a restart (STANDARDS.md C7).
    #[error("the spool is read-only since a write failed")]
    ReadOnly,
    /// The system gave an error.
    #[error("the spool cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A record cannot be read.
    #[error("{id} is damaged in the spool")]
    Damaged {
        /// The message.
        id: QueueId,
    },
    /// There is no such message.
    #[error("{id} is not in the spool")]
    Absent {
        /// The message.
        id: QueueId,
    },
    /// The lease is no longer valid.
    #[error("the lease of {id} was lost")]
    LeaseLost {
        /// The message.
        id: QueueId,
    },
    /// A message that no spool can keep: no recipient, or an envelope beyond the limits of the record.
    #[error("the message cannot be kept: {0}")]
    Invalid(&'static str),
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

impl SpoolError {
    /// Whether the same may succeed later. The unknown is transient.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Damaged { .. } | Self::Absent { .. } | Self::LeaseLost { .. } | Self::Invalid(_))
    }
}
