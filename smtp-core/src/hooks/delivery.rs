//! Take it: the end of the way through this crate.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::session::decision::{Accepted, Refusal};

use super::message::Message;

/// Takes responsibility for a message (RFC 5321 §6.1).
///
/// Closures of the form `|message: Message| async move { … }` are deliveries. A type of its own writes
/// `#[async_trait]` above its `impl`, as for each of the hooks:
///
/// ```
/// use std::fs::{self, File};
/// use std::io;
/// use std::path::{Path, PathBuf};
/// use std::sync::Arc;
///
/// use smtp_core::{Accepted, Delivery, Message, Refusal, async_trait, return_path};
///
/// /// One file for each message.
/// struct Folder {
///     path: Arc<PathBuf>,
/// }
///
/// #[async_trait]
/// impl Delivery for Folder {
///     async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
///         let (path, id) = (self.path.clone(), message.id().to_string());
///         match tokio::task::spawn_blocking(move || write(&path, &message)).await {
///             Ok(Ok(())) => Ok(Accepted::queued(id)),
///             _ => Err(Refusal::transient(3, 0, "Cannot store the message now")),
///         }
///     }
/// }
///
/// /// Durable when it returns: written and synced under one name, then renamed, and the directory synced.
/// fn write(folder: &Path, message: &Message) -> io::Result<()> {
///     let unfinished = folder.join(format!("{}.tmp", message.id()));
///     let mut file = File::create_new(&unfinished)?;
///     io::Write::write_all(&mut file, return_path(message.reverse_path()).as_bytes())?;
///     io::copy(&mut message.reader()?, &mut file)?;
///     file.sync_all()?;
///     fs::rename(&unfinished, folder.join(message.id().to_string()))?;
///     File::open(folder)?.sync_all()
/// }
/// ```
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

    /// Whether a message of that size can be taken, before its content is asked for. Asked for each message: it must
    /// answer at once, from what it knows. Default: yes.
    ///
    /// # Errors
    /// What the client is told in the place of `354`; without room that is [`Refusal::insufficient_storage`]
    /// (RFC 1870 §6.1).
    fn check_room(&self, declared_octets: Option<u64>) -> Result<(), Refusal> {
        let _ = declared_octets;
        Ok(())
    }

    /// Whether this delivery does what senders ask for with the parameters of RFC 3461, for each recipient
    /// ([`Recipient::dsn`](crate::Recipient::dsn)) and for the message
    /// ([`MailParameters::dsn`](crate::MailParameters::dsn)): it sends the notifications that were asked for and no other,
    /// or passes the parameters on to somebody who offers `DSN`. Asked once, when the server is built. Default: no; then
    /// `DSN` is offered to nobody, since RFC 3461 §3 obliges whoever offers it.
    fn honours_dsn(&self) -> bool {
        false
    }

    /// Whether this delivery takes messages that are [declared](crate::Body::BinaryMime) as binary (RFC 3030 §3): any octets
    /// in any order, kept as they are, and passed on only to somebody who offers `BINARYMIME` too. Asked once, when the
    /// server is built. Default: no; then the extension is offered to nobody, and content is always lines that end with
    /// CRLF.
    fn honours_binarymime(&self) -> bool {
        false
    }

    /// Whether this delivery keeps to `REQUIRETLS` ([`MailParameters::requiretls`](crate::MailParameters::requiretls), RFC
    /// 8689 §4.2.1): such a message goes into a mailbox, or over TLS to a server that is verified and offers `REQUIRETLS`
    /// too, and nowhere else; what is told of its failure is protected in the same way, and holds nothing of its body.
    /// Asked once, when the server is built. Default: no; then the extension is offered to nobody.
    fn honours_requiretls(&self) -> bool {
        false
    }

    /// Whether this delivery holds messages until they are to be released
    /// ([`MailParameters::future_release`](crate::MailParameters::future_release), RFC 4865): nobody gets them earlier, whatever
    /// happens to this host meanwhile. Asked once, when the server is built. Default: no; then the extension is offered to
    /// nobody. Otherwise it is offered to clients that have authenticated.
    fn honours_future_release(&self) -> bool {
        false
    }

    /// Whether this delivery keeps to `DELIVERBY` ([`Message::deliver_by_time`], RFC 2852 §4.1): what is late by then is tried no
    /// more in [`ByMode::Return`](crate::ByMode::Return), and fails with `5.4.7`; in [`ByMode::Notify`](crate::ByMode::Notify)
    /// its sender is told, `4.4.7`, and it is tried on. The time that is left goes to next hops that offer the extension, and a
    /// message of the first kind goes to no other. Asked once, when the server is built. Default: no; then the extension is
    /// offered to nobody.
    fn honours_deliver_by(&self) -> bool {
        false
    }

    /// Whether this delivery takes messages with a higher [priority](crate::MailParameters::priority) first (RFC 6710 §5), and
    /// passes it on to next hops that offer `MT-PRIORITY`. Asked once, when the server is built. Default: no; then the
    /// extension is offered to nobody. Otherwise it is offered to all, and more than the normal priority is only for clients
    /// that have authenticated or may relay.
    fn honours_priority(&self) -> bool {
        false
    }

    /// Whether this delivery keeps to `RRVS=` ([`Recipient::valid_since`](crate::Recipient::valid_since), RFC 7293 §5.1.1) for
    /// mailboxes of other hosts: it passes it on to a server that offers `RRVS`, and otherwise does what
    /// [`NoSupport`](crate::NoSupport) says. Asked once, when the server is built. Default: no; then such a recipient is
    /// refused at `RCPT`, unless the client said that it may go on without.
    fn honours_rrvs(&self) -> bool {
        false
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

    fn check_room(&self, declared_octets: Option<u64>) -> Result<(), Refusal> {
        (**self).check_room(declared_octets)
    }

    fn honours_dsn(&self) -> bool {
        (**self).honours_dsn()
    }

    fn honours_binarymime(&self) -> bool {
        (**self).honours_binarymime()
    }

    fn honours_requiretls(&self) -> bool {
        (**self).honours_requiretls()
    }

    fn honours_future_release(&self) -> bool {
        (**self).honours_future_release()
    }

    fn honours_deliver_by(&self) -> bool {
        (**self).honours_deliver_by()
    }

    fn honours_priority(&self) -> bool {
        (**self).honours_priority()
    }

    fn honours_rrvs(&self) -> bool {
        (**self).honours_rrvs()
    }
}
