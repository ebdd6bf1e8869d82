//! What is due when, where, and how much of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::Priority;

use super::samples::{at, diagnosis, id};
use super::{SpoolUnderTest, World, message};
use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::spool::{Change, Room, Spool, SpoolError};

pub(super) async fn the_earliest_comes_first<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put(1..=20, &["one"]).await;
    for lease in world.due(0).await {
        let seconds = 10 + u64::try_from(lease.id.as_u128() * 7 % 20).expect("small");
        world.defer(lease, at(seconds)).await;
    }
    world.reopen().await;
    if world.totals().0 == 0 {
        return;
    }
    assert_eq!(world.due(9).await, []);
    let expected: Vec<_> =
        (0..20).map(|second| id((1..=20).find(|n| n * 7 % 20 == second).expect("each once"))).collect();
    assert_eq!(world.due_ids(14).await, expected[..5]);
    assert_eq!(world.due_ids(100).await, expected[5..]);
}

/// Puts messages with these numbers and priorities, due at these seconds.
async fn put_urgent<U: SpoolUnderTest>(world: &World<'_, U>, messages: impl IntoIterator<Item = (u128, i8, u64)>) {
    for (number, priority, seconds) in messages {
        let mut new = message(number, &["one"], 10);
        Arc::make_mut(&mut new.envelope).priority = Priority::new(priority).expect("from -9 to 9");
        new.progress[0].progress.next_attempt = at(seconds);
        world.spool().put(new).await.expect("it is taken");
    }
}

/// RFC 6710 §5.1: of what is due. What is not due yet does not count, however urgent it is.
pub(super) async fn the_most_urgent_comes_first<U: SpoolUnderTest>(mut world: World<'_, U>) {
    put_urgent(&world, [(1, -9, 1), (2, 0, 2), (3, 0, 3), (4, 9, 4), (5, 3, 5), (6, 9, 30)]).await;
    world.reopen().await;
    if world.totals().0 == 0 {
        put_urgent(&world, [(1, -9, 1), (2, 0, 2), (3, 0, 3), (4, 9, 4), (5, 3, 5), (6, 9, 30)]).await;
    }
    let leases = world.spool().due(at(10), &Room::anywhere(3)).await.expect("it answers").leases;
    let found: Vec<_> = leases.iter().map(|lease| (lease.id, lease.priority.get())).collect();
    assert_eq!(found, [(id(4), 9), (id(5), 3), (id(2), 0)]);
    let due = world.spool().due(at(10), &Room::anywhere(100)).await.expect("it answers");
    let found: Vec<_> = due.leases.iter().map(|lease| lease.id).collect();
    assert_eq!((found, due.next), (vec![id(1), id(3)], Some(at(30))), "the fourth place is for the earliest");
    // A retry keeps its place among those of its priority.
    for lease in leases {
        world.defer(lease, at(40)).await;
    }
    assert_eq!(world.due_ids(50).await[..2], [id(6), id(4)]);
}

/// RFC 6710 §5.1 wants no more than a better chance: of four places one goes to who waited longest, also where places come
/// one by one and there is always somebody more urgent.
pub(super) async fn nobody_waits_for_ever<U: SpoolUnderTest>(world: World<'_, U>) {
    put_urgent(&world, (1..=5).map(|number| (number, -1, 0))).await;
    put_urgent(&world, (6..=12).map(|number| (number, 1, 1))).await;
    let (mut served, mut urgent) = (Vec::new(), 0);
    for round in 0..40 {
        put_urgent(&world, [(100 + round, 1, 2)]).await;
        let lease = world.spool().due(at(10), &Room::anywhere(1)).await.expect("it answers").leases.remove(0);
        if lease.id <= id(5) {
            served.push((lease.id, round));
        } else {
            urgent += 1;
        }
        world.finish(lease).await;
    }
    let expected: Vec<_> = (1..=5).map(|number| (id(number), number * 4 - 1)).collect();
    assert_eq!((served, urgent), (expected, 35));
}

pub(super) async fn next_is_when_more_is_due<U: SpoolUnderTest>(world: World<'_, U>) {
    let ask = async |seconds, room: &Room| world.spool().due(at(seconds), room).await.expect("it answers");
    let everywhere = Room::anywhere(100);
    assert_eq!(ask(0, &everywhere).await.next, None, "nothing waits");
    world.put(1..=3, &["one"]).await;
    world.put(4..=6, &["two"]).await;
    for lease in world.due(0).await {
        let seconds = u64::try_from(lease.id.as_u128()).expect("small") * 10;
        world.defer(lease, at(seconds)).await;
    }
    assert_eq!(ask(5, &everywhere).await.next, Some(at(10)));
    let only_two = Room { others: 0, sites: [(SiteName::from("two"), 100)].into(), total: 100 };
    assert_eq!(ask(5, &only_two).await.next, Some(at(40)), "a site without room does not count");
    let one_each = Room { others: 1, ..everywhere.clone() };
    let asked = ask(35, &one_each).await;
    assert_eq!((asked.leases.len(), asked.next), (1, Some(at(40))), "nor one whose room was used");
    let asked = ask(35, &everywhere).await;
    assert_eq!((asked.leases.len(), asked.next), (2, Some(at(40))));
    assert_eq!(ask(60, &everywhere).await.next, None, "what is leased does not wait");
}

pub(super) async fn no_site_gets_more_than_its_room<U: SpoolUnderTest>(world: World<'_, U>) {
    world.put(1..=10, &["one", "two", "three"]).await;
    let room = Room { total: 100, others: 2, sites: [("one".into(), 5), ("two".into(), 0)].into() };
    for (one, three) in [(5, 2), (5, 2), (0, 2)] {
        let leases = world.spool().due(at(0), &room).await.expect("it answers").leases;
        let of = |site| leases.iter().filter(|lease| &*lease.site == site).count();
        assert_eq!((of("one"), of("two"), of("three")), (one, 0, three));
    }
}

pub(super) async fn where_there_is_not_room_for_all_who_waited_longest_comes_first<U: SpoolUnderTest>(
    world: World<'_, U>,
) {
    for (site, first, seconds) in [("late", 1, 30), ("early", 11, 10), ("middle", 21, 20)] {
        world.put(first..first + 4, &[site]).await;
        for lease in world.due(0).await {
            world.defer(lease, at(seconds)).await;
        }
    }
    let room = Room { others: 3, ..Room::anywhere(5) };
    let leases = world.spool().due(at(100), &room).await.expect("it answers").leases;
    let sites: Vec<_> = leases.iter().map(|lease| &*lease.site).collect();
    assert_eq!(sites, ["early", "early", "early", "middle", "middle"]);
    assert_eq!(world.spool().due(at(100), &Room::anywhere(0)).await.expect("it answers").leases, []);
}

pub(super) async fn a_site_without_room_costs_others_nothing<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1], &["other"]).await;
    let room = Room { total: 100, others: 100, sites: [(SiteName::from("full"), 0)].into() };
    let mut fastest = [Duration::MAX; 2];
    for (round, fastest) in fastest.iter_mut().enumerate() {
        if round == 1 {
            world = fill(world).await;
        }
        for _ in 0..20 {
            let start = Instant::now();
            for _ in 0..20 {
                let mut leases = world.spool().due(at(0), &room).await.expect("it answers").leases;
                assert_eq!(leases.len(), 1, "only the other site has room");
                world.spool().give_back(leases.remove(0)).await;
            }
            *fastest = start.elapsed().min(*fastest);
        }
    }
    // Looking at each would be thousands of times slower.
    assert!(fastest[1] < fastest[0] * 100, "{fastest:?}");
}

/// Puts 32,000 messages, 64 at a time: many spools sync once for all that wait.
async fn fill<U: SpoolUnderTest>(mut world: World<'_, U>) -> World<'_, U> {
    let spool = Arc::new(world.spool.take().expect("it is there"));
    let tasks: Vec<_> = (1..=64)
        .map(|task| {
            let spool = spool.clone();
            tokio::spawn(async move {
                for number in task * 500..(task + 1) * 500 {
                    spool.put(message(number, &["full"], 10)).await.expect("it is taken");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
    world.spool = Arc::into_inner(spool);
    world
}

pub(super) async fn a_pair_moves_to_another_site<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1], &["old", "stays"]).await;
    let leases = world.due(0).await;
    let lease = leases.iter().find(|lease| &*lease.site == "old").expect("it is due").clone();
    let (_, mut progress) = world.spool().load(&lease).await.expect("it is leased");
    progress.site = "new".into();
    progress.attempts = 7;
    progress.last_attempt = Some(at(1));
    progress.next_attempt = at(2);
    progress.waiting[0].last = Some(diagnosis("moved".to_owned()));
    let change = Change { progress: Some(progress.clone()), caused: Vec::new() };
    world.spool().record(lease, change).await.expect("it is recorded");
    assert_eq!(world.totals(), (1, 2, 2));
    let open_again = world.reopen().await;
    if open_again || world.totals().0 > 0 {
        let due = world.due(2).await;
        let moved = due.iter().find(|lease| &*lease.site == "new").expect("it is due there").clone();
        assert_eq!(world.spool().load(&moved).await.expect("it is leased").1, progress);
        assert!(due.iter().all(|lease| &*lease.site != "old"));
    }
}

pub(super) async fn a_pair_never_moves_onto_another<U: SpoolUnderTest>(world: World<'_, U>) {
    world.put([1], &["one", "two"]).await;
    let lease = world.due(0).await.remove(0);
    let other = if &*lease.site == "one" { "two" } else { "one" };
    let (_, mut progress) = world.spool().load(&lease).await.expect("it is leased");
    progress.site = other.into();
    let change = Change { progress: Some(progress), caused: Vec::new() };
    let refused = world.spool().record(lease.clone(), change).await;
    assert!(matches!(refused, Err(SpoolError::Invalid(_))), "{refused:?}");
    assert_eq!(world.totals(), (1, 2, 2));
    world.finish(lease).await;
    assert_eq!(world.totals(), (1, 1, 1));
}

pub(super) async fn what_is_held_is_never_due<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2], &["one"]).await;
    let first = world.due(0).await.remove(0);
    // Held while somebody works on it: who does may finish, and then it stays.
    assert!(world.spool().set_held(id(1), true).await.expect("it answers"));
    assert!(!world.spool().set_held(id(9), true).await.expect("it answers"));
    assert_eq!(first.id, id(1));
    world.defer(first, at(5)).await;
    assert!(world.spool().set_held(id(1), true).await.expect("it answers"), "twice is once");
    for _ in 0..2 {
        assert_eq!(world.spool().totals().held, 1);
        let leases = world.due(100).await;
        assert!(leases.iter().all(|lease| lease.id == id(2)));
        for lease in leases {
            world.spool().give_back(lease).await;
        }
        let listed = world.spool().list(None, 1).await.expect("it answers");
        assert!(listed[0].held && listed[0].pairs[0].attempts == 1);
        if !world.reopen().await {
            return;
        }
    }
    assert!(world.spool().set_held(id(1), false).await.expect("it answers"));
    assert_eq!(world.spool().totals().held, 0);
    world.reopen().await;
    assert_eq!(world.due_ids(4).await, [id(2)]);
    assert_eq!(world.due_ids(5).await, [id(1)]);
}

pub(super) async fn a_message_is_due_when_an_operator_says<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2], &["one", "two"]).await;
    assert!(world.spool().reschedule(id(1), at(50)).await.expect("it answers"));
    assert!(!world.spool().reschedule(id(9), at(50)).await.expect("it answers"));
    if !world.reopen().await {
        return;
    }
    assert_eq!(world.due_ids(49).await, [id(2), id(2)]);
    let later = world.due(50).await;
    assert_eq!(later.iter().map(|lease| lease.id).collect::<Vec<QueueId>>(), [id(1), id(1)]);
    // A held message keeps the time for when it is let go.
    for lease in later {
        world.spool().give_back(lease).await;
    }
    world.spool().set_held(id(1), true).await.expect("it answers");
    assert!(world.spool().reschedule(id(1), at(10)).await.expect("it answers"));
    assert_eq!(world.due(100).await, []);
    world.spool().set_held(id(1), false).await.expect("it answers");
    assert_eq!(world.due_ids(10).await.len(), 2);
    assert!(world.spool().put(message(3, &["one"], 1)).await.is_ok());
}
