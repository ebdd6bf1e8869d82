//! Failed logins: how long the next attempt waits, by where it comes from and by whom it is about (SECURITY D-20).
//!
//! It is a delay and never a lock: an account is slowed for strangers, and not at all for who has logged in from the same
//! address before. Each attempt counts when it begins, so that many at once gain nothing, and is forgiven when it was right.
//! An account that does not exist is counted like one that does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::session::server::LoginOutcome;

use super::connection_limits::keys;

/// What failed logins cost. The numbers are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoginLimits {
    /// Failed logins of one address (IPv4) or one /64 (IPv6) that cost nothing: 10.
    pub per_address: u32,
    /// Failed logins of one /24 (IPv4) that cost nothing: 50.
    pub per_network: u32,
    /// Failed logins to one account, from wherever, that cost nothing: 10.
    pub per_account: u32,
    /// How long after the one before it the next attempt is looked at then: 1 s, and twice as long for each further one.
    pub first_delay: Duration,
    /// The longest such time for an address or a network: 30 s. Who would have to wait longer, because others of it wait
    /// already, is told `454 4.7.0`.
    pub longest_delay: Duration,
    /// The longest wait for an account: 10 s, because its owner may be the one who waits.
    pub longest_account_delay: Duration,
    /// When all is forgotten, after the last failure: 1 h.
    pub forgotten_after: Duration,
    /// How long an account is not delayed at an address from which it has logged in: 30 days. A failure there ends it.
    pub remembered_for: Duration,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            per_address: 10,
            per_network: 50,
            per_account: 10,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(30),
            longest_account_delay: Duration::from_secs(10),
            forgotten_after: Duration::from_secs(3600),
            remembered_for: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// How many clients, accounts and successful pairs of both are remembered at most, each.
const REMEMBERED: usize = 10_000;

/// An attempt that goes on. One that is never ended has failed.
#[derive(Debug)]
pub(crate) struct Attempt {
    client: IpAddr,
    account: Option<u64>,
    limits_client: bool,
    /// It was not counted: its account has logged in from there.
    is_trusted: bool,
    pub(crate) delay: Duration,
}

/// Failed logins of one key.
#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// When the next attempt is looked at.
    next: Instant,
}

#[derive(Debug, Default)]
struct Memory {
    clients: HashMap<IpNet, Failures>,
    accounts: HashMap<u64, Failures>,
    trusted: HashMap<(IpAddr, u64), Instant>,
}

/// The failed logins of a server.
#[derive(Debug)]
pub(crate) struct Logins {
    limits: LoginLimits,
    /// Names are kept as their hashes: of the same size, however long they are.
    hasher: RandomState,
    memory: Mutex<Memory>,
}

impl Logins {
    pub(crate) fn new(limits: LoginLimits) -> Self {
        Self { limits, hasher: RandomState::new(), memory: Mutex::default() }
    }

    /// How long an attempt has to wait; `None`: too many wait already. `limits_client` is `false` for clients that many users
    /// share by the word of the operator.
    pub(crate) fn begin(
        &self,
        client: IpAddr,
        account: Option<&str>,
        limits_client: bool,
        now: Instant,
    ) -> Option<Attempt> {
        let client = client.to_canonical();
        let account = account.map(|name| self.hasher.hash_one(name.to_lowercase()));
        let mut attempt = Attempt { client, account, limits_client, is_trusted: false, delay: Duration::ZERO };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let since = account.and_then(|account| memory.trusted.get(&(client, account)));
        if since.is_some_and(|&since| now.saturating_duration_since(since) < self.limits.remembered_for) {
            attempt.is_trusted = true;
            return Some(attempt);
        }
        let is_full = |(key, _): (IpNet, u32)| {
            let waits = |failures: &Failures| failures.next.saturating_duration_since(now) > self.limits.longest_delay;
            memory.clients.get(&key).is_some_and(waits)
        };
        if limits_client && self.client_keys(client).any(is_full) {
            return None;
        }
        attempt.delay = self.count(&mut memory, &attempt, now);
        Some(attempt)
    }

    /// How it ended.
    pub(crate) fn end(&self, attempt: &Attempt, outcome: LoginOutcome, now: Instant) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = attempt.account.map(|account| (attempt.client, account));
        match outcome {
            LoginOutcome::Failed if attempt.is_trusted => {
                if let Some(pair) = pair {
                    memory.trusted.remove(&pair);
                }
                self.count(&mut memory, attempt, now);
            }
            LoginOutcome::Failed => {}
            LoginOutcome::Succeeded | LoginOutcome::Undecided => {
                if !attempt.is_trusted {
                    self.forgive(&mut memory, attempt);
                }
                if let Some(pair) = pair.filter(|_| outcome == LoginOutcome::Succeeded) {
                    let memory = &mut memory.trusted;
                    make_room(memory, &pair, |&since| {
                        now.saturating_duration_since(since) < self.limits.remembered_for
                    });
                    memory.insert(pair, now);
                }
            }
        }
    }

    /// Counts an attempt as failed; how long it waits.
    fn count(&self, memory: &mut Memory, attempt: &Attempt, now: Instant) -> Duration {
        let limits = &self.limits;
        let mut turn = now;
        if attempt.limits_client {
            for (key, free) in self.client_keys(attempt.client) {
                let failures = self.entry(&mut memory.clients, key, now);
                turn = turn.max(failures.count(now, free, limits.first_delay, limits.longest_delay));
            }
        }
        if let Some(account) = attempt.account {
            let (longest, free) = (limits.longest_account_delay, limits.per_account);
            let failures = self.entry(&mut memory.accounts, account, now);
            failures.next = failures.next.min(now + longest);
            turn = turn.max(failures.count(now, free, limits.first_delay, longest));
        }
        turn.saturating_duration_since(now)
    }

    fn forgive(&self, memory: &mut Memory, attempt: &Attempt) {
        let clients = self.client_keys(attempt.client).filter(|_| attempt.limits_client);
        clients.for_each(|(key, _)| forgive(&mut memory.clients, key));
        if let Some(account) = attempt.account {
            forgive(&mut memory.accounts, account);
        }
    }

    /// Under which keys a client is counted, and how many failures of each cost nothing.
    fn client_keys(&self, client: IpAddr) -> impl Iterator<Item = (IpNet, u32)> {
        let (address, network) = keys(client);
        let (first, second) = if client.is_ipv4() { (address, Some(network)) } else { (network, None) };
        let second = second.map(|network| (network, self.limits.per_network));
        std::iter::once((first, self.limits.per_address)).chain(second)
    }

    fn entry<'m, K: Eq + Hash + Copy>(
        &self,
        memory: &'m mut HashMap<K, Failures>,
        key: K,
        now: Instant,
    ) -> &'m mut Failures {
        let forgotten_after = self.limits.forgotten_after;
        make_room(memory, &key, |failures| !failures.is_forgotten(now, forgotten_after));
        let failures = memory.entry(key).or_insert(Failures { count: 0, last: now, next: now });
        if failures.is_forgotten(now, forgotten_after) {
            *failures = Failures { count: 0, last: now, next: now };
        }
        failures
    }
}

impl Failures {
    fn is_forgotten(&self, now: Instant, after: Duration) -> bool {
        now.saturating_duration_since(self.last) >= after
    }

    /// Counts one more; when it is looked at.
    fn count(&mut self, now: Instant, free: u32, first: Duration, longest: Duration) -> Instant {
        let turn = self.next.max(now);
        self.count = self.count.saturating_add(1);
        self.last = now;
        if let Some(excess) = self.count.checked_sub(free.max(1)) {
            self.next = turn + first.saturating_mul(1 << excess.min(20)).min(longest);
        }
        turn
    }
}

/// One failure less. Of who has none nothing is kept.
fn forgive<K: Eq + Hash>(memory: &mut HashMap<K, Failures>, key: K) {
    if let Entry::Occupied(mut entry) = memory.entry(key) {
        entry.get_mut().count = entry.get().count.saturating_sub(1);
        if entry.get().count == 0 {
            entry.remove();
        }
    }
}

/// Room for one more: of the first few, in an order that nobody can foresee, one that is of no use any more goes, or else the
/// first.
fn make_room<K: Eq + Hash + Copy, V>(memory: &mut HashMap<K, V>, key: &K, is_of_use: impl Fn(&V) -> bool) {
    const LOOKED_AT: usize = 8;
    if memory.len() < REMEMBERED || memory.contains_key(key) {
        return;
    }
    let mut useless = memory.iter().take(LOOKED_AT).filter(|(_, value)| !is_of_use(value));
    let out = useless.next().or_else(|| memory.iter().next()).map(|(&key, _)| key);
    if let Some(out) = out {
        memory.remove(&out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small model of a server: who tries what, at which second.
    struct World {
        logins: Logins,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { logins: Logins::new(LoginLimits::default()), start: Instant::now() }
        }

        /// The delay in seconds.
        fn login(&self, client: &str, account: &str, outcome: LoginOutcome, second: u64) -> Option<u64> {
            let now = self.start + Duration::from_secs(second);
            let client = client.parse().expect("an address");
            let attempt = self.logins.begin(client, Some(account), true, now)?;
            self.logins.end(&attempt, outcome, now + attempt.delay);
            Some(attempt.delay.as_secs())
        }

        fn guess(&self, client: &str, account: &str, second: u64) -> Option<u64> {
            self.login(client, account, LoginOutcome::Failed, second)
        }
    }

    #[test]
    fn d20_guesses_of_one_address_wait_ever_longer() {
        let world = World::new();
        let delays: Vec<_> = (0..16).map(|n| world.guess("192.0.2.1", &format!("user{n}"), 0)).collect();
        let free = [Some(0); 10];
        assert_eq!(delays[..10], free);
        assert_eq!(delays[10..], [Some(1), Some(3), Some(7), Some(15), None, None], "then too many wait");
        assert_eq!(world.guess("192.0.2.1", "user", 100), Some(0), "who has waited is looked at");
        assert_eq!(world.guess("192.0.2.1", "user", 101), Some(29));
        assert_eq!(world.guess("198.51.100.1", "other", 0), Some(0), "others do not wait");
        assert_eq!(world.guess("192.0.2.1", "user", 101 + 3600), Some(0), "and it is forgotten");
    }

    #[test]
    fn d20_neighbours_are_counted_together() {
        let world = World::new();
        let waiting = |client: &dyn Fn(u32) -> String, most: u32| {
            (0..most).find(|&n| world.guess(&client(n), &format!("user{n}"), 0) != Some(0))
        };
        assert_eq!(waiting(&|n| format!("192.0.2.{n}"), 100), Some(50), "/24");
        assert_eq!(waiting(&|n| format!("2001:db8::{n:x}"), 100), Some(10), "/64 of IPv6 is one client");
        assert_eq!(waiting(&|n| format!("2001:db8:1:{n:x}::1"), 100), None);
    }

    #[test]
    fn d20_an_account_is_slowed_for_strangers_and_never_locked() {
        let world = World::new();
        assert_eq!(world.login("203.0.113.9", "alice", LoginOutcome::Succeeded, 0), Some(0));
        for n in 0..2000_u32 {
            let [_, _, high, low] = n.to_be_bytes();
            let delay = world.guess(&format!("10.{high}.{low}.1"), "Alice", 1);
            assert!(delay.is_some_and(|delay| delay <= 10), "{n}: {delay:?}");
        }
        assert_eq!(world.guess("10.99.0.1", "ALICE", 1), Some(10), "in any case of letters");
        assert_eq!(world.login("203.0.113.9", "alice", LoginOutcome::Succeeded, 1), Some(0), "where she is at home");
        assert_eq!(
            world.login("198.51.100.7", "alice", LoginOutcome::Succeeded, 1),
            Some(10),
            "a new place waits once"
        );
        assert_eq!(world.login("198.51.100.7", "alice", LoginOutcome::Succeeded, 2), Some(0));
        assert_eq!(world.guess("203.0.113.9", "alice", 3), Some(0), "a guess from her place");
        assert_ne!(world.guess("203.0.113.9", "alice", 3), Some(0), "is the last that is not delayed");
    }

    #[test] // A busy host with right passwords, or with a directory that is down, never waits.
    fn d20_what_is_no_failure_costs_nothing() {
        let world = World::new();
        for n in 0..1000 {
            for outcome in [LoginOutcome::Succeeded, LoginOutcome::Undecided] {
                assert_eq!(world.login("192.0.2.1", &format!("user{n}"), outcome, 0), Some(0), "{n} {outcome:?}");
            }
        }
    }

    #[test] // Many at once are no way around: each counts when it begins.
    fn d20_attempts_at_the_same_time_queue_up() {
        let world = World::new();
        let client = "192.0.2.1".parse().expect("an address");
        let attempts: Vec<_> = (0..100).filter_map(|_| world.logins.begin(client, None, true, world.start)).collect();
        assert_eq!(attempts.len(), 14);
        assert_eq!(attempts.last().map(|attempt| attempt.delay.as_secs()), Some(15));
        assert!(world.logins.begin(client, None, false, world.start).is_some(), "exempt");
    }

    #[test]
    fn d20_memory_is_bounded() {
        let world = World::new();
        for n in 0..30_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            let client = format!("{}.{b}.{c}.1", 10 + a);
            world.login(&client, &format!("user{n}"), LoginOutcome::Failed, 0);
            world.login("127.0.0.1", &format!("user{n}"), LoginOutcome::Succeeded, 0);
        }
        let memory = world.logins.memory.lock().expect("not poisoned");
        for size in [memory.clients.len(), memory.accounts.len(), memory.trusted.len()] {
            assert!((REMEMBERED - 10..=REMEMBERED).contains(&size), "{size}");
        }
    }
}
