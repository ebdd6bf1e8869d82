//! Urgent mail goes first, and nobody waits for ever (RFC 6710; STANDARDS.md R6710).

use std::time::Duration;

use smtp_queue::{Clock, QueueSettings, Room, Spool};

use crate::relaying::relay_with;
use crate::support::*;

/// One place at the site, and 10 s for each message, so that what waits is put in order.
fn world(window: usize) -> World {
    let mut settings = QueueSettings::default();
    settings.concurrency_start = 1;
    settings.concurrency_limit = 1;
    settings.site_window = window;
    let world = World::with(settings);
    world.hops.otherwise(Does::Slow(10));
    world
}

/// Relays a message to that recipient, with that priority.
async fn relay(world: &World, recipient: &str, priority: i8) {
    relay_with(world, &format!("MT-PRIORITY={priority}"), recipient, "").await;
}

/// The names of recipients in the order in which they were tried.
fn order(world: &World) -> Vec<String> {
    world.hops.seen().iter().map(|seen| seen.recipients[0].replace("@one.example", "")).collect()
}

#[tokio::test(start_paused = true)] // RFC 6710 §5.1
async fn r6710_of_what_is_due_at_a_site_the_most_urgent_goes_first() {
    let world = world(1000);
    relay(&world, "first@one.example", 0).await;
    world.pass(Duration::from_secs(1)).await;
    for (name, priority) in [("low", -9), ("a", 0), ("b", 0), ("high", 3), ("highest", 9)] {
        relay(&world, &format!("{name}@one.example"), priority).await;
    }
    world.pass(HOUR).await;
    // The fourth place is for who has waited longest.
    assert_eq!(order(&world), ["first", "highest", "high", "low", "a", "b"]);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // RFC 6710 §5.1: also where more waits in the spool than fits into the window.
async fn r6710_urgent_mail_overtakes_a_full_window_and_the_spool() {
    for window in [4, 1000] {
        let world = world(window);
        for number in 0..40 {
            relay(&world, &format!("bulk{number}@one.example"), -4).await;
        }
        world.pass(Duration::from_secs(5)).await;
        relay(&world, "urgent@one.example", 5).await;
        world.pass(HOUR).await;
        let order = order(&world);
        let place = order.iter().position(|name| name == "urgent").expect("it was tried");
        assert!(place <= 3, "window {window}: {order:?}");
        assert_eq!(order.len(), 41);
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // SECURITY.md T14: nobody can keep others from being tried.
async fn r6710_a_stream_of_urgent_mail_does_not_starve_the_rest() {
    for window in [4, 1000] {
        let world = world(window);
        for number in 0..5 {
            relay(&world, &format!("low{number}@one.example"), -1).await;
        }
        // As many urgent messages as the site can take, and one in five more.
        for number in 0..100 {
            relay(&world, &format!("urgent{number}@one.example"), 5).await;
            world.pass(Duration::from_secs(8)).await;
            let totals = world.queue.totals();
            assert!(totals.in_window <= 2 * window, "{totals:?}");
        }
        let order = order(&world);
        let low = order.iter().rposition(|name| name.starts_with("low")).expect("it was tried");
        assert_eq!(order.iter().filter(|name| name.starts_with("low")).count(), 5, "window {window}: {order:?}");
        assert!(low < 40, "window {window}: {order:?}");
    }
}

#[tokio::test(start_paused = true)] // RFC 6710 §4.4
async fn r6710_an_alias_keeps_the_priority() {
    let world = world(1000);
    world.hops.otherwise(Does::Defer);
    relay(&world, "list@one.example", -5).await;
    world.pass(MINUTE).await;
    let id = world.queue.list(None, 10).await.expect("listed")[0].id;
    let shown = world.spool.show(id).await.expect("shown").expect("it is there");
    assert_eq!((shown.envelope.recipients.len(), shown.envelope.priority.get()), (2, -5));
    assert!(
        world
            .spool
            .due(world.clock.now() + DAY, &Room::anywhere(9))
            .await
            .is_ok_and(|due| { due.leases.iter().map(|lease| lease.priority.get()).collect::<Vec<_>>() == [-5, -5] })
    );
}

#[tokio::test(start_paused = true)] // RFC 6710 §4.6
async fn r6710_a_notification_is_as_urgent_as_what_it_is_about() {
    let world = world(1000);
    world.hops.set("b@one.example", Does::Refuse);
    world.hops.set("alice@client.example", Does::Defer);
    relay(&world, "b@one.example", 7).await;
    world.pass(MINUTE).await;
    let listed = world.queue.list(None, 10).await.expect("listed");
    assert_eq!(listed.len(), 1, "the notification waits");
    let shown = world.spool.show(listed[0].id).await.expect("shown").expect("it is there");
    assert!(shown.envelope.origin.notification_of.is_some());
    assert_eq!(shown.envelope.priority.get(), 7);
}
