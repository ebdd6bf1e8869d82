//! What a client says of content, refuses to send, and never ends (RFC 1870, RFC 6152, SECURITY D-2).

mod scripted;

use std::io::ErrorKind;

use smtp_core::{Body, Defect, SendCause, SendStage};

use scripted::{Machine, envelope, outcomes};

const GROUP: &str = "250 Ok\r\n250 Ok\r\n354 Go\r\n";

#[test] // RFC 1870 §6 and §5: with the line end that is added, without transparency.
fn r1870_size_is_declared_where_it_is_offered() {
    for (extensions, content, expected) in [
        (&["SIZE 1000"][..], &b".a\r\n"[..], "MAIL FROM:<a@client.example> SIZE=4\r\n"),
        (&["SIZE"], b".a", "MAIL FROM:<a@client.example> SIZE=4\r\n"),
        (&["SIZE 0"], b"", "MAIL FROM:<a@client.example> SIZE=0\r\n"),
        (&[], b"a\r\n", "MAIL FROM:<a@client.example>\r\n"),
    ] {
        let mut machine = Machine::greeted(extensions);
        machine.begin(&envelope(&["jones"]), &[content]);
        assert_eq!(String::from_utf8_lossy(&machine.take_sent()), expected, "{extensions:?}");
    }
}

#[test] // RFC 1870 §6.1: what exceeds the limit is refused here, and what does not is tried.
fn r1870_a_message_over_the_limit_is_not_even_tried() {
    for (octets, sent, expected) in [(999, true, ""), (1000, true, ""), (1001, false, "failed 5.3.4")] {
        let mut machine = Machine::greeted(&["PIPELINING", "SIZE 1000"]);
        let mut content = vec![b'x'; octets - 2];
        content.extend_from_slice(b"\r\n");
        machine.begin(&envelope(&["jones"]), &[&content]);
        assert_eq!(!machine.take_sent().is_empty(), sent, "{octets}");
        if !sent {
            assert_eq!(outcomes(&machine.report()), [expected]);
            assert!(machine.session.is_reusable());
        }
    }
    // The line end that is added counts.
    let mut machine = Machine::greeted(&["SIZE 1000"]);
    machine.begin(&envelope(&["jones"]), &[&[b'x'; 999]]);
    assert_eq!(outcomes(&machine.report()), ["failed 5.3.4"]);
}

#[test] // RFC 6152 §2 and §3.
fn r6152_8bit_content_goes_only_where_it_is_taken() {
    let message = envelope(&["jones"]);
    for (extensions, body, expected) in [
        (&["8BITMIME"][..], Some(Body::EightBitMime), Some("MAIL FROM:<a@client.example> BODY=8BITMIME\r\n")),
        (&["8BITMIME"], Some(Body::SevenBit), Some("MAIL FROM:<a@client.example> BODY=7BIT\r\n")),
        (&["8BITMIME"], None, Some("MAIL FROM:<a@client.example>\r\n")),
        (&[], Some(Body::SevenBit), Some("MAIL FROM:<a@client.example>\r\n")),
        (&[], Some(Body::EightBitMime), None),
    ] {
        let mut machine = Machine::greeted(extensions);
        let message = body.map_or_else(|| message.clone(), |body| message.clone().with_body(body));
        machine.begin(&message, &["J\u{fc}rgen\r\n".as_bytes()]);
        let sent = machine.take_sent();
        assert_eq!(String::from_utf8_lossy(&sent), expected.unwrap_or_default());
        if expected.is_none() {
            let report = machine.report();
            assert_eq!(outcomes(&report), ["failed 5.6.3"]);
            let error = report.recipients()[0].as_ref().expect_err("refused");
            assert_eq!((error.stage(), error.cause()), (SendStage::Local, &SendCause::EightBit));
            assert!(machine.session.is_reusable());
        }
    }
}

#[test] // SECURITY D-2: content of one block is checked before MAIL, the rest before its octets leave.
fn d2_defects_never_reach_the_wire() {
    let clean = vec![b'x'; 65_536];
    for (defect, octets) in [(Defect::BareLf, &b"a\nb"[..]), (Defect::BareCr, b"a\rb"), (Defect::Nul, b"a\0b")] {
        let mut machine = Machine::greeted(&["PIPELINING"]);
        machine.begin(&envelope(&["jones", "green"]), &[b"x\r\n", octets]);
        assert!(machine.take_sent().is_empty());
        let report = machine.report();
        assert_eq!(outcomes(&report), ["failed 5.6.0", "failed 5.6.0"]);
        let error = report.recipients()[0].as_ref().expect_err("refused");
        assert_eq!((error.stage(), error.cause()), (SendStage::Local, &SendCause::Defect(defect)));
        assert!(machine.session.is_reusable(), "the server knows nothing of it");

        let mut machine = Machine::greeted(&["PIPELINING"]);
        machine.begin(&envelope(&["jones", "green"]), &[&clean, octets]);
        machine.receive("250 Ok\r\n250 Ok\r\n550 5.1.1 No\r\n354 Go\r\n");
        let report = machine.report();
        assert_eq!(outcomes(&report), ["failed 5.6.0", "failed 5.1.1"]);
        let error = report.recipients()[0].as_ref().expect_err("refused");
        assert_eq!((error.stage(), error.cause()), (SendStage::Content, &SendCause::Defect(defect)));
        assert!(machine.session.is_closed(), "the server must not take what it has for a message");
        let sent = machine.take_sent();
        assert!(!sent.ends_with(b".\r\n") && !sent.contains(&0));
        assert!(!sent.windows(5).any(|window| window == b"\r\n.\r\n"));
    }
}

#[test] // A CR at the very end is bare too.
fn d2_a_cr_at_the_end_is_bare() {
    let mut machine = Machine::greeted(&[]);
    machine.begin(&envelope(&["jones"]), &[b"x\r"]);
    assert_eq!(outcomes(&machine.report()), ["failed 5.6.0"]);
    assert!(machine.take_sent().is_empty());
}

#[test] // Half a message must not become a whole one.
fn content_of_another_length_is_never_ended() {
    let message = envelope(&["jones"]);
    let large = vec![b'x'; 70_000];
    for (chunks, declared) in [
        (&[&b"x\r\n"[..]][..], 4),
        (&[b"x\r\n"], 2),
        (&[], 1),
        (&[b"x\r\n"], u64::MAX),
        (&[&large], 70_001),
        (&[&large], 69_999),
    ] {
        let mut machine = Machine::greeted(&["PIPELINING"]);
        machine.begin_declared(&message, chunks, declared);
        let is_begun = !machine.take_sent().is_empty();
        assert_eq!(is_begun, declared > 60_000 && declared < u64::MAX, "{declared}");
        if is_begun {
            machine.receive(GROUP);
        }
        assert_eq!(outcomes(&machine.report()), ["deferred 4.3.0"], "{declared}");
        assert!(!machine.take_sent().ends_with(b".\r\n"));
        assert_eq!(machine.session.is_reusable(), !is_begun);
    }
}

#[test] // A disk that fails is a temporary fault (promise 4).
fn a_source_that_fails_defers_the_message() {
    for (octets, is_reusable) in [(10, true), (70_000, false)] {
        let mut machine = Machine::greeted(&["PIPELINING"]);
        machine.fail_source(ErrorKind::PermissionDenied);
        machine.begin_declared(&envelope(&["jones"]), &[&vec![b'x'; octets]], 100_000);
        machine.receive(if is_reusable { "" } else { GROUP });
        let report = machine.report();
        let error = report.recipients()[0].as_ref().expect_err("deferred");
        assert_eq!(error.cause(), &SendCause::Source(ErrorKind::PermissionDenied));
        assert!(error.is_transient());
        assert_eq!(machine.session.is_reusable(), is_reusable);
    }
}

#[test] // RFC 2920 §3.1: head, content and end leave in one write when they fit.
fn a_small_message_is_one_write() {
    let mut machine = Machine::greeted(&["PIPELINING"]);
    machine.begin(&envelope(&["jones"]), &[b"Received: x\r\n", b"Subject: x\r\n\r\n", b"text"]);
    assert!(machine.take_sent().ends_with(b"DATA\r\n"));
    machine.receive(GROUP);
    assert_eq!(machine.take_sent(), b"Received: x\r\nSubject: x\r\n\r\ntext\r\n.\r\n");
}

#[test] // A message without recipients needs no server.
fn nobody_is_sent_nothing() {
    let mut machine = Machine::greeted(&[]);
    machine.begin(&envelope(&[]), &[b"x\r\n"]);
    assert!(machine.report().recipients().is_empty() && machine.take_sent().is_empty());
    assert!(machine.session.is_reusable());
}
