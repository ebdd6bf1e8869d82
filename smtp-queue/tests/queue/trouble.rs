//! What breaks: transports, the store, the process.

use std::sync::Arc;
use std::time::Duration;

use smtp_core::{Content, Delivery};
use smtp_queue::{Spool, SubmitError, Waiting};

use crate::faulty_spool::{FaultySpool, Operation, passing, read_only};
use crate::support::*;

fn over(spool: &FaultySpool) -> World {
    World::over(Arc::new(spool.clone()), spool.inner.clone(), |builder| builder)
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_or_hangs_is_reported_and_harms_nobody_else() {
    let world = World::new();
    world.hops.set("panics@one.example", Does::Panic);
    world.hops.set("hangs@two.example", Does::Hang);
    world.hops.set("says-nothing@three.example", Does::Nothing);
    world.submit(&["panics@one.example"]).await;
    world.submit(&["hangs@two.example"]).await;
    world.submit(&["says-nothing@three.example", "b@three.example"]).await;
    world.submit(&["a@one.example"]).await;
    world.submit(&["a@two.example"]).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!((world.events.count("transport panicked"), world.events.count("transport incomplete")), (1, 1));
    assert_eq!(world.events.count("delivered a@"), 2);
    world.pass(HOUR).await;
    assert_eq!(world.events.count("transport timed out"), 1);
    assert_eq!(world.events.count("failed"), 0);
}

#[tokio::test(start_paused = true)] // STANDARDS.md C7
async fn c7_what_cannot_be_stored_is_not_acknowledged() {
    let spool = FaultySpool::new();
    let world = over(&spool);
    spool.fail(Operation::Put, 1, passing);
    let refused = world.queue.submit(path("<a@b.example>"), [mailbox("b@one.example")], Content::new("x\r\n")).await;
    assert!(matches!(&refused, Err(SubmitError::Spool(error)) if error.is_transient()), "{refused:?}");
    world.pass(HOUR).await;
    assert_eq!(world.hops.seen(), []);
    assert_eq!(world.queue.totals().mail.taken, 0);
    world.assert_balanced();
    world.submit(&["b@one.example"]).await;
    world.pass(MINUTE).await;
    assert_eq!(world.queue.totals().mail.delivered, 1);
}

#[tokio::test(start_paused = true)] // STANDARDS.md C6: nobody is delivered to again because a write failed for a moment.
async fn c6_an_outcome_that_could_not_be_recorded_is_recorded_later_and_not_tried_again() {
    let spool = FaultySpool::new();
    let world = over(&spool);
    spool.fail(Operation::Record, 5, passing);
    world.submit(&["b@one.example"]).await;
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(world.queue.totals().mail.delivered, 0, "not before it is on stable storage");
    world.pass(HOUR).await;
    assert_eq!(world.hops.seen().len(), 1, "one attempt");
    assert_eq!(world.queue.totals().mail.delivered, 1);
    assert_eq!(world.events.count("store failed to record an outcome, stops false"), 5);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // STANDARDS.md C7
async fn c7_after_a_failed_sync_no_attempt_starts_and_those_in_flight_are_told() {
    let spool = FaultySpool::new();
    let world = over(&spool);
    world.hops.set("slow@one.example", Does::Slow(100));
    world.hops.set("waits@one.example", Does::Defer);
    world.submit(&["slow@one.example"]).await;
    let waits = world.submit(&["waits@one.example"]).await;
    world.pass(MINUTE).await;
    spool.fail(Operation::Record, u32::MAX, read_only);
    spool.fail(Operation::Put, u32::MAX, read_only);
    let refused = world.queue.submit(path("<>"), [mailbox("b@one.example")], Content::new("x\r\n")).await;
    assert!(matches!(&refused, Err(SubmitError::Spool(error)) if error.is_transient()));
    world.pass(10 * MINUTE).await;
    assert_eq!(world.events.count("outcome lost slow@one.example"), 1);
    assert!(
        world.events.count("store failed") >= 2 && world.events.all().iter().any(|event| event.ends_with("stops true"))
    );
    let asked = world.queue.check_room(None).expect_err("nothing is taken any more");
    assert!(asked.reply().to_string().starts_with("451 4.3.0 "), "{}", asked.reply());
    let attempts = world.hops.seen().len();
    world.pass(DAY).await;
    assert_eq!(world.hops.seen().len(), attempts, "no attempt starts any more");
    let entry = world.queue.show(waits).await.expect("it answers").expect("it is there");
    assert_eq!(entry.pairs[0].waiting, Waiting::SpoolReadOnly);
    // After a restart everything goes on; who was in flight gets it twice, as was said.
    world.queue.shutdown(MINUTE).await;
    spool.inner.reopen();
    let again = World::over(spool.inner.clone(), spool.inner.clone(), |builder| builder);
    again.pass(HOUR).await;
    assert_eq!(again.hops.times("slow@one.example").len(), 1);
    assert_eq!(again.hops.times("waits@one.example").len(), 1);
    again.assert_balanced();
}

#[tokio::test(start_paused = true)] // DESIGN.md: every decision can be explained, and this one is the operator's to end.
async fn that_there_is_no_room_is_told_the_client_each_time_and_the_operator_once() {
    let spool = FaultySpool::new();
    let world = over(&spool);
    let told = || world.events.count("store failed to take messages, stops false");
    for times in 1..=2 {
        // Whether there is any at all is asked as well.
        spool.fail(Operation::Room, 4, passing);
        for _ in 0..2 {
            let refusal = world.queue.check_room(Some(1000)).expect_err("there is no room");
            assert!(refusal.reply().to_string().starts_with("452 4.3.1 "), "{}", refusal.reply());
        }
        assert!(world.queue.check_room(Some(1000)).is_ok());
        assert_eq!(told(), times);
    }
    // Too large is not full.
    spool.fail(Operation::Room, 1, passing);
    assert!(world.queue.check_room(Some(1000)).is_err());
    assert_eq!(told(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_answer_is_asked_less_and_less_often() {
    let spool = FaultySpool::new();
    spool.fail(Operation::Due, 30, passing);
    let world = over(&spool);
    world.pass(10 * MINUTE).await;
    let turns = world.queue.totals().turns;
    assert!(turns < 20, "{turns} turns in ten minutes");
    world.pass(HOUR).await;
    world.hops.set("b@one.example", Does::Defer);
    world.submit(&["b@one.example"]).await;
    world.pass(HOUR).await;
    assert!(world.hops.times("b@one.example").len() >= 2, "it goes on when the store does");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_loaded_is_tried_later() {
    for operation in [Operation::Load, Operation::Content] {
        let spool = FaultySpool::new();
        let world = over(&spool);
        world.hops.set("b@one.example", Does::Defer);
        world.submit(&["b@one.example"]).await;
        world.pass(MINUTE).await;
        world.hops.set("b@one.example", Does::Accept);
        spool.fail(operation, 10, passing);
        world.pass(HOUR).await;
        assert_eq!(world.queue.totals().mail.delivered, 1, "{operation:?}");
        assert_eq!(world.events.count("store failed to load"), 10, "{operation:?}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_loaded_is_left_alone_for_a_while() {
    let spool = FaultySpool::new();
    let world = over(&spool);
    world.hops.set("b@one.example", Does::Defer);
    world.submit(&["b@one.example"]).await;
    world.pass(MINUTE).await;
    spool.fail(Operation::Load, 100_000, passing);
    world.pass(HOUR).await;
    let asked = world.events.count("store failed to load");
    assert!((10..=60).contains(&asked), "it was asked {asked} times in an hour");
}

#[tokio::test(start_paused = true)]
async fn damaged_content_is_held_for_an_operator_and_never_thrown_away() {
    let spool = FaultySpool::new();
    let world = over(&spool);
    world.hops.set("b@one.example", Does::Defer);
    let id = world.submit(&["b@one.example"]).await;
    world.pass(MINUTE).await;
    spool.fail(Operation::Content, 1, |id| smtp_queue::SpoolError::Damaged { id });
    world.pass(6 * DAY).await;
    let entry = world.queue.show(id).await.expect("it answers").expect("it is there");
    assert_eq!(entry.pairs[0].waiting, Waiting::Held);
    assert_eq!(world.events.count("store failed to load content"), 1);
    assert_eq!(world.events.count("expired"), 0, "what is held does not expire");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_attempts_finish_and_gives_the_rest_back() {
    let world = World::new();
    world.hops.set("slow@one.example", Does::Slow(20));
    world.hops.set("hangs@one.example", Does::Hang);
    world.submit(&["slow@one.example"]).await;
    world.submit(&["hangs@one.example"]).await;
    for number in 0..20 {
        world.hops.set(&format!("u{number}@one.example"), Does::Slow(1000));
        world.submit(&[&format!("u{number}@one.example")]).await;
    }
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.queue.totals().in_flight, 5);
    let start = tokio::time::Instant::now();
    world.queue.shutdown(MINUTE).await;
    let took = start.elapsed();
    assert!(took >= MINUTE && took < MINUTE + Duration::from_secs(1), "{took:?}");
    assert_eq!(world.events.count("delivered slow@one.example"), 1);
    let listed = world.queue.list(None, 100).await.expect("it answers");
    assert_eq!(listed.len(), 21);
    assert!(listed.iter().all(|listed| !listed.pairs[0].leased && listed.pairs[0].attempts == 0), "{listed:?}");
    world.assert_balanced();
    let refused = world.queue.submit(path("<>"), [mailbox("b@one.example")], Content::new("x\r\n")).await;
    assert!(matches!(refused, Err(SubmitError::ShutDown)));
    let attempts = world.hops.seen().len();
    world.pass(DAY).await;
    assert_eq!(world.hops.seen().len(), attempts);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_nothing_in_flight_is_over_at_once() {
    let world = World::new();
    world.submit(&["b@one.example"]).await;
    world.pass(MINUTE).await;
    let start = tokio::time::Instant::now();
    world.queue.shutdown(HOUR).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_nobody_holds_ends_and_gives_everything_back() {
    let world = World::new();
    world.hops.set("hangs@one.example", Does::Hang);
    world.submit(&["hangs@one.example"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let World { spool, queue, hops, .. } = world;
    drop(queue);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let listed = spool.list(None, 10).await.expect("it answers");
    assert!(!listed[0].pairs[0].leased, "{listed:?}");
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(hops.seen().len(), 1);
}

#[tokio::test(start_paused = true)] // STANDARDS.md C6
async fn after_a_restart_everything_that_was_queued_is_tried_and_nothing_that_was_delivered() {
    let world = World::new();
    for number in 0..50 {
        let recipient = format!("u{number}@site{}.example", number % 7);
        world.hops.set(&recipient, if number % 3 == 0 { Does::Defer } else { Does::Accept });
        world.submit(&[&recipient]).await;
    }
    world.pass(MINUTE).await;
    world.queue.shutdown(MINUTE).await;
    world.spool.reopen();
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| builder.clock(world.clock.clone()));
    again.pass(HOUR).await;
    let mut seen: Vec<_> = again.hops.seen().into_iter().flat_map(|seen| seen.recipients).collect();
    seen.sort();
    let mut expected: Vec<_> =
        (0..50).step_by(3).map(|number| format!("u{number}@site{}.example", number % 7)).collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(again.queue.totals().at_start, 17);
    again.assert_balanced();
}
