//! The sizes of a segmented spool, and what it reports.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use crate::id::QueueId;
use crate::storage::Space;

use super::format::NUMBER_LIMIT;

/// Is told of alarms.
pub type AlarmFn = Arc<dyn Fn(&SpoolAlarm) + Send + Sync>;

/// Half of what an epoch can be: all segments of a lifetime come behind the first.
const FIRST_EPOCH_LIMIT: u64 = NUMBER_LIMIT / 2;

/// Sizes and limits of a [`SegmentSpool`](super::SegmentSpool).
#[derive(Clone)]
#[non_exhaustive]
pub struct SegmentSettings {
    /// Octets of a segment of the log, a multiple of 4,096, at most 1 GiB. Default: 32 MiB, on small file systems a 32nd
    /// of them, at least 1 MiB.
    pub segment_octets: Option<u64>,
    /// Octets of a message up to which its content is kept in the log: 256 KiB, at most an eighth of a segment. What is
    /// larger has a file of its own.
    pub content_octets: u64,
    /// Octets that the committer gathers for one write: 1 MiB.
    pub batch_octets: u64,
    /// Octets written to the log between two snapshots of the index: 256 MiB, or twenty times the last snapshot where
    /// that is more.
    pub snapshot_octets: u64,
    /// Octets that stay free on the file system: new messages are refused with `452 4.3.1` when there would be less.
    /// Default: 64 MiB, on small file systems a 16th of them.
    pub reserve_octets: Option<u64>,
    /// Files that can still be made: below that new messages are refused. Default: 64.
    pub reserve_inodes: u64,
    /// Segments that are kept for later though nothing in them is needed: 16. More are removed from the disk, one at a
    /// time. As many of which at most a tenth is needed are left as they are while there is room.
    pub kept_segments: usize,
    /// The epoch of the first segment of a new spool, below 2^61. Default: random, so that nobody can send content that
    /// would pass for records, should it be left behind in a segment that is used again.
    pub first_epoch: Option<u64>,
    /// Is told what an operator must know. It must not block.
    pub alarm: Option<AlarmFn>,
    #[cfg(feature = "simulation")]
    /// Faults that tests must find.
    pub faults: Faults,
}

impl Default for SegmentSettings {
    fn default() -> Self {
        Self {
            segment_octets: None,
            content_octets: 256 << 10,
            batch_octets: 1 << 20,
            snapshot_octets: 256 << 20,
            reserve_octets: None,
            reserve_inodes: 64,
            kept_segments: 16,
            first_epoch: None,
            alarm: None,
            #[cfg(feature = "simulation")]
            faults: Faults::default(),
        }
    }
}

impl SegmentSettings {
    pub(super) fn segment_octets(&self, space: &Space) -> u64 {
        let wanted = self.segment_octets.unwrap_or_else(|| (space.total_octets / 32).clamp(1 << 20, 32 << 20));
        // Places in a segment are numbers of 32 bits.
        (wanted.min(1 << 30) / 4096).max(1) * 4096
    }

    pub(super) fn reserve_octets(&self, space: &Space) -> u64 {
        self.reserve_octets.unwrap_or_else(|| (space.total_octets / 16).min(64 << 20))
    }

    pub(super) fn first_epoch(&self) -> u64 {
        // The keys of a hash table are made from what the system knows of chance.
        let random = || RandomState::new().hash_one(()) % FIRST_EPOCH_LIMIT;
        self.first_epoch.unwrap_or_else(random).clamp(1, FIRST_EPOCH_LIMIT - 1)
    }

    pub(super) fn alarm(&self, alarm: &SpoolAlarm) {
        if let Some(tell) = &self.alarm {
            tell(alarm);
        }
    }

    #[cfg(feature = "simulation")]
    pub(super) fn faults(&self) -> Faults {
        self.faults
    }

    #[cfg(not(feature = "simulation"))]
    #[expect(clippy::unused_self, reason = "with simulation there are faults")]
    pub(super) fn faults(&self) -> Faults {
        Faults::default()
    }
}

impl fmt::Debug for SegmentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentSettings")
            .field("segment_octets", &self.segment_octets)
            .field("content_octets", &self.content_octets)
            .field("batch_octets", &self.batch_octets)
            .field("snapshot_octets", &self.snapshot_octets)
            .finish_non_exhaustive()
    }
}

/// What an operator must know of a spool.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SpoolAlarm {
    /// A write or a sync failed: nothing is taken and nothing recorded until a restart (STANDARDS.md C7).
    ReadOnly {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A snapshot could not be written; a restart will take longer.
    SnapshotFailed {
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// A message cannot be read; it stays where it is, set aside.
    Damaged {
        /// Which.
        id: QueueId,
    },
    /// A file that is not needed any more could not be removed; the next start removes it.
    NotRemoved {
        /// Of which message.
        id: QueueId,
        /// What the system said.
        cause: Arc<io::Error>,
    },
}

/// Faults planted for tests of tests: each must be found by the power-loss simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
#[cfg_attr(not(feature = "simulation"), allow(unreachable_pub, reason = "public with the feature"))]
pub struct Faults {
    /// Answers before the sync.
    pub acknowledges_before_sync: bool,
    /// Uses a segment again before the sync of what was relocated out of it.
    pub recycles_before_relocation_is_synced: bool,
    /// Uses a segment again although it says that readable messages are gone.
    pub drops_removals_early: bool,
    /// Believes payloads at recovery without looking at their checksum.
    pub trusts_stale_payloads: bool,
    /// Writes no record of a removal.
    pub forgets_removals: bool,
    /// Counts a new segment although its name is not durable.
    pub skips_directory_sync: bool,
}
