//! Since when a mailbox must have had its owner: `RRVS=2014-04-03T23:01:00Z;C` (RFC 7293 §3.1).

use std::fmt;
use std::time::{Duration, SystemTime};

use super::cursor::{Cursor, SyntaxError};
use super::future_release::{Utc, parse_utc};

/// What becomes of a recipient with `RRVS=` at a next hop that does not offer `RRVS` (RFC 7293 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NoSupport {
    /// `R`, and what is meant when nothing is said: it fails (RFC 7293 §5.1.1).
    #[default]
    Reject,
    /// `C`: it goes on without the protection.
    Continue,
}

/// The value of `RRVS=` of `RCPT` (RFC 7293 §3.1): the mailbox is to get the message only if it has had one owner since then.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use smtp_core::ValidSince;
///
/// let known_since = UNIX_EPOCH + Duration::from_secs(1_396_566_060);
/// assert_eq!(ValidSince::new(known_since).to_string(), "2014-04-03T23:01:00Z");
/// assert_eq!(ValidSince::new(known_since).or_continue().to_string(), "2014-04-03T23:01:00Z;C");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ValidSince {
    time: SystemTime,
    no_support: NoSupport,
}

impl ValidSince {
    /// Since that moment, to whole seconds from 1970 to 9999; where a next hop does not know `RRVS` the recipient fails.
    pub fn new(time: SystemTime) -> Self {
        // What is said of it must be what is meant.
        let text = Utc(time).to_string();
        Self { time: parse_utc(text.as_bytes()).unwrap_or(SystemTime::UNIX_EPOCH), no_support: NoSupport::Reject }
    }

    /// The same, but where a next hop does not know `RRVS` the message goes there without it.
    #[must_use]
    pub fn or_continue(self) -> Self {
        Self { no_support: NoSupport::Continue, ..self }
    }

    /// Reads `date-time [";" ("C" / "R")]`, where a date-time is that of RFC 3339 §5.6. A fraction of a second is left out, and
    /// a moment before 1970 is an error.
    ///
    /// # Errors
    /// [`SyntaxError`].
    pub fn parse(value: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let value = value.as_ref();
        let expected = "RRVS= and a moment like 2014-04-03T23:01:00Z, with ;C or ;R behind it or without";
        let error = || Cursor::new(value).error(expected);
        let (moment, no_support) = match value.iter().position(|&octet| octet == b';') {
            None => (value, NoSupport::Reject),
            Some(at) => match &value[at + 1..] {
                b"C" | b"c" => (&value[..at], NoSupport::Continue),
                b"R" | b"r" => (&value[..at], NoSupport::Reject),
                _ => return Err(error()),
            },
        };
        let time = parse_utc(moment).or_else(|| parse_with_offset(moment)).ok_or_else(error)?;
        Ok(Self { time, no_support })
    }

    /// Since when.
    pub fn time(self) -> SystemTime {
        self.time
    }

    /// What becomes of it where nobody can be asked.
    pub fn no_support(self) -> NoSupport {
        self.no_support
    }

    /// What keeps both promises: the earlier moment, and no going on without `RRVS` unless both allow it.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let both_continue = [self, other].iter().all(|wish| wish.no_support == NoSupport::Continue);
        let no_support = if both_continue { NoSupport::Continue } else { NoSupport::Reject };
        Self { time: self.time.min(other.time), no_support }
    }
}

impl fmt::Display for ValidSince {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Utc(self.time).fmt(f)?;
        match self.no_support {
            NoSupport::Reject => Ok(()),
            NoSupport::Continue => f.write_str(";C"),
        }
    }
}

/// `…+01:00`: the moment was written by a clock that is ahead of UTC by so much.
fn parse_with_offset(text: &[u8]) -> Option<SystemTime> {
    let (clock, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let &[sign, h1, h2, b':', m1, m2] = offset else { return None };
    let digits = [h1, h2, m1, m2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let [h1, h2, m1, m2] = digits.map(|digit| u64::from(digit - b'0'));
    let (hours, minutes) = (h1 * 10 + h2, m1 * 10 + m2);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let shift = Duration::from_secs((hours * 60 + minutes) * 60);
    let local = parse_utc(&[clock, b"Z"].concat())?;
    let utc = match sign {
        b'+' => local.checked_sub(shift),
        b'-' => local.checked_add(shift),
        _ => None,
    };
    utc.filter(|utc| *utc >= SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 7293 §3.1, RFC 3339 §5.6
    fn r7293_moments_and_what_is_done_without_support() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let reject = |seconds| Some(ValidSince { time: at(seconds), no_support: NoSupport::Reject });
        let go_on = |seconds| Some(ValidSince { time: at(seconds), no_support: NoSupport::Continue });
        for (text, expected) in [
            ("2014-04-03T23:01:00Z", reject(1_396_566_060)),
            ("2014-04-03t23:01:00.75z", reject(1_396_566_060)),
            ("2014-04-03T23:01:00Z;R", reject(1_396_566_060)),
            ("2014-04-03T23:01:00Z;C", go_on(1_396_566_060)),
            ("2014-04-03T23:01:00Z;c", go_on(1_396_566_060)),
            ("2014-04-04T00:01:00+01:00", reject(1_396_566_060)),
            ("2014-04-03T16:01:00-07:00;C", go_on(1_396_566_060)),
            ("1970-01-01T00:00:00Z", reject(0)),
            ("1970-01-01T00:30:00+00:30", reject(0)),
            ("1970-01-01T00:00:00+00:01", None),
            ("2014-04-03T23:01:00", None),
            ("2014-04-03T23:01:00Z;", None),
            ("2014-04-03T23:01:00Z;X", None),
            ("2014-04-03T23:01:00Z;C;R", None),
            ("2014-04-03T23:01:00Z;CC", None),
            ("2014-04-03T23:01:00+0100", None),
            ("2014-04-03T23:01:00+24:00", None),
            ("2014-04-03T23:01:00+00:60", None),
            ("2014-04-03T23:01:00*00:00", None),
            ("2014-04-03T23:01:00Z+00:00", None),
            ("2014-02-30T23:01:00Z", None),
            (";C", None),
            ("+00:00", None),
            ("", None),
        ] {
            assert_eq!(ValidSince::parse(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_stricter_of_two_keeps_both() {
        let wish = |text: &str| ValidSince::parse(text).expect("in the grammar");
        for (one, other, expected) in [
            ("2014-04-03T23:01:00Z;C", "2013-04-03T23:01:00Z;C", "2013-04-03T23:01:00Z;C"),
            ("2014-04-03T23:01:00Z", "2015-04-03T23:01:00Z;C", "2014-04-03T23:01:00Z"),
            ("2014-04-03T23:01:00Z;C", "2015-04-03T23:01:00Z", "2014-04-03T23:01:00Z"),
        ] {
            assert_eq!(wish(one).stricter(wish(other)).to_string(), expected);
        }
    }

    proptest::proptest! {
        #[test] // Parsing undoes formatting, and no octets make it panic.
        fn parsing_undoes_formatting(seconds in 0..253_402_300_800_u64, nanos in 0..1_000_000_000_u32, octets: Vec<u8>) {
            let wish = ValidSince::new(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
            for wish in [wish, wish.or_continue()] {
                proptest::prop_assert_eq!(ValidSince::parse(wish.to_string()), Ok(wish));
            }
            let _ = (ValidSince::parse(&octets), ValidSince::parse([&b"2014-04-03T23:01:00"[..], &octets].concat()));
        }
    }
}
