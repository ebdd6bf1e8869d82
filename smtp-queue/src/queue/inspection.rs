//! What there is, why it does not move, until when and because of which limit; and what an operator does about it.

use std::time::SystemTime;

use smtp_core::{DeliveryEvent, SafeText};
use tokio::time::Instant;

use crate::id::QueueId;
use crate::progress::{Diagnosis, Progress};
use crate::spool::{Listed, Shown, SpoolError};

use super::Queue;
use super::accounts::{QueueTotals, add};
use super::ready::{Hindrance, Ready};
use super::shared::Phase;

/// One message with everything that is known of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry {
    /// What the spool knows.
    pub shown: Shown,
    /// What remains to be done, and what it waits for.
    pub pairs: Vec<EntryPair>,
    /// When it expires.
    pub expires: SystemTime,
}

/// What remains to be done for a message at one site.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EntryPair {
    /// What remains to be done. Its times are those of the clock of the host.
    pub progress: Progress,
    /// Why it does not move.
    pub waiting: Waiting,
}

/// Why a message does not move, until when, and because of which limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// An operator, or damage that was found, holds it.
    Held,
    /// An attempt is made now, or its outcome is being recorded.
    InFlight,
    /// The next attempt is not due yet.
    NotDue {
        /// When it is.
        until: SystemTime,
        /// What the last attempt met with, for one of the recipients.
        last: Option<Diagnosis>,
    },
    /// The site has as many attempts at a time as it gets.
    SiteConcurrency {
        /// How many.
        limit: usize,
    },
    /// The site could not be reached and is left alone for a while.
    SiteRests {
        /// Until then.
        until: SystemTime,
    },
    /// All sites together have as many attempts at a time as there are.
    TotalConcurrency {
        /// How many: [`QueueSettings::total_concurrency`](super::QueueSettings::total_concurrency).
        limit: usize,
    },
    /// There are others before it.
    WindowFull {
        /// How many: [`QueueSettings::site_window`](super::QueueSettings::site_window), or that of all sites, or what is
        /// left of it for a site that does not answer.
        limit: usize,
    },
    /// It is tried next.
    Next,
    /// The store takes no outcomes since a write failed: no attempt is made until a restart.
    SpoolReadOnly,
    /// The queue has been shut down.
    ShutDown,
}

impl Queue {
    /// The messages after that one in the order of arrival, the oldest first, at most `limit`. The times are those of
    /// the clock of the host.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        let mut listed = self.shared.spool.list(after, limit).await?;
        for pair in listed.iter_mut().flat_map(|listed| &mut listed.pairs) {
            pair.next_attempt = self.shared.clock.as_wall(pair.next_attempt);
        }
        Ok(listed)
    }

    /// One message, and for each of its sites why it does not move.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn show(&self, id: QueueId) -> Result<Option<Entry>, SpoolError> {
        let Some(shown) = self.shared.spool.show(id).await? else { return Ok(None) };
        let mut pairs = Vec::with_capacity(shown.progress.len());
        for progress in &shown.progress {
            let is_leased = shown.listed.pairs.iter().any(|pair| pair.site == progress.site && pair.leased);
            let waiting = self.waiting(id, progress, shown.listed.held, is_leased);
            let mut progress = progress.clone();
            progress.next_attempt = self.shared.clock.as_wall(progress.next_attempt);
            pairs.push(EntryPair { progress, waiting });
        }
        let expires = self.shared.settings.schedule.expires(&shown.envelope);
        Ok(Some(Entry { shown, pairs, expires }))
    }

    fn waiting(&self, id: QueueId, progress: &Progress, is_held: bool, is_leased: bool) -> Waiting {
        let shared = &self.shared;
        let now = Instant::now();
        if is_leased {
            let sites = shared.sites();
            return match sites.hindrance(&progress.site, id, now) {
                None => Waiting::InFlight,
                Some(Hindrance::Nothing) => Waiting::Next,
                Some(Hindrance::SiteConcurrency(limit)) => Waiting::SiteConcurrency { limit },
                Some(Hindrance::TotalConcurrency(limit)) => Waiting::TotalConcurrency { limit },
                Some(Hindrance::SiteRests(until)) => {
                    let until = shared.clock.as_wall(shared.clock.steady_at(until));
                    Waiting::SiteRests { until }
                }
            };
        }
        if is_held {
            return Waiting::Held;
        }
        if shared.is_read_only() {
            return Waiting::SpoolReadOnly;
        }
        if shared.phase() != Phase::Running {
            return Waiting::ShutDown;
        }
        if progress.next_attempt > shared.clock.steady() {
            let last = progress.waiting.iter().find_map(|waiting| waiting.last.clone());
            return Waiting::NotDue { until: shared.clock.as_wall(progress.next_attempt), last };
        }
        let sites = shared.sites();
        if let Some(until) = sites.rest_of(&progress.site, now) {
            return Waiting::SiteRests { until: shared.clock.as_wall(shared.clock.steady_at(until)) };
        }
        match sites.full_window(&progress.site) {
            Some(limit) => Waiting::WindowFull { limit },
            None => Waiting::Next,
        }
    }

    /// Holds a message: it is not tried, nor does it expire, until [`Queue::release`]. An attempt in flight goes on.
    /// `false` where there is no such message.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn hold(&self, id: QueueId) -> Result<bool, SpoolError> {
        let is_there = self.shared.spool.set_held(id, true).await?;
        self.take_back(id).await;
        Ok(is_there)
    }

    /// Lets a message go on that was held. `false` where there is no such message.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn release(&self, id: QueueId) -> Result<bool, SpoolError> {
        let is_there = self.shared.spool.set_held(id, false).await?;
        self.shared.wake();
        Ok(is_there)
    }

    /// Makes a message due now at all its sites. A site that rests because it could not be reached is tried again at
    /// once: who asks for this knows why. `false` where there is no such message.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn retry(&self, id: QueueId) -> Result<bool, SpoolError> {
        let shared = &self.shared;
        let is_there = shared.spool.reschedule(id, shared.clock.steady()).await?;
        if let Some(shown) = shared.spool.show(id).await? {
            shared.change_sites(|sites| {
                for pair in &shown.listed.pairs {
                    sites.end_rest(&pair.site);
                }
            });
        }
        shared.wake();
        Ok(is_there)
    }

    /// Removes a message for good: nobody is told but the observer. How many of its recipients had no final outcome;
    /// `None` where there is no such message. An attempt in flight may still deliver it.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        let removed = self.shared.spool.remove(id).await?;
        self.take_back(id).await;
        if let Some(recipients) = removed {
            add(&self.shared.accounts.removed, recipients);
            self.shared.tell(|| DeliveryEvent::Removed { id: SafeText::new(id.to_string()), recipients });
        }
        Ok(removed)
    }

    /// The accounts of the queue: what became of every recipient.
    pub fn totals(&self) -> QueueTotals {
        let (in_window, in_flight) = {
            let sites = self.shared.sites();
            (sites.in_window(), sites.in_flight())
        };
        self.shared.accounts.read(self.shared.spool.totals(), in_window, in_flight)
    }

    /// Takes what is ready of a message back, so that it is not tried.
    async fn take_back(&self, id: QueueId) {
        let ready: Vec<Ready> = self.shared.sites().take_ready(|ready| ready == id);
        self.shared.clone().give_back(ready).await;
    }
}
