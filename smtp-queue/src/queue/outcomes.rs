//! What came of an attempt: who waits on, who has failed, what is caused, and that all of it is recorded together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{
    AttemptResult, Content, DeliveryAttempt, DeliveryEvent, Disposition, Outbound, Refusal, Ret, ReversePath, SafeText,
};
use tokio::time::timeout;

use crate::content::StoredContent;
use crate::dsn::{
    Action, Notification, Notified, Report, ReportedRecipient, ReturnedContent, Withheld, notification_kind,
};
use crate::envelope::{Envelope, SiteName};
use crate::outcome::Outcome;
use crate::progress::{Diagnosis, Progress, WaitingRecipient};
use crate::quarantine::SITE;
use crate::spool::{Change, Lease, NewContent, NewMessage, NewProgress, SpoolError};

use super::accounts::{FlowCounters, add};
use super::attempt::Loaded;
use super::shared::{Phase, Shared, with_causes};

/// What was tried, for each of those who waited.
#[derive(Debug)]
pub(super) struct Tried {
    /// `None` where it was not tried.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// The message was too old to be tried.
    pub(super) is_expired: bool,
}

impl Tried {
    pub(super) fn nobody(waiting: usize) -> Self {
        Self { outcomes: vec![None; waiting], is_expired: false }
    }
}

/// Everything that follows from an attempt, before it is recorded.
struct Results {
    progress: Option<Progress>,
    /// What is told, and counted, when it is on stable storage.
    ended: Vec<Ended>,
    reports: Reports,
}

/// Of whom there is something to tell, by what became of them.
type Reports = BTreeMap<Action, Vec<ReportedRecipient>>;

/// How it ended for one recipient.
struct Ended {
    index: u32,
    how: How,
    diagnosis: Diagnosis,
    number: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Delivered,
    Quarantined,
    Deferred,
    Failed,
    Expired,
}

impl Shared {
    /// Whether a message is too old. A jump of the clock that is found on the way is reported. What is to be set aside never
    /// is: it waits until there is room for it.
    pub(super) fn is_expired(&self, envelope: &Envelope, site: &SiteName) -> bool {
        if **site == *SITE && self.quarantine.is_some() {
            return false;
        }
        if self.is_to_be_returned(envelope) {
            return true;
        }
        let expires = self.settings.schedule.expires(envelope);
        let (is_expired, jump) = self.clock.is_expired(envelope.arrival, expires);
        self.clock_jumped(jump);
        is_expired
    }

    /// Records what came of an attempt, and then tells it.
    pub(super) async fn record(self: &Arc<Self>, lease: Lease, loaded: Loaded, content: StoredContent, tried: Tried) {
        let Loaded { envelope, progress, .. } = loaded;
        if !tried.is_expired && tried.outcomes.iter().all(Option::is_none) {
            return self.spool.give_back(lease).await;
        }
        let before = progress.site.clone();
        let results = self.results(&lease, &envelope, progress, tried);
        let (caused, notified) = self.caused(&envelope, &results.reports, content).await;
        let next = results.progress.as_ref().map(|progress| progress.next_attempt);
        let change = Change { progress: results.progress.clone(), caused };
        let caused = change.caused.iter().map(|message| message.envelope.clone()).collect::<Vec<_>>();
        let recorded = match self.record_change(&lease, change.clone()).await {
            // It has another pair at its new site. This one stays where it is, and its attempts go to the new site.
            Err(SpoolError::Invalid(_)) if results.moved_from(&before).is_some() => {
                let stays = change.progress.map(|progress| Progress { site: before.clone(), ..progress });
                self.record_change(&lease, Change { progress: stays, caused: change.caused }).await
            }
            recorded => recorded,
        };
        match recorded {
            Ok(()) => {
                self.tell_results(&envelope, &before, &results, next);
                self.tell_notified(&envelope, &caused, notified);
                let caused = caused.iter().map(|_| self.clock.steady());
                if let Some(next) = next.into_iter().chain(caused).min() {
                    self.is_due_at(next);
                }
            }
            Err(error) => self.outcomes_lost(&envelope, &results, &error),
        }
    }

    /// What follows from the outcomes.
    fn results(&self, lease: &Lease, envelope: &Envelope, mut progress: Progress, tried: Tried) -> Results {
        let now = self.clock.steady();
        let was_tried = !tried.is_expired;
        if was_tried {
            progress.attempts = progress.attempts.saturating_add(1);
            progress.last_attempt = Some(self.clock.wall());
        }
        let is_deferred = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Deferred(_)));
        let is_expired =
            tried.is_expired || (tried.outcomes.iter().any(is_deferred) && self.is_expired(envelope, &lease.site));
        let (number, last_attempt) = (progress.attempts, progress.last_attempt);
        let mut ended = Vec::with_capacity(tried.outcomes.len());
        let mut reports = Reports::new();
        let mut is_deferred = false;
        let mut waiting = Vec::new();
        let trace = envelope.deliver_by.is_some_and(|by| by.trace);
        for (recipient, outcome) in progress.waiting.drain(..).zip(tried.outcomes) {
            let index = recipient.index;
            let success = |how| (delivered(envelope, index), how);
            let ((how, action), diagnosis) = match outcome {
                Some(Outcome::Delivered(diagnosis)) => (success(Some(Action::Delivered)), diagnosis),
                Some(Outcome::Relayed(diagnosis)) => (success(Some(Action::Relayed)), diagnosis),
                // Somebody else tells, but of the relay itself.
                Some(Outcome::PassedOn(diagnosis)) => (success(trace.then_some(Action::Relayed)), diagnosis),
                Some(Outcome::Failed(diagnosis)) => ((How::Failed, Some(Action::Failed)), diagnosis),
                Some(Outcome::Deferred(diagnosis)) if !is_expired => ((How::Deferred, None), diagnosis),
                Some(Outcome::Deferred(diagnosis)) => ((How::Expired, Some(Action::Failed)), diagnosis),
                None if tried.is_expired => {
                    let last = recipient.last.clone().unwrap_or_else(never_tried);
                    ((How::Expired, Some(Action::Failed)), last)
                }
                None => {
                    waiting.push(recipient);
                    continue;
                }
            };
            // That nobody is told of a failure is told in any case; of success, to those who asked.
            if let Some(action) =
                action.filter(|action| *action == Action::Failed || self.is_asked_for(envelope, index, *action))
            {
                let last = if was_tried { Some(diagnosis.clone()) } else { recipient.last };
                reports.entry(action).or_default().push(ReportedRecipient { index, last, last_attempt });
            }
            if how == How::Deferred {
                is_deferred = true;
                waiting.push(WaitingRecipient { index, last: Some(diagnosis.clone()) });
            }
            ended.push(Ended { index, how, diagnosis, number });
        }
        progress.waiting = waiting;
        if is_deferred {
            progress.next_attempt = self.next_attempt(progress.attempts).min(self.expiry(envelope, now));
            if let Some(moment) = self.deliver_by_moment(envelope, now) {
                progress.next_attempt = progress.next_attempt.min(moment);
            }
            self.report_delay(envelope, &mut progress, &mut reports);
            self.report_late(envelope, &mut progress, &mut reports);
        }
        self.move_pair(lease, envelope, &mut progress);
        let progress = (!progress.waiting.is_empty()).then_some(progress);
        Results { progress, ended, reports }
    }

    /// Once, when a message is late, the senders who asked for it are told (STANDARDS.md Q4).
    fn report_delay(&self, envelope: &Envelope, progress: &mut Progress, reports: &mut Reports) {
        let last_attempt = progress.last_attempt;
        let waiting =
            progress.waiting.iter().filter(|waiting| self.is_asked_for(envelope, waiting.index, Action::Delayed));
        let late =
            waiting.map(|waiting| ReportedRecipient { index: waiting.index, last: waiting.last.clone(), last_attempt });
        let late: Vec<_> = late.collect();
        if progress.delay_notified || late.is_empty() || !self.is_late(envelope) {
            return;
        }
        progress.delay_notified = true;
        reports.insert(Action::Delayed, late);
    }

    /// Once, when the deliver-by-time has passed, the senders who did not forbid it are told (RFC 2852 §4.1.3).
    fn report_late(&self, envelope: &Envelope, progress: &mut Progress, reports: &mut Reports) {
        if !self.is_to_be_called_late(envelope, progress) {
            return;
        }
        progress.late_notified = true;
        let last_attempt = progress.last_attempt;
        let waiting =
            progress.waiting.iter().filter(|waiting| self.is_asked_for(envelope, waiting.index, Action::Late));
        let late: Vec<_> = waiting
            .map(|waiting| ReportedRecipient { index: waiting.index, last: waiting.last.clone(), last_attempt })
            .collect();
        if !late.is_empty() {
            reports.insert(Action::Late, late);
        }
    }

    fn is_asked_for(&self, envelope: &Envelope, index: u32, action: Action) -> bool {
        envelope.recipients.get(index as usize).is_some_and(|recipient| {
            action.is_asked_for(envelope, recipient)
                && (action != Action::Relayed || self.tells_of_relay(envelope, recipient.dsn.notify()))
        })
    }

    /// Whether a message is old enough to say so, by clocks that agree for an hour, as for [`Shared::is_expired`].
    fn is_late(&self, envelope: &Envelope) -> bool {
        let (is_late, jump) = self.clock.is_expired(envelope.arrival, self.settings.schedule.is_late_from(envelope));
        self.clock_jumped(jump);
        is_late
    }

    /// When a message expires, by the clock that never jumps; the end of time where that should already be.
    fn expiry(&self, envelope: &Envelope, now: SystemTime) -> SystemTime {
        let left = self.settings.schedule.expires(envelope).duration_since(self.clock.wall()).unwrap_or_default();
        let far = now + Duration::from_secs(100 * 365 * 24 * 3600);
        if left.is_zero() { far } else { now.checked_add(left).unwrap_or(far) }
    }

    /// A pair whose site no longer exists goes where its recipients go now, if that is one site.
    fn move_pair(&self, lease: &Lease, envelope: &Envelope, progress: &mut Progress) {
        if progress.waiting.is_empty() || self.router.site(&lease.site).is_some() {
            return;
        }
        let recipients = progress.waiting.iter().filter_map(|waiting| envelope.recipients.get(waiting.index as usize));
        let mut sites = recipients.map(|recipient| self.route_of(recipient).site);
        if let Some(first) = sites.next()
            && sites.all(|site| site == first)
        {
            progress.site = first;
        }
    }

    /// The messages that the reports cause, and what is told of them.
    async fn caused(
        &self,
        envelope: &Envelope,
        reports: &Reports,
        content: StoredContent,
    ) -> (Vec<NewMessage>, Vec<Notified>) {
        let (mut caused, mut told) = (Vec::new(), Vec::new());
        for (&action, recipients) in reports {
            let may_be_told = recipients
                .iter()
                .filter_map(|reported| envelope.recipients.get(reported.index as usize))
                .any(|recipient| notification_kind(envelope, recipient, action, &self.postmaster).is_ok());
            // RFC 3461 §4.3: `RET=` is about failures; with anything else only the header section goes back. RFC 8689 §5:
            // nor does more of what must be protected, whatever `RET=` says.
            let is_whole = action == Action::Failed && envelope.dsn.ret != Some(Ret::Headers) && !envelope.requires_tls;
            let returned =
                if may_be_told { returned(content.clone(), is_whole).await } else { ReturnedContent::nothing() };
            let mut notified =
                self.within_rate(self.report(envelope, action, recipients, &returned).notify(), recipients);
            if let Some(notification) = notified.notification.take() {
                caused.push(self.notification(notification).await);
            }
            told.push(notified);
        }
        (caused, told)
    }

    /// The same, or nothing where the sender was told of too much already (SECURITY.md D-17).
    pub(super) fn within_rate(&self, mut notified: Notified, recipients: &[ReportedRecipient]) -> Notified {
        let told = notified.notification.as_ref().and_then(|notification| notification.envelope.recipients.first());
        if told.is_some_and(|told| !self.notification_rates.admit(&told.mailbox)) {
            notified.notification = None;
            let is_told = |index: u32| notified.withheld.iter().all(|(other, _)| *other != index);
            let untold: Vec<_> =
                recipients.iter().map(|reported| reported.index).filter(|index| is_told(*index)).collect();
            notified.withheld.extend(untold.into_iter().map(|index| (index, Withheld::TooMany)));
        }
        notified
    }

    /// What is said of some recipients of a message.
    pub(super) fn report<'a>(
        &'a self,
        envelope: &'a Envelope,
        action: Action,
        recipients: &'a [ReportedRecipient],
        returned: &'a ReturnedContent,
    ) -> Report<'a> {
        Report {
            envelope,
            action,
            recipients,
            returned,
            host: &self.hostname,
            postmaster: &self.postmaster,
            now: self.clock.wall(),
            retry_until: Some(self.settings.schedule.expires(envelope)),
        }
    }

    /// A notification as it is queued.
    pub(super) async fn notification(&self, notification: Notification) -> NewMessage {
        let Notification { mut envelope, content, .. } = notification;
        let null = ReversePath::Null;
        let mut content = NewContent { head: Bytes::new(), content: Content::new(content), skipped_octets: 0 };
        match self.outgoing(&Outbound::generated(&null), &envelope.recipients, &content).await {
            Ok(Some(outgoing)) => outgoing.apply(&mut envelope, &mut content),
            Ok(None) => {}
            // It leaves under the null reverse-path, as RFC 5321 §4.5.5 wants, and unsigned; what is decided now may be
            // forgotten later, but an outcome that is not recorded would be a second copy at somebody's.
            Err(error) => self.policy_failed(&error),
        }
        let progress = self.sites_of(&envelope, self.clock.steady());
        NewMessage {
            envelope: Arc::new(envelope),
            content,
            progress: progress.into_iter().map(|(_, progress)| NewProgress { progress, lease: false }).collect(),
        }
    }

    /// Records a change, again and again while the store has passing trouble: the recipients have their mail, and who
    /// forgets that delivers it twice.
    async fn record_change(self: &Arc<Self>, lease: &Lease, change: Change) -> Result<(), SpoolError> {
        /// 1 s, doubled each time up to a minute.
        const FIRST_PAUSE: Duration = Duration::from_secs(1);
        const LONGEST_PAUSE: Duration = Duration::from_secs(60);
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = self.spool.record(lease.clone(), change.clone()).await else { return Ok(()) };
            if matches!(error, SpoolError::Invalid(_) | SpoolError::LeaseLost { .. }) {
                return Err(error);
            }
            self.store_failed("record an outcome", &error);
            if self.is_read_only() || !error.is_transient() {
                return Err(error);
            }
            if timeout(pause, self.reaches(Phase::Aborting)).await.is_ok() {
                return Err(error);
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    // Telling and counting

    fn tell_results(&self, envelope: &Envelope, before: &SiteName, results: &Results, next: Option<SystemTime>) {
        let flow = self.accounts.of(envelope.origin.notification_of.is_some());
        for ended in &results.ended {
            if let Some(counter) = ended.counter(flow) {
                add(counter, 1);
            }
            self.tell(|| self.event(envelope, before, ended, next));
            let recipient = &envelope.recipients[ended.index as usize];
            if recipient.is_role && matches!(ended.how, How::Failed | How::Expired) {
                self.tell(|| DeliveryEvent::RoleMailFailed {
                    id: SafeText::new(envelope.id.to_string()),
                    role: SafeText::new(recipient.path.to_string()),
                    recipient: recipient.mailbox.clone(),
                    reply: ended.diagnosis.reply.clone(),
                });
            }
        }
        if let Some(to) = results.moved_from(before) {
            let text = |text: &dyn std::fmt::Display| SafeText::new(text.to_string());
            self.tell(|| DeliveryEvent::Moved { id: text(&envelope.id), from: text(before), to: text(to) });
        }
    }

    fn event(&self, envelope: &Envelope, site: &SiteName, ended: &Ended, next: Option<SystemTime>) -> DeliveryEvent {
        let recipient = &envelope.recipients[ended.index as usize];
        let attempt = DeliveryAttempt {
            id: SafeText::new(envelope.id.to_string()),
            recipient: recipient.mailbox.clone(),
            site: SafeText::new(site.to_string()),
            number: ended.number,
            reply: ended.diagnosis.reply.clone(),
            remote: ended.diagnosis.remote.clone(),
            age: self.clock.wall().duration_since(envelope.arrival).unwrap_or_default(),
        };
        let result = match ended.how {
            How::Expired => return DeliveryEvent::Expired { attempt },
            How::Delivered => AttemptResult::Delivered,
            How::Quarantined => AttemptResult::Quarantined,
            How::Failed => AttemptResult::Failed,
            How::Deferred => {
                let next = next.unwrap_or_else(|| self.clock.steady());
                AttemptResult::Deferred { next_attempt: self.clock.as_wall(next) }
            }
        };
        DeliveryEvent::Attempted { attempt, result }
    }

    pub(super) fn tell_notified(&self, envelope: &Envelope, caused: &[Arc<Envelope>], notified: Vec<Notified>) {
        let id = || SafeText::new(envelope.id.to_string());
        for notification in caused {
            add(&self.accounts.notifications.taken, notification.recipients.len() as u64);
            for recipient in &notification.recipients {
                let recipient = recipient.mailbox.clone();
                let name = SafeText::new(notification.id.to_string());
                self.tell(|| DeliveryEvent::NotificationQueued { about: id(), id: name, recipient });
            }
        }
        for (index, reason) in notified.into_iter().flat_map(|notified| notified.withheld) {
            let reason: Withheld = reason;
            let Some(recipient) = envelope.recipients.get(index as usize) else { continue };
            let (recipient, reason) = (recipient.mailbox.clone(), SafeText::new(reason.to_string()));
            self.tell(|| DeliveryEvent::NotificationWithheld { id: id(), recipient, reason });
        }
    }

    /// Whoever has the mail already may get it again.
    fn outcomes_lost(&self, envelope: &Envelope, results: &Results, error: &SpoolError) {
        let delivered = results.ended.iter().filter(|ended| matches!(ended.how, How::Delivered | How::Quarantined));
        for ended in delivered {
            self.tell(|| DeliveryEvent::OutcomeLost {
                id: SafeText::new(envelope.id.to_string()),
                recipient: envelope.recipients[ended.index as usize].mailbox.clone(),
                cause: SafeText::new(with_causes(error)),
            });
        }
    }
}

impl Results {
    /// Where the pair moves, if it does.
    fn moved_from(&self, before: &SiteName) -> Option<&SiteName> {
        self.progress.as_ref().map(|progress| &progress.site).filter(|site| *site != before)
    }
}

impl Ended {
    /// Where it is counted, if it is the end.
    fn counter<'a>(&self, flow: &'a FlowCounters) -> Option<&'a AtomicU64> {
        match self.how {
            How::Delivered => Some(&flow.delivered),
            How::Quarantined => Some(&flow.quarantined),
            How::Failed | How::Expired => Some(&flow.failed),
            How::Deferred => None,
        }
    }
}

fn delivered(envelope: &Envelope, index: u32) -> How {
    let recipient = envelope.recipients.get(index as usize);
    let disposition = recipient.map(|recipient| &recipient.disposition);
    if matches!(disposition, Some(Disposition::Quarantine(_))) { How::Quarantined } else { How::Delivered }
}

/// What is said of a message that expired before anybody tried (STANDARDS.md Q3).
fn never_tried() -> Diagnosis {
    let refusal = Refusal::transient(4, 7, "The message has expired and could not be tried");
    Diagnosis { reply: refusal.reply().clone(), remote: None }
}

/// What of the content goes back: as much as may, or only its header section. Where it cannot be read, nothing does.
pub(super) async fn returned(content: StoredContent, is_whole: bool) -> ReturnedContent {
    let read = move |content: &StoredContent| {
        let read = if is_whole { ReturnedContent::whole(content) } else { ReturnedContent::header_section(content) };
        read.unwrap_or_else(|_| ReturnedContent::nothing())
    };
    if content.as_parts().is_some() {
        return read(&content);
    }
    let reading = tokio::task::spawn_blocking(move || read(&content));
    reading.await.unwrap_or_else(|_| ReturnedContent::nothing())
}
