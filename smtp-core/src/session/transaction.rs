//! What a client says between `MAIL` and the end of the content: the envelope.

use std::fmt;
use std::time::SystemTime;

use crate::message::edits::HeaderEdits;
use crate::syntax::address::Mailbox;
use crate::syntax::notification::RecipientDsn;
use crate::syntax::parameter::{MailParameters, RcptParameters};
use crate::syntax::path::{ForwardPath, ReversePath};
use crate::syntax::valid_since::ValidSince;
use crate::syntax::xclient::Forwarded;

use super::connection::TransactionId;
use super::decision::{Changes, Disposition, Rewriting};
use super::extensions::Extensions;

/// One accepted recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    path: ForwardPath,
    /// Empty where the mail goes to the mailbox of the path itself.
    mailboxes: Vec<Mailbox>,
    is_role: bool,
    disposition: Disposition,
    dsn: RecipientDsn,
    valid_since: Option<ValidSince>,
    is_added: bool,
}

impl Recipient {
    pub(crate) fn new(path: ForwardPath, mailboxes: Vec<Mailbox>, is_role: bool, asked: RcptParameters) -> Self {
        let RcptParameters { dsn, valid_since, .. } = asked;
        // RFC 7293 §5.1: nobody owns a role mailbox.
        let valid_since = valid_since.filter(|_| !is_role);
        Self { path, mailboxes, is_role, disposition: Disposition::Deliver, dsn, valid_since, is_added: false }
    }

    /// One of whom the client knows nothing.
    pub(crate) fn added(mailbox: Mailbox, dsn: RecipientDsn) -> Self {
        let asked = RcptParameters { dsn, ..RcptParameters::default() };
        Self { is_added: true, ..Self::new(mailbox.into(), Vec::new(), false, asked) }
    }

    /// It has had one owner, as the sender demands. What is behind an alias belongs to others, of whom nothing was said.
    pub(crate) fn owner_was_checked(&mut self) {
        self.valid_since = self.valid_since.filter(|_| self.mailboxes.is_empty()).map(ValidSince::or_continue);
    }

    /// The argument of `RCPT`.
    pub fn path(&self) -> &ForwardPath {
        &self.path
    }

    /// Where the mail goes: the mailbox itself, those behind an alias, or that of the postmaster.
    pub fn mailboxes(&self) -> &[Mailbox] {
        match self.path.mailbox() {
            Some(mailbox) if self.mailboxes.is_empty() => std::slice::from_ref(mailbox),
            _ => &self.mailboxes,
        }
    }

    /// Whether it is one of the mailboxes that must stay reachable (RFC 5321 §4.5.1, RFC 2142).
    pub fn is_role(&self) -> bool {
        self.is_role
    }

    /// What becomes of its copy.
    pub fn disposition(&self) -> &Disposition {
        &self.disposition
    }

    /// Whether a policy added it ([`PolicyContext::add_recipient`](crate::PolicyContext::add_recipient)). The client knows
    /// nothing of it, and whatever becomes of its copy is no part of any answer; such recipients stand behind all others.
    pub fn is_added(&self) -> bool {
        self.is_added
    }

    /// What the sender wants to be told of it (RFC 3461 §4). Empty unless the delivery
    /// [honours](crate::Delivery::honours_dsn) it, or a policy added the recipient: then it says what the policy wants.
    pub fn dsn(&self) -> &RecipientDsn {
        &self.dsn
    }

    /// Since when the mailbox must have had its owner (RFC 7293 §3.1). Of mailboxes that the lookup knows that was found to
    /// be so; of others it is for the next hop to say ([`Delivery::honours_rrvs`](crate::Delivery::honours_rrvs)).
    pub fn valid_since(&self) -> Option<ValidSince> {
        self.valid_since
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// The envelope so far.
#[derive(Debug)]
pub struct Transaction {
    id: TransactionId,
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    edits: HeaderEdits,
    sender_confirmed: bool,
    forwarded: Option<Box<Forwarded>>,
    extensions: Extensions,
    answers_each: bool,
    is_priority_lowered: bool,
    deliver_by: Option<SystemTime>,
    excess_recipients: u32,
    alias_mailboxes: usize,
    /// Of the recipient that is being looked up.
    asked: RcptParameters,
}

impl Transaction {
    pub(crate) fn new(id: TransactionId, reverse_path: ReversePath, parameters: MailParameters) -> Self {
        Self {
            id,
            reverse_path,
            parameters,
            recipients: Vec::new(),
            edits: HeaderEdits::default(),
            sender_confirmed: false,
            forwarded: None,
            extensions: Extensions::default(),
            answers_each: false,
            is_priority_lowered: false,
            deliver_by: None,
            excess_recipients: 0,
            alias_mailboxes: 0,
            asked: RcptParameters::default(),
        }
    }

    pub(crate) fn forwarded_by(self, forwarded: Option<Box<Forwarded>>) -> Self {
        Self { forwarded, ..self }
    }

    /// What a listed peer said with `XFORWARD` of where the message came from. It is for the log, and gives no right.
    pub fn forwarded(&self) -> Option<&Forwarded> {
        self.forwarded.as_deref()
    }

    /// The same, where each recipient gets an answer of its own behind the content.
    pub(crate) fn answering_each(self, answers_each: bool) -> Self {
        Self { answers_each, ..self }
    }

    /// The same, where it is less urgent than the client wanted.
    pub(crate) fn with_priority_lowered(self, is_priority_lowered: bool) -> Self {
        Self { is_priority_lowered, ..self }
    }

    /// The same, where it is to be delivered by then.
    pub(crate) fn with_deliver_by(self, deliver_by: Option<SystemTime>) -> Self {
        Self { deliver_by, ..self }
    }

    /// Whether the client has to be told that its message is less urgent than it wanted (RFC 6710 §4.1).
    pub(crate) fn is_priority_lowered(&self) -> bool {
        self.is_priority_lowered
    }

    /// Its name in the log.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// The argument of `MAIL`.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The parameters of `MAIL`.
    pub fn parameters(&self) -> &MailParameters {
        &self.parameters
    }

    /// The recipients accepted so far.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// What policies attached to this transaction.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether a policy vouches that the reverse-path is not forged, so that a notification may go there.
    pub fn sender_confirmed(&self) -> bool {
        self.sender_confirmed
    }

    /// Whether each recipient gets an answer of its own behind the content: in LMTP (RFC 2033 §4.2), or
    /// where the client has asked for it with `PRDR`.
    pub fn answers_each(&self) -> bool {
        self.answers_each
    }

    /// Mailboxes behind all aliases so far.
    pub(crate) fn alias_mailboxes(&self) -> usize {
        self.alias_mailboxes
    }

    pub(crate) fn add_recipient(&mut self, recipient: Recipient) {
        self.alias_mailboxes += recipient.mailboxes.len();
        self.recipients.push(recipient);
    }

    /// What was said with the `RCPT` that is being looked up.
    pub(crate) fn asks_for_next(&mut self, asked: RcptParameters) {
        self.asked = asked;
    }

    pub(crate) fn take_asked(&mut self) -> RcptParameters {
        std::mem::take(&mut self.asked)
    }

    /// Counts a recipient over the limit; how many there were with it.
    pub(crate) fn count_excess_recipient(&mut self) -> u32 {
        self.excess_recipients += 1;
        self.excess_recipients
    }

    pub(crate) fn apply(&mut self, changes: Changes) {
        if let Some(extensions) = changes.transaction {
            self.extensions = extensions;
        }
        self.edits.extend(changes.prepended, changes.completing, changes.removed);
        for (index, disposition) in changes.dispositions {
            if let Some(recipient) = self.recipients.get_mut(index) {
                recipient.disposition = disposition;
            }
        }
        // Plain SMTP cannot refuse one recipient after the content: its copy is marked instead (PRACTICES S33).
        for (index, _) in changes.refused {
            if let Some(recipient) = self.recipients.get_mut(index) {
                recipient.disposition = Disposition::Junk;
            }
        }
        self.sender_confirmed |= changes.confirms_sender;
    }

    /// What was changed of the whole message; behind all else that was said of it.
    pub(crate) fn rewrite(&mut self, rewriting: Rewriting) {
        self.edits.extend_arriving(rewriting.replaced, rewriting.inserted);
        // What one policy took from a recipient no other gives back.
        for index in rewriting.dropped {
            if let Some(recipient) = self.recipients.get_mut(index) {
                recipient.disposition = Disposition::Discard("a policy removed the recipient".to_owned());
            }
        }
        if let Some(path) = rewriting.reverse_path {
            self.reverse_path = path;
            // That was said of another.
            self.sender_confirmed = false;
        }
        self.recipients.extend(rewriting.added);
    }

    /// How many recipients the client knows; they stand in front.
    pub(crate) fn recipients_of_client(&self) -> usize {
        self.recipients.iter().filter(|recipient| !recipient.is_added).count()
    }

    /// Goes on without those recipients, by their places: they were refused behind the content.
    pub(crate) fn leave_out(&mut self, is_refused: impl Fn(usize) -> bool) {
        let mut place = 0;
        self.recipients.retain(|_| {
            place += 1;
            !is_refused(place - 1)
        });
    }

    pub(crate) fn into_parts(self) -> TransactionParts {
        TransactionParts {
            id: self.id,
            reverse_path: self.reverse_path,
            parameters: self.parameters,
            recipients: self.recipients,
            edits: self.edits,
            sender_confirmed: self.sender_confirmed,
            forwarded: self.forwarded,
            extensions: self.extensions,
            answers_each: self.answers_each,
            deliver_by: self.deliver_by,
        }
    }
}

/// What a message takes over.
#[derive(Debug)]
pub(crate) struct TransactionParts {
    pub(crate) id: TransactionId,
    pub(crate) reverse_path: ReversePath,
    pub(crate) parameters: MailParameters,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) edits: HeaderEdits,
    pub(crate) sender_confirmed: bool,
    pub(crate) forwarded: Option<Box<Forwarded>>,
    pub(crate) extensions: Extensions,
    pub(crate) answers_each: bool,
    pub(crate) deliver_by: Option<SystemTime>,
}
