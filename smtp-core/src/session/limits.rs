//! Every limit and every time limit of a server session: unit, default, origin.

use std::time::{Duration, Instant};

use crate::syntax::line::LineLimits;

const MIB: u64 = 1 << 20;

/// So far away that it never comes, and near enough to be added to any instant: ten years.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The end of a time limit; one that is too long for the clock counts as [`NEVER`].
pub(crate) fn after(start: Instant, limit: Duration) -> Instant {
    start.checked_add(limit).unwrap_or_else(|| start + NEVER)
}

/// What a session allows. Start from [`Limits::default`] and change single values.
///
/// ```
/// let mut limits = smtp_core::Limits::default();
/// limits.message_octets = 10 << 20;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Octets of a command line, CRLF included: 2,048. RFC 5321 §4.5.3.1.4 asks for 512 at least. Longer: `500 5.5.2`.
    pub command_line_octets: usize,
    /// Octets of a too long command line that are discarded before the session ends: 1 MiB.
    pub command_line_discard_octets: u64,
    /// Octets of a line of `AUTH` and of the exchange behind it, CRLF included: 12,288 (RFC 4954 §4). Longer: `500 5.5.6`.
    pub authentication_line_octets: usize,
    /// How late the first wrong credential is answered: 1 s; each further one twice as late as the one before, up to 32
    /// times as late as the first.
    pub authentication_delay: Duration,
    /// Octets of a message, as RFC 1870 §3 counts them: 50 MiB. More: `552 5.3.4`.
    pub message_octets: u64,
    /// Chunks of a message (RFC 3030 §2): 10,000. More: `421 4.7.0`.
    pub chunks: u32,
    /// Chunks after which they must have [`Limits::chunk_octets_on_average`]: 100.
    pub chunks_before_average: u32,
    /// Octets that chunks have on average at least: 512. Less: `421 4.7.0`.
    pub chunk_octets_on_average: u64,
    /// Recipients of a transaction: 1,000. RFC 5321 §4.5.3.1.8 asks for 100 at least. More: `452 4.5.3`.
    pub recipients: u32,
    /// Refusals for too many recipients in a transaction: 1,000. More: `421 4.7.0`.
    pub excess_recipients: u32,
    /// Mailboxes behind one alias: 1,000. More: `451 4.3.0` for that recipient.
    pub alias_mailboxes: usize,
    /// Mailboxes behind all aliases of a transaction: 10,000. More: `452 4.5.3`.
    pub mailboxes: usize,
    /// Octets of the header section: 256 KiB. More: `554 5.6.0`.
    pub header_octets: u64,
    /// Fields of the header section: 1,000. More: `554 5.6.0`.
    pub header_fields: u32,
    /// `Received` fields: 100 (RFC 5321 §6.3). More are a loop: `554 5.4.6`.
    pub received_fields: u32,
    /// Errors after which each further one is answered late: 10. An accepted message starts the count anew.
    pub errors_before_delay: u32,
    /// How late: 1 s.
    pub error_delay: Duration,
    /// Errors that are answered as such: 20. The next: `421 4.7.0`. Errors are lines that are no commands or not at this
    /// point, commands and parameters that are not offered, failed `AUTH`, unknown recipients, and recipients elsewhere.
    pub errors: u32,
    /// The same while the server is under stress: 1.
    pub errors_under_stress: u32,
    /// Commands that achieve nothing: 100. More: `421 4.7.0`. They are `NOOP`, `RSET`, `VRFY`, `HELP`, a repeated `EHLO`,
    /// `MAIL` with a too large `SIZE=` or refused at once, and `DATA` or `BDAT` without a recipient. An accepted message starts the
    /// count anew.
    pub commands_without_progress: u32,
    /// Transactions in a session: 1,000. More: `421 4.7.0`.
    pub transactions: u32,
    /// How long a session may last without an accepted message: 1 h. Then `421 4.4.2`.
    pub session_without_message: Duration,
    /// How long a session may last: 24 h. Then `421 4.4.2`.
    pub session: Duration,
    /// How long the next command may take: 5 min (RFC 5321 §4.5.3.2.7). Then `421 4.4.2`.
    pub command_timeout: Duration,
    /// The same while the server is under stress: 10 s.
    pub command_timeout_under_stress: Duration,
    /// How long a TLS handshake may take: 30 s. Then the connection ends.
    pub handshake_timeout: Duration,
    /// How long content may pause: 3 min (RFC 5321 §4.5.3.2.5). Then `421 4.4.2`.
    pub content_timeout: Duration,
    /// Octets a second that content must have on average after its first [`Limits::content_timeout`]: 500. Slower: `421
    /// 4.4.2`.
    pub content_octets_per_second: u64,
    /// How long the client may take to read replies: 5 min.
    pub write_timeout: Duration,
    /// How long a lookup and the hooks for connect, helo, mail and recipient may take: 30 s.
    pub hook_timeout: Duration,
    /// How long the hooks for a whole message may take: 2 min.
    pub message_timeout: Duration,
    /// How long delivery may take before the client is told `451 4.3.0`: 5 min, well below the 10 min that a client
    /// waits (RFC 5321 §4.5.3.2.6).
    pub deliver_timeout: Duration,
    /// How long a hook may keep its thread without giving it back before it is named in an event: 5 s.
    pub hook_may_block: Duration,
    /// Octets that are discarded after the last reply, so that the client can read it: 256 KiB.
    pub linger_octets: u64,
    /// For how long they are: 2 s.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line_octets: 2048,
            command_line_discard_octets: MIB,
            authentication_line_octets: 12_288,
            authentication_delay: Duration::from_secs(1),
            message_octets: 50 * MIB,
            chunks: 10_000,
            chunks_before_average: 100,
            chunk_octets_on_average: 512,
            recipients: 1000,
            excess_recipients: 1000,
            alias_mailboxes: 1000,
            mailboxes: 10_000,
            header_octets: MIB / 4,
            header_fields: 1000,
            received_fields: 100,
            errors_before_delay: 10,
            error_delay: Duration::from_secs(1),
            errors: 20,
            errors_under_stress: 1,
            commands_without_progress: 100,
            transactions: 1000,
            session_without_message: Duration::from_secs(3600),
            session: Duration::from_secs(24 * 3600),
            command_timeout: Duration::from_secs(300),
            command_timeout_under_stress: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(30),
            content_timeout: Duration::from_secs(180),
            content_octets_per_second: 500,
            write_timeout: Duration::from_secs(300),
            hook_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(120),
            deliver_timeout: Duration::from_secs(300),
            hook_may_block: Duration::from_secs(5),
            linger_octets: MIB / 4,
            linger: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// How long a client can wait for an answer at most: hooks, and the writing of it.
    pub(crate) fn longest_answer(&self) -> Duration {
        let hooks = self.message_timeout.max(self.hook_timeout).saturating_add(self.deliver_timeout);
        hooks.saturating_add(self.write_timeout).saturating_add(self.linger)
    }

    pub(crate) fn line(&self) -> LineLimits {
        LineLimits { line_octets: self.command_line_octets, discard_octets: self.command_line_discard_octets }
    }

    /// The first value below what RFC 5321 §4.5.3 obliges a server to accept, by name.
    pub(crate) fn below_standard(&self) -> Option<&'static str> {
        let minimum = Duration::from_secs(1);
        [
            ("command_line_octets", self.command_line_octets < 512),
            ("authentication_line_octets", self.authentication_line_octets < 12_288),
            ("message_octets", self.message_octets < 65_536),
            ("recipients", self.recipients < 100),
            ("chunks", self.chunks == 0),
            ("mailboxes", self.mailboxes < 100),
            ("command_line_discard_octets", self.command_line_discard_octets < self.command_line_octets as u64),
            ("received_fields", self.received_fields < 100),
            ("transactions", self.transactions == 0),
            ("errors", self.errors == 0),
            ("content_octets_per_second", self.content_octets_per_second == 0),
            ("command_timeout", self.command_timeout < minimum),
            ("handshake_timeout", self.handshake_timeout < minimum),
            ("content_timeout", self.content_timeout < minimum),
            ("deliver_timeout", self.deliver_timeout < minimum),
            ("hook_timeout", self.hook_timeout.is_zero()),
            ("message_timeout", self.message_timeout.is_zero()),
            ("write_timeout", self.write_timeout.is_zero()),
        ]
        .into_iter()
        .find_map(|(name, is_below)| is_below.then_some(name))
    }
}
