//! `NO-SOLICITING` (RFC 3865): a server that says at the door what it does not want, and keeps to it.

use crate::session::decision::Refusal;
use crate::session::transaction::Transaction;
use crate::syntax::solicitation::SolicitationClasses;

use super::{HeldRefusal, ServerSession};

/// What a line with `MAIL` may have where it is offered: those of RFC 5321 §4.5.3.1.4, and 1007 more (RFC 3865 §2).
const LINE_WITH_SOLICIT_OCTETS: usize = 512 + 1007;

impl ServerSession {
    /// The classes that are refused, maybe none; `None` where the extension is not offered.
    pub(super) fn refused_classes(&self) -> Option<&SolicitationClasses> {
        let has_room = self.config.limits.command_line_octets >= LINE_WITH_SOLICIT_OCTETS;
        self.config.no_soliciting.as_ref().filter(|_| has_room && self.is_esmtp())
    }

    /// What is answered to each `RCPT` of a message of such a class, as in the example of RFC 3865 §2.3, for those too that
    /// are to be relayed (§2.7). Role mailboxes stay reachable (PRACTICES P4).
    pub(super) fn solicitation(&self, transaction: &Transaction) -> Option<HeldRefusal> {
        let said = transaction.parameters().solicit.as_ref()?;
        let is_refused = self.refused_classes()?.have_any_of(said);
        // RFC 3865 §2.4
        let refusal = || Refusal::permanent(7, 1, "No soliciting of what EHLO lists");
        is_refused.then(|| HeldRefusal { refusal: refusal(), policy: None })
    }
}
