//! Reads what a segment says, and finds its way again behind what is damaged.
//!
//! A batch is found where the one before it ends. Where there is none, the next one that proves itself is looked for at
//! each sector, and between them records that prove themselves: those of a batch whose header is damaged.

use std::collections::{BTreeMap, VecDeque};
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
        let known = self.known(offset);
        Ok(&known[..known.len().min(octets)])
    }

    /// All octets that are in memory from that place on, and at least as many as asked for; fewer only at the end of the
    /// file.
    fn at_least(&mut self, offset: u64, octets: usize) -> io::Result<&[u8]> {
        self.get(offset, octets)?;
        Ok(self.known(offset))
    }

    fn known(&self, offset: u64) -> &[u8] {
        let from = usize::try_from(offset - self.start).expect("within the window");
        &self.octets[from..]
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
    /// Batches whose headers are damaged, found and not yet given.
    headless: VecDeque<FoundBatch>,
}

impl Scan {
    /// Of a segment of that length, behind a batch of that number.
    pub(super) fn new(file: Arc<dyn StorageFile>, octets: u64, epoch: u64, last: u64, verify: Verify) -> Self {
        let window = Window::new(file, octets);
        Self { window, octets, epoch, verify, last, position: 0, headless: VecDeque::new() }
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
        if let Some(found) = self.headless.pop_front() {
            return Ok(Some(found));
        }
        let start = self.position;
        if let Some(header) = self.batch_at(start)? {
            return self.whole_batch(header, start).map(Some);
        }
        if self.is_unwritten(start)? {
            return Ok(None);
        }
        // Either this is the end of what was written, or something is damaged.
        let next = self.find_batch(sector_ceil(start + 1))?;
        let (end, below) = next.unwrap_or((self.octets, u64::MAX));
        self.find_headless(start..end, below)?;
        if let Some(found) = self.headless.pop_front() {
            if let Some((next, _)) = next {
                self.position = next;
            }
            return Ok(Some(found));
        }
        let Some((next, _)) = next else { return Ok(None) };
        self.position = next;
        let number = self.last;
        Ok(Some(FoundBatch { number, offset: start, records: Vec::new(), damage: one(start..next) }))
    }

    /// Whether nothing was ever written from there on: most segments end so, and need not be searched twice.
    fn is_unwritten(&mut self, mut offset: u64) -> io::Result<bool> {
        while offset < self.octets {
            let near = self.window.at_least(offset, 1)?;
            // All of them, which is quicker than to stop at the first.
            if near.is_empty() || near.iter().fold(0, |all, octet| all | octet) != 0 {
                return Ok(false);
            }
            offset += near.len() as u64;
        }
        Ok(true)
    }

    /// Finds the batches in a range without a header, from what proves itself of their records. Their numbers are below
    /// that of the next header: one record at a wrong place must not make what follows look old.
    fn find_headless(&mut self, range: Range<u64>, below: u64) -> io::Result<()> {
        let last = self.last;
        let mut batches: BTreeMap<u64, Vec<FoundRecord>> = BTreeMap::new();
        let mut place = range.start;
        while let Some(record) =
            self.find_record(place..range.end, |header| header.batch > last && header.batch < below)?
        {
            place = record.offset + record.header.extent();
            batches.entry(record.header.batch).or_default().push(record);
        }
        let mut offset = range.start;
        for (number, records) in batches {
            let places = || records.iter().map(|record| record.offset..record.offset + record.header.extent());
            let from = places().map(|place| place.start / SECTOR_OCTETS * SECTOR_OCTETS).min().unwrap_or(offset);
            let end = sector_ceil(places().map(|place| place.end).max().unwrap_or(offset)).min(range.end);
            let from = if self.headless.is_empty() { range.start } else { from };
            let mut batch = FoundBatch { number, offset: from, records, damage: Vec::new() };
            // Sectors changed places: what is mixed up cannot be taken apart again.
            while self.headless.back().is_some_and(|before| ends_behind(before, batch.offset))
                && let Some(mut before) = self.headless.pop_back()
            {
                before.records.append(&mut batch.records);
                batch = FoundBatch { number, offset: before.offset.min(batch.offset), ..before };
            }
            offset = offset.max(end);
            batch.damage = one(batch.offset..offset);
            self.headless.push_back(batch);
            self.last = number;
        }
        self.position = offset;
        Ok(())
    }

    fn batch_at(&mut self, offset: u64) -> io::Result<Option<BatchHeader>> {
        if offset + BATCH_HEADER_OCTETS as u64 > self.octets {
            return Ok(None);
        }
        let header = BatchHeader::decode(self.window.get(offset, BATCH_HEADER_OCTETS)?);
        let (epoch, last, octets) = (self.epoch, self.last, self.octets);
        let fits = |header: &BatchHeader| {
            let is_here = header.epoch == epoch && u64::from(header.sector) * SECTOR_OCTETS == offset;
            is_here && header.number > last && offset + header.extent() <= octets
        };
        Ok(header.filter(fits))
    }

    /// The next batch header: where, and its number.
    fn find_batch(&mut self, mut offset: u64) -> io::Result<Option<(u64, u64)>> {
        while offset < self.octets {
            if let Some(header) = self.batch_at(offset)? {
                return Ok(Some((offset, header.number)));
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
                let is_ours = |header: &RecordHeader| header.batch == batch.number;
                let next = self.find_record(place + 1..end, is_ours)?.map_or(end, |next| next.offset);
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

    /// The first record with a whole payload, wherever it begins. Used where something is damaged, and behind the end.
    fn find_record(
        &mut self,
        range: Range<u64>,
        wanted: impl Fn(&RecordHeader) -> bool,
    ) -> io::Result<Option<FoundRecord>> {
        let mut place = range.start;
        while place + RECORD_HEADER_OCTETS as u64 <= range.end {
            // Most octets cannot begin a record; unwritten ones are zero. Only what is in memory already is searched:
            // what lies here was written by anybody, and reading again for each octet of it would take for ever.
            let near = self.window.at_least(place, RECORD_HEADER_OCTETS)?;
            if near.len() < RECORD_HEADER_OCTETS {
                return Ok(None);
            }
            match memchr::memmem::find(near, &RecordHeader::MAGIC) {
                Some(0) => {}
                Some(skip) => {
                    place += skip as u64;
                    continue;
                }
                None => {
                    // Its first octet may be the last of these.
                    place += near.len() as u64 - 1;
                    continue;
                }
            }
            match self.record_at(place, range.end)?.filter(&wanted) {
                Some(header) if self.payload_is_whole(&header, place)? => {
                    return Ok(Some(FoundRecord { header, offset: place }));
                }
                _ => place += 1,
            }
        }
        Ok(None)
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

/// Whether a batch without a header reaches beyond that place.
fn ends_behind(batch: &FoundBatch, place: u64) -> bool {
    batch.damage.last().is_some_and(|damage| damage.end > place)
}

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}
