//! RFC 2034: every 2yz, 4yz and 5yz reply has an enhanced status code of its class.
//!
//! But the greeting and the reply to `EHLO` and `HELO`.

use std::time::Duration;

use smtp_core::{Refusal, Stage};

use crate::support::machine::{Machine, config, is_status, patient};

/// Checks each line that was said; how many there were.
fn lint(output: &str, is_bare: impl Fn(&str) -> bool) -> usize {
    for line in output.split_terminator("\r\n") {
        let (code, rest) = line.split_at(3);
        assert!(code.bytes().all(|octet| octet.is_ascii_digit()), "{line}");
        assert!(matches!(code.as_bytes()[0], b'2'..=b'5') && matches!(code.as_bytes()[1], b'0'..=b'5'), "{line}");
        assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{line:?}");
        if is_bare(line) {
            continue;
        }
        let (status, text) = rest.trim_start().split_once(' ').unwrap_or_else(|| panic!("no text: {line}"));
        assert!(is_status(status) && status.as_bytes()[0] == code.as_bytes()[0], "{line}");
        assert!(!text.trim().is_empty(), "S47: a reason in words: {line}");
    }
    output.split_terminator("\r\n").count()
}

/// The greeting, what `EHLO` lists, and 354.
fn may_be_bare(line: &str) -> bool {
    line == "220 mx.example.org ESMTP"
        || line.starts_with("250-")
        || line.starts_with("354 ")
        || line.starts_with("250 LIMITS")
        || line == "250 mx.example.org"
}

#[test] // RFC 2034 §4, RFC 3463 §2.
fn r2034_every_reply_to_a_command_has_a_status_of_its_class() {
    let commands = [
        "EHLO c.example",
        "HELO c.example",
        "EHLO",
        "HELO -",
        "MAIL FROM:<a@c.example>",
        "MAIL FROM:<",
        "MAIL",
        "MAIL FROM:<> X",
        "MAIL FROM:<> SIZE=9999999999999",
        "RCPT TO:<alice@example.org>",
        "RCPT TO:<nobody@example.org>",
        "RCPT TO:<x@y.example>",
        "RCPT TO:<error@example.org>",
        "RCPT TO:<",
        "RCPT",
        "RCPT TO:<alice@example.org> X=Y",
        "DATA",
        "DATA x",
        "RSET",
        "RSET x",
        "NOOP",
        "HELP",
        "VRFY",
        "VRFY x",
        "EXPN",
        "EXPN x",
        "STARTTLS",
        "AUTH PLAIN",
        "BDAT 1",
        "LHLO x",
        "FOO",
        "",
        "\0",
        "QUIT x",
    ];
    let mut lines = 0;
    for first in commands {
        for second in commands {
            let mut machine = Machine::new(patient());
            let mut output = machine.send("");
            for command in ["EHLO c.example", first, second, "MAIL FROM:<>", "QUIT"] {
                output.push_str(&machine.send(format!("{command}\r\n")));
                if output.ends_with("<CR><LF>.<CR><LF>\r\n") {
                    output.push_str(&machine.send("x\r\n.\r\n"));
                }
            }
            lines += lint(&output, may_be_bare);
        }
    }
    assert!(lines > 10_000, "{lines}");
}

#[test] // The same for what the engine says by itself, and for what policies make it say.
fn r2034_every_other_reply_has_a_status_too() {
    let mut output = String::new();
    // Time.
    for prepare in
        ["", "EHLO c.example\r\n", "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nx"]
    {
        let mut machine = Machine::new(patient());
        output.push_str(&machine.send(prepare));
        output.push_str(&machine.pass(Duration::from_secs(90_000)));
        assert!(machine.is_closed());
    }
    // Limits and violations.
    let mut tiny = patient();
    tiny.limits.transactions = 1;
    tiny.limits.recipients = 1;
    tiny.limits.excess_recipients = 1;
    tiny.limits.message_octets = 10;
    let begin = "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n";
    for input in [
        "NOOP\r\n".repeat(200),
        "FOO\r\n".repeat(11),
        format!("NOOP {}\r\n", "x".repeat(3000)),
        "x".repeat(2_000_000),
        format!("{begin}{}", "RCPT TO:<bob@example.org>\r\n".repeat(3)),
        format!("{begin}RSET\r\nMAIL FROM:<>\r\n"),
        format!("{begin}DATA\r\n01234567890\r\n.\r\n"),
        format!("{begin}DATA\r\na\nb\r\n.\r\n"),
        format!("{begin}DATA\r\n{}", "x".repeat(100)),
    ] {
        output.push_str(&Machine::new(tiny.clone()).send(input));
    }
    for many in ["Received: x\r\n", "X: y\r\n"] {
        output.push_str(&Machine::new(patient()).send(format!("{begin}DATA\r\n{}\r\n.\r\n", many.repeat(1100))));
    }
    let mut errors = Machine::new(patient());
    for _ in 0..25 {
        output.push_str(&errors.send("FOO\r\n"));
        output.push_str(&errors.pass(Duration::from_secs(2)));
    }
    output.push_str(&Machine::new(config()).send("FOO\r\n"));
    let mut full = Machine::new(patient());
    full.has_room = false;
    output.push_str(&full.send(format!("{begin}DATA\r\n")));
    output.push_str(&Machine::new(patient()).shut_down());
    // Policies.
    for stage in [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Recipient, Stage::Message] {
        for refusal in [
            Refusal::transient(0, 0, ""),
            Refusal::permanent(999, 999, "\r\n"),
            Refusal::transient(1, 1, "x").with_code(550),
        ] {
            for refusal in
                [refusal.clone(), refusal.clone().immediately(), refusal.clone().and_close(), refusal.with_code(421)]
            {
                let is_wordless = refusal.reply().text().trim().is_empty();
                let mut machine = Machine::new(patient()).refusing(stage, refusal);
                let said = machine.send(format!("{begin}DATA\r\nx\r\n.\r\n"));
                if is_wordless {
                    let with_words = said.replace("0.0 \r\n", "0.0 x\r\n");
                    lint(&with_words, may_be_bare);
                } else {
                    output.push_str(&said);
                }
            }
        }
    }
    assert!(lint(&output, may_be_bare) > 200);
    for code in [
        "421 4.3.2",
        "421 4.4.2",
        "421 4.7.0",
        "452 4.3.1",
        "452 4.5.3",
        "500 5.5.2",
        "550 5.5.2",
        "552 5.3.4",
        "554 5.4.6",
        "554 5.5.0",
        "554 5.6.0",
    ] {
        assert!(output.contains(code), "{code} was among them");
    }
}

#[test] // RFC 2034 §3: it is offered.
fn r2034_the_extension_is_offered() {
    let mut machine = Machine::new(config());
    machine.send("");
    assert!(machine.send("EHLO c.example\r\n").contains("-ENHANCEDSTATUSCODES\r\n"));
}
