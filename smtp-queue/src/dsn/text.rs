//! The part for people: what became of whom, in whose words, and whether there is more to come.

use smtp_core::{DateTime, ForwardPath, SafeText};

use super::charset::Charset;
use super::{Action, Entry, NotificationKind, Report};

/// Octets after which a line is broken at a space.
const LINE_OCTETS: usize = 76;
/// Octets after which a word is broken, so that no line is longer than RFC 5322 §2.1.1 allows.
const WORD_OCTETS: usize = 900;
/// What stands in front of what is said about a recipient.
const INDENT: &str = "    ";

/// The text while it is written.
#[derive(Debug)]
pub(super) struct Text {
    charset: Charset,
    octets: Vec<u8>,
}

impl Text {
    /// Begins with what all recipients share.
    pub(super) fn new(report: &Report<'_>, charset: Charset, kind: NotificationKind, count: usize) -> Self {
        let mut text = Self { charset, octets: Vec::with_capacity(1024) };
        text.paragraph("", &format!("This is the mail system at {}.", report.host));
        text.line();
        let whom = if count == 1 { "the mailbox below".to_owned() } else { format!("the {count} mailboxes below") };
        text.paragraph(
            "",
            &match kind {
                NotificationKind::Failure => {
                    format!("Your message could not be delivered to {whom}. It will not be tried again.")
                }
                NotificationKind::PostmasterCopy => format!(
                    "A notification about an undelivered message could itself not be delivered to {whom}. It will not be \
                     tried again, and nobody else is told."
                ),
                NotificationKind::Delay => {
                    let until = report.retry_until.map(|time| format!(" until {}", DateTime::new(time)));
                    let until = until.unwrap_or_default();
                    format!(
                        "Your message could not be delivered to {whom} yet. It is tried again{until}; you need not send \
                         it again. This is told once."
                    )
                }
                NotificationKind::Late => {
                    let until = report.retry_until.map(|time| format!(" until {}", DateTime::new(time)));
                    let until = until.unwrap_or_default();
                    format!(
                        "Your message could not be delivered to {whom} by the time that you asked for. It is tried \
                         again{until}; you need not send it again."
                    )
                }
                NotificationKind::Delivery => format!("Your message was delivered to {whom}."),
                NotificationKind::Relay if report.envelope.deliver_by.is_some() => format!(
                    "Your message for {whom} was passed on to another host. Whether it arrives by the time that you \
                     asked for is not known here."
                ),
                NotificationKind::Relay => format!(
                    "Your message for {whom} was passed on to a host that does not tell of success. You will hear no \
                     more of it if it arrives."
                ),
                NotificationKind::Expansion => format!(
                    "Your message was delivered to {whom}, and passed on to all those whom the address stands for. You \
                     will not be told when it reaches each of them."
                ),
            },
        );
        text
    }

    /// How many octets there are.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Adds a recipient.
    pub(super) fn recipient(&mut self, report: &Report<'_>, entry: Entry<'_>) {
        let Entry { recipient, reported } = entry;
        self.line();
        let mailbox = &recipient.mailbox;
        self.paragraph(
            "",
            &match &recipient.path {
                ForwardPath::Mailbox(path) if path == mailbox => format!("<{mailbox}>"),
                path => format!("<{mailbox}>, where mail for {path} goes"),
            },
        );
        let Some(last) = &reported.last else {
            if report.action == Action::Failed {
                self.paragraph(INDENT, "No attempt was possible in the time that a message is kept.");
            }
            return;
        };
        let who = last.remote.as_ref().map_or("this host", SafeText::as_str);
        let what = match report.action {
            Action::Failed if last.reply.code().is_permanent() => format!("Refused by {who}:"),
            Action::Failed => {
                format!("Not accepted in the time that a message is kept. The last answer was from {who}:")
            }
            Action::Delayed | Action::Late => format!("The last answer was from {who}:"),
            Action::Delivered | Action::Relayed | Action::Expanded => format!("Accepted by {who}:"),
        };
        self.paragraph(INDENT, &what);
        self.paragraph(INDENT, &last.reply.to_string());
    }

    /// Ends with what is left to say; `left_out` recipients were one too many for the limit.
    pub(super) fn finish(mut self, report: &Report<'_>, left_out: usize) -> Vec<u8> {
        self.line();
        if left_out > 0 {
            self.paragraph("", &format!("{left_out} more are left out here, because this text would be too long."));
            self.line();
        }
        let arrival = DateTime::new(report.envelope.arrival);
        self.paragraph("", &format!("The message arrived on {arrival} and was called {}.", report.envelope.id));
        self.paragraph("", report.returned.sentence());
        self.octets
    }

    fn line(&mut self) {
        self.octets.extend_from_slice(b"\r\n");
    }

    /// Writes lines of printable characters, broken at spaces.
    fn paragraph(&mut self, indent: &str, text: &str) {
        let text = self.charset.clean(text);
        let mut line = 0;
        let words = text.split(' ').filter(|word| !word.is_empty());
        for word in words.flat_map(pieces) {
            if line > 0 && line + 1 + word.len() > LINE_OCTETS {
                self.line();
                line = 0;
            }
            let before = if line == 0 { indent } else { " " };
            self.octets.extend_from_slice(before.as_bytes());
            self.octets.extend_from_slice(word.as_bytes());
            line += before.len() + word.len();
        }
        self.line();
    }
}

/// A word in pieces that fit into a line.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let end = (0..=WORD_OCTETS.min(rest.len())).rev().find(|&end| rest.is_char_boundary(end))?;
        let piece = &rest[..end];
        rest = &rest[piece.len()..];
        (!piece.is_empty()).then_some(piece)
    })
}
