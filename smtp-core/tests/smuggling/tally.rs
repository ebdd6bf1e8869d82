//! Counts cases, and what was smuggled in them.

use std::fmt;
use std::time::Instant;

use crate::reference::Outcome;

/// Differences after which a test has seen enough.
const ENOUGH: usize = 5;

/// What a number of cases gave.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    pub(crate) cases: u64,
    pub(crate) smuggled: u64,
    pub(crate) refused: u64,
    pub(crate) with_end_in_candidate: u64,
    differences: Vec<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let (cases, smuggled, refused, with_end_in_candidate) = (0, 0, 0, 0);
        Self { started: Instant::now(), cases, smuggled, refused, with_end_in_candidate, differences: Vec::new() }
    }

    /// Compares one case. `false` where so much is wrong that going on tells nothing new.
    pub(crate) fn compare(&mut self, expected: &Outcome, got: &Outcome, case: impl FnOnce() -> String) -> bool {
        self.cases += 1;
        self.refused += u64::from(expected.replies.starts_with("550"));
        self.with_end_in_candidate += u64::from(expected.replies.len() > "250 2.0.0\n221 2.0.0\n".len());
        if !expected.agrees(got) {
            self.smuggled += u64::from(got.messages.len() > expected.messages.len());
            let lengths = |outcome: &Outcome| outcome.messages.iter().map(Vec::len).collect::<Vec<_>>();
            self.differences.push(format!(
                "{}\n  expected {:?}, closed at {:?}, octets {:?}\n  got      {:?}, closed at {:?}, octets {:?}",
                case(),
                expected.replies,
                expected.closed_at,
                lengths(expected),
                got.replies,
                got.closed_at,
                lengths(got),
            ));
        }
        self.differences.len() < ENOUGH
    }

    /// Prints the line of the target, and fails where something differed.
    pub(crate) fn conclude(&self, what: &str) {
        println!("{self} in {:.1} s ({what})", self.started.elapsed().as_secs_f64());
        assert!(self.differences.is_empty(), "{self}:\n{}", self.differences.join("\n"));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, smuggled, refused, with_end_in_candidate, .. } = self;
        let accepted = cases - refused - with_end_in_candidate;
        write!(f, "T5: {cases} cases, {smuggled} smuggled: {accepted} are one message, {refused} refused, ")?;
        write!(f, "{with_end_in_candidate} hold a true end")
    }
}
