//! `mta policy replay`: which verdicts of the trace would be others under a configuration.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use smtp_policy::Replay;

use crate::AnyError;
use crate::policy;
use crate::queue::QueuePlace;

use super::read::Trace;
use super::since::Ago;

/// What `mta policy replay` is told.
#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// Only verdicts of that time, like `30m`, `24h` or `7d`; without it, all in the trace
    #[arg(long, value_name = "TIME")]
    since: Option<Ago>,
    #[command(flatten)]
    place: QueuePlace,
}

/// Prints each verdict that would be another, and the numbers. It asks nobody and changes nothing.
///
/// # Errors
/// Where there is no trace, or the configuration makes no sense.
pub(crate) fn replay(options: &ReplayOptions) -> Result<(), AnyError> {
    let config = options.place.config()?;
    let chain = policy::plan(&config.hostname, &config.domains, &config.policy)?;
    let trace = Trace::open(&config.trace_directory())?;
    let mut replay = Replay::new(chain.rules());
    let mut output = io::stdout().lock();
    for entry in trace.entries(options.since.map_or(UNIX_EPOCH, |since| since.before(SystemTime::now()))) {
        if let Some(change) = replay.judge(&entry) {
            writeln!(output, "{change}")?;
        }
    }
    Ok(write!(output, "{replay}")?)
}
