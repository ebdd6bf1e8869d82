//! The words in which the engine asks and is answered.
//!
//! An [`Ask`] is made by the session, carries its subject, and fits exactly one kind of answer, so that an answer
//! of the wrong kind does not compile.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::message::content::Content;
use crate::message::edits::{Insertion, Removal, Replacement};
use crate::message::header_field::HeaderField;
use crate::sasl::keys::ScramHash;
use crate::syntax::address::Mailbox;
use crate::syntax::path::ReversePath;
use crate::syntax::reply::{EnhancedStatusCode, Reply, ReplyCode};
use crate::syntax::text::SafeText;

use super::extensions::Extensions;
use super::transaction::{Recipient, Transaction};

/// The application says no. Transient or permanent is fixed when it is made.
///
/// ```
/// use smtp_core::Refusal;
///
/// assert_eq!(Refusal::permanent(7, 1, "Not from here").to_string(), "550 5.7.1 Not from here");
/// assert_eq!(Refusal::transient(7, 1, "Try again in 5 minutes").to_string(), "451 4.7.1 Try again in 5 minutes");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    reply: Reply,
    closes: bool,
    is_immediate: bool,
}

impl Refusal {
    /// `550 5.subject.detail text` (RFC 3463): the client must not try again unchanged.
    pub fn permanent(subject: u16, detail: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(550, 5, subject, detail, text)
    }

    /// `451 4.subject.detail text` (RFC 3463): the client should try again later.
    pub fn transient(subject: u16, detail: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(451, 4, subject, detail, text)
    }

    /// `452 4.3.1`: there is no room for the message now (RFC 1870 §6.1).
    pub fn insufficient_storage() -> Self {
        Self::transient(3, 1, "Insufficient storage, try again later").with_code(452)
    }

    fn new(code: u16, class: u8, subject: u16, detail: u16, text: impl Into<Cow<'static, str>>) -> Self {
        let code = ReplyCode::new(code).expect("550 and 451 are in the grammar");
        let status = EnhancedStatusCode::new(class, subject.min(999), detail.min(999))
            .expect("class 4 or 5 with three digits at most is in the grammar");
        Self { reply: Reply::new(code, status, text), closes: false, is_immediate: false }
    }

    /// The same with another reply code of the same class; a code of another class changes nothing.
    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        if let (Some(code), Some(status)) = (ReplyCode::new(code), self.reply.status())
            && code.class() == self.reply.code().class()
        {
            self.reply = Reply::new(code, status, self.reply.text().to_owned());
        }
        self
    }

    /// The session ends after this reply.
    #[must_use]
    pub fn and_close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Said at once, although the engine would hold it until `RCPT`: role mailboxes cannot be reached then. For denial
    /// of service only.
    #[must_use]
    pub fn immediately(mut self) -> Self {
        self.is_immediate = true;
        self
    }

    /// 4yz.
    pub fn is_transient(&self) -> bool {
        self.reply.code().is_transient()
    }

    /// Whether the session ends.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether it is not held.
    pub fn is_immediate(&self) -> bool {
        self.is_immediate
    }

    /// What the client will read.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reply.fmt(f)
    }
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing against it; the next policy is asked.
    Continue,
    /// The remaining policies of this stage are not asked. Limits, lookups and authorisation still hold.
    Exempt,
    /// No.
    Refuse(Refusal),
}

/// Whether there is such a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookup {
    /// Yes.
    Mailbox,
    /// Yes, and mail for it goes to these.
    Alias(Vec<Mailbox>),
    /// The domain is local and has no such mailbox: `550 5.1.1`.
    Unknown,
    /// The domain is not local: `550 5.7.1`, unless the client may relay.
    NotLocal,
    /// There could be one, but not under that name: an address that we signed once and somebody changed. A permanent refusal
    /// counts as an error of the client.
    Refused(Refusal),
}

/// A directory did not answer. The client is told `451 4.3.0`, never that the mailbox does not exist.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct LookupError(Box<dyn std::error::Error + Send + Sync>);

impl LookupError {
    /// From the cause, which goes to the log and not to the client.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    /// Always: an unanswered question says nothing about the mailbox.
    pub fn is_transient(&self) -> bool {
        true
    }
}

/// What a lookup found, and whether the mailbox is one of those that must stay reachable.
#[derive(Debug)]
pub struct LookupAnswer {
    /// What [`RecipientLookup::lookup`](crate::RecipientLookup::lookup) said.
    pub lookup: Result<Lookup, LookupError>,
    /// What [`RecipientLookup::is_role`](crate::RecipientLookup::is_role) said.
    pub is_role: bool,
}

/// Who an authenticated client is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The name of an account.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Why a client is not authenticated (RFC 4954 §6). What is not known is [`AuthError::Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Unknown user or wrong credential, without saying which: `535 5.7.8`.
    #[error("authentication rejected")]
    Rejected,
    /// The mechanism is too weak for this user: `534 5.7.9`.
    #[error("authentication mechanism too weak")]
    TooWeak,
    /// The password must be changed first: `432 4.7.12`.
    #[error("password change needed")]
    ChangeNeeded,
    /// The directory does not answer: `454 4.7.0`.
    #[error("authentication temporarily unavailable")]
    Unavailable,
}

impl AuthError {
    /// Whether the same credential may do later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::ChangeNeeded)
    }
}

/// Whose keys a SCRAM mechanism needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ScramUser {
    /// The authentication identity, prepared by RFC 4013.
    pub user: String,
    /// Of which hash function.
    pub hash: ScramHash,
}

/// What a delivery took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    id: Option<Box<str>>,
    outcomes: Option<Vec<Result<(), Refusal>>>,
}

impl Accepted {
    /// Every recipient.
    pub fn all() -> Self {
        Self { id: None, outcomes: None }
    }

    /// Every recipient, under an identifier that the reply shows to the client.
    pub fn queued(id: impl Into<String>) -> Self {
        Self { id: Some(id.into().into()), outcomes: None }
    }

    /// An outcome for each recipient, in their order; missing ones count as taken.
    ///
    /// In LMTP and with `PRDR` each recipient is told its own ([`Message::answers_each`](crate::Message::answers_each)).
    /// Plain SMTP has one answer: if at least one recipient was taken it is `250`, and the delivery
    /// owns the others: it must keep them or notify. If none was, the answer is transient if one of the refusals is.
    pub fn each(outcomes: impl IntoIterator<Item = Result<(), Refusal>>) -> Self {
        Self { id: None, outcomes: Some(outcomes.into_iter().collect()) }
    }

    /// The identifier.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Shows an identifier besides the outcomes.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into().into());
        self
    }

    /// Whether of so many recipients some were taken and some were not.
    pub fn is_partial(&self, recipients: usize) -> bool {
        (1..recipients).contains(&self.refusals(recipients).count())
    }

    /// What became of the recipient at that place.
    pub(crate) fn outcome(&self, place: usize) -> Result<(), &Refusal> {
        let outcome = self.outcomes.as_ref().and_then(|outcomes| outcomes.get(place));
        outcome.map_or(Ok(()), |outcome| outcome.as_ref().copied())
    }

    /// How many of so many recipients were taken.
    pub(crate) fn taken(&self, recipients: usize) -> usize {
        recipients - self.refusals(recipients).count()
    }

    fn refusals(&self, recipients: usize) -> impl Iterator<Item = &Refusal> {
        let outcomes = self.outcomes.iter().flatten().take(recipients);
        outcomes.filter_map(|outcome| outcome.as_ref().err())
    }

    /// The one refusal that stands for all recipients, where none was taken.
    pub(crate) fn common_refusal(&self, recipients: usize) -> Option<Refusal> {
        if recipients == 0 || self.refusals(recipients).count() < recipients {
            return None;
        }
        mildest(self.refusals(recipients)).cloned()
    }
}

/// A transient refusal if there is one, otherwise the first: a client tries again rather than give up.
pub(crate) fn mildest<'a>(refusals: impl Iterator<Item = &'a Refusal>) -> Option<&'a Refusal> {
    refusals.reduce(|first, next| if !first.is_transient() && next.is_transient() { next } else { first })
}

/// What becomes of a recipient's copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Disposition {
    /// It is delivered.
    #[default]
    Deliver,
    /// It is delivered to the junk folder.
    Junk,
    /// It is set aside, with a reason for the log.
    Quarantine(String),
    /// It is dropped, with a reason for the log.
    Discard(String),
}

/// What policies changed besides their verdict. Taken over all at once or not at all.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub(crate) peer: Option<Extensions>,
    pub(crate) session: Option<Extensions>,
    pub(crate) transaction: Option<Extensions>,
    pub(crate) prepended: Vec<HeaderField>,
    pub(crate) completing: Vec<HeaderField>,
    pub(crate) removed: Vec<Removal>,
    pub(crate) dispositions: Vec<(usize, Disposition)>,
    pub(crate) refused: Vec<(usize, Refusal)>,
    pub(crate) confirms_sender: bool,
    pub(crate) rewriting: Rewriting,
}

/// What policies change of a whole message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rewriting {
    pub(crate) replaced: Vec<Replacement>,
    pub(crate) inserted: Vec<Insertion>,
    /// What it holds from now on.
    pub(crate) content: Option<Content>,
    pub(crate) added: Vec<Recipient>,
    /// Recipients that get no copy, by their places.
    pub(crate) dropped: Vec<usize>,
    pub(crate) reverse_path: Option<ReversePath>,
}

/// A verdict and the changes that come with it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The verdict of the stage.
    pub verdict: Verdict,
    /// The changes of its policies.
    pub changes: Changes,
    /// The policy that refused.
    pub policy: Option<SafeText>,
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, changes: Changes::default(), policy: None }
    }
}

/// What the driver has to find out or do before the session can go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Question {
    /// A client connected.
    Connect(Ask<kinds::Connect>),
    /// It introduced itself; the subject is the connection as it would become.
    Helo(Ask<kinds::Helo>),
    /// It wants TLS; may the handshake begin now?
    StartTls(Ask<kinds::StartTls>),
    /// It gave a credential; whose is it?
    Authenticate(Ask<kinds::Authenticate>),
    /// It wants to prove that it knows a password; what keys has that user? `None` where there is no such user.
    ScramKeys(Ask<kinds::FindKeys>),
    /// It is one and wants to be another; may it?
    ActAs(Ask<kinds::ActAs>),
    /// It is authenticated; may it use that reverse-path? The subject is the transaction as it would become.
    SendAs(Ask<kinds::SendAs>),
    /// It named the reverse-path; the subject is the transaction as it would become.
    Mail(Ask<kinds::Mail>),
    /// Is there such a mailbox?
    Lookup(Ask<kinds::FindRecipient>),
    /// There is, and has it had one owner since [`Recipient::valid_since`](crate::Recipient::valid_since)?
    Ownership(Ask<kinds::FindOwner>),
    /// There is; is it wanted?
    Recipient(Ask<kinds::Recipient>),
    /// Content is about to come; the subject is its size as declared. The driver makes room.
    Room(Ask<kinds::Room>),
    /// All content has come; is the message wanted?
    Message(Ask<kinds::WholeMessage>),
    /// It is; take it. The subject is the transaction.
    Deliver(Ask<kinds::Deliver>),
}

/// A question of one kind, to be given back with its answer.
#[must_use = "the session waits for the answer"]
pub struct Ask<K: Kind> {
    pub(crate) serial: u64,
    pub(crate) subject: K::Subject,
}

impl<K: Kind> Ask<K> {
    /// What the question is about.
    pub fn subject(&self) -> &K::Subject {
        &self.subject
    }
}

impl<K: Kind> fmt::Debug for Ask<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// A kind of question: what it is about and what answers it. The kinds are those of [`Question`].
pub trait Kind: sealed::Sealed {
    /// What the question is about.
    type Subject;
    /// What answers it.
    type Answer;
}

pub(crate) mod sealed {
    use std::time::Instant;

    use crate::session::server::ServerSession;

    /// Goes on where the question was asked.
    #[expect(unnameable_types, reason = "sealed: the kinds of questions are those of the engine")]
    pub trait Sealed: Sized {
        fn resume(session: &mut ServerSession, now: Instant, subject: Self::Subject, answer: Self::Answer)
        where
            Self: super::Kind;
    }
}

/// The kinds of [`Question`].
pub mod kinds {
    use std::sync::Arc;
    use std::time::Instant;

    use crate::sasl::credential::Credential;
    use crate::sasl::keys::ScramKeys;
    use crate::session::connection::Connection;
    use crate::session::ownership::Ownership;
    use crate::session::server::ServerSession;
    use crate::session::transaction::{self, Transaction};
    use crate::syntax::path::ForwardPath;

    use super::{Accepted, AuthError, Decision, Identity, Kind, LookupAnswer, LookupError, Refusal, ScramUser, sealed};

    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident($subject:ty) -> $answer:ty = $resume:ident;)*) => {$(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl Kind for $name {
                type Subject = $subject;
                type Answer = $answer;
            }

            impl sealed::Sealed for $name {
                fn resume(
                    session: &mut ServerSession,
                    now: Instant,
                    subject: $subject,
                    answer: $answer,
                ) {
                    session.$resume(now, subject, answer);
                }
            }
        )*};
    }

    kinds! {
        /// Of [`Question::Connect`](super::Question::Connect).
        Connect(()) -> Decision = connected;
        /// Of [`Question::Helo`](super::Question::Helo).
        Helo(Arc<Connection>) -> Decision = greeted;
        /// Of [`Question::StartTls`](super::Question::StartTls). `false`: not now.
        StartTls(()) -> bool = tls_decided;
        /// Of [`Question::Authenticate`](super::Question::Authenticate).
        Authenticate(Credential) -> Result<Identity, AuthError> = credential_checked;
        /// Of [`Question::ScramKeys`](super::Question::ScramKeys).
        FindKeys(ScramUser) -> Result<Option<(ScramKeys, Identity)>, AuthError> = keys_found;
        /// Of [`Question::ActAs`](super::Question::ActAs).
        ActAs((Identity, String)) -> Result<Identity, AuthError> = acted_as;
        /// Of [`Question::SendAs`](super::Question::SendAs).
        SendAs(Box<Transaction>) -> Result<bool, AuthError> = sender_checked;
        /// Of [`Question::Mail`](super::Question::Mail).
        Mail(Box<Transaction>) -> Decision = mail_decided;
        /// Of [`Question::Lookup`](super::Question::Lookup).
        FindRecipient(ForwardPath) -> LookupAnswer = looked_up;
        /// Of [`Question::Ownership`](super::Question::Ownership).
        FindOwner(transaction::Recipient) -> Result<Ownership, LookupError> = owner_told;
        /// Of [`Question::Recipient`](super::Question::Recipient).
        Recipient(transaction::Recipient) -> Decision = recipient_decided;
        /// Of [`Question::Room`](super::Question::Room).
        Room(Option<u64>) -> Result<(), Refusal> = room_made;
        /// Of [`Question::Message`](super::Question::Message).
        WholeMessage(()) -> Decision = message_decided;
        /// Of [`Question::Deliver`](super::Question::Deliver). The driver may take the transaction out of the subject.
        Deliver(Option<Box<Transaction>>) -> Result<Accepted, Refusal> = delivered;
    }
}

impl Ask<kinds::Deliver> {
    /// Takes the transaction, to make a message of it. It is there once.
    pub fn take_transaction(&mut self) -> Option<Box<Transaction>> {
        self.subject.take()
    }
}
