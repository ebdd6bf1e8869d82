//! Asks the spool for what is due when something is due, and watches that nothing is forgotten.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use smtp_core::{DeliveryEvent, SafeText};
use tokio::time::{Instant, sleep, sleep_until};

use crate::spool::Listed;

use super::shared::{Phase, Shared};

/// The most leases that are taken in one turn, so that a turn is short.
const TURN: usize = 1000;
/// The shortest sleep after a turn that found nothing, whatever the spool said of the next time.
const SHORTEST: Duration = Duration::from_millis(10);
/// How long to wait after the spool failed: 1 s, doubled each time up to a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Goes on until the queue drains.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    while shared.phase() == Phase::Running && !shared.is_read_only() {
        shared.accounts.turns.fetch_add(1, Ordering::Relaxed);
        shared.forget_plan();
        let now = Instant::now();
        let (rest_over, room) = shared.sites().look(now, TURN);
        let steady = shared.clock.steady_at(now);
        let (found, next) = match shared.spool.due(steady, &room).await {
            Ok(due) => {
                pause = FIRST_PAUSE;
                let found = due.leases.len();
                let too_late = shared.change_sites(|sites| sites.add_leases(&room, due.leases));
                if !too_late.is_empty() {
                    shared.clone().give_back(too_late).await;
                }
                (found, due.next)
            }
            Err(error) => {
                shared.store_failed("say what is due", &error);
                tokio::select! {
                    biased;
                    () = sleep(pause) => {}
                    () = shared.reaches(Phase::Draining) => {}
                }
                pause = LONGEST_PAUSE.min(pause * 2);
                continue;
            }
        };
        if found > 0 && found == room.total && shared.sites().room_left() {
            // There is more, and room for it. Others may run first.
            tokio::task::yield_now().await;
            continue;
        }
        let planned = shared.plan(next).map(|time| shared.clock.instant_of(time));
        let until = [planned, rest_over].into_iter().flatten().min();
        let until = if found == 0 { until.map(|until| until.max(now + SHORTEST)) } else { until };
        tokio::select! {
            biased;
            () = shared.woken() => {}
            () = sleep_until(until.unwrap_or(now)), if until.is_some() => {}
        }
    }
}

/// How often everything is looked through: 15 min.
const ROUND: Duration = Duration::from_secs(15 * 60);
/// How many messages are looked at together.
const PAGE: usize = 1000;
/// The most that are reported in one round.
const REPORTS: usize = 10;

/// Looks through the spool now and then: what should have been tried long ago is reported, and what waits for a time that
/// no schedule would set is tried soon. (The clock went back while there was no queue.)
pub(super) async fn watch(shared: Arc<Shared>) {
    tokio::select! {
        biased;
        () = rounds(&shared) => {}
        () = shared.reaches(Phase::Draining) => {}
    }
}

async fn rounds(shared: &Arc<Shared>) {
    while !shared.is_read_only() {
        let mut after = None;
        let mut reports = 0;
        loop {
            let page = match shared.spool.list(after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    shared.store_failed("list messages", &error);
                    break;
                }
            };
            for listed in &page {
                look_at(shared, listed, &mut reports).await;
            }
            after = page.last().map(|last| last.id);
            if page.len() < PAGE {
                break;
            }
            tokio::task::yield_now().await;
        }
        sleep(ROUND).await;
    }
}

async fn look_at(shared: &Arc<Shared>, listed: &Listed, reports: &mut usize) {
    if listed.held {
        return;
    }
    let settings = &shared.settings;
    let now = shared.clock.steady();
    for pair in &listed.pairs {
        let busy = if pair.leased { settings.attempt_timeout } else { Duration::ZERO };
        let late = now.duration_since(pair.next_attempt).unwrap_or_default();
        if late > settings.past_due_after + busy && *reports < REPORTS {
            *reports += 1;
            shared.tell(|| DeliveryEvent::PastDue {
                id: SafeText::new(listed.id.to_string()),
                site: SafeText::new(pair.site.to_string()),
                by: late,
            });
        }
    }
    // Twice the longest wait: no schedule looks so far ahead.
    let horizon = settings.schedule.longest_wait.max(settings.schedule.first_retry) * 2;
    let is_ahead = |next: SystemTime| next.duration_since(now).is_ok_and(|wait| wait > horizon);
    if listed.pairs.iter().any(|pair| !pair.leased && is_ahead(pair.next_attempt)) {
        match shared.spool.show(listed.id).await {
            // Its sender wanted it to wait so long.
            Ok(Some(shown)) if !shared.held_for(&shown.envelope).is_zero() => return,
            Ok(_) => {}
            Err(error) => return shared.store_failed("show a message", &error),
        }
        match shared.spool.reschedule(listed.id, now).await {
            Ok(_) => shared.is_due_at(now),
            Err(error) => shared.store_failed("try a message again", &error),
        }
    }
}
