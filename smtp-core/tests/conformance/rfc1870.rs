//! RFC 1870: message size declaration.

use smtp_core::SessionConfig;

use crate::support::machine::{Machine, config};

/// A configuration with a limit of 100,000 octets.
fn small() -> SessionConfig {
    let mut config = config();
    config.limits.message_octets = 100_000;
    config
}

#[test] // RFC 1870 §4, §5.
fn r1870_size_is_advertised_with_the_limit() {
    let mut machine = Machine::new(small());
    machine.send("");
    let reply = machine.send("EHLO client.example\r\n");
    assert!(reply.contains("-SIZE 100000\r\n"), "{reply}");
    let reply = machine.send("HELO client.example\r\n");
    assert_eq!(reply.lines().count(), 1, "no extensions for HELO");
}

#[test] // RFC 1870 §6.1.
fn r1870_a_declaration_above_the_limit_is_refused_at_mail() {
    for (size, expected) in [
        ("0", "250 2.1.0"),
        ("99999", "250 2.1.0"),
        ("100000", "250 2.1.0"),
        ("100001", "552 5.3.4"),
        ("00000000000000100000", "250 2.1.0"),
        ("18446744073709551615", "552 5.3.4"),
        ("18446744073709551616", "552 5.3.4"),
        ("99999999999999999999", "552 5.3.4"),
        ("999999999999999999999", "501 5.5.4"),
        ("", "501 5.5.4"),
        ("-1", "501 5.5.4"),
        ("+1", "501 5.5.4"),
        ("0x10", "501 5.5.4"),
        ("1e3", "501 5.5.4"),
    ] {
        let mut machine = Machine::greeted(small());
        assert_eq!(machine.replies(format!("MAIL FROM:<> SIZE={size}\r\n")), [expected], "{size:?}");
        let has_begun = expected.starts_with('2');
        let next = machine.replies("RCPT TO:<alice@example.org>\r\n");
        assert_eq!(next, [if has_begun { "250 2.1.5" } else { "503 5.5.1" }], "{size:?}");
    }
}

#[test] // RFC 1870 §6.1: no room is transient.
fn r1870_no_room_is_452_before_the_content() {
    let mut machine = Machine::greeted(small());
    machine.has_room = false;
    assert_eq!(
        machine.replies("MAIL FROM:<> SIZE=90000\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"),
        ["250 2.1.0", "250 2.1.5", "452 4.3.1"]
    );
}

/// Content of that many octets, of which every other line starts with a dot, as it is sent.
fn wire(octets: usize) -> (usize, String) {
    let mut wire = String::new();
    let mut counted = 0;
    while counted + 200 < octets {
        wire.push_str("..78\r\n");
        wire.push_str("12345678\r\n");
        counted += 5 + 10;
    }
    wire.push_str(&"y".repeat(octets - counted - 2));
    wire.push_str("\r\n");
    (octets, wire + ".\r\n")
}

#[test] // RFC 1870 §3: transparency dots and the end do not count, CRLF does. §6.3: read to the end, then 552.
fn r1870_actual_size_decides_whatever_was_declared() {
    for declared in ["", " SIZE=1", " SIZE=100000"] {
        for (octets, expected) in
            [(99_999, "250 2.0.0"), (100_000, "250 2.0.0"), (100_001, "552 5.3.4"), (150_000, "552 5.3.4")]
        {
            let mut machine = Machine::greeted(small());
            let envelope = format!("MAIL FROM:<>{declared}\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n");
            assert_eq!(machine.codes(envelope), ["250", "250", "354"]);
            let (_, wire) = wire(octets);
            let (begin, end) = wire.split_at(wire.len() - 3);
            assert_eq!(machine.replies(begin), [""; 0], "nothing is said before the end");
            assert_eq!(machine.replies(end), [expected], "{octets} declared as {declared:?}");
            assert_eq!(
                machine.delivered.first().map(|it| it.content.len()),
                expected.starts_with('2').then_some(octets)
            );
            assert_eq!(machine.replies("MAIL FROM:<>\r\n"), ["250 2.1.0"], "the session goes on");
        }
    }
}
