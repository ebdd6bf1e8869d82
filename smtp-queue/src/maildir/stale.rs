//! What a crash leaves behind: files in `tmp` that nobody will finish.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The age after which the Maildir convention lets anybody remove a file from `tmp`.
const STALE_AFTER: Duration = Duration::from_secs(36 * 3600);
/// How deep Maildirs lie: the domain, the user, the folder.
const DEPTH: usize = 3;

/// Removes stale files from each `tmp` beneath `root`, as far as it can; how many. Links are not followed.
pub(super) fn remove_beneath(root: &Path, now: SystemTime) -> usize {
    remove(root, now, DEPTH)
}

fn remove(directory: &Path, now: SystemTime, depth: usize) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .map(|entry| {
            let path = entry.path();
            // A user may be called `tmp` too: then there are directories in it, and they are looked at as well.
            let files = if entry.file_name() == "tmp" { remove_files(&path, now) } else { 0 };
            files + if depth > 0 { remove(&path, now, depth - 1) } else { 0 }
        })
        .sum()
}

fn remove_files(directory: &Path, now: SystemTime) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let is_stale = |entry: &fs::DirEntry| {
        entry.metadata().is_ok_and(|metadata| {
            metadata.is_file()
                && metadata.modified().is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > STALE_AFTER))
        })
    };
    entries.flatten().filter(|entry| is_stale(entry) && fs::remove_file(entry.path()).is_ok()).count()
}
