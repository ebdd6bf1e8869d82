//! How a message leaves: the trait, and ready-made transports.

mod discard;
mod maildir;
mod smtp;
mod source_pool;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_core::{Body, DeliverBy, ReversePath, async_trait};
use tokio::time::Instant;

use crate::content::StoredContent;
use crate::envelope::{Envelope, Origin, QueuedRecipient, SiteName};
use crate::id::QueueId;
use crate::outcome::Outcome;

pub use self::discard::Discard;
pub use self::maildir::MaildirTransport;
pub use self::smtp::{SmtpSettings, SmtpTransport};
pub use self::source_pool::SourcePool;

/// Makes an attempt to deliver: to a next hop, to mailboxes of this host, to a program.
///
/// Closures of the form `|attempt: Attempt| async move { … }` that return the outcomes are transports:
///
/// ```
/// use smtp_queue::{Attempt, Outcome, Transport};
///
/// let transport = |attempt: Attempt| async move {
///     attempt.recipients().map(|recipient| Outcome::delivered(format!("Kept for {}", recipient.mailbox))).collect()
/// };
/// # fn is_transport(_: impl Transport) {}
/// # is_transport(transport);
/// ```
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Makes the attempt: one outcome for each recipient, in their order. What is missing counts as deferred, and so does
    /// a panic, or an attempt that takes longer than
    /// [`QueueSettings::attempt_timeout`](crate::QueueSettings::attempt_timeout).
    ///
    /// [`Outcome::is_success`] means that somebody else keeps the message from now on. Which of the three it is decides
    /// whether a sender who asked for it (`Attempt::recipients`, RFC 3461) is told: [`Outcome::PassedOn`] is for a
    /// transport that has handed [`QueuedRecipient::dsn`] and [`Envelope::dsn`] to its next hop. It may be dropped at any await when
    /// the queue is shut down and its grace has passed; the attempt is made again then.
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome>;
}

#[async_trait]
impl<F, Fut> Transport for F
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<Outcome>> + Send,
{
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        self(attempt).await
    }
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for Arc<T> {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        (**self).deliver(attempt).await
    }
}

/// One message on its way to one site: what a [`Transport`] needs to know. Cheap to copy.
#[derive(Clone)]
pub struct Attempt {
    envelope: Arc<Envelope>,
    /// Their places in the envelope. All leave under one reverse-path.
    recipients: Arc<[u32]>,
    content: StoredContent,
    site: SiteName,
    number: u32,
    /// What time it was, and when that was.
    time: (SystemTime, Instant),
    /// The same by the clock of the host.
    wall: SystemTime,
}

impl Attempt {
    /// An attempt for some recipients of an envelope, by their places in it: at least one, and all leave under the same
    /// reverse-path. Places that the envelope does not have are left out. `number` counts from 1.
    pub fn new(
        envelope: Arc<Envelope>,
        recipients: impl IntoIterator<Item = u32>,
        content: StoredContent,
        site: SiteName,
        number: u32,
    ) -> Self {
        let exists = |index: &u32| envelope.recipients.len() > *index as usize;
        let recipients = recipients.into_iter().filter(exists).collect();
        let now = SystemTime::now();
        Self { envelope, recipients, content, site, number, time: (now, Instant::now()), wall: now }
    }

    /// The same, where it is that time now: the clock of the queue, and not that of the system, says what is left of the time
    /// that a message may take.
    #[must_use]
    pub fn with_time(self, now: SystemTime) -> Self {
        Self { time: (now, Instant::now()), wall: now, ..self }
    }

    /// The same, where the clock of the host says something else than the one that never jumps.
    pub(crate) fn with_wall(self, wall: SystemTime) -> Self {
        Self { wall, ..self }
    }

    /// When it was begun, by the clock of the host.
    pub(crate) fn wall(&self) -> SystemTime {
        self.wall
    }

    /// The message.
    pub fn id(&self) -> QueueId {
        self.envelope.id
    }

    /// What `MAIL` says: the same in every attempt (PRACTICES.md S32).
    pub fn reverse_path(&self) -> &ReversePath {
        let first = self.recipients().next();
        first.map_or(&self.envelope.reverse_path, |recipient| self.envelope.outgoing_of(recipient))
    }

    /// Who it is for: path, mailbox and what becomes of the copy.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = &QueuedRecipient> + Clone {
        self.recipients.iter().map(|&index| &self.envelope.recipients[index as usize])
    }

    /// What is passed on.
    pub fn content(&self) -> &StoredContent {
        &self.content
    }

    /// `BODY=` as it was received.
    pub fn body(&self) -> Option<Body> {
        self.envelope.body
    }

    /// Whether the message came with `REQUIRETLS` (RFC 8689 §4.2.1): it may go into mailboxes of this host, and over TLS to a
    /// server that is verified and offers `REQUIRETLS`. Anywhere else it fails, with `5.7.10` where there is no such TLS and
    /// `5.7.30` where it is not offered; a transport that never leaves the host need not ask.
    pub fn requires_tls(&self) -> bool {
        self.envelope.requires_tls
    }

    /// Whether the message came with `TLS-Required: No` (RFC 8689 §4.2.2): what a policy of the recipient's domain demands is
    /// no reason to keep it waiting. TLS is still used where it can be had.
    pub fn tls_is_optional(&self) -> bool {
        self.envelope.tls_is_optional
    }

    /// How long the message may take from this moment on, if its sender said so (RFC 2852 §4.1.4). With
    /// [`ByMode::Return`](smtp_core::ByMode::Return) it may go into mailboxes of this host while there is time left, and to servers that
    /// offer `DELIVERBY` and are told this; to any other it fails. With [`ByMode::Notify`](smtp_core::ByMode::Notify) it may go
    /// anywhere, and the outcome where that is not offered is [`Outcome::Relayed`].
    pub fn deliver_by(&self) -> Option<DeliverBy> {
        let by = self.envelope.deliver_by?;
        let now = self.now();
        let whole = |distance: Duration| i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
        let seconds = by.time.duration_since(now).map_or_else(|late| -whole(late.duration()), whole);
        let left = DeliverBy::new(seconds, by.mode);
        Some(if by.trace { left.with_trace() } else { left })
    }

    /// What time it is, as the queue says.
    pub(crate) fn now(&self) -> SystemTime {
        let (time, instant) = self.time;
        time.checked_add(instant.elapsed()).unwrap_or(time)
    }

    /// Where the message came from.
    pub fn origin(&self) -> &Origin {
        &self.envelope.origin
    }

    /// The whole envelope, the recipients of other sites included.
    pub fn envelope(&self) -> &Arc<Envelope> {
        &self.envelope
    }

    /// The site that it goes to.
    pub fn site(&self) -> &SiteName {
        &self.site
    }

    /// Which attempt it is for these recipients: 1 is the first.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("id", &self.id())
            .field("site", &self.site)
            .field("recipients", &self.recipients)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
