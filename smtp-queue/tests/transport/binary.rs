//! A binary message from a client through the queue: on as it is, or not at all (STANDARDS.md R3030b; RFC 3030 §3).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use smtp_core::{
    Accepted, Body, ClientConfig, ClientConnection, Delivery, Host, Listener, Mailbox, Message, Refusal, Server,
    async_trait,
};
use smtp_queue::{MemorySpool, Queue, Route, Router, SmtpTransport};

/// Every octet, and what would be an end by `DATA`.
fn content() -> Vec<u8> {
    let all: Vec<u8> = (0..=255).collect();
    [b"Subject: binary\r\nContent-Transfer-Encoding: binary\r\n\r\n.\r\n\n.\n\r", &all[..]].concat()
}

/// What `BODY=` said, and the content.
type Received = (Option<Body>, Bytes);

/// Takes everything, and binary messages where it says so.
#[derive(Clone)]
struct Hop {
    takes_binary: bool,
    received: Arc<Mutex<Vec<Received>>>,
}

#[async_trait]
impl Delivery for Hop {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let content = message.content().to_bytes().expect("readable");
        self.received.lock().expect("no panic").push((message.parameters().body, content));
        Ok(Accepted::all())
    }

    fn honours_binarymime(&self) -> bool {
        self.takes_binary
    }
}

/// All mail goes there.
struct ToHop(SmtpTransport);

impl Router for ToHop {
    fn route(&self, _: &Mailbox) -> Route {
        Route::new("hop", self.0.clone())
    }

    fn site(&self, name: &str) -> Option<Route> {
        Some(Route::new(name, self.0.clone()))
    }
}

async fn listen(delivery: impl Delivery + 'static) -> SocketAddr {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .deliver(delivery)
        .listener(Listener::new("127.0.0.1:0").relay_for(loopback))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    address
}

/// What the next hop has got, once it has got something.
async fn relayed(takes_binary: bool) -> Received {
    let hop = Hop { takes_binary, received: Arc::default() };
    let address = listen(hop.clone()).await;
    let name = Host::parse("hop.example.org").expect("a name");
    let config = ClientConfig::new("mx.example.org").expect("a name");
    let transport = SmtpTransport::new(&name, [address], config.clone());
    let hostname = "mx.example.org".parse().expect("a domain");
    let queue = Queue::builder(Arc::new(MemorySpool::new()), hostname, ToHop(transport)).start();
    let address = listen(queue.clone()).await;
    let mut client = ClientConnection::connect(address, &config).await.expect("it greets");
    assert!(client.offers().chunking() && client.offers().binarymime(), "the queue honours both");
    let envelope = smtp_core::Envelope::parse("alice@client.example", ["bob@example.net"]).expect("paths");
    let report = client.send(&envelope.with_body(Body::BinaryMime), Bytes::from(content())).await;
    assert!(report.is_delivered(), "{report:?}");
    for _ in 0..3000 {
        if let Some(first) = hop.received.lock().expect("no panic").first() {
            return first.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was relayed");
}

#[tokio::test] // R3030b: octet for octet, and declared.
async fn r3030b_a_binary_message_reaches_a_next_hop_that_takes_it() {
    let (body, octets) = relayed(true).await;
    assert_eq!(body, Some(Body::BinaryMime));
    assert!(octets.ends_with(&content()), "Received is in front, and nothing else has changed");
    assert!(octets.starts_with(b"Received: "));
}

#[tokio::test] // R3030b: a next hop without it gets nothing, and the sender is told 5.6.1.
async fn r3030b_a_next_hop_without_binarymime_means_a_notification() {
    let (body, octets) = relayed(false).await;
    let text = String::from_utf8_lossy(&octets);
    assert!(body != Some(Body::BinaryMime) && text.contains("\r\nStatus: 5.6.1\r\n"), "{text}");
    assert!(text.contains("Subject: binary") && !octets.contains(&0), "the header section comes back as text");
}
