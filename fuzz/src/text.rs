//! The law of text from outside: in a reply, a log line or a header field it stays on its line, printable and short.

use smtp_core::{EnhancedStatusCode, HeaderField, HeaderFieldError, Refusal, Reply, ReplyCode, ReplyText, SafeText};

use crate::control::{Control, split};

/// Checks the input as words of a reply, as text of a log, and, cut at its first line feed, as name and value of a
/// header field.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let text = String::from_utf8_lossy(octets).into_owned();
    reply(&text, control);
    safe_text(octets, &text);
    let (name, value) = text.split_once('\n').unwrap_or(("X-Text", &text));
    header_field(name, value);
    header_field("X-Text", &value.repeat(usize::from(control.choice(0) % 16) + 1));
}

/// SECURITY.md D-9, D-10; RFC 5321 §4.2, §4.5.3.1.5; RFC 2034 §4.
fn reply(text: &str, control: Control<'_>) {
    let cleaned = ReplyText::new(text.to_owned());
    let cleaned = cleaned.as_str();
    assert!(cleaned.len() <= ReplyText::LIMIT_OCTETS && cleaned.chars().all(|c| matches!(c, ' '..='~')), "{cleaned:?}");
    assert_eq!(ReplyText::new(cleaned.to_owned()).as_str(), cleaned, "cleaning twice changes nothing");
    if text.len() <= ReplyText::LIMIT_OCTETS && text.chars().all(|c| matches!(c, ' '..='~')) {
        assert_eq!(cleaned, text, "what is clean stays");
    }

    let number = |at: usize| u16::from(control.choice(at)) * 4;
    let code = ReplyCode::new(number(0)).or(ReplyCode::new(550)).expect("550 is in the grammar");
    let status = EnhancedStatusCode::new(2 + (control.choice(1) & 3), number(2), number(3));
    let reply = match status {
        Some(status) => Reply::new(code, status, text.to_owned()),
        None => Reply::bare(code, text.to_owned()),
    };
    let mut line = Vec::new();
    reply.write_to(&mut line);
    is_reply_line(&line);
    // On the wire a space stands behind the code even where no text follows.
    assert_eq!(line.trim_ascii_end(), reply.to_string().trim_end().as_bytes());
    if let Some(status) = reply.status() {
        assert_eq!(status.class(), code.class());
    }

    let refusal = Refusal::permanent(number(1), number(2), text.to_owned()).with_code(number(0));
    assert!(refusal.reply().code().is_permanent() && !refusal.is_transient());
    let refusal = Refusal::transient(number(1), number(2), text.to_owned()).with_code(number(0));
    assert!(refusal.reply().code().is_transient() && refusal.is_transient());
}

/// A line of a reply: `250 text` or `250-text`, CRLF, 512 octets at most (RFC 5321 §4.2, §4.5.3.1.5).
///
/// # Panics
/// Where it is not one.
pub fn is_reply_line(line: &[u8]) {
    let text = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no CRLF: {line:?}"));
    assert!(line.len() <= 512, "{} octets", line.len());
    assert!(text.iter().all(|octet| matches!(octet, b' '..=b'~')), "not printable: {line:?}");
    let grammar = matches!(text, [b'2'..=b'5', b'0'..=b'5', b'0'..=b'9', b' ' | b'-', ..]);
    assert!(grammar, "not a reply: {line:?}");
}

/// Whether text has neither a control in it nor a character that reorders or hides others (SECURITY.md D-9, D-42). Those that
/// join letters belong to words.
pub(crate) fn is_visible(text: &str) -> bool {
    let is_hidden = |c: char| {
        let hidden =
            ["\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{feff}"];
        c.is_control() || hidden.iter().any(|set| set.contains(c)) || ('\u{2060}'..='\u{206f}').contains(&c)
    };
    !text.chars().any(|c| is_hidden(c) || ('\u{fff9}'..='\u{fffb}').contains(&c))
}

/// SECURITY.md D-26.
fn safe_text(octets: &[u8], text: &str) {
    for cleaned in [SafeText::from_octets(octets), SafeText::new(text.to_owned())] {
        let shown = cleaned.as_str();
        assert!(shown.len() <= SafeText::LIMIT_OCTETS, "{} octets", shown.len());
        let is_line_break = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{85}');
        assert!(!shown.chars().any(|c| c.is_control() || is_line_break(c)), "{shown:?}");
        assert_eq!(SafeText::new(shown.to_owned()), cleaned, "cleaning twice changes nothing");
        if text.len() <= SafeText::LIMIT_OCTETS && text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
            assert_eq!(shown, text, "what is clean stays");
        }
    }
}

/// RFC 5322 §2.1.1, §2.2, §2.2.3.
fn header_field(name: &str, value: &str) {
    let is_name = (1..=77).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    let has_control = value.chars().any(|c| c.is_control() && c != '\t');
    match HeaderField::new(name, value) {
        Ok(field) => {
            assert!(is_name && !has_control, "{name:?}: {value:?}");
            assert_eq!(field.name(), name);
            assert_eq!(unfold(field.as_bytes(), name).trim(), value.trim(), "{name:?}");
        }
        Err(HeaderFieldError::Name) => assert!(!is_name, "{name:?}"),
        Err(HeaderFieldError::Control) => assert!(has_control, "{value:?}"),
        Err(_) => {
            // A word and the white space before it share a line, as does the name with the first word.
            let longest = longest_word(value.trim());
            assert!(longest + name.len() + 2 > 998 || value.len() + name.len() > 60_000, "{longest} octets");
        }
    }
}

/// The longest run of white space and the word behind it.
fn longest_word(value: &str) -> usize {
    let is_space = |octet: u8| octet == b' ' || octet == b'\t';
    let octets = value.as_bytes();
    let mut start = 0;
    let mut longest = 0;
    for at in 0..=octets.len() {
        let ends = at == octets.len() || (at > 0 && is_space(octets[at]) && !is_space(octets[at - 1]));
        if ends {
            longest = longest.max(at - start);
            start = at;
        }
    }
    longest
}

/// The value of exactly one field of that name, white space around it included.
///
/// # Panics
/// Where the octets are not exactly one field in lines of 998 octets at most.
pub fn unfold(field: &[u8], name: &str) -> String {
    let text = std::str::from_utf8(field).expect("made of text");
    let lines = text.strip_suffix("\r\n").unwrap_or_else(|| panic!("no CRLF: {text:?}"));
    for (number, line) in lines.split("\r\n").enumerate() {
        assert!(line.len() <= 998, "{} octets", line.len());
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
        if number > 0 {
            assert!(line.starts_with([' ', '\t']), "another field: {line:?}");
            assert!(!line.trim_matches([' ', '\t']).is_empty(), "white space alone: {line:?}");
        }
    }
    let unfolded = lines.replace("\r\n", "");
    let value = unfolded.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("not {name}: {unfolded:?}")).to_owned()
}
