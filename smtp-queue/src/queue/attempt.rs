//! One attempt: load what is to be done, try it, record what came of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use smtp_core::{DeliveryEvent, Refusal, Reply, SafeText, TransportFailure};
use tokio::time::{Instant, sleep, timeout};

use crate::content::StoredContent;
use crate::envelope::{Envelope, SiteName};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::quarantine::SITE;
use crate::routing::Route;
use crate::spool::{Lease, SpoolError};
use crate::transport::Attempt;

use super::outcomes::Tried;
use super::ready::{Ready, SiteAnswer};
use super::shared::{Phase, Shared};

/// What an attempt needs of a message.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) envelope: Arc<Envelope>,
    pub(super) progress: Progress,
    /// Counted in the window's octets.
    pub(super) content: Option<StoredContent>,
}

impl Loaded {
    /// What it takes of the window's octets.
    pub(super) fn octets(&self) -> u64 {
        self.content.as_ref().map_or(0, StoredContent::len)
    }
}

/// How long a pair that could not be loaded is left alone: 1 min.
const LOAD_PAUSE: Duration = Duration::from_secs(60);

/// Makes one attempt. Its place at the site is given back when the transport is done, that in the window at the end.
pub(super) async fn run(shared: Arc<Shared>, ready: Ready) {
    let Ready { lease, loaded } = ready;
    let octets = loaded.as_ref().map_or(0, |loaded| loaded.octets());
    let mut place = Place { shared: &shared, site: lease.site.clone(), octets, is_in_flight: true };
    let Some(work) = Work::load(&shared, &lease, loaded).await else {
        place.end(SiteAnswer::NotAsked);
        return unloaded(&shared, lease).await;
    };
    let (tried, answer) = work.attempt(&shared).await;
    place.end(answer);
    shared.record(lease, work.loaded, work.content, tried).await;
}

/// A place at a site, given back when dropped.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    site: SiteName,
    octets: u64,
    is_in_flight: bool,
}

impl Place<'_> {
    /// The transport is done; the next attempt may start.
    fn end(&mut self, answer: SiteAnswer) {
        if std::mem::take(&mut self.is_in_flight) {
            let rests = self.shared.change_sites(|sites| sites.ended(&self.site, answer, Instant::now()));
            if rests {
                // It has to look when the rest is over.
                self.shared.wake();
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.end(SiteAnswer::NotAsked);
        self.shared.leave(&self.site, self.octets);
    }
}

/// A lease whose pair could not be loaded.
async fn unloaded(shared: &Arc<Shared>, lease: Lease) {
    if !shared.is_read_only() {
        // What was removed or set aside is not ours any more. The rest is left alone for a while, so that a store in
        // trouble is not asked again and again.
        tokio::select! {
            biased;
            () = sleep(LOAD_PAUSE) => {}
            () = shared.reaches(Phase::Draining) => {}
        }
    }
    shared.spool.give_back(lease).await;
    // It is due, and nobody else knows.
    shared.wake();
}

struct Work {
    loaded: Loaded,
    content: StoredContent,
}

impl Work {
    async fn load(shared: &Arc<Shared>, lease: &Lease, loaded: Option<Box<Loaded>>) -> Option<Self> {
        let mut loaded = match loaded {
            Some(loaded) => *loaded,
            None => match shared.spool.load(lease).await {
                Ok((envelope, progress)) => Loaded { envelope, progress, content: None },
                Err(SpoolError::LeaseLost { .. }) => return None,
                Err(error) => {
                    shared.store_failed("load a message", &error);
                    return None;
                }
            },
        };
        let content = match loaded.content.take() {
            Some(content) => content,
            None => match shared.spool.content(lease.id).await {
                Ok(content) => content,
                // Removed in the meantime.
                Err(SpoolError::Absent { .. }) => return None,
                Err(error) => {
                    shared.store_failed("load content", &error);
                    if matches!(error, SpoolError::Damaged { .. }) {
                        // It can never be delivered whole, and it is not thrown away: an operator decides.
                        if let Err(error) = shared.spool.set_held(lease.id, true).await {
                            shared.store_failed("hold a message", &error);
                        }
                    }
                    return None;
                }
            },
        };
        Some(Self { loaded, content })
    }

    /// Tries everybody who waits, unless the message is too old.
    async fn attempt(&self, shared: &Arc<Shared>) -> (Tried, SiteAnswer) {
        let Loaded { envelope, progress, .. } = &self.loaded;
        let mut tried = Tried::nobody(progress.waiting.len());
        if shared.is_expired(envelope, &progress.site) {
            tried.is_expired = true;
            return (tried, SiteAnswer::NotAsked);
        }
        let mut answer = SiteAnswer::NotAsked;
        for group in self.groups(shared) {
            let recipients = group.places.iter().map(|place| progress.waiting[*place].index);
            let (content, site, number) = (self.content.clone(), group.route.site.clone(), progress.attempts + 1);
            let attempt = Attempt::new(envelope.clone(), recipients, content, site, number);
            let attempt = attempt.with_time(shared.deliver_by_now()).with_wall(shared.clock.wall());
            let Some(outcomes) = deliver(shared, &group.route, attempt, group.places.len()).await else { break };
            answer = of_site(&outcomes, answer);
            for (place, outcome) in group.places.into_iter().zip(outcomes) {
                tried.outcomes[place] = Some(outcome);
            }
        }
        (tried, answer)
    }

    /// Who leaves together: at one site, under one reverse-path. A site that no longer exists is the sites of its
    /// recipients.
    fn groups(&self, shared: &Shared) -> Vec<Group> {
        let Loaded { envelope, progress, .. } = &self.loaded;
        let known = shared.router.site(&progress.site);
        let mut groups: Vec<Group> = Vec::with_capacity(1);
        for (place, waiting) in progress.waiting.iter().enumerate() {
            let Some(recipient) = envelope.recipients.get(waiting.index as usize) else { continue };
            let route = known.clone().unwrap_or_else(|| shared.route_of(recipient));
            // What is set aside leaves under no reverse-path.
            let is_kept = shared.quarantine.is_some() && &*route.site == SITE;
            let fits = |group: &&mut Group| {
                (is_kept || group.outgoing == recipient.outgoing) && group.route.site == route.site
            };
            match groups.iter_mut().rev().find(fits) {
                Some(group) => group.places.push(place),
                None => groups.push(Group { route, outgoing: recipient.outgoing, places: vec![place] }),
            }
        }
        groups
    }
}

/// Recipients of one attempt, by their places among those who wait.
struct Group {
    route: Route,
    outgoing: u32,
    places: Vec<usize>,
}

/// What the outcomes say about the site, after what was known before.
fn of_site(outcomes: &[Outcome], before: SiteAnswer) -> SiteAnswer {
    // Trouble of our own with one mailbox or one content (RFC 3463 §3.3, §3.4) says nothing of others at that site.
    let is_ours = |reply: &Reply| reply.status().is_some_and(|status| matches!(status.subject(), 2 | 3));
    // 421 is the next hop's word for "not now, whatever you bring" (RFC 5321 §3.8).
    let is_unreachable = |outcome: &Outcome| match outcome {
        Outcome::Deferred(diagnosis) if diagnosis.remote.is_none() => !is_ours(&diagnosis.reply),
        Outcome::Deferred(diagnosis) => diagnosis.reply.code().get() == 421,
        _ => false,
    };
    if before == SiteAnswer::Unreachable || (!outcomes.is_empty() && outcomes.iter().all(is_unreachable)) {
        SiteAnswer::Unreachable
    } else {
        SiteAnswer::Reached
    }
}

/// What the transport says of so many recipients; `None` where it was dropped because the queue ends.
async fn deliver(shared: &Arc<Shared>, route: &Route, attempt: Attempt, recipients: usize) -> Option<Vec<Outcome>> {
    let id = attempt.id();
    let limit = shared.settings.attempt_timeout;
    let ended = tokio::select! {
        biased;
        ended = timeout(limit, CatchPanic(Some(route.transport.deliver(attempt)))) => ended,
        () = shared.reaches(Phase::Aborting) => return None,
    };
    let (mut outcomes, failure) = match ended {
        Ok(Ok(outcomes)) if outcomes.len() >= recipients => (outcomes, None),
        Ok(Ok(outcomes)) => (outcomes, Some(TransportFailure::IncompleteOutcomes)),
        Ok(Err(_panic)) => (Vec::new(), Some(TransportFailure::Panicked)),
        Err(_elapsed) => (Vec::new(), Some(TransportFailure::TimedOut)),
    };
    if let Some(failure) = failure {
        let (id, site) = (SafeText::new(id.to_string()), SafeText::new(route.site.to_string()));
        shared.tell(|| DeliveryEvent::TransportFailed { id, site, failure });
    }
    let missing = match failure {
        Some(TransportFailure::TimedOut) => Refusal::transient(4, 1, "The attempt took too long"),
        _ => Refusal::transient(3, 0, "Internal error, the attempt is repeated"),
    };
    outcomes.resize_with(recipients, || missing.clone().into());
    Some(outcomes)
}

type Delivering<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send + 'a>>;

/// A future whose panic is its result. It is not asked again after one.
struct CatchPanic<'a>(Option<Delivering<'a>>);

impl Future for CatchPanic<'_> {
    type Output = Result<Vec<Outcome>, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(delivering) = &mut self.0 else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| delivering.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcomes)) => {
                self.0 = None;
                Poll::Ready(Ok(outcomes))
            }
            Err(panic) => {
                // Dropping what panicked may panic again.
                let broken = self.0.take();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
                Poll::Ready(Err(panic))
            }
        }
    }
}
