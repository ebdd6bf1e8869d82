//! From when on a trace is read: `--since 24h`.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ago(Duration);

impl Ago {
    /// That moment; 1970 of what is longer ago.
    pub(super) fn before(self, now: SystemTime) -> SystemTime {
        now.checked_sub(self.0).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)
    }
}

impl FromStr for Ago {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is not a time like `30m`, `24h` or `7d`", text.escape_debug());
        let unit = match text.chars().last() {
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_hours_and_days_are_read_and_nothing_else() {
        let now = UNIX_EPOCH + Duration::from_secs(10 * 86_400);
        for (text, days) in [("1440m", 9), ("24h", 9), ("7d", 3), ("0d", 10), ("11d", 0), ("213503982334601d", 0)] {
            let at = text.parse::<Ago>().expect("a time").before(now);
            assert_eq!(at, UNIX_EPOCH + Duration::from_secs(days * 86_400), "{text}");
        }
        for text in ["", "d", "7", "7w", "-1d", "1.5h", "7\u{fc}", "18446744073709551615d"] {
            assert!(text.parse::<Ago>().is_err(), "{text}");
        }
    }
}
