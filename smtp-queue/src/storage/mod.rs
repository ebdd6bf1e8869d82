//! The seam between the spool and the file system: few operations, each of which a test double can fail, forget or
//! reorder.
//!
//! Paths are relative to the root of the spool. What POSIX promises is what the spool relies on, and no more: a write
//! is on stable storage when a later [`StorageFile::sync`] of that file has returned, the name of a file when a later
//! [`Storage::sync_directory`] of its directory has; until then any part of either may be lost, in any order. A rename
//! is atomic.

mod file;
#[cfg(any(test, feature = "simulation"))]
mod simulated;

use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use self::file::FileStorage;
#[cfg(any(test, feature = "simulation"))]
pub use self::simulated::{
    CrashPoint, FaultEffect, FaultError, FaultPoint, OperationKind, PowerLoss, SimStorage, StorageFault,
    StorageOperation, UnsyncedOperation,
};

/// The file operations of a spool.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Takes the spool for this process alone until the returned value is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where another process has it; its text says which.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// Makes a directory; one that is there already is fine. Its name is durable when this returns.
    ///
    /// # Errors
    /// What the system gave.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// The names and lengths of the files in a directory, in no particular order.
    ///
    /// # Errors
    /// What the system gave.
    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Makes a file that was not there, for reading and writing.
    ///
    /// # Errors
    /// What the system gave; [`io::ErrorKind::AlreadyExists`].
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that is there, for reading and writing; no link is followed.
    ///
    /// # Errors
    /// What the system gave.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;

    /// Gives a file from elsewhere on the same file system a second name in the spool. `source` is not relative to the
    /// root. Neither the name nor the octets are durable yet.
    ///
    /// # Errors
    /// What the system gave.
    fn adopt(&self, source: &Path, path: &Path) -> io::Result<()>;

    /// Renames a file; what had the new name is gone.
    ///
    /// # Errors
    /// What the system gave.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system gave.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable as they are.
    ///
    /// # Errors
    /// What the system gave. It must not be called again and then believed.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// How much room there is.
    ///
    /// # Errors
    /// What the system gave.
    fn space(&self) -> io::Result<Space>;

    /// The directory itself, where there is one: content may be received into a directory beneath it.
    fn root(&self) -> Option<&Path> {
        None
    }
}

/// An open file of a spool.
pub trait StorageFile: fmt::Debug + Send + Sync {
    /// Writes all octets of all slices, one behind the other, from that place on. The file grows where it must.
    ///
    /// # Errors
    /// What the system gave; any part of the octets may have been written.
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()>;

    /// Reads octets from that place on. Fewer than asked for only at the end of the file.
    ///
    /// # Errors
    /// What the system gave.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`StorageFile::read_at`], but never waits for a disk. Fewer octets than asked for say nothing about the end of
    /// the file. What cannot do this, as here, always would have to wait.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where it would have to wait, and what the system gave.
    fn read_at_once(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = (offset, buffer);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Makes the octets and the length of the file durable.
    ///
    /// # Errors
    /// What the system gave. It must not be called again and then believed.
    fn sync(&self) -> io::Result<()>;

    /// Reserves room up to that length, which becomes the length of the file; what was not written reads as zeros.
    ///
    /// # Errors
    /// What the system gave.
    fn allocate(&self, octets: u64) -> io::Result<()>;

    /// How long it is.
    ///
    /// # Errors
    /// What the system gave.
    fn octets(&self) -> io::Result<u64>;
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Octets in all.
    pub total_octets: u64,
    /// Octets that may still be used.
    pub free_octets: u64,
    /// Files that may still be made; `None` where the file system does not count them.
    pub free_inodes: Option<u64>,
}
