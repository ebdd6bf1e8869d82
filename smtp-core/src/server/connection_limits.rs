//! How many connections there may be: in all, from an address, from a network (STANDARDS LI13).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// For how long handshakes are counted.
const HANDSHAKE_WINDOW: Duration = Duration::from_secs(60);
/// How many clients are counted at most.
const HANDSHAKE_CLIENTS: usize = 10_000;

/// What is allowed at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Connections in all: 10,000. More: `421 4.3.2`. From nine tenths on the server is under stress: shorter limits
    /// hold.
    pub total: usize,
    /// Connections from one address: 50. More: `421 4.7.0`.
    pub per_address: usize,
    /// Connections from one /24 (IPv4) or /64 (IPv6): 200. More: `421 4.7.0`.
    pub per_network: usize,
    /// TLS handshakes that one address, or one /64 of IPv6, may begin within a minute: 120. More: `454 4.7.0`, or the end
    /// of a connection that begins with TLS.
    pub handshakes_per_minute: u32,
    /// Networks for which only the total counts. Loopback is always one.
    pub exempt: Vec<IpNet>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 10_000, per_address: 50, per_network: 200, handshakes_per_minute: 120, exempt: Vec::new() }
    }
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    Total,
    Client,
}

/// The connections there are.
#[derive(Debug)]
pub(crate) struct ConnectionCounter {
    limits: ConnectionLimits,
    total: AtomicUsize,
    is_under_stress: AtomicBool,
    by_client: Mutex<HashMap<IpNet, usize>>,
    /// Who began handshakes lately: how many, and since when.
    handshakes: Mutex<HashMap<IpNet, (u32, Instant)>>,
}

impl ConnectionCounter {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            total: AtomicUsize::new(0),
            is_under_stress: AtomicBool::new(false),
            by_client: Mutex::default(),
            handshakes: Mutex::default(),
        }
    }

    /// Whether nine tenths of all connections were taken, and since then never fewer than eight.
    pub(crate) fn is_under_stress(&self) -> bool {
        self.is_under_stress.load(Ordering::Relaxed)
    }

    /// Whether stress has just begun. To be asked after each connection that came.
    pub(crate) fn stress_begins(&self) -> bool {
        let is_full = self.total.load(Ordering::Relaxed) >= self.limits.total - self.limits.total / 10;
        is_full && !self.is_under_stress.swap(true, Ordering::Relaxed)
    }

    /// Whether a client may begin a TLS handshake now (SECURITY D-8).
    pub(crate) fn admit_handshake(&self, client: IpAddr, now: Instant) -> bool {
        let client = client.to_canonical();
        if self.is_exempt(client) {
            return true;
        }
        let key = if client.is_ipv4() { client.into() } else { keys(client).1 };
        let mut known = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |since: Instant| now.saturating_duration_since(since) < HANDSHAKE_WINDOW;
        if known.len() >= HANDSHAKE_CLIENTS {
            known.retain(|_, (_, since)| is_recent(*since));
            if known.len() >= HANDSHAKE_CLIENTS && !known.contains_key(&key) {
                // So many clients at once are no single one that is to be slowed.
                return true;
            }
        }
        let (count, since) = known.entry(key).or_insert((0, now));
        if !is_recent(*since) {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        *count <= self.limits.handshakes_per_minute
    }

    /// Whether a client is one of many that share an address by the word of the operator.
    pub(crate) fn is_exempt(&self, client: IpAddr) -> bool {
        client.is_loopback() || self.limits.exempt.iter().any(|network| network.contains(&client))
    }

    /// A connection whose client is not known yet.
    pub(crate) fn admit_proxy(self: &Arc<Self>) -> Result<Admission, Excess> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.limits.total {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Excess::Total);
        }
        Ok(Admission { counter: self.clone(), keys: None })
    }

    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Admission, Excess> {
        let mut admission = self.admit_proxy()?;
        admission.count_client(client)?;
        Ok(admission)
    }
}

/// One connection, counted until dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    counter: Arc<ConnectionCounter>,
    keys: Option<(IpNet, IpNet)>,
}

impl Admission {
    /// The client is known now.
    pub(crate) fn count_client(&mut self, client: IpAddr) -> Result<(), Excess> {
        let client = client.to_canonical();
        let counter = &self.counter;
        if counter.is_exempt(client) {
            return Ok(());
        }
        let (address, network) = keys(client);
        let mut counts = counter.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |key| counts.get(key).copied().unwrap_or(0);
        if count(&address) >= counter.limits.per_address || count(&network) >= counter.limits.per_network {
            return Err(Excess::Client);
        }
        *counts.entry(address).or_default() += 1;
        *counts.entry(network).or_default() += 1;
        drop(counts);
        self.keys = Some((address, network));
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let left = self.counter.total.fetch_sub(1, Ordering::Relaxed) - 1;
        if left < self.counter.limits.total - self.counter.limits.total / 5 {
            self.counter.is_under_stress.store(false, Ordering::Relaxed);
        }
        let Some((address, network)) = self.keys else { return };
        let mut counts = self.counter.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        for key in [address, network] {
            if let Some(count) = counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
    }
}

/// The address as a network of one, and its /24 or /64.
pub(crate) fn keys(client: IpAddr) -> (IpNet, IpNet) {
    let network = match client {
        IpAddr::V4(address) => Ipv4Net::new(address, 24).map(|network| IpNet::V4(network.trunc())),
        IpAddr::V6(address) => Ipv6Net::new(address, 64).map(|network| IpNet::V6(network.trunc())),
    };
    (client.into(), network.unwrap_or_else(|_| client.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY.md D-8
    fn d8_handshakes_of_one_client_are_limited_and_those_of_others_are_not() {
        let limits = ConnectionLimits { handshakes_per_minute: 2, ..ConnectionLimits::default() };
        let counter = ConnectionCounter::new(limits);
        let start = Instant::now();
        let admit = |address: &str, seconds| {
            counter.admit_handshake(address.parse().expect("an address"), start + Duration::from_secs(seconds))
        };
        assert!(admit("192.0.2.1", 0) && admit("::ffff:192.0.2.1", 1));
        assert!(!admit("192.0.2.1", 59));
        assert!(admit("192.0.2.2", 59) && admit("192.0.2.1", 60));
        assert!(admit("2001:db8::1", 0) && admit("2001:db8::2", 0) && !admit("2001:db8::3", 0), "they are neighbours");
        assert!((0..100).all(|_| admit("127.0.0.1", 0)));
    }

    #[test] // LI13
    fn li13_each_level_has_its_limit_and_forgets() {
        let limits = ConnectionLimits { total: 20, per_address: 3, per_network: 5, ..ConnectionLimits::default() };
        let counter = Arc::new(ConnectionCounter::new(limits));
        let admit = |address: &str| counter.admit(address.parse().expect("an address"));
        let mut there = Vec::new();
        for (address, expected) in [
            ("192.0.2.1", None),
            ("192.0.2.1", None),
            ("::ffff:192.0.2.1", None),
            ("192.0.2.1", Some(Excess::Client)),
            ("192.0.2.2", None),
            ("192.0.2.3", None),
            ("192.0.2.4", Some(Excess::Client)),
            ("192.0.3.1", None),
            ("2001:db8::1", None),
        ] {
            match admit(address) {
                Ok(admission) => there.push(admission),
                Err(excess) => assert_eq!(Some(excess), expected, "{address}"),
            }
        }
        while let Ok(admission) = admit("127.0.0.1") {
            there.push(admission);
        }
        assert_eq!((there.len(), counter.stress_begins(), counter.stress_begins()), (20, true, false));
        assert!(counter.is_under_stress());
        assert_eq!(admit("198.51.100.1").err(), Some(Excess::Total));
        there.clear();
        assert!(!counter.is_under_stress());
        assert_eq!(counter.total.load(Ordering::Relaxed), 0);
        assert!(counter.by_client.lock().expect("not poisoned").is_empty(), "nothing is remembered of those who left");
    }
}
