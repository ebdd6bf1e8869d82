//! Take it: the end of the way through this crate.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::session::decision::{Accepted, Refusal};

use super::message::Message;

/// Takes responsibility for a message (RFC 5321 §6.1).
///
/// Closures of the form `|message: Message| async move { … }` are deliveries.
#[async_trait]
pub trait Delivery: Send + Sync {
    /// Takes the message. When this returns `Ok`, the client reads `250` and forgets the message: what is not on stable
    /// storage by then can be lost.
    ///
    /// Runs to its end even when the client leaves or the server shuts down. After 5 min
    /// ([`Limits::deliver_timeout`](crate::Limits::deliver_timeout)) the client is told `451 4.3.0` and may send the
    /// message again; it goes on all the same.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was taken. Trouble of our own is [`Refusal::transient`].
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal>;

    /// A directory on the file system where this delivery keeps messages, so that the file of large content can be
    /// moved instead of copied. Default: the system's temporary directory is used.
    fn content_dir(&self) -> Option<&Path> {
        None
    }
}

#[async_trait]
impl<F, Fut> Delivery for F
where
    F: Fn(Message) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Accepted, Refusal>> + Send,
{
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self(message).await
    }
}

#[async_trait]
impl<D: Delivery + ?Sized> Delivery for Arc<D> {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        (**self).deliver(message).await
    }

    fn content_dir(&self) -> Option<&Path> {
        (**self).content_dir()
    }
}
