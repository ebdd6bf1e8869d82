//! Answers for as long as they hold, and never more than a number of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Keeps values until their time is over or others need the room. Of two halves one is filled; when it is full, the other is
/// forgotten, so that what is asked for often stays.
#[derive(Debug)]
pub(crate) struct DnsCache<K, V> {
    entries_limit: usize,
    halves: Mutex<Halves<K, V>>,
}

#[derive(Debug)]
struct Halves<K, V> {
    young: HashMap<K, (V, Instant)>,
    old: HashMap<K, (V, Instant)>,
}

impl<K: Eq + Hash + Clone, V: Clone> DnsCache<K, V> {
    /// For this many at most; none where that is 0.
    pub(crate) fn new(entries_limit: usize) -> Self {
        Self { entries_limit, halves: Mutex::new(Halves { young: HashMap::new(), old: HashMap::new() }) }
    }

    /// The value, and how long it holds.
    pub(crate) fn get(&self, key: &K) -> Option<(V, Duration)> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if !halves.young.contains_key(key) {
            let entry = halves.old.remove(key)?;
            self.put(&mut halves, key.clone(), entry);
        }
        let (value, until) = halves.young.get(key)?.clone();
        let rest = until.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some((value, rest))
    }

    /// Keeps a value for that long.
    pub(crate) fn insert(&self, key: K, value: V, holds: Duration) {
        if !holds.is_zero() {
            let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
            self.put(&mut halves, key, (value, Instant::now() + holds));
        }
    }

    fn put(&self, halves: &mut Halves<K, V>, key: K, entry: (V, Instant)) {
        if halves.young.len() >= self.entries_limit / 2 && !halves.young.contains_key(&key) {
            halves.old = std::mem::take(&mut halves.young);
        }
        if self.entries_limit >= 2 {
            halves.young.insert(key, entry);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.young.len() + halves.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_holds_for_its_time_and_no_longer() {
        let cache = DnsCache::new(10);
        cache.insert("a", 1, Duration::from_secs(60));
        cache.insert("never", 1, Duration::ZERO);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(cache.get(&"a"), Some((1, Duration::from_secs(40))));
        assert_eq!((cache.get(&"never"), cache.get(&"b")), (None, None));
        cache.insert("a", 2, Duration::from_secs(60));
        assert_eq!(cache.get(&"a"), Some((2, Duration::from_secs(60))));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_stays_and_the_number_is_bounded() {
        for limit in [0, 1, 2, 10, 11] {
            let cache = DnsCache::new(limit);
            for number in 0..1000 {
                cache.insert(number, number, Duration::from_secs(60));
                assert!(cache.len() <= limit, "{limit}: {}", cache.len());
                assert_eq!(cache.get(&0).is_some(), limit >= 2, "{limit} {number}");
            }
        }
    }
}
