//! The form in which names and passwords are compared: `SASLprep` (RFC 4013), as RFC 4616 §2 and RFC 5802 §2.2 say.
//!
//! RFC 8265 would prepare passwords of `PLAIN` a little differently (NFC for NFKC). Both mechanisms check the same
//! password, so there is one form for both: that of SCRAM, in which keys have been stored for years.

use std::borrow::Cow;

/// `None` where the text is not UTF-8, holds what may not be in it (controls, NUL), or nothing is left of it.
pub(super) fn prepared(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    let prepared = stringprep::saslprep(text).ok().filter(|prepared| !prepared.is_empty())?;
    Some(Cow::into_owned(prepared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 4013 §3; SECURITY.md D-42
    fn d42_examples_of_the_rfc_and_of_hostile_text() {
        for (text, expected) in [
            ("user", Some("user")),
            ("USER", Some("USER")),
            ("I\u{ad}X", Some("IX")),
            ("\u{aa}", Some("a")),
            ("\u{2168}", Some("IX")),
            ("a\u{a0}b", Some("a b")),
            ("\u{131}", Some("\u{131}")), // Dotless i stays what it is.
            ("e\u{301}", Some("\u{e9}")),
            ("\u{7}", None),
            ("a\0b", None),
            ("\u{627}1", None),
            ("\u{200f}x", None),
            ("\u{ad}", None),
            ("", None),
        ] {
            assert_eq!(prepared(text.as_bytes()).as_deref(), expected, "{text:?}");
        }
        for octets in [&b"\xc0\xae"[..], b"\xe2\x82", b"\xff", b"\xed\xa0\x80"] {
            assert_eq!(prepared(octets), None, "{octets:?}");
        }
    }
}
