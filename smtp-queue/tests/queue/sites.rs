//! One site does not hold up another, and each gets as much at a time as it bears (STANDARDS.md Q10, Q11; T14).

use std::time::Duration;

use smtp_queue::{QueueSettings, Waiting};

use crate::support::*;

#[tokio::test(start_paused = true)] // STANDARDS.md Q11
async fn q11_attempts_at_a_time_start_at_5_and_rise_to_20() {
    let world = World::new();
    world.hops.otherwise(Does::Slow(10));
    for number in 0..30 {
        world.submit(&[&format!("u{number}@one.example")]).await;
    }
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.hops.most_at_once("one.example"), 5);
    for number in 0..500 {
        world.submit(&[&format!("v{number}@one.example")]).await;
    }
    world.pass(HOUR).await;
    assert_eq!(world.hops.most_at_once("one.example"), 20);
    world.assert_balanced();
    assert_eq!(world.queue.totals().mail.delivered, 530);
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q11
async fn q11_attempts_at_a_time_fall_where_the_site_cannot_be_reached() {
    let world = World::new();
    world.hops.otherwise(Does::Slow(1));
    for number in 0..500 {
        world.submit(&[&format!("u{number}@one.example")]).await;
    }
    world.pass(HOUR).await;
    // It has proved to bear 20, and then it dies.
    world.hops.otherwise(Does::Silence(30));
    for number in 0..300 {
        world.submit(&[&format!("v{number}@one.example")]).await;
    }
    world.pass(5 * MINUTE).await;
    let seen = world.hops.seen().iter().filter(|seen| seen.recipients[0].starts_with('v')).count();
    // 20, then one after the other with growing rests; without the fall there would be 200.
    assert!((20..60).contains(&seen), "{seen} attempts in five minutes");
    // When it answers again, everything goes out soon.
    world.hops.otherwise(Does::Accept);
    world.pass(2 * HOUR).await;
    assert_eq!(world.queue.totals().mail.delivered, 800);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_greylisting_site_is_not_taken_for_a_dead_one() {
    let world = World::new();
    world.hops.otherwise(Does::Defer);
    for number in 0..100 {
        world.submit(&[&format!("u{number}@one.example")]).await;
    }
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.hops.seen().len(), 100, "all are tried at once");
}

/// How long it takes until a healthy site has its 100 messages, with so many dead sites beside it.
async fn healthy_beside(dead: usize) -> (Duration, Vec<Duration>) {
    let world = World::new();
    for site in 0..dead {
        for message in 0..5 {
            let recipient = format!("u{message}@dead{site}.example");
            world.hops.set(&recipient, if site % 2 == 0 { Does::Silence(30) } else { Does::Hang });
            world.submit(&[&recipient]).await;
        }
    }
    world.hops.otherwise(Does::Slow(1));
    let start = tokio::time::Instant::now();
    for number in 0..100 {
        world.submit(&[&format!("u{number}@alive.example")]).await;
    }
    while world.queue.totals().mail.delivered < 100 {
        world.pass(Duration::from_millis(100)).await;
        assert!(start.elapsed() < HOUR, "{:?}", world.queue.totals());
    }
    let times = world.hops.seen().iter().filter(|seen| seen.site == "alive.example").map(|seen| seen.at).collect();
    (start.elapsed(), times)
}

#[tokio::test(start_paused = true)] // SECURITY.md T14
async fn t14_a_thousand_dead_sites_cost_a_healthy_one_at_most_a_tenth() {
    let (alone, _) = healthy_beside(0).await;
    let (beside, times) = healthy_beside(1000).await;
    assert!(beside <= alone + alone / 10, "alone {alone:?}, beside 1,000 dead sites {beside:?}: {times:?}");
}

#[tokio::test(start_paused = true)] // SECURITY.md T14: also where all places are few.
async fn t14_dead_sites_leave_places_where_these_are_few() {
    let mut settings = QueueSettings::default();
    settings.total_concurrency = 50;
    settings.total_window = 100;
    let world = World::with(settings);
    world.hops.otherwise(Does::Accept);
    world.submit(&["first@alive.example"]).await;
    world.pass(MINUTE).await;
    for site in 0..20 {
        for message in 0..50 {
            let recipient = format!("u{message}@dead{site}.example");
            world.hops.set(&recipient, Does::Silence(300));
            world.submit(&[&recipient]).await;
        }
    }
    world.pass(MINUTE).await;
    for number in 0..100 {
        world.submit(&[&format!("u{number}@alive.example")]).await;
    }
    world.pass(MINUTE).await;
    assert_eq!(world.queue.totals().mail.delivered, 101, "{:?}", world.queue.totals());
    assert!(world.queue.totals().in_window <= 100, "{:?}", world.queue.totals());
}

#[tokio::test(start_paused = true)]
async fn a_full_window_leaves_the_rest_in_the_spool_and_all_of_it_is_delivered() {
    let mut settings = QueueSettings::default();
    settings.site_window = 30;
    settings.window_octets = 100;
    let world = World::with(settings);
    world.hops.otherwise(Does::Slow(2));
    let mut last = None;
    for number in 0..300 {
        last = Some(world.submit(&[&format!("u{number}@one.example")]).await);
    }
    world.pass(Duration::from_secs(1)).await;
    let totals = world.queue.totals();
    assert!(totals.in_window <= 30 && totals.in_flight <= 20, "{totals:?}");
    let last = last.expect("there is one");
    let entry = world.queue.show(last).await.expect("it answers").expect("it is there");
    assert_eq!(entry.pairs[0].waiting, Waiting::WindowFull { limit: 30 });
    world.pass(HOUR).await;
    assert_eq!(world.queue.totals().mail.delivered, 300);
    let seen = world.hops.seen();
    assert!(seen.iter().all(|seen| seen.octets == b"Subject: test\r\n\r\nbody\r\n"), "read back as it was");
    let order: Vec<_> = seen.iter().map(|seen| seen.id).collect();
    assert!(order.is_sorted(), "who came first is tried first");
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q10, SECURITY.md D-55
async fn q10_d55_passing_trouble_never_fails_a_message_at_once() {
    for does in [Does::Defer, Does::NotThere, Does::Silence(600), Does::Panic, Does::Hang, Does::Nothing] {
        let world = World::new();
        world.hops.set("b@one.example", does);
        world.submit(&["b@one.example"]).await;
        world.pass(4 * DAY).await;
        assert_eq!(world.events.count("failed") + world.events.count("expired"), 0, "{does:?}");
        assert!(world.events.count("deferred") > 30, "{does:?}: {}", world.events.count("deferred"));
        world.hops.set("b@one.example", Does::Accept);
        world.pass(3 * HOUR).await;
        assert_eq!(world.events.count("delivered b@one.example"), 1, "{does:?}");
        world.assert_balanced();
    }
}
