//! What a queue reports while it works: typed, and with no text that could forge a log line.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::syntax::address::Mailbox;
use crate::syntax::path::ReversePath;
use crate::syntax::reply::Reply;
use crate::syntax::text::SafeText;

/// One thing that happened to a message after it was accepted, or to the queue that keeps it.
///
/// A message has the name that the client was told; an outcome is reported when it is on stable storage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DeliveryEvent {
    /// A message was put on stable storage.
    Queued {
        /// Its name.
        id: SafeText,
        /// The transaction in which it was received; empty for what an application or the queue itself wrote.
        transaction: SafeText,
        /// Its reverse-path as it was received.
        reverse_path: ReversePath,
        /// How many recipients it has.
        recipients: usize,
        /// The size of its content.
        octets: u64,
    },
    /// A policy dropped the copy of a recipient; it was accepted and is not stored.
    Discarded {
        /// The message.
        id: SafeText,
        /// The recipient.
        recipient: Mailbox,
        /// What the policy said.
        reason: SafeText,
    },
    /// An attempt ended for a recipient.
    Attempted {
        /// What was tried.
        attempt: DeliveryAttempt,
        /// How it came out.
        result: AttemptResult,
    },
    /// A recipient is given up because its message has expired.
    Expired {
        /// The last attempt; its reply is that of our own side where there was none.
        attempt: DeliveryAttempt,
    },
    /// Mail for a role mailbox was given up: those who are troubled do not reach who could act (RFC 2142). Alarm. It follows the event
    /// that says how the attempt ended.
    RoleMailFailed {
        /// The message.
        id: SafeText,
        /// The role mailbox as the client named it.
        role: SafeText,
        /// Where its mail should have gone.
        recipient: Mailbox,
        /// What was said of it.
        reply: Reply,
    },
    /// A notification was queued.
    NotificationQueued {
        /// The message that it is about.
        about: SafeText,
        /// Its own name.
        id: SafeText,
        /// Where it goes.
        recipient: Mailbox,
    },
    /// A recipient failed and nobody may be told.
    NotificationWithheld {
        /// The message.
        id: SafeText,
        /// The recipient.
        recipient: Mailbox,
        /// Why.
        reason: SafeText,
    },
    /// A message waits for another site than before.
    Moved {
        /// The message.
        id: SafeText,
        /// The site that is no longer known.
        from: SafeText,
        /// Where it goes now.
        to: SafeText,
    },
    /// An operator removed a message.
    Removed {
        /// The message.
        id: SafeText,
        /// How many of its recipients had no final outcome.
        recipients: u64,
    },
    /// An operator released a message that was set aside: it is delivered after all.
    Released {
        /// The message, as it was called when it was set aside.
        id: SafeText,
        /// As it is called from now on.
        released_as: SafeText,
        /// How many recipients it has.
        recipients: u64,
    },
    /// A message that was set aside has been kept for as long as such messages are, and was removed.
    QuarantineExpired {
        /// The message.
        id: SafeText,
        /// How many recipients it was for.
        recipients: u64,
    },
    /// A transport did not answer as it should. The recipients are deferred.
    TransportFailed {
        /// The message.
        id: SafeText,
        /// The site.
        site: SafeText,
        /// How.
        failure: TransportFailure,
    },
    /// The store failed. Alarm.
    StoreFailed {
        /// What the queue wanted of it.
        action: &'static str,
        /// What it said.
        cause: SafeText,
        /// Whether there are no attempts any more until a restart (a failed sync is final).
        stops: bool,
    },
    /// A recipient was delivered to and that could not be recorded: after a restart it may be delivered to again.
    OutcomeLost {
        /// The message.
        id: SafeText,
        /// The recipient.
        recipient: Mailbox,
        /// What the store said.
        cause: SafeText,
    },
    /// The clock of the host jumped. Alarm: nothing expires for a while.
    ClockJumped {
        /// How far.
        distance: Duration,
        /// Whether it went back.
        is_back: bool,
        /// How long nothing expires.
        suspended_for: Duration,
    },
    /// A message should have been tried and nobody has. Alarm.
    PastDue {
        /// The message.
        id: SafeText,
        /// The site.
        site: SafeText,
        /// For how long.
        by: Duration,
    },
}

/// An attempt to deliver to one recipient.
#[derive(Debug, Clone)]
pub struct DeliveryAttempt {
    /// The message.
    pub id: SafeText,
    /// The recipient.
    pub recipient: Mailbox,
    /// The site.
    pub site: SafeText,
    /// Which attempt it is: 1 is the first, 0 stands for none.
    pub number: u32,
    /// What was said.
    pub reply: Reply,
    /// The next hop that said it; `None` where our own side did.
    pub remote: Option<SafeText>,
    /// Since the content had arrived.
    pub age: Duration,
}

/// How an attempt came out for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptResult {
    /// Somebody else keeps it now.
    Delivered,
    /// It was set aside, as a policy wanted.
    Quarantined,
    /// Not now.
    Deferred {
        /// When it is tried again, unless it expires before.
        next_attempt: SystemTime,
    },
    /// Never in this form.
    Failed,
}

/// How a transport failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportFailure {
    /// It panicked.
    Panicked,
    /// It took longer than an attempt may take.
    TimedOut,
    /// It gave fewer outcomes than there were recipients.
    IncompleteOutcomes,
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "panicked",
            Self::TimedOut => "timed out",
            Self::IncompleteOutcomes => "incomplete outcomes",
        })
    }
}
