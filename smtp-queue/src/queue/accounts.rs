//! What became of every recipient, in numbers (STANDARDS.md, after C10): acknowledged = delivered + queued + failed +
//! quarantined + discarded, and what an operator removed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::spool::SpoolTotals;

/// The accounts of a queue since it was started. The numbers are recipients.
///
/// `at_start + mail.taken + notifications.taken` is `queued` and every [`Flow::ended`] and `removed` together: see
/// [`QueueTotals::difference`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueTotals {
    /// Recipients that were in the spool when the queue was started.
    pub at_start: u64,
    /// Mail that was acknowledged.
    pub mail: Flow,
    /// Notifications that the queue wrote.
    pub notifications: Flow,
    /// Recipients whose message an operator removed.
    pub removed: u64,
    /// Recipients in the spool now.
    pub queued: u64,
    /// What the spool says of itself.
    pub spool: SpoolTotals,
    /// Pairs of message and site that are ready, in flight or being recorded.
    pub in_window: usize,
    /// Attempts that are made now.
    pub in_flight: usize,
    /// How often the dispatcher has looked for what is due.
    pub turns: u64,
}

/// What came in, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Flow {
    /// Taken.
    pub taken: u64,
    /// Somebody else keeps it now.
    pub delivered: u64,
    /// Failed or expired, with a notification or a logged reason why there is none.
    pub failed: u64,
    /// Set aside by a policy.
    pub quarantined: u64,
    /// Dropped by a policy.
    pub discarded: u64,
}

impl Flow {
    /// What has come to its end.
    pub fn ended(&self) -> u64 {
        self.delivered + self.failed + self.quarantined + self.discarded
    }
}

impl QueueTotals {
    /// What is missing (or, below 0, too much) in the accounts: 0 when nothing moves. While messages move it is off by
    /// what is on its way between two counters.
    pub fn difference(&self) -> i128 {
        let taken = self.at_start + self.mail.taken + self.notifications.taken;
        let ended = self.mail.ended() + self.notifications.ended() + self.removed + self.queued;
        i128::from(taken) - i128::from(ended)
    }
}

#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) at_start: AtomicU64,
    pub(super) mail: FlowCounters,
    pub(super) notifications: FlowCounters,
    pub(super) removed: AtomicU64,
    pub(super) turns: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct FlowCounters {
    pub(super) taken: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) discarded: AtomicU64,
}

impl FlowCounters {
    fn read(&self) -> Flow {
        Flow {
            taken: read(&self.taken),
            delivered: read(&self.delivered),
            failed: read(&self.failed),
            quarantined: read(&self.quarantined),
            discarded: read(&self.discarded),
        }
    }
}

impl Accounts {
    pub(super) fn of(&self, is_notification: bool) -> &FlowCounters {
        if is_notification { &self.notifications } else { &self.mail }
    }

    pub(super) fn read(&self, spool: SpoolTotals, in_window: usize, in_flight: usize) -> QueueTotals {
        QueueTotals {
            at_start: read(&self.at_start),
            mail: self.mail.read(),
            notifications: self.notifications.read(),
            removed: read(&self.removed),
            queued: spool.recipients,
            spool,
            in_window,
            in_flight,
            turns: read(&self.turns),
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
