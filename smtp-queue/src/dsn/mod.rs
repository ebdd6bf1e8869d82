//! Delivery status notifications: what the sender of a message is told of its failure, its delay, or, where that was asked
//! for, its success (RFC 3464, RFC 3461 §6).
//!
//! Everything here is a function of its arguments: the same report gives the same octets under the same queue id, so
//! that a queue may do it again after a crash. [`permission`] says who may be told at all, [`returned`] what of the
//! message goes back, [`text`] is the part for people, [`status`] the part for programs, and this file puts them
//! together.
//!
//! Nothing that a remote host, a sender or a recipient chose can end a line or a part (SECURITY.md D-11): what is
//! written into a field passes [`status::field`], and the boundary is one that none of the parts contains.

mod charset;
mod permission;
mod returned;
mod status;
mod text;

use std::time::SystemTime;

use bytes::Bytes;
use memchr::memmem;
use smtp_core::{Body, DateTime, Domain, ForwardPath, Mailbox, ReversePath};

use self::charset::Charset;
use self::returned::Encoding;
use crate::envelope::{Envelope, QueuedRecipient};
use crate::id::QueueId;
use crate::progress::Diagnosis;

pub use self::permission::{Action, NotificationKind, Withheld, notification_kind};
pub use self::returned::ReturnedContent;

/// The most octets of the two parts that describe what happened, but for the last recipient in them: 1 MiB (ours).
const DESCRIPTION_LIMIT_OCTETS: usize = 1 << 20;

/// A recipient of whom there is something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRecipient {
    /// Its place in [`Envelope::recipients`].
    pub index: u32,
    /// What the last attempt met with; `None` where there was none.
    pub last: Option<Diagnosis>,
    /// When that attempt ended.
    pub last_attempt: Option<SystemTime>,
}

/// The recipients of one message of whom the same became at the same time, and all that a notification says about them.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The envelope of the message.
    pub envelope: &'a Envelope,
    /// What became of them.
    pub action: Action,
    /// Who they are.
    pub recipients: &'a [ReportedRecipient],
    /// What of the message goes back.
    pub returned: &'a ReturnedContent,
    /// The name of this host: `Reporting-MTA`, and the domain of `From`.
    pub host: &'a Domain,
    /// Who learns of notifications that cannot be delivered (STANDARDS.md Q5).
    pub postmaster: &'a Mailbox,
    /// The date of the notification.
    pub now: SystemTime,
    /// Until when it is tried on, for those who are delayed.
    pub retry_until: Option<SystemTime>,
}

/// What became of telling somebody.
#[derive(Debug, Clone)]
pub struct Notified {
    /// What is to be queued; `None` where nobody may be told.
    pub notification: Option<Notification>,
    /// The recipients of whom nobody is told, by their place in the envelope, with the reason for the log.
    pub withheld: Vec<(u32, Withheld)>,
}

/// A message about other messages, ready to be queued.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its kind.
    pub kind: NotificationKind,
    /// Its envelope. The id follows from the message, the kind and the recipients.
    pub envelope: Envelope,
    /// Its octets.
    pub content: Bytes,
}

/// A recipient that somebody may be told of.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    recipient: &'a QueuedRecipient,
    reported: &'a ReportedRecipient,
}

impl Report<'_> {
    /// Writes the notification, where one may be sent.
    pub fn notify(&self) -> Notified {
        let mut withheld = Vec::new();
        let mut entries = Vec::with_capacity(self.recipients.len());
        let mut kind = None;
        for reported in self.recipients {
            let recipient = usize::try_from(reported.index).ok().and_then(|index| self.envelope.recipients.get(index));
            let Some(recipient) = recipient else {
                withheld.push((reported.index, Withheld::UnknownRecipient));
                continue;
            };
            match notification_kind(self.envelope, recipient, self.action, self.postmaster) {
                Ok(allowed) => {
                    // It follows from the envelope and the action, and so is the same for all.
                    kind = Some(allowed);
                    entries.push(Entry { recipient, reported });
                }
                Err(reason) => withheld.push((reported.index, reason)),
            }
        }
        entries.sort_by_key(|entry| entry.reported.index);
        entries.dedup_by_key(|entry| entry.reported.index);
        Notified { notification: kind.map(|kind| self.notification(kind, &entries)), withheld }
    }

    fn notification(&self, kind: NotificationKind, entries: &[Entry<'_>]) -> Notification {
        let id = notification_id(self.envelope.id, kind, entries);
        let (path, mailbox) = match (kind, &self.envelope.reverse_path) {
            (NotificationKind::PostmasterCopy, _) | (_, ReversePath::Null) => {
                (ForwardPath::Postmaster, self.postmaster)
            }
            (_, ReversePath::Mailbox(sender)) => (ForwardPath::from(sender.clone()), sender),
        };
        let mut envelope = Envelope::new(id, self.now, ReversePath::Null);
        envelope.recipients.push(QueuedRecipient {
            is_role: path == ForwardPath::Postmaster,
            path,
            ..QueuedRecipient::new(mailbox.clone())
        });
        envelope.origin.notification_of = Some(self.envelope.id);
        let charset = Charset::of(mailbox);
        // RFC 8689 §5: it says as much as the message did of who writes to whom.
        envelope.requires_tls = self.envelope.requires_tls;
        // RFC 6710 §4.6.
        envelope.priority = self.envelope.priority;
        envelope.smtputf8 = charset == Charset::Utf8;
        let has_eight_bits = envelope.smtputf8 || self.returned.encoding() == Encoding::EightBit;
        envelope.body = has_eight_bits.then_some(Body::EightBitMime);
        Notification { kind, envelope, content: self.content(kind, id, mailbox, entries) }
    }

    /// The header section, then the three parts of RFC 6522 §3, in their order.
    fn content(&self, kind: NotificationKind, id: QueueId, to: &Mailbox, entries: &[Entry<'_>]) -> Bytes {
        let charset = Charset::of(to);
        let (text, status) = self.description(charset, kind, entries);
        let returned = self.returned.octets();
        let boundary = boundary(id, &[&text, &status, returned]);
        let returned_encoding = self.returned.encoding().as_str();
        let described_encoding = (charset == Charset::Utf8).then_some(Encoding::EightBit.as_str());

        let mut fields = status::Fields::new(charset, text.len() + status.len() + returned.len() + 2048);
        fields.field("From", &format!("Mail Delivery System <mailer-daemon@{}>", self.host.to_ascii()));
        fields.field_or("To", &format!("<{to}>"), "undisclosed-recipients:;");
        fields.field("Subject", kind.subject());
        fields.field("Date", &DateTime::new(self.now).to_string());
        fields.field("Message-ID", &format!("<{id}@{}>", self.host.to_ascii()));
        fields.field("Auto-Submitted", "auto-generated");
        fields.field("MIME-Version", "1.0");
        let multipart = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
        fields.field("Content-Type", &multipart);
        if described_encoding.is_some() || self.returned.encoding() == Encoding::EightBit {
            // RFC 2045 §6.4: the whole says so where one of its parts does.
            fields.field("Content-Transfer-Encoding", Encoding::EightBit.as_str());
        }

        let mut part = |media_type: &str, transfer_encoding: Option<&str>, octets: &[u8]| {
            fields.octets.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            fields.field("Content-Type", media_type);
            if let Some(transfer_encoding) = transfer_encoding {
                fields.field("Content-Transfer-Encoding", transfer_encoding);
            }
            fields.octets.extend_from_slice(b"\r\n");
            fields.octets.extend_from_slice(octets);
        };
        part(charset.text_type(), described_encoding, &text);
        part(charset.status_type(), described_encoding, &status);
        if let Some(media_type) = self.returned.media_type() {
            part(charset.returned_type(media_type), Some(returned_encoding), returned);
        }
        let mut content = fields.octets;
        content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        content.into()
    }

    /// The part for people and the part for programs, with as many recipients as the limit allows; at least one.
    fn description(&self, charset: Charset, kind: NotificationKind, entries: &[Entry<'_>]) -> (Vec<u8>, Vec<u8>) {
        let mut text = text::Text::new(self, charset, kind, entries.len());
        let mut status = status::of_message(self, charset);
        let mut written = 0;
        while written < entries.len() && text.len() + status.octets.len() < DESCRIPTION_LIMIT_OCTETS {
            text.recipient(self, entries[written]);
            status::of_recipient(&mut status, self, entries[written]);
            written += 1;
        }
        (text.finish(self, entries.len() - written), status.octets)
    }
}

/// A line that stands in none of the parts. It follows from the id and the parts alone.
fn boundary(id: QueueId, parts: &[&[u8]]) -> String {
    // All candidates have the same length, so that none is the start of another; there are more of them than octets.
    let mut candidates = (0_u64..).map(|number| format!("=_{id}.{number:016x}"));
    let is_free = |boundary: &String| parts.iter().all(|part| memmem::find(part, boundary.as_bytes()).is_none());
    candidates.find(is_free).expect("parts of some octets do not contain every one of 2^64 words")
}

/// The name of a notification: the time of the message, and a number from what it is about instead of a random one.
fn notification_id(message: QueueId, kind: NotificationKind, entries: &[Entry<'_>]) -> QueueId {
    let kind = match kind {
        NotificationKind::Failure => 1,
        NotificationKind::PostmasterCopy => 2,
        NotificationKind::Delay => 3,
        NotificationKind::Delivery => 4,
        NotificationKind::Relay => 5,
        NotificationKind::Expansion => 6,
        NotificationKind::Late => 7,
    };
    let indexes = entries.iter().flat_map(|entry| entry.reported.index.to_be_bytes());
    let octets = message.as_u128().to_be_bytes().into_iter().chain([kind]).chain(indexes);
    // FNV-1a: short, and the same in every version of every program. Its high bits depend on all octets only after
    // some more of them, hence the last step.
    let mut hash = octets
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3));
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 29;
    let time = message.as_u128() >> 64 << 64;
    QueueId::from_u128(time | u128::from(hash))
}
