//! RFC 6531: internationalized mail, the receiving side.

use smtp_core::{Domain, SessionConfig};

use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

#[test] // RFC 6531 §3.1: with 8BITMIME, and only in the answer to EHLO.
fn r6531_smtputf8_is_offered() {
    let mut machine = Machine::new(config());
    machine.send("");
    let reply = machine.send("EHLO c.example\r\n");
    assert!(reply.contains("SMTPUTF8\r\n") && reply.contains("8BITMIME\r\n"), "{reply}");
}

#[test] // RFC 6531 §3.2 to §3.5; STANDARDS.md R6531, SECURITY.md D-42
fn r6531_a_mailbox_that_is_not_ascii_needs_the_parameter() {
    for (mail, rcpt, expected) in [
        ("<j\u{f6}rg@client.example>", None, "553 5.6.7"),
        ("<a@b\u{fc}cher.example>", None, "553 5.6.7"),
        ("<j\u{f6}rg@client.example> SMTPUTF8", Some("<alice@example.org>"), "250 2.1.5"),
        ("<a@client.example>", Some("<j\u{f6}rg@example.org>"), "553 5.6.7"),
        ("<a@client.example>", Some("<alice@b\u{fc}cher.example>"), "553 5.6.7"),
        ("<a@client.example> SMTPUTF8", Some("<alice@example.org>"), "250 2.1.5"),
        ("<a@client.example> SMTPUTF8", Some("<j\u{f6}rg@example.org>"), "550 5.1.1"),
        ("<a@client.example> smtputf8 BODY=8BITMIME SIZE=100", Some("<alice@example.org>"), "250 2.1.5"),
        ("<a@client.example> SMTPUTF8=1", None, "501 5.5.4"),
        ("<a@client.example> SMTPUTF8 SMTPUTF8", None, "501 5.5.4"),
        ("<a@client.example>", Some("<alice@example.org> SMTPUTF8"), "555 5.5.4"),
        // Characters that no mailbox has, so said or not makes no difference.
        ("<a\u{202e}b@client.example> SMTPUTF8", None, "501 5.1.7"),
        ("<a@\u{ff45}xample.org> SMTPUTF8", None, "501 5.1.7"),
        ("<a@client.example> SMTPUTF8", Some("<a\u{200f}@example.org>"), "501 5.1.3"),
    ] {
        let mut machine = Machine::greeted(config());
        let reply = machine.replies(format!("MAIL FROM:{mail}\r\n"));
        let Some(rcpt) = rcpt else {
            assert_eq!(reply, [expected], "{mail}");
            continue;
        };
        assert_eq!(reply, ["250 2.1.0"], "{mail}");
        assert_eq!(machine.replies(format!("RCPT TO:{rcpt}\r\n")), [expected], "{mail} {rcpt}");
    }
}

#[test] // RFC 6531 §3.3; SECURITY.md D-42
fn d42_octets_that_are_not_utf8_are_an_error_and_the_session_goes_on() {
    for octets in [&b"\xff"[..], b"\xc3", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3("]
    {
        let mut machine = Machine::greeted(config());
        let line = |start: &[u8], end: &[u8]| [start, octets, end].concat();
        for mail in [line(b"MAIL FROM:<a", b"@client.example> SMTPUTF8\r\n"), line(b"MAIL FROM:<a@", b".example>\r\n")]
        {
            assert_eq!(machine.replies(mail), ["501 5.5.2"], "{}", octets.escape_ascii());
        }
        assert_eq!(machine.replies("MAIL FROM:<a@client.example> SMTPUTF8\r\n"), ["250 2.1.0"]);
        let rcpt = line(b"RCPT TO:<\"", b"\"@example.org>\r\n");
        assert_eq!(machine.replies(rcpt), ["501 5.5.2"], "{}", octets.escape_ascii());
        assert_eq!(machine.replies("RCPT TO:<alice@example.org>\r\n"), ["250 2.1.5"]);
    }
}

#[test] // SECURITY.md D-45: nothing is kept of a refused command.
fn d45_a_refused_mailbox_leaves_the_transaction_as_it_was() {
    let mut machine = Machine::greeted(config());
    assert_eq!(
        machine.replies("MAIL FROM:<\u{fc}@client.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"),
        ["553 5.6.7", "503 5.5.1", "503 5.5.1"]
    );
    assert_eq!(
        machine.replies(
            "MAIL FROM:<a@client.example>\r\nRCPT TO:<\u{fc}@example.org>\r\nVRFY \u{fc}\r\nRCPT TO:<alice@example.org>\r\n\
             DATA\r\n"
        ),
        ["250 2.1.0", "553 5.6.7", "252 2.0.0", "250 2.1.5", "354"]
    );
    assert_eq!(machine.replies("x\r\n.\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.delivered[0].recipients, ["<alice@example.org>"]);
    // The parameter does not outlive its transaction.
    assert_eq!(
        machine.replies("MAIL FROM:<a@client.example> SMTPUTF8\r\nRSET\r\nMAIL FROM:<\u{fc}@b.example>\r\n"),
        ["250 2.1.0", "250 2.0.0", "553 5.6.7"]
    );
}

#[test] // RFC 6531 §3.7.1: before both know, all is ASCII.
fn r6531_names_of_hosts_are_ascii() {
    let name = Domain::parse("mx.b\u{fc}cher.example").expect("a domain").to_ascii();
    let mut machine = Machine::new(SessionConfig { observed: true, ..SessionConfig::new(name) });
    assert!(machine.send("").starts_with("220 mx.xn--bcher-kva.example "));
    assert_eq!(machine.replies("EHLO b\u{fc}cher.example\r\n"), ["501 5.5.2"]);
    assert_eq!(machine.replies("HELO b\u{fc}cher.example\r\n"), ["501 5.5.2"]);
    // Without EHLO there is no extension.
    assert_eq!(machine.replies("HELO client.example\r\n"), ["250"]);
    assert_eq!(machine.replies("MAIL FROM:<a@b.example> SMTPUTF8\r\n"), ["555 5.5.4"]);
}

/// RFC 6531 §3.7.3 and §4.3: what was spoken stands in `Received`, and the rest arrives as it was sent.
#[tokio::test(start_paused = true)]
async fn r6531_the_message_arrives_as_it_was_sent() {
    in_process(async {
        let content = "From: J\u{f6}rg <j\u{f6}rg@b\u{fc}cher.example>\r\nSubject: \u{4f8b}\r\n\r\n\u{fc}\r\n";
        for (greeting, parameters, with) in [("EHLO", " SMTPUTF8", "with UTF8SMTP "), ("EHLO", "", "with ESMTP ")] {
            let (inbox, log) = (Inbox::default(), Log::default());
            let server = unbound(builder(&inbox, &log)).await;
            let mut client = open(&server);
            client.reply().await.expect("a greeting");
            client.ask(&format!("{greeting} client.example"), "250").await;
            let sender = if parameters.is_empty() { "<>" } else { "<j\u{f6}rg@b\u{fc}cher.example>" };
            client.ask(&format!("MAIL FROM:{sender}{parameters}"), "250").await;
            client.ask("RCPT TO:<alice@example.org>", "250").await;
            client.ask("DATA", "354").await;
            client.send(format!("{content}.\r\n")).await;
            client.expect("250 2.0.0").await;
            let messages = inbox.messages();
            assert_eq!(messages[0].reverse_path().to_string(), sender);
            assert_eq!(messages[0].parameters().smtputf8, !parameters.is_empty());
            assert!(messages[0].content().to_bytes().expect("readable") == content.as_bytes());
            let prefix = String::from_utf8(messages[0].header_prefix()).expect("text").replace("\r\n", "");
            assert!(prefix.is_ascii() && prefix.contains(with), "{prefix}");
        }
    })
    .await;
}
