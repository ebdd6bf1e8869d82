//! When a message is tried again, and when it is given up (RFC 5321 §4.5.4.1; STANDARDS.md Q1 to Q5).
//!
//! Numbers in, a time out: what waits, and where, is the queue's to know.

use std::time::{Duration, SystemTime};

use smtp_core::ByMode;

use crate::envelope::Envelope;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When to try again and when to give up. Start from [`Schedule::default`] and change single values.
///
/// With the defaults attempts follow the first one after about 5, 15, 35 and 75 minutes, and then every 67 minutes for
/// five days: two in the first hour, and no more than one in 53 minutes later on, as RFC 5321 §4.5.4.1 asks.
///
/// ```
/// let mut schedule = smtp_queue::Schedule::default();
/// schedule.lifetime = std::time::Duration::from_secs(4 * 24 * 3600);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// How long after the first attempt the second is made: 5 min (Q1). Each later one waits twice as long.
    pub first_retry: Duration,
    /// The longest that a message waits for its next attempt, before the spread: 4,000 s (Q2). RFC 5321 §4.5.4.1 asks
    /// for 30 min at least, once a message is old.
    pub longest_wait: Duration,
    /// By how much a wait is made longer or shorter at random, so that messages that were refused together do not come
    /// again together, in percent: 20 (Q1, Q2). More than 100 counts as 100.
    pub spread_percent: u8,
    /// How long a message is tried, from its arrival or its release (RFC 4865): 5 days (Q3). RFC 5321 §4.5.4.1 asks for 4 to 5
    /// days.
    pub lifetime: Duration,
    /// How old a message is when a sender who asked for it is told that it takes long: 4 h (Q4), at the first attempt
    /// after that which does not deliver it. It is told once for each message and site.
    pub delay_notification: Duration,
    /// How long a notification of the queue is tried: 5 days (Q5).
    pub notification_lifetime: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            first_retry: HOUR / 12,
            longest_wait: Duration::from_secs(4000),
            spread_percent: 20,
            lifetime: 5 * DAY,
            delay_notification: 4 * HOUR,
            notification_lifetime: 5 * DAY,
        }
    }
}

impl Schedule {
    /// When the next attempt is due, after `attempts` of them, the last of which ended `now`.
    ///
    /// It may lie behind [`Schedule::expires`]: there is no attempt any more then.
    pub fn next_attempt(&self, attempts: u32, now: SystemTime, rng: &mut fastrand::Rng) -> SystemTime {
        later(now, self.spread(self.wait(attempts), rng))
    }

    /// When a message is given up: at the deadline that a sender or policy set, or else at the end of its lifetime; one that is
    /// to be returned if it is late, at its deliver-by-time if that is earlier (RFC 2852 §4.1.3).
    pub fn expires(&self, envelope: &Envelope) -> SystemTime {
        let is_notification = envelope.origin.notification_of.is_some();
        let lifetime = if is_notification { self.notification_lifetime } else { self.lifetime };
        let expires = envelope.deadline.unwrap_or_else(|| later(released(envelope), lifetime));
        let returned = envelope.deliver_by.filter(|by| by.mode == ByMode::Return);
        returned.map_or(expires, |by| by.time.min(expires))
    }

    /// When a message is late enough to say so.
    pub fn is_late_from(&self, envelope: &Envelope) -> SystemTime {
        later(released(envelope), self.delay_notification)
    }

    /// How long to wait before spreading: the first wait, doubled with each attempt up to the longest.
    fn wait(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first_retry.saturating_mul(factor).min(self.longest_wait)
    }

    fn spread(&self, wait: Duration, rng: &mut fastrand::Rng) -> Duration {
        let part = f64::from(self.spread_percent.min(100)) / 100.0;
        let factor = 1.0 + part * (2.0 * rng.f64() - 1.0);
        Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(wait)
    }
}

/// From when on a message grows old: what is held on its sender's wish does not (RFC 4865).
fn released(envelope: &Envelope) -> SystemTime {
    envelope.release.map_or(envelope.arrival, |release| release.max(envelope.arrival))
}

/// The sum, or the last moment that the clock can say.
fn later(time: SystemTime, wait: Duration) -> SystemTime {
    let mut sum = time;
    let mut step = wait;
    // All of it at once; at the end of time as many halves as fit.
    while !step.is_zero() {
        match sum.checked_add(step) {
            Some(reached) if step == wait => return reached,
            Some(reached) => sum = reached,
            None => {}
        }
        step /= 2;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::QueueId;
    use smtp_core::ReversePath;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    /// Minutes from the first attempt at which the others are made, if each fails at once.
    fn attempts(schedule: &Schedule, seed: u64, count: u32) -> Vec<f64> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = START;
        (1..=count)
            .map(|attempts| {
                now = schedule.next_attempt(attempts, now, &mut rng);
                now.duration_since(START).expect("later").as_secs_f64() / 60.0
            })
            .collect()
    }

    #[test] // STANDARDS.md Q1, Q2
    fn q1_q2_attempts_are_made_when_the_schedule_says() {
        let exact = Schedule { spread_percent: 0, ..Schedule::default() };
        let made = attempts(&exact, 0, 8);
        let longest = 4000.0 / 60.0;
        let expected =
            [5.0, 15.0, 35.0, 75.0].into_iter().chain((1..=4).map(|number| 75.0 + f64::from(number) * longest));
        for (number, (made, expected)) in made.into_iter().zip(expected).enumerate() {
            assert!((made - expected).abs() < 0.01, "attempt {}: {made}, not {expected}", number + 2);
        }
    }

    #[test] // STANDARDS.md Q1, Q2: within a fifth, and both ends are used.
    fn q2_waits_are_spread_by_a_fifth() {
        let schedule = Schedule::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for (attempts, seconds) in [(1, 300.0), (2, 600.0), (3, 1200.0), (4, 2400.0), (5, 4000.0), (900, 4000.0)] {
            let ratios: Vec<_> = (0..1000)
                .map(|_| schedule.next_attempt(attempts, START, &mut rng).duration_since(START).expect("later"))
                .map(|wait| wait.as_secs_f64() / seconds)
                .collect();
            assert!(ratios.iter().all(|ratio| (0.8..=1.2).contains(ratio)), "after {attempts}");
            assert!(ratios.iter().any(|ratio| *ratio < 0.81) && ratios.iter().any(|ratio| *ratio > 1.19));
        }
    }

    #[test] // RFC 5321 §4.5.4.1: two attempts in the first hour, whatever the dice say; then none within 30 minutes.
    fn q1_there_are_two_attempts_in_the_first_hour() {
        for seed in 0..1000 {
            let made = attempts(&Schedule::default(), seed, 20);
            assert!(made[1] <= 60.0, "seed {seed}: {made:?}");
            for pair in made[3..].windows(2) {
                assert!(pair[1] - pair[0] >= 30.0, "seed {seed}: {made:?}");
            }
        }
    }

    #[test] // STANDARDS.md Q3, Q5
    fn q3_q5_messages_and_notifications_expire() {
        let schedule = Schedule { notification_lifetime: DAY, ..Schedule::default() };
        let mut envelope = Envelope::new(QueueId::from_u128(1), START, ReversePath::Null);
        assert_eq!(schedule.expires(&envelope), START + 5 * DAY);
        envelope.origin.notification_of = Some(QueueId::from_u128(2));
        assert_eq!(schedule.expires(&envelope), START + DAY);
        envelope.release = Some(START + 20 * DAY);
        assert_eq!(schedule.expires(&envelope), START + 21 * DAY);
        assert_eq!(schedule.is_late_from(&envelope), START + 20 * DAY + 4 * HOUR);
        envelope.deadline = Some(START + HOUR);
        assert_eq!(schedule.expires(&envelope), START + HOUR);
    }

    #[test]
    fn no_number_overflows() {
        let end = later(START, Duration::MAX);
        assert!(end > START + 365 * DAY && end.checked_add(Duration::from_secs(1)).is_none());
        let mut rng = fastrand::Rng::with_seed(1);
        for wait in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for spread_percent in [0, 100, 255] {
                let schedule = Schedule {
                    first_retry: wait,
                    longest_wait: wait,
                    spread_percent,
                    lifetime: wait,
                    delay_notification: wait,
                    notification_lifetime: wait,
                };
                for now in [START - DAY, START, end] {
                    for attempts in [0, 1, 31, 32, 33, 34, u32::MAX] {
                        assert!(schedule.next_attempt(attempts, now, &mut rng) >= now);
                    }
                    let envelope = Envelope::new(QueueId::from_u128(1), now, ReversePath::Null);
                    assert!(schedule.expires(&envelope) >= now && schedule.is_late_from(&envelope) >= now);
                }
            }
        }
    }
}
