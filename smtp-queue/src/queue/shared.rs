//! What the parts of a queue share.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use smtp_core::{DeliveryEvent, Domain, Mailbox, Observer, OutboundPolicy, SafeText};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::{Clock, Jump, QueueClock};
use crate::envelope::SiteName;
use crate::id::QueueIds;
use crate::quarantine::Quarantine;
use crate::routing::Router;
use crate::spool::{Spool, SpoolError};

use super::accounts::{Accounts, add};
use super::attempt;
use super::notification_rate::NotificationRates;
use super::ready::{Ready, Sites};
use super::settings::QueueSettings;

/// How far the queue is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// Nothing comes in, nothing starts; what is in flight may finish.
    Draining,
    /// What is in flight is dropped.
    Aborting,
}

/// What a queue is made of.
pub(super) struct Parts {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) router: Arc<dyn Router>,
    pub(super) hostname: Domain,
    pub(super) postmaster: Mailbox,
    pub(super) outbound: Option<Arc<dyn OutboundPolicy>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) settings: QueueSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: Option<u64>,
}

pub(super) struct Shared {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) router: Arc<dyn Router>,
    pub(super) hostname: Domain,
    pub(super) postmaster: Mailbox,
    pub(super) outbound: Option<Arc<dyn OutboundPolicy>>,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) settings: QueueSettings,
    pub(super) clock: QueueClock,
    pub(super) ids: QueueIds,
    pub(super) notification_rates: NotificationRates,
    pub(super) accounts: Accounts,
    observer: Option<Arc<dyn Observer>>,
    rng: Mutex<fastrand::Rng>,
    sites: Mutex<Sites>,
    phase: watch::Sender<Phase>,
    /// The store takes no outcomes any more until a restart, so there are no attempts (STANDARDS.md C7).
    is_read_only: AtomicBool,
    /// The store had no room when it was asked last.
    is_full: AtomicBool,
    /// When the dispatcher looks next, in microseconds since 1970 by the steady clock.
    planned: AtomicU64,
    wake: Notify,
    idle: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let accounts = Accounts::default();
        add(&accounts.at_start, parts.spool.totals().recipients);
        Self {
            sites: Mutex::new(Sites::new(&parts.settings, parts.router.clone())),
            clock: QueueClock::new(parts.clock, parts.settings.expiry_suspension),
            ids: parts.seed.map_or_else(QueueIds::new, QueueIds::with_seed),
            rng: Mutex::new(parts.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
            notification_rates: NotificationRates::new(parts.settings.notifications_per_hour),
            accounts,
            spool: parts.spool,
            router: parts.router,
            hostname: parts.hostname,
            postmaster: parts.postmaster,
            outbound: parts.outbound,
            observer: parts.observer,
            quarantine: parts.quarantine,
            settings: parts.settings,
            phase: watch::Sender::new(Phase::Running),
            is_read_only: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            planned: AtomicU64::new(0),
            wake: Notify::new(),
            idle: Notify::new(),
        }
    }

    pub(super) fn sites(&self) -> MutexGuard<'_, Sites> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the sites, and starts whatever is ready and has a place then.
    pub(super) fn change_sites<T>(self: &Arc<Self>, change: impl FnOnce(&mut Sites) -> T) -> T {
        let mut sites = self.sites();
        let result = change(&mut sites);
        let now = Instant::now();
        while let Some(ready) = sites.next_to_start(now) {
            tokio::spawn(attempt::run(self.clone(), ready));
        }
        result
    }

    /// When a message is tried again, after so many attempts.
    pub(super) fn next_attempt(&self, attempts: u32) -> SystemTime {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        self.settings.schedule.next_attempt(attempts, self.clock.steady(), &mut rng)
    }

    // Life

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to that phase, never back.
    pub(super) fn enter(self: &Arc<Self>, phase: Phase) {
        let is_new = self.phase.send_if_modified(|now| {
            let is_new = *now < phase;
            *now = phase.max(*now);
            is_new
        });
        if is_new {
            self.give_back_ready();
        }
    }

    /// No attempt starts any more. What was ready goes back to the spool.
    pub(super) fn give_back_ready(self: &Arc<Self>) {
        let ready = self.sites().stop();
        self.wake.notify_one();
        if ready.is_empty() {
            self.idle.notify_waiters();
            return;
        }
        // Where there is no runtime any more there is nobody who could wait for the leases either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.clone().give_back(ready));
        }
    }

    /// Gives leases back that are not worked on, and their places.
    pub(super) async fn give_back(self: Arc<Self>, ready: Vec<Ready>) {
        for Ready { lease, loaded } in ready {
            let site = lease.site.clone();
            self.spool.give_back(lease).await;
            self.leave(&site, loaded.map_or(0, |loaded| loaded.octets()));
        }
    }

    /// A pair has left the window of its site, and so many octets of content are no longer in memory for it.
    pub(super) fn leave(&self, site: &SiteName, octets: u64) {
        let mut sites = self.sites();
        sites.free_octets(octets);
        let wants_more = sites.leave(site);
        let is_idle = sites.in_window() == 0;
        drop(sites);
        if wants_more {
            self.wake.notify_one();
        }
        if is_idle {
            self.idle.notify_waiters();
        }
    }

    /// Returns when nothing is worked on.
    pub(super) async fn is_idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            // From here on a notification is not missed.
            idle.as_mut().enable();
            if self.sites().in_window() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Returns when the queue is at least in that phase.
    pub(super) async fn reaches(&self, phase: Phase) {
        // The sender is in `self`, so it cannot be gone.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    // The dispatcher's sleep

    /// Something is due at that time: the dispatcher looks then, if not before.
    pub(super) fn is_due_at(&self, time: SystemTime) {
        let time = micros(time);
        if time < self.planned.fetch_min(time, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// The dispatcher looks now.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Forgets when to look next: what becomes due from now on is told by [`Shared::is_due_at`].
    pub(super) fn forget_plan(&self) {
        self.planned.store(u64::MAX, Ordering::Release);
    }

    /// When the dispatcher looks next, if nothing else happens: at that time, or earlier if something else is due.
    pub(super) fn plan(&self, next: Option<SystemTime>) -> Option<SystemTime> {
        let next = next.map_or(u64::MAX, micros);
        let planned = self.planned.fetch_min(next, Ordering::AcqRel).min(next);
        (planned < u64::MAX).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(planned))
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    // Trouble

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only.load(Ordering::Relaxed)
    }

    /// Whether the store has room for a message of that size. That it has none is reported once, until it has again.
    pub(super) fn has_room(self: &Arc<Self>, octets: Option<u64>) -> bool {
        let has_room = self.spool.has_room(octets);
        // One message may be too large while there is room for others.
        let is_full = !has_room && !self.spool.has_room(None);
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full && is_full {
            self.store_failed("take messages", &SpoolError::Full(None));
        }
        has_room
    }

    /// Reports that the store failed. One that takes nothing any more ends all attempts.
    pub(super) fn store_failed(self: &Arc<Self>, action: &'static str, error: &SpoolError) {
        let stops = matches!(error, SpoolError::ReadOnly | SpoolError::Closed);
        if stops && !self.is_read_only.swap(true, Ordering::Relaxed) {
            self.give_back_ready();
        }
        self.tell(|| DeliveryEvent::StoreFailed { action, cause: SafeText::new(with_causes(error)), stops });
    }

    pub(super) fn clock_jumped(&self, jump: Option<Jump>) {
        let Some(Jump { distance, is_back }) = jump else { return };
        let suspended_for = self.clock.suspension();
        self.tell(|| DeliveryEvent::ClockJumped { distance, is_back, suspended_for });
    }

    /// Reports an event, where somebody looks. A panic of the observer ends there.
    pub(super) fn tell(&self, event: impl FnOnce() -> DeliveryEvent) {
        if let Some(observer) = &self.observer {
            let event = event();
            let _ = catch_unwind(AssertUnwindSafe(|| observer.delivery(&event)));
        }
    }
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX - 1)
}

/// The error and what is behind it, on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
