//! Makes the index from what a directory holds, whatever was on its way when the process or the power went.
//!
//! The newest snapshot that proves itself is the start; what the log says after it is applied. Headers are verified
//! everywhere, payloads in what is applied. Of the batch with the highest number it cannot be known whether its sync
//! had returned: if any part of it is damaged it was not acknowledged, and it is dropped whole. Damage anywhere else is
//! corruption: reported, left where it is, and what stands behind it is read.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::id::QueueId;
use crate::storage::{Storage, StorageFile};

use super::content;
use super::effect::{Effect, MESSAGE_HEAD_OCTETS, MessageHead};
use super::format::{Kind, PAYLOAD_LIMIT_OCTETS, RECORD_HEADER_OCTETS};
use super::index::Index;
use super::log::{LOG, Resume, segment_epoch, segment_path};
use super::scan::{FoundBatch, Scan, Verify};
use super::segments::{Place, Use};
use super::snapshot;

/// What opening a spool found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Messages that are there.
    pub messages: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Batches that were read behind the snapshot.
    pub batches: u64,
    /// Whether a snapshot was used.
    pub used_snapshot: bool,
    /// Whether the last batch was unfinished; nothing in it was acknowledged.
    pub torn_tail: bool,
    /// Files that nothing refers to, removed.
    pub removed_files: u64,
    /// What is damaged: it was left where it is, and everything else was read.
    pub damage: Vec<Damage>,
}

/// A damaged part of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// Octets of a segment of the log that do not prove themselves.
    Log {
        /// The segment.
        epoch: u64,
        /// Where.
        octets: Range<u64>,
    },
    /// A record of this message that proves itself and cannot be read.
    Record {
        /// The message.
        id: QueueId,
    },
    /// The content file of this message is missing, or not what it was.
    Content {
        /// The message.
        id: QueueId,
    },
    /// A snapshot does not prove itself; an older one, or the whole log, was read instead.
    Snapshot,
    /// The log ends in front of this batch, which a snapshot knows: a segment is gone, or cut off.
    End {
        /// The batch.
        batch: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { epoch, octets } => {
                write!(f, "octets {} to {} of {}", octets.start, octets.end, segment_path(*epoch).display())
            }
            Self::Record { id } => write!(f, "a record of message {id}"),
            Self::Content { id } => write!(f, "the content of message {id}"),
            Self::Snapshot => f.write_str("a snapshot of the index"),
            Self::End { batch } => write!(f, "the end of the log, up to batch {batch}"),
        }
    }
}

/// What recovery made.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) resume: Resume,
    pub(super) report: RecoveryReport,
}

/// What recovery may do to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It cleans up.
    Repair,
    /// It only looks.
    Look,
}

struct Recovery<'a> {
    storage: &'a dyn Storage,
    access: Access,
    trusts_payloads: bool,
    index: Index,
    report: RecoveryReport,
    /// Batches up to this one are in the snapshot.
    covered: u64,
    last_batch: u64,
    /// Messages of which the snapshot knows a record behind the end of a segment.
    cut_off: Vec<QueueId>,
    /// The last batch so far, not yet applied because it might be the last of all.
    pending: Option<Pending>,
    active: Option<(u32, u64)>,
}

struct Pending {
    segment: u32,
    epoch: u64,
    batch: FoundBatch,
    effects: Vec<(QueueId, Option<Effect>, Place)>,
}

struct Found {
    number: u32,
    epoch: u64,
    file: Arc<dyn StorageFile>,
    octets: u64,
}

/// Reads the directory.
///
/// # Errors
/// What the system gave: nothing is concluded from a file that cannot be read now.
pub(super) fn recover(storage: &dyn Storage, access: Access, verify_all: bool, trusts: bool) -> io::Result<Recovered> {
    let mut recovery = Recovery {
        storage,
        access,
        trusts_payloads: trusts,
        index: Index::new(),
        report: RecoveryReport::default(),
        covered: 0,
        last_batch: 0,
        cut_off: Vec::new(),
        pending: None,
        active: None,
    };
    if access == Access::Repair {
        // A name that is seen need not be on stable storage, and one that is gone may come back: whoever was here before
        // may have been ended in front of this sync. What follows builds on names.
        storage.sync_directory(LOG.as_ref())?;
    }
    let segments = recovery.find_segments()?;
    if !verify_all {
        recovery.read_snapshot(&segments)?;
    }
    let spares = recovery.read_log(&segments)?;
    recovery.check_contents()?;
    recovery.index.recovered();
    if access == Access::Repair {
        snapshot::tidy(storage)?;
    }
    // A snapshot may remember a batch whose segment is used again by now: its number stays used.
    let last_saved = snapshot::list(storage)?.first().copied().unwrap_or(0);
    let next_batch = recovery.last_batch.max(recovery.covered).max(last_saved) + 1;
    let next_epoch = segments.iter().map(|segment| segment.epoch).max().unwrap_or(0) + 1;
    let resume = Resume { active: recovery.active, spares, next_epoch, next_batch };
    recovery.report.messages = recovery.index.message_count();
    recovery.report.segments = segments.len();
    Ok(Recovered { index: recovery.index, resume, report: recovery.report })
}

impl Recovery<'_> {
    fn find_segments(&mut self) -> io::Result<Vec<Found>> {
        let mut epochs: Vec<(u64, u64)> = Vec::new();
        for (name, octets) in self.storage.list(LOG.as_ref())? {
            if let Some(epoch) = segment_epoch(&name) {
                // Places in a segment are numbers of 32 bits.
                epochs.push((epoch, octets.min(u32::MAX.into())));
            }
        }
        epochs.sort_unstable();
        let there: BTreeSet<u64> = epochs.iter().map(|(epoch, _)| *epoch).collect();
        let mut found = Vec::with_capacity(epochs.len());
        for (epoch, octets) in epochs {
            let file = self.storage.open(&segment_path(epoch))?;
            // A rename that was not synced may have left both names of a segment that is used again.
            let mut header = [0; super::format::BATCH_HEADER_OCTETS];
            let read = file.read_at(0, &mut header)?;
            let was = super::format::BatchHeader::decode(&header[..read]).map_or(epoch, |header| header.epoch);
            // Two files that only begin alike are damaged, and stay.
            let is_other_name =
                was != epoch && there.contains(&was) && { are_same(&*file, &*self.storage.open(&segment_path(was))?)? };
            if self.access == Access::Repair && is_other_name {
                self.storage.remove(&segment_path(epoch))?;
                self.storage.sync_directory(LOG.as_ref())?;
                continue;
            }
            let number = self.index.segments.add(epoch, file.clone(), octets, Use::Spare);
            found.push(Found { number, epoch, file, octets });
        }
        Ok(found)
    }

    fn read_snapshot(&mut self, segments: &[Found]) -> io::Result<()> {
        for batch in snapshot::list(self.storage)? {
            let mut index = Index::new();
            for segment in segments {
                index.segments.add(segment.epoch, segment.file.clone(), segment.octets, Use::Spare);
            }
            let Some(saved) = snapshot::read(self.storage, batch, index)? else {
                self.report.damage.push(Damage::Snapshot);
                if self.access == Access::Repair {
                    // So that it does not count as one of those that are kept.
                    snapshot::remove(self.storage, batch)?;
                }
                continue;
            };
            self.index = saved.index;
            self.cut_off = saved.cut_off;
            self.covered = saved.batch;
            self.report.used_snapshot = true;
            return Ok(());
        }
        Ok(())
    }

    /// Applies the log. The segments in which nothing of their epoch stands.
    fn read_log(&mut self, segments: &[Found]) -> io::Result<Vec<u32>> {
        let mut void = Vec::new();
        for found in segments {
            let verify = if self.trusts_payloads { Verify::Nothing } else { Verify::After(self.covered) };
            let mut scan = Scan::new(found.file.clone(), found.octets, found.epoch, self.last_batch, verify);
            let mut is_void = true;
            while let Some(batch) = scan.next_batch()? {
                is_void = false;
                // A batch with a higher number follows, so the one before was synced.
                self.apply_pending();
                self.last_batch = self.last_batch.max(batch.number);
                let mut effects = Vec::new();
                if batch.number > self.covered {
                    self.report.batches += 1;
                    for record in batch.records.iter().filter(|record| record.header.batch > self.covered) {
                        let place = place_of(found.number, record.offset, record.header.extent());
                        effects.push((record.header.id, effect_of(&mut scan, record)?, place));
                    }
                }
                self.pending = Some(Pending { segment: found.number, epoch: found.epoch, batch, effects });
            }
            if is_void {
                void.push(found);
            } else {
                if let Some(segment) = self.index.segments.get_mut(found.number) {
                    segment.usage = Use::Written;
                }
                self.active = Some((found.number, scan.position()));
            }
        }
        self.finish_tail()?;
        if let Some((number, _)) = self.active
            && let Some(segment) = self.index.segments.get_mut(number)
        {
            segment.usage = Use::Active;
        }
        let ended = self.index.settle_moves().into_iter().map(|id| Damage::Record { id });
        self.report.damage.extend(ended);
        for id in std::mem::take(&mut self.cut_off) {
            // The log may have said everything again since.
            let Some(facts) = self.index.message(id) else { continue };
            let places = facts.pairs.iter().filter_map(|pair| pair.place).chain([facts.place]);
            if !places.into_iter().all(|place| self.index.segments.holds(place)) {
                self.index.set_damaged(id);
                self.report.damage.push(Damage::Record { id });
            }
        }
        if self.last_batch < self.covered {
            self.report.damage.push(Damage::End { batch: self.covered });
        }
        Ok(self.find_spares(&void))
    }

    /// Of the segments in which nothing was found, those that can be written to. Segments are written in the order of
    /// their epochs. One that is void though a later one is written, or that a snapshot knows records in, was not void
    /// once: written to now, it would make all that follows look old. It gets another epoch first.
    fn find_spares(&mut self, void: &[&Found]) -> Vec<u32> {
        let written = self.active.and_then(|(number, _)| self.index.segments.get(number)).map_or(0, |last| last.epoch);
        let mut spares = Vec::new();
        for found in void {
            let Some(segment) = self.index.segments.get_mut(found.number) else { continue };
            if found.epoch < written || segment.is_living() {
                segment.usage = Use::Written;
                self.report.damage.push(Damage::Log { epoch: found.epoch, octets: 0..found.octets });
                continue;
            }
            spares.push(found.number);
        }
        spares
    }

    fn apply_pending(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let epoch = pending.epoch;
        let damage = pending.batch.damage.into_iter().map(|octets| Damage::Log { epoch, octets });
        self.report.damage.extend(damage);
        for (id, effect, place) in pending.effects {
            match effect {
                // What removed a content file may not have been carried out: the file is found below.
                Some(effect) => drop(self.index.apply(id, &effect, place)),
                None => self.report.damage.push(Damage::Record { id }),
            }
        }
    }

    /// The batch with the highest number: whole, or never acknowledged.
    fn finish_tail(&mut self) -> io::Result<()> {
        // What a snapshot knows was synced, so its damage is not that of a batch that was on its way.
        let is_torn = self
            .pending
            .as_ref()
            .is_some_and(|pending| !pending.batch.damage.is_empty() && pending.batch.number > self.covered);
        if !is_torn {
            if let (Some(pending), Access::Repair, Some((_, end))) = (&self.pending, self.access, self.active)
                && let Some(segment) = self.index.segments.get(pending.segment)
            {
                // The process before may have ended between the write and the sync, or a failed sync may have forgotten
                // it: what is seen need not be on the disk.
                affirm(&*segment.file, pending.batch.offset, end)?;
            }
            self.apply_pending();
            return Ok(());
        }
        let Some(pending) = self.pending.take() else { return Ok(()) };
        self.report.torn_tail = true;
        self.active = Some((pending.segment, pending.batch.offset));
        if self.access == Access::Repair
            && let Some(segment) = self.index.segments.get(pending.segment)
        {
            // So that no later recovery takes what is left of it for damage in the middle of the log.
            erase(&*segment.file, pending.batch.offset, segment.octets)?;
        }
        Ok(())
    }

    /// The head of a message's record.
    fn head_at(&self, place: Place) -> io::Result<Option<MessageHead>> {
        let Some(segment) = self.index.segments.get(place.segment) else { return Ok(None) };
        let mut head = [0; MESSAGE_HEAD_OCTETS];
        let read = segment.file.read_at(u64::from(place.offset) + RECORD_HEADER_OCTETS as u64, &mut head)?;
        Ok(MessageHead::decode(&head[..read]))
    }

    /// Content files that no message refers to are what was on its way; a message without its file is damaged.
    fn check_contents(&mut self) -> io::Result<()> {
        let files: HashMap<String, u64> = self.storage.list(content::CONTENT.as_ref())?.into_iter().collect();
        let mut needed = BTreeSet::new();
        let mut damaged = Vec::new();
        for message in self.index.messages_after(None).filter(|message| message.is_in_file()) {
            let id = message.id();
            let name = id.to_string();
            // What is in it is verified when it is read; all of it where everything is to be verified.
            let is_whole = match (files.get(&name), self.head_at(message.place())?) {
                (None, _) => false,
                (Some(_), Some(head)) if self.access == Access::Look => {
                    content::open(self.storage, id, &head)?.is_some()
                }
                (Some(octets), Some(head)) => Some(*octets) == head.file_octets(),
                // Its record is damaged: that is found where it is read.
                (Some(_), None) => true,
            };
            if !is_whole {
                damaged.push(id);
            }
            needed.insert(name);
        }
        for id in damaged {
            self.index.set_damaged(id);
            self.report.damage.push(Damage::Content { id });
        }
        if self.access == Access::Look {
            return Ok(());
        }
        // Where a part of the log cannot be read, a file may belong to a message that stood there.
        if self.report.damage.is_empty() {
            for name in files.keys().filter(|name| !needed.contains(*name)) {
                self.storage.remove(&Path::new(content::CONTENT).join(name))?;
                self.report.removed_files += 1;
            }
        }
        for (name, _) in self.storage.list(content::INCOMING.as_ref())? {
            self.storage.remove(&Path::new(content::INCOMING).join(name))?;
            self.report.removed_files += 1;
        }
        Ok(())
    }
}

fn place_of(segment: u32, offset: u64, extent: u64) -> Place {
    // A segment is smaller than 4 GiB.
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Place { segment, offset: small(offset), octets: small(extent) }
}

fn effect_of(scan: &mut Scan, record: &super::scan::FoundRecord) -> io::Result<Option<Effect>> {
    let kind = record.header.kind;
    let limit = match kind {
        Kind::Message | Kind::ContentReference => {
            let head = scan.payload(record, MESSAGE_HEAD_OCTETS)?;
            let Some(head) = MessageHead::decode(head) else { return Ok(None) };
            head.facts_octets()
        }
        _ => PAYLOAD_LIMIT_OCTETS as usize,
    };
    Ok(Effect::decode(kind, scan.payload(record, limit)?))
}

/// Whether two files hold the same octets.
fn are_same(a: &dyn StorageFile, b: &dyn StorageFile) -> io::Result<bool> {
    let mut buffers = [vec![0; 256 << 10], vec![0; 256 << 10]];
    let mut place = 0;
    loop {
        let [left, right] = &mut buffers;
        let read = a.read_at(place, left)?;
        if b.read_at(place, right)? != read || left[..read] != right[..read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        place += read as u64;
    }
}

/// Writes a batch again as it is seen, and syncs it.
fn affirm(file: &dyn StorageFile, offset: u64, end: u64) -> io::Result<()> {
    let mut octets = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
    let read = file.read_at(offset, &mut octets)?;
    file.write_at(offset, &[IoSlice::new(&octets[..read])])?;
    file.sync()
}

/// Overwrites what is left of a batch with zeros.
fn erase(file: &dyn StorageFile, mut offset: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(256 << 10).min(256 << 10)];
    while offset < end {
        let octets = usize::try_from(end - offset).unwrap_or(zeros.len()).min(zeros.len());
        file.write_at(offset, &[IoSlice::new(&zeros[..octets])])?;
        offset += octets as u64;
    }
    file.sync()
}
