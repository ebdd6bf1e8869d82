//! An observer that writes events with the `tracing` crate: the only file that names it.

use crate::hooks::observer::Observer;
use crate::session::connection::Connection;
use crate::session::event::{HookFailure, SessionEvent};

/// Writes each event with the target `smtp` and the fields `session` and `peer`.
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
                let id = id.as_ref().map(ToString::to_string).unwrap_or_default();
                let from = reverse_path.to_string();
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
}
