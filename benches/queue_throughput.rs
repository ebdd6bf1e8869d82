//! Whether a million messages that wait for another day slow down those of today.
//!
//! The same load goes through two [`Queue`]s over [`SegmentSpool`]s on real directories: one is empty, the other keeps a
//! million messages that are not due. Messages are submitted, which makes them durable, and delivered at once by a
//! transport that only says so; 64 are on their way at a time. The two take turns, so that whatever else the machine does
//! meets both. Exit status 1 where the median of the ratios is below 0.9.
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
    Attempt, Envelope, FileStorage, NewContent, NewMessage, NewProgress, Outcome, Progress, Queue, QueueIds, Route,
    Routing, SegmentSettings, SegmentSpool, Spool,
};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Messages on their way at a time.
const UNDERWAY: usize = 64;
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
    let runtime = Runtime::new()?;
    let full = root.path().join("full");
    fill(&runtime, &open(&full)?, waiting)?;
    // As it is after a restart.
    let full = Subject::new(&runtime, open(&full)?);
    let empty = Subject::new(&runtime, open(&root.path().join("empty"))?);
    let mut pairs = Vec::new();
    for turn in 0..TURNS {
        // Whoever is second finds the disk as the first left it.
        if turn % 2 == 0 {
            let without = empty.turn(&runtime)?;
            pairs.push((without, full.turn(&runtime)?));
        } else {
            let with = full.turn(&runtime)?;
            pairs.push((empty.turn(&runtime)?, with));
        }
    }
    runtime.block_on(full.queue.shutdown(Duration::from_secs(30)));
    assert_eq!(full.spool.totals().messages, waiting as u64, "all that is not due still waits");
    let of = |of: fn(&(Turn, Turn)) -> f64| median(pairs.iter().map(of).collect());
    println!("{UNDERWAY} messages of {} KiB on their way, medians of {TURNS} turns", OCTETS >> 10);
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

/// Puts messages that are due in an hour or two, at a hundred next hops.
fn fill(runtime: &Runtime, spool: &Arc<SegmentSpool>, messages: usize) -> Result<(), Failure> {
    let (ids, content) = (QueueIds::default(), Content::new(&b"hello\r\n"[..]));
    let now = SystemTime::now();
    let mut tasks = Vec::new();
    for number in 0..messages {
        let reverse_path = ReversePath::parse("<alice@client.example>")?;
        let envelope = Envelope::new(ids.next(now), now, reverse_path).with_recipient(recipient());
        let due = now + Duration::from_secs(3600) + Duration::from_micros(number as u64 * 7919 % 3_600_000_000);
        let progress = Progress::new(format!("site {}", number % 100).into(), [0], due);
        let new = NewMessage {
            envelope: Arc::new(envelope),
            content: NewContent { head: bytes::Bytes::new(), content: content.clone(), skipped_octets: 0 },
            progress: vec![NewProgress { progress, lease: false }],
        };
        let spool = spool.clone();
        tasks.push(runtime.spawn(async move { spool.put(new).await.map(drop) }));
        if tasks.len() == 2000 || number + 1 == messages {
            for task in tasks.drain(..) {
                runtime.block_on(task)??;
            }
        }
    }
    Ok(())
}

fn recipient() -> Mailbox {
    Mailbox::parse("bob@example.org").expect("a mailbox")
}

/// A queue that is measured.
struct Subject {
    spool: Arc<SegmentSpool>,
    queue: Queue,
    /// Room for another message on its way.
    room: Arc<Semaphore>,
    delivered: Arc<AtomicU64>,
}

impl Subject {
    fn new(runtime: &Runtime, spool: Arc<SegmentSpool>) -> Self {
        let room = Arc::new(Semaphore::new(UNDERWAY));
        let delivered = Arc::<AtomicU64>::default();
        let (back, count) = (room.clone(), delivered.clone());
        let deliver = move |_: Attempt| {
            let (back, count) = (back.clone(), count.clone());
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                back.add_permits(1);
                vec![Outcome::delivered("Taken")]
            }
        };
        let _runtime = runtime.enter();
        let route = Route::new("taken at once", deliver).with_concurrency_limit(UNDERWAY);
        let hostname = "mx.example.org".parse().expect("a domain");
        let queue = Queue::builder(spool.clone(), hostname, Routing::new(route)).start();
        Self { spool, queue, room, delivered }
    }

    fn turn(&self, runtime: &Runtime) -> Result<Turn, Failure> {
        let content = Content::new([&b"x".repeat(62)[..], b"\r\n"].concat().repeat(OCTETS / 64));
        let (start, used, before) = (Instant::now(), processor_time(), self.delivered.load(Ordering::Relaxed));
        let writers: Vec<_> = (0..UNDERWAY)
            .map(|_| {
                let (queue, room, content) = (self.queue.clone(), self.room.clone(), content.clone());
                runtime.spawn(async move {
                    while start.elapsed() < TURN {
                        room.acquire().await?.forget();
                        queue
                            .submit(ReversePath::parse("<alice@client.example>")?, [recipient()], content.clone())
                            .await?;
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        for writer in writers {
            runtime.block_on(writer)??;
        }
        // All is back when nothing is on its way.
        drop(runtime.block_on(self.room.acquire_many(u32::try_from(UNDERWAY)?))?);
        let (taken, used) = (start.elapsed(), processor_time().saturating_sub(used));
        let done = f64::from(u32::try_from(self.delivered.load(Ordering::Relaxed) - before)?);
        Ok(Turn { rate: done / taken.as_secs_f64(), micros: used.as_secs_f64() * 1e6 / done })
    }
}
