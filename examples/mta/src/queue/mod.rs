//! `mta queue`: what waits, why, and what an operator does about it.
//!
//! ```text
//! control   the socket of a running server: one request line in, an answer out
//!   answer  what each request does; report: how the answer reads
//! client    the other end: the subcommands
//! quarantine  the same for what policies set aside: `mta quarantine`
//! open      the spool and the queue of this host, and what a sync costs here
//! sources   the addresses that mail leaves from, and their names
//! ```

mod answer;
mod client;
mod control;
mod open;
mod quarantine;
mod report;
mod sources;

pub(crate) use self::client::{QueueCommand, QueuePlace, domains_in_use, run};
pub(crate) use self::control::Control;
pub(crate) use self::open::{QueueOnDisk, describe_durability};
pub(crate) use self::quarantine::{QuarantineCommand, run as run_quarantine};
pub(crate) use self::sources::source_pool;
