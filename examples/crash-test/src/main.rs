//! Kills the mail server at random instants under load, and counts what became of every message that it acknowledged
//! (SECURITY.md T1).
//!
//! ```text
//! kills       starts the program, kills it, and in the end lets it finish
//! clients     send as fast as they get answers; each 250 goes to the ledger
//! sink        the next hop: takes what the program relays, and says no at random
//!   severable a stream that is cut in the middle
//! program     the process
//! trial       what they share
//!   account   what was acknowledged and what arrived, and the verdict
//!   ledger    every 250, on stable storage
//!   mailing   messages, each made from its number
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::account::Verdict;
use crate::kills::Killer;
use crate::ledger::Ledger;
use crate::mailing::Mailing;
use crate::options::Options;
use crate::program::Program;
use crate::sink::Sink;
use crate::trial::Trial;

mod account;
mod clients;
mod kills;
mod ledger;
mod mailing;
mod options;
mod program;
mod severable;
mod sink;
mod trial;

fn main() -> ExitCode {
    let mut options = Options::parse();
    let seed = *options.seed.get_or_insert_with(|| fastrand::u64(..1 << 32));
    match run(&options, seed) {
        Ok(verdict) => {
            println!(
                "kills {}, acknowledged {}, lost {}, duplicated {}",
                verdict.kills, verdict.acknowledged, verdict.lost, verdict.duplicated
            );
            if verdict.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("crash-test: {error} (seed {seed})");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, seed: u64) -> io::Result<Verdict> {
    let mta = match &options.mta {
        Some(path) => path.canonicalize()?,
        None => build()?,
    };
    let mut directory = tempfile::Builder::new().prefix("crash-test-").tempdir_in(options.dir.canonicalize()?)?;
    let path = directory.path().to_owned();
    println!("seed {seed}, {} kills of {}, in {}", options.kills, mta.display(), path.display());
    directory.disable_cleanup(true);
    let runtime = tokio::runtime::Runtime::new()?;
    let verdict = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            verdict = attempt(options, seed, mta, &path) => verdict,
            _ = tokio::signal::ctrl_c() => Err(io::Error::other("interrupted")),
            // Whoever ends this must not leave the program behind.
            _ = terminate.recv() => Err(io::Error::other("told to end")),
        }
    })?;
    // Sessions of the sink may still be open.
    runtime.shutdown_background();
    print!("{}", verdict.details);
    if verdict.is_good && !options.keep {
        directory.disable_cleanup(false);
    } else {
        println!("kept: {} (seed {seed})", path.display());
    }
    Ok(verdict)
}

async fn attempt(options: &Options, seed: u64, mta: PathBuf, directory: &Path) -> io::Result<Verdict> {
    let mailing = Mailing::new(seed, options.preload, options.refuse);
    let trial = Arc::new(Trial::new(mailing, directory.to_owned(), options.in_flight_ms));
    let (sink, address) = Sink::open(trial.clone(), options.trouble, seed).await?;
    let program = Program::new(mta, directory, address, options.preload > 0)?;
    let synced = trial.clone();
    let (ledger, acknowledged) = Ledger::create(&directory.join("ledger"), move |group| {
        let mut account = synced.account();
        for entry in group {
            account.acknowledge(entry.number, entry.recipients);
        }
    })?;
    let (target, targets) = watch::channel(None);
    let mut clients = JoinSet::new();
    for _ in 0..options.clients {
        clients.spawn(clients::send_mail(trial.clone(), acknowledged.clone(), targets.clone()));
    }
    drop((acknowledged, targets));
    // The clients go home when it ends, because it holds the address that they send to.
    let ended = Killer::new(&trial, options, &program, sink, target).run().await;
    while clients.join_next().await.is_some() {}
    tokio::task::spawn_blocking(|| ledger.finish()).await.map_err(io::Error::other)??;
    if let Err(error) = ended {
        println!("the end of the log:\n{}", program.end_of_log());
        println!("kept: {}", directory.display());
        return Err(error);
    }
    let panics = program.panics();
    if !panics.is_empty() {
        trial.account().fault(format!("the program panicked: {panics}"));
    }
    Ok(trial.account().verdict())
}

/// Builds the program as this one was built, and says where it lies: beside this one.
fn build() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().ok_or_else(|| io::Error::other("this program lies nowhere"))?;
    let path = directory.join(format!("mta{}", std::env::consts::EXE_SUFFIX));
    // Only under cargo: whoever copied the two to another machine has no sources there.
    if let (Some(cargo), Some(target)) = (std::env::var_os("CARGO"), directory.parent()) {
        let mut command = std::process::Command::new(cargo);
        command.args(["build", "--quiet", "--package", "mta", "--bin", "mta", "--target-dir"]).arg(target);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        if !command.status()?.success() {
            return Err(io::Error::other("mta cannot be built"));
        }
    }
    if path.exists() { Ok(path) } else { Err(io::Error::other(format!("{} is missing", path.display()))) }
}
