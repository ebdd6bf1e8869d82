//! Content that is too large for the log: a file of its own, whole and durable before its record is written.
//!
//! Its checksum stands in the record (STANDARDS.md C1), and is looked at before the content is given to anybody.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32c::crc32c_append;

use crate::id::QueueId;
use crate::spool::NewContent;
use crate::storage::{Storage, StorageFile};

use super::effect::MessageHead;

/// Where the files are.
pub(super) const CONTENT: &str = "content";
/// Where files are until they have their name, and where sessions may receive content.
pub(super) const INCOMING: &str = "incoming";

/// Octets that are copied at once.
const COPY_OCTETS: usize = 256 << 10;

/// The file of a message's content.
pub(super) fn path(id: QueueId) -> PathBuf {
    Path::new(CONTENT).join(id.to_string())
}

fn incoming_path(id: QueueId) -> PathBuf {
    Path::new(INCOMING).join(id.to_string())
}

/// Makes the content file of a message: synced, then renamed, then the directory synced (STANDARDS.md C3). What was
/// received into a file of the same file system is not copied. Returns the checksum of the file.
///
/// # Errors
/// What the system gave; no file is left then, or one that the next start removes.
pub(super) fn store(storage: &dyn Storage, id: QueueId, content: &NewContent) -> io::Result<u32> {
    let incoming = incoming_path(id);
    let stored = make(storage, &incoming, content).and_then(|sum| {
        storage.rename(&incoming, &path(id))?;
        storage.sync_directory(CONTENT.as_ref())?;
        Ok(sum)
    });
    stored.inspect_err(|_| {
        // It is not referenced, so it does no harm; the next start removes what this does not.
        let _ = storage.remove(&incoming);
        let _ = storage.remove(&path(id));
    })
}

fn make(storage: &dyn Storage, incoming: &Path, content: &NewContent) -> io::Result<u32> {
    let adopted = content.content.path().map(|source| storage.adopt(source, incoming));
    let (file, found) = match adopted {
        Some(Ok(())) => {
            let file = storage.open(incoming)?;
            let found = sum(&*file)?;
            (file, found)
        }
        // On another file system, or in memory.
        Some(Err(_)) | None => copy(storage, incoming, content)?,
    };
    file.sync()?;
    Ok(found)
}

fn copy(storage: &dyn Storage, incoming: &Path, content: &NewContent) -> io::Result<(Arc<dyn StorageFile>, u32)> {
    let file = storage.create(incoming)?;
    let mut reader = content.content.reader()?;
    let mut buffer = vec![0; COPY_OCTETS];
    let (mut place, mut sum) = (0, 0);
    loop {
        match io::Read::read(&mut reader, &mut buffer) {
            Ok(0) => return Ok((file, sum)),
            Ok(read) => {
                file.write_at(place, &[IoSlice::new(&buffer[..read])])?;
                sum = crc32c_append(sum, &buffer[..read]);
                place += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The checksum of a file.
fn sum(file: &dyn StorageFile) -> io::Result<u32> {
    let mut buffer = vec![0; COPY_OCTETS];
    let (mut place, mut sum) = (0, 0);
    loop {
        match file.read_at(place, &mut buffer)? {
            0 => return Ok(sum),
            read => {
                sum = crc32c_append(sum, &buffer[..read]);
                place += read as u64;
            }
        }
    }
}

/// The content file of a message whose record has that head; `None` where it is missing, or not what it was.
///
/// # Errors
/// What the system gave.
pub(super) fn open(storage: &dyn Storage, id: QueueId, head: &MessageHead) -> io::Result<Option<Arc<dyn StorageFile>>> {
    let file = match storage.open(&path(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let is_whole = Some(file.octets()?) == head.file_octets() && sum(&*file)? == head.file_sum;
    Ok(is_whole.then_some(file))
}
