//! What time it is: waiting by the monotonic clock, expiry by the wall clock, and what happens when the two part
//! (SECURITY.md D-36).
//!
//! *Waiting*: times at which something is due are times of a wall clock that never jumps: that of the host when the queue
//! was started, carried on by the monotonic clock. So a jump makes nothing early or late.
//!
//! *Expiry*: a message is too old when the clock of the host says so and the one that never jumps does not contradict; a
//! clock by which it has not arrived yet is not asked. So a jump ahead makes nothing old, and after a jump back messages
//! grow old all the same. A jump of more than an hour raises an alarm, and nothing expires for an hour after it, as after
//! a start: long enough for everything that is due to be tried once more.

use std::fmt;
use std::ops::Not;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The wall clock of the host, as a seam for tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// What it says now.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock for tests: it goes with the time of tokio, which tests can pause, and it can jump. Copies are one clock.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    start: Instant,
    /// What it said, or would have said, at `start`.
    base: Arc<Mutex<SystemTime>>,
}

impl VirtualClock {
    /// A clock that says `time` now.
    pub fn starting_at(time: SystemTime) -> Self {
        Self { start: Instant::now(), base: Arc::new(Mutex::new(time)) }
    }

    /// Makes it say something else from now on.
    pub fn set(&self, time: SystemTime) {
        let elapsed = self.start.elapsed();
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = time - elapsed;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> SystemTime {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) + self.start.elapsed()
    }
}

/// Further than this is a jump: 1 h (SECURITY.md D-36).
const JUMP: Duration = Duration::from_secs(3600);

/// The two clocks of a queue.
#[derive(Debug)]
pub(crate) struct QueueClock {
    clock: Arc<dyn Clock>,
    start: Instant,
    start_time: SystemTime,
    /// For how long nothing expires after a start or a jump.
    suspension: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How far the wall clock is ahead of, or behind, the one that never jumps.
    distance: Distance,
    /// Until when nothing expires.
    suspended_until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Distance {
    amount: Duration,
    is_back: bool,
}

/// The clock of the host jumped: so far, since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump {
    pub(crate) distance: Duration,
    pub(crate) is_back: bool,
}

impl QueueClock {
    pub(crate) fn new(clock: Arc<dyn Clock>, suspension: Duration) -> Self {
        let start = Instant::now();
        let start_time = clock.now();
        let distance = Distance { amount: Duration::ZERO, is_back: false };
        let state = State { distance, suspended_until: start + suspension };
        Self { clock, start, start_time, suspension, state: Mutex::new(state) }
    }

    /// The time by which things are due: it never jumps.
    pub(crate) fn steady(&self) -> SystemTime {
        self.steady_at(Instant::now())
    }

    pub(crate) fn steady_at(&self, instant: Instant) -> SystemTime {
        self.start_time + instant.saturating_duration_since(self.start)
    }

    /// When that time comes; now where it has come, and at most a year from now.
    pub(crate) fn instant_of(&self, steady: SystemTime) -> Instant {
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        let now = Instant::now();
        let wait = steady.duration_since(self.steady_at(now)).unwrap_or_default();
        now + wait.min(LONGEST)
    }

    /// What the clock of the host says.
    pub(crate) fn wall(&self) -> SystemTime {
        self.clock.now()
    }

    /// A steady time as the clock of the host will show it.
    pub(crate) fn as_wall(&self, steady: SystemTime) -> SystemTime {
        let Distance { amount, is_back } = self.lock().distance;
        let shown = if is_back { steady.checked_sub(amount) } else { steady.checked_add(amount) };
        shown.unwrap_or(steady)
    }

    /// Whether what arrived then and is kept until `expires`, both by the clock of the host, is too old. A jump that is
    /// found on the way is returned, once.
    pub(crate) fn is_expired(&self, arrival: SystemTime, expires: SystemTime) -> (bool, Option<Jump>) {
        let jump = self.look();
        if Instant::now() < self.lock().suspended_until {
            return (false, jump);
        }
        let has_arrived = |now: &SystemTime| arrival.duration_since(*now).is_ok_and(|ahead| ahead > JUMP).not();
        let mut asked = [self.wall(), self.steady()].into_iter().filter(has_arrived).peekable();
        let is_expired = if asked.peek().is_some() {
            asked.all(|now| now >= expires)
        } else {
            // The clock went back while there was no queue: it is as old as the queue.
            self.start.elapsed() >= expires.duration_since(arrival).unwrap_or_default()
        };
        (is_expired, jump)
    }

    /// For how long nothing expires after a jump.
    pub(crate) fn suspension(&self) -> Duration {
        self.suspension
    }

    /// Compares the clocks. A jump suspends expiry.
    fn look(&self) -> Option<Jump> {
        let (wall, now) = (self.wall(), Instant::now());
        let found = Distance::between(self.steady_at(now), wall);
        let mut state = self.lock();
        let jump = state.distance.to(found);
        state.distance = found;
        if jump.distance <= JUMP {
            return None;
        }
        state.suspended_until = now + self.suspension;
        Some(jump)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Distance {
    fn between(steady: SystemTime, wall: SystemTime) -> Self {
        match wall.duration_since(steady) {
            Ok(amount) => Self { amount, is_back: false },
            Err(behind) => Self { amount: behind.duration(), is_back: true },
        }
    }

    /// From here to there.
    fn to(self, other: Self) -> Jump {
        if self.is_back == other.is_back {
            let is_further = other.amount > self.amount;
            Jump { distance: other.amount.abs_diff(self.amount), is_back: is_further == other.is_back }
        } else {
            Jump { distance: self.amount + other.amount, is_back: other.is_back }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn clocks() -> (VirtualClock, QueueClock, SystemTime) {
        let start = SystemTime::UNIX_EPOCH + 50 * YEAR;
        let clock = VirtualClock::starting_at(start);
        (clock.clone(), QueueClock::new(Arc::new(clock), HOUR), start)
    }

    #[tokio::test(start_paused = true)] // SECURITY.md D-36
    async fn d36_waiting_does_not_see_jumps() {
        let (clock, queue, start) = clocks();
        for (jump, is_back) in [(HOUR, false), (YEAR, false), (HOUR, true), (YEAR, true), (2 * YEAR, true)] {
            let before = queue.steady();
            clock.set(if is_back { clock.now() - jump } else { clock.now() + jump });
            assert_eq!(queue.steady(), before);
            assert_eq!(queue.instant_of(before + HOUR), Instant::now() + HOUR);
            tokio::time::advance(HOUR).await;
        }
        assert_eq!(queue.steady(), start + 5 * HOUR);
    }

    #[tokio::test(start_paused = true)] // SECURITY.md D-36
    async fn d36_a_jump_over_an_hour_is_told_once_and_suspends_expiry_for_an_hour() {
        for (jump, is_back, told) in
            [(HOUR, false, false), (HOUR, true, false), (2 * HOUR, true, true), (YEAR, false, true), (YEAR, true, true)]
        {
            let (clock, queue, start) = clocks();
            tokio::time::advance(6 * DAY).await;
            assert_eq!(queue.is_expired(start, start + 5 * DAY), (true, None));
            clock.set(if is_back { clock.now() - jump } else { clock.now() + jump });
            let expected = told.then_some(Jump { distance: jump, is_back });
            let old = (start, start + 5 * DAY);
            assert_eq!(queue.is_expired(old.0, old.1), (!told, expected), "{jump:?} {is_back}");
            assert_eq!(queue.is_expired(old.0, old.1), (!told, None), "it is told once");
            tokio::time::advance(HOUR / 2).await;
            assert_eq!(queue.is_expired(old.0, old.1), (!told, None));
            tokio::time::advance(HOUR / 2).await;
            assert_eq!(queue.is_expired(old.0, old.1), (true, None), "{jump:?} {is_back}");
        }
    }

    #[tokio::test(start_paused = true)] // SECURITY.md T13: whenever it arrived and however the clock jumped.
    async fn t13_a_message_expires_after_five_days_of_the_time_that_passed() {
        for (jump, is_back) in [(2 * HOUR, false), (2 * HOUR, true), (YEAR, false), (YEAR, true)] {
            let (clock, queue, start) = clocks();
            tokio::time::advance(HOUR).await;
            clock.set(if is_back { clock.now() - jump } else { clock.now() + jump });
            let after = clock.now();
            for hours in 1..130 {
                assert!(
                    !queue.is_expired(after, after + 5 * DAY).0 || hours > 5 * 24,
                    "after: {hours} h, {jump:?} {is_back}"
                );
                assert!(
                    !queue.is_expired(start, start + 5 * DAY).0 || hours >= 5 * 24,
                    "before: {hours} h, {jump:?} {is_back}"
                );
                tokio::time::advance(HOUR).await;
            }
            assert_eq!(queue.is_expired(start, start + 5 * DAY), (true, None), "{jump:?} {is_back}");
            assert_eq!(queue.is_expired(after, after + 5 * DAY), (true, None), "{jump:?} {is_back}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrived_in_the_future_of_both_clocks_is_as_old_as_the_queue() {
        let (_, queue, start) = clocks();
        let arrival = start + YEAR;
        tokio::time::advance(4 * DAY).await;
        assert!(!queue.is_expired(arrival, arrival + 5 * DAY).0);
        tokio::time::advance(DAY).await;
        assert!(queue.is_expired(arrival, arrival + 5 * DAY).0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_expires_in_the_first_hour() {
        let (_, queue, start) = clocks();
        let old = (start - YEAR, start - YEAR + 5 * DAY);
        assert_eq!(queue.is_expired(old.0, old.1), (false, None));
        tokio::time::advance(HOUR).await;
        assert_eq!(queue.is_expired(old.0, old.1), (true, None));
    }

    #[tokio::test(start_paused = true)]
    async fn steady_times_are_shown_as_the_clock_shows_them() {
        let (clock, queue, start) = clocks();
        let due = queue.steady() + HOUR;
        assert_eq!(queue.as_wall(due), start + HOUR);
        for jump in [YEAR, 2 * YEAR] {
            clock.set(clock.now() - jump);
            queue.look();
            assert_eq!(queue.as_wall(due), clock.now() + HOUR);
        }
    }
}
