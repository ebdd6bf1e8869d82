//! Under which reverse-path does it leave us?

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::session::connection::Connection;
use crate::syntax::address::Mailbox;
use crate::syntax::path::ReversePath;

/// Decides, once for each message, what next hops will see of it: SRS, BATV and VERP live here.
///
/// A queue asks before it writes its record, and keeps the answer: every attempt presents the same reverse-path.
#[async_trait]
pub trait OutboundPolicy: Send + Sync {
    /// Sets the reverse-path of each recipient. It is asked for notifications of the queue as well.
    ///
    /// # Errors
    /// [`Transient`]: the answer is not known now. The client is told `451 4.3.0` and sends the message again.
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient>;
}

#[async_trait]
impl<P: OutboundPolicy + ?Sized> OutboundPolicy for Arc<P> {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        (**self).enqueue(message, recipients).await
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
    reverse_path: ReversePath,
}

impl OutboundRecipient {
    /// A recipient to whom the message leaves under that reverse-path.
    pub fn new(mailbox: Mailbox, reverse_path: ReversePath) -> Self {
        Self { mailbox, reverse_path }
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
