//! Judgement for mail servers: checks find, actions decide.
//!
//! Only the vocabulary stands here so far. A **check** looks at one thing and returns a [`Finding`]; it never replies.
//! An [`Action`] in the configuration says what a failing outcome means. One pure function will turn all findings of a
//! recipient, its exemptions and the thresholds into a verdict of `smtp-core`; the checks themselves follow, one file
//! for each practice.

mod finding;

pub use finding::{Action, Finding, Outcome};
