//! A notification has one recipient; what has more is no notification (PRACTICES S20; RFC 5321 §4.5.5).

use smtp_core::{Transaction, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::Practice;

/// Mail from `<>` is accepted as any other, and has one recipient.
const NULL_SENDER_RECIPIENTS: Practice =
    Practice::new("null-sender-recipients", "S20", "Mail of the null reverse-path has one recipient")
        .fails([Action::Observe, Action::Score, Action::Score], [0, 1, 1]);

/// Looks how many recipients a message of the null reverse-path has. It never refuses `<>` as such.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullSender;

impl NullSender {
    /// What is to be said of this envelope; nothing, where the reverse-path is not null.
    pub fn examine_envelope(transaction: &Transaction) -> Observation {
        let recipients = transaction.recipients().len();
        match transaction.reverse_path().is_null() {
            true if recipients > 1 => {
                Finding::fail(NULL_SENDER_RECIPIENTS.name(), format!("{recipients} recipients")).into()
            }
            true => Finding::pass(NULL_SENDER_RECIPIENTS.name(), "one recipient").into(),
            false => Observation::new(),
        }
    }
}

#[async_trait]
impl Check for NullSender {
    fn practices(&self) -> &[Practice] {
        &[NULL_SENDER_RECIPIENTS]
    }

    /// When all recipients have come.
    fn scope(&self) -> Scope {
        Scope::Content
    }

    fn examines_submission(&self) -> bool {
        false
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        subject.transaction().map(Self::examine_envelope).unwrap_or_default()
    }
}
