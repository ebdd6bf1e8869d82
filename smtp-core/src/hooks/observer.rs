//! The only way out for events.

use crate::session::connection::Connection;
use crate::session::event::SessionEvent;

/// Is told what happens, synchronously, in the task of the session: it must not block.
pub trait Observer: Send + Sync {
    /// Something happened on that connection.
    fn session(&self, connection: &Connection, event: &SessionEvent);
}

impl<O: Observer + ?Sized> Observer for std::sync::Arc<O> {
    fn session(&self, connection: &Connection, event: &SessionEvent) {
        (**self).session(connection, event);
    }
}
