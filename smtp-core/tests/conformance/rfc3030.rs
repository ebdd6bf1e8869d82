//! RFC 3030: CHUNKING and BINARYMIME, the receiving side.

use std::time::Duration;

use smtp_core::{Accepted, Body, Delivery, Message, Refusal, Server, SessionConfig, Stage, async_trait};

use crate::support::machine::{Machine, config, patient};
use crate::support::transcript::transcript;
use crate::support::world::{Inbox, Users, in_process, open, unbound};

/// A configuration of a delivery that takes binary messages.
fn binary() -> SessionConfig {
    SessionConfig { honours_binarymime: true, ..config() }
}

/// A session behind `RCPT`, in a transaction that is binary or not.
fn envelope(is_binary: bool) -> Machine {
    let mut machine = Machine::greeted(binary());
    let body = if is_binary { " BODY=BINARYMIME" } else { "" };
    let commands = format!("MAIL FROM:<a@client.example>{body}\r\nRCPT TO:<alice@example.org>\r\n");
    assert_eq!(machine.codes(commands), ["250", "250"]);
    machine
}

#[test] // RFC 3030 §2 (1), §3 (1). What is offered is honoured.
fn r3030a_chunking_is_offered_always_and_binarymime_where_it_is_honoured() {
    for (config, is_binary) in [(config(), false), (binary(), true)] {
        let mut machine = Machine::new(config);
        machine.send("");
        let reply = machine.send("EHLO c.example\r\n");
        assert!(reply.contains("-CHUNKING\r\n"), "{reply}");
        assert_eq!(reply.contains("BINARYMIME\r\n"), is_binary, "{reply}");
        let expected = if is_binary { "250 2.1.0" } else { "555 5.5.4" };
        assert_eq!(machine.replies("MAIL FROM:<> BODY=BINARYMIME\r\n"), [expected]);
        assert_eq!(machine.send("HELO c.example\r\n").lines().count(), 1);
        assert_eq!(machine.replies("MAIL FROM:<> BODY=BINARYMIME\r\n"), ["555 5.5.4"]);
    }
}

#[test] // RFC 3030 §4.1.
fn r3030a_a_message_in_one_chunk() {
    transcript(
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<sam@client.example>
        S: 250 2.1.0
        C: RCPT TO:<alice@example.org>
        S: 250 2.1.5
        C: BDAT 16 LAST
        C: Subject: hi
        C: a
        S: 250 2.0.0
        C: QUIT
        S: 221 2.0.0
        -- closed
        ",
    );
}

#[test] // RFC 3030 §4.2: a pipelined message in three chunks, and the next command in the same octets.
fn r3030a_chunks_in_one_group_each_have_their_reply() {
    let mut machine = Machine::greeted(binary());
    let wire = "MAIL FROM:<ned@c.example> BODY=BINARYMIME\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\n\
        BDAT 4\r\na\nb\0BDAT 6\r\n\r\n.\r\n\rBDAT 0 LAST\r\nMAIL FROM:<second@c.example>\r\n";
    let expected =
        ["250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.0.0", "250 2.0.0", "250 2.0.0", "250 2.1.0"].map(str::to_owned);
    assert_eq!(machine.replies(wire), expected);
    assert_eq!(machine.delivered.len(), 1);
    assert_eq!(machine.delivered[0].content, b"a\nb\0\r\n.\r\n\r");
    assert_eq!(machine.delivered[0].recipients, ["<alice@example.org>", "<bob@example.org>"]);
    // R2920: the same however it is cut.
    let mut single = Machine::greeted(SessionConfig { honours_binarymime: true, ..patient() });
    let replies: Vec<_> = wire.bytes().flat_map(|octet| single.replies([octet])).collect();
    assert_eq!(replies, expected);
    assert_eq!(single.delivered, machine.delivered);
}

#[test] // RFC 3030 §2: octets are counted; a dot means nothing, and neither do commands.
fn r3030a_content_is_what_was_counted() {
    for content in [
        "",
        "Subject: x\r\n\r\nbody\r\n",
        "Subject: x\r\n\r\n.\r\n..\r\n.\r\n",
        ".\r\nMAIL FROM:<x@y.example>\r\nQUIT\r\nBDAT 5 LAST\r\n",
        "no CRLF at the end",
    ] {
        for cut in 0..=content.len() {
            let (first, second) = content.split_at(cut);
            let mut machine = envelope(false);
            let wire = format!("BDAT {}\r\n{first}BDAT {} LAST\r\n{second}", first.len(), second.len());
            assert_eq!(machine.replies(wire), ["250 2.0.0", "250 2.0.0"], "{content:?} cut at {cut}");
            assert_eq!(machine.delivered[0].content, content.as_bytes(), "cut at {cut}");
            assert_eq!(machine.replies("MAIL FROM:<>\r\n"), ["250 2.1.0"], "the session goes on");
        }
    }
}

#[test] // R5321a: text is lines, also where CRLF is split between chunks.
fn r3030a_text_has_no_bare_cr_lf_or_nul() {
    for (chunks, is_text) in [
        (&["a\r", "\nb\r\n"][..], true),
        (&["a\r", "", "\nb\r\n"], true),
        (&["a\r\n", "b"], true),
        (&["a\n", "b\r\n"], false),
        (&["a", "\nb\r\n"], false),
        (&["a\r", "b\r\n"], false),
        (&["a\r", "\rb\r\n"], false),
        (&["a\r\r\n", ""], false),
        (&["\n"], false),
        (&["a", "\0"], false),
        (&["a\0b\r\n"], false),
        (&["a\r\n\r"], false),
        (&["a\r", ""], false),
    ] {
        for is_binary in [false, true] {
            let mut machine = envelope(is_binary);
            let mut replies = Vec::new();
            for (number, chunk) in chunks.iter().enumerate() {
                let last = if number + 1 == chunks.len() { " LAST" } else { "" };
                replies.extend(machine.replies(format!("BDAT {}{last}\r\n{chunk}", chunk.len())));
            }
            let content = chunks.concat();
            if is_text || is_binary {
                assert_eq!(replies, vec!["250 2.0.0"; chunks.len()], "{chunks:?}");
                assert_eq!(machine.delivered[0].content, content.as_bytes());
            } else {
                assert_eq!(replies.last().map(String::as_str), Some("550 5.5.2"), "{chunks:?}");
                assert!(machine.is_closed() && machine.delivered.is_empty(), "{chunks:?}");
            }
        }
    }
}

#[test] // RFC 3030 §3: every octet, and no transparency.
fn r3030b_binary_content_has_any_octet() {
    let all: Vec<u8> = (0..=255).collect();
    let content = [b"Subject: x\r\n\r\n", &all[..], b"\n.\n\r.\r\r\n.\r\n", &all].concat();
    let mut machine = envelope(true);
    let (first, second) = content.split_at(200);
    assert_eq!(machine.replies([b"BDAT 200\r\n", first].concat()), ["250 2.0.0"]);
    let last = format!("BDAT {} LAST\r\n", second.len());
    assert_eq!(machine.replies([last.as_bytes(), second].concat()), ["250 2.0.0"]);
    assert_eq!(machine.delivered[0].content, content);
}

#[test] // RFC 3030 §2 and §3: DATA and BDAT are not mixed; what cannot go by DATA does not.
fn r3030a_commands_out_of_order_are_503() {
    let mut machine = envelope(false);
    assert_eq!(machine.replies("BDAT 3\r\nx\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.replies("MAIL FROM:<b@c.example>\r\n"), ["503 5.5.1"]);
    assert_eq!(machine.replies("RCPT TO:<bob@example.org>\r\n"), ["503 5.5.1"]);
    assert_eq!(machine.replies("NOOP\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.replies("VRFY x\r\n"), ["252 2.0.0"]);
    assert_eq!(machine.replies("BDAT 0 LAST\r\n"), ["250 2.0.0"], "the transaction went on");
    assert_eq!(machine.delivered[0].recipients, ["<alice@example.org>"]);
    assert_eq!(machine.replies("BDAT 3 LAST\r\nx\r\n"), ["503 5.5.1"], "RFC 3030 §2: behind LAST");
    assert_eq!(machine.replies("RSET\r\n"), ["250 2.0.0"]);

    let mut machine = envelope(false);
    assert_eq!(machine.replies("BDAT 3\r\nx\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.replies("DATA\r\n"), ["503 5.5.1"]);
    assert_eq!(machine.replies("BDAT 0 LAST\r\n"), ["503 5.5.1"], "of what was mixed nothing becomes a message");

    let mut machine = envelope(true);
    assert_eq!(machine.replies("DATA\r\n"), ["503 5.5.1"]);
    assert_eq!(machine.replies("BDAT 1 LAST\r\nx"), ["250 2.0.0"], "the right command is still welcome");
    assert_eq!(machine.delivered.len(), 1);
}

#[test] // RFC 3030 §2: RSET clears all segments. RFC 5321 §4.1.4: so does EHLO.
fn r3030a_what_was_sent_before_rset_is_gone() {
    for reset in ["RSET\r\n", "EHLO c.example\r\n", "HELO c.example\r\n"] {
        let mut machine = envelope(false);
        assert_eq!(machine.replies("BDAT 7\r\nfirst\r\n"), ["250 2.0.0"]);
        assert_eq!(machine.codes(reset), ["250"]);
        assert_eq!(machine.replies("BDAT 3 LAST\r\nx\r\n"), ["503 5.5.1"], "{reset}");
        assert_eq!(machine.codes("EHLO c.example\r\n"), ["250"]);
        let next = "MAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nBDAT 8 LAST\r\nsecond\r\n";
        assert_eq!(machine.codes(next), ["250", "250", "250"]);
        assert_eq!(machine.delivered.len(), 1);
        assert_eq!(machine.delivered[0].content, b"second\r\n");
    }
}

#[test] // RFC 3030 §2: a chunk that is refused is accepted, discarded, and then answered; the ones behind it, too.
fn r3030a_a_refused_chunk_is_discarded_before_it_is_answered() {
    let mut small = config();
    small.limits.message_octets = 100;
    let mut machine = Machine::with_recipient(small);
    let begin = format!("BDAT 90\r\n{}BDAT 60\r\n{}", "x".repeat(90), "y".repeat(59));
    assert_eq!(machine.replies(begin), ["250 2.0.0"], "the second is not complete");
    let pipelined = format!("yBDAT 40\r\n{}BDAT 0 LAST\r\nNOOP\r\n", "z".repeat(40));
    assert_eq!(machine.replies(pipelined), ["552 5.3.4", "503 5.5.1", "503 5.5.1", "250 2.0.0"]);
    assert!(machine.delivered.is_empty());
}

#[test] // RFC 1870 §6.1, and trouble with the disk while chunks come.
fn r3030a_no_room_is_transient() {
    let mut machine = envelope(false);
    machine.has_room = false;
    assert_eq!(machine.replies("BDAT 5 LAST\r\nxyz\r\nNOOP\r\n"), ["452 4.3.1", "250 2.0.0"]);
    let mut machine = envelope(false);
    machine.stores_octets = 4;
    assert_eq!(machine.replies("BDAT 3\r\nx\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.replies("BDAT 3\r\nx\r\nNOOP\r\n"), ["452 4.3.1", "250 2.0.0"]);
    assert_eq!(machine.replies("RCPT TO:<alice@example.org>\r\n"), ["503 5.5.1"], "the transaction is over");
}

#[test] // LI8, LI10 and PRACTICES: what holds for DATA holds for BDAT.
fn r3030a_the_limits_of_content_hold_for_chunks() {
    let many = "Received: x\r\n".repeat(101) + "\r\n";
    let fields = "A: b\r\n".repeat(1001) + "\r\n";
    for (content, expected) in
        [(&*many, "554 5.4.6"), (&*fields, "554 5.6.0"), (" continues\r\n\r\n", "554 5.6.0"), ("A: b\r\n", "250 2.0.0")]
    {
        let mut machine = envelope(false);
        let (first, second) = content.split_at(content.len() / 2);
        let wire = format!("BDAT {}\r\n{first}BDAT {} LAST\r\n{second}", first.len(), second.len());
        assert!(machine.replies(wire).contains(&expected.to_owned()), "{expected}");
        assert!(!machine.is_closed());
    }
}

#[test] // Policies and the delivery are asked as behind the dot, and only there.
fn r3030a_the_whole_message_is_judged_behind_the_last_chunk() {
    let mut machine = envelope(false).refusing(Stage::Message, Refusal::permanent(7, 1, "No"));
    assert_eq!(machine.replies("BDAT 3\r\nx\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.replies("BDAT 0 LAST\r\n"), ["550 5.7.1"]);
    let mut machine = envelope(false);
    machine.delivery = Err(Refusal::transient(3, 0, "Not now"));
    assert_eq!(machine.replies("BDAT 3 LAST\r\nx\r\n"), ["451 4.3.0"]);
    machine.delivery = Ok(Accepted::queued("17"));
    assert_eq!(machine.codes("MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n"), ["250", "250"]);
    assert_eq!(machine.send("BDAT 3 LAST\r\nx\r\n"), "250 2.0.0 Ok: queued as 17\r\n");
}

#[test] // TO5 within a chunk, TO8 between two, TO9 over all of them.
fn r3030a_the_time_limits_hold_over_chunks() {
    let minutes = |number: u64| Duration::from_secs(60 * number);
    let mut machine = envelope(false);
    machine.replies("BDAT 10\r\nx");
    assert_eq!(machine.pass(minutes(2)), "");
    assert!(machine.pass(minutes(2)).starts_with("421 4.4.2"), "content pauses");
    let mut machine = envelope(false);
    for _ in 0..5 {
        assert_eq!(machine.codes("BDAT 3\r\nx\r\n"), ["250"]);
        assert_eq!(machine.pass(minutes(4)), "", "between chunks the client has the time of a command");
    }
    assert!(machine.pass(minutes(2)).starts_with("421 4.4.2"));
    let mut machine = envelope(false);
    machine.replies("BDAT 1000\r\nx");
    let said: Vec<_> = (0..10)
        .map(|_| {
            machine.send("x");
            machine.pass(minutes(1))
        })
        .collect();
    assert!(said.iter().any(|said| said.starts_with("421 4.4.2")), "{said:?}");
    assert!(machine.is_closed());
}

/// Takes binary messages.
struct Binary(Inbox);

#[async_trait]
impl Delivery for Binary {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_binarymime(&self) -> bool {
        true
    }
}

/// The server asks the delivery; the declaration and every octet arrive, from memory and from a file.
#[tokio::test(start_paused = true)]
async fn r3030b_a_server_takes_binary_messages_where_its_delivery_does() {
    in_process(async {
        let inbox = Inbox::default();
        let builder = Server::builder("mx.example.org").recipients(Users).deliver(Binary(inbox.clone()));
        let server = unbound(builder).await;
        let octets: Vec<u8> = (0..=255).collect();
        for times in [1, 4000] {
            let mut client = open(&server);
            client.greet().await;
            client.ask("MAIL FROM:<a@client.example> BODY=BINARYMIME", "250").await;
            client.ask("RCPT TO:<alice@example.org>", "250").await;
            let content = [b"Subject: x\r\n\r\n", &octets.repeat(times)[..]].concat();
            client.send(format!("BDAT {}\r\n", content.len())).await;
            client.send(&content).await;
            client.expect("250 2.0.0").await;
            client.ask("BDAT 0 LAST", "250 2.0.0").await;
            client.ask("QUIT", "221").await;
            let messages = inbox.messages();
            let message = messages.last().expect("delivered");
            assert_eq!(message.parameters().body, Some(Body::BinaryMime));
            assert!(message.content().to_bytes().expect("readable") == content);
            assert_eq!(message.content().path().is_some(), times > 1);
        }
    })
    .await;
}
