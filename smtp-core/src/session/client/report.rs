//! What became of a message: one result for each recipient, each with its reason.

use std::fmt;
use std::io;

use crate::syntax::content::Defect;
use crate::syntax::reply::{EnhancedStatusCode, Reply};
use crate::syntax::reply_reader::ReplyError;
use crate::syntax::text::SafeText;

/// Where something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendStage {
    /// Before anything of the message was sent: this side cannot send it to this server.
    Local,
    /// No connection.
    Connect,
    /// The greeting.
    Greeting,
    /// `EHLO` or `HELO`.
    Hello,
    /// `STARTTLS` or the handshake.
    Tls,
    /// `AUTH`.
    Auth,
    /// `MAIL`.
    Mail,
    /// `RCPT`.
    Rcpt,
    /// `DATA`.
    Data,
    /// The content, before its end was sent.
    Content,
    /// The reply to the end of the content. Without one it is not known whether the server has taken the message.
    EndOfContent,
    /// `RSET` behind a message that failed, or `QUIT` in its place.
    Rset,
    /// Before the message, while the connection was idle; or `QUIT`.
    Idle,
}

impl SendStage {
    /// A word for the log: the verb, where there is one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::Tls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Content => "content",
            Self::EndOfContent => "end of content",
            Self::Rset => "RSET",
            Self::Idle => "idle",
        }
    }
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendCause {
    /// The server said no.
    Refused(Reply),
    /// The server takes no more recipients in this transaction, and others before this one were taken: 452, or 552 as
    /// RFC 821 had it (RFC 5321 §4.5.3.1.10). Another transaction may do at once.
    TooManyRecipients(Reply),
    /// A reply that has no meaning at this point, as 354 to `RCPT`.
    Misplaced(Reply),
    /// Something that is no reply.
    NoReply(ReplyError),
    /// A reply to nothing, so that none in this transaction can be believed.
    Unsolicited,
    /// A time limit.
    TimedOut,
    /// The server closed the connection.
    Closed,
    /// The network failed.
    Network(io::ErrorKind),
    /// The system finds no address for the name of the server; what it said.
    Lookup(SafeText),
    /// What the server demands of TLS is not known now, or cannot be met; why.
    TlsPolicy(SafeText),
    /// TLS is demanded, and the server does not offer it.
    TlsNotOffered,
    /// The TLS handshake failed, or the certificate is not that of the server; why.
    Handshake(SafeText),
    /// The client is to authenticate, and there is no TLS: the password is not sent.
    AuthInClear,
    /// The client is to authenticate, and the server offers none of the mechanisms that it may use.
    AuthNotOffered,
    /// The server offers only mechanisms that show it the password or the token, and its certificate was not verified (RFC 4954
    /// §14).
    AuthNotVerified,
    /// User, password or token cannot be said in the mechanism: empty, or with characters that cannot be in it.
    Credential,
    /// The server says what does not belong in the exchange, or has not proved that it knows the user.
    AuthBroken,
    /// The source of the content failed, or had another length than it said.
    Source(io::ErrorKind),
    /// The connection was not fit for another message.
    NotUsable,
    /// Content that must not be sent by `DATA`, because receivers disagree about what it means.
    Defect(Defect),
    /// More octets than the server takes (RFC 1870).
    TooLarge {
        /// Those of the message.
        octets: u64,
        /// The most that the server takes.
        limit_octets: u64,
    },
    /// Octets above 127, and a server that does not offer `8BITMIME` (RFC 6152).
    EightBit,
    /// A mailbox or a header section with more than ASCII, and a server that does not offer `SMTPUTF8` (RFC 6531 §3.2).
    NotAscii,
    /// A binary message, and a server that does not offer `BINARYMIME` and `CHUNKING` (RFC 3030 §3).
    Binary,
    /// A message with `REQUIRETLS`, and no TLS with a server whose certificate was verified (RFC 8689 §4.2.1).
    TlsNotVerified,
    /// A message with `REQUIRETLS`, and a server that does not offer it (RFC 8689 §4.2.1).
    RequireTlsNotOffered,
    /// A message that is to be returned if it is late, and a server that does not offer `DELIVERBY` (RFC 2852 §4.1.4.1).
    DeliverByNotOffered,
    /// A message that is to be returned if it is late, and less time left than the server needs, or none (RFC 2852 §4.1.4.1).
    TooLate,
    /// A recipient who must have owned its mailbox since a moment, and a server that does not offer `RRVS` (RFC 7293 §5.1.1).
    RrvsNotOffered,
}

impl fmt::Display for SendCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) | Self::TooManyRecipients(reply) => reply.fmt(f),
            Self::Misplaced(reply) => write!(f, "{reply}, which means nothing here"),
            Self::NoReply(error) => error.fmt(f),
            Self::Unsolicited => f.write_str("the server sent a reply to nothing"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Network(kind) => kind.fmt(f),
            Self::Lookup(text) => text.fmt(f),
            Self::TlsPolicy(why) => write!(f, "what the server demands of TLS is not known: {why}"),
            Self::TlsNotOffered => f.write_str("TLS is demanded, and the server does not offer it"),
            Self::Handshake(why) => write!(f, "the TLS handshake failed: {why}"),
            Self::AuthInClear => f.write_str("there is no TLS to authenticate under"),
            Self::AuthNotOffered => f.write_str("the server offers no mechanism to authenticate with"),
            Self::AuthNotVerified => {
                f.write_str("the password would be shown to a server whose certificate is not verified")
            }
            Self::Credential => f.write_str("the user or the password cannot be sent"),
            Self::AuthBroken => f.write_str("the server does not keep to the mechanism"),
            Self::Source(kind) => write!(f, "the content cannot be read: {kind}"),
            Self::NotUsable => f.write_str("the connection is not fit for another message"),
            Self::Defect(defect) => write!(f, "the content has a {defect}"),
            Self::TooLarge { octets, limit_octets } => {
                write!(f, "the message has {octets} octets, and the server takes at most {limit_octets}")
            }
            Self::Binary => f.write_str("the message is binary, and the server does not offer BINARYMIME"),
            Self::TlsNotVerified => {
                f.write_str("the message requires TLS with a verified server, and the connection has none")
            }
            Self::RequireTlsNotOffered => {
                f.write_str("the message requires TLS on its whole way, and the server does not offer REQUIRETLS")
            }
            Self::DeliverByNotOffered => {
                f.write_str("the message has a time limit, and the server does not offer DELIVERBY")
            }
            Self::TooLate => f.write_str("the delivery time has expired, or will before the server can deliver"),
            Self::RrvsNotOffered => {
                f.write_str("the owner of the mailbox must not have changed, and the server does not offer RRVS")
            }
            Self::EightBit => f.write_str("the message has 8-bit octets, and the server does not offer 8BITMIME"),
            Self::NotAscii => {
                f.write_str("the mailbox or the header section is not ASCII, and the server does not offer SMTPUTF8")
            }
        }
    }
}

/// Why a message, or a recipient of it, was not delivered.
///
/// Permanent is only what the server refused with a well-formed 5yz, and what this side cannot send; everything else may
/// be better later (SECURITY D-55).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    stage: SendStage,
    cause: SendCause,
}

impl SendError {
    pub(crate) fn new(stage: SendStage, cause: SendCause) -> Self {
        Self { stage, cause }
    }

    /// Where.
    pub fn stage(&self) -> SendStage {
        self.stage
    }

    /// Why.
    pub fn cause(&self) -> &SendCause {
        &self.cause
    }

    /// What the server said, where that is the reason.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            SendCause::Refused(reply) | SendCause::TooManyRecipients(reply) | SendCause::Misplaced(reply) => {
                Some(reply)
            }
            _ => None,
        }
    }

    /// Whether it may be otherwise later, or at another host. What a server says before `MAIL` is about the client and
    /// the host, not about the message, and so is transient even with 5yz.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            SendCause::Refused(_)
                if matches!(self.stage, SendStage::Greeting | SendStage::Hello | SendStage::Tls | SendStage::Auth) =>
            {
                true
            }
            SendCause::Refused(reply) => !reply.code().is_permanent(),
            SendCause::Defect(_)
            | SendCause::TooLarge { .. }
            | SendCause::EightBit
            | SendCause::NotAscii
            | SendCause::Binary
            | SendCause::TlsNotVerified
            | SendCause::RequireTlsNotOffered
            | SendCause::DeliverByNotOffered
            | SendCause::TooLate
            | SendCause::RrvsNotOffered => false,
            _ => true,
        }
    }

    /// Whether the host said, with 521 before `MAIL`, that it never takes mail (RFC 7504). Other hosts of the domain may.
    pub fn is_permanent_for_host(&self) -> bool {
        matches!(self.stage, SendStage::Greeting | SendStage::Hello)
            && self.reply().is_some_and(|reply| reply.code().get() == 521)
    }

    /// The enhanced status code for a notification: that of the reply, or one that fits the cause (RFC 3463). Its class
    /// is 4 exactly where the error is transient.
    pub fn status(&self) -> EnhancedStatusCode {
        let (subject, detail) = match &self.cause {
            SendCause::Refused(reply) | SendCause::TooManyRecipients(reply) => {
                reply.status().map_or((0, 0), |status| (status.subject(), status.detail()))
            }
            SendCause::Misplaced(_) | SendCause::NoReply(_) | SendCause::Unsolicited => (5, 0),
            SendCause::Lookup(_) => (4, 3),
            SendCause::Network(_) | SendCause::TimedOut if self.stage == SendStage::Connect => (4, 1),
            SendCause::TimedOut | SendCause::Closed | SendCause::Network(_) | SendCause::NotUsable => (4, 2),
            SendCause::TlsNotOffered | SendCause::TlsNotVerified => (7, 10),
            SendCause::RequireTlsNotOffered => (7, 30),
            SendCause::RrvsNotOffered => (7, 19),
            SendCause::DeliverByNotOffered => (3, 3),
            SendCause::TooLate => (4, 7),
            SendCause::Handshake(_) | SendCause::TlsPolicy(_) | SendCause::AuthBroken | SendCause::AuthNotVerified => {
                (7, 5)
            }
            SendCause::AuthInClear => (7, 11),
            SendCause::AuthNotOffered => (7, 4),
            SendCause::Credential => (7, 8),
            SendCause::Source(_) => (3, 0),
            SendCause::Defect(_) => (6, 0),
            SendCause::TooLarge { .. } => (3, 4),
            SendCause::EightBit => (6, 3),
            SendCause::NotAscii => (6, 7),
            SendCause::Binary => (6, 1),
        };
        status_code(if self.is_transient() { 4 } else { 5 }, subject, detail)
    }
}

fn status_code(class: u8, subject: u16, detail: u16) -> EnhancedStatusCode {
    EnhancedStatusCode::new(class, subject, detail).expect("of a status code that came, or of the table above")
}

/// Where and why; what this side cannot send is the same everywhere.
impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            SendStage::Local => self.cause.fmt(f),
            stage => write!(f, "{}: {}", stage.as_str(), self.cause),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            SendCause::NoReply(error) => Some(error),
            SendCause::Defect(defect) => Some(defect),
            _ => None,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendReport {
    recipients: Vec<Result<Reply, SendError>>,
    content_reply: Option<Reply>,
    is_stale: bool,
    dsn_passed_on: bool,
    deliver_by_passed_on: bool,
}

impl SendReport {
    pub(crate) fn new(recipients: Vec<Result<Reply, SendError>>, content_reply: Option<Reply>, is_stale: bool) -> Self {
        Self { recipients, content_reply, is_stale, dsn_passed_on: false, deliver_by_passed_on: false }
    }

    /// The same failure for all of so many recipients.
    pub(crate) fn failed(recipients: usize, error: &SendError, is_stale: bool) -> Self {
        Self::new(vec![Err(error.clone()); recipients], None, is_stale)
    }

    pub(crate) fn with_dsn_passed_on(self, dsn_passed_on: bool) -> Self {
        Self { dsn_passed_on, ..self }
    }

    pub(crate) fn with_deliver_by_passed_on(self, deliver_by_passed_on: bool) -> Self {
        Self { deliver_by_passed_on, ..self }
    }

    /// One result for each recipient, in the order of the envelope: the reply that took the message for it, or why
    /// there is none.
    pub fn recipients(&self) -> &[Result<Reply, SendError>] {
        &self.recipients
    }

    /// The same by value.
    pub fn into_recipients(self) -> Vec<Result<Reply, SendError>> {
        self.recipients
    }

    /// The reply to the content, whatever it says; `None` where there was none, and in LMTP, where each recipient has its own.
    pub fn content_reply(&self) -> Option<&Reply> {
        self.content_reply.as_ref()
    }

    /// How many recipients the message was delivered to.
    pub fn delivered(&self) -> usize {
        self.recipients.iter().filter(|result| result.is_ok()).count()
    }

    /// Whether it was delivered to all of them.
    pub fn is_delivered(&self) -> bool {
        self.recipients.iter().all(Result::is_ok)
    }

    /// Whether the server offers `DSN`, so that what the sender wants to be told went along (RFC 3461). Where it did not,
    /// the duty to tell of a success stays on this side, for each recipient that the server has taken.
    pub fn dsn_passed_on(&self) -> bool {
        self.dsn_passed_on
    }

    /// Whether the time that the message may take was said, and the server offers to keep to it (RFC 2852 §4.1.4).
    pub fn deliver_by_passed_on(&self) -> bool {
        self.deliver_by_passed_on
    }

    /// Whether the connection had served a message before and was gone before the server answered anything of this one.
    /// Another connection may do at once; this attempt says nothing about the host.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::reply::ReplyCode;

    fn reply(code: u16, status: Option<(u16, u16)>) -> Reply {
        let code = ReplyCode::new(code).expect("in the grammar");
        match status.and_then(|(subject, detail)| EnhancedStatusCode::new(code.class().max(4), subject, detail)) {
            Some(status) => Reply::new(code, status, "x"),
            None => Reply::bare(code, "x"),
        }
    }

    #[test] // SECURITY D-55: only a 5yz to the message, or what cannot be sent, is permanent.
    fn d55_what_is_permanent_and_which_status_it_has() {
        use SendStage::{Connect, Content, EndOfContent, Greeting, Hello, Local, Mail, Rcpt};
        let refused = |code, status| SendCause::Refused(reply(code, status));
        for (stage, cause, status) in [
            (Rcpt, refused(550, Some((1, 1))), "5.1.1"),
            (Rcpt, refused(450, Some((2, 1))), "4.2.1"),
            (Rcpt, refused(550, None), "5.0.0"),
            (Mail, refused(521, None), "5.0.0"),
            (Greeting, refused(554, Some((7, 1))), "4.7.1"),
            (Greeting, refused(521, None), "4.0.0"),
            (Hello, refused(550, Some((7, 1))), "4.7.1"),
            (Rcpt, SendCause::TooManyRecipients(reply(552, None)), "4.0.0"),
            (Rcpt, SendCause::Misplaced(reply(354, None)), "4.5.0"),
            (Mail, SendCause::NoReply(ReplyError::Syntax), "4.5.0"),
            (Mail, SendCause::Unsolicited, "4.5.0"),
            (Connect, SendCause::TimedOut, "4.4.1"),
            (Connect, SendCause::Network(io::ErrorKind::ConnectionRefused), "4.4.1"),
            (Connect, SendCause::Lookup(SafeText::new("unknown")), "4.4.3"),
            (EndOfContent, SendCause::TimedOut, "4.4.2"),
            (EndOfContent, SendCause::Closed, "4.4.2"),
            (Content, SendCause::Source(io::ErrorKind::NotFound), "4.3.0"),
            (Content, SendCause::Defect(Defect::BareLf), "5.6.0"),
            (Local, SendCause::TooLarge { octets: 2, limit_octets: 1 }, "5.3.4"),
            (Local, SendCause::EightBit, "5.6.3"),
            (Local, SendCause::NotAscii, "5.6.7"),
            (Local, SendCause::Binary, "5.6.1"),
            (Local, SendCause::RrvsNotOffered, "5.7.19"),
        ] {
            let error = SendError::new(stage, cause);
            assert_eq!(error.status().to_string(), status, "{error}");
            assert_eq!(error.is_transient(), status.starts_with('4'), "{error}");
        }
    }

    #[test]
    fn an_error_can_be_read_on_a_line() {
        use SendStage::{Connect, EndOfContent, Greeting, Hello, Local, Rcpt};
        for (stage, cause, line) in [
            (Connect, SendCause::Network(io::ErrorKind::ConnectionRefused), "connect: connection refused"),
            (Connect, SendCause::Lookup(SafeText::new("no such\nname")), "connect: no such?name"),
            (Greeting, SendCause::NoReply(ReplyError::Syntax), "greeting: the server sent a line that is no reply"),
            (Hello, SendCause::Closed, "EHLO: the server closed the connection"),
            (Rcpt, SendCause::Refused(reply(550, Some((1, 1)))), "RCPT: 550 5.1.1 x"),
            (Rcpt, SendCause::Misplaced(reply(354, None)), "RCPT: 354 x, which means nothing here"),
            (EndOfContent, SendCause::TimedOut, "end of content: timed out"),
            (Local, SendCause::Defect(Defect::Nul), "the content has a NUL"),
        ] {
            assert_eq!(SendError::new(stage, cause).to_string(), line);
        }
    }

    #[test] // RFC 7504 §3: 521 in the greeting is about the host.
    fn r7504_a_host_that_takes_no_mail() {
        let greeting = |code| SendError::new(SendStage::Greeting, SendCause::Refused(reply(code, None)));
        assert!(greeting(521).is_permanent_for_host() && !greeting(554).is_permanent_for_host());
        let rcpt = SendError::new(SendStage::Rcpt, SendCause::Refused(reply(521, None)));
        assert!(!rcpt.is_permanent_for_host() && !rcpt.is_transient());
    }
}
