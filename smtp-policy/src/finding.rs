//! What a practice observed, and what an operator wants done about it.

use std::fmt;

use smtp_core::SafeText;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing against it.
    Pass,
    /// The practice is not kept.
    Fail,
    /// DNS, a directory or a filter did not answer. Never a reason for a permanent refusal (PRACTICES P5).
    Unknown,
}

impl Outcome {
    /// A word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// What one practice observed. It decides nothing (PRACTICES P1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    practice: &'static str,
    outcome: Outcome,
    weight: Option<u16>,
    evidence: SafeText,
    explanation: Option<SafeText>,
}

impl Finding {
    fn new(practice: &'static str, outcome: Outcome, evidence: SafeText) -> Self {
        Self { practice, outcome, weight: None, evidence, explanation: None }
    }

    /// The practice of that [name](crate::Practice::name) is kept. The evidence is for the log.
    pub fn pass(practice: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(practice, Outcome::Pass, SafeText::new(evidence.into()))
    }

    /// It is not kept.
    pub fn fail(practice: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(practice, Outcome::Fail, SafeText::new(evidence.into()))
    }

    /// It cannot be known now.
    pub fn unknown(practice: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(practice, Outcome::Unknown, SafeText::new(evidence.into()))
    }

    /// With a weight of its own, as each list of a DNSBL has, in the place of that of the practice.
    #[must_use]
    pub fn with_weight(self, weight: u16) -> Self {
        Self { weight: Some(weight), ..self }
    }

    /// With what a refused client is told besides: where to ask, or the words of the domain's owner.
    #[must_use]
    pub fn with_explanation(self, explanation: impl Into<String>) -> Self {
        Self { explanation: Some(SafeText::new(explanation.into())), ..self }
    }

    /// The practice.
    pub fn practice(&self) -> &'static str {
        self.practice
    }

    /// How it came out.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// A weight of its own.
    pub fn weight(&self) -> Option<u16> {
        self.weight
    }

    /// What it rests on, for the log.
    pub fn evidence(&self) -> &SafeText {
        &self.evidence
    }

    /// What a refused client is told besides.
    pub fn explanation(&self) -> Option<&SafeText> {
        self.explanation.as_ref()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.practice, self.outcome.as_str(), self.evidence)
    }
}

/// What a failing outcome means. The strongest of several wins; they stand here from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// Nobody looks: where all practices of a check are off, it does not run.
    Off,
    /// It is logged: a rule can be tried before it bites.
    Observe,
    /// Its weight is added to the score.
    Score,
    /// The message is delivered with a mark.
    Tag,
    /// The message is set aside.
    Quarantine,
    /// The client is asked to come again after a while, unless it did: `451 4.7.1`.
    Greylist,
    /// The client is asked to come again: 4yz.
    Defer,
    /// Refused: 5yz.
    Reject,
}

impl Action {
    /// All, from weak to strong.
    pub const ALL: [Self; 8] =
        [Self::Off, Self::Observe, Self::Score, Self::Tag, Self::Quarantine, Self::Greylist, Self::Defer, Self::Reject];

    /// The word for it in a configuration and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Score => "score",
            Self::Tag => "tag",
            Self::Quarantine => "quarantine",
            Self::Greylist => "greylist",
            Self::Defer => "defer",
            Self::Reject => "reject",
        }
    }

    /// The action of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // PRACTICES P1: reject > defer > greylist > quarantine > tag > accept
    fn p1_the_strongest_action_wins() {
        let actions =
            [Action::Tag, Action::Reject, Action::Greylist, Action::Observe, Action::Quarantine, Action::Defer];
        assert_eq!(actions.into_iter().max(), Some(Action::Reject));
        assert!(Action::ALL.is_sorted());
        assert!(Action::ALL.into_iter().all(|action| Action::from_word(action.as_str()) == Some(action)));
        assert_eq!(Action::from_word("refuse"), None);
    }

    #[test] // SECURITY D-26
    fn d26_evidence_from_outside_is_one_harmless_line() {
        let finding = Finding::fail("x", "a\r\nb\u{1b}[1m").with_explanation("c\u{202e}d");
        assert_eq!(finding.to_string(), "x fail: a??b?[1m");
        assert_eq!(finding.explanation().map(SafeText::as_str), Some("c?d"));
    }
}
