//! When attempts are made and when a message is given up, however the clock jumps (STANDARDS.md Q1 to Q3; T13, D-36).

use std::time::{Duration, SystemTime};

use smtp_core::{Content, Mailbox, ReversePath};
use smtp_queue::{Clock, Waiting};

use crate::support::*;

/// The waits between attempts for a recipient, in seconds.
fn waits(times: &[Duration]) -> Vec<f64> {
    times.windows(2).map(|pair| pair[1].abs_diff(pair[0]).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q1, Q2, Q3
async fn q1_q2_q3_a_message_is_tried_by_the_schedule_and_given_up_after_five_days() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Defer);
    world.submit(&["b@one.example"]).await;
    world.pass(6 * DAY).await;
    let times = world.hops.times("b@one.example");
    assert!(times[0] < Duration::from_secs(1));
    let expected = [300.0, 600.0, 1200.0, 2400.0].into_iter().chain(std::iter::repeat(4000.0));
    let waits = waits(&times);
    for (number, (wait, expected)) in waits.iter().zip(expected).enumerate() {
        let ratio = wait / expected;
        assert!((0.799..1.201).contains(&ratio), "attempt {}: {wait} s, not {expected} s", number + 2);
    }
    assert!(times.iter().filter(|time| **time <= HOUR).count() >= 2, "RFC 5321 §4.5.4.1");
    let last = *times.last().expect("there were attempts");
    assert!(last < 5 * DAY && last + Duration::from_secs(4800) > 5 * DAY, "{last:?}");
    // The notification follows when the five days are over, not at the next attempt.
    let told = world.hops.times("alice@client.example");
    assert_eq!(told.len(), 1);
    assert!(told[0] >= 5 * DAY && told[0] < 5 * DAY + MINUTE, "{told:?}");
    let report = world.hops.seen().pop().expect("the notification").octets;
    let report = String::from_utf8_lossy(&report);
    assert!(report.contains("Status: 4.7.1") || report.contains("Status: 5.7.1"), "as the last attempt: {report}");
    assert_eq!(world.events.count("expired b@one.example"), 1);
    world.assert_balanced();
    let turns = world.queue.totals().turns;
    assert!(turns < 20 * times.len() as u64, "{turns} turns for {} attempts", times.len());
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q3: never tried, because there was never a place.
async fn q3_a_message_that_could_not_be_tried_expires_with_4_4_7() {
    let mut settings = smtp_queue::QueueSettings::default();
    settings.concurrency_limit = 1;
    settings.attempt_timeout = 100 * DAY;
    let world = World::with(settings);
    world.hops.set("first@one.example", Does::Slow(6 * 24 * 3600));
    world.submit(&["first@one.example"]).await;
    let second = world.submit(&["second@one.example"]).await;
    world.pass(HOUR).await;
    let entry = world.queue.show(second).await.expect("it answers").expect("it is there");
    assert_eq!(entry.pairs[0].waiting, Waiting::SiteConcurrency { limit: 1 });
    world.pass(7 * DAY).await;
    assert_eq!(world.hops.times("second@one.example"), []);
    let seen = world.hops.seen();
    let report = String::from_utf8_lossy(&seen.last().expect("the notification").octets).into_owned();
    assert!(report.contains("Status: 4.4.7") && report.contains("second@one.example"), "{report}");
    world.assert_balanced();
}

/// What is done to the clock, whether it is put right later, and how many alarms that raises.
type Jump = (&'static str, fn(SystemTime) -> SystemTime, Option<Duration>, usize);

/// The attempts for a message of which nothing is accepted, when the clock of the host is set one hour after the start.
async fn attempts_with_jump(
    jump: impl Fn(SystemTime) -> SystemTime,
    back: Option<Duration>,
) -> (Vec<Duration>, Vec<Duration>, u64, usize) {
    let world = World::new();
    world.hops.set("b@one.example", Does::Defer);
    world.submit(&["b@one.example"]).await;
    world.pass(HOUR).await;
    world.clock.set(jump(world.clock.now()));
    if let Some(after) = back {
        world.pass(after).await;
        world.clock.set(start_time() + HOUR + after);
    }
    world.pass(7 * DAY).await;
    let turns = world.queue.totals().turns;
    world.assert_balanced();
    let alarms = world.events.count("clock jumped");
    (world.hops.times("b@one.example"), world.hops.times("alice@client.example"), turns, alarms)
}

#[tokio::test(start_paused = true)] // SECURITY.md T13, D-36
async fn t13_no_jump_of_the_clock_makes_an_attempt_early_or_a_message_old() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let (expected, told, turns, alarms) = attempts_with_jump(|now| now, None).await;
    assert_eq!((told.len(), alarms), (1, 0));
    let jumps: [Jump; 8] = [
        ("+1 s (a leap second)", |now| now + Duration::from_secs(1), None, 0),
        ("-1 s", |now| now - Duration::from_secs(1), None, 0),
        ("+1 h", |now| now + HOUR, None, 0),
        ("-1 h", |now| now - HOUR, None, 0),
        ("+1 year", |now| now + YEAR, None, 1),
        ("-1 year", |now| now - YEAR, None, 1),
        ("+1 year and back", |now| now + YEAR, Some(DAY), 2),
        ("-1 year and back", |now| now - YEAR, Some(DAY), 2),
    ];
    for (name, jump, back, expected_alarms) in jumps {
        let (times, told_then, turns_then, alarms) = attempts_with_jump(jump, back).await;
        let common = times.len().min(expected.len());
        assert!(common >= 100, "{name}: {common} attempts");
        // The last may differ: an hour more or less until the message expires.
        for (place, (time, expected)) in times.iter().zip(&expected).enumerate().take(common - 2) {
            assert!(
                time.abs_diff(*expected) < Duration::from_secs(1),
                "{name}, attempt {}: {time:?}, not {expected:?}",
                place + 1
            );
        }
        assert_eq!(told_then.len(), 1, "{name}");
        assert!(told_then[0] + 2 * HOUR >= told[0], "{name}: expired early, after {:?}", told_then[0]);
        assert!(told_then[0] <= told[0] + 4 * HOUR, "{name}: expired late, after {:?}", told_then[0]);
        assert!(turns_then < 2 * turns + 50, "{name}: {turns_then} turns, without a jump {turns}");
        assert_eq!(alarms, expected_alarms, "{name}");
    }
}

#[tokio::test(start_paused = true)] // SECURITY.md T13: what waits while the clock is wrong does not wait for ever.
async fn t13_what_was_stored_by_a_clock_that_ran_ahead_is_tried_soon_after_a_restart() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Defer);
    world.submit(&["b@one.example"]).await;
    world.pass(HOUR).await;
    let before = world.hops.times("b@one.example").len();
    world.queue.shutdown(MINUTE).await;
    // The next queue starts with a clock that was put right meanwhile.
    world.spool.reopen();
    world.clock.set(start_time() - 300 * DAY);
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| builder.clock(world.clock.clone()));
    again.hops.set("b@one.example", Does::Defer);
    again.pass(2 * HOUR).await;
    assert!(again.hops.times("b@one.example").len() >= 2, "{before} before");
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_queue_does_nothing() {
    let world = World::new();
    world.pass(DAY).await;
    let turns = world.queue.totals().turns;
    assert!(turns <= 3, "{turns} turns in a day without mail");
    let content = Content::new("x: y\r\n\r\n");
    let nobody: [Mailbox; 0] = [];
    assert!(world.queue.submit(ReversePath::Null, nobody, content).await.is_err());
    assert_eq!(world.queue.totals().turns, turns);
}
