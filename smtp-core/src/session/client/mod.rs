//! The state machine of a client session (RFC 5321 §4.1.4, §4.3): the mirror of the server's.
//!
//! [`ClientSession::begin`] gives it a message; [`ClientSession::poll`] takes input and says what to do next. It sends,
//! waits and gives up by itself, and always ends a message with one report. What each reply means stands in `answered`
//! in [`replies`]; what is sent when, in [`commands`]; `AUTH`, in [`auth`]; how messages and the session end, in [`ending`].
//!
//! No reply is believed that came before its command was written: a server that says more than it was asked is out of
//! step, and its next words would reach the wrong recipient.

mod auth;
mod commands;
mod content;
mod ending;
pub(crate) mod envelope;
pub(crate) mod limits;
pub(crate) mod offers;
mod prdr;
mod replies;
pub(crate) mod report;
mod transaction;

pub(crate) use content::BLOCK_OCTETS;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Instant;

use crate::session::limits::after;
use crate::session::transfer_protocol::TransferProtocol;
use crate::syntax::address::Host;
use crate::syntax::reply::Reply;
use crate::syntax::reply_reader::{ReplyError, ReplyReader};
use crate::syntax::text::SafeText;

use self::auth::Authenticating;
use self::content::OutgoingContent;
use self::limits::ClientLimits;
use self::offers::Offers;
use self::report::{SendCause, SendError, SendReport, SendStage};
use self::transaction::Transaction;

/// What [`ClientSession::poll`] wants done.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientStep {
    /// Give more of the content to [`ClientSession::content`], or say [`ClientSession::end_of_content`], or
    /// [`ClientSession::content_failed`].
    Content,
    /// This became of the message.
    Sent(SendReport),
}

/// When a client says `STARTTLS` (RFC 3207).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StartTls {
    /// Never; also where the connection is under TLS from its start.
    #[default]
    Never,
    /// Where the server offers it. Otherwise, and where the server refuses it, the session goes on in clear.
    IfOffered,
    /// Always. Without it nothing is said of any message.
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waiting for the greeting, then for the answer to `EHLO`, `HELO` or `LHLO`, to `STARTTLS` and to `AUTH`.
    Opening,
    /// The server waits for the TLS handshake.
    Handshake,
    /// There is no message.
    Ready,
    /// The first block of content is gathered; nothing was sent.
    Gathering,
    /// From `MAIL` to the reply to `DATA`.
    Envelope,
    /// Behind `354`.
    Content,
    /// The message has failed; `RSET` or `QUIT` tells whether both sides are still in step.
    Resetting,
    /// Behind `QUIT`.
    Quitting,
    /// The connection is of no more use.
    Closed,
}

/// What a reply is awaited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The connection: the greeting.
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Mail,
    /// With the number of the recipient, from 0.
    Rcpt(usize),
    Data,
    /// A chunk that is not the last.
    Chunk,
    EndOfContent,
    /// In LMTP, for the recipient with that number, from 0.
    EndOfContentFor(usize),
    /// In SMTP with `PRDR`, behind the replies for the recipients: the one that makes them hold.
    Conclusion,
    Rset,
    Quit,
}

impl Awaited {
    fn stage(self) -> SendStage {
        match self {
            Self::Greeting => SendStage::Greeting,
            Self::Ehlo | Self::Helo => SendStage::Hello,
            Self::StartTls => SendStage::Tls,
            Self::Auth => SendStage::Auth,
            Self::Mail => SendStage::Mail,
            Self::Rcpt(_) => SendStage::Rcpt,
            Self::Data => SendStage::Data,
            Self::Chunk => SendStage::Content,
            Self::EndOfContent | Self::EndOfContentFor(_) | Self::Conclusion => SendStage::EndOfContent,
            Self::Rset => SendStage::Rset,
            Self::Quit => SendStage::Idle,
        }
    }
}

/// A command without its reply.
#[derive(Debug, Clone, Copy)]
struct Outstanding {
    awaited: Awaited,
    /// Octets of the whole session up to the end of the command: once so many are written, a reply may come.
    end: u64,
}

/// One session, from the greeting to the end, with any number of messages.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that holds or not")]
pub struct ClientSession {
    name: Host,
    protocol: TransferProtocol,
    limits: ClientLimits,
    starttls: StartTls,
    prefers_chunks: bool,
    asks_for_each: bool,
    is_under_tls: bool,
    is_tls_verified: bool,
    /// Until the client has authenticated.
    authenticating: Option<Box<Authenticating>>,
    state: State,
    replies: ReplyReader,
    greeting: Option<Reply>,
    offers: Offers,
    outstanding: VecDeque<Outstanding>,
    /// Boxed, because a session is moved often.
    transaction: Box<Transaction>,
    content: OutgoingContent,
    output: Vec<u8>,
    /// How much of the output was written.
    output_start: usize,
    /// Octets of the whole session that were made output, and of these, that were written.
    issued: u64,
    written: u64,
    /// Up to the end of the last command that was answered.
    answered: u64,
    /// Up to the end of `DATA`, or to the first `BDAT`: what is written beyond is content.
    content_start: u64,
    /// The reply that is arriving began before what it could answer was written.
    is_early: bool,
    waiting_since: Instant,
    dialogue_until: Instant,
    report: Option<SendReport>,
    error: Option<SendError>,
    messages: u64,
}

impl ClientSession {
    /// A session that waits for the greeting of the server, and will introduce itself by that name.
    pub fn new(name: Host, limits: ClientLimits, now: Instant) -> Self {
        let dialogue_until = after(now, limits.dialogue);
        Self {
            name,
            protocol: TransferProtocol::default(),
            limits,
            starttls: StartTls::Never,
            prefers_chunks: false,
            asks_for_each: false,
            is_under_tls: false,
            is_tls_verified: false,
            authenticating: None,
            state: State::Opening,
            replies: ReplyReader::new(),
            greeting: None,
            offers: Offers::default(),
            outstanding: VecDeque::from([Outstanding { awaited: Awaited::Greeting, end: 0 }]),
            transaction: Box::default(),
            content: OutgoingContent::default(),
            output: Vec::new(),
            output_start: 0,
            issued: 0,
            written: 0,
            answered: 0,
            content_start: 0,
            is_early: false,
            waiting_since: now,
            dialogue_until,
            report: None,
            error: None,
            messages: 0,
        }
    }

    /// Speaks that protocol. In LMTP each recipient has the reply that the server gave for it; one without a reply is
    /// deferred (RFC 2033 §4.2).
    #[must_use]
    pub fn with_protocol(self, protocol: TransferProtocol) -> Self {
        Self { protocol, ..self }
    }

    /// With a rule for `STARTTLS`: when [`ClientSession::is_starting_tls`] says so, make the handshake, and then call
    /// [`ClientSession::tls_started`] or [`ClientSession::tls_failed`].
    #[must_use]
    pub fn with_starttls(self, starttls: StartTls) -> Self {
        Self { starttls, ..self }
    }

    /// Says that TLS, where there is any, is made only with a server whose certificate was verified for its name. Messages
    /// with [`Envelope::with_requiretls`](crate::Envelope::with_requiretls) go over no other session (RFC 8689 §4.2.1).
    #[must_use]
    pub fn with_verified_tls(self) -> Self {
        Self { is_tls_verified: true, ..self }
    }

    /// Sends all content by `BDAT` where the server offers `CHUNKING` (RFC 3030). Default: only what cannot go by `DATA`.
    #[must_use]
    pub fn with_chunking(self) -> Self {
        Self { prefers_chunks: true, ..self }
    }

    /// Asks with `PRDR` for a reply for each recipient, where the server offers that and a message has several
    /// (draft-hall-prdr-00). Default: no.
    #[must_use]
    pub fn with_prdr(self) -> Self {
        Self { asks_for_each: true, ..self }
    }

    /// Whether the server waits for the handshake.
    pub fn is_starting_tls(&self) -> bool {
        self.state == State::Handshake
    }

    /// The connection is under TLS: what the server said in clear is forgotten, and the client introduces itself again
    /// (RFC 3207 §4.2).
    pub fn tls_started(&mut self, now: Instant) {
        if self.state == State::Handshake {
            self.starttls = StartTls::Never;
            self.is_under_tls = true;
            self.offers = Offers::default();
            self.replies = ReplyReader::new();
            self.state = State::Opening;
            self.send_hello(now, Awaited::Ehlo);
        }
    }

    /// There is no TLS, and the connection is of no more use; why.
    pub fn tls_failed(&mut self, why: SafeText) {
        if self.state == State::Handshake {
            self.end(SendError::new(SendStage::Tls, SendCause::Handshake(why)));
        }
    }

    /// Goes on with `input`, of which it takes octets from the front.
    ///
    /// `None` when there is nothing to do but to write the output and to wait, for input or a deadline; all of `input`
    /// was taken then.
    pub fn poll(&mut self, now: Instant, input: &mut &[u8]) -> Option<ClientStep> {
        loop {
            if let Some(report) = self.report.take() {
                return Some(ClientStep::Sent(report));
            }
            if self.state == State::Closed {
                *input = &[];
                return None;
            }
            if !input.is_empty() {
                self.receive(now, input);
                continue;
            }
            if self.wants_content(now) {
                return Some(ClientStep::Content);
            }
            self.report.as_ref()?;
        }
    }

    /// Takes octets from the front of `chunk`, as many as there is room for; asked for by [`ClientStep::Content`].
    pub fn content(&mut self, now: Instant, chunk: &mut &[u8]) {
        if !self.is_taking_content() {
            *chunk = &[];
        } else if let Err(cause) = self.content.take(chunk, self.may_be_binary()) {
            *chunk = &[];
            self.content_broken(now, cause);
        }
    }

    /// There is no more content.
    pub fn end_of_content(&mut self, now: Instant) {
        if self.is_taking_content()
            && let Err(cause) = self.content.end(self.may_be_binary())
        {
            self.content_broken(now, cause);
        }
    }

    /// The content cannot be read, or must not be sent. Where it was not begun the session goes on; else it ends, since
    /// what the server has must not become a message.
    pub fn content_failed(&mut self, now: Instant, cause: SendCause) {
        if matches!(self.state, State::Gathering | State::Envelope | State::Content) {
            self.content_broken(now, cause);
        }
    }

    /// What is to be written to the server.
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_start..]
    }

    /// So many octets of the output were written.
    pub fn output_written(&mut self, now: Instant, octets: usize) {
        let octets = octets.min(self.output().len());
        self.output_start += octets;
        self.written += octets as u64;
        if self.output_start == self.output.len() {
            self.output.clear();
            self.output_start = 0;
            self.waiting_since = now;
        }
    }

    /// When [`ClientSession::handle_timeout`] wants to be called; `None` while there is nothing to wait for.
    pub fn deadline(&self) -> Option<Instant> {
        let limits = &self.limits;
        let waiting = match (self.state, self.outstanding.front().map(|command| command.awaited)) {
            (State::Closed | State::Ready | State::Handshake, _) => return None,
            (State::Gathering, _) | (State::Content, None) => limits.content_timeout,
            (State::Content, Some(_)) if !self.output().is_empty() => limits.content_timeout,
            (State::Content, Some(_)) if self.outstanding.back().is_some_and(|it| it.awaited == Awaited::Chunk) => {
                limits.command_timeout
            }
            // Its content is sent, so the message must not be sent again for want of patience.
            (State::Content, Some(_)) => return Some(after(self.waiting_since, limits.end_of_content())),
            (State::Resetting, _) => limits.reset_timeout,
            (State::Quitting, _) => limits.quit_timeout,
            (State::Opening, Some(Awaited::Greeting)) => limits.greeting_timeout,
            (State::Envelope, Some(Awaited::Data)) => limits.data_timeout,
            (State::Opening | State::Envelope, _) => limits.command_timeout,
        };
        Some(after(self.waiting_since, waiting).min(self.dialogue_until))
    }

    /// Time has passed. Too early a call changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.is_taking_content() && self.output().is_empty() && !self.is_early {
            self.content_broken(now, SendCause::Source(io::ErrorKind::TimedOut));
        } else {
            self.end(SendError::new(self.stage(), self.why_no_reply(SendCause::TimedOut)));
        }
    }

    /// Why the reply that was waited for has not come.
    fn why_no_reply(&self, cause: SendCause) -> SendCause {
        if self.replies.has_bare_lf() { SendCause::NoReply(ReplyError::BareLf) } else { cause }
    }

    /// The server has closed its side: what is left of its input was given already.
    pub fn server_left(&mut self) {
        self.end(SendError::new(self.stage(), self.why_no_reply(SendCause::Closed)));
    }

    /// Reading or writing failed: what is left of the input was given already.
    pub fn network_failed(&mut self, kind: io::ErrorKind) {
        self.end(SendError::new(self.stage(), SendCause::Network(kind)));
    }

    /// Says `QUIT` where there is no message, and otherwise just ends the session.
    pub fn quit(&mut self, now: Instant) {
        if self.is_reusable() {
            self.dialogue_until = after(now, self.limits.quit_timeout);
            self.state = State::Quitting;
            self.send(now, Awaited::Quit, b"QUIT\r\n");
        } else {
            self.end(SendError::new(self.stage(), SendCause::Closed));
        }
    }

    /// Whether the server has greeted and answered `EHLO`, and there is no message and nothing out of order.
    pub fn is_reusable(&self) -> bool {
        // RFC 9422 §4.1
        let has_transactions = self.offers.limits().transactions.is_none_or(|most| self.messages < most.into());
        self.state == State::Ready && self.report.is_none() && !self.replies.is_within_reply() && has_transactions
    }

    /// Whether there is nothing to do until a message is given; also when the session is over.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Ready | State::Closed) && self.report.is_none()
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether content is being sent, so that a reply may come before it is asked for.
    pub fn is_sending_content(&self) -> bool {
        self.state == State::Content
    }

    /// Why the session is over; `None` while it goes on, and after `QUIT`.
    pub fn error(&self) -> Option<&SendError> {
        self.error.as_ref()
    }

    /// What the server offers.
    pub fn offers(&self) -> Offers {
        self.offers
    }

    /// What it said first.
    pub fn greeting(&self) -> Option<&Reply> {
        self.greeting.as_ref()
    }

    /// What is allowed.
    pub fn limits(&self) -> &ClientLimits {
        &self.limits
    }

    /// What is going on, for the error that ends it.
    fn stage(&self) -> SendStage {
        match self.outstanding.front() {
            _ if self.state == State::Resetting => SendStage::Rset,
            Some(command) if self.state != State::Content || self.output().is_empty() => command.awaited.stage(),
            _ if self.state == State::Content => SendStage::Content,
            _ => SendStage::Idle,
        }
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession")
            .field("state", &self.state)
            .field("outstanding", &self.outstanding)
            .field("offers", &self.offers)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
