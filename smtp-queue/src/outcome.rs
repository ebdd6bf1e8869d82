//! How an attempt to deliver came out for one recipient.

use std::borrow::Cow;

use smtp_core::{Refusal, Reply, ReplyCode, SafeText};

use crate::progress::Diagnosis;

/// The end of an attempt, for one recipient. What is not known to be permanent is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The next hop has taken responsibility (RFC 5321 §6.1).
    Delivered(Diagnosis),
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

    /// The same, said by that next hop: a host and its address.
    #[must_use]
    pub fn said_by(mut self, remote: SafeText) -> Self {
        let (Self::Delivered(diagnosis) | Self::Deferred(diagnosis) | Self::Failed(diagnosis)) = &mut self;
        diagnosis.remote = Some(remote);
        self
    }

    /// What was said, and by whom.
    pub fn diagnosis(&self) -> &Diagnosis {
        let (Self::Delivered(diagnosis) | Self::Deferred(diagnosis) | Self::Failed(diagnosis)) = self;
        diagnosis
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
