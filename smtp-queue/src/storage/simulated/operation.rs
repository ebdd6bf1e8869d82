//! What a simulated storage was asked to do.

use std::sync::Arc;

/// A kind of operation on a storage or on a file of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OperationKind {
    /// [`Storage::lock`](crate::Storage::lock).
    Lock,
    /// [`Storage::make_directory`](crate::Storage::make_directory).
    MakeDirectory,
    /// [`Storage::list`](crate::Storage::list).
    List,
    /// [`Storage::create`](crate::Storage::create).
    Create,
    /// [`Storage::open`](crate::Storage::open).
    Open,
    /// [`Storage::adopt`](crate::Storage::adopt).
    Adopt,
    /// [`Storage::rename`](crate::Storage::rename).
    Rename,
    /// [`Storage::remove`](crate::Storage::remove).
    Remove,
    /// [`Storage::sync_directory`](crate::Storage::sync_directory).
    SyncDirectory,
    /// [`Storage::space`](crate::Storage::space).
    Space,
    /// [`StorageFile::write_at`](crate::StorageFile::write_at).
    Write,
    /// [`StorageFile::read_at`](crate::StorageFile::read_at).
    Read,
    /// [`StorageFile::sync`](crate::StorageFile::sync).
    Sync,
    /// [`StorageFile::allocate`](crate::StorageFile::allocate).
    Allocate,
    /// [`StorageFile::octets`](crate::StorageFile::octets).
    Octets,
}

impl OperationKind {
    /// Whether it may change what is on the disk, now or later.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Lock | Self::List | Self::Open | Self::Space | Self::Read | Self::Octets)
    }
}

/// One operation that was asked for, whether or not it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageOperation {
    /// Its number: the first of a storage is 0.
    pub number: u64,
    /// What it was.
    pub kind: OperationKind,
    /// The path; of a file, the one under which it was made or opened; of a rename, the old one.
    pub path: Arc<str>,
    /// Where in the file.
    pub offset: u64,
    /// How many octets.
    pub octets: u64,
}

/// An operation that succeeded and may still be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsyncedOperation {
    /// Its number.
    pub number: u64,
    /// What it was: write, allocate, adopt (the octets and the name, each by itself), create, rename or remove.
    pub kind: OperationKind,
    /// How many sectors it wrote; 0 where a name is unsynced.
    pub sectors: usize,
    /// Whether one of them held something durable before: an overwrite in place.
    pub overwrites: bool,
    /// Whether it made the file longer.
    pub grows: bool,
}
