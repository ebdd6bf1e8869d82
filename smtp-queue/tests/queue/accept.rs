//! Messages that come in by SMTP: what is kept of them, and what the client is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use smtp_core::{
    Body, ClientConfig, ClientConnection, Content, Disposition, Envelope, MailboxTable, Policy, PolicyContext, Server,
    Stages, Verdict, async_trait,
};
use smtp_queue::{MemorySpool, Queue, Spool};

use crate::faulty_spool::{FaultySpool, Operation, passing};
use crate::support::*;

const TABLE: &str = "a@one.example\nb@one.example\nc@two.example\n\
    team@one.example a@one.example b@one.example c@two.example\n";

/// Disposes of recipients by their names, and vouches for some senders.
struct Judge;

#[async_trait]
impl Policy for Judge {
    fn name(&self) -> &'static str {
        "judge"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        let content = String::from_utf8_lossy(content.as_bytes().expect("it is small")).into_owned();
        for (word, disposition) in [
            ("X-Discard: ", Disposition::Discard("virus".into())),
            ("X-Quarantine: ", Disposition::Quarantine("doubtful".into())),
            ("X-Junk: ", Disposition::Junk),
        ] {
            for line in content.lines().filter_map(|line| line.strip_prefix(word)) {
                cx.dispose(line.parse().expect("a number"), disposition.clone());
            }
        }
        if content.contains("X-Confirmed") {
            cx.confirm_sender();
        }
        Verdict::Continue
    }
}

/// Sends a letter to the queue by SMTP; what the server said of the first recipient.
pub(crate) async fn send(queue: &Queue, recipients: &[&str], header: &str) -> String {
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse(TABLE).expect("a table"))
        .policy(Judge)
        .deliver(queue.clone())
        .listen("127.0.0.1:0")
        .await
        .expect("it listens");
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let address = |text: &str| text.parse().expect("an address");
    let session = server.serve_connection(theirs, address("192.0.2.7:4000"), address("192.0.2.1:25"));
    let talk = async {
        let config = ClientConfig::new("client.example").expect("a name");
        let mut connection = ClientConnection::over(ours, &config).await.expect("it greets");
        let envelope = Envelope::parse("alice@client.example", recipients).expect("in the grammar");
        let envelope = envelope.with_body(Body::EightBitMime);
        let report = connection.send(&envelope, Bytes::from(format!("{header}Subject: x\r\n\r\nbody\r\n"))).await;
        connection.quit().await;
        match &report.recipients()[0] {
            Ok(reply) => reply.to_string(),
            Err(error) => error.reply().expect("the server said no").to_string(),
        }
    };
    tokio::join!(talk, session).0
}

#[tokio::test(start_paused = true)]
async fn an_alias_becomes_its_mailboxes_each_of_them_once() {
    let world = World::new();
    let said = send(&world.queue, &["team@one.example", "a@one.example"], "").await;
    assert!(said.starts_with("250 2.0.0 "), "{said}");
    world.pass(MINUTE).await;
    let mut seen: Vec<_> = world.hops.seen().into_iter().map(|seen| (seen.site, seen.recipients)).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            ("one.example".to_owned(), vec!["a@one.example".to_owned(), "b@one.example".to_owned()]),
            ("two.example".to_owned(), vec!["c@two.example".to_owned()]),
        ]
    );
    let octets = &world.hops.seen()[0].octets;
    let octets = String::from_utf8_lossy(octets);
    assert!(
        octets.starts_with("Received: from client.example") && octets.ends_with("Subject: x\r\n\r\nbody\r\n"),
        "{octets}"
    );
    // The client reads the name that the queue uses.
    let id = world.hops.seen()[0].id.to_string();
    assert!(said.contains(&id), "{said}");
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // PRACTICES S15: somebody must hear of it
async fn s15_role_mail_that_fails_raises_an_alarm() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    for (does, reply) in [(Does::Refuse, "5"), (Does::Defer, "4")] {
        let world = World::new();
        world.hops.otherwise(does);
        send(&world.queue, &["<postmaster>", "a@one.example"], "").await;
        world.pass(MINUTE).await;
        let early = world.events.count("role mail failed");
        assert_eq!(early, usize::from(reply == "5"), "one that waits has not failed: {:?}", world.events.all());
        world.pass(7 * DAY).await;
        let alarm = format!("role mail failed <postmaster> for postmaster@mx.example.org: {reply}");
        assert_eq!(world.events.count(&alarm), 1, "{:?}", world.events.all());
        assert_eq!(world.events.count("role mail failed"), 1, "users are no roles: {:?}", world.events.all());
    }
}

#[tokio::test(start_paused = true)]
async fn dispositions_are_obeyed_and_counted() {
    let world = World::new();
    let header = "X-Discard: 0\r\nX-Quarantine: 1\r\nX-Junk: 2\r\n";
    send(&world.queue, &["a@one.example", "b@one.example", "c@two.example"], header).await;
    world.pass(MINUTE).await;
    let totals = world.queue.totals();
    assert_eq!(
        (totals.mail.taken, totals.mail.discarded, totals.mail.quarantined, totals.mail.delivered),
        (3, 1, 1, 1)
    );
    assert_eq!(world.events.count("discarded a@one.example: virus"), 1);
    assert_eq!(world.events.count("quarantined b@one.example"), 1);
    world.assert_balanced();
    // All discarded: nothing is stored, and the client is told that it was taken.
    let said = send(&world.queue, &["a@one.example"], "X-Discard: 0\r\n").await;
    assert!(said.starts_with("250 2.0.0 "), "{said}");
    assert_eq!((world.spool.totals().messages, world.queue.totals().mail.discarded), (0, 2));
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // PRACTICES.md S19, S21
async fn s19_s21_only_a_confirmed_sender_of_wanted_mail_is_told() {
    for (header, told, reason) in [
        ("", 0, "the sender is not confirmed"),
        ("X-Confirmed: yes\r\n", 1, ""),
        ("X-Confirmed: yes\r\nX-Junk: 0\r\n", 0, "the copy was taken for junk or set aside"),
        ("X-Confirmed: yes\r\nX-Quarantine: 0\r\n", 0, "the copy was taken for junk or set aside"),
    ] {
        let world = World::new();
        world.hops.set("a@one.example", Does::Refuse);
        send(&world.queue, &["a@one.example"], header).await;
        world.pass(MINUTE).await;
        assert_eq!(world.hops.times("alice@client.example").len(), told, "{header}");
        assert_eq!(world.events.count(&format!("withheld a@one.example: {reason}")), 1 - told, "{header}");
        assert_eq!(world.queue.totals().mail.failed, 1);
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // SECURITY.md D-32, G5
async fn d32_trouble_with_the_store_is_told_as_transient() {
    let full = Arc::new(MemorySpool::with_limit_octets(50));
    let world = World::over(full.clone(), full, |builder| builder);
    let said = send(&world.queue, &["a@one.example"], "").await;
    assert!(said.starts_with("452 4.3.1 "), "{said}");
    let spool = FaultySpool::new();
    let world = World::over(Arc::new(spool.clone()), spool.inner.clone(), |builder| builder);
    spool.fail(Operation::Put, 1, passing);
    let said = send(&world.queue, &["a@one.example"], "").await;
    assert!(said.starts_with("451 4.3.0 "), "{said}");
    assert_eq!(world.events.count("store failed to keep a message"), 1);
    world.queue.shutdown(MINUTE).await;
    let said = send(&world.queue, &["a@one.example"], "").await;
    assert!(said.starts_with("451 4.3.2 "), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_message_of_many_recipients_is_one_pair_for_each_site() {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let spool = Arc::new(MemorySpool::new());
    let transport = |attempt: smtp_queue::Attempt| async move {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        attempt.recipients().map(|_| smtp_queue::Outcome::delivered("Ok")).collect()
    };
    let router = ByDomain(Arc::new(transport));
    let queue = Queue::builder(spool.clone(), "mx.example.org".parse().expect("a name"), router).start();
    let recipients = (0..1000).map(|number| mailbox(&format!("u{number}@site{}.example", number % 10)));
    queue.submit(path("<a@b.example>"), recipients, Content::new("x: y\r\n\r\n")).await.expect("it is taken");
    tokio::time::sleep(MINUTE).await;
    assert_eq!(TAKEN.load(Ordering::Relaxed), 10);
    assert_eq!((queue.totals().mail.delivered, spool.totals().messages), (1000, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_envelope_keeps_is_what_the_client_said() {
    let world = World::new();
    world.hops.set("a@one.example", Does::Defer);
    send(&world.queue, &["a@one.example"], "").await;
    world.pass(MINUTE).await;
    let listed = world.queue.list(None, 10).await.expect("it answers");
    let entry = world.queue.show(listed[0].id).await.expect("it answers").expect("it is there");
    let envelope = entry.shown.envelope;
    assert_eq!(envelope.body, Some(Body::EightBitMime));
    assert_eq!(envelope.origin.client, Some("192.0.2.7".parse().expect("an address")));
    assert!(!envelope.origin.transaction.is_empty() && !envelope.sender_confirmed);
    assert_eq!(envelope.recipients[0].path.to_string(), "<a@one.example>");
}
