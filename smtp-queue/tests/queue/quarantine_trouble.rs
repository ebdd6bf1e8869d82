//! Trouble with what is set aside: records that cannot be read, removals that fail. Nothing is lost for it, and nothing else is kept
//! back (PRACTICES.md S33; SECURITY.md G5).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use smtp_queue::{MemorySpool, Quarantine, QuarantineSettings, QueueId, Spool};

use crate::accept::send;
use crate::quarantine::{entries, only};
use crate::severed_spool::{Severed, Trouble};
use crate::support::*;

/// A quarantine in which some records cannot be read.
async fn damaged_world() -> (World, Arc<MemorySpool>, Trouble) {
    let (inner, trouble) = (Arc::new(MemorySpool::new()), Trouble::default());
    let spool = Severed::over(&inner, &endless()).with(&trouble);
    let quarantine = Quarantine::open(Arc::new(spool), QuarantineSettings::default()).await.expect("it opens");
    (World::build(|builder| builder.quarantine(quarantine)), inner, trouble)
}

/// So many writes that none fails.
fn endless() -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(i64::MAX))
}

#[tokio::test(start_paused = true)]
async fn s33_what_cannot_be_read_can_be_removed_expires_and_keeps_nothing_else_from_it() {
    let (world, spool, trouble) = damaged_world().await;
    for _ in 0..3 {
        send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    }
    world.pass(MINUTE).await;
    let ids: Vec<_> = entries(&world.queue).await.iter().map(|entry| entry.id).collect();
    trouble.damaged.lock().expect("no panic").extend(&ids[..2]);
    assert_eq!(entries(&world.queue).await.len(), 1);
    assert_eq!(world.queue.remove_quarantined(ids[0]).await.expect("it works"), Some(1));
    let totals = world.queue.quarantine().expect("there").totals();
    assert_eq!((totals.messages, totals.octets > 0), (2, true));
    world.pass(31 * DAY).await;
    assert_eq!(spool.totals().messages, 0);
    assert_eq!(world.queue.quarantine().expect("there").totals(), smtp_queue::QuarantineTotals::default());
    world.assert_balanced();
}

/// Of two releases that a crash left half done, one cannot be ended: the other is, and the first is delivered once when it can.
#[tokio::test(start_paused = true)]
async fn s33_a_release_that_cannot_be_ended_is_delivered_when_it_can() {
    let (mail, aside) = (Arc::new(MemorySpool::new()), Arc::new(MemorySpool::new()));
    let (left, trouble) = (endless(), Trouble::default());
    let severed = |inner: &Arc<MemorySpool>| Arc::new(Severed::over(inner, &left).with(&trouble));
    let open = async || Quarantine::open(severed(&aside), QuarantineSettings::default()).await.expect("it opens");
    let first = open().await;
    let world = World::over(severed(&mail), mail.clone(), |builder| builder.quarantine(first));
    for recipient in ["a@one.example", "b@one.example"] {
        send(&world.queue, &[recipient], "X-Quarantine: 0\r\n").await;
    }
    world.pass(MINUTE).await;
    let ids: Vec<_> = entries(&world.queue).await.iter().map(|entry| entry.id).collect();
    for id in &ids {
        // The mark and the message, and not the removal.
        left.store(2, Ordering::SeqCst);
        assert!(world.queue.release_quarantined(*id).await.is_err());
        left.store(i64::MAX, Ordering::SeqCst);
    }
    drop(world);
    for spool in [&mail, &aside] {
        spool.reopen();
    }
    trouble.stuck.lock().expect("no panic").push(ids[0]);
    let second = open().await;
    let world = World::over(severed(&mail), mail.clone(), |builder| builder.quarantine(second));
    world.pass(DAY).await;
    let times = |recipient: &str| world.hops.times(recipient).len();
    assert_eq!((times("a@one.example"), times("b@one.example")), (0, 1));
    assert!(world.queue.release_quarantined(ids[0]).await.is_err());
    trouble.stuck.lock().expect("no panic").clear();
    assert!(world.queue.release_quarantined(ids[0]).await.expect("it works").is_some());
    world.pass(DAY).await;
    assert_eq!((times("a@one.example"), times("b@one.example")), (1, 1));
    assert_eq!((mail.totals().messages, aside.totals().messages), (0, 0));
}

/// After a crash behind the mark, or behind the message, the queue cannot read its copy at the start: nothing is lost, and when it
/// can be read again, or was removed as damaged, it is delivered once.
#[tokio::test(start_paused = true)]
async fn s33_a_queue_that_cannot_be_read_at_the_start_loses_nothing_that_is_set_aside() {
    for (writes, is_damaged) in [(1, false), (1, true), (2, false), (2, true)] {
        let (mail, aside) = (Arc::new(MemorySpool::new()), Arc::new(MemorySpool::new()));
        let (left, trouble) = (endless(), Trouble::default());
        let severed = |inner: &Arc<MemorySpool>| Arc::new(Severed::over(inner, &left).with(&trouble));
        let quarantine = Quarantine::open(severed(&aside), QuarantineSettings::default()).await.expect("it opens");
        let world = World::over(severed(&mail), mail.clone(), |builder| builder.quarantine(quarantine));
        send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
        world.pass(MINUTE).await;
        let id = only(&world.queue).await;
        left.store(writes, Ordering::SeqCst);
        assert!(world.queue.release_quarantined(id).await.is_err());
        left.store(i64::MAX, Ordering::SeqCst);
        drop(world);
        for spool in [&mail, &aside] {
            spool.reopen();
        }
        let name = QueueId::from_u128(id.as_u128() ^ 1);
        let names = if is_damaged { &trouble.damaged } else { &trouble.unreadable };
        names.lock().expect("no panic").push(name);
        let quarantine = Quarantine::open(severed(&aside), QuarantineSettings::default()).await.expect("it opens");
        let world = World::over(severed(&mail), mail.clone(), |builder| builder.quarantine(quarantine));
        world.pass(DAY).await;
        let case = format!("{writes} writes, damaged: {is_damaged}");
        assert_eq!(aside.totals().messages, 1, "{case}: what cannot be read is no reason to forget what can");
        assert!(world.queue.release_quarantined(id).await.is_err(), "{case}");
        assert_eq!(aside.totals().messages, 1, "{case}");
        // An operator removes what is damaged; other trouble passes.
        if is_damaged {
            world.queue.remove(name).await.expect("it works");
        }
        names.lock().expect("no panic").clear();
        assert!(world.queue.release_quarantined(id).await.expect("it works").is_some(), "{case}");
        world.pass(DAY).await;
        assert_eq!(world.hops.times("b@one.example").len(), 1, "{case}");
        assert_eq!((mail.totals().messages, aside.totals().messages), (0, 0), "{case}");
    }
}
