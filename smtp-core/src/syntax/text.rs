//! Text from outside, made harmless before it is shown: in a reply, a log line or a header field.

use std::borrow::Cow;
use std::fmt;

use super::cursor::{Cursor, SyntaxError};

/// One line of printable text that came from a peer, from DNS or from a library.
///
/// Controls, line breaks and characters that change the direction of writing become `?`, and what exceeds
/// [`SafeText::LIMIT_OCTETS`] is cut, so that it cannot forge a log line or drive a terminal.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct SafeText(Cow<'static, str>);

impl SafeText {
    /// The most octets that are kept: 512.
    pub const LIMIT_OCTETS: usize = 512;

    /// Cleans `text`.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        if text.len() <= Self::LIMIT_OCTETS && text.chars().all(is_harmless) {
            return Self(text);
        }
        Self(Cow::Owned(clean(&text, Self::LIMIT_OCTETS, is_harmless)))
    }

    /// Cleans octets; what is not UTF-8 becomes `?`.
    pub fn from_octets(octets: &[u8]) -> Self {
        let octets = &octets[..octets.len().min(4 * Self::LIMIT_OCTETS)];
        Self::new(String::from_utf8_lossy(octets).replace(char::REPLACEMENT_CHARACTER, "?"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for SafeText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What is read is cleaned as well.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for SafeText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer).map(Self::new)
    }
}

/// Neither a control nor one of the characters that reorder or hide text.
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Octets as text without controls and without characters that reorder or hide it; the error names where `cursor` stands.
pub(super) fn text<'a>(cursor: &Cursor<'_>, octets: &'a [u8]) -> Result<&'a str, SyntaxError> {
    let text = std::str::from_utf8(octets).map_err(|_| cursor.error("UTF-8"))?;
    // Joiners are part of words in some scripts.
    let is_allowed = |c| is_harmless(c) || matches!(c, '\u{200c}' | '\u{200d}');
    if text.is_ascii() || text.chars().all(is_allowed) { Ok(text) } else { Err(cursor.error("visible characters")) }
}

/// The text of a value that is usually as long as an address; formatting alone would begin with a few octets and grow.
pub(crate) fn to_text(value: &impl fmt::Display) -> String {
    let mut text = String::with_capacity(TEXT_OCTETS);
    fmt::Write::write_fmt(&mut text, format_args!("{value}")).expect("memory takes what is written");
    text
}

const TEXT_OCTETS: usize = 48;

/// Replaces what is not allowed by `?` and cuts at a character boundary.
pub(crate) fn clean(text: &str, limit_octets: usize, allowed: impl Fn(char) -> bool) -> String {
    let mut cleaned = String::with_capacity(text.len().min(limit_octets));
    for c in text.chars() {
        let c = if allowed(c) { c } else { '?' };
        if cleaned.len() + c.len_utf8() > limit_octets {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY.md D-26
    fn nothing_that_drives_a_terminal_or_a_log_survives() {
        for (octets, expected) in [
            (&b"mx.example"[..], "mx.example"),
            (b"a\r\nSep 1 forged", "a??Sep 1 forged"),
            (b"\x1b[31mred\x07", "?[31mred?"),
            (b"\0", "?"),
            (b"\xff\xfe", "??"),
            ("abc\u{202e}cba".as_bytes(), "abc?cba"),
            ("J\u{fc}rgen".as_bytes(), "J\u{fc}rgen"),
            ("\u{85}\u{2028}".as_bytes(), "??"),
        ] {
            assert_eq!(SafeText::from_octets(octets).as_str(), expected);
        }
        assert_eq!(SafeText::from_octets(&vec![b'x'; 65_536]).as_str().len(), SafeText::LIMIT_OCTETS);
    }
}
