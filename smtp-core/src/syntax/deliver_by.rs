//! Until when a message is to be delivered, and what happens otherwise: `BY=120;R` (RFC 2852 §4).

use std::fmt;
use std::time::{Duration, SystemTime};

use super::cursor::{Cursor, SyntaxError};

/// What happens to a message that was not delivered in time (RFC 2852 §4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByMode {
    /// `N`: the sender is told, and it is tried on.
    Notify,
    /// `R`: it is not tried any more, and the sender is told that it failed.
    Return,
}

/// The value of `BY=` (RFC 2852 §4): how long a message may take from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliverBy {
    seconds: i32,
    mode: ByMode,
    trace: bool,
}

impl DeliverBy {
    /// The most seconds that can be said, ahead or ago.
    const LIMIT_SECONDS: i32 = 999_999_999;

    /// So many seconds from now; less than 0 where the time has passed. More than 999,999,999 either way counts as that many.
    ///
    /// # Panics
    /// Never: what is within the limit is a number of 32 bits.
    pub fn new(seconds: i64, mode: ByMode) -> Self {
        let limit = i64::from(Self::LIMIT_SECONDS);
        let seconds = i32::try_from(seconds.clamp(-limit, limit)).expect("it is within 999,999,999 either way");
        Self { seconds, mode, trace: false }
    }

    /// The same, where the sender wants to be told of each relay on the way: `T`.
    #[must_use]
    pub fn with_trace(self) -> Self {
        Self { trace: true, ..self }
    }

    /// Seconds from now; less than 0 where the time has passed.
    pub fn seconds(self) -> i32 {
        self.seconds
    }

    /// What happens to a message that is late.
    pub fn mode(self) -> ByMode {
        self.mode
    }

    /// Whether the sender wants to be told of each relay on the way.
    pub fn has_trace(self) -> bool {
        self.trace
    }

    /// The deliver-by-time of a message of which that was said then.
    pub fn time(self, said: SystemTime) -> SystemTime {
        let distance = Duration::from_secs(self.seconds.unsigned_abs().into());
        let time = if self.seconds < 0 { said.checked_sub(distance) } else { said.checked_add(distance) };
        time.unwrap_or(said)
    }

    /// `by-time ";" by-mode [by-trace]`; with `R` only what is still to come.
    pub(crate) fn parse(value: &[u8]) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(value);
        let is_ago = cursor.eat(b'-');
        if !is_ago {
            cursor.eat(b'+');
        }
        let digits = cursor.take_while(|octet| octet.is_ascii_digit());
        let is_number = (1..=9).contains(&digits.len());
        let number = digits.iter().take(9).fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        let error = || Cursor::new(value).error("BY= and seconds, a semicolon, N or R, and T or nothing");
        if !is_number || !cursor.eat(b';') {
            return Err(error());
        }
        let (mode, trace) = match cursor.take_while(|_| true) {
            b"N" | b"n" => (ByMode::Notify, false),
            b"R" | b"r" => (ByMode::Return, false),
            [b'N' | b'n', b'T' | b't'] => (ByMode::Notify, true),
            [b'R' | b'r', b'T' | b't'] => (ByMode::Return, true),
            _ => return Err(error()),
        };
        let seconds = if is_ago { -number } else { number };
        if mode == ByMode::Return && seconds <= 0 {
            return Err(error());
        }
        Ok(Self { trace, ..Self::new(seconds, mode) })
    }
}

impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode == ByMode::Notify { 'N' } else { 'R' };
        write!(f, "{};{mode}{}", self.seconds, if self.trace { "T" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 2852 §4
    fn r2852_a_deliver_by_is_read_or_refused() {
        use ByMode::{Notify, Return};
        for (value, expected) in [
            ("120;R", Some(DeliverBy::new(120, Return))),
            ("+120;r", Some(DeliverBy::new(120, Return))),
            ("1;RT", Some(DeliverBy::new(1, Return).with_trace())),
            ("0;N", Some(DeliverBy::new(0, Notify))),
            ("-5;nt", Some(DeliverBy::new(-5, Notify).with_trace())),
            ("999999999;N", Some(DeliverBy::new(999_999_999, Notify))),
            ("-999999999;N", Some(DeliverBy::new(-999_999_999, Notify))),
            ("0;R", None),
            ("-1;R", None),
            ("1000000000;N", None),
            ("120", None),
            ("120;", None),
            ("120;X", None),
            ("120;T", None),
            ("120;NR", None),
            ("120;RTT", None),
            (";R", None),
            ("-;N", None),
            ("+-1;N", None),
            ("1.5;N", None),
            ("", None),
        ] {
            assert_eq!(DeliverBy::parse(value.as_bytes()).ok(), expected, "{value:?}");
        }
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(DeliverBy::new(5, Return).time(epoch), epoch + Duration::from_secs(5));
        assert_eq!(DeliverBy::new(-5, Notify).time(epoch + Duration::from_secs(9)), epoch + Duration::from_secs(4));
        assert_eq!(DeliverBy::new(i64::MIN, Notify).seconds(), -999_999_999);
    }

    proptest::proptest! {
        #[test] // Parsing undoes formatting, and no octets make it panic.
        fn parsing_undoes_formatting(seconds in 1..1_000_000_000_i64, trace: bool, octets: Vec<u8>) {
            for by in [DeliverBy::new(seconds, ByMode::Return), DeliverBy::new(-seconds, ByMode::Notify)] {
                let by = DeliverBy { trace, ..by };
                proptest::prop_assert_eq!(DeliverBy::parse(by.to_string().as_bytes()).ok(), Some(by));
            }
            let _ = DeliverBy::parse(&octets);
        }
    }
}
