//! How urgent a message is on its way: `MT-PRIORITY=3` (RFC 6710 §7).

use std::fmt;

use super::cursor::{Cursor, SyntaxError};

/// The message transfer priority of a message (RFC 6710 §5): from -9 to 9, where more is more urgent. Default: 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Priority(i8);

impl Priority {
    /// Of all mail of which nothing else is said: 0.
    pub const NORMAL: Self = Self(0);
    /// The least urgent: -9.
    pub const LOWEST: Self = Self(-9);
    /// The most urgent: 9.
    pub const HIGHEST: Self = Self(9);

    /// The priority of that number; `None` outside -9 to 9.
    pub const fn new(number: i8) -> Option<Self> {
        if number >= Self::LOWEST.0 && number <= Self::HIGHEST.0 { Some(Self(number)) } else { None }
    }

    /// From -9 to 9.
    pub const fn get(self) -> i8 {
        self.0
    }

    /// `priority-value = (["-"] NZDIGIT) / "0"`.
    pub(crate) fn parse(value: &[u8]) -> Result<Self, SyntaxError> {
        let digit = |digit: u8| i8::try_from(digit - b'0').expect("it is below 10");
        match value {
            b"0" => Ok(Self::NORMAL),
            [number @ b'1'..=b'9'] => Ok(Self(digit(*number))),
            [b'-', number @ b'1'..=b'9'] => Ok(Self(-digit(*number))),
            _ => Err(Cursor::new(value).error("MT-PRIORITY= and a number from -9 to 9")),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 6710 §7: one way to write each of the 19, and nothing else.
    fn r6710_a_priority_is_written_in_one_way() {
        let all: Vec<i8> = (i8::MIN..=i8::MAX).filter(|number| Priority::new(*number).is_some()).collect();
        assert_eq!(all, (-9..=9).collect::<Vec<_>>());
        for number in all {
            let priority = Priority::new(number).expect("one of them");
            assert_eq!(Priority::parse(priority.to_string().as_bytes()).ok(), Some(priority), "{number}");
        }
        for wrong in ["", "-", "+1", "-0", "00", "01", "10", "-10", "1 ", "1.0", "x", "--1", "\u{b2}"] {
            assert!(Priority::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(Priority::LOWEST < Priority::NORMAL && Priority::NORMAL < Priority::HIGHEST);
    }
}
