//! STANDARDS.md C2, C3, C8; SECURITY.md T2: power fails at every moment of random work, and nothing that was acknowledged
//! is lost. The larger run is the program `power-loss`; here it is shown that the test finds what it is there for.

use std::any::Any;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use smtp_queue::{
    Faults, Opened, PowerLossReport, PowerLossSettings, SegmentSettings, SegmentSpool, SimStorage, Space, Storage,
    StorageFile, Subject, power_loss, small_spool,
};

/// Looks at so many disks; ends with the first finding.
fn look_at<S: Subject>(states: u64, subject: impl Fn(u64) -> S) -> PowerLossReport {
    let settings = PowerLossSettings::default();
    let mut report = PowerLossReport::default();
    for seed in 1..10_000 {
        power_loss(&subject(seed), seed, &settings, &mut report, |report| report.states() >= states);
        if report.states() >= states || !report.breaches.is_empty() {
            break;
        }
    }
    report
}

#[test] // SECURITY.md T2
fn t2_no_power_loss_loses_what_was_acknowledged() {
    let report = look_at(5000, small_spool);
    let found: Vec<_> = report.breaches.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(report.acknowledged > 100 && report.restarts > 10, "{} and {}", report.acknowledged, report.restarts);
    println!("{}", report.counts);
}

/// How many disks are looked at before a planted fault must have been found.
const STATES: u64 = 60_000;

#[track_caller]
fn must_be_found<S: Subject>(what: &str, subject: impl Fn(u64) -> S) {
    let report = look_at(STATES, subject);
    let first = report.breaches.first().unwrap_or_else(|| panic!("{what}: not found in {} disks", report.states()));
    println!("{what}: found after {} disks: {first}", report.states());
}

fn with_fault(plant: impl Fn(&mut Faults)) -> impl Fn(u64) -> SegmentSettings {
    move |seed| {
        let mut settings = small_spool(seed);
        plant(&mut settings.faults);
        settings
    }
}

#[test]
fn t2_finds_a_spool_that_acknowledges_before_the_sync() {
    must_be_found("acknowledges before the sync", with_fault(|faults| faults.acknowledges_before_sync = true));
}

#[test]
fn t2_finds_a_spool_that_recycles_before_the_relocation_is_synced() {
    let plant = with_fault(|faults| faults.recycles_before_relocation_is_synced = true);
    must_be_found("recycles before the relocation is synced", plant);
}

#[test]
fn t2_finds_a_spool_that_drops_removals_early() {
    must_be_found("drops removals early", with_fault(|faults| faults.drops_removals_early = true));
}

#[test]
fn t2_finds_a_spool_that_trusts_stale_payloads() {
    must_be_found("trusts stale payloads", with_fault(|faults| faults.trusts_stale_payloads = true));
}

#[test]
fn t2_finds_a_spool_that_forgets_removals() {
    must_be_found("forgets removals", with_fault(|faults| faults.forgets_removals = true));
}

#[test]
fn t2_finds_a_spool_that_does_not_sync_the_names_of_segments() {
    must_be_found("does not sync the names of segments", with_fault(|faults| faults.skips_directory_sync = true));
}

#[test]
fn t2_finds_a_disk_that_does_not_sync_the_log() {
    must_be_found("a disk that does not sync the log", |seed| Lying(small_spool(seed), Lie::Sync("log/")));
}

#[test]
fn t2_finds_a_disk_that_does_not_sync_large_content() {
    must_be_found("a disk that does not sync content", |seed| Lying(small_spool(seed), Lie::Sync("incoming/")));
}

#[test]
fn t2_finds_a_disk_that_does_not_keep_the_names_of_segments() {
    must_be_found("a disk that loses names of segments", |seed| Lying(small_spool(seed), Lie::SyncDirectory("log")));
}

#[test]
fn t2_finds_a_disk_that_does_not_keep_the_names_of_large_content() {
    let lie = Lie::SyncDirectory("content");
    must_be_found("a disk that loses names of content", |seed| Lying(small_spool(seed), lie));
}

/// What a disk says that it has done and has not.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// To sync files whose path begins so.
    Sync(&'static str),
    /// To sync that directory.
    SyncDirectory(&'static str),
}

/// The embedded spool on a disk that lies.
struct Lying(SegmentSettings, Lie);

impl Subject for Lying {
    type Spool = SegmentSpool;

    fn open(&self, storage: &SimStorage) -> Result<Opened<SegmentSpool>, String> {
        let disk = LyingDisk { disk: storage.clone(), lie: self.1 };
        let (spool, _) = SegmentSpool::open_manual(Arc::new(disk), self.0.clone()).map_err(|e| e.to_string())?;
        Ok(Opened { spool: Arc::new(spool), damaged: Vec::new() })
    }

    fn step(&self, spool: &SegmentSpool) -> bool {
        self.0.step(spool)
    }

    fn newest_snapshot(&self, files: &[(String, u64)]) -> Option<String> {
        self.0.newest_snapshot(files)
    }
}

#[derive(Debug)]
struct LyingDisk {
    disk: SimStorage,
    lie: Lie,
}

#[derive(Debug)]
struct LyingFile {
    file: Arc<dyn StorageFile>,
    syncs: bool,
}

impl LyingDisk {
    fn file(&self, path: &Path, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        let lies = matches!(self.lie, Lie::Sync(start) if path.to_string_lossy().starts_with(start));
        Arc::new(LyingFile { file, syncs: !lies })
    }
}

impl Storage for LyingDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.disk.lock()
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.make_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(path, self.disk.open(path)?))
    }

    fn adopt(&self, source: &Path, path: &Path) -> io::Result<()> {
        self.disk.adopt(source, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let lies = matches!(self.lie, Lie::SyncDirectory(name) if directory == Path::new(name));
        if lies { Ok(()) } else { self.disk.sync_directory(directory) }
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl StorageFile for LyingFile {
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        self.file.write_at(offset, slices)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs { self.file.sync() } else { Ok(()) }
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        self.file.allocate(octets)
    }

    fn octets(&self) -> io::Result<u64> {
        self.file.octets()
    }
}
