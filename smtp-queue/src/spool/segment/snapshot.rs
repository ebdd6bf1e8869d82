//! Snapshots of the index, so that a restart need not read the whole log.
//!
//! A snapshot only saves time: the log alone says everything. It is taken in pieces while the spool goes on, so it may
//! show some messages as they were when it began and others as they were when it ended. Reading the log again from
//! where it began makes it exact, because every record says what is, not what changes. Two are kept, so that a damaged
//! one costs time and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crc32c::crc32c_append;
use smtp_core::Priority;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::storage::{Storage, StorageFile};

use super::committer::Shared;
use super::format::NUMBER_LIMIT;
use super::index::{DiskPlace, Index, MessageView, Restoring, SavedMessage, SavedPair};
use super::lock;
use super::segments::Place;

/// The directory of the snapshots.
pub(super) const SNAPSHOTS: &str = "snapshots";

const MAGIC: [u8; 8] = *b"SMTPQS2\n";
/// Octets that are gathered with one locking of the index: nobody waits long for that.
const PIECE_OCTETS: usize = 128 << 10;
/// How many are kept.
const KEPT: usize = 2;

/// What a snapshot says.
#[derive(Debug)]
pub(super) struct Saved {
    /// The last batch that was durable when it began.
    pub(super) batch: u64,
    /// As of the snapshot.
    pub(super) index: Index,
    /// Messages of which it knows a record behind the end of a segment.
    pub(super) cut_off: Vec<QueueId>,
}

fn path(batch: u64) -> PathBuf {
    Path::new(SNAPSHOTS).join(format!("{batch:016x}.snapshot"))
}

/// About how long a snapshot would be, in octets.
pub(super) fn estimate(index: &Index) -> u64 {
    index.message_count() * 48 + index.pair_count() * 19
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
    let mut writer = Writer::new(storage.create(&unfinished)?);
    writer.buffer.extend_from_slice(&MAGIC);
    writer.number(batch);
    let mut after = None;
    loop {
        {
            let index = lock(&shared.index);
            for message in index.messages_after(after) {
                after = Some(message.id());
                writer.message(&index, message);
                if writer.buffer.len() >= PIECE_OCTETS {
                    break;
                }
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

/// Where the priority begins among the flags of a message.
const PRIORITY_SHIFT: u32 = 3;

const MESSAGE: u8 = 1;
const END: u8 = 2;

struct Writer {
    file: Arc<dyn StorageFile>,
    place: u64,
    sum: u32,
    buffer: Vec<u8>,
    /// The numbers of sites that were named.
    sites: HashMap<SiteName, u32>,
}

impl Writer {
    fn new(file: Arc<dyn StorageFile>) -> Self {
        Self { file, place: 0, sum: 0, buffer: Vec::new(), sites: HashMap::new() }
    }

    fn number(&mut self, number: u64) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn small(&mut self, number: u32) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn count(&mut self, number: usize) {
        self.small(u32::try_from(number).expect("memory ends long before the numbers do"));
    }

    fn numbers(&mut self, numbers: &[u64]) {
        self.number(numbers.len() as u64);
        for number in numbers {
            self.number(*number);
        }
    }

    fn place(&mut self, index: &Index, place: Place) {
        self.number(index.segments.get(place.segment).map_or(0, |segment| segment.epoch));
        self.small(place.offset);
        self.small(place.octets);
    }

    /// The number of a site; behind a number that was not used yet stands its name.
    fn site(&mut self, name: &SiteName) {
        if let Some(&number) = self.sites.get(name) {
            return self.small(number);
        }
        self.count(self.sites.len());
        self.sites.insert(name.clone(), u32::try_from(self.sites.len()).expect("it was written"));
        self.count(name.len());
        self.buffer.extend_from_slice(name.as_bytes());
    }

    fn message(&mut self, index: &Index, message: MessageView<'_>) {
        self.buffer.push(MESSAGE);
        self.buffer.extend_from_slice(&message.id().as_u128().to_le_bytes());
        self.place(index, message.place());
        self.small(message.octets());
        self.buffer.extend_from_slice(&message.recipients().to_le_bytes());
        // The upper five bits are the priority; earlier versions knew none, and wrote 0 there.
        let priority = (message.priority() << PRIORITY_SHIFT).cast_unsigned();
        self.buffer.push(u8::from(message.is_held()) | u8::from(message.is_in_file()) << 1 | priority);
        self.count(message.pairs().count());
        for pair in message.pairs() {
            self.number(pair.next_attempt);
            self.buffer.extend_from_slice(&pair.attempts.to_le_bytes());
            self.small(pair.waiting);
            self.site(pair.site);
            self.buffer.push(u8::from(pair.place.is_some()));
            if let Some(place) = pair.place {
                self.place(index, place);
                self.site(pair.key);
            }
        }
        self.count(message.notes().len());
        for note in message.notes() {
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

/// Makes an index from a snapshot; `index` knows the segments. `None` where the snapshot does not prove itself.
pub(super) fn read(storage: &dyn Storage, batch: u64, index: Index) -> io::Result<Option<Saved>> {
    let file = storage.open(&path(batch))?;
    let octets = file.octets()?;
    let Some(end) = octets.checked_sub(SUM_OCTETS) else { return Ok(None) };
    let reader = Reader { file, sum: 0, place: 0, end, buffer: Vec::new(), at: 0, sites: 0 };
    match reader.read(Restoring::new(index)) {
        Ok(saved) => Ok(Some(saved).filter(|saved| saved.batch == batch)),
        Err(Fault::Untrue) => Ok(None),
        Err(Fault::Io(error)) => Err(error),
    }
}

/// Octets that are read at once.
const WINDOW_OCTETS: usize = 256 << 10;
/// The checksum at the end.
const SUM_OCTETS: u64 = 4;

/// Why there is no index from a snapshot.
enum Fault {
    /// It does not say what a snapshot says.
    Untrue,
    /// It cannot be read now, and nothing is concluded from that.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Read<T> = Result<T, Fault>;

/// Reads a file once, and believes what it reads until the checksum is known: only then is anything made of it.
struct Reader {
    file: Arc<dyn StorageFile>,
    /// Of what was read so far.
    sum: u32,
    place: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
    /// How many sites were named.
    sites: u32,
}

impl Reader {
    fn read(mut self, mut restoring: Restoring) -> Read<Saved> {
        if self.take()? != MAGIC {
            return Err(Fault::Untrue);
        }
        let batch = self.number()?;
        let (mut pairs, mut notes) = (Vec::new(), Vec::new());
        loop {
            match self.take()? {
                [MESSAGE] => self.message(&mut restoring, &mut pairs, &mut notes)?,
                [END] => break,
                _ => return Err(Fault::Untrue),
            }
        }
        let draining = self.numbers()?;
        let mut buries = BTreeMap::new();
        for _ in 0..self.number()? {
            let epoch = self.number()?;
            buries.insert(epoch, self.numbers()?);
        }
        let is_read = self.place == self.end && self.at == self.buffer.len();
        let mut sum = [0; 4];
        if !is_read || self.file.read_at(self.end, &mut sum)? < sum.len() || u32::from_le_bytes(sum) != self.sum {
            return Err(Fault::Untrue);
        }
        let (mut index, cut_off) = restoring.finish();
        index.segments.restore_graves(&draining, &buries);
        Ok(Saved { batch, index, cut_off })
    }

    fn message(
        &mut self,
        restoring: &mut Restoring,
        pairs: &mut Vec<SavedPair>,
        notes: &mut Vec<DiskPlace>,
    ) -> Read<()> {
        let id = QueueId::from_u128(u128::from_le_bytes(self.take()?));
        let place = self.disk_place()?;
        let octets = self.small()?;
        let recipients = u16::from_le_bytes(self.take()?);
        let [flags] = self.take()?;
        let (held, in_file) = (flags & 1 != 0, flags & 2 != 0);
        let priority = Priority::new(flags.cast_signed() >> PRIORITY_SHIFT).ok_or(Fault::Untrue)?.get();
        pairs.clear();
        for _ in 0..self.small()? {
            let next_attempt = self.number()?;
            let attempts = u16::from_le_bytes(self.take()?);
            let waiting = self.small()?;
            let site = self.site(restoring)?;
            let progress = match self.take()? {
                [0] => None,
                _ => Some((self.disk_place()?, self.site(restoring)?)),
            };
            pairs.push(SavedPair { site, next_attempt, attempts, waiting, progress });
        }
        notes.clear();
        for _ in 0..self.small()? {
            notes.push(self.disk_place()?);
        }
        let saved = SavedMessage { id, place, octets, recipients, held, in_file, priority };
        restoring.add_message(&saved, pairs, notes).ok_or(Fault::Untrue)
    }

    fn site(&mut self, restoring: &mut Restoring) -> Read<u32> {
        let number = self.small()?;
        if number == self.sites {
            let length = self.small()? as usize;
            let name = std::str::from_utf8(self.slice(length)?).map_err(|_| Fault::Untrue)?;
            restoring.add_site(&name.into()).ok_or(Fault::Untrue)?;
            self.sites += 1;
        }
        Ok(number)
    }

    fn small(&mut self) -> Read<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn number(&mut self) -> Read<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn numbers(&mut self) -> Read<Vec<u64>> {
        let count = self.number()?;
        (0..count).map(|_| self.number()).collect()
    }

    fn disk_place(&mut self) -> Read<DiskPlace> {
        Ok(DiskPlace { epoch: self.number()?, offset: self.small()?, octets: self.small()? })
    }

    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(*self.slice(N)?.first_chunk().expect("that many were asked for"))
    }

    fn slice(&mut self, octets: usize) -> Read<&[u8]> {
        if self.buffer.len() - self.at < octets {
            self.fill(octets)?;
        }
        let found = &self.buffer[self.at..self.at + octets];
        self.at += octets;
        Ok(found)
    }

    /// Reads on, so that so many octets are there.
    fn fill(&mut self, octets: usize) -> Read<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let old = self.buffer.len();
        let left = usize::try_from(self.end - self.place).unwrap_or(usize::MAX);
        if left < octets - old {
            return Err(Fault::Untrue);
        }
        self.buffer.resize(old + left.min(WINDOW_OCTETS.max(octets)), 0);
        let new = &mut self.buffer[old..];
        if self.file.read_at(self.place, new)? < new.len() {
            return Err(Fault::Untrue);
        }
        self.sum = crc32c_append(self.sum, new);
        self.place += new.len() as u64;
        Ok(())
    }
}
