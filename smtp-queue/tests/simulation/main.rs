//! The queue, its senders, next hops, disk, clock and operators in one thread, on virtual time, from one seed
//! (SECURITY.md T4).
//!
//! ```text
//! cargo test --release -p smtp-queue --test simulation -- --seeds 2000
//! cargo test --release -p smtp-queue --test simulation -- --seed 17
//! ```
//!
//! A run is a few lives of a queue over one disk; each but the last ends by a crash or a shutdown at a random instant.
//! Even seeds have a spool in memory, odd ones the embedded spool, whose power fails in the middle of its writes.
//! At the end everything that was acknowledged must have come to its end: see [`ledger`]. Faults that are planted in the
//! spool ([`spool`]) must be found. A seed that fails is run by itself with `--seed`, and with
//! `--trace` it says everything that happens.

mod disk;
mod hops;
mod ledger;
mod life;
mod spool;

use std::process::ExitCode;

use self::ledger::Counts;
use self::spool::Fault;

/// How many seeds are tried if nothing is said: what a developer waits for.
const SEEDS: u64 = 100;
/// How many seeds a planted fault may survive.
const SEEDS_FOR_FAULT: u64 = 300;

fn main() -> ExitCode {
    let (seeds, first) = arguments();
    let is_told = std::env::args().any(|argument| argument == "--trace");
    let mut counts = Counts::default();
    for seed in first..first + seeds {
        match life::run(seed, None, is_told) {
            Ok(found) => counts.add(&found),
            Err(error) => {
                println!("seed {seed}: {error}");
                return ExitCode::FAILURE;
            }
        }
        // A seed that does not replay is worth nothing.
        if seed % 50 < 2
            && let Err(error) = replays(seed)
        {
            println!("seed {seed}: {error}");
            return ExitCode::FAILURE;
        }
    }
    for fault in Fault::ALL {
        let Some((seed, error)) = find(fault) else {
            println!("the planted fault {fault:?} was not found with {SEEDS_FOR_FAULT} seeds");
            return ExitCode::FAILURE;
        };
        println!("planted fault {fault:?}: found with seed {seed}: {error}");
    }
    println!("seeds {seeds}, {counts}, lost 0");
    ExitCode::SUCCESS
}

/// How many seeds, and the first. Whatever else a test runner says is not for us.
fn arguments() -> (u64, u64) {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    match value("--seed") {
        Some(seed) => (1, seed),
        None => (value("--seeds").unwrap_or(SEEDS), 0),
    }
}

fn replays(seed: u64) -> Result<(), String> {
    let hash = |seed| life::run(seed, None, false).map(|counts| counts.hash);
    let (first, second) = (hash(seed)?, hash(seed)?);
    if first == second { Ok(()) } else { Err("it does not happen again as it happened".to_owned()) }
}

/// The first seed that finds a planted fault, and as what.
fn find(fault: Fault) -> Option<(u64, String)> {
    (0..SEEDS_FOR_FAULT).find_map(|seed| life::run(seed, Some(fault), false).err().map(|error| (seed, error)))
}
