//! What is wrong with the value of a field, in words for the log; nothing is made of it.

/// Why addresses cannot be read in one way (RFC 7103 §7.1), by their brackets and quotes alone.
pub(super) fn address_problem(value: &[u8]) -> Option<&'static str> {
    let (mut comments, mut is_quoted, mut is_escaped) = (0_u32, false, false);
    // Where an angle bracket is open: whether there was an `@` in it, and anything at all.
    let mut angle: Option<(bool, bool)> = None;
    for &octet in value {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match octet {
            b'\\' if is_quoted || comments > 0 => is_escaped = true,
            b'"' if comments == 0 => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' => comments = comments.saturating_add(1),
            b')' if comments == 0 => return Some("a parenthesis that was not opened"),
            b')' => comments -= 1,
            _ if comments > 0 => {}
            b'<' if angle.is_some() => return Some("angle brackets in angle brackets"),
            b'<' => angle = Some((false, false)),
            b'>' => match angle.take() {
                None => return Some("an angle bracket that was not opened"),
                Some((false, true)) => return Some("a local-part without a domain"),
                Some(_) => {}
            },
            b'@' => angle = angle.map(|_| (true, true)),
            octet if !octet.is_ascii_whitespace() => angle = angle.map(|(has_at, _)| (has_at, true)),
            _ => {}
        }
    }
    match (is_quoted, comments, angle) {
        (true, ..) => Some("a quote without an end"),
        (_, 1.., _) => Some("a parenthesis without an end"),
        (.., Some(_)) => Some("an angle bracket without an end"),
        _ => None,
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// The most octets of a date that are read: 256 (ours). Written in full it has 31, and perhaps a comment.
const DATE_LIMIT_OCTETS: usize = 256;

/// Why a date cannot be read (RFC 5322 §3.3, and the obsolete forms of §4.3).
pub(super) fn date_problem(value: &[u8]) -> Option<String> {
    let problem = |words: &str| Some(format!("Date: {words}"));
    let Some(text) = std::str::from_utf8(value).ok().filter(|text| text.len() <= DATE_LIMIT_OCTETS) else {
        return problem("no date");
    };
    let Some(text) = without_comments(text) else { return problem("a comment without an end") };
    if is_date(&text) { None } else { problem("no date") }
}

/// White space in the place of each comment.
fn without_comments(text: &str) -> Option<String> {
    let (mut depth, mut is_escaped, mut plain) = (0_usize, false, String::with_capacity(text.len()));
    for c in text.chars() {
        match c {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' if depth > 0 => is_escaped = true,
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1)?;
                plain.push(' ');
            }
            _ if depth > 0 => {}
            c => plain.push(c),
        }
    }
    (depth == 0).then_some(plain)
}

fn is_date(text: &str) -> bool {
    let text = match text.split_once(',') {
        Some((day, rest)) if is_one_of(&DAYS, day.trim()) => rest,
        Some(_) => return false,
        None => text,
    };
    // White space around the colons of a time is obsolete, and read.
    let spaced = text.replace(':', " : ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let [day, month, year, hour, ":", minute, rest @ ..] = &words[..] else { return false };
    let (second, zone) = match rest {
        [":", second, zone @ ..] => (*second, zone),
        zone => ("00", zone),
    };
    let [zone] = zone else { return false };
    let Some(month) = MONTHS.iter().position(|known| known.eq_ignore_ascii_case(month)) else { return false };
    let Some(year) = number(year, 2..=4) else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
    is_number(day, 1..=2, 1, days)
        && is_number(hour, 2..=2, 0, 23)
        && is_number(minute, 2..=2, 0, 59)
        // A leap second (RFC 5322 §3.3).
        && is_number(second, 2..=2, 0, 60)
        && is_zone(zone)
}

fn is_zone(zone: &str) -> bool {
    match zone.strip_prefix(['+', '-']) {
        Some(digits) => digits.len() == 4 && number(digits, 4..=4).is_some_and(|zone| zone % 100 < 60),
        // RFC 5322 §4.3: also those that nobody knows.
        None => !zone.is_empty() && zone.len() <= 5 && zone.bytes().all(|octet| octet.is_ascii_alphabetic()),
    }
}

fn is_number(text: &str, digits: std::ops::RangeInclusive<usize>, least: u32, most: u32) -> bool {
    number(text, digits).is_some_and(|number| (least..=most).contains(&number))
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_number = digits.contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn is_one_of(known: &[&str], word: &str) -> bool {
    known.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 5322 §3.3, §4.3
    fn r5322_dates() {
        for (text, is_valid) in [
            ("Fri, 21 Nov 1997 09:55:06 -0600", true),
            ("21 Nov 1997 09:55 -0600", true),
            ("Thu, 13 Feb 1969 23:32 -0330 (Newfoundland Time)", true),
            ("Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32:60\r\n -0330", true),
            ("21 Nov 97 09:55:06 GMT", true),
            ("Fri, 21 Nov 1997 09(comment): 55 : 06 -0600", true),
            ("fri, 21 NOV 1997 09:55:06 z", true),
            ("29 Feb 2024 00:00:00 +0000", true),
            ("29 Feb 2023 00:00:00 +0000", false),
            ("29 Feb 1900 00:00:00 +0000", false),
            ("Fri, 21 Nov 1997 09:55:06", false),
            ("Fri, 21 Nov 1997 24:00:00 +0000", false),
            ("Fri, 21 Nov 1997 09:60:00 +0000", false),
            ("Fri, 21 Nov 1997 09:55:06 +060", false),
            ("Fri, 21 Nov 1997 09:55:06 +0160", false),
            ("Fry, 21 Nov 1997 09:55:06 +0000", false),
            ("Fri, 0 Nov 1997 09:55:06 +0000", false),
            ("Fri, 31 Nov 1997 09:55:06 +0000", false),
            ("1997-11-21T09:55:06Z", false),
            ("Fri, 21 Nov 1997 09:55:06 -0600 (", false),
            ("Fri, 21 Nov 1997 09:55:06 -0600)", false),
            ("yesterday", false),
            ("", false),
        ] {
            assert_eq!(date_problem(text.as_bytes()).is_none(), is_valid, "{text}");
        }
        assert!(date_problem(&[b'('; 1000]).is_some() && date_problem(b"\xff").is_some());
    }
}
