//! A check looks at one thing and says what it found. It never replies.

use std::sync::Arc;
use std::time::Duration;

use smtp_core::{Connection, Content, Extensions, Recipient, Transaction, async_trait};

use crate::finding::Finding;
use crate::practice::Practice;

/// How long a check may take, unless it says otherwise (STANDARDS TO11): 20 s. Then what it looks at is unknown.
pub const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// What a check looks at, and so when it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// The client: its address and how it introduced itself. Once for a session.
    Client,
    /// The reverse-path. Once for a transaction.
    Sender,
    /// One recipient.
    Recipient,
    /// The content, after all others. Those of one scope run at the same time.
    Content,
    /// What other checks of the content found: as DMARC rests on SPF and DKIM.
    Conclusion,
}

/// One thing to look at. [`Chain`](crate::Chain) makes a policy of many.
///
/// Checks of client, sender and recipient run when the first recipient has come that exists and is no role mailbox, so that
/// nothing is looked up for others.
///
/// ```
/// use smtp_policy::{Action, Check, Finding, Observation, Practice, Scope, Subject};
/// use smtp_core::async_trait;
///
/// const NO_TLS: Practice = Practice::new("no-tls", "M1", "The client speaks TLS")
///     .fails([Action::Score; 3], [1; 3]);
///
/// struct Tls;
///
/// #[async_trait]
/// impl Check for Tls {
///     fn practices(&self) -> &[Practice] {
///         &[NO_TLS]
///     }
///     fn scope(&self) -> Scope {
///         Scope::Client
///     }
///     async fn examine(&self, subject: &Subject<'_>) -> Observation {
///         match subject.connection().tls() {
///             Some(tls) => Finding::pass("no-tls", tls.version.to_string()).into(),
///             None => Finding::fail("no-tls", "in clear").into(),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Check: Send + Sync {
    /// The practices of which it has findings. Where all are [`Action::Off`](crate::Action::Off), it is not asked.
    fn practices(&self) -> &[Practice];

    /// What it looks at.
    fn scope(&self) -> Scope;

    /// Whether it looks also at mail of authenticated clients. Default: only of [`Scope::Content`] and
    /// [`Scope::Conclusion`] (PRACTICES P6).
    fn examines_submission(&self) -> bool {
        self.scope() >= Scope::Content
    }

    /// Whether it asks DNS, for [`Chain::explain_chain`](crate::Chain::explain_chain). Default: no.
    fn asks_dns(&self) -> bool {
        false
    }

    /// How long it may take; then what it looks at is unknown. Default: [`CHECK_LIMIT`](crate::CHECK_LIMIT), 20 s. The stage of
    /// the content has 2 min in all.
    fn time_limit(&self) -> Duration {
        CHECK_LIMIT
    }

    /// Looks. It must be safe to drop at each `await`, and has a time limit: what takes longer is unknown.
    async fn examine(&self, subject: &Subject<'_>) -> Observation;
}

#[async_trait]
impl<C: Check + ?Sized> Check for Arc<C> {
    fn practices(&self) -> &[Practice] {
        (**self).practices()
    }

    fn scope(&self) -> Scope {
        (**self).scope()
    }

    fn examines_submission(&self) -> bool {
        (**self).examines_submission()
    }

    fn asks_dns(&self) -> bool {
        (**self).asks_dns()
    }

    fn time_limit(&self) -> Duration {
        (**self).time_limit()
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        (**self).examine(subject).await
    }
}

/// What a check is shown.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) transaction: Option<&'a Transaction>,
    pub(crate) recipient: Option<&'a Recipient>,
    pub(crate) content: Option<&'a Content>,
    pub(crate) earlier: &'a [Arc<Observation>],
}

impl<'a> Subject<'a> {
    /// The client.
    pub fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// The envelope so far: there is one but with [`Scope::Client`].
    pub fn transaction(&self) -> Option<&'a Transaction> {
        self.transaction
    }

    /// The recipient, with [`Scope::Recipient`].
    pub fn recipient(&self) -> Option<&'a Recipient> {
        self.recipient
    }

    /// The content, with [`Scope::Content`] and [`Scope::Conclusion`].
    pub fn content(&self) -> Option<&'a Content> {
        self.content
    }

    /// What checks of earlier scopes found.
    pub fn findings(&self) -> impl Iterator<Item = &'a Finding> {
        self.earlier.iter().flat_map(|observation| &observation.findings)
    }

    /// What a check of an earlier scope left for others: the first value of that type.
    pub fn fact<T: Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.earlier.iter().find_map(|observation| observation.facts.get())
    }
}

/// What a check saw: findings, and what else others may want to know of it.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    pub(crate) findings: Vec<Finding>,
    pub(crate) facts: Extensions,
    pub(crate) results: Vec<String>,
    pub(crate) confirms_sender: bool,
}

impl Observation {
    /// Nothing at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a finding.
    #[must_use]
    pub fn with(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }

    /// With a fact for checks of later scopes: [`Subject::fact`].
    #[must_use]
    pub fn with_fact<T: Send + Sync + 'static>(mut self, fact: T) -> Self {
        self.facts.insert(fact);
        self
    }

    /// With a result for the `Authentication-Results` field: method, result and properties, `iprev=pass policy.iprev=192.0.2.1`
    /// (RFC 8601 §2.2). What would not be one line is cleaned.
    #[must_use]
    pub fn with_result(mut self, result: impl Into<String>) -> Self {
        self.results.push(smtp_core::SafeText::new(result.into()).as_str().to_owned());
        self
    }

    /// The reverse-path is not forged, so that a notification may be sent there (PRACTICES S21).
    #[must_use]
    pub fn confirming_sender(self) -> Self {
        Self { confirms_sender: true, ..self }
    }

    /// The findings.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The results for the `Authentication-Results` field.
    pub fn results(&self) -> &[String] {
        &self.results
    }

    /// What it left for others.
    pub fn fact<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.facts.get()
    }

    /// Whether it vouches for the reverse-path.
    pub fn confirms_sender(&self) -> bool {
        self.confirms_sender
    }
}

impl From<Finding> for Observation {
    fn from(finding: Finding) -> Self {
        Self::new().with(finding)
    }
}

impl FromIterator<Finding> for Observation {
    fn from_iter<I: IntoIterator<Item = Finding>>(findings: I) -> Self {
        Self { findings: findings.into_iter().collect(), ..Self::default() }
    }
}
