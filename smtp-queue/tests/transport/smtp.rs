//! Relaying to a next hop over real connections on loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, Connection, Limits, Mailbox, MailboxTable, Message, Observer, Refusal, ReversePath, Server,
    SessionEvent,
};
use smtp_queue::{
    Attempt, Envelope, Outcome, QueueId, SmtpSettings, SmtpTransport, SourcePool, StoredContent, Transport,
};

/// Counts connections.
#[derive(Default, Clone)]
struct Connections(Arc<AtomicUsize>);

impl Observer for Connections {
    fn session(&self, _: &Connection, event: &SessionEvent) {
        if matches!(event, SessionEvent::Connected) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Who each message was for, and its octets.
type Messages = Arc<Mutex<Vec<(Vec<String>, Vec<u8>)>>>;

struct Hop {
    address: SocketAddr,
    connections: Connections,
    messages: Messages,
}

/// A next hop that takes mail for `example.org`, but not for `nobody`.
async fn hop(limits: Limits) -> Hop {
    let connections = Connections::default();
    let messages = Messages::default();
    let kept = messages.clone();
    let table: Vec<_> = (0..300).map(|number| format!("user{number}@example.org")).collect();
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse(&table.join("\n")).expect("a table"))
        .deliver(move |message: Message| {
            let kept = kept.clone();
            async move {
                let recipients = message.recipients().iter().map(ToString::to_string).collect();
                let content = message.content().to_bytes().map_err(|_| Refusal::transient(3, 0, "No"))?;
                kept.lock().expect("no panic").push((recipients, content.to_vec()));
                Ok(Accepted::all())
            }
        })
        .limits(limits)
        .observer(connections.clone())
        .listen("127.0.0.1:0")
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    Hop { address, connections, messages }
}

fn transport(addresses: &[SocketAddr], change: impl FnOnce(&mut SmtpSettings)) -> SmtpTransport {
    let mut settings = SmtpSettings::default();
    change(&mut settings);
    let config = ClientConfig::new("client.example").expect("a name");
    let name = smtp_core::Host::parse("mx.example.org").expect("a name");
    SmtpTransport::new(&name, addresses.iter().copied(), config).with_settings(&settings)
}

fn attempt(recipients: &[&str]) -> Attempt {
    let sender = ReversePath::parse("<alice@client.example>").expect("in the grammar");
    let mut envelope = Envelope::new(QueueId::from_u128(1), SystemTime::UNIX_EPOCH, sender);
    for recipient in recipients {
        envelope = envelope.with_recipient(Mailbox::parse(recipient).expect("in the grammar"));
    }
    let content = StoredContent::in_memory(Bytes::from("Received: x\r\n"), Bytes::from("Subject: y\r\n\r\n.dot\r\n"));
    let all = 0..u32::try_from(recipients.len()).expect("few");
    Attempt::new(Arc::new(envelope), all, content, "hop".into(), 1)
}

#[tokio::test]
async fn each_recipient_has_its_own_outcome() {
    let hop = hop(Limits::default()).await;
    let transport = transport(&[hop.address], |_| {});
    let outcomes = transport
        .deliver(attempt(&["user1@example.org", "nobody@example.org", "user2@example.org", "a@other.example"]))
        .await;
    let words: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let word = match outcome {
                outcome if outcome.is_success() => "delivered",
                Outcome::Deferred(_) => "deferred",
                Outcome::Failed(_) => "failed",
                _ => "unknown",
            };
            (word, outcome.diagnosis().reply.code().get())
        })
        .collect();
    assert_eq!(words, [("delivered", 250), ("failed", 550), ("delivered", 250), ("failed", 550)]);
    for outcome in &outcomes {
        let remote = outcome.diagnosis().remote.as_ref().expect("the next hop said it");
        assert_eq!(remote.as_str(), "mx.example.org [127.0.0.1]");
    }
    let messages = hop.messages.lock().expect("no panic").clone();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].0, ["<user1@example.org>", "<user2@example.org>"]);
    assert!(messages[0].1.ends_with(b"Received: x\r\nSubject: y\r\n\r\n.dot\r\n"));
}

#[tokio::test] // STANDARDS.md Q12
async fn q12_a_connection_serves_a_hundred_messages() {
    let hop = hop(Limits::default()).await;
    // Long enough for a slow machine.
    let transport = transport(&[hop.address], |settings| settings.connections.idle_timeout = Duration::from_secs(600));
    for _ in 0..250 {
        assert!(transport.deliver(attempt(&["user1@example.org"])).await[0].is_final());
    }
    assert_eq!(hop.connections.0.load(Ordering::Relaxed), 3, "100 and 100 and 50");
    assert_eq!(hop.messages.lock().expect("no panic").len(), 250);
}

#[tokio::test] // STANDARDS.md Q12
async fn q12_what_is_idle_or_old_is_not_used_again() {
    for idle in [true, false] {
        let hop = hop(Limits::default()).await;
        let transport = transport(&[hop.address], |settings| {
            let short = if idle {
                &mut settings.connections.idle_timeout
            } else {
                &mut settings.connections.connection_lifetime
            };
            *short = Duration::from_millis(1);
        });
        for _ in 0..3 {
            transport.deliver(attempt(&["user1@example.org"])).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(hop.connections.0.load(Ordering::Relaxed), 3, "idle: {idle}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_server_ended_is_replaced() {
    let mut limits = Limits::default();
    limits.transactions = 1;
    let hop = hop(limits).await;
    let transport = transport(&[hop.address], |settings| settings.connections.idle_timeout = Duration::from_secs(600));
    for _ in 0..4 {
        let outcomes = transport.deliver(attempt(&["user1@example.org"])).await;
        assert!(outcomes[0].is_success(), "{outcomes:?}");
    }
    assert_eq!(hop.messages.lock().expect("no panic").len(), 4, "each once");
}

#[tokio::test] // RFC 5321 §4.5.3.1.10: who is too many comes in the next transaction.
async fn too_many_recipients_are_sent_in_several_transactions() {
    let mut limits = Limits::default();
    limits.recipients = 100;
    let hop = hop(limits).await;
    let names: Vec<String> = (0..250).map(|n| format!("user{n}@example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outcomes =
        transport(&[hop.address], |settings| settings.recipients_limit = 1000).deliver(attempt(&names)).await;
    assert_eq!(outcomes.len(), 250);
    assert!(outcomes.iter().all(Outcome::is_success), "{outcomes:?}");
    let mut reached: Vec<_> = hop.messages.lock().expect("no panic").iter().flat_map(|(to, _)| to.clone()).collect();
    reached.sort();
    reached.dedup();
    assert_eq!(reached.len(), 250);
}

#[tokio::test] // The other transactions would meet the same, and each would wait for it.
async fn a_server_that_says_nothing_is_not_asked_for_the_rest() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let to = ["user1@example.org", "user2@example.org", "user3@example.org"];
    let outcomes = transport(&[address], |settings| settings.recipients_limit = 1).deliver(attempt(&to)).await;
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deferred(_))), "{outcomes:?}");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test] // STANDARDS.md Q10, R1123
async fn q10_a_host_that_is_down_defers_and_another_is_tried() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("it listens");
        listener.local_addr().expect("an address")
    };
    let outcomes = transport(&[nobody], |_| {}).deliver(attempt(&["user1@example.org", "user2@example.org"])).await;
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert!(matches!(&outcome, Outcome::Deferred(diagnosis) if diagnosis.remote.is_none()), "{outcome:?}");
        assert!(outcome.diagnosis().reply.to_string().starts_with("451 4.4.1 "), "{outcome:?}");
    }
    let hop = hop(Limits::default()).await;
    let outcomes = transport(&[nobody, hop.address], |_| {}).deliver(attempt(&["user1@example.org"])).await;
    assert!(outcomes[0].is_success(), "{outcomes:?}");
}

#[tokio::test] // PRACTICES S7, S32b
async fn s7_s32b_a_message_is_tried_from_one_address_of_the_pool_and_under_its_name() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let clients = seen.clone();
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse("user1@example.org").expect("a table"))
        .deliver(move |message: Message| {
            let client = message.connection();
            let name = client.greeting().map(|greeting| greeting.host().to_string()).unwrap_or_default();
            clients.lock().expect("no panic").push((client.peer().ip().to_string(), name));
            async { Err::<Accepted, _>(Refusal::transient(7, 1, "Greylisted")) }
        })
        .listen("127.0.0.1:0")
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    let name = |name: &str| smtp_core::Host::parse(name).expect("a name");
    let pool = (1..=3u8).fold(SourcePool::new(), |pool, number| {
        pool.with([127, 0, 1, number].into(), name(&format!("out{number}.example.org")))
    });
    let mut used = std::collections::BTreeSet::new();
    for destination in ["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"] {
        for _ in 0..100 {
            // As after a restart: nothing is remembered, no connection is left.
            let config = pool.config_for(destination, ClientConfig::new("mx.client.example").expect("a name"));
            let transport = SmtpTransport::new(&name(destination), [address], config);
            assert!(matches!(transport.deliver(attempt(&["user1@example.org"])).await[0], Outcome::Deferred(_)));
        }
        let attempts = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert_eq!(attempts.len(), 100);
        assert!(attempts.iter().all(|attempt| *attempt == attempts[0]), "{destination}");
        let (address, greeting) = &attempts[0];
        assert_eq!(*greeting, format!("out{}.example.org", address.rsplit('.').next().unwrap_or_default()));
        used.insert(address.clone());
    }
    assert!(used.len() > 1, "{used:?}");
}
