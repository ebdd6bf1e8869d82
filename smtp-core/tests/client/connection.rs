//! The client on tokio: against our own server, over pipes and over loopback.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use smtp_core::{
    Body, Chained, ClientConfig, ClientConnection, ClientLimits, ContentSource, Envelope, FileContent, SendCause,
    SendError, SendStage, Server, StoredContent, async_trait,
};
use tokio::io::{BufWriter, DuplexStream};

use crate::scripted::outcome;
use crate::support::world::{Inbox, Log, builder, in_process, start, unbound};

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
        let said: Vec<_> = report.recipients().iter().map(outcome).collect();
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

#[tokio::test(start_paused = true)] // STANDARDS Q12: reuse; LI16: our own server takes 1,000 messages in a session, and says so.
async fn one_connection_serves_many_messages_and_notices_its_end() {
    let inbox = Inbox::default();
    let server = unbound(builder(&inbox, &Log::default())).await;
    in_process(async {
        let mut connection = connect(&server, 1 << 16).await;
        let opened = connection.opened();
        for number in 0..1000_usize {
            assert!(connection.is_reusable(), "message {number}");
            // Every third is refused, which is no reason to connect again.
            let to = if number % 3 == 2 { "nobody@example.org" } else { "alice@example.org" };
            let report = connection.send(&envelope([to]), text(number % 50, 7)).await;
            assert_eq!(report.is_delivered(), number % 3 != 2, "message {number}: {report:?}");
        }
        assert_eq!(connection.messages_sent(), 667);
        assert!(connection.idle_since() >= opened);
        // RFC 9422 §4.1: the server has said that there is no more, so it need not refuse one.
        assert!(!connection.is_reusable());
        let last = connection.send(&envelope(["alice@example.org"]), Bytes::new()).await;
        let error = last.recipients()[0].as_ref().expect_err("there were enough");
        assert!(error.is_transient() && *error.cause() == SendCause::NotUsable, "{error}");
        assert!(last.is_stale() && !connection.is_reusable());
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 5321 §4.5.3.2.7: an idle client is told 421; nothing is lost by that.
async fn a_connection_that_was_idle_for_too_long_is_not_reusable() {
    let inbox = Inbox::default();
    let server = unbound(builder(&inbox, &Log::default())).await;
    in_process(async {
        let mut connection = connect(&server, 1 << 16).await;
        assert!(connection.send(&envelope(["alice@example.org"]), Bytes::new()).await.is_delivered());
        tokio::time::sleep(std::time::Duration::from_secs(299)).await;
        assert!(connection.is_reusable());
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert!(!connection.is_reusable());
        let report = connection.send(&envelope(["alice@example.org"]), Bytes::new()).await;
        assert!(report.is_stale(), "{report:?}");
        let error = report.recipients()[0].as_ref().expect_err("not sent");
        assert_eq!((error.stage(), error.status().to_string().as_str()), (SendStage::Idle, "4.4.2"));
        connection.quit().await;
    })
    .await;
    assert_eq!(inbox.len(), 1);
}

#[tokio::test(start_paused = true)] // A message that nobody waits for any more must not be taken for the next one.
async fn a_dropped_send_leaves_the_connection_of_no_use() {
    /// Gives a part of the content and then nothing.
    struct Hangs;
    #[async_trait]
    impl ContentSource for Hangs {
        fn len(&self) -> u64 {
            100_000
        }
        async fn next_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
            std::future::pending().await
        }
    }
    let inbox = Inbox::default();
    let server = unbound(builder(&inbox, &Log::default())).await;
    in_process(Box::pin(async {
        let mut connection = connect(&server, 1 << 16).await;
        let message = envelope(["alice@example.org"]);
        let content = Chained::new(text(80_000, 1), Hangs);
        let patience = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(patience, connection.send(&message, content)).await.is_err());
        assert!(!connection.is_reusable());
        let report = connection.send(&message, Bytes::new()).await;
        assert!(report.recipients()[0].as_ref().is_err_and(SendError::is_transient));
        connection.quit().await;

        // A hanging source ends by itself too, and so does one of nothing.
        let mut connection = connect(&server, 1 << 16).await;
        let report = connection.send(&message, Hangs).await;
        assert_eq!(outcome(&report.recipients()[0]), "deferred 4.3.0");
        assert!(connection.is_reusable(), "nothing was sent");
    }))
    .await;
    assert_eq!(inbox.len(), 0);
}

/// A loopback address that neither takes a connection nor refuses it: its listener has no room for one more.
async fn silent_address() -> Option<(SocketAddr, Vec<Box<dyn std::any::Any>>)> {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback has free ports");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("bound");
    let mut kept: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
    for _ in 0..64 {
        match tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address)).await {
            Ok(stream) => kept.push(Box::new(stream)),
            Err(_elapsed) => return Some((address, kept)),
        }
    }
    None
}

#[tokio::test] // RFC 8305 §5: whoever leads nowhere costs a moment.
async fn an_address_that_does_not_answer_is_not_waited_for() {
    let server = start(builder(&Inbox::default(), &Log::default())).await;
    let Some((silent, _kept)) = silent_address().await else {
        return eprintln!("skipped: a listener without room");
    };
    let mut limits = ClientLimits::default();
    // Without the race this test would take an hour.
    limits.connect_timeout = Duration::from_secs(3600);
    let config = config().with_limits(limits.clone());
    let connection =
        ClientConnection::connect_to(&[silent, server.address], &config).await.expect("the second listens");
    assert_eq!(connection.peer(), Some(server.address));
    // And no longer than that where nobody else is left.
    limits.connect_timeout = Duration::from_millis(300);
    let error = ClientConnection::connect_to(&[silent, silent], &config.with_limits(limits)).await.expect_err("silent");
    assert_eq!(error.cause(), &SendCause::TimedOut);
}

#[tokio::test] // TO1 and what a system does with sockets: the first address that takes the connection.
async fn a_server_is_reached_by_its_addresses_in_turn() {
    let inbox = Inbox::default();
    let server = start(builder(&inbox, &Log::default())).await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.local_addr().expect("bound")
    };
    let local = config().with_local_address([127, 0, 0, 2].into());
    let mut connection =
        ClientConnection::connect_to(&[nobody, server.address], &local).await.expect("the second listens");
    assert_eq!(connection.peer(), Some(server.address));
    assert!(connection.greeting().is_some_and(|greeting| greeting.text().starts_with("mx.example.org")));
    assert!(connection.offers().pipelining() && connection.offers().eight_bit_mime());
    assert!(connection.send(&envelope(["alice@example.org"]), text(1000, 1)).await.is_delivered());
    connection.quit().await;
    assert_eq!(inbox.messages()[0].connection().peer().ip(), std::net::Ipv4Addr::new(127, 0, 0, 2));

    let error = ClientConnection::connect(nobody, &config()).await.expect_err("nobody listens");
    assert_eq!((error.stage(), error.status().to_string().as_str()), (SendStage::Connect, "4.4.1"));
    // Another family than that of the local address.
    let error = ClientConnection::connect("[::1]:1", &local).await.expect_err("not tried");
    assert_eq!(error.cause(), &SendCause::Network(std::io::ErrorKind::AddrNotAvailable));

    // The way of five lines; 8-bit content is declared as such, and the address is the name.
    let report = smtp_core::send(server.address, &envelope(["bob@example.org"]), "J\u{fc}rgen\r\n").await;
    assert!(report.expect("it listens").is_delivered());
    {
        let messages = inbox.messages();
        assert_eq!(messages[1].parameters().body, Some(Body::EightBitMime));
        assert_eq!(
            messages[1].connection().greeting().map(|greeting| greeting.host().to_string()).as_deref(),
            Some("[127.0.0.1]")
        );
    }
    server.handle.shut_down();
    server.run.await.expect("no panic").expect("a server ends well");
}

#[tokio::test] // What stands between the session and the socket changes nothing else of how a connection is made.
async fn a_wrapped_connection_is_made_like_any_other() {
    let inbox = Inbox::default();
    let server = start(builder(&inbox, &Log::default())).await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.local_addr().expect("bound")
    };
    let local = ClientConfig::default().with_local_address([127, 0, 0, 3].into());
    let mut is_without_delay = None;
    let mut connection = ClientConnection::connect_with(&[nobody, server.address][..], &local, |stream| {
        is_without_delay = stream.nodelay().ok();
        BufWriter::new(stream)
    })
    .await
    .expect("the second listens");
    assert_eq!((connection.peer(), is_without_delay), (Some(server.address), Some(true)));
    assert!(connection.send(&envelope(["alice@example.org"]), text(1000, 1)).await.is_delivered());
    connection.quit().await;
    {
        let messages = inbox.messages();
        let greeting = messages[0].connection().greeting().map(|greeting| greeting.host().to_string());
        assert_eq!(greeting.as_deref(), Some("[127.0.0.3]"), "the name is the address that the server sees");
    }
    server.handle.shut_down();
    server.run.await.expect("no panic").expect("a server ends well");
}

#[tokio::test] // PRACTICES S7: each address has its name.
async fn s7_the_first_local_address_that_is_there_is_used_under_its_name() {
    let inbox = Inbox::default();
    let server = start(builder(&inbox, &Log::default())).await;
    let name = |name: &str| smtp_core::Host::parse(name).expect("a name");
    // Nobody has the first (RFC 5737), and the second is of another family.
    let local = config()
        .with_local_addresses(["192.0.2.1", "::1", "127.0.0.4", "127.0.0.5"].map(|it| it.parse().expect("an address")))
        .with_name_at([192, 0, 2, 1].into(), name("gone.example.org"))
        .with_name_at([127, 0, 0, 4].into(), name("old.example.org"))
        .with_name_at([127, 0, 0, 4].into(), name("out4.example.org"));
    for (config, address, greeting) in [
        (local.clone(), [127, 0, 0, 4], "out4.example.org"),
        (local.clone().with_local_address([127, 0, 0, 5].into()), [127, 0, 0, 5], "client.example"),
        (local.with_local_addresses([]), [127, 0, 0, 1], "client.example"),
    ] {
        let mut connection = ClientConnection::connect(server.address, &config).await.expect("it listens");
        assert!(connection.send(&envelope(["alice@example.org"]), text(100, 1)).await.is_delivered());
        connection.quit().await;
        let messages = inbox.messages();
        let client = messages.last().expect("it came").connection();
        assert_eq!(client.peer().ip(), std::net::IpAddr::from(address));
        assert_eq!(client.greeting().map(|greeting| greeting.host().to_string()).as_deref(), Some(greeting));
    }
    let gone = config().with_local_address([192, 0, 2, 1].into());
    let error = ClientConnection::connect(server.address, &gone).await.expect_err("nobody has it");
    assert_eq!(error.cause(), &SendCause::Network(std::io::ErrorKind::AddrNotAvailable));
    server.handle.shut_down();
    server.run.await.expect("no panic").expect("a server ends well");
}

#[tokio::test] // What the system says of a name is passed on.
async fn a_name_without_an_address_is_transient() {
    // No port: the system is not even asked.
    let error = ClientConnection::connect("localhost", &config()).await.expect_err("not a place");
    assert_eq!(error.to_string(), "connect: invalid socket address");
    assert!(matches!(error.cause(), SendCause::Lookup(_)) && error.is_transient());
}

#[tokio::test(start_paused = true)] // RFC 6152 §3: where nobody says what octets the content has, the octets do.
async fn r6152_content_in_memory_is_declared_by_its_octets() {
    let inbox = Inbox::default();
    let server = unbound(builder(&inbox, &Log::default())).await;
    let (ascii, other) = (Bytes::from_static(b"Jurgen\r\n"), Bytes::from_static(b"J\xfcrgen\r\n"));
    in_process(async {
        let mut connection = connect(&server, 1 << 16).await;
        let undeclared = envelope(["alice@example.org"]);
        assert!(connection.send(&undeclared, ascii.clone()).await.is_delivered());
        assert!(connection.send(&undeclared, other.clone()).await.is_delivered());
        assert!(connection.send(&undeclared, vec![ascii.clone(), other.clone()]).await.is_delivered());
        assert!(connection.send(&undeclared.clone().with_body(Body::SevenBit), other).await.is_delivered());
        assert!(connection.send(&undeclared.with_body(Body::EightBitMime), ascii).await.is_delivered());
        connection.quit().await;
    })
    .await;
    let declared: Vec<_> = inbox.messages().iter().map(|message| message.parameters().body).collect();
    let (seven, eight) = (Some(Body::SevenBit), Some(Body::EightBitMime));
    assert_eq!(declared, [None, eight, eight, seven, eight]);
}

#[tokio::test(start_paused = true)] // SECURITY D-2: before MAIL where all is in memory, else before its octets leave.
async fn d2_content_in_memory_is_checked_before_the_server_hears_of_it() {
    let directory = tempfile::tempdir().expect("made");
    let content: Bytes = [&text(200_000, 3)[..], b"\r\na\nb"].concat().into();
    let path = directory.path().join("content");
    std::fs::write(&path, &content).expect("written");
    let file = std::fs::File::open(&path).expect("opens");
    let (head, body) = (content.slice(..100), content.slice(100..));
    let from_file = FileContent::new(file, 100, body.len() as u64);
    let sources: [(Box<dyn ContentSource>, SendStage); 4] = [
        (Box::new(content.clone()), SendStage::Local),
        (Box::new(vec![head.clone(), body.clone()]), SendStage::Local),
        (Box::new(Chained::new(head.clone(), body)), SendStage::Local),
        (Box::new(Chained::new(head, from_file)), SendStage::Content),
    ];
    let inbox = Inbox::default();
    let server = unbound(builder(&inbox, &Log::default())).await;
    in_process(async {
        for (source, stage) in sources {
            let mut connection = connect(&server, 1 << 16).await;
            let report = connection.send(&envelope(["alice@example.org"]), source).await;
            let error = report.recipients()[0].as_ref().expect_err("refused");
            assert_eq!((error.stage(), error.status().to_string().as_str()), (stage, "5.6.0"));
            assert_eq!(connection.is_reusable(), stage == SendStage::Local);
        }
    })
    .await;
    assert_eq!(inbox.len(), 0);
}

/// A stream whose writes fail from the second one on, and which had something to read before.
struct Broken {
    reads: std::collections::VecDeque<&'static [u8]>,
    writes: usize,
}

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Two replies to begin with; what follows has been there when the write fails.
        if self.reads.len() <= 1 && self.writes < 2 {
            return Poll::Pending;
        }
        buffer.put_slice(self.reads.pop_front().unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Broken {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<std::io::Result<usize>> {
        self.writes += 1;
        Poll::Ready(if self.writes == 1 { Ok(octets.len()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)] // RFC 5321 §3.8: why a server has closed is read, though nothing can be written.
async fn what_a_server_said_before_it_closed_is_read() {
    for (last, expected) in [(&b"421 4.3.2 Bye\r\n"[..], "deferred 4.3.2"), (b"", "deferred 4.4.2")] {
        let reads = [&b"220 mx\r\n"[..], b"250 mx\r\n", last].into();
        let mut connection = ClientConnection::over(Broken { reads, writes: 0 }, &config()).await.expect("it greets");
        let report = connection.send(&envelope(["alice@example.org"]), Bytes::new()).await;
        assert_eq!(outcome(&report.recipients()[0]), expected);
        assert!(!connection.is_reusable());
    }
}
