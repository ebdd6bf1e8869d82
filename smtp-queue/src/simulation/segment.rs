//! The embedded spool as a subject.

use std::sync::Arc;

use fastrand::Rng;

use super::run::{Opened, Subject};
use crate::spool::segment::{SegmentSettings, SegmentSpool};
use crate::storage::SimStorage;

impl Subject for SegmentSettings {
    type Spool = SegmentSpool;

    fn open(&self, storage: &SimStorage) -> Result<Opened<SegmentSpool>, String> {
        let opened = SegmentSpool::open_manual(Arc::new(storage.clone()), self.clone());
        let (spool, report) = opened.map_err(|error| format!("it does not open: {error:?}"))?;
        Ok(Opened { spool: Arc::new(spool), damaged: report.damage.iter().map(ToString::to_string).collect() })
    }

    fn step(&self, spool: &SegmentSpool) -> bool {
        spool.commit_step()
    }

    fn newest_snapshot(&self, files: &[(String, u64)]) -> Option<String> {
        files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".snapshot")).max().cloned()
    }
}

/// Settings of a spool so small that a simulation reaches everything in it within a few turns; the sizes depend on a
/// seed.
pub fn small_spool(seed: u64) -> SegmentSettings {
    let mut random = Rng::with_seed(seed ^ 0x5eed);
    SegmentSettings {
        segment_octets: Some(if random.u8(..3) == 0 { 16 << 10 } else { 8 << 10 }),
        batch_octets: random.u64(1 << 10..6 << 10),
        snapshot_octets: random.u64(4 << 10..40 << 10),
        kept_segments: random.usize(..4),
        reserve_octets: Some(0),
        reserve_inodes: 0,
        first_epoch: Some(1),
        ..SegmentSettings::default()
    }
}
