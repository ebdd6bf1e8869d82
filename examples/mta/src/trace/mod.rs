//! The trace of decisions: why each message was taken or refused, kept for a while and read by `mta explain`.
//!
//! ```text
//! files     where the lines go, and which are removed
//! read      the entries in those files
//!   since   from when on
//! explain   a session as a page
//! replay    the verdicts under another configuration
//! summary   what happened, in numbers
//! daily     the same of each day, for postmaster
//! ```
//!
//! A trace that cannot be written holds up nobody; the log says so.

mod daily;
mod explain;
mod files;
mod read;
mod replay;
mod since;
mod summary;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_core::{Observer, TracingObserver};
use smtp_policy::DecisionTrace;

use crate::AnyError;
use crate::config::Config;
use crate::logging::LogLines;
use crate::policy;

use self::files::TraceFiles;

pub(crate) use self::daily::DailySummary;
pub(crate) use self::explain::{ExplainOptions, explain};
pub(crate) use self::replay::{ReplayOptions, replay};
pub(crate) use self::summary::{LogCommand, log};

/// The most octets that wait to be written: 1 MiB.
const WAITING_OCTETS: usize = 1 << 20;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceSettings {
    /// For how long, at least as long as there is room: 7 days. Zero: nothing is.
    pub(crate) keep: Duration,
    /// The most octets of all files: 100 MiB.
    pub(crate) total_octets: u64,
    /// Whether `postmaster` is told of each day.
    pub(crate) daily_summary: bool,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 86_400), total_octets: 100 << 20, daily_summary: true }
    }
}

/// The trace of a running server.
#[derive(Debug)]
pub(crate) struct TraceOnDisk {
    trace: Arc<DecisionTrace>,
    lines: LogLines,
}

impl TraceOnDisk {
    /// What the configuration asks for; `None` where nothing is kept.
    ///
    /// # Errors
    /// Where the configuration names a practice that nobody looks at, or there can be no thread.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, AnyError> {
        if config.trace.keep.is_zero() {
            files::remove_all(&config.trace_directory());
            return Ok(None);
        }
        let chain = policy::plan(&config.hostname, &config.domains, &config.policy)?;
        let heading = DecisionTrace::rules_line(chain.rules());
        let files = TraceFiles::new(config.trace_directory(), config.trace, heading, SystemTime::now);
        Self::writing_to(files).map(Some).map_err(Into::into)
    }

    fn writing_to(files: impl io::Write + Send + 'static) -> io::Result<Self> {
        let lines = LogLines::new("trace", WAITING_OCTETS, files)?;
        let taken = lines.clone();
        let trace = Arc::new(DecisionTrace::new(move |line| taken.take(line.as_bytes())));
        Ok(Self { trace, lines })
    }

    /// Who writes the log and the trace.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::new((TracingObserver, self.trace.clone()))
    }

    /// Waits until all is written, but not for long.
    pub(crate) fn finish(&self) {
        self.lines.finish();
    }
}
