//! Sends what was collected, once its day is over: each report once, at a time of its own, until somebody has taken it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use smtp_core::{Domain, Mailbox, Resolver, async_trait};

use crate::dmarc::Unknown;
use crate::state::StateError;

use super::Day;
use super::collect::DmarcReports;
use super::destination::destinations;
use super::ledger::{Head, Phase};
use super::mail::{DmarcReport, Labels, compressed, message};
use super::row::Row;
use super::xml::{Reporter, xml};

/// How long after the end of a day the first report leaves: for what is still being judged.
const PAUSE: Duration = Duration::from_secs(10 * 60);
/// Over how long a time the others follow: 20 h. So not all servers of the world report at midnight.
const SPREAD_SECONDS: u64 = 20 * 60 * 60;
/// How long after the end of its day a report is given up: 3 days.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3 * Day::SECONDS);
/// Days that are looked at. The state has forgotten those before.
const DAYS: u32 = 5;
/// How often [`DmarcReporter::run`] looks.
const ROUND: Duration = Duration::from_secs(10 * 60);

/// Where reports go: usually the queue of the server.
///
/// ```
/// use smtp_core::async_trait;
/// use smtp_policy::{DmarcReport, DmarcReportOutbox};
///
/// struct Printed;
///
/// #[async_trait]
/// impl DmarcReportOutbox for Printed {
///     async fn send(&self, report: DmarcReport) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///         println!("{} to {:?}", String::from_utf8_lossy(&report.content), report.to);
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait DmarcReportOutbox: Send + Sync {
    /// Takes a report. When it returns, the report is as safe as other mail; only then is it forgotten here.
    ///
    /// # Errors
    /// Where it was not taken. It is tried again.
    async fn send(&self, report: DmarcReport) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// What happened to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DmarcReportEvent {
    /// The domain that the report is about; none, where it is about all of a day for which there was no room.
    pub domain: Option<String>,
    /// The begin of its day, in seconds since 1970.
    pub begin: u64,
    /// The messages in it.
    pub messages: u64,
    /// What became of it.
    pub outcome: DmarcReportOutcome,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DmarcReportOutcome {
    /// It was taken, for these recipients.
    Sent(Vec<Mailbox>),
    /// Nobody wants it: no address is left that may have it, or it is too large for all.
    Unwanted,
    /// It will be tried again: DNS or the outbox did not do what it was asked.
    Later(String),
    /// It was tried for three days.
    GivenUp,
    /// There was no room for these messages: their domains are not told.
    LeftOut,
}

/// Sends what [`DmarcReports`] collected.
///
/// A report is removed when the outbox has taken it. Where a stop comes in between it is sent again, as the same report: identifier,
/// file name and rows are those of before, so that its reader knows (RFC 9990 §3.5.4).
#[derive(Clone)]
pub struct DmarcReporter {
    reports: DmarcReports,
    resolver: Arc<dyn Resolver>,
    outbox: Arc<dyn DmarcReportOutbox>,
    submitter: String,
    organization: String,
}

impl DmarcReporter {
    /// Sends these reports as the host of that name.
    pub fn new(
        reports: DmarcReports,
        hostname: &Domain,
        resolver: impl Resolver + 'static,
        outbox: impl DmarcReportOutbox + 'static,
    ) -> Self {
        let submitter = hostname.to_ascii().as_str().to_owned();
        let organization = submitter.clone();
        Self { reports, resolver: Arc::new(resolver), outbox: Arc::new(outbox), submitter, organization }
    }

    /// With the name of the organisation. Default: that of the host.
    #[must_use]
    pub fn with_organization(self, organization: impl Into<String>) -> Self {
        Self { organization: organization.into(), ..self }
    }

    /// Sends what is due, every ten minutes, and tells what happened. It never ends; it may be dropped at any time.
    pub async fn run(&self, told: impl Fn(Result<DmarcReportEvent, StateError>) + Send) -> std::convert::Infallible {
        loop {
            let (events, ended) = self.send_due().await;
            for event in events {
                told(Ok(event));
            }
            if let Err(error) = ended {
                told(Err(error));
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Sends what is due now, and gives what happened, whether it came to its end or not.
    ///
    /// # Errors
    /// [`StateError`], beside what happened before it. What was not sent is sent the next time.
    pub async fn send_due(&self) -> (Vec<DmarcReportEvent>, Result<(), StateError>) {
        let mut events = Vec::new();
        let ended = self.send_into(&mut events).await;
        (events, ended)
    }

    async fn send_into(&self, events: &mut Vec<DmarcReportEvent>) -> Result<(), StateError> {
        let now = self.reports.clock.now();
        for day in Day::of(now).before(DAYS) {
            let messages = self.reports.ledger.take_left_out(day, now).await?;
            if messages > 0 {
                let outcome = DmarcReportOutcome::LeftOut;
                events.push(DmarcReportEvent { domain: None, begin: day.begin(), messages, outcome });
            }
            for domain in self.reports.ledger.domains(day, now).await? {
                self.attempt(day, &domain, now, events).await?;
            }
        }
        Ok(())
    }

    /// Takes one report as far as it goes. What became of it is told before the state hears of it, which may fail.
    async fn attempt(
        &self,
        day: Day,
        domain: &str,
        now: SystemTime,
        events: &mut Vec<DmarcReportEvent>,
    ) -> Result<(), StateError> {
        let ledger = &self.reports.ledger;
        let Some(head) = ledger.head(day, domain, now).await? else { return Ok(()) };
        if head.phase == Phase::Done {
            if head.rows > 0 {
                ledger.clear(day, domain, &head, now).await?;
            }
            return Ok(());
        }
        let id = self.id(day, domain);
        if now < day.end() + PAUSE + delay(&id) {
            return Ok(());
        }
        if head.phase == Phase::Open {
            ledger.set_phase(day, domain, Phase::Closed, now).await?;
        }
        // Once more, because it may have changed before it was closed.
        let Some(head) = ledger.head(day, domain, now).await? else { return Ok(()) };
        let rows = ledger.rows(day, domain, &head, now).await?;
        let messages = rows.iter().map(|(_, count)| count).sum();
        let outcome = if now >= day.end() + GIVEN_UP_AFTER {
            DmarcReportOutcome::GivenUp
        } else {
            self.send(&id, day, &head, &rows, now).await
        };
        let is_over = !matches!(outcome, DmarcReportOutcome::Later(_));
        events.push(DmarcReportEvent { domain: Some(domain.to_owned()), begin: day.begin(), messages, outcome });
        if is_over {
            ledger.set_phase(day, domain, Phase::Done, now).await?;
            ledger.clear(day, domain, &head, now).await?;
        }
        Ok(())
    }

    async fn send(&self, id: &str, day: Day, head: &Head, rows: &[(Row, u64)], now: SystemTime) -> DmarcReportOutcome {
        let from = &self.reports.mailbox;
        let mut to = match destinations(&*self.resolver, &head.published, from).await {
            Ok(to) => to,
            Err(Unknown) => return DmarcReportOutcome::Later("DNS does not say where it may go".to_owned()),
        };
        let email = from.to_string();
        let reporter = Reporter { organization: &self.organization, email: &email };
        let attached = match compressed(&xml(reporter, id, day, head, rows)) {
            Ok(attached) => attached,
            Err(error) => return DmarcReportOutcome::Later(error.to_string()),
        };
        let labels = Labels { id, domain: &head.published.domain, submitter: &self.submitter, day };
        loop {
            let mailboxes: Vec<_> = to.iter().map(|destination| destination.mailbox.clone()).collect();
            if rows.is_empty() || mailboxes.is_empty() {
                return DmarcReportOutcome::Unwanted;
            }
            let content = message(labels, from, &mailboxes, now, &attached);
            let before = to.len();
            to.retain(|destination| destination.takes(content.len() as u64));
            if to.len() < before {
                // Without them it is a little smaller.
                continue;
            }
            let report = DmarcReport { from: from.clone(), to: mailboxes.clone(), content };
            return match self.outbox.send(report).await {
                Ok(()) => DmarcReportOutcome::Sent(mailboxes),
                Err(error) => DmarcReportOutcome::Later(error.to_string()),
            };
        }
    }

    /// The same for each attempt, and for no other report.
    fn id(&self, day: Day, domain: &str) -> String {
        let hash = Sha256::digest(format!("{} {} {domain}", day.0, self.submitter));
        hash[..16].iter().fold(String::new(), |id, octet| id + &format!("{octet:02x}"))
    }
}

/// How long after the first a report leaves, as its identifier has it: so a restart changes nothing.
fn delay(id: &str) -> Duration {
    let number = id.get(..8).and_then(|start| u64::from_str_radix(start, 16).ok()).unwrap_or_default();
    Duration::from_secs(number % SPREAD_SECONDS)
}

impl fmt::Debug for DmarcReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmarcReporter").field("reports", &self.reports).finish_non_exhaustive()
    }
}
