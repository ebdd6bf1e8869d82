//! How an attempt to deliver came out for one recipient.

use std::borrow::Cow;

use smtp_core::{Refusal, Reply, ReplyCode, SafeText};

use crate::progress::Diagnosis;

/// The end of an attempt, for one recipient. What is not known to be permanent is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is where it was to go: in a mailbox. A sender who asked for it is told so.
    Delivered(Diagnosis),
    /// The next hop has taken responsibility (RFC 5321 §6.1), and does not offer `DSN`. A sender who asked to be told of
    /// success learns that nothing more will be told (RFC 3461 §5.2.2).
    Relayed(Diagnosis),
    /// The next hop has taken responsibility, and with it what the sender asked for (RFC 3461 §5.2.1): it does the
    /// telling.
    PassedOn(Diagnosis),
    /// Not now; it is tried again until the message expires.
    Deferred(Diagnosis),
    /// Never in this form; a notification follows where one may be sent.
    Failed(Diagnosis),
}

impl Outcome {
    /// From a reply of our own side: by its first digit (RFC 5321 §4.2.1). What is neither 2yz nor 5yz is deferred.
    pub fn from_reply(reply: Reply) -> Self {
        let code = reply.code();
        let diagnosis = Diagnosis { reply, remote: None };
        if code.is_positive() {
            Self::Delivered(diagnosis)
        } else if code.is_permanent() {
            Self::Failed(diagnosis)
        } else {
            Self::Deferred(diagnosis)
        }
    }

    /// Our own side has delivered it: `250` with that text.
    ///
    /// # Panics
    /// Never: 250 is in the grammar.
    pub fn delivered(text: impl Into<Cow<'static, str>>) -> Self {
        let code = ReplyCode::new(250).expect("250 is in the grammar");
        Self::from_reply(Reply::bare(code, text))
    }

    /// The same, said by that next hop: a host and its address. What a next hop has taken is relayed.
    #[must_use]
    pub fn said_by(self, remote: SafeText) -> Self {
        let named = |diagnosis: Diagnosis| Diagnosis { remote: Some(remote), ..diagnosis };
        match self {
            Self::Delivered(diagnosis) | Self::Relayed(diagnosis) => Self::Relayed(named(diagnosis)),
            Self::PassedOn(diagnosis) => Self::PassedOn(named(diagnosis)),
            Self::Deferred(diagnosis) => Self::Deferred(named(diagnosis)),
            Self::Failed(diagnosis) => Self::Failed(named(diagnosis)),
        }
    }

    /// What was said, and by whom.
    pub fn diagnosis(&self) -> &Diagnosis {
        let (Self::Delivered(diagnosis)
        | Self::Relayed(diagnosis)
        | Self::PassedOn(diagnosis)
        | Self::Deferred(diagnosis)
        | Self::Failed(diagnosis)) = self;
        diagnosis
    }

    /// Whether a mailbox or a next hop has it.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Relayed(_) | Self::PassedOn(_))
    }

    /// Whether the recipient needs no further attempt.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Deferred(_))
    }
}

/// What our own side says: [`Refusal::transient`] defers, [`Refusal::permanent`] fails.
impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::from_reply(refusal.reply().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_core::ReplyCode;

    #[test] // RFC 5321 §4.2.1; SECURITY.md D-55
    fn d55_only_5yz_is_permanent() {
        for (code, is_final) in [(250, true), (251, true), (354, false), (421, false), (451, false), (550, true)] {
            let reply = Reply::bare(ReplyCode::new(code).expect("in the grammar"), "text");
            assert_eq!(Outcome::from_reply(reply).is_final(), is_final, "{code}");
        }
    }
}
