//! What domains asked to be told of mail in their name: aggregate reports of DMARC, one for each domain and day (RFC 9990).
//!
//! `row` is what is told of a message, `ledger` counts rows in the [`StateStore`](crate::StateStore), `collect` fills it after each
//! judgement. Once a day is over, `sender` takes it out again: `destination` says where it may go, `xml` and `mail` write it.

mod collect;
mod destination;
mod ledger;
mod mail;
mod row;
mod sender;
mod xml;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use collect::DmarcReports;
pub use ledger::DmarcReportLimits;
pub use mail::DmarcReport;
pub use sender::{DmarcReportEvent, DmarcReportOutbox, DmarcReportOutcome, DmarcReporter};

/// A day in UTC, counted from 1 January 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Day(u32);

impl Day {
    const SECONDS: u64 = 86_400;

    fn of(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(u32::try_from(seconds / Self::SECONDS).unwrap_or(u32::MAX))
    }

    /// Its first second.
    fn begin(self) -> u64 {
        u64::from(self.0) * Self::SECONDS
    }

    /// The first moment after it.
    fn end(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.begin() + Self::SECONDS)
    }

    /// The days before it, the oldest first.
    fn before(self, days: u32) -> impl Iterator<Item = Self> {
        (1..=days).rev().filter_map(move |ago| self.0.checked_sub(ago)).map(Self)
    }
}
