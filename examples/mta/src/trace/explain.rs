//! `mta explain`: a session, or where a message came from and what became of it, as a page.

use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use clap::Args;
use smtp_policy::SessionTrace;

use crate::AnyError;
use crate::queue::QueuePlace;

use super::read::Trace;

/// What `mta explain` is told.
#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// A session, a transaction or a queue id, as they stand in the log, in replies and in `Received`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    place: QueuePlace,
}

/// Prints the page.
///
/// # Errors
/// Where the trace has nothing of that name.
pub(crate) fn explain(options: &ExplainOptions) -> Result<(), AnyError> {
    let directory = options.place.config()?.trace_directory();
    let trace = Trace::open(&directory)?;
    let id = options.id.trim();
    let found = SessionTrace::find(id, || trace.entries(UNIX_EPOCH));
    let page = found.ok_or_else(|| {
        let id = id.escape_debug();
        format!("the trace in {} has nothing of `{id}`: it is unknown, or too old", directory.display())
    })?;
    Ok(write!(io::stdout(), "{page}")?)
}
