//! The day before in numbers, for `postmaster`, soon after midnight UTC (PRACTICES S41).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smtp_core::{Content, DateTime, Domain, Mailbox, ReversePath};
use smtp_policy::{Change, StateError, StateStore, TraceSummary};
use smtp_queue::{Queue, SubmitError};
use thiserror::Error;

use crate::AnyError;

use super::read::Trace;

const DAY: Duration = Duration::from_secs(86_400);
/// Behind midnight, so that what happened before it has been written.
const DELAY: Duration = Duration::from_secs(30);
/// The clock is looked at that often: it may be set.
const LOOK: Duration = Duration::from_secs(3600);
/// Where it is remembered which day was told last: its number since 1970.
const TABLE: &str = "daily-summary";

/// What a letter needs.
pub(crate) struct DailySummary {
    pub(crate) hostname: Domain,
    pub(crate) postmaster: Mailbox,
    /// The directory of the trace.
    pub(crate) trace: PathBuf,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) queue: Queue,
}

/// It is tried again an hour later.
#[derive(Debug, Error)]
enum NotTold {
    #[error("the trace cannot be read")]
    Trace(#[source] AnyError),
    #[error("what was told before is not known")]
    State(#[from] StateError),
    #[error("the letter was not taken")]
    Queue(#[from] SubmitError),
}

impl DailySummary {
    /// Tells of each day, until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            let now = SystemTime::now();
            if let Err(error) = self.tell_of_yesterday(now).await {
                let error = crate::describe(&error);
                tracing::warn!(target: "mta", error, "no summary of the day yet");
            }
            let midnight = start_of(number_of(now) + 1).duration_since(now).unwrap_or_default();
            tokio::time::sleep(LOOK.min(midnight + DELAY)).await;
        }
    }

    /// Nothing, where that was done, or nothing happened.
    async fn tell_of_yesterday(&self, now: SystemTime) -> Result<(), NotTold> {
        let Some(yesterday) = number_of(now).checked_sub(1) else { return Ok(()) };
        let told = self.state.get(TABLE, b"", now).await?;
        if told.and_then(|told| told.try_into().ok()).map(u64::from_be_bytes) >= Some(yesterday) {
            return Ok(());
        }
        let trace = self.trace.clone();
        let summary = tokio::task::spawn_blocking(move || summary_of(&trace, yesterday)).await;
        let summary = summary.unwrap_or_else(|error| Err(error.into())).map_err(NotTold::Trace)?;
        if let Some(summary) = summary {
            let letter = self.letter(yesterday, now, &summary);
            let id = self.queue.submit(ReversePath::Null, [self.postmaster.clone()], Content::new(letter)).await?;
            tracing::info!(target: "mta", %id, to = %self.postmaster, "queued the summary of yesterday");
        }
        let mut is_told =
            |_: Option<&[u8]>| Change::Set { value: yesterday.to_be_bytes().into(), expires: now + 30 * DAY };
        Ok(self.state.update(TABLE, b"", now, &mut is_told).await?)
    }

    fn letter(&self, day: u64, now: SystemTime, summary: &TraceSummary) -> String {
        let (hostname, postmaster) = (self.hostname.to_ascii(), &self.postmaster);
        let (hostname, date) = (hostname.as_str(), DateTime::new(now));
        // The date without the time.
        let name = DateTime::new(start_of(day)).to_string();
        let name = name.split(" 00:").next().unwrap_or_default();
        let text = summary.to_string().replace('\n', "\r\n");
        format!(
            "Date: {date}\r\n\
             From: {postmaster}\r\n\
             To: {postmaster}\r\n\
             Subject: {hostname} on {name}\r\n\
             Message-ID: <summary-{day}@{hostname}>\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\
             \r\n\
             {text}\r\n\
             `mta explain ID` says why, of a message or a session in the log.\r\n"
        )
    }
}

/// The day since 1970.
fn number_of(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs()
}

fn start_of(day: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(day * DAY.as_secs())
}

/// `None` where nothing happened.
fn summary_of(directory: &Path, day: u64) -> Result<Option<TraceSummary>, AnyError> {
    if !directory.exists() {
        return Ok(None);
    }
    let mut summary = TraceSummary::new();
    // A clock that was set may have left a later entry before an earlier one.
    let of_the_day = |at: SystemTime| number_of(at) == day;
    for entry in Trace::open(directory)?.entries(start_of(day)).filter(|entry| of_the_day(entry.at())) {
        summary.add(&entry);
    }
    Ok((!summary.is_empty()).then_some(summary))
}
