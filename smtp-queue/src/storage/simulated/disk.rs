//! A disk and the cache above it: what a process sees, and what a crash may leave of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::crash::{Dice, Fate};
use super::names::{Inode, Names, directory_of};
use super::operation::{OperationKind, UnsyncedOperation};
use super::sectors::{Held, Image, SECTOR_OCTETS, mix};
use crate::storage::Space;

/// Room on a disk of which nobody said how large it is: a tebibyte.
const ROOM_OCTETS: u64 = 1 << 40;

/// Held by whoever has a file open.
pub(super) type Handle = Arc<()>;

/// A file.
#[derive(Debug, Clone, Default)]
struct File {
    seen: Image,
    durable: Image,
    unsynced: Vec<Arc<Written>>,
    /// Whether something of what is seen was forgotten by a failed sync.
    differs: bool,
    /// Counts who has it open.
    handles: Handle,
}

/// An unsynced write, or growth without one.
#[derive(Debug)]
struct Written {
    number: u64,
    kind: OperationKind,
    sectors: Vec<(usize, Held)>,
    /// The length of the file when it had returned.
    octets: u64,
    overwrites: bool,
    grows: bool,
}

/// The whole. Cheap to copy.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    directories: Arc<BTreeSet<Box<str>>>,
    names: Names,
    files: BTreeMap<Inode, File>,
    next_inode: Inode,
    space: Space,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            directories: Arc::new(BTreeSet::from(["".into()])),
            names: Names::default(),
            files: BTreeMap::new(),
            next_inode: 0,
            space: Space { total_octets: ROOM_OCTETS, free_octets: ROOM_OCTETS, free_inodes: Some(1 << 20) },
        }
    }

    pub(super) fn space(&mut self) -> &mut Space {
        &mut self.space
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.names.all().map(|(name, inode)| (name, self.octets(inode)))
    }

    /// Makes a directory and those above it, durable at once.
    pub(super) fn make_directory(&mut self, path: &str) -> io::Result<()> {
        if self.names.get(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut missing = path;
        while !self.directories.contains(missing) {
            Arc::make_mut(&mut self.directories).insert(missing.into());
            missing = directory_of(missing);
        }
        Ok(())
    }

    pub(super) fn list(&self, directory: &str) -> io::Result<Vec<(String, u64)>> {
        self.directory(directory)?;
        Ok(self.names.within(directory).map(|(name, inode)| (name.to_owned(), self.octets(inode))).collect())
    }

    fn directory(&self, directory: &str) -> io::Result<()> {
        self.directories.contains(directory).then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn open(&self, path: &str) -> io::Result<Inode> {
        self.names.get(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes a file.
    pub(super) fn create(&mut self, number: u64, kind: OperationKind, path: Arc<str>) -> io::Result<Inode> {
        self.directory(directory_of(&path))?;
        if self.names.get(&path).is_some() || self.directories.contains(&*path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some(inodes) = &mut self.space.free_inodes {
            *inodes = inodes.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.files.insert(inode, File::default());
        self.names.give(number, kind, path, inode);
        Ok(inode)
    }

    pub(super) fn rename(&mut self, number: u64, from: &Arc<str>, to: Arc<str>) -> io::Result<()> {
        self.directory(directory_of(&to))?;
        let replaced = self.names.get(&to).filter(|_| *from != to);
        self.names.rename(number, from, to)?;
        if let Some(inode) = replaced {
            self.release(inode);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, number: u64, path: &Arc<str>) -> io::Result<()> {
        let inode = self.open(path)?;
        self.names.remove(number, path)?;
        self.release(inode);
        Ok(())
    }

    /// What a file without a name takes up is free again.
    fn release(&mut self, inode: Inode) {
        if !self.names.all().any(|(_, named)| named == inode) {
            self.space.free_octets += on_disk(self.octets(inode));
            self.space.free_inodes = self.space.free_inodes.map(|inodes| inodes + 1);
        }
    }

    pub(super) fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        self.directory(directory)?;
        self.names.sync(directory);
        Ok(())
    }

    fn file(&mut self, inode: Inode) -> &mut File {
        self.files.entry(inode).or_default()
    }

    pub(super) fn handle(&mut self, inode: Inode) -> Handle {
        self.file(inode).handles.clone()
    }

    pub(super) fn octets(&self, inode: Inode) -> u64 {
        self.files.get(&inode).map_or(0, |file| file.seen.octets())
    }

    pub(super) fn read(&self, inode: Inode, offset: u64, buffer: &mut [u8]) -> usize {
        self.files.get(&inode).map_or(0, |file| file.seen.read(offset, buffer))
    }

    /// Makes room for a file of that length; how long it may become at least where there is not enough.
    fn grow(&mut self, inode: Inode, octets: u64) -> Result<(), u64> {
        let before = self.octets(inode);
        let more = on_disk(octets.max(before)) - on_disk(before);
        let Some(free) = self.space.free_octets.checked_sub(more) else {
            return Err(on_disk(before) + self.space.free_octets / SECTOR_OCTETS as u64 * SECTOR_OCTETS as u64);
        };
        self.space.free_octets = free;
        Ok(())
    }

    /// Writes; as much as there is room for, if there is too little.
    pub(super) fn write(
        &mut self,
        number: u64,
        kind: OperationKind,
        inode: Inode,
        offset: u64,
        slices: &[IoSlice<'_>],
    ) -> io::Result<()> {
        let wanted: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let end = offset.checked_add(wanted).ok_or(io::ErrorKind::FileTooLarge)?;
        if wanted == 0 {
            return Ok(());
        }
        if let Err(limit) = self.grow(inode, end) {
            let some = first_octets(slices, limit.saturating_sub(offset));
            let _ = self.grow(inode, offset + some.len() as u64);
            if !some.is_empty() {
                self.file(inode).write(number, kind, offset, &[IoSlice::new(&some)]);
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file(inode).write(number, kind, offset, slices);
        Ok(())
    }

    pub(super) fn allocate(&mut self, number: u64, inode: Inode, octets: u64) -> io::Result<()> {
        self.grow(inode, octets).map_err(|_| io::ErrorKind::StorageFull)?;
        let file = self.file(inode);
        if octets > file.seen.octets() {
            file.note(number, OperationKind::Allocate, Vec::new(), octets);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: Inode) {
        let file = self.file(inode);
        if file.differs {
            file.durable = file.crash(&mut Dice::new(super::PowerLoss::AllKept));
        } else {
            file.durable = file.seen.clone();
        }
        file.unsynced.clear();
    }

    /// Syncs everything.
    pub(super) fn flush(&mut self) {
        let inodes: Vec<Inode> = self.files.keys().copied().collect();
        for inode in inodes {
            self.sync(inode);
        }
        self.names.sync_all();
        // What has no name and is not open is no more.
        self.files.retain(|inode, file| Arc::strong_count(&file.handles) > 1 || !self.names.has_forgotten(*inode));
    }

    /// A sync that failed after some sectors, and forgets the others.
    pub(super) fn sync_partly(&mut self, inode: Inode, dice: &mut Dice) {
        let file = self.file(inode);
        if !file.unsynced.is_empty() {
            file.durable = file.crash(dice);
            file.unsynced.clear();
            file.differs = true;
        }
    }

    pub(super) fn unsynced(&self) -> Vec<UnsyncedOperation> {
        let written = self.files.values().flat_map(|file| &file.unsynced).map(|written| UnsyncedOperation {
            number: written.number,
            kind: written.kind,
            sectors: written.sectors.len(),
            overwrites: written.overwrites,
            grows: written.grows,
        });
        let mut all: Vec<_> = written.chain(self.names.unsynced()).collect();
        all.sort_by_key(|unsynced| unsynced.number);
        all
    }

    /// What a power loss leaves behind.
    pub(super) fn crash(&self, dice: &mut Dice) -> Self {
        let names = self.names.crash(dice);
        let mut files = BTreeMap::new();
        for (_, inode) in names.all() {
            if let Some(file) = self.files.get(&inode).filter(|_| !files.contains_key(&inode)) {
                let durable = file.crash(dice);
                files.insert(inode, File { seen: durable.clone(), durable, ..File::default() });
            }
        }
        let space = self.space_with(&names, &files);
        Self { directories: self.directories.clone(), names, files, next_inode: self.next_inode, space }
    }

    /// What the end of the process leaves behind: everything that still has a name.
    pub(super) fn kill(&self) -> Self {
        let mut left = self.clone();
        left.files.retain(|inode, _| !left.names.has_forgotten(*inode));
        left
    }

    /// The room there is when other files have names than now.
    fn space_with(&self, names: &Names, files: &BTreeMap<Inode, File>) -> Space {
        if self.space.total_octets == ROOM_OCTETS {
            // Nobody looks at the room of a disk of which nobody said how large it is.
            return Self::new().space;
        }
        let used = |names: &Names, files: &BTreeMap<Inode, File>| -> (u64, u64) {
            let inodes: BTreeSet<Inode> = names.all().map(|(_, inode)| inode).collect();
            let octets = |inode: &Inode| files.get(inode).map_or(0, |file| on_disk(file.seen.octets()));
            (inodes.iter().map(octets).sum(), inodes.len() as u64)
        };
        let ((octets_now, inodes_now), (octets, inodes)) = (used(&self.names, &self.files), used(names, files));
        Space {
            total_octets: self.space.total_octets,
            free_octets: (self.space.free_octets + octets_now).saturating_sub(octets),
            free_inodes: self.space.free_inodes.map(|free| (free + inodes_now).saturating_sub(inodes)),
        }
    }

    /// Turns one bit over, in the cache and on the disk.
    pub(super) fn flip(&mut self, inode: Inode, offset: u64, bit: u32) -> bool {
        let file = self.file(inode);
        file.durable.flip(offset, bit);
        file.seen.flip(offset, bit)
    }

    /// A number that tells apart what is durable.
    pub(super) fn hash(&self) -> u64 {
        let file = |inode| self.files.get(&inode).map_or(0, |file: &File| file.durable.hash());
        mix(self.names.hash(file) ^ mix(self.directories.len() as u64))
    }
}

impl File {
    fn write(&mut self, number: u64, kind: OperationKind, offset: u64, slices: &[IoSlice<'_>]) {
        let sectors = self.seen.written(offset, slices);
        let end = offset + slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        for (index, sector) in &sectors {
            self.seen.put(*index, sector.clone());
        }
        self.note(number, kind, sectors, end);
    }

    fn note(&mut self, number: u64, kind: OperationKind, sectors: Vec<(usize, Held)>, end: u64) {
        let grows = end > self.seen.octets();
        let octets = end.max(self.seen.octets());
        self.seen.set_octets(octets);
        let overwrites = sectors.iter().any(|(index, _)| self.durable.sector(*index).is_some());
        self.unsynced.push(Arc::new(Written { number, kind, sectors, octets, overwrites, grows }));
    }

    /// The octets that a power loss leaves behind.
    fn crash(&self, dice: &mut Dice) -> Image {
        let mut left = self.durable.clone();
        let mut octets = left.octets();
        let mut cut = false;
        for written in &self.unsynced {
            let fate = dice.of_octets(written.number);
            cut |= written.grows && dice.cuts(written.number);
            if fate == Fate::Lost {
                continue;
            }
            if !cut {
                octets = octets.max(written.octets);
            }
            for (index, sector) in &written.sectors {
                if fate == Fate::Kept || dice.keeps_sector() {
                    left.put(*index, sector.clone());
                }
            }
        }
        // First the sectors, then the length: what lies beyond it is gone.
        let reach = left.octets().max(self.seen.octets());
        left.set_octets(reach);
        left.set_octets(octets);
        left
    }
}

/// What a file of that length takes up.
fn on_disk(octets: u64) -> u64 {
    octets.div_ceil(SECTOR_OCTETS as u64) * SECTOR_OCTETS as u64
}

/// The first octets of the slices, at most so many.
pub(super) fn first_octets(slices: &[IoSlice<'_>], limit: u64) -> Vec<u8> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    slices.iter().flat_map(|slice| slice.iter().copied()).take(limit).collect()
}
