//! `RRVS` (RFC 7293): mail for a mailbox that must still be that of the person the sender knows.

use std::time::Instant;

use crate::session::decision::{LookupError, Question};
use crate::session::event::{SessionEvent, Stage};
use crate::session::ownership::Ownership;
use crate::session::replies;
use crate::session::transaction::Recipient;
use crate::syntax::text::{SafeText, to_text};
use crate::syntax::valid_since::NoSupport;

use super::ServerSession;

/// What a line with `RCPT` may have: those of RFC 5321 §4.5.3.1.4, 500 more with `DSN`, and 33 more (RFC 7293 §3.1).
const LINE_WITH_RRVS_OCTETS: usize = 512 + 500 + 33;

impl ServerSession {
    pub(super) fn offers_rrvs(&self) -> bool {
        let has_room = self.config.limits.command_line_octets >= LINE_WITH_RRVS_OCTETS;
        self.config.honours_rrvs && has_room && self.is_esmtp()
    }

    /// A recipient that may have conditions: they are met, or it is refused. Nobody is told of an owner who could not have
    /// sent anything, so held refusals go before.
    pub(super) fn check_owner(&mut self, now: Instant, recipient: Recipient, is_here: bool) {
        match recipient.valid_since() {
            Some(_) if is_here => self.ask(Question::Ownership, recipient),
            // RFC 7293 §5.1.1: to the delivery it would be a wish like any that it does not know.
            Some(wish) if wish.no_support() == NoSupport::Reject && !self.config.relays_rrvs => {
                let text = to_text(recipient.path());
                self.error(now, Stage::Lookup, replies::RRVS_ENDS_HERE, text.as_bytes());
            }
            _ => self.consider_recipient(recipient),
        }
    }

    /// RFC 7293 §5.1, §14.2 of its codes.
    pub(crate) fn owner_told(
        &mut self,
        now: Instant,
        mut recipient: Recipient,
        answer: Result<Ownership, LookupError>,
    ) {
        let text = to_text(recipient.path());
        let refusal = match answer {
            Ok(Ownership::Continuous) => {
                // It was checked here: behind it is passed on, and needs nobody who knows it.
                recipient.owner_was_checked();
                return self.consider_recipient(recipient);
            }
            Ok(Ownership::MailboxChanged) => replies::MAILBOX_OWNER_CHANGED,
            Ok(Ownership::DomainChanged) => replies::DOMAIN_OWNER_CHANGED,
            Ok(Ownership::Unknown) => replies::OWNER_UNKNOWN,
            Err(cause) => {
                let cause = SafeText::new(cause.to_string());
                let path = recipient.path().clone();
                self.event(|| SessionEvent::LookupFailed { recipient: path, cause });
                return self.refuse(Stage::Lookup, replies::TRY_LATER, text.as_bytes());
            }
        };
        self.error(now, Stage::Lookup, refusal, text.as_bytes());
    }
}
