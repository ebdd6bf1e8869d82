//! The observer that writes a trace.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use smtp_core::{
    AttemptResult, Connection, DeliveryAttempt, DeliveryEvent, HookFailure, Observer, PolicyEvent, PolicyFinding,
    SafeText, SessionEvent, SessionId, TransactionId,
};

use super::entry::TraceEntry;
use super::event::{Judged, JudgedFinding, Traced};
use crate::clock::Clock;
use crate::rules::Rules;

/// The most octets of lines that are kept of one session: 256 KiB.
pub const TRACE_SESSION_LIMIT_OCTETS: usize = 256 << 10;
/// The most sessions that are counted at a time. Beyond, a session has no limit of its own.
const SESSIONS: usize = 100_000;

/// Writes what happens as lines of a trace: who connected and said what, what was found, why something was refused, and what
/// became of what was taken. Never a password, and nothing of contents.
///
/// Given to the server, to the [`Chain`](crate::Chain) and to the queue it sees all three.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use smtp_core::{Accepted, Message, Server};
/// use smtp_policy::{Chain, DecisionTrace, NullSender, Preset};
///
/// let lines = Arc::new(Mutex::new(String::new()));
/// let written = lines.clone();
/// let trace = Arc::new(DecisionTrace::new(move |line| written.lock().unwrap().push_str(line)));
/// let server = Server::builder("mx.example.org")
///     .local_domain("example.org")
///     .observer(trace.clone())
///     .policy(Chain::new("recommended", Preset::Bcp).with(NullSender).observed_by(trace))
///     .deliver(|_: Message| async { Ok(Accepted::all()) });
/// ```
pub struct DecisionTrace {
    keep: Box<dyn Fn(&str) + Send + Sync>,
    clock: Clock,
    /// Octets so far, of sessions that are open.
    sessions: Mutex<HashMap<SessionId, usize>>,
}

impl DecisionTrace {
    /// Each line, with its line feed, goes to `keep`, which must not block.
    pub fn new(keep: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { keep: Box::new(keep), clock: Clock::default(), sessions: Mutex::default() }
    }

    /// The line that says what is looked at by these rules. It belongs in front of what is traced while they hold, at the start
    /// of each file: without it [`Replay`](crate::Replay) does not know what was looked at and not found.
    pub fn rules_line(rules: &Rules) -> String {
        let practices = rules.looked_at().map(SafeText::new).collect();
        TraceEntry::new(Clock::default().now(), None, Traced::Rules { practices }).to_line()
    }

    fn write(&self, session: Option<SessionId>, traced: Traced) {
        let closes = matches!(traced, Traced::Closed { .. });
        // What becomes of a delivery may be known only when the session is over, and nobody would forget it again.
        let may_be_late = matches!(traced, Traced::Trouble { .. });
        let entry = TraceEntry::new(self.clock.now(), session, traced);
        let line = entry.to_line();
        let Some(session) = session else { return (self.keep)(&line) };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let octets = sessions.get(&session).copied().unwrap_or(0);
        let after = octets.saturating_add(line.len());
        if closes {
            sessions.remove(&session);
        } else if octets > 0 || (!may_be_late && sessions.len() < SESSIONS) {
            sessions.insert(session, after.min(TRACE_SESSION_LIMIT_OCTETS + 1));
        }
        drop(sessions);
        if after <= TRACE_SESSION_LIMIT_OCTETS || closes {
            (self.keep)(&line);
        } else if octets <= TRACE_SESSION_LIMIT_OCTETS {
            (self.keep)(&TraceEntry::new(self.clock.now(), Some(session), Traced::Cut).to_line());
        }
    }
}

impl fmt::Debug for DecisionTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionTrace").finish_non_exhaustive()
    }
}

impl Observer for DecisionTrace {
    fn session(&self, connection: &Connection, event: &SessionEvent) {
        if let Some(traced) = of_session(connection, event) {
            self.write(Some(connection.session_id()), traced);
        }
    }

    fn policy(&self, connection: &Connection, event: &PolicyEvent) {
        self.write(Some(connection.session_id()), Traced::Judged(judged(event)));
    }

    fn delivery(&self, event: &DeliveryEvent) {
        if let Some(traced) = of_delivery(event) {
            self.write(None, traced);
        }
    }
}

fn text(value: &(impl ToString + ?Sized)) -> SafeText {
    SafeText::new(value.to_string())
}

fn transaction(id: Option<TransactionId>) -> SafeText {
    id.map(|id| text(&id)).unwrap_or_default()
}

fn count(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// `None` of what a later version of the core reports.
fn of_session(connection: &Connection, event: &SessionEvent) -> Option<Traced> {
    let trouble = |problem: String| Traced::Trouble { problem: SafeText::new(problem) };
    Some(match event {
        SessionEvent::Connected => Traced::Connected { peer: connection.peer(), local: connection.local() },
        SessionEvent::Greeted(greeted) => Traced::Greeted {
            name: greeted.greeting().map(|greeting| text(greeting.host())).unwrap_or_default(),
            protocol: SafeText::new(greeted.protocol().as_str()),
        },
        SessionEvent::TlsStarted(secured) => {
            let facts = secured.tls();
            let version = facts.map(|facts| text(&facts.version)).unwrap_or_default();
            Traced::Tls { version, cipher: facts.map(|facts| facts.cipher.clone()).unwrap_or_default() }
        }
        SessionEvent::PassedOn { by } => Traced::PassedOn { peer: connection.peer(), by: *by },
        SessionEvent::ProxyRefused { cause } => trouble(format!("proxy refused: {cause}")),
        SessionEvent::TlsFailed { cause } => Traced::TlsFailed { cause: cause.clone() },
        SessionEvent::Authenticated { identity, mechanism } => {
            Traced::Authenticated { identity: text(identity.as_str()), mechanism: text(mechanism.as_str()) }
        }
        SessionEvent::LoginDelayed { user, delay } => {
            Traced::LoginDelayed { user: user.clone(), seconds: delay.as_secs() }
        }
        SessionEvent::SenderAccepted { transaction, reverse_path } => {
            Traced::Sender { transaction: text(transaction), reverse_path: text(reverse_path) }
        }
        SessionEvent::RecipientAccepted { transaction, recipient } => {
            Traced::Recipient { transaction: text(transaction), recipient: text(recipient) }
        }
        SessionEvent::Refused { stage, transaction: id, subject, reply, policy, held } => Traced::Refused {
            transaction: transaction(*id),
            stage: SafeText::new(stage.as_str()),
            subject: subject.clone(),
            reply: text(reply),
            policy: policy.clone().unwrap_or_default(),
            held: *held,
        },
        SessionEvent::StorageFailed { cause } => trouble(format!("the content could not be kept: {cause}")),
        SessionEvent::LookupFailed { recipient, cause } => trouble(format!("{recipient} was not looked up: {cause}")),
        SessionEvent::Accepted { transaction, reverse_path, recipients, octets, id, .. } => Traced::Accepted {
            transaction: text(transaction),
            reverse_path: text(reverse_path),
            recipients: count(*recipients),
            octets: *octets,
            id: id.clone().unwrap_or_default(),
        },
        SessionEvent::AcknowledgementUnconfirmed { transaction } => {
            trouble(format!("{transaction} was accepted, and whether the client knows cannot be told"))
        }
        SessionEvent::DeliveredLate { transaction } => {
            trouble(format!("{transaction} was delivered after the client had been told 451"))
        }
        SessionEvent::HookFailed { stage, hook, failure } => {
            let how = match failure {
                HookFailure::Panicked => "panicked",
                HookFailure::TimedOut => "did not answer in time",
                HookFailure::Blocks(_) => "blocks its thread",
                HookFailure::ClientLeft => "was ended, since the client had left",
                _ => "failed",
            };
            trouble(format!("{hook} {how} ({})", stage.as_str()))
        }
        SessionEvent::Closed(reason) => Traced::Closed { reason: SafeText::new(reason.as_str()) },
        _ => return None,
    })
}

fn judged(event: &PolicyEvent) -> Judged {
    let shadow = event.shadow.as_ref();
    let shadow_reply = shadow.and_then(|shadow| shadow.reply.as_ref());
    Judged {
        policy: event.policy.clone(),
        transaction: transaction(event.transaction),
        recipient: event.recipient.as_ref().map(text).unwrap_or_default(),
        content_seen: event.content_seen,
        is_role: event.is_role,
        findings: event.findings.iter().map(finding).collect(),
        score: event.score,
        judged: event.judged.clone(),
        action: event.action.clone(),
        reply: event.reply.as_ref().map(text).unwrap_or_default(),
        shadow: shadow.map(|shadow| shadow.action.clone()).unwrap_or_default(),
        shadow_reply: shadow_reply.map(text).unwrap_or_default(),
    }
}

fn finding(finding: &PolicyFinding) -> JudgedFinding {
    JudgedFinding {
        practice: finding.practice.clone(),
        number: finding.number.clone(),
        outcome: finding.outcome.clone(),
        action: finding.action.clone(),
        weight: finding.weight,
        own_weight: finding.own_weight,
        evidence: finding.evidence.clone(),
        explanation: finding.explanation.clone(),
        shadow: finding.shadow.clone().unwrap_or_default(),
    }
}

/// `None` of what is about the queue as a whole: it stands in the log.
fn of_delivery(event: &DeliveryEvent) -> Option<Traced> {
    let noted = |id: &SafeText, note: String| Traced::Noted { id: id.clone(), note: SafeText::new(note) };
    Some(match event {
        DeliveryEvent::Queued { id, transaction, reverse_path, recipients, .. } => Traced::Queued {
            id: id.clone(),
            transaction: transaction.clone(),
            reverse_path: text(reverse_path),
            recipients: count(*recipients),
        },
        DeliveryEvent::Discarded { id, recipient, reason } => {
            noted(id, format!("the copy of <{recipient}> was dropped: {reason}"))
        }
        DeliveryEvent::Attempted { attempt, result } => attempted(
            attempt,
            match result {
                AttemptResult::Delivered => "delivered",
                AttemptResult::Quarantined => "quarantined",
                AttemptResult::Deferred { .. } => "deferred",
                AttemptResult::Failed => "failed",
                _ => return None,
            },
        ),
        DeliveryEvent::Expired { attempt } => attempted(attempt, "expired"),
        DeliveryEvent::NotificationQueued { about, id, recipient } => {
            Traced::Notified { about: about.clone(), id: id.clone(), recipient: text(recipient) }
        }
        DeliveryEvent::NotificationWithheld { id, recipient, reason } => {
            noted(id, format!("no notification about <{recipient}>: {reason}"))
        }
        DeliveryEvent::Moved { id, from, to } => noted(id, format!("it waits for {to}, no longer for {from}")),
        DeliveryEvent::Removed { id, recipients } => {
            noted(id, format!("an operator removed it; recipients without an outcome: {recipients}"))
        }
        DeliveryEvent::TransportFailed { id, site, failure } => {
            noted(id, format!("the transport of {site}: {failure}"))
        }
        DeliveryEvent::OutcomeLost { id, recipient, cause } => {
            noted(id, format!("<{recipient}> got it, and that could not be recorded: {cause}"))
        }
        DeliveryEvent::PastDue { id, site, by } => noted(id, format!("past due at {site} by {} s", by.as_secs())),
        _ => return None,
    })
}

fn attempted(attempt: &DeliveryAttempt, result: &'static str) -> Traced {
    Traced::Attempted {
        id: attempt.id.clone(),
        recipient: text(&attempt.recipient),
        site: attempt.site.clone(),
        number: attempt.number,
        result: SafeText::new(result),
        reply: text(&attempt.reply),
        remote: attempt.remote.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use smtp_core::SessionId;

    use super::*;

    #[test] // SECURITY: nothing is unbounded
    fn what_comes_behind_the_end_of_a_session_is_written_and_leaves_nothing() {
        let trace = DecisionTrace::new(|_: &str| {});
        let known = |trace: &DecisionTrace| trace.sessions.lock().unwrap_or_else(PoisonError::into_inner).len();
        let session = Some(SessionId::new(1));
        let late = || Traced::Trouble { problem: SafeText::new("it was delivered after all") };
        trace.write(session, Traced::Greeted { name: SafeText::new("a"), protocol: SafeText::new("ESMTP") });
        assert_eq!(known(&trace), 1);
        trace.write(session, late());
        trace.write(session, Traced::Closed { reason: SafeText::new("quit") });
        trace.write(session, late());
        assert_eq!(known(&trace), 0);
    }
}
