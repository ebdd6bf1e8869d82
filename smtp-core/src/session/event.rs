//! What a session reports while it goes on: typed, and with no text that could forge a log line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::syntax::mechanism::Mechanism;
use crate::syntax::path::{ForwardPath, ReversePath};
use crate::syntax::reply::Reply;
use crate::syntax::text::SafeText;

use super::connection::{Connection, TransactionId};
use super::decision::Identity;

/// Where something was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Before the greeting.
    Connect,
    /// `EHLO` or `HELO`.
    Helo,
    /// `AUTH`, and whether an authenticated client may use its reverse-path.
    Authentication,
    /// `MAIL`.
    Mail,
    /// `RCPT`: the lookup.
    Lookup,
    /// `RCPT`: the policies.
    Recipient,
    /// `DATA` and the content.
    Content,
    /// The whole message: the policies.
    Message,
    /// The whole message: the delivery.
    Deliver,
    /// A line that is no command, or not at this point.
    Command,
}

impl Stage {
    /// A word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Helo => "helo",
            Self::Authentication => "authentication",
            Self::Mail => "mail",
            Self::Lookup => "lookup",
            Self::Recipient => "recipient",
            Self::Content => "content",
            Self::Message => "message",
            Self::Deliver => "deliver",
            Self::Command => "command",
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client said `QUIT`.
    Quit,
    /// The client left without it.
    ClientLeft,
    /// A time limit.
    Timeout,
    /// Too many errors, commands or transactions.
    Limit,
    /// Octets that no honest client sends: bare CR or LF in content, or commands before a reply that must be waited
    /// for.
    Violation,
    /// A policy asked for it.
    Refused,
    /// The server stops.
    Shutdown,
    /// Reading or writing failed.
    Network,
    /// The TLS handshake failed.
    Tls,
}

impl CloseReason {
    /// A word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::ClientLeft => "client left",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Violation => "violation",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
            Self::Network => "network",
            Self::Tls => "TLS handshake failed",
        }
    }
}

/// How a hook failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HookFailure {
    /// It panicked.
    Panicked,
    /// It did not answer in time.
    TimedOut,
    /// It has not given its thread back for this long; it cannot be ended, only named.
    Blocks(Duration),
    /// The client left, so it was ended.
    ClientLeft,
}

/// One thing that happened in a session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionEvent {
    /// A client connected.
    Connected,
    /// It introduced itself.
    Greeted(Arc<Connection>),
    /// The rest of the session is under TLS. What was said before is forgotten.
    TlsStarted(Arc<Connection>),
    /// A listed peer said with `XCLIENT` in whose place it speaks; the session began anew.
    PassedOn {
        /// Who it spoke for until then: the peer itself, or the client before.
        by: SocketAddr,
    },
    /// A proxy that is not listed, or did not say whose connection it passes on: it was closed without a word.
    ProxyRefused {
        /// Why.
        cause: SafeText,
    },
    /// There was no TLS: the handshake failed, or took too long.
    TlsFailed {
        /// Why.
        cause: SafeText,
    },
    /// It proved who it is.
    Authenticated {
        /// Who.
        identity: Identity,
        /// How.
        mechanism: Mechanism,
    },
    /// Too many logins have failed of that client, or to that account: this one waits before anybody looks at it.
    LoginDelayed {
        /// The name that the client gave.
        user: SafeText,
        /// How long.
        delay: Duration,
    },
    /// A transaction began: `MAIL` was answered with 250.
    SenderAccepted {
        /// The transaction.
        transaction: TransactionId,
        /// Its reverse-path.
        reverse_path: ReversePath,
    },
    /// `RCPT` was answered with 250.
    RecipientAccepted {
        /// The transaction.
        transaction: TransactionId,
        /// The recipient.
        recipient: ForwardPath,
    },
    /// Something was refused.
    Refused {
        /// Where.
        stage: Stage,
        /// The transaction, where there is one.
        transaction: Option<TransactionId>,
        /// What it was about: a path, a name, the start of a line.
        subject: SafeText,
        /// What the client was told, or will be told at `RCPT`.
        reply: Reply,
        /// The policy that refused; `None` where the engine, a lookup or the delivery did.
        policy: Option<SafeText>,
        /// Whether the reply is held until `RCPT`.
        held: bool,
    },
    /// Content could not be kept; the cause.
    StorageFailed {
        /// What the system said.
        cause: SafeText,
    },
    /// A lookup gave no answer; the cause.
    LookupFailed {
        /// The recipient.
        recipient: ForwardPath,
        /// What the directory said.
        cause: SafeText,
    },
    /// A message was accepted.
    Accepted {
        /// The transaction.
        transaction: TransactionId,
        /// Its reverse-path.
        reverse_path: ReversePath,
        /// How many recipients it has; in LMTP, how many of them were taken.
        recipients: usize,
        /// The size of its content.
        octets: u64,
        /// What the delivery calls it.
        id: Option<SafeText>,
        /// Whether the delivery owns recipients that it did not take.
        partial: bool,
    },
    /// A message was accepted, and whether the client knows cannot be told (RFC 1047).
    AcknowledgementUnconfirmed {
        /// The transaction.
        transaction: TransactionId,
    },
    /// A delivery succeeded after the client had been told `451`.
    DeliveredLate {
        /// The transaction.
        transaction: TransactionId,
    },
    /// A hook did not answer as it should.
    HookFailed {
        /// Where it was asked.
        stage: Stage,
        /// Which one: the name of the policy, or the kind of hook.
        hook: SafeText,
        /// How.
        failure: HookFailure,
    },
    /// The connection ended.
    Closed(CloseReason),
}
