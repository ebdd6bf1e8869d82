//! Solicitation class keywords: `org.example:ADV,net.example:ADLT` (RFC 3865 §2.2), what kinds of solicitation there are.

use std::fmt;

use super::cursor::{Cursor, SyntaxError};

/// Solicitation class keywords, as `NO-SOLICITING` lists them in the answer to `EHLO` and `SOLICIT=` says them of a message
/// (RFC 3865 §2.2).
///
/// ```
/// use smtp_core::SolicitationClasses;
///
/// let refused = SolicitationClasses::parse("org.example:ADV,net.example:ADLT")?;
/// let said = SolicitationClasses::parse("NET.example:adlt")?;
/// assert!(refused.have_any_of(&said));
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SolicitationClasses(Box<str>);

impl SolicitationClasses {
    /// Octets of the whole list: 1000.
    pub const LIMIT_OCTETS: usize = 1000;

    /// None: a server that lists none asks for no solicitation of any class, and leaves it to its policies what that is.
    pub fn none() -> Self {
        Self::default()
    }

    /// `word *("," word)`, each a letter with letters, digits, `.`, `-`, `_` and `:` behind it.
    ///
    /// # Errors
    /// [`SyntaxError`] where it is something else, empty, or longer than [`SolicitationClasses::LIMIT_OCTETS`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let text = text.as_ref();
        let mut cursor = Cursor::new(text);
        if text.len() > Self::LIMIT_OCTETS {
            return Err(cursor.error("at most 1000 octets of solicitation class keywords"));
        }
        loop {
            let word = cursor.take_while(|octet| octet.is_ascii_alphanumeric() || b".-_:".contains(&octet));
            if !word.first().is_some_and(u8::is_ascii_alphabetic) {
                return Err(cursor.error("a solicitation class keyword, which begins with a letter"));
            }
            if cursor.is_at_end() {
                return Ok(Self(String::from_utf8_lossy(text).into()));
            }
            if !cursor.eat(b',') {
                return Err(cursor.error("a comma or the end of the solicitation class keywords"));
            }
        }
    }

    /// Each of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').filter(|word| !word.is_empty())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is among the others, in any case of letters.
    pub fn have_any_of(&self, others: &Self) -> bool {
        // Both are at most 500 words long, and a server's own list has few.
        self.iter().any(|word| others.iter().any(|other| word.eq_ignore_ascii_case(other)))
    }
}

impl fmt::Display for SolicitationClasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 3865 §2.2
    fn r3865_keywords_are_words_between_commas() {
        let longest = format!("a{}", "b".repeat(999));
        let too_long = format!("a{}", "b".repeat(1000));
        for (text, expected) in [
            ("org.example:ADV:ADLT", Some(1)),
            ("a", Some(1)),
            ("A.-_:9,b,c", Some(3)),
            ("a,a", Some(2)),
            (longest.as_str(), Some(1)),
            (too_long.as_str(), None),
            ("", None),
            (",", None),
            ("a,", None),
            (",a", None),
            ("a,,b", None),
            ("9a", None),
            (".a", None),
            ("a,:b", None),
            ("a b", None),
            ("a;b", None),
            ("a=b", None),
            ("\u{e4}", None),
            ("a\r\nRCPT", None),
        ] {
            let found = SolicitationClasses::parse(text).ok();
            assert_eq!(found.as_ref().map(|classes| classes.iter().count()), expected, "{text:?}");
            assert!(found.is_none_or(|classes| classes.to_string() == text), "parsing undoes formatting: {text:?}");
        }
        assert_eq!(SolicitationClasses::none().iter().count(), 0);
    }

    #[test]
    fn classes_are_whole_words_in_any_case() {
        for (some, others, expected) in [
            ("org.example:ADV", "ORG.EXAMPLE:adv", true),
            ("x,org.example:ADV", "y,org.example:ADV", true),
            ("org.example:ADV", "org.example:ADV:ADLT", false),
            ("org.example:ADV", "org.example", false),
        ] {
            let [some, others] = [some, others].map(|text| SolicitationClasses::parse(text).expect("keywords"));
            assert_eq!(some.have_any_of(&others), expected, "{some} {others}");
            assert_eq!(others.have_any_of(&some), expected, "{others} {some}");
            assert!(!some.have_any_of(&SolicitationClasses::none()) && !SolicitationClasses::none().have_any_of(&some));
        }
    }

    proptest::proptest! {
        #[test] // No octets make it panic, and what it takes can stand in a command line (SECURITY D-9).
        fn d9_what_is_taken_is_one_word_of_a_line(octets: Vec<u8>, text in "[a-c,:. ]{0,12}") {
            for input in [&octets[..], text.as_bytes()] {
                if let Ok(classes) = SolicitationClasses::parse(input) {
                    let text = classes.to_string();
                    proptest::prop_assert!(text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'='));
                    proptest::prop_assert_eq!(SolicitationClasses::parse(&text), Ok(classes));
                }
            }
        }
    }
}
