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
    /// Whether the recipient is a role mailbox (PRACTICES P4).
    pub is_role: bool,
    /// What was found.
    pub findings: Vec<PolicyFinding>,
    /// The sum of the weights.
    pub score: u32,
    /// What the findings came to by rules: a word; empty where there are no rules. It differs from `action` where a client that is asked to come again did.
    pub judged: SafeText,
    /// What was done: a word, `observe` where it passed.
    pub action: SafeText,
    /// What the client is told, where it was refused.
    pub reply: Option<Reply>,
    /// What would have been done, if what is only observed had the action of its preset; `None` where that is the same.
    pub shadow: Option<ShadowVerdict>,
}

/// What would have been done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShadowVerdict {
    /// A word.
    pub action: SafeText,
    /// What the client would have been told, where it would have been refused.
    pub reply: Option<Reply>,
}

impl ShadowVerdict {
    /// That action, and that reply.
    pub fn new(action: &'static str, reply: Option<Reply>) -> Self {
        Self { action: SafeText::new(action), reply }
    }
}

impl PolicyEvent {
    /// Of a policy that found nothing and let it pass.
    pub fn new(policy: impl Into<String>) -> Self {
        Self {
            policy: SafeText::new(policy.into()),
            transaction: None,
            recipient: None,
            content_seen: false,
            is_role: false,
            findings: Vec::new(),
            score: 0,
            judged: SafeText::new("observe"),
            action: SafeText::new("observe"),
            reply: None,
            shadow: None,
        }
    }
}

/// One thing that a policy found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFinding {
    /// Of what.
    pub practice: SafeText,
    /// Its number in the list of practices; empty where it has none.
    pub number: SafeText,
    /// `pass`, `fail` or `unknown`.
    pub outcome: SafeText,
    /// What was done about it: a word.
    pub action: SafeText,
    /// What it added to the score.
    pub weight: u16,
    /// What it would add where it scores, if that is its own and not that of its practice.
    pub own_weight: Option<u16>,
    /// What it rests on.
    pub evidence: SafeText,
    /// What a refused client is told besides.
    pub explanation: Option<SafeText>,
    /// The action of the preset, where it is only observed and the preset does more.
    pub shadow: Option<SafeText>,
}

impl PolicyFinding {
    /// One without a weight.
    pub fn new(practice: &'static str, outcome: &'static str, action: &'static str, evidence: SafeText) -> Self {
        let [practice, outcome, action] = [practice, outcome, action].map(SafeText::new);
        let (number, own_weight, explanation, shadow) = (SafeText::default(), None, None, None);
        Self { practice, number, outcome, action, weight: 0, own_weight, evidence, explanation, shadow }
    }

    /// The same with a weight.
    #[must_use]
    pub fn with_weight(self, weight: u16) -> Self {
        Self { weight, ..self }
    }
}
