//! Mail that is set aside: kept apart, released once, forgotten in time, and never told of (PRACTICES.md S19, S33).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use smtp_core::{Content, Mailbox};
use smtp_queue::{Envelope, MemorySpool, Quarantine, QuarantineSettings, Queue, QueueId, Spool, StoredContent};

use crate::accept::send;
use crate::severed_spool::Severed;
use crate::support::*;

/// Who wants to be told, and may be.
const WANTED: &str = "X-Confirmed: yes\r\n";

async fn quarantine(spool: &Arc<MemorySpool>, change: impl FnOnce(&mut QuarantineSettings)) -> Quarantine {
    let mut settings = QuarantineSettings::default();
    change(&mut settings);
    Quarantine::open(spool.clone(), settings).await.expect("it opens")
}

async fn world() -> (World, Arc<MemorySpool>) {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut QuarantineSettings)) -> (World, Arc<MemorySpool>) {
    let spool = Arc::new(MemorySpool::new());
    let quarantine = quarantine(&spool, change).await;
    (World::build(|builder| builder.quarantine(quarantine)), spool)
}

pub(crate) async fn entries(queue: &Queue) -> Vec<smtp_queue::QuarantinedMessage> {
    queue.quarantine().expect("there is one").list(None, 100).await.expect("it answers")
}

/// What was set aside of the only message there is.
pub(crate) async fn only(queue: &Queue) -> QueueId {
    let entries = entries(queue).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].id
}

#[tokio::test(start_paused = true)]
async fn s33_a_copy_is_set_aside_wherever_its_recipient_lives_and_the_others_are_delivered() {
    let (world, spool) = world().await;
    let header = format!("{WANTED}X-Quarantine: 1\r\nX-Quarantine: 2\r\nX-Junk: 0\r\n");
    let said = send(&world.queue, &["a@one.example", "b@one.example", "c@two.example"], &header).await;
    assert!(said.starts_with("250 2.0.0 "), "{said}");
    world.pass(MINUTE).await;
    let seen: Vec<_> = world.hops.seen().into_iter().flat_map(|seen| seen.recipients).collect();
    assert_eq!(seen, ["a@one.example"]);
    let entries = entries(&world.queue).await;
    assert_eq!(entries.len(), 1);
    let reasons: Vec<(&Mailbox, &str)> = entries[0].reasons().collect();
    assert_eq!(reasons, [(&mailbox("b@one.example"), "doubtful"), (&mailbox("c@two.example"), "doubtful")]);
    assert!(said.contains(&entries[0].id.to_string()), "the name that the client was told");
    assert_eq!((entries[0].since, entries[0].expires), (start_time(), start_time() + 30 * DAY));
    let content = world.queue.quarantine().expect("there").content(entries[0].id).await.expect("it is there");
    let mut octets = Vec::new();
    std::io::Read::read_to_end(&mut content.reader(), &mut octets).expect("it can be read");
    assert!(octets.starts_with(b"Received: ") && octets.ends_with(b"\r\n\r\nbody\r\n"));
    let totals = world.queue.totals();
    assert_eq!((totals.mail.delivered, totals.mail.quarantined, totals.queued), (1, 2, 0));
    assert_eq!(world.events.count("quarantined "), 2);
    assert_eq!(spool.totals().recipients, 2);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // It is durable before it counts, and nothing is lost where it cannot be kept.
async fn s33_no_copy_counts_before_it_is_kept() {
    let (inner, faults) = (Arc::new(MemorySpool::new()), Arc::new(AtomicI64::new(i64::MAX)));
    let spool = Severed::over(&inner, &faults);
    let quarantine = Quarantine::open(Arc::new(spool), QuarantineSettings::default()).await.expect("it opens");
    let world = World::build(|builder| builder.quarantine(quarantine));
    faults.store(0, Ordering::SeqCst);
    send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    world.pass(6 * DAY).await;
    let totals = world.queue.totals();
    assert_eq!((totals.mail.quarantined, totals.mail.failed, totals.queued), (0, 0, 1), "it waits, also beyond 5 days");
    assert_eq!(world.queue.quarantine().expect("there").totals().messages, 0);
    faults.store(i64::MAX, Ordering::SeqCst);
    world.pass(DAY).await;
    assert_eq!((world.queue.totals().mail.quarantined, inner.totals().messages), (1, 1));
    assert_eq!(world.queue.quarantine().expect("there").totals().messages, 1);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // PRACTICES.md S33: "a release is idempotent and causes no DSN"; S19
async fn s33_s19_a_release_delivers_once_and_nobody_is_told_whatever_comes_of_it() {
    for does in [Does::Accept, Does::Keep, Does::Refuse, Does::Defer] {
        let (world, spool) = world().await;
        world.hops.set("b@one.example", does);
        send(&world.queue, &["b@one.example"], &format!("{WANTED}X-Quarantine: 0\r\n")).await;
        world.pass(20 * DAY).await;
        let id = only(&world.queue).await;
        let (one, other) = tokio::join!(world.queue.release_quarantined(id), world.queue.release_quarantined(id));
        let released: Vec<_> = [one, other].into_iter().filter_map(|one| one.expect("it works")).collect();
        assert_eq!(released.len(), 1, "{does:?}");
        assert_ne!(released[0], id);
        assert_eq!(world.queue.release_quarantined(id).await.expect("it answers"), None);
        world.pass(10 * DAY).await;
        let attempts = world.hops.times("b@one.example").len();
        assert!(if does == Does::Defer { attempts > 10 } else { attempts == 1 }, "{does:?}: {attempts}");
        assert_eq!(world.hops.seen()[0].id, released[0]);
        assert_eq!(world.hops.times("alice@client.example").len(), 0, "{does:?}");
        let totals = world.queue.totals();
        assert_eq!((totals.notifications.taken, totals.queued, totals.mail.taken), (0, 0, 2), "{does:?}");
        assert_eq!((spool.totals().messages, world.events.count("released for 1")), (0, 1));
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)]
async fn s33_what_was_released_has_all_its_time_and_is_wanted_mail() {
    let (world, _) = world().await;
    world.hops.set("b@one.example", Does::Defer);
    send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    world.pass(20 * DAY).await;
    let name = world.queue.release_quarantined(only(&world.queue).await).await.expect("it works").expect("it is there");
    world.pass(DAY).await;
    let entry = world.queue.show(name).await.expect("it answers").expect("it waits");
    assert_eq!(entry.expires, entry.shown.envelope.arrival + 5 * DAY);
    assert_eq!(entry.shown.envelope.recipients[0].disposition, smtp_core::Disposition::Deliver);
}

#[tokio::test(start_paused = true)] // PRACTICES.md S33: retention
async fn s33_what_is_not_wanted_for_thirty_days_is_forgotten_and_logged() {
    let (world, spool) = world().await;
    send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    world.pass(29 * DAY + 23 * HOUR).await;
    assert_eq!((spool.totals().messages, world.events.count("expired in quarantine")), (1, 0));
    world.pass(2 * HOUR).await;
    assert_eq!((spool.totals().messages, world.events.count("expired in quarantine for 1")), (0, 1));
    assert_eq!(world.queue.quarantine().expect("there").totals(), smtp_queue::QuarantineTotals::default());
    assert_eq!(world.hops.seen(), []);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // SECURITY.md D-36
async fn d36_a_clock_that_jumps_ahead_makes_nothing_too_old() {
    let (world, spool) = world().await;
    send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    world.pass(DAY).await;
    world.clock.set(start_time() + 400 * DAY);
    world.pass(DAY).await;
    assert_eq!((spool.totals().messages, world.events.count("expired in quarantine")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn s33_what_is_removed_is_gone_and_nobody_is_told() {
    let (world, spool) = world().await;
    send(&world.queue, &["b@one.example", "c@two.example"], "X-Quarantine: 0\r\nX-Quarantine: 1\r\n").await;
    world.pass(MINUTE).await;
    let id = only(&world.queue).await;
    assert_eq!(world.queue.remove_quarantined(id).await.expect("it works"), Some(2));
    assert_eq!(world.queue.remove_quarantined(id).await.expect("it works"), None);
    assert_eq!(world.queue.release_quarantined(id).await.expect("it works"), None);
    assert_eq!((spool.totals().messages, world.events.count("removed 2")), (0, 1));
    world.pass(DAY).await;
    assert_eq!(world.hops.seen(), []);
}

#[tokio::test(start_paused = true)] // SECURITY.md D-32: bounded, and nothing is lost.
async fn d32_a_full_quarantine_leaves_the_message_with_the_client() {
    for (messages, octets) in [(1, 1 << 20), (100, 350)] {
        let limits = |settings: &mut QuarantineSettings| {
            (settings.messages_limit, settings.octets_limit) = (messages, octets);
        };
        let (world, spool) = world_with(limits).await;
        let said = send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
        assert!(said.starts_with("250 "), "{said}");
        world.pass(MINUTE).await;
        let said = send(&world.queue, &["b@one.example", "a@one.example"], "X-Quarantine: 0\r\n").await;
        assert!(said.starts_with("452 4.3.1 "), "{said}");
        assert_eq!(world.queue.totals().mail.taken, 1);
        let said = send(&world.queue, &["b@one.example"], "").await;
        assert!(said.starts_with("250 "), "mail that is not set aside: {said}");
        world.queue.remove_quarantined(only(&world.queue).await).await.expect("it works");
        let said = send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
        assert!(said.starts_with("250 "), "{said}");
        world.pass(MINUTE).await;
        assert_eq!(spool.totals().messages, 1);
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // Messages that were taken at the same time: what does not fit waits in the queue.
async fn d32_what_has_lost_its_room_meanwhile_waits() {
    let (world, spool) = world_with(|settings| settings.messages_limit = 1).await;
    let (one, other) = tokio::join!(
        send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n"),
        send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n"),
    );
    assert!(one.starts_with("250 ") && other.starts_with("250 "), "{one}, {other}");
    world.pass(10 * DAY).await;
    let totals = world.queue.totals();
    assert_eq!((totals.mail.quarantined, totals.queued, spool.totals().messages), (1, 1, 1));
    assert_eq!(world.events.count("expired b@one.example"), 0);
    world.queue.remove_quarantined(only(&world.queue).await).await.expect("it works");
    world.pass(DAY).await;
    let totals = world.queue.totals();
    assert_eq!((totals.mail.quarantined, totals.queued, spool.totals().messages), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_set_aside_is_there_after_a_restart_and_counts() {
    let (world, spool) = world().await;
    send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    world.pass(MINUTE).await;
    let id = only(&world.queue).await;
    let before = world.queue.quarantine().expect("there").totals();
    world.queue.shutdown(MINUTE).await;
    spool.reopen();
    let quarantine = quarantine(&spool, |_| {}).await;
    assert_eq!((quarantine.totals(), before.messages), (before, 1));
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| builder.quarantine(quarantine));
    assert_eq!(only(&again.queue).await, id);
    again.queue.release_quarantined(id).await.expect("it works").expect("it is there");
    again.pass(MINUTE).await;
    assert_eq!(again.hops.times("b@one.example").len(), 1);
    again.assert_balanced();
}

/// A crash in front of each write of a release, or behind it and before anybody knew: whoever asks again after the restart
/// has it delivered once.
#[tokio::test(start_paused = true)]
async fn s33_a_crash_at_each_step_of_a_release_neither_loses_nor_doubles() {
    let mut releases = Vec::new();
    for takes_effect in [false, true] {
        for step in 0..3 {
            let (mail, aside) = (Arc::new(MemorySpool::new()), Arc::new(MemorySpool::new()));
            let left = Arc::new(AtomicI64::new(i64::MAX));
            let severed = |inner: &Arc<MemorySpool>| Arc::new(Severed::over(inner, &left).answering_late(takes_effect));
            let quarantine = Quarantine::open(severed(&aside), QuarantineSettings::default()).await.expect("it opens");
            let world = World::over(severed(&mail), mail.clone(), |builder| builder.quarantine(quarantine));
            send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
            world.pass(MINUTE).await;
            let id = only(&world.queue).await;
            left.store(step, Ordering::SeqCst);
            let first = world.queue.release_quarantined(id).await;
            let delivered = world.hops.times("b@one.example").len();
            drop(world);
            for spool in [&mail, &aside] {
                spool.reopen();
            }
            let quarantine = Quarantine::open(aside.clone(), QuarantineSettings::default()).await.expect("it opens");
            let again = World::over(mail.clone(), mail.clone(), |builder| builder.quarantine(quarantine));
            again.pass(MINUTE).await;
            let second = again.queue.release_quarantined(id).await.expect("it answers");
            again.pass(MINUTE).await;
            let all = delivered + again.hops.times("b@one.example").len();
            assert_eq!(all, 1, "step {step}, with effect: {takes_effect}");
            assert_eq!((mail.totals().messages, aside.totals().messages), (0, 0));
            releases.push((first.is_ok(), second.is_some()));
        }
    }
    // The mark, the message, the removal: each of them is needed, and not more.
    let without_effect = [(false, true), (false, true), (false, false)];
    let with_effect = [(false, true), (false, false), (false, false)];
    assert_eq!(releases, [without_effect, with_effect].concat());
}

#[tokio::test(start_paused = true)] // A passing fault: whoever asks again has it delivered once.
async fn s33_a_release_that_failed_half_way_is_ended_by_the_next() {
    for step in 0..3 {
        let (mail, aside) = (Arc::new(MemorySpool::new()), Arc::new(MemorySpool::new()));
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let severed = |inner: &Arc<MemorySpool>| Arc::new(Severed::over(inner, &left));
        let quarantine = Quarantine::open(severed(&aside), QuarantineSettings::default()).await.expect("it opens");
        let world = World::over(severed(&mail), mail.clone(), |builder| builder.quarantine(quarantine));
        send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
        world.pass(MINUTE).await;
        let id = only(&world.queue).await;
        left.store(step, Ordering::SeqCst);
        assert!(world.queue.release_quarantined(id).await.is_err());
        left.store(i64::MAX, Ordering::SeqCst);
        // Whoever makes the queue look for what is due does not make it deliver this.
        world.hops.set("z@two.example", Does::Defer);
        let other = world.submit(&["z@two.example"]).await;
        world.pass(MINUTE).await;
        world.queue.retry(other).await.expect("it works");
        world.pass(DAY).await;
        assert_eq!(world.hops.times("b@one.example").len(), 0, "step {step}: nobody was told that it is released");
        world.queue.remove(other).await.expect("it works");
        assert!(world.queue.release_quarantined(id).await.expect("it works").is_some(), "step {step}");
        world.pass(MINUTE).await;
        assert_eq!(world.hops.times("b@one.example").len(), 1, "step {step}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // SECURITY.md D-36: retention is counted by one clock.
async fn d36_a_clock_that_was_wrong_at_the_start_shortens_no_retention() {
    let (world, spool) = world().await;
    world.clock.set(start_time() + 10_000 * DAY);
    send(&world.queue, &["b@one.example"], "X-Quarantine: 0\r\n").await;
    world.pass(MINUTE).await;
    let entry = &entries(&world.queue).await[0];
    assert!(entry.since >= start_time() + 10_000 * DAY, "{entry:?}");
    assert_eq!(entry.expires, entry.since + 30 * DAY);
    // As after a restart: both clocks are right.
    let quarantine = quarantine(&spool, |_| {}).await;
    let clock = smtp_queue::VirtualClock::starting_at(start_time() + 10_001 * DAY);
    let again = World::build(|builder| builder.quarantine(quarantine).clock(clock));
    again.pass(2 * HOUR).await;
    assert_eq!(spool.totals().messages, 1);
}

#[tokio::test(start_paused = true)] // SECURITY.md D-13: no name from outside becomes the name of a file.
async fn d13_names_of_recipients_are_no_names_of_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = smtp_queue::FileStorage::open(directory.path()).expect("it opens");
    let spool = smtp_queue::SegmentSpool::open(Arc::new(storage), smtp_queue::SegmentSettings::default());
    let spool: Arc<dyn Spool> = Arc::new(spool.expect("it opens").0);
    let quarantine = Quarantine::open(spool, QuarantineSettings::default()).await.expect("it opens");
    let id = QueueId::from_u128(7 << 64);
    let mut envelope = Envelope::new(id, SystemTime::now(), path("<\"../../x\"@client.example>"));
    for recipient in ["\"../../x\"@one.example", "\"/etc/passwd\"@one.example"] {
        envelope = envelope.with_recipient(mailbox(recipient));
        let last = envelope.recipients.last_mut().expect("just added");
        last.disposition = smtp_core::Disposition::Quarantine("../../../x".into());
    }
    // Large enough for a file of its own.
    let content = Content::new(vec![b'x'; 1 << 20]).to_bytes().expect("in memory");
    let content = StoredContent::in_memory(bytes::Bytes::new(), content);
    let attempt = smtp_queue::Attempt::new(Arc::new(envelope), 0..2, content, "quarantine".into(), 1);
    for _ in 0..2 {
        let outcomes = smtp_queue::Transport::deliver(&quarantine, attempt.clone()).await;
        assert!(outcomes.len() == 2 && outcomes.iter().all(smtp_queue::Outcome::is_success), "{outcomes:?}");
    }
    assert_eq!((quarantine.totals().messages, quarantine.totals().octets), (1, 1 << 20));
    assert_eq!(quarantine.content(id).await.expect("it is there").len(), 1 << 20);
    let mut directories = vec![directory.path().to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).expect("a directory").map(|entry| entry.expect("an entry")) {
            let name = entry.file_name().into_string().expect("ASCII");
            assert!(name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet)), "{name}");
            assert!(!name.contains("passwd") && !name.contains(".."), "{name}");
            directories.extend(entry.path().is_dir().then(|| entry.path()));
        }
    }
}
