//! `MT-PRIORITY` (RFC 6710): who may ask for which priority.

use crate::syntax::parameter::MailParameters;
use crate::syntax::priority::Priority;

use super::ServerSession;

impl ServerSession {
    /// To everybody: whoever it is may be less urgent than others (RFC 6710 §4.1).
    pub(super) fn offers_priority(&self) -> bool {
        self.config.honours_priority && self.is_esmtp()
    }

    /// RFC 6710 §4.1: nobody is more urgent than others on its own word. Whether the priority was lowered to the normal one.
    pub(super) fn lower_priority(&self, parameters: &mut MailParameters) -> bool {
        let is_too_high = |asked: &Priority| *asked > Priority::NORMAL && !self.connection.may_relay();
        let lowered = parameters.priority.filter(is_too_high).map(|_| Priority::NORMAL);
        parameters.priority = lowered.or(parameters.priority);
        lowered.is_some()
    }
}
