//! A state store in memory: for tests, and where a restart may forget.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use smtp_core::async_trait;

use super::entries::{Entries, StateLimits};
use super::{Changing, StateError, StateStore};

/// Remembers until the process ends.
#[derive(Debug, Default)]
pub struct MemoryStateStore {
    entries: Mutex<Entries>,
}

impl MemoryStateStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with other limits.
    pub fn with_limits(limits: StateLimits) -> Self {
        Self { entries: Mutex::new(Entries::new(limits)) }
    }

    /// A panic of a change leaves the entries whole, so a poisoned lock is as good as another.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for MemoryStateStore {
    async fn get(&self, table: &str, key: &[u8], now: SystemTime) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.entries().get(table, key, now).map(<[u8]>::to_vec))
    }

    async fn update(
        &self,
        table: &str,
        key: &[u8],
        now: SystemTime,
        change: &mut Changing<'_>,
    ) -> Result<(), StateError> {
        self.entries().update(table, key, now, change, |_| {})
    }
}
