//! The subcommands: a request to the server that owns the queue, or a look at a queue that nobody owns.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use smtp_core::Domain;
use smtp_queue::{FileStorage, OpenError, SegmentSpool};

use crate::AnyError;
use crate::config::{Config, ConfigError};

use super::control::socket;

/// What `mta queue` is told.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// The messages in the queue, the oldest first
    List {
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 20)]
        limit: usize,
        /// Those behind that one
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        place: QueuePlace,
    },
    /// What became of every recipient since the server started, in numbers
    Totals {
        #[command(flatten)]
        place: QueuePlace,
    },
    /// A message with all that is known of it, and why it does not move
    Show(Messages),
    /// Hold messages: they are neither tried nor given up until they are released
    Hold(Messages),
    /// Let messages go on that were held
    Release(Messages),
    /// Make messages due now, and try their next hop again even if it could not be reached
    Retry(Messages),
    /// Remove messages for good, without telling anybody
    Remove(Messages),
    /// Verify every record of a queue whose server is stopped; changes nothing
    Fsck {
        #[command(flatten)]
        place: QueuePlace,
    },
}

/// Which messages.
#[derive(Debug, Args)]
pub(crate) struct Messages {
    /// As the list shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    place: QueuePlace,
}

/// Which queue.
#[derive(Debug, Default, Args)]
pub(crate) struct QueuePlace {
    /// The configuration of the server; without it, what holds when there is none
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where its mail lies, in the place of what the configuration says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl QueuePlace {
    /// The configuration, with that place for its mail.
    ///
    /// # Errors
    /// Where it cannot be read or makes no sense.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        Ok(config)
    }

    pub(super) fn directory(&self) -> Result<PathBuf, ConfigError> {
        Ok(self.config()?.queue_directory())
    }
}

/// Does what it is told.
///
/// # Errors
/// What the server said, or why it cannot be asked.
pub(crate) fn run(command: &QueueCommand) -> Result<(), AnyError> {
    match command {
        QueueCommand::List { limit, after, place } => {
            let after = after.as_deref().map_or(String::new(), |after| format!(" {after}"));
            ask(&place.directory()?, &format!("list {limit}{}", after.replace(['\n', '\r'], "?")))
        }
        QueueCommand::Totals { place } => ask(&place.directory()?, "totals"),
        QueueCommand::Show(messages) => each("show", messages),
        QueueCommand::Hold(messages) => each("hold", messages),
        QueueCommand::Release(messages) => each("release", messages),
        QueueCommand::Retry(messages) => each("retry", messages),
        QueueCommand::Remove(messages) => each("remove", messages),
        QueueCommand::Fsck { place } => fsck(&place.directory()?),
    }
}

/// Asks the same of each of some messages.
pub(super) fn each(verb: &str, messages: &Messages) -> Result<(), AnyError> {
    let directory = messages.place.directory()?;
    let mut failed = None;
    for id in &messages.ids {
        if let Err(error) = ask(&directory, &format!("{verb} {}", id.replace(char::is_whitespace, "?"))) {
            // The others are asked for all the same.
            if let Some(earlier) = failed.replace(error) {
                writeln!(io::stderr(), "{earlier}")?;
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The domains under which mail leaves, as the server says that runs there; none where none runs.
pub(crate) fn domains_in_use(directory: &Path) -> Vec<Domain> {
    asked(directory, "domains")
        .map_or_else(|_| Vec::new(), |text| text.lines().filter_map(|it| it.parse().ok()).collect())
}

pub(super) fn ask(directory: &Path, request: &str) -> Result<(), AnyError> {
    Ok(io::stdout().write_all(asked(directory, request)?.as_bytes())?)
}

fn asked(directory: &Path, request: &str) -> Result<String, AnyError> {
    let path = socket(directory);
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no server is running with its queue in {}", directory.display())
        }
        _ => format!("cannot connect to {}: {error}", path.display()),
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("the server did not answer: {error}"))?;
    match answer.split_once('\n') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some((problem, _)) => Err(problem.strip_prefix("error ").unwrap_or(problem).to_owned().into()),
        None => Err("the server did not answer".into()),
    }
}

fn fsck(directory: &Path) -> Result<(), AnyError> {
    if !directory.is_dir() {
        return Err(format!("there is no queue in {}", directory.display()).into());
    }
    let storage = FileStorage::open(directory)?;
    let report = SegmentSpool::check(&storage).map_err(|error| match error {
        OpenError::InUse(owner) => AnyError::from(format!("{owner}; stop it first")),
        other => other.into(),
    })?;
    let mut output = io::stdout();
    writeln!(output, "messages   {}", report.messages)?;
    writeln!(output, "segments   {}, with {} batches", report.segments, report.batches)?;
    if report.torn_tail {
        writeln!(output, "last batch unfinished; nothing in it was acknowledged")?;
    }
    for damage in &report.damage {
        writeln!(output, "damaged    {damage}")?;
    }
    if report.damage.is_empty() { Ok(writeln!(output, "ok")?) } else { Err("the queue is damaged".into()) }
}
