//! What a batch and a record look like on disk, so that each proves itself.
//!
//! All numbers are little-endian. A batch begins at a multiple of 512 octets; its records follow its header without
//! gaps. Both headers carry the epoch of their segment, so that what a recycled segment held before is never read, and
//! the number of their batch, which grows by at least one from batch to batch through all segments.

use crc32c::{crc32c, crc32c_append};

use crate::id::QueueId;

/// What is written and torn as one on every disk.
pub(super) const SECTOR_OCTETS: u64 = 512;
/// How long the header of a batch is.
pub(super) const BATCH_HEADER_OCTETS: usize = 40;
/// How long the header of a record is.
pub(super) const RECORD_HEADER_OCTETS: usize = 48;
/// The most octets in the payload of a record: far above what is put there, far below what would exhaust memory.
pub(super) const PAYLOAD_LIMIT_OCTETS: u32 = 64 << 20;

/// Epochs and batch numbers stay below this: no spool counts so far, and whatever it finds, it can go on counting.
pub(super) const NUMBER_LIMIT: u64 = 1 << 62;

const BATCH_MAGIC: [u8; 8] = *b"SMTPQB1\n";
const RECORD_MAGIC: u16 = 0x7153;

/// The next multiple of a sector.
pub(super) const fn sector_ceil(octets: u64) -> u64 {
    octets.div_ceil(SECTOR_OCTETS) * SECTOR_OCTETS
}

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) epoch: u64,
    pub(super) number: u64,
    /// Octets of its records.
    pub(super) octets: u32,
    /// How many records.
    pub(super) records: u32,
    /// Where it stands in its segment, in sectors: one that a disk wrote to another place proves nothing.
    pub(super) sector: u32,
}

impl BatchHeader {
    pub(super) fn encode(&self) -> [u8; BATCH_HEADER_OCTETS] {
        let mut header = [0; BATCH_HEADER_OCTETS];
        header[..8].copy_from_slice(&BATCH_MAGIC);
        header[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        header[16..24].copy_from_slice(&self.number.to_le_bytes());
        header[24..28].copy_from_slice(&self.octets.to_le_bytes());
        header[28..32].copy_from_slice(&self.records.to_le_bytes());
        header[32..36].copy_from_slice(&self.sector.to_le_bytes());
        let sum = crc32c(&header[..36]);
        header[36..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// `None` where it does not prove itself.
    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let header = octets.get(..BATCH_HEADER_OCTETS)?;
        if header[..8] != BATCH_MAGIC || crc32c(&header[..36]) != u32_at(header, 36) {
            return None;
        }
        let header = Self {
            epoch: u64_at(header, 8),
            number: u64_at(header, 16),
            octets: u32_at(header, 24),
            records: u32_at(header, 28),
            sector: u32_at(header, 32),
        };
        (header.epoch.max(header.number) < NUMBER_LIMIT).then_some(header)
    }

    /// How far it is to the next batch.
    pub(super) fn extent(&self) -> u64 {
        sector_ceil(BATCH_HEADER_OCTETS as u64 + u64::from(self.octets))
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Kind {
    /// A message: envelope, progress at each site, content. It replaces every earlier record of that message.
    Message = 1,
    /// A message whose content has a file of its own.
    ContentReference = 2,
    /// The progress at one site; it replaces what was known of the site.
    Progress = 3,
    /// A site is done with.
    Done = 4,
    /// A message is held, or goes on.
    Held = 5,
    /// A message is gone.
    Removal = 6,
}

impl Kind {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        let kinds = [Self::Message, Self::ContentReference, Self::Progress, Self::Done, Self::Held, Self::Removal];
        kinds.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: Kind,
    /// Octets of its payload.
    pub(super) octets: u32,
    pub(super) id: QueueId,
    pub(super) epoch: u64,
    pub(super) batch: u64,
    pub(super) payload_sum: u32,
}

impl RecordHeader {
    /// The octets that every header begins with.
    pub(super) const MAGIC: [u8; 2] = RECORD_MAGIC.to_le_bytes();

    /// Octets in the log: header and payload.
    pub(super) fn extent(&self) -> u64 {
        RECORD_HEADER_OCTETS as u64 + u64::from(self.octets)
    }

    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_OCTETS] {
        let mut header = [0; RECORD_HEADER_OCTETS];
        header[..2].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        header[2] = self.kind as u8;
        // 3 is for later versions.
        header[4..8].copy_from_slice(&self.octets.to_le_bytes());
        header[8..24].copy_from_slice(&self.id.as_u128().to_le_bytes());
        header[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        header[32..40].copy_from_slice(&self.batch.to_le_bytes());
        header[40..44].copy_from_slice(&self.payload_sum.to_le_bytes());
        let sum = crc32c(&header[..44]);
        header[44..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// `None` where it does not prove itself.
    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let header = octets.get(..RECORD_HEADER_OCTETS)?;
        if header[..2] != RECORD_MAGIC.to_le_bytes() || crc32c(&header[..44]) != u32_at(header, 44) {
            return None;
        }
        let octets = u32_at(header, 4);
        if octets > PAYLOAD_LIMIT_OCTETS || u64_at(header, 24).max(u64_at(header, 32)) >= NUMBER_LIMIT {
            return None;
        }
        Some(Self {
            kind: Kind::from_number(header[2])?,
            octets,
            id: QueueId::from_u128(u128::from_le_bytes(header[8..24].try_into().expect("16 octets"))),
            epoch: u64_at(header, 24),
            batch: u64_at(header, 32),
            payload_sum: u32_at(header, 40),
        })
    }
}

/// Reads a header of either kind and writes it again.
#[cfg(feature = "simulation")]
pub(in crate::spool) fn rewrite_header(octets: &[u8]) -> Option<Vec<u8>> {
    let batch = BatchHeader::decode(octets).map(|header| header.encode().to_vec());
    batch.or_else(|| RecordHeader::decode(octets).map(|header| header.encode().to_vec()))
}

/// The checksum of a payload in parts.
pub(super) fn payload_sum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    parts.into_iter().fold(0, crc32c_append)
}

fn u32_at(octets: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(octets[place..place + 4].try_into().expect("four octets"))
}

fn u64_at(octets: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(octets[place..place + 8].try_into().expect("eight octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // STANDARDS.md C2: a header proves itself; no single bit can change unseen.
    fn c2_headers_survive_and_a_flipped_bit_does_not() {
        let batch = BatchHeader { epoch: 7, number: NUMBER_LIMIT - 1, octets: 1000, records: 3, sector: 9 };
        let octets = batch.encode();
        assert_eq!(BatchHeader::decode(&octets), Some(batch));
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&damaged), None, "bit {bit}");
        }
        let id = QueueId::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let record = RecordHeader { kind: Kind::Removal, octets: 0, id, epoch: 1, batch: 2, payload_sum: 3 };
        let octets = record.encode();
        assert_eq!(RecordHeader::decode(&octets), Some(record));
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(RecordHeader::decode(&octets[..47]), None);
        let beyond = BatchHeader { number: NUMBER_LIMIT, ..batch };
        assert_eq!(BatchHeader::decode(&beyond.encode()), None, "behind it there would be no number left");
    }

    #[test]
    fn a_batch_ends_at_a_sector() {
        for (octets, extent) in [(0, 512), (472, 512), (473, 1024), (984, 1024)] {
            assert_eq!(BatchHeader { epoch: 0, number: 0, octets, records: 0, sector: 0 }.extent(), extent);
        }
    }
}
