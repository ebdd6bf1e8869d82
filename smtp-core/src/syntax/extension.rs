//! Service extensions, by the keyword that `EHLO` lists.

use std::time::SystemTime;

use super::future_release::{FutureRelease, Utc};
use super::mechanism::Mechanisms;
use super::solicitation::SolicitationClasses;

/// What the answer to `EHLO` offers (RFC 5321 §4.1.1.1). Everything here is honoured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceExtension {
    /// `PIPELINING` (RFC 2920): commands may follow without waiting.
    Pipelining,
    /// `SIZE` with the largest message in octets (RFC 1870).
    Size(u64),
    /// `8BITMIME` (RFC 6152): content with octets above 127.
    EightBitMime,
    /// `SMTPUTF8` (RFC 6531): mailboxes and header fields with more than ASCII.
    SmtpUtf8,
    /// `CHUNKING` (RFC 3030 §2): content by `BDAT`.
    Chunking,
    /// `BINARYMIME` (RFC 3030 §3): content of any octets, by `BDAT`.
    BinaryMime,
    /// `ENHANCEDSTATUSCODES` (RFC 2034).
    EnhancedStatusCodes,
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `DSN` (RFC 3461): the sender may say what it wants to be told.
    Dsn,
    /// `REQUIRETLS` (RFC 8689): the sender may demand that every hop is verified.
    RequireTls,
    /// `FUTURERELEASE` (RFC 4865): a message is held for at most [`FutureRelease::LIMIT`], and at most until then.
    FutureRelease(SystemTime),
    /// `DELIVERBY` (RFC 2852): the sender may say until when a message is to be delivered. No time is too short to be said.
    DeliverBy,
    /// `MT-PRIORITY` (RFC 6710): the sender may say how urgent a message is, by the policy that a bare keyword means.
    MtPriority,
    /// `PRDR` (draft-hall-prdr-00): behind the content a reply for each recipient, where the client asks for it.
    Prdr,
    /// `NO-SOLICITING` (RFC 3865): messages of these classes are not taken; of none in particular where there are none.
    NoSoliciting(SolicitationClasses),
    /// `RRVS` (RFC 7293): a mailbox may be demanded to have had one owner since a moment.
    Rrvs,
    /// `LIMITS` (RFC 9422): transactions in a session and recipients in a transaction.
    Limits {
        /// `MAILMAX`.
        mail_max: u32,
        /// `RCPTMAX`.
        rcpt_max: u32,
    },
    /// `XCLIENT`, to listed peers: with `LOGIN` among its attributes or without.
    Xclient {
        /// Whether the peer is believed who the client has proved to be.
        login: bool,
    },
    /// `XFORWARD`, to listed peers.
    Xforward,
    /// `AUTH` (RFC 4954): with these mechanisms.
    Auth(Mechanisms),
}

impl std::fmt::Display for ServiceExtension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pipelining => f.write_str("PIPELINING"),
            Self::Size(octets) => write!(f, "SIZE {octets}"),
            Self::EightBitMime => f.write_str("8BITMIME"),
            Self::SmtpUtf8 => f.write_str("SMTPUTF8"),
            Self::Chunking => f.write_str("CHUNKING"),
            Self::BinaryMime => f.write_str("BINARYMIME"),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::EnhancedStatusCodes => f.write_str("ENHANCEDSTATUSCODES"),
            Self::Dsn => f.write_str("DSN"),
            Self::RequireTls => f.write_str("REQUIRETLS"),
            Self::FutureRelease(until) => {
                write!(f, "FUTURERELEASE {} {}", FutureRelease::LIMIT.as_secs(), Utc(*until))
            }
            Self::DeliverBy => f.write_str("DELIVERBY"),
            Self::MtPriority => f.write_str("MT-PRIORITY"),
            Self::Prdr => f.write_str("PRDR"),
            Self::Rrvs => f.write_str("RRVS"),
            Self::NoSoliciting(classes) if classes.is_empty() => f.write_str("NO-SOLICITING"),
            Self::NoSoliciting(classes) => write!(f, "NO-SOLICITING {classes}"),
            Self::Xclient { login } => {
                let login = if *login { " LOGIN" } else { "" };
                write!(f, "XCLIENT NAME ADDR PORT{login} DESTADDR DESTPORT")
            }
            Self::Xforward => f.write_str("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"),
            Self::Auth(mechanisms) => write!(f, "AUTH {mechanisms}"),
            Self::Limits { mail_max, rcpt_max } => write!(f, "LIMITS MAILMAX={mail_max} RCPTMAX={rcpt_max}"),
        }
    }
}
