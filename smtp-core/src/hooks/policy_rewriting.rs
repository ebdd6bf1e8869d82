//! What a policy may change of a message when all of it has come: fields among those that arrived, the body, the envelope.
//!
//! It is for programs that filter mail. Whatever they say passes the types through which a client has to pass (SECURITY G2).

use bytes::Bytes;
use thiserror::Error;

use crate::message::edits::{Insertion, Replacement};
use crate::message::header_field::HeaderField;
use crate::session::transaction::{Recipient, Transaction};
use crate::syntax::address::Mailbox;
use crate::syntax::chunk::TextCheck;
use crate::syntax::content::Defect;
use crate::syntax::notification::RecipientDsn;
use crate::syntax::path::ReversePath;

use super::policy::PolicyContext;

/// The most recipients that policies may add to a message (ours).
const ADDED_RECIPIENTS_LIMIT: usize = 1000;

/// Why a policy may not change the envelope so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeChangeError {
    /// An address with more than ASCII in it, and the sender did not say `SMTPUTF8` (RFC 6531 §3.4).
    #[error("an address beyond ASCII in a message without SMTPUTF8")]
    NeedsSmtputf8,
    /// More than 1,000 added recipients.
    #[error("too many added recipients")]
    TooManyRecipients,
}

impl EnvelopeChangeError {
    /// Never: the same change will be as wrong tomorrow.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// These take effect at [`Policy::message`](crate::Policy::message), where the whole message was seen; before that they do
/// nothing. They take effect together with all other changes of the stage, and only where the message is not refused.
impl PolicyContext<'_> {
    /// Puts a field in front of the message as it is, also where it is folded in a way of its own.
    pub fn prepend_field(&mut self, field: HeaderField) {
        self.changes.prepended.push(field);
    }

    /// Inserts a field in front of one of the arriving fields: the first is 0, as the message came and whatever policies change.
    /// Where there are fewer, it stands behind the last. Several at one place stand in the order in which they were
    /// inserted. [`PolicyContext::prepend_header`] puts a field in front of `Received`.
    pub fn insert_header_at(&mut self, place: usize, field: HeaderField) {
        self.changes.rewriting.inserted.push(Insertion { place, field });
    }

    /// Adds a field behind all others.
    pub fn append_header(&mut self, field: HeaderField) {
        self.insert_header_at(usize::MAX, field);
    }

    /// Puts a field in the place of an arriving one of its name: the first of that name is 0, as the message came. A place
    /// without a field has no effect; nor has a field that another policy leaves out.
    pub fn replace_header_at(&mut self, place: usize, field: HeaderField) {
        self.changes.rewriting.replaced.push(Replacement { place, field });
    }

    /// Gives the message another body: what stands behind the empty line that ends the header section. Policies that are asked
    /// later see it.
    ///
    /// # Errors
    /// [`Defect`] where it has a bare CR, a bare LF or NUL (SECURITY D-52).
    pub fn replace_body(&mut self, body: impl Into<Bytes>) -> Result<(), Defect> {
        let body = body.into();
        let mut check = TextCheck::default();
        check.look(&body);
        check.end();
        if let Some(defect) = check.defect() {
            return Err(defect);
        }
        self.body = Some(body);
        Ok(())
    }

    /// Adds a recipient of whom the client knows nothing: what becomes of its copy is no part of any answer. Nobody looks it up,
    /// and no policy is asked about it. Unless `dsn` says otherwise the sender is told of it as of a recipient who did not ask;
    /// who wants it to stay unknown says [`Notify::NEVER`](crate::Notify::NEVER) (RFC 3461 §4.1). One that is there already
    /// is not added again.
    ///
    /// # Errors
    /// [`EnvelopeChangeError`].
    pub fn add_recipient(&mut self, mailbox: Mailbox, dsn: RecipientDsn) -> Result<(), EnvelopeChangeError> {
        self.check_smtputf8(mailbox.is_ascii())?;
        let known = self.transaction.map(Transaction::recipients).unwrap_or_default();
        let dropped = &self.changes.rewriting.dropped;
        let is_kept = |(place, _): &(usize, &Recipient)| !dropped.contains(place);
        let known = known.iter().enumerate().filter(is_kept).map(|(_, recipient)| recipient);
        if known.chain(&self.changes.rewriting.added).any(|recipient| recipient.path().mailbox() == Some(&mailbox)) {
            return Ok(());
        }
        if self.changes.rewriting.added.len() >= ADDED_RECIPIENTS_LIMIT {
            return Err(EnvelopeChangeError::TooManyRecipients);
        }
        self.changes.rewriting.added.push(Recipient::added(mailbox, dsn));
        Ok(())
    }

    /// Takes its copy from a recipient, by its place in [`Transaction::recipients`](crate::Transaction::recipients): it is
    /// [discarded](crate::Disposition::Discard), whatever else policies say of it. The client is answered as if it had got it.
    pub fn remove_recipient(&mut self, recipient: usize) {
        self.changes.rewriting.dropped.push(recipient);
    }

    /// Takes their copies from added recipients of that mailbox.
    pub fn remove_added_recipient(&mut self, mailbox: &Mailbox) {
        self.changes.rewriting.added.retain(|recipient| recipient.path().mailbox() != Some(mailbox));
    }

    /// Sets the reverse-path: where notifications go. That somebody vouched for the earlier one no longer counts
    /// ([`PolicyContext::confirm_sender`]).
    ///
    /// # Errors
    /// [`EnvelopeChangeError`].
    pub fn set_reverse_path(&mut self, path: ReversePath) -> Result<(), EnvelopeChangeError> {
        self.check_smtputf8(path.is_ascii())?;
        self.changes.rewriting.reverse_path = Some(path);
        Ok(())
    }

    fn check_smtputf8(&self, is_ascii: bool) -> Result<(), EnvelopeChangeError> {
        let is_said = self.transaction.is_some_and(|transaction| transaction.parameters().smtputf8);
        if is_ascii || is_said { Ok(()) } else { Err(EnvelopeChangeError::NeedsSmtputf8) }
    }
}
