//! What a large queue costs: memory, restart, and a look at the oldest.
//!
//! Makes a [`SegmentSpool`] with a million messages of one recipient each, and measures in processes of their own, so
//! that what was freed does not count: memory above an empty spool, in the process that took the messages and in one that
//! opened them again; the time to open it; the time to list the 20 oldest. Then the same with 10,000 messages for 100
//! sites each.
//!
//! Beside opening stands *reading*: what no restart can do without, and nothing else. The newest snapshot is read whole
//! and its checksum verified; each segment of the log is walked from batch to batch and from record to record up to where
//! nothing more was written, and the checksum of each header verified. No payload is verified, nothing is kept. Reading
//! and opening take turns, five times with the files in the page cache, and five times after the system was told to
//! forget them; what is printed is the median of each.
//!
//! The directory is `BENCH_DIR`, or one for temporary files; `QUEUE_SCALE` messages instead of a million.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Advice, fadvise};
use smtp_core::{Content, Mailbox, ReversePath};
use smtp_queue::{
    Envelope, FileStorage, NewContent, NewMessage, NewProgress, Progress, QueueId, SegmentSettings, SegmentSpool, Spool,
};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error>;

/// Messages that are handed over at once while a queue is made.
const TOGETHER: usize = 2000;
/// How often reading and opening are measured.
const TURNS: usize = 5;
/// Octets that are read at once, as a restart does.
const SNAPSHOT_WINDOW_OCTETS: usize = 1 << 20;
const LOG_WINDOW_OCTETS: usize = 64 << 10;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", place, messages, sites] => make(Path::new(place), messages.parse()?, sites.parse()?),
        ["read", place] => read(Path::new(place)),
        ["open", place] => open(Path::new(place)),
        // What `cargo bench` says.
        _ => compare(),
    }
}

fn compare() -> Result<(), Failure> {
    let root = match std::env::var_os("BENCH_DIR") {
        Some(directory) => tempfile::tempdir_in(PathBuf::from(directory))?,
        None => tempfile::tempdir()?,
    };
    let messages: u64 = match std::env::var("QUEUE_SCALE") {
        Ok(number) => number.parse()?,
        Err(_) => 1_000_000,
    };
    let empty = root.path().join("empty");
    let [_, made_kib] = in_a_process(&["make", text(&empty)?, "0", "1"])?;
    let [_, _, opened_kib] = in_a_process(&["open", text(&empty)?])?;
    println!("empty: {made_kib} KiB resident where it was made, {opened_kib} KiB where it was opened");
    for (messages, sites) in [(messages, 1), (messages / 100, 100)] {
        let place = root.path().join(format!("{messages} {sites}"));
        let [nanos, kib] = in_a_process(&["make", text(&place)?, &messages.to_string(), &sites.to_string()])?;
        println!("\n{messages} messages for {sites} sites each, made in {:.1?}", Duration::from_nanos(nanos));
        let pairs = (messages * sites).max(1);
        println!("resident above empty where they were made: {}", above(kib, made_kib, pairs));
        for is_cached in [true, false] {
            let mut turns = [const { Vec::new() }; 4];
            for _ in 0..TURNS {
                prepare_cache(&place, is_cached)?;
                let [reading] = in_a_process(&["read", text(&place)?])?;
                prepare_cache(&place, is_cached)?;
                let [opening, oldest, kib] = in_a_process(&["open", text(&place)?])?;
                for (turns, found) in turns.iter_mut().zip([reading, opening, oldest, kib]) {
                    turns.push(found);
                }
            }
            let [reading, opening, oldest, kib] = turns.map(median);
            let (reading, opening) = (Duration::from_nanos(reading), Duration::from_nanos(opening));
            println!(
                "{}: snapshot and headers read in {reading:.3?}, opened in {opening:.3?}, {:.2} times that",
                if is_cached { "in the page cache" } else { "on the disk" },
                opening.as_secs_f64() / reading.as_secs_f64()
            );
            if is_cached {
                println!("resident above empty where they were opened: {}", above(kib, opened_kib, pairs));
                println!("the 20 oldest listed in {:.3?}", Duration::from_nanos(oldest));
            }
        }
        fs::remove_dir_all(place)?;
    }
    Ok(())
}

fn above(kib: u64, empty_kib: u64, pairs: u64) -> String {
    let octets = kib.saturating_sub(empty_kib) * 1024;
    format!("{} MB, {} octets for each pair", octets / 1_000_000, octets / pairs)
}

fn median(mut found: Vec<u64>) -> u64 {
    found.sort_unstable();
    found[found.len() / 2]
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| "the directory has a name that is no text".into())
}

/// The numbers that this program prints when it is given those arguments.
fn in_a_process<const N: usize>(arguments: &[&str]) -> Result<[u64; N], Failure> {
    let output = Command::new(std::env::current_exe()?).args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    numbers.try_into().map_err(|_| String::from_utf8_lossy(&output.stderr).into())
}

/// Brings the files into the page cache, or lets the system forget them.
fn prepare_cache(place: &Path, is_cached: bool) -> io::Result<()> {
    for path in files(&place.join("snapshots"))?.into_iter().chain(files(&place.join("log"))?) {
        let mut file = File::open(path)?;
        if is_cached {
            io::copy(&mut file, &mut io::sink())?;
        } else {
            // Only what is on the disk already can be forgotten.
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Fills a spool. Nothing in it is due. Prints the nanoseconds that this took, and the memory.
fn make(place: &Path, messages: usize, sites: usize) -> Result<(), Failure> {
    let start = Instant::now();
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
    println!("{} {}", start.elapsed().as_nanos(), resident_kib()?);
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

/// Opens a spool. Prints the nanoseconds that this took, those that listing the oldest took, and the memory.
fn open(place: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let storage = Arc::new(FileStorage::open(place)?);
    let start = Instant::now();
    let (spool, report) = SegmentSpool::open(storage, SegmentSettings::default())?;
    let time = start.elapsed();
    assert!(report.damage.is_empty(), "{report:?}");
    assert!(report.used_snapshot || report.messages == 0, "{report:?}");
    let resident = resident_kib()?;
    let start = Instant::now();
    let listed = runtime.block_on(spool.list(None, 20))?;
    let oldest = start.elapsed();
    assert_eq!(listed.len() as u64, report.messages.min(20));
    println!("{} {} {resident}", time.as_nanos(), oldest.as_nanos());
    Ok(())
}

/// Memory of this process, where the system tells.
fn resident_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

/// Reads and verifies the newest snapshot and all headers of the log. Prints the nanoseconds that this took.
fn read(place: &Path) -> Result<(), Failure> {
    let start = Instant::now();
    let snapshots = files(&place.join("snapshots"))?;
    verify_snapshot(snapshots.last().ok_or("there is no snapshot")?)?;
    let mut records = 0;
    for path in files(&place.join("log"))? {
        records += verify_headers(&File::open(path)?)?;
    }
    let time = start.elapsed();
    assert!(records > 0, "the log is not read");
    println!("{}", time.as_nanos());
    Ok(())
}

fn verify_snapshot(path: &Path) -> Result<(), Failure> {
    let file = File::open(path)?;
    let end = file.metadata()?.len().checked_sub(4).ok_or("the snapshot is empty")?;
    let mut buffer = vec![0; SNAPSHOT_WINDOW_OCTETS];
    let mut content = (&file).take(end);
    let mut sum = 0;
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sum = crc32c::crc32c_append(sum, &buffer[..read]);
    }
    let mut found = [0; 4];
    file.read_exact_at(&mut found, end)?;
    if u32::from_le_bytes(found) == sum { Ok(()) } else { Err("the snapshot is damaged".into()) }
}

/// Walks through a segment from batch to batch and record to record. How many records it has.
fn verify_headers(file: &File) -> Result<u64, Failure> {
    let octets = file.metadata()?.len();
    let mut window = Window { file, buffer: vec![0; LOG_WINDOW_OCTETS], start: 0, end: 0 };
    let (mut place, mut records) = (0, 0);
    while place + 512 <= octets {
        let header = window.get::<40>(place)?;
        if header[..8] != *b"SMTPQB1\n" {
            break;
        }
        if crc32c::crc32c(&header[..36]) != number(&header[36..]) {
            return Err("the header of a batch is damaged".into());
        }
        let behind = place + 40 + u64::from(number(&header[24..28]));
        let mut at = place + 40;
        while at + 48 <= behind {
            let header = window.get::<48>(at)?;
            if crc32c::crc32c(&header[..44]) != number(&header[44..]) {
                return Err("the header of a record is damaged".into());
            }
            at += 48 + u64::from(number(&header[4..8]));
            records += 1;
        }
        place = behind.next_multiple_of(512);
    }
    Ok(records)
}

fn number(octets: &[u8]) -> u32 {
    octets.iter().rev().fold(0, |number, octet| number << 8 | u32::from(*octet))
}

struct Window<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    start: u64,
    end: u64,
}

impl Window<'_> {
    fn get<const N: usize>(&mut self, at: u64) -> io::Result<[u8; N]> {
        if at < self.start || at + N as u64 > self.end {
            self.start = at;
            self.end = at + self.file.read_at(&mut self.buffer, at)? as u64;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        let found = self.buffer.get(from..).and_then(<[u8]>::first_chunk);
        found.copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}
