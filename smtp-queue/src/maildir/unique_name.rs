//! Names of files that nobody else uses, as the Maildir convention builds them: time, process, counter, host.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives each name once.
#[derive(Debug)]
pub(super) struct UniqueNames {
    counter: AtomicU64,
    /// Two hosts may share a name and a directory, and a process number returns after a restart.
    random: u64,
    hostname: String,
}

impl UniqueNames {
    pub(super) fn new(hostname: &str) -> Self {
        // The two characters that mean something in the name of a file of a Maildir.
        let hostname = hostname.replace('/', "\\057").replace(':', "\\072");
        Self { counter: AtomicU64::new(0), random: RandomState::new().hash_one(std::process::id()), hostname }
    }

    pub(super) fn next(&self) -> String {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros, process) = (time.as_secs(), time.subsec_micros(), std::process::id());
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{seconds}.M{micros:06}P{process}R{:016x}Q{number}.{}", self.random, self.hostname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_hold_neither_slash_nor_colon() {
        let (one, other) = (UniqueNames::new("a/b:c"), UniqueNames::new("a/b:c"));
        let names: std::collections::HashSet<_> = (0..1000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(names.len(), 2000);
        assert!(names.iter().all(|name| name.ends_with(".a\\057b\\072c") && !name.contains(['/', ':'])));
    }
}
