//! Rates as a client meets them: who is counted, what it is told, and that others are not hurt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use smtp_core::{Policy, Stages, async_trait};
use smtp_policy::{
    Changing, FileStateStore, MemoryStateStore, Rate, RateBy, RateLimits, Rated, StateError, StateStore,
};

use crate::support::{converse, message};

/// A clock that tests set, in seconds.
#[derive(Clone, Default)]
struct Seconds(Arc<AtomicU64>);

impl Seconds {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn limits(&self, store: impl StateStore + 'static) -> RateLimits {
        let seconds = self.0.clone();
        let now = move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000 + seconds.load(Ordering::Relaxed));
        RateLimits::new(store).with_clock(now)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const USER: &str = "RCPT TO:<user@example.org>";

async fn replies(limits: &RateLimits, peer: &str, lines: &[&str]) -> Vec<String> {
    converse(vec![Arc::new(limits.clone())], peer, lines).await.replies
}

/// A client that authenticates as that user and sends one message.
async fn as_user(limits: &RateLimits, user: &str, peer: &str) -> Vec<String> {
    let auth = match user {
        "alice" => "AUTH PLAIN AGFsaWNlAHg=",
        _ => "AUTH PLAIN AGJvYgB4",
    };
    let mut lines = message(&[USER], "\r\nx");
    lines.insert(1, auth);
    replies(limits, peer, &lines).await
}

#[tokio::test] // PRACTICES P3a: rate limits 421 4.7.0, not held back
async fn p3a_connections_of_an_address_and_of_its_network() {
    for (by, neighbour_passes) in [(RateBy::Address, true), (RateBy::Network, false)] {
        let seconds = Seconds::default();
        let rate = Rate::new(6, MINUTE).with_burst(2);
        let limits = seconds.limits(MemoryStateStore::new()).with(Rated::Connections, by, rate);
        let lines = message(&[USER, "RCPT TO:<postmaster>"], "\r\nx");
        let passes = async |peer: &str| {
            let seen = converse(vec![Arc::new(limits.clone())], peer, &lines).await;
            let is_refused = seen.greeting.starts_with("421 4.7.0 ") && seen.replies.is_empty();
            assert!(is_refused || seen.delivered.len() == 1, "{seen:?}");
            !is_refused
        };
        assert!(passes("192.0.2.1").await && passes("192.0.2.1").await);
        assert!(!passes("192.0.2.1").await && !passes("[::ffff:192.0.2.1]").await, "{by:?}");
        assert_eq!(passes("192.0.2.2").await, neighbour_passes, "{by:?}");
        assert!(passes("192.0.3.1").await, "another network");
        seconds.set(9);
        assert!(!passes("192.0.2.1").await);
        seconds.set(10);
        assert!(passes("192.0.2.1").await && !passes("192.0.2.1").await, "one in ten seconds");
    }
}

#[tokio::test] // PRACTICES P3a, B2505.8: 421 4.7.0 and the end by address, 451 4.7.1 by sender, both at MAIL
async fn b2505_8_messages_by_address_and_by_sender() {
    let mut two = message(&[USER], "\r\nx");
    two.extend_from_within(1..);
    for (by, expected) in [
        (RateBy::Address, &["250", "250", "354", "250", "421 4.7.0"][..]),
        (RateBy::Network, &["250", "250", "354", "250", "421 4.7.0"]),
        (RateBy::Sender, &["250", "250", "354", "250", "451 4.7.1"]),
        // Nothing to count by.
        (RateBy::Identity, &["250", "250", "354", "250", "250", "250", "354", "250"]),
        (RateBy::Recipient, &["250", "250", "354", "250", "250", "250", "354", "250"]),
    ] {
        let seconds = Seconds::default();
        let limits = seconds.limits(MemoryStateStore::new()).with(Rated::Messages, by, Rate::new(1, MINUTE));
        let found = replies(&limits, "192.0.2.1", &two).await;
        let fits = expected.iter().zip(&found).all(|(expected, found)| found.starts_with(expected));
        assert!(fits && found.len() >= expected.len(), "{by:?}: {found:?}");
        if by == RateBy::Address {
            assert!(found[4].ends_with("come again in 60 s"), "{found:?}");
            assert_eq!(found.len(), 5, "the session is over: {found:?}");
        }
    }
}

#[tokio::test] // RFC 2505 §2.6.1: never refuse <>; and what one client uses up, another still has
async fn b2505_8_a_sender_is_one_of_a_network_and_null_is_none() {
    let seconds = Seconds::default();
    let limits = seconds.limits(MemoryStateStore::new()).with(Rated::Messages, RateBy::Sender, Rate::new(1, MINUTE));
    let mail = async |peer: &str, from: &str| {
        let command = format!("MAIL FROM:{from}");
        replies(&limits, peer, &["EHLO client.example", &command]).await[0][..3].to_owned()
    };
    for (peer, from, expected) in [
        ("192.0.2.1", "<alice@client.example>", "250"),
        ("192.0.2.9", "<prvs=0123abcdef=ALICE@client.example>", "451"),
        ("192.0.2.1", "<bob@client.example>", "250"),
        ("192.0.3.1", "<alice@client.example>", "250"),
        ("192.0.2.1", "<>", "250"),
        ("192.0.2.1", "<>", "250"),
    ] {
        assert_eq!(mail(peer, from).await, expected, "{from} of {peer}");
    }
}

#[tokio::test] // PRACTICES P6, L2: limits per identity
async fn p6_an_identity_has_its_rate_wherever_it_connects_from() {
    let seconds = Seconds::default();
    let rate = Rate::new(1, MINUTE);
    for rated in [Rated::Messages, Rated::Recipients] {
        let limits = seconds.limits(MemoryStateStore::new()).with(rated, RateBy::Identity, rate);
        let place = if rated == Rated::Messages { 1 } else { 2 };
        for (user, peer, expected) in
            [("alice", "192.0.2.1", "250 "), ("alice", "198.51.100.1", "451 4.7.1 "), ("bob", "192.0.2.1", "250 ")]
        {
            let found = as_user(&limits, user, peer).await;
            assert!(found[place].starts_with(expected), "{rated:?} {user}: {found:?}");
        }
        let found = replies(&limits, "192.0.2.1", &message(&[USER, USER], "\r\nx")).await;
        assert!(found[2].starts_with("250 "), "without an identity: {found:?}");
    }
}

#[tokio::test] // PRACTICES B2505.8, P4, P7
async fn b2505_8_a_recipient_has_its_rate_and_role_mailboxes_and_unknown_users_do_not_count() {
    let seconds = Seconds::default();
    let limits =
        seconds.limits(MemoryStateStore::new()).with(Rated::Recipients, RateBy::Recipient, Rate::new(2, MINUTE));
    let nobody = "RCPT TO:<nobody@example.org>";
    let recipients = [
        USER,
        nobody,
        "RCPT TO:<USER@example.org>",
        USER,
        "RCPT TO:<other@example.org>",
        "RCPT TO:<abuse@example.org>",
    ];
    let found = replies(&limits, "192.0.2.1", &message(&recipients, "\r\nx")).await;
    let codes: Vec<_> = found[1..7].iter().map(|reply| &reply[..3]).collect();
    assert_eq!(codes, ["250", "550", "250", "451", "250", "250"], "{found:?}");
    assert!(found[4].starts_with("451 4.7.1 "), "whoever writes: {found:?}");
    let found = replies(&limits, "198.51.100.1", &message(&[USER], "\r\nx")).await;
    assert!(found[1].starts_with("451 4.7.1 "), "{found:?}");
}

#[tokio::test]
async fn several_rates_hold_together_and_listed_networks_have_none() {
    let seconds = Seconds::default();
    let limits = seconds
        .limits(MemoryStateStore::new())
        .with(Rated::Messages, RateBy::Sender, Rate::new(2, MINUTE))
        .with(Rated::Messages, RateBy::Sender, Rate::new(3, MINUTE * 60))
        .sparing("198.51.100.0/24".parse().expect("a network"));
    let mut passed = 0;
    for minute in 0..10 {
        seconds.set(minute * 60);
        for _ in 0..3 {
            passed += usize::from(replies(&limits, "192.0.2.1", &message(&[], "")).await[0].starts_with("250"));
            assert!(replies(&limits, "198.51.100.1", &message(&[], "")).await[0].starts_with("250"));
        }
    }
    assert_eq!(passed, 3);
    assert_eq!(limits.stages(), Stages::MAIL);
    assert_eq!(seconds.limits(MemoryStateStore::new()).stages(), Stages::NONE);
}

/// Fails.
struct Broken;

#[async_trait]
impl StateStore for Broken {
    async fn get(&self, _: &str, _: &[u8], _: SystemTime) -> Result<Option<Vec<u8>>, StateError> {
        Err(StateError::unavailable("broken"))
    }

    async fn update(&self, _: &str, _: &[u8], _: SystemTime, _: &mut Changing<'_>) -> Result<(), StateError> {
        Err(StateError::unavailable("broken"))
    }
}

#[tokio::test] // PRACTICES P5
async fn p5_where_the_store_fails_nobody_is_refused() {
    let limits = Seconds::default().limits(Broken).with(Rated::Messages, RateBy::Address, Rate::new(0, MINUTE));
    assert!(replies(&limits, "192.0.2.1", &message(&[], "")).await[0].starts_with("250"));
}

#[tokio::test]
async fn what_was_counted_survives_a_restart() -> Result<(), StateError> {
    let root = tempfile::tempdir()?;
    let seconds = Seconds::default();
    for (at, expected) in [(0, "250"), (1, "421"), (60, "250")] {
        seconds.set(at);
        let store = FileStateStore::open(root.path())?;
        let limits = seconds.limits(store).with(Rated::Messages, RateBy::Address, Rate::new(1, MINUTE));
        assert!(replies(&limits, "192.0.2.1", &message(&[], "")).await[0].starts_with(expected), "at {at}");
    }
    Ok(())
}
