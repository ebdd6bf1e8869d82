//! Where the lines of the trace go: files of one day or an eighth of the room at most, the oldest removed first.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::TraceSettings;

/// The end of the name of a file; the rest are the milliseconds since 1970 when it was begun.
const EXTENSION: &str = "jsonl";
const DAY: Duration = Duration::from_secs(86_400);
/// The most files: 500. A server that restarts all the time begins one each time.
const FILES: usize = 500;

/// Writes lines, and forgets old ones.
#[derive(Debug)]
pub(super) struct TraceFiles<C> {
    directory: PathBuf,
    settings: TraceSettings,
    heading: String,
    clock: C,
    current: Option<Current>,
    /// It is logged once that nothing can be written.
    is_failing: bool,
}

#[derive(Debug)]
struct Current {
    file: File,
    octets: u64,
    begun: SystemTime,
}

/// A file of the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TraceFile {
    /// When it was begun.
    pub(super) begun: SystemTime,
    pub(super) path: PathBuf,
}

/// The files there, the oldest first.
///
/// # Errors
/// What the system gave; there may be no directory yet.
pub(super) fn list(directory: &Path) -> io::Result<Vec<TraceFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let path = entry.path();
        let millis = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(begun) = millis.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
            && path.extension().is_some_and(|extension| extension == EXTENSION)
        {
            files.push(TraceFile { begun, path });
        }
    }
    files.sort();
    Ok(files)
}

/// Removes what was kept when it was still to be kept.
pub(super) fn remove_all(directory: &Path) {
    for file in list(directory).unwrap_or_default() {
        if let Err(error) = fs::remove_file(&file.path) {
            let file = file.path.display();
            tracing::warn!(target: "mta", %file, %error, "an old trace cannot be removed");
        }
    }
}

impl<C: Fn() -> SystemTime> TraceFiles<C> {
    /// In that directory, which is made with the first line. Each file begins with `heading`.
    pub(super) fn new(directory: PathBuf, settings: TraceSettings, heading: String, clock: C) -> Self {
        Self { directory, settings, heading, clock, current: None, is_failing: false }
    }

    fn file_octets(&self) -> u64 {
        self.settings.total_octets / 8
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let now = (self.clock)();
        let octets = lines.len() as u64;
        let most = self.file_octets();
        let fits = |current: &Current| {
            // A clock that goes back ends a file too.
            let age = now.duration_since(current.begun).unwrap_or(DAY);
            age < DAY && current.octets + octets <= most
        };
        let mut current = if let Some(current) = self.current.take().filter(fits) {
            current
        } else {
            self.forget(now, octets)?;
            self.begin(now)?
        };
        current.file.write_all(lines)?;
        current.octets += octets;
        // Where it failed another file is begun, behind what may be half a line.
        self.current = Some(current);
        Ok(())
    }

    /// Another file, whose name stands behind all that there are, also where the clock went back.
    fn begin(&self, now: SystemTime) -> io::Result<Current> {
        let last = list(&self.directory)?.pop();
        let begun = last.map_or(now, |last| now.max(last.begun + Duration::from_millis(1)));
        let millis = begun.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let path = self.directory.join(format!("{millis:013}.{EXTENSION}"));
        let mut file = File::options().append(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all(self.heading.as_bytes()) {
            // On a full disk it would take the place of an older one, which has something in it.
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(Current { file, octets: self.heading.len() as u64, begun: now })
    }

    /// Makes room for another file, and removes what is too old.
    fn forget(&self, now: SystemTime, octets: u64) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let files = list(&self.directory)?;
        let sizes: Vec<u64> =
            files.iter().map(|file| fs::metadata(&file.path).map_or(0, |found| found.len())).collect();
        let mut room =
            self.settings.total_octets.saturating_sub(self.file_octets().max(octets + self.heading.len() as u64));
        let mut keeps = true;
        for (place, (file, size)) in files.iter().zip(&sizes).rev().enumerate() {
            // The last line in it may be a day younger.
            let is_young = now.duration_since(file.begun).unwrap_or_default() < self.settings.keep + DAY;
            keeps = keeps && is_young && *size <= room && place + 1 < FILES;
            room = room.saturating_sub(*size);
            if !keeps {
                fs::remove_file(&file.path)?;
            }
        }
        Ok(())
    }
}

impl<C: Fn() -> SystemTime> Write for TraceFiles<C> {
    /// Takes whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let result = self.append(lines);
        match &result {
            Err(error) if !self.is_failing => {
                let directory = self.directory.display();
                tracing::error!(target: "mta", %directory, %error, "the trace cannot be written; mail goes on");
            }
            _ => {}
        }
        self.is_failing = result.is_err();
        result.map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;
    use std::rc::Rc;

    use super::*;

    const SETTINGS: TraceSettings =
        TraceSettings { keep: Duration::from_secs(2 * 86_400), total_octets: 8000, daily_summary: false };

    /// Writes batches at hours of its choice.
    struct Trial {
        directory: tempfile::TempDir,
        now: Rc<Cell<SystemTime>>,
        files: TraceFiles<Box<dyn Fn() -> SystemTime>>,
    }

    impl Trial {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let now = Rc::new(Cell::new(UNIX_EPOCH + Duration::from_secs(1_795_311_863)));
            let shared = now.clone();
            let clock: Box<dyn Fn() -> SystemTime> = Box::new(move || shared.get());
            let place = directory.path().join(".trace");
            Self { directory, now, files: TraceFiles::new(place, SETTINGS, "heading\n".into(), clock) }
        }

        fn write(&mut self, lines: &str) {
            self.files.write_all(lines.as_bytes()).expect("written");
        }

        fn wait(&self, hours: u64) {
            self.now.set(self.now.get() + Duration::from_secs(hours * 3600));
        }

        fn there(&self) -> Vec<String> {
            let files = list(&self.directory.path().join(".trace")).expect("a directory");
            files.iter().map(|file| fs::read_to_string(&file.path).expect("a file")).collect()
        }
    }

    #[test]
    fn a_file_holds_a_day_and_lives_as_long_as_asked() {
        let mut trial = Trial::new();
        trial.write("one\n");
        trial.wait(23);
        trial.write("two\n");
        trial.wait(1);
        trial.write("three\n");
        assert_eq!(trial.there(), ["heading\none\ntwo\n", "heading\nthree\n"]);
        trial.wait(47);
        trial.write("four\n");
        assert_eq!(trial.there().len(), 3, "two was written 48 hours ago");
        trial.wait(24);
        trial.write("five\n");
        assert_eq!(trial.there(), ["heading\nthree\n", "heading\nfour\n", "heading\nfive\n"]);
    }

    #[test] // SECURITY: nothing is unbounded
    fn all_files_together_stay_within_their_room() {
        let mut trial = Trial::new();
        for number in 0..1000 {
            trial.write(&format!("{number:09}\n").repeat(10));
            let octets: usize = trial.there().iter().map(String::len).sum();
            assert!(octets <= 8000, "{octets}");
        }
        let there = trial.there();
        assert!(there.len() >= 7 && there.concat().ends_with("000000999\n"), "the youngest stay");
        trial.write(&"x".repeat(6000));
        assert!(trial.there().iter().map(String::len).sum::<usize>() <= 8000, "also with a large batch");
    }

    #[test]
    fn restarts_leave_a_bounded_number_of_files() {
        let mut trial = Trial::new();
        for _ in 0..FILES + 20 {
            trial.write("x\n");
            trial.files.current = None;
        }
        assert_eq!(trial.there().len(), FILES);
    }

    #[test]
    fn it_is_for_nobody_else_to_read() {
        let mut trial = Trial::new();
        trial.write("x\n");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let place = trial.directory.path().join(".trace");
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&list(&place).expect("a directory")[0].path), 0o600);
    }

    #[test]
    fn a_failure_is_given_back_and_the_next_lines_are_tried_again() {
        let mut trial = Trial::new();
        let place = trial.directory.path().join(".trace");
        fs::write(&place, "in the way").expect("written");
        assert!(trial.files.write_all(b"lost\n").is_err());
        fs::remove_file(&place).expect("removed");
        trial.write("kept\n");
        assert_eq!(trial.there(), ["heading\nkept\n"]);
    }
}
