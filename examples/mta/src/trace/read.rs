//! The entries of a trace, read from its files in the order in which they were written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use smtp_policy::TraceEntry;

use crate::AnyError;

use super::files::{self, TraceFile};

/// The most octets of a line: 1 MiB. What is longer is no line of ours.
const LINE_OCTETS: u64 = 1 << 20;

/// The files of a trace.
#[derive(Debug)]
pub(super) struct Trace {
    files: Vec<TraceFile>,
}

impl Trace {
    /// All files of that directory.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub(super) fn open(directory: &Path) -> Result<Self, AnyError> {
        match files::list(directory) {
            Ok(files) => Ok(Self { files }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("there is no trace in {}", directory.display()).into())
            }
            Err(error) => Err(format!("cannot read the trace in {}: {error}", directory.display()).into()),
        }
    }

    /// The entries from that moment on. Lines that a crash cut, or that a later version wrote, are left out. A server that runs
    /// may remove a file meanwhile; it counts as empty.
    pub(super) fn entries(&self, since: SystemTime) -> impl Iterator<Item = TraceEntry> + use<> {
        // A file ends where the next one begins.
        let first = self.files.partition_point(|file| file.begun <= since).saturating_sub(1);
        let files: VecDeque<_> = self.files[first..].iter().cloned().collect();
        let lines = Lines { files, current: None };
        let entries = lines.filter_map(|line| TraceEntry::from_line(&line).ok());
        // What is looked at holds for what comes behind it.
        let is_heading = |entry: &TraceEntry| matches!(entry.traced(), smtp_policy::Traced::Rules { .. });
        entries.filter(move |entry| entry.at() >= since || is_heading(entry))
    }
}

/// Lines of several files.
struct Lines {
    files: VecDeque<TraceFile>,
    current: Option<BufReader<File>>,
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let Some(reader) = &mut self.current else {
                let file = self.files.pop_front()?;
                self.current = File::open(file.path).ok().map(BufReader::new);
                continue;
            };
            let mut line = Vec::new();
            match reader.take(LINE_OCTETS).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => self.current = None,
                // What is not UTF-8 is no line of ours, and left out as that.
                Ok(_) => return Some(String::from_utf8_lossy(&line).into_owned()),
            }
        }
    }
}
