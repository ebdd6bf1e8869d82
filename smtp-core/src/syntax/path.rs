//! Paths: who a message is from and who it is for, as `MAIL` and `RCPT` write them (RFC 5321 §4.1.2).

use std::fmt;
use std::str::FromStr;

use super::address::{Mailbox, PATH_LIMIT_OCTETS, is_too_long, parse_whole};
use super::cursor::{Cursor, SyntaxError};
use super::domain::Domain;

/// Where notifications about a message go: the `<reverse-path>` of `MAIL`.
///
/// RFC 5321 §4.1.2.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: never answered with a notification (RFC 5321 §4.5.5).
    Null,
    /// `<local-part@domain>`.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Parses `<>` or `<alice@example.org>`; a source route is read and dropped (RFC 5321 Appendix C).
    ///
    /// # Errors
    /// [`SyntaxError`] with the place.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        parse_whole(text.as_ref(), Self::parse_at)
    }

    /// The mailbox, unless the path is null.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether it needs no `SMTPUTF8` (RFC 6531 §3.2).
    pub fn is_ascii(&self) -> bool {
        self.mailbox().is_none_or(Mailbox::is_ascii)
    }

    /// The same with A-labels in its domain; `None` where the local-part needs `SMTPUTF8`.
    pub fn to_ascii(&self) -> Option<Self> {
        match self {
            Self::Null => Some(Self::Null),
            Self::Mailbox(mailbox) => mailbox.to_ascii().map(Self::Mailbox),
        }
    }

    /// Whether it is `<>`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        in_brackets(cursor, |cursor| {
            if cursor.peek() == Some(b'>') { Ok(Self::Null) } else { routed_mailbox(cursor).map(Self::Mailbox) }
        })
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl fmt::Debug for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReversePath {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

/// Where a message goes: the `<forward-path>` of `RCPT`.
///
/// RFC 5321 §4.1.2 and §4.1.1.3.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, in any case of letters (RFC 5321 §4.5.1).
    Postmaster,
    /// `<local-part@domain>`.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// Parses `<bob@example.org>` or `<postmaster>`; a source route is read and dropped (RFC 5321 Appendix C).
    ///
    /// # Errors
    /// [`SyntaxError`] with the place.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        parse_whole(text.as_ref(), Self::parse_at)
    }

    /// The mailbox, unless it is `<postmaster>`.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether it needs no `SMTPUTF8` (RFC 6531 §3.2).
    pub fn is_ascii(&self) -> bool {
        self.mailbox().is_none_or(Mailbox::is_ascii)
    }

    /// The same with A-labels in its domain; `None` where the local-part needs `SMTPUTF8`.
    pub fn to_ascii(&self) -> Option<Self> {
        match self {
            Self::Postmaster => Some(Self::Postmaster),
            Self::Mailbox(mailbox) => mailbox.to_ascii().map(Self::Mailbox),
        }
    }

    /// The local-part; `postmaster` for `<postmaster>`.
    pub fn local_part(&self) -> &str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Mailbox(mailbox) => mailbox.local_part().as_str(),
        }
    }

    /// The domain, where there is one.
    pub fn domain(&self) -> Option<&Domain> {
        self.mailbox().and_then(Mailbox::domain)
    }

    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        in_brackets(cursor, |cursor| {
            let mut ahead = cursor.clone();
            if ahead.eat_word("postmaster") && ahead.peek() == Some(b'>') {
                *cursor = ahead;
                return Ok(Self::Postmaster);
            }
            routed_mailbox(cursor).map(Self::Mailbox)
        })
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<postmaster>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl fmt::Debug for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ForwardPath {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

impl From<Mailbox> for ForwardPath {
    fn from(mailbox: Mailbox) -> Self {
        Self::Mailbox(mailbox)
    }
}

fn in_brackets<T: fmt::Display>(
    cursor: &mut Cursor<'_>,
    inner: impl FnOnce(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<T, SyntaxError> {
    let before = cursor.rest().len();
    cursor.expect(b'<', "<")?;
    let value = inner(cursor)?;
    cursor.expect(b'>', ">")?;
    if is_too_long(before - cursor.rest().len(), &value, PATH_LIMIT_OCTETS) {
        return Err(cursor.error("a path of at most 1,024 octets"));
    }
    Ok(value)
}

/// `[ "@a,@b:" ] mailbox`: the route is checked and dropped (RFC 5321 §4.1.1.3).
fn routed_mailbox(cursor: &mut Cursor<'_>) -> Result<Mailbox, SyntaxError> {
    if cursor.eat(b'@') {
        loop {
            Domain::parse_at(cursor)?;
            if cursor.eat(b':') {
                break;
            }
            cursor.expect(b',', "a comma or colon of the source route")?;
            cursor.expect(b'@', "@")?;
        }
    }
    Mailbox::parse_at(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_paths() {
        for (rfc, input, expected) in [
            ("RFC 5321 §4.1.2", "<alice@example.org>", Some("<alice@example.org>")),
            ("RFC 5321 §4.1.2", "<>", Some("<>")),
            ("RFC 5321 §4.1.2", "<alice>", None),
            ("RFC 5321 §4.1.2", "alice@example.org", None),
            ("RFC 5321 §4.1.2", "<alice@example.org", None),
            ("RFC 5321 §4.1.2", "<alice@example.org>x", None),
            ("RFC 5321 §4.1.2", "<\"a b\"@example.org>", Some("<\"a b\"@example.org>")),
            ("RFC 5321 §4.1.2", "<\"alice\"@example.org>", Some("<alice@example.org>")),
            ("RFC 5321 §4.1.2", "<\"a\\\"b\\\\\"@example.org>", Some("<\"a\\\"b\\\\\"@example.org>")),
            ("RFC 5321 §4.1.2", "<\"\"@example.org>", Some("<\"\"@example.org>")),
            ("RFC 5321 §4.1.2", "<a..b@example.org>", None),
            ("RFC 5321 §4.1.2", "<.a@example.org>", None),
            ("RFC 5321 §4.1.2", "<a.@example.org>", None),
            ("RFC 5321 §4.1.2", "<\"a..b\"@example.org>", Some("<\"a..b\"@example.org>")),
            ("RFC 5321 §4.1.2", "<a@b@example.org>", None),
            ("RFC 5321 §4.1.2", "<\"a@b\"@example.org>", Some("<\"a@b\"@example.org>")),
            ("RFC 5321 §4.1.2", "<a@example.org.>", None),
            ("RFC 5321 §4.1.2", "<a@-example.org>", None),
            ("RFC 5321 §4.1.2", "<a@exa mple.org>", None),
            ("RFC 5321 §4.1.2", "<a@>", None),
            ("RFC 5321 §4.1.2", "<@example.org>", None),
            ("RFC 5321 §4.1.2, departure: underscore", "<a@_x.example.org>", Some("<a@_x.example.org>")),
            ("RFC 5321 §4.1.3", "<a@[192.0.2.1]>", Some("<a@[192.0.2.1]>")),
            ("RFC 5321 §4.1.3", "<a@[192.0.2.256]>", None),
            ("RFC 5321 §4.1.3, octal", "<a@[0300.0.2.1]>", None),
            ("RFC 5321 §4.1.3", "<a@[3221225985]>", None),
            ("RFC 5321 §4.1.3", "<a@[IPv6:2001:db8::1]>", Some("<a@[IPv6:2001:db8::1]>")),
            ("RFC 5321 §4.1.3", "<a@[ipv6:2001:DB8::1]>", Some("<a@[IPv6:2001:db8::1]>")),
            ("RFC 5321 §4.1.3", "<a@[IPv6:fe80::1%eth0]>", None),
            ("RFC 5321 §4.1.3", "<a@[x-new:anything]>", Some("<a@[x-new:anything]>")),
            ("RFC 5321 §4.1.3", "<a@[]>", None),
            ("RFC 5321 §4.1.3", "<a@[192.0.2.1>", None),
            ("RFC 5321 Appendix C", "<@a.example,@b.example:user@c.example>", Some("<user@c.example>")),
            ("RFC 5321 Appendix C", "<@a.example user@c.example>", None),
            ("RFC 5321 Appendix C", "<@a.example:>", None),
        ] {
            let path = ReversePath::parse(input).ok().map(|path| path.to_string());
            assert_eq!(path.as_deref(), expected, "{rfc}: {input}");
        }
    }

    #[test]
    fn forward_paths() {
        for (rfc, input, expected) in [
            ("RFC 5321 §4.5.1", "<Postmaster>", Some("<postmaster>")),
            ("RFC 5321 §4.5.1", "<POSTMASTER>", Some("<postmaster>")),
            ("RFC 5321 §4.5.1", "<postmaster@example.org>", Some("<postmaster@example.org>")),
            ("RFC 5321 §4.1.2", "<postmasters>", None),
            ("RFC 5321 §4.1.2", "<>", None),
            ("RFC 5321 §2.4", "<Bob@Example.ORG>", Some("<Bob@Example.ORG>")),
        ] {
            let path = ForwardPath::parse(input).ok().map(|path| path.to_string());
            assert_eq!(path.as_deref(), expected, "{rfc}: {input}");
        }
    }

    #[test] // RFC 5321 §4.5.3.1.1 to §4.5.3.1.3: the sizes that must be accepted, and LI1.
    fn sizes() {
        let local = |n: usize| format!("<{}@example.org>", "a".repeat(n));
        assert!(ReversePath::parse(local(64)).is_ok());
        assert!(ReversePath::parse(local(1024 - 14)).is_ok());
        assert!(ReversePath::parse(local(1024 - 13)).is_err());
        let domain = |n: usize| format!("<a@{}>", vec!["abcdefg"; n].join("."));
        assert!(ReversePath::parse(domain(32)).is_ok()); // 255 octets
        assert!(ReversePath::parse(domain(33)).is_err());
        assert!(Domain::parse("a".repeat(63)).is_ok());
        assert!(Domain::parse("a".repeat(64)).is_err());
    }

    #[test] // SECURITY.md D-9: no constructor lets a line break, NUL or other control through.
    fn d9_controls_are_refused() {
        for hostile in ["\r", "\n", "\0", "\r\n", "\u{2028}", "\u{85}", "\t", "\u{7f}", "\u{202e}"] {
            for text in [
                format!("<a{hostile}b@example.org>"),
                format!("<\"a{hostile}b\"@example.org>"),
                format!("<\"a\\{hostile}b\"@example.org>"),
                format!("<a@exa{hostile}mple.org>"),
                format!("<a@[192.0.2.1{hostile}]>"),
                format!("<a@[x:1{hostile}]>"),
                format!("<@a{hostile}:a@example.org>"),
            ] {
                assert!(ReversePath::parse(&text).is_err(), "{text:?}");
                assert!(ForwardPath::parse(&text).is_err(), "{text:?}");
            }
        }
    }

    #[test] // SECURITY.md D-9: letters whose code ends like a line feed are written as UTF-8, which has none in it.
    fn d9_letters_of_other_alphabets_stay_letters() {
        for letter in ["\u{10a}", "\u{560a}"] {
            let text = format!("<a{letter}b@example.org>");
            let path = ReversePath::parse(&text).expect("RFC 6531 §3.3");
            assert!(!path.is_ascii() && path.to_string() == text && !text.contains('\n'));
            assert!(ReversePath::parse(format!("<a@[x:1{letter}]>")).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = ReversePath::parse(&octets);
            let _ = ForwardPath::parse(&octets);
        }
    }
}
