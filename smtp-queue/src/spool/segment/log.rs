//! Writes the log: one batch after another, each synced before the next is written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::{Storage, StorageFile};

use super::effect::NewRecord;
use super::format::{BATCH_HEADER_OCTETS, BatchHeader, NUMBER_LIMIT, RecordHeader, SECTOR_OCTETS, sector_ceil};
use super::index::Index;
use super::segments::{Place, Use};

/// The directory of the segments.
pub(super) const LOG: &str = "log";

/// The file of a segment.
pub(super) fn segment_path(epoch: u64) -> PathBuf {
    Path::new(LOG).join(format!("{epoch:016x}.segment"))
}

/// The epoch of a file of that name; `None` where it is not a name of ours.
pub(super) fn segment_epoch(name: &str) -> Option<u64> {
    let epoch = u64::from_str_radix(name.strip_suffix(".segment")?, 16).ok()?;
    // There are other ways to write the number, and they name other files.
    (epoch < NUMBER_LIMIT && segment_path(epoch).ends_with(name)).then_some(epoch)
}

/// What fills a batch up to the next sector.
const PADDING: [u8; 512] = [0; 512];

/// Segments that are kept ready: one to go on in, and one that only outcomes and removals may use, so that a full disk
/// can become empty again.
const SPARES: usize = 2;

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// There is no room; nothing was changed.
    Full(Option<io::Error>),
    /// It is not known what is on the disk.
    Failed { action: &'static str, cause: io::Error },
}

impl WriteError {
    /// What the system said.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Full(cause) => cause.unwrap_or_else(|| io::ErrorKind::StorageFull.into()),
            Self::Failed { cause, .. } => cause,
        }
    }
}

/// The writing end of the log. It has one owner: the committer.
#[derive(Debug)]
pub(super) struct Log {
    storage: Arc<dyn Storage>,
    segment_octets: u64,
    reserve_octets: u64,
    active: Option<Active>,
    /// Ready segments, by epoch.
    spares: VecDeque<u32>,
    next_epoch: u64,
    next_batch: u64,
    /// Octets written since this was opened.
    written_octets: u64,
    skips_directory_sync: bool,
}

#[derive(Debug)]
struct Active {
    number: u32,
    epoch: u64,
    file: Arc<dyn StorageFile>,
    position: u64,
    octets: u64,
}

/// Where a log goes on.
#[derive(Debug)]
pub(super) struct Resume {
    /// The segment that was written last, and where.
    pub(super) active: Option<(u32, u64)>,
    pub(super) spares: Vec<u32>,
    pub(super) next_epoch: u64,
    pub(super) next_batch: u64,
}

impl Log {
    pub(super) fn new(storage: Arc<dyn Storage>, sizes: (u64, u64), resume: Resume, index: &Index) -> Self {
        let (segment_octets, reserve_octets) = sizes;
        let active = resume.active.and_then(|(number, position)| {
            let segment = index.segments.get(number)?;
            Some(Active { number, epoch: segment.epoch, file: segment.file.clone(), position, octets: segment.octets })
        });
        Self {
            storage,
            segment_octets,
            reserve_octets,
            active,
            spares: resume.spares.into(),
            next_epoch: resume.next_epoch,
            next_batch: resume.next_batch,
            written_octets: 0,
            skips_directory_sync: false,
        }
    }

    pub(super) fn skip_directory_sync(&mut self) {
        self.skips_directory_sync = true;
    }

    /// The segment that was written last.
    pub(super) fn active_segment(&self) -> Option<u32> {
        self.active.as_ref().map(|active| active.number)
    }

    pub(super) fn segment_octets(&self) -> u64 {
        self.segment_octets
    }

    pub(super) fn written_octets(&self) -> u64 {
        self.written_octets
    }

    /// The number of the last batch that is durable.
    pub(super) fn last_batch(&self) -> u64 {
        self.next_batch - 1
    }

    /// Octets that messages can still take without a new segment; `None` where even the last spare is in use.
    pub(super) fn free_octets(&self) -> Option<u64> {
        let spares = self.spares.len().checked_sub(1)? as u64;
        let active = self.active.as_ref().map_or(0, |active| active.octets.saturating_sub(active.position));
        Some(active + spares * self.segment_octets)
    }

    /// Whether a segment should be made ready.
    pub(super) fn needs_segments(&self) -> bool {
        self.spares.len() < SPARES
    }

    /// How many octets records of that extent take in the log.
    pub(super) fn batch_octets(extents: u64) -> u64 {
        sector_ceil(BATCH_HEADER_OCTETS as u64 + extents)
    }

    /// Whether a batch of that length can be written now. Messages may not use the last spare segment.
    pub(super) fn has_room(&self, octets: u64, holds_messages: bool) -> bool {
        let fits = self.active.as_ref().is_some_and(|active| active.position + octets <= active.octets);
        let needed = usize::from(!fits) + usize::from(holds_messages);
        octets <= self.segment_octets && self.spares.len() >= needed
    }

    /// Makes segments ready. What is not needed any more is used again, otherwise a new one is made. Failing is no
    /// error: there may be room later.
    pub(super) fn prepare(&mut self, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        while self.spares.len() < SPARES {
            let recyclable = {
                let index = super::lock(index);
                index.segments.recyclable().and_then(|number| Some((number, index.segments.get(number)?.octets)))
            };
            match recyclable {
                Some((number, octets)) if octets >= self.segment_octets => self.recycle(number, index)?,
                // It was cut off, or made when segments were smaller: a batch might not fit.
                Some(_) => self.shrink(index)?,
                None if self.may_grow() => match self.create(index) {
                    Ok(()) => {}
                    Err(WriteError::Full(_)) => return Ok(()),
                    Err(error) => return Err(error),
                },
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes out ready segments that are shorter than they should be: of a start that a crash ended, or of other settings.
    pub(super) fn drop_short_spares(&mut self, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        let (good, short): (VecDeque<u32>, VecDeque<u32>) = {
            let index = super::lock(index);
            let octets = |number: &u32| index.segments.get(*number).map_or(0, |segment| segment.octets);
            self.spares.iter().partition(|number| octets(number) >= self.segment_octets)
        };
        self.spares = good;
        short.into_iter().try_for_each(|number| self.remove_segment(number, index))
    }

    /// Whether there is room for another segment.
    pub(super) fn may_grow(&self) -> bool {
        // The first segments are made whatever the reserve is: without them nothing works.
        let is_first = self.spares.len() + usize::from(self.active.is_some()) < SPARES;
        self.storage.space().is_ok_and(|space| {
            let reserve = if is_first { 0 } else { self.reserve_octets };
            space.free_octets >= reserve.saturating_add(self.segment_octets) && space.free_inodes != Some(0)
        })
    }

    fn recycle(&mut self, number: u32, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        let old = super::lock(index).segments.get(number).map(|segment| segment.epoch);
        let Some(old) = old else { return Ok(()) };
        let epoch = self.next_epoch;
        let failed = |action| move |cause| WriteError::Failed { action, cause };
        self.storage.rename(&segment_path(old), &segment_path(epoch)).map_err(failed("rename a segment"))?;
        self.sync_directory()?;
        self.next_epoch += 1;
        super::lock(index).segments.recycle(number, epoch);
        self.spares.push_back(number);
        Ok(())
    }

    fn create(&mut self, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        let epoch = self.next_epoch;
        let path = segment_path(epoch);
        let made = self.storage.create(&path).and_then(|file| {
            file.allocate(self.segment_octets)?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(cause) => {
                // A file that is too short is found and removed at the next start, if it cannot be now.
                let _ = self.storage.remove(&path);
                self.next_epoch += 1;
                return Err(WriteError::Full(Some(cause)));
            }
        };
        file.sync().map_err(|cause| WriteError::Failed { action: "sync a new segment", cause })?;
        self.sync_directory()?;
        self.next_epoch += 1;
        self.spares.push_back(super::lock(index).segments.add(epoch, file, self.segment_octets, Use::Spare));
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), WriteError> {
        if self.skips_directory_sync {
            return Ok(());
        }
        let synced = self.storage.sync_directory(LOG.as_ref());
        synced.map_err(|cause| WriteError::Failed { action: "sync the directory of the log", cause })
    }

    /// Removes a segment that says nothing any more.
    pub(super) fn shrink(&mut self, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        let recyclable = super::lock(index).segments.recyclable();
        recyclable.map_or(Ok(()), |number| self.remove_segment(number, index))
    }

    fn remove_segment(&mut self, number: u32, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        let epoch = super::lock(index).segments.get(number).map(|segment| segment.epoch);
        let Some(epoch) = epoch else { return Ok(()) };
        let removed = self.storage.remove(&segment_path(epoch));
        removed.map_err(|cause| WriteError::Failed { action: "remove a segment", cause })?;
        // Until the directory is synced its records may be read again, so what buries them stays.
        self.sync_directory()?;
        let segment = super::lock(index).segments.remove(number);
        // With its last handle its space is given back, which takes time.
        drop(segment);
        Ok(())
    }

    /// Writes a batch and syncs it. Where each record stands.
    pub(super) fn write(
        &mut self,
        records: &[NewRecord],
        index: &std::sync::Mutex<Index>,
        sync: bool,
    ) -> Result<Vec<Place>, WriteError> {
        let extents = records.iter().map(NewRecord::extent).sum();
        let length = Self::batch_octets(extents);
        self.make_way(length, index)?;
        let active = self.active.as_mut().ok_or(WriteError::Full(None))?;
        let number = self.next_batch;
        let octets = u32::try_from(extents).map_err(|_| WriteError::Full(None))?;
        let count = u32::try_from(records.len()).map_err(|_| WriteError::Full(None))?;
        let sector = u32::try_from(active.position / SECTOR_OCTETS).expect("a segment is smaller than 4 GiB");
        let header = BatchHeader { epoch: active.epoch, number, octets, records: count, sector }.encode();
        let mut offset = active.position + BATCH_HEADER_OCTETS as u64;
        let mut places = Vec::with_capacity(records.len());
        let mut headers = Vec::with_capacity(records.len());
        for record in records {
            let header = RecordHeader {
                kind: record.kind,
                octets: record.octets,
                id: record.id,
                epoch: active.epoch,
                batch: number,
                payload_sum: record.payload_sum,
            };
            headers.push(header.encode());
            let octets = u32::try_from(record.extent()).expect("a record is smaller than a segment");
            let place = u32::try_from(offset).expect("a segment is smaller than 4 GiB");
            places.push(Place { segment: active.number, offset: place, octets });
            offset += record.extent();
        }
        let mut slices = Vec::with_capacity(2 + records.len() * 4);
        slices.push(IoSlice::new(&header));
        for (record, header) in records.iter().zip(&headers) {
            slices.push(IoSlice::new(header));
            slices.extend(record.parts.iter().map(|part| IoSlice::new(part)));
        }
        let used = BATCH_HEADER_OCTETS as u64 + extents;
        slices.push(IoSlice::new(&PADDING[..usize::try_from(length - used).expect("less than a sector")]));
        // Whatever becomes of it, this number is used: what a failed write left behind never passes for a later batch.
        self.next_batch += 1;
        match active.file.write_at(active.position, &slices) {
            Ok(()) => {}
            Err(cause) if is_full(&cause) => return Err(WriteError::Full(Some(cause))),
            Err(cause) => return Err(WriteError::Failed { action: "write to the log", cause }),
        }
        if sync {
            active.file.sync().map_err(|cause| WriteError::Failed { action: "sync the log", cause })?;
        }
        active.position += length;
        self.written_octets += length;
        Ok(places)
    }

    /// Sees to it that the active segment has room.
    fn make_way(&mut self, octets: u64, index: &std::sync::Mutex<Index>) -> Result<(), WriteError> {
        if self.active.as_ref().is_some_and(|active| active.position + octets <= active.octets) {
            return Ok(());
        }
        if self.spares.is_empty() {
            self.prepare(index)?;
        }
        let mut index = super::lock(index);
        let number = self.spares.pop_front().ok_or(WriteError::Full(None))?;
        if let Some(segment) = self.active.take().and_then(|active| index.segments.get_mut(active.number)) {
            segment.usage = Use::Written;
        }
        let segment = index.segments.get_mut(number).ok_or(WriteError::Full(None))?;
        segment.usage = Use::Active;
        let (epoch, octets) = (segment.epoch, segment.octets);
        self.active = Some(Active { number, epoch, file: segment.file.clone(), position: 0, octets });
        Ok(())
    }
}

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero)
}
