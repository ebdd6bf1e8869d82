//! Every limit and every time limit of a client session: unit, default, origin.

use std::time::Duration;

use crate::syntax::reply_reader::ReplyLimits;

/// The shortest time for the reply to the end of content: who gives up earlier makes duplicates (RFC 5321 §4.5.3.2.6,
/// RFC 1047).
const LEAST_END_TIMEOUT: Duration = Duration::from_secs(600);

/// What a client session allows a server. Start from [`ClientLimits::default`] and change single values.
///
/// ```
/// let mut limits = smtp_core::ClientLimits::default();
/// limits.connect_timeout = std::time::Duration::from_secs(10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientLimits {
    /// How long connecting to one address may take: 30 s.
    pub connect_timeout: Duration,
    /// How long an address is waited for before the next one is tried beside it: 250 ms (RFC 8305 §5).
    pub connect_pause: Duration,
    /// How long the greeting may take: 5 min (RFC 5321 §4.5.3.2.1).
    pub greeting_timeout: Duration,
    /// How long a TLS handshake may take: 30 s.
    pub handshake_timeout: Duration,
    /// How long the reply to `STARTTLS`, `EHLO`, `HELO`, `MAIL` or `RCPT` may take: 5 min (RFC 5321 §4.5.3.2.2, §4.5.3.2.3).
    pub command_timeout: Duration,
    /// How long the reply to `DATA` may take: 2 min (RFC 5321 §4.5.3.2.4).
    pub data_timeout: Duration,
    /// How long a block of content may take, to come from its source and again to be sent: 3 min (RFC 5321
    /// §4.5.3.2.5). A block has 64 KiB.
    pub content_timeout: Duration,
    /// How long the reply to the end of content may take: 10 min (RFC 5321 §4.5.3.2.6). What is shorter counts as 10
    /// min.
    pub end_of_content_timeout: Duration,
    /// How long the reply to `RSET` may take: 20 s.
    pub reset_timeout: Duration,
    /// How long the reply to `QUIT` may take: 30 s.
    pub quit_timeout: Duration,
    /// How long a server may draw out its replies in all: 1 h from the start of the session to the answer to `EHLO`, and
    /// again for each message up to the end of its content. Content adds to it by
    /// [`ClientLimits::content_octets_per_second`].
    pub dialogue: Duration,
    /// Octets a second that content is sent at least, on average: 500.
    pub content_octets_per_second: u64,
    /// How large a reply may be: 65,536 octets and 512 lines.
    pub reply: ReplyLimits,
    /// Commands that are sent without waiting for replies, where the server offers `PIPELINING` (RFC 2920): 256.
    pub pipelined_commands: usize,
    /// Octets of such commands: 32 KiB. One command may exceed it.
    pub pipelined_octets: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            connect_pause: Duration::from_millis(250),
            handshake_timeout: Duration::from_secs(30),
            greeting_timeout: Duration::from_secs(300),
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(120),
            content_timeout: Duration::from_secs(180),
            end_of_content_timeout: LEAST_END_TIMEOUT,
            reset_timeout: Duration::from_secs(20),
            quit_timeout: Duration::from_secs(30),
            dialogue: Duration::from_secs(3600),
            content_octets_per_second: 500,
            reply: ReplyLimits::default(),
            pipelined_commands: 256,
            pipelined_octets: 32 << 10,
        }
    }
}

impl ClientLimits {
    pub(super) fn end_of_content(&self) -> Duration {
        self.end_of_content_timeout.max(LEAST_END_TIMEOUT)
    }

    /// How long a message of that size may take until its content is sent.
    pub(super) fn message(&self, octets: u64) -> Duration {
        let content = Duration::from_secs(octets / self.content_octets_per_second.max(1));
        self.dialogue.saturating_add(content)
    }
}
