//! What it costs to keep mail: messages for each second through the committer of a [`SegmentSpool`], beside raw append.
//!
//! Three things are measured for each number of writers and each size. `put` takes messages and keeps them. `put and done`
//! is the steady state: each message is removed once it is durable, so segments are used again. `raw` is one thread that
//! appends the octets of one message for each writer to a file that was allocated before, and syncs once for all of them:
//! what a disk gives to whoever writes nothing else. At the end the ratios are printed.
//!
//! The directory is `BENCH_DIR`, or one for temporary files; on a file system in memory a sync costs nothing, and the
//! figures say little.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{BenchmarkId, Criterion, Throughput};
use smtp_core::{Content, Mailbox, ReversePath};
use smtp_queue::{
    Envelope, FileStorage, NewContent, NewMessage, NewProgress, Progress, QueueIds, SegmentSettings, SegmentSpool,
    Spool,
};
use tokio::runtime::Runtime;

const WRITERS: [usize; 3] = [1, 8, 64];
const KIB: [usize; 3] = [1, 10, 100];
/// A file for raw append begins again at its start behind so much, as a log does that uses its segments again.
const RAW_OCTETS: u64 = 256 << 20;

/// Time for each message, by kind, size and writers.
type Found = BTreeMap<(&'static str, usize, usize), Duration>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = match std::env::var_os("BENCH_DIR") {
        Some(directory) => tempfile::tempdir_in(PathBuf::from(directory))?,
        None => tempfile::tempdir()?,
    };
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args();
    let mut found = Found::new();
    let mut group = criterion.benchmark_group("spool");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for kib in KIB {
        for writers in WRITERS {
            group.throughput(Throughput::Elements(writers as u64));
            for kind in ["put", "put and done"] {
                let place = root.path().join(format!("{kind} {kib} {writers}"));
                let storage = Arc::new(FileStorage::open(&place)?);
                let (spool, _) = SegmentSpool::open(storage, SegmentSettings::default())?;
                let bench = Bench { spool: Arc::new(spool), ids: Arc::default(), octets: kib << 10 };
                let mut fastest = Duration::MAX;
                group.bench_function(BenchmarkId::new(format!("{kind}, {kib} KiB"), writers), |bencher| {
                    bencher.iter_custom(|rounds| {
                        let taken = bench.run(&runtime, writers, rounds, kind == "put and done");
                        fastest = fastest.min(each(taken, rounds, writers));
                        taken
                    });
                });
                found.insert((kind, kib, writers), fastest);
                drop(bench);
                std::fs::remove_dir_all(place)?;
            }
            let mut raw = Raw::new(&root.path().join("raw"), kib << 10)?;
            let mut fastest = Duration::MAX;
            group.bench_function(BenchmarkId::new(format!("raw, {kib} KiB"), writers), |bencher| {
                bencher.iter_custom(|rounds| {
                    let taken = raw.run(writers, rounds).expect("the disk works");
                    fastest = fastest.min(each(taken, rounds, writers));
                    taken
                });
            });
            found.insert(("raw", kib, writers), fastest);
        }
    }
    group.finish();
    criterion.final_summary();
    print_ratios(&found);
    Ok(())
}

fn each(taken: Duration, rounds: u64, writers: usize) -> Duration {
    let messages = rounds.saturating_mul(writers as u64);
    Duration::from_nanos(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX) / messages.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn print_ratios(found: &Found) {
    println!("\nmessages for each second, and as a part of raw append with one sync for each group");
    println!("{:>8} {:>8} {:>10} {:>16} {:>22}", "KiB", "writers", "raw", "put", "put and done");
    for kib in KIB {
        for writers in WRITERS {
            let rate = |kind| {
                let each = found.get(&(kind, kib, writers)).filter(|each| **each < Duration::MAX)?;
                Some(1e9 / each.as_nanos().max(1) as f64)
            };
            // A filter on the command line may have left some out.
            let (Some(raw), Some(put), Some(done)) = (rate("raw"), rate("put"), rate("put and done")) else { continue };
            let (of_put, of_done) = (put / raw, done / raw);
            println!("{kib:>8} {writers:>8} {raw:>10.0} {put:>9.0} ({of_put:.2}) {done:>15.0} ({of_done:.2})");
        }
    }
}

struct Bench {
    spool: Arc<SegmentSpool>,
    ids: Arc<QueueIds>,
    octets: usize,
}

impl Bench {
    /// Each writer puts so many messages, one after another.
    fn run(&self, runtime: &Runtime, writers: usize, rounds: u64, removes: bool) -> Duration {
        let start = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let (spool, ids, content) = (self.spool.clone(), self.ids.clone(), Content::new(content(self.octets)));
                runtime.spawn(async move {
                    for _ in 0..rounds {
                        let message = message(&ids, &content);
                        let id = message.envelope.id;
                        spool.put(message).await.expect("there is room");
                        if removes {
                            spool.remove(id).await.expect("it works");
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task).expect("no writer panicked");
        }
        let taken = start.elapsed();
        if !removes {
            // What was kept goes before the next round, outside of what is measured.
            runtime.block_on(self.empty());
        }
        taken
    }

    async fn empty(&self) {
        let listed = self.spool.list(None, usize::MAX).await.expect("it works");
        let removals: Vec<_> = listed
            .into_iter()
            .map(|listed| {
                let spool = self.spool.clone();
                tokio::spawn(async move { spool.remove(listed.id).await })
            })
            .collect();
        for removal in removals {
            removal.await.expect("no task panicked").expect("it works");
        }
    }
}

fn content(octets: usize) -> Vec<u8> {
    "Subject: hello\r\n\r\n".bytes().chain("0123456789abcdef".bytes().cycle()).take(octets).collect()
}

fn message(ids: &QueueIds, content: &Content) -> NewMessage {
    let now = SystemTime::now();
    let envelope = Envelope::new(ids.next(now), now, ReversePath::parse("<alice@client.example>").expect("a path"))
        .with_recipient(Mailbox::parse("bob@example.org").expect("a mailbox"));
    NewMessage {
        envelope: Arc::new(envelope),
        content: NewContent { head: bytes::Bytes::new(), content: content.clone(), skipped_octets: 0 },
        progress: vec![NewProgress { progress: Progress::new("local".into(), [0], now), lease: false }],
    }
}

struct Raw {
    file: File,
    octets: Vec<u8>,
    place: u64,
}

impl Raw {
    fn new(path: &Path, octets: usize) -> io::Result<Self> {
        let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
        // Written once, so that nothing has to be allocated while time is taken.
        let zeros = vec![0; 1 << 20];
        for _ in 0..RAW_OCTETS >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self { file, octets: content(octets), place: 0 })
    }

    fn run(&mut self, writers: usize, rounds: u64) -> io::Result<Duration> {
        use std::os::unix::fs::FileExt;
        let group = self.octets.repeat(writers);
        let start = Instant::now();
        for _ in 0..rounds {
            if self.place + group.len() as u64 > RAW_OCTETS {
                self.place = 0;
            }
            self.file.write_all_at(&group, self.place)?;
            self.file.sync_data()?;
            self.place += group.len() as u64;
        }
        Ok(start.elapsed())
    }
}
