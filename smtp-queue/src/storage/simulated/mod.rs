//! A storage in memory that loses power, fails and lies as real ones do: for tests of what is built on the seam.
//!
//! [`SimStorage`] is two states at once: what the process sees, and what is on the disk for sure. Between them stand the
//! unsynced operations, and [`SimStorage::crash`] makes a new storage of any subset of them:
//!
//! - a write is kept or lost sector by sector (512 octets), so it may be torn, and what was there before shows through;
//! - the length of a file may lag behind its octets; what was allocated and not written is zeros;
//! - changes of names are kept or lost each by itself, in any order; a rename may leave both names, never neither;
//! - a sync makes octets and length durable, not the name; what was going on at the crash counts as not done.
//!
//! [`SimStorage::kill`] ends the process alone: the cache stays, and can still be lost later. [`StorageFault`]s make
//! operations fail, also with a sync that forgets what it could not write.
//!
//! Everything is decided by seeds; one thread at a time gives the same run again.
//!
//! ```
//! use std::io::IoSlice;
//! use smtp_queue::{PowerLoss, SimStorage, Storage};
//!
//! let storage = SimStorage::new();
//! let file = storage.create("log".as_ref())?;
//! storage.sync_directory("".as_ref())?;
//! file.write_at(0, &[IoSlice::new(b"never synced")])?;
//! let after = storage.crash(PowerLoss::AllLost);
//! assert_eq!(after.list("".as_ref())?, [("log".to_owned(), 0)]);
//! # Ok::<(), std::io::Error>(())
//! ```

mod crash;
mod disk;
mod fault;
mod file;
mod names;
mod operation;
mod sectors;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::crash::Dice;
pub use self::crash::PowerLoss;
use self::disk::Disk;
use self::fault::Faults;
pub use self::fault::{FaultEffect, FaultError, FaultPoint, StorageFault};
use self::file::SimFile;
pub use self::operation::{OperationKind, StorageOperation, UnsyncedOperation};
use super::{Space, Storage, StorageFile};

/// A storage in memory that can lose power. A copy is the same storage.
#[derive(Debug, Clone)]
pub struct SimStorage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    operations: Vec<StorageOperation>,
    faults: Faults,
    random: fastrand::Rng,
    /// The disk before each operation that changed it, while they are kept.
    crash_points: Option<Vec<CrashPoint>>,
}

/// A moment between two operations at which power may fail.
#[derive(Debug, Clone)]
pub struct CrashPoint {
    /// The operation that comes next; `None` where it is not known yet.
    pub before: Option<StorageOperation>,
    disk: Disk,
}

impl CrashPoint {
    /// What may still be lost, in the order in which it was done.
    pub fn unsynced(&self) -> Vec<UnsyncedOperation> {
        self.disk.unsynced()
    }

    /// A storage as power loss at this moment leaves it.
    pub fn crash(&self, loss: PowerLoss) -> SimStorage {
        SimStorage::of(self.disk.crash(&mut Dice::new(loss)))
    }
}

impl Default for SimStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl SimStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::of(Disk::new())
    }

    fn of(disk: Disk) -> Self {
        let random = fastrand::Rng::with_seed(0);
        let state = State { disk, operations: Vec::new(), faults: Faults::default(), random, crash_points: None };
        Self(Arc::new(Shared { state: Mutex::new(state), locked: Arc::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A storage as power loss leaves it now. This one goes on as if nothing had been.
    #[must_use]
    pub fn crash(&self, loss: PowerLoss) -> Self {
        Self::of(self.state().disk.crash(&mut Dice::new(loss)))
    }

    /// A storage as the end of the process leaves it now: what is unsynced is seen, and can still be lost.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::of(self.state().disk.kill())
    }

    /// Makes everything durable without being asked, as a kernel does after a while.
    pub fn flush(&self) {
        self.state().disk.flush();
    }

    /// What may still be lost, in the order in which it was done.
    pub fn unsynced(&self) -> Vec<UnsyncedOperation> {
        self.state().disk.unsynced()
    }

    /// A number that tells apart what is durable: names, lengths and octets.
    pub fn image_hash(&self) -> u64 {
        self.state().disk.hash()
    }

    /// Every operation so far.
    pub fn operations(&self) -> Vec<StorageOperation> {
        self.state().operations.clone()
    }

    /// How many operations there were.
    pub fn operation_count(&self) -> u64 {
        self.state().operations.len() as u64
    }

    /// The paths and lengths of all files.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.state().disk.names().map(|(name, octets)| (name.to_string(), octets)).collect()
    }

    /// Keeps each moment between two operations that change something, until [`SimStorage::take_crash_points`].
    pub fn keep_crash_points(&self) {
        self.state().crash_points.get_or_insert_default();
    }

    /// The moments since the last call.
    pub fn take_crash_points(&self) -> Vec<CrashPoint> {
        self.state().crash_points.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// This moment.
    pub fn crash_point(&self) -> CrashPoint {
        CrashPoint { before: None, disk: self.state().disk.clone() }
    }

    /// Lets operations fail from now on.
    pub fn fail(&self, fault: StorageFault) {
        self.state().faults.add(fault);
    }

    /// Lets nothing fail from now on.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Decides by that seed what a [`FaultEffect::Part`] is. The first seed is 0.
    pub fn set_seed(&self, seed: u64) {
        self.state().random.seed(seed);
    }

    /// Sets how much room there is: what is written from now on takes of it, and what finds none fails.
    pub fn set_space(&self, space: Space) {
        *self.state().disk.space() = space;
    }

    /// Turns one bit of a file over, in the cache and on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::UnexpectedEof`].
    pub fn flip(&self, path: &Path, offset: u64, bit: u32) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.disk.open(&name_of(path)?)?;
        state.disk.flip(inode, offset, bit).then_some(()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn file(&self, inode: names::Inode, name: Arc<str>) -> Arc<dyn StorageFile> {
        let handle = self.state().disk.handle(inode);
        Arc::new(SimFile::new(self.clone(), inode, name, handle))
    }

    /// Runs one operation: notes it, lets it fail if it is to, and otherwise does it.
    fn run<T>(
        &self,
        kind: OperationKind,
        path: &Arc<str>,
        [offset, octets]: [u64; 2],
        act: impl FnOnce(&mut Disk, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        match state.begin(kind, path, [offset, octets]) {
            (number, None) => act(&mut state.disk, number),
            (number, Some(fault)) => {
                if fault.effect == FaultEffect::Whole {
                    // Whether it could be done at all does not matter: it failed.
                    let _ = act(&mut state.disk, number);
                }
                Err(fault.error.error())
            }
        }
    }
}

impl State {
    /// Notes an operation: its number, and how it is to fail.
    fn begin(
        &mut self,
        kind: OperationKind,
        path: &Arc<str>,
        [offset, octets]: [u64; 2],
    ) -> (u64, Option<StorageFault>) {
        let number = self.operations.len() as u64;
        let operation = StorageOperation { number, kind, path: path.clone(), offset, octets };
        if kind.changes()
            && let Some(crash_points) = &mut self.crash_points
        {
            crash_points.push(CrashPoint { before: Some(operation.clone()), disk: self.disk.clone() });
        }
        self.operations.push(operation);
        (number, self.faults.meets(number, kind))
    }
}

/// The name of a path: its components, joined.
fn name_of(path: &Path) -> io::Result<Arc<str>> {
    let mut name = String::new();
    for component in path.components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::Normal(part) => {
                if !name.is_empty() {
                    name.push('/');
                }
                name.push_str(part.to_str().ok_or(io::ErrorKind::InvalidInput)?);
            }
            // Paths are relative to the root and stay beneath it.
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(name.into())
}

/// Gives the lock back when dropped.
struct Lock(Arc<AtomicBool>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Storage for SimStorage {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.run(OperationKind::Lock, &"".into(), [0; 2], |_, _| {
            if self.0.locked.swap(true, Ordering::Acquire) {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "the simulated storage is in use"));
            }
            Ok(Box::new(Lock(self.0.locked.clone())) as Box<dyn Any + Send + Sync>)
        })
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let name = name_of(path)?;
        self.run(OperationKind::MakeDirectory, &name, [0; 2], |disk, _| disk.make_directory(&name))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let name = name_of(directory)?;
        self.run(OperationKind::List, &name, [0; 2], |disk, _| disk.list(&name))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let name = name_of(path)?;
        let create = |disk: &mut Disk, number| disk.create(number, OperationKind::Create, name.clone());
        let inode = self.run(OperationKind::Create, &name, [0; 2], create)?;
        Ok(self.file(inode, name))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let name = name_of(path)?;
        let inode = self.run(OperationKind::Open, &name, [0; 2], |disk, _| disk.open(&name))?;
        Ok(self.file(inode, name))
    }

    /// The file is taken from the real file system: its octets are there, and unsynced.
    fn adopt(&self, source: &Path, path: &Path) -> io::Result<()> {
        let name = name_of(path)?;
        let found = std::fs::read(source)?;
        self.run(OperationKind::Adopt, &name, [0, found.len() as u64], |disk, number| {
            let inode = disk.create(number, OperationKind::Adopt, name.clone())?;
            disk.write(number, OperationKind::Adopt, inode, 0, &[IoSlice::new(&found)])
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (name_of(from)?, name_of(to)?);
        self.run(OperationKind::Rename, &from, [0; 2], |disk, number| disk.rename(number, &from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = name_of(path)?;
        self.run(OperationKind::Remove, &name, [0; 2], |disk, number| disk.remove(number, &name))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let name = name_of(directory)?;
        self.run(OperationKind::SyncDirectory, &name, [0; 2], |disk, _| disk.sync_directory(&name))
    }

    fn space(&self) -> io::Result<Space> {
        self.run(OperationKind::Space, &"".into(), [0; 2], |disk, _| Ok(*disk.space()))
    }
}
