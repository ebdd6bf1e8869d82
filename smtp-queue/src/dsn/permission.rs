//! Who may be told, and wants to be: one decision, with a reason for the log where it is nobody (STANDARDS.md Q5, Q6, Q8;
//! RFC 3461 §4.1).

use std::fmt;

use smtp_core::{Disposition, ForwardPath, Mailbox, Notify};

use crate::envelope::{Envelope, QueuedRecipient};

/// What became of a recipient, as `Action` says it (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It will not be delivered.
    Failed,
    /// It is not delivered yet, and is tried on.
    Delayed,
    /// It was not delivered by the time that the sender asked for, and is tried on (RFC 2852 §4.1.3).
    Late,
    /// It is in the mailbox.
    Delivered,
    /// A next hop has it that does not offer `DSN`, so that nothing more will be told (RFC 3461 §5.2.2).
    Relayed,
    /// It was an alias for several mailboxes, and its copies are on their way to them (RFC 3461 §5.2.7.2).
    Expanded,
}

impl Action {
    /// What the sender must have asked for to be told.
    pub fn notify(self) -> Notify {
        match self {
            Self::Failed => Notify::FAILURE,
            Self::Delayed | Self::Late => Notify::DELAY,
            Self::Delivered | Self::Relayed | Self::Expanded => Notify::SUCCESS,
        }
    }

    /// Whether the sender wants to be told that of a recipient of the message. Who has set a time wants to be told what becomes
    /// of it, unless it says otherwise (RFC 2852 §4.1.3, §4.1.4).
    pub fn is_asked_for(self, envelope: &Envelope, recipient: &QueuedRecipient) -> bool {
        let is_implied = envelope.deliver_by.is_some()
            && match self {
                Self::Late => recipient.dsn.notify.is_none(),
                Self::Relayed => recipient.dsn.notify != Some(Notify::NEVER),
                _ => false,
            };
        is_implied || recipient.dsn.notify().contains(self.notify())
    }
}

/// What a notification is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotificationKind {
    /// The sender learns that a message was not delivered.
    Failure,
    /// Postmaster learns that a notification was not delivered. Sent once (STANDARDS.md Q5).
    PostmasterCopy,
    /// The sender learns that a message takes long (STANDARDS.md Q4).
    Delay,
    /// The sender learns that a message was not delivered by the time that was asked for (RFC 2852 §4.1.3).
    Late,
    /// The sender, who asked for it, learns that a message is in the mailbox.
    Delivery,
    /// The sender, who asked for it, learns that a message was passed on to where nothing more is told.
    Relay,
    /// The sender, who asked for it, learns that a message was passed on to the mailboxes of an alias.
    Expansion,
}

impl NotificationKind {
    /// What the sender is told.
    fn of(action: Action) -> Self {
        match action {
            Action::Failed => Self::Failure,
            Action::Delayed => Self::Delay,
            Action::Late => Self::Late,
            Action::Delivered => Self::Delivery,
            Action::Relayed => Self::Relay,
            Action::Expanded => Self::Expansion,
        }
    }

    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::Failure => "Undelivered mail",
            Self::PostmasterCopy => "Undelivered notification",
            Self::Delay | Self::Late => "Delayed mail",
            Self::Delivery => "Delivered mail",
            Self::Relay | Self::Expansion => "Mail passed on",
        }
    }
}

/// Why nobody is told what became of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withheld {
    /// The sender does not want to be told (`NOTIFY=`, RFC 3461 §4.1).
    NotAskedFor,
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
    /// The sender was told of too much within an hour (SECURITY.md D-17).
    TooMany,
    /// The envelope has no such recipient: the record is not what was written.
    UnknownRecipient,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAskedFor => "the sender did not ask for it",
            Self::NullReversePath => "the reverse-path is null",
            Self::SenderNotConfirmed => "the sender is not confirmed",
            Self::JunkOrQuarantine => "the copy was taken for junk or set aside",
            Self::Discarded => "the copy was discarded by a policy",
            Self::ToPostmaster => "it was a notification to postmaster",
            Self::TooMany => "the sender was told of too much within an hour",
            Self::UnknownRecipient => "the envelope has no such recipient",
        })
    }
}

/// Which notification may follow when that became of a recipient of a message.
///
/// `postmaster` is who learns of notifications that were not delivered.
///
/// # Errors
/// [`Withheld`]: nobody may be told, and why.
pub fn notification_kind(
    envelope: &Envelope,
    recipient: &QueuedRecipient,
    action: Action,
    postmaster: &Mailbox,
) -> Result<NotificationKind, Withheld> {
    if envelope.origin.notification_of.is_some() && action == Action::Failed {
        // The path tells a copy from a notification to a sender, also when the mailbox of postmaster has changed.
        let is_copy = recipient.path == ForwardPath::Postmaster || recipient.mailbox == *postmaster;
        return if is_copy { Err(Withheld::ToPostmaster) } else { Ok(NotificationKind::PostmasterCopy) };
    }
    if envelope.reverse_path.is_null() {
        return Err(Withheld::NullReversePath);
    }
    if !action.is_asked_for(envelope, recipient) {
        return Err(Withheld::NotAskedFor);
    }
    match &recipient.disposition {
        Disposition::Deliver if envelope.sender_confirmed => Ok(NotificationKind::of(action)),
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
        notification_kind(envelope, &envelope.recipients[0], Action::Failed, &mailbox("postmaster@example.org"))
    }

    const ACTIONS: [(Action, NotificationKind); 5] = [
        (Action::Failed, NotificationKind::Failure),
        (Action::Delayed, NotificationKind::Delay),
        (Action::Delivered, NotificationKind::Delivery),
        (Action::Relayed, NotificationKind::Relay),
        (Action::Expanded, NotificationKind::Expansion),
    ];

    #[test] // RFC 3461 §4.1; R3461b: every wish, and all that may become of a recipient.
    fn r3461b_the_sender_is_told_what_it_asked_for_and_no_more() {
        let all = Notify::SUCCESS | Notify::FAILURE | Notify::DELAY;
        let mut wishes = vec![None, Some(Notify::NEVER), Some(all)];
        for without in [Notify::SUCCESS, Notify::FAILURE, Notify::DELAY] {
            wishes.extend([Some(without), Some(all.without(without))]);
        }
        for notify in wishes {
            let mut envelope = envelope("<alice@client.example>", true, Disposition::Deliver);
            envelope.recipients[0].dsn.notify = notify;
            for (action, expected) in ACTIONS {
                let is_asked_for = match (notify, action) {
                    (None, Action::Failed) => true,
                    (None, _) => false,
                    (Some(notify), Action::Failed) => notify.contains(Notify::FAILURE),
                    (Some(notify), Action::Delayed) => notify.contains(Notify::DELAY),
                    (Some(notify), _) => notify.contains(Notify::SUCCESS),
                };
                let expected = if is_asked_for { Ok(expected) } else { Err(Withheld::NotAskedFor) };
                let postmaster = mailbox("postmaster@example.org");
                let found = notification_kind(&envelope, &envelope.recipients[0], action, &postmaster);
                assert_eq!(found, expected, "{notify:?} {action:?}");
            }
        }
    }

    #[test] // STANDARDS.md Q6, Q8; PRACTICES.md S19, S21: whatever was asked for.
    fn q6_s19_s21_a_wish_is_no_permission() {
        for (reverse_path, confirmed, disposition, expected) in [
            ("<>", true, Disposition::Deliver, Withheld::NullReversePath),
            ("<alice@client.example>", false, Disposition::Deliver, Withheld::SenderNotConfirmed),
            ("<alice@client.example>", true, Disposition::Junk, Withheld::JunkOrQuarantine),
            ("<alice@client.example>", true, Disposition::Quarantine("x".into()), Withheld::JunkOrQuarantine),
            ("<alice@client.example>", true, Disposition::Discard("x".into()), Withheld::Discarded),
        ] {
            let mut envelope = envelope(reverse_path, confirmed, disposition);
            envelope.recipients[0].dsn.notify = Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY);
            for (action, _) in ACTIONS {
                let postmaster = mailbox("postmaster@example.org");
                let found = notification_kind(&envelope, &envelope.recipients[0], action, &postmaster);
                assert_eq!(found, Err(expected), "{action:?}");
            }
        }
        // A notification is about failures only, whoever it goes to.
        let mut notification = envelope("<>", true, Disposition::Deliver);
        notification.origin.notification_of = Some(QueueId::from_u128(1));
        for (action, _) in &ACTIONS[1..] {
            let recipient = &notification.recipients[0];
            let found = notification_kind(&notification, recipient, *action, &mailbox("postmaster@example.org"));
            assert_eq!(found, Err(Withheld::NullReversePath), "{action:?}");
        }
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
