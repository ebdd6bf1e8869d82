//! What stands in a certificate of our own: names, dates and the public key (RFC 5280 §4.1).
//!
//! Nothing is verified here: whether others trust it is for them to say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
/// `id-ce-subjectAltName` (RFC 5280 §4.2.1.6), with its tag and length.
const SUBJECT_ALT_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];

/// A certificate, as far as it is of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// The `SubjectPublicKeyInfo`, whole.
    pub(super) public_key: &'a [u8],
    /// The names of hosts that it is for.
    pub(super) names: Vec<String>,
}

impl<'a> Certificate<'a> {
    /// Reads one; `None` where it is not in the grammar.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Elements(Elements(der).expect_tag(SEQUENCE)?);
        let mut fields = Elements(outer.expect_tag(SEQUENCE)?);
        if fields.0.first() == Some(&VERSION) {
            fields.next()?;
        }
        fields.expect_tag(INTEGER)?;
        // The algorithm and the issuer.
        fields.expect_tag(SEQUENCE)?;
        fields.expect_tag(SEQUENCE)?;
        let mut validity = Elements(fields.expect_tag(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        fields.expect_tag(SEQUENCE)?;
        let public_key = fields.next().filter(|(kind, ..)| *kind == SEQUENCE)?.2;
        let mut names = Vec::new();
        while let Some((kind, content, _)) = fields.next() {
            if kind == EXTENSIONS {
                names = names_in(Elements(content).expect_tag(SEQUENCE)?);
            }
        }
        Some(Self { not_before, not_after, public_key, names })
    }

    /// Whether it is for this host (RFC 9525 §6.3): a `*` stands for one label, the first.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let above = host.split_once('.').map(|(_, above)| above);
        self.names.iter().any(|name| {
            name.eq_ignore_ascii_case(host)
                || name
                    .strip_prefix("*.")
                    .is_some_and(|base| above.is_some_and(|above| base.eq_ignore_ascii_case(above)))
        })
    }
}

fn names_in(extensions: &[u8]) -> Vec<String> {
    let mut extensions = Elements(extensions);
    while let Some((_, extension, _)) = extensions.next() {
        let Some(value) = extension.strip_prefix(&SUBJECT_ALT_NAME) else { continue };
        let mut value = Elements(value);
        while let Some((kind, content, _)) = value.next() {
            if kind == OCTET_STRING {
                let mut names = Elements(Elements(content).expect_tag(SEQUENCE).unwrap_or_default());
                let mut found = Vec::new();
                while let Some((kind, name, _)) = names.next() {
                    if kind == DNS_NAME {
                        found.push(String::from_utf8_lossy(name).into_owned());
                    }
                }
                return found;
            }
        }
    }
    Vec::new()
}

/// One element of DER behind the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The next one: its tag, its content, and the whole of it.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let input = self.0;
        let (&kind, &first) = (input.first()?, input.get(1)?);
        let (header, length) = match first {
            short @ 0..=0x7f => (2, usize::from(short)),
            long @ 0x81..=0x84 => {
                let octets = input.get(2..2 + usize::from(long & 0x7f))?;
                (2 + octets.len(), octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
            }
            _ => return None,
        };
        let end = header.checked_add(length)?;
        let content = input.get(header..end)?;
        self.0 = &input[end..];
        Some((kind, content, &input[..end]))
    }

    fn expect_tag(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(kind, ..)| *kind == wanted).map(|(_, content, _)| content)
    }

    /// A time in one of the two forms that certificates have (RFC 5280 §4.1.2.5).
    fn time(&mut self) -> Option<SystemTime> {
        let (kind, text, _) = self.next()?;
        let digits = text.strip_suffix(b"Z")?;
        let number = |text: &[u8]| -> Option<i64> { std::str::from_utf8(text).ok()?.parse().ok() };
        let (year, rest) = match kind {
            UTC_TIME if digits.len() == 12 => {
                let year = number(&digits[..2])?;
                (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
            }
            GENERALIZED_TIME if digits.len() == 14 => (number(&digits[..4])?, &digits[4..]),
            _ => return None,
        };
        let mut parts = rest.chunks(2).map(number);
        let mut part = |range: std::ops::RangeInclusive<i64>| parts.next()?.filter(|part| range.contains(part));
        let (month, day) = (part(1..=12)?, part(1..=31)?);
        let (hour, minute, second) = (part(0..=23)?, part(0..=59)?, part(0..=60)?);
        let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        // What is older than the clock is as old as the clock.
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, in years that begin with March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_leap_years() {
        for (year, month, day, expected) in
            [(1970, 1, 1, 0), (1970, 3, 1, 59), (2000, 2, 29, 11_016), (2024, 12, 31, 20_088), (2100, 3, 1, 47_541)]
        {
            assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    #[test] // RFC 9525 §6.3
    fn a_star_is_one_label() {
        let names = vec!["mx.example.org".to_owned(), "*.example.net".to_owned()];
        let certificate = Certificate { not_before: UNIX_EPOCH, not_after: UNIX_EPOCH, public_key: &[], names };
        for (host, expected) in [
            ("mx.example.org", true),
            ("MX.example.org", true),
            ("example.org", false),
            ("mx.example.net", true),
            ("a.mx.example.net", false),
            ("example.net", false),
        ] {
            assert_eq!(certificate.is_for(host), expected, "{host}");
        }
    }

    #[test]
    fn no_octets_panic() {
        for octets in
            [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x80], &[0x30, 0x02, 0x30, 0x05]]
        {
            assert_eq!(Certificate::parse(octets), None, "{octets:?}");
        }
    }
}
