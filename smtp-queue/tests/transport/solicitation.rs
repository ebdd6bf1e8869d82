//! What a message solicits, from a client through the queue to a next hop that wants to know it, and to others (STANDARDS.md
//! R3865; RFC 3865 §2.7).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, ClientConnection, Domain, Envelope, Host, Listener, Message, Server, SolicitationClasses,
};
use smtp_queue::{MemorySpool, Queue, Route, Routing, SmtpTransport};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

fn classes(text: &str) -> SolicitationClasses {
    SolicitationClasses::parse(text).expect("keywords")
}

fn config() -> ClientConfig {
    ClientConfig::new("client.example").expect("a name")
}

/// A next hop, and what it was told of each message.
async fn hop(listener: Listener) -> (SocketAddr, UnboundedReceiver<Option<SolicitationClasses>>) {
    let (told, said_to_hop) = unbounded_channel();
    let server = Server::builder("hop.example")
        .local_domain("example.org")
        .deliver(move |message: Message| {
            let _ = told.send(message.parameters().solicit.clone());
            async { Ok(Accepted::all()) }
        })
        .listener(listener)
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    (address, said_to_hop)
}

/// A queue in front of that hop, and the address of the server in front of the queue.
async fn queue_to(hop: SocketAddr) -> (SocketAddr, Queue) {
    let transport = SmtpTransport::new(&Host::parse("hop.example").expect("a name"), [hop], config());
    let hostname = Domain::parse("mx.example.org").expect("a name");
    let route = Route::new("hop", transport);
    let queue = Queue::builder(Arc::new(MemorySpool::new()), hostname, Routing::new(route)).start();
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .deliver(queue.clone())
        .listener(Listener::new("127.0.0.1:0").no_soliciting(SolicitationClasses::none()))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    (address, queue)
}

#[tokio::test]
async fn r3865_a_next_hop_is_told_what_we_were_told_where_it_wants_to_know() {
    let listener = || Listener::new("127.0.0.1:0");
    let soliciting = Some(classes("org.example:ADV,b"));
    for (listener, said, expected) in [
        (listener().no_soliciting(classes("c")), soliciting.clone(), soliciting.clone()),
        (listener(), soliciting.clone(), None),
        (listener().no_soliciting(SolicitationClasses::none()), None, None),
    ] {
        let (hop, mut said_to_hop) = hop(listener).await;
        let (address, queue) = queue_to(hop).await;
        let envelope = Envelope::parse("a@client.example", ["b@example.org"]).expect("paths");
        let envelope = match said {
            Some(classes) => envelope.with_solicitation(classes),
            None => envelope,
        };
        let mut client = ClientConnection::connect(address, &config()).await.expect("it greets");
        assert!(client.offers().no_soliciting());
        assert!(client.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await.is_delivered());
        let was_told = timeout(Duration::from_secs(60), said_to_hop.recv()).await.expect("it is passed on");
        assert_eq!(was_told, Some(expected));
        queue.shutdown(Duration::from_secs(1)).await;
    }
}
