//! SASL (RFC 4422): exchanges of challenges and responses, without any I/O. The side of the client is in [`client`]; all
//! else is the side of the server.
//!
//! An [`Exchange`] takes decoded responses and says what comes next: a challenge, a question for the application, or the
//! end. One file for each mechanism: [`plain`], [`login`], [`scram`], [`oauth`], [`external`]. [`keys`] has what SCRAM
//! stores of a password, [`password_hash`] what is stored where only the server checks it, [`secret`] what nonces and the keys of unknown users derive from, [`base64`] the coding of
//! responses, and [`prepare`] the form in which names and passwords are compared.

pub(crate) mod base64;
pub(crate) mod client;
pub(crate) mod credential;
pub(crate) mod keys;
pub(crate) mod password_hash;
pub(crate) mod secret;

mod external;
mod login;
mod oauth;
mod plain;
mod prepare;
mod scram;

use std::fmt;

use crate::syntax::mechanism::Mechanism;

use credential::{ClientCertificate, Credential};
use keys::ScramKeys;
use secret::ServerSecret;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Send this, and take the response.
    Challenge(Vec<u8>),
    /// Have the application check this, and say so to [`Exchange::checked`].
    Check(Credential),
    /// Have the application look for the keys of this user, and give them to [`Exchange::found`].
    FindKeys(String),
    /// The client is who it says. It wants to act as this one, where that is another name than it authenticated with.
    Done { authzid: Option<String> },
    /// The end, without success.
    Failed(Failure),
}

/// Why an exchange ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The response is not in the grammar of the mechanism.
    Malformed,
    /// Unknown user or wrong credential, without saying which.
    Rejected,
}

/// What a mechanism needs to know besides the responses.
#[derive(Clone)]
pub(crate) struct Facts {
    /// The `tls-exporter` of the connection, where `-PLUS` mechanisms are offered (RFC 9266).
    pub(crate) channel_binding: Option<[u8; 32]>,
    /// The certificate that the client showed.
    pub(crate) certificate: Option<ClientCertificate>,
    /// Our part of the nonce: printable ASCII without a comma.
    pub(crate) nonce: String,
    /// What the keys of unknown users derive from.
    pub(crate) secret: ServerSecret,
    /// How many iterations they claim.
    pub(crate) iterations: u32,
}

/// What each mechanism does at each step. A step that is not its turn fails.
trait Steps: Send + Sync {
    /// The challenge before the first response. Empty where the client speaks first.
    fn begin(&self) -> &'static str {
        ""
    }

    fn respond(&mut self, response: &[u8]) -> Progress;

    fn checked(&mut self, _accepted: bool) -> Progress {
        Progress::Failed(Failure::Rejected)
    }

    fn found(&mut self, _keys: Option<ScramKeys>) -> Progress {
        Progress::Failed(Failure::Rejected)
    }
}

/// One attempt to authenticate.
pub(crate) struct Exchange {
    mechanism: Mechanism,
    steps: Box<dyn Steps>,
}

impl Exchange {
    pub(crate) fn new(mechanism: Mechanism, facts: Facts) -> Self {
        let steps: Box<dyn Steps> = match mechanism {
            Mechanism::Plain => Box::new(plain::Plain::default()),
            Mechanism::Login => Box::new(login::Login::default()),
            Mechanism::External => Box::new(external::External::new(facts.certificate)),
            Mechanism::OauthBearer => Box::new(oauth::Bearer::new(oauth::Form::OauthBearer)),
            Mechanism::Xoauth2 => Box::new(oauth::Bearer::new(oauth::Form::Xoauth2)),
            Mechanism::ScramSha1 | Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                Box::new(scram::Scram::new(mechanism, facts))
            }
        };
        Self { mechanism, steps }
    }

    pub(crate) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The client sent no initial response.
    pub(crate) fn begin(&self) -> Progress {
        Progress::Challenge(self.steps.begin().into())
    }

    /// The client sent this, decoded.
    pub(crate) fn respond(&mut self, response: &[u8]) -> Progress {
        self.steps.respond(response)
    }

    /// The application has checked the credential.
    pub(crate) fn checked(&mut self, accepted: bool) -> Progress {
        self.steps.checked(accepted)
    }

    /// The application has looked for the keys; `None` where there is no such user.
    pub(crate) fn found(&mut self, keys: Option<ScramKeys>) -> Progress {
        self.steps.found(keys)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// The end of an exchange whose credential was checked, and nothing else is to be said.
fn outcome(accepted: bool, authzid: Option<String>) -> Progress {
    if accepted { Progress::Done { authzid } } else { Progress::Failed(Failure::Rejected) }
}

/// An authorization identity that says more than the name the client authenticates with.
fn other_than(user: &str, authzid: String) -> Option<String> {
    Some(authzid).filter(|authzid| !authzid.is_empty() && authzid != user)
}
