//! What a client refuses to send, and content that it never ends (SECURITY D-2).

use std::io::ErrorKind;

use smtp_core::{Defect, SendCause, SendStage};

use crate::scripted::{Machine, envelope, outcomes};

const GROUP: &str = "250 Ok\r\n250 Ok\r\n354 Go\r\n";

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
