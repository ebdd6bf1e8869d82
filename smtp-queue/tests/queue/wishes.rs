//! What senders ask of notifications (RFC 3461; STANDARDS.md R3461b, Q4, Q6, Q7; PRACTICES.md S19, S21).

use std::sync::Arc;

use bytes::Bytes;
use smtp_core::{
    ClientConfig, ClientConnection, Disposition, DsnOffer, Envelope, EnvelopeId, Listener, MailboxTable, MessageDsn,
    Notify, OriginalRecipient, Policy, PolicyContext, RecipientDsn, Ret, Server, Stages, Verdict, async_trait,
};
use smtp_queue::{MemorySpool, QueueSettings};

use crate::faulty_spool::{FaultySpool, Operation, passing};
use crate::support::*;

const TABLE: &str = "a@one.example\nb@one.example\nc@two.example\n\
    team@one.example a@one.example b@one.example c@two.example\nonly@one.example a@one.example\n";
const SENDER: &str = "alice@client.example";

struct Junk;

#[async_trait]
impl Policy for Junk {
    fn name(&self) -> &'static str {
        "junk"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, _: &smtp_core::Content) -> Verdict {
        cx.dispose(0, Disposition::Junk);
        Verdict::Continue
    }
}

/// A letter to the queue, by SMTP.
struct Letter {
    from: &'static str,
    message: MessageDsn,
    recipients: Vec<(&'static str, RecipientDsn)>,
    /// Whether the client is one that may relay, so that its reverse-path is believed.
    is_known: bool,
    is_junk: bool,
    content: Bytes,
}

impl Letter {
    fn to(recipient: &'static str, notify: Option<Notify>) -> Self {
        let content = Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n");
        let (message, from) = (MessageDsn::default(), SENDER);
        Self { from, message, recipients: Vec::new(), is_known: true, is_junk: false, content }.and(recipient, notify)
    }

    fn and(mut self, recipient: &'static str, notify: Option<Notify>) -> Self {
        self.recipients.push((recipient, RecipientDsn { notify, original_recipient: None }));
        self
    }

    async fn send(self, world: &World) {
        let listener = Listener::new("127.0.0.1:0").dsn(DsnOffer::Everybody);
        let network = "192.0.2.0/24".parse().expect("a network");
        let listener = if self.is_known { listener.relay_for(network) } else { listener };
        let server = Server::builder("mx.example.org")
            .recipients(MailboxTable::parse(TABLE).expect("a table"))
            .deliver(world.queue.clone())
            .listener(listener);
        let server = if self.is_junk { server.policy(Junk) } else { server };
        let server = server.bind().await.expect("it listens");
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let address = |text: &str| text.parse().expect("an address");
        let session = server.serve_connection(theirs, address("192.0.2.7:4000"), address("192.0.2.1:25"));
        let talk = async {
            let config = ClientConfig::new("client.example").expect("a name");
            let mut connection = ClientConnection::over(ours, &config).await.expect("it greets");
            let (paths, wishes): (Vec<_>, Vec<_>) = self.recipients.into_iter().unzip();
            let envelope = Envelope::parse(self.from, paths).expect("paths").with_dsn(self.message, wishes);
            let report = connection.send(&envelope, self.content).await;
            assert!(report.is_delivered() && report.dsn_passed_on(), "{report:?}");
            connection.quit().await;
        };
        tokio::join!(talk, session);
    }
}

/// What the sender was told, in the order in which it was: `delayed a@one.example 4.7.1`.
fn told(world: &World) -> Vec<String> {
    let notifications = notifications(world);
    let lines = notifications.iter().flat_map(|text| {
        let field = |block: &str, name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
            line.unwrap_or_else(|| panic!("no {name} in {block}"))
        };
        let blocks = text.split("\n\n").filter(|block| block.contains("Final-Recipient: "));
        let told = blocks.map(move |block| {
            let recipient = field(block, "Final-Recipient").replace("rfc822; ", "");
            format!("{} {recipient} {}", field(block, "Action"), field(block, "Status"))
        });
        told.collect::<Vec<_>>()
    });
    lines.collect()
}

fn notifications(world: &World) -> Vec<String> {
    let seen = world.hops.seen();
    let to_sender = seen.iter().filter(|seen| seen.recipients == [SENDER]);
    to_sender
        .map(|seen| {
            assert_eq!(seen.reverse_path, "<>");
            String::from_utf8(seen.octets.clone()).expect("ASCII").replace("\r\n", "\n")
        })
        .collect()
}

fn world() -> World {
    World::new()
}

#[tokio::test(start_paused = true)] // RFC 3461 §5.2, §6; R3461b; STANDARDS.md Q4
async fn r3461b_what_the_sender_is_told_is_what_it_asked_for() {
    const SUCCESS: Option<Notify> = Some(Notify::SUCCESS);
    const FAILURE: Option<Notify> = Some(Notify::FAILURE);
    const DELAY: Option<Notify> = Some(Notify::DELAY);
    const NEVER: Option<Notify> = Some(Notify::NEVER);
    let all = Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY);
    for (does, notify, expected) in [
        (Does::Keep, SUCCESS, &["delivered a@one.example 2.0.0"][..]),
        (Does::Keep, all, &["delivered a@one.example 2.0.0"]),
        (Does::Accept, SUCCESS, &["relayed a@one.example 2.0.0"]),
        (Does::Accept, all, &["relayed a@one.example 2.0.0"]),
        (Does::PassOn, all, &[]),
        (Does::Refuse, SUCCESS, &[]),
        (Does::Refuse, FAILURE, &["failed a@one.example 5.1.1"]),
        (Does::Refuse, all, &["failed a@one.example 5.1.1"]),
        (Does::Defer, DELAY, &["delayed a@one.example 4.7.1"]),
        (Does::Defer, FAILURE, &["failed a@one.example 4.7.1"]),
        (Does::Defer, all, &["delayed a@one.example 4.7.1", "failed a@one.example 4.7.1"]),
        (Does::Keep, None, &[]),
        (Does::Accept, None, &[]),
        (Does::Refuse, None, &["failed a@one.example 5.1.1"]),
        (Does::Defer, None, &["failed a@one.example 4.7.1"]),
        (Does::Keep, NEVER, &[]),
        (Does::Accept, NEVER, &[]),
        (Does::PassOn, NEVER, &[]),
        (Does::Refuse, NEVER, &[]),
        (Does::Defer, NEVER, &[]),
        (Does::NotThere, NEVER, &[]),
    ] {
        let world = world();
        world.hops.set("a@one.example", does);
        Letter::to("a@one.example", notify).send(&world).await;
        world.pass(6 * DAY).await;
        assert_eq!(told(&world), expected, "{does:?} {notify:?}");
        // What nobody was told of is in the log.
        let has_failed = world.queue.totals().mail.failed == 1;
        let is_told = expected.iter().any(|told| told.starts_with("failed"));
        let withheld = world.events.count("withheld a@one.example: the sender did not ask for it");
        assert_eq!(withheld, usize::from(has_failed && !is_told), "{does:?} {notify:?}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q4
async fn q4_a_delay_is_told_once_after_four_hours_or_when_the_settings_say() {
    for hours in [4, 30] {
        let mut settings = QueueSettings::default();
        settings.schedule.delay_notification = hours * HOUR;
        let world = World::with(settings);
        world.hops.otherwise(Does::Defer);
        world.hops.set(SENDER, Does::Accept);
        let delay = Some(Notify::DELAY);
        let letter = Letter::to("a@one.example", delay).and("b@one.example", None).and("c@two.example", delay);
        letter.send(&world).await;
        world.pass((hours * 60 - 1) * MINUTE).await;
        assert!(told(&world).is_empty());
        // The next attempt comes within 80 minutes.
        world.pass(81 * MINUTE).await;
        let mut found = told(&world);
        found.sort();
        assert_eq!(found, ["delayed a@one.example 4.7.1", "delayed c@two.example 4.7.1"]);
        let text = notifications(&world).concat();
        assert!(text.contains("Will-Retry-Until: "), "{text}");
        // Nor after a restart.
        world.pass(2 * HOUR).await;
        world.queue.shutdown(MINUTE).await;
        world.spool.reopen();
        let mut settings = QueueSettings::default();
        settings.schedule.delay_notification = hours * HOUR;
        let again = World::over(world.spool.clone(), world.spool.clone(), |builder| {
            builder.clock(world.clock.clone()).settings(settings)
        });
        again.hops.otherwise(Does::Defer);
        again.hops.set(SENDER, Does::Accept);
        again.pass(2 * DAY).await;
        assert!(again.hops.times("a@one.example").len() > 10);
        assert!(told(&again).is_empty(), "{hours}");
        // In the end the failure of the one who said nothing.
        again.pass(4 * DAY).await;
        assert_eq!(told(&again), ["failed b@one.example 4.7.1"]);
        again.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // RFC 3461 §4.3, §6.3; STANDARDS.md Q7
async fn q7_as_much_goes_back_as_was_asked_for() {
    let body = "in the body";
    for (does, ret, is_whole) in [
        (Does::Refuse, None, true),
        (Does::Refuse, Some(Ret::Full), true),
        (Does::Refuse, Some(Ret::Headers), false),
        (Does::Keep, Some(Ret::Full), false),
        (Does::Accept, None, false),
        (Does::Defer, Some(Ret::Full), false),
    ] {
        let world = world();
        world.hops.set("a@one.example", does);
        let mut letter = Letter::to("a@one.example", Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY));
        letter.content = Bytes::from(format!("X-Mine: header\r\n\r\n{body}\r\n"));
        let id = EnvelopeId::new("id 1=2").expect("printable");
        letter.message = MessageDsn { ret, envelope_id: Some(id) };
        let original = OriginalRecipient::new("rfc822", "First+Name@client.example").expect("printable");
        letter.recipients[0].1.original_recipient = Some(original);
        letter.send(&world).await;
        world.pass(5 * HOUR + HOUR / 2).await;
        let text = notifications(&world).concat();
        assert_eq!(text.contains(body), is_whole, "{does:?} {ret:?}: {text}");
        assert_eq!(text.contains("Content-Type: message/rfc822"), is_whole);
        assert!(text.contains("\nX-Mine: header\n") && text.contains("\nOriginal-Envelope-Id: id 1=2\n"), "{text}");
        assert!(text.contains("\nOriginal-Recipient: rfc822; First+Name@client.example\n"), "{text}");
    }
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q6; PRACTICES.md S19, S21
async fn q6_s19_s21_a_wish_is_no_permission() {
    let all = Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY);
    for (from, is_known, is_junk, reason) in [
        ("<>", true, false, "the reverse-path is null"),
        (SENDER, false, false, "the sender is not confirmed"),
        (SENDER, true, true, "the copy was taken for junk or set aside"),
    ] {
        for (does, count) in [(Does::Keep, 1), (Does::Accept, 1), (Does::Refuse, 1), (Does::Defer, 2)] {
            for recipient in ["a@one.example", "team@one.example"] {
                let world = world();
                world.hops.set("a@one.example", does);
                Letter { from, is_known, is_junk, ..Letter::to(recipient, all) }.send(&world).await;
                world.pass(6 * DAY).await;
                assert!(told(&world).is_empty() && world.queue.totals().notifications.taken == 0, "{does:?} {reason}");
                let withheld = world.events.count(&format!("withheld a@one.example: {reason}"));
                if recipient.starts_with('a') {
                    assert_eq!(withheld, count, "{does:?} {reason}: {:?}", world.events.all());
                } else {
                    assert_eq!(world.events.count(&format!("withheld {recipient}: {reason}")), 1, "{reason}");
                }
                world.assert_balanced();
            }
        }
    }
}

#[tokio::test(start_paused = true)] // RFC 3461 §5.2.7.1, §5.2.7.2
async fn r3461_an_alias_passes_wishes_on_and_success_is_told_once() {
    let all = Notify::SUCCESS | Notify::FAILURE | Notify::DELAY;
    for (recipient, notify, refuses, expected) in [
        ("team@one.example", Some(all), false, &["expanded team@one.example 2.0.0"][..]),
        ("team@one.example", Some(all), true, &["expanded team@one.example 2.0.0", "failed b@one.example 5.1.1"]),
        ("team@one.example", Some(Notify::SUCCESS), true, &["expanded team@one.example 2.0.0"]),
        ("team@one.example", Some(Notify::FAILURE), true, &["failed b@one.example 5.1.1"]),
        ("team@one.example", None, true, &["failed b@one.example 5.1.1"]),
        ("team@one.example", None, false, &[]),
        ("team@one.example", Some(Notify::NEVER), true, &[]),
        ("only@one.example", Some(all), false, &["delivered a@one.example 2.0.0"]),
    ] {
        let world = world();
        world.hops.otherwise(Does::Keep);
        if refuses {
            world.hops.set("b@one.example", Does::Refuse);
        }
        Letter::to(recipient, notify).send(&world).await;
        world.pass(DAY).await;
        let mut found = told(&world);
        found.sort();
        assert_eq!(found, expected, "{recipient} {notify:?}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)] // Large content lies in a file; its header section goes back all the same.
async fn r3461_a_large_message_to_an_alias_is_told_of_with_its_header_section() {
    let world = world();
    let mut letter = Letter::to("team@one.example", Some(Notify::SUCCESS));
    letter.content = Bytes::from(format!("X-Mine: header\r\n\r\n{}", "line\r\n".repeat(100_000)));
    letter.send(&world).await;
    world.pass(MINUTE).await;
    let text = notifications(&world).concat();
    assert!(text.contains("Action: expanded") && text.contains("\nX-Mine: header\n"), "{text}");
    assert!(text.contains("text/rfc822-headers") && text.len() < 4096);
}

#[tokio::test(start_paused = true)] // What was taken is not undone by trouble with what is told of it.
async fn a_store_that_fails_at_the_notification_of_an_alias_has_taken_the_message() {
    let spool = FaultySpool::new();
    let world = World::over(Arc::new(spool.clone()), spool.inner.clone(), |builder| builder);
    spool.fail_second(Operation::Put, passing);
    Letter::to("team@one.example", Some(Notify::SUCCESS)).send(&world).await;
    world.pass(MINUTE).await;
    assert_eq!(world.events.count("store failed to keep a notification"), 1, "{:?}", world.events.all());
    assert_eq!((world.queue.totals().mail.delivered, told(&world).len()), (3, 0));
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // Two paths, one mailbox, one copy: nobody who asked is left out.
async fn of_paths_that_lead_to_one_mailbox_what_any_asked_for_is_told() {
    let (success, never) = (Some(Notify::SUCCESS), Some(Notify::NEVER));
    for (first, second, does, expected) in [
        (never, None, Does::Refuse, &["failed a@one.example 5.1.1"][..]),
        (None, never, Does::Refuse, &["failed a@one.example 5.1.1"]),
        (never, success, Does::Keep, &["delivered a@one.example 2.0.0"]),
        (None, success, Does::Keep, &["delivered a@one.example 2.0.0"]),
        (None, success, Does::Refuse, &["failed a@one.example 5.1.1"]),
        (never, never, Does::Refuse, &[]),
        (success, never, Does::Refuse, &[]),
    ] {
        let world = world();
        world.hops.set("a@one.example", does);
        Letter::to("a@one.example", first).and("only@one.example", second).send(&world).await;
        world.pass(DAY).await;
        assert_eq!(told(&world), expected, "{first:?} {second:?}");
        assert_eq!(world.hops.times("a@one.example").len(), 1);
    }
}

#[tokio::test(start_paused = true)] // What is written into the record is what a restart finds.
async fn r3461a_wishes_survive_a_restart() {
    let spool = Arc::new(MemorySpool::new());
    let world = World::over(spool.clone(), spool.clone(), |builder| builder);
    world.hops.otherwise(Does::Defer);
    Letter::to("a@one.example", Some(Notify::SUCCESS)).and("b@one.example", Some(Notify::NEVER)).send(&world).await;
    world.pass(MINUTE).await;
    world.queue.shutdown(MINUTE).await;
    spool.reopen();
    let again = World::over(spool.clone(), spool, |builder| builder.clock(world.clock.clone()));
    again.hops.otherwise(Does::Keep);
    again.pass(DAY).await;
    assert_eq!(told(&again), ["delivered a@one.example 2.0.0"]);
}
