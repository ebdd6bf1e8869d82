//! No way leads from content that was judged bad to a notification, whatever becomes of it, however it was asked for
//! (PRACTICES.md S19, S33).

use std::sync::Arc;

use bytes::Bytes;
use smtp_core::{
    ClientConfig, ClientConnection, Content, Disposition, DsnOffer, Envelope, Listener, MailboxTable, MessageDsn,
    Notify, Policy, PolicyContext, RecipientDsn, Server, Stages, Verdict, async_trait,
};
use smtp_queue::{MemorySpool, Quarantine, QuarantineSettings, Queue, VirtualClock};

use crate::support::*;

/// Each path leads to mailboxes of its own, so that a notification shows which one it is about.
const PATHS: [&str; 6] = [
    "ada@one.example",
    "ben@one.example",
    "cyd@two.example",
    "dan@two.example",
    "list@one.example",
    "only@two.example",
];
const TABLE: &str = "ada@one.example\nben@one.example\ncyd@two.example\ndan@two.example\n\
    list@one.example eve@one.example fay@two.example\nonly@two.example gus@two.example\n";
const MAILBOXES: [(&str, &str); 3] = [
    ("list@one.example", "eve@one.example"),
    ("list@one.example", "fay@two.example"),
    ("only@two.example", "gus@two.example"),
];
const SENDER: &str = "alice@client.example";

/// xorshift64*: the same worlds each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("few")]
    }
}

/// Disposes of each recipient as it was told, and vouches for the sender: what follows is no matter of forged addresses.
struct Judge(Vec<Disposition>);

#[async_trait]
impl Policy for Judge {
    fn name(&self) -> &'static str {
        "judge"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, _: &Content) -> Verdict {
        for (place, disposition) in self.0.iter().enumerate() {
            cx.dispose(place, disposition.clone());
        }
        cx.confirm_sender();
        Verdict::Continue
    }
}

async fn send(queue: &Queue, recipients: &[(&str, Option<Notify>)], dispositions: Vec<Disposition>) {
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse(TABLE).expect("a table"))
        .policy(Judge(dispositions))
        .deliver(queue.clone())
        .listener(Listener::new("127.0.0.1:0").dsn(DsnOffer::Everybody))
        .bind()
        .await
        .expect("it listens");
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let address = |text: &str| text.parse().expect("an address");
    let session = server.serve_connection(theirs, address("192.0.2.7:4000"), address("192.0.2.1:25"));
    let talk = async {
        let config = ClientConfig::new("client.example").expect("a name");
        let mut connection = ClientConnection::over(ours, &config).await.expect("it greets");
        let wishes = recipients.iter().map(|(_, notify)| RecipientDsn { notify: *notify, original_recipient: None });
        let envelope = Envelope::parse(SENDER, recipients.iter().map(|(path, _)| *path)).expect("paths");
        let envelope = envelope.with_dsn(MessageDsn::default(), wishes);
        let report = connection.send(&envelope, Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n")).await;
        assert!(report.recipients().iter().all(Result::is_ok), "{report:?}");
        connection.quit().await;
    };
    tokio::join!(talk, session);
}

/// What an operator may do, to the first thing that there is.
async fn operate(queue: &Queue, random: &mut Random) {
    let listed = queue.list(None, 10).await.expect("it answers");
    if let Some(message) = listed.first() {
        let id = message.id;
        match random.below(8) {
            0 => drop(queue.hold(id).await.expect("it works")),
            1 | 2 => drop(queue.release(id).await.expect("it works")),
            3 | 4 => drop(queue.retry(id).await.expect("it works")),
            5 => drop(queue.remove(id).await.expect("it works")),
            _ => {}
        }
    }
    let aside = queue.quarantine().expect("there is one").list(None, 10).await.expect("it answers");
    if let Some(entry) = aside.first() {
        match random.below(4) {
            0 | 1 => drop(queue.release_quarantined(entry.id).await.expect("it works")),
            2 => drop(queue.remove_quarantined(entry.id).await.expect("it works")),
            _ => {}
        }
    }
}

/// A world by its number: how many notifications about good copies there were, and whether one was about a bad one.
async fn live(seed: u64) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (spool, aside) = (Arc::new(MemorySpool::new()), Arc::new(MemorySpool::new()));
    let (hops, events, clock) = (Hops::new(), Events::default(), VirtualClock::starting_at(start_time()));
    let start = async || {
        let quarantine = Quarantine::open(aside.clone(), QuarantineSettings::default()).await.expect("it opens");
        Queue::builder(spool.clone(), "mx.example.org".parse().expect("a name"), ByDomain(hops.clone()))
            .observer(Arc::new(events.clone()))
            .clock(clock.clone())
            .quarantine(quarantine)
            .seed(seed)
            .start()
    };
    let does =
        [Does::Accept, Does::PassOn, Does::Keep, Does::Defer, Does::Refuse, Does::NotThere, Does::Panic, Does::Nothing];
    let mailboxes = || PATHS.into_iter().chain(MAILBOXES.map(|(_, mailbox)| mailbox));
    let mut queue = start().await;
    let mut bad = Vec::new();
    let mut recipients = Vec::new();
    let mut dispositions = Vec::new();
    for path in PATHS {
        let wishes = [None, Some(Notify::NEVER), Some(Notify::SUCCESS), Some(Notify::FAILURE), Some(Notify::DELAY)];
        let all = Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY);
        recipients.push((path, if random.below(2) == 0 { all } else { random.of(&wishes) }));
        dispositions.push(match random.below(4) {
            0 => Disposition::Junk,
            1 => Disposition::Quarantine("bad".into()),
            2 => Disposition::Discard("worse".into()),
            _ => Disposition::Deliver,
        });
        if dispositions.last() != Some(&Disposition::Deliver) {
            bad.push(path);
            bad.extend(MAILBOXES.iter().filter(|(alias, _)| *alias == path).map(|(_, mailbox)| *mailbox));
        }
    }
    for mailbox in mailboxes() {
        hops.set(mailbox, random.of(&does));
    }
    send(&queue, &recipients, dispositions).await;
    // Five days of attempts, and what was released at the end has five more.
    for _ in 0..40 {
        tokio::time::sleep(HOUR * u32::try_from(1 + random.below(8)).expect("few")).await;
        operate(&queue, &mut random).await;
        hops.set(random.of(&mailboxes().collect::<Vec<_>>()), random.of(&does));
        if random.below(8) == 0 {
            queue.shutdown(MINUTE).await;
            queue = start().await;
        }
    }
    for mailbox in mailboxes() {
        hops.set(mailbox, random.of(&[Does::Refuse, Does::Defer, Does::Keep]));
    }
    for message in queue.list(None, 100).await.expect("it answers") {
        queue.release(message.id).await.expect("it works");
    }
    tokio::time::sleep(12 * DAY).await;
    let notifications: Vec<_> = hops.seen().into_iter().filter(|seen| seen.recipients == [SENDER]).collect();
    for notification in &notifications {
        assert_eq!(notification.reverse_path, "<>", "seed {seed}");
        let text = String::from_utf8_lossy(&notification.octets);
        for mailbox in &bad {
            assert!(!text.contains(mailbox), "seed {seed}: {mailbox} was judged bad, and yet: {text}");
        }
    }
    for event in events.all().iter().filter(|event| event.starts_with("notification to ")) {
        assert!(!bad.iter().any(|mailbox| event.contains(mailbox)), "seed {seed}: {event}");
    }
    notifications.len()
}

#[tokio::test(start_paused = true)] // PRACTICES.md S19, S33; SECURITY.md D-16
async fn s19_no_way_leads_from_bad_content_to_a_notification() {
    let mut notifications = 0;
    for seed in 0..150 {
        notifications += live(seed).await;
    }
    // The law means something: of the good copies senders were told.
    assert!(notifications > 100, "{notifications}");
}
