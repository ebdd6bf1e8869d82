//! Greylisting through the chain: who waits, who passes, and for how long that is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use smtp_core::{ResolverTable, async_trait};
use smtp_policy::{
    Action, Attempt, Chain, Change, Changing, Check, FileStateStore, Finding, Greylist, KnownClient, MemoryStateStore,
    Observation, Practice, Preset, ReverseDns, Scope, StateError, StateStore, Subject, Trust, UnknownPractice,
};

use crate::support::{converse, message};

/// A clock that tests set, in seconds.
#[derive(Clone, Default)]
struct Seconds(Arc<AtomicU64>);

impl Seconds {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn clock(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let seconds = self.0.clone();
        move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000 + seconds.load(Ordering::Relaxed))
    }
}

fn greylist(seconds: &Seconds) -> Greylist {
    Greylist::new(MemoryStateStore::new()).with_clock(seconds.clock())
}

async fn attempt(greylist: &Greylist, client: &str, from: &str, to: &str) -> Attempt {
    let client = client.parse().expect("an address");
    let (from, to) = (from.parse().expect("a path"), to.parse().expect("a path"));
    greylist.attempt(client, &from, &to).await.expect("a store that works")
}

const FROM: &str = "<alice@client.example>";
const TO: &str = "<user@example.org>";
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[tokio::test] // PRACTICES S43; RFC 6647 §5
async fn s43_who_comes_again_after_five_minutes_and_within_a_day_passes_and_is_remembered() {
    for (attempts, passes) in [
        (&[0][..], false),
        (&[0, 4 * 60 + 59], false),
        (&[0, 5 * 60], true),
        (&[0, 5 * 60 + 1], true),
        // Those who are impatient wait no longer for it.
        (&[0, 1, 60, 299, 301], true),
        (&[0, DAY - 1], true),
        (&[0, DAY], false),
        (&[0, DAY, DAY + 301], true),
        (&[0, 301, 302], true),
        (&[0, 301, 301 + 36 * DAY - 1], true),
        (&[0, 301, 301 + 36 * DAY], false),
        (&[0, 301, 301 + 30 * DAY, 301 + 60 * DAY], true),
        // The clock was wrong the first time.
        (&[40 * DAY, 0], false),
        (&[40 * DAY, 0, 301], true),
    ] {
        let seconds = Seconds::default();
        let greylist = greylist(&seconds);
        let mut last = None;
        for at in attempts {
            seconds.set(*at);
            last = Some(attempt(&greylist, "192.0.2.1", FROM, TO).await);
        }
        assert_eq!(last == Some(Attempt::Pass), passes, "{attempts:?}: {last:?}");
    }
    let seconds = Seconds::default();
    let greylist = greylist(&seconds);
    assert_eq!(attempt(&greylist, "192.0.2.1", FROM, TO).await, Attempt::Wait(Duration::from_secs(300)));
    seconds.set(100);
    assert_eq!(attempt(&greylist, "192.0.2.1", FROM, TO).await, Attempt::Wait(Duration::from_secs(200)));
}

#[tokio::test] // PRACTICES S43; RFC 6647 §5 item 6
async fn s43_a_pool_of_clients_and_tags_of_the_sender_make_no_difference_others_do() {
    for (client, from, to, passes) in [
        ("192.0.2.200", FROM, TO, true),
        ("::ffff:192.0.2.7", FROM, TO, true),
        ("192.0.3.1", FROM, TO, false),
        ("192.0.2.1", "<ALICE@client.example>", "<USER@example.org>", true),
        ("192.0.2.1", "<prvs=0123abcdef=alice@client.example>", TO, true),
        ("192.0.2.1", "<alice+x@client.example>", TO, true),
        ("192.0.2.1", "<bob@client.example>", TO, false),
        ("192.0.2.1", FROM, "<other@example.org>", false),
        ("192.0.2.1", "<>", TO, false),
    ] {
        let seconds = Seconds::default();
        let greylist = greylist(&seconds);
        attempt(&greylist, "192.0.2.1", FROM, TO).await;
        seconds.set(301);
        assert_eq!(attempt(&greylist, client, from, to).await == Attempt::Pass, passes, "{client} {from} {to}");
    }
    let seconds = Seconds::default();
    let greylist = greylist(&seconds);
    attempt(&greylist, "2001:db8:1:2::1", FROM, TO).await;
    seconds.set(301);
    assert_eq!(attempt(&greylist, "2001:db8:1:2:ffff::9", FROM, TO).await, Attempt::Pass);
    assert_ne!(attempt(&greylist, "2001:db8:1:3::1", FROM, TO).await, Attempt::Pass);
}

#[tokio::test] // PRACTICES S43 × presets: off, by finding, for all unknown
async fn s43_by_preset_with_and_without_a_finding() {
    let dns = ResolverTable::new().with_host("mx.client.example", "192.0.2.1");
    let recipients = ["RCPT TO:<user@example.org>", "RCPT TO:<nobody@example.org>", "RCPT TO:<postmaster>"];
    for (peer, replies) in [
        ("192.0.2.1", ["250", "250", "451 4.7.1"]),
        // Without a reverse name.
        ("192.0.2.2", ["250", "451 4.7.1", "550 5.7.25"]),
    ] {
        for (preset, expected) in Preset::ALL.into_iter().zip(replies) {
            let seconds = Seconds::default();
            let greylist = greylist(&seconds);
            let chain = Chain::new("grey", preset)
                .with(ReverseDns::new(dns.clone()))
                .with(greylist.clone())
                .with_greylisting(greylist);
            let chain = Arc::new(chain);
            let first = converse(vec![chain.clone()], peer, &message(&recipients, "\r\nx")).await;
            assert!(first.replies[1].starts_with(expected), "{peer} {preset:?}: {:?}", first.replies);
            // PRACTICES S44, S45: at the first attempt.
            assert!(first.replies[2].starts_with("550 5.1.1 "), "{:?}", first.replies);
            assert!(first.replies[3].starts_with("250 "), "{:?}", first.replies);
            seconds.set(301);
            let again = converse(vec![chain], peer, &message(&recipients, "\r\nx")).await;
            let expected = if expected.starts_with("451") { "250" } else { expected };
            assert!(again.replies[1].starts_with(expected), "{peer} {preset:?}: {:?}", again.replies);
        }
    }
}

/// What a test wants found, with a fact.
struct Planned(Practice, Option<KnownClient>);

#[async_trait]
impl Check for Planned {
    fn practices(&self) -> &[Practice] {
        std::slice::from_ref(&self.0)
    }

    fn scope(&self) -> Scope {
        Scope::Client
    }

    async fn examine(&self, _: &Subject<'_>) -> Observation {
        let seen = Observation::from(Finding::fail(self.0.name(), "as planned"));
        match self.1 {
            Some(fact) => seen.with_fact(fact),
            None => seen,
        }
    }
}

const SOFTFAIL: Practice = Practice::new("spf-softfail", "S36", "as the check of SPF names it");
const OTHER: Practice = Practice::new("other", "X1", "anything else");

fn chain(greylist: &Greylist, practice: Practice, known: Option<KnownClient>) -> Arc<Chain> {
    let check = Planned(practice.fails([Action::Greylist; 3], [0; 3]), known);
    Arc::new(Chain::new("grey", Preset::Bcp).with(check).with_greylisting(greylist.clone()))
}

async fn first_reply(chain: &Arc<Chain>, peer: &str) -> String {
    converse(vec![chain.clone()], peer, &message(&["RCPT TO:<user@example.org>"], "\r\nx")).await.replies[1].clone()
}

#[tokio::test] // PRACTICES S36, S43: softfail and another finding × (DNSWL, learnt, neither)
async fn s36_a_softfail_greylists_even_known_clients() {
    for (practice, spares_known) in [(SOFTFAIL, false), (OTHER, true)] {
        for (level, is_learnt, is_known) in [
            (None, false, false),
            (Some(KnownClient(Trust::None)), false, false),
            (Some(KnownClient(Trust::Low)), false, true),
            (Some(KnownClient(Trust::High)), false, true),
            (None, true, true),
        ] {
            let seconds = Seconds::default();
            let greylist = greylist(&seconds);
            for _ in 0..if is_learnt { 5 } else { 4 } {
                greylist.learn_from("192.0.2.77".parse().expect("an address")).await.expect("a store that works");
            }
            let chain = chain(&greylist, practice, level);
            let expected = if is_known && spares_known { "250 " } else { "451 4.7.1 " };
            let reply = first_reply(&chain, "192.0.2.1").await;
            assert!(reply.starts_with(expected), "{} {level:?} {is_learnt}: {reply}", practice.name());
            seconds.set(301);
            assert!(first_reply(&chain, "192.0.2.1").await.starts_with("250 "), "who comes again passes");
        }
    }
}

#[tokio::test] // PRACTICES S43
async fn s43_a_network_is_learnt_from_five_good_messages_and_forgotten_after_36_days() {
    let seconds = Seconds::default();
    let greylist = greylist(&seconds);
    // Delivered without being asked to come again.
    let good = Arc::new(Chain::new("good", Preset::Bcp).with_greylisting(greylist.clone()).with(Planned(OTHER, None)));
    let grey = chain(&greylist, OTHER, None);
    for number in 0..5 {
        let reply = first_reply(&grey, &format!("192.0.2.{}", 100 + number)).await;
        assert!(reply.starts_with("451 "), "after {number}: {reply}");
        assert!(first_reply(&good, &format!("192.0.2.{number}")).await.starts_with("250 "));
    }
    assert!(first_reply(&grey, "192.0.2.200").await.starts_with("250 "));
    assert!(first_reply(&grey, "192.0.3.200").await.starts_with("451 "), "another network");
    seconds.set(37 * DAY);
    assert!(first_reply(&grey, "192.0.2.201").await.starts_with("451 "), "it did not write for long");
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

/// Has octets that nobody wrote.
struct Confused;

#[async_trait]
impl StateStore for Confused {
    async fn get(&self, _: &str, _: &[u8], _: SystemTime) -> Result<Option<Vec<u8>>, StateError> {
        Ok(Some(Vec::new()))
    }

    async fn update(&self, table: &str, _: &[u8], _: SystemTime, change: &mut Changing<'_>) -> Result<(), StateError> {
        let change = change((table == "greylist-waiting").then_some(b"odd"));
        assert!(table != "greylist-waiting" || matches!(change, Change::Set { .. }));
        Ok(())
    }
}

#[tokio::test] // PRACTICES P5
async fn p5_where_the_store_fails_everybody_passes() {
    for practice in [SOFTFAIL, OTHER] {
        let reply = first_reply(&chain(&Greylist::new(Broken), practice, None), "192.0.2.1").await;
        assert!(reply.starts_with("250 "), "{reply}");
        let reply = first_reply(&chain(&Greylist::new(Confused), practice, None), "192.0.2.1").await;
        assert!(reply.starts_with("451 "), "it is as if nobody had come: {reply}");
    }
}

#[tokio::test] // issue: state survives restart
async fn s43_who_waits_and_who_passed_survives_a_restart() -> Result<(), StateError> {
    let root = tempfile::tempdir()?;
    let seconds = Seconds::default();
    for (at, passes) in [(0, false), (301, true), (10 * DAY, true)] {
        seconds.set(at);
        let greylist = Greylist::new(FileStateStore::open(root.path())?).with_clock(seconds.clock());
        assert_eq!(attempt(&greylist, "192.0.2.1", FROM, TO).await == Attempt::Pass, passes, "at {at}");
    }
    Ok(())
}

#[tokio::test] // PRACTICES P2: by configuration
async fn s43_greylisting_for_all_can_be_chosen_and_left() -> Result<(), UnknownPractice> {
    for (action, expected) in [(Action::Greylist, "451 4.7.1 "), (Action::Observe, "250 "), (Action::Off, "250 ")] {
        let greylist = greylist(&Seconds::default());
        let chain = Chain::new("grey", Preset::Bcp).with(greylist.clone()).with_greylisting(greylist);
        let chain = Arc::new(chain.with_action("familiar", action)?);
        let reply = first_reply(&chain, "192.0.2.1").await;
        assert!(reply.starts_with(expected), "{action}: {reply}");
    }
    Ok(())
}
