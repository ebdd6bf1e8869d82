//! The only way out for events.

use crate::session::connection::Connection;
use crate::session::event::SessionEvent;

use super::delivery_event::DeliveryEvent;
use super::policy_event::PolicyEvent;

/// Is told what happens, synchronously, in the task of the session (a hook that blocks is reported
/// from a thread of its own): it must not block.
///
/// ```
/// use smtp_core::{Connection, Observer, SessionEvent};
///
/// /// Counts what was refused, by whom.
/// struct Refusals;
///
/// impl Observer for Refusals {
///     fn session(&self, connection: &Connection, event: &SessionEvent) {
///         if let SessionEvent::Refused { stage, reply, policy, .. } = event {
///             eprintln!("{} {}: {reply} ({policy:?})", connection.session_id(), stage.as_str());
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync {
    /// Something happened on that connection.
    fn session(&self, connection: &Connection, event: &SessionEvent);

    /// A policy judged a recipient. Default: nobody looks.
    fn policy(&self, connection: &Connection, event: &PolicyEvent) {
        let _ = (connection, event);
    }

    /// Something happened to a queued message, or to the queue. Default: nobody looks.
    fn delivery(&self, event: &DeliveryEvent) {
        let _ = event;
    }
}

impl<O: Observer + ?Sized> Observer for std::sync::Arc<O> {
    fn session(&self, connection: &Connection, event: &SessionEvent) {
        (**self).session(connection, event);
    }

    fn policy(&self, connection: &Connection, event: &PolicyEvent) {
        (**self).policy(connection, event);
    }

    fn delivery(&self, event: &DeliveryEvent) {
        (**self).delivery(event);
    }
}

/// Both are told, the first one first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn session(&self, connection: &Connection, event: &SessionEvent) {
        self.0.session(connection, event);
        self.1.session(connection, event);
    }

    fn policy(&self, connection: &Connection, event: &PolicyEvent) {
        self.0.policy(connection, event);
        self.1.policy(connection, event);
    }

    fn delivery(&self, event: &DeliveryEvent) {
        self.0.delivery(event);
        self.1.delivery(event);
    }
}
