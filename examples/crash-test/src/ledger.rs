//! The ledger: every `250` that a client saw, on stable storage before it counts.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many lines wait for a sync at most; clients wait beyond that.
const QUEUED_LINES: usize = 10_000;

/// A `250` after content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledged {
    /// Of which message.
    pub(crate) number: u64,
    /// For which recipients, as bits.
    pub(crate) recipients: u8,
    /// Which run of the program said it.
    pub(crate) run: usize,
}

/// Writes and syncs on a thread of its own.
#[derive(Debug)]
pub(crate) struct Ledger {
    thread: JoinHandle<io::Result<()>>,
}

impl Ledger {
    /// Makes the file; `synced` hears of each entry when it is on stable storage. Ends when all senders are gone.
    ///
    /// # Errors
    /// What the system gave.
    pub(crate) fn create(
        path: &Path,
        synced: impl Fn(&[Acknowledged]) + Send + 'static,
    ) -> io::Result<(Self, SyncSender<Acknowledged>)> {
        let file = File::create_new(path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        let (sender, receiver) = sync_channel(QUEUED_LINES);
        let work = move || write(file, &receiver, synced);
        let thread = std::thread::Builder::new().name("ledger".into()).spawn(work)?;
        Ok((Self { thread }, sender))
    }

    /// Waits for the last entry.
    ///
    /// # Errors
    /// What kept it from being written.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the ledger panicked")))
    }
}

fn write(mut file: File, receiver: &Receiver<Acknowledged>, synced: impl Fn(&[Acknowledged])) -> io::Result<()> {
    // Whatever came while the last group was synced is the next one.
    while let Ok(first) = receiver.recv() {
        let group: Vec<_> = std::iter::once(first).chain(receiver.try_iter().take(QUEUED_LINES)).collect();
        let mut lines = String::new();
        for Acknowledged { number, recipients, run } in &group {
            let _ = writeln!(lines, "{number} {recipients:03b} {run}");
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        synced(&group);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn every_entry_is_written_and_reported_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ledger");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let numbers = seen.clone();
        let (ledger, sender) = Ledger::create(&path, move |group: &[Acknowledged]| {
            numbers.lock().expect("nobody panics").extend(group.iter().map(|entry| entry.number));
        })
        .expect("made");
        for number in 0..1000 {
            sender.send(Acknowledged { number, recipients: 0b101, run: 3 }).expect("it listens");
        }
        drop(sender);
        ledger.finish().expect("written");
        assert_eq!(*seen.lock().expect("nobody panics"), (0..1000).collect::<Vec<_>>());
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text.lines().count(), 1000);
        assert_eq!(text.lines().last(), Some("999 101 3"));
    }
}
