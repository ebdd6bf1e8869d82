//! The law of trace fields: what went into a `Received` field can be read out of it again, by a reader that knows
//! comments, quoted strings and address literals (RFC 5321 §4.4, RFC 5322 §3.2.2 and §3.6.7).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smtp_core::{ForwardPath, Host, Mailbox, Priority, Protocol, Received, ReversePath, delivered_to, return_path};

use crate::control::split;
use crate::text::unfold;

/// Words that are so long together that the field may leave the paths out.
const LONG_OCTETS: usize = 300;

/// Checks fields made of the lines of the input: client name, reverse-path, forward-path.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let mut lines = octets.split(|&octet| octet == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let helo = Host::parse(line()).ok();
    let reverse_path = ReversePath::parse(line()).unwrap_or(ReversePath::Null);
    let recipient = ForwardPath::parse(line()).ok();
    let by = Host::parse("mx.example.org").expect("a domain");

    let client = if control.choice(0) % 2 == 0 {
        IpAddr::from([192, 0, 2, control.choice(1)])
    } else {
        IpAddr::from(std::array::from_fn::<u8, 16, _>(|at| control.choice(1 + at)))
    };
    let seconds = (0..5).fold(0, |sum, at| sum << 8 | u64::from(control.choice(at + 2)));
    let id = format!("{seconds:x}-{}", control.choice(7));
    let received = Received {
        helo: helo.as_ref().unwrap_or(&by),
        client,
        by: &by,
        with: if control.choice(8) % 2 == 0 { Protocol::Esmtp } else { Protocol::Smtp },
        id: &id,
        reverse_path: &reverse_path,
        recipient: recipient.as_ref(),
        priority: Priority::new(i8::try_from(control.choice(9) % 32).expect("small") - 16),
        time: UNIX_EPOCH + Duration::from_secs(seconds),
    };
    reads_back(&received);
    paths_of_final_delivery(&reverse_path);
}

fn reads_back(received: &Received<'_>) {
    let field = received.to_field();
    let value = unfold(field.as_bytes(), "Received");
    let (clauses, date) = read(&value);
    assert_eq!(seconds_of(date.trim()), shown_seconds(received.time), "{value:?}");

    assert!(field.as_bytes().is_ascii(), "{value:?}");
    let helo = received.helo.clone().into_ascii().to_string();
    let recipient = received.recipient.filter(|recipient| recipient.is_ascii()).map(ToString::to_string);
    let escape = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\x{{{:02X}}}", c as u32) };
    let reverse_path: String = received.reverse_path.to_string().chars().map(escape).collect();
    let client = match received.client {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let word = |text: &str| Part::Word(text.to_owned());
    let mut expected = vec![word("from"), word(&helo), Part::Comment(client.clone())];
    expected.extend([word("by"), word(&received.by.to_string()), word("with"), word(received.with.as_str())]);
    expected.extend([word("id"), word(received.id)]);
    // What is too long for a line leaves out all that the client chose.
    let mut less = expected.clone();
    less[1] = Part::Word(client);
    if let Some(recipient) = &recipient {
        expected.extend([word("for"), word(recipient)]);
    }
    if let Some(priority) = received.priority {
        expected.extend([word("PRIORITY"), word(&priority.to_string())]);
    }
    expected.push(Part::Comment(format!("envelope-from {reverse_path}")));
    let is_long = [&reverse_path, &recipient.unwrap_or_default(), &helo].iter().any(|text| text.len() > LONG_OCTETS);
    assert!(clauses == expected || is_long && clauses == less, "{clauses:?}, not {expected:?}");

    if let Some(Part::Comment(comment)) = clauses.iter().rev().find(|part| matches!(part, Part::Comment(_)))
        && let Some(path) = comment.strip_prefix("envelope-from ")
        && received.reverse_path.is_ascii()
    {
        assert_eq!(ReversePath::parse(path).as_ref(), Ok(received.reverse_path));
    }
}

/// `Return-Path` and `Delivered-To` are exactly one field and give the address back, or none where it is too long for a
/// line.
fn paths_of_final_delivery(reverse_path: &ReversePath) {
    let value = unfold(return_path(reverse_path).as_bytes(), "Return-Path");
    let path = ReversePath::parse(value.trim());
    let is_left_out = path == Ok(ReversePath::Null) && reverse_path.to_string().len() > LONG_OCTETS;
    assert!(is_left_out || path.as_ref() == Ok(reverse_path), "{value:?}");

    if let Some(mailbox) = reverse_path.mailbox() {
        let value = unfold(delivered_to(mailbox).as_bytes(), "Delivered-To");
        let is_left_out = value.trim().is_empty() && mailbox.to_string().len() > LONG_OCTETS;
        assert!(is_left_out || Mailbox::parse(value.trim()).as_ref() == Ok(mailbox), "{value:?}");
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Word(String),
    /// What stands between the parentheses, without backslashes.
    Comment(String),
}

/// The words and comments before the semicolon, and what follows it.
fn read(value: &str) -> (Vec<Part>, &str) {
    let mut parts = Vec::new();
    let mut rest = value.trim_start();
    loop {
        let length = match rest.chars().next() {
            Some(';') => return (parts, &rest[1..]),
            Some('(') => {
                let (comment, length) = read_comment(rest);
                parts.push(Part::Comment(comment));
                length
            }
            Some(_) => {
                let length = word_length(rest);
                parts.push(Part::Word(rest[..length].to_owned()));
                length
            }
            None => panic!("no date in {value:?}"),
        };
        rest = rest[length..].trim_start();
    }
}

fn read_comment(text: &str) -> (String, usize) {
    let mut comment = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => {
                escaped = true;
                continue;
            }
            ')' => return (comment, at + 1),
            '(' => panic!("a comment in a comment: {text:?}"),
            _ => {}
        }
        comment.push(c);
    }
    panic!("a comment without end: {text:?}")
}

/// A word ends at white space, a comment or a semicolon, unless in quotes or in the brackets of an address literal.
fn word_length(text: &str) -> usize {
    let (mut quoted, mut literal, mut escaped) = (false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !literal => quoted = !quoted,
            '[' if !quoted => literal = true,
            ']' if literal => literal = false,
            ' ' | '\t' | '(' | ';' if !quoted && !literal => return at,
            _ => {}
        }
    }
    panic!("a word without end: {text:?}")
}

/// Seconds since 1970 as a field can show them: up to the end of the year 9999.
fn shown_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().min(253_402_300_799))
}

/// Reads `Sun, 22 Nov 2026 01:44:23 +0000` by counting days (RFC 5322 §3.3).
fn seconds_of(date: &str) -> u64 {
    let parts: Vec<&str> = date.split([' ', ':']).collect();
    let [weekday, day, month, year, hour, minute, second, "+0000"] = parts[..] else { panic!("no date: {date:?}") };
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text:?} in {date:?}"));
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|&name| name == month).unwrap_or_else(|| panic!("no month: {date:?}"));
    let year = number(year);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    assert!((1..=lengths[month]).contains(&number(day)), "{date:?}");
    assert!(number(hour) < 24 && number(minute) < 60 && number(second) < 60, "{date:?}");
    let leap_days = (1970..year).filter(|year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)).count() as u64;
    let days = (year - 1970) * 365 + leap_days + lengths[..month].iter().sum::<u64>() + number(day) - 1;
    let weekdays = ["Thu,", "Fri,", "Sat,", "Sun,", "Mon,", "Tue,", "Wed,"];
    assert_eq!(weekdays.iter().position(|&name| name == weekday).map(|at| at as u64), Some(days % 7), "{date:?}");
    days * 86_400 + number(hour) * 3600 + number(minute) * 60 + number(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_knows_comments_quotes_and_literals() {
        let (parts, date) = read(r#" from [x:a(b;"] (c\)d) for <"a (b; c"@d>; now"#);
        let word = |text: &str| Part::Word(text.to_owned());
        let comment = Part::Comment("c)d".to_owned());
        assert_eq!(parts, [word("from"), word("[x:a(b;\"]"), comment, word("for"), word("<\"a (b; c\"@d>")]);
        assert_eq!(date, " now");
        assert_eq!(seconds_of("Sun, 22 Nov 2026 01:44:23 +0000"), 1_795_311_863);
    }

    #[test]
    #[should_panic(expected = "a comment in a comment")]
    fn the_reader_refuses_what_leaves_its_comment() {
        read("from a (envelope-from <\"(\"@b>); now");
    }
}
