//! What the queue does with mail that is set aside: an operator releases or removes it, time forgets it.
//!
//! A release is made so that neither a crash nor a second request makes two deliveries of it:
//!
//! 1. the message is marked in the quarantine (it is held there, and does not expire);
//! 2. it is put into the queue, under a name that follows from the first, and leased: nobody delivers it yet;
//! 3. it is removed from the quarantine;
//! 4. the lease is given back.
//!
//! Before a queue delivers anything, it looks at what is marked. Where the queue has the message, step 3 is made up for;
//! where it has not, step 2 has not happened, because nothing leaves the queue before step 3, and the mark is taken away.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_core::{DeliveryEvent, Disposition, Notify, RecipientDsn, SafeText};
use tokio::time::sleep;

use crate::envelope::{Envelope, Origin, QueuedRecipient};
use crate::id::QueueId;
use crate::quarantine::{Leaving, Quarantine, SITE};
use crate::routing::{Route, Router};
use crate::spool::{Lease, NewMessage, NewProgress, Room, SpoolError};

use super::Queue;
use super::accounts::add;
use super::shared::{Phase, Shared};

/// How often it is looked for what has expired: 15 min.
const ROUND: Duration = Duration::from_secs(15 * 60);
/// How many messages are looked at together.
const PAGE: usize = 1000;

/// A router that knows the site of the quarantine besides.
pub(super) struct WithQuarantine {
    pub(super) router: Arc<dyn Router>,
    pub(super) quarantine: Route,
}

impl WithQuarantine {
    pub(super) fn new(router: Arc<dyn Router>, quarantine: Quarantine) -> Self {
        Self { router, quarantine: Route::new(SITE, quarantine) }
    }
}

impl Router for WithQuarantine {
    fn route(&self, mailbox: &smtp_core::Mailbox) -> Route {
        self.router.route(mailbox)
    }

    fn site(&self, name: &str) -> Option<Route> {
        if name == SITE { Some(self.quarantine.clone()) } else { self.router.site(name) }
    }
}

impl Queue {
    /// Where mail is set aside, if there is such a place.
    pub fn quarantine(&self) -> Option<&Quarantine> {
        self.shared.quarantine.as_ref()
    }

    /// Takes a message out of the quarantine and delivers it to those who were to have it: as wanted mail, with all its
    /// time before it, and under a name of its own, which is returned. `None` where the quarantine has no such message: a
    /// second release changes nothing. Whatever becomes of it, nobody is notified (PRACTICES.md S19, S33).
    ///
    /// # Errors
    /// [`SpoolError`]: asked again, it is released once all the same.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn release_quarantined(&self, id: QueueId) -> Result<Option<QueueId>, SpoolError> {
        // In a task of its own, so that a caller who stops waiting leaves nothing behind half done.
        let shared = self.shared.clone();
        let released = tokio::spawn(async move { shared.release_quarantined(id).await });
        released.await.unwrap_or(Err(SpoolError::Closed))
    }

    /// Removes a message from the quarantine for good: nobody is told but the observer. How many recipients it was for;
    /// `None` where there is no such message, or its release has begun.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub async fn remove_quarantined(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        let Some(quarantine) = &self.shared.quarantine else { return Ok(None) };
        let leaving = quarantine.leaving().await;
        if leaving.contains_key(&id) {
            return Ok(None);
        }
        let removed = quarantine.forget(id).await?;
        if let Some(recipients) = removed {
            self.shared.tell(|| DeliveryEvent::Removed { id: SafeText::new(id.to_string()), recipients });
        }
        Ok(removed)
    }
}

impl Shared {
    /// Where the copy of a recipient goes.
    pub(super) fn route_of(&self, recipient: &QueuedRecipient) -> Route {
        let is_set_aside = self.quarantine.is_some() && matches!(recipient.disposition, Disposition::Quarantine(_));
        let quarantine = if is_set_aside { self.router.site(SITE) } else { None };
        quarantine.unwrap_or_else(|| self.router.route(&recipient.mailbox))
    }

    /// Whether what is to be set aside of a message has no room now.
    pub(super) fn has_no_room_to_set_aside(&self, envelope: &Envelope, octets: u64) -> bool {
        let is_set_aside = |one: &QueuedRecipient| matches!(one.disposition, Disposition::Quarantine(_));
        self.quarantine
            .as_ref()
            .is_some_and(|quarantine| envelope.recipients.iter().any(is_set_aside) && !quarantine.has_room(octets))
    }

    async fn release_quarantined(self: &Arc<Self>, id: QueueId) -> Result<Option<QueueId>, SpoolError> {
        let Some(quarantine) = &self.quarantine else { return Ok(None) };
        if self.phase() != Phase::Running {
            return Err(SpoolError::Closed);
        }
        let mut leaving = quarantine.leaving().await;
        let Some(entry) = quarantine.show(id).await? else { return Ok(None) };
        let name = released_name(id);
        if let Entry::Vacant(vacant) = leaving.entry(id) {
            let content = quarantine.new_content(&quarantine.content(id).await?).await?;
            quarantine.spool().set_held(id, true).await?;
            let is_there = self.spool.show(name).await?.is_some();
            let leases = if is_there {
                Vec::new()
            } else {
                let envelope = Arc::new(released(&entry.envelope, name, self.clock.wall()));
                let pairs = self.sites_of(&envelope, self.clock.steady());
                let progress = pairs.into_iter().map(|(_, progress)| NewProgress { progress, lease: true }).collect();
                let leases = match self.spool.put(NewMessage { envelope, content, progress }).await {
                    Ok(leases) => leases,
                    Err(error) => {
                        // Of a full disk it is known that nothing was kept; of other trouble the next request finds out.
                        if matches!(error, SpoolError::Full(_)) {
                            quarantine.spool().set_held(id, false).await?;
                        }
                        return Err(error);
                    }
                };
                add(&self.accounts.mail.taken, entry.envelope.recipients.len() as u64);
                leases
            };
            vacant.insert(leases);
        }
        self.leave_quarantine(quarantine, id, &mut leaving).await?;
        Ok(Some(name))
    }

    /// What is in the queue leaves the quarantine, and then the queue may deliver it.
    async fn leave_quarantine(
        self: &Arc<Self>,
        quarantine: &Quarantine,
        id: QueueId,
        leaving: &mut Leaving,
    ) -> Result<(), SpoolError> {
        let recipients = quarantine.forget(id).await?.unwrap_or(0);
        let leases: Vec<Lease> = leaving.remove(&id).unwrap_or_default();
        let name = released_name(id);
        if leases.is_empty() && self.spool.show(name).await?.is_some_and(|shown| shown.listed.held) {
            // It was kept from being delivered where an earlier start could not end this.
            self.spool.set_held(name, false).await?;
        }
        for lease in leases {
            self.spool.give_back(lease).await;
        }
        self.is_due_at(self.clock.steady());
        self.wake();
        self.tell(|| DeliveryEvent::Released {
            id: SafeText::new(id.to_string()),
            released_as: SafeText::new(name.to_string()),
            recipients,
        });
        Ok(())
    }

    /// Ends what a crash left half done. Nothing may be delivered before.
    pub(super) async fn settle_quarantine(self: &Arc<Self>) {
        let Some(quarantine) = &self.quarantine else { return };
        if let Err(error) = self.settle(quarantine).await {
            self.store_failed("look through the quarantine", &error);
        }
    }

    /// What cannot be settled is kept from being delivered, and everything else goes on.
    async fn settle(self: &Arc<Self>, quarantine: &Quarantine) -> Result<(), SpoolError> {
        if quarantine.spool().totals().held == 0 {
            return Ok(());
        }
        let (mut leaving, mut after) = (quarantine.leaving().await, None);
        loop {
            let page = quarantine.spool().list(after, PAGE).await?;
            for listed in page.iter().filter(|listed| listed.held) {
                if let Err(error) = self.settle_one(quarantine, listed.id, &mut leaving).await {
                    self.store_failed("end the release of what is set aside", &error);
                }
            }
            after = page.last().map(|last| last.id);
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Only of a message that the queue is known to have the quarantine may forget its copy.
    async fn settle_one(
        self: &Arc<Self>,
        quarantine: &Quarantine,
        id: QueueId,
        leaving: &mut Leaving,
    ) -> Result<(), SpoolError> {
        let name = released_name(id);
        let error = match self.spool.show(name).await {
            Ok(None) => return quarantine.spool().set_held(id, false).await.map(drop),
            Ok(Some(_)) => {
                let Err(error) = self.leave_quarantine(quarantine, id, leaving).await else { return Ok(()) };
                // Whoever asks again ends it, and puts it into the queue no second time.
                leaving.entry(id).or_default();
                error
            }
            Err(error) => error,
        };
        self.spool.set_held(name, true).await?;
        Err(error)
    }

    /// Forgets what has expired, again and again, until the queue drains.
    pub(super) async fn watch_quarantine(self: Arc<Self>) {
        let Some(quarantine) = self.quarantine.clone() else { return };
        let rounds = async {
            loop {
                if let Err(error) = self.forget_expired(&quarantine).await {
                    self.store_failed("forget what has expired in the quarantine", &error);
                }
                sleep(ROUND).await;
            }
        };
        tokio::select! {
            biased;
            () = rounds => {}
            () = self.reaches(Phase::Draining) => {}
        }
    }

    async fn forget_expired(self: &Arc<Self>, quarantine: &Quarantine) -> Result<(), SpoolError> {
        loop {
            let due = quarantine.spool().due(self.clock.wall(), &Room::anywhere(PAGE)).await?;
            let all = due.leases.len();
            let (mut forgotten, mut trouble) = (0, Ok(()));
            for lease in due.leases {
                let result = self.forget_if_expired(quarantine, lease.id).await;
                // It is due as long as it is there; nobody else asks for it.
                quarantine.spool().give_back(lease).await;
                forgotten += usize::from(*result.as_ref().unwrap_or(&false));
                trouble = trouble.and(result.map(drop));
            }
            trouble?;
            // What a jump of the clock made look old is looked at again in the next round.
            if all < PAGE || forgotten < all {
                return Ok(());
            }
        }
    }

    async fn forget_if_expired(self: &Arc<Self>, quarantine: &Quarantine, id: QueueId) -> Result<bool, SpoolError> {
        let leaving = quarantine.leaving().await;
        match quarantine.show(id).await {
            Ok(None) => return Ok(true),
            Ok(Some(entry)) => {
                let (is_expired, jump) = self.clock.is_expired(entry.since, entry.expires);
                self.clock_jumped(jump);
                if !is_expired || entry.is_leaving {
                    return Ok(false);
                }
            }
            // It is due, and nobody will ever read it.
            Err(SpoolError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let recipients = quarantine.forget(id).await?.unwrap_or(0);
        drop(leaving);
        self.tell(|| DeliveryEvent::QuarantineExpired { id: SafeText::new(id.to_string()), recipients });
        Ok(true)
    }
}

/// What a message is called when it was released: of no other message, and always the same.
fn released_name(id: QueueId) -> QueueId {
    QueueId::from_u128(id.as_u128() ^ 1)
}

/// The envelope as it is delivered after all. Nobody is told of it: its sender may be forged, and whoever released it knows.
fn released(kept: &Envelope, name: QueueId, now: SystemTime) -> Envelope {
    let recipients = kept.recipients.iter().map(|recipient| QueuedRecipient {
        disposition: Disposition::Deliver,
        dsn: RecipientDsn { notify: Some(Notify::NEVER), ..recipient.dsn.clone() },
        ..recipient.clone()
    });
    Envelope {
        id: name,
        arrival: now,
        recipients: recipients.collect(),
        origin: Origin { notification_of: None, ..kept.origin.clone() },
        sender_confirmed: false,
        release: None,
        deliver_by: None,
        deadline: None,
        ..kept.clone()
    }
}
