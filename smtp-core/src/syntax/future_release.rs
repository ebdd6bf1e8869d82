//! How long a submission server is to hold a message: `HOLDFOR=3600` and `HOLDUNTIL=2026-12-24T18:00:00Z` (RFC 4865 §4), and
//! moments as RFC 3339 writes them, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cursor::{Cursor, SyntaxError};

/// When a message that was submitted is to be released for delivery (RFC 4865 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FutureRelease {
    /// `HOLDFOR=`: so long after it was submitted.
    For(Duration),
    /// `HOLDUNTIL=`: at that moment; at once where it has passed.
    Until(SystemTime),
}

impl FutureRelease {
    /// The longest that a message is held: 28 days, the first number behind `FUTURERELEASE` in the answer to `EHLO`.
    pub const LIMIT: Duration = Duration::from_secs(28 * 24 * 3600);

    /// `1*9DIGIT`, seconds.
    pub(crate) fn parse_for(value: &[u8]) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(value);
        let digits = cursor.take_while(|octet| octet.is_ascii_digit());
        if digits.is_empty() || digits.len() > 9 || !cursor.is_at_end() {
            return Err(cursor.error("HOLDFOR= and up to 9 digits"));
        }
        Ok(Self::For(Duration::from_secs(number(digits))))
    }

    /// A moment in UTC (RFC 3339 §5.6).
    pub(crate) fn parse_until(value: &[u8]) -> Result<Self, SyntaxError> {
        let error = Cursor::new(value).error("HOLDUNTIL= and a moment like 2026-12-24T18:00:00Z");
        parse_utc(value).map(Self::Until).ok_or(error)
    }

    /// When a message that arrived then is released: never before it arrived.
    pub fn release(self, arrival: SystemTime) -> SystemTime {
        match self {
            Self::For(wait) => arrival.checked_add(wait).unwrap_or(arrival),
            Self::Until(moment) => moment.max(arrival),
        }
    }
}

/// A moment as RFC 3339 §5.6 writes it, to whole seconds. Before 1970 shows as 1970, behind 9999 as 9999.
pub(crate) struct Utc(pub(crate) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: u64 = 253_402_300_799;
        let seconds = self.0.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST);
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1)
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, from 1970 on, with or without a fraction, which is left out. A leap second is the second behind it.
pub(super) fn parse_utc(text: &[u8]) -> Option<SystemTime> {
    let (whole, end) = text.split_at_checked(19)?;
    let end = end.strip_suffix(b"Z").or_else(|| end.strip_suffix(b"z"))?;
    let is_fraction = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !(end.is_empty() || end.strip_prefix(b".").is_some_and(is_fraction)) {
        return None;
    }
    for (place, octet) in whole.iter().enumerate() {
        let fits = match place {
            4 | 7 => *octet == b'-',
            10 => matches!(octet, b'T' | b't'),
            13 | 16 => *octet == b':',
            _ => octet.is_ascii_digit(),
        };
        if !fits {
            return None;
        }
    }
    let part = |from: usize, to: usize| number(&whole[from..to]);
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let (hour, minute, second) = (part(11, 13), part(14, 16), part(17, 19));
    let place = usize::try_from(month.checked_sub(1)?).ok()?;
    let length = *months_of(year).get(place)?;
    if year < 1970 || day == 0 || day > length || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let years: u64 = (1970..year).map(days_of).sum();
    let months: u64 = months_of(year)[..place].iter().sum();
    let seconds = (((years + months + day - 1) * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// Year, month from 0 and day from 1 of a day counted from 1 January 1970.
pub(crate) fn civil_from_days(mut days: u64) -> (u64, usize, u64) {
    let mut year = 1970 + days / 146_097 * 400; // 400 years always have 146,097 days.
    days %= 146_097;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let mut month = 0;
    for length in months_of(year) {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn months_of(year: u64) -> [u64; 12] {
    [31, days_of(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 3339 §5.6, as far as RFC 4865 §4 has it
    fn r4865_moments_are_read_in_utc_only() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-22T01:44:23Z", Some(1_795_311_863)),
            ("2026-11-22t01:44:23.25z", Some(1_795_311_863)),
            ("2000-02-29T12:34:56Z", Some(951_827_696)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("2100-02-29T00:00:00Z", None),
            ("2026-11-31T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:60:00Z", None),
            ("2026-01-01T00:00:61Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-01-01T00:00:00+00:00", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01 00:00:00Z", None),
            ("20260101T000000Z", None),
            ("Z", None),
            ("", None),
        ] {
            let found = parse_utc(text.as_bytes());
            let expected = expected.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test] // Parsing undoes formatting, and no octets make it panic.
        fn parsing_undoes_formatting(seconds in 0..253_402_300_800_u64, octets: Vec<u8>) {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            proptest::prop_assert_eq!(parse_utc(Utc(moment).to_string().as_bytes()), Some(moment));
            let _ = (parse_utc(&octets), FutureRelease::parse_for(&octets));
        }
    }

    #[test]
    fn nothing_is_released_before_it_arrived() {
        let arrival = UNIX_EPOCH + Duration::from_secs(1000);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (hold, expected) in [
            (FutureRelease::For(Duration::ZERO), at(1000)),
            (FutureRelease::For(Duration::from_secs(60)), at(1060)),
            (FutureRelease::Until(at(10)), at(1000)),
            (FutureRelease::Until(at(2000)), at(2000)),
        ] {
            assert_eq!(hold.release(arrival), expected, "{hold:?}");
        }
    }
}
