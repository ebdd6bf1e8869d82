//! What an operator sees and does.

use std::time::Duration;

use smtp_queue::{QueueId, Route, Router, Waiting};

use crate::support::*;

async fn waiting(world: &World, id: QueueId) -> Waiting {
    let entry = world.queue.show(id).await.expect("it answers").expect("it is there");
    entry.pairs[0].waiting.clone()
}

#[tokio::test(start_paused = true)]
async fn a_held_message_neither_moves_nor_expires() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Defer);
    let id = world.submit(&["b@one.example"]).await;
    world.pass(MINUTE).await;
    assert!(world.queue.hold(id).await.expect("it answers"));
    world.pass(10 * DAY).await;
    assert_eq!(world.hops.seen().len(), 1);
    assert_eq!(waiting(&world, id).await, Waiting::Held);
    assert_eq!(world.events.count("expired"), 0);
    assert_eq!(world.events.count("past due"), 0, "that is what it was told to do");
    assert!(world.queue.release(id).await.expect("it answers"));
    world.pass(MINUTE).await;
    assert_eq!(world.events.count("expired"), 1, "ten days are too much");
    assert!(!world.queue.hold(QueueId::from_u128(1)).await.expect("it answers"));
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_message_is_tried_at_once_when_an_operator_says_so() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Defer);
    let id = world.submit(&["b@one.example"]).await;
    world.pass(3 * HOUR).await;
    let before = world.hops.seen().len();
    world.hops.set("b@one.example", Does::Accept);
    assert!(world.queue.retry(id).await.expect("it answers"));
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.hops.seen().len(), before + 1);
    assert!(!world.queue.retry(id).await.expect("it answers"), "it is gone");
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_removed_message_is_counted_and_what_was_in_flight_decides_nothing() {
    let world = World::new();
    world.hops.set("slow@one.example", Does::Slow(60));
    world.hops.set("waits@two.example", Does::Defer);
    let slow = world.submit(&["slow@one.example", "other@one.example"]).await;
    let waits = world.submit(&["waits@two.example"]).await;
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(waiting(&world, slow).await, Waiting::InFlight);
    assert_eq!(world.queue.remove(slow).await.expect("it answers"), Some(2));
    assert_eq!(world.queue.remove(waits).await.expect("it answers"), Some(1));
    assert_eq!(world.queue.remove(waits).await.expect("it answers"), None);
    world.pass(HOUR).await;
    let totals = world.queue.totals();
    assert_eq!((totals.removed, totals.mail.delivered, totals.queued), (3, 0, 0));
    assert_eq!(world.events.count("removed"), 2);
    assert_eq!(world.events.count("outcome lost"), 2, "both were delivered to, and nobody counts them");
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn what_is_held_or_removed_while_it_waits_for_a_place_is_not_tried() {
    let world = World::new();
    world.hops.otherwise(Does::Slow(60));
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(world.submit(&[&format!("u{number}@one.example")]).await);
    }
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(waiting(&world, ids[8]).await, Waiting::SiteConcurrency { limit: 5 });
    world.queue.hold(ids[8]).await.expect("it answers");
    world.queue.remove(ids[9]).await.expect("it answers");
    assert_eq!(waiting(&world, ids[8]).await, Waiting::Held);
    world.pass(HOUR).await;
    assert_eq!(world.queue.totals().mail.delivered, 8);
    world.queue.release(ids[8]).await.expect("it answers");
    world.pass(HOUR).await;
    assert_eq!(world.queue.totals().mail.delivered, 9);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_message_held_in_flight_is_held_when_its_attempt_is_over() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Silence(30));
    let id = world.submit(&["b@one.example"]).await;
    world.pass(Duration::from_secs(1)).await;
    world.queue.hold(id).await.expect("it answers");
    assert_eq!(waiting(&world, id).await, Waiting::InFlight);
    world.pass(DAY).await;
    assert_eq!(waiting(&world, id).await, Waiting::Held);
    assert_eq!(world.hops.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_reason_why_a_message_does_not_move_is_told() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Silence(30));
    let first = world.submit(&["b@one.example"]).await;
    world.pass(Duration::from_secs(31)).await;
    assert!(matches!(waiting(&world, first).await, Waiting::NotDue { .. }));
    // Dead at one attempt at a time: the site rests.
    for number in 0..20 {
        world.hops.set(&format!("u{number}@one.example"), Does::NotThere);
        world.submit(&[&format!("u{number}@one.example")]).await;
    }
    world.pass(Duration::from_millis(500)).await;
    let last = world.submit(&["last@one.example"]).await;
    let Waiting::SiteRests { until } = waiting(&world, last).await else { panic!("{:?}", waiting(&world, last).await) };
    assert!(until > start_time());
    world.pass(HOUR).await;
    assert_eq!(world.events.count("delivered last@one.example"), 1);
    assert!(world.queue.show(last).await.expect("it answers").is_none());
}

#[tokio::test(start_paused = true)] // Q11: who has mended the next hop does not want to wait for the end of its rest.
async fn a_retry_ends_the_rest_of_its_site() {
    let world = World::new();
    world.hops.otherwise(Does::NotThere);
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(world.submit(&[&format!("u{number}@one.example")]).await);
    }
    world.pass(Duration::from_millis(500)).await;
    for (id, is_due) in [(ids[0], false), (ids[29], true)] {
        let now = waiting(&world, id).await;
        assert_eq!(matches!(now, Waiting::SiteRests { .. }), is_due, "{now:?}");
        assert_eq!(matches!(now, Waiting::NotDue { .. }), !is_due, "{now:?}");
    }
    world.hops.otherwise(Does::Accept);
    assert!(world.queue.retry(ids[0]).await.expect("it answers"));
    world.pass(Duration::from_millis(1)).await;
    let delivered = world.events.count("delivered");
    assert!(delivered > 1 && world.queue.show(ids[0]).await.expect("it answers").is_none(), "{delivered}");
    world.pass(2 * HOUR).await;
    assert_eq!(world.events.count("delivered"), 30);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_touches_is_reported() {
    let mut settings = smtp_queue::QueueSettings::default();
    settings.concurrency_limit = 1;
    settings.site_window = 1;
    settings.attempt_timeout = 100 * DAY;
    let world = World::with(settings);
    world.hops.set("stuck@one.example", Does::Hang);
    world.submit(&["stuck@one.example"]).await;
    world.submit(&["behind@one.example"]).await;
    world.pass(HOUR / 2).await;
    assert_eq!(world.events.count("past due"), 0);
    world.pass(2 * HOUR).await;
    assert!(world.events.count("past due at one.example") >= 1);
}

/// Sites can be renamed while messages wait.
struct Renaming(Hops, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Router for Renaming {
    fn route(&self, mailbox: &smtp_core::Mailbox) -> Route {
        let is_new = self.1.load(std::sync::atomic::Ordering::Relaxed);
        let host = mailbox.host().to_string();
        Route::new(if is_new { format!("new {host}") } else { "old".to_owned() }, self.0.clone())
    }

    fn site(&self, name: &str) -> Option<Route> {
        let is_new = self.1.load(std::sync::atomic::Ordering::Relaxed);
        (name.starts_with("new") == is_new).then(|| Route::new(name, self.0.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn messages_for_a_site_that_no_longer_exists_go_where_their_recipients_go() {
    use smtp_queue::{MemorySpool, Queue, VirtualClock};
    let hops = Hops::new();
    let events = Events::default();
    let is_new = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
    let spool = std::sync::Arc::new(MemorySpool::new());
    let queue =
        Queue::builder(spool, "mx.example.org".parse().expect("a name"), Renaming(hops.clone(), is_new.clone()))
            .observer(std::sync::Arc::new(events.clone()))
            .clock(VirtualClock::starting_at(start_time()))
            .seed(1)
            .start();
    for recipient in ["a@one.example", "b@one.example", "c@two.example"] {
        hops.set(recipient, Does::Defer);
    }
    let submit = |to: &'static [&'static str]| {
        let to: Vec<_> = to.iter().map(|to| mailbox(to)).collect();
        let queue = queue.clone();
        async move { queue.submit(path("<a@b.example>"), to, smtp_core::Content::new("x: y\r\n\r\n")).await.expect("taken") }
    };
    let together = submit(&["a@one.example", "b@one.example"]).await;
    let apart = submit(&["b@one.example", "c@two.example"]).await;
    tokio::time::sleep(MINUTE).await;
    is_new.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(10 * MINUTE).await;
    let site =
        async |id| queue.show(id).await.expect("it answers").expect("it is there").pairs[0].progress.site.to_string();
    assert_eq!(site(together).await, "new one.example");
    assert_eq!(site(apart).await, "old", "it cannot be in two places");
    assert_eq!(events.count("moved from old to new one.example"), 1);
    let seen = hops.seen();
    let sites: Vec<_> = seen.iter().filter(|seen| seen.id == apart).map(|seen| seen.site.as_str()).collect();
    assert_eq!(sites[..3], ["old", "new one.example", "new two.example"], "but its attempts are");
    for recipient in ["a@one.example", "b@one.example", "c@two.example"] {
        hops.set(recipient, Does::Accept);
    }
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(queue.totals().mail.delivered, 4);
    assert_eq!(queue.totals().difference(), 0);
}
