//! Domains, and when two of them are one (RFC 5321 §2.3.5, RFC 5890 §2.3.2).

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::address::parse_whole;
use super::cursor::{Cursor, SyntaxError};
use super::text::text;

/// The most octets of a domain (RFC 1035 §2.3.4, RFC 5321 §4.5.3.1.2).
pub(super) const DOMAIN_LIMIT_OCTETS: usize = 255;
const LABEL_LIMIT_OCTETS: usize = 63;

/// A domain: labels of letters, digits, hyphens and (as seen in the wild) underscores, with dots between.
///
/// A label with other characters is a U-label (RFC 5890 §2.3.2.1), which is only good in a path of a transaction with
/// `SMTPUTF8` (RFC 6531 §3.3). Compares without case (RFC 5321 §2.4), and a U-label equals its A-label; keeps what it came
/// with. A clone shares the text.
///
/// ```
/// use smtp_core::Domain;
///
/// let domain = Domain::parse("B\u{fc}cher.example")?;
/// assert_eq!(domain.to_ascii().as_str(), "xn--bcher-kva.example");
/// assert_eq!(domain, Domain::parse("xn--bcher-kva.EXAMPLE")?);
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Clone)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Parses `example.org`.
    ///
    /// # Errors
    /// [`SyntaxError`] where a label is empty, too long, holds another character or is no U-label, where there is a final
    /// dot, and where the whole has more than 255 octets in ASCII.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        parse_whole(text.as_ref(), Self::parse_at)
    }

    /// The text, in the case it came with.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all its labels are ASCII.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// The same with A-labels in the place of U-labels (RFC 5890 §2.3.2.1): what DNS is asked for.
    #[must_use]
    pub fn to_ascii(&self) -> Self {
        match self.ascii() {
            Cow::Borrowed(_) => self.clone(),
            Cow::Owned(ascii) => Self(ascii.into()),
        }
    }

    fn ascii(&self) -> Cow<'_, str> {
        if self.is_ascii() {
            return Cow::Borrowed(&self.0);
        }
        in_ascii(&self.0).expect("parsing has tried it")
    }

    pub(super) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let (before, start) = (cursor.clone(), cursor.rest());
        loop {
            let label = cursor.take_while(is_label);
            if label.is_empty() {
                return Err(cursor.error("a letter or digit of the domain"));
            }
            if !label.is_ascii() {
                if !is_u_label(label) {
                    return Err(cursor.error("a U-label"));
                }
            } else if label.len() > LABEL_LIMIT_OCTETS {
                return Err(cursor.error("a label of at most 63 octets"));
            }
            if label[0] == b'-' || label[label.len() - 1] == b'-' {
                return Err(cursor.error("a label that neither starts nor ends with a hyphen"));
            }
            if !cursor.eat(b'.') {
                break;
            }
        }
        let domain = &start[..start.len() - cursor.rest().len()];
        let domain = text(&before, domain)?;
        let is_short = if domain.is_ascii() {
            domain.len() <= DOMAIN_LIMIT_OCTETS
        } else {
            in_ascii(domain).is_some_and(|ascii| ascii.len() <= DOMAIN_LIMIT_OCTETS)
        };
        if is_short { Ok(Self(domain.into())) } else { Err(cursor.error("a domain of at most 255 octets")) }
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.ascii().eq_ignore_ascii_case(&other.ascii())
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in self.ascii().bytes() {
            state.write_u8(octet.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

fn is_label(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' || !octet.is_ascii()
}

/// Whether IDNA takes the label as it is, but for the case of letters: what it would first turn into something else, as a
/// full stop of another script into a dot, stays out (RFC 5891 §5.3, SECURITY D-42).
fn is_u_label(label: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(label) else { return false };
    let Some(ascii) = in_ascii(text) else { return false };
    let (back, result) = Uts46::new().to_unicode(ascii.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    ascii.len() <= LABEL_LIMIT_OCTETS && result.is_ok() && *back == *text.to_lowercase()
}

/// With A-labels, where every label has one.
fn in_ascii(domain: &str) -> Option<Cow<'_, str>> {
    Uts46::new().to_ascii(domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 5891 §5.3, RFC 6531 §3.3, SECURITY D-42
    fn d42_labels_of_other_scripts_are_u_labels_or_nothing() {
        for (text, ascii) in [
            ("b\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("B\u{dc}CHER.Example", Some("xn--bcher-kva.example")),
            ("stra\u{df}e.example", Some("xn--strae-oqa.example")),
            ("\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", Some("xn--r8jz45g.xn--zckzah")),
            ("_x.b\u{fc}cher.example", Some("_x.xn--bcher-kva.example")),
            ("xn--bcher-kva.\u{dc}.example", Some("xn--bcher-kva.xn--tda.example")),
            // Decomposed, full-width, another full stop, hidden and reordering characters, an unassigned one.
            ("bu\u{308}cher.example", None),
            ("\u{ff45}xample.org", None),
            ("a\u{3002}example.org", None),
            ("a\u{fc}\u{ad}.example", None),
            ("\u{fc}\u{200f}.example", None),
            ("\u{202e}\u{fc}.example", None),
            ("\u{fc}\u{378}.example", None),
            ("-\u{fc}.example", None),
            ("\u{fc}-.example", None),
            ("\u{fc}..example", None),
            ("\u{fc}!.example", None),
        ] {
            let parsed = Domain::parse(text);
            assert_eq!(
                parsed.as_ref().ok().map(|domain| domain.to_ascii().as_str().to_lowercase()).as_deref(),
                ascii,
                "{text:?}"
            );
            if let Ok(domain) = parsed {
                assert_eq!(domain.as_str(), text);
                assert_eq!(domain, Domain::parse(ascii.expect("parsed")).expect("ASCII"), "{text:?}");
            }
        }
        let long = |count| format!("{}.example", "\u{fc}".repeat(count));
        assert!(Domain::parse(long(40)).is_ok() && Domain::parse(long(60)).is_err(), "63 octets as an A-label");
        for octets in [&b"\xff.example"[..], b"\xc3.example", b"\xc0\xafx.example", b"\xed\xa0\x80.example"] {
            assert!(Domain::parse(octets).is_err(), "{}", octets.escape_ascii());
        }
    }
}
