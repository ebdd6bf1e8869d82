//! Content: in memory up to a threshold, in a temporary file beyond it, never re-written.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tempfile::NamedTempFile;

/// Where content lies while it is received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContentSettings {
    /// Octets up to which content stays in memory: 256 KiB. What is larger goes to a file.
    pub memory_octets: usize,
    /// Octets of content that all sessions together hold in memory: 256 MiB. Beyond it content goes to a file at once.
    pub budget_octets: usize,
    /// Where files are made. Default: [`Delivery::content_dir`](crate::Delivery::content_dir), or else the system's
    /// directory for temporary files.
    pub directory: Option<PathBuf>,
}

impl Default for ContentSettings {
    fn default() -> Self {
        Self { memory_octets: 256 << 10, budget_octets: 256 << 20, directory: None }
    }
}

/// Memory that sessions share.
#[derive(Debug)]
struct Budget {
    free: AtomicUsize,
}

/// A part of the shared memory, given back when dropped.
#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    octets: usize,
}

impl Reservation {
    fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), octets: 0 }
    }

    /// Makes the part at least this large; `false` where the memory is spent.
    fn grow_to(&mut self, octets: usize) -> bool {
        let Some(more) = octets.checked_sub(self.octets).filter(|&more| more > 0) else { return true };
        let taken = self.budget.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more));
        if taken.is_ok() {
            self.octets = octets;
        }
        taken.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.octets, Ordering::Relaxed);
    }
}

/// Makes room for content.
#[derive(Debug, Clone)]
pub(crate) struct ContentStore {
    memory_octets: usize,
    directory: Arc<Path>,
    budget: Arc<Budget>,
}

/// What a client that announced no size is expected to send at first.
const FIRST_OCTETS: usize = 4096;
/// What is collected before a file is written to, however little memory there is.
const FILE_BUFFER_OCTETS: usize = 16 << 10;
/// Beyond the announced size: for clients that do not count exactly.
const SLACK_OCTETS: usize = 256;

impl ContentStore {
    pub(crate) fn new(settings: &ContentSettings, default_directory: Option<&Path>) -> Self {
        let directory =
            settings.directory.as_deref().or(default_directory).map_or_else(std::env::temp_dir, Path::to_owned);
        Self {
            memory_octets: settings.memory_octets,
            directory: directory.into(),
            budget: Arc::new(Budget { free: AtomicUsize::new(settings.budget_octets) }),
        }
    }

    /// Room for content of about that size.
    ///
    /// # Errors
    /// Where memory is spent and no file can be made.
    pub(crate) async fn open(&self, declared_octets: Option<u64>) -> io::Result<ContentWriter> {
        let declared = declared_octets.and_then(|octets| usize::try_from(octets).ok());
        let expected = declared.map_or(FIRST_OCTETS, |octets| octets.saturating_add(SLACK_OCTETS));
        let mut reservation = Reservation::none(&self.budget);
        let in_memory = expected <= self.memory_octets && reservation.grow_to(expected);
        let mut writer = ContentWriter { store: self.clone(), memory: Vec::new(), reservation, file: None, octets: 0 };
        if in_memory {
            writer.memory.reserve_exact(expected);
        } else {
            writer.move_to_file().await?;
        }
        Ok(writer)
    }

    /// Whether files can be made.
    pub(crate) fn check(&self) -> Result<(), (PathBuf, String)> {
        self.new_file().map(drop).map_err(|error| (self.directory.to_path_buf(), error.to_string()))
    }

    fn new_file(&self) -> io::Result<NamedTempFile> {
        // Exclusive, readable by its owner alone, removed when dropped.
        tempfile::Builder::new().prefix("content-").suffix(".tmp").tempfile_in(&*self.directory)
    }
}

/// Content that is arriving.
#[derive(Debug)]
pub(crate) struct ContentWriter {
    store: ContentStore,
    /// All of it, or what is not yet in the file.
    memory: Vec<u8>,
    reservation: Reservation,
    file: Option<NamedTempFile>,
    octets: u64,
}

impl ContentWriter {
    /// Appends octets. Waits only where a file is written.
    pub(crate) async fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        if !self.append_to_memory(octets) {
            self.move_to_file().await?;
            if !self.append_to_memory(octets) {
                self.flush(octets).await?;
            }
        }
        self.octets += octets.len() as u64;
        Ok(())
    }

    fn append_to_memory(&mut self, octets: &[u8]) -> bool {
        let needed = self.memory.len() + octets.len();
        if needed > self.paid_octets() {
            let larger = needed.next_power_of_two().min(self.store.memory_octets);
            if self.file.is_some() || needed > larger || !self.reservation.grow_to(larger) {
                return false;
            }
        }
        if needed > self.memory.capacity() {
            self.memory.reserve_exact(self.paid_octets() - self.memory.len());
        }
        self.memory.extend_from_slice(octets);
        true
    }

    /// How much memory may be used: what is reserved, and before a file always a little, so that not each piece is
    /// written by itself.
    fn paid_octets(&self) -> usize {
        if self.file.is_some() { self.reservation.octets.max(FILE_BUFFER_OCTETS) } else { self.reservation.octets }
    }

    async fn move_to_file(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let store = self.store.clone();
            self.file = Some(blocking(move || store.new_file()).await?);
        }
        self.flush(&[]).await
    }

    /// Writes what is in memory, then `octets`. Both stay reserved while they are written, even where nobody waits any
    /// more, and the memory afterwards for what comes next.
    async fn flush(&mut self, octets: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let mut pending = std::mem::take(&mut self.memory);
        let reservation = std::mem::replace(&mut self.reservation, Reservation::none(&self.store.budget));
        let extra = octets.to_vec();
        (self.file, self.memory, self.reservation) = blocking(move || {
            file.write_all(&pending)?;
            file.write_all(&extra)?;
            pending.clear();
            Ok((Some(file), pending, reservation))
        })
        .await?;
        Ok(())
    }

    /// The content is complete.
    pub(crate) async fn finish(mut self) -> io::Result<Content> {
        if self.file.is_some() {
            self.flush(&[]).await?;
        }
        let storage = match self.file {
            Some(file) => Storage::File(file),
            None => Storage::Memory { octets: self.memory.into(), _reservation: self.reservation },
        };
        Ok(Content { storage: Arc::new(storage), octets: self.octets })
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

enum Storage {
    Memory { octets: Bytes, _reservation: Reservation },
    File(NamedTempFile),
}

/// The octets of a message as they arrived, transparency removed: every line ends with CRLF, there is no bare CR or LF
/// and no NUL. By `BDAT` the last line may come without its CRLF; and a message that is declared as
/// [binary](crate::Body::BinaryMime) may have any octets.
///
/// A copy is cheap and shares the octets. Large content is in a file, so a policy reads it where blocking is allowed:
///
/// ```
/// # use std::io::Read;
/// # async fn example(content: &smtp_core::Content) -> std::io::Result<usize> {
/// let mut reader = content.reader()?;
/// tokio::task::spawn_blocking(move || {
///     let mut octets = Vec::new();
///     reader.read_to_end(&mut octets)
/// })
/// .await?
/// # }
/// ```
#[derive(Clone)]
pub struct Content {
    storage: Arc<Storage>,
    octets: u64,
}

impl Content {
    /// Content that an application made itself; it stays in memory. Nothing looks into it: lines must end with CRLF.
    pub fn new(octets: impl Into<Bytes>) -> Self {
        let octets = octets.into();
        let budget = Arc::new(Budget { free: AtomicUsize::new(0) });
        let length = octets.len() as u64;
        let storage = Storage::Memory { octets, _reservation: Reservation::none(&budget) };
        Self { storage: Arc::new(storage), octets: length }
    }

    /// How many octets there are.
    pub fn len(&self) -> u64 {
        self.octets
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// All octets, where they are in memory; `None` where they are in a file.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &*self.storage {
            Storage::Memory { octets, .. } => Some(octets),
            Storage::File(_) => None,
        }
    }

    /// The file of large content. It is removed with the content.
    pub fn path(&self) -> Option<&Path> {
        match &*self.storage {
            Storage::Memory { .. } => None,
            Storage::File(file) => Some(file.path()),
        }
    }

    /// Reads from the start. Blocks where the content is in a file.
    ///
    /// # Errors
    /// What opening the file gave.
    pub fn reader(&self) -> io::Result<ContentReader> {
        Ok(ContentReader(match &*self.storage {
            Storage::Memory { octets, .. } => Source::Memory(Cursor::new(octets.clone())),
            Storage::File(file) => Source::File(file.reopen()?),
        }))
    }

    /// All octets, read into memory if need be. Blocks where the content is in a file.
    ///
    /// # Errors
    /// What reading the file gave.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        if let Some(octets) = self.as_bytes() {
            return Ok(octets.clone());
        }
        let mut octets = Vec::with_capacity(usize::try_from(self.octets).unwrap_or(0));
        self.reader()?.read_to_end(&mut octets)?;
        Ok(octets.into())
    }

    /// Gives the file of large content a second name, on the same file system, in the place of nothing; that name stays
    /// when the content is dropped. `None` where the content is in memory. The caller syncs file and directory.
    ///
    /// # Errors
    /// What linking the file gave; the content is still there then.
    pub fn persist(&self, target: impl AsRef<Path>) -> Option<io::Result<()>> {
        self.path().map(|path| std::fs::hard_link(path, target))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("octets", &self.octets).field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Reads content from its start.
#[derive(Debug)]
pub struct ContentReader(Source);

#[derive(Debug)]
enum Source {
    Memory(Cursor<Bytes>),
    File(File),
}

impl ContentReader {
    /// Leaves out the next octets.
    ///
    /// # Errors
    /// What the file gave.
    pub(crate) fn skip(&mut self, octets: u64) -> io::Result<()> {
        match &mut self.0 {
            Source::Memory(cursor) => cursor.seek_relative(i64::try_from(octets).map_err(io::Error::other)?),
            Source::File(file) => file.seek_relative(i64::try_from(octets).map_err(io::Error::other)?),
        }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Memory(octets) => octets.read(buffer),
            Source::File(file) => file.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(memory_octets: usize, budget_octets: usize, directory: &Path) -> ContentStore {
        let settings = ContentSettings { memory_octets, budget_octets, directory: Some(directory.to_owned()) };
        ContentStore::new(&settings, None)
    }

    async fn write(store: &ContentStore, declared: Option<u64>, pieces: &[&[u8]]) -> io::Result<Content> {
        let mut writer = store.open(declared).await?;
        for piece in pieces {
            writer.append(piece).await?;
        }
        writer.finish().await
    }

    fn read(content: &Content) -> Vec<u8> {
        let mut octets = Vec::new();
        content.reader().expect("opens").read_to_end(&mut octets).expect("reads");
        octets
    }

    #[tokio::test]
    async fn content_is_the_same_wherever_it_lies() {
        let directory = tempfile::tempdir().expect("made");
        let pieces: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; usize::from(n) * 97 % 5000]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        for (memory, budget, in_file) in
            [(1 << 20, 1 << 20, false), (9000, 1 << 20, true), (1 << 20, 5000, true), (0, 0, true)]
        {
            for declared in [None, Some(10), Some(300_000), Some(u64::MAX)] {
                let store = store(memory, budget, directory.path());
                let content = write(&store, declared, &pieces).await.expect("written");
                assert_eq!(content.path().is_some(), in_file || declared == Some(u64::MAX));
                assert_eq!(read(&content), pieces.concat());
                assert_eq!(content.len(), pieces.concat().len() as u64);
                assert_eq!(content.to_bytes().expect("read"), pieces.concat());
                drop(content);
                assert_eq!(store.budget.free.load(Ordering::Relaxed), budget, "all memory is given back");
                assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 0, "no file stays");
            }
        }
    }

    #[tokio::test] // SECURITY.md D-33: with memory spent and no directory there is no room.
    async fn without_memory_and_without_a_directory_there_is_no_room() {
        let directory = tempfile::tempdir().expect("made");
        let nowhere = directory.path().join("missing");
        assert!(store(1 << 20, 100, &nowhere).open(None).await.is_err());
        assert!(store(1 << 20, 100_000, &nowhere).open(None).await.is_ok());
        assert!(write(&store(5000, 100_000, &nowhere), None, &[&[b'x'; 6000]]).await.is_err());
    }

    #[tokio::test]
    async fn a_persisted_file_stays() {
        let directory = tempfile::tempdir().expect("made");
        let content =
            write(&store(10, 100, directory.path()), None, &[b"content\r\n", b"more\r\n"]).await.expect("written");
        let target = directory.path().join("kept");
        content.persist(&target).expect("in a file").expect("linked");
        assert!(content.persist(&target).expect("in a file").is_err(), "nothing is overwritten");
        drop(content);
        assert_eq!(std::fs::read(&target).expect("there"), b"content\r\nmore\r\n");
    }
}
