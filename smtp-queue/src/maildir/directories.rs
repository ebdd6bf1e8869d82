//! Directories that survive a power loss: each is synced into its parent before anything in it counts.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Directories that are remembered as synced; beyond it, all are forgotten and synced once more.
const REMEMBERED: usize = 100_000;

/// Makes directories beneath a root, readable by their owner alone.
#[derive(Debug)]
pub(super) struct DurableDirectories {
    root: PathBuf,
    /// Those whose entry in their parent is on stable storage. That a directory exists does not say so: another
    /// delivery may have made it a moment ago and not have synced it yet.
    synced: Mutex<HashSet<PathBuf>>,
}

impl DurableDirectories {
    /// Opens the root, and makes it where it is missing. The root itself may be reached through links.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        let missing: Vec<_> = root.ancestors().take_while(|directory| !directory.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        for parent in missing.iter().filter_map(|directory| directory.parent()) {
            sync(parent)?;
        }
        let root = root.canonicalize()?;
        Ok(Self { root, synced: Mutex::default() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a directory beneath the root, with those on the way.
    pub(super) fn make(&self, relative: &Path) -> io::Result<PathBuf> {
        if relative.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path that leads out of the root"));
        }
        let mut path = self.root.clone();
        for name in relative {
            self.make_children(&path, &[name.as_ref()])?;
            path.push(name);
        }
        Ok(path)
    }

    /// Makes a Maildir beneath the root.
    pub(super) fn make_maildir(&self, relative: &Path) -> io::Result<PathBuf> {
        let path = self.make(relative)?;
        self.make_children(&path, &["tmp", "new", "cur"].map(Path::new))?;
        Ok(path)
    }

    /// Makes the missing ones of some directories, then syncs their parent once if any of them needs it.
    fn make_children(&self, parent: &Path, names: &[&Path]) -> io::Result<()> {
        let mut unsynced = Vec::new();
        for name in names {
            let path = parent.join(name);
            let is_new = make_one(&path)?;
            if is_new || !self.synced.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) {
                unsynced.push(path);
            }
        }
        if unsynced.is_empty() {
            return Ok(());
        }
        sync(parent)?;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.len() >= REMEMBERED {
            synced.clear();
        }
        synced.extend(unsynced);
        Ok(())
    }
}

/// Whether it was missing. A link is no directory, wherever it leads (SECURITY.md D-13).
fn make_one(path: &Path) -> io::Result<bool> {
    let is_directory = || fs::symlink_metadata(path).map(|metadata| metadata.is_dir());
    let is_new = match is_directory() {
        Ok(true) => return Ok(false),
        Ok(false) => false,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => match DirBuilder::new().mode(0o700).create(path) {
            // Somebody else made it, or something in its place, in between.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_directory()?,
            made => made.map(|()| true)?,
        },
    };
    if is_new {
        Ok(true)
    } else {
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is no directory", path.display())))
    }
}

/// Puts the entries of a directory on stable storage.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
