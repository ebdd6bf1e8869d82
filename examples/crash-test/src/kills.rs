//! Starts the program, kills it, starts it again; in the end lets it finish.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clients::Target;
use crate::options::Options;
use crate::program::{Program, Running};
use crate::sink::Sink;
use crate::trial::Trial;

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long the program may take to end when it is asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is said how things stand.
const REPORT_PERIOD: Duration = Duration::from_secs(5);
/// How long the program goes on when everything has arrived, so that what comes twice has time to come.
const SETTLING: Duration = Duration::from_secs(3);

/// How many messages the program lists, at most.
async fn waiting_messages(program: &Program) -> io::Result<usize> {
    let list = program.queue_command("list").await?;
    Ok(if list.contains("the queue is empty") { 0 } else { list.lines().count() })
}

/// When a run is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After so long under load.
    Load(Duration),
    /// So long after its start, whether it serves or not.
    Start(Duration),
    /// So long after its first `220`.
    Greeting(Duration),
}

/// Kills the program, and starts it again.
#[derive(Debug)]
pub(crate) struct Killer<'a> {
    trial: &'a Trial,
    options: &'a Options,
    program: &'a Program,
    sink: Arc<Sink>,
    target: watch::Sender<Target>,
    rng: fastrand::Rng,
    /// How long the last start took until `220`.
    last_start: Duration,
    last_report: Instant,
}

impl<'a> Killer<'a> {
    /// Nothing runs yet. Clients hear where the program listens through `target`.
    pub(crate) fn new(
        trial: &'a Trial,
        options: &'a Options,
        program: &'a Program,
        sink: Arc<Sink>,
        target: watch::Sender<Target>,
    ) -> Self {
        let rng = fastrand::Rng::with_seed(options.seed.unwrap_or_default() ^ 0x006b_696c_6c65_7200);
        let last_start = Duration::from_millis(100);
        Self { trial, options, program, sink, target, rng, last_start, last_report: Instant::now() }
    }

    /// All runs. The clients are sent home before the last one drains the queue.
    ///
    /// # Errors
    /// The program does not start, ends by itself, or does not end when asked.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        if self.options.preload > 0 {
            self.preload().await?;
        }
        self.trial.send_up_to(u64::MAX, self.options.preload + self.options.backlog);
        let first = usize::from(self.options.preload > 0);
        for run in first..self.options.kills {
            self.run_and_kill(run).await?;
            if self.last_report.elapsed() > REPORT_PERIOD || run + 1 == self.options.kills {
                self.report(&format!("kill {} of {}", run + 1, self.options.kills));
            }
            if self.options.stop_at_once && self.trial.account().has_faults() {
                println!("stopped at the first fault, as asked");
                break;
            }
        }
        self.drain().await
    }

    /// The first run takes what is to lie in the queue until the last one.
    async fn preload(&mut self) -> io::Result<()> {
        self.trial.send_up_to(self.options.preload, u64::MAX);
        let mut running = self.start(0).await?;
        let started = Instant::now();
        let mut seen = 0;
        let mut last_progress = Instant::now();
        // A few are not taken, each time the program has had enough of a session.
        while self.trial.answered() < self.options.preload {
            let answered = self.trial.answered();
            if answered > seen {
                (seen, last_progress) = (answered, Instant::now());
            } else if last_progress.elapsed() > START_PATIENCE {
                return Err(io::Error::other(format!("only {answered} messages of the preload were answered")));
            }
            if self.last_report.elapsed() > REPORT_PERIOD {
                self.report("preload");
            }
            sleep(Duration::from_millis(20)).await;
        }
        println!("preload: {} messages in {} s", self.options.preload, started.elapsed().as_secs());
        if self.options.kills > 0 {
            self.kill(0, running).await?;
        } else {
            running = self.stop_clients(running);
            running.stop(STOP_PATIENCE).await?;
        }
        Ok(())
    }

    fn stop_clients(&self, running: Running) -> Running {
        self.trial.send_up_to(0, 0);
        running
    }

    async fn start(&mut self, run: usize) -> io::Result<Running> {
        self.trial.start(run);
        let began = Instant::now();
        let mut running = self.program.start()?;
        self.serve(run, began, &mut running).await?;
        Ok(running)
    }

    /// Waits for the first `220`, then lets the clients at it.
    async fn serve(&mut self, run: usize, began: Instant, running: &mut Running) -> io::Result<()> {
        let address = timeout(START_PATIENCE, running.address()).await;
        let address = address.map_err(|_| io::Error::other("it does not say where it listens"))??;
        running.greeting(address, START_PATIENCE).await?;
        self.last_start = began.elapsed();
        self.trial.account().greet(run, self.trial.now());
        self.target.send_replace(Some((run, address)));
        Ok(())
    }

    fn moment(&mut self) -> Moment {
        let (shortest, longest) = (self.options.shortest_ms, self.options.longest_ms.max(self.options.shortest_ms));
        match self.rng.u8(0..100) {
            0..70 => Moment::Load(Duration::from_millis(self.rng.u64(shortest..=longest))),
            70..85 => Moment::Start(self.last_start.mul_f64(self.rng.f64() * 1.5)),
            _ => Moment::Greeting(Duration::from_millis(self.rng.u64(0..50))),
        }
    }

    async fn run_and_kill(&mut self, run: usize) -> io::Result<()> {
        let is_broken = self.options.breaks.is_some() && run == self.options.kills / 2;
        let moment = match self.moment() {
            _ if is_broken => Moment::Load(Duration::from_secs(2)),
            moment => moment,
        };
        // What lies in the queue when it is damaged has not been relayed.
        self.sink.defer_all(is_broken);
        let running = match moment {
            Moment::Start(after) => {
                self.trial.start(run);
                let began = Instant::now();
                let mut running = self.program.start()?;
                // Whether it got so far makes no difference.
                match timeout(after, self.serve(run, began, &mut running)).await {
                    Ok(result) => result?,
                    Err(_elapsed) => {}
                }
                running
            }
            Moment::Load(after) | Moment::Greeting(after) => {
                let running = self.start(run).await?;
                sleep(after).await;
                running
            }
        };
        self.kill(run, running).await?;
        if is_broken {
            self.delete_segment()?;
        }
        Ok(())
    }

    async fn kill(&mut self, run: usize, running: Running) -> io::Result<()> {
        self.trial.account().kill(run, self.trial.now());
        let killed = running.kill().await;
        self.target.send_replace(None);
        killed
    }

    /// Does what no crash may do, to see that it is found.
    fn delete_segment(&self) -> io::Result<()> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(self.program.queue().join("log"))? {
            let entry = entry?;
            segments.push((entry.metadata()?.modified()?, entry.path()));
        }
        segments.sort();
        let (_, newest): (_, PathBuf) = segments.pop().ok_or_else(|| io::Error::other("there is no segment"))?;
        println!("DAMAGE ON PURPOSE: {} is deleted. Messages must be lost now.", newest.display());
        fs::remove_file(newest)
    }

    /// The last run: no new mail, nothing is refused any more, and everything has to arrive.
    async fn drain(&mut self) -> io::Result<()> {
        self.sink.defer_all(false);
        self.sink.take_everything();
        self.trial.send_up_to(0, 0);
        let run = self.options.kills.max(usize::from(self.options.preload > 0));
        let running = self.start(run).await?;
        let patience = Duration::from_secs(self.options.drain_seconds);
        let (mut seen, mut last_progress) = (u64::MAX, Instant::now());
        loop {
            let waiting = self.trial.account().waiting();
            if waiting == 0 || last_progress.elapsed() > patience {
                break;
            }
            if waiting < seen {
                (seen, last_progress) = (waiting, Instant::now());
            }
            if self.last_report.elapsed() > REPORT_PERIOD {
                self.report("draining");
            }
            sleep(Duration::from_millis(100)).await;
        }
        // What nobody was told of may still be on its way.
        let drained = Instant::now();
        while waiting_messages(self.program).await? > 0 && drained.elapsed() < patience {
            sleep(Duration::from_millis(100)).await;
        }
        sleep(SETTLING).await;
        self.report("drained");
        running.stop(STOP_PATIENCE).await?;
        self.target.send_replace(None);
        self.examine().await
    }

    /// Nothing may be left in the queue, and nothing of it damaged.
    async fn examine(&self) -> io::Result<()> {
        match self.program.queue_command("fsck").await {
            Ok(text) if text.lines().any(|line| line.split_whitespace().eq(["messages", "0"])) => {}
            Ok(text) => self.trial.account().fault(format!("the queue is not empty in the end: {text}")),
            Err(error) => self.trial.account().fault(error.to_string()),
        }
        for directory in ["content", "incoming", "corrupt"] {
            let stray = match fs::read_dir(self.program.queue().join(directory)) {
                Ok(entries) => entries.count(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            if stray > 0 {
                self.trial.account().fault(format!("{stray} files are left in {directory}/"));
            }
        }
        Ok(())
    }

    fn report(&mut self, stage: &str) {
        self.last_report = Instant::now();
        let account = self.trial.account();
        println!(
            "{stage}: acknowledged {} messages, arrived {} copies, waiting {}; {}",
            account.acknowledged_messages(),
            account.arrived(),
            account.waiting(),
            account.start_times()
        );
    }
}
