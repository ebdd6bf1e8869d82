//! How an attempt to deliver came out for one recipient.

use smtp_core::Reply;

/// The end of an attempt, for one recipient. What is not known to be permanent is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The next hop has taken responsibility (RFC 5321 §6.1).
    Delivered(Reply),
    /// Not now; it is tried again until the message expires.
    Deferred(Reply),
    /// Never in this form; a notification follows where one may be sent.
    Failed(Reply),
}

impl Outcome {
    /// From the reply of a next hop: by its first digit (RFC 5321 §4.2.1). What is neither 2yz nor 5yz is deferred.
    pub fn from_reply(reply: Reply) -> Self {
        if reply.code().is_positive() {
            Self::Delivered(reply)
        } else if reply.code().is_permanent() {
            Self::Failed(reply)
        } else {
            Self::Deferred(reply)
        }
    }

    /// Whether the recipient needs no further attempt.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Deferred(_))
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
