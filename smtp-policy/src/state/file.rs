//! A state store that survives a restart: all in memory, and a log of changes that a thread of its own writes.
//!
//! No session waits for the disk. Changes gather in memory and are appended once a second; where the log has grown to twice
//! what is alive, or an append failed, all that is alive is written into a new file that replaces it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use smtp_core::async_trait;
use tokio::sync::oneshot;

use super::entries::{Entries, StateLimits};
use super::{Changing, StateError, StateStore, log};

/// How long changes gather: 1 s. What is lost when the machine stops is about as much.
const INTERVAL: Duration = Duration::from_secs(1);
/// With so many octets they wait no longer.
const ENOUGH_OCTETS: usize = 256 * 1024;
/// More are not kept for a disk that does not keep up: what is alive is written anew instead.
const PENDING_LIMIT_OCTETS: usize = 8 << 20;
/// The log may have so many octets more than twice what is alive.
const SLACK_OCTETS: u64 = 1 << 20;
/// So many octets of what is alive are copied at once, while sessions wait.
const STEP_OCTETS: usize = 64 * 1024;

/// Remembers in a directory of its own.
///
/// After `kill -9` what was set up to a second or two before is there. A record that is torn or damaged ends the log: it and
/// what follows are cut off ([`cut_octets`](Self::cut_octets)). One process at a time owns the directory. When it is dropped it
/// writes what is left.
#[derive(Debug)]
pub struct FileStateStore {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    cut_octets: u64,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    wake: Condvar,
}

#[derive(Debug)]
struct Memory {
    entries: Entries,
    /// Records that are not in the file.
    pending: Vec<u8>,
    /// The file lacks more than those.
    is_behind: bool,
    is_closing: bool,
    waiting: Vec<oneshot::Sender<bool>>,
    fault: Option<String>,
}

impl FileStateStore {
    /// Opens a directory, or makes it. It reads the whole file, so a server does it before it listens.
    ///
    /// # Errors
    /// [`StateError::InUse`], [`StateError::Foreign`], or [`StateError::Unavailable`] where the system says no.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StateError> {
        Self::open_with_limits(directory, StateLimits::default())
    }

    /// Opens it with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_limits(directory: impl Into<PathBuf>, limits: StateLimits) -> Result<Self, StateError> {
        let directory = directory.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let lock = lock(&directory)?;
        let mut entries = Entries::new(limits);
        let (file, cut_octets) = LogFile::open(directory, &mut entries)?;
        let memory = Memory {
            entries,
            pending: Vec::new(),
            is_behind: false,
            is_closing: false,
            waiting: Vec::new(),
            fault: None,
        };
        let shared = Arc::new(Shared { memory: Mutex::new(memory), wake: Condvar::new() });
        let of_writer = shared.clone();
        let writer = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            write_behind(&of_writer, file);
            // Not only closed: a process that is being started may share it for a moment.
            let _ = flock(&lock, FlockOperation::Unlock);
        })?;
        Ok(Self { shared, writer: Some(writer), cut_octets })
    }

    /// How many octets of a torn or damaged log were cut off when it was opened. After a crash a few are nothing to worry about.
    pub fn cut_octets(&self) -> u64 {
        self.cut_octets
    }

    /// Why the last attempt to write failed; `None` where it did not. Until one works again nothing is lost but what a
    /// restart forgets.
    pub fn fault(&self) -> Option<String> {
        self.shared.memory().fault.clone()
    }

    /// How many values are kept, expired ones among them that nobody has cleared away.
    pub fn entries(&self) -> usize {
        self.shared.memory().entries.len()
    }

    /// Waits until what was set up to now is on the disk.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] where it cannot be written.
    pub async fn flush(&self) -> Result<(), StateError> {
        let (sender, written) = oneshot::channel();
        self.shared.memory().waiting.push(sender);
        self.shared.wake.notify_one();
        if written.await == Ok(true) {
            return Ok(());
        }
        Err(StateError::unavailable(self.fault().unwrap_or_else(|| "the writer has ended".to_owned())))
    }
}

impl Drop for FileStateStore {
    fn drop(&mut self) {
        self.shared.memory().is_closing = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to say; the next to open reads what it wrote.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl StateStore for FileStateStore {
    async fn get(&self, table: &str, key: &[u8], now: SystemTime) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.shared.memory().entries.get(table, key, now).map(<[u8]>::to_vec))
    }

    async fn update(
        &self,
        table: &str,
        key: &[u8],
        now: SystemTime,
        change: &mut Changing<'_>,
    ) -> Result<(), StateError> {
        let mut memory = self.shared.memory();
        let Memory { entries, pending, is_behind, .. } = &mut *memory;
        entries.update(table, key, now, change, |entry| {
            if !*is_behind {
                log::write(entry, pending);
            }
        })?;
        if pending.len() > PENDING_LIMIT_OCTETS {
            *pending = Vec::new();
            *is_behind = true;
        }
        if pending.len() > ENOUGH_OCTETS {
            self.shared.wake.notify_one();
        }
        Ok(())
    }
}

impl Shared {
    /// A panic of a change leaves the entries whole, so a poisoned lock is as good as another.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do: at most for an interval, so that a fault is tried again.
    fn wait(&self) -> MutexGuard<'_, Memory> {
        let nothing_urgent = |memory: &mut Memory| {
            !memory.is_closing && memory.waiting.is_empty() && memory.pending.len() <= ENOUGH_OCTETS
        };
        let waited = self.wake.wait_timeout_while(self.memory(), INTERVAL, nothing_urgent);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The life of the thread: takes what has gathered, writes it, and says so.
fn write_behind(shared: &Shared, mut file: LogFile) {
    loop {
        let mut memory = shared.wait();
        let (is_closing, waiting) = (memory.is_closing, std::mem::take(&mut memory.waiting));
        let pending = std::mem::take(&mut memory.pending);
        let alive = memory.entries.octets() as u64;
        // What changes from here on is pending again, and comes behind the copy of what is alive.
        let rewrites = std::mem::take(&mut memory.is_behind) || file.octets > 2 * alive + SLACK_OCTETS;
        drop(memory);
        let written = if rewrites { file.rewrite(shared) } else { file.append(&pending) };
        let mut memory = shared.memory();
        memory.is_behind |= written.is_err();
        if memory.is_behind {
            memory.pending = Vec::new();
        }
        memory.fault = written.as_ref().err().map(ToString::to_string);
        drop(memory);
        for waiting in waiting {
            // One that is gone does not want to know.
            let _ = waiting.send(written.is_ok());
        }
        if is_closing {
            return;
        }
    }
}

/// The log, open at its end.
#[derive(Debug)]
struct LogFile {
    directory: PathBuf,
    file: File,
    octets: u64,
}

impl LogFile {
    /// Reads the log, and cuts off what is not whole.
    fn open(directory: PathBuf, entries: &mut Entries) -> Result<(Self, u64), StateError> {
        let path = directory.join("log");
        let mut file = options().open(&path)?;
        let length = file.metadata()?.len();
        let mut header = vec![0; log::HEADER.len()];
        let mut reader = BufReader::new(&file);
        let read = log::fill(&mut reader, &mut header)?;
        if header[..read] != log::HEADER[..read] {
            return Err(StateError::Foreign(path));
        }
        let good = if read == header.len() { read as u64 + log::read(&mut reader, entries)? } else { 0 };
        if good < length {
            file.set_len(good)?;
        }
        file.seek(SeekFrom::Start(good))?;
        let mut this = Self { directory, file, octets: good };
        if good == 0 {
            this.append(log::HEADER)?;
        }
        Ok((this, length - good))
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.file.write_all(records)?;
        self.file.sync_data()?;
        self.octets += records.len() as u64;
        Ok(())
    }

    /// Writes all that is alive into a new file, in steps, and puts it in the place of the old one.
    fn rewrite(&mut self, shared: &Shared) -> io::Result<()> {
        let path = self.directory.join("log.new");
        let mut file = options().truncate(true).open(&path)?;
        let (mut records, mut place, mut octets) = (log::HEADER.to_vec(), None, 0);
        loop {
            place = shared.memory().entries.walk(place.as_ref(), |entry| {
                log::write(entry, &mut records);
                records.len() < STEP_OCTETS
            });
            file.write_all(&records)?;
            octets += records.len() as u64;
            records.clear();
            if place.is_none() {
                break;
            }
        }
        file.sync_all()?;
        fs::rename(&path, self.directory.join("log"))?;
        File::open(&self.directory)?.sync_all()?;
        (self.file, self.octets) = (file, octets);
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// One owner. The file is empty; the lock goes with the process.
fn lock(directory: &Path) -> Result<File, StateError> {
    let file = options().open(directory.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StateError::InUse(directory.to_owned())),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entries::Entry;
    use super::*;

    fn shared(memory_entries: Entries, pending: Vec<u8>) -> Shared {
        let memory = Memory {
            entries: memory_entries,
            pending,
            is_behind: false,
            is_closing: true,
            waiting: Vec::new(),
            fault: None,
        };
        Shared { memory: Mutex::new(memory), wake: Condvar::new() }
    }

    #[test]
    fn what_could_not_be_appended_is_in_the_next_file() -> Result<(), StateError> {
        let root = tempfile::tempdir()?;
        let (mut entries, mut pending) = (Entries::default(), Vec::new());
        let entry = Entry { table: "t", key: b"k", value: Some((b"v", 9)) };
        entries.apply(entry);
        log::write(entry, &mut pending);
        let shared = shared(entries, pending);
        let (mut file, _) = LogFile::open(root.path().to_owned(), &mut Entries::default())?;
        file.file = File::open(root.path().join("log"))?;
        write_behind(&shared, file);
        assert!(shared.memory().fault.is_some(), "it is open for reading only");
        let mut before = Entries::default();
        let (file, _) = LogFile::open(root.path().to_owned(), &mut before)?;
        assert_eq!(before.len(), 0);
        write_behind(&shared, file);
        assert!(shared.memory().fault.is_none());
        let mut after = Entries::default();
        LogFile::open(root.path().to_owned(), &mut after)?;
        assert_eq!(after.get("t", b"k", SystemTime::UNIX_EPOCH), Some(&b"v"[..]));
        Ok(())
    }
}
