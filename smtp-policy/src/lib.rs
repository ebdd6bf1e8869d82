//! Judgement for mail servers: checks find, actions decide.
//!
//! A **check** looks at one thing and returns a [`Finding`]; it never replies. An [`Action`] in the configuration says what a
//! failing outcome means. One pure function will turn all findings of a recipient, its exemptions and the thresholds into a
//! verdict of `smtp-core`; the checks themselves follow, one file for each practice.
//!
//! [`Submission`] is no check: it completes what mail clients submit.

mod finding;
mod submission;

pub use finding::{Action, Finding, Outcome};
pub use submission::Submission;
