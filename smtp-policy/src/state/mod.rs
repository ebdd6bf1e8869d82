//! What checks remember from one session to the next: octets by table and key, each with an end.
//!
//! State is advice. A store that fails makes nobody wait and refuses nobody; what was set in the last second may be lost.
//! Time is an argument, so a store reads no clock.

pub mod contract;
mod entries;
mod file;
mod log;
mod memory;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use smtp_core::async_trait;
use thiserror::Error;

pub use entries::StateLimits;
pub use file::FileStateStore;
pub use memory::MemoryStateStore;

/// The most octets of the name of a table: 64.
pub const STATE_TABLE_LIMIT_OCTETS: usize = 64;
/// The most octets of a key: 1,024.
pub const STATE_KEY_LIMIT_OCTETS: usize = 1024;
/// The most octets of a value: 128 KiB.
pub const STATE_VALUE_LIMIT_OCTETS: usize = 128 * 1024;

/// What happens to a value. See [`StateStore::update`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// It is forgotten.
    Remove,
    /// It is another one.
    Set {
        /// The octets.
        value: Vec<u8>,
        /// From then on there is none. To the millisecond.
        expires: SystemTime,
    },
}

/// Sees the value that is there and says what happens to it. It may be called again, where another was faster: only what the
/// last call said counts.
pub type Changing<'a> = dyn for<'value> FnMut(Option<&'value [u8]>) -> Change + Send + 'a;

/// Where checks keep what they remember.
///
/// A backend passes [`check_state_store`](contract::check_state_store). It is bounded: where it is full, it forgets what expires
/// first. One in memory is [`MemoryStateStore`], one that survives a restart is [`FileStateStore`]; one that several hosts share
/// is another implementation of this trait.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use smtp_policy::{Change, MemoryStateStore, StateError, StateStore};
///
/// /// Counts, for an hour from the last time on.
/// async fn count(store: &dyn StateStore, what: &[u8], now: SystemTime) -> Result<u8, StateError> {
///     let mut counted = 0;
///     let mut add = |value: Option<&[u8]>| {
///         counted = value.and_then(|value| value.first().copied()).unwrap_or(0).saturating_add(1);
///         Change::Set { value: vec![counted], expires: now + Duration::from_secs(3600) }
///     };
///     store.update("counts", what, now, &mut add).await?;
///     Ok(counted)
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStateStore::new();
/// assert_eq!(count(&store, b"a", SystemTime::UNIX_EPOCH).await.unwrap(), 1);
/// assert_eq!(count(&store, b"a", SystemTime::UNIX_EPOCH).await.unwrap(), 2);
/// # });
/// ```
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The value, where there is one that has not expired.
    ///
    /// # Errors
    /// [`StateError`]. The caller does without.
    async fn get(&self, table: &str, key: &[u8], now: SystemTime) -> Result<Option<Vec<u8>>, StateError>;

    /// Reads and changes a value, with nobody in between. A value that has expired is not there. It returns before the change
    /// is durable.
    ///
    /// # Errors
    /// [`StateError`]. Then nothing was changed, as far as is known.
    async fn update(
        &self,
        table: &str,
        key: &[u8],
        now: SystemTime,
        change: &mut Changing<'_>,
    ) -> Result<(), StateError>;
}

#[async_trait]
impl<S: StateStore + ?Sized> StateStore for Arc<S> {
    async fn get(&self, table: &str, key: &[u8], now: SystemTime) -> Result<Option<Vec<u8>>, StateError> {
        (**self).get(table, key, now).await
    }

    async fn update(
        &self,
        table: &str,
        key: &[u8],
        now: SystemTime,
        change: &mut Changing<'_>,
    ) -> Result<(), StateError> {
        (**self).update(table, key, now, change).await
    }
}

/// A store did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// It does not answer.
    #[error("the state store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The name of the table, the key or the value has too many octets, or there are too many tables.
    #[error("too many octets, or too many tables")]
    TooLarge,
    /// Another process, or another part of this one, has the directory.
    #[error("{0} is in use")]
    InUse(PathBuf),
    /// The file was not written by a [`FileStateStore`] of this form. It is left alone.
    #[error("{0} is something else than state")]
    Foreign(PathBuf),
}

impl StateError {
    /// From the cause.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Whether the same may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::InUse(_))
    }
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        Self::unavailable(error)
    }
}

/// A hash of what somebody is known by: 16 octets, however long that is, and the store keeps no addresses of people.
pub(crate) fn short_key(known_by: &str) -> Vec<u8> {
    Sha256::digest(known_by)[..16].to_vec()
}
