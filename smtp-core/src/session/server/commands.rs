//! Commands: their order, and what each leads to. `RCPT` has a file of its own: [`recipients`](super::recipients).

use std::sync::Arc;
use std::time::Instant;

use crate::message::trace::Protocol;
use crate::session::connection::{Connection, Greeting, TransactionId, Treatment};
use crate::session::decision::{Decision, Question};
use crate::session::event::{CloseReason, SessionEvent, Stage};
use crate::session::limits::after;
use crate::session::replies::{self, Fixed};
use crate::session::transaction::Transaction;
use crate::syntax::address::Host;
use crate::syntax::command::{Command, CommandError};
use crate::syntax::extension::ServiceExtension;
use crate::syntax::parameter::{Body, MailParameters};
use crate::syntax::path::ReversePath;
use crate::syntax::reply::{Reply, write_lines};
use crate::syntax::text::SafeText;
use crate::syntax::unqualified::{end_of_unqualified, qualified};

use super::{Delayed, DsnOffer, HeldRefusal, ServerSession, Stages, State, Unspoken, code};

/// What a command line may have where `DSN` is offered: those of RFC 5321 §4.5.3.1.4, and 500 more for `RCPT` (RFC 3461
/// §3).
const LINE_WITH_DSN_OCTETS: usize = 512 + 500;

impl ServerSession {
    pub(super) fn open(&mut self) {
        if self.config.stages.contains(Stages::CONNECT) && !self.config.no_mail {
            self.expect_silence();
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

    /// `220` and the name, or `521`. A shutdown is told before it.
    pub(super) fn greet_client(&mut self) {
        self.state = State::Connected;
        if self.shutting_down {
            return self.close(CloseReason::Shutdown, Some(replies::SHUTTING_DOWN));
        }
        self.expect_silence();
        if self.config.no_mail {
            return self.say(&Reply::bare(code(521), format!("{} does not accept mail", self.config.hostname)));
        }
        let greeting =
            format!("{} {}", self.config.hostname, if self.config.protocol.is_lmtp() { "LMTP" } else { "ESMTP" });
        let greeting = Reply::bare(code(220), greeting);
        // Whoever is known has no need to prove its patience, and who is many has no place for the patient.
        let is_stranger = self.connection.treatment() == Treatment::Mx && !self.under_stress;
        if is_stranger && !self.config.greeting_delay.is_zero() {
            let until = after(self.started, self.config.greeting_delay);
            self.delayed = Some(Box::new(Delayed { until, reply: greeting }));
        } else {
            self.say(&greeting);
        }
    }

    // -- commands

    pub(super) fn command(&mut self, now: Instant, line: &[u8]) {
        self.waiting_since = now;
        let starts_with = |verb: &[u8]| line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        if [&b"EHLO"[..], b"HELO", b"LHLO", b"DATA"].into_iter().any(starts_with) {
            self.expect_silence();
        }
        let command = Command::parse(line);
        // A space in front of it makes a password no less one.
        let first = line.trim_ascii_start().get(..4);
        self.unspoken = match self.unspoken {
            Unspoken::Passwords => Unspoken::Passwords,
            _ if first.is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH")) => Unspoken::Passwords,
            _ if starts_with(b"DATA") => Unspoken::Content,
            Unspoken::Content if command.is_err() => Unspoken::Content,
            _ => Unspoken::Nothing,
        };
        if !matches!(command, Ok(Command::Bdat(_))) {
            self.chunks.one_was_refused = false;
        }
        let shown = match &command {
            _ if self.unspoken != Unspoken::Nothing => &[][..],
            Err(CommandError::UnknownVerb) => possible_verb(line),
            _ => line,
        };
        if self.config.no_mail && !matches!(command, Ok(Command::Quit)) {
            return self.error(now, Stage::Command, replies::NO_MAIL, shown);
        }
        if self.is_of_other_protocol(line) {
            return self.error(now, Stage::Command, replies::UNKNOWN_COMMAND, shown);
        }
        match command {
            Ok(command) => self.execute(now, command, line),
            Err(_) if starts_with(b"BDAT") => self.bad_chunk(line),
            Err(CommandError::UnknownVerb) if is_http(line) => {
                self.refused_fixed(Stage::Command, replies::NOT_SMTP, shown);
                self.close(CloseReason::Violation, Some(replies::NOT_SMTP));
            }
            Err(CommandError::ReversePath(_) | CommandError::ForwardPath(_)) if self.is_unqualified(line) => {
                self.unqualified(now, line);
            }
            Err(error) => {
                let reply = match error {
                    CommandError::UnknownVerb => replies::UNKNOWN_COMMAND,
                    CommandError::Host(_) => replies::BAD_HOST,
                    // SECURITY D-42
                    CommandError::ReversePath(_) | CommandError::ForwardPath(_)
                        if std::str::from_utf8(line).is_err() =>
                    {
                        replies::NOT_UTF8
                    }
                    CommandError::ReversePath(_) => replies::BAD_REVERSE_PATH,
                    CommandError::ForwardPath(_) => replies::BAD_FORWARD_PATH,
                    CommandError::Argument(_) | CommandError::Parameter(_) | CommandError::Chunk(_) => {
                        replies::BAD_ARGUMENT
                    }
                };
                self.error(now, Stage::Command, reply, shown);
            }
        }
    }

    /// Whether an authenticated client named an address without a domain. Of others it is a syntax error like any (RFC 5321
    /// §4.1.2).
    fn is_unqualified(&self, line: &[u8]) -> bool {
        self.connection.treatment() == Treatment::Submission && end_of_unqualified(line).is_some()
    }

    /// RFC 6409 §4.2: the address is completed, or refused; never guessed.
    fn unqualified(&mut self, now: Instant, line: &[u8]) {
        let completed = self.config.qualify_with.as_ref().and_then(|domain| qualified(line, domain));
        let is_sender = verb(line).eq_ignore_ascii_case(b"MAIL");
        match completed.as_deref().map(|line| (line, Command::parse(line))) {
            Some((line, Ok(command))) => self.execute(now, command, line),
            Some(_) => self.error(now, Stage::Command, replies::BAD_ARGUMENT, line),
            None if is_sender => self.error(now, Stage::Mail, replies::UNQUALIFIED_SENDER, line),
            None => self.error(now, Stage::Recipient, replies::UNQUALIFIED_RECIPIENT, line),
        }
    }

    /// The order of commands (RFC 5321 §4.1.4).
    pub(super) fn execute(&mut self, now: Instant, command: Command, line: &[u8]) {
        use Command::{
            Auth, Bdat, Data, Ehlo, Expn, Helo, Help, Lhlo, Mail, Noop, NotOffered, Quit, Rcpt, Rset, StartTls, Vrfy,
            Xclient, Xforward,
        };
        if self.demands_tls() && !matches!(command, Ehlo(_) | Lhlo(_) | Noop | StartTls | Quit | Auth(..) | Bdat(_)) {
            return self.error(now, Stage::Command, replies::START_TLS_FIRST, verb(line));
        }
        match (self.state, command) {
            (_, Quit) => self.close(CloseReason::Quit, Some(replies::BYE)),
            (_, Ehlo(host)) => self.introduce(host, Protocol::Esmtp),
            (_, Helo(host)) => self.introduce(host, Protocol::Smtp),
            (_, Lhlo(host)) => self.introduce(host, Protocol::Lmtp),
            (_, Rset) => self.idle_command(Self::reset),
            (_, Noop) => self.idle_command(|session| session.say_fixed(replies::OK)),
            (_, Help) => self.idle_command(Self::help),
            (_, Vrfy | Mail(..)) if self.is_a_stranger() => {
                self.error(now, Stage::Mail, replies::AUTHENTICATE_FIRST, line);
            }
            (_, Vrfy) => self.idle_command(|session| session.say_fixed(replies::CANNOT_VERIFY)),
            (_, Expn) => self.error(now, Stage::Command, replies::NOT_OFFERED, line),
            (_, NotOffered) => self.not_offered(now, line),
            (_, StartTls) => self.start_tls(now, line),
            (_, Auth(mechanism, initial)) => self.auth(now, mechanism, initial.as_ref()),
            (_, Xclient(said)) => self.xclient(now, said, line),
            (_, Xforward(said)) => self.xforward(now, said, line),
            (State::Ready, Mail(path, parameters)) => self.mail(now, path, parameters, line),
            (State::Envelope, Rcpt(path, parameters)) => self.rcpt(now, path, parameters, line),
            (_, Bdat(chunk)) => self.bdat(now, chunk),
            (State::Envelope, Data) => self.data(now),
            (State::Chunks, Data) => self.data_behind_chunks(now, line),
            (State::Connected, Mail(..) | Rcpt(..) | Data) => {
                self.error(now, Stage::Command, self.greet_first(), line);
            }
            (_, Mail(..) | Rcpt(..) | Data) => self.error(now, Stage::Command, replies::BAD_SEQUENCE, line),
        }
    }

    /// RFC 2033 §4.1: a session of LMTP knows `LHLO` alone, one of SMTP knows it not.
    fn is_of_other_protocol(&self, line: &[u8]) -> bool {
        let verb = line.split(|octet| !octet.is_ascii_alphanumeric()).next().unwrap_or_default();
        let others = if self.config.protocol.is_lmtp() { &["EHLO", "HELO"][..] } else { &["LHLO"] };
        others.iter().any(|other| verb.eq_ignore_ascii_case(other.as_bytes()))
    }

    /// What is told who has not said how to call it.
    pub(super) fn greet_first(&self) -> Fixed {
        if self.config.protocol.is_lmtp() { replies::SAY_LHLO_FIRST } else { replies::SAY_EHLO_FIRST }
    }

    fn help(&mut self) {
        self.say_fixed(if self.config.protocol.is_lmtp() { replies::HELP_LMTP } else { replies::HELP });
    }

    /// Only the verb goes to the log: behind `AUTH` stands a password, and what follows may be one too.
    pub(super) fn not_offered(&mut self, now: Instant, line: &[u8]) {
        self.error(now, Stage::Command, replies::NOT_OFFERED, verb(line));
    }

    /// RFC 3207 §4: once, between `EHLO` and the first transaction or two transactions.
    pub(super) fn start_tls(&mut self, now: Instant, line: &[u8]) {
        if self.connection.tls().is_some() {
            self.error(now, Stage::Command, replies::BAD_SEQUENCE, line);
        } else if !self.config.offers_starttls {
            self.error(now, Stage::Command, replies::NOT_OFFERED, line);
        } else if self.state == State::Connected {
            self.error(now, Stage::Command, self.greet_first(), line);
        } else if self.state != State::Ready {
            self.error(now, Stage::Command, replies::BAD_SEQUENCE, line);
        } else {
            self.expect_silence();
            self.state = State::StartingTls;
            self.ask(Question::StartTls, ());
        }
    }

    pub(crate) fn tls_decided(&mut self, now: Instant, (): (), may_start: bool) {
        if may_start {
            self.say_fixed(replies::START_TLS);
        } else {
            self.state = State::Ready;
            self.error(now, Stage::Command, replies::TLS_UNAVAILABLE, b"STARTTLS");
        }
    }

    /// Whether the client has to prove first who it is.
    fn is_a_stranger(&self) -> bool {
        let is_required = self.config.authentication.as_ref().is_some_and(|authentication| authentication.is_required);
        is_required && self.state == State::Ready && self.connection.identity().is_none()
    }

    /// RFC 3207 §4: where authentication is demanded, which is for TLS, nearly nothing has a place before TLS.
    pub(super) fn demands_tls(&self) -> bool {
        let authentication = self.config.authentication.as_ref();
        self.config.offers_starttls
            && self.connection.tls().is_none()
            && authentication.is_some_and(|asked| asked.is_required && !asked.dangerously_in_clear)
    }

    /// `EHLO`, `HELO` and `LHLO`. The first one is progress.
    pub(super) fn introduce(&mut self, host: Host, protocol: Protocol) {
        let connection = self.connection.greeted(Greeting::new(host, protocol));
        self.introductions += 1;
        if self.introductions > 1 {
            self.idle_command(|session| session.consider(connection));
        } else {
            self.consider(connection);
        }
    }

    pub(super) fn consider(&mut self, connection: Arc<Connection>) {
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
    pub(super) fn introduced(&mut self, connection: Arc<Connection>) {
        self.end_transaction();
        self.state = State::Ready;
        self.event(|| SessionEvent::Greeted(connection.clone()));
        self.connection = connection;
        let mut lines = vec![self.config.hostname.to_string()];
        if self.is_esmtp() {
            lines.extend(self.extensions().iter().map(ToString::to_string));
        }
        write_lines(&mut self.output, code(250), lines.iter().map(String::as_str));
    }

    pub(super) fn extensions(&self) -> Vec<ServiceExtension> {
        let limits = &self.config.limits;
        let mut offered = vec![
            ServiceExtension::Pipelining,
            ServiceExtension::Size(limits.message_octets),
            ServiceExtension::EightBitMime,
            ServiceExtension::SmtpUtf8,
            ServiceExtension::Chunking,
            ServiceExtension::EnhancedStatusCodes,
            ServiceExtension::Limits { mail_max: limits.transactions, rcpt_max: limits.recipients },
        ];
        if self.config.honours_binarymime {
            offered.push(ServiceExtension::BinaryMime);
        }
        if self.config.offers_starttls && self.connection.tls().is_none() {
            offered.push(ServiceExtension::StartTls);
        }
        if self.offers_dsn() {
            offered.push(ServiceExtension::Dsn);
        }
        if self.offers_requiretls() {
            offered.push(ServiceExtension::RequireTls);
        }
        if let Some(until) = self.holds_until() {
            offered.push(ServiceExtension::FutureRelease(until));
        }
        if self.offers_deliver_by() {
            offered.push(ServiceExtension::DeliverBy);
        }
        if self.offers_priority() {
            offered.push(ServiceExtension::MtPriority);
        }
        if self.offers_prdr() {
            offered.push(ServiceExtension::Prdr);
        }
        if self.offers_rrvs() {
            offered.push(ServiceExtension::Rrvs);
        }
        offered.extend(self.refused_classes().cloned().map(ServiceExtension::NoSoliciting));
        let rights = self.connection.peer_rights();
        if rights.xclient {
            offered.push(ServiceExtension::Xclient { login: rights.xclient_login });
        }
        if rights.xforward {
            offered.push(ServiceExtension::Xforward);
        }
        let mechanisms = self.mechanisms();
        if !mechanisms.is_empty() {
            offered.push(ServiceExtension::Auth(mechanisms));
        }
        offered
    }

    /// RFC 3461 §3. Who has authenticated since `EHLO` may use what was not offered then.
    pub(super) fn offers_dsn(&self) -> bool {
        self.is_esmtp()
            && self.config.limits.command_line_octets >= LINE_WITH_DSN_OCTETS
            && match self.config.dsn {
                DsnOffer::Nobody => false,
                DsnOffer::KnownClients => self.connection.may_relay(),
                DsnOffer::Everybody => true,
            }
    }

    /// RFC 8689 §2: under TLS only, since what came in clear is not protected any more.
    fn offers_requiretls(&self) -> bool {
        self.config.honours_requiretls && self.connection.tls().is_some()
    }

    /// In LMTP each recipient has its reply anyway.
    fn offers_prdr(&self) -> bool {
        self.config.offers_prdr && !self.config.protocol.is_lmtp()
    }

    /// `EHLO` or `LHLO`: whether extensions were offered.
    pub(super) fn is_esmtp(&self) -> bool {
        self.connection.greeting().is_some_and(|greeting| greeting.protocol() != Protocol::Smtp)
    }

    pub(super) fn reset(&mut self) {
        self.end_transaction();
        self.say_fixed(replies::OK);
    }

    pub(super) fn mail(&mut self, now: Instant, path: ReversePath, mut parameters: MailParameters, line: &[u8]) {
        let limits = &self.config.limits;
        if self.transactions >= limits.transactions {
            return self.close(CloseReason::Limit, Some(replies::TOO_MANY_TRANSACTIONS));
        }
        let is_understood = parameters.unrecognized.is_none() && (parameters.dsn.is_empty() || self.offers_dsn());
        if !(is_understood && (self.is_esmtp() || parameters.is_empty())) {
            return self.error(now, Stage::Mail, replies::UNKNOWN_PARAMETER, line);
        }
        if parameters.body == Some(Body::BinaryMime) && !self.config.honours_binarymime {
            return self.error(now, Stage::Mail, replies::UNKNOWN_PARAMETER, line);
        }
        if (parameters.auth.is_some() && self.config.authentication.is_none())
            || (parameters.prdr && !self.offers_prdr())
            || (parameters.requiretls && !self.offers_requiretls())
            || (parameters.priority.is_some() && !self.offers_priority())
            || (parameters.deliver_by.is_some() && !self.offers_deliver_by())
            || (parameters.solicit.is_some() && self.refused_classes().is_none())
        {
            return self.error(now, Stage::Mail, replies::UNKNOWN_PARAMETER, line);
        }
        if let Some(reply) = parameters.future_release.and_then(|wish| self.why_not_held(wish)) {
            return self.error(now, Stage::Mail, reply, line);
        }
        if !(parameters.smtputf8 || path.is_ascii()) {
            return self.error(now, Stage::Mail, replies::NEEDS_SMTPUTF8, line);
        }
        if parameters.size_octets.is_some_and(|octets| octets > limits.message_octets) {
            self.refused_fixed(Stage::Mail, replies::MESSAGE_TOO_LARGE, line);
            return self.idle_command(|session| session.say_fixed(replies::MESSAGE_TOO_LARGE));
        }
        if !self.connection.may_relay() {
            // RFC 4954 §5: what a client says that we do not trust is read, and means nothing.
            parameters.auth = parameters.auth.map(|_| ReversePath::Null);
        }
        let is_lowered = self.lower_priority(&mut parameters);
        let deliver_by = parameters.deliver_by.and_then(|by| self.deliver_by_time(now, by));
        let id = TransactionId::new(self.connection.session_id(), self.transactions + 1);
        let (answers_each, forwarded) = (self.config.protocol.is_lmtp() || parameters.prdr, self.forwarded.take());
        let transaction = Transaction::new(id, path, parameters).answering_each(answers_each).forwarded_by(forwarded);
        let transaction = Box::new(transaction.with_priority_lowered(is_lowered).with_deliver_by(deliver_by));
        if self.connection.identity().is_some() {
            self.ask(Question::SendAs, transaction);
        } else {
            self.consider_sender(transaction);
        }
    }

    pub(super) fn consider_sender(&mut self, transaction: Box<Transaction>) {
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

    pub(super) fn begin_transaction(&mut self, transaction: Box<Transaction>) {
        if self.held.mail.is_none() {
            self.held.mail = self.solicitation(&transaction);
        }
        self.transactions += 1;
        self.transaction_id = Some(transaction.id());
        let is_lowered = transaction.is_priority_lowered();
        self.event(|| SessionEvent::SenderAccepted {
            transaction: transaction.id(),
            reverse_path: transaction.reverse_path().clone(),
        });
        self.transaction = Some(transaction);
        self.state = State::Envelope;
        self.say_fixed(if is_lowered { replies::SENDER_OK_PRIORITY_LOWERED } else { replies::SENDER_OK });
    }
}

fn verb(line: &[u8]) -> &[u8] {
    line.split(|&octet| octet == b' ').next().unwrap_or_default()
}

/// What may be the verb of a command that nobody knows. What else stands there may be for nobody's eyes.
fn possible_verb(line: &[u8]) -> &[u8] {
    let word = verb(line);
    if word.len() <= 16 && word.iter().all(u8::is_ascii_alphabetic) { word } else { &[] }
}

/// The first line of a request that a browser was made to send here: its body could hold commands.
fn is_http(line: &[u8]) -> bool {
    let version = line.rsplit(|&octet| octet == b' ').next().unwrap_or_default();
    version.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

/// A transient refusal as a greeting (RFC 5321 §3.8): `421`.
fn as_421(reply: &Reply) -> Reply {
    match reply.status() {
        Some(status) => Reply::new(code(421), status, reply.text().to_owned()),
        None => Reply::bare(code(421), reply.text().to_owned()),
    }
}
