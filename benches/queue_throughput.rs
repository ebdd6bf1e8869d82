//! Whether a million messages that wait for another day slow down those of today.
//!
//! The same load goes through two [`SegmentSpool`]s on real directories: one is empty, the other keeps a million messages
//! that are not due. 64 writers each put a message, lease one that is due, load it, and record that it is done. The two
//! take turns, so that whatever else the machine does meets both. Exit status 1 where the median of the ratios is below
//! 0.9.
//!
//! The directory is `BENCH_DIR`, or one for temporary files; `QUEUE_SCALE` messages instead of a million.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use smtp_core::{Content, Mailbox, ReversePath};
use smtp_queue::{
    Change, Envelope, FileStorage, NewContent, NewMessage, NewProgress, Progress, QueueIds, Room, SegmentSettings,
    SegmentSpool, Spool,
};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const WRITERS: usize = 64;
/// How often the two are compared.
const TURNS: usize = 81;
/// How long each has at a turn.
const TURN: Duration = Duration::from_millis(300);
/// Octets of a message.
const OCTETS: usize = 4 << 10;
/// What the median of the ratios must be at least.
const LEAST: f64 = 0.9;

fn main() -> Result<ExitCode, Failure> {
    let root = match std::env::var_os("BENCH_DIR") {
        Some(directory) => tempfile::tempdir_in(PathBuf::from(directory))?,
        None => tempfile::tempdir()?,
    };
    let waiting = match std::env::var("QUEUE_SCALE") {
        Ok(number) => number.parse()?,
        Err(_) => 1_000_000,
    };
    let bench = Bench { runtime: Runtime::new()?, ids: Arc::default(), content: Content::new(vec![b'x'; OCTETS]) };
    let empty = open(&root.path().join("empty"))?;
    let full = root.path().join("full");
    bench.fill(&open(&full)?, waiting)?;
    // As it is after a restart.
    let full = open(&full)?;
    let mut pairs = Vec::new();
    for turn in 0..TURNS {
        // Whoever is second finds the disk as the first left it.
        if turn % 2 == 0 {
            let without = bench.turn(&empty)?;
            pairs.push((without, bench.turn(&full)?));
        } else {
            let with = bench.turn(&full)?;
            pairs.push((bench.turn(&empty)?, with));
        }
    }
    assert_eq!(full.totals().messages, waiting as u64, "all that is not due still waits");
    let of = |of: fn(&(Turn, Turn)) -> f64| median(pairs.iter().map(of).collect());
    println!("{WRITERS} writers, {} KiB each, medians of {TURNS} turns", OCTETS >> 10);
    let (without, with) = (of(|pair| pair.0.rate), of(|pair| pair.1.rate));
    println!("messages for each second: {without:.0} through an empty queue, {with:.0} with {waiting} waiting");
    let (without, with) = (of(|pair| pair.0.micros), of(|pair| pair.1.micros));
    println!("microseconds of processor time for a message: {without:.1} and {with:.1}");
    let mut ratios: Vec<_> = pairs.iter().map(|(without, with)| with.rate / without.rate).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let (low, high) = (ratios[TURNS / 4], ratios[TURNS * 3 / 4]);
    let ratio = median(ratios);
    println!("ratio of the rates: {ratio:.2}, half of them between {low:.2} and {high:.2}; at least {LEAST} is wanted");
    Ok(if ratio < LEAST { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn median(mut found: Vec<f64>) -> f64 {
    found.sort_unstable_by(f64::total_cmp);
    found[found.len() / 2]
}

/// Processor time that this process has used.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// What a turn gave.
struct Turn {
    /// Messages for each second.
    rate: f64,
    /// Processor time for a message, in microseconds.
    micros: f64,
}

fn open(place: &Path) -> Result<Arc<SegmentSpool>, Failure> {
    let (spool, report) = SegmentSpool::open(Arc::new(FileStorage::open(place)?), SegmentSettings::default())?;
    assert!(report.damage.is_empty(), "{report:?}");
    Ok(Arc::new(spool))
}

struct Bench {
    runtime: Runtime,
    ids: Arc<QueueIds>,
    content: Content,
}

impl Bench {
    /// Puts messages that are due tomorrow, at a hundred next hops.
    fn fill(&self, spool: &Arc<SegmentSpool>, messages: usize) -> Result<(), Failure> {
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let mut tasks = Vec::new();
        for number in 0..messages {
            let spool = spool.clone();
            let due = tomorrow + Duration::from_micros(number as u64 * 7919 % 86_400_000_000);
            let new = message(&self.ids, &Content::new(&b"hello\r\n"[..]), &format!("site {}", number % 100), due);
            tasks.push(self.runtime.spawn(async move { spool.put(new).await.map(drop) }));
            if tasks.len() == 2000 || number + 1 == messages {
                for task in tasks.drain(..) {
                    self.runtime.block_on(task)??;
                }
            }
        }
        Ok(())
    }

    fn turn(&self, spool: &Arc<SegmentSpool>) -> Result<Turn, Failure> {
        let done = Arc::new(AtomicU64::new(0));
        let (start, used) = (Instant::now(), processor_time());
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (spool, ids, content, done) = (spool.clone(), self.ids.clone(), self.content.clone(), done.clone());
                self.runtime.spawn(async move {
                    while start.elapsed() < TURN {
                        pass_one(&spool, message(&ids, &content, &format!("site {number}"), SystemTime::now())).await?;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        for writer in writers {
            self.runtime.block_on(writer)??;
        }
        let (taken, used) = (start.elapsed(), processor_time().saturating_sub(used));
        let done = f64::from(u32::try_from(done.load(Ordering::Relaxed))?);
        Ok(Turn { rate: done / taken.as_secs_f64(), micros: used.as_secs_f64() * 1e6 / done })
    }
}

/// Takes one message, and lets one that is due go.
async fn pass_one(spool: &SegmentSpool, new: NewMessage) -> Result<(), Failure> {
    spool.put(new).await?;
    // Each writer leases one after it put one, so there is one for each, also where the clock is set back.
    let soon = SystemTime::now() + Duration::from_secs(3600);
    let due = spool.due(soon, &Room::anywhere(1)).await?;
    let lease = due.leases.into_iter().next().ok_or("nothing is due")?;
    let (envelope, progress) = spool.load(&lease).await?;
    assert!(envelope.id == lease.id && progress.site == lease.site, "another message was loaded");
    spool.record(lease, Change { progress: None, caused: Vec::new() }).await?;
    Ok(())
}

fn message(ids: &QueueIds, content: &Content, site: &str, due: SystemTime) -> NewMessage {
    let now = SystemTime::now();
    let envelope = Envelope::new(ids.next(now), now, ReversePath::parse("<alice@client.example>").expect("a path"))
        .with_recipient(Mailbox::parse("bob@example.org").expect("a mailbox"));
    NewMessage {
        envelope: Arc::new(envelope),
        content: NewContent { head: bytes::Bytes::new(), content: content.clone(), skipped_octets: 0 },
        progress: vec![NewProgress { progress: Progress::new(site.into(), [0], due), lease: false }],
    }
}
