//! xtext: printable text in the value of a parameter, where neither a space nor `=` can stand (RFC 3461 §4).
//!
//! Nothing that it decodes to can end a line: octets that are not printable ASCII are refused however they are written.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::cursor::{Cursor, SyntaxError};

/// Whether an octet stands for itself; `+` begins the two digits of one that does not.
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'+' | b'=')
}

/// Decodes printable text of at least one character that is not a space.
pub(crate) fn decode(octets: &[u8]) -> Result<String, SyntaxError> {
    let text: String = decode_octets(octets)?.into_iter().map(char::from).collect();
    let error = |expected| Err(Cursor::new(octets).error(expected));
    match text.chars().all(is_printable) {
        false => error("xtext of printable characters"),
        true if is_blank(&text) => error("text"),
        true => Ok(text),
    }
}

/// Decodes whatever octets there are.
pub(crate) fn decode_octets(octets: &[u8]) -> Result<Vec<u8>, SyntaxError> {
    let mut cursor = Cursor::new(octets);
    let mut text = Vec::with_capacity(octets.len());
    while let Some(octet) = cursor.next() {
        let decoded = match octet {
            b'+' => match (cursor.next().and_then(digit), cursor.next().and_then(digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(cursor.error("+ and two upper-case hexadecimal digits")),
            },
            octet if is_plain(octet) => octet,
            _ => return Err(cursor.error("a character of xtext")),
        };
        text.push(decoded);
    }
    Ok(text)
}

/// Text as ASCII in the form of a `utf-8` address: `\x{FC}` for what is not (RFC 6533 §3).
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(2 * text.len());
    for c in text.chars() {
        let written = if c.is_ascii() { escaped.write_char(c) } else { write!(escaped, "\\x{{{:02X}}}", u32::from(c)) };
        written.expect("memory takes what is written");
    }
    Cow::Owned(escaped)
}

/// Whether text may be encoded: what [`decode`] can give back.
pub(crate) fn can_encode(text: &str) -> bool {
    !is_blank(text) && text.chars().all(is_printable)
}

/// Writes text as xtext, each character in the shortest way.
pub(crate) fn encode(text: &str, output: &mut impl Write) -> fmt::Result {
    text.bytes().try_for_each(|octet| match octet {
        octet if is_plain(octet) => output.write_char(char::from(octet)),
        octet => write!(output, "+{octet:02X}"),
    })
}

/// Octets of the text when it is encoded.
pub(crate) fn encoded_octets(text: &str) -> usize {
    text.bytes().map(|octet| if is_plain(octet) { 1 } else { 3 }).sum()
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~')
}

fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c == ' ')
}

fn digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut output = String::new();
        encode(text, &mut output).expect("memory takes what is written");
        output
    }

    #[test] // RFC 3461 §4
    fn r3461a_the_table_of_xtext() {
        for (xtext, text) in [
            ("abc", Some("abc")),
            ("Bob@Example.COM", Some("Bob@Example.COM")),
            ("!~", Some("!~")),
            ("+2B", Some("+")),
            ("+3D", Some("=")),
            ("a+20b", Some("a b")),
            ("+41", Some("A")),
            ("+2B41", Some("+41")),
            ("%0d%0a", Some("%0d%0a")),
            ("", None),
            ("+20", None),
            ("+", None),
            ("+2", None),
            ("+2b", None),
            ("+G0", None),
            ("+ 2", None),
            ("a=b", None),
            ("a b", None),
            // SECURITY D-9
            ("+0D+0A", None),
            ("a+0AX-Evil:+20y", None),
            ("+00", None),
            ("+09", None),
            ("+7F", None),
            ("+80", None),
            ("+E2+80+A8", None),
            ("a\r\n", None),
            ("J\u{fc}rgen", None),
            ("\u{10a}", None),
            ("\u{560a}", None),
        ] {
            assert_eq!(decode(xtext.as_bytes()).ok().as_deref(), text, "{xtext:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn decoding_undoes_encoding(text in "[ -~]{0,60}") {
            let xtext = encoded(&text);
            proptest::prop_assert!(xtext.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'='));
            proptest::prop_assert_eq!(xtext.len(), encoded_octets(&text));
            proptest::prop_assert_eq!(decode(xtext.as_bytes()).ok(), can_encode(&text).then_some(text));
        }

        #[test]
        fn what_is_decoded_is_encoded_in_no_more_octets(octets in "([!-~]|\\+[0-9A-F]{2}){0,40}") {
            if let Ok(text) = decode(octets.as_bytes()) {
                proptest::prop_assert!(encoded(&text).len() <= octets.len());
                let again = encoded(&text);
                proptest::prop_assert_eq!(decode(again.as_bytes()), Ok(text));
            }
        }
    }
}
