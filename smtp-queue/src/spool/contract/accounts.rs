//! What is there: taken once, kept as it was, gone when it is done.

use super::samples::{at, id, octets, passed_on};
use super::{SpoolUnderTest, World, message};
use crate::spool::{Change, Spool, SpoolError};

pub(super) async fn what_was_put_is_there_as_it_was<U: SpoolUnderTest>(mut world: World<'_, U>) {
    for number in 1..=6 {
        let sites = ["one", "two", "three"];
        let size = usize::try_from(number).expect("small") * 1000;
        let new = message(number, &sites[..=size / 1000 % 3], size);
        assert_eq!(world.spool().put(new.clone()).await.expect("it is taken"), [], "no lease was asked for");
        for is_open_again in [false, true] {
            if is_open_again && !world.reopen().await {
                return;
            }
            let shown = world.spool().show(id(number)).await.expect("it answers").expect("it is there");
            assert_eq!(shown.envelope, new.envelope);
            assert_eq!(shown.listed.octets, passed_on(&new).len() as u64);
            assert_eq!(shown.progress.len(), new.progress.len());
            for progress in &new.progress {
                assert!(shown.progress.contains(&progress.progress), "{:?} of {shown:?}", progress.progress);
            }
            assert_eq!(world.octets(number).await, passed_on(&new));
        }
    }
    assert_eq!(world.totals().0, 6);
}

pub(super) async fn nothing_without_recipients_is_kept<U: SpoolUnderTest>(mut world: World<'_, U>) {
    let spool = world.spool();
    assert!(matches!(spool.put(message(1, &[], 10)).await, Err(SpoolError::Invalid(_))));
    let mut nowhere = message(2, &["one", "two"], 10);
    nowhere.progress.pop();
    assert!(matches!(spool.put(nowhere).await, Err(SpoolError::Invalid(_))), "a recipient that waits nowhere");
    let mut twice = message(3, &["one", "two"], 10);
    twice.progress[1].progress.waiting[0].index = 0;
    assert!(matches!(spool.put(twice).await, Err(SpoolError::Invalid(_))), "a recipient that waits at two sites");
    let mut beyond = message(4, &["one"], 10);
    beyond.progress[0].progress.waiting[0].index = 1;
    assert!(matches!(spool.put(beyond).await, Err(SpoolError::Invalid(_))), "a recipient that does not exist");
    assert_eq!(world.totals(), (0, 0, 0));
    world.reopen().await;
    assert_eq!(world.totals(), (0, 0, 0));
}

pub(super) async fn a_name_is_given_once<U: SpoolUnderTest>(world: World<'_, U>) {
    world.put([1], &["one"]).await;
    assert!(matches!(world.spool().put(message(1, &["two"], 99)).await, Err(SpoolError::Invalid(_))));
    assert_eq!(world.octets(1).await, passed_on(&message(1, &["one"], 10)));
    assert_eq!(world.totals(), (1, 1, 1));
}

pub(super) async fn the_list_goes_on_where_it_stopped<U: SpoolUnderTest>(mut world: World<'_, U>) {
    // Not in their order.
    world.put((0..50).map(|number| 1 + number * 7 % 50), &["one", "two"]).await;
    for _ in 0..2 {
        let mut found = Vec::new();
        let mut after = None;
        for page in 0.. {
            let listed = world.spool().list(after, 7).await.expect("it answers");
            assert!(listed.len() == 7 || page == 7, "only the last page is shorter");
            found.extend(listed.iter().map(|listed| listed.id));
            assert!(listed.iter().all(|listed| listed.pairs.len() == 2 && !listed.held));
            after = found.last().copied();
            if listed.len() < 7 {
                break;
            }
        }
        assert_eq!(found, (1..=50).map(id).collect::<Vec<_>>(), "the oldest comes first");
        assert!(world.spool().list(None, 0).await.expect("it answers").is_empty());
        if !world.reopen().await {
            return;
        }
    }
}

pub(super) async fn a_message_disappears_with_its_last_pair<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2], &["one", "two", "three"]).await;
    assert_eq!(world.totals(), (2, 6, 6));
    for left in (0..3).rev() {
        let mut leases = world.due(0).await;
        let done = leases.iter().position(|lease| lease.id == id(1)).expect("a pair is left");
        world.finish(leases.remove(done)).await;
        for lease in leases {
            world.spool().give_back(lease).await;
        }
        let is_there = world.spool().show(id(1)).await.expect("it answers").is_some();
        assert_eq!((is_there, world.totals()), (left > 0, (1 + u64::from(left > 0), 3 + left, 3 + left)));
        if world.reopen().await {
            assert_eq!(world.totals(), (1 + u64::from(left > 0), 3 + left, 3 + left));
        } else {
            return;
        }
    }
    assert!(matches!(world.spool().content(id(1)).await, Err(SpoolError::Absent { .. })));
    assert!(world.spool().content(id(2)).await.is_ok());
}

pub(super) async fn what_an_outcome_causes_is_kept_with_it<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2], &["one"]).await;
    // The second causes the same notification again, as somebody does who does not know that it was recorded.
    for (number, expected) in [(1, (2, 2, 3)), (2, (1, 1, 2))] {
        let lease = world.due(0).await.into_iter().find(|lease| lease.id == id(number)).expect("it is due");
        let mut caused = message(100, &["back"], 500);
        caused.envelope = std::sync::Arc::new((*caused.envelope).clone().with_recipient(super::samples::mailbox(9)));
        caused.progress[0].progress.waiting.push(crate::WaitingRecipient { index: 1, last: None });
        caused.progress[0].progress.next_attempt = at(50);
        let change = Change { progress: None, caused: vec![caused.clone()] };
        world.spool().record(lease, change).await.expect("it is recorded");
        assert_eq!(world.totals(), expected);
        assert_eq!(world.octets(100).await, passed_on(&caused));
        let shown = world.spool().show(id(100)).await.expect("it answers").expect("it is there");
        assert_eq!(shown.envelope, caused.envelope);
        if !world.reopen().await {
            return;
        }
    }
    assert_eq!(world.due_ids(50).await, [id(100)]);
    let content = world.spool().content(id(100)).await.expect("it is there");
    assert_eq!(octets(&content), passed_on(&message(100, &["back"], 500)));
}

pub(super) async fn a_removed_message_is_gone<U: SpoolUnderTest>(mut world: World<'_, U>) {
    world.put([1, 2, 3], &["one", "two"]).await;
    world.spool().set_held(id(2), true).await.expect("it answers");
    assert_eq!(world.spool().totals().held, 1);
    let lease = world.due(0).await.into_iter().find(|lease| lease.id == id(1)).expect("it is due");
    world.finish(lease).await;
    assert_eq!(world.spool().remove(id(1)).await.expect("it answers"), Some(1), "one of two had no outcome");
    assert_eq!(world.spool().remove(id(2)).await.expect("it answers"), Some(2));
    assert_eq!(world.spool().remove(id(2)).await.expect("it answers"), None);
    assert_eq!(world.spool().remove(id(9)).await.expect("it answers"), None);
    for _ in 0..2 {
        assert_eq!((world.totals(), world.spool().totals().held), ((1, 2, 2), 0));
        assert!(world.spool().show(id(1)).await.expect("it answers").is_none());
        assert!(matches!(world.spool().content(id(2)).await, Err(SpoolError::Absent { .. })));
        if !world.reopen().await {
            return;
        }
    }
    assert_eq!(world.due_ids(0).await, [id(3), id(3)]);
}
