//! Both state stores pass the contract; the one with a file survives crashes, damage and a disk that does not work.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use smtp_core::async_trait;
use smtp_policy::state_contract::{StateStoreUnderTest, check_state_store};
use smtp_policy::{Change, FileStateStore, MemoryStateStore, StateError, StateLimits, StateStore};

/// A new directory for each store.
struct InFiles {
    root: tempfile::TempDir,
    next: AtomicUsize,
}

impl InFiles {
    fn path(&self, number: usize) -> PathBuf {
        self.root.path().join(number.to_string())
    }
}

#[async_trait]
impl StateStoreUnderTest for InFiles {
    type Store = FileStateStore;

    async fn create(&self) -> FileStateStore {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        FileStateStore::open(self.path(number)).expect("a directory")
    }

    async fn reopen(&self, store: FileStateStore) -> Option<FileStateStore> {
        drop(store);
        Some(FileStateStore::open(self.path(self.next.load(Ordering::Relaxed) - 1)).expect("a directory"))
    }
}

struct InMemory;

#[async_trait]
impl StateStoreUnderTest for InMemory {
    type Store = MemoryStateStore;

    async fn create(&self) -> MemoryStateStore {
        MemoryStateStore::new()
    }
}

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    check_state_store(&InMemory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_a_file_keeps_the_contract() {
    check_state_store(&InFiles { root: directory(), next: AtomicUsize::new(0) }).await;
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory for the test")
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

async fn set(store: &impl StateStore, number: u32, octets: usize) -> Result<(), StateError> {
    let expires = NOW + Duration::from_secs(u64::from(number) + 1);
    let mut change = |_: Option<&[u8]>| Change::Set { value: vec![7; octets], expires };
    store.update("t", &number.to_be_bytes(), NOW, &mut change).await
}

async fn has(store: &impl StateStore, number: u32) -> Result<bool, StateError> {
    Ok(store.get("t", &number.to_be_bytes(), NOW).await?.is_some())
}

/// How many of the numbers from 0 on are there, and that none is behind them.
async fn first_missing(store: &FileStateStore) -> Result<u32, StateError> {
    let count = u32::try_from(store.entries()).expect("a few");
    for number in 0..count {
        assert!(has(store, number).await?, "{number} of {count} is missing");
    }
    Ok(count)
}

#[tokio::test]
async fn one_owner_has_the_directory() -> Result<(), StateError> {
    let root = directory();
    let store = FileStateStore::open(root.path())?;
    let second = FileStateStore::open(root.path());
    assert!(matches!(&second, Err(error @ StateError::InUse(_)) if error.is_transient()), "{second:?}");
    drop(store);
    FileStateStore::open(root.path()).map(drop)
}

#[tokio::test]
async fn a_file_of_others_is_left_alone() -> Result<(), Box<dyn std::error::Error>> {
    let root = directory();
    fs::write(root.path().join("log"), "Dear diary")?;
    assert!(matches!(FileStateStore::open(root.path()), Err(StateError::Foreign(_))));
    assert_eq!(fs::read(root.path().join("log"))?, b"Dear diary");
    Ok(())
}

/// Files with a hundred values, the log cut or changed at each of many places: it opens, says what it cut, has what stands
/// before, and goes on.
#[tokio::test]
async fn a_torn_or_damaged_log_is_cut_and_goes_on() -> Result<(), Box<dyn std::error::Error>> {
    let root = directory();
    let store = FileStateStore::open(root.path())?;
    for number in 0..100 {
        set(&store, number, 10).await?;
    }
    drop(store);
    let path = root.path().join("log");
    let whole = fs::read(&path)?;
    let header = whole.iter().position(|octet| *octet == b'\n').expect("a first line") + 1;
    let record = (whole.len() - header) / 100;
    for place in (header..whole.len()).step_by(37).chain([whole.len() - 1]) {
        let before = u32::try_from((place - header) / record)?;
        let mut changed = whole.clone();
        changed[place] ^= 1;
        let zeros = [&whole[..place], &[0; 5000][..]].concat();
        for (what, octets) in [("cut", whole[..place].to_vec()), ("changed", changed), ("zeros", zeros)] {
            fs::write(&path, &octets)?;
            let good = header + before as usize * record;
            {
                let store = FileStateStore::open(root.path())?;
                assert_eq!(store.cut_octets(), (octets.len() - good) as u64, "{what} at {place}");
                assert_eq!(first_missing(&store).await?, before, "{what} at {place}");
                set(&store, before, 10).await?;
            }
            let store = FileStateStore::open(root.path())?;
            assert_eq!((store.cut_octets(), first_missing(&store).await?), (0, before + 1), "{what} at {place}");
        }
    }
    // Not even the first line was written.
    for length in 0..header {
        fs::write(&path, &whole[..length])?;
        assert_eq!(FileStateStore::open(root.path())?.entries(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn the_file_does_not_grow_beyond_twice_what_is_alive_and_some() -> Result<(), Box<dyn std::error::Error>> {
    let root = directory();
    let store = FileStateStore::open(root.path())?;
    for round in 0..12 {
        for number in 0..20 {
            set(&store, number, 20_000 + round).await?;
        }
        store.flush().await?;
        // About 400 KB are alive. What a turn of the writer adds comes on top.
        assert!(fs::metadata(root.path().join("log"))?.len() < 2 * 410_000 + (1 << 20) + 410_000);
    }
    drop(store);
    let store = FileStateStore::open(root.path())?;
    assert_eq!((store.cut_octets(), first_missing(&store).await?), (0, 20));
    let value = store.get("t", &3_u32.to_be_bytes(), NOW).await?;
    assert_eq!(value.map(|value| value.len()), Some(20_011), "the last value counts");
    Ok(())
}

#[tokio::test]
async fn a_file_with_more_than_the_limits_opens_with_what_expires_last() -> Result<(), StateError> {
    let root = directory();
    let store = FileStateStore::open(root.path())?;
    for number in 0..100 {
        set(&store, number, 10).await?;
    }
    drop(store);
    let mut limits = StateLimits::default();
    limits.entries_per_table = 10;
    let store = FileStateStore::open_with_limits(root.path(), limits)?;
    assert_eq!(store.entries(), 10);
    assert!(!has(&store, 89).await? && has(&store, 90).await? && has(&store, 99).await?);
    Ok(())
}

#[tokio::test]
async fn a_disk_that_does_not_work_is_reported_and_caught_up_with() -> Result<(), Box<dyn std::error::Error>> {
    let root = directory();
    let path = root.path().join("state");
    let store = FileStateStore::open(&path)?;
    // Large enough to be written anew, which a directory in the way of the new file prevents.
    fs::create_dir(path.join("log.new"))?;
    for number in 0..100 {
        set(&store, number, 100_000).await?;
        set(&store, number, 10).await?;
    }
    assert!(store.flush().await.is_err() || store.flush().await.is_err());
    assert!(store.fault().is_some());
    set(&store, 100, 10).await?;
    assert!(has(&store, 100).await?, "nobody waits for the disk");
    fs::remove_dir(path.join("log.new"))?;
    store.flush().await?;
    assert_eq!(store.fault(), None);
    drop(store);
    assert_eq!(first_missing(&FileStateStore::open(&path)?).await?, 101);
    Ok(())
}

/// The name of the variable that makes this program the child of the next test.
const CHILD: &str = "SMTP_POLICY_STATE_CHILD";

/// Sets numbers until it is killed, and says how many are on the disk.
#[tokio::test]
async fn child_of_the_next() -> Result<(), StateError> {
    let Some(path) = std::env::var_os(CHILD) else { return Ok(()) };
    let store = FileStateStore::open(Path::new(&path))?;
    let before = first_missing(&store).await?;
    for number in before..before + 1_000_000 {
        set(&store, number, 100).await?;
        if number % 500 == 0 {
            store.flush().await?;
            println!("\nflushed {number}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn after_kill_9_what_was_flushed_is_there_and_nothing_is_missing_in_between()
-> Result<(), Box<dyn std::error::Error>> {
    let root = directory();
    let mut before = 0;
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["state::child_of_the_next", "--exact", "--nocapture"])
            .env(CHILD, root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut flushed = None;
        for _ in 0..3 {
            let number = said.find_map(|line| line.ok()?.strip_prefix("flushed ")?.parse::<u32>().ok());
            flushed = number.or(flushed);
        }
        // SIGKILL: it has no chance to write what is left.
        child.kill()?;
        child.wait()?;
        let store = FileStateStore::open(root.path())?;
        let (flushed, count) = (flushed.ok_or("the child said nothing")?, first_missing(&store).await?);
        assert!(count > flushed && count > before, "round {round}: {count} of {flushed} that were flushed");
        before = count;
    }
    Ok(())
}
