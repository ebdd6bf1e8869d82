//! Mail with more than ASCII in its envelope or its header section, on its way to a next hop that offers `SMTPUTF8` and to one
//! that does not (RFC 6531 §3.2, §3.4; STANDARDS.md R6531).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::{Accepted, ClientConfig, Host, Listener, Mailbox, MailboxTable, Message, Refusal, ReversePath, Server};
use smtp_queue::{Attempt, Envelope, Outcome, QueueId, SmtpTransport, StoredContent, Transport};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

type Told = Arc<Mutex<Vec<(String, bool, Vec<String>)>>>;

async fn hop(told: &Told) -> SocketAddr {
    let told = told.clone();
    let server = Server::builder("mx.example.org")
        .deliver(move |message: Message| {
            let recipients = message.recipients().iter().map(ToString::to_string).collect();
            let parameters = (message.reverse_path().to_string(), message.parameters().smtputf8, recipients);
            told.lock().expect("no panic").push(parameters);
            async { Ok::<_, Refusal>(Accepted::all()) }
        })
        .recipients(MailboxTable::parse("postmaster@example.org").expect("a table"))
        .listener(Listener::new("127.0.0.1:0").relay_for("127.0.0.0/8".parse().expect("a network")))
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    address
}

/// A next hop that offers nothing but `8BITMIME`, and notes the commands of one session.
async fn old_hop(commands: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 old.example\r\n").await.expect("a client that reads");
        let (mut line, mut is_content) = (String::new(), false);
        while stream.read_line(&mut line).await.is_ok_and(|octets| octets > 0) {
            let reply = match &line[..] {
                ".\r\n" => "250 2.0.0 Ok\r\n",
                _ if is_content => "",
                "DATA\r\n" => "354 go on\r\n",
                _ if line.starts_with("EHLO") => "250-old.example\r\n250 8BITMIME\r\n",
                _ => "250 2.0.0 Ok\r\n",
            };
            is_content = (is_content || reply.starts_with("354")) && line != ".\r\n";
            if !is_content || reply.starts_with("354") {
                commands.lock().expect("no panic").push(line.trim_end().to_owned());
            }
            stream.write_all(reply.as_bytes()).await.expect("a client that reads");
            line.clear();
        }
    });
    address
}

fn attempt(from: &str, to: &[&str], smtputf8: bool, content: &'static str) -> Attempt {
    let sender = ReversePath::parse(from).expect("in the grammar");
    let mut envelope = Envelope::new(QueueId::from_u128(1), SystemTime::UNIX_EPOCH, sender);
    envelope.smtputf8 = smtputf8;
    for recipient in to {
        envelope = envelope.with_recipient(Mailbox::parse(recipient).expect("in the grammar"));
    }
    let content = StoredContent::in_memory(Bytes::new(), Bytes::from(content));
    let all = 0..u32::try_from(to.len()).expect("few");
    Attempt::new(Arc::new(envelope), all, content, "hop".into(), 1)
}

fn transport(address: SocketAddr) -> SmtpTransport {
    let config = ClientConfig::new("client.example").expect("a name");
    SmtpTransport::new(&Host::parse("mx.example.org").expect("a name"), [address], config)
}

const ASCII: &str = "Subject: x\r\n\r\nx\r\n";
const UTF8: &str = "Subject: \u{4f8b}\r\n\r\nx\r\n";
const UTF8_BODY: &str = "Subject: x\r\n\r\n\u{4f8b}\r\n";

#[tokio::test]
async fn r6531_a_next_hop_that_offers_it_gets_the_message_as_it_came() {
    let told = Told::default();
    let transport = transport(hop(&told).await);
    for (from, to, said, content, expected) in [
        ("<\u{fc}@client.example>", "b@example.net", true, ASCII, true),
        ("<a@client.example>", "b@\u{fc}.example", true, ASCII, true),
        ("<a@client.example>", "b@example.net", true, UTF8, true),
        ("<a@client.example>", "b@example.net", true, UTF8_BODY, false),
        ("<a@client.example>", "b@example.net", true, ASCII, false),
        // What was sent without the parameter goes on without it.
        ("<a@client.example>", "b@example.net", false, UTF8, false),
    ] {
        let outcomes = transport.deliver(attempt(from, &[to], said, content)).await;
        assert!(matches!(outcomes[..], [Outcome::Relayed(_)]), "{outcomes:?}");
        let told = told.lock().expect("no panic").pop().expect("a message");
        assert_eq!(told, (from.to_owned(), expected, vec![format!("<{to}>")]));
    }
}

#[tokio::test]
async fn r6531_a_next_hop_without_it_gets_what_needs_no_more_than_ascii() {
    let commands = Arc::new(Mutex::new(Vec::new()));
    let transport = transport(old_hop(commands.clone()).await);
    let to = ["\u{fc}@example.net", "b@\u{fc}.example", "c@example.net"];
    let outcomes = transport.deliver(attempt("<a@b\u{fc}cher.example>", &to, true, UTF8_BODY)).await;
    let [Outcome::Failed(failed), Outcome::Relayed(_), Outcome::Relayed(_)] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(failed.reply.status().expect("a status").to_string(), "5.6.7");
    assert_eq!(
        commands.lock().expect("no panic").split_off(1),
        [
            "MAIL FROM:<a@xn--bcher-kva.example> BODY=8BITMIME",
            "RCPT TO:<b@xn--tda.example>",
            "RCPT TO:<c@example.net>",
            "DATA",
            "."
        ]
    );
    for (from, content) in [("<a@client.example>", UTF8), ("<\u{fc}@client.example>", ASCII)] {
        let outcomes = transport.deliver(attempt(from, &["c@example.net"], true, content)).await;
        let [Outcome::Failed(failed)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(failed.reply.status().expect("a status").to_string(), "5.6.7");
    }
    assert_eq!(commands.lock().expect("no panic").len(), 1, "nothing was said of them");
}
