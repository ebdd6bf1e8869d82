//! Names as DNS is asked for them (RFC 1035 §2.3.1), and the names of addresses in it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::cursor::{Cursor, SyntaxError};
use super::domain::Domain;

/// The most octets of a name in text, without a final dot (RFC 1035 §2.3.4).
const NAME_LIMIT_OCTETS: usize = 253;
const LABEL_LIMIT_OCTETS: usize = 63;

/// A name in DNS: labels of letters, digits, hyphens and underscores, in lower case, without a final dot.
///
/// It is wider than a host name, for `_dmarc.example.org` is one, and narrower than what DNS can carry: an answer with a name of
/// other octets is no name here, so that none of them reaches a header field or a log. A clone shares the text.
///
/// ```
/// use smtp_core::DnsName;
///
/// let name = DnsName::parse("Example.ORG.")?;
/// assert_eq!(name.as_str(), "example.org");
/// assert_eq!(name.child("_dmarc").expect("short").as_str(), "_dmarc.example.org");
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// Parses `example.org`, with or without a final dot.
    ///
    /// # Errors
    /// [`SyntaxError`] where a label is empty, has more than 63 octets or another character, and where the whole has more than
    /// 253 octets.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let text = text.as_ref();
        let text = text.strip_suffix(b".").unwrap_or(text);
        let mut cursor = Cursor::new(text);
        loop {
            let label = cursor.take_while(is_of_label);
            if label.is_empty() {
                return Err(cursor.error("a label"));
            }
            if label.len() > LABEL_LIMIT_OCTETS {
                return Err(cursor.error("a label of at most 63 octets"));
            }
            if !cursor.eat(b'.') {
                break;
            }
        }
        if !cursor.rest().is_empty() {
            return Err(cursor.error("a letter, digit, hyphen or underscore"));
        }
        if text.len() > NAME_LIMIT_OCTETS {
            return Err(cursor.error("a name of at most 253 octets"));
        }
        let text: String = text.iter().map(|octet| char::from(octet.to_ascii_lowercase())).collect();
        Ok(Self(text.into()))
    }

    /// The text, in lower case and without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name below this one; `None` where there is no room for it, or the text is no label or labels.
    ///
    /// ```
    /// use smtp_core::DnsName;
    ///
    /// let host = DnsName::parse("mx.example.org")?;
    /// assert_eq!(host.child("_25._tcp").expect("short").as_str(), "_25._tcp.mx.example.org");
    /// # Ok::<(), smtp_core::SyntaxError>(())
    /// ```
    #[must_use]
    pub fn child(&self, labels: &str) -> Option<Self> {
        Self::parse(format!("{labels}.{self}")).ok()
    }

    /// The name above this one; `None` above the last label.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_once('.')?;
        Some(Self(above.into()))
    }

    /// Whether this name is that one or below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }

    /// The name of an address below a zone, the form of DNSBLs (RFC 5782 §2.1, §2.4): octets of an IPv4 address, or nibbles of an
    /// IPv6 address, in reverse. An IPv6 address that stands for one of IPv4 (RFC 4291 §2.5.5.2) is that. `None` where the
    /// zone's name is too long.
    ///
    /// ```
    /// use smtp_core::DnsName;
    ///
    /// let zone = DnsName::parse("list.example")?;
    /// let name = DnsName::of_address("192.0.2.1".parse()?, &zone).expect("short");
    /// assert_eq!(name.as_str(), "1.2.0.192.list.example");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of_address(address: IpAddr, zone: &Self) -> Option<Self> {
        Self::parse(backwards(address, zone.as_str())).ok()
    }

    /// The name whose `PTR` record names the host of an address (RFC 1035 §3.5, RFC 3596 §2.5).
    #[must_use]
    pub fn reverse(address: IpAddr) -> Self {
        let zone = if address.to_canonical().is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
        // It is a name: labels of one to three octets, 72 at most.
        Self(backwards(address, zone).into())
    }
}

impl TryFrom<&Domain> for DnsName {
    type Error = SyntaxError;

    /// With A-labels.
    fn try_from(domain: &Domain) -> Result<Self, SyntaxError> {
        Self::parse(domain.to_ascii().as_str())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DnsName {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

/// The octets or nibbles of an address from the last to the first, and the zone.
fn backwards(address: IpAddr, zone: &str) -> String {
    let mut labels = match address.to_canonical() {
        IpAddr::V4(address) => address.octets().map(|octet| octet.to_string()).to_vec(),
        IpAddr::V6(address) => address
            .octets()
            .iter()
            .flat_map(|octet| [octet >> 4, octet & 0xf])
            .map(|nibble| format!("{nibble:x}"))
            .collect(),
    };
    labels.reverse();
    labels.push(zone.to_owned());
    labels.join(".")
}

fn is_of_label(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).expect("a name")
    }

    #[test]
    fn a_name_is_labels_and_nothing_that_a_line_could_not_hold() {
        for (text, expected) in [
            ("example.org", Some("example.org")),
            ("EXAMPLE.org.", Some("example.org")),
            ("_25._tcp.mx.example", Some("_25._tcp.mx.example")),
            ("org", Some("org")),
            ("-x-.example", Some("-x-.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            (".a", None),
            ("a.b..", None),
            ("a b", None),
            ("a\r\nX: y", None),
            ("a\0b", None),
            ("b\u{fc}cher.example", None),
            ("a/b", None),
        ] {
            assert_eq!(DnsName::parse(text).ok().as_ref().map(DnsName::as_str), expected, "{text:?}");
        }
        let label = "x".repeat(63);
        assert!(DnsName::parse(&label).is_ok() && DnsName::parse(format!("{label}x")).is_err());
        let long = format!("{label}.{label}.{label}.{}", "y".repeat(61));
        assert!(DnsName::parse(&long).is_ok() && DnsName::parse(format!("{long}.")).is_ok());
        assert!(DnsName::parse(format!("{long}y")).is_err() && name(&long).child("z").is_none());
    }

    #[test]
    fn above_and_below() {
        let host = name("mx.example.org");
        assert_eq!(host.parent(), Some(name("example.org")));
        assert_eq!(name("org").parent(), None);
        assert!(host.is_within(&host) && host.is_within(&name("example.org")) && host.is_within(&name("org")));
        assert!(!name("badexample.org").is_within(&name("example.org")) && !name("org").is_within(&host));
        assert!(host.child("a b").is_none() && host.child("").is_none());
    }

    #[test] // RFC 1035 §3.5, RFC 3596 §2.5, RFC 5782 §2.4
    fn addresses_are_read_backwards() {
        for (address, expected) in [
            ("192.0.2.200", "200.2.0.192.in-addr.arpa"),
            ("::ffff:192.0.2.200", "200.2.0.192.in-addr.arpa"),
            ("2001:db8::567:89ab", "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        ] {
            assert_eq!(DnsName::reverse(address.parse().expect("an address")).as_str(), expected);
        }
        let zone = name(&format!("{0}.{0}.{0}", "x".repeat(63)));
        assert!(DnsName::of_address("2001:db8::1".parse().expect("an address"), &zone).is_none());
    }

    #[test]
    fn a_domain_is_asked_for_by_its_a_labels() -> Result<(), SyntaxError> {
        assert_eq!(DnsName::try_from(&Domain::parse("B\u{fc}cher.Example")?)?, name("xn--bcher-kva.example"));
        Ok(())
    }
}
