//! What a practice observed, and what an operator wants done about it.

use std::borrow::Cow;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing against it.
    Pass,
    /// The practice is not kept.
    Fail,
    /// DNS or a directory did not answer. Never a reason for a permanent refusal.
    Unknown,
}

/// What one check observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    check: &'static str,
    outcome: Outcome,
    weight: u16,
    evidence: Cow<'static, str>,
}

impl Finding {
    /// A finding of the check of that name, with what it rests on.
    pub fn new(check: &'static str, outcome: Outcome, weight: u16, evidence: impl Into<Cow<'static, str>>) -> Self {
        Self { check, outcome, weight, evidence: evidence.into() }
    }

    /// The name of the check.
    pub fn check(&self) -> &'static str {
        self.check
    }

    /// How it came out.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What it adds to the score where its action is [`Action::Score`] and it failed.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// What it rests on, for the log.
    pub fn evidence(&self) -> &str {
        &self.evidence
    }
}

/// What a failing outcome means. The strongest of several wins; they stand here from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// The check does not run.
    Off,
    /// It is logged: a rule can be tried before it bites.
    Observe,
    /// Its weight is added to the score.
    Score,
    /// The message is delivered with a mark.
    Tag,
    /// The message is set aside.
    Quarantine,
    /// The client is asked to come again after a while: `451 4.7.1`.
    Greylist,
    /// The client is asked to come again: 4yz.
    Defer,
    /// Refused: 5yz.
    Reject,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // PRACTICES P1: reject > defer > greylist > quarantine > tag > accept
    fn p1_the_strongest_action_wins() {
        let actions =
            [Action::Tag, Action::Reject, Action::Greylist, Action::Observe, Action::Quarantine, Action::Defer];
        assert_eq!(actions.into_iter().max(), Some(Action::Reject));
        assert!(
            Action::Defer > Action::Greylist
                && Action::Greylist > Action::Quarantine
                && Action::Quarantine > Action::Tag
        );
    }
}
