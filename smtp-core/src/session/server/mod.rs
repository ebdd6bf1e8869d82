//! The state machine of a server session (RFC 5321 §4.1.4).
//!
//! [`ServerSession::poll`] takes input and says what to do next; [`ServerSession::answer`] takes the result. Between the
//! two the session waits. The order of commands stands in `execute` in [`commands`], `RCPT` in [`recipients`], what follows `354` in [`content`],
//! `BDAT` in [`chunks`], `AUTH` in [`auth`], `XCLIENT` in [`xclient`], how a message is answered in [`answering`];
//! [`dialogue`] has what they use, [`config`] what sessions share.

mod answering;
mod auth;
mod chunks;
mod commands;
mod config;
mod content;
mod deliver_by;
mod dialogue;
mod future_release;
mod priority;
mod recipients;
mod solicitation;
mod valid_since;
mod xclient;

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::syntax::line::{Line, LineReader};
use crate::syntax::reply::{Reply, ReplyCode};
use crate::syntax::text::SafeText;
use crate::syntax::xclient::Forwarded;

use super::connection::{Connection, TransactionId};
use super::content_phase::ContentPhase;
use super::decision::{Ask, Kind, Question, Refusal};
use super::event::{CloseReason, SessionEvent};
use super::extensions::Extensions;
use super::replies;
use super::tls::TlsFacts;
use super::transaction::Transaction;

pub(crate) use auth::LoginOutcome;
pub use config::{Authentication, DsnOffer, SessionConfig, Stages};

use answering::Owed;
use auth::{Authenticating, LineKind};
use chunks::Chunks;

/// What [`ServerSession::poll`] wants done.
#[derive(Debug)]
pub enum Step<'i> {
    /// Find an answer, and give it to [`ServerSession::answer`].
    Ask(Question),
    /// Append these octets to the content; where that fails, call [`ServerSession::content_lost`].
    Content(&'i [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The greeting was not given.
    Opening,
    /// The client did not introduce itself.
    Connected,
    /// It did; there is no transaction.
    Ready,
    /// Behind `STARTTLS`: what follows is a handshake, unless that is refused.
    StartingTls,
    /// Between `MAIL` and `DATA`.
    Envelope,
    /// Between two chunks.
    Chunks,
    /// Behind `354`, or behind a `BDAT` line.
    Content,
    /// Only what was said last is still to be written.
    Closed,
}

/// Refusals that wait for `RCPT`, so that role mailboxes stay reachable (PRACTICES P3).
#[derive(Debug, Default)]
struct Held {
    connect: Option<HeldRefusal>,
    helo: Option<HeldRefusal>,
    mail: Option<HeldRefusal>,
}

#[derive(Debug, Clone)]
struct HeldRefusal {
    refusal: Refusal,
    policy: Option<SafeText>,
}

impl Held {
    /// The one to give: a permanent one before a transient one, then the earliest.
    fn strongest(&self) -> Option<&HeldRefusal> {
        let all = || [&self.connect, &self.helo, &self.mail].into_iter().flatten();
        all().find(|held| !held.refusal.is_transient()).or_else(|| all().next())
    }
}

/// A reply that is given late.
#[derive(Debug)]
struct Delayed {
    until: Instant,
    reply: Reply,
}

/// What lines that are no commands may be, so that no event tells of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unspoken {
    /// Mistakes, which are told.
    Nothing,
    /// Content: the client wanted to send some, and may do so though it may not.
    Content,
    /// Passwords: the client has tried to authenticate.
    Passwords,
}

/// One session, from the greeting to the last reply.
pub struct ServerSession {
    config: Arc<SessionConfig>,
    connection: Arc<Connection>,
    peer_extensions: Extensions,
    session_extensions: Extensions,
    state: State,
    lines: LineReader,
    transaction: Option<Box<Transaction>>,
    /// That of the transaction, also while its delivery has it.
    transaction_id: Option<TransactionId>,
    content: Option<Box<ContentPhase>>,
    chunks: Chunks,
    /// Recipients that wait for answers of their own, once the message is complete; none in plain SMTP.
    owed: Vec<Owed>,
    held: Held,
    /// The client authenticates: its next line is a response.
    authenticating: Option<Box<Authenticating>>,
    /// Exchanges so far.
    exchanges: u32,
    /// What `XFORWARD` said of the next transaction.
    forwarded: Option<Box<Forwarded>>,
    /// How many times as late as the first the next wrong credential is answered.
    guesses_delay: u32,
    /// How a login ended, until the driver asks. The first counts: what follows it was not looked at.
    login: Option<LoginOutcome>,
    line_kind: LineKind,
    /// A question that was not handed out yet.
    question: Option<Question>,
    /// The number of the question whose answer is awaited.
    awaited: Option<u64>,
    questions: u64,
    delayed: Option<Box<Delayed>>,
    output: Vec<u8>,
    /// How much of the output stood before a reply that the client must wait for.
    silence_from: Option<usize>,
    started: Instant,
    /// The time of day when it began, where the driver said it.
    wall_start: Option<SystemTime>,
    progress: Instant,
    waiting_since: Instant,
    errors: u32,
    idle_commands: u32,
    transactions: u32,
    introductions: u32,
    unspoken: Unspoken,
    under_stress: bool,
    shutting_down: bool,
    close_reason: Option<CloseReason>,
    events: Vec<SessionEvent>,
}

impl ServerSession {
    /// A session whose first step is the question about the connection, or its greeting.
    pub fn new(config: Arc<SessionConfig>, connection: Arc<Connection>, now: Instant) -> Self {
        Self {
            config,
            connection,
            peer_extensions: Extensions::default(),
            session_extensions: Extensions::default(),
            state: State::Opening,
            lines: LineReader::new(),
            transaction: None,
            transaction_id: None,
            content: None,
            chunks: Chunks::default(),
            owed: Vec::new(),
            held: Held::default(),
            authenticating: None,
            exchanges: 0,
            forwarded: None,
            guesses_delay: 1,
            login: None,
            line_kind: LineKind::default(),
            question: None,
            awaited: None,
            questions: 0,
            delayed: None,
            output: Vec::new(),
            silence_from: None,
            started: now,
            wall_start: None,
            progress: now,
            waiting_since: now,
            errors: 0,
            idle_commands: 0,
            transactions: 0,
            introductions: 0,
            unspoken: Unspoken::Nothing,
            under_stress: false,
            shutting_down: false,
            close_reason: None,
            events: Vec::new(),
        }
    }

    /// Says what time of day it is when the session begins. Without it `FUTURERELEASE` and `DELIVERBY` are
    /// not offered.
    #[must_use]
    pub fn with_wall_time(self, now: SystemTime) -> Self {
        Self { wall_start: Some(now), ..self }
    }

    /// Goes on with `input`, of which it takes octets from the front.
    ///
    /// `None` when there is nothing to do but to write the output and to wait: for more input, an answer or a deadline.
    /// Input that is left then has to be given again.
    pub fn poll<'i>(&mut self, now: Instant, input: &mut &'i [u8]) -> Option<Step<'i>> {
        loop {
            self.check_silence(input);
            if let Some(question) = self.question.take() {
                return Some(Step::Ask(question));
            }
            if self.awaited.is_some() || self.delayed.is_some() {
                return None;
            }
            match self.state {
                State::Opening => self.open(),
                State::Closed => {
                    *input = &[];
                    return None;
                }
                State::StartingTls => return None,
                State::Content => match self.receive_content(now, input) {
                    Some(octets) => return Some(Step::Content(octets)),
                    None if self.state == State::Content && self.question.is_none() => return None,
                    None => {}
                },
                _ if self.shutting_down && self.transaction.is_none() => {
                    self.close(CloseReason::Shutdown, Some(replies::SHUTTING_DOWN));
                }
                _ => {
                    if !self.next_command(now, input) {
                        return None;
                    }
                }
            }
        }
    }

    /// Whether there was a whole line.
    fn next_command(&mut self, now: Instant, input: &mut &[u8]) -> bool {
        let mut lines = std::mem::take(&mut self.lines);
        let limits = self.line_limits(&lines, input);
        let line = lines.next(input, limits, |line| {
            if self.authenticating.is_some() { self.authentication_line(now, line) } else { self.command(now, line) }
        });
        self.lines = lines;
        match line {
            Some(Line::Complete(())) => {}
            Some(Line::TooLong) => self.line_too_long(now),
            Some(Line::Endless) => self.endless_line(),
            None => return false,
        }
        true
    }

    /// Takes the answer to a question. One that is no longer awaited is ignored.
    pub fn answer<K: Kind>(&mut self, now: Instant, ask: Ask<K>, answer: K::Answer) {
        if self.awaited == Some(ask.serial) {
            self.awaited = None;
            self.waiting_since = now;
            K::resume(self, now, ask.subject, answer);
        }
    }

    /// The content that was given could not be kept: it is refused at its end with `452 4.3.1`.
    pub fn content_lost(&mut self) {
        if let Some(content) = &mut self.content {
            content.lose(replies::NO_ROOM);
        }
    }

    /// Whether the content received so far may still become a message; otherwise the driver can drop it.
    pub fn needs_content(&self) -> bool {
        self.content.as_ref().is_some_and(|content| content.fault().is_none())
    }

    /// What is to be written to the client.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// All of the output was written.
    pub fn output_written(&mut self) {
        let reply_is_due = self.awaited.is_some() || self.delayed.is_some();
        self.silence_from = self.silence_from.filter(|_| reply_is_due).map(|_| 0);
        self.output = Vec::new();
    }

    /// Whether the session is over once its output is written.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// When [`ServerSession::handle_timeout`] wants to be called. `None` while an answer is awaited: how long a hook
    /// may take is measured where it runs.
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Closed || self.awaited.is_some() {
            return None;
        }
        Some(self.delayed.as_ref().map_or_else(|| self.next_timeout().0, |delayed| delayed.until))
    }

    /// Time has passed. Too early a call changes nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if let Some(delayed) = self.delayed.take() {
            self.waiting_since = now;
            return self.say(&delayed.reply);
        }
        let (_, reply) = self.next_timeout();
        self.close(CloseReason::Timeout, Some(reply));
    }

    /// The client has closed its side: what is left of its input was given already.
    pub fn client_left(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            self.close(reason, None);
        }
    }

    /// The server is stopping: an open transaction may finish, then `421 4.3.2`.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Whether the client must wait for what is to be written next.
    pub fn expects_silence(&self) -> bool {
        self.silence_from.is_some() && (self.config.refuse_early_talkers || self.state == State::StartingTls)
    }

    /// Whether a reply is being held back until [`ServerSession::deadline`].
    pub fn is_delayed(&self) -> bool {
        self.delayed.is_some()
    }

    /// Whether it was told so.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// The server stops now: `421 4.3.2`, unless an answer is awaited.
    pub fn end_now(&mut self) {
        self.shutting_down = true;
        if self.awaited.is_none() && !matches!(self.state, State::Closed | State::Opening) {
            self.close(CloseReason::Shutdown, Some(replies::SHUTTING_DOWN));
        }
    }

    /// Whether the server is so busy that shorter limits hold.
    pub fn set_under_stress(&mut self, under_stress: bool) {
        self.under_stress = under_stress;
    }

    /// The client, as known now.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The envelope so far.
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_deref()
    }

    /// Octets of content so far.
    pub fn content_octets(&self) -> u64 {
        self.content.as_ref().map_or(0, |content| content.octets())
    }

    /// Whether what the client says next, when the output is written, is its side of a TLS handshake.
    pub fn is_starting_tls(&self) -> bool {
        self.state == State::StartingTls && self.awaited.is_none()
    }

    /// The session under TLS: nothing that was said in clear is known any more (RFC 3207 §4.2), but for what a policy
    /// thinks of the connection, and for what counts against the client.
    #[must_use]
    pub fn into_tls(mut self, facts: TlsFacts, now: Instant) -> Self {
        let connection = Arc::new(self.connection.without_greeting().with_tls(facts));
        let former = self.begin_anew(connection, now);
        self.state = State::Connected;
        self.peer_extensions = former.peer_extensions;
        self.held.connect = former.held.connect;
        self.errors = former.errors;
        self.exchanges = former.exchanges;
        self.guesses_delay = former.guesses_delay;
        let connection = self.connection.clone();
        self.event(|| SessionEvent::TlsStarted(connection));
        self
    }

    /// Forgets everything but how long the session has lasted and what it has cost; gives what it was.
    fn begin_anew(&mut self, connection: Arc<Connection>, now: Instant) -> Self {
        let fresh = Self::new(self.config.clone(), connection, now);
        let mut former = std::mem::replace(self, fresh);
        self.questions = former.questions;
        self.started = former.started;
        self.wall_start = former.wall_start;
        self.progress = former.progress;
        self.idle_commands = former.idle_commands;
        self.transactions = former.transactions;
        self.introductions = former.introductions;
        self.under_stress = former.under_stress;
        self.shutting_down = former.shutting_down;
        self.events = std::mem::take(&mut former.events);
        self.login = former.login.take();
        former
    }

    /// What policies attached to the connection.
    pub fn peer_extensions(&self) -> &Extensions {
        &self.peer_extensions
    }

    /// What policies attached to the session.
    pub fn session_extensions(&self) -> &Extensions {
        &self.session_extensions
    }

    /// What the session is configured with.
    pub fn config(&self) -> &Arc<SessionConfig> {
        &self.config
    }

    /// How a login has ended since the last call.
    pub(crate) fn take_login(&mut self) -> Option<LoginOutcome> {
        self.login.take()
    }

    /// What happened since the last call; empty unless [`SessionConfig::observed`].
    pub fn take_events(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.events)
    }
}

impl fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSession")
            .field("connection", &self.connection.session_id())
            .field("state", &self.state)
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

fn code(number: u16) -> ReplyCode {
    ReplyCode::new(number).expect("a code of the grammar")
}
