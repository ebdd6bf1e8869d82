//! Connections that are kept for a while without work, and closed in good order when nobody wants them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connection::ClientConnection;
use super::mailer::MailerSettings;
use super::stream::ClientStream;
use super::tls_policy::TlsRequirement;

/// A connection that is kept.
pub(super) struct Kept {
    pub(super) connection: ClientConnection<ClientStream>,
    /// What it was made for; `None`: what the configuration says.
    pub(super) requirement: Option<TlsRequirement>,
}

pub(super) struct Pool {
    idle: Mutex<Idle>,
    idle_timeout: Duration,
    lifetime: Duration,
    messages_limit: u64,
    idle_limit: usize,
}

#[derive(Default)]
struct Idle {
    /// The one that was given back first stands first.
    connections: Vec<Kept>,
    /// Somebody watches for those that nobody wants.
    is_watched: bool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.lock().connections.len()).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(settings: &MailerSettings) -> Arc<Self> {
        Arc::new(Self {
            idle: Mutex::default(),
            idle_timeout: settings.idle_timeout,
            lifetime: settings.connection_lifetime,
            messages_limit: settings.messages_limit,
            idle_limit: settings.idle_limit,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was made for that and is fit for another message: the one that was used last, so that the others
    /// grow idle.
    pub(super) fn take(&self, requirement: Option<&TlsRequirement>) -> Option<Kept> {
        loop {
            let mut kept = {
                let mut idle = self.lock();
                let place = idle.connections.iter().rposition(|kept| kept.requirement.as_ref() == requirement)?;
                idle.connections.remove(place)
            };
            if kept.connection.idle_since().elapsed() < self.idle_timeout
                && self.is_young(&kept)
                && kept.connection.is_reusable()
            {
                return Some(kept);
            }
            close(kept);
        }
    }

    /// Keeps a connection, if it is fit for another message.
    pub(super) fn give_back(self: &Arc<Self>, mut kept: Kept) {
        let is_fit = self.is_young(&kept) && kept.connection.is_reusable();
        let mut idle = self.lock();
        if !is_fit || idle.connections.len() >= self.idle_limit {
            drop(idle);
            return close(kept);
        }
        idle.connections.push(kept);
        if !std::mem::replace(&mut idle.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    fn is_young(&self, Kept { connection, .. }: &Kept) -> bool {
        connection.opened().elapsed() < self.lifetime && connection.messages_sent() < self.messages_limit
    }

    /// Closes what nobody wanted for a while. When to look again; `None` where nothing is left.
    fn close_idle(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.lock();
        let expires = |kept: &Kept| kept.connection.idle_since() + self.idle_timeout;
        let (over, kept) = idle.connections.drain(..).partition(|kept| expires(kept) <= now);
        idle.connections = kept;
        let next = idle.connections.iter().map(expires).min();
        idle.is_watched = next.is_some();
        drop(idle);
        let over: Vec<Kept> = over;
        over.into_iter().for_each(close);
        next
    }
}

/// Looks after a pool as long as it holds connections.
async fn watch(pool: Weak<Pool>) {
    loop {
        let Some(next) = pool.upgrade().and_then(|pool| pool.close_idle()) else { return };
        sleep_until(next).await;
    }
}

/// Says `QUIT`, without anybody waiting for it.
fn close(kept: Kept) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(kept.connection.quit());
    }
}
