//! Snapshots of the index, so that a restart need not read the whole log.
//!
//! A snapshot only saves time: the log alone says everything. It is taken in pieces while the spool goes on, so it may
//! show some messages as they were when it began and others as they were when it ended. Reading the log again from
//! where it began makes it exact, because every record says what is, not what changes. Two are kept, so that a damaged
//! one costs time and nothing else.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crc32c::crc32c_append;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::storage::{Storage, StorageFile};

use super::committer::Shared;
use super::effect::PairFacts;
use super::format::NUMBER_LIMIT;
use super::index::{Index, MessageFacts, PairState};
use super::lock;
use super::segments::Place;

/// The directory of the snapshots.
pub(super) const SNAPSHOTS: &str = "snapshots";

const MAGIC: [u8; 8] = *b"SMTPQS1\n";
/// Messages that are taken with one locking of the index.
const PIECE: usize = 2048;
/// How many are kept.
const KEPT: usize = 2;

/// A place that does not depend on this process: the epoch in the place of the number.
#[derive(Debug, Clone, Copy)]
pub(super) struct DiskPlace {
    pub(super) epoch: u64,
    pub(super) offset: u32,
    pub(super) octets: u32,
}

/// A message in a snapshot.
#[derive(Debug)]
pub(super) struct SavedMessage {
    pub(super) id: QueueId,
    pub(super) place: DiskPlace,
    pub(super) octets: u64,
    pub(super) recipients: u32,
    pub(super) held: bool,
    pub(super) in_file: bool,
    pub(super) pairs: Vec<SavedPair>,
    pub(super) notes: Vec<DiskPlace>,
}

/// A pair in a snapshot.
#[derive(Debug)]
pub(super) struct SavedPair {
    pub(super) facts: PairFacts,
    /// Where its progress stands, and what that calls the pair; without, it is as the record of the message says.
    pub(super) progress: Option<(DiskPlace, SiteName)>,
}

/// What a snapshot says besides messages.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// The last batch that was durable when it began.
    pub(super) batch: u64,
    pub(super) draining: Vec<u64>,
    pub(super) buries: BTreeMap<u64, Vec<u64>>,
}

fn path(batch: u64) -> PathBuf {
    Path::new(SNAPSHOTS).join(format!("{batch:016x}.snapshot"))
}

/// About how long a snapshot would be, in octets.
pub(super) fn estimate(index: &Index) -> u64 {
    index.message_count() * 48 + index.pair_count() * 36
}

/// The snapshots that are there, the newest first.
pub(super) fn list(storage: &dyn Storage) -> io::Result<Vec<u64>> {
    let number = |name: &str| {
        let batch = u64::from_str_radix(name.strip_suffix(".snapshot")?, 16).ok()?;
        // There are other ways to write the number, and they name other files.
        (batch < NUMBER_LIMIT && path(batch).ends_with(name)).then_some(batch)
    };
    let mut found: Vec<u64> = storage.list(SNAPSHOTS.as_ref())?.iter().filter_map(|(name, _)| number(name)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes a snapshot.
pub(super) fn remove(storage: &dyn Storage, batch: u64) -> io::Result<()> {
    storage.remove(&path(batch))
}

/// Removes what is neither a kept snapshot nor one in the making.
pub(super) fn tidy(storage: &dyn Storage) -> io::Result<()> {
    let kept = list(storage)?;
    for (name, _) in storage.list(SNAPSHOTS.as_ref())? {
        let is_kept = kept.iter().take(KEPT).any(|batch| path(*batch).ends_with(&name));
        if !is_kept {
            storage.remove(&Path::new(SNAPSHOTS).join(name))?;
        }
    }
    Ok(())
}

/// Writes a snapshot.
pub(super) fn write(shared: &Shared) -> io::Result<()> {
    let storage = &*shared.storage;
    let batch = shared.last_batch.load(Ordering::Acquire);
    if list(storage)?.contains(&batch) {
        return Ok(());
    }
    let unfinished = Path::new(SNAPSHOTS).join("unfinished");
    match storage.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut writer = Writer { file: storage.create(&unfinished)?, place: 0, sum: 0, buffer: Vec::new() };
    writer.buffer.extend_from_slice(&MAGIC);
    writer.number(batch);
    let mut after = None;
    loop {
        {
            let index = lock(&shared.index);
            for facts in index.messages_after(after).take(PIECE) {
                after = Some(facts.id);
                writer.message(&index, &facts);
            }
        }
        if writer.buffer.is_empty() {
            break;
        }
        writer.flush()?;
    }
    let (draining, buries) = lock(&shared.index).segments.graves();
    writer.buffer.push(END);
    writer.numbers(&draining);
    writer.number(buries.len() as u64);
    for (epoch, buried) in &buries {
        writer.number(*epoch);
        writer.numbers(buried);
    }
    let sum = crc32c_append(writer.sum, &writer.buffer);
    writer.buffer.extend_from_slice(&sum.to_le_bytes());
    writer.flush()?;
    writer.file.sync()?;
    storage.rename(&unfinished, &path(batch))?;
    storage.sync_directory(SNAPSHOTS.as_ref())?;
    for old in list(storage)?.into_iter().skip(KEPT) {
        storage.remove(&path(old))?;
    }
    Ok(())
}

const MESSAGE: u8 = 1;
const END: u8 = 2;

struct Writer {
    file: Arc<dyn StorageFile>,
    place: u64,
    sum: u32,
    buffer: Vec<u8>,
}

impl Writer {
    fn number(&mut self, number: u64) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn small(&mut self, number: usize) {
        self.buffer.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        self.number(numbers.len() as u64);
        for number in numbers {
            self.number(*number);
        }
    }

    fn place(&mut self, index: &Index, place: Place) {
        self.number(index.segments.get(place.segment).map_or(0, |segment| segment.epoch));
        self.small(place.offset as usize);
        self.small(place.octets as usize);
    }

    fn message(&mut self, index: &Index, facts: &MessageFacts) {
        self.buffer.push(MESSAGE);
        self.buffer.extend_from_slice(&facts.id.as_u128().to_le_bytes());
        self.place(index, facts.place);
        self.number(facts.octets);
        self.small(facts.recipients as usize);
        self.buffer.push(u8::from(facts.held) | u8::from(facts.in_file) << 1);
        self.small(facts.pairs.len());
        for PairState { facts: pair, key, place, .. } in &facts.pairs {
            self.number(pair.next_attempt);
            self.small(pair.attempts as usize);
            self.small(pair.waiting as usize);
            self.small(pair.site.len());
            self.buffer.extend_from_slice(pair.site.as_bytes());
            self.buffer.push(u8::from(place.is_some()));
            if let Some(place) = place {
                self.place(index, *place);
                self.small(key.len());
                self.buffer.extend_from_slice(key.as_bytes());
            }
        }
        let notes = index.notes_of(facts.id);
        self.small(notes.len());
        for note in notes {
            self.place(index, *note);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sum = crc32c_append(self.sum, &self.buffer);
        self.file.write_at(self.place, &[IoSlice::new(&self.buffer)])?;
        self.place += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a snapshot; gives `each` its messages. `None` where it does not prove itself; what `each` was given then means
/// nothing.
pub(super) fn read(storage: &dyn Storage, batch: u64, mut each: impl FnMut(SavedMessage)) -> io::Result<Option<Saved>> {
    let file = storage.open(&path(batch))?;
    let octets = file.octets()?;
    if !proves_itself(&*file, octets)? {
        return Ok(None);
    }
    let mut reader = Reader { file, place: 0, end: octets - 4, buffer: Vec::new(), at: 0, sites: BTreeMap::new() };
    Ok(reader.read(&mut each).filter(|saved| saved.batch == batch))
}

/// Octets that are read at once.
const READ_OCTETS: usize = 1 << 20;

fn proves_itself(file: &dyn StorageFile, octets: u64) -> io::Result<bool> {
    let Some(end) = octets.checked_sub(4) else { return Ok(false) };
    let (mut place, mut sum) = (0, 0);
    let mut buffer = vec![0; usize::try_from(end).unwrap_or(READ_OCTETS).min(READ_OCTETS)];
    while place < end {
        let wanted = usize::try_from(end - place).unwrap_or(READ_OCTETS).min(READ_OCTETS);
        let read = file.read_at(place, &mut buffer[..wanted])?;
        if read == 0 {
            return Ok(false);
        }
        sum = crc32c_append(sum, &buffer[..read]);
        place += read as u64;
    }
    let mut found = [0; 4];
    Ok(file.read_at(end, &mut found)? == 4 && u32::from_le_bytes(found) == sum)
}

struct Reader {
    file: Arc<dyn StorageFile>,
    place: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
    /// One name for each site, however many messages wait there.
    sites: BTreeMap<Vec<u8>, SiteName>,
}

impl Reader {
    fn take(&mut self, octets: usize) -> Option<&[u8]> {
        if self.buffer.len() - self.at < octets {
            self.buffer.drain(..self.at);
            self.at = 0;
            let old = self.buffer.len();
            let left = usize::try_from(self.end - self.place).unwrap_or(READ_OCTETS);
            let wanted = left.min(READ_OCTETS.max(octets));
            self.buffer.resize(old + wanted, 0);
            let read = self.file.read_at(self.place, &mut self.buffer[old..]).ok()?;
            self.buffer.truncate(old + read);
            self.place += read as u64;
        }
        let found = self.buffer.get(self.at..self.at.checked_add(octets)?)?;
        self.at += octets;
        Some(found)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn small(&mut self) -> Option<u32> {
        self.take(4).map(|octets| u32::from_le_bytes(octets.try_into().expect("four octets")))
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8).map(|octets| u64::from_le_bytes(octets.try_into().expect("eight octets")))
    }

    fn numbers(&mut self) -> Option<Vec<u64>> {
        let count = self.number()?;
        (0..count).map(|_| self.number()).collect()
    }

    fn disk_place(&mut self) -> Option<DiskPlace> {
        Some(DiskPlace { epoch: self.number()?, offset: self.small()?, octets: self.small()? })
    }

    fn read(&mut self, each: &mut impl FnMut(SavedMessage)) -> Option<Saved> {
        if self.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let mut saved = Saved { batch: self.number()?, ..Saved::default() };
        loop {
            match self.octet()? {
                MESSAGE => each(self.message()?),
                END => break,
                _ => return None,
            }
        }
        saved.draining = self.numbers()?;
        for _ in 0..self.number()? {
            let epoch = self.number()?;
            saved.buries.insert(epoch, self.numbers()?);
        }
        Some(saved)
    }

    fn message(&mut self) -> Option<SavedMessage> {
        let id = u128::from_le_bytes(self.take(16)?.try_into().expect("16 octets"));
        let place = self.disk_place()?;
        let octets = self.number()?;
        let recipients = self.small()?;
        let flags = self.octet()?;
        let count = self.small()?;
        let mut pairs = Vec::with_capacity(count.min(1024) as usize);
        for _ in 0..count {
            let next_attempt = self.number()?;
            let attempts = self.small()?;
            let waiting = self.small()?;
            let length = self.small()? as usize;
            let site = self.site(length)?;
            let progress = if self.octet()? == 1 {
                let place = self.disk_place()?;
                let length = self.small()? as usize;
                Some((place, self.site(length)?))
            } else {
                None
            };
            pairs.push(SavedPair { facts: PairFacts { site, next_attempt, attempts, waiting }, progress });
        }
        let count = self.small()?;
        let notes = (0..count).map(|_| self.disk_place()).collect::<Option<_>>()?;
        let (held, in_file) = (flags & 1 != 0, flags & 2 != 0);
        Some(SavedMessage { id: QueueId::from_u128(id), place, octets, recipients, held, in_file, pairs, notes })
    }

    fn site(&mut self, octets: usize) -> Option<SiteName> {
        let name = self.take(octets)?.to_vec();
        if let Some(site) = self.sites.get(&name) {
            return Some(site.clone());
        }
        let site: SiteName = std::str::from_utf8(&name).ok()?.into();
        self.sites.insert(name, site.clone());
        Some(site)
    }
}
