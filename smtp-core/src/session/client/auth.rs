//! `AUTH` (RFC 4954), said behind `EHLO` and before any message.
//!
//! Without TLS nothing is said, unless the configuration says that passwords may be sent in clear. Where the client is to
//! authenticate and cannot, there is no session: mail that was to go out under a name never goes out without it. What
//! shows the secret to the server is said only to one whose certificate was verified (RFC 4954 §14).

use std::time::Instant;

use crate::sasl::client::{ClientAuth, ClientExchange};
use crate::syntax::mechanism::{Mechanism, Mechanisms};
use crate::syntax::reply::Reply;
use crate::syntax::secret::Secret;

use super::report::{SendCause, SendError, SendStage};
use super::{Awaited, ClientSession, State};

/// Octets of a line of the exchange, at most (RFC 4954 §4).
const LINE_OCTETS: usize = 12_288;
/// Octets of the command, at most; an initial response that has no room in it waits for a challenge (RFC 4954 §4, RFC 5321
/// §4.5.3.1.4).
const COMMAND_OCTETS: usize = 512;
/// Mechanisms in which the server sees what it could use elsewhere as this user.
const SHOWING: Mechanisms = Mechanisms::PASSWORD.with(Mechanism::OauthBearer).with(Mechanism::Xoauth2);

/// What the client authenticates with, and how far it is.
pub(super) struct Authenticating {
    auth: ClientAuth,
    nonce: String,
    exporter: Option<[u8; 32]>,
    exchange: Option<ClientExchange>,
    /// The initial response, where it had no room in the command.
    held: Option<Secret>,
    /// The client has said that it does not go on.
    is_cancelled: bool,
    /// The challenge of the server, as it came.
    pub(super) challenge: Vec<u8>,
}

impl ClientSession {
    /// Authenticates before any message. `nonce` is random and printable: 18 octets as Base64 do.
    #[must_use]
    pub fn with_auth(mut self, auth: ClientAuth, nonce: impl Into<String>) -> Self {
        self.authenticating = Some(Box::new(Authenticating {
            auth,
            nonce: nonce.into(),
            exporter: None,
            exchange: None,
            held: None,
            is_cancelled: false,
            challenge: Vec::new(),
        }));
        self
    }

    /// What the authentication is bound to where the server can: the `tls-exporter` of the connection (RFC 9266 §4.2), as it
    /// stands in [`TlsFacts::exporter`](crate::TlsFacts::exporter). To be said before [`ClientSession::tls_started`], or where
    /// the connection is under TLS from its start, before anything is received; without a client that authenticates it means
    /// nothing.
    pub fn bind_to(&mut self, exporter: Option<[u8; 32]>) {
        if let Some(authenticating) = &mut self.authenticating {
            authenticating.exporter = exporter;
        }
    }

    /// The connection is under TLS from its start (RFC 8314 §3).
    #[must_use]
    pub fn under_tls(self) -> Self {
        Self { is_under_tls: true, ..self }
    }

    /// All is said of the connection; who the client is, is not.
    pub(super) fn authenticate(&mut self, now: Instant) {
        let Some(authenticating) = &mut self.authenticating else {
            self.state = State::Ready;
            return;
        };
        let fail = |cause| SendError::new(SendStage::Auth, cause);
        if !self.is_under_tls && !authenticating.auth.may_be_in_clear() {
            return self.end(fail(SendCause::AuthInClear));
        }
        let offered = self.offers.mechanisms();
        let may_show = self.is_tls_verified || authenticating.auth.may_be_in_clear();
        let usable = if may_show { offered } else { offered.iter().filter(|it| !SHOWING.contains(*it)).collect() };
        let exporter = authenticating.exporter;
        let Some(choice) = authenticating.auth.choose(usable, exporter) else {
            let is_offered = authenticating.auth.choose(offered, exporter).is_some();
            return self.end(fail(if is_offered { SendCause::AuthNotVerified } else { SendCause::AuthNotOffered }));
        };
        let is_short = |response: &Option<String>| response.as_ref().is_none_or(|it| it.len() + 2 <= LINE_OCTETS);
        let begun = ClientExchange::begin(&authenticating.auth, choice, &authenticating.nonce);
        let Some((exchange, response)) = begun.filter(|(_, response)| is_short(response)) else {
            return self.end(fail(SendCause::Credential));
        };
        authenticating.exchange = Some(exchange);
        let alone = format!("AUTH {}\r\n", choice.mechanism);
        let line = match response {
            Some(response) if alone.len() + 1 + response.len() > COMMAND_OCTETS => {
                authenticating.held = Some(Secret::new(response));
                alone
            }
            Some(response) => format!("AUTH {} {response}\r\n", choice.mechanism),
            None => alone,
        };
        self.send(now, Awaited::Auth, line.as_bytes());
    }

    pub(super) fn challenged(&mut self, now: Instant) {
        let Some(authenticating) = &mut self.authenticating else { return };
        let challenge = std::mem::take(&mut authenticating.challenge);
        let challenge = challenge.strip_prefix(b" ").unwrap_or(&challenge);
        let response = if let Some(initial) = authenticating.held.take() {
            challenge.is_empty().then_some(initial)
        } else {
            let exchange = authenticating.exchange.as_mut();
            exchange.and_then(|exchange| exchange.respond(challenge)).map(Secret::new)
        };
        match response {
            Some(response) => self.send(now, Awaited::Auth, format!("{}\r\n", response.expose()).as_bytes()),
            None if authenticating.is_cancelled => self.broken(),
            None => {
                authenticating.exchange = None;
                authenticating.is_cancelled = true;
                self.send(now, Awaited::Auth, b"*\r\n");
            }
        }
    }

    /// Whether the client has said that it does not go on: a refusal is what it waits for.
    pub(super) fn has_cancelled(&self) -> bool {
        self.authenticating.as_ref().is_some_and(|authenticating| authenticating.is_cancelled)
    }

    /// The server does not keep to the mechanism.
    pub(super) fn broken(&mut self) {
        self.end(SendError::new(SendStage::Auth, SendCause::AuthBroken));
    }

    /// The server says that all is well. With SCRAM it must have proved that it knows the user.
    pub(super) fn authenticated(&mut self, reply: Reply) {
        let said_all = self.authenticating.take().filter(|authenticating| authenticating.held.is_none());
        let exchange = said_all.and_then(|authenticating| authenticating.exchange);
        if reply.code().get() != 235 {
            self.distrust(SendStage::Auth, SendCause::Misplaced(reply));
        } else if exchange.is_some_and(|exchange| exchange.may_succeed()) {
            self.state = State::Ready;
        } else {
            self.distrust(SendStage::Auth, SendCause::AuthBroken);
        }
    }
}
