//! `FUTURERELEASE` (RFC 4865): to whom it is offered, and which wishes are within its limits.

use std::time::SystemTime;

use crate::session::replies::{self, Fixed};
use crate::syntax::future_release::FutureRelease;

use super::ServerSession;

impl ServerSession {
    /// Until when a message may be held at most; `None` where it may not. RFC 4865 §4: an extension of submission only. Who has
    /// authenticated since `EHLO` may use what was not offered then.
    pub(super) fn holds_until(&self) -> Option<SystemTime> {
        let is_required = self.config.authentication.as_ref().is_some_and(|offered| offered.is_required);
        let is_submission = is_required || self.connection.identity().is_some();
        let is_offered =
            self.config.honours_future_release && is_submission && self.is_esmtp() && !self.config.protocol.is_lmtp();
        self.wall_start.filter(|_| is_offered)?.checked_add(FutureRelease::LIMIT)
    }

    /// What is answered to who wants more than is offered; `None` where the message will be held so.
    pub(super) fn why_not_held(&self, wish: FutureRelease) -> Option<Fixed> {
        let Some(latest) = self.holds_until() else { return Some(replies::UNKNOWN_PARAMETER) };
        let is_within = match wish {
            FutureRelease::For(wait) => wait <= FutureRelease::LIMIT,
            FutureRelease::Until(moment) => moment <= latest,
        };
        (!is_within).then_some(replies::HELD_TOO_LONG)
    }
}
