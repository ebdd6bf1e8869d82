//! A second reading of the log, written from its description: where the records of each message stand in a log that is
//! not damaged. It also mends and makes checksums, so that an input reaches what stands behind them.

use std::ops::Range;

use smtp_queue::QueueId;

use super::memory::Image;

pub(super) const SECTOR: usize = 512;
pub(super) const BATCH_HEADER: usize = 40;
pub(super) const RECORD_HEADER: usize = 48;
const BATCH_MAGIC: &[u8; 8] = b"SMTPQB1\n";
const RECORD_MAGIC: [u8; 2] = [0x53, 0x71];

/// A record: whose, and where.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) id: QueueId,
    pub(super) octets: Range<usize>,
}

/// A batch with its records.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) path: String,
    pub(super) number: u64,
    pub(super) octets: Range<usize>,
    pub(super) records: Vec<Record>,
}

/// All batches of a log that is not damaged, by their numbers.
pub(super) fn batches(image: &Image) -> Vec<Batch> {
    let mut found = Vec::new();
    for (path, octets) in image {
        let Some(epoch) = number_in(path, "log/", ".segment") else { continue };
        let mut place = 0;
        while let Some(batch) = batch_at(path, octets, place, epoch) {
            place = batch.octets.end;
            found.push(batch);
        }
    }
    found.sort_by_key(|batch| batch.number);
    found
}

/// The number of the newest snapshot, and its path.
pub(super) fn newest_snapshot(image: &Image) -> Option<(u64, &str)> {
    let snapshots = image.keys().filter_map(|path| Some((number_in(path, "snapshots/", ".snapshot")?, &path[..])));
    snapshots.max()
}

fn number_in(path: &str, before: &str, behind: &str) -> Option<u64> {
    u64::from_str_radix(path.strip_prefix(before)?.strip_suffix(behind)?, 16).ok()
}

fn batch_at(path: &str, octets: &[u8], place: usize, epoch: u64) -> Option<Batch> {
    let header = octets.get(place..place + BATCH_HEADER)?;
    let is_whole = header[..8] == *BATCH_MAGIC && number(header, 36, 4) == u64::from(crc32c::crc32c(&header[..36]));
    if !is_whole || number(header, 8, 8) != epoch {
        return None;
    }
    let from = place + BATCH_HEADER;
    let end = from + small(header, 24);
    let mut records = Vec::new();
    let mut at = from;
    while at < end {
        let header = &octets[at..at + RECORD_HEADER];
        assert_eq!(header[..2], RECORD_MAGIC, "{path}, octet {at}");
        let behind = at + RECORD_HEADER + small(header, 4);
        let id = u128::from_le_bytes(header[8..24].try_into().expect("16 octets"));
        records.push(Record { id: QueueId::from_u128(id), octets: at..behind });
        at = behind;
    }
    assert_eq!((at, records.len()), (end, small(header, 28)), "{path}, octet {place}");
    Some(Batch {
        path: path.to_owned(),
        number: number(header, 16, 8),
        octets: place..end.next_multiple_of(SECTOR),
        records,
    })
}

fn number(octets: &[u8], place: usize, length: usize) -> u64 {
    octets[place..place + length].iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn small(octets: &[u8], place: usize) -> usize {
    u32::from_le_bytes(octets[place..place + 4].try_into().expect("four octets")) as usize
}

/// Makes every header and payload of a segment prove itself, as far as they lie within it.
pub(super) fn mend_segment(octets: &mut [u8]) {
    let mut place = 0;
    while place + BATCH_HEADER <= octets.len() {
        if octets[place..place + 8] != *BATCH_MAGIC {
            place += SECTOR;
            continue;
        }
        mend_sum(&mut octets[place..place + BATCH_HEADER]);
        let end = octets.len().min(place + BATCH_HEADER + small(&octets[place..], 24));
        let mut at = place + BATCH_HEADER;
        while at + RECORD_HEADER <= end && octets[at..at + 2] == RECORD_MAGIC {
            let behind = at + RECORD_HEADER + small(&octets[at..], 4);
            if behind <= end {
                let sum = crc32c::crc32c(&octets[at + RECORD_HEADER..behind]);
                octets[at + 40..at + 44].copy_from_slice(&sum.to_le_bytes());
            }
            mend_sum(&mut octets[at..at + RECORD_HEADER]);
            at = behind;
        }
        place = (place + SECTOR).max(end.next_multiple_of(SECTOR));
    }
}

/// Makes the last four octets the checksum of those before.
pub(super) fn mend_sum(octets: &mut [u8]) {
    let Some(end) = octets.len().checked_sub(4) else { return };
    let sum = crc32c::crc32c(&octets[..end]);
    octets[end..].copy_from_slice(&sum.to_le_bytes());
}
