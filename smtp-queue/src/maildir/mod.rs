//! Maildirs: a message is there whole and on stable storage, for all of its recipients, or not at all.
//!
//! [`MaildirStore::deliver`] writes and syncs every copy in `tmp`, then renames all of them into `new`, then syncs
//! those directories. Whatever fails on the way, the copies are removed again; what cannot be removed is named in the
//! error. [`mailbox_directory()`] says where the Maildir of a mailbox lies, [`directories`] makes directories that are
//! still there after a power loss, [`unique_name`] names the files, [`stale`] removes what a crash left in `tmp`.
//!
//! Nothing here knows about sessions; every call blocks and belongs into `tokio::task::spawn_blocking`.

mod directories;
mod mailbox_directory;
mod stale;
mod unique_name;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use self::directories::DurableDirectories;
use self::unique_name::UniqueNames;

pub use self::mailbox_directory::{NoDirectory, mailbox_directory};

/// Copies that are open at the same time, so that many recipients do not use up the descriptors.
const OPEN_COPIES: usize = 64;
/// Octets gathered for one write.
const WRITE_OCTETS: usize = 64 << 10;

/// The Maildirs beneath one root.
#[derive(Debug)]
pub struct MaildirStore {
    directories: DurableDirectories,
    names: UniqueNames,
}

impl MaildirStore {
    /// Opens the root, and makes it where it is missing. The name of the host becomes part of the names of files.
    ///
    /// # Errors
    /// Where the root cannot be made.
    pub fn open(root: &Path, hostname: &str) -> io::Result<Self> {
        Ok(Self { directories: DurableDirectories::open(root)?, names: UniqueNames::new(hostname) })
    }

    /// The directory beneath which everything lies.
    pub fn root(&self) -> &Path {
        self.directories.root()
    }

    /// Makes a directory beneath the root.
    ///
    /// # Errors
    /// Where it cannot be made, or something else has its name.
    pub fn make_directory(&self, relative: &Path) -> io::Result<PathBuf> {
        self.directories.make(relative)
    }

    /// Makes a Maildir beneath the root: the directory with `tmp`, `new` and `cur`.
    ///
    /// # Errors
    /// Where it cannot be made, or something else has its name.
    pub fn make_maildir(&self, relative: &Path) -> io::Result<PathBuf> {
        self.directories.make_maildir(relative)
    }

    /// Delivers one copy into each of `maildirs`, which lie beneath the root and are made where they are missing.
    /// `write` is given the place in `maildirs` and writes that copy. Returns the names of the files, in the same
    /// order, when all of them are on stable storage.
    ///
    /// # Errors
    /// The first failure; then there is no copy anywhere, but for those that the error names.
    pub fn deliver(
        &self,
        maildirs: &[PathBuf],
        write: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> Result<Vec<String>, MaildirError> {
        let mut batch = Batch::default();
        let delivered = self.write_all(&mut batch, maildirs, write).and_then(|()| batch.commit());
        delivered.map_err(|source| MaildirError { source, left_over: batch.remove() })
    }

    /// Puts every copy on stable storage, in `tmp`.
    fn write_all(
        &self,
        batch: &mut Batch,
        maildirs: &[PathBuf],
        mut write: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        for (group, some) in maildirs.chunks(OPEN_COPIES).enumerate() {
            let mut open = Vec::with_capacity(some.len());
            for (place, maildir) in some.iter().enumerate() {
                let maildir = self.directories.make_maildir(maildir)?;
                let mut file = BufWriter::with_capacity(WRITE_OCTETS, batch.create(&maildir, self.names.next())?);
                write(group * OPEN_COPIES + place, &mut file)?;
                open.push(file.into_inner().map_err(io::IntoInnerError::into_error)?);
            }
            // All are written before the first sync, so that one sync can take others along.
            for file in &open {
                file.sync_all()?;
            }
        }
        Ok(())
    }

    /// Removes what deliveries that ended in a crash left in `tmp`: files that nobody has written to for 36 hours.
    /// Returns how many there were.
    pub fn remove_stale(&self, now: SystemTime) -> usize {
        stale::remove_beneath(self.root(), now)
    }
}

/// A delivery failed, and its copies were removed as far as the system let them be.
#[derive(Debug, Error)]
#[error("cannot deliver to a Maildir")]
pub struct MaildirError {
    source: io::Error,
    left_over: Vec<PathBuf>,
}

impl MaildirError {
    /// What the system said.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// Always: trouble with the disk is never a permanent answer (SECURITY.md G5).
    pub fn is_transient(&self) -> bool {
        true
    }

    /// Copies that could not be removed. Somebody may read them, and a later attempt makes them twice.
    pub fn left_over(&self) -> &[PathBuf] {
        &self.left_over
    }
}

/// A copy in `tmp`, later in `new`.
#[derive(Debug)]
struct MaildirCopy {
    name: String,
    tmp: PathBuf,
    new: PathBuf,
}

/// The copies of one message that are not delivered yet. Dropped, it removes them.
#[derive(Debug, Default)]
struct Batch {
    copies: Vec<MaildirCopy>,
}

impl Batch {
    /// Makes a file that was not there: no link is followed, nothing is overwritten.
    fn create(&mut self, maildir: &Path, name: String) -> io::Result<File> {
        let (tmp, new) = (maildir.join("tmp").join(&name), maildir.join("new").join(&name));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp)?;
        self.copies.push(MaildirCopy { name, tmp, new });
        Ok(file)
    }

    fn commit(&mut self) -> io::Result<Vec<String>> {
        for copy in &self.copies {
            fs::rename(&copy.tmp, &copy.new)?;
        }
        let directories: BTreeSet<_> = self.copies.iter().filter_map(|copy| copy.new.parent()).collect();
        for directory in directories {
            directories::sync(directory)?;
        }
        Ok(self.copies.drain(..).map(|copy| copy.name).collect())
    }

    /// Removes the copies, wherever they are; returns what could not be removed.
    fn remove(&mut self) -> Vec<PathBuf> {
        let places = self.copies.drain(..).flat_map(|copy| [copy.tmp, copy.new]);
        let is_left = |path: &PathBuf| match fs::remove_file(path) {
            Ok(()) => false,
            // It is in the other place, or was never renamed.
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        places.filter(is_left).collect()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Only a panic leaves copies here. They lie in `tmp`, where the removal of stale files finds what this leaves.
        self.remove();
    }
}

#[cfg(test)]
mod tests;
