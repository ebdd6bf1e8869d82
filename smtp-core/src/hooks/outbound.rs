//! Under which reverse-path does it leave us, and with which signatures?

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::hooks::message::MessageReader;
use crate::message::content::Content;
use crate::message::header_field::HeaderField;
use crate::session::connection::Connection;
use crate::syntax::address::Mailbox;
use crate::syntax::path::{ForwardPath, ReversePath};

/// Decides, once for each message, what next hops will see of it: SRS, BATV and VERP live here, DKIM and ARC.
///
/// A queue asks before it writes its record, and keeps the answers: every attempt presents the same reverse-path, and the same
/// octets.
#[async_trait]
pub trait OutboundPolicy: Send + Sync {
    /// Sets the reverse-path of each recipient. It is asked for notifications of the queue as well.
    ///
    /// # Errors
    /// [`Transient`]: the answer is not known now. The client is told `451 4.3.0` and sends the message again.
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient>;

    /// The fields that go in front of a message, the first one on top: signatures (RFC 6376) and seals (RFC 8617). Without one of
    /// its own a policy signs nothing.
    ///
    /// A queue asks after [`OutboundPolicy::enqueue`], with what that has set, for its own notifications as well. Content is kept
    /// once for all recipients, so they all get the same fields, and nothing is put in front of these or changed behind them.
    /// Reading and signing block: neither may happen in the task that asks.
    ///
    /// # Errors
    /// [`Transient`]: it cannot be signed now. The client is told `451 4.3.0` and sends the message again.
    async fn sign(
        &self,
        message: &Outbound<'_>,
        recipients: &[OutboundRecipient],
        content: &OutboundContent,
    ) -> Result<Vec<HeaderField>, Transient> {
        let _ = (message, recipients, content);
        Ok(Vec::new())
    }
}

#[async_trait]
impl<P: OutboundPolicy + ?Sized> OutboundPolicy for Arc<P> {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        (**self).enqueue(message, recipients).await
    }

    async fn sign(
        &self,
        message: &Outbound<'_>,
        recipients: &[OutboundRecipient],
        content: &OutboundContent,
    ) -> Result<Vec<HeaderField>, Transient> {
        (**self).sign(message, recipients, content).await
    }
}

/// The octets of a message as they leave, but for the fields of [`OutboundPolicy::sign`]: what goes in front, then the content.
/// Cheap to copy.
#[derive(Clone)]
pub struct OutboundContent {
    head: Bytes,
    content: Content,
    skipped_octets: u64,
}

impl OutboundContent {
    /// The head, and behind it the content without its first octets: what [`Message::head`](crate::Message::head) gives.
    pub fn new(head: impl Into<Bytes>, content: Content, skipped_octets: u64) -> Self {
        Self { head: head.into(), content, skipped_octets }
    }

    /// What we put in front: at least our `Received` and what stands above it, where a client sent the message.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The content without what we put in front: as it arrived, but with the body that a policy wrote instead, where one did
    /// ([`PolicyContext::replace_body`](crate::PolicyContext::replace_body)).
    pub fn arrived(&self) -> &Content {
        &self.content
    }

    /// Reads the message as it leaves. Blocks where the content is in a file.
    ///
    /// # Errors
    /// What opening or reading the file of large content gave.
    pub fn reader(&self) -> io::Result<MessageReader> {
        MessageReader::new(self.head.clone(), &self.content, self.skipped_octets)
    }
}

impl fmt::Debug for OutboundContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundContent").field("content", &self.content).finish_non_exhaustive()
    }
}

/// A message that is about to be queued.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    reverse_path: &'a ReversePath,
    connection: Option<&'a Connection>,
}

impl<'a> Outbound<'a> {
    /// A message of a client.
    pub fn received(reverse_path: &'a ReversePath, connection: &'a Connection) -> Self {
        Self { reverse_path, connection: Some(connection) }
    }

    /// A message that the queue made itself: a notification.
    pub fn generated(reverse_path: &'a ReversePath) -> Self {
        Self { reverse_path, connection: None }
    }

    /// The reverse-path as it was received.
    pub fn reverse_path(&self) -> &'a ReversePath {
        self.reverse_path
    }

    /// The client it came from; `None` for what the queue made itself.
    pub fn connection(&self) -> Option<&'a Connection> {
        self.connection
    }
}

/// A recipient of a message that is about to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRecipient {
    mailbox: Mailbox,
    path: ForwardPath,
    reverse_path: ReversePath,
}

impl OutboundRecipient {
    /// A recipient to whom the message leaves under that reverse-path.
    pub fn new(mailbox: Mailbox, reverse_path: ReversePath) -> Self {
        let path = ForwardPath::Mailbox(mailbox.clone());
        Self { mailbox, path, reverse_path }
    }

    /// With what the client said in `RCPT`, where that is another mailbox: an alias.
    #[must_use]
    pub fn named(self, path: ForwardPath) -> Self {
        Self { path, ..self }
    }

    /// The argument of `RCPT` as it was received.
    pub fn path(&self) -> &ForwardPath {
        &self.path
    }

    /// Where the mail goes.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// What `MAIL` will say when it leaves.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// Sets what `MAIL` will say when it leaves.
    pub fn set_reverse_path(&mut self, reverse_path: ReversePath) {
        self.reverse_path = reverse_path;
    }
}

/// Not now: something that an answer needs is not known. The same question may be answered later.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct Transient(Box<dyn std::error::Error + Send + Sync>);

impl Transient {
    /// From the cause, which goes to the log and not to the client.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}
