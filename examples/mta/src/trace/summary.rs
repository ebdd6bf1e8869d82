//! `mta log summary`: what happened, in numbers.

use std::io::{self, Write};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use smtp_policy::TraceSummary;

use crate::AnyError;
use crate::queue::QueuePlace;

use super::read::Trace;
use super::since::Ago;

/// What `mta log` is told.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print what happened in numbers: messages, refusals by practice, clients, next hops
    Summary(SummaryOptions),
}

/// Of what.
#[derive(Debug, Args)]
pub(crate) struct SummaryOptions {
    /// Of which time, like `30m`, `24h` or `7d`
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: Ago,
    #[command(flatten)]
    place: QueuePlace,
}

/// Does what it is told.
///
/// # Errors
/// Where there is no trace, or the configuration makes no sense.
pub(crate) fn log(LogCommand::Summary(options): &LogCommand) -> Result<(), AnyError> {
    let trace = Trace::open(&options.place.config()?.trace_directory())?;
    let mut summary = TraceSummary::new();
    for entry in trace.entries(options.since.before(SystemTime::now())) {
        summary.add(&entry);
    }
    Ok(write!(io::stdout(), "{summary}")?)
}
