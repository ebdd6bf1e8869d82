//! Do we want it? Rules that refuse, exempt, mark and remember; none can accept.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::message::content::Content;
use crate::message::edits::Removal;
use crate::message::header_field::{HeaderField, HeaderFieldError, is_field_name};
use crate::session::connection::{Connection, Greeting};
use crate::session::decision::{Changes, Disposition, Refusal, Verdict};
use crate::session::extensions::Extensions;
use crate::session::server::Stages;
use crate::session::transaction::{Recipient, Transaction};
use crate::syntax::path::ReversePath;

/// A rule. It is asked only at the stages that it names.
///
/// Several policies are asked in the order in which they were given to the server, until one does not say
/// [`Verdict::Continue`]. A refusal at connect, helo or mail is held and given at each `RCPT`, except to role
/// mailboxes. Each stage as a whole is ended after its time limit (30 s, [`Policy::message`] 2 min) with `451 4.3.0`,
/// so hooks must be safe to drop at each `await`. A panic has the same effect.
///
/// ```
/// use smtp_core::{Policy, PolicyContext, Recipient, Refusal, Stages, Verdict, async_trait};
///
/// /// Nobody may write to the archive.
/// struct ClosedArchive;
///
/// #[async_trait]
/// impl Policy for ClosedArchive {
///     fn name(&self) -> &str {
///         "closed-archive"
///     }
///     fn stages(&self) -> Stages {
///         Stages::RECIPIENT
///     }
///     async fn recipient(&self, _: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
///         if recipient.path().local_part() == "archive" {
///             return Verdict::Refuse(Refusal::permanent(7, 1, "The archive is closed"));
///         }
///         Verdict::Continue
///     }
/// }
/// ```
#[async_trait]
pub trait Policy: Send + Sync {
    /// Its name in the log.
    fn name(&self) -> &str;

    /// The stages at which it wants to be asked. **A hook whose stage is not named here is never called.**
    fn stages(&self) -> Stages;

    /// A client connected. A refusal is held, unless it is [`Refusal::immediately`].
    async fn connect(&self, cx: &mut PolicyContext<'_>) -> Verdict {
        let _ = cx;
        Verdict::Continue
    }

    /// It introduced itself by `EHLO` or `HELO`. A refusal is held, unless it is [`Refusal::immediately`].
    async fn helo(&self, cx: &mut PolicyContext<'_>, greeting: &Greeting) -> Verdict {
        let _ = (cx, greeting);
        Verdict::Continue
    }

    /// It named the reverse-path. A refusal is held, unless it is [`Refusal::immediately`].
    async fn mail(&self, cx: &mut PolicyContext<'_>, from: &ReversePath) -> Verdict {
        let _ = (cx, from);
        Verdict::Continue
    }

    /// It named a recipient, whom the lookup knows. Not asked for role mailboxes of ours: `postmaster`, `abuse` and
    /// `security`, unless [`RecipientLookup::is_role`](crate::RecipientLookup::is_role) says otherwise.
    async fn recipient(&self, cx: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        let _ = (cx, recipient);
        Verdict::Continue
    }

    /// All content has come.
    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        let _ = (cx, content);
        Verdict::Continue
    }
}

#[async_trait]
impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn stages(&self) -> Stages {
        (**self).stages()
    }

    async fn connect(&self, cx: &mut PolicyContext<'_>) -> Verdict {
        (**self).connect(cx).await
    }

    async fn helo(&self, cx: &mut PolicyContext<'_>, greeting: &Greeting) -> Verdict {
        (**self).helo(cx, greeting).await
    }

    async fn mail(&self, cx: &mut PolicyContext<'_>, from: &ReversePath) -> Verdict {
        (**self).mail(cx, from).await
    }

    async fn recipient(&self, cx: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        (**self).recipient(cx, recipient).await
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        (**self).message(cx, content).await
    }
}

/// What a policy sees, and what it may change. Changes of a hook take effect only if it returns in time: all or none.
#[derive(Debug)]
pub struct PolicyContext<'a> {
    connection: &'a Connection,
    pub(super) transaction: Option<&'a Transaction>,
    peer: Extensions,
    session: Extensions,
    transaction_extensions: Extensions,
    pub(super) changes: Changes,
    /// The body that the message is to have from now on.
    pub(super) body: Option<Bytes>,
}

impl<'a> PolicyContext<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        transaction: Option<&'a Transaction>,
        peer: Extensions,
        session: Extensions,
    ) -> Self {
        let transaction_extensions =
            transaction.map(|transaction| transaction.extensions().clone()).unwrap_or_default();
        Self { connection, transaction, peer, session, transaction_extensions, changes: Changes::default(), body: None }
    }

    /// The client.
    pub fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// The envelope so far; `None` before `MAIL`. At [`Policy::recipient`] without the recipient in question.
    pub fn transaction(&self) -> Option<&'a Transaction> {
        self.transaction
    }

    /// Puts a field in front of the message. Before `MAIL` there is no message, and it has no effect.
    ///
    /// # Errors
    /// [`HeaderFieldError`] where name or value are no header field.
    pub fn prepend_header(&mut self, name: &str, value: &str) -> Result<(), HeaderFieldError> {
        self.changes.prepended.push(HeaderField::new(name, value)?);
        Ok(())
    }

    /// Adds a field that the message ought to have had when it came: it stands beneath `Received` (RFC 6409 §8). Before `MAIL`
    /// there is no message, and it has no effect.
    ///
    /// # Errors
    /// [`HeaderFieldError`] where name or value are no header field.
    pub fn complete_header(&mut self, name: &str, value: &str) -> Result<(), HeaderFieldError> {
        self.changes.completing.push(HeaderField::new(name, value)?);
        Ok(())
    }

    /// Leaves out all arriving fields of that name. Before `MAIL` there is no message, and it has no effect.
    ///
    /// # Errors
    /// [`HeaderFieldError::Name`] where that is no name.
    pub fn remove_header(&mut self, name: &str) -> Result<(), HeaderFieldError> {
        if !is_field_name(name) {
            return Err(HeaderFieldError::Name);
        }
        self.changes.removed.push(Removal::all(name));
        Ok(())
    }

    /// Leaves out some arriving fields of that name, by their places among all of it: the first is 0, as the message came and
    /// whatever other policies leave out. A place without a field has no effect, nor has it before `MAIL`.
    ///
    /// # Errors
    /// [`HeaderFieldError::Name`] where that is no name.
    pub fn remove_header_at(
        &mut self,
        name: &str,
        places: impl IntoIterator<Item = usize>,
    ) -> Result<(), HeaderFieldError> {
        if !is_field_name(name) {
            return Err(HeaderFieldError::Name);
        }
        self.changes.removed.push(Removal::at(name, places));
        Ok(())
    }

    /// Says what becomes of the copy of a recipient, by its place in [`Transaction::recipients`]. A place without a
    /// recipient has no effect.
    pub fn dispose(&mut self, recipient: usize, disposition: Disposition) {
        self.changes.dispositions.push((recipient, disposition));
    }

    /// Says what becomes of the copies of all recipients.
    pub fn dispose_all(&mut self, disposition: &Disposition) {
        for recipient in 0..self.transaction.map_or(0, |transaction| transaction.recipients().len()) {
            self.dispose(recipient, disposition.clone());
        }
    }

    /// Refuses one recipient of a message whose content was seen.
    ///
    /// In LMTP and with `PRDR` it reads the refusal, and the others get the message. Plain SMTP has one answer for all: where every recipient is refused, the message is; otherwise the
    /// copies of those refused are marked as [`Disposition::Junk`].
    pub fn refuse_recipient(&mut self, recipient: usize, refusal: Refusal) {
        self.changes.refused.push((recipient, refusal));
    }

    /// Vouches that the reverse-path is not forged, so that a notification may be sent there.
    pub fn confirm_sender(&mut self) {
        self.changes.confirms_sender = true;
    }

    /// What was attached to the connection.
    pub fn peer(&self) -> &Extensions {
        &self.peer
    }

    /// Attaches a value to the connection.
    pub fn insert_peer<T: Send + Sync + 'static>(&mut self, value: T) {
        self.peer.insert(value);
        self.changes.peer = Some(self.peer.clone());
    }

    /// What was attached to the session.
    pub fn session(&self) -> &Extensions {
        &self.session
    }

    /// Attaches a value to the session.
    pub fn insert_session<T: Send + Sync + 'static>(&mut self, value: T) {
        self.session.insert(value);
        self.changes.session = Some(self.session.clone());
    }

    /// What was attached to the transaction.
    pub fn transaction_extensions(&self) -> &Extensions {
        &self.transaction_extensions
    }

    /// Attaches a value to the transaction; [`Message::extensions`](crate::Message::extensions) has it later.
    pub fn insert_transaction<T: Send + Sync + 'static>(&mut self, value: T) {
        self.transaction_extensions.insert(value);
        self.changes.transaction = Some(self.transaction_extensions.clone());
    }

    /// The new body that the last policy gave, once.
    pub(crate) fn take_body(&mut self) -> Option<Bytes> {
        self.body.take()
    }

    /// The message holds this from now on.
    pub(crate) fn set_content(&mut self, content: Content) {
        self.changes.rewriting.content = Some(content);
    }

    pub(crate) fn into_changes(self) -> Changes {
        self.changes
    }
}
