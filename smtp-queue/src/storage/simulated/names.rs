//! The names of files: what a process sees, and what a crash may leave of it.
//!
//! Each unsynced change of a directory is kept or lost by itself. A rename may also be kept by half, so that the file
//! has both names; it is never lost under both.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::crash::{Dice, Fate};
use super::operation::{OperationKind, UnsyncedOperation};
use super::sectors::{hash_octets, mix};

/// The number of a file, whatever its names.
pub(super) type Inode = u32;

type Table = BTreeMap<Arc<str>, Inode>;

/// The names on a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    seen: Arc<Table>,
    durable: Arc<Table>,
    unsynced: Vec<Change>,
}

/// An unsynced change: one name is given, one is taken away, or both.
#[derive(Debug, Clone)]
struct Change {
    number: u64,
    kind: OperationKind,
    gives: Option<(Arc<str>, Inode)>,
    takes: Option<Arc<str>>,
}

/// The directory of a name.
pub(super) fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Inode> {
        self.seen.get(name).copied()
    }

    /// All names, with their files.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, Inode)> {
        self.seen.iter().map(|(name, inode)| (name, *inode))
    }

    /// The names in a directory: the last component of each.
    pub(super) fn within<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a str, Inode)> {
        self.seen.iter().filter(move |(name, _)| directory_of(name) == directory).map(move |(name, inode)| {
            let start = if directory.is_empty() { 0 } else { directory.len() + 1 };
            (&name[start..], *inode)
        })
    }

    pub(super) fn give(&mut self, number: u64, kind: OperationKind, name: Arc<str>, inode: Inode) {
        Arc::make_mut(&mut self.seen).insert(name.clone(), inode);
        self.unsynced.push(Change { number, kind, gives: Some((name, inode)), takes: None });
    }

    pub(super) fn rename(&mut self, number: u64, from: &Arc<str>, to: Arc<str>) -> io::Result<()> {
        let inode = self.get(from).ok_or(io::ErrorKind::NotFound)?;
        if *from == to {
            return Ok(());
        }
        let seen = Arc::make_mut(&mut self.seen);
        seen.remove(from);
        seen.insert(to.clone(), inode);
        let (gives, takes) = (Some((to, inode)), Some(from.clone()));
        self.unsynced.push(Change { number, kind: OperationKind::Rename, gives, takes });
        Ok(())
    }

    pub(super) fn remove(&mut self, number: u64, name: &Arc<str>) -> io::Result<()> {
        Arc::make_mut(&mut self.seen).remove(name).ok_or(io::ErrorKind::NotFound)?;
        let takes = Some(name.clone());
        self.unsynced.push(Change { number, kind: OperationKind::Remove, gives: None, takes });
        Ok(())
    }

    /// Makes the names in a directory durable. Where that takes a name away from a file, its new name elsewhere becomes
    /// durable with it.
    pub(super) fn sync(&mut self, directory: &str) {
        let mut rest: Vec<Change> = Vec::new();
        for mut change in std::mem::take(&mut self.unsynced) {
            let here = |name: &Arc<str>| directory_of(name) == directory;
            let takes_here = change.takes.as_ref().is_some_and(here);
            if change.gives.as_ref().is_some_and(|(name, _)| takes_here || here(name)) {
                let (name, inode) = change.gives.take().expect("it gives a name");
                // What was to become of that name before is overtaken.
                for earlier in &mut rest {
                    earlier.gives.take_if(|(given, _)| *given == name);
                    earlier.takes.take_if(|taken| *taken == name);
                }
                Arc::make_mut(&mut self.durable).insert(name, inode);
            }
            if takes_here && let Some(name) = change.takes.take() {
                Arc::make_mut(&mut self.durable).remove(&name);
            }
            if change.gives.is_some() || change.takes.is_some() {
                rest.push(change);
            }
        }
        rest.retain(|change| change.gives.is_some() || change.takes.is_some());
        self.unsynced = rest;
    }

    /// Makes all names durable.
    pub(super) fn sync_all(&mut self) {
        self.durable = self.seen.clone();
        self.unsynced.clear();
    }

    /// The names that a power loss leaves behind.
    pub(super) fn crash(&self, dice: &mut Dice) -> Self {
        let mut left = self.durable.clone();
        for change in &self.unsynced {
            let fate = dice.of_name(change.number, change.kind == OperationKind::Rename && change.gives.is_some());
            if fate == Fate::Lost {
                continue;
            }
            let left = Arc::make_mut(&mut left);
            if let Some((name, inode)) = &change.gives {
                left.insert(name.clone(), *inode);
            }
            if let Some(name) = change.takes.as_ref().filter(|_| fate == Fate::Kept) {
                left.remove(name);
            }
        }
        Self { seen: left.clone(), durable: left, unsynced: Vec::new() }
    }

    pub(super) fn unsynced(&self) -> impl Iterator<Item = UnsyncedOperation> {
        self.unsynced.iter().map(|change| UnsyncedOperation {
            number: change.number,
            kind: change.kind,
            sectors: 0,
            overwrites: false,
            grows: false,
        })
    }

    /// Whether a file has no name any more, whatever a crash does.
    pub(super) fn has_forgotten(&self, inode: Inode) -> bool {
        let given = |change: &Change| change.gives.as_ref().is_some_and(|(_, given)| *given == inode);
        !self.seen.values().chain(self.durable.values()).any(|named| *named == inode)
            && !self.unsynced.iter().any(given)
    }

    /// A number that tells durable names apart, with what `file` says of each file.
    pub(super) fn hash(&self, file: impl Fn(Inode) -> u64) -> u64 {
        self.durable
            .iter()
            .fold(0, |sum: u64, (name, inode)| sum.wrapping_add(mix(hash_octets(name.as_bytes()) ^ mix(file(*inode)))))
    }
}
