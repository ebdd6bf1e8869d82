//! RFC 3030: CHUNKING and BINARYMIME, the sending side.

use smtp_core::{Body, ClientLimits, SendCause, SendStage};

use crate::scripted::{Machine, envelope, outcomes};

const ALL: [&str; 5] = ["PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME", "SIZE"];
const BLOCK_OCTETS: usize = 64 << 10;

fn sent(machine: &mut Machine) -> String {
    String::from_utf8(machine.take_sent()).expect("ASCII in these tests")
}

fn preferring_chunks(mut machine: Machine) -> Machine {
    let other = Machine::new(ClientLimits::default()).session;
    machine.session = std::mem::replace(&mut machine.session, other).with_chunking();
    machine
}

/// A session that prefers chunks, to a server that offers them.
fn chunking() -> Machine {
    preferring_chunks(Machine::greeted(&ALL))
}

#[test] // RFC 3030 §3: to a server that offers both, octet for octet.
fn r3030b_a_binary_message_goes_by_bdat() {
    let all: Vec<u8> = (0..=255).collect();
    let content = [b"Subject: x\r\n\r\n.\r\n", &all[..], b"\n.\n\r"].concat();
    let mut machine = Machine::greeted(&ALL);
    machine.begin(&envelope(&["jones"]).with_body(Body::BinaryMime), &[&content[..100], &content[100..]]);
    let expected = format!(
        "MAIL FROM:<a@client.example> BODY=BINARYMIME SIZE={}\r\nRCPT TO:<jones@example.org>\r\n",
        content.len()
    );
    assert_eq!(sent(&mut machine), expected, "BDAT waits until somebody is accepted");
    machine.receive("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
    let expected = [format!("BDAT {} LAST\r\n", content.len()).as_bytes(), &content].concat();
    assert_eq!(machine.take_sent(), expected);
    machine.receive("250 2.0.0 Ok\r\n");
    assert_eq!(outcomes(&machine.report()), ["delivered 250"]);
    assert!(machine.session.is_reusable());
}

#[test] // RFC 3030 §3: a server without it gets nothing; RFC 3463 §3.7: 5.6.1.
fn r3030b_a_server_without_binarymime_never_hears_of_the_message() {
    for extensions in [&[][..], &["CHUNKING"], &["BINARYMIME"], &["8BITMIME", "PIPELINING"]] {
        let mut machine = Machine::greeted(extensions);
        machine.begin(&envelope(&["jones", "green"]).with_body(Body::BinaryMime), &[b"x"]);
        assert_eq!(sent(&mut machine), "");
        let report = machine.report();
        assert_eq!(outcomes(&report), ["failed 5.6.1", "failed 5.6.1"]);
        let error = report.recipients()[0].as_ref().expect_err("refused");
        assert_eq!((error.stage(), error.cause()), (SendStage::Local, &SendCause::Binary));
        assert!(machine.session.is_reusable());
    }
}

#[test] // SECURITY D-2: content that is not lines goes unchanged by BDAT, or fails with 5.6.0.
fn d2_what_is_not_lines_goes_as_binary_or_not_at_all() {
    for content in [
        &["a\r\n..b\r\n.c\n"][..],
        &[".\r\n", ".\r", "x\r\n"],
        &["..", "\r\n", "\0"],
        &["a\r\n.", "\r"],
        &["\n"],
        &["\r\n", "\r\n", ".", ".\r\n", "\r\r"],
    ] {
        let chunks: Vec<&[u8]> = content.iter().map(|chunk| chunk.as_bytes()).collect();
        let whole = content.concat();
        for body in [None, Some(Body::SevenBit), Some(Body::EightBitMime)] {
            let message = body.map_or_else(|| envelope(&["jones"]), |body| envelope(&["jones"]).with_body(body));
            for mut machine in [Machine::greeted(&ALL), chunking()] {
                machine.begin(&message, &chunks);
                let size = whole.len();
                let expected = format!(
                    "MAIL FROM:<a@client.example> BODY=BINARYMIME SIZE={size}\r\nRCPT TO:<jones@example.org>\r\n"
                );
                assert_eq!(sent(&mut machine), expected, "{whole:?}");
                machine.receive("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
                assert_eq!(sent(&mut machine), format!("BDAT {size} LAST\r\n{whole}"));
                machine.receive("250 2.0.0 Ok\r\n");
                assert_eq!(outcomes(&machine.report()), ["delivered 250"]);
            }
            let mut machine = Machine::greeted(&["8BITMIME", "CHUNKING"]);
            machine.begin(&message, &chunks);
            assert_eq!(sent(&mut machine), "");
            assert_eq!(outcomes(&machine.report()), ["failed 5.6.0"]);
        }
    }
}

#[test] // Lines go by DATA, unless the client prefers chunks; then without transparency, and with their last CRLF.
fn r3030a_lines_go_by_bdat_where_the_client_prefers_it() {
    for (content, chunk) in [("..\r\n.\r\n", "..\r\n.\r\n"), ("no end", "no end\r\n"), ("", "")] {
        let mut machine = Machine::greeted(&ALL);
        machine.begin(&envelope(&["jones"]), &[content.as_bytes()]);
        assert!(sent(&mut machine).ends_with("DATA\r\n"));

        let mut machine = chunking();
        machine.begin(&envelope(&["jones"]), &[content.as_bytes()]);
        let size = chunk.len();
        let expected = format!("MAIL FROM:<a@client.example> SIZE={size}\r\nRCPT TO:<jones@example.org>\r\n");
        assert_eq!(sent(&mut machine), expected);
        machine.receive("250 Ok\r\n250 Ok\r\n");
        assert_eq!(sent(&mut machine), format!("BDAT {size} LAST\r\n{chunk}"));
        machine.receive("451 4.3.0 Not now\r\n");
        assert_eq!(outcomes(&machine.report()), ["deferred 4.3.0"]);
        assert!(machine.session.is_reusable(), "RFC 3030 §2: LAST ends the transaction");
    }
    let mut machine = preferring_chunks(Machine::greeted(&["8BITMIME"]));
    machine.begin(&envelope(&["jones"]), &[b"x\r\n"]);
    machine.receive("250 Ok\r\n");
    machine.receive("250 Ok\r\n");
    assert!(sent(&mut machine).ends_with("DATA\r\n"), "a server that does not offer it");
}

#[test] // RFC 3030 §2: chunks are sent ahead of replies only where PIPELINING is offered.
fn r3030a_a_large_message_goes_in_chunks() {
    let content = vec![b'x'; BLOCK_OCTETS * 12 + 5];
    for (extensions, ahead) in [(&ALL[..], 8), (&["CHUNKING", "BINARYMIME"], 1)] {
        let mut machine = Machine::greeted(extensions);
        machine.begin(&envelope(&["jones"]).with_body(Body::BinaryMime), &[&content]);
        machine.receive("250 Ok\r\n");
        machine.receive("250 Ok\r\n");
        let mut wire = Vec::new();
        let (mut replies, mut most) = (0, 0);
        while machine.reports.is_empty() {
            let sent = machine.take_sent();
            wire.extend_from_slice(&sent);
            let chunks = wire.windows(5).filter(|five| five == b"BDAT ").count();
            most = most.max(chunks - replies);
            replies += 1;
            machine.receive("250 2.0.0 Ok\r\n");
            assert!(replies < 100, "the message comes to an end");
        }
        assert_eq!(outcomes(&machine.report()), ["delivered 250"]);
        assert_eq!((replies, most), (13, ahead));
        let mut rest = &wire[wire.windows(5).position(|five| five == b"BDAT ").expect("sent")..];
        let mut received = 0;
        while !rest.is_empty() {
            let end = rest.windows(2).position(|two| two == b"\r\n").expect("a line");
            let line = std::str::from_utf8(&rest[..end]).expect("ASCII");
            let octets: usize = line.split(' ').nth(1).expect("a size").parse().expect("a number");
            received += octets;
            rest = &rest[end + 2 + octets..];
            assert_eq!(line.ends_with(" LAST"), rest.is_empty(), "{line}");
        }
        assert_eq!(received, content.len());
    }
}

#[test] // RFC 3030 §2: a refused chunk ends the transaction for all, and no chunk follows it.
fn r3030a_a_refused_chunk_is_the_reason_for_every_recipient() {
    let content = vec![b'x'; BLOCK_OCTETS * 20];
    for (reply, expected) in [("552 5.3.4 Too large", "failed 5.3.4"), ("452 4.3.1 No room", "deferred 4.3.1")] {
        let mut machine = Machine::greeted(&ALL);
        machine.begin(&envelope(&["jones", "green", "brown"]).with_body(Body::BinaryMime), &[&content]);
        machine.receive("250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n250 Ok\r\n");
        machine.take_sent();
        machine.receive("250 2.0.0 Ok\r\n");
        machine.take_sent();
        machine.receive(format!("{reply}\r\n"));
        assert_eq!(sent(&mut machine), "", "nothing more is sent");
        for _ in 0..7 {
            machine.receive("503 5.5.1 Bad sequence\r\n");
        }
        assert_eq!(sent(&mut machine), "QUIT\r\n");
        machine.receive("221 2.0.0 Bye\r\n");
        assert_eq!(outcomes(&machine.report()), [expected, "failed 5.1.1", expected]);
    }
    // The last chunk was on its way: the server may still have a transaction.
    let mut machine = Machine::greeted(&ALL);
    machine.begin(&envelope(&["jones"]).with_body(Body::BinaryMime), &[&content[..=BLOCK_OCTETS]]);
    machine.receive("250 Ok\r\n250 Ok\r\n");
    machine.take_sent();
    machine.receive("452 4.3.1 No room\r\n503 5.5.1 Bad sequence\r\n");
    assert_eq!(sent(&mut machine), "QUIT\r\n");
    machine.receive("221 2.0.0 Bye\r\n");
    assert_eq!(outcomes(&machine.report()), ["deferred 4.3.1"]);
}

#[test] // SECURITY D-35: what means nothing behind a chunk is not believed.
fn d35_a_reply_to_a_chunk_that_means_nothing_is_not_believed() {
    for reply in ["354 Go on", "999 x", "250 Ok\r\n250 Ok\r\n250 Ok"] {
        let mut machine = Machine::greeted(&ALL);
        machine.begin(&envelope(&["jones"]).with_body(Body::BinaryMime), &[&vec![b'x'; BLOCK_OCTETS + 1]]);
        machine.receive("250 Ok\r\n250 Ok\r\n");
        machine.receive(format!("{reply}\r\n"));
        let report = machine.report();
        let is_believed = reply.starts_with("250");
        assert_eq!(outcomes(&report)[0].starts_with("delivered"), is_believed, "{reply}");
        assert!(machine.session.is_closed(), "{reply}");
    }
}

#[test] // RFC 5321 §4.1.4: nobody is accepted, so there is nothing to send.
fn r3030a_without_recipients_there_is_no_chunk() {
    let mut machine = Machine::greeted(&ALL);
    machine.begin(&envelope(&["jones"]).with_body(Body::BinaryMime), &[b"x"]);
    machine.take_sent();
    machine.receive("250 Ok\r\n550 5.1.1 No\r\n");
    assert_eq!(sent(&mut machine), "RSET\r\n");
    machine.receive("250 Ok\r\n");
    assert_eq!(outcomes(&machine.report()), ["failed 5.1.1"]);
    assert!(machine.session.is_reusable());
}
