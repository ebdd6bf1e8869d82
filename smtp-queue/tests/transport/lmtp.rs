//! LMTP to a next hop (RFC 2033): each recipient of a message has the outcome that the hop gave for it (STANDARDS R2033).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{
    Accepted, ByMode, ClientConfig, DsnOffer, Host, Listener, LocalDomains, Mailbox, Message, Notify,
    OriginalRecipient, RecipientDsn, Refusal, ReversePath, Server,
};
use smtp_queue::{Attempt, DeliverByTime, Envelope, Outcome, QueueId, SmtpTransport, StoredContent, Transport};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

/// What the hop says of a recipient, by the first letter of its local-part.
fn said_of(path: &str) -> Result<(), Refusal> {
    match path.trim_start_matches('<').chars().next() {
        Some('d') => Err(Refusal::transient(2, 2, "Mailbox full")),
        Some('f') => Err(Refusal::permanent(2, 1, "Mailbox disabled")),
        _ => Ok(()),
    }
}

type Taken = Arc<Mutex<Vec<String>>>;

/// A mail store for `example.org`, and what it has taken.
async fn store(dsn: DsnOffer) -> (SocketAddr, Taken) {
    let taken = Taken::default();
    let kept = taken.clone();
    let server = Server::builder("store.example.org")
        .recipients(LocalDomains::new(["example.org".parse().expect("a domain")]))
        .deliver(move |message: Message| {
            let recipients: Vec<_> = message.recipients().iter().map(ToString::to_string).collect();
            let outcomes: Vec<_> = recipients.iter().map(|recipient| said_of(recipient)).collect();
            let good = recipients.into_iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            kept.lock().expect("no panic").extend(good.map(|(recipient, _)| recipient));
            async { Ok(Accepted::each(outcomes)) }
        })
        .listener(Listener::new("127.0.0.1:0").lmtp().dsn(dsn))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    (address, taken)
}

fn config() -> ClientConfig {
    ClientConfig::new("client.example").expect("a name").with_lmtp()
}

fn transport(address: SocketAddr) -> SmtpTransport {
    SmtpTransport::new(&Host::parse("store.example.org").expect("a name"), [address], config())
}

fn attempt(recipients: &[String], dsn: &RecipientDsn) -> Attempt {
    let sender = ReversePath::parse("<alice@client.example>").expect("in the grammar");
    let mut envelope = Envelope::new(QueueId::from_u128(1), SystemTime::UNIX_EPOCH, sender);
    for recipient in recipients {
        envelope = envelope.with_recipient(Mailbox::parse(recipient).expect("in the grammar"));
    }
    for recipient in &mut envelope.recipients {
        recipient.dsn = dsn.clone();
    }
    let content = StoredContent::in_memory(Bytes::from("Received: x\r\n"), Bytes::from("Subject: y\r\n\r\n.dot\r\n"));
    let all = 0..u32::try_from(recipients.len()).expect("few");
    Attempt::new(Arc::new(envelope), all, content, "hop".into(), 1)
}

fn names(local_parts: &[&str]) -> Vec<String> {
    local_parts.iter().map(|local_part| format!("{local_part}@example.org")).collect()
}

fn words(outcomes: &[Outcome]) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Delivered(_) => 'D',
        Outcome::Relayed(_) => 'r',
        Outcome::PassedOn(_) => 'p',
        Outcome::Deferred(_) => 'd',
        Outcome::Failed(_) => 'f',
        other => panic!("not known here: {other:?}"),
    };
    outcomes.iter().map(word).collect()
}

#[tokio::test] // 3 recipients × each outcome; what each was told stands with it.
async fn r2033_the_outcomes_of_a_message_are_split() {
    let (address, taken) = store(DsnOffer::Nobody).await;
    let transport = transport(address);
    for number in 0..27 {
        let letters = ["r", "d", "f"];
        let local_parts: Vec<_> =
            (0..3_u32).map(|place| format!("{}{place}", letters[number / 3_usize.pow(place) % 3])).collect();
        let recipients: Vec<_> = local_parts.iter().map(|local_part| format!("{local_part}@example.org")).collect();
        let outcomes = transport.deliver(attempt(&recipients, &RecipientDsn::default())).await;
        let expected: String = local_parts.iter().filter_map(|local_part| local_part.chars().next()).collect();
        assert_eq!(words(&outcomes), expected);
        for outcome in &outcomes {
            let reply = &outcome.diagnosis().reply;
            let expected = match outcome {
                Outcome::Deferred(_) => "451 4.2.2 Mailbox full",
                Outcome::Failed(_) => "550 5.2.1 Mailbox disabled",
                _ => "250 2.0.0 Message accepted",
            };
            assert_eq!(reply.to_string(), expected);
        }
        let relayed = recipients.iter().filter(|recipient| recipient.starts_with('r')).map(|path| format!("<{path}>"));
        assert_eq!(*taken.lock().expect("no panic"), relayed.collect::<Vec<_>>());
        taken.lock().expect("no panic").clear();
    }
}

#[tokio::test] // More than one transaction has (RFC 5321 §4.5.3.1.8): nobody is confused with another.
async fn r2033_many_recipients_keep_their_order() {
    let (address, taken) = store(DsnOffer::Nobody).await;
    let recipients: Vec<_> =
        (0..250).map(|number| format!("{}{number}@example.org", ["r", "d", "f"][number % 3])).collect();
    let outcomes = transport(address).deliver(attempt(&recipients, &RecipientDsn::default())).await;
    let expected: String = recipients.iter().filter_map(|recipient| recipient.chars().next()).collect();
    assert_eq!(words(&outcomes), expected);
    assert_eq!(taken.lock().expect("no panic").len(), 84);
}

#[tokio::test] // RFC 3461 §5.2.2: without DSN the hop's 250 is `relayed`: what is behind it is not known here.
async fn r3461_what_lmtp_has_taken_is_relayed() {
    let (address, _) = store(DsnOffer::Nobody).await;
    let original_recipient = Some(OriginalRecipient::new("rfc822", "r0@example.org").expect("printable"));
    let wish = RecipientDsn { notify: Some(Notify::SUCCESS), original_recipient };
    let outcomes = transport(address).deliver(attempt(&names(&["r0"]), &wish)).await;
    assert_eq!(words(&outcomes), "r");
}

/// Reads a line, without its end.
async fn line(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), lines: &mut String) -> String {
    lines.clear();
    let mut reader = BufReader::with_capacity(1, stream);
    reader.read_line(lines).await.expect("the client talks");
    lines.trim_end().to_owned()
}

/// A store behind a Unix socket that answers so many recipients behind the content, and then closes.
fn store_that_answers(replies: &'static [&'static str]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lmtp");
    let listener = UnixListener::bind(&path).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 store LMTP\r\n").await.expect("the client reads");
            let mut buffer = String::new();
            loop {
                let said = line(&mut stream, &mut buffer).await;
                let reply = match said.get(..4) {
                    Some("LHLO") => "250 store\r\n",
                    Some("MAIL" | "RCPT") => "250 ok\r\n",
                    Some("DATA") => "354 go\r\n",
                    _ if said == "." => break,
                    _ => "",
                };
                stream.write_all(reply.as_bytes()).await.expect("the client reads");
            }
            for reply in replies {
                stream.write_all(format!("{reply}\r\n").as_bytes()).await.expect("the client reads");
            }
        }
    });
    (directory, path)
}

#[tokio::test] // R2033: who is not answered is deferred, never delivered; over a Unix socket.
async fn r2033_a_store_that_answers_some_and_closes_has_taken_those() {
    for (replies, expected) in [
        (&[][..], "ddd"),
        (&["250 2.0.0 ok"], "rdd"),
        (&["550 5.2.1 off", "250 2.0.0 ok"], "frd"),
        (&["250 2.0.0 ok", "452 4.2.2 full", "250 2.0.0 ok"], "rdr"),
        (&["250 2.0.0 ok", "garbage"], "rdd"),
        (&["250 2.0.0 ok", "421 4.3.2 bye"], "rdd"),
    ] {
        let (_directory, path) = store_that_answers(replies);
        let transport = SmtpTransport::to_unix_socket(&path, config());
        let outcomes = transport.deliver(attempt(&names(&["a", "b", "c"]), &RecipientDsn::default())).await;
        assert_eq!(words(&outcomes), expected, "{replies:?}");
    }
}

#[tokio::test] // D-55: no socket there, or nobody behind it: later.
async fn d55_a_socket_that_is_not_there_defers() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lmtp");
    drop(UnixListener::bind(&path).expect("a socket"));
    for path in [path, directory.path().join("nothing")] {
        let outcomes = SmtpTransport::to_unix_socket(&path, config())
            .deliver(attempt(&names(&["a", "b"]), &RecipientDsn::default()))
            .await;
        assert_eq!(words(&outcomes), "dd", "{}", path.display());
    }
}

#[tokio::test] // RFC 8689 §4.2.1: a Unix socket leads over no network; TCP does, to whatever host.
async fn r8689_a_unix_socket_is_as_good_as_a_mailbox() {
    let (_directory, path) = store_that_answers(&["250 2.0.0 ok"]);
    let (address, taken) = store(DsnOffer::Nobody).await;
    for (transport, expected) in [(SmtpTransport::to_unix_socket(&path, config()), "r"), (transport(address), "f")] {
        let plain = attempt(&names(&["a"]), &RecipientDsn::default());
        let envelope = Envelope { requires_tls: true, ..(**plain.envelope()).clone() };
        let protected = Attempt::new(Arc::new(envelope), [0], plain.content().clone(), plain.site().clone(), 1);
        let outcomes = transport.deliver(protected).await;
        assert_eq!(words(&outcomes), expected, "{outcomes:?}");
    }
    assert!(taken.lock().expect("no panic").is_empty());
}

#[tokio::test] // RFC 2852 §4.1.4: a mail store behind a Unix socket is no other server that would have to keep to a time.
async fn r2852_a_unix_socket_is_as_good_as_a_mailbox() {
    let (_directory, path) = store_that_answers(&["250 2.0.0 ok"]);
    let (address, taken) = store(DsnOffer::Nobody).await;
    let time = SystemTime::now() + Duration::from_secs(3600);
    let by = DeliverByTime { time, mode: ByMode::Return, trace: false };
    for (transport, expected) in [(SmtpTransport::to_unix_socket(&path, config()), "r"), (transport(address), "f")] {
        let plain = attempt(&names(&["a"]), &RecipientDsn::default());
        let envelope = Envelope { deliver_by: Some(by), ..(**plain.envelope()).clone() };
        let urgent = Attempt::new(Arc::new(envelope), [0], plain.content().clone(), plain.site().clone(), 1);
        let outcomes = transport.deliver(urgent).await;
        assert_eq!(words(&outcomes), expected, "{outcomes:?}");
    }
    assert!(taken.lock().expect("no panic").is_empty());
}
