//! Messages that their senders want to be held until a moment (RFC 4865): they are scheduled for it, and nothing else makes them
//! wait.

use std::time::{Duration, SystemTime};

use smtp_core::FutureRelease;

use crate::envelope::Envelope;

use super::shared::Shared;

impl Shared {
    /// When a message that was taken just now is tried first, and whether that is later.
    pub(super) fn first_attempt(&self, envelope: &Envelope) -> (SystemTime, bool) {
        let now = self.clock.steady();
        let wait = self.held_for(envelope);
        (now.checked_add(wait).unwrap_or(now), !wait.is_zero())
    }

    /// How long it is until a message is to be released: by the clock of the host or by the one that never jumps, whichever
    /// says more, so that no jump makes it early. No server lets in what is held for longer than [`FutureRelease::LIMIT`]; a
    /// clock by which it seems so was put back, and is not asked.
    pub(super) fn held_for(&self, envelope: &Envelope) -> Duration {
        const LIMIT: Duration = FutureRelease::LIMIT.saturating_add(Duration::from_secs(24 * 3600));
        let clocks = [self.clock.wall(), self.clock.steady()];
        let waits = clocks.iter().filter_map(|now| envelope.release?.duration_since(*now).ok());
        waits.filter(|wait| *wait <= LIMIT).max().unwrap_or_default()
    }
}
