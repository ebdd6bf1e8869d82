//! The command line of `mta`, a mail server assembled from the crates of this workspace.
//!
//! [`config`] says what is served, [`run`] serves it, [`queue`] keeps and delivers what arrives, [`send`] tries it out,
//! [`policy`] judges mail of strangers, [`dmarc_reports`] tells domains of it, [`outbound`] rewrites and signs what leaves, by the
//! keys of [`dkim`], [`selfcheck`] looks at what others see of us, [`password`] makes users, [`trial`] makes what one needs to try
//! it, [`logging`] says what happened, [`trace`] remembers why.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::dkim::DkimCommand;
use crate::password::PasswordOptions;
use crate::queue::{QuarantineCommand, QueueCommand};
use crate::run::RunOptions;
use crate::selfcheck::CheckOptions;
use crate::send::SendOptions;
use crate::trace::{ExplainOptions, LogCommand, ReplayOptions};

mod config;
mod dkim;
mod dmarc_reports;
mod logging;
mod outbound;
mod password;
mod policy;
mod queue;
mod recipients;
mod run;
mod selfcheck;
mod send;
mod signals;
mod trace;
mod trial;

/// A mail server that needs no configuration to be tried. Without a command it runs.
#[derive(Debug, Parser)]
#[command(name = "mta", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take mail, keep it in a queue, and deliver it to Maildirs or through a smart host
    Run(RunOptions),
    /// Send one message to a server, to try it
    Send(SendOptions),
    /// Look at the queue of a running server, and change what happens
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Look at what policies set aside, release it or remove it
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Read a password from standard input, and print the line of its user for the file `passwords`
    Password(PasswordOptions),
    /// Make the keys that sign what leaves, and the records that they need
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// Say what happened in a session, what was found, and why it was decided so
    Explain(ExplainOptions),
    /// What happened, from the trace
    #[command(subcommand)]
    Log(LogCommand),
    /// What is looked at in mail of strangers, and what is done about it
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look at DNS, ports and mailboxes of the server, and say what is wrong and what to publish: status 0 where nothing is wrong, 1
    /// where something is, 3 where not everything could be looked at
    Check(CheckOptions),
    /// Look at a configuration without running it
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Print what is looked at when: each practice by its number, what is done about it, and the scores
    Explain {
        /// The configuration; without it, what holds when there is none
        file: Option<PathBuf>,
    },
    /// Print which verdicts of the trace would be others under a configuration, and why; nobody is asked
    Replay(ReplayOptions),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration with every default, as TOML
    Show {
        /// The configuration; without it, what holds when there is none
        file: Option<PathBuf>,
    },
    /// Print `ok`, or what is wrong with line and column
    Check {
        /// The configuration
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = CommandLine::parse().command.unwrap_or_else(|| Command::Run(RunOptions::default()));
    let result = match command {
        Command::Check(options) => return selfcheck::run(&options).unwrap_or_else(|error| complain(&*error)),
        Command::Run(options) => run::run(&options),
        Command::Queue(command) => queue::run(&command),
        Command::Quarantine(command) => queue::run_quarantine(&command),
        Command::Send(options) => send::send(&options),
        Command::Password(options) => password::password(&options),
        Command::Dkim(command) => dkim::run(&command),
        Command::Explain(options) => trace::explain(&options),
        Command::Log(command) => trace::log(&command),
        Command::Policy(PolicyCommand::Replay(options)) => trace::replay(&options),
        Command::Policy(PolicyCommand::Explain { file }) => explain(file.as_deref()),
        Command::Config(ConfigCommand::Show { file }) => show(file.as_deref()),
        Command::Config(ConfigCommand::Check { file }) => check(&file),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough: `mta explain ID | head -1`.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => complain(&*error),
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Where nobody reads what is printed, the exit status still says it.
fn complain(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}", describe(error));
    ExitCode::FAILURE
}

/// Anything that ends the program.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn show(file: Option<&Path>) -> Result<(), AnyError> {
    Ok(io::stdout().write_all(Config::load(file)?.to_toml()?.as_bytes())?)
}

fn explain(file: Option<&Path>) -> Result<(), AnyError> {
    let config = Config::load(file)?;
    Ok(write!(io::stdout(), "{}", config.explain_policy()?)?)
}

fn check(file: &Path) -> Result<(), AnyError> {
    let config = Config::load(Some(file))?;
    for warning in config.warnings() {
        writeln!(io::stdout(), "warning: {warning}")?;
    }
    Ok(writeln!(io::stdout(), "ok")?)
}

/// The error and its causes, without those that it has already named.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let named = error.to_string();
        if !text.ends_with(&named) {
            text.push_str(": ");
            text.push_str(&named);
        }
        cause = error.source();
    }
    text
}
