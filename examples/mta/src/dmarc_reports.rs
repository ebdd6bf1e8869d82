//! What domains asked to be told of mail in their name: collected by the policy, sent through the queue.

use smtp_core::{Content, Domain, Mailbox, ReversePath, async_trait};
use smtp_policy::{
    DmarcReport, DmarcReportEvent, DmarcReportOutbox, DmarcReportOutcome, DmarcReporter, DmarcReports, StateError,
};
use smtp_queue::Queue;
use tokio::task::JoinHandle;

use crate::policy::Services;

/// Whether domains are told, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DmarcReportSettings {
    /// Whether they are.
    pub(crate) enabled: bool,
    /// The mailbox that reports come from.
    pub(crate) from: Option<Mailbox>,
    /// The name of the organisation; the hostname, where there is none.
    pub(crate) organization: Option<String>,
}

impl DmarcReportSettings {
    /// Where reports are collected; `None`, where nobody is told.
    pub(crate) fn collected(&self, services: &Services) -> Option<DmarcReports> {
        let from = self.from.clone().filter(|_| self.enabled)?;
        Some(DmarcReports::new(services.state.clone(), from))
    }

    /// Sends them, until the task is aborted.
    pub(crate) fn send(&self, hostname: &Domain, services: &Services, queue: &Queue) -> Option<JoinHandle<()>> {
        let collected = self.collected(services)?;
        let mut reporter = DmarcReporter::new(collected, hostname, services.dns.clone(), ThroughQueue(queue.clone()));
        if let Some(name) = &self.organization {
            reporter = reporter.with_organization(name);
        }
        Some(tokio::spawn(async move { match reporter.run(say).await {} }))
    }
}

/// A report is as safe there as any other mail.
struct ThroughQueue(Queue);

#[async_trait]
impl DmarcReportOutbox for ThroughQueue {
    async fn send(&self, report: DmarcReport) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let path = ReversePath::Mailbox(report.from);
        self.0.submit(path, report.to, Content::new(report.content)).await?;
        Ok(())
    }
}

fn say(event: Result<DmarcReportEvent, StateError>) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            let error = crate::describe(&error);
            tracing::warn!(target: "mta", error, "reports of DMARC wait for the state");
            return;
        }
    };
    let (domain, messages, begin) = (event.domain.unwrap_or_default(), event.messages, event.begin);
    match event.outcome {
        DmarcReportOutcome::Sent(to) => {
            let to: Vec<_> = to.iter().map(ToString::to_string).collect();
            tracing::info!(target: "mta", domain, begin, messages, ?to, "queued a report of DMARC");
        }
        DmarcReportOutcome::Unwanted => {
            tracing::info!(target: "mta", domain, begin, messages, "nobody may have this report of DMARC");
        }
        DmarcReportOutcome::Later(why) => {
            tracing::warn!(target: "mta", domain, begin, why, "a report of DMARC is tried again");
        }
        DmarcReportOutcome::GivenUp => {
            tracing::warn!(target: "mta", domain, begin, messages, "a report of DMARC is given up");
        }
        other => tracing::warn!(target: "mta", domain, begin, messages, ?other, "messages of which no report tells"),
    }
}
