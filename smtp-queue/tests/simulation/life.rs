//! The lives of a queue: what happens in each, and how it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_core::{Content, Mailbox, ReversePath};
use smtp_queue::{Clock, Queue, VirtualClock};
use tokio::time::Instant;

use crate::disk::{Disk, Opened};
use crate::hops::{DOMAINS, Hops, REFUSING};
use crate::ledger::{Counts, Ledger};
use crate::spool::{Fault, SlowSpool};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The most lives before the last one.
const LIVES: usize = 3;
/// The most messages in a life.
const MESSAGES: usize = 25;

/// Everything that outlives a queue.
struct World {
    rng: fastrand::Rng,
    ledger: Ledger,
    hops: Hops,
    disk: Disk,
    /// What the clock of the host says when the next life begins.
    time: SystemTime,
    fault: Option<Fault>,
    seed: u64,
}

/// One run. What must not be is an error.
pub(crate) fn run(seed: u64, fault: Option<Fault>, is_told: bool) -> Result<Counts, String> {
    // The panics that are planned need not be written for each of thousands.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("as it should") {
            eprintln!("{info}");
        }
    }));
    let ledger = Ledger::new(is_told);
    let mut world = World {
        rng: fastrand::Rng::with_seed(seed),
        hops: Hops::new(seed, ledger.clone()),
        ledger,
        disk: Disk::new(seed),
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY),
        fault,
        seed,
    };
    let lives = world.rng.usize(1..=LIVES);
    for _ in 0..lives {
        let disk = world.disk.open()?;
        // Dropped when its runtime is gone, so that nothing of what it would still do comes to be.
        let queue = in_runtime(world.life(&disk));
        drop(queue);
        world.disk.crash(disk.take_image(), &mut world.rng);
    }
    let disk = world.disk.open()?;
    in_runtime(world.last_life(&disk));
    world.ledger.close()
}

/// Dropped in the middle, everything in it is: that is the crash.
fn in_runtime<T>(life: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("it needs nothing").block_on(life)
}

impl World {
    fn start(&mut self, disk: &Opened) -> (Queue, VirtualClock) {
        let clock = VirtualClock::starting_at(self.time);
        let spool = SlowSpool::new(disk, self.rng.u64(..), self.fault);
        let hostname = "mx.example.org".parse().expect("in the grammar");
        let queue = Queue::builder(Arc::new(spool), hostname, self.hops.clone())
            .observer(Arc::new(self.ledger.clone()))
            .clock(clock.clone())
            .seed(self.rng.u64(..) ^ self.seed)
            .start();
        (queue, clock)
    }

    /// Messages, moods, operators, jumps of the clock, and an end at a random instant.
    async fn life(&mut self, disk: &Opened) -> Queue {
        let (queue, clock) = self.start(disk);
        let longest = [10 * MINUTE, 3 * HOUR, 2 * DAY, 9 * DAY][self.rng.usize(..4)];
        let end = Instant::now() + Duration::from_millis(self.rng.u64(1..longest * 1000));
        // Half of the lives end just when a next hop has spoken, and what it said is on its way to the disk.
        let spoken = if self.rng.bool() { self.rng.u64(1..60) } else { u64::MAX / 2 };
        let moment = Duration::from_millis(self.rng.u64(..300));
        let ledger = self.ledger.clone();
        let cut = async move {
            ledger.have_spoken(spoken).await;
            tokio::time::sleep(moment).await;
        };
        let mut dice = self.rng.fork();
        // In some of the others power fails while the disk is written.
        let fatal = if self.rng.bool() { self.rng.u64(1..100) } else { u64::MAX };
        let mut is_crash = self.rng.u32(..4) > 0;
        let grace = Duration::from_secs(self.rng.u64(..400));
        tokio::select! {
            biased;
            () = disk.write(&mut dice, fatal) => is_crash = true,
            () = async {
                tokio::select! {
                    biased;
                    () = cut => {}
                    () = self.events(&queue, &clock, end) => {}
                }
                if !is_crash {
                    queue.shutdown(grace).await;
                }
            } => {}
        }
        if !is_crash {
            let totals = queue.totals();
            if totals.difference() != 0 && self.fault.is_none() {
                self.ledger.is_wrong(format!("after a shutdown the accounts do not balance: {totals:?}"));
            }
        }
        self.ledger.end_life(is_crash);
        self.time = clock.now() + Duration::from_secs(self.rng.u64(..HOUR));
        queue
    }

    /// What happens in a life until its end, if nothing ends it before.
    async fn events(&mut self, queue: &Queue, clock: &VirtualClock, end: Instant) {
        let mut left = self.rng.usize(1..=MESSAGES);
        while Instant::now() < end {
            match self.rng.u32(..100) {
                0..35 if left > 0 => {
                    left -= 1;
                    self.send(queue);
                }
                35..70 => self.hops.change_mood(),
                70..85 => self.operate(queue),
                85..88 => self.jump(clock),
                _ => {}
            }
            // Many things at once, or a long time for nothing.
            let longest = [1, 10, MINUTE, HOUR, 8 * HOUR][self.rng.usize(..5)];
            let pause = Duration::from_millis(self.rng.u64(..longest * 1000));
            tokio::time::sleep_until((Instant::now() + pause).min(end)).await;
        }
    }

    fn send(&mut self, queue: &Queue) {
        let has_sender = self.rng.u32(..5) > 0;
        let count = [1, 1, 2, 3, 6][self.rng.usize(..5)];
        let mut recipients: Vec<String> =
            (0..count).map(|_| format!("user{}@{}", self.rng.u32(..4), DOMAINS[self.rng.usize(..REFUSING)])).collect();
        recipients.sort();
        recipients.dedup();
        let number = self.ledger.send(has_sender, &recipients);
        let sender = if has_sender { format!("<sender{number}@client.example>") } else { "<>".to_owned() };
        let sender = ReversePath::parse(sender).expect("in the grammar");
        let content = Content::new(format!("X-Number: {number}\r\n\r\nbody\r\n"));
        let mailboxes: Vec<_> = recipients.iter().map(|text| Mailbox::parse(text).expect("in the grammar")).collect();
        let (queue, ledger) = (queue.clone(), self.ledger.clone());
        tokio::spawn(async move {
            if let Ok(id) = queue.submit(sender, mailboxes, content).await {
                ledger.acknowledge(number, id);
            }
        });
    }

    fn operate(&mut self, queue: &Queue) {
        let Some(id) = self.ledger.any(&mut self.rng) else { return };
        let (queue, ledger, what) = (queue.clone(), self.ledger.clone(), self.rng.u32(..10));
        tokio::spawn(async move {
            let done = match what {
                0..2 => queue.hold(id).await.map(drop),
                2..5 => queue.release(id).await.map(drop),
                5..8 => queue.retry(id).await.map(drop),
                8 => {
                    ledger.remove(id);
                    queue.remove(id).await.map(drop)
                }
                _ => queue.show(id).await.map(drop),
            };
            if let Err(error) = done {
                ledger.is_wrong(format!("an operator is told: {error}"));
            }
        });
    }

    fn jump(&mut self, clock: &VirtualClock) {
        let far = [MINUTE, HOUR, 3 * HOUR, 10 * DAY, 365 * DAY][self.rng.usize(..5)];
        let jump = Duration::from_secs(self.rng.u64(..far));
        clock.set(if self.rng.bool() { clock.now() + jump } else { clock.now() - jump });
    }

    /// Everybody is reasonable: whatever is left comes to its end.
    async fn last_life(&mut self, disk: &Opened) {
        let mut dice = self.rng.fork();
        tokio::select! {
            biased;
            () = disk.write(&mut dice, u64::MAX) => {}
            () = self.quiet(disk) => {}
        }
    }

    async fn quiet(&mut self, disk: &Opened) {
        self.hops.calm_down();
        let (queue, _) = self.start(disk);
        let mut after = None;
        loop {
            let page = queue.list(after, 10).await.expect("it answers");
            for listed in &page {
                queue.release(listed.id).await.expect("it answers");
            }
            after = page.last().map(|listed| listed.id);
            if page.len() < 10 {
                break;
            }
        }
        let start = Instant::now();
        while queue.totals().queued > 0 || queue.totals().in_window > 0 {
            if start.elapsed() > Duration::from_secs(15 * DAY) {
                let left = queue.list(None, 3).await.expect("it answers");
                return self.ledger.is_wrong(format!("after 15 quiet days there is still {left:?}"));
            }
            tokio::time::sleep(Duration::from_secs(HOUR / 4)).await;
        }
        queue.shutdown(Duration::from_secs(60)).await;
        let totals = queue.totals();
        if totals.difference() != 0 && self.fault.is_none() {
            self.ledger.is_wrong(format!("the accounts do not balance: {totals:?}"));
        }
        self.ledger.end_life(false);
    }
}
