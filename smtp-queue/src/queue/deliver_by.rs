//! Messages that are to be delivered by some time (RFC 2852 §4.1): what is late, and who is told of a relay.

use std::time::{Duration, SystemTime};

use smtp_core::{ByMode, Notify};

use crate::envelope::{DeliverByTime, Envelope};
use crate::progress::Progress;

use super::shared::Shared;

impl Shared {
    /// Whether a message is to be returned because its deliver-by-time has come. Nothing is attempted then, not even in the
    /// hour after a start in which nothing else expires.
    pub(super) fn is_to_be_returned(&self, envelope: &Envelope) -> bool {
        envelope.deliver_by.is_some_and(|by| by.mode == ByMode::Return && self.until(by).is_zero())
    }

    /// Whether the sender is to be told, once, that the deliver-by-time has come.
    pub(super) fn is_to_be_called_late(&self, envelope: &Envelope, progress: &Progress) -> bool {
        let by = envelope.deliver_by.filter(|by| by.mode == ByMode::Notify && !progress.late_notified);
        by.is_some_and(|by| self.until(by).is_zero())
    }

    /// When something has to be done because the deliver-by-time comes, by the clock that never jumps.
    pub(super) fn deliver_by_moment(&self, envelope: &Envelope, now: SystemTime) -> Option<SystemTime> {
        let wait = self.until(envelope.deliver_by?);
        now.checked_add(wait).filter(|_| !wait.is_zero())
    }

    /// What time it is for who asks how much is left: by the clock of the host or by the one that never jumps, whichever
    /// says less, so that no jump makes a message late.
    pub(super) fn deliver_by_now(&self) -> SystemTime {
        self.clock.wall().min(self.clock.steady())
    }

    /// Whether the sender is told that a next hop has the message, which does not tell or does not keep to the time: with
    /// `NOTIFY=SUCCESS`; with `T`; and in mode `N` while there is time left (RFC 2852 §4.1.4, §4.1.4.2).
    pub(super) fn tells_of_relay(&self, envelope: &Envelope, notify: Notify) -> bool {
        let is_timely = |by: DeliverByTime| by.mode == ByMode::Notify && !self.until(by).is_zero();
        notify.contains(Notify::SUCCESS) || envelope.deliver_by.is_some_and(|by| by.trace || is_timely(by))
    }

    fn until(&self, by: DeliverByTime) -> Duration {
        by.time.duration_since(self.deliver_by_now()).unwrap_or_default()
    }
}
