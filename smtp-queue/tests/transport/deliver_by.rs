//! The time that a message may take, on its way to a next hop (RFC 2852 §4.1.4).

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{
    Accepted, ByMode, ClientConfig, Delivery, Host, Listener, Mailbox, MailboxTable, Message, Notify, Refusal,
    ReversePath, Server, async_trait,
};
use smtp_queue::{Attempt, DeliverByTime, Envelope, Outcome, QueueId, SmtpTransport, StoredContent, Transport};

/// `BY=` and `NOTIFY=` of each message that came in.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

struct Hop {
    seen: Seen,
    deliver_by: bool,
    dsn: bool,
}

#[async_trait]
impl Delivery for Hop {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let by = message.parameters().deliver_by.map(|by| by.to_string()).unwrap_or_default();
        let notify = message.recipients()[0].dsn().notify.map(|notify| notify.to_string()).unwrap_or_default();
        self.seen.lock().expect("no panic").push((by, notify));
        Ok(Accepted::all())
    }

    fn honours_deliver_by(&self) -> bool {
        self.deliver_by
    }

    fn honours_dsn(&self) -> bool {
        self.dsn
    }
}

/// What a next hop gets to know of a message with such a time and wish, and the outcome.
async fn relayed(
    (deliver_by, dsn): (bool, bool),
    by: Option<DeliverByTime>,
    notify: Option<Notify>,
) -> (Vec<(String, String)>, Outcome) {
    let seen = Seen::default();
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse("bob@example.org").expect("a table"))
        .deliver(Hop { seen: seen.clone(), deliver_by, dsn })
        .listener(Listener::new("127.0.0.1:0").relay_for("127.0.0.0/8".parse().expect("a network")))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    let running = tokio::spawn(server.run());
    let name = Host::parse("mx.example.org").expect("a name");
    let transport = SmtpTransport::new(&name, [address], ClientConfig::new("client.example").expect("a name"));
    let sender = ReversePath::parse("<alice@client.example>").expect("a path");
    let mut envelope = Envelope::new(QueueId::from_u128(1), now(), sender)
        .with_recipient(Mailbox::parse("bob@example.org").expect("a mailbox"));
    envelope.deliver_by = by;
    envelope.recipients[0].dsn.notify = notify;
    let content = StoredContent::in_memory(Bytes::new(), Bytes::from("Subject: y\r\n\r\nx\r\n"));
    let attempt = Attempt::new(Arc::new(envelope), [0], content, "hop".into(), 1).with_time(now());
    let outcome = transport.deliver(attempt).await.remove(0);
    running.abort();
    let seen = seen.lock().expect("no panic").clone();
    (seen, outcome)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn in_an_hour(mode: ByMode, trace: bool) -> DeliverByTime {
    DeliverByTime { time: now() + Duration::from_secs(3600), mode, trace }
}

/// Seconds that are left, and the rest of the parameter.
fn split(by: &str) -> (i64, &str) {
    let (seconds, rest) = by.split_once(';').expect("a parameter");
    (seconds.parse().expect("a number"), rest)
}

#[tokio::test] // RFC 2852 §4.1.4: what is left, also where that is less than nothing.
async fn r2852_the_time_that_is_left_goes_to_a_next_hop_that_offers_it() {
    for (mode, trace, rest) in [(ByMode::Return, true, "RT"), (ByMode::Notify, false, "N")] {
        let (seen, outcome) = relayed((true, false), Some(in_an_hour(mode, trace)), None).await;
        let (seconds, said) = split(&seen[0].0);
        // The machine may have been slow.
        assert!((1..=3600).contains(&seconds) && said == rest, "{seen:?}");
        assert!(matches!(outcome, Outcome::PassedOn(_)), "{outcome:?}");
    }
    let past = DeliverByTime { time: now() - Duration::from_secs(5), mode: ByMode::Notify, trace: false };
    let (seen, _) = relayed((true, true), Some(past), Some(Notify::SUCCESS)).await;
    assert!(split(&seen[0].0).0 <= -5, "{seen:?}");
    assert_eq!(seen[0].1, "SUCCESS", "nothing is added where the time is kept");
    let (seen, outcome) = relayed((true, false), Some(in_an_hour(ByMode::Notify, false)), Some(Notify::SUCCESS)).await;
    assert_eq!(seen[0].1, "");
    assert!(matches!(outcome, Outcome::Relayed(_)), "nobody else tells of success: {outcome:?}");
}

#[tokio::test] // RFC 2852 §4.1.4.1: for good, and without a word about it.
async fn r2852_what_is_to_be_returned_goes_nowhere_else() {
    let past = Some(DeliverByTime { time: now(), mode: ByMode::Return, trace: false });
    for (offers, by, status) in
        [((false, true), Some(in_an_hour(ByMode::Return, false)), "5.3.3"), ((true, true), past, "5.4.7")]
    {
        let (seen, outcome) = relayed(offers, by, None).await;
        assert_eq!(seen, []);
        let Outcome::Failed(diagnosis) = outcome else { panic!("{outcome:?}") };
        assert_eq!(diagnosis.reply.status().map(|status| status.to_string()).as_deref(), Some(status));
    }
}

#[tokio::test] // RFC 2852 §4.1.4.2
async fn r2852_what_is_only_told_of_goes_anywhere_and_asks_to_hear_of_a_delay() {
    for (notify, expected) in [
        (None, "FAILURE,DELAY"),
        (Some(Notify::SUCCESS), "SUCCESS,DELAY"),
        (Some(Notify::NEVER), "NEVER"),
        (Some(Notify::DELAY), "DELAY"),
    ] {
        let (seen, outcome) = relayed((false, true), Some(in_an_hour(ByMode::Notify, false)), notify).await;
        assert_eq!(seen, [(String::new(), expected.to_owned())], "{notify:?}");
        assert!(matches!(outcome, Outcome::Relayed(_)), "{outcome:?}");
    }
    let (seen, outcome) = relayed((true, true), None, None).await;
    assert_eq!(seen, [(String::new(), String::new())], "without a time nothing changes");
    assert!(matches!(outcome, Outcome::PassedOn(_)), "{outcome:?}");
}
