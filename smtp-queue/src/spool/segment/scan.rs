//! Reads what a segment says, and finds its way again behind what is damaged.
//!
//! A batch is found where the one before it ends. Where there is none, the next one that proves itself is looked for at
//! each sector, and between them records that prove themselves: those of a batch whose header is damaged.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::StorageFile;

use super::format::{
    BATCH_HEADER_OCTETS, BatchHeader, RECORD_HEADER_OCTETS, RecordHeader, SECTOR_OCTETS, payload_sum, sector_ceil,
};

/// Octets that are read at once.
const WINDOW_OCTETS: usize = 64 << 10;

/// A record whose header proves itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundRecord {
    pub(super) header: RecordHeader,
    pub(super) offset: u64,
}

/// The records of a batch, as far as they prove themselves.
#[derive(Debug)]
pub(super) struct FoundBatch {
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) records: Vec<FoundRecord>,
    /// What does not prove itself.
    pub(super) damage: Vec<Range<u64>>,
}

/// Which payloads are checked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verify {
    /// Those of batches with a higher number.
    After(u64),
    /// All.
    All,
    /// None: they are believed.
    Nothing,
}

impl Verify {
    fn includes(self, batch: u64) -> bool {
        match self {
            Self::After(number) => batch > number,
            Self::All => true,
            Self::Nothing => false,
        }
    }
}

/// Reads a file through a window.
pub(super) struct Window {
    file: Arc<dyn StorageFile>,
    octets: Vec<u8>,
    start: u64,
    /// How long the file is.
    end: u64,
}

impl Window {
    pub(super) fn new(file: Arc<dyn StorageFile>, end: u64) -> Self {
        Self { file, octets: Vec::new(), start: 0, end }
    }

    /// Octets from that place on: as many as asked for, fewer only at the end of the file.
    pub(super) fn get(&mut self, offset: u64, octets: usize) -> io::Result<&[u8]> {
        let end = offset + octets as u64;
        if offset < self.start || end > self.start + self.octets.len() as u64 {
            let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(WINDOW_OCTETS);
            let wanted = octets.max(WINDOW_OCTETS.min(left));
            self.octets.resize(wanted, 0);
            let read = self.file.read_at(offset, &mut self.octets)?;
            self.octets.truncate(read);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).expect("within the window");
        Ok(&self.octets[from..self.octets.len().min(from + octets)])
    }
}

/// A walk through a segment.
pub(super) struct Scan {
    window: Window,
    octets: u64,
    epoch: u64,
    verify: Verify,
    /// The number of the batch before.
    last: u64,
    position: u64,
}

impl Scan {
    /// Of a segment of that length, behind a batch of that number.
    pub(super) fn new(file: Arc<dyn StorageFile>, octets: u64, epoch: u64, last: u64, verify: Verify) -> Self {
        Self { window: Window::new(file, octets), octets, epoch, verify, last, position: 0 }
    }

    /// Where the last batch ended.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch; `None` behind the last one.
    ///
    /// # Errors
    /// What reading gave.
    pub(super) fn next_batch(&mut self) -> io::Result<Option<FoundBatch>> {
        let start = self.position;
        if let Some(header) = self.batch_at(start)? {
            return self.whole_batch(header, start).map(Some);
        }
        // Either this is the end of what was written, or something is damaged.
        let next = self.find_batch(sector_ceil(start + 1))?;
        let end = next.unwrap_or(self.octets);
        let records = self.find_records(start..end, |header, last| header.batch > last)?;
        match (records.first(), next) {
            (None, None) => Ok(None),
            // A batch without a header; what else lies there is found on the next call.
            (Some(first), _) => {
                let number = first.header.batch;
                let records: Vec<_> = records.into_iter().take_while(|record| record.header.batch == number).collect();
                let last = records.last().map_or(start, |record| record.offset + record.header.extent());
                self.last = number;
                self.position = sector_ceil(last).min(end);
                let damage = one(start..self.position);
                Ok(Some(FoundBatch { number, offset: start, records, damage }))
            }
            (None, Some(next)) => {
                self.position = next;
                let number = self.last;
                Ok(Some(FoundBatch { number, offset: start, records: Vec::new(), damage: one(start..next) }))
            }
        }
    }

    fn batch_at(&mut self, offset: u64) -> io::Result<Option<BatchHeader>> {
        if offset + BATCH_HEADER_OCTETS as u64 > self.octets {
            return Ok(None);
        }
        let header = BatchHeader::decode(self.window.get(offset, BATCH_HEADER_OCTETS)?);
        let (epoch, last, octets) = (self.epoch, self.last, self.octets);
        let fits =
            |header: &BatchHeader| header.epoch == epoch && header.number > last && offset + header.extent() <= octets;
        Ok(header.filter(fits))
    }

    fn find_batch(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        while offset < self.octets {
            if self.batch_at(offset)?.is_some() {
                return Ok(Some(offset));
            }
            offset += SECTOR_OCTETS;
        }
        Ok(None)
    }

    fn whole_batch(&mut self, batch: BatchHeader, offset: u64) -> io::Result<FoundBatch> {
        let mut found = FoundBatch { number: batch.number, offset, records: Vec::new(), damage: Vec::new() };
        let mut place = offset + BATCH_HEADER_OCTETS as u64;
        let end = place + u64::from(batch.octets);
        let mut count = 0;
        while place < end {
            let Some(header) = self.record_at(place, end)?.filter(|header| header.batch == batch.number) else {
                let is_ours = |header: &RecordHeader, _| header.batch == batch.number;
                let next = self.find_records(place + 1..end, is_ours)?.first().map_or(end, |next| next.offset);
                found.damage.push(place..next);
                place = next;
                continue;
            };
            count += 1;
            let behind = place + header.extent();
            if !self.verify.includes(batch.number) || self.payload_is_whole(&header, place)? {
                found.records.push(FoundRecord { header, offset: place });
            } else {
                found.damage.push(place..behind);
            }
            place = behind;
        }
        if count != batch.records && found.damage.is_empty() {
            found.damage.push(offset..end);
        }
        self.last = batch.number;
        self.position = offset + batch.extent();
        Ok(found)
    }

    fn record_at(&mut self, offset: u64, end: u64) -> io::Result<Option<RecordHeader>> {
        if offset + RECORD_HEADER_OCTETS as u64 > end {
            return Ok(None);
        }
        let header = RecordHeader::decode(self.window.get(offset, RECORD_HEADER_OCTETS)?);
        let epoch = self.epoch;
        Ok(header.filter(|header| header.epoch == epoch && offset + header.extent() <= end))
    }

    /// Records with a whole payload, wherever they begin. Used where something is damaged.
    fn find_records(
        &mut self,
        range: Range<u64>,
        wanted: impl Fn(&RecordHeader, u64) -> bool,
    ) -> io::Result<Vec<FoundRecord>> {
        let mut found = Vec::new();
        let mut place = range.start;
        while place + RECORD_HEADER_OCTETS as u64 <= range.end {
            let step = self.window.get(place, RECORD_HEADER_OCTETS)?;
            // Most octets cannot begin a record; unwritten ones are zero.
            if step[..2] != RecordHeader::MAGIC {
                let rest = usize::try_from(range.end - place).unwrap_or(usize::MAX).min(WINDOW_OCTETS);
                let rest = self.window.get(place + 1, rest)?;
                let skip = memchr::memmem::find(rest, &RecordHeader::MAGIC).unwrap_or(rest.len().saturating_sub(1));
                place += 1 + skip.max(if rest.len() < 2 { RECORD_HEADER_OCTETS } else { 0 }) as u64;
                continue;
            }
            match self.record_at(place, range.end)?.filter(|header| wanted(header, self.last)) {
                Some(header) if self.payload_is_whole(&header, place)? => {
                    found.push(FoundRecord { header, offset: place });
                    place += header.extent();
                }
                _ => place += 1,
            }
        }
        Ok(found)
    }

    fn payload_is_whole(&mut self, header: &RecordHeader, offset: u64) -> io::Result<bool> {
        let payload = self.window.get(offset + RECORD_HEADER_OCTETS as u64, header.octets as usize)?;
        Ok(payload.len() == header.octets as usize && payload_sum([payload]) == header.payload_sum)
    }

    /// The first octets of the payload of a record, at most so many.
    pub(super) fn payload(&mut self, record: &FoundRecord, limit_octets: usize) -> io::Result<&[u8]> {
        let octets = limit_octets.min(record.header.octets as usize);
        self.window.get(record.offset + RECORD_HEADER_OCTETS as u64, octets)
    }
}

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}
