//! Dates of header fields: `Sun, 22 Nov 2026 01:44:23 +0000` (RFC 5322 §3.3), always in UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::syntax::future_release::civil_from_days;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1 January 1970 was a Thursday.
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment, shown as RFC 5322 §3.3 writes it. A clock before 1970 shows as 1970, one after 9999 as 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    seconds: u64,
}

impl DateTime {
    /// The moment to whole seconds.
    pub fn new(time: SystemTime) -> Self {
        const LAST: u64 = 253_402_300_799; // 31 Dec 9999 23:59:59
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { seconds: seconds.min(LAST) }
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds / 86_400;
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (self.seconds / 3600 % 24, self.seconds / 60 % 60, self.seconds % 60);
        let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
        write!(f, "{weekday}, {day} {} {year} {hour:02}:{minute:02}:{second:02} +0000", MONTHS[month])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test] // RFC 5322 §3.3
    fn known_moments() {
        for (seconds, expected) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 +0000"),
            (1_795_311_863, "Sun, 22 Nov 2026 01:44:23 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (16_725_225_599, "Thu, 31 Dec 2499 23:59:59 +0000"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (4_611_686_018, "Thu, 20 Feb 2116 23:53:38 +0000"),
        ] {
            let shown = DateTime::new(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
            assert_eq!(shown, expected, "{seconds}");
        }
        assert_eq!(DateTime::new(UNIX_EPOCH - Duration::from_secs(1)), DateTime::new(UNIX_EPOCH));
    }
}
