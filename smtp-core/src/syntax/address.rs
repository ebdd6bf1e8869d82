//! Mailboxes and their parts: local-part, domain, address literal (RFC 5321 §4.1.2 and §4.1.3).

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use super::cursor::{Cursor, SyntaxError};
use super::domain::{DOMAIN_LIMIT_OCTETS, Domain};
use super::text::text;

/// The most octets of a path, angle brackets included: 1,024. RFC 5321 §4.5.3.1.3 asks for 256 at least.
pub const PATH_LIMIT_OCTETS: usize = 1024;

/// What stands left of the `@`, without quotes: printable ASCII, and in a transaction with `SMTPUTF8` any characters but
/// controls and those that reorder or hide text (RFC 6531 §3.3).
///
/// Compares with its case of letters, because only its own host knows what it means (RFC 5321 §2.4). Two ways to compose
/// the same characters are one value (Unicode NFC, RFC 6530 §10.1), and so are `"alice"` and `alice` (RFC 5321 §4.1.2); quotes are
/// written where the grammar needs them. A clone shares the text, which stays as it came.
#[derive(Clone, Eq)]
pub struct LocalPart(Arc<str>);

impl LocalPart {
    /// The characters, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it needs no `SMTPUTF8`.
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// The characters, unquoted, in the one form that all ways to compose them have (Unicode NFC).
    pub fn to_nfc(&self) -> Cow<'_, str> {
        if self.is_ascii() { Cow::Borrowed(&self.0) } else { Cow::Owned(self.0.nfc().collect()) }
    }

    /// Whether it is `postmaster` in any case of letters (RFC 5321 §2.3.5 and §4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.0.eq_ignore_ascii_case("postmaster")
    }

    pub(super) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if cursor.eat(b'"') { Self::parse_quoted(cursor) } else { Self::parse_dot_string(cursor) }
    }

    fn parse_dot_string(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let (before, start) = (cursor.clone(), cursor.rest());
        loop {
            if cursor.take_while(is_atext).is_empty() {
                return Err(cursor.error("a character of the local-part"));
            }
            if !cursor.eat(b'.') {
                break;
            }
        }
        text(&before, &start[..start.len() - cursor.rest().len()]).map(|text| Self(text.into()))
    }

    fn parse_quoted(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let before = cursor.clone();
        let mut characters = Vec::new();
        loop {
            match cursor.next() {
                Some(b'"') => return text(&before, &characters).map(|text| Self(text.into())),
                Some(b'\\') => match cursor.next() {
                    Some(octet @ b' '..=b'~') => characters.push(octet),
                    _ => return Err(cursor.error("a printable character after the backslash")),
                },
                Some(octet @ (b' '..=b'~' | 0x80..)) => characters.push(octet),
                _ => return Err(cursor.error("a printable character or the closing quote")),
            }
        }
    }

    fn needs_quotes(&self) -> bool {
        self.0.split('.').any(|atom| atom.is_empty() || !atom.bytes().all(is_atext))
    }
}

impl PartialEq for LocalPart {
    fn eq(&self, other: &Self) -> bool {
        self.to_nfc() == other.to_nfc()
    }
}

impl Hash for LocalPart {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_nfc().hash(state);
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.needs_quotes() {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            fmt::Write::write_char(f, c)?;
        }
        f.write_str("\"")
    }
}

impl fmt::Debug for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address in brackets in the place of a domain (RFC 5321 §4.1.3).
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressLiteral {
    /// `[192.0.2.1]`: four decimal numbers without leading zeros.
    V4(Ipv4Addr),
    /// `[IPv6:2001:db8::1]`.
    V6(Ipv6Addr),
    /// `[tag:content]` of a kind registered later.
    General {
        /// Before the colon.
        tag: Arc<str>,
        /// After it.
        content: Arc<str>,
    },
}

impl AddressLiteral {
    /// The address, where it is one of IP.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
            Self::General { .. } => None,
        }
    }

    fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        cursor.expect(b'[', "an opening bracket")?;
        let before = cursor.clone();
        let content = cursor.take_while(|octet| matches!(octet, b'!'..=b'Z' | b'^'..=b'~'));
        if content.len() > DOMAIN_LIMIT_OCTETS {
            return Err(before.error("an address literal of at most 255 octets"));
        }
        let text = text(&before, content)?;
        let literal = if let Some(address) = strip_word(text, "IPv6:") {
            address.parse().map(Self::V6).map_err(|_| before.error("an IPv6 address"))?
        } else if let Some((tag, content)) = text.split_once(':') {
            let tag_is_valid = !tag.is_empty()
                && !tag.ends_with('-')
                && tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
            if !tag_is_valid || content.is_empty() {
                return Err(before.error("a tag, a colon and an address"));
            }
            Self::General { tag: tag.into(), content: content.into() }
        } else {
            text.parse().map(Self::V4).map_err(|_| before.error("an IPv4 address"))?
        };
        cursor.expect(b']', "a closing bracket")?;
        Ok(literal)
    }
}

impl From<IpAddr> for AddressLiteral {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl fmt::Display for AddressLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "[{address}]"),
            Self::V6(address) => write!(f, "[IPv6:{address}]"),
            Self::General { tag, content } => write!(f, "[{tag}:{content}]"),
        }
    }
}

impl fmt::Debug for AddressLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A domain or an address literal: what follows the `@`, and what `EHLO` says of the client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// `example.org`.
    Domain(Domain),
    /// `[192.0.2.1]`.
    Literal(AddressLiteral),
}

impl Host {
    /// Parses a domain or an address literal.
    ///
    /// # Errors
    /// [`SyntaxError`] where it is neither.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        parse_whole(text.as_ref(), Self::parse_at)
    }

    /// Whether it needs no `SMTPUTF8`.
    pub fn is_ascii(&self) -> bool {
        self.domain().is_none_or(Domain::is_ascii)
    }

    /// The same with A-labels in a domain (RFC 5890 §2.3.2.1).
    #[must_use]
    pub fn into_ascii(self) -> Self {
        match self {
            Self::Domain(domain) => Self::Domain(domain.to_ascii()),
            Self::Literal(_) => self,
        }
    }

    /// The domain, where it is one.
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::Literal(_) => None,
        }
    }

    fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if cursor.peek() == Some(b'[') {
            AddressLiteral::parse_at(cursor).map(Self::Literal)
        } else {
            Domain::parse_at(cursor).map(Self::Domain)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(literal) => literal.fmt(f),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `local-part@domain` (RFC 5321 §2.3.11).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    local_part: LocalPart,
    host: Host,
}

impl Mailbox {
    /// Parses `alice@example.org`, `"a b"@example.org`, `alice@[192.0.2.1]`.
    ///
    /// # Errors
    /// [`SyntaxError`] with the place.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let text = text.as_ref();
        if text.len() > PATH_LIMIT_OCTETS - 2 {
            return Err(Cursor::new(text).error("an address of at most 1,022 octets"));
        }
        let mailbox = parse_whole(text, Self::parse_at)?;
        if is_too_long(text.len(), &mailbox, PATH_LIMIT_OCTETS - 2) {
            return Err(Cursor::new(text).error("an address of at most 1,022 octets"));
        }
        Ok(mailbox)
    }

    /// `postmaster` at `domain`.
    pub fn postmaster_at(domain: Domain) -> Self {
        Self { local_part: LocalPart("postmaster".into()), host: Host::Domain(domain) }
    }

    /// What stands left of the `@`.
    pub fn local_part(&self) -> &LocalPart {
        &self.local_part
    }

    /// What stands right of the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it needs no `SMTPUTF8` (RFC 6531 §3.2).
    pub fn is_ascii(&self) -> bool {
        self.local_part.is_ascii() && self.host.is_ascii()
    }

    /// The same with A-labels in its domain; `None` where the local-part needs `SMTPUTF8`.
    pub fn to_ascii(&self) -> Option<Self> {
        let (local_part, host) = (self.local_part.clone(), self.host.clone().into_ascii());
        local_part.is_ascii().then_some(Self { local_part, host })
    }

    /// The domain, unless it is an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        self.host.domain()
    }

    pub(super) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let local_part = LocalPart::parse_at(cursor)?;
        cursor.expect(b'@', "@")?;
        Ok(Self { local_part, host: Host::parse_at(cursor)? })
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.host)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mailbox {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

/// Whether a value exceeds the limit as it came or as it is written: an IPv6 address can grow by some octets.
pub(super) fn is_too_long(octets: usize, value: &impl fmt::Display, limit_octets: usize) -> bool {
    octets > limit_octets || (octets + 45 > limit_octets && value.to_string().len() > limit_octets)
}

pub(super) fn parse_whole<T>(
    text: &[u8],
    parse: impl FnOnce(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<T, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let value = parse(&mut cursor)?;
    cursor.expect_end()?;
    Ok(value)
}

/// RFC 5322 §3.2.3, for RFC 5321 §4.1.2; RFC 6531 §3.3 adds all that is not ASCII.
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || !octet.is_ascii() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.get(..word.len())?.eq_ignore_ascii_case(word).then(|| &text[word.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 5321 §2.4: the local-part keeps its case, the domain has none.
    fn comparison() {
        let mailbox = |text: &str| Mailbox::parse(text).expect("valid");
        assert_eq!(mailbox("bob@example.org"), mailbox("bob@EXAMPLE.org"));
        assert_ne!(mailbox("bob@example.org"), mailbox("Bob@example.org"));
    }

    #[test] // RFC 6531 §3.3, SECURITY D-9, D-42
    fn d42_local_parts_of_other_scripts_are_text_and_compare_by_nfc() {
        let mailbox = |text: &str| Mailbox::parse(text).ok();
        for text in
            ["J\u{f6}rg@example.org", "\u{7528}\u{6237}@example.org", "\"a \u{fc}\"@example.org", "\u{10a}@example.org"]
        {
            let parsed = mailbox(text).expect(text);
            assert_eq!(parsed.to_string(), text);
            assert!(!parsed.is_ascii() && parsed.to_ascii().is_none());
        }
        assert_eq!(mailbox("J\u{f6}rg@example.org"), mailbox("Jo\u{308}rg@example.org"), "NFC");
        assert_ne!(mailbox("\u{fb01}x@example.org"), mailbox("fix@example.org"), "not NFKC");
        assert_ne!(mailbox("\u{131}@example.org"), mailbox("i@example.org"), "a dotless i is no i");
        for text in ["a\u{2028}b", "a\u{85}", "\u{202e}a", "a\u{200f}", "\u{feff}a", "a\u{ad}"] {
            assert_eq!(mailbox(&format!("{text}@example.org")), None, "{text:?}");
            assert_eq!(mailbox(&format!("\"{text}\"@example.org")), None, "{text:?}");
        }
        for octets in
            [&b"\xff@example.org"[..], b"\"\xc3\"@example.org", b"\xc0\x8d@example.org", b"\"\xc3\\\xbc\"@example.org"]
        {
            assert!(Mailbox::parse(octets).is_err(), "{}", octets.escape_ascii());
        }
        let mixed = mailbox("alice@b\u{fc}cher.example").expect("a mailbox");
        assert_eq!(mixed.to_ascii(), Some(mixed.clone()), "equal");
        assert_eq!(mixed.to_ascii().expect("ASCII").to_string(), "alice@xn--bcher-kva.example");
    }

    proptest::proptest! {
        #[test]
        fn parse_undoes_format(local in "[ -~\u{a1}-\u{ac}\u{ae}-\u{17f}]{0,20}", domain in "[a-z0-9_]{1,10}(\\.[a-z0-9]{1,10}){0,3}") {
            let mailbox = Mailbox { local_part: LocalPart(local.into()), host: Host::Domain(Domain::parse(domain)?) };
            proptest::prop_assert_eq!(&Mailbox::parse(mailbox.to_string())?, &mailbox);
        }
    }
}
