//! Recipients: `RCPT`, and what the lookup and the policies make of it (PRACTICES P7).

use std::time::Instant;

use crate::session::decision::{Decision, Lookup, LookupAnswer, Question};
use crate::session::event::{CloseReason, SessionEvent, Stage};
use crate::session::replies;
use crate::session::transaction::Recipient;
use crate::syntax::address::Mailbox;
use crate::syntax::parameter::RcptParameters;
use crate::syntax::path::ForwardPath;
use crate::syntax::text::{SafeText, to_text};

use super::{ServerSession, Stages};

impl ServerSession {
    /// PRACTICES P7: syntax, limits, then the lookup.
    pub(super) fn rcpt(&mut self, now: Instant, path: ForwardPath, parameters: RcptParameters, line: &[u8]) {
        let limits = &self.config.limits;
        let (recipients, most_excess) = (limits.recipients as usize, limits.excess_recipients);
        if parameters.unrecognized.is_some()
            || !(parameters.dsn.is_empty() || self.offers_dsn())
            || !(parameters.valid_since.is_none() || self.offers_rrvs())
        {
            return self.error(now, Stage::Recipient, replies::UNKNOWN_PARAMETER, line);
        }
        let Some(transaction) = &mut self.transaction else { return };
        if !(path.is_ascii() || transaction.parameters().smtputf8) {
            return self.error(now, Stage::Recipient, replies::NEEDS_SMTPUTF8, line);
        }
        if transaction.recipients().len() < recipients {
            transaction.asks_for_next(parameters);
            return self.ask(Question::Lookup, path);
        }
        if transaction.count_excess_recipient() > most_excess {
            self.close(CloseReason::Limit, Some(replies::FAR_TOO_MANY_RECIPIENTS));
        } else {
            self.refuse(Stage::Recipient, replies::TOO_MANY_RECIPIENTS, line);
        }
    }

    /// PRACTICES P7: relay, existence, role mailbox, held refusal, policies.
    pub(crate) fn looked_up(&mut self, now: Instant, path: ForwardPath, answer: LookupAnswer) {
        let text = to_text(&path);
        let is_bare_postmaster = path == ForwardPath::Postmaster;
        let mailboxes = match answer.lookup {
            Err(cause) => {
                let cause = SafeText::new(cause.to_string());
                self.event(|| SessionEvent::LookupFailed { recipient: path, cause });
                return self.refuse(Stage::Lookup, replies::TRY_LATER, text.as_bytes());
            }
            Ok(Lookup::Alias(mailboxes))
                if mailboxes.is_empty() || mailboxes.len() > self.config.limits.alias_mailboxes =>
            {
                let cause = SafeText::new(format!("alias with {} mailboxes", mailboxes.len()));
                self.event(|| SessionEvent::LookupFailed { recipient: path, cause });
                return self.refuse(Stage::Lookup, replies::TRY_LATER, text.as_bytes());
            }
            Ok(Lookup::Alias(mailboxes)) if self.has_too_many_mailboxes(mailboxes.len()) => {
                return self.refuse(Stage::Lookup, replies::TOO_MANY_RECIPIENTS, text.as_bytes());
            }
            Ok(Lookup::Alias(mailboxes)) => mailboxes,
            // RFC 5321 §4.5.1: <postmaster> without a domain is accepted whatever the lookup thinks.
            Ok(_) if is_bare_postmaster => vec![self.config.postmaster.clone()],
            Ok(Lookup::Mailbox) => Vec::new(),
            Ok(Lookup::NotLocal) if self.is_local(&path) => {
                return self.error(now, Stage::Lookup, replies::UNKNOWN_MAILBOX, text.as_bytes());
            }
            Ok(Lookup::NotLocal) if self.connection.may_relay() => {
                let recipient = self.recipient(path, Vec::new(), false);
                return self.judge_recipient(now, recipient, false);
            }
            Ok(Lookup::NotLocal) => {
                let may_authenticate = self.config.authentication.is_some();
                let reply = if may_authenticate { replies::AUTHENTICATE_TO_RELAY } else { replies::NOT_LOCAL };
                return self.error(now, Stage::Lookup, reply, text.as_bytes());
            }
            Ok(Lookup::Unknown) => return self.error(now, Stage::Lookup, replies::UNKNOWN_MAILBOX, text.as_bytes()),
            Ok(Lookup::Refused(refusal)) => {
                self.refused(Stage::Lookup, SafeText::new(text), refusal.reply(), None, false);
                let is_error = !refusal.is_transient() && !refusal.closes();
                return if is_error { self.say_error(now, refusal.reply()) } else { self.say_refusal(&refusal) };
            }
        };
        let recipient = self.recipient(path, mailboxes, answer.is_role || is_bare_postmaster);
        self.judge_recipient(now, recipient, true);
    }

    /// With what the client said of it.
    fn recipient(&mut self, path: ForwardPath, mailboxes: Vec<Mailbox>, is_role: bool) -> Recipient {
        let asked = self.transaction.as_mut().map(|transaction| transaction.take_asked()).unwrap_or_default();
        Recipient::new(path, mailboxes, is_role, asked)
    }

    /// Whether so many more would exceed what all aliases of a transaction may have.
    pub(super) fn has_too_many_mailboxes(&self, more: usize) -> bool {
        let transaction = self.transaction.as_ref();
        transaction.map_or(0, |transaction| transaction.alias_mailboxes()) + more > self.config.limits.mailboxes
    }

    pub(super) fn is_local(&self, path: &ForwardPath) -> bool {
        path.domain().is_some_and(|domain| self.config.local_domains.contains(domain))
    }

    /// The recipient exists. Role mailboxes of ours are accepted at once (PRACTICES P4, P7).
    fn judge_recipient(&mut self, now: Instant, recipient: Recipient, is_here: bool) {
        if recipient.is_role() {
            return self.accept_recipient(recipient);
        }
        if let Some(held) = self.held.strongest().cloned() {
            let subject = SafeText::new(recipient.path().to_string());
            self.refused(Stage::Recipient, subject, held.refusal.reply(), held.policy, false);
            return self.say_refusal(&held.refusal);
        }
        self.check_owner(now, recipient, is_here);
    }

    pub(super) fn consider_recipient(&mut self, recipient: Recipient) {
        if self.config.stages.contains(Stages::RECIPIENT) {
            self.ask(Question::Recipient, recipient);
        } else {
            self.accept_recipient(recipient);
        }
    }

    pub(crate) fn recipient_decided(&mut self, _now: Instant, recipient: Recipient, mut decision: Decision) {
        let subject = SafeText::new(recipient.path().to_string());
        let refusal = self.take_decision(Stage::Recipient, &mut decision, subject);
        if let Some(transaction) = &mut self.transaction {
            transaction.apply(decision.changes);
        }
        match refusal {
            Some(refusal) => self.say_refusal(&refusal),
            None => self.accept_recipient(recipient),
        }
    }

    pub(super) fn accept_recipient(&mut self, recipient: Recipient) {
        let Some(transaction) = &mut self.transaction else { return };
        let id = transaction.id();
        let path = self.config.observed.then(|| recipient.path().clone());
        transaction.add_recipient(recipient);
        if let Some(recipient) = path {
            self.event(|| SessionEvent::RecipientAccepted { transaction: id, recipient });
        }
        self.say_fixed(replies::RECIPIENT_OK);
    }
}
