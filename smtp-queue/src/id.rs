//! The names of messages in a queue (STANDARDS.md C9).

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use thiserror::Error;

/// Names a message in a queue: the time of its arrival and 64 random bits, never used twice.
///
/// Written as 26 letters and digits that sort by arrival.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(u128);

/// Digits without those that look like others.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// How many digits an identifier has.
const LENGTH: usize = 26;

impl QueueId {
    /// From its number: microseconds since 1970 in the upper half, random bits in the lower.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// When it was made, by the clock of the host, in microseconds since 1970.
    fn micros(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or(u64::MAX)
    }

    /// When it was made, by the clock of the host.
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.micros())
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; LENGTH];
        for (place, digit) in text.iter_mut().rev().enumerate() {
            *digit = DIGITS[(self.0 >> (5 * place)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).expect("the digits are ASCII"))
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a queue id has {LENGTH} letters and digits")]
pub struct QueueIdError;

impl FromStr for QueueId {
    type Err = QueueIdError;

    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        // 26 digits hold two bits more than there are, so the first is at most 7.
        if text.len() != LENGTH || text.as_bytes()[0] > b'7' {
            return Err(QueueIdError);
        }
        text.bytes().try_fold(Self(0), |id, octet| {
            let digit = DIGITS.iter().position(|digit| *digit == octet.to_ascii_lowercase()).ok_or(QueueIdError)?;
            Ok(Self(id.0 << 5 | digit as u128))
        })
    }
}

/// Makes queue ids whose times never go back, whatever the clock does.
#[derive(Debug)]
pub struct QueueIds {
    state: Mutex<(u64, fastrand::Rng)>,
}

impl QueueIds {
    /// With a seed of the operating system.
    pub fn new() -> Self {
        Self { state: Mutex::new((0, fastrand::Rng::new())) }
    }

    /// With that seed, for tests that must repeat.
    pub fn with_seed(seed: u64) -> Self {
        Self { state: Mutex::new((0, fastrand::Rng::with_seed(seed))) }
    }

    /// From now on later than `id`: what a spool does with those it finds.
    pub fn follow(&self, id: QueueId) {
        let mut state = self.lock();
        state.0 = state.0.max(id.micros());
    }

    /// The next one.
    pub fn next(&self, now: SystemTime) -> QueueId {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        state.0 = micros.max(state.0.saturating_add(1));
        QueueId(u128::from(state.0) << 64 | u128::from(state.1.u64(..)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, fastrand::Rng)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for QueueIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_are_one() {
        for number in [0, 1, u128::MAX, 0x0005_1234_5678_9abc_def0_1122_3344_5566] {
            let id = QueueId::from_u128(number);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }
        for text in ["", "0", "80000000000000000000000000", "0000000000000000000000000u", "00000000000000000000000000x"]
        {
            assert_eq!(text.parse::<QueueId>(), Err(QueueIdError), "{text}");
        }
    }

    #[test] // STANDARDS.md C9
    fn c9_ids_are_never_used_twice_and_sort_by_arrival_when_the_clock_goes_back() {
        let ids = QueueIds::with_seed(1);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut last = ids.next(start);
        for step in 0..10_000_u64 {
            let now = start + Duration::from_secs(step % 7 * 3600) - Duration::from_secs(step % 5 * 7200);
            let id = ids.next(now);
            assert!(id > last && id.to_string() > last.to_string());
            last = id;
        }
        let restarted = QueueIds::with_seed(1);
        restarted.follow(last);
        assert!(restarted.next(start) > last);
    }
}
