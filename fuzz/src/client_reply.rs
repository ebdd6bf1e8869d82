//! The law of replies as a client reads them: the reader equals a slow reading of RFC 5321 §4.2 and RFC 2034 §4, however
//! the octets are cut, and takes no more of a reply than it may.
//!
//! The reference looks at the whole input, line by line; the two share no code. Choice 0 makes limits that short inputs
//! reach.

use smtp_core::{EnhancedStatusCode, Reply, ReplyCode, ReplyError, ReplyLimits, ReplyReader};

use crate::control::split;

/// What was made of octets from a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    replies: Vec<Reply>,
    /// The lines of each reply, behind their codes; those of one that has not ended too.
    lines: Vec<(usize, Vec<u8>)>,
    error: Option<ReplyError>,
    /// Whether a reply has begun and not ended.
    is_open: bool,
}

/// Checks the reader in pieces, octet by octet and at once.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let limits = if control.choice(0) % 2 == 1 { ReplyLimits { octets: 40, lines: 3 } } else { ReplyLimits::default() };
    let expected = reference(octets, limits);
    for (how, found) in [
        ("at once", read(std::iter::once(octets), limits)),
        ("octet by octet", read(octets.chunks(1), limits)),
        ("in pieces", read(control.cuts(octets.len()).map(|piece| &octets[piece]), limits)),
    ] {
        assert_eq!(found, expected, "{how}: \"{}\"", octets.escape_ascii());
    }
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: ReplyLimits) -> Outcome {
    let mut reader = ReplyReader::new();
    let mut found = Outcome::default();
    let mut taken = 0;
    for mut piece in pieces {
        loop {
            let before = piece.len();
            let mut lines = Vec::new();
            let reply = reader.next(&mut piece, limits, |number, line| lines.push((number, line.to_vec())));
            found.lines.extend(lines);
            taken += before - piece.len();
            match reply {
                None => break,
                Some(Ok(reply)) => {
                    assert!(taken <= limits.octets, "a reply of {taken} octets");
                    assert!(!reader.is_within_reply());
                    taken = 0;
                    found.replies.push(reply);
                }
                Some(Err(error)) => {
                    found.error = Some(error);
                    found.lines.clear();
                    return found;
                }
            }
        }
        assert!(piece.is_empty(), "what is not taken would be given twice");
        assert!(taken <= limits.octets, "{taken} octets are awaited without an end");
    }
    found.is_open = reader.is_within_reply();
    found
}

/// RFC 5321 §4.2 and §4.2.1, read slowly.
fn reference(octets: &[u8], limits: ReplyLimits) -> Outcome {
    let mut found = Outcome::default();
    let mut start = 0;
    'replies: while start < octets.len() {
        let mut at = start;
        let mut first: Option<&[u8]> = None;
        let mut texts: Vec<&[u8]> = Vec::new();
        loop {
            let end = (at..octets.len()).find(|&end| octets[end..].starts_with(b"\r\n"));
            let seen = end.map_or(octets.len(), |end| end + 2);
            if seen - start > limits.octets {
                return failed(found, ReplyError::TooLong);
            }
            let Some(end) = end else {
                found.is_open = true;
                break 'replies;
            };
            let line = &octets[at..end];
            let is_code = matches!(line, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', ..]);
            let mark = line.get(3);
            if !is_code || !matches!(mark, None | Some(b' ' | b'-')) {
                return failed(found, ReplyError::Syntax);
            }
            if first.is_some_and(|code| code != &line[..3]) {
                return failed(found, ReplyError::Codes);
            }
            first = Some(&line[..3]);
            found.lines.push((texts.len(), line.get(4..).unwrap_or_default().to_vec()));
            texts.push(line.get(4..).unwrap_or_default());
            at = seen;
            if mark != Some(&b'-') {
                found.replies.push(make(&line[..3], &texts));
                start = seen;
                continue 'replies;
            }
            if texts.len() == limits.lines {
                return failed(found, ReplyError::TooLong);
            }
        }
    }
    found
}

fn failed(found: Outcome, error: ReplyError) -> Outcome {
    Outcome { error: Some(error), lines: Vec::new(), is_open: false, ..found }
}

/// The reply of those lines.
fn make(digits: &[u8], texts: &[&[u8]]) -> Reply {
    let text = String::from_utf8(digits.to_vec()).expect("digits");
    let number: u16 = text.parse().expect("three digits");
    let (code, note) = match ReplyCode::new(number) {
        Some(code) => (code, None),
        None => (ReplyCode::new(number / 100 * 100 + 50).expect("in the grammar"), Some(format!("({text})"))),
    };
    let status = status(texts[0], code);
    let shown = texts.iter().map(|text| {
        let is_repeated = status.is_some_and(|status| self::status(text, code) == Some(status));
        let words = if is_repeated { text.splitn(2, |&octet| octet == b' ').nth(1).unwrap_or_default() } else { text };
        let words: String = words.trim_ascii().iter().map(|&octet| shown(octet)).collect();
        words
    });
    let words: Vec<String> = note.into_iter().chain(shown).filter(|words| !words.is_empty()).collect();
    match status {
        Some(status) => Reply::new(code, status, words.join(" ")),
        None => Reply::bare(code, words.join(" ")),
    }
}

fn shown(octet: u8) -> char {
    if octet.is_ascii_graphic() || octet == b' ' { char::from(octet) } else { '?' }
}

/// RFC 2034 §4: the first word, where it is a status code of the class of the reply code.
fn status(text: &[u8], code: ReplyCode) -> Option<EnhancedStatusCode> {
    let word = text.split(|&octet| octet == b' ').next()?;
    let word = std::str::from_utf8(word).ok()?;
    let numbers: Vec<u16> = word.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [class, subject, detail] = numbers[..] else { return None };
    let status = EnhancedStatusCode::new(u8::try_from(class).ok()?, subject, detail)?;
    // Written in one way only: no signs, no leading zeros.
    (status.class() == code.class() && status.to_string() == word).then_some(status)
}
