//! RFC 9422: the client obeys the limits that a server names.

use smtp_core::{Envelope, SendCause};

use crate::scripted::{Machine, outcomes};

/// Sends to those and says yes to everything: the commands, and what became of each.
fn send(machine: &mut Machine, recipients: &[&str]) -> (Vec<String>, Vec<String>) {
    machine.begin(&Envelope::parse("a@client.example", recipients).expect("mailboxes"), &[b"x\r\n"]);
    let mut said = Vec::new();
    while machine.reports.is_empty() {
        let sent = String::from_utf8(machine.take_sent()).expect("ASCII");
        assert!(!sent.is_empty(), "{said:?}");
        for line in sent.lines() {
            match line {
                "DATA" => machine.receive("354 go on\r\n"),
                "x" => {}
                _ => machine.receive("250 2.0.0 Ok\r\n"),
            }
            said.push(line.to_owned());
        }
    }
    let report = machine.report();
    let too_many = |error: &smtp_core::SendError| matches!(error.cause(), SendCause::TooManyRecipients(_));
    assert!(report.recipients().iter().all(|result| result.as_ref().err().is_none_or(too_many)), "{report:?}");
    (said, outcomes(&report))
}

#[test] // RFC 9422 §4.2
fn r9422_no_more_recipients_than_the_server_takes() {
    for extensions in [&["LIMITS RCPTMAX=2 MAILMAX=9"][..], &["PIPELINING", "limits mailmax=9 rcptmax=2"]] {
        let mut machine = Machine::greeted(extensions);
        let (said, outcomes) = send(&mut machine, &["b@x.example", "c@x.example", "d@x.example", "e@y.example"]);
        assert_eq!(said[1..4], ["RCPT TO:<b@x.example>", "RCPT TO:<c@x.example>", "DATA"]);
        assert_eq!(outcomes, ["delivered 250", "delivered 250", "deferred 4.5.3", "deferred 4.5.3"]);
    }
}

#[test] // RFC 9422 §4.3: and nobody behind the first that is left out is sent, so that none gets it twice.
fn r9422_no_more_domains_than_the_server_takes() {
    let mut machine = Machine::greeted(&["LIMITS RCPTDOMAINMAX=1"]);
    let (said, outcomes) = send(&mut machine, &["b@x.example", "c@X.example", "d@y.example", "e@x.example"]);
    assert_eq!(said[1..4], ["RCPT TO:<b@x.example>", "RCPT TO:<c@X.example>", "DATA"]);
    assert_eq!(outcomes, ["delivered 250", "delivered 250", "deferred 4.5.3", "deferred 4.5.3"]);
}

#[test] // RFC 9422 §4.2: a mailbox that cannot be sent there takes nobody's place.
fn r9422_a_recipient_that_is_not_sent_is_not_counted() {
    for extensions in [&["LIMITS RCPTMAX=1"][..], &["PIPELINING", "LIMITS RCPTDOMAINMAX=1"]] {
        let mut machine = Machine::greeted(extensions);
        let envelope = Envelope::parse("a@client.example", ["d\u{f6}rte@x.example", "bob@y.example"]);
        machine.begin(&envelope.expect("mailboxes"), &[b"x\r\n"]);
        let sent = String::from_utf8(machine.take_sent()).expect("ASCII");
        let sent = if sent.contains("RCPT") {
            sent
        } else {
            machine.receive("250 2.0.0 Ok\r\n");
            String::from_utf8(machine.take_sent()).expect("ASCII")
        };
        assert!(sent.contains("RCPT TO:<bob@y.example>\r\n"), "{sent:?}");
    }
}

#[test] // RFC 9422 §4.1
fn r9422_no_more_transactions_than_the_server_takes() {
    let mut machine = Machine::greeted(&["LIMITS MAILMAX=2"]);
    assert!(machine.session.is_reusable());
    send(&mut machine, &["b@x.example"]);
    assert!(machine.session.is_reusable());
    send(&mut machine, &["b@x.example"]);
    assert!(!machine.session.is_reusable());
}

#[test] // RFC 9422 §3: what makes no sense limits nothing.
fn r9422_words_that_are_no_limits_are_passed_over() {
    for limits in [
        "LIMITS",
        "LIMITS RCPTMAX",
        "LIMITS RCPTMAX=",
        "LIMITS RCPTMAX=0",
        "LIMITS RCPTMAX=1000000",
        "LIMITS RCPTMAX=-1",
        "LIMITS XMAX=1",
        "LIMITS RCPTMAX=1x",
    ] {
        let mut machine = Machine::greeted(&[limits]);
        let (said, _) = send(&mut machine, &["b@x.example", "c@x.example"]);
        assert_eq!(said[2], "RCPT TO:<c@x.example>", "{limits}");
    }
}
