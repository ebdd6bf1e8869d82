//! SECURITY.md D-14 and D-46: chunks that are refused are drained exactly, and tiny ones do not go on for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{
    CloseReason, Connection, Lookup, LookupAnswer, Question, Refusal, ServerSession, SessionConfig, SessionId, Stage,
    Step, Verdict,
};

use crate::support::machine::{Machine, config, patient, replies, without_policies};

const ENVELOPE: &str = "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n";

/// A limit that tests reach: 1,000 octets of content.
fn small() -> SessionConfig {
    let mut config = patient();
    config.limits.message_octets = 1000;
    config
}

#[test] // SECURITY D-14: where nobody knows how many octets follow, none of them is a command.
fn d14_a_chunk_size_that_is_no_number_ends_the_session() {
    for argument in [
        "",
        " ",
        " -1",
        " -1 LAST",
        " +1",
        " 0x10",
        " 1e3",
        " 1.0",
        " 18446744073709551616",
        " 99999999999999999999 LAST",
        " 000000000000000000001",
        " LAST",
        " 5LAST",
        " 5 FIRST",
        " 5 5",
        "\t5",
        " 5\0",
        " \u{0661}",
        "5",
        "X 5",
    ] {
        for prepared in ["", "EHLO c.example\r\n", ENVELOPE] {
            let mut machine = Machine::greeted(patient());
            machine.send(prepared);
            let wire = format!("BDAT{argument}\r\nMAIL FROM:<smuggled@evil.example>\r\nQUIT\r\n");
            assert_eq!(machine.replies(&wire), ["501 5.5.4"], "BDAT{argument:?} behind {prepared:?}");
            assert_eq!(machine.session.close_reason(), Some(CloseReason::Violation));
            assert!(machine.delivered.is_empty());
        }
    }
}

#[test] // SECURITY D-14: exactly so many octets, whatever they look like, and the next command behind them.
fn d14_a_refused_chunk_is_drained_exactly() {
    let looks_like = "MAIL FROM:<smuggled@evil.example>\r\n.\r\nQUIT\r\nBDAT 5 LAST\r\n\0\n\r";
    let refused_recipient = "MAIL FROM:<a@client.example>\r\nRCPT TO:<nobody@example.org>\r\n";
    for (what, greeting, before, expected) in [
        ("before EHLO", "", "", "503 5.5.1"),
        ("behind HELO", "HELO c.example\r\n", ENVELOPE, "502 5.5.1"),
        ("before MAIL", "EHLO c.example\r\n", "", "503 5.5.1"),
        ("before RCPT", "EHLO c.example\r\n", "MAIL FROM:<a@client.example>\r\n", "554 5.5.1"),
        ("all recipients refused", "EHLO c.example\r\n", refused_recipient, "554 5.5.1"),
        ("behind RSET", "EHLO c.example\r\n", "RSET\r\n", "503 5.5.1"),
    ] {
        for octets in [0, 1, 2, 7, looks_like.len(), 1000] {
            for last in ["", " LAST"] {
                for cut in [1, 3, 10_000] {
                    let mut machine = Machine::new(small());
                    machine.send("");
                    machine.send(greeting);
                    machine.send(before);
                    let content = looks_like.repeat(1 + octets / looks_like.len());
                    let wire = format!("BDAT {octets}{last}\r\n{}NOOP\r\n", &content[..octets]);
                    let said: String = wire.as_bytes().chunks(cut).map(|piece| machine.send(piece)).collect();
                    assert_eq!(replies(&said), [expected, "250 2.0.0"], "{what}: {octets}{last} cut by {cut}");
                    assert!(machine.session.transaction().is_none(), "{what}: the chunk ended the transaction");
                    assert!(machine.delivered.is_empty());
                }
            }
        }
    }
}

#[test] // LI18: what is more than a message may have is not drained.
fn d14_a_chunk_too_large_to_be_drained_ends_the_session_at_once() {
    for (what, before, size, expected) in [
        ("before MAIL", "", 1001, "503 5.5.1"),
        ("before RCPT", "MAIL FROM:<a@client.example>\r\n", 1001, "554 5.5.1"),
        ("in a transaction", ENVELOPE, 2001, "552 5.3.4"),
        ("2^32", ENVELOPE, 1 << 32, "552 5.3.4"),
        ("2^64-1", ENVELOPE, u64::MAX, "552 5.3.4"),
        (
            "2^64-1 behind another",
            "MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nBDAT 2\r\n\r\n",
            u64::MAX,
            "552 5.3.4",
        ),
    ] {
        for last in ["", " LAST"] {
            let mut machine = Machine::greeted(small());
            machine.send(before);
            assert_eq!(machine.replies(format!("BDAT {size}{last}\r\nxxxx")), [expected], "{what}");
            assert_eq!(machine.session.close_reason(), Some(CloseReason::Limit), "{what}");
        }
    }
    // One octet less is drained, and the session goes on.
    let mut machine = Machine::greeted(small());
    machine.send(ENVELOPE);
    let wire = format!("BDAT 2000 LAST\r\n{}NOOP\r\n", "x".repeat(2000));
    assert_eq!(machine.replies(wire), ["552 5.3.4", "250 2.0.0"]);
}

#[test] // SECURITY D-14: `BDAT n LAST` with `MAIL` behind, in one piece.
fn d14_commands_behind_the_last_chunk_are_commands() {
    let mut machine = Machine::greeted(config());
    let message = format!("{ENVELOPE}BDAT 7 LAST\r\nfirst\r\n{ENVELOPE}BDAT 8 LAST\r\nsecond\r\nQUIT\r\n");
    let expected = ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.1.0", "250 2.1.5", "250 2.0.0", "221 2.0.0"];
    assert_eq!(machine.replies(message), expected);
    let contents: Vec<_> = machine.delivered.iter().map(|it| &it.content[..]).collect();
    assert_eq!(contents, [&b"first\r\n"[..], b"second\r\n"]);
}

#[test] // SECURITY D-14, D-44: the end of the input inside a chunk, or between two.
fn d14_a_client_that_leaves_within_a_message_has_sent_none() {
    for wire in ["BDAT 10 LAST\r\n12345678\r", "BDAT 10 LAST\r\n", "BDAT 7\r\nwhole\r\n", "BDAT 0\r\n", "BDAT 0 LAST"] {
        let mut machine = Machine::with_recipient(config());
        machine.send(wire);
        machine.leave();
        assert!(machine.delivered.is_empty() && machine.is_closed(), "{wire:?}");
        assert!(machine.session.transaction().is_none());
    }
}

/// What is made ready before a message is sent.
type Prepare = fn(&mut Machine, Refusal);

#[test] // SECURITY D-44: whatever ends a message that came in chunks, the next command meets an empty envelope.
fn d44_each_end_of_a_chunked_message_leaves_an_empty_envelope() {
    let refusal = || Refusal::permanent(7, 1, "No");
    let ends: [(&str, Prepare, String, &str); 8] = [
        ("acceptance", |_, _| {}, "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n".into(), "250 2.0.0"),
        ("RSET", |_, _| {}, "BDAT 3\r\nx\r\nRSET\r\n".into(), "250 2.0.0"),
        ("DATA", |_, _| {}, "BDAT 3\r\nx\r\nDATA\r\n".into(), "503 5.5.1"),
        ("overflow", |_, _| {}, format!("BDAT 1100\r\n{}", "x".repeat(1100)), "552 5.3.4"),
        ("a loop", |_, _| {}, format!("BDAT 1113 LAST\r\n{}\r\n", "Received:\r\n".repeat(101)), "554 5.4.6"),
        ("no room", |machine, _| machine.has_room = false, "BDAT 3 LAST\r\nx\r\n".into(), "452 4.3.1"),
        ("lost", |machine, _| machine.stores_octets = 0, "BDAT 3\r\nx\r\n".into(), "452 4.3.1"),
        (
            "a policy",
            |machine, refusal| {
                machine.verdicts.insert(Stage::Message, Verdict::Refuse(refusal));
            },
            "BDAT 3 LAST\r\nx\r\n".into(),
            "550 5.7.1",
        ),
    ];
    for (end, prepare, wire, expected) in ends {
        let mut machine = Machine::with_recipient(small());
        prepare(&mut machine, refusal());
        assert_eq!(machine.replies(wire).last().map(String::as_str), Some(expected), "{end}");
        assert!(!machine.is_closed() && machine.session.transaction().is_none(), "{end}");
        for command in ["RCPT TO:<alice@example.org>\r\n", "BDAT 2 LAST\r\n\r\n", "DATA\r\n"] {
            assert_eq!(machine.replies(command), ["503 5.5.1"], "{end}: {command}");
        }
        (machine.has_room, machine.stores_octets) = (true, usize::MAX);
        machine.verdicts.clear();
        machine.delivered.clear();
        let fresh = "MAIL FROM:<b@client.example>\r\nRCPT TO:<bob@example.org>\r\nBDAT 7 LAST\r\nfresh\r\n";
        assert_eq!(machine.codes(fresh), ["250", "250", "250"], "{end}");
        assert_eq!(machine.delivered[0].content, b"fresh\r\n", "{end}");
        assert_eq!(machine.delivered[0].recipients, ["<bob@example.org>"], "{end}");
    }
}

#[test] // LI17: 10,000 chunks, and 512 octets on average after 100.
fn d46_the_number_of_chunks_and_their_size_are_limited() {
    // Empty lines, so that the header section does not grow.
    let chunk = |octets: usize| format!("BDAT {octets}\r\n{}{}", "\r\n".repeat(octets / 2), &"x"[..octets % 2]);
    for (octets, taken) in [(0, 100), (1, 100), (511, 100), (512, 10_000)] {
        let mut machine = Machine::with_recipient(without_policies());
        let mut replies = machine.codes(chunk(octets).repeat(taken));
        assert_eq!(replies.len(), taken, "{octets}");
        assert!(replies.iter().all(|reply| reply == "250") && !machine.is_closed(), "{octets}");
        replies = machine.replies(chunk(octets));
        assert_eq!(replies, ["421 4.7.0"], "{octets}");
        assert_eq!(machine.session.close_reason(), Some(CloseReason::Limit));
        assert!(machine.delivered.is_empty());
    }
    // A large chunk pays for small ones; and what a message had is not that of the next.
    let mut machine = Machine::with_recipient(without_policies());
    assert_eq!(machine.codes(chunk(60_000) + &"BDAT 0\r\n".repeat(115) + "BDAT 0 LAST\r\n").len(), 117);
    for _ in 0..3 {
        assert_eq!(machine.codes(format!("{ENVELOPE}{}BDAT 0 LAST\r\n", "BDAT 0\r\n".repeat(99))).len(), 102);
    }
    assert_eq!(machine.delivered.len(), 4);
}

#[test] // LI11, LI12: chunks without a place do not go on for ever either.
fn d46_chunks_out_of_place_are_limited() {
    for (chunk, most) in [("BDAT 1 LAST\r\nx", 21), ("BDAT 1\r\nxNOOP\r\n", 41), ("BDAT 1\r\nx", 102)] {
        let mut machine = Machine::greeted(patient());
        let said = (0..200).map(|_| machine.send(chunk) + &machine.pass(Duration::from_secs(2)));
        let replies = replies(&said.collect::<String>());
        // What follows a chunk that was refused may have been on its way: it is nobody's error, and still not for ever.
        assert_eq!((replies.len(), replies.last().map(String::as_str)), (most, Some("421 4.7.0")), "{chunk:?}");
    }
}

/// Resident octets of this process; `None` where the system does not say.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}

/// A session in a transaction with a recipient.
fn session(config: &Arc<SessionConfig>, now: Instant) -> ServerSession {
    let address = |text: &str| text.parse().expect("an address");
    let connection = Connection::new(SessionId::new(1), address("192.0.2.1:40000"), address("192.0.2.25:25"));
    let mut session = ServerSession::new(config.clone(), Arc::new(connection), now);
    for piece in ["", "EHLO c.example\r\n", ENVELOPE] {
        say(&mut session, now, piece);
    }
    session
}

/// What the session says to that. Its content is dropped.
fn say(session: &mut ServerSession, now: Instant, piece: &str) -> String {
    let mut input = piece.as_bytes();
    while let Some(step) = session.poll(now, &mut input) {
        match step {
            Step::Content(octets) => assert_eq!(octets, b"x"),
            Step::Ask(Question::Lookup(ask)) => {
                session.answer(now, ask, LookupAnswer { lookup: Ok(Lookup::Mailbox), is_role: false });
            }
            Step::Ask(Question::Room(ask)) => session.answer(now, ask, Ok(())),
            Step::Ask(other) => panic!("a question that this test does not know: {other:?}"),
        }
    }
    let said = String::from_utf8(session.output().to_vec()).expect("replies are ASCII");
    session.output_written();
    said
}

/// So many chunks of one octet to sessions that end after 100 of them, then to one that does not.
fn memory_stays_flat(chunks: usize) {
    let (now, group) = (Instant::now(), "BDAT 1\r\nx".repeat(1000));
    let (limited, mut endless) = (Arc::new(without_policies()), without_policies());
    (endless.limits.chunks, endless.limits.chunks_before_average) = (u32::MAX, u32::MAX);
    endless.limits.header_octets = u64::MAX;
    let mut endless = session(&Arc::new(endless), now);
    let mut before = None;
    for number in 0..chunks / 1000 {
        let mut limited = session(&limited, now);
        let said = say(&mut limited, now, &group);
        assert!(limited.is_closed() && said.ends_with("421 4.7.0 Too many chunks, or too small ones\r\n"), "{said}");
        assert_eq!(replies(&say(&mut endless, now, &group)), vec!["250 2.0.0"; 1000]);
        if number == 9 {
            before = resident();
        }
    }
    assert_eq!(endless.content_octets(), chunks as u64);
    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after.saturating_sub(before);
        println!("D-46: {chunks} x BDAT 1, twice, {grown} octets more resident");
        assert!(grown < 1 << 20, "{grown} octets more");
    }
}

#[test] // SECURITY D-46: flat memory.
fn d46_tiny_chunks_do_not_grow_the_memory() {
    memory_stays_flat(100_000);
}

#[test] // SECURITY D-46, the whole of it: 10^7.
#[ignore = "takes long in a debug build"]
fn d46_ten_million_tiny_chunks_do_not_grow_the_memory() {
    memory_stays_flat(10_000_000);
}
