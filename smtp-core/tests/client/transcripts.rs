//! Whole conversations of a client, as a reader of RFC 5321 would write them down (Appendix D of it is the model).

use smtp_core::{Body, ClientLimits, Envelope, SendCause, SendError, SendStage};

use crate::scripted::{Machine, envelope, outcomes, play, transcript};

#[test] // RFC 5321 §D.1, with PIPELINING (RFC 2920 §3.1), SIZE (RFC 1870 §6) and 8BITMIME (RFC 6152 §3).
fn a_typical_session_in_groups() {
    let envelope = envelope(&["jones", "green", "brown"]).with_body(Body::EightBitMime);
    transcript(
        &envelope,
        "Subject: blah\r\n\r\n.and so on\r\n",
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250-mx.example.org greets you
        S: 250-8BITMIME
        S: 250-PIPELINING
        S: 250 SIZE 1000
        -- ready
        -- send
        C: MAIL FROM:<a@client.example> BODY=8BITMIME SIZE=29
        C: RCPT TO:<jones@example.org>
        C: RCPT TO:<green@example.org>
        C: RCPT TO:<brown@example.org>
        C: DATA
        S: 250 2.1.0 Ok
        S: 250 2.1.5 Ok
        S: 550 5.1.1 No such user here
        S: 250 2.1.5 Ok
        S: 354 Start
        C: Subject: blah
        C:
        C: ..and so on
        C: .
        S: 250 2.0.0 Ok: queued as 12
        -- result: delivered 250, failed 5.1.1, delivered 250
        -- ready
        -- quit
        C: QUIT
        S: 221 2.0.0 Bye
        -- closed
    ",
    );
}

#[test] // RFC 5321 §3.1, §4.2.1; RFC 7504 §3: before `MAIL` nothing is said about the message, so it is only deferred.
fn r7504_who_refuses_at_the_start_refuses_the_client() {
    for (script, stage, is_permanent_for_host) in [
        ("S: 554 5.7.1 Not you", SendStage::Greeting, false),
        ("S: 521 5.3.2 No mail here", SendStage::Greeting, true),
        ("S: 421 4.3.2 Busy", SendStage::Greeting, false),
        ("S: 450 Busy", SendStage::Greeting, false),
        ("S: 354 What", SendStage::Greeting, false),
        ("S: 220 mx\nC: EHLO client.example\nS: 554 5.7.1 Not you", SendStage::Hello, false),
        ("S: 220 mx\nC: EHLO client.example\nS: 521 5.3.2 No mail here", SendStage::Hello, true),
        ("S: 220 mx\nC: EHLO client.example\nS: 451 4.7.1 Later", SendStage::Hello, false),
        (
            "S: 220 mx\nC: EHLO client.example\nS: 550 5.7.1 No\nC: HELO client.example\nS: 550 5.7.1 No",
            SendStage::Hello,
            false,
        ),
    ] {
        let mut machine = Machine::new(ClientLimits::default());
        play(&mut machine, &envelope(&["jones"]), "", script);
        assert!(machine.session.is_closed());
        let error = machine.session.error().expect("a reason").clone();
        assert!(error.is_transient() && error.reply().is_some(), "{script}: {error}");
        assert_eq!((error.stage(), error.is_permanent_for_host()), (stage, is_permanent_for_host), "{script}");
    }
}

#[test] // RFC 5321 §4.1.1.5: a transaction that failed is reset, and the connection serves the next message.
fn a_failed_transaction_is_reset_and_the_next_message_goes_through() {
    transcript(
        &envelope(&["jones"]),
        "Hello\r\n",
        "
        S: 220 mx.example.org
        C: EHLO client.example
        S: 250-mx.example.org
        S: 250 PIPELINING
        -- send
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<jones@example.org>
        C: DATA
        S: 250 Ok
        S: 550 5.1.1 No
        S: 554 5.5.1 No valid recipients
        C: RSET
        S: 250 Ok
        -- result: failed 5.1.1
        -- ready
        -- send
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<jones@example.org>
        C: DATA
        S: 250 Ok
        S: 250 Ok
        S: 354 Start
        C: Hello
        C: .
        S: 554 5.6.0 Not this
        -- result: failed 5.6.0
        -- ready
        -- send
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<jones@example.org>
        C: DATA
        S: 250 Ok
        S: 250 Ok
        S: 354 Start
        C: Hello
        C: .
        S: 250 Ok
        -- result: delivered 250
        -- ready
    ",
    );
}

#[test] // Nobody else answers 221, so the two sides are in step.
fn data_is_refused_though_somebody_was_accepted() {
    for (end, result) in
        [("S: 221 Bye", "failed 5.7.1"), ("S: 250 Ok", "deferred 4.5.0"), ("-- the server leaves", "failed 5.7.1")]
    {
        transcript(
            &envelope(&["jones", "green"]),
            "Hello",
            &format!(
                "
        S: 220 mx.example.org
        C: EHLO client.example
        S: 250-mx.example.org
        S: 250 PIPELINING
        -- send
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<jones@example.org>
        C: RCPT TO:<green@example.org>
        C: DATA
        S: 250 Ok
        S: 250 Ok
        S: 550 5.7.1 No
        S: 554 5.7.1 No
        C: QUIT
        {end}
        -- result: {result}, {result}
        -- closed
    "
            ),
        );
    }
}

#[test] // RFC 5321 §3.3: what MAIL is refused with counts for all, not what follows from it.
fn a_refused_mail_is_the_reason_for_every_recipient() {
    transcript(
        &envelope(&["jones", "green"]),
        "Hello\r\n",
        "
        S: 220 mx.example.org
        C: EHLO client.example
        S: 250-mx.example.org
        S: 250 PIPELINING
        -- send
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<jones@example.org>
        C: RCPT TO:<green@example.org>
        C: DATA
        S: 451 4.7.1 Later
        S: 503 5.5.1 Say MAIL first
        S: 503 5.5.1 Say MAIL first
        S: 503 5.5.1 Say MAIL first
        C: RSET
        S: 250 Ok
        -- result: deferred 4.7.1, deferred 4.7.1
        -- ready
    ",
    );
}

#[test] // Without PIPELINING nothing is said that makes no sense any more.
fn one_command_at_a_time_stops_where_it_fails() {
    transcript(
        &envelope(&["jones", "green"]),
        "Hello\r\n",
        "
        S: 220 mx.example.org
        C: EHLO client.example
        S: 250 mx.example.org
        -- send
        C: MAIL FROM:<a@client.example>
        S: 550 5.7.1 Not from you
        C: RSET
        S: 250 Ok
        -- result: failed 5.7.1, failed 5.7.1
        -- send
        C: MAIL FROM:<a@client.example>
        S: 250 Ok
        C: RCPT TO:<jones@example.org>
        S: 550 5.1.1 No
        C: RCPT TO:<green@example.org>
        S: 451 4.2.1 Later
        C: RSET
        S: 250 Ok
        -- result: failed 5.1.1, deferred 4.2.1
        -- ready
    ",
    );
}

#[test] // RFC 5321 §3.8: 421 at any point; replies before it count.
fn r5321g_421_ends_the_session_and_what_was_said_before_counts() {
    transcript(
        &envelope(&["jones", "green", "brown"]),
        "Hello\r\n",
        "
        S: 220 mx.example.org
        C: EHLO client.example
        S: 250 mx.example.org
        -- send
        C: MAIL FROM:<a@client.example>
        S: 250 Ok
        C: RCPT TO:<jones@example.org>
        S: 550 5.1.1 No
        C: RCPT TO:<green@example.org>
        S: 421 4.7.0 Too many errors
        -- result: failed 5.1.1, deferred 4.7.0, deferred 4.7.0
        -- closed
    ",
    );
}

#[test] // RFC 5321 §4.5.3.1.10: 552 to RCPT was meant as 452, where others were taken before.
fn too_many_recipients_may_come_with_another_transaction() {
    let mut machine = Machine::greeted(&["PIPELINING"]);
    machine.begin(&envelope(&["a", "b", "c", "d"]), &[b"Hello\r\n"]);
    machine
        .receive("250 Ok\r\n250 Ok\r\n452 4.5.3 Too many\r\n552 Too many\r\n552 5.2.2 Mailbox full\r\n354 Start\r\n");
    machine.receive("250 Ok\r\n");
    let report = machine.report();
    assert_eq!(outcomes(&report), ["delivered 250", "deferred 4.5.3", "deferred 4.0.0", "failed 5.2.2"]);
    let is_too_many = |result: &Result<_, SendError>| matches!(result, Err(error) if matches!(error.cause(), SendCause::TooManyRecipients(_)));
    assert_eq!(report.recipients().iter().map(is_too_many).collect::<Vec<_>>(), [false, true, true, false]);

    // The first one is not one too many.
    machine.take_sent();
    machine.begin(&envelope(&["a"]), &[b"Hello\r\n"]);
    machine.receive("250 Ok\r\n552 Mailbox full\r\n554 No\r\n");
    machine.receive("250 Ok\r\n");
    assert_eq!(outcomes(&machine.report()), ["failed 5.0.0"]);
}

#[test] // RFC 5321 §4.5.5: notifications come from the null reverse-path and go to <postmaster>.
fn null_reverse_path_to_postmaster_without_domain() {
    transcript(
        &Envelope::parse("<>", ["<postmaster>"]).expect("paths"),
        "",
        "
        S: 220 mx.example.org
        C: EHLO client.example
        S: 250 mx.example.org
        -- send
        C: MAIL FROM:<>
        S: 250 Ok
        C: RCPT TO:<postmaster>
        S: 250 Ok
        C: DATA
        S: 354 Start
        C: .
        S: 250 Ok
        -- result: delivered 250
    ",
    );
}

#[test] // An idle connection that ends says nothing about the next message, which may go over another at once.
fn a_connection_that_ends_while_idle_is_stale() {
    for end in ["S: 421 4.4.2 Idle too long", "-- the server leaves"] {
        let mut machine = Machine::greeted(&[]);
        let message = envelope(&["jones"]);
        let deliver = "
            -- send
            C: MAIL FROM:<a@client.example>
            S: 250 Ok
            C: RCPT TO:<jones@example.org>
            S: 250 Ok
            C: DATA
            S: 354 Start
            C: x
            C: .
            S: 250 Ok
            -- result: delivered 250
        ";
        play(&mut machine, &message, "x", deliver);
        play(&mut machine, &message, "x", end);
        assert!(machine.session.is_closed());
        machine.begin(&message, &[b"x"]);
        let report = machine.report();
        assert!(report.is_stale() && report.recipients()[0].as_ref().is_err_and(SendError::is_transient));

        // The same while it begins.
        let mut machine = Machine::greeted(&[]);
        play(&mut machine, &message, "x", deliver);
        play(
            &mut machine,
            &message,
            "x",
            &format!("-- send\nC: MAIL FROM:<a@client.example>\n{end}\n-- closed\n-- result: deferred 4.4.2"),
        );
        let mut machine = Machine::greeted(&[]);
        machine.begin(&message, &[b"x"]);
        machine.leave();
        assert!(!machine.report().is_stale(), "a first message is about the host");
    }
}

#[test] // SECURITY D-35: what comes in one piece with the reply before answers a command that was not sent yet.
fn d35_a_reply_that_came_before_its_command_is_not_believed() {
    for (said, extra) in [
        ("", "S: 220 mx.example.org\nS: 250 mx.example.org"),
        ("S: 220 mx.example.org\nC: EHLO client.example", "S: 250 mx.example.org\nS: 250 Ok"),
    ] {
        let mut machine = Machine::new(ClientLimits::default());
        play(&mut machine, &envelope(&["jones"]), "", &format!("{said}\n{extra}\n-- closed"));
        assert_eq!(machine.session.error().map(SendError::cause), Some(&SendCause::Unsolicited), "{extra}");
    }
    let mail = "-- send\nC: MAIL FROM:<a@client.example>\n";
    let rcpt = "S: 250 Ok\nC: RCPT TO:<jones@example.org>\n";
    for (said, extra) in [
        (mail.to_owned(), "S: 250 Ok\nS: 550 5.1.1 No"),
        (format!("{mail}{rcpt}"), "S: 550 5.1.1 No\nS: 550 5.1.1 No"),
        (format!("{mail}{rcpt}S: 250 Ok\nC: RCPT TO:<green@example.org>\n"), "S: 550 5.1.1 No\nS: 354 Go"),
    ] {
        let mut machine = Machine::greeted(&[]);
        let script = format!("{said}\n{extra}\n-- closed\n-- result: deferred 4.5.0, deferred 4.5.0");
        play(&mut machine, &envelope(&["jones", "green"]), "", &script);
        assert_eq!(machine.session.error().map(SendError::cause), Some(&SendCause::Unsolicited), "{extra}");
    }
}
