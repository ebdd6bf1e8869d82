//! What a large queue costs: memory, restart, and a look at the oldest.
//!
//! Makes a [`SegmentSpool`] with a million messages of one recipient each, closes it, and measures in processes of their
//! own, so that what was freed does not count: memory above an empty spool, the time to open it against reading the same
//! snapshot and log headers sequentially, and the time to list the 20 oldest. Then the same with 10,000 messages for 100
//! sites each.
//!
//! The directory is `BENCH_DIR`, or one for temporary files; `QUEUE_SCALE` messages instead of a million.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use smtp_core::{Content, Mailbox, ReversePath};
use smtp_queue::{
    Envelope, FileStorage, NewContent, NewMessage, NewProgress, Progress, QueueId, SegmentSettings, SegmentSpool, Spool,
};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error>;

/// Messages that are handed over at once while a queue is made.
const TOGETHER: usize = 2000;
/// In the environment of a process that opens a spool and says what that took.
const OPENS: &str = "QUEUE_SCALE_OPENS";

fn main() -> Result<(), Failure> {
    if let Some(place) = std::env::var_os(OPENS) {
        return open(Path::new(&place));
    }
    let root = match std::env::var_os("BENCH_DIR") {
        Some(directory) => tempfile::tempdir_in(PathBuf::from(directory))?,
        None => tempfile::tempdir()?,
    };
    let messages = match std::env::var("QUEUE_SCALE") {
        Ok(number) => number.parse()?,
        Err(_) => 1_000_000,
    };
    let empty = root.path().join("empty");
    make(&empty, 0, 1)?;
    let nothing = open_in_a_process(&empty)?;
    println!("empty: {} KiB resident", nothing.resident_kib);
    for (messages, sites) in [(messages, 1), (messages / 100, 100)] {
        let place = root.path().join(format!("{messages} {sites}"));
        let start = Instant::now();
        make(&place, messages, sites)?;
        println!("\n{messages} messages for {sites} sites each, made in {:.1?}", start.elapsed());
        let sequential = read_sequentially(&place)?;
        println!("snapshot and headers read sequentially: {sequential:.3?}");
        let opened = open_in_a_process(&place)?;
        let above = (opened.resident_kib - nothing.resident_kib) * 1024;
        let pairs = (messages * sites).max(1) as u64;
        println!(
            "opened in {:.3?}, {:.2} times that",
            opened.time,
            opened.time.as_secs_f64() / sequential.as_secs_f64()
        );
        println!("resident above empty: {} MB, {} octets for each pair", above / 1_000_000, above / pairs);
        println!("the 20 oldest listed in {:.3?}", opened.oldest);
        fs::remove_dir_all(place)?;
    }
    Ok(())
}

/// Fills a spool. Nothing in it is due.
fn make(place: &Path, messages: usize, sites: usize) -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    let (spool, _) = SegmentSpool::open(Arc::new(FileStorage::open(place)?), SegmentSettings::default())?;
    let spool = Arc::new(spool);
    let mut made = 0;
    while made < messages {
        let until = messages.min(made + TOGETHER);
        let tasks: Vec<_> = (made..until)
            .map(|number| {
                let spool = spool.clone();
                runtime.spawn(async move { spool.put(message(number, sites)).await.map(drop) })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task)??;
        }
        made = until;
    }
    Ok(())
}

fn message(number: usize, sites: usize) -> NewMessage {
    let number = number as u64;
    // Spread, as names of messages and their times are.
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let later = SystemTime::now() + Duration::from_secs(86_400 + random % 86_400);
    let id = QueueId::from_u128(u128::from(1_700_000_000_000_000 + number) << 64 | u128::from(random));
    let mut envelope = Envelope::new(id, later, ReversePath::parse("<alice@client.example>").expect("a path"));
    let mut progress = Vec::with_capacity(sites);
    for (site, index) in (0..sites).zip(0..) {
        envelope = envelope.with_recipient(Mailbox::parse("bob@example.org").expect("a mailbox"));
        // A hundred next hops, however many of them a message has.
        let site = format!("smtp:[192.0.2.{}]:25", (site as u64 + number) % 100);
        progress.push(NewProgress { progress: Progress::new(site.into(), [index], later), lease: false });
    }
    NewMessage {
        envelope: Arc::new(envelope),
        content: NewContent { head: bytes::Bytes::new(), content: Content::new(&b"hello\r\n"[..]), skipped_octets: 0 },
        progress,
    }
}

/// What opening a spool took.
struct Opened {
    resident_kib: u64,
    time: Duration,
    oldest: Duration,
}

fn open_in_a_process(place: &Path) -> Result<Opened, Failure> {
    let output = Command::new(std::env::current_exe()?).env(OPENS, place).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next().ok_or("the process said nothing")?.map_err(Failure::from);
    Ok(Opened { resident_kib: next()?, time: Duration::from_nanos(next()?), oldest: Duration::from_nanos(next()?) })
}

fn open(place: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let storage = Arc::new(FileStorage::open(place)?);
    let start = Instant::now();
    let (spool, report) = SegmentSpool::open(storage, SegmentSettings::default())?;
    let time = start.elapsed();
    assert!(report.damage.is_empty(), "{report:?}");
    let resident = resident_kib()?;
    let start = Instant::now();
    let listed = runtime.block_on(spool.list(None, 20))?;
    let oldest = start.elapsed();
    assert_eq!(listed.len() as u64, report.messages.min(20));
    println!("{resident} {} {}", time.as_nanos(), oldest.as_nanos());
    Ok(())
}

/// Memory of this process, where the system tells.
fn resident_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

/// Reads the newest snapshot whole, and of each segment a header for each batch and record: what no restart can do
/// without. What is read is in memory already, as it is for the restart that follows.
fn read_sequentially(place: &Path) -> io::Result<Duration> {
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let snapshots = files(&place.join("snapshots"))?;
    if let Some(newest) = snapshots.last() {
        let mut file = File::open(newest)?;
        while file.read(&mut buffer)? > 0 {}
    }
    for path in files(&place.join("log"))? {
        headers(&File::open(path)?, &mut buffer)?;
    }
    Ok(start.elapsed())
}

/// Walks through a segment from batch to batch and record to record, through a window of memory.
fn headers(file: &File, buffer: &mut [u8]) -> io::Result<u64> {
    let octets = file.metadata()?.len();
    let (mut start, mut end, mut place, mut records) = (0, 0, 0_u64, 0);
    let mut number = |at: u64, length: usize| -> io::Result<u64> {
        if at < start || at + length as u64 > end {
            start = at;
            end = at + file.read_at(buffer, at)? as u64;
        }
        let from = usize::try_from(at - start).unwrap_or(usize::MAX);
        let octets = buffer.get(from..from + length).unwrap_or_default();
        Ok(octets.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet)))
    };
    while place + 512 <= octets && number(place, 8)? == u64::from_le_bytes(*b"SMTPQB1\n") {
        let behind = place + 40 + number(place + 24, 4)?;
        let mut at = place + 40;
        while at + 48 <= behind {
            at += 48 + number(at + 4, 4)?;
            records += 1;
        }
        place = behind.next_multiple_of(512);
    }
    Ok(records)
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}
