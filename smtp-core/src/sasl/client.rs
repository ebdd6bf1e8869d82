//! SASL (RFC 4422), the side of the client: what it proves itself with, and the exchange in which it does.

use subtle::ConstantTimeEq;

use crate::syntax::mechanism::{Mechanism, Mechanisms};
use crate::syntax::secret::Secret;

use super::base64;
use super::keys::{ScramHash, ScramKeys};
use super::prepare::prepared;

/// The most iterations that a server may ask for: 200,000. More would keep the thread too long.
const MOST_ITERATIONS: u32 = 200_000;

/// With what a client authenticates (RFC 4954), under TLS only. What shows the secret to the server, which SCRAM does not, is
/// said only where the certificate was verified (RFC 4954 §14).
///
/// ```
/// use smtp_core::{ClientAuth, Mechanism, Mechanisms, Secret};
///
/// let auth = ClientAuth::password("alice", Secret::new("wonderland"))
///     .only(Mechanisms::from([Mechanism::ScramSha256]));
/// ```
#[derive(Debug, Clone)]
pub struct ClientAuth {
    user: String,
    secret: Secret,
    mechanisms: Mechanisms,
    in_clear: bool,
}

impl ClientAuth {
    /// A password: `SCRAM-SHA-256` where the server offers it, otherwise `PLAIN`.
    pub fn password(user: impl Into<String>, password: Secret) -> Self {
        let mechanisms = Mechanisms::from([Mechanism::ScramSha256, Mechanism::Plain]);
        Self { user: user.into(), secret: password, mechanisms, in_clear: false }
    }

    /// A bearer token: `OAUTHBEARER` where the server offers it, otherwise `XOAUTH2`.
    pub fn token(user: impl Into<String>, token: Secret) -> Self {
        let mechanisms = Mechanisms::from([Mechanism::OauthBearer, Mechanism::Xoauth2]);
        Self { user: user.into(), secret: token, mechanisms, in_clear: false }
    }

    /// Only with those of its mechanisms.
    #[must_use]
    pub fn only(mut self, mechanisms: Mechanisms) -> Self {
        self.mechanisms = self.mechanisms.iter().filter(|&mechanism| mechanisms.contains(mechanism)).collect();
        self
    }

    /// Also without TLS, and to a server whose certificate was not verified: everybody between client and server can read the
    /// password and use it.
    #[must_use]
    pub fn dangerously_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    pub(crate) fn may_be_in_clear(&self) -> bool {
        self.in_clear
    }

    /// The strongest of its mechanisms that a server offers.
    pub(crate) fn choose(&self, offered: Mechanisms) -> Option<Mechanism> {
        self.mechanisms.iter().find(|&mechanism| offered.contains(mechanism))
    }
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct ClientExchange {
    state: State,
}

#[derive(Debug)]
enum State {
    /// All was said; what the server challenges has no answer but the empty one.
    Said,
    /// The first response of SCRAM was sent.
    Scram {
        password: Secret,
        bare: String,
        nonce: String,
    },
    /// The proof was sent; this is what the server must prove itself with.
    Proved {
        signature: Secret,
    },
    /// The server has proved that it knows the user.
    Signed,
    Over,
}

impl ClientExchange {
    /// The exchange and its initial response; `None` where user or password cannot be sent in it.
    pub(crate) fn begin(auth: &ClientAuth, mechanism: Mechanism, nonce: &str) -> Option<(Self, String)> {
        let (user, secret) = (&auth.user, auth.secret.expose());
        if user.is_empty() || secret.is_empty() || [user, secret].iter().any(|text| text.contains(['\0', '\x01'])) {
            return None;
        }
        let (state, response) = match mechanism {
            Mechanism::Plain => {
                let (user, password) = (prepared(user.as_bytes())?, prepared(secret.as_bytes())?);
                (State::Said, format!("\0{user}\0{password}"))
            }
            Mechanism::OauthBearer => (State::Said, format!("n,a={},\x01auth=Bearer {secret}\x01\x01", escape(user))),
            Mechanism::Xoauth2 => (State::Said, format!("user={user}\x01auth=Bearer {secret}\x01\x01")),
            Mechanism::ScramSha256 => {
                let (user, password) = (prepared(user.as_bytes())?, Secret::new(prepared(secret.as_bytes())?));
                let bare = format!("n={},r={nonce}", escape(&user));
                let response = format!("n,,{bare}");
                (State::Scram { password, bare, nonce: nonce.to_owned() }, response)
            }
            _ => return None,
        };
        Some((Self { state }, base64::encode(response.as_bytes())))
    }

    /// The response to a challenge; `None` where the exchange is to be cancelled.
    pub(crate) fn respond(&mut self, challenge: &[u8]) -> Option<String> {
        let challenge = String::from_utf8(base64::decode(challenge)?).ok()?;
        match std::mem::replace(&mut self.state, State::Over) {
            // RFC 7628 §3.2.3: what the server says of a token that it rejects; `535` follows.
            State::Said => Some("AQ==".to_owned()),
            State::Scram { password, bare, nonce } => {
                let (response, signature) = prove(&password, &bare, &nonce, &challenge)?;
                self.state = State::Proved { signature };
                Some(base64::encode(response.as_bytes()))
            }
            State::Proved { signature } => {
                let is_right: bool = challenge.as_bytes().ct_eq(signature.expose().as_bytes()).into();
                self.state = if is_right { State::Signed } else { State::Over };
                is_right.then(String::new)
            }
            State::Signed | State::Over => None,
        }
    }

    /// Whether the server may say now that all is well.
    pub(crate) fn may_succeed(&self) -> bool {
        matches!(self.state, State::Said | State::Signed)
    }
}

/// The last response of SCRAM, and what the server has to answer (RFC 5802 §3).
fn prove(password: &Secret, bare: &str, nonce: &str, challenge: &str) -> Option<(String, Secret)> {
    let mut attributes = challenge.split(',');
    let whole_nonce = attributes.next()?.strip_prefix("r=")?;
    let salt = base64::decode(attributes.next()?.strip_prefix("s=")?.as_bytes())?;
    let iterations: u32 = attributes.next()?.strip_prefix("i=")?.parse().ok()?;
    // RFC 5802 §5.1: the server adds to our nonce. RFC 7677 §4: so many iterations at least.
    if whole_nonce.len() <= nonce.len() || !whole_nonce.starts_with(nonce) || iterations > MOST_ITERATIONS {
        return None;
    }
    let hash = ScramHash::Sha256;
    if salt.is_empty() || iterations < ScramKeys::LEAST_ITERATIONS {
        return None;
    }
    let salted = hash.salted_password(password.expose().as_bytes(), &salt, iterations);
    let client_key = hash.hmac(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={whole_nonce}");
    let auth_message = format!("{bare},{challenge},{without_proof}");
    let signature = hash.hmac(&hash.digest(&client_key), auth_message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
    let of_server = hash.hmac(&hash.hmac(&salted, b"Server Key"), auth_message.as_bytes());
    let expected = Secret::new(format!("v={}", base64::encode(&of_server)));
    Some((format!("{without_proof},p={}", base64::encode(&proof)), expected))
}

/// A `saslname` (RFC 5802 §5.1).
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(auth: &ClientAuth, mechanism: Mechanism, nonce: &str) -> Option<(ClientExchange, String)> {
        let (exchange, response) = ClientExchange::begin(auth, mechanism, nonce)?;
        Some((exchange, String::from_utf8(base64::decode(response.as_bytes())?).ok()?))
    }

    #[test] // RFC 4616 §2, RFC 7628 §4.1
    fn initial_responses() {
        let password = |user: &str, password: &str| ClientAuth::password(user, Secret::new(password));
        let token = ClientAuth::token("a,b=c", Secret::new("tok"));
        for (auth, mechanism, expected) in [
            (password("tim", "tanstaaftanstaaf"), Mechanism::Plain, Some("\0tim\0tanstaaftanstaaf")),
            (password("a,b=c", "x"), Mechanism::ScramSha256, Some("n,,n=a=2Cb=3Dc,r=nonce")),
            (token.clone(), Mechanism::OauthBearer, Some("n,a=a=2Cb=3Dc,\x01auth=Bearer tok\x01\x01")),
            (token, Mechanism::Xoauth2, Some("user=a,b=c\x01auth=Bearer tok\x01\x01")),
            (password("tim", ""), Mechanism::Plain, None),
            (password("", "x"), Mechanism::Plain, None),
            (password("t\0im", "x"), Mechanism::Plain, None),
            (password("tim", "x\x01"), Mechanism::Plain, None),
            (password("tim", "x"), Mechanism::Login, None),
        ] {
            let response = begin(&auth, mechanism, "nonce").map(|(_, response)| response);
            assert_eq!(response.as_deref(), expected, "{mechanism}");
        }
    }

    #[test] // RFC 7677 §3, and everything that a server can say wrongly.
    fn r5802_a_server_has_to_prove_itself() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        let auth = ClientAuth::password("user", Secret::new("pencil"));
        for (challenge, signature, proves, succeeds) in [
            (challenge.to_owned(), signature, true, true),
            (challenge.to_owned(), "v=AAAA", true, false),
            (challenge.to_owned(), "", true, false),
            (challenge.to_owned(), "e=invalid-proof", true, false),
            (challenge.replace("4096", "4095"), signature, false, false),
            (challenge.replace("4096", "4000000000"), signature, false, false),
            (challenge.replace("rOpr", "xOpr"), signature, false, false),
            (format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), signature, false, false),
            (format!("r={nonce}x,s=,i=4096"), signature, false, false),
            (format!("m=1,{challenge}"), signature, false, false),
            (String::new(), signature, false, false),
        ] {
            let (mut exchange, _) = begin(&auth, Mechanism::ScramSha256, nonce).expect("a user and a password");
            let response = exchange.respond(base64::encode(challenge.as_bytes()).as_bytes());
            assert_eq!(response.is_some(), proves, "{challenge}");
            assert!(!exchange.may_succeed(), "{challenge}: nothing is proved yet");
            let last = exchange.respond(base64::encode(signature.as_bytes()).as_bytes());
            assert_eq!((last.as_deref(), exchange.may_succeed()), (succeeds.then_some(""), succeeds), "{signature}");
            let shown = format!("{auth:?} {exchange:?}");
            assert!(!shown.contains("pencil"), "{shown}");
        }
    }
}
