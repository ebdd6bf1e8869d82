//! The log: one line for each event on standard error, each with the ids that join it to others. The trace takes the same way
//! to its files.
//!
//! Who has something to say formats its line and leaves it in a buffer; a thread writes whatever has gathered with one
//! call, then pauses, so that under load a call takes hundreds of lines. Nobody waits for a log that is stuck: what does
//! not fit is counted, and the number is logged afterwards.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// The most octets that wait to be written: 4 MiB, about 16,000 lines.
const WAITING_OCTETS: usize = 4 << 20;
/// How long lines gather after those before them were written: 5 ms. A line after a silence is written at once.
const GATHERING: Duration = Duration::from_millis(5);
/// How long the end of the program waits for the log: 2 s.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Starts the log. `RUST_LOG` has precedence over the level of the configuration.
///
/// # Errors
/// Where there can be no thread for it.
pub(crate) fn start(log: Log) -> io::Result<LogLines> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log.level.as_str()));
    let log_lines = LogLines::new("log", WAITING_OCTETS, io::stderr())?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let lines = lines.with_writer(log_lines.clone());
    match log.format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
    }
    Ok(log_lines)
}

/// Lines on their way to the log.
#[derive(Debug, Clone)]
pub(crate) struct LogLines {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    waiting_octets: usize,
    waiting: Mutex<Waiting>,
    /// There are lines, or there is nothing left to write.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines that did not fit since the last time that this was logged.
    lost: u64,
    /// The thread has been woken, and looks for more before it sleeps.
    is_awake: bool,
}

impl LogLines {
    /// Lines for `output`, as long as no more than so many octets wait.
    ///
    /// # Errors
    /// Where there can be no thread for it.
    pub(crate) fn new(
        name: &'static str,
        waiting_octets: usize,
        output: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { name, waiting_octets, waiting: Mutex::default(), changed: Condvar::new() });
        let for_thread = shared.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || for_thread.write_to(output))?;
        Ok(Self { shared })
    }

    /// Waits until every line so far is written, but not for long.
    pub(crate) fn finish(&self) {
        let is_busy = |waiting: &mut Waiting| waiting.is_awake || !waiting.lines.is_empty();
        // Where the log is stuck the program ends without its last lines.
        let _ = self.shared.changed.wait_timeout_while(self.shared.lock(), LAST_LINES, is_busy);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, as long as the program runs.
    fn write_to(&self, mut output: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() {
                waiting.is_awake = false;
                self.changed.notify_all();
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.is_awake = true;
            std::mem::swap(&mut waiting.lines, &mut lines);
            drop(waiting);
            let result = output.write_all(&lines).and_then(|()| output.flush());
            let mut waiting = self.lock();
            if result.is_err() {
                // A full disk, for example. What did not get there is counted, and tried no more.
                waiting.lost += lines.split_inclusive(|octet| *octet == b'\n').count() as u64;
            }
            let lost = if result.is_ok() { std::mem::take(&mut waiting.lost) } else { 0 };
            drop(waiting);
            lines.clear();
            if lost > 0 {
                // It gets here as any other line does.
                tracing::warn!(target: "mta", lines = lost, "the {} was stuck, and lines of it are lost", self.name);
            }
            std::thread::sleep(GATHERING);
        }
    }
}

impl LogLines {
    /// Takes a whole line, or counts it as lost.
    pub(crate) fn take(&self, line: &[u8]) {
        let mut waiting = self.shared.lock();
        if waiting.lines.len() + line.len() > self.shared.waiting_octets {
            waiting.lost += 1;
        } else {
            waiting.lines.extend_from_slice(line);
        }
        let was_awake = std::mem::replace(&mut waiting.is_awake, true);
        drop(waiting);
        if !was_awake {
            self.shared.changed.notify_all();
        }
    }
}

impl Write for &LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// A disk that writes when it is told to, and keeps what was written.
    struct Stuck {
        may_write: Receiver<io::Result<()>>,
        written: SyncSender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.may_write.recv().unwrap_or(Ok(()))?;
            self.written.send(String::from_utf8_lossy(octets).into_owned()).expect("the test reads it");
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (SyncSender<io::Result<()>>, Receiver<String>, LogLines) {
        let (allow, may_write) = sync_channel(100);
        let (written, writes) = sync_channel(100);
        let lines = LogLines::new("log", 100, Stuck { may_write, written }).expect("a thread");
        (allow, writes, lines)
    }

    fn log(lines: &LogLines, line: &str) {
        (&mut &*lines).write_all(line.as_bytes()).expect("it never fails");
    }

    #[test] // SECURITY.md: nothing is unbounded, and nobody waits for the log.
    fn a_stuck_log_holds_nobody_up_and_says_how_much_is_lost() {
        let (allow, writes, lines) = stuck();
        log(&lines, "first\n");
        // The thread has it, and hangs.
        while !lines.shared.lock().lines.is_empty() {
            std::thread::yield_now();
        }
        for number in 0..30 {
            log(&lines, &format!("line {number:04}\n"));
        }
        {
            let waiting = lines.shared.lock();
            assert_eq!((waiting.lines.len(), waiting.lost), (100, 20));
        }
        allow.send(Ok(())).expect("it listens");
        assert_eq!(writes.recv().expect("written"), "first\n");
        allow.send(Ok(())).expect("it listens");
        let batch = writes.recv().expect("written");
        assert!(batch.starts_with("line 0000\n") && batch.lines().count() == 10, "in one call: {batch}");
        lines.finish();
        let waiting = lines.shared.lock();
        assert_eq!((waiting.lines.len(), waiting.lost, waiting.is_awake), (0, 0, false));
    }

    #[test]
    fn what_the_disk_refuses_is_counted() {
        let (allow, writes, lines) = stuck();
        allow.send(Err(io::ErrorKind::StorageFull.into())).expect("it listens");
        log(&lines, "first\n");
        lines.finish();
        assert_eq!(lines.shared.lock().lost, 1);
        allow.send(Ok(())).expect("it listens");
        log(&lines, "second\n");
        assert_eq!(writes.recv().expect("written"), "second\n");
        lines.finish();
        assert_eq!(lines.shared.lock().lost, 0);
    }
}
