//! Memory for mail servers: a message is kept from `250` until every recipient has an outcome.
//!
//! ```text
//! queue       the front door: accept, deliver, inspect
//!   routing   where: which site a recipient's copy goes to; transport: how it gets there
//! spool       where messages are kept: the trait, and backends behind it
//!   storage   the file operations of a backend, so that tests can fail each of them
//! quarantine  what policies set aside, until it is released, removed or too old
//! dsn         what a sender is told of a failure (RFC 3464)
//! schedule    when a message is tried again, and when it is given up; clock: what time it is
//! maildir     a store of Maildirs, each delivery on stable storage whole or not at all
//! envelope    what was known when a message was accepted; progress: what changes with each attempt
//! ```

mod clock;
mod content;
mod dsn;
mod envelope;
mod header_section;
mod id;
mod maildir;
mod outcome;
mod progress;
mod quarantine;
mod queue;
mod routing;
mod schedule;
#[cfg(feature = "simulation")]
mod simulation;
mod spool;
mod storage;
mod transport;
mod turns;

pub use clock::{Clock, SystemClock, VirtualClock};
pub use content::{StoredContent, StoredContentReader};
pub use dsn::{
    Action, Notification, NotificationKind, Notified, Report, ReportedRecipient, ReturnedContent, Withheld,
    notification_kind,
};
pub use envelope::{DeliverByTime, Envelope, Origin, QueuedRecipient, SiteName};
pub use id::{QueueId, QueueIdError, QueueIds};
pub use maildir::{MaildirError, MaildirStore, NoDirectory, mailbox_directory};
pub use outcome::Outcome;
pub use progress::{Diagnosis, Progress, WaitingRecipient};
pub use quarantine::{Quarantine, QuarantineSettings, QuarantineTotals, QuarantinedMessage};
pub use queue::{Entry, EntryPair, Flow, Queue, QueueBuilder, QueueSettings, QueueTotals, SubmitError, Waiting};
pub use routing::{Route, Router, Routing};
pub use schedule::Schedule;
#[cfg(feature = "simulation")]
pub use simulation::{
    Answer, Breach, Event, Found, FoundBreach, LossClass, LossCounts, LossKind, Opened, PowerLossReport,
    PowerLossSettings, Request, SpoolLedger, SpoolRun, Subject, Workload, contents_in_files, power_loss, small_spool,
};
pub use spool::contract;
pub use spool::record::RecordError;
#[cfg(feature = "simulation")]
pub use spool::segment::Faults;
pub use spool::segment::{AlarmFn, Damage, OpenError, RecoveryReport, SegmentSettings, SegmentSpool, SpoolAlarm};
#[cfg(feature = "simulation")]
pub use spool::stored_form;
pub use spool::{
    Change, Due, Lease, Listed, ListedPair, MemorySpool, NewContent, NewMessage, NewProgress, Room, Shown, Spool,
    SpoolError, SpoolTotals,
};
#[cfg(any(test, feature = "simulation"))]
pub use storage::{
    CrashPoint, FaultEffect, FaultError, FaultPoint, OperationKind, PowerLoss, SimStorage, StorageFault,
    StorageOperation, UnsyncedOperation,
};
pub use storage::{FileStorage, Space, Storage, StorageFile};
pub use transport::{Attempt, Discard, MaildirTransport, SmtpSettings, SmtpTransport, SourcePool, Transport};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
