//! A storage in memory whose octets a law can take out, change and put back.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smtp_queue::{Space, Storage, StorageFile};

/// All files by their paths.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

/// More than any script writes.
const TOTAL_OCTETS: u64 = 1 << 30;
/// A script that needs more has met a spool that leaks segments.
const FILE_LIMIT: usize = 400;
/// Nothing writes further than this into a file.
const FILE_LIMIT_OCTETS: u64 = 64 << 20;

#[derive(Debug, Default)]
pub(super) struct MemoryStorage {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    locked: Arc<AtomicBool>,
}

impl MemoryStorage {
    pub(super) fn of(image: &Image) -> Arc<Self> {
        let files = image.iter().map(|(path, octets)| (path.clone(), MemoryFile::of(octets.clone()))).collect();
        Arc::new(Self { files: Mutex::new(files), locked: Arc::default() })
    }

    pub(super) fn image(&self) -> Image {
        lock(&self.files).iter().map(|(path, file)| (path.clone(), lock(&file.0).clone())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(path: &Path) -> String {
    path.to_str().expect("the spool names its files in ASCII").to_owned()
}

struct Lock(Arc<AtomicBool>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Storage for MemoryStorage {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        if self.locked.swap(true, Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "in use"));
        }
        Ok(Box::new(Lock(self.locked.clone())))
    }

    fn make_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let within = name(directory) + "/";
        let files = lock(&self.files);
        let found = files
            .iter()
            .filter_map(|(path, file)| Some((path.strip_prefix(&within)?.to_owned(), lock(&file.0).len() as u64)));
        Ok(found.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut files = lock(&self.files);
        assert!(files.len() < FILE_LIMIT, "too many files");
        if files.contains_key(&name(path)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = MemoryFile::of(Vec::new());
        files.insert(name(path), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = lock(&self.files).get(&name(path)).cloned();
        file.map(|file| file as Arc<dyn StorageFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn adopt(&self, _source: &Path, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::CrossesDevices.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(&name(from)).ok_or(io::ErrorKind::NotFound)?;
        files.insert(name(to), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).remove(&name(path)).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let used: u64 = lock(&self.files).values().map(|file| lock(&file.0).len() as u64).sum();
        let free_octets = TOTAL_OCTETS.saturating_sub(used);
        Ok(Space { total_octets: TOTAL_OCTETS, free_octets, free_inodes: None })
    }
}

#[derive(Debug)]
struct MemoryFile(Mutex<Vec<u8>>);

impl MemoryFile {
    fn of(octets: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(octets)))
    }
}

impl StorageFile for MemoryFile {
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut octets = lock(&self.0);
        let more: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offset + more as u64 <= FILE_LIMIT_OCTETS, "a write at {offset}");
        let mut place = usize::try_from(offset).expect("within the limit");
        let length = octets.len().max(place + more);
        octets.resize(length, 0);
        for slice in slices {
            octets[place..place + slice.len()].copy_from_slice(slice);
            place += slice.len();
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = lock(&self.0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len());
        let read = buffer.len().min(octets.len() - from);
        buffer[..read].copy_from_slice(&octets[from..from + read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        assert!(octets <= FILE_LIMIT_OCTETS, "{octets} octets are reserved");
        let mut all = lock(&self.0);
        let length = all.len().max(usize::try_from(octets).expect("within the limit"));
        all.resize(length, 0);
        Ok(())
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }
}
