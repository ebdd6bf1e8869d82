//! The form of the file: a first line, then records, each with its length and a checksum.
//!
//! | Octets | What |
//! |---|---|
//! | 4 | length of the rest behind the checksum, little-endian as all numbers |
//! | 4 | CRC-32C of the rest |
//! | 8 | milliseconds since 1970 until which the value is there; 0: it was removed |
//! | 1, n | length and name of the table |
//! | 2, n | length and octets of the key |
//! | n | value |

use std::io::{self, Read};

use super::entries::{Entries, Entry, Millis};
use super::{STATE_KEY_LIMIT_OCTETS, STATE_TABLE_LIMIT_OCTETS, STATE_VALUE_LIMIT_OCTETS};

/// The first line.
pub(super) const HEADER: &[u8] = b"smtp-policy state 1\n";

/// Length and checksum.
const FRAME_OCTETS: usize = 8;
/// A record has at most so many octets behind its checksum.
const BODY_LIMIT_OCTETS: usize =
    8 + 1 + STATE_TABLE_LIMIT_OCTETS + 2 + STATE_KEY_LIMIT_OCTETS + STATE_VALUE_LIMIT_OCTETS;

/// Adds a record.
pub(super) fn write(entry: Entry<'_>, into: &mut Vec<u8>) {
    let (value, expires) = entry.value.unwrap_or((b"", 0));
    let start = into.len();
    into.extend_from_slice(&[0; FRAME_OCTETS]);
    into.extend_from_slice(&expires.to_le_bytes());
    into.push(u8::try_from(entry.table.len()).expect("the name of a table has at most 64 octets"));
    into.extend_from_slice(entry.table.as_bytes());
    let length = u16::try_from(entry.key.len()).expect("a key has at most 1,024 octets");
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(entry.key);
    into.extend_from_slice(value);
    let body = &into[start + FRAME_OCTETS..];
    let length = u32::try_from(body.len()).expect("a value has at most 128 KiB");
    let checksum = crc32c::crc32c(body);
    into[start..start + 4].copy_from_slice(&length.to_le_bytes());
    into[start + 4..start + FRAME_OCTETS].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads records up to the first that is not whole, and says how many octets they have.
pub(super) fn read(from: &mut impl Read, entries: &mut Entries) -> io::Result<u64> {
    let (mut good, mut body) = (0, Vec::new());
    loop {
        let mut frame = [0; FRAME_OCTETS];
        if fill(from, &mut frame)? < FRAME_OCTETS {
            return Ok(good);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = frame;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > BODY_LIMIT_OCTETS {
            return Ok(good);
        }
        body.resize(length, 0);
        if fill(from, &mut body)? < length || crc32c::crc32c(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(good);
        }
        let Some(entry) = parse(&body) else { return Ok(good) };
        // Where limits have become smaller, what has no table any more is left out.
        entries.apply(entry);
        good += (FRAME_OCTETS + length) as u64;
    }
}

fn parse(body: &[u8]) -> Option<Entry<'_>> {
    let (expires, rest) = body.split_first_chunk::<8>()?;
    let (&length, rest) = rest.split_first()?;
    let (table, rest) = rest.split_at_checked(usize::from(length))?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let expires = Millis::from_le_bytes(*expires);
    Some(Entry { table: str::from_utf8(table).ok()?, key, value: (expires > 0).then_some((value, expires)) })
}

/// Reads as much as there is.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    fn read_all(octets: &[u8]) -> (u64, Entries) {
        let mut entries = Entries::default();
        let good = read(&mut &octets[..], &mut entries).expect("a slice can be read");
        (good, entries)
    }

    #[test]
    fn a_log_that_ends_anywhere_gives_the_records_before_that() {
        let mut octets = Vec::new();
        let mut ends = vec![0];
        for number in 0..5_u8 {
            write(Entry { table: "t", key: &[number], value: Some((&[number; 9], 77)) }, &mut octets);
            ends.push(octets.len());
        }
        for cut in 0..=octets.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let (good, entries) = read_all(&octets[..cut]);
            assert_eq!((good, entries.len()), (ends[whole] as u64, whole), "cut at {cut}");
        }
        octets.extend([0; 4096]);
        assert_eq!(read_all(&octets).0, ends[5] as u64, "zeros are no records");
    }

    #[test]
    fn a_changed_octet_ends_the_log_there() {
        let mut octets = Vec::new();
        for number in 0..3_u8 {
            write(Entry { table: "t", key: &[number], value: Some((b"value", 77)) }, &mut octets);
        }
        let length = octets.len() / 3;
        for place in 0..octets.len() {
            let mut damaged = octets.clone();
            damaged[place] ^= 0x40;
            let (good, entries) = read_all(&damaged);
            assert_eq!((good, entries.len()), ((place / length * length) as u64, place / length), "at {place}");
        }
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(table in "[a-z-]{0,64}", key in proptest::collection::vec(any::<u8>(), 0..1024),
                                  value in proptest::collection::vec(any::<u8>(), 0..2000), expires in 1..u64::MAX) {
            let mut octets = Vec::new();
            write(Entry { table: &table, key: &key, value: Some((&value, expires)) }, &mut octets);
            let (good, entries) = read_all(&octets);
            prop_assert_eq!(good, octets.len() as u64);
            prop_assert_eq!(entries.get(&table, &key, SystemTime::UNIX_EPOCH), Some(&value[..]));
            write(Entry { table: &table, key: &key, value: None }, &mut octets);
            prop_assert_eq!(read_all(&octets).1.len(), 0);
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_all(&octets).0 <= octets.len() as u64);
        }
    }
}
