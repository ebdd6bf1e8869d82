//! `AUTH` (RFC 4954), said behind `EHLO` and before any message.
//!
//! Without TLS nothing is said, unless the configuration says that passwords may be sent in clear. Where the client is to
//! authenticate and cannot, there is no session: mail that was to go out under a name never goes out without it.

use std::time::Instant;

use crate::sasl::client::{ClientAuth, ClientExchange};
use crate::syntax::reply::Reply;

use super::report::{SendCause, SendError, SendStage};
use super::{Awaited, ClientSession, State};

/// Octets of a line of the exchange, at most (RFC 4954 §4).
const LINE_OCTETS: usize = 12_288;

/// What the client authenticates with, and how far it is.
#[derive(Debug)]
pub(super) struct Authenticating {
    auth: ClientAuth,
    nonce: String,
    exchange: Option<ClientExchange>,
    /// The challenge of the server, as it came.
    pub(super) challenge: Vec<u8>,
}

impl ClientSession {
    /// Authenticates before any message. `nonce` is random and printable: 18 octets as Base64 do.
    #[must_use]
    pub fn with_auth(mut self, auth: ClientAuth, nonce: impl Into<String>) -> Self {
        let nonce = nonce.into();
        self.authenticating = Some(Box::new(Authenticating { auth, nonce, exchange: None, challenge: Vec::new() }));
        self
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
        let Some(mechanism) = authenticating.auth.choose(self.offers.mechanisms()) else {
            return self.end(fail(SendCause::AuthNotOffered));
        };
        let begun = ClientExchange::begin(&authenticating.auth, mechanism, &authenticating.nonce);
        let line = begun.map(|(exchange, response)| {
            authenticating.exchange = Some(exchange);
            format!("AUTH {mechanism} {response}\r\n")
        });
        match line.filter(|line| line.len() <= LINE_OCTETS) {
            Some(line) => self.send(now, Awaited::Auth, line.as_bytes()),
            None => self.end(fail(SendCause::Credential)),
        }
    }

    pub(super) fn challenged(&mut self, now: Instant) {
        let Some(authenticating) = &mut self.authenticating else { return };
        let challenge = std::mem::take(&mut authenticating.challenge);
        let challenge = challenge.strip_prefix(b" ").unwrap_or(&challenge);
        let exchange = authenticating.exchange.as_mut();
        match exchange.and_then(|exchange| exchange.respond(challenge)) {
            Some(response) => self.send(now, Awaited::Auth, format!("{response}\r\n").as_bytes()),
            None => self.end(SendError::new(SendStage::Auth, SendCause::AuthBroken)),
        }
    }

    /// The server says that all is well. With SCRAM it must have proved that it knows the user.
    pub(super) fn authenticated(&mut self, reply: Reply) {
        let exchange = self.authenticating.take().and_then(|authenticating| authenticating.exchange);
        if reply.code().get() != 235 {
            self.distrust(SendStage::Auth, SendCause::Misplaced(reply));
        } else if exchange.is_some_and(|exchange| exchange.may_succeed()) {
            self.state = State::Ready;
        } else {
            self.distrust(SendStage::Auth, SendCause::AuthBroken);
        }
    }
}
