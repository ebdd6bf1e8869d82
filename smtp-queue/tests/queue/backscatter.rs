//! Forged mail that fails after it was accepted: nobody hears of it but the log (PRACTICES.md S19, S21; SECURITY.md D-16, T24).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use smtp_core::{
    ClientConfig, ClientConnection, Content, Disposition, Envelope, MailboxTable, Policy, PolicyContext, Refusal,
    Server, Stages, Verdict, async_trait,
};
use smtp_queue::{Attempt, MemorySpool, Outcome, Queue, Spool, VirtualClock};

use crate::support::*;

const TABLE: &str = "refused@one.example\nwaits@two.example\njunk@one.example\naside@one.example\ntaken@one.example\n\
    list@one.example refused@one.example taken@one.example waits@two.example\n";

/// Recipients, and how often each is written to: those that wait take the most attempts.
const RECIPIENTS: [&str; 12] = [
    "refused@one.example",
    "refused@one.example",
    "refused@one.example",
    "list@one.example",
    "junk@one.example",
    "aside@one.example",
    "taken@one.example",
    "unknown@one.example",
    "refused@one.example",
    "waits@two.example",
    "refused@one.example",
    "refused@one.example",
];

/// How many messages come: 2,000, or as many as `FORGED_MESSAGES` says. T24 wants 100,000.
fn messages() -> usize {
    std::env::var("FORGED_MESSAGES").ok().and_then(|number| number.parse().ok()).unwrap_or(2000)
}

/// Takes some for junk, and vouches for nobody.
struct Judge;

#[async_trait]
impl Policy for Judge {
    fn name(&self) -> &'static str {
        "judge"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, _: &Content) -> Verdict {
        let recipients = cx.transaction().map(|transaction| transaction.recipients().to_vec()).unwrap_or_default();
        for (place, recipient) in recipients.iter().enumerate() {
            match recipient.path().local_part() {
                "junk" => cx.dispose(place, Disposition::Junk),
                "aside" => cx.dispose(place, Disposition::Quarantine("doubtful".into())),
                _ => {}
            }
        }
        Verdict::Continue
    }
}

#[tokio::test(start_paused = true)] // SECURITY.md D-16, T24; PRACTICES.md S17, S19, S21
async fn d16_forged_mail_that_fails_makes_no_notification() {
    static TO_OTHERS: AtomicUsize = AtomicUsize::new(0);
    let transport = |attempt: Attempt| async move {
        let does = |mailbox: String| match mailbox.split_once('@') {
            Some(("refused" | "junk" | "aside", _)) => Refusal::permanent(1, 1, "Nobody").into(),
            Some(("waits", _)) => Refusal::transient(4, 1, "Later").into(),
            Some((_, "one.example")) => Outcome::delivered("Ok"),
            _ => {
                TO_OTHERS.fetch_add(1, Ordering::Relaxed);
                Outcome::delivered("Ok")
            }
        };
        attempt.recipients().map(|recipient| does(recipient.mailbox.to_string())).collect()
    };
    let (spool, events) = (Arc::new(MemorySpool::new()), Events::default());
    let queue = Queue::builder(spool.clone(), "mx.example.org".parse().expect("a name"), ByDomain(Arc::new(transport)))
        .observer(Arc::new(events.clone()))
        .clock(VirtualClock::starting_at(start_time()))
        .seed(1)
        .start();
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse(TABLE).expect("a table"))
        .policy(Judge)
        .deliver(queue.clone())
        .listen("127.0.0.1:0")
        .await
        .expect("it listens");
    let (messages, mut taken, mut waiting) = (messages(), 0, 0);
    let config = ClientConfig::new("client.example").expect("a name");
    for session in (0..messages).step_by(500) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let address = |text: &str| text.parse().expect("an address");
        let talk = async {
            let mut connection = ClientConnection::over(ours, &config).await.expect("it greets");
            for number in session..(session + 500).min(messages) {
                // One of thirty waits until it is given up after five days.
                let number_of_recipient = if number % 30 == 9 { 9 } else { (number % RECIPIENTS.len()).min(8) };
                let recipient = RECIPIENTS[number_of_recipient];
                let from = if number % 7 == 0 { "<>".to_owned() } else { format!("<forged{number}@victim.example>") };
                let envelope = Envelope::parse(from, [recipient]).expect("paths");
                let content = Bytes::from_static(b"From: <forged@victim.example>\r\n\r\nx\r\n");
                let said = connection.send(&envelope, content).await;
                assert_eq!(said.is_delivered(), !recipient.starts_with("unknown"), "{recipient}: {said:?}");
                taken += usize::from(said.is_delivered());
                waiting += usize::from(recipient.starts_with("waits") || recipient.starts_with("list"));
            }
            connection.quit().await;
        };
        tokio::join!(talk, server.serve_connection(theirs, address("192.0.2.1:1"), address("192.0.2.25:25")));
    }
    for _ in 0..12 {
        tokio::time::sleep(DAY / 2).await;
    }
    let totals = queue.totals();
    assert_eq!((totals.difference(), spool.totals().messages), (0, 0), "all is over: {totals:?}");
    assert!(taken > messages / 2 && waiting > 0);
    assert_eq!(events.count("expired"), waiting, "those that waited were given up");
    assert!(events.count("failed") > messages / 3);
    assert_eq!(events.count("notification"), 0);
    assert_eq!(TO_OTHERS.load(Ordering::Relaxed), 0, "nothing was sent to anybody whose name was forged");
    assert!(events.count("withheld") > messages / 3, "the log says why nobody was told");
}

#[tokio::test(start_paused = true)] // PRACTICES.md S17: "dictionary run of 10,000 recipients: zero DSNs"
async fn s17_a_dictionary_of_ten_thousand_names_is_refused_at_rcpt_and_makes_no_notification() {
    let world = World::new();
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse(TABLE).expect("a table"))
        .deliver(world.queue.clone())
        .listen("127.0.0.1:0")
        .await
        .expect("it listens");
    let config = ClientConfig::new("client.example").expect("a name");
    // A session ends after 20 unknown recipients (SECURITY.md D-19).
    for session in 0..500 {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let address = |text: &str| text.parse().expect("an address");
        let talk = async {
            let mut connection = ClientConnection::over(ours, &config).await.expect("it greets");
            let names: Vec<_> = (0..20).map(|name| format!("name{}@one.example", session * 20 + name)).collect();
            let envelope = Envelope::parse("forged@victim.example", &names).expect("paths");
            let said = connection.send(&envelope, Bytes::from_static(b"Subject: x\r\n\r\nx\r\n")).await;
            for result in said.recipients() {
                let reply = result.as_ref().err().and_then(|error| error.reply()).map(ToString::to_string);
                let reply = reply.unwrap_or_default();
                assert!(reply.starts_with("550 5.1.1 ") || reply.starts_with("421 4.7.0 "), "{reply}");
            }
            connection.quit().await;
        };
        tokio::join!(talk, server.serve_connection(theirs, address("192.0.2.1:1"), address("192.0.2.25:25")));
    }
    world.pass(6 * DAY).await;
    assert_eq!((world.queue.totals().mail.taken, world.hops.seen().len(), world.events.all().len()), (0, 0, 0));
}
