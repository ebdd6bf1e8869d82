//! Breaks spools on purpose: power loss at every moment, on a storage in memory.
//!
//! ```text
//! power_loss   fails at every moment of a piece of work, recovers every image, counts what was met
//!   workload   random work
//!   run        a spool in one thread, moved step by step
//!   ledger     what was promised, compared with what is there
//!   counts     which operation was met by which loss
//!   files      content in files
//! segment      the embedded spool, moved so
//! ```

mod counts;
mod files;
mod ledger;
mod power_loss;
mod run;
mod segment;
mod workload;

pub use self::counts::{LossClass, LossCounts, LossKind};
pub use self::files::contents_in_files;
pub use self::ledger::{Breach, Found, SpoolLedger};
pub use self::power_loss::{FoundBreach, PowerLossReport, PowerLossSettings, power_loss};
pub use self::run::{Answer, Event, Opened, Request, SpoolRun, Subject};
pub use self::segment::small_spool;
pub use self::workload::Workload;
