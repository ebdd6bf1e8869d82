//! How a queue is put together.

use std::fmt;
use std::sync::Arc;

use smtp_core::{Domain, Mailbox, Observer, OutboundPolicy};

use crate::clock::{Clock, SystemClock};
use crate::quarantine::Quarantine;
use crate::routing::Router;
use crate::spool::Spool;

use super::quarantined::WithQuarantine;
use super::settings::QueueSettings;
use super::shared::{Parts, Shared};
use super::{Owner, Queue, dispatcher};

/// A queue that is not started yet: see [`Queue::builder`].
#[must_use = "nothing is delivered before it is started"]
pub struct QueueBuilder {
    spool: Arc<dyn Spool>,
    hostname: Domain,
    router: Arc<dyn Router>,
    postmaster: Option<Mailbox>,
    outbound: Option<Arc<dyn OutboundPolicy>>,
    observer: Option<Arc<dyn Observer>>,
    quarantine: Option<Quarantine>,
    settings: QueueSettings,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

impl fmt::Debug for QueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("hostname", &self.hostname)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl QueueBuilder {
    pub(super) fn new(spool: Arc<dyn Spool>, hostname: Domain, router: Arc<dyn Router>) -> Self {
        Self {
            spool,
            hostname,
            router,
            postmaster: None,
            outbound: None,
            observer: None,
            quarantine: None,
            settings: QueueSettings::default(),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }

    /// Who learns of notifications that cannot be delivered (STANDARDS.md Q5). Default: `postmaster` at the hostname.
    pub fn postmaster(mut self, postmaster: Mailbox) -> Self {
        self.postmaster = Some(postmaster);
        self
    }

    /// Who decides under which reverse-path mail leaves. Default: under the one that it came with.
    pub fn outbound(mut self, policy: Arc<dyn OutboundPolicy>) -> Self {
        self.outbound = Some(policy);
        self
    }

    /// Who is told what happens.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Where copies are set aside that a policy wants to have there, under the name of a site, `quarantine`. Without it they
    /// go where others go, and a transport does with them what it knows: a `MaildirTransport` has a Maildir for them, to a
    /// next hop they leave like others.
    pub fn quarantine(mut self, quarantine: Quarantine) -> Self {
        self.quarantine = Some(quarantine);
        self
    }

    /// Limits and times.
    pub fn settings(mut self, settings: QueueSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock of the host. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where random numbers start, for tests that must repeat. Default: the operating system says.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts delivering what the spool holds and whatever comes in. Must be called within a tokio runtime.
    pub fn start(self) -> Queue {
        let hostname = self.hostname;
        let router = match &self.quarantine {
            Some(quarantine) => Arc::new(WithQuarantine::new(self.router, quarantine.clone())),
            None => self.router,
        };
        let shared = Arc::new(Shared::new(Parts {
            spool: self.spool,
            router,
            postmaster: self.postmaster.unwrap_or_else(|| Mailbox::postmaster_at(hostname.clone())),
            hostname,
            outbound: self.outbound,
            observer: self.observer,
            quarantine: self.quarantine,
            settings: self.settings.checked(),
            clock: self.clock,
            seed: self.seed,
        }));
        let delivering = shared.clone();
        tokio::spawn(async move {
            delivering.settle_quarantine().await;
            tokio::spawn(dispatcher::watch(delivering.clone()));
            tokio::spawn(delivering.clone().watch_quarantine());
            dispatcher::run(delivering).await;
        });
        Queue { _owner: Arc::new(Owner(shared.clone())), shared }
    }
}
