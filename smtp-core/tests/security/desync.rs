//! SECURITY.md D-3: octets that come before a reply that must be waited for, and other protocols on our port.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{
    Connection, Decision, Listener, Question, ServerSession, SessionConfig, SessionId, Stages, Step, Treatment, Verdict,
};

use crate::support::client::Client;
use crate::support::machine::{Machine, config, patient};
use crate::support::world::{Inbox, Log, builder, in_process, open, start, unbound};

/// A transaction as a client that ignores replies sends it.
const BLIND: &str = "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n\r\nx\r\n.\r\n";
const EHLO: &str = "EHLO client.example\r\n";
const ENVELOPE: &str = "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n";

/// Sends each piece when the replies to the one before are there; what was answered to the last one.
fn last_replies(config: SessionConfig, pieces: &[&str]) -> (Machine, Vec<String>) {
    let mut machine = Machine::new(config);
    let mut replies = Vec::new();
    for piece in pieces {
        replies = machine.replies(piece);
    }
    (machine, replies)
}

#[test] // RFC 2920 §3.1, RFC 5321 §3.1 and §4.3.1.
fn d3_octets_before_an_awaited_reply_end_the_session() {
    let http = "POST / HTTP/1.1\r\nHost: mx.example.org:25\r\n\r\nEHLO a\r\nMAIL FROM:<a@b.example>\r\n";
    let hello = "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03";
    for (what, pieces) in [
        ("a command before 220", &[EHLO][..]),
        ("a single octet before 220", &["\r"]),
        ("commands before 220", &["EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n"]),
        ("HTTP before 220", &[http]),
        ("TLS before 220", &[hello]),
        ("a command before the reply to EHLO", &["", "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n"]),
        ("a single octet before the reply to EHLO", &["", "EHLO a.example\r\nM"]),
        ("a command before the reply to HELO", &["", "HELO a.example\r\nMAIL FROM:<a@b.example>\r\n"]),
        ("QUIT before the reply to EHLO", &["", "EHLO a.example\r\nQUIT\r\n"]),
        ("RSET before the reply to a repeated EHLO", &["", EHLO, "EHLO a.example\r\nRSET\r\n"]),
        ("HTTP behind 220", &["", http]),
    ] {
        let (machine, replies) = last_replies(config(), pieces);
        assert_eq!(replies.last().map(String::as_str), Some("554 5.5.0"), "{what}");
        assert!(machine.is_closed() && machine.delivered.is_empty(), "{what}");
        assert!(!replies.iter().any(|reply| reply.starts_with('2')), "{what}: {replies:?}");
    }
}

#[test] // RFC 5321 §4.3.1: content waits for 354, also where DATA is refused: content must never be read as commands.
fn d3_content_before_354_ends_the_session() {
    for (what, pieces, before) in [
        ("content behind DATA", &["", EHLO, ENVELOPE, "DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"][..], &[][..]),
        ("one octet behind DATA", &["", EHLO, ENVELOPE, "DATA\r\n."], &[]),
        ("the whole transaction at once", &["", EHLO, BLIND], &["250 2.1.0", "250 2.1.5"]),
        (
            "content behind a DATA that has no recipients",
            &["", EHLO, "MAIL FROM:<a@b.example>\r\nDATA\r\nRSET\r\n"],
            &["250 2.1.0"],
        ),
        ("content behind a DATA out of order", &["", EHLO, "DATA\r\nMAIL FROM:<a@b.example>\r\n"], &[]),
    ] {
        let (machine, replies) = last_replies(config(), pieces);
        let (last, others) = replies.split_last().expect("an answer");
        assert_eq!(
            (last.as_str(), others),
            ("554 5.5.0", &before.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{what}"
        );
        assert!(machine.is_closed() && machine.delivered.is_empty(), "{what}");
    }
}

#[test] // R2920: the check is separate. Without it the same octets are a conversation.
fn d3_the_check_can_be_switched_off() {
    let whole = format!("{EHLO}{BLIND}QUIT\r\n");
    let (machine, replies) = last_replies(patient(), &[&whole]);
    assert_eq!(replies, ["220", "250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]);
    assert_eq!(machine.delivered.len(), 1);
}

#[test] // RFC 2920 §3.1: what may be pipelined is no early talk, and neither is what follows a reply.
fn d3_honest_pipelining_is_not_early_talk() {
    let (machine, replies) = last_replies(
        config(),
        &[
            "",
            EHLO,
            &format!("{ENVELOPE}DATA\r\n"),
            "x\r\n.\r\nMAIL FROM:<b@client.example>\r\nRSET\r\nNOOP\r\nQUIT\r\n",
        ],
    );
    assert_eq!(replies, ["250 2.0.0", "250 2.1.0", "250 2.0.0", "250 2.0.0", "221 2.0.0"]);
    assert_eq!(machine.delivered.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn d3_a_server_refuses_early_talkers_by_default() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log)).await;
        let mut early = open(&server);
        early.send(format!("{EHLO}{BLIND}")).await;
        early.expect("554 5.5.0").await;
        early.expect_closed().await;
        let mut hasty = open(&server);
        hasty.expect("220").await;
        hasty.send(format!("{EHLO}{BLIND}")).await;
        hasty.expect("554 5.5.0").await;
        hasty.expect_closed().await;
        assert_eq!(inbox.len(), 0);
    })
    .await;
}

#[test] // SECURITY D-3: who waits is greeted, in time; who does not has shown what it is.
fn d3_a_greeting_can_keep_strangers_waiting() {
    let delay = Duration::from_secs(10);
    let config = Arc::new(SessionConfig { greeting_delay: delay, stages: Stages::CONNECT, ..config() });
    let address = "192.0.2.1:25".parse().expect("an address");
    let start = Instant::now();
    let session = |treatment| {
        let connection = Connection::new(SessionId::new(1), address, address).with_treatment(treatment);
        let mut session = ServerSession::new(config.clone(), Arc::new(connection), start);
        while let Some(step) = session.poll(start, &mut &[][..]) {
            let Step::Ask(Question::Connect(ask)) = step else { panic!("not asked for: {step:?}") };
            session.answer(start, ask, Decision::from(Verdict::Continue));
        }
        session
    };
    let mut known = session(Treatment::RelayClient);
    assert!(known.output().starts_with(b"220 ") && !known.is_delayed());
    known.output_written();

    let mut patient = session(Treatment::Mx);
    assert_eq!((patient.output(), patient.deadline()), (&b""[..], Some(start + delay)));
    patient.output_written();
    patient.handle_timeout(start + delay / 2);
    assert!(patient.output().is_empty());
    patient.handle_timeout(start + delay);
    assert!(patient.output().starts_with(b"220 "));
    patient.output_written();
    assert!(patient.poll(start + delay, &mut EHLO.as_bytes()).is_none());
    assert!(patient.output().starts_with(b"250"), "{}", patient.output().escape_ascii());

    for early in [EHLO, "Q"] {
        let mut hasty = session(Treatment::Mx);
        hasty.output_written();
        assert!(hasty.poll(start + delay / 2, &mut early.as_bytes()).is_none());
        assert!(hasty.output().starts_with(b"554 5.5.0 ") && hasty.is_closed(), "{}", hasty.output().escape_ascii());
    }

    // Where there is no room, patience is not asked for.
    let connection = Connection::new(SessionId::new(1), address, address);
    let stages = SessionConfig { stages: Stages::NONE, ..(*config).clone() };
    let mut stressed = ServerSession::new(Arc::new(stages), Arc::new(connection), start);
    stressed.set_under_stress(true);
    assert!(stressed.poll(start, &mut &[][..]).is_none());
    assert!(stressed.output().starts_with(b"220 "));
}

#[tokio::test]
async fn d3_a_listener_keeps_strangers_waiting() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let listener = |delay| Listener::new("127.0.0.1:0").greeting_delay(delay);
    let known = listener(Duration::from_secs(60)).relay_for("127.0.0.0/8".parse().expect("a network"));
    let server = builder(&inbox, &log).listener(listener(Duration::from_secs(3600))).listener(known);
    let server = server.bind().await.expect("loopback has free ports");
    let [strangers, known] = server.local_addresses()[..] else { panic!("two listeners") };
    let run = tokio::spawn(server.run());
    let mut hasty = Client::connect(strangers).await;
    hasty.send(EHLO).await;
    hasty.expect("554 5.5.0").await;
    hasty.expect_closed().await;
    Client::connect(known).await.expect("220").await;
    run.abort();
}

#[tokio::test]
async fn d3_a_listener_can_be_patient() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = builder(&inbox, &log).listener(Listener::new("127.0.0.1:0").refuse_early_talkers(false));
    let server = server.bind().await.expect("loopback has free ports");
    let address = server.local_addresses()[0];
    let run = tokio::spawn(server.run());
    let mut client = Client::connect(address).await;
    client.send(format!("{EHLO}{BLIND}QUIT\r\n")).await;
    for expected in ["220", "250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"] {
        client.expect(expected).await;
    }
    client.expect_closed().await;
    assert_eq!(inbox.len(), 1);
    run.abort();
}

#[tokio::test] // Over a socket the refusal must reach a client that has sent much and closes nothing.
async fn d3_an_http_client_reads_the_refusal_and_sends_no_mail() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log)).await;
    for _ in 0..50 {
        let mut client = Client::connect(server.address).await;
        let body = format!("{EHLO}{BLIND}QUIT\r\n");
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = client.try_send(&request).await;
        let mut last = String::new();
        for _ in 0..20 {
            let Some(reply) = client.reply().await else { break };
            last = reply;
        }
        assert!(last.starts_with("554 5.5.0"), "{last}");
    }
    assert_eq!(inbox.len(), 0);
}

/// `target`, with a line of junk before it such that it ends with the first 64 KiB, and then `behind`.
fn at_the_edge(target: &str, behind: &str) -> Vec<u8> {
    let edge = 64 << 10;
    let mut octets = vec![b'x'; edge - target.len() - 2];
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(target.as_bytes());
    assert_eq!(octets.len(), edge);
    octets.extend_from_slice(behind.as_bytes());
    octets
}

/// A read buffer that ends behind the command does not hide what was sent before its reply.
#[tokio::test(start_paused = true)]
async fn d3_the_edge_of_a_read_buffer_hides_no_early_command() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log)).await;
        let mut client = open(&server);
        client.expect("220").await;
        client.send(at_the_edge(EHLO, BLIND)).await;
        client.expect("500 5.5.2").await;
        client.expect("554 5.5.0").await;
        client.expect_closed().await;
        assert_eq!(inbox.len(), 0);
    })
    .await;
}

/// The same for content behind a refused `DATA`: it must never be read as commands.
#[tokio::test(start_paused = true)]
async fn d3_the_edge_of_a_read_buffer_hides_no_early_content() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log)).await;
        let mut client = open(&server);
        client.greet().await;
        client.send(at_the_edge("MAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n", BLIND)).await;
        client.expect("500 5.5.2").await;
        client.expect("250 2.1.0").await;
        client.expect("550 5.1.1").await;
        client.expect("554 5.5.0").await;
        client.expect_closed().await;
        assert_eq!(inbox.len(), 0);
    })
    .await;
}
