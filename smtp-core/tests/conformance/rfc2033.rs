//! RFC 2033: LMTP, the server. A recipient's reply stays with that recipient, whatever happens (STANDARDS R2033).

use std::time::Duration;

use smtp_core::{
    Accepted, ConfigError, Content, Error, Limits, Listener, Message, Policy, PolicyContext, Refusal, Server,
    SessionConfig, SessionEvent, Stage, Stages, TransferProtocol, Verdict, async_trait,
};

use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::tls::server_tls;
use crate::support::transcript::play;
use crate::support::world::{Inbox, Log, builder};

fn lmtp() -> SessionConfig {
    SessionConfig { protocol: TransferProtocol::Lmtp, ..config() }
}

/// One with those recipients accepted, behind `354`.
fn behind_354(config: SessionConfig, recipients: &[&str]) -> Machine {
    let mut machine = Machine::new(config);
    assert!(machine.send("").starts_with("220 "));
    assert!(machine.send("LHLO client.example\r\n").starts_with("250-"));
    assert_eq!(machine.codes("MAIL FROM:<a@client.example>\r\n"), ["250"]);
    for recipient in recipients {
        assert_eq!(machine.codes(format!("RCPT TO:<{recipient}@example.org>\r\n")), ["250"]);
    }
    assert_eq!(machine.codes("DATA\r\n"), ["354"]);
    machine
}

const THREE: [&str; 3] = ["alice", "bob", "user1"];

#[test] // RFC 2033 §4.1: LHLO has the meaning of EHLO, and EHLO and HELO are no commands.
fn r2033_only_lhlo_introduces_a_client() {
    for verb in ["EHLO", "HELO", "ehlo", "Helo"] {
        for argument in [" client.example", "", " a b", "\t"] {
            let mut machine = Machine::new(lmtp());
            machine.send("");
            assert_eq!(machine.replies(format!("{verb}{argument}\r\n")), ["500 5.5.1"], "{verb}{argument:?}");
            assert_eq!(machine.replies("MAIL FROM:<>\r\n"), ["503 5.5.1"]);
        }
    }
    for argument in [" client.example", "", " a b"] {
        let mut machine = Machine::new(config());
        machine.send("");
        assert_eq!(machine.replies(format!("LHLO{argument}\r\n")), ["500 5.5.1"], "LHLO{argument:?}, in SMTP");
    }
    let mut machine = Machine::new(lmtp());
    machine.send("");
    assert_eq!(machine.replies("LHLO\r\n"), ["501 5.5.2"]);
}

#[test] // SECURITY D-20: behind AUTH a line may be a password, also one that looks like a command of the other protocol.
fn d20_what_follows_auth_is_not_in_the_log() {
    let mut machine = Machine::new(lmtp());
    machine.send("");
    machine.send("AUTH PLAIN\r\n");
    machine.send("EHLO secret\r\n");
    let events = format!("{:?}", machine.session.take_events());
    assert!(events.contains("500") && !events.contains("secret"), "{events}");
}

#[test] // RFC 2033 §5: PIPELINING and ENHANCEDSTATUSCODES must be there, 8BITMIME should.
fn r2033_the_extensions_that_it_demands_are_offered() {
    let mut machine = Machine::new(lmtp());
    assert_eq!(machine.send(""), "220 mx.example.org LMTP\r\n");
    let reply = machine.send("LHLO client.example\r\n");
    for keyword in ["PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SIZE 52428800"] {
        assert!(reply.lines().any(|line| &line[4..] == keyword), "{keyword}: {reply}");
    }
    assert!(machine.send("HELP\r\n").contains("LHLO"));
}

#[test] // RFC 2033 §4.2: 503, not 554; and then there is no content.
fn r2033_data_without_a_recipient_is_503() {
    let mut machine = Machine::new(lmtp());
    machine.send("");
    machine.send("LHLO client.example\r\n");
    let group = "MAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n";
    assert_eq!(machine.replies(group), ["250 2.1.0", "550 5.1.1", "550 5.7.1", "503 5.5.1"]);
    assert_eq!(machine.replies("RCPT TO:<alice@example.org>\r\nDATA\r\n"), ["250 2.1.5", "354"]);
}

#[test] // RFC 2033 §4.2, and its example: those refused at RCPT have no second reply.
fn r2033_a_typical_session() {
    let mut machine = Machine::new(lmtp());
    machine.delivery =
        Ok(Accepted::each([Ok(()), Err(Refusal::transient(2, 2, "Mailbox full").with_code(452))]).with_id("q1"));
    play(
        &mut machine,
        "
        S: 220 mx.example.org LMTP
        C: LHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<chris@client.example>
        C: RCPT TO:<alice@example.org>
        C: RCPT TO:<jones@example.org>
        C: RCPT TO:<bob@example.org>
        C: DATA
        S: 250 2.1.0
        S: 250 2.1.5
        S: 550 5.1.1
        S: 250 2.1.5
        S: 354
        C: Blah blah blah...
        C: .
        S: 250 2.0.0 Ok: queued as q1
        S: 452 4.2.2 Mailbox full
        C: QUIT
        S: 221 2.0.0
        -- closed
    ",
    );
}

#[test] // R2033: 3 recipients × what the delivery says of each; the order is that of RCPT, also for one named twice.
fn r2033_each_recipient_reads_its_own_outcome() {
    let outcomes: [(&str, Result<(), Refusal>); 3] = [
        ("250 2.0.0", Ok(())),
        ("451 4.3.0", Err(Refusal::transient(3, 0, "later"))),
        ("550 5.2.1", Err(Refusal::permanent(2, 1, "gone"))),
    ];
    for number in 0..27 {
        let of = |place: u32| &outcomes[number / 3_usize.pow(place) % 3];
        let recipients = if number % 2 == 0 { THREE } else { ["bob", "alice", "bob"] };
        let mut machine = behind_354(lmtp(), &recipients);
        machine.delivery = Ok(Accepted::each((0..3).map(|place| of(place).1.clone())));
        let expected: Vec<_> = (0..3).map(|place| of(place).0).collect();
        assert_eq!(machine.replies("x\r\n.\r\n"), expected);
        assert_eq!(machine.replies("MAIL FROM:<>\r\n"), ["250 2.1.0"], "in step");
        let events = machine.session.take_events();
        let refused = |event: &&SessionEvent| matches!(event, SessionEvent::Refused { stage: Stage::Deliver, .. });
        let failed = expected.iter().filter(|reply| !reply.starts_with('2')).count();
        assert_eq!(events.iter().filter(refused).count(), failed, "each in the log");
    }
}

#[test] // A delivery that names fewer outcomes has taken the others; one that names more has named nobody.
fn r2033_as_many_replies_as_recipients_whatever_the_delivery_says() {
    let no = || Err(Refusal::permanent(2, 1, "gone"));
    for (outcomes, expected) in [
        (vec![], ["250", "250", "250"]),
        (vec![no()], ["550", "250", "250"]),
        (vec![Ok(()), Ok(()), no(), no(), no()], ["250", "250", "550"]),
    ] {
        let mut machine = behind_354(lmtp(), &THREE);
        machine.delivery = Ok(Accepted::each(outcomes));
        assert_eq!(machine.codes(".\r\n"), expected);
    }
}

#[test] // RFC 2033 §4.2: as many replies on every failure, and the session goes on where it would in SMTP.
fn r2033_every_failure_is_told_to_each() {
    let small = || {
        let mut config = lmtp();
        config.limits.message_octets = 70_000;
        config.limits.received_fields = 2;
        config
    };
    let long = format!("{}.\r\n", "0123456789\r\n".repeat(6_000));
    let loops = format!("{}\r\nx\r\n.\r\n", "Received: x\r\n".repeat(3));
    for (what, content, expected, goes_on) in [
        ("too large", &long[..], "552 5.3.4", true),
        ("a loop", &loops, "554 5.4.6", true),
        ("white space first", " x\r\n.\r\n", "554 5.6.0", true),
        ("bare LF", "a\nb\r\n.\r\n", "550 5.5.2", false),
        ("bare CR", "a\rb\r\n.\r\n", "550 5.5.2", false),
        ("NUL", "a\0b\r\n.\r\n", "550 5.5.2", false),
    ] {
        let mut machine = behind_354(small(), &THREE);
        assert_eq!(machine.replies(content), [expected; 3], "{what}");
        assert_eq!(!machine.is_closed(), goes_on, "{what}");
        assert!(machine.delivered.is_empty(), "{what}");
    }
    let mut machine = behind_354(small(), &THREE);
    assert_eq!(machine.replies("0123456789\r\n".repeat(20_000)), ["552 5.3.4"; 3], "endless");
    assert!(machine.is_closed());
    let mut machine = behind_354(lmtp(), &THREE);
    machine.stores_octets = 1;
    assert_eq!(machine.replies("abc\r\n.\r\n"), ["452 4.3.1"; 3], "the disk is full");
    let mut machine = behind_354(lmtp(), &THREE);
    machine.delivery = Err(Refusal::transient(3, 0, "later"));
    assert_eq!(machine.replies("abc\r\n.\r\n"), ["451 4.3.0"; 3], "the delivery has failed");
    let refusal = Refusal::permanent(7, 1, "no");
    let mut machine = behind_354(lmtp(), &THREE).refusing(Stage::Message, refusal.clone());
    assert_eq!(machine.replies("abc\r\n.\r\n"), ["550 5.7.1"; 3], "a policy");
    assert!(!machine.is_closed());
    let mut machine = behind_354(lmtp(), &THREE).refusing(Stage::Message, refusal.and_close());
    assert_eq!(machine.replies("abc\r\n.\r\n"), ["550 5.7.1"; 3], "a policy that has had enough");
    assert!(machine.is_closed());
    // What is said before the content is asked for is one reply to DATA, and what ends the session is one to all.
    let mut machine = Machine::new(lmtp());
    machine.has_room = false;
    machine.send("");
    machine.send("LHLO c.example\r\n");
    let group = "MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n";
    assert_eq!(machine.codes(group), ["250", "250", "250", "452"]);
    let mut machine = behind_354(lmtp(), &THREE);
    machine.send("abc\r\n");
    let said = machine.pass(Duration::from_secs(3600));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("421 4.4.2") && machine.is_closed());
}

#[test] // RFC 2033 §4.3: behind BDAT LAST one reply for each recipient, behind any other chunk one for the chunk.
fn r2033_chunks_are_answered_once_and_the_last_one_for_each() {
    /// What was accepted, the chunks, and their replies.
    type Case = (&'static [&'static str], &'static str, &'static [&'static str]);
    let cases: [Case; 7] = [
        (&THREE, "BDAT 3 LAST\r\nx\r\n", &["250 2.0.0", "250 2.0.0", "250 2.0.0"]),
        (&THREE, "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n", &["250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.0.0"]),
        (&["alice", "bob"], "BDAT 3\r\nx\ny", &["550 5.5.2"]),
        (&["alice", "bob"], "BDAT 3 LAST\r\nx\ny", &["550 5.5.2", "550 5.5.2"]),
        (&["alice", "bob"], "BDAT 100001\r\n", &[]),
        (&[], "BDAT 3 LAST\r\nx\r\n", &["503 5.5.1"]),
        (&[], "BDAT 3\r\nx\r\nBDAT 3 LAST\r\nx\r\n", &["503 5.5.1", "503 5.5.1"]),
    ];
    for (recipients, chunks, expected) in cases {
        let mut machine = Machine::new(lmtp());
        machine.send("");
        machine.send("LHLO client.example\r\n");
        machine.send("MAIL FROM:<>\r\n");
        for recipient in recipients {
            machine.send(format!("RCPT TO:<{recipient}@example.org>\r\n"));
        }
        assert_eq!(machine.replies(chunks), expected, "{chunks:?}");
    }
    for (chunk, expected) in [("BDAT 3 LAST\r\nx\r\n", &["452 4.3.1"; 2][..]), ("BDAT 3\r\nx\r\n", &["452 4.3.1"])] {
        let mut machine = Machine::new(lmtp());
        machine.has_room = false;
        machine.send("");
        machine.send("LHLO c.example\r\n");
        machine.send("MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\n");
        assert_eq!(machine.replies(chunk), expected, "no room: {chunk:?}");
    }
    let mut machine = Machine::new(lmtp());
    machine.send("");
    assert_eq!(machine.replies("BDAT 3 LAST\r\nx\r\n"), ["503 5.5.1"], "before LHLO");
    assert!(machine.send("LHLO c.example\r\n").contains("CHUNKING"));
}

#[test] // R5321c stays as it was: in SMTP one reply for all.
fn r2033_smtp_has_one_reply_as_before() {
    let mut machine = Machine::with_recipient(config());
    machine.codes("RCPT TO:<bob@example.org>\r\nDATA\r\n");
    machine.delivery = Ok(Accepted::each([Ok(()), Err(Refusal::permanent(2, 1, "gone"))]));
    assert_eq!(machine.codes("x\r\n.\r\n"), ["250"]);
}

#[test] // RFC 2033 §5: not on TCP port 25.
fn r2033_port_25_is_a_configuration_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for address in ["127.0.0.1:25", "[::1]:25", "localhost:25", "127.0.0.1:0025"] {
        let server = Server::builder("mx.example.org")
            .local_domain("example.org")
            .deliver(|_: Message| async { Ok(Accepted::all()) })
            .listener(Listener::new(address).lmtp());
        match runtime.block_on(server.bind()) {
            Err(Error::Config(ConfigError::LmtpOnPort25(named))) => assert_eq!(named, address),
            other => panic!("{address}: {other:?}"),
        }
    }
}

/// Refuses the second recipient of a message, and all of one that says so.
struct SecondOrAll;

#[async_trait]
impl Policy for SecondOrAll {
    fn name(&self) -> &'static str {
        "second or all"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        let all = content.to_bytes().is_ok_and(|content| content.starts_with(b"all"));
        let recipients = cx.transaction().map_or(0, |transaction| transaction.recipients().len());
        for place in (0..recipients).filter(|place| all || *place == 1) {
            let refused = u16::try_from(place).expect("few");
            cx.refuse_recipient(place, Refusal::permanent(7, refused, "not for you"));
        }
        Verdict::Continue
    }
}

#[tokio::test] // PRACTICES S33: recipients with differing verdicts have one reply each, and the refused get no copy.
async fn s33_policies_and_the_delivery_answer_each_recipient_over_a_socket() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let keep = inbox.clone();
    let deliver = move |message: Message| {
        assert!(message.answers_each());
        let outcomes: Vec<_> = message
            .recipients()
            .iter()
            .map(|recipient| match recipient.path().to_string().as_str() {
                "<user2@example.org>" => Err(Refusal::transient(2, 2, "full")),
                _ => Ok(()),
            })
            .collect();
        keep.messages().push(message);
        async { Ok(Accepted::each(outcomes)) }
    };
    let server = builder(&inbox, &log)
        .deliver(deliver)
        .policy(SecondOrAll)
        .listener(Listener::new("127.0.0.1:0").lmtp())
        .bind()
        .await
        .expect("loopback has free ports");
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = tokio::spawn(server.run());
    let mut client = Client::connect(address).await;
    client.expect("220").await;
    client.ask("LHLO client.example", "250").await;
    for (content, expected) in [
        ("some", ["250 2.0.0", "550 5.7.1", "451 4.2.2", "250 2.0.0"]),
        ("all", ["550 5.7.0", "550 5.7.1", "550 5.7.2", "550 5.7.3"]),
    ] {
        client.ask("MAIL FROM:<a@client.example>", "250").await;
        for recipient in ["user0", "user1", "user2", "user3"] {
            client.ask(&format!("RCPT TO:<{recipient}@example.org>"), "250").await;
        }
        client.ask("DATA", "354").await;
        client.send(format!("{content}\r\n.\r\n")).await;
        for reply in expected {
            client.expect(reply).await;
        }
    }
    client.ask("QUIT", "221").await;
    let delivered: Vec<_> = inbox.messages().iter().map(|message| format!("{:?}", message.recipients())).collect();
    assert_eq!(delivered, ["[<user0@example.org>, <user2@example.org>, <user3@example.org>]"]);
    let accepted = log.count(|event| matches!(event, SessionEvent::Accepted { recipients: 2, partial: false, .. }));
    assert_eq!(accepted, 1, "{:?}", log.events());
    handle.shut_down();
    running.await.expect("no panic").expect("a server ends well");
}

#[tokio::test] // A delivery that takes too long: each is told 451, once.
async fn r2033_a_delivery_beyond_its_time_limit_is_451_for_each() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let mut limits = Limits::default();
    limits.deliver_timeout = Duration::from_secs(1);
    let server = builder(&inbox, &log)
        .deliver(|_: Message| async { std::future::pending().await })
        .listener(Listener::new("127.0.0.1:0").lmtp().limits(limits))
        .bind()
        .await
        .expect("loopback has free ports");
    let address = server.local_addresses()[0];
    let running = tokio::spawn(server.run());
    let mut client = Client::connect(address).await;
    client.expect("220").await;
    client.ask("LHLO client.example", "250").await;
    client.ask("MAIL FROM:<>", "250").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("DATA", "354").await;
    client.send("x\r\n.\r\n").await;
    client.expect("451 4.3.0").await;
    client.expect("451 4.3.0").await;
    client.ask("QUIT", "221").await;
    running.abort();
}

#[tokio::test] // RFC 3207 and RFC 3848 §2 in LMTP: STARTTLS is listed behind LHLO and forgets it; `with` says LMTPS.
async fn r2033_starttls_is_as_in_smtp() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = builder(&inbox, &log)
        .listener(Listener::new("127.0.0.1:0").lmtp().tls(server_tls()))
        .bind()
        .await
        .expect("loopback has free ports");
    let address = server.local_addresses()[0];
    let running = tokio::spawn(server.run());
    let mut client = Client::connect(address).await;
    client.expect("220").await;
    client.ask("STARTTLS", "503 5.5.1").await;
    client.ask("LHLO client.example", "250").await;
    client.ask("STARTTLS", "220 2.0.0").await;
    let mut client = client.under_tls().await;
    client.ask("MAIL FROM:<>", "503 5.5.1").await;
    client.ask("EHLO client.example", "500 5.5.1").await;
    client.ask("LHLO client.example", "250").await;
    client.ask("MAIL FROM:<>", "250").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client.ask("RCPT TO:<bob@example.org>", "250").await;
    client.ask("DATA", "354").await;
    client.send("x\r\n.\r\n").await;
    client.expect("250 2.0.0").await;
    client.expect("250 2.0.0").await;
    client.ask("QUIT", "221").await;
    let prefix = String::from_utf8(inbox.messages()[0].header_prefix()).expect("text").replace("\r\n", "");
    assert!(prefix.contains(" by mx.example.org with LMTPS id "), "{prefix}");
    running.abort();
}
