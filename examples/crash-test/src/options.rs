//! What can be chosen on the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Kills the mail server at random instants, again and again, and counts what became of the mail that it had
/// acknowledged.
///
/// Its last line is `kills N, acknowledged M, lost L, duplicated D`, in messages; D counts copies too many. The exit
/// status is 1 if a message was lost or damaged, or came twice although it was not in flight at a kill.
#[derive(Debug, Parser)]
#[command(name = "crash-test")]
pub(crate) struct Options {
    /// How often the program is killed
    #[arg(long, default_value_t = 100)]
    pub(crate) kills: usize,
    /// On which disk: a directory is made there, removed in the end unless something went wrong
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Repeats the choices of an earlier trial; instants depend on the machine as well
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How many clients send at the same time
    #[arg(long, default_value_t = 32)]
    pub(crate) clients: usize,
    /// The shortest load before a kill, in milliseconds
    #[arg(long, default_value_t = 50)]
    pub(crate) shortest_ms: u64,
    /// The longest load before a kill, in milliseconds
    #[arg(long, default_value_t = 1500)]
    pub(crate) longest_ms: u64,
    /// Clients pause while so many acknowledged recipients have not got their copy
    #[arg(long, default_value_t = 20_000)]
    pub(crate) backlog: u64,
    /// Messages that lie in the queue, deferred, from before the first kill until after the last
    #[arg(long, default_value_t = 0)]
    pub(crate) preload: u64,
    /// How many of a hundred attempts the next hop defers or cuts off
    #[arg(long, default_value_t = 1.0)]
    pub(crate) trouble: f64,
    /// How many of a hundred recipients the next hop refuses for good
    #[arg(long, default_value_t = 0.5)]
    pub(crate) refuse: f64,
    /// How long before a kill an attempt counts as in flight, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub(crate) in_flight_ms: u32,
    /// How long nothing may arrive in the end, in seconds, before the rest counts as lost
    #[arg(long, default_value_t = 120)]
    pub(crate) drain_seconds: u64,
    /// The program; built with cargo where it is not named
    #[arg(long)]
    pub(crate) mta: Option<PathBuf>,
    /// Ends with the first copy too many or damaged
    #[arg(long)]
    pub(crate) stop_at_once: bool,
    /// Keeps the directory
    #[arg(long)]
    pub(crate) keep: bool,
    /// Damages the queue on purpose, to see that this is found
    #[arg(long = "break", value_enum)]
    pub(crate) breaks: Option<Breakage>,
}

/// What no crash may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Breakage {
    /// Deletes the newest segment of the log between a kill and the next start
    DeleteSegment,
}
