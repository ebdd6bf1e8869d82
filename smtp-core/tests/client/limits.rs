//! What a client allows a server: STANDARDS TO2 to TO7, LI4, and the bound on the whole dialogue (SECURITY D-35).

use std::time::Duration;

use smtp_core::{ClientLimits, Envelope, SendCause, SendStage};

use crate::scripted::{Machine, envelope, outcomes};

const SECOND: Duration = Duration::from_secs(1);

/// What the server says, reply by reply, before it is silent.
type Said = &'static [&'static str];

const UP_TO_CONTENT: Said = &["220 mx\r\n", "250 mx\r\n", "250 Ok\r\n", "250 Ok\r\n", "354 Go\r\n"];

#[test] // RFC 5321 §4.5.3.2: each stage to the second.
fn to_each_stage_has_its_time_limit() {
    for (id, said, seconds, stage) in [
        ("TO2", &UP_TO_CONTENT[..0], 300, SendStage::Greeting),
        ("TO3", &UP_TO_CONTENT[..1], 300, SendStage::Hello),
        ("TO3", &UP_TO_CONTENT[..2], 300, SendStage::Mail),
        ("TO3", &UP_TO_CONTENT[..3], 300, SendStage::Rcpt),
        ("TO4", &UP_TO_CONTENT[..4], 120, SendStage::Data),
        ("TO6", &UP_TO_CONTENT[..5], 600, SendStage::EndOfContent),
    ] {
        let mut machine = Machine::new(ClientLimits::default());
        for reply in said {
            machine.pass(100 * SECOND);
            machine.receive(reply);
            if machine.session.is_reusable() {
                machine.begin(&envelope(&["jones"]), &[b"Hello\r\n"]);
            }
        }
        machine.pass((seconds - 1) * SECOND + Duration::from_millis(999));
        assert!(!machine.session.is_closed(), "{id}");
        machine.pass(Duration::from_millis(1));
        assert!(machine.session.is_closed(), "{id}");
        let error = machine.session.error().expect("a reason");
        assert_eq!((error.stage(), error.cause()), (stage, &SendCause::TimedOut), "{id}");
        if said.len() >= 2 {
            assert_eq!(outcomes(&machine.report()), ["deferred 4.4.2"], "{id}");
        }
    }
}

#[test] // RFC 5321 §2.3.8: who waits for a line that never comes is told why.
fn a_server_whose_lines_end_with_lf_alone_is_named_so() {
    for leaves in [false, true] {
        let mut machine = Machine::new(ClientLimits::default());
        machine.receive("220 mx\n");
        if leaves {
            machine.leave();
        } else {
            machine.pass(300 * SECOND);
        }
        let error = machine.session.error().expect("a reason");
        assert_eq!(error.to_string(), "greeting: the server sent a line that ends with LF alone");
        assert!(error.is_transient());
    }
}

#[test] // TO6: never shorter than 10 minutes (RFC 1047), also where the dialogue has lasted long.
fn to6_the_reply_to_content_is_awaited_for_ten_minutes_at_least() {
    let mut limits = ClientLimits::default();
    limits.end_of_content_timeout = SECOND;
    limits.dialogue = 301 * SECOND;
    let mut machine = Machine::new(limits);
    for reply in UP_TO_CONTENT {
        machine.pass(60 * SECOND);
        machine.receive(reply);
        if machine.session.is_reusable() {
            machine.begin(&envelope(&["jones"]), &[b"Hello\r\n"]);
        }
    }
    machine.pass(599 * SECOND);
    machine.receive("250 Ok\r\n");
    assert_eq!(outcomes(&machine.report()), ["delivered 250"]);
}

#[test] // TO7: what was said before stands, whatever comes of RSET and QUIT.
fn to7_rset_and_quit_are_not_worth_a_wait() {
    let mut machine = Machine::greeted(&[]);
    machine.begin(&envelope(&["jones"]), &[b"Hello\r\n"]);
    machine.receive("250 Ok\r\n");
    machine.receive("550 5.1.1 No\r\n");
    assert!(machine.take_sent().ends_with(b"RSET\r\n"));
    machine.pass(19 * SECOND);
    assert!(machine.reports.is_empty());
    machine.pass(SECOND);
    assert_eq!(outcomes(&machine.report()), ["failed 5.1.1"]);
    assert!(machine.session.is_closed());

    let mut machine = Machine::greeted(&[]);
    machine.session.quit(machine.now);
    machine.pass(29 * SECOND);
    assert!(!machine.session.is_closed());
    machine.pass(SECOND);
    assert!(machine.session.is_closed() && machine.session.error().is_none());
}

#[test] // TO5: a block that nobody reads, and a source that gives nothing.
fn to5_a_block_of_content_has_three_minutes() {
    let envelope = envelope(&["jones"]);
    let content = vec![b'x'; 100_000];
    // A server that does not read: the first block is never written.
    let mut session = Machine::greeted(&[]).session;
    let now = std::time::Instant::now() + SECOND;
    session.begin(now, &envelope, 100_000);
    let mut rest = &content[..];
    for reply in ["", "250 Ok\r\n", "250 Ok\r\n", "354 Go\r\n"] {
        let mut input = reply.as_bytes();
        while let Some(smtp_core::ClientStep::Content) = session.poll(now, &mut input) {
            session.content(now, &mut rest);
        }
        if !reply.starts_with("354") {
            session.output_written(now, usize::MAX);
        }
    }
    assert!(session.output().len() >= 64 << 10, "a whole block in one write");
    assert_eq!(session.deadline(), Some(now + 180 * SECOND));
    // Octets one by one do not help.
    session.output_written(now + 179 * SECOND, 1);
    assert_eq!(session.deadline(), Some(now + 180 * SECOND));

    // A source that hangs before anything was sent costs nobody a connection; later it does.
    for (chunks, is_reusable) in [(&[&content[..10]][..], true), (&[&content[..90_000]], false)] {
        let mut machine = Machine::greeted(&[]);
        machine.hang_source();
        machine.begin_declared(&envelope, chunks, 100_000);
        if !is_reusable {
            machine.receive("250 Ok\r\n");
            machine.receive("250 Ok\r\n");
            machine.receive("354 Go\r\n");
        }
        machine.pass(179 * SECOND);
        assert!(machine.reports.is_empty());
        machine.pass(SECOND);
        let report = machine.report();
        assert_eq!(outcomes(&report), ["deferred 4.3.0"]);
        assert_eq!(machine.session.is_reusable(), is_reusable);
        assert!(!machine.take_sent().windows(5).any(|octets| octets == b"\r\n.\r\n"));
    }
}

#[test] // SECURITY D-35: a server that draws out every reply ends in bounded time.
fn d35_the_dialogue_as_a_whole_has_a_limit() {
    let names: Vec<_> = (0..1000).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let many = envelope(&names);
    for extensions in [&[][..], &["PIPELINING"]] {
        let mut machine = Machine::greeted(extensions);
        let start = machine.now;
        machine.begin(&many, &[b"Hello\r\n"]);
        for _ in 0..1000 {
            machine.pass(299 * SECOND);
            machine.receive("250 Ok\r\n");
        }
        let report = machine.report();
        assert!(
            report.recipients().iter().all(|result| result.as_ref().is_err_and(smtp_core::SendError::is_transient))
        );
        assert!(machine.session.is_closed() && machine.now > start + 3600 * SECOND);
        // 299 s is not reached 13 times within an hour.
        assert!(machine.take_sent().split(|&octet| octet == b'\n').count() <= 4096);
    }
    // One octet a second makes no reply.
    let mut machine = Machine::greeted(&[]);
    machine.begin(&envelope(&["jones"]), &[b"Hello\r\n"]);
    for _ in 0..400 {
        machine.pass(SECOND);
        machine.receive("2");
    }
    assert_eq!(outcomes(&machine.report()), ["deferred 4.4.2"]);
}

#[test] // RFC 2920 §3.1: what is unanswered is bounded, and a long envelope still goes in groups.
fn r2920_a_group_is_bounded_in_commands_and_octets() {
    let names: Vec<_> = (0..1000).map(|number| format!("user{number:04}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let many = envelope(&names);
    let mut machine = Machine::greeted(&["PIPELINING"]);
    machine.begin(&many, &[b"Hello\r\n"]);
    let (mut groups, mut unanswered, mut commands) = (0, 0, 0);
    while machine.reports.is_empty() {
        let sent = machine.take_sent();
        if sent == b"Hello\r\n.\r\n" {
            machine.receive("250 Ok\r\n");
            continue;
        }
        let lines = sent.split(|&octet| octet == b'\n').count() - 1;
        groups += usize::from(lines > 0);
        commands += lines;
        unanswered += lines;
        assert!(unanswered <= 256 && sent.len() <= 34 << 10, "{unanswered} commands, {} octets", sent.len());
        assert!(unanswered > 0, "no deadlock");
        unanswered -= 1;
        machine.receive(if commands == 1002 && unanswered == 0 { "354 Go\r\n" } else { "250 Ok\r\n" });
    }
    assert_eq!((commands, machine.report().delivered()), (1002, 1000));
    assert!((5..20).contains(&groups), "{groups} groups");

    // Long paths: octets count.
    let long = format!("{}@example.org", "x".repeat(1000));
    let envelope = Envelope::parse("<>", vec![long; 100]).expect("paths");
    let mut machine = Machine::greeted(&["PIPELINING"]);
    machine.begin(&envelope, &[b"Hello\r\n"]);
    assert!((32 << 10..34 << 10).contains(&machine.take_sent().len()));
}

#[test] // LI4: 64 KiB and 512 lines in all, at every stage.
fn d35_a_reply_without_end_ends_the_session() {
    for endless in ["250-x\r\n".repeat(600), "250 ".to_owned() + &"x".repeat(70_000)] {
        for stage in 0..=UP_TO_CONTENT.len() {
            let mut machine = Machine::new(ClientLimits::default());
            for reply in &UP_TO_CONTENT[..stage] {
                machine.receive(reply);
                if machine.session.is_reusable() {
                    machine.begin(&envelope(&["jones"]), &[b"Hello\r\n"]);
                }
            }
            machine.receive(&endless);
            assert!(machine.session.is_closed(), "stage {stage}");
            if stage >= 2 {
                assert_eq!(outcomes(&machine.report()), ["deferred 4.5.0"]);
            }
        }
    }
}
