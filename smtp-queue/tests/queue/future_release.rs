//! Messages that their senders want to be held (RFC 4865; STANDARDS.md R4865; SECURITY.md T13).

use std::time::{Duration, SystemTime};

use smtp_core::{
    AuthError, Authenticator, Connection, Identity, Listener, LocalDomains, Mechanisms, ReversePath, Secret, Server,
    Service, async_trait,
};
use smtp_queue::{Clock, VirtualClock, Waiting};

use crate::relaying::send;
use crate::support::*;

struct Alice;

#[async_trait]
impl Authenticator for Alice {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD
    }

    async fn password(&self, _: &Connection, user: &str, _: &Secret) -> Result<Identity, AuthError> {
        Ok(Identity::new(user))
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

/// A queue whose clock says what that of the server says.
fn world() -> World {
    let clock = VirtualClock::starting_at(SystemTime::now());
    let mut world = World::build(|builder| builder.clock(clock.clone()));
    world.clock = clock;
    world
}

/// Submits a message to `b@one.example` with that parameter of `MAIL`.
async fn submit(world: &World, parameter: &str) {
    let listener = Listener::new("127.0.0.1:0").service(Service::Submission).dangerously_authenticate_in_clear();
    let server = Server::builder("mx.example.org")
        .recipients(LocalDomains::new(Vec::new()))
        .deliver(world.queue.clone())
        .authenticate(Alice)
        .listener(listener);
    let mail = format!("MAIL FROM:<alice@client.example> {parameter}");
    let login = "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=";
    send(server, &[(login, "235"), (&mail, "250"), ("RCPT TO:<b@one.example>", "250")]).await;
}

#[tokio::test(start_paused = true)] // RFC 4865 §4
async fn r4865_a_message_is_held_and_then_delivered() {
    for (parameter, hold) in
        [("HOLDFOR=0", Duration::ZERO), ("HOLDFOR=93600", 26 * HOUR), ("HOLDFOR=2419200", 28 * DAY)]
    {
        let world = world();
        submit(&world, parameter).await;
        world.pass(hold.saturating_sub(MINUTE)).await;
        if !hold.is_zero() {
            assert_eq!(world.hops.times("b@one.example"), [], "{parameter}");
            let id = world.queue.list(None, 1).await.expect("listed")[0].id;
            let shown = world.queue.show(id).await.expect("shown").expect("it is there");
            let left = |until: SystemTime| until.duration_since(world.clock.now()).expect("later");
            assert!(
                matches!(shown.pairs[0].waiting, Waiting::NotDue { until, .. } if left(until) <= MINUTE),
                "{:?}",
                shown.pairs
            );
            let turns = world.queue.totals().turns;
            assert!(turns < 20 + 4 * 24 * 28, "{parameter}: {turns} turns");
        }
        world.pass(2 * MINUTE).await;
        let times = world.hops.times("b@one.example");
        assert_eq!(times.len(), 1, "{parameter}");
        assert!(times[0] >= hold && times[0] < hold + MINUTE / 10, "{parameter}: {times:?}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // RFC 4865 §4: a moment; where it has passed, at once.
async fn r4865_a_message_is_held_until_a_moment() {
    for (moment, is_held) in [("2007-01-01T00:00:00Z".to_owned(), false), (in_two_days(), true)] {
        let world = world();
        submit(&world, &format!("HOLDUNTIL={moment}")).await;
        world.pass(DAY).await;
        assert_eq!(world.hops.times("b@one.example").is_empty(), is_held, "{moment}");
        world.pass(2 * DAY).await;
        assert_eq!(world.hops.times("b@one.example").len(), 1, "{moment}");
    }
}

/// A midnight that is more than one day away and not more than two.
fn in_two_days() -> String {
    let text = smtp_core::DateTime::new(SystemTime::now() + 2 * DAY).to_string();
    let words: Vec<_> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == words[2]).expect("a month") + 1;
    format!("{}-{month:02}-{:0>2}T00:00:00Z", words[3], words[1])
}

#[tokio::test(start_paused = true)] // Its five days begin with the release, and so does the delay that is told.
async fn r4865_what_is_held_does_not_grow_old() {
    let world = world();
    world.hops.set("b@one.example", Does::Defer);
    submit(&world, "HOLDFOR=864000").await;
    world.pass(10 * DAY + MINUTE).await;
    assert_eq!(world.hops.times("b@one.example").len(), 1);
    assert_eq!(world.events.count("expired"), 0);
    world.pass(4 * DAY + 20 * HOUR).await;
    assert_eq!(world.events.count("expired"), 0);
    world.pass(8 * HOUR).await;
    assert_eq!(world.events.count("expired"), 1);
}

/// What is done to the clock.
type Jump = (&'static str, fn(SystemTime) -> SystemTime);

#[tokio::test(start_paused = true)] // SECURITY.md T13: `HOLDUNTIL` kept.
async fn t13_no_jump_of_the_clock_releases_a_message_early() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let jumps: [Jump; 6] = [
        ("+1 s", |now| now + Duration::from_secs(1)),
        ("-1 s", |now| now - Duration::from_secs(1)),
        ("+1 h", |now| now + HOUR),
        ("-1 h", |now| now - HOUR),
        ("+1 year", |now| now + YEAR),
        ("-1 year", |now| now - YEAR),
    ];
    for (name, jump) in jumps {
        let world = world();
        submit(&world, "HOLDFOR=864000").await;
        world.pass(DAY).await;
        world.clock.set(jump(world.clock.now()));
        world.pass((9 * 24 * 60 - 1) * MINUTE).await;
        assert_eq!(world.hops.times("b@one.example"), [], "{name}");
        world.pass(2 * MINUTE).await;
        assert_eq!(world.hops.times("b@one.example").len(), 1, "{name}");
        assert!(world.queue.totals().turns < 2000, "{name}: {}", world.queue.totals().turns);
    }
}

#[tokio::test(start_paused = true)]
async fn r4865_a_restart_releases_nothing_early() {
    let world = world();
    submit(&world, "HOLDFOR=864000").await;
    world.pass(DAY).await;
    world.queue.shutdown(MINUTE).await;
    world.spool.reopen();
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| builder.clock(world.clock.clone()));
    again.pass((9 * 24 * 60 - 1) * MINUTE).await;
    assert_eq!(again.hops.times("b@one.example"), []);
    again.pass(2 * MINUTE).await;
    assert_eq!(again.hops.times("b@one.example").len(), 1);
}

#[tokio::test(start_paused = true)] // An operator who wants it now has it now.
async fn r4865_an_operator_may_release_a_message() {
    let world = world();
    submit(&world, "HOLDFOR=864000").await;
    world.pass(MINUTE).await;
    let id = world.queue.list(None, 1).await.expect("listed")[0].id;
    world.queue.retry(id).await.expect("tried");
    world.pass(MINUTE).await;
    assert_eq!(world.hops.times("b@one.example").len(), 1);
}
