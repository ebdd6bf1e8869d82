//! Who works on what: one at a time, and who has lost the right decides nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::samples::{at, id};
use super::{SpoolUnderTest, World, message};
use crate::progress::Progress;
use crate::spool::{Change, Lease, Room, Spool, SpoolError};

pub(super) async fn a_pair_is_leased_once<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2], &["one", "two"]).await;
    let leases = world.due(0).await;
    let pairs: HashSet<_> = leases.iter().map(|lease| (lease.id, lease.site.clone())).collect();
    assert_eq!((leases.len(), pairs.len()), (4, 4));
    assert_eq!(world.due(0).await, []);
    let listed = world.spool().list(None, 10).await.expect("it answers");
    assert!(listed.iter().flat_map(|listed| &listed.pairs).all(|pair| pair.leased));
    for lease in &leases {
        let (envelope, progress) = world.spool().load(lease).await.expect("it is leased");
        assert_eq!((envelope.id, &progress.site), (lease.id, &lease.site));
    }
    if world.reopen().await {
        assert_eq!(world.due(0).await.len(), 4, "who worked on them is dead");
    }
}

pub(super) async fn a_put_can_lease<U: SpoolUnderTest>(mut world: World<'_, U>) {
    let mut new = message(1, &["one", "two", "three"], 10);
    new.progress[0].lease = true;
    new.progress[2].lease = true;
    let leases = world.spool().put(new).await.expect("it is taken");
    let sites: Vec<_> = leases.iter().map(|lease| &*lease.site).collect();
    assert_eq!(sites, ["one", "three"]);
    let rest = world.due(0).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(&*rest[0].site, "two");
    for lease in leases {
        world.finish(lease).await;
    }
    assert_eq!(world.totals(), (1, 1, 1));
    if world.reopen().await {
        assert_eq!((world.totals(), world.due(0).await.len()), ((1, 1, 1), 1));
    }
}

pub(super) async fn a_lost_lease_records_nothing<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2, 3], &["one"]).await;
    let leases = world.due(0).await;
    world.spool().remove(id(1)).await.expect("it answers");
    world.spool().give_back(leases[1].clone()).await;
    let again = world.due(0).await;
    assert_eq!(again.len(), 1);
    assert!(again[0].id == leases[1].id && again[0].token > leases[1].token, "later leases have higher tokens");
    decides_nothing(&world, &leases[0]).await;
    decides_nothing(&world, &leases[1]).await;
    assert_eq!(world.totals(), (2, 2, 2), "and nothing was caused");
    if world.reopen().await {
        decides_nothing(&world, &leases[2]).await;
        assert_eq!(world.totals(), (2, 2, 2));
    }
}

/// Whoever asks at once: each pair comes to one end, and is counted once.
pub(super) async fn an_outcome_and_a_removal_at_once_count_once<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2], &["one", "two"]).await;
    let mut leases = world.due(0).await.into_iter();
    for number in [1, 2] {
        let lease = leases.find(|lease| lease.id == id(number)).expect("its message is due");
        let change = Change { progress: None, caused: vec![message(50 + number, &["one"], 10)] };
        let (spool, is_first) = (world.spool(), number == 1);
        let (removed, recorded) = if is_first {
            tokio::join!(spool.remove(id(number)), spool.record(lease, change))
        } else {
            let (recorded, removed) = tokio::join!(spool.record(lease, change), spool.remove(id(number)));
            (removed, recorded)
        };
        let removed = removed.expect("it answers").expect("the other pair was there");
        match recorded {
            Ok(()) => assert_eq!(removed, 1, "one had its outcome"),
            Err(SpoolError::LeaseLost { .. }) => assert_eq!(removed, 2, "and nothing was recorded"),
            Err(error) => panic!("{error}"),
        }
        let caused = world.spool().show(id(50 + number)).await.expect("it answers");
        assert_eq!(caused.is_some(), removed == 1, "what an outcome causes is there with it, and else is not");
    }
    let totals = world.totals();
    if world.reopen().await {
        assert_eq!(world.totals(), totals);
    }
}

pub(super) async fn an_outcome_and_a_new_time_at_once_both_count<U: SpoolUnderTest>(mut world: World<'_, U>) {
    let mut envelope = message(1, &["one"], 10);
    let more = Arc::make_mut(&mut envelope.envelope);
    more.recipients.push(more.recipients[0].clone());
    envelope.progress[0].progress = Progress::new("one".into(), [0, 1], at(0));
    world.spool().put(envelope).await.expect("it is taken");
    let lease = world.due(0).await.remove(0);
    // One of two has its outcome.
    let mut progress = Progress::new("one".into(), [1], at(500));
    progress.attempts = 1;
    let change = Change { progress: Some(progress), caused: Vec::new() };
    let (recorded, rescheduled) =
        tokio::join!(world.spool().record(lease, change), world.spool().reschedule(id(1), at(200)));
    recorded.expect("it is leased");
    assert!(rescheduled.expect("it answers"));
    for is_again in [false, true] {
        let shown = world.spool().show(id(1)).await.expect("it answers").expect("it is there");
        let progress = &shown.progress[0];
        assert_eq!((progress.waiting.len(), progress.attempts), (1, 1), "the outcome stays");
        if is_again || !world.reopen().await {
            break;
        }
    }
}

async fn decides_nothing<U: SpoolUnderTest>(world: &World<'_, U>, lost: &Lease) {
    let change = Change { progress: None, caused: vec![message(50, &["one"], 10)] };
    let refused = world.spool().record(lost.clone(), change).await;
    assert!(matches!(refused, Err(SpoolError::LeaseLost { id }) if id == lost.id), "{refused:?}");
    assert!(matches!(world.spool().load(lost).await, Err(SpoolError::LeaseLost { .. })));
    world.spool().give_back(lost.clone()).await;
}

pub(super) async fn what_is_given_back_is_due_when_it_was<U: SpoolUnderTest>(world: World<'_, U>) {
    world.put([1], &["one"]).await;
    world.put([2], &["one"]).await;
    for _ in 0..3 {
        let leases = world.due(0).await;
        let ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
        assert_eq!(ids, [id(1), id(2)]);
        for lease in leases.into_iter().rev() {
            world.spool().give_back(lease).await;
        }
    }
    assert_eq!(world.totals(), (2, 2, 2));
}

pub(super) async fn tasks_never_hold_the_same_pair<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put(1..=40, &["one", "two"]).await;
    let spool = Arc::new(world.spool.take().expect("it is there"));
    let held = Arc::new(Mutex::new(HashSet::new()));
    let tasks: Vec<_> = (0..8_u32)
        .map(|task| {
            let (spool, held) = (spool.clone(), held.clone());
            tokio::spawn(async move {
                for round in 0..30 {
                    let room = Room { others: 3, ..Room::anywhere(5) };
                    for lease in spool.due(at(1000), &room).await.expect("it answers").leases {
                        let key = (lease.id, lease.site.clone());
                        assert!(held.lock().expect("no panic").insert(key.clone()), "{key:?} is leased twice");
                        tokio::task::yield_now().await;
                        held.lock().expect("no panic").remove(&key);
                        if (round + task) % 3 == 0 {
                            let done = Change { progress: None, caused: Vec::new() };
                            spool.record(lease, done).await.expect("it is recorded");
                        } else {
                            spool.give_back(lease).await;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no pair is leased twice");
    }
    let totals = spool.totals();
    assert!(totals.pairs == totals.recipients && totals.pairs < 80, "{totals:?}");
    let left = spool.due(at(1000), &Room::anywhere(usize::MAX)).await.expect("it answers").leases;
    assert_eq!(left.len() as u64, totals.pairs, "everything was given back");
}

pub(super) async fn a_failed_record_changes_nothing<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1], &["one"]).await;
    let lease = world.due(0).await.remove(0);
    let (_, progress) = world.spool().load(&lease).await.expect("it is leased");
    let mut nobody = progress.clone();
    nobody.waiting.clear();
    let mut stranger = progress.clone();
    stranger.waiting[0].index = 1;
    for change in [
        Change { progress: Some(nobody), caused: Vec::new() },
        Change { progress: Some(stranger), caused: Vec::new() },
        Change { progress: None, caused: vec![message(2, &[], 10)] },
    ] {
        let failed = world.spool().record(lease.clone(), change).await;
        assert!(matches!(failed, Err(SpoolError::Invalid(_))), "{failed:?}");
        assert_eq!(world.totals(), (1, 1, 1));
        assert_eq!(world.spool().load(&lease).await.expect("it is still leased").1, progress);
    }
    world.finish(lease).await;
    assert_eq!(world.totals(), (0, 0, 0));
    world.reopen().await;
    assert_eq!(world.totals(), (0, 0, 0));
}
