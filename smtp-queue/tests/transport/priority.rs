//! The priority of a message on its way to a next hop (RFC 6710 §4.2, §4.3).

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, Delivery, Host, Listener, Mailbox, MailboxTable, Message, Priority, Refusal, ReversePath,
    Server, async_trait,
};
use smtp_queue::{Attempt, Envelope, QueueId, SmtpTransport, StoredContent, Transport};

/// What each message that came in said of its priority.
type Seen = Arc<Mutex<Vec<Option<i8>>>>;

struct Hop {
    seen: Seen,
    honours: bool,
}

#[async_trait]
impl Delivery for Hop {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.seen.lock().expect("no panic").push(message.parameters().priority.map(Priority::get));
        Ok(Accepted::all())
    }

    fn honours_priority(&self) -> bool {
        self.honours
    }
}

/// What a next hop that offers `MT-PRIORITY`, or does not, gets to know of messages with these priorities.
async fn relayed(honours: bool, priorities: &[i8]) -> Vec<Option<i8>> {
    let seen = Seen::default();
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let server = Server::builder("mx.example.org")
        .recipients(MailboxTable::parse("bob@example.org").expect("a table"))
        .deliver(Hop { seen: seen.clone(), honours })
        .listener(Listener::new("127.0.0.1:0").relay_for(loopback))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    let running = tokio::spawn(server.run());
    let name = Host::parse("mx.example.org").expect("a name");
    let transport = SmtpTransport::new(&name, [address], ClientConfig::new("client.example").expect("a name"));
    for (number, priority) in (1..).zip(priorities) {
        let mut envelope = Envelope::new(QueueId::from_u128(number), SystemTime::UNIX_EPOCH, ReversePath::Null)
            .with_recipient(Mailbox::parse("bob@example.org").expect("a mailbox"));
        envelope.priority = Priority::new(*priority).expect("from -9 to 9");
        let content = StoredContent::in_memory(Bytes::new(), Bytes::from("Subject: y\r\n\r\nx\r\n"));
        let outcomes = transport.deliver(Attempt::new(Arc::new(envelope), [0], content, "hop".into(), 1)).await;
        assert!(outcomes.iter().all(smtp_queue::Outcome::is_success), "{outcomes:?}");
    }
    running.abort();
    seen.lock().expect("no panic").clone()
}

#[tokio::test] // RFC 6710 §4.2: it goes along, also where it is the normal one; §4.3: elsewhere the message goes without.
async fn r6710_the_priority_goes_to_a_next_hop_that_offers_it() {
    assert_eq!(relayed(true, &[9, 0, -9]).await, [Some(9), Some(0), Some(-9)]);
    assert_eq!(relayed(false, &[9, 0, -9]).await, [None; 3]);
}
