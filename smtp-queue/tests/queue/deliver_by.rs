//! Messages that are to be delivered by some time (RFC 2852; STANDARDS.md R2852).

use std::time::{Duration, SystemTime};

use smtp_queue::{Clock, VirtualClock};

use crate::relaying::relay_with;
use crate::support::*;

/// A queue whose clock says what that of the server says.
fn world() -> World {
    let clock = VirtualClock::starting_at(SystemTime::now());
    let mut world = World::build(|builder| builder.clock(clock.clone()));
    world.clock = clock;
    world
}

/// The notifications that were sent, by when.
fn notifications(world: &World) -> Vec<(Duration, String)> {
    let seen = world.hops.seen().into_iter().filter(|seen| seen.recipients[0] == "alice@client.example");
    seen.map(|seen| (seen.at, String::from_utf8(seen.octets).expect("ASCII"))).collect()
}

#[tokio::test(start_paused = true)] // RFC 2852 §4.1.3
async fn r2852_what_is_to_be_returned_is_tried_until_then_and_no_longer() {
    for (does, rcpt, told) in [
        (Does::Defer, "", true),
        (Does::NotThere, "NOTIFY=FAILURE,DELAY", true),
        (Does::Defer, "NOTIFY=NEVER", false),
        (Does::Defer, "NOTIFY=SUCCESS", false),
    ] {
        let world = world();
        world.hops.set("b@one.example", does);
        relay_with(&world, "BY=7200;R", "b@one.example", rcpt).await;
        world.pass(119 * MINUTE).await;
        assert!(world.hops.times("b@one.example").len() >= 3, "{does:?}");
        assert_eq!((world.events.count("expired"), notifications(&world).len()), (0, 0), "{does:?}");
        world.pass(2 * MINUTE).await;
        assert_eq!(world.events.count("expired b@one.example"), 1, "{does:?}");
        let notifications = notifications(&world);
        assert_eq!(notifications.len(), usize::from(told), "{does:?} {rcpt}");
        for (_, text) in notifications {
            assert!(text.contains("\r\nAction: failed\r\n") && text.contains("\r\nStatus: 5.4.7\r\n"), "{text}");
            assert!(text.contains("\r\nArrival-Date: ") && text.contains("\r\nDeliver-By-Date: "), "{text}");
        }
        world.hops.set("b@one.example", Does::Accept);
        world.pass(6 * DAY).await;
        assert!(world.hops.times("b@one.example").iter().all(|time| *time < 2 * HOUR), "{does:?}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // RFC 2852 §4.1.3: once, and it is tried on. A delay is another notification.
async fn r2852_of_what_is_late_the_sender_is_told_once() {
    for (rcpt, late, delayed) in
        [("", 1, 0), ("NOTIFY=DELAY", 1, 1), ("NOTIFY=FAILURE", 0, 0), ("NOTIFY=NEVER", 0, 0), ("NOTIFY=SUCCESS", 0, 0)]
    {
        for seconds in [7200, 6 * 3600, -5] {
            let world = world();
            world.hops.set("b@one.example", Does::Defer);
            relay_with(&world, &format!("BY={seconds};N"), "b@one.example", rcpt).await;
            let by = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            world.pass(DAY).await;
            let found = notifications(&world);
            let is_late =
                |(_, text): &&(Duration, String)| text.replace("\r\n", " ").contains("by the time that you asked for");
            let called_late: Vec<_> = found.iter().filter(is_late).collect();
            assert_eq!((called_late.len(), found.len()), (late, late + delayed), "{rcpt} {seconds}");
            for (at, text) in called_late {
                assert!(*at >= by && *at < by + MINUTE, "{rcpt} {seconds}: {at:?}");
                assert!(text.contains("\r\nAction: delayed\r\n") && text.contains("\r\nStatus: 4.4.7\r\n"), "{text}");
                assert!(text.contains("\r\nDeliver-By-Date: ") && text.contains("\r\nWill-Retry-Until: "), "{text}");
            }
            world.hops.set("b@one.example", Does::Keep);
            world.pass(2 * HOUR).await;
            assert_eq!(world.events.count("delivered b@one.example"), 1, "{rcpt} {seconds}");
            world.assert_balanced();
        }
    }
}

#[tokio::test(start_paused = true)] // RFC 2852 §4.1.4, §4.1.4.2: who is told of a relay.
async fn r2852_the_sender_learns_where_its_time_is_no_longer_kept() {
    for (mail, rcpt, does, told) in [
        ("BY=3600;N", "", Does::Accept, true),
        ("BY=3600;N", "NOTIFY=FAILURE", Does::Accept, true),
        ("BY=3600;N", "NOTIFY=NEVER", Does::Accept, false),
        ("BY=3600;N", "", Does::PassOn, false),
        ("BY=3600;N", "", Does::Keep, false),
        ("BY=-1;N", "", Does::Accept, false),
        ("BY=-1;NT", "", Does::Accept, true),
        ("BY=3600;NT", "", Does::PassOn, true),
        ("BY=3600;RT", "", Does::PassOn, true),
        ("BY=3600;RT", "NOTIFY=NEVER", Does::PassOn, false),
        ("BY=3600;R", "", Does::Accept, false),
        ("BY=3600;R", "NOTIFY=SUCCESS", Does::Accept, true),
        ("", "", Does::Accept, false),
    ] {
        let world = world();
        world.hops.set("b@one.example", does);
        relay_with(&world, mail, "b@one.example", rcpt).await;
        world.pass(HOUR / 2).await;
        let found = notifications(&world);
        assert_eq!(found.len(), usize::from(told), "{mail} {rcpt} {does:?}");
        assert!(found.iter().all(|(_, text)| text.contains("\r\nAction: relayed\r\n")), "{found:?}");
    }
}

#[tokio::test(start_paused = true)] // The time is that of the clock, whoever was there to look at it.
async fn r2852_a_restart_delivers_nothing_late() {
    let world = world();
    world.hops.set("b@one.example", Does::Defer);
    relay_with(&world, "BY=7200;R", "b@one.example", "").await;
    world.pass(HOUR).await;
    world.queue.shutdown(MINUTE).await;
    world.spool.reopen();
    world.pass(2 * HOUR).await;
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| builder.clock(world.clock.clone()));
    again.pass(MINUTE).await;
    assert_eq!((again.hops.times("b@one.example"), again.events.count("expired")), (vec![], 1));
}

#[tokio::test(start_paused = true)] // SECURITY.md T13
async fn t13_no_jump_of_the_clock_makes_a_message_late() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    for (mode, is_back) in [("R", false), ("N", false), ("R", true)] {
        let world = world();
        world.hops.set("b@one.example", Does::Defer);
        relay_with(&world, &format!("BY=86400;{mode}"), "b@one.example", "").await;
        world.pass(HOUR).await;
        let now = world.clock.now();
        world.clock.set(if is_back { now - YEAR } else { now + YEAR });
        world.pass(22 * HOUR).await;
        assert_eq!((world.events.count("expired"), notifications(&world).len()), (0, 0), "{mode} {is_back}");
        world.pass(4 * HOUR).await;
        assert_eq!(notifications(&world).len(), 1, "{mode} {is_back}");
        assert_eq!(world.events.count("expired"), usize::from(mode == "R"), "{mode} {is_back}");
    }
}
