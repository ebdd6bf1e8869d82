//! Attributes of `XCLIENT` and `XFORWARD`: whose connection a proxy passes on, and where a filter had a message from. Both are
//! extensions of Postfix that others speak too.
//!
//! A value is xtext, or a word in brackets that says that there is none. Everything is checked here, so that what a
//! listed peer says becomes an address, a name or clean text (SECURITY.md D-22).

use std::net::{IpAddr, Ipv6Addr};

use super::cursor::{Cursor, SyntaxError};
use super::domain::Domain;
use super::text::SafeText;
use super::xtext;

/// What `XCLIENT` says of the client in whose place the peer speaks. What it does not say stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Xclient {
    /// `NAME=`: the name of the client's address in DNS; nobody here has looked it up.
    pub name: Option<Said<Domain>>,
    /// `ADDR=`.
    pub address: Option<Said<IpAddr>>,
    /// `PORT=`.
    pub port: Option<Said<u16>>,
    /// `LOGIN=`: who the client has proved to be.
    pub login: Option<Said<String>>,
    /// `DESTADDR=`: the address that it connected to.
    pub local_address: Option<Said<IpAddr>>,
    /// `DESTPORT=`.
    pub local_port: Option<Said<u16>>,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<T> {
    /// A value.
    Value(T),
    /// `[UNAVAILABLE]` or `[TEMPUNAVAIL]`: there is none, for good or for now.
    Unavailable,
}

impl<T> Said<T> {
    /// The value, where there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unavailable => None,
        }
    }
}

/// What `XFORWARD` says of where a message came from, for the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// `NAME=`.
    pub name: Option<SafeText>,
    /// `ADDR=`.
    pub address: Option<IpAddr>,
    /// `PORT=`.
    pub port: Option<u16>,
    /// `PROTO=`: `SMTP` or `ESMTP`.
    pub protocol: Option<SafeText>,
    /// `HELO=`.
    pub helo: Option<SafeText>,
    /// `IDENT=`: what the message is called in the log of the peer.
    pub identifier: Option<SafeText>,
    /// `SOURCE=`: `LOCAL` or `REMOTE`.
    pub source: Option<SafeText>,
}

impl Xclient {
    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut said = Self::default();
        attributes(cursor, |cursor, name, value| {
            let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
            if is("NAME") {
                once(cursor, &mut said.name, of_text(cursor, value, |text| Domain::parse(text).ok())?)
            } else if is("ADDR") {
                once(cursor, &mut said.address, of_text(cursor, value, address)?)
            } else if is("PORT") {
                once(cursor, &mut said.port, of_text(cursor, value, |text| text.parse().ok())?)
            } else if is("LOGIN") {
                once(cursor, &mut said.login, of_text(cursor, value, |text| Some(text.to_owned()))?)
            } else if is("DESTADDR") {
                once(cursor, &mut said.local_address, of_text(cursor, value, address)?)
            } else if is("DESTPORT") {
                once(cursor, &mut said.local_port, of_text(cursor, value, |text| text.parse().ok())?)
            } else {
                Err(cursor.error("NAME=, ADDR=, PORT=, LOGIN=, DESTADDR= or DESTPORT="))
            }
        })?;
        Ok(said)
    }
}

impl Forwarded {
    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut said = Self::default();
        attributes(cursor, |cursor, name, value| {
            let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
            let text = |place: &mut Option<SafeText>| {
                *place = of_text(cursor, value, |text| Some(SafeText::new(text.to_owned())))?.value();
                Ok(())
            };
            if is("NAME") {
                text(&mut said.name)
            } else if is("ADDR") {
                said.address = of_text(cursor, value, address)?.value();
                Ok(())
            } else if is("PORT") {
                said.port = of_text(cursor, value, |text| text.parse().ok())?.value();
                Ok(())
            } else if is("PROTO") {
                text(&mut said.protocol)
            } else if is("HELO") {
                text(&mut said.helo)
            } else if is("IDENT") {
                text(&mut said.identifier)
            } else if is("SOURCE") {
                text(&mut said.source)
            } else {
                Err(cursor.error("NAME=, ADDR=, PORT=, PROTO=, HELO=, IDENT= or SOURCE="))
            }
        })?;
        Ok(said)
    }

    /// What is said now replaces what was said before, attribute by attribute.
    pub(crate) fn and_then(self, later: Self) -> Self {
        Self {
            name: later.name.or(self.name),
            address: later.address.or(self.address),
            port: later.port.or(self.port),
            protocol: later.protocol.or(self.protocol),
            helo: later.helo.or(self.helo),
            identifier: later.identifier.or(self.identifier),
            source: later.source.or(self.source),
        }
    }
}

/// Calls `take` with the name and the value of each attribute up to the end of the line; there is at least one.
fn attributes(
    cursor: &mut Cursor<'_>,
    mut take: impl FnMut(&Cursor<'_>, &[u8], &[u8]) -> Result<(), SyntaxError>,
) -> Result<(), SyntaxError> {
    loop {
        cursor.skip_spaces();
        let name = cursor.take_while(|octet| octet.is_ascii_alphanumeric());
        cursor.expect(b'=', "an attribute, = and its value")?;
        let value = cursor.take_while(|octet| octet.is_ascii_graphic());
        take(cursor, name, value)?;
        cursor.skip_spaces();
        if cursor.is_at_end() {
            return Ok(());
        }
    }
}

fn of_text<T>(
    cursor: &Cursor<'_>,
    value: &[u8],
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Said<T>, SyntaxError> {
    if [&b"[UNAVAILABLE]"[..], b"[TEMPUNAVAIL]"].iter().any(|word| value.eq_ignore_ascii_case(word)) {
        return Ok(Said::Unavailable);
    }
    let text = xtext::decode(value).map_err(|error| cursor.error(error.expected()))?;
    parse(&text).map(Said::Value).ok_or_else(|| cursor.error("a value that fits the attribute"))
}

/// `192.0.2.1`, or `IPV6:2001:db8::1`.
fn address(text: &str) -> Option<IpAddr> {
    match text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPV6:")) {
        Some(_) => text[5..].parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical()),
        None => text.parse().ok(),
    }
}

fn once<T>(cursor: &Cursor<'_>, place: &mut Option<T>, value: T) -> Result<(), SyntaxError> {
    if place.replace(value).is_some() { Err(cursor.error("each attribute only once")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xclient(text: &str) -> Option<Xclient> {
        Xclient::parse_at(&mut Cursor::new(text.as_bytes())).ok()
    }

    #[test] // SECURITY.md D-22
    fn d22_each_attribute_is_a_value_of_its_kind_or_an_error() {
        let none = Xclient::default;
        let at = |text: &str| Some(Xclient { address: Some(Said::Value(text.parse().expect("valid"))), ..none() });
        for (text, expected) in [
            (" ADDR=192.0.2.1", at("192.0.2.1")),
            ("addr=IPv6:2001:db8::1 ", at("2001:db8::1")),
            (" ADDR=IPV6:::ffff:192.0.2.1", at("192.0.2.1")),
            (" ADDR=[UNAVAILABLE]", Some(Xclient { address: Some(Said::Unavailable), ..none() })),
            (" PORT=[tempunavail]", Some(Xclient { port: Some(Said::Unavailable), ..none() })),
            (" PORT=65535", Some(Xclient { port: Some(Said::Value(65535)), ..none() })),
            (" LOGIN=al+20ice", Some(Xclient { login: Some(Said::Value("al ice".to_owned())), ..none() })),
            (
                " NAME=c.example  PORT=1",
                Some(Xclient {
                    name: Some(Said::Value(Domain::parse("c.example").expect("valid"))),
                    port: Some(Said::Value(1)),
                    ..none()
                }),
            ),
            ("", None),
            (" ", None),
            (" ADDR", None),
            (" ADDR=", None),
            (" ADDR=2001:db8::1x", None),
            (" ADDR=127.1", None),
            (" ADDR=1.2.3.4 ADDR=1.2.3.4", None),
            (" ADDR=1.2.3.4+0D+0A", None),
            (" PORT=65536", None),
            (" PORT=-1", None),
            (" NAME=a..b", None),
            (" NAME=a+", None),
            (" NAME=a+0", None),
            (" NAME=a+00b", None),
            (" LOGIN=+0A", None),
            (" HELO=c.example", None),
            (" X=y", None),
            (" =y", None),
            (" ADDR=1.2.3.4, PORT=1", None),
        ] {
            assert_eq!(xclient(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = Xclient::parse_at(&mut Cursor::new(&octets));
            let _ = Forwarded::parse_at(&mut Cursor::new(&octets));
        }
    }
}
