//! The front door: accept, deliver, inspect.
//!
//! ```text
//! accept      a message comes in: its envelope, its sites, the put that makes it durable
//!   tls_required whether its sender would rather have it delivered than protected
//!   expansion what is told of an alias for several mailboxes
//! outgoing    under which reverse-paths it leaves, and with which signatures: decided once
//! dispatcher  asks the spool for what is due, and watches that nothing is forgotten
//!   ready     a window for each site, attempts at a time, turns
//!   attempt   one pair of message and site: load, try, record
//!   outcomes  what came of it: who waits on, who has failed, what is caused
//!   notification_rate how many notifications one sender gets
//! quarantined what was set aside is released, removed or forgotten
//! inspection  what there is, why it does not move, and what an operator does about it
//! accounts    what became of every recipient, in numbers
//! ```

mod accept;
mod accounts;
mod attempt;
mod builder;
mod by_priority;
mod deliver_by;
mod dispatcher;
mod expansion;
mod future_release;
mod inspection;
mod notification_rate;
mod outcomes;
mod outgoing;
mod quarantined;
mod ready;
mod recipients;
mod settings;
mod shared;
mod tls_required;

use std::sync::Arc;
use std::time::Duration;

use smtp_core::Domain;
use tokio::time::Instant;

use crate::routing::Router;
use crate::spool::Spool;

use self::shared::{Phase, Shared};

pub use self::accept::SubmitError;
pub use self::accounts::{Flow, QueueTotals};
pub use self::builder::QueueBuilder;
pub use self::inspection::{Entry, EntryPair, Waiting};
pub use self::settings::QueueSettings;

/// Takes responsibility for messages and keeps trying until every recipient has an outcome. Cheap to copy.
///
/// It is a [`Delivery`](smtp_core::Delivery), so a server takes it as its last hook. Attempts are made while a copy of it
/// lives; [`Queue::shutdown`] ends it in good order. Whatever happens, what it has accepted is in its spool.
///
/// ```
/// use std::sync::Arc;
/// use smtp_core::{Content, ReversePath};
/// use smtp_queue::{Discard, MemorySpool, Queue, Route, Routing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let routing = Routing::new(Route::new("nowhere", Discard));
/// let queue = Queue::builder(Arc::new(MemorySpool::new()), "mx.example.org".parse()?, routing).start();
///
/// let content = Content::new("Subject: hello\r\n\r\nHello.\r\n");
/// let id = queue.submit(ReversePath::Null, ["bob@example.org".parse()?], content).await?;
/// println!("queued as {id}");
/// queue.shutdown(std::time::Duration::from_secs(30)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// Ends the tasks of the queue when its last copy is dropped.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.enter(Phase::Aborting);
    }
}

impl Queue {
    /// A queue over that spool, for a host of that name, which sends mail where `router` says.
    pub fn builder(spool: Arc<dyn Spool>, hostname: Domain, router: impl Router) -> QueueBuilder {
        QueueBuilder::new(spool, hostname, Arc::new(router))
    }

    /// Ends the queue: nothing is accepted any more and no attempt starts. Attempts in flight get `grace` to finish; those
    /// that do not are dropped and made again after the next start. When it returns, nothing is worked on any more.
    pub async fn shutdown(&self, grace: Duration) {
        /// How long recording what was already tried may take beyond the grace: 1 min.
        const RECORDING: Duration = Duration::from_secs(60);
        let shared = &self.shared;
        shared.enter(Phase::Draining);
        let deadline = Instant::now() + grace;
        if tokio::time::timeout_at(deadline, shared.is_idle()).await.is_err() {
            shared.enter(Phase::Aborting);
            // What hangs in the store itself is left behind: nobody could tell what it will do.
            let _ = tokio::time::timeout(RECORDING, shared.is_idle()).await;
        }
        shared.enter(Phase::Aborting);
    }
}
