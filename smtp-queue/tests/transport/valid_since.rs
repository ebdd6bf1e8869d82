//! Mail for a mailbox that must still have the owner whom the sender knows, on its way to a next hop that can check that and
//! to one that cannot (STANDARDS.md R7293; RFC 7293 §5.1.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, ClientConnection, Domain, ForwardPath, Host, Listener, Mailbox, MailboxTable, Message,
    Notify, ReversePath, Server, ValidSince,
};
use smtp_queue::{
    Attempt, Envelope, MemorySpool, Outcome, Queue, QueueId, Route, Routing, SmtpTransport, StoredContent, Transport,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

const SINCE: &str = "2014-04-03T23:01:00Z";

fn wish(text: &str) -> ValidSince {
    ValidSince::parse(text).expect("in the grammar")
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("a mailbox")
}

fn at(text: &str) -> SystemTime {
    wish(text).time()
}

fn config() -> ClientConfig {
    ClientConfig::new("client.example").expect("a name")
}

/// Who was given a message, and under which demand.
type Given = Vec<(String, Option<ValidSince>)>;

/// A next hop with some mailboxes; where it has dates `old` has had its owner since 2010, `new` since 2020.
async fn hop(has_dates: bool) -> (SocketAddr, UnboundedReceiver<Given>) {
    let table = MailboxTable::parse("old@example.org\nnew@example.org\nother@example.org").expect("a table");
    let table = if has_dates {
        let table = table.with_owner_since(&mailbox("old@example.org"), at("2010-01-01T00:00:00Z"));
        table.with_owner_since(&mailbox("new@example.org"), at("2020-01-01T00:00:00Z"))
    } else {
        table
    };
    let (given, receives) = unbounded_channel();
    let server = Server::builder("hop.example")
        .local_domain("example.org")
        .recipients(table)
        .deliver(move |message: Message| {
            let recipients = message.recipients().iter().map(|to| (to.to_string(), to.valid_since()));
            let _ = given.send(recipients.collect());
            async { Ok(Accepted::all()) }
        })
        .listen("127.0.0.1:0")
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    (address, receives)
}

fn transport(hop: SocketAddr) -> SmtpTransport {
    SmtpTransport::new(&Host::parse("hop.example").expect("a name"), [hop], config())
}

/// An attempt for these, and what came of it: `failed 5.7.17`.
async fn outcomes(hop: SocketAddr, recipients: &[(&str, Option<&str>, Option<Notify>)]) -> Vec<String> {
    let sender = ReversePath::parse("<a@client.example>").expect("a path");
    let mut envelope = Envelope::new(QueueId::from_u128(1), UNIX_EPOCH, sender);
    for (to, since, notify) in recipients {
        envelope = envelope.with_recipient(mailbox(&format!("{to}@example.org")));
        let recipient = envelope.recipients.last_mut().expect("just added");
        recipient.valid_since = since.map(wish);
        recipient.dsn.notify = *notify;
    }
    let content = StoredContent::in_memory(Bytes::new(), Bytes::from("Subject: y\r\n\r\nbody\r\n"));
    let all = 0..u32::try_from(recipients.len()).expect("few");
    let attempt = Attempt::new(Arc::new(envelope), all, content, "hop".into(), 1);
    let words = |outcome: &Outcome| match outcome {
        Outcome::Relayed(_) => "relayed".to_owned(),
        Outcome::Failed(why) => {
            format!("failed {}", why.reply.status().map(|status| status.to_string()).unwrap_or_default())
        }
        other => format!("{other:?}"),
    };
    transport(hop).deliver(attempt).await.iter().map(words).collect()
}

#[tokio::test] // §5.1.1: rather not at all than to somebody else, unless the sender said that it may go on.
async fn r7293_a_recipient_fails_where_nobody_can_be_asked() {
    let may_go_on = "2014-04-03T23:01:00Z;C";
    let all =
        [("old", Some(SINCE), None), ("new", Some(SINCE), None), ("other", Some(may_go_on), None), ("new", None, None)];
    let (address, mut receives) = hop(true).await;
    assert_eq!(outcomes(address, &all).await, ["relayed", "failed 5.7.17", "failed 5.7.19", "relayed"]);
    let given = receives.recv().await.expect("a message");
    // The hop checked it.
    let expected = [("<old@example.org>", Some(wish(may_go_on))), ("<new@example.org>", None)];
    assert_eq!(given, expected.map(|(to, wish)| (to.to_owned(), wish)));

    let (address, mut receives) = hop(false).await;
    assert_eq!(outcomes(address, &all).await, ["failed 5.7.19", "failed 5.7.19", "relayed", "relayed"]);
    let given = receives.recv().await.expect("a message");
    let to: Vec<_> = given.iter().map(|(to, _)| to.as_str()).collect();
    assert_eq!(to, ["<other@example.org>", "<new@example.org>"]);
}

#[tokio::test] // What cannot be sent for one is no reason for those who go in another transaction.
async fn r7293_who_demands_nothing_does_not_fail_with_who_does() {
    let (address, _receives) = hop(false).await;
    let never = Some(Notify::NEVER);
    let all = [("old", Some(SINCE), None), ("other", None, never), ("new", Some(SINCE), None)];
    assert_eq!(outcomes(address, &all).await, ["failed 5.7.19", "relayed", "failed 5.7.19"]);
}

#[tokio::test] // From a client that may relay, through the queue, to a hop that checks.
async fn r7293_the_queue_carries_it() {
    let (hop, mut receives) = hop(true).await;
    let hostname = Domain::parse("mx.example.org").expect("a name");
    let routing = Routing::new(Route::new("hop", transport(hop)));
    let queue = Queue::builder(Arc::new(MemorySpool::new()), hostname, routing).start();
    let here = MailboxTable::parse("me@example.net").expect("a table");
    let server = Server::builder("mx.example.net")
        .local_domain("example.net")
        .recipients(here.with_owner_since(&mailbox("me@example.net"), UNIX_EPOCH))
        .deliver(queue.clone())
        .listener(Listener::new("127.0.0.1:0").relay_for("127.0.0.0/8".parse().expect("a network")))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    let mut client = ClientConnection::connect(address, &config()).await.expect("it greets");
    assert!(client.offers().rrvs());
    let recipients = ["old@example.org", "old@example.org", "new@example.org"];
    let envelope = smtp_core::Envelope::new(
        ReversePath::parse("<a@client.example>").expect("a path"),
        recipients.map(|to| ForwardPath::Mailbox(mailbox(to))),
    );
    // The same mailbox twice: both demands hold for the one copy.
    let envelope =
        envelope.with_valid_since([Some(wish("2015-01-01T00:00:00Z")), Some(wish("2014-04-03T23:01:00Z;C"))]);
    let report = client.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
    assert!(report.is_delivered(), "{report:?}");
    let given = timeout(Duration::from_secs(60), receives.recv()).await.expect("it is passed on");
    let expected = [("<old@example.org>", Some(wish(SINCE).or_continue())), ("<new@example.org>", None)];
    assert_eq!(given, Some(expected.map(|(to, wish)| (to.to_owned(), wish)).to_vec()));
    queue.shutdown(Duration::from_secs(1)).await;
}
