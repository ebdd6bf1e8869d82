//! The client on tokio: against our own server, over pipes and over loopback.

mod support;

use std::rc::Rc;

use bytes::Bytes;
use smtp_core::{Chained, ClientConfig, ClientConnection, ContentSource, Envelope, FileContent, Server, StoredContent};
use tokio::io::DuplexStream;

use support::world::{Inbox, Log, builder, in_process, unbound};

fn config() -> ClientConfig {
    ClientConfig::new("client.example").expect("a name")
}

fn envelope<const N: usize>(recipients: [&str; N]) -> Envelope {
    Envelope::parse("a@client.example", recipients).expect("paths")
}

/// A client of a server in the same process.
async fn connect(server: &Rc<Server>, octets: usize) -> ClientConnection<DuplexStream> {
    let (near, far) = tokio::io::duplex(octets);
    let server = server.clone();
    let address = |text: &str| text.parse().expect("an address");
    tokio::task::spawn_local(async move {
        server.serve_connection(far, address("192.0.2.1:40000"), address("192.0.2.25:25")).await;
    });
    ClientConnection::over(near, &config()).await.expect("it greets")
}

fn received(inbox: &Inbox) -> Vec<Bytes> {
    inbox.messages().iter().map(|message| message.content().to_bytes().expect("readable")).collect()
}

#[tokio::test(start_paused = true)]
async fn r5321j_each_recipient_has_its_own_result() {
    let inbox = Inbox::default();
    let server = unbound(builder(&inbox, &Log::default())).await;
    in_process(async {
        let mut connection = connect(&server, 1 << 16).await;
        let envelope = envelope([
            "alice@example.org",
            "nobody@example.org",
            "error@example.org",
            "x@elsewhere.example",
            "bob@example.org",
        ]);
        let report = connection.send(&envelope, Bytes::from_static(b"Subject: x\r\n\r\n.dot\r\n")).await;
        let said: Vec<_> = report
            .recipients()
            .iter()
            .map(|result| match result {
                Ok(reply) => format!("delivered {}", reply.code()),
                Err(error) if error.is_transient() => format!("deferred {}", error.status()),
                Err(error) => format!("failed {}", error.status()),
            })
            .collect();
        assert_eq!(said, ["delivered 250", "failed 5.1.1", "deferred 4.3.0", "failed 5.7.1", "delivered 250"]);
        assert_eq!(report.content_reply().expect("it was answered").code().get(), 250);
        assert!(connection.is_reusable());
        connection.quit().await;
    })
    .await;
    assert_eq!(received(&inbox), [Bytes::from_static(b"Subject: x\r\n\r\n.dot\r\n")]);
}

/// Lines of many lengths, some of which start with dots; so many octets.
fn text(octets: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = Vec::with_capacity(octets + 100);
    while text.len() + 2 < octets {
        let room = octets - text.len() - 2;
        text.extend(std::iter::repeat_n(b'.', random.usize(0..3).min(room)));
        let room = octets - text.len() - 2;
        text.extend(std::iter::repeat_n(b'x', random.usize(0..90).min(room)));
        text.extend_from_slice(b"\r\n");
    }
    text.resize(octets.max(text.len()), b'y');
    text.into()
}

#[tokio::test(start_paused = true)] // RFC 5321 §4.5.2, over pipes that hold less than a line and more than a message.
async fn r5321b_what_is_sent_is_what_arrives_from_whatever_source() {
    let directory = tempfile::tempdir().expect("made");
    for pipe in [7, 1000, 1 << 20] {
        let inbox = Inbox::default();
        let server = unbound(builder(&inbox, &Log::default())).await;
        let mut sent = Vec::new();
        in_process(async {
            let mut connection = connect(&server, pipe).await;
            for (seed, octets) in (0..).zip([0, 2, 3, 1000, 65_535, 65_536, 65_537, 300_000]) {
                let content = text(octets, seed);
                let path = directory.path().join("content");
                std::fs::write(&path, [&b"before"[..], &content, b"behind"].concat()).expect("written");
                let file = std::fs::File::open(&path).expect("opens");
                let (head, body) = (content.slice(..octets / 3), content.slice(octets / 3..));
                let sources: [Box<dyn ContentSource>; 4] = [
                    Box::new(content.clone()),
                    Box::new(vec![head.clone(), Bytes::new(), body.clone()]),
                    Box::new(FileContent::new(file, 6, octets as u64)),
                    Box::new(Chained::new(head, Chained::new(Bytes::new(), body))),
                ];
                for source in sources {
                    let report = connection.send(&envelope(["alice@example.org"]), source).await;
                    assert!(report.is_delivered(), "{octets} octets: {report:?}");
                    sent.push(as_received(&content));
                }
            }
            assert_eq!(connection.messages_sent(), 32);
            connection.quit().await;
        })
        .await;
        assert_eq!(received(&inbox), sent);
    }
}

#[tokio::test(start_paused = true)] // STANDARDS R5321k: octet for octet.
async fn r5321k_stored_content_is_passed_on_unchanged() {
    let (first, second) = (Inbox::default(), Inbox::default());
    let origin = unbound(builder(&first, &Log::default())).await;
    let next_hop = unbound(builder(&second, &Log::default())).await;
    in_process(async {
        let mut connection = connect(&origin, 5000).await;
        let mut onward = connect(&next_hop, 5000).await;
        // The second one is too large for memory.
        for (seed, octets) in (100..).zip([10_000, 400_000]) {
            let report = connection.send(&envelope(["alice@example.org"]), text(octets, seed)).await;
            assert!(report.is_delivered(), "{report:?}");
            let stored = first.messages().last().expect("it came").content().clone();
            assert_eq!(stored.path().is_some(), octets > 256 << 10);
            let report = onward.send(&envelope(["bob@example.org"]), StoredContent::from(&stored)).await;
            assert!(report.is_delivered(), "{report:?}");
        }
    })
    .await;
    assert_eq!(received(&first), received(&second));
    assert_eq!(received(&second).len(), 2);
}

/// The last line gets its end.
fn as_received(content: &Bytes) -> Bytes {
    if content.is_empty() || content.ends_with(b"\r\n") {
        return content.clone();
    }
    [&content[..], b"\r\n"].concat().into()
}
