//! An observer that writes events with the `tracing` crate: the only file that names it.

use crate::hooks::delivery_event::{AttemptResult, DeliveryAttempt, DeliveryEvent};
use crate::hooks::observer::Observer;
use crate::hooks::policy_event::{PolicyEvent, PolicyFinding};
use crate::message::date::DateTime;
use crate::session::connection::Connection;
use crate::session::event::{HookFailure, SessionEvent};
use crate::syntax::text::{SafeText, to_text};

/// Writes each event of a session with the target `smtp` and the fields `session` and `peer`, each event of a queue with
/// the target `queue` and the field `id`.
///
/// Text from outside is given as a string, which the text format of `tracing-subscriber` writes in quotes.
/// What goes right is at level `info` or `debug`, refusals at `info`, failures of hooks at `error`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingObserver;

impl Observer for TracingObserver {
    fn session(&self, connection: &Connection, event: &SessionEvent) {
        let session = connection.session_id();
        let peer = connection.peer().ip();
        match event {
            SessionEvent::Connected => tracing::debug!(target: "smtp", %session, %peer, "connected"),
            SessionEvent::Greeted(greeted) => {
                let helo = greeted.greeting().map(|greeting| greeting.host().to_string()).unwrap_or_default();
                tracing::debug!(target: "smtp", %session, %peer, helo, "greeted");
            }
            SessionEvent::TlsStarted(connection) => {
                let (version, cipher) = connection.tls().map(|tls| (tls.version, &tls.cipher)).unzip();
                let version = version.map(tracing::field::display);
                tracing::debug!(target: "smtp", %session, %peer, version, cipher = cipher.map(tracing::field::display), "TLS");
            }
            SessionEvent::PassedOn { by } => {
                let name = connection.client_name().map(tracing::field::display);
                tracing::info!(target: "smtp", %session, %peer, %by, name, "passed on");
            }
            SessionEvent::ProxyRefused { cause } => {
                tracing::warn!(target: "smtp", %session, %peer, %cause, "proxy refused");
            }
            SessionEvent::TlsFailed { cause } => {
                tracing::info!(target: "smtp", %session, %peer, %cause, "TLS handshake failed");
            }
            SessionEvent::Authenticated { identity, mechanism } => {
                let (identity, mechanism) = (SafeText::new(identity.as_str().to_owned()), mechanism.as_str());
                let identity = identity.as_str();
                tracing::info!(target: "smtp", %session, %peer, identity, mechanism, "authenticated");
            }
            SessionEvent::LoginDelayed { user, delay } => {
                let (user, seconds) = (user.as_str(), delay.as_secs());
                tracing::warn!(target: "smtp", %session, %peer, user, seconds, "login delayed");
            }
            SessionEvent::SenderAccepted { transaction, reverse_path } => {
                // Written only where somebody reads it.
                let from = || to_text(reverse_path);
                tracing::debug!(target: "smtp", %session, %peer, %transaction, from = from(), "sender accepted");
            }
            SessionEvent::RecipientAccepted { transaction, recipient } => {
                let recipient = || to_text(recipient);
                tracing::debug!(
                    target: "smtp", %session, %peer, %transaction, recipient = recipient(), "recipient accepted"
                );
            }
            SessionEvent::Refused { stage, transaction, subject, reply, policy, held } => {
                let transaction = transaction.map(|id| id.to_string()).unwrap_or_default();
                let policy = policy.as_ref().map(ToString::to_string).unwrap_or_default();
                let (stage, subject, reply) = (stage.as_str(), subject.as_str(), reply.to_string());
                tracing::info!(
                    target: "smtp", %session, %peer, transaction, stage, subject, reply, policy, held, "refused"
                );
            }
            SessionEvent::LookupFailed { recipient, cause } => {
                let (recipient, cause) = (recipient.to_string(), cause.as_str());
                tracing::error!(target: "smtp", %session, %peer, recipient, cause, "recipient lookup failed");
            }
            SessionEvent::StorageFailed { cause } => {
                tracing::error!(target: "smtp", %session, %peer, cause = cause.as_str(), "content could not be kept");
            }
            SessionEvent::Accepted { transaction, reverse_path, recipients, octets, id, partial } => {
                let (from, id) = (to_text(reverse_path), id.as_ref().map_or("", SafeText::as_str));
                tracing::info!(
                    target: "smtp", %session, %peer, %transaction, from, recipients, octets, id, partial, "accepted"
                );
            }
            SessionEvent::AcknowledgementUnconfirmed { transaction } => {
                tracing::warn!(target: "smtp", %session, %peer, %transaction, "acknowledgement unconfirmed");
            }
            SessionEvent::DeliveredLate { transaction } => {
                tracing::warn!(target: "smtp", %session, %peer, %transaction, "delivered after the client was told 451");
            }
            SessionEvent::HookFailed { stage, hook, failure } => {
                let (stage, hook) = (stage.as_str(), hook.as_str());
                match failure {
                    HookFailure::Panicked => {
                        tracing::error!(target: "smtp", %session, %peer, stage, hook, "hook panicked");
                    }
                    HookFailure::TimedOut => {
                        tracing::error!(target: "smtp", %session, %peer, stage, hook, "hook timed out");
                    }
                    HookFailure::Blocks(duration) => {
                        let seconds = duration.as_secs();
                        tracing::error!(target: "smtp", %session, %peer, stage, hook, seconds, "hook blocks its thread");
                    }
                    HookFailure::ClientLeft => {
                        tracing::info!(target: "smtp", %session, %peer, stage, hook, "client left during hook");
                    }
                }
            }
            SessionEvent::Closed(reason) => {
                tracing::debug!(target: "smtp", %session, %peer, reason = reason.as_str(), "closed");
            }
        }
    }

    fn policy(&self, connection: &Connection, event: &PolicyEvent) {
        let session = connection.session_id();
        let peer = connection.peer().ip();
        let transaction = event.transaction.map(|id| id.to_string()).unwrap_or_default();
        let recipient = event.recipient.as_ref().map(to_text).unwrap_or_default();
        let findings: Vec<_> = event.findings.iter().map(describe_finding).collect();
        let (policy, action, findings) = (event.policy.as_str(), event.action.as_str(), findings.join("; "));
        let (score, content_seen) = (event.score, event.content_seen);
        let reply = event.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        // What would have been done if nothing was only observed, where that is something else.
        let shadow = event.shadow.as_ref().map(|shadow| match &shadow.reply {
            Some(reply) => format!("{} {reply}", shadow.action),
            None => shadow.action.to_string(),
        });
        tracing::info!(
            target: "smtp", %session, %peer, transaction, recipient, policy, action, score, content_seen, findings, reply,
            shadow, "judged"
        );
    }

    fn delivery(&self, event: &DeliveryEvent) {
        match event {
            DeliveryEvent::Queued { id, transaction, reverse_path, recipients, octets } => {
                // Written only where somebody reads it.
                let (id, transaction, from) = (id.as_str(), transaction.as_str(), || to_text(reverse_path));
                if transaction.is_empty() {
                    tracing::info!(target: "queue", id, from = from(), recipients, octets, "queued");
                } else {
                    // Its session says the same with `accepted`, so that one line of each message is enough.
                    tracing::debug!(target: "queue", id, transaction, from = from(), recipients, octets, "queued");
                }
            }
            DeliveryEvent::Discarded { id, recipient, reason } => {
                let (id, recipient, reason) = (id.as_str(), recipient.to_string(), reason.as_str());
                tracing::info!(target: "queue", id, recipient, reason, "discarded");
            }
            DeliveryEvent::Attempted { attempt, result } => write_attempt(attempt, *result),
            DeliveryEvent::Expired { attempt } => {
                let (id, recipient, site) = (attempt.id.as_str(), attempt.recipient.to_string(), attempt.site.as_str());
                let (number, reply, age) = (attempt.number, attempt.reply.to_string(), attempt.age.as_secs());
                tracing::warn!(target: "queue", id, recipient, site, attempt = number, reply, age, "expired");
            }
            DeliveryEvent::RoleMailFailed { id, role, recipient, reply } => {
                let (id, role, recipient, reply) =
                    (id.as_str(), role.as_str(), recipient.to_string(), reply.to_string());
                tracing::error!(target: "queue", id, role, recipient, reply, "mail for a role mailbox failed");
            }
            DeliveryEvent::NotificationQueued { about, id, recipient } => {
                let (about, id, recipient) = (about.as_str(), id.as_str(), recipient.to_string());
                tracing::info!(target: "queue", id, about, recipient, "notification queued");
            }
            DeliveryEvent::NotificationWithheld { id, recipient, reason } => {
                let (id, recipient, reason) = (id.as_str(), recipient.to_string(), reason.as_str());
                tracing::info!(target: "queue", id, recipient, reason, "no notification");
            }
            DeliveryEvent::Moved { id, from, to } => {
                let (id, from, to) = (id.as_str(), from.as_str(), to.as_str());
                tracing::info!(target: "queue", id, from, to, "moved to another site");
            }
            DeliveryEvent::Removed { id, recipients } => {
                tracing::warn!(target: "queue", id = id.as_str(), recipients, "removed by an operator");
            }
            DeliveryEvent::Released { id, released_as, recipients } => {
                let (id, released_as) = (id.as_str(), released_as.as_str());
                tracing::info!(target: "queue", id, released_as, recipients, "released from quarantine");
            }
            DeliveryEvent::QuarantineExpired { id, recipients } => {
                tracing::info!(target: "queue", id = id.as_str(), recipients, "expired in quarantine");
            }
            DeliveryEvent::TransportFailed { id, site, failure } => {
                let (id, site) = (id.as_str(), site.as_str());
                tracing::error!(target: "queue", id, site, %failure, "transport failed");
            }
            DeliveryEvent::StoreFailed { action, cause, stops } => {
                tracing::error!(target: "queue", action, cause = cause.as_str(), stops, "the store failed");
            }
            DeliveryEvent::OutcomeLost { id, recipient, cause } => {
                let (id, recipient, cause) = (id.as_str(), recipient.to_string(), cause.as_str());
                tracing::error!(target: "queue", id, recipient, cause, "delivered, and that could not be recorded");
            }
            DeliveryEvent::ClockJumped { distance, is_back, suspended_for } => {
                let (seconds, suspended) = (distance.as_secs(), suspended_for.as_secs());
                tracing::error!(target: "queue", seconds, is_back, suspended, "the clock jumped, nothing expires");
            }
            DeliveryEvent::PastDue { id, site, by } => {
                let (id, site, seconds) = (id.as_str(), site.as_str(), by.as_secs());
                tracing::error!(target: "queue", id, site, seconds, "past due");
            }
        }
    }
}

fn write_attempt(attempt: &DeliveryAttempt, result: AttemptResult) {
    let (id, recipient, site) = (attempt.id.as_str(), attempt.recipient.to_string(), attempt.site.as_str());
    let (number, reply, age) = (attempt.number, attempt.reply.to_string(), attempt.age.as_secs());
    let remote = attempt.remote.as_ref().map_or("", |remote| remote.as_str());
    match result {
        AttemptResult::Delivered => {
            tracing::info!(target: "queue", id, recipient, site, remote, attempt = number, reply, age, "delivered");
        }
        AttemptResult::Quarantined => {
            tracing::info!(target: "queue", id, recipient, site, remote, attempt = number, reply, age, "quarantined");
        }
        AttemptResult::Deferred { next_attempt } => {
            let next = DateTime::new(next_attempt).to_string();
            tracing::info!(target: "queue", id, recipient, site, remote, attempt = number, reply, next, "deferred");
        }
        AttemptResult::Failed => {
            tracing::warn!(target: "queue", id, recipient, site, remote, attempt = number, reply, age, "failed");
        }
    }
}
fn describe_finding(finding: &PolicyFinding) -> String {
    let PolicyFinding { practice, outcome, action, weight, evidence, .. } = finding;
    let weight = if *weight == 0 { String::new() } else { format!(" {weight}") };
    format!("{practice}={outcome} {action}{weight} ({evidence})")
}
