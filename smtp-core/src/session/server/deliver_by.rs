//! `DELIVERBY` (RFC 2852): to whom it is offered, and when the time begins that a message may take.

use std::time::{Instant, SystemTime};

use crate::syntax::deliver_by::DeliverBy;

use super::ServerSession;

impl ServerSession {
    /// To everybody. The time is one of the day, so the session must know what that is.
    pub(super) fn offers_deliver_by(&self) -> bool {
        self.config.honours_deliver_by && self.is_esmtp() && self.wall_start.is_some()
    }

    /// RFC 2852 §4: the time begins with `MAIL`.
    pub(super) fn deliver_by_time(&self, now: Instant, by: DeliverBy) -> Option<SystemTime> {
        let said = self.wall_start?.checked_add(now.saturating_duration_since(self.started))?;
        Some(by.time(said))
    }
}
