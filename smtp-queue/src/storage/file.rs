//! The storage of every day: a directory.

use std::any::Any;
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock, statvfs};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{Space, Storage, StorageFile};

/// A directory as a spool's storage: readable by its owner alone (SECURITY.md D-39).
#[derive(Debug)]
pub struct FileStorage {
    root: PathBuf,
    /// Kept open, so that they can be synced when there are no descriptors left.
    directories: Mutex<HashMap<PathBuf, Arc<File>>>,
}

/// The file that says whose the spool is.
const LOCK: &str = "lock";

impl FileStorage {
    /// Opens the directory, and makes it where it is missing.
    ///
    /// # Errors
    /// What the system gave.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        make_durable(&root)?;
        Ok(Self { root: root.canonicalize()?, directories: Mutex::default() })
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut known = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = known.get(path) {
            return Ok(directory.clone());
        }
        let directory = Arc::new(File::open(self.path(path))?);
        known.insert(path.to_owned(), directory.clone());
        Ok(directory)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }
}

/// Makes a directory and those above it, each with a durable name.
fn make_durable(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_directory(parent_of(path)),
        // Whoever made it may have been ended in front of the sync. A place that is not ours to read was not made by us.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            let synced = sync_directory(parent_of(path));
            if matches!(&synced, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
                Ok(())
            } else {
                synced
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_durable(path.parent().ok_or(error)?)?;
            make_durable(path)
        }
        Err(error) => Err(error),
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(".".as_ref())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A process, so that a boot or a reused number is not mistaken for it.
fn this_process() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("process {} of boot {}", std::process::id(), boot.trim())
}

impl Storage for FileStorage {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let path = self.path(LOCK.as_ref());
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
        let mut file = options.clone().custom_flags(flags).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                // Who it is only helps the reader of the message.
                let _ = file.take(200).read_to_string(&mut owner);
                let text = format!("{} is in use by {}", self.root.display(), owner.trim());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", this_process())?;
        Ok(Box::new(file))
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        make_durable(&self.path(path))?;
        self.directory(path).map(drop)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(directory))? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push((name, metadata.len()));
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(path))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.path(path))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn adopt(&self, source: &Path, path: &Path) -> io::Result<()> {
        fs::hard_link(source, self.path(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.directory(directory)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let found = statvfs(&self.root)?;
        let octets = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space {
            total_octets: octets(found.f_blocks),
            free_octets: octets(found.f_bavail),
            free_inodes: (found.f_files > 0).then_some(found.f_favail),
        })
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

#[derive(Debug)]
struct DiskFile(File);

/// The most slices that one system call takes (`IOV_MAX` of Linux).
const SLICES: usize = 1024;

impl StorageFile for DiskFile {
    fn write_at(&self, mut offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut copies: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut rest = &mut copies[..];
        // Empty slices in front would make a write of nothing look like a full disk.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let some = rest.len().min(SLICES);
            match rustix::io::pwritev(&self.0, &rest[..some], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut rest, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_at_once(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match preadv2(&self.0, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            // Not every file system can tell whether it would wait.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            other => other.map_err(Into::into),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), 0, octets) {
                Err(Errno::INTR) => {}
                // A file system that cannot reserve still can grow.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.0.set_len(octets),
                other => return other.map_err(Into::into),
            }
        }
    }

    fn octets(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_read_without_waiting() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = FileStorage::open(directory.path())?.create("a".as_ref())?;
        file.write_at(3, &[IoSlice::new(b"one "), IoSlice::new(b"two")])?;
        let mut buffer = [0; 7];
        match file.read_at_once(3, &mut buffer) {
            Ok(read) => assert_eq!(&buffer[..read], b"one two"),
            // Some file systems never know.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        Ok(())
    }
}
