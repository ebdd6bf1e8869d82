//! What a policy judged, and on what evidence: the trace of a decision.

use crate::session::connection::TransactionId;
use crate::syntax::path::ForwardPath;
use crate::syntax::reply::Reply;
use crate::syntax::text::SafeText;

/// A policy judged a recipient, once at `RCPT` and once when the content had come.
///
/// The weights of its findings are the score, so that a reader can say how the verdict came about (PRACTICES P9).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyEvent {
    /// The [name](crate::Policy::name) of the policy.
    pub policy: SafeText,
    /// The transaction.
    pub transaction: Option<TransactionId>,
    /// The recipient.
    pub recipient: Option<ForwardPath>,
    /// Whether the content had come.
    pub content_seen: bool,
    /// What was found.
    pub findings: Vec<PolicyFinding>,
    /// The sum of the weights.
    pub score: u32,
    /// What was done: a word, `observe` where it passed.
    pub action: SafeText,
    /// What the client is told, where it was refused.
    pub reply: Option<Reply>,
}

impl PolicyEvent {
    /// Of a policy that found nothing and let it pass.
    pub fn new(policy: impl Into<String>) -> Self {
        Self {
            policy: SafeText::new(policy.into()),
            transaction: None,
            recipient: None,
            content_seen: false,
            findings: Vec::new(),
            score: 0,
            action: SafeText::new("observe"),
            reply: None,
        }
    }
}

/// One thing that a policy found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFinding {
    /// Of what.
    pub practice: SafeText,
    /// `pass`, `fail` or `unknown`.
    pub outcome: SafeText,
    /// What was done about it: a word.
    pub action: SafeText,
    /// What it added to the score.
    pub weight: u16,
    /// What it rests on.
    pub evidence: SafeText,
}

impl PolicyFinding {
    /// One without a weight.
    pub fn new(practice: &'static str, outcome: &'static str, action: &'static str, evidence: SafeText) -> Self {
        let [practice, outcome, action] = [practice, outcome, action].map(SafeText::new);
        Self { practice, outcome, action, weight: 0, evidence }
    }

    /// The same with a weight.
    #[must_use]
    pub fn with_weight(self, weight: u16) -> Self {
        Self { weight, ..self }
    }
}
