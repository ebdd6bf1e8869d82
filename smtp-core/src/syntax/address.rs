//! Mailboxes and their parts: local-part, domain, address literal (RFC 5321 §4.1.2 and §4.1.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use super::cursor::{Cursor, SyntaxError};
use super::domain::{DOMAIN_LIMIT_OCTETS, Domain};

/// The most octets of a path, angle brackets included: 1,024. RFC 5321 §4.5.3.1.3 asks for 256 at least.
pub const PATH_LIMIT_OCTETS: usize = 1024;

/// What stands left of the `@`, without quotes: printable ASCII.
///
/// Compares with its case of letters, because only its own host knows what it means (RFC 5321 §2.4).
/// `"alice"` and `alice` are one value (§4.1.2); quotes are written where the grammar needs them. A clone shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LocalPart(Arc<str>);

impl LocalPart {
    /// The characters, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `postmaster` in any case of letters (RFC 5321 §2.3.5 and §4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.0.eq_ignore_ascii_case("postmaster")
    }

    fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        if cursor.eat(b'"') { Self::parse_quoted(cursor) } else { Self::parse_dot_string(cursor) }
    }

    fn parse_dot_string(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let start = cursor.rest();
        loop {
            if cursor.take_while(is_atext).is_empty() {
                return Err(cursor.error("a character of the local-part"));
            }
            if !cursor.eat(b'.') {
                break;
            }
        }
        Ok(Self(shared(&start[..start.len() - cursor.rest().len()])))
    }

    fn parse_quoted(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut characters = Vec::new();
        loop {
            match cursor.next() {
                Some(b'"') => return Ok(Self(shared(&characters))),
                Some(b'\\') => match cursor.next() {
                    Some(octet @ b' '..=b'~') => characters.push(octet),
                    _ => return Err(cursor.error("a printable character after the backslash")),
                },
                Some(octet @ b' '..=b'~') => characters.push(octet),
                _ => return Err(cursor.error("a printable character or the closing quote")),
            }
        }
    }

    fn needs_quotes(&self) -> bool {
        self.0.split('.').any(|atom| atom.is_empty() || !atom.bytes().all(is_atext))
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
        let text = shared(content);
        let literal = if let Some(address) = strip_word(&text, "IPv6:") {
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

/// RFC 5322 §3.2.3, for RFC 5321 §4.1.2.
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.get(..word.len())?.eq_ignore_ascii_case(word).then(|| &text[word.len()..])
}

/// The callers let only ASCII through, so nothing is lost.
pub(super) fn shared(ascii: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(ascii).as_ref().into()
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

    proptest::proptest! {
        #[test]
        fn parse_undoes_format(local in "[ -~]{0,20}", domain in "[a-z0-9_]{1,10}(\\.[a-z0-9]{1,10}){0,3}") {
            let mailbox = Mailbox { local_part: LocalPart(local.into()), host: Host::Domain(Domain::parse(domain)?) };
            proptest::prop_assert_eq!(&Mailbox::parse(mailbox.to_string())?, &mailbox);
        }
    }
}
