//! After each judgement: is there somebody to be told of this message, and may they be told?

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use smtp_core::{Mailbox, Transaction, async_trait};

use crate::chain::Recorder;
use crate::check::Subject;
use crate::clock::Clock;
use crate::dmarc::Evaluated;
use crate::finding::Action;
use crate::judgement::Judgement;
use crate::state::{StateError, StateStore};

use super::ledger::{DmarcReportLimits, Ledger};
use super::row::Row;

/// Keeps what domains are to be told of mail in their name, by day, until a [`DmarcReporter`](crate::DmarcReporter) sends it
/// (RFC 9990).
///
/// Only domains whose DMARC record has `rua` are told. Mail of authenticated clients and of trusted networks is not looked at, what
/// is asked to come again is counted when it does, and mail from or to the reporting mailbox itself is left out, so that no report is
/// about reports. No address of a person is kept, but domains and the addresses of clients. Where the store fails, nobody is told.
///
/// ```
/// use smtp_core::ResolverTable;
/// use smtp_policy::{Chain, Dkim, Dmarc, DmarcReports, MemoryStateStore, Preset, Spf};
///
/// let dns = ResolverTable::new();
/// let reports = DmarcReports::new(MemoryStateStore::new(), "dmarc@example.org".parse()?);
/// let chain = Chain::new("recommended", Preset::Bcp)
///     .with(Spf::new(dns.clone()))
///     .with(Dkim::new(dns.clone()))
///     .with(Dmarc::new(dns))
///     .recorded_by(reports.clone());
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Clone)]
pub struct DmarcReports {
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
    pub(super) mailbox: Mailbox,
}

impl DmarcReports {
    /// In that store, for reports that come from that mailbox.
    pub fn new(store: impl StateStore + 'static, mailbox: Mailbox) -> Self {
        let ledger = Ledger::new(Arc::new(store), DmarcReportLimits::default());
        Self { ledger, clock: Clock::default(), mailbox }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: DmarcReportLimits) -> Self {
        Self { ledger: self.ledger.with_limits(limits), ..self }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    /// The mailbox that reports come from.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    async fn count(&self, subject: &Subject<'_>, judgements: &[Judgement]) -> Result<(), StateError> {
        let (Some(evaluated), Some(transaction)) = (subject.fact::<Evaluated>(), subject.transaction()) else {
            return Ok(());
        };
        let comes_again = |judgement: &Judgement| matches!(judgement.action(), Action::Defer | Action::Greylist);
        if self.is_of_reports(transaction) || judgements.iter().all(comes_again) {
            return Ok(());
        }
        let client = subject.connection().peer().ip();
        let row = Row::new(client, transaction, evaluated, (subject.fact(), subject.fact()), judgements);
        self.ledger.count(&evaluated.published, &row, self.clock.now()).await
    }

    /// Whether it is a report of ours that comes back, or an answer to one.
    fn is_of_reports(&self, transaction: &Transaction) -> bool {
        let recipients = transaction.recipients().iter().map(|recipient| recipient.path().mailbox());
        recipients.chain([transaction.reverse_path().mailbox()]).flatten().any(|mailbox| same(mailbox, &self.mailbox))
    }
}

/// Whether it is the same mailbox, as far as those are told apart who want to be.
pub(super) fn same(one: &Mailbox, other: &Mailbox) -> bool {
    one.to_string().eq_ignore_ascii_case(&other.to_string())
}

#[async_trait]
impl Recorder for DmarcReports {
    async fn record(&self, subject: &Subject<'_>, judgements: &[Judgement]) {
        // State is advice: a message that is not counted harms nobody.
        let _ = self.count(subject, judgements).await;
    }
}

impl fmt::Debug for DmarcReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmarcReports").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}
