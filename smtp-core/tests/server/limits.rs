//! The limits LI1 to LI18 and the time limits TO5, TO8 of STANDARDS.md: below, at and above each.

use std::time::Duration;

use smtp_core::{Domain, ForwardPath, Mailbox, Refusal, ReversePath, SessionConfig, Stage};

use crate::support::machine::{Machine, config, without_policies};

const MIB: usize = 1 << 20;
const MAIL: &str = "MAIL FROM:<a@client.example>\r\n";

/// A domain of that many octets, in labels of at most 63.
fn domain(octets: usize) -> String {
    let mut text = String::new();
    while octets - text.len() > 64 {
        text.push_str(&"d".repeat(62));
        text.push('.');
    }
    text.push_str(&"d".repeat(octets - text.len()));
    assert_eq!(text.len(), octets);
    text
}

/// A session in which `DATA` was answered `354`.
fn in_content(config: SessionConfig) -> Machine {
    let mut machine = Machine::with_recipient(config);
    assert_eq!(machine.replies("DATA\r\n"), ["354"]);
    machine
}

#[test] // RFC 5321 §4.5.3.1.1 to §4.5.3.1.3.
fn li1_addresses_up_to_the_limits_are_accepted() {
    let local = |octets: usize| "l".repeat(octets);
    for (what, mailbox, valid) in [
        ("local-part 63", format!("{}@example.org", local(63)), true),
        ("local-part 64", format!("{}@example.org", local(64)), true),
        ("domain 254", format!("alice@{}", domain(254)), true),
        ("domain 255", format!("alice@{}", domain(255)), true),
        ("domain 256", format!("alice@{}", domain(256)), false),
        ("label 63", format!("alice@{}.org", "d".repeat(63)), true),
        ("label 64", format!("alice@{}.org", "d".repeat(64)), false),
        ("both at their limit", format!("{}@{}", local(64), domain(255)), true),
        ("path 256", format!("{}@{}", local(64), domain(189)), true),
        ("path 1023", format!("{}@example.org", local(1023 - 14)), true),
        ("path 1024", format!("{}@example.org", local(1024 - 14)), true),
        ("path 1025", format!("{}@example.org", local(1025 - 14)), false),
        ("quoted path 1024", format!("\"{}\"@example.org", local(1024 - 16)), true),
        ("quoted path 1025", format!("\"{}\"@example.org", local(1025 - 16)), false),
    ] {
        let mut machine = Machine::greeted(config());
        let expected = if valid { "250 2.1.0" } else { "501 5.1.7" };
        assert_eq!(machine.replies(format!("MAIL FROM:<{mailbox}>\r\n")), [expected], "{what}");
        let mut machine = Machine::with_recipient(config());
        let reply = machine.replies(format!("RCPT TO:<{mailbox}>\r\n")).concat();
        assert_eq!(reply == "501 5.1.3", !valid, "{what}: {reply}");
        assert_eq!(Mailbox::parse(&mailbox).is_ok(), valid, "{what}");
        assert_eq!(ReversePath::parse(format!("<{mailbox}>")).is_ok(), valid, "{what}");
        assert_eq!(ForwardPath::parse(format!("<{mailbox}>")).is_ok(), valid, "{what}");
    }
}

#[test] // RFC 5321 §4.5.3.1.4: CRLF counts.
fn li2_command_lines_end_at_2048_octets() {
    for (octets, valid) in [(512, true), (2047, true), (2048, true), (2049, false), (4096, false), (100_000, false)] {
        let line = format!("NOOP {}\r\n", "x".repeat(octets - 7));
        assert_eq!(line.len(), octets);
        for piece in [1, 7, 1000, octets] {
            let mut machine = Machine::greeted(config());
            let mut said = String::new();
            for piece in line.as_bytes().chunks(piece) {
                said.push_str(&machine.send(piece));
            }
            let expected = if valid { "250 2.0.0" } else { "500 5.5.2" };
            assert!(said.starts_with(expected), "{octets}: {said}");
            assert_eq!(machine.replies("NOOP\r\n"), ["250 2.0.0"], "the session goes on");
        }
    }
}

#[test] // Line limits hold for every verb, also where a parameter makes it long.
fn li2_other_commands_have_the_same_limit() {
    for verb in ["MAIL FROM:<a@client.example>", "EHLO client.example", "VRFY alice", "HELP x"] {
        let mut machine = Machine::greeted(config());
        let at = format!("{verb}{}\r\n", " ".repeat(2046 - verb.len()));
        let above = format!("{verb}{}\r\n", " ".repeat(2047 - verb.len()));
        assert_eq!(machine.replies(above), ["500 5.5.2"], "{verb}");
        assert!(machine.codes(at)[0].starts_with('2'), "{verb}");
    }
}

#[test] // RFC 5321 §4.5.3.1.5: no reply line over 512 octets, CRLF included.
fn li4_reply_lines_have_512_octets_at_most() {
    let mut long = config();
    long.hostname = Domain::parse(domain(255)).expect("a domain");
    long.limits.message_octets = u64::MAX;
    long.limits.transactions = u32::MAX;
    let mut machine = Machine::new(long).refusing(Stage::Recipient, Refusal::permanent(999, 999, "x".repeat(10_000)));
    let output = machine.send("")
        + &machine.send("EHLO client.example\r\n")
        + &machine.send(MAIL)
        + &machine.send("RCPT TO:<alice@example.org>\r\n");
    for line in output.split_inclusive("\r\n") {
        assert!(line.len() <= 512 && line.ends_with("\r\n"), "{line:?}");
    }
}

#[test] // RFC 5321 §4.5.3.1.6: passed on unchanged, whatever their length.
fn li5_text_lines_of_any_length_pass_unchanged() {
    for octets in [0, 1, 998, 999, 1000, 1001, 70_000, 3_000_000] {
        let mut machine = in_content(config());
        let content = format!("\r\n{}\r\n", "x".repeat(octets));
        assert_eq!(machine.replies(format!("{content}.\r\n")), ["250 2.0.0"], "{octets}");
        assert!(machine.delivered[0].content == content.as_bytes(), "{octets}");
    }
}

#[test] // RFC 1870 §6.2, §6.3.
fn li6_messages_end_at_the_advertised_size() {
    let mut small = config();
    small.limits.message_octets = 70_000;
    for (octets, expected) in
        [(69_999, "250 2.0.0"), (70_000, "250 2.0.0"), (70_001, "552 5.3.4"), (100_000, "552 5.3.4")]
    {
        let mut machine = in_content(small.clone());
        let content = format!("\r\n{}\r\n", "x".repeat(octets - 4));
        assert_eq!(machine.replies(format!("{content}.\r\n")), [expected], "{octets}");
        assert_eq!(machine.replies("NOOP\r\n"), ["250 2.0.0"], "the session goes on");
        assert_eq!(machine.delivered.len(), usize::from(expected.starts_with('2')));
    }
}

#[test] // RFC 5321 §4.5.3.1.8, §4.5.3.1.10: 452, not 552. Those refused otherwise do not count.
fn li7_recipients_end_at_1000() {
    let mut machine = Machine::greeted(config());
    assert_eq!(machine.replies(MAIL), ["250 2.1.0"]);
    for number in 0..999 {
        assert_eq!(machine.replies(format!("RCPT TO:<user{number}@example.org>\r\n")), ["250 2.1.5"], "{number}");
    }
    assert_eq!(machine.replies("RCPT TO:<nobody@example.org>\r\n"), ["550 5.1.1"]);
    assert_eq!(machine.replies("RCPT TO:<error@example.org>\r\n"), ["451 4.3.0"]);
    assert_eq!(machine.replies("RCPT TO:<user999@example.org>\r\n"), ["250 2.1.5"], "the 1,000th");
    for number in 0..1000 {
        assert_eq!(machine.replies(format!("RCPT TO:<user{number}@example.org>\r\n")), ["452 4.5.3"], "{number}");
    }
    assert_eq!(machine.replies("DATA\r\n"), ["354"], "those taken are kept");
    assert_eq!(machine.replies(".\r\n"), ["250 2.0.0"]);
    assert_eq!(machine.delivered[0].recipients.len(), 1000);
}

#[test] // LI11: the first 1,000 are excused.
fn li7_too_many_recipients_too_many_times_end_the_session() {
    let mut machine = Machine::greeted(without_policies());
    machine.send(MAIL);
    for number in 0..2000 {
        let expected = if number < 1000 { "250 2.1.5" } else { "452 4.5.3" };
        assert_eq!(machine.replies("RCPT TO:<alice@example.org>\r\n"), [expected], "{number}");
    }
    assert_eq!(machine.replies("RCPT TO:<alice@example.org>\r\n"), ["421 4.7.0"]);
    assert!(machine.is_closed());
}

#[test]
fn li8_header_sections_end_at_1000_fields_and_256_kib() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    let octets = |count: usize| {
        let line = format!("X: {}\r\n", "y".repeat(995));
        let text = line.repeat(count / 1000);
        let rest = count - text.len() - 2;
        text + &format!("Z: {}\r\n\r\n", "z".repeat(rest - 5))
    };
    for (what, header, expected) in [
        ("999 fields", fields(999), "250 2.0.0"),
        ("1000 fields", fields(1000), "250 2.0.0"),
        ("1001 fields", fields(1001), "554 5.6.0"),
        ("folded lines are no fields", format!("X: y\r\n{}", " more\r\n".repeat(2000)), "250 2.0.0"),
        ("256 KiB - 1", octets(256 * 1024 - 1), "250 2.0.0"),
        ("256 KiB", octets(256 * 1024), "250 2.0.0"),
        ("256 KiB + 3", octets(256 * 1024 + 3), "554 5.6.0"),
        ("one field of 257 KiB", format!("X: {}\r\n", "y".repeat(257 * 1024)), "554 5.6.0"),
        ("a large body", format!("X: y\r\n\r\n{}", "X: y\r\n".repeat(60_000)), "250 2.0.0"),
    ] {
        for piece in [1 << 30, 4096, 13] {
            let mut machine = in_content(config());
            let input = format!("{header}\r\n.\r\n");
            let replies: Vec<_> = input.as_bytes().chunks(piece).flat_map(|piece| machine.replies(piece)).collect();
            assert_eq!(replies, [expected], "{what}, in pieces of {piece}");
            assert!(!machine.is_closed());
        }
    }
}

#[test] // R5321m, RFC 5321 §6.3.
fn li10_more_than_100_received_fields_are_a_loop() {
    for (what, line) in [
        ("plain", "Received: from a by b; date\r\n"),
        ("any case", "rECEIVED: from a by b; date\r\n"),
        ("folded", "Received: from a\r\n by b;\r\n\tdate\r\n"),
        ("empty", "Received:\r\n"),
        ("among others", "X-A: b\r\nReceived: x\r\nReceived-SPF: pass\r\n"),
    ] {
        for (count, expected) in [(99, "250 2.0.0"), (100, "250 2.0.0"), (101, "554 5.4.6"), (300, "554 5.4.6")] {
            let mut machine = in_content(config());
            assert_eq!(machine.replies(format!("{}\r\nx\r\n.\r\n", line.repeat(count))), [expected], "{what}: {count}");
            assert!(!machine.is_closed());
        }
    }
    let mut machine = in_content(config());
    let body = format!("Subject: x\r\n\r\n{}.\r\n", "Received: x\r\n".repeat(500));
    assert_eq!(machine.replies(body), ["250 2.0.0"], "in the body they are text");
}

#[test] // "slow at 10, end at 20".
fn li11_errors_are_answered_late_after_10_and_not_after_20() {
    for command in [
        "junk\r\n",
        "MAIL FROM:<\r\n",
        "RCPT TO:<nobody@example.org>\r\n",
        "RCPT TO:<changed@example.org>\r\n",
        "MAIL FROM:<>\r\n",
        "EXPN x\r\n",
    ] {
        let mut machine = Machine::greeted(config());
        if command.starts_with("RCPT") || command == "MAIL FROM:<>\r\n" {
            assert_eq!(machine.replies(MAIL), ["250 2.1.0"]);
        }
        for number in 1..=20 {
            let at_once = machine.send(command);
            assert_eq!(at_once.is_empty(), number > 10, "{command:?} number {number}: {at_once}");
            let later = machine.pass(Duration::from_secs(2));
            assert!(at_once.starts_with('5') || later.starts_with('5'), "{command:?} number {number}: {later}");
        }
        assert_eq!(machine.replies(command), ["421 4.7.0"], "{command:?}");
        assert!(machine.is_closed());
    }
}

#[test] // While an answer waits, what is pipelined behind it waits too, and comes in order.
fn li11_late_answers_keep_their_order() {
    let mut machine = Machine::greeted(config());
    machine.send("junk\r\n".repeat(10));
    assert_eq!(machine.send("junk\r\nNOOP\r\nHELP\r\n"), "");
    let later = machine.pass(Duration::from_secs(5));
    assert_eq!(crate::support::machine::replies(&later), ["500 5.5.1", "250 2.0.0", "214 2.0.0"]);
}

#[test] // 4yz replies are not errors; an accepted message starts the count anew.
fn li11_what_is_not_counted() {
    let mut machine = Machine::greeted(config());
    machine.send(MAIL);
    for _ in 0..300 {
        assert_eq!(machine.replies("RCPT TO:<error@example.org>\r\n"), ["451 4.3.0"]);
        assert_eq!(machine.replies("RCPT TO:<moving@example.org>\r\n"), ["451 4.2.1"]);
    }
    assert_eq!(machine.replies("RCPT TO:<changed@example.org>\r\n"), ["550 5.7.1"]);
    for _ in 0..5 {
        machine.send("junk\r\n".repeat(9));
        assert_eq!(machine.codes("RCPT TO:<alice@example.org>\r\nDATA\r\n"), ["250", "354"]);
        assert_eq!(machine.codes(".\r\n"), ["250"]);
        assert_eq!(machine.codes(MAIL), ["250"]);
    }
}

#[test]
fn li11_under_stress_one_error_is_allowed() {
    let mut machine = Machine::greeted(config());
    machine.session.set_under_stress(true);
    assert_eq!(machine.replies("junk\r\n"), ["500 5.5.1"]);
    assert_eq!(machine.replies("junk\r\n"), ["421 4.7.0"]);
    assert!(machine.is_closed());
}

#[test] // 24 h in all, also for a session that sends mail all the time.
fn li15_a_session_ends_after_a_day() {
    let mut machine = Machine::greeted(without_policies());
    let begin = machine.now;
    let mut last = String::new();
    while !machine.is_closed() && machine.now - begin < Duration::from_secs(30 * 3600) {
        last = machine.pass(Duration::from_secs(240));
        if !machine.is_closed() {
            last = machine.send("MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n");
            last += &machine.send(".\r\n");
        }
    }
    assert!(last.starts_with("421 4.4.2"), "{last}");
    assert_eq!((machine.now - begin).as_secs() / 3600, 24);
}

#[test] // Advertised in LIMITS (RFC 9422).
fn li16_the_transaction_after_the_1000th_ends_the_session() {
    let mut machine = Machine::greeted(without_policies());
    for number in 1..=1000 {
        assert_eq!(
            machine.codes("MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"),
            ["250", "250", "354"],
            "{number}"
        );
        assert_eq!(machine.codes(".\r\n"), ["250"], "{number}");
    }
    assert_eq!(machine.replies(MAIL), ["421 4.7.0"]);
    assert!(machine.is_closed());
    assert_eq!(machine.delivered.len(), 1000);
}

#[test] // 1 MiB of a line is discarded; one that ends sooner costs the client an error, not the session.
fn li18_a_command_line_is_discarded_up_to_1_mib() {
    for (octets, closes) in [(MIB / 2, false), (MIB - 4096, false), (MIB + 4096, true), (3 * MIB, true)] {
        let line = format!("{}\r\nNOOP\r\n", "x".repeat(octets - 2));
        let mut machine = Machine::greeted(config());
        let replies: Vec<_> = line.as_bytes().chunks(60_000).flat_map(|piece| machine.replies(piece)).collect();
        assert_eq!(replies, if closes { &["500 5.5.2"][..] } else { &["500 5.5.2", "250 2.0.0"] }, "{octets}");
        assert_eq!(machine.is_closed(), closes, "{octets}");
    }
}

#[test] // Content is read for at most one LI6 more than the largest that could be accepted, whatever is wrong with it.
fn li18_refused_content_is_drained_up_to_one_message() {
    let mut small = config();
    small.limits.message_octets = 70_000;
    for (what, begin, expected, goes_on) in [
        ("too large", "x".repeat(70_001), "552 5.3.4", true),
        ("too many fields", "X: y\r\n".repeat(1001), "554 5.6.0", true),
        ("a bare LF", "x\ny".to_owned(), "550 5.5.2", false),
    ] {
        for further in [10_000, 60_000, 150_000, 400_000] {
            let is_drained = begin.len() + further < 2 * 70_000;
            let mut machine = in_content(small.clone());
            let input = format!("{begin}{}\r\n.\r\n", "z".repeat(further));
            let replies: Vec<_> = input.as_bytes().chunks(1000).flat_map(|piece| machine.replies(piece)).collect();
            assert_eq!(replies, [expected], "{what}, {further} octets more");
            assert_eq!(machine.is_closed(), !(is_drained && goes_on), "{what}, {further} octets more");
        }
    }
}

#[test] // RFC 5321 §4.5.3.2.7: five minutes for each command, counted from the last one.
fn to8_the_next_command_may_take_five_minutes() {
    let mut machine = Machine::greeted(config());
    for _ in 0..3 {
        assert_eq!(machine.pass(Duration::from_secs(299)), "");
        assert_eq!(machine.replies("NOOP\r\n"), ["250 2.0.0"]);
    }
    assert!(machine.pass(Duration::from_secs(300)).starts_with("421 4.4.2"));
    assert!(machine.is_closed());
    let mut machine = Machine::greeted(config());
    machine.session.set_under_stress(true);
    assert_eq!(machine.pass(Duration::from_secs(9)), "");
    assert!(machine.pass(Duration::from_secs(21)).starts_with("421 4.4.2"), "10 to 30 s under stress");
}

#[test] // RFC 5321 §4.5.3.2.5.
fn to5_content_may_pause_for_three_minutes() {
    let mut machine = in_content(config());
    machine.send("x\r\n".repeat(100_000));
    for _ in 0..3 {
        assert_eq!(machine.pass(Duration::from_secs(179)), "");
        assert_eq!(machine.send("x"), "");
    }
    assert!(machine.pass(Duration::from_secs(181)).starts_with("421 4.4.2"));
    assert!(machine.is_closed() && machine.delivered.is_empty());
}
