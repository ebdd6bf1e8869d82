//! The progress of a message towards one site: what changes with each attempt.

use std::time::SystemTime;

use smtp_core::{Reply, SafeText};

use crate::envelope::SiteName;

/// What remains to be done for a message at one site, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The site.
    pub site: SiteName,
    /// The recipients that have no final outcome yet, by their place in the envelope: at least one, ascending.
    pub waiting: Vec<WaitingRecipient>,
    /// How many attempts there were.
    pub attempts: u32,
    /// When the last one ended.
    pub last_attempt: Option<SystemTime>,
    /// When the next one is due.
    pub next_attempt: SystemTime,
    /// Whether the sender was told of the delay.
    pub delay_notified: bool,
    /// Whether the sender was told that the deliver-by-time has passed (RFC 2852 §4.1.3).
    pub late_notified: bool,
}

/// A recipient without a final outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRecipient {
    /// Its place in [`Envelope::recipients`](crate::Envelope::recipients).
    pub index: u32,
    /// Why the last attempt did not deliver to it.
    pub last: Option<Diagnosis>,
}

/// What an attempt met with, in the words of who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What the next hop, or our own side, said.
    pub reply: Reply,
    /// The next hop that said it: a host and its address; `None` where our own side did.
    pub remote: Option<SafeText>,
}

impl Progress {
    /// Before the first attempt.
    pub fn new(site: SiteName, recipients: impl IntoIterator<Item = u32>, first_attempt: SystemTime) -> Self {
        Self {
            site,
            waiting: recipients.into_iter().map(|index| WaitingRecipient { index, last: None }).collect(),
            attempts: 0,
            last_attempt: None,
            next_attempt: first_attempt,
            delay_notified: false,
            late_notified: false,
        }
    }
}
