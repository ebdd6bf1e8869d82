//! Lets power fail at every moment of random work of a spool, recovers every disk that this can leave behind, and
//! compares it with what was acknowledged.
//!
//! ```text
//! cargo run --release --bin power-loss -- --states 1000000
//! ```
//!
//! The last line says how many distinct disks there were, how many messages were acknowledged, and how many of them were
//! lost. The exit status is 1 if anything at all was wrong; `--replay SEED` shows that piece of work again.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use smtp_queue::{PowerLossReport, PowerLossSettings, contents_in_files, power_loss, small_spool};

/// Lets power fail at every moment of a spool's work.
#[derive(Debug, Parser)]
struct Options {
    /// How many distinct disks are looked at, at least.
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// Where the seeds begin; each piece of work has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Looks at the work of one seed only.
    #[arg(long)]
    replay: Option<u64>,
    /// Ends after so many findings.
    #[arg(long, default_value_t = 10)]
    findings: usize,
    /// Leaves out that a rename keeps both names, which no file system with a journal does.
    #[arg(long)]
    journaled: bool,
}

/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut settings = PowerLossSettings::default();
    settings.files = Arc::from(runtime.block_on(contents_in_files(folder.path(), &[1500, 3000, 5000]))?);
    settings.both_names = !options.journaled;

    let mut report = PowerLossReport::default();
    let start = Instant::now();
    let mut told = start;
    let mut seed = options.replay.unwrap_or(options.seed);
    loop {
        let known = report.breaches.len();
        power_loss(&small_spool(seed), seed, &settings, &mut report, |_| false);
        for found in &report.breaches[known..] {
            println!("{found}");
        }
        let enough = report.states() >= options.states || report.breaches.len() >= options.findings;
        if enough || options.replay.is_some() {
            break;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let rate = report.states() / start.elapsed().as_secs().max(1);
            println!("{} states, {rate} a second, {} findings", report.states(), report.breaches.len());
        }
        seed += 1;
    }
    println!("{}", report.counts);
    println!(
        "{} recoveries; power failed again during {} and after {}; {} with a damaged newest snapshot; {} restarts",
        report.recoveries,
        report.crashes_in_recovery,
        report.crashes_after_recovery,
        report.damaged_snapshots,
        report.restarts,
    );
    let missing = report.counts.missing();
    if options.replay.is_none() && !missing.is_empty() {
        println!("never met: {missing:?}");
    }
    println!("states {}, acknowledged {}, lost {}", report.states(), report.acknowledged, report.lost());
    Ok(if report.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
