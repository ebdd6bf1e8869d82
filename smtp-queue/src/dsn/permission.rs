//! Who may be told of a failure: one decision, with a reason for the log where it is nobody (STANDARDS.md Q5, Q6, Q8).

use std::fmt;

use smtp_core::{Disposition, ForwardPath, Mailbox};

use crate::envelope::{Envelope, QueuedRecipient};

/// What a notification is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotificationKind {
    /// The sender learns that a message was not delivered.
    Failure,
    /// Postmaster learns that a notification was not delivered. Sent once (STANDARDS.md Q5).
    PostmasterCopy,
}

impl NotificationKind {
    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::Failure => "Undelivered mail",
            Self::PostmasterCopy => "Undelivered notification",
        }
    }
}

/// Why nobody is told that a recipient was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withheld {
    /// The reverse-path is `<>` (RFC 5321 §4.5.5, §6.1; STANDARDS.md Q6).
    NullReversePath,
    /// Nothing vouches for the reverse-path, so a notification might go to somebody who never wrote (PRACTICES.md S21).
    SenderNotConfirmed,
    /// A policy took this copy for junk, or set it aside (PRACTICES.md S19).
    JunkOrQuarantine,
    /// A policy dropped this copy.
    Discarded,
    /// It was a notification to postmaster: there is nobody left to tell (STANDARDS.md Q5).
    ToPostmaster,
    /// The envelope has no such recipient: the record is not what was written.
    UnknownRecipient,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NullReversePath => "the reverse-path is null",
            Self::SenderNotConfirmed => "the sender is not confirmed",
            Self::JunkOrQuarantine => "the copy was taken for junk or set aside",
            Self::Discarded => "the copy was discarded by a policy",
            Self::ToPostmaster => "it was a notification to postmaster",
            Self::UnknownRecipient => "the envelope has no such recipient",
        })
    }
}

/// Which notification may follow when that recipient of a message was not reached.
///
/// `postmaster` is who learns of notifications that were not delivered.
///
/// # Errors
/// [`Withheld`]: nobody may be told, and why.
pub fn notification_kind(
    envelope: &Envelope,
    recipient: &QueuedRecipient,
    postmaster: &Mailbox,
) -> Result<NotificationKind, Withheld> {
    if envelope.origin.notification_of.is_some() {
        // The path tells a copy from a notification to a sender, also when the mailbox of postmaster has changed.
        let is_copy = recipient.path == ForwardPath::Postmaster || recipient.mailbox == *postmaster;
        return if is_copy { Err(Withheld::ToPostmaster) } else { Ok(NotificationKind::PostmasterCopy) };
    }
    if envelope.reverse_path.is_null() {
        return Err(Withheld::NullReversePath);
    }
    match &recipient.disposition {
        Disposition::Deliver if envelope.sender_confirmed => Ok(NotificationKind::Failure),
        Disposition::Deliver => Err(Withheld::SenderNotConfirmed),
        Disposition::Discard(_) => Err(Withheld::Discarded),
        // Also whatever a later version adds: it is not simply delivered.
        _ => Err(Withheld::JunkOrQuarantine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::QueueId;
    use smtp_core::ReversePath;
    use std::time::SystemTime;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("a mailbox")
    }

    fn envelope(reverse_path: &str, confirmed: bool, disposition: Disposition) -> Envelope {
        let reverse_path = ReversePath::parse(reverse_path).expect("a path");
        let mut envelope = Envelope::new(QueueId::from_u128(7), SystemTime::UNIX_EPOCH, reverse_path)
            .with_recipient(mailbox("bob@example.org"));
        envelope.recipients[0].disposition = disposition;
        envelope.sender_confirmed = confirmed;
        envelope
    }

    fn kind(envelope: &Envelope) -> Result<NotificationKind, Withheld> {
        notification_kind(envelope, &envelope.recipients[0], &mailbox("postmaster@example.org"))
    }

    #[test] // STANDARDS.md Q6, Q8; PRACTICES.md S19, S21: every combination, and one alone that sends.
    fn q6_s19_s21_only_a_confirmed_sender_of_wanted_mail_is_told() {
        let dispositions = [
            (Disposition::Deliver, None),
            (Disposition::Junk, Some(Withheld::JunkOrQuarantine)),
            (Disposition::Quarantine("virus".into()), Some(Withheld::JunkOrQuarantine)),
            (Disposition::Discard("rule".into()), Some(Withheld::Discarded)),
        ];
        for (disposition, reason) in dispositions {
            for confirmed in [true, false] {
                let null = envelope("<>", confirmed, disposition.clone());
                assert_eq!(kind(&null), Err(Withheld::NullReversePath), "{disposition:?}");
                let expected = match reason {
                    Some(reason) => Err(reason),
                    None if confirmed => Ok(NotificationKind::Failure),
                    None => Err(Withheld::SenderNotConfirmed),
                };
                let sent = envelope("<alice@client.example>", confirmed, disposition.clone());
                assert_eq!(kind(&sent), expected, "{disposition:?}, confirmed {confirmed}");
            }
        }
    }

    #[test] // STANDARDS.md Q5
    fn q5_a_failed_notification_goes_to_postmaster_once() {
        let mut notification = envelope("<>", false, Disposition::Deliver);
        notification.origin.notification_of = Some(QueueId::from_u128(1));
        assert_eq!(kind(&notification), Ok(NotificationKind::PostmasterCopy));
        notification.recipients[0].mailbox = mailbox("postmaster@EXAMPLE.org");
        assert_eq!(kind(&notification), Err(Withheld::ToPostmaster));
        notification.recipients[0].mailbox = mailbox("former@example.org");
        notification.recipients[0].path = ForwardPath::Postmaster;
        assert_eq!(kind(&notification), Err(Withheld::ToPostmaster));
    }
}
