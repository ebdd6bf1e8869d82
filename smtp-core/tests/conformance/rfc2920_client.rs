//! RFC 2920: pipelining, as a client does it.

use crate::scripted::{Machine, envelope, outcomes, transcript};

#[test] // RFC 2920 §3.1: DATA may be accepted although every recipient was refused; then only the dot is sent.
fn r2920_data_was_accepted_although_nobody_is_to_get_it() {
    transcript(
        &envelope(&["jones", "green"]),
        "Subject: secret\r\n\r\nHello\r\n",
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
        S: 550 5.1.1 No
        S: 450 4.2.1 Later
        S: 354 Start
        C: .
        S: 250 Ok
        -- result: failed 5.1.1, deferred 4.2.1
        -- ready
    ",
    );
}

/// What follows the last of the commands that must be waited for; each write of a session, in order.
fn writes(extensions: &[&str], replies: &[&str]) -> Vec<String> {
    let mut machine = Machine::greeted(extensions);
    machine.begin(&envelope(&["jones", "green"]), &[b"Hello\r\n"]);
    let mut writes = vec![String::from_utf8(machine.take_sent()).expect("ASCII")];
    for reply in replies {
        machine.receive(reply);
        writes.push(String::from_utf8(machine.take_sent()).expect("ASCII"));
    }
    assert_eq!(outcomes(&machine.report()), ["delivered 250", "delivered 250"]);
    machine.session.quit(machine.now);
    machine.receive("");
    writes.push(String::from_utf8(machine.take_sent()).expect("ASCII"));
    writes
}

#[test] // RFC 2920 §3.1: EHLO, DATA and QUIT are the last of their group; where nothing is offered each command is one.
fn r2920_nothing_is_sent_past_a_command_that_must_be_waited_for() {
    const MAIL: &str = "MAIL FROM:<a@client.example>\r\n";
    const JONES: &str = "RCPT TO:<jones@example.org>\r\n";
    const GREEN: &str = "RCPT TO:<green@example.org>\r\n";
    let group = format!("{MAIL}{JONES}{GREEN}DATA\r\n");
    let ok = "250 Ok\r\n";
    assert_eq!(
        writes(&["PIPELINING"], &[ok, ok, ok, "354 Go\r\n", ok]),
        [&group, "", "", "", "Hello\r\n.\r\n", "", "QUIT\r\n"]
    );
    assert_eq!(
        writes(&[], &[ok, ok, ok, "354 Go\r\n", ok]),
        [MAIL, JONES, GREEN, "DATA\r\n", "Hello\r\n.\r\n", "", "QUIT\r\n"]
    );
}

#[test] // RFC 2920 §3.1: replies to a group may come joined or cut; what they mean does not change.
fn r2920_every_cut_of_the_replies_gives_the_same_results() {
    for (replies, expected) in [
        ("250 Ok\r\n250 Ok\r\n550-5.1.1 No\r\n550 5.1.1 such\r\n354 Go\r\n", ["delivered 250", "failed 5.1.1"]),
        ("250 Ok\r\n550 5.1.1 No\r\n450 Later\r\n554 5.5.1 Nobody\r\n", ["failed 5.1.1", "deferred 4.0.0"]),
        ("550 5.7.1 No\r\n503 No\r\n503 No\r\n503 No\r\n", ["failed 5.7.1", "failed 5.7.1"]),
        ("250 Ok\r\n250 Ok\r\n354 Go\r\n250 Ok\r\n", ["deferred 4.5.0", "deferred 4.5.0"]),
        ("250 Ok\r\n250 Ok\r\n421 4.3.2 Bye\r\n", ["deferred 4.3.2", "deferred 4.3.2"]),
        ("250 Ok\r\n550 5.1.1 No\r\nnonsense\r\n", ["deferred 4.5.0", "deferred 4.5.0"]),
    ] {
        let replies = replies.as_bytes();
        for first in 0..=replies.len() {
            for second in first..=replies.len() {
                let mut machine = Machine::greeted(&["PIPELINING"]);
                machine.begin(&envelope(&["jones", "green"]), &[b"Hello\r\n"]);
                for piece in [&replies[..first], &replies[first..second], &replies[second..], b"250 Ok\r\n"] {
                    machine.receive(piece);
                }
                assert_eq!(outcomes(&machine.report()), expected, "cut at {first} and {second}");
            }
        }
    }
}
