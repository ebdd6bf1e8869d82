//! The state machine of a server session (RFC 5321 §4.1.4).
//!
//! [`ServerSession::poll`] takes input and says what to do next; [`ServerSession::answer`] takes the result. Between
//! the two the session waits. [`ServerSession::execute`] shows the order of commands; everything else is what they lead
//! to.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::message::trace::Protocol;
use crate::syntax::address::{Domain, ForwardPath, Host, Mailbox, ReversePath};
use crate::syntax::command::{Command, CommandError};
use crate::syntax::extension::ServiceExtension;
use crate::syntax::line::{Line, LineReader};
use crate::syntax::parameter::{MailParameters, RcptParameters};
use crate::syntax::reply::{Reply, ReplyCode, write_lines};
use crate::syntax::text::SafeText;

use super::connection::{Connection, Greeting, TransactionId};
use super::content_phase::{ContentPhase, Received};
use super::decision::{
    Accepted, Ask, Decision, Kind, Lookup, LookupAnswer, NoRoom, Question, Refusal, Verdict, mildest,
};
use super::event::{CloseReason, SessionEvent, Stage};
use super::extensions::Extensions;
use super::limits::{Limits, after};
use super::replies::{self, Fixed};
use super::transaction::{Recipient, Transaction};

/// Which stages some policy wants to be asked about; the others cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stages(u8);

impl Stages {
    /// None.
    pub const NONE: Self = Self(0);
    /// A client connected.
    pub const CONNECT: Self = Self(1);
    /// `EHLO` or `HELO`.
    pub const HELO: Self = Self(2);
    /// `MAIL`.
    pub const MAIL: Self = Self(4);
    /// `RCPT`.
    pub const RECIPIENT: Self = Self(8);
    /// The whole message.
    pub const MESSAGE: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// Whether all stages of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Stages {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What all sessions of a listener have in common.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The name of this server: greeting, answer to `EHLO`, `Received`.
    pub hostname: Domain,
    /// Where mail for `<postmaster>` without a domain goes (RFC 5321 §4.5.1).
    pub postmaster: Mailbox,
    /// Domains whose mail is never relayed: a mailbox there that the lookup calls not local does not exist.
    pub local_domains: Vec<Domain>,
    /// What is allowed.
    pub limits: Limits,
    /// Which stages are asked about.
    pub stages: Stages,
    /// Whether octets that come before a reply that must be waited for end the session with `554 5.5.0`.
    pub refuse_early_talkers: bool,
    /// Whether events are collected.
    pub observed: bool,
}

impl SessionConfig {
    /// The defaults for a server of that name, with `postmaster` at that name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            postmaster: Mailbox::postmaster_at(hostname.clone()),
            hostname,
            local_domains: Vec::new(),
            limits: Limits::default(),
            stages: Stages::ALL,
            refuse_early_talkers: true,
            observed: false,
        }
    }
}

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
    /// Between `MAIL` and `DATA`.
    Envelope,
    /// Behind `354`.
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
    held: Held,
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
    progress: Instant,
    waiting_since: Instant,
    errors: u32,
    idle_commands: u32,
    transactions: u32,
    introductions: u32,
    /// The client has tried to authenticate: lines that are no commands may be passwords, and are not logged.
    secrets_may_follow: bool,
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
            held: Held::default(),
            question: None,
            awaited: None,
            questions: 0,
            delayed: None,
            output: Vec::new(),
            silence_from: None,
            started: now,
            progress: now,
            waiting_since: now,
            errors: 0,
            idle_commands: 0,
            transactions: 0,
            introductions: 0,
            secrets_may_follow: false,
            under_stress: false,
            shutting_down: false,
            close_reason: None,
            events: Vec::new(),
        }
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
        let limits = self.config.limits.line();
        let mut lines = std::mem::take(&mut self.lines);
        let line = lines.next(input, limits, |line| self.command(now, line));
        self.lines = lines;
        match line {
            Some(Line::Complete(())) => {}
            Some(Line::TooLong) => self.error(now, Stage::Command, replies::LINE_TOO_LONG, &[]),
            Some(Line::Endless) => self.close(CloseReason::Limit, Some(replies::LINE_TOO_LONG)),
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
        self.silence_from.is_some() && self.config.refuse_early_talkers
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

    /// What happened since the last call; empty unless [`SessionConfig::observed`].
    pub fn take_events(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.events)
    }

    // -- the greeting

    fn open(&mut self) {
        if self.config.stages.contains(Stages::CONNECT) {
            self.silence_from = Some(0);
            self.ask(Question::Connect, ());
        } else {
            self.greet_client();
        }
    }

    pub(crate) fn connected(&mut self, _now: Instant, (): (), mut decision: Decision) {
        match self.take_decision(Stage::Connect, &mut decision, SafeText::default()) {
            Some(refusal) if refusal.is_immediate() => {
                // RFC 5321 §3.1: a greeting that refuses is 554, or 421 where the client may come again.
                let refusal = refusal.with_code(554);
                let reply = if refusal.is_transient() { as_421(refusal.reply()) } else { refusal.reply().clone() };
                self.say(&reply);
                self.finish(CloseReason::Refused);
            }
            refusal => {
                self.held.connect = refusal.map(|refusal| HeldRefusal { refusal, policy: decision.policy });
                self.greet_client();
            }
        }
    }

    /// `220` and the name. A shutdown is told before it.
    fn greet_client(&mut self) {
        self.state = State::Connected;
        if self.shutting_down {
            return self.close(CloseReason::Shutdown, Some(replies::SHUTTING_DOWN));
        }
        self.silence_from = Some(0);
        let greeting = format!("{} ESMTP", self.config.hostname);
        self.say(&Reply::bare(code(220), greeting));
    }

    // -- commands

    fn command(&mut self, now: Instant, line: &[u8]) {
        self.waiting_since = now;
        let starts_with = |verb: &[u8]| line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        if [&b"EHLO"[..], b"HELO", b"DATA"].into_iter().any(starts_with) {
            self.expect_silence();
        }
        self.secrets_may_follow |= starts_with(b"AUTH");
        match Command::parse(line) {
            Ok(command) => self.execute(now, command, line),
            Err(CommandError::UnknownVerb) if is_http(line) => {
                self.refused_fixed(Stage::Command, replies::NOT_SMTP, line);
                self.close(CloseReason::Violation, Some(replies::NOT_SMTP));
            }
            Err(error) => {
                let reply = match error {
                    CommandError::UnknownVerb => replies::UNKNOWN_COMMAND,
                    CommandError::Host(_) => replies::BAD_HOST,
                    CommandError::ReversePath(_) => replies::BAD_REVERSE_PATH,
                    CommandError::ForwardPath(_) => replies::BAD_FORWARD_PATH,
                    CommandError::Argument(_) | CommandError::Parameter(_) => replies::BAD_ARGUMENT,
                };
                let shown = if self.secrets_may_follow { &[][..] } else { line };
                self.error(now, Stage::Command, reply, shown);
            }
        }
    }

    /// The order of commands (RFC 5321 §4.1.4).
    fn execute(&mut self, now: Instant, command: Command, line: &[u8]) {
        use Command::{Data, Ehlo, Expn, Helo, Help, Mail, Noop, NotOffered, Quit, Rcpt, Rset, Vrfy};
        match (self.state, command) {
            (_, Quit) => self.close(CloseReason::Quit, Some(replies::BYE)),
            (_, Ehlo(host)) => self.introduce(host, Protocol::Esmtp),
            (_, Helo(host)) => self.introduce(host, Protocol::Smtp),
            (_, Rset) => self.idle_command(Self::reset),
            (_, Noop) => self.idle_command(|session| session.say_fixed(replies::OK)),
            (_, Help) => self.idle_command(|session| session.say_fixed(replies::HELP)),
            (_, Vrfy) => self.idle_command(|session| session.say_fixed(replies::CANNOT_VERIFY)),
            (_, Expn) => self.error(now, Stage::Command, replies::NOT_OFFERED, line),
            (_, NotOffered) => self.not_offered(now, line),
            (State::Ready, Mail(path, parameters)) => self.mail(now, path, parameters, line),
            (State::Envelope, Rcpt(path, parameters)) => self.rcpt(now, path, &parameters, line),
            (State::Envelope, Data) => self.data(),
            (State::Connected, Mail(..) | Rcpt(..) | Data) => {
                self.error(now, Stage::Command, replies::SAY_EHLO_FIRST, line);
            }
            (_, Mail(..) | Rcpt(..) | Data) => self.error(now, Stage::Command, replies::BAD_SEQUENCE, line),
        }
    }

    /// Only the verb goes to the log: behind `AUTH` stands a password, and what follows may be one too.
    fn not_offered(&mut self, now: Instant, line: &[u8]) {
        let verb = line.split(|&octet| octet == b' ').next().unwrap_or_default();
        self.error(now, Stage::Command, replies::NOT_OFFERED, verb);
    }

    /// `EHLO` and `HELO`. The first one is progress.
    fn introduce(&mut self, host: Host, protocol: Protocol) {
        let connection = self.connection.greeted(Greeting::new(host, protocol));
        self.introductions += 1;
        if self.introductions > 1 {
            self.idle_command(|session| session.consider(connection));
        } else {
            self.consider(connection);
        }
    }

    fn consider(&mut self, connection: Arc<Connection>) {
        if self.config.stages.contains(Stages::HELO) {
            self.ask(Question::Helo, connection);
        } else {
            self.held.helo = None;
            self.introduced(connection);
        }
    }

    pub(crate) fn greeted(&mut self, _now: Instant, connection: Arc<Connection>, mut decision: Decision) {
        let name = connection.greeting().map(|greeting| SafeText::new(greeting.host().to_string())).unwrap_or_default();
        match self.take_decision(Stage::Helo, &mut decision, name) {
            // RFC 5321 §4.1.4: after a refused EHLO the session is where it was before.
            Some(refusal) if refusal.is_immediate() => self.say_refusal(&refusal),
            refusal => {
                self.held.helo = refusal.map(|refusal| HeldRefusal { refusal, policy: decision.policy });
                self.introduced(connection);
            }
        }
    }

    /// RFC 5321 §4.1.1.1: the envelope is empty, and the extensions are listed.
    fn introduced(&mut self, connection: Arc<Connection>) {
        self.end_transaction();
        self.state = State::Ready;
        let protocol = connection.greeting().map(Greeting::protocol);
        self.event(|| SessionEvent::Greeted(connection.clone()));
        self.connection = connection;
        let mut lines = vec![self.config.hostname.to_string()];
        if protocol == Some(Protocol::Esmtp) {
            lines.extend(self.extensions().iter().map(ToString::to_string));
        }
        write_lines(&mut self.output, code(250), lines.iter().map(String::as_str));
    }

    fn extensions(&self) -> [ServiceExtension; 5] {
        let limits = &self.config.limits;
        [
            ServiceExtension::Pipelining,
            ServiceExtension::Size(limits.message_octets),
            ServiceExtension::EightBitMime,
            ServiceExtension::EnhancedStatusCodes,
            ServiceExtension::Limits { mail_max: limits.transactions, rcpt_max: limits.recipients },
        ]
    }

    fn reset(&mut self) {
        self.end_transaction();
        self.say_fixed(replies::OK);
    }

    fn mail(&mut self, now: Instant, path: ReversePath, parameters: MailParameters, line: &[u8]) {
        let limits = &self.config.limits;
        let is_esmtp = self.connection.greeting().is_some_and(|greeting| greeting.protocol() == Protocol::Esmtp);
        if self.transactions >= limits.transactions {
            return self.close(CloseReason::Limit, Some(replies::TOO_MANY_TRANSACTIONS));
        }
        if parameters.unrecognized.is_some() || !(is_esmtp || parameters.is_empty()) {
            return self.error(now, Stage::Mail, replies::UNKNOWN_PARAMETER, line);
        }
        if parameters.size_octets.is_some_and(|octets| octets > limits.message_octets) {
            self.refused_fixed(Stage::Mail, replies::MESSAGE_TOO_LARGE, line);
            return self.idle_command(|session| session.say_fixed(replies::MESSAGE_TOO_LARGE));
        }
        let id = TransactionId::new(self.connection.session_id(), self.transactions + 1);
        let transaction = Box::new(Transaction::new(id, path, parameters));
        if self.config.stages.contains(Stages::MAIL) {
            self.ask(Question::Mail, transaction);
        } else {
            self.begin_transaction(transaction);
        }
    }

    pub(crate) fn mail_decided(&mut self, _now: Instant, mut transaction: Box<Transaction>, mut decision: Decision) {
        let subject = SafeText::new(transaction.reverse_path().to_string());
        let refusal = self.take_decision(Stage::Mail, &mut decision, subject);
        transaction.apply(decision.changes);
        match refusal {
            Some(refusal) if refusal.is_immediate() => self.idle_command(|session| session.say_refusal(&refusal)),
            refusal => {
                self.held.mail = refusal.map(|refusal| HeldRefusal { refusal, policy: decision.policy });
                self.begin_transaction(transaction);
            }
        }
    }

    fn begin_transaction(&mut self, transaction: Box<Transaction>) {
        self.transactions += 1;
        self.transaction_id = Some(transaction.id());
        self.transaction = Some(transaction);
        self.state = State::Envelope;
        self.say_fixed(replies::SENDER_OK);
    }

    /// PRACTICES P7: syntax, limits, then the lookup.
    fn rcpt(&mut self, now: Instant, path: ForwardPath, parameters: &RcptParameters, line: &[u8]) {
        let limits = &self.config.limits;
        let (recipients, most_excess) = (limits.recipients as usize, limits.excess_recipients);
        if parameters.unrecognized.is_some() {
            return self.error(now, Stage::Recipient, replies::UNKNOWN_PARAMETER, line);
        }
        let Some(transaction) = &mut self.transaction else { return };
        if transaction.recipients().len() < recipients {
            return self.ask(Question::Lookup, path);
        }
        if transaction.count_excess_recipient() > most_excess {
            self.close(CloseReason::Limit, Some(replies::FAR_TOO_MANY_RECIPIENTS));
        } else {
            self.refuse(Stage::Recipient, replies::TOO_MANY_RECIPIENTS, line);
        }
    }

    /// PRACTICES P7: relay, existence, role mailbox, held refusal, policies.
    pub(crate) fn looked_up(&mut self, now: Instant, path: ForwardPath, answer: LookupAnswer) {
        let text = path.to_string();
        let is_bare_postmaster = path == ForwardPath::Postmaster;
        let mailboxes = match answer.lookup {
            Err(cause) => {
                let cause = SafeText::new(cause.to_string());
                self.event(|| SessionEvent::LookupFailed { recipient: path, cause });
                return self.refuse(Stage::Lookup, replies::TRY_LATER, text.as_bytes());
            }
            Ok(Lookup::Alias(mailboxes))
                if mailboxes.is_empty() || mailboxes.len() > self.config.limits.alias_mailboxes =>
            {
                let cause = SafeText::new(format!("alias with {} mailboxes", mailboxes.len()));
                self.event(|| SessionEvent::LookupFailed { recipient: path, cause });
                return self.refuse(Stage::Lookup, replies::TRY_LATER, text.as_bytes());
            }
            Ok(Lookup::Alias(mailboxes)) if self.has_too_many_mailboxes(mailboxes.len()) => {
                return self.refuse(Stage::Lookup, replies::TOO_MANY_RECIPIENTS, text.as_bytes());
            }
            Ok(Lookup::Alias(mailboxes)) => mailboxes,
            // RFC 5321 §4.5.1: <postmaster> without a domain is accepted whatever the lookup thinks.
            Ok(_) if is_bare_postmaster => vec![self.config.postmaster.clone()],
            Ok(Lookup::Mailbox) => Vec::new(),
            Ok(Lookup::NotLocal) if self.is_local(&path) => {
                return self.error(now, Stage::Lookup, replies::UNKNOWN_MAILBOX, text.as_bytes());
            }
            Ok(Lookup::NotLocal) if self.connection.may_relay() => {
                return self.judge_recipient(path, Vec::new(), false);
            }
            Ok(Lookup::NotLocal) => return self.error(now, Stage::Lookup, replies::NOT_LOCAL, text.as_bytes()),
            Ok(Lookup::Unknown) => return self.error(now, Stage::Lookup, replies::UNKNOWN_MAILBOX, text.as_bytes()),
        };
        self.judge_recipient(path, mailboxes, answer.is_role || is_bare_postmaster);
    }

    /// Whether so many more would exceed what all aliases of a transaction may have.
    fn has_too_many_mailboxes(&self, more: usize) -> bool {
        let transaction = self.transaction.as_ref();
        transaction.map_or(0, |transaction| transaction.alias_mailboxes()) + more > self.config.limits.mailboxes
    }

    fn is_local(&self, path: &ForwardPath) -> bool {
        path.domain().is_some_and(|domain| self.config.local_domains.contains(domain))
    }

    /// The recipient exists. Role mailboxes of ours are accepted at once (PRACTICES P4, P7).
    fn judge_recipient(&mut self, path: ForwardPath, mailboxes: Vec<Mailbox>, is_role: bool) {
        let recipient = Recipient::new(path, mailboxes, is_role);
        if recipient.is_role() {
            return self.accept_recipient(recipient);
        }
        if let Some(held) = self.held.strongest().cloned() {
            let subject = SafeText::new(recipient.path().to_string());
            self.refused(Stage::Recipient, subject, held.refusal.reply(), held.policy, false);
            return self.say_refusal(&held.refusal);
        }
        if self.config.stages.contains(Stages::RECIPIENT) {
            self.ask(Question::Recipient, recipient);
        } else {
            self.accept_recipient(recipient);
        }
    }

    pub(crate) fn recipient_decided(&mut self, _now: Instant, recipient: Recipient, mut decision: Decision) {
        let subject = SafeText::new(recipient.path().to_string());
        let refusal = self.take_decision(Stage::Recipient, &mut decision, subject);
        if let Some(transaction) = &mut self.transaction {
            transaction.apply(decision.changes);
        }
        match refusal {
            Some(refusal) => self.say_refusal(&refusal),
            None => self.accept_recipient(recipient),
        }
    }

    fn accept_recipient(&mut self, recipient: Recipient) {
        if let Some(transaction) = &mut self.transaction {
            transaction.add_recipient(recipient);
            self.say_fixed(replies::RECIPIENT_OK);
        }
    }

    // -- content

    fn data(&mut self) {
        self.expect_silence();
        let Some(transaction) = &self.transaction else { return };
        if transaction.recipients().is_empty() {
            self.refused_fixed(Stage::Content, replies::NO_VALID_RECIPIENTS, &[]);
            return self.idle_command(|session| session.say_fixed(replies::NO_VALID_RECIPIENTS));
        }
        let size = transaction.parameters().size_octets;
        self.ask(Question::Room, size);
    }

    pub(crate) fn room_made(&mut self, now: Instant, _size: Option<u64>, room: Result<(), NoRoom>) {
        if room.is_err() {
            self.refuse(Stage::Content, replies::NO_ROOM, &[]);
            return self.end_transaction();
        }
        self.content = Some(Box::new(ContentPhase::new(now)));
        self.state = State::Content;
        self.say_fixed(replies::START_CONTENT);
    }

    fn receive_content<'i>(&mut self, now: Instant, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let content = self.content.as_mut()?;
        match content.receive(now, &self.config.limits, input) {
            Received::Octets(octets) => return Some(octets),
            Received::Nothing => {}
            Received::End => self.content_ended(now),
            Received::Endless => {
                let fault = content.fault().unwrap_or(replies::MESSAGE_TOO_LARGE);
                self.refused_fixed(Stage::Content, fault, &[]);
                self.close(CloseReason::Limit, Some(fault));
            }
        }
        None
    }

    fn content_ended(&mut self, now: Instant) {
        self.waiting_since = now;
        let Some(content) = &self.content else { return };
        let is_defective = content.is_defective();
        if let Some(fault) = content.fault() {
            self.refused_fixed(Stage::Content, fault, &[]);
            self.end_transaction();
            if is_defective {
                return self.close(CloseReason::Violation, Some(fault));
            }
            return self.say_fixed(fault);
        }
        if self.config.stages.contains(Stages::MESSAGE) {
            self.ask(Question::Message, ());
        } else {
            self.deliver();
        }
    }

    pub(crate) fn message_decided(&mut self, _now: Instant, (): (), mut decision: Decision) {
        let Some(transaction) = &self.transaction else { return };
        if !matches!(decision.verdict, Verdict::Refuse(_)) {
            let refused: Vec<_> = decision.changes.refused.iter().map(|&(index, _)| index).collect();
            if (0..transaction.recipients().len()).all(|index| refused.contains(&index)) {
                let all = decision.changes.refused.iter().map(|(_, refusal)| refusal);
                decision.verdict = mildest(all).cloned().map_or(Verdict::Continue, Verdict::Refuse);
            }
        }
        let refusal = self.take_decision(Stage::Message, &mut decision, SafeText::default());
        if let Some(transaction) = &mut self.transaction {
            transaction.apply(decision.changes);
        }
        match refusal {
            Some(refusal) => {
                self.end_transaction();
                self.say_refusal(&refusal);
            }
            None => self.deliver(),
        }
    }

    fn deliver(&mut self) {
        let transaction = self.transaction.take();
        self.ask(Question::Deliver, transaction);
    }

    pub(crate) fn delivered(
        &mut self,
        now: Instant,
        _transaction: Option<Box<Transaction>>,
        result: Result<Accepted, Refusal>,
    ) {
        match result {
            Ok(accepted) => {
                self.end_transaction();
                self.progress = now;
                self.errors = 0;
                self.idle_commands = 0;
                match accepted.id() {
                    Some(id) => {
                        let reply = replies::MESSAGE_OK.reply();
                        let status = reply.status().expect("the table gives it one");
                        self.say(&Reply::new(reply.code(), status, format!("Ok: queued as {id}")));
                    }
                    None => self.say_fixed(replies::MESSAGE_OK),
                }
            }
            Err(refusal) => {
                self.refused(Stage::Deliver, SafeText::default(), refusal.reply(), None, false);
                self.end_transaction();
                self.say_refusal(&refusal);
            }
        }
    }

    /// The one place where a transaction ends, however it does (SECURITY D-44).
    fn end_transaction(&mut self) {
        self.transaction = None;
        self.transaction_id = None;
        self.content = None;
        self.held.mail = None;
        if matches!(self.state, State::Envelope | State::Content) {
            self.state = State::Ready;
        }
    }

    // -- questions and answers

    fn ask<K: Kind>(&mut self, question: impl FnOnce(Ask<K>) -> Question, subject: K::Subject) {
        self.questions += 1;
        self.awaited = Some(self.questions);
        self.question = Some(question(Ask { serial: self.questions, subject }));
    }

    /// Takes over what a decision changed, and gives the refusal if it is one.
    fn take_decision(&mut self, stage: Stage, decision: &mut Decision, subject: SafeText) -> Option<Refusal> {
        if let Some(extensions) = decision.changes.peer.take() {
            self.peer_extensions = extensions;
        }
        if let Some(extensions) = decision.changes.session.take() {
            self.session_extensions = extensions;
        }
        let Verdict::Refuse(refusal) = std::mem::replace(&mut decision.verdict, Verdict::Continue) else { return None };
        let held = matches!(stage, Stage::Connect | Stage::Helo | Stage::Mail) && !refusal.is_immediate();
        self.refused(stage, subject, refusal.reply(), decision.policy.clone(), held);
        Some(refusal)
    }

    // -- waiting for replies

    /// What follows must not come before the reply to this command (RFC 2920 §3.1). `DATA` counts also where it is
    /// refused: content behind it must never be read as commands.
    fn expect_silence(&mut self) {
        self.silence_from = Some(self.output.len());
    }

    /// SECURITY D-3: octets that come before a reply that must be waited for.
    ///
    /// [`ServerSession::poll`] does this by itself. A driver that writes output while it holds input that it has not
    /// given yet does it before it writes.
    pub fn check_silence(&mut self, input: &[u8]) {
        if let Some(mark) = self.silence_from
            && !input.is_empty()
            && self.config.refuse_early_talkers
            && self.state != State::Closed
        {
            self.output.truncate(mark);
            self.silence_from = None;
            // What was said may be a password.
            self.refused_fixed(Stage::Command, replies::EARLY_TALKER, &[]);
            self.close(CloseReason::Violation, Some(replies::EARLY_TALKER));
        }
    }

    // -- limits

    /// A command that achieves nothing (STANDARDS LI12).
    fn idle_command(&mut self, run: impl FnOnce(&mut Self)) {
        self.idle_commands += 1;
        if self.idle_commands > self.config.limits.commands_without_progress {
            self.close(CloseReason::Limit, Some(replies::TOO_MANY_COMMANDS));
        } else {
            run(self);
        }
    }

    /// An error of the client (STANDARDS LI11): counted, answered late after some, and not at all after too many.
    fn error(&mut self, now: Instant, stage: Stage, reply: Fixed, subject: &[u8]) {
        self.errors += 1;
        self.refused_fixed(stage, reply, subject);
        let limits = &self.config.limits;
        let most = if self.under_stress { limits.errors_under_stress } else { limits.errors };
        if self.errors > most {
            self.close(CloseReason::Limit, Some(replies::TOO_MANY_ERRORS));
        } else if self.errors > limits.errors_before_delay && !limits.error_delay.is_zero() {
            self.delayed = Some(Box::new(Delayed { until: after(now, limits.error_delay), reply: reply.reply() }));
        } else {
            self.say_fixed(reply);
        }
    }

    /// The next moment at which the session ends for lack of something, and what the client is told.
    fn next_timeout(&self) -> (Instant, Fixed) {
        let limits = &self.config.limits;
        let waiting = match &self.content {
            Some(content) => content.deadline(limits),
            None if self.under_stress => {
                (after(self.waiting_since, limits.command_timeout_under_stress), replies::TIMEOUT_COMMAND)
            }
            None if self.lines.has_bare_lf() => {
                (after(self.waiting_since, limits.command_timeout), replies::TIMEOUT_CRLF)
            }
            None => (after(self.waiting_since, limits.command_timeout), replies::TIMEOUT_COMMAND),
        };
        let session = after(self.progress, limits.session_without_message).min(after(self.started, limits.session));
        if session < waiting.0 { (session, replies::SESSION_TOO_LONG) } else { waiting }
    }

    // -- replies

    fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
    }

    fn say_fixed(&mut self, fixed: Fixed) {
        self.say(&fixed.reply());
    }

    fn say_refusal(&mut self, refusal: &Refusal) {
        self.say(refusal.reply());
        if refusal.closes() {
            self.finish(CloseReason::Refused);
        }
    }

    /// Refused, but no error of the client.
    fn refuse(&mut self, stage: Stage, reply: Fixed, subject: &[u8]) {
        self.refused_fixed(stage, reply, subject);
        self.say_fixed(reply);
    }

    fn close(&mut self, reason: CloseReason, reply: Option<Fixed>) {
        if let Some(reply) = reply {
            self.say_fixed(reply);
        }
        self.finish(reason);
    }

    fn finish(&mut self, reason: CloseReason) {
        self.end_transaction();
        self.question = None;
        self.awaited = None;
        self.delayed = None;
        self.state = State::Closed;
        self.close_reason = Some(reason);
    }

    /// Why the session ended; `None` while it goes on.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason
    }

    // -- events

    fn event(&mut self, event: impl FnOnce() -> SessionEvent) {
        if self.config.observed {
            self.events.push(event());
        }
    }

    fn refused_fixed(&mut self, stage: Stage, reply: Fixed, subject: &[u8]) {
        if self.config.observed {
            let subject = SafeText::from_octets(&subject[..subject.len().min(200)]);
            self.refused(stage, subject, &reply.reply(), None, false);
        }
    }

    fn refused(&mut self, stage: Stage, subject: SafeText, reply: &Reply, policy: Option<SafeText>, held: bool) {
        let transaction = self.transaction_id;
        self.event(|| SessionEvent::Refused { stage, transaction, subject, reply: reply.clone(), policy, held });
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

/// The first line of a request that a browser was made to send here: its body could hold commands.
fn is_http(line: &[u8]) -> bool {
    let version = line.rsplit(|&octet| octet == b' ').next().unwrap_or_default();
    version.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

fn code(number: u16) -> ReplyCode {
    ReplyCode::new(number).expect("a code of the grammar")
}

/// A transient refusal as a greeting (RFC 5321 §3.8): `421`.
fn as_421(reply: &Reply) -> Reply {
    match reply.status() {
        Some(status) => Reply::new(code(421), status, reply.text().to_owned()),
        None => Reply::bare(code(421), reply.text().to_owned()),
    }
}
