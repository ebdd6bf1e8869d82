//! The envelope of a queued message: what was known when it was accepted, and never changes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use smtp_core::{
    Body, ByMode, Disposition, ForwardPath, Identity, Mailbox, MessageDsn, Priority, RecipientDsn, ReversePath,
    SolicitationClasses, Treatment, ValidSince,
};

use crate::id::QueueId;

/// The name of a next hop: messages for one site share its connections, its window and its concurrency.
///
/// Routing makes them: `local`, `smtp:[192.0.2.1]:25`. It is stored with the message.
pub type SiteName = Arc<str>;

/// What was known of a message when it was accepted: everything but its content and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and is stored as such")]
pub struct Envelope {
    /// Its name.
    pub id: QueueId,
    /// When its content had arrived.
    pub arrival: SystemTime,
    /// The reverse-path as it was received: where notifications go.
    pub reverse_path: ReversePath,
    /// What `MAIL` says when it leaves: recipients point here. Frozen, so that every attempt presents the same one
    /// (PRACTICES.md S32).
    pub outgoing: Vec<ReversePath>,
    /// Who it is for: at least one.
    pub recipients: Vec<QueuedRecipient>,
    /// What it came from.
    pub origin: Origin,
    /// `BODY=` as it was received.
    pub body: Option<Body>,
    /// Whether it was received with `SMTPUTF8` (RFC 6531 §3.4): its header section may have more than ASCII in it.
    pub smtputf8: bool,
    /// Whether it was received with `REQUIRETLS` (RFC 8689 §4.1), or tells of a message that was: a next hop must be verified,
    /// and promise the same.
    pub requires_tls: bool,
    /// Whether it came with `TLS-Required: No` in its header section and without `REQUIRETLS` (RFC 8689 §3, §4.1): it goes
    /// also where what a [`TlsPolicy`](smtp_core::TlsPolicy) demands is not met.
    pub tls_is_optional: bool,
    /// How urgent it is (RFC 6710 §5): of what is due at a site the most urgent comes first.
    pub priority: Priority,
    /// What it solicits, as the sender said (RFC 3865 §2.3): passed on to next hops that want to know.
    pub solicit: Option<SolicitationClasses>,
    /// What the sender asked of notifications about the message (RFC 3461 §4.3, §4.4).
    pub dsn: MessageDsn,
    /// Whether a notification may go to the reverse-path: a policy vouches for it, or the client may relay
    /// (PRACTICES.md S21).
    pub sender_confirmed: bool,
    /// When it may be tried first, where the sender said so (RFC 4865 §4): by the clock of the host, not before it arrived.
    pub release: Option<SystemTime>,
    /// By when it is to be delivered, where the sender said so (RFC 2852 §4), and what is to happen otherwise.
    pub deliver_by: Option<DeliverByTime>,
    /// When it expires, where a sender or policy said so; otherwise the schedule decides.
    pub deadline: Option<SystemTime>,
}

/// By when a message is to be delivered (RFC 2852 §4): by the clock of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverByTime {
    /// The deliver-by-time.
    pub time: SystemTime,
    /// What happens to a message that is not delivered by then.
    pub mode: ByMode,
    /// Whether the sender is told of each relay.
    pub trace: bool,
}

/// Where a message came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The transaction in which it was received, as it stands in the log; empty for what the queue made itself.
    pub transaction: Box<str>,
    /// The address of the client.
    pub client: Option<IpAddr>,
    /// Who the client proved to be.
    pub identity: Option<Identity>,
    /// Which rules held for the client.
    pub treatment: Treatment,
    /// Whether it is a notification of the queue, and what about.
    pub notification_of: Option<QueueId>,
}

/// One recipient of a queued message: an alias has become its mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRecipient {
    /// The argument of `RCPT` as it was received.
    pub path: ForwardPath,
    /// Where the mail goes.
    pub mailbox: Mailbox,
    /// The place in [`Envelope::outgoing`] of the reverse-path that it leaves under.
    pub outgoing: u32,
    /// What becomes of this copy.
    pub disposition: Disposition,
    /// Whether it is one of the mailboxes that must stay reachable (RFC 5321 §4.5.1, RFC 2142).
    pub is_role: bool,
    /// What the sender asked of notifications about it (RFC 3461 §4.1, §4.2).
    pub dsn: RecipientDsn,
    /// Since when the mailbox must have had its owner (RFC 7293 §3.1): for next hops to check.
    pub valid_since: Option<ValidSince>,
}

impl QueuedRecipient {
    /// A mailbox that the client named itself, and said nothing else of.
    pub fn new(mailbox: Mailbox) -> Self {
        Self {
            path: ForwardPath::Mailbox(mailbox.clone()),
            mailbox,
            outgoing: 0,
            disposition: Disposition::Deliver,
            is_role: false,
            dsn: RecipientDsn::default(),
            valid_since: None,
        }
    }
}

impl Envelope {
    /// An envelope without recipients, which leaves under the reverse-path that it came with.
    pub fn new(id: QueueId, arrival: SystemTime, reverse_path: ReversePath) -> Self {
        Self {
            id,
            arrival,
            outgoing: vec![reverse_path.clone()],
            reverse_path,
            recipients: Vec::new(),
            origin: Origin::default(),
            body: None,
            smtputf8: false,
            requires_tls: false,
            tls_is_optional: false,
            priority: Priority::NORMAL,
            solicit: None,
            dsn: MessageDsn::default(),
            sender_confirmed: false,
            release: None,
            deliver_by: None,
            deadline: None,
        }
    }

    /// One recipient more, to whom it leaves under the first of the outgoing reverse-paths.
    #[must_use]
    pub fn with_recipient(mut self, mailbox: Mailbox) -> Self {
        self.recipients.push(QueuedRecipient::new(mailbox));
        self
    }

    /// What `MAIL` says when it leaves for that recipient.
    pub fn outgoing_of(&self, recipient: &QueuedRecipient) -> &ReversePath {
        self.outgoing.get(recipient.outgoing as usize).unwrap_or(&self.reverse_path)
    }
}
