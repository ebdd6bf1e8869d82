//! `AUTH` (RFC 4954): the exchange with the client, and what the application is asked meanwhile.
//!
//! Nothing that a client sends here reaches an event, except the name it gave in an attempt that failed. Without TLS no
//! exchange begins, unless the listener says that passwords may be sent in clear.

use std::time::{Duration, Instant};

use crate::sasl::credential::{ClientCertificate, Credential};
use crate::sasl::keys::{ScramHash, ScramKeys};
use crate::sasl::{Exchange, Facts, Failure, Progress, base64};
use crate::session::decision::{AuthError, Identity, Question, ScramUser};
use crate::session::event::{CloseReason, SessionEvent, Stage};
use crate::session::replies::{self, Fixed};
use crate::session::tls::TlsFacts;
use crate::session::transaction::Transaction;
use crate::syntax::line::{LineLimits, LineReader};
use crate::syntax::mechanism::{Mechanism, Mechanisms};
use crate::syntax::secret::Secret;
use crate::syntax::text::{SafeText, to_text};

use super::{ServerSession, State};

/// A failed attempt is answered at most so many times as late as the first.
const MOST_DELAYS: u32 = 32;

/// What the line is that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LineKind {
    #[default]
    Command,
    /// `AUTH`, or a response.
    Exchange,
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    Succeeded,
    Failed,
    /// It was cancelled, or could not be looked at.
    Undecided,
}

/// An exchange that goes on.
#[derive(Debug)]
pub(super) struct Authenticating {
    exchange: Exchange,
    /// Who the client will be if the exchange ends well.
    identity: Option<Identity>,
    /// The name that the client gave.
    user: SafeText,
    /// The application has said no, and the mechanism has one more step: who cancels now has failed all the same.
    is_rejected: bool,
}

impl ServerSession {
    /// What `EHLO` lists, and `AUTH` takes, on this connection.
    pub(super) fn mechanisms(&self) -> Mechanisms {
        let Some(authentication) = &self.config.authentication else { return Mechanisms::NONE };
        let facts = self.connection.tls();
        if facts.is_none() && !authentication.dangerously_in_clear {
            return Mechanisms::NONE;
        }
        let mut mechanisms = authentication.mechanisms;
        if facts.is_none_or(|facts| facts.exporter.is_none()) {
            mechanisms = mechanisms.without(Mechanism::ScramSha256Plus);
        }
        if facts.is_none_or(|facts| facts.client_certificate.is_none()) {
            mechanisms = mechanisms.without(Mechanism::External);
        }
        mechanisms
    }

    /// The command. RFC 4954 §4: once, not in a transaction, and not before it was offered.
    pub(super) fn auth(&mut self, now: Instant, mechanism: Option<Mechanism>, initial: Option<&Secret>) {
        let Some(authentication) = &self.config.authentication else { return self.not_offered(now, b"AUTH") };
        let offered = self.mechanisms();
        let mechanism = mechanism.filter(|&mechanism| offered.contains(mechanism));
        let is_esmtp = self.is_esmtp();
        let refusal = match mechanism {
            _ if self.connection.tls().is_none() && !authentication.dangerously_in_clear => {
                // RFC 4954 §4: 538; where nothing at all goes in clear, RFC 3207 §4 has its own.
                if authentication.is_required { replies::START_TLS_FIRST } else { replies::ENCRYPTION_NEEDED }
            }
            _ if self.connection.identity().is_some() || self.state == State::Envelope => replies::BAD_SEQUENCE,
            _ if self.state != State::Ready || !is_esmtp => self.greet_first(),
            None => replies::UNKNOWN_MECHANISM,
            Some(mechanism) => return self.begin_exchange(now, mechanism, initial),
        };
        self.error(now, Stage::Authentication, refusal, &[]);
    }

    fn begin_exchange(&mut self, now: Instant, mechanism: Mechanism, initial: Option<&Secret>) {
        let Some(authentication) = &self.config.authentication else { return };
        self.exchanges += 1;
        let facts = self.connection.tls();
        let binds = self.mechanisms().contains(Mechanism::ScramSha256Plus);
        let certificate = |facts: &TlsFacts| facts.client_certificate.clone().map(ClientCertificate::from_der);
        let facts = Facts {
            channel_binding: facts.and_then(|facts| facts.exporter).filter(|_| binds),
            certificate: facts.and_then(certificate),
            nonce: authentication.secret.nonce(&format!("{}-{}", self.connection.session_id(), self.exchanges)),
            secret: authentication.secret.clone(),
            iterations: authentication.iterations_of_nobody,
        };
        let exchange = Exchange::new(mechanism, facts);
        let user = SafeText::default();
        self.authenticating = Some(Box::new(Authenticating { exchange, identity: None, user, is_rejected: false }));
        match initial.map(Secret::expose) {
            None => self.step(now, |exchange| exchange.begin()),
            // RFC 4954 §4: an initial response of no octets.
            Some("=") => self.step(now, |exchange| exchange.respond(&[])),
            Some(text) => self.respond(now, text.as_bytes()),
        }
    }

    /// A line of the client while an exchange goes on.
    pub(super) fn authentication_line(&mut self, now: Instant, line: &[u8]) {
        self.waiting_since = now;
        if line == b"*" {
            let is_rejected = self.authenticating.as_ref().is_some_and(|authenticating| authenticating.is_rejected);
            if is_rejected {
                self.fail_authentication(now, replies::CREDENTIAL_REJECTED);
            } else {
                self.end_exchange(now, replies::AUTHENTICATION_CANCELLED);
            }
        } else {
            self.respond(now, line);
        }
    }

    fn respond(&mut self, now: Instant, text: &[u8]) {
        match base64::decode(text) {
            Some(response) => self.step(now, |exchange| exchange.respond(&response)),
            None => self.end_exchange(now, replies::BAD_BASE64),
        }
    }

    fn step(&mut self, now: Instant, step: impl FnOnce(&mut Exchange) -> Progress) {
        let Some(authenticating) = &mut self.authenticating else { return };
        match step(&mut authenticating.exchange) {
            Progress::Challenge(challenge) => {
                self.output.extend_from_slice(b"334 ");
                self.output.extend_from_slice(base64::encode(&challenge).as_bytes());
                self.output.extend_from_slice(b"\r\n");
            }
            Progress::Check(credential) => {
                authenticating.user = SafeText::new(credential.user().unwrap_or_default().to_owned());
                self.ask(Question::Authenticate, credential);
            }
            Progress::FindKeys(user) => {
                authenticating.user = SafeText::new(user.clone());
                let is_sha1 = authenticating.exchange.mechanism() == Mechanism::ScramSha1;
                let hash = if is_sha1 { ScramHash::Sha1 } else { ScramHash::Sha256 };
                self.ask(Question::ScramKeys, ScramUser { user, hash });
            }
            Progress::Done { authzid } => match (authenticating.identity.take(), authzid) {
                (Some(identity), None) => self.authenticated(identity),
                (Some(identity), Some(authzid)) => self.ask(Question::ActAs, (identity, authzid)),
                (None, _) => self.fail_authentication(now, replies::CREDENTIAL_REJECTED),
            },
            Progress::Failed(Failure::Malformed) => self.end_exchange(now, replies::MALFORMED_RESPONSE),
            Progress::Failed(Failure::Rejected) => self.fail_authentication(now, replies::CREDENTIAL_REJECTED),
        }
    }

    // -- answers

    pub(crate) fn credential_checked(&mut self, now: Instant, _: Credential, answer: Result<Identity, AuthError>) {
        let Some(authenticating) = &mut self.authenticating else { return };
        match answer {
            Ok(identity) => {
                authenticating.identity = Some(identity);
                self.step(now, |exchange| exchange.checked(true));
            }
            Err(AuthError::Rejected) => {
                authenticating.is_rejected = true;
                self.step(now, |exchange| exchange.checked(false));
            }
            Err(error) => self.not_authenticated(now, error),
        }
    }

    pub(crate) fn keys_found(
        &mut self,
        now: Instant,
        _: ScramUser,
        answer: Result<Option<(ScramKeys, Identity)>, AuthError>,
    ) {
        let Some(authenticating) = &mut self.authenticating else { return };
        let found = match answer {
            Ok(found) => found,
            // Who says so of a name says whether there is one: it is as if there were none.
            Err(AuthError::Rejected) => None,
            Err(error) => return self.not_authenticated(now, error),
        };
        let (keys, identity) = found.unzip();
        authenticating.identity = identity;
        self.step(now, |exchange| exchange.found(keys));
    }

    pub(crate) fn acted_as(&mut self, now: Instant, _: (Identity, String), answer: Result<Identity, AuthError>) {
        match answer {
            Ok(identity) => self.authenticated(identity),
            Err(error) => self.not_authenticated(now, error),
        }
    }

    /// RFC 6409 §6.1: an authenticated client sends as itself, or as somebody it may stand for. Refused at `MAIL`.
    pub(crate) fn sender_checked(
        &mut self,
        _now: Instant,
        transaction: Box<Transaction>,
        answer: Result<bool, AuthError>,
    ) {
        let reply = match answer {
            Ok(true) => return self.consider_sender(transaction),
            Ok(false) | Err(AuthError::Rejected) => replies::NOT_YOUR_ADDRESS,
            Err(_) => replies::TRY_LATER,
        };
        self.refused_fixed(Stage::Mail, reply, to_text(transaction.reverse_path()).as_bytes());
        self.idle_command(|session| session.say_fixed(reply));
    }

    // -- ends

    /// RFC 4954 §4: nothing else changes; a new `EHLO` is not needed.
    fn authenticated(&mut self, identity: Identity) {
        let Some(authenticating) = self.authenticating.take() else { return };
        let mechanism = authenticating.exchange.mechanism();
        self.connection = self.connection.authenticated(identity.clone(), mechanism);
        self.login.get_or_insert(LoginOutcome::Succeeded);
        self.event(|| SessionEvent::Authenticated { identity, mechanism });
        self.say_fixed(replies::AUTHENTICATED);
    }

    fn not_authenticated(&mut self, now: Instant, error: AuthError) {
        match error {
            AuthError::Rejected => self.fail_authentication(now, replies::CREDENTIAL_REJECTED),
            AuthError::TooWeak => self.fail_authentication(now, replies::MECHANISM_TOO_WEAK),
            AuthError::ChangeNeeded => self.postpone(replies::PASSWORD_CHANGE_NEEDED),
            AuthError::Unavailable => self.postpone(replies::AUTHENTICATION_UNAVAILABLE),
        }
    }

    /// No fault of the client, so no error of it.
    fn postpone(&mut self, reply: Fixed) {
        let user = self.authenticating.take().map(|authenticating| authenticating.user).unwrap_or_default();
        self.login.get_or_insert(LoginOutcome::Undecided);
        self.refused_fixed(Stage::Authentication, reply, user.as_str().as_bytes());
        self.idle_command(|session| session.say_fixed(reply));
    }

    /// SECURITY D-20: each guess is answered twice as late as the one before.
    fn fail_authentication(&mut self, now: Instant, reply: Fixed) {
        let user = self.authenticating.take().map(|authenticating| authenticating.user).unwrap_or_default();
        self.login.get_or_insert(LoginOutcome::Failed);
        let delay = self.config.limits.authentication_delay.saturating_mul(self.guesses_delay);
        self.guesses_delay = (self.guesses_delay * 2).min(MOST_DELAYS);
        self.error_after(now, Stage::Authentication, reply, user.as_str().as_bytes(), delay);
    }

    /// What the client sent was no guess.
    fn end_exchange(&mut self, now: Instant, reply: Fixed) {
        self.authenticating = None;
        self.login.get_or_insert(LoginOutcome::Undecided);
        self.error_after(now, Stage::Authentication, reply, &[], Duration::ZERO);
    }

    // -- lines

    /// STANDARDS LI3: the lines of an exchange may be longer than commands.
    pub(super) fn line_limits(&mut self, lines: &LineReader, input: &[u8]) -> LineLimits {
        let limits = &self.config.limits;
        let mut line = limits.line();
        if self.config.authentication.is_some() {
            if let Some(begins) = lines.begins_with(input, b"AUTH ") {
                self.line_kind =
                    if begins || self.authenticating.is_some() { LineKind::Exchange } else { LineKind::Command };
            }
            if self.line_kind == LineKind::Exchange {
                line.line_octets = line.line_octets.max(limits.authentication_line_octets);
                line.discard_octets = line.discard_octets.max(line.line_octets as u64);
            }
        }
        line
    }

    /// A line was longer than its limit.
    pub(super) fn line_too_long(&mut self, now: Instant) {
        if self.line_kind == LineKind::Exchange {
            self.end_exchange(now, replies::RESPONSE_TOO_LONG);
        } else {
            self.error(now, Stage::Command, replies::LINE_TOO_LONG, &[]);
        }
    }

    /// A line was so long that its end is not waited for.
    pub(super) fn endless_line(&mut self) {
        let is_exchange = self.line_kind == LineKind::Exchange;
        let (stage, reply) = if is_exchange {
            (Stage::Authentication, replies::RESPONSE_TOO_LONG)
        } else {
            (Stage::Command, replies::LINE_TOO_LONG)
        };
        self.refused_fixed(stage, reply, &[]);
        self.close(CloseReason::Limit, Some(reply));
    }
}
