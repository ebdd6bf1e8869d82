//! SASL (RFC 4422), the side of the client: what it proves itself with, and the exchange in which it does.

use std::fmt;

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
    /// A password: `SCRAM-SHA-256-PLUS` where the server offers it and the connection can be bound to (TLS 1.3), otherwise
    /// `SCRAM-SHA-256`, `PLAIN`, and `LOGIN` in the end.
    pub fn password(user: impl Into<String>, password: Secret) -> Self {
        let scram = Mechanisms::from([Mechanism::ScramSha256Plus, Mechanism::ScramSha256]);
        let mechanisms = scram.iter().chain(Mechanisms::PASSWORD.iter()).collect();
        Self { user: user.into(), secret: password, mechanisms, in_clear: false }
    }

    /// The certificate that the client shows in the TLS handshake, by `EXTERNAL` (RFC 4422 Appendix A): see
    /// [`ClientTls::with_certificate`](crate::ClientTls::with_certificate). The server knows whose it is.
    pub fn certificate() -> Self {
        let mechanisms = Mechanisms::from([Mechanism::External]);
        Self { user: String::new(), secret: Secret::new(""), mechanisms, in_clear: false }
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

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn may_be_in_clear(&self) -> bool {
        self.in_clear
    }

    /// The strongest of its mechanisms that a server offers; the exporter is that of the TLS connection, where it has one.
    pub(crate) fn choose(&self, offered: Mechanisms, exporter: Option<[u8; 32]>) -> Option<Choice> {
        let can_bind = self.mechanisms.contains(Mechanism::ScramSha256Plus);
        let Some(exporter) = exporter.filter(|_| can_bind) else {
            let offered = offered.without(Mechanism::ScramSha256Plus);
            return self.strongest(offered).map(|mechanism| Choice { mechanism, binding: Binding::Unable });
        };
        let is_offered = offered.contains(Mechanism::ScramSha256Plus);
        let binding = if is_offered { Binding::Bound(exporter) } else { Binding::NotOffered };
        self.strongest(offered).map(|mechanism| Choice { mechanism, binding })
    }

    fn strongest(&self, offered: Mechanisms) -> Option<Mechanism> {
        self.mechanisms.iter().find(|&mechanism| offered.contains(mechanism))
    }
}

/// A mechanism, and what it says of the connection.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) mechanism: Mechanism,
    binding: Binding,
}

impl Choice {
    /// That mechanism, and nothing of the connection.
    pub(crate) fn unbound(mechanism: Mechanism) -> Self {
        Self { mechanism, binding: Binding::Unable }
    }
}

/// The `gs2-cbind-flag` (RFC 5802 §6).
#[derive(Clone, Copy)]
enum Binding {
    /// `n`: there is nothing to bind to, or the client was told not to.
    Unable,
    /// `y`: the client could bind, and believes that the server cannot. One that can knows then that somebody between the two
    /// has changed what it offered.
    NotOffered,
    /// `p`: to the `tls-exporter` of the connection (RFC 9266).
    Bound([u8; 32]),
}

impl Binding {
    /// `gs2-header`, without an authorization identity.
    fn header(self) -> &'static str {
        match self {
            Self::Unable => "n,,",
            Self::NotOffered => "y,,",
            Self::Bound(_) => "p=tls-exporter,,",
        }
    }

    /// `cbind-input`.
    fn input(self) -> Vec<u8> {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::Bound(exporter) = self {
            input.extend_from_slice(&exporter);
        }
        input
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The exporter is a secret of the two sides.
        f.write_str(self.header())
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
    /// All was said, and no challenge is in order.
    SaidAll,
    /// `LOGIN`: the server asks for the user, then for the password.
    Login {
        user: String,
        password: Secret,
    },
    LoginPassword {
        password: Secret,
    },
    /// The first response of SCRAM was sent.
    Scram {
        password: Secret,
        binding: Binding,
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
    /// The exchange and its initial response, where the client speaks first; `None` where user or password cannot be sent
    /// in it.
    pub(crate) fn begin(auth: &ClientAuth, choice: Choice, nonce: &str) -> Option<(Self, Option<String>)> {
        let Choice { mechanism, binding } = choice;
        if mechanism == Mechanism::External {
            // RFC 4954 §4: an initial response of no octets.
            return Some((Self { state: State::SaidAll }, Some("=".to_owned())));
        }
        let (user, secret) = (&auth.user, auth.secret.expose());
        // RFC 7628 §3.1: a token may say itself whose it is.
        let needs_user = mechanism != Mechanism::OauthBearer;
        if (user.is_empty() && needs_user)
            || secret.is_empty()
            || [user, secret].iter().any(|text| text.contains(['\0', '\x01']))
        {
            return None;
        }
        let (state, response) = match mechanism {
            Mechanism::Plain => {
                let (user, password) = (prepared(user.as_bytes())?, prepared(secret.as_bytes())?);
                (State::Said, format!("\0{user}\0{password}"))
            }
            Mechanism::OauthBearer => {
                let authzid = if user.is_empty() { String::new() } else { format!("a={}", escape(user)) };
                (State::Said, format!("n,{authzid},\x01auth=Bearer {secret}\x01\x01"))
            }
            Mechanism::Xoauth2 => (State::Said, format!("user={user}\x01auth=Bearer {secret}\x01\x01")),
            Mechanism::Login => {
                let (user, password) = (prepared(user.as_bytes())?, Secret::new(prepared(secret.as_bytes())?));
                return Some((Self { state: State::Login { user, password } }, None));
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let (user, password) = (prepared(user.as_bytes())?, Secret::new(prepared(secret.as_bytes())?));
                let bare = format!("n={},r={nonce}", escape(&user));
                let response = format!("{}{bare}", binding.header());
                (State::Scram { password, binding, bare, nonce: nonce.to_owned() }, response)
            }
            _ => return None,
        };
        Some((Self { state }, Some(base64::encode(response.as_bytes()))))
    }

    /// The response to a challenge; `None` where the exchange is to be cancelled.
    pub(crate) fn respond(&mut self, challenge: &[u8]) -> Option<String> {
        let challenge = String::from_utf8(base64::decode(challenge)?).ok()?;
        match std::mem::replace(&mut self.state, State::Over) {
            // RFC 7628 §3.2.3: what the server says of a token that it rejects; `535` follows.
            State::Said => Some("AQ==".to_owned()),
            // What it asks with differs from server to server; the order does not.
            State::Login { user, password } => {
                self.state = State::LoginPassword { password };
                Some(base64::encode(user.as_bytes()))
            }
            State::LoginPassword { password } => {
                self.state = State::SaidAll;
                Some(base64::encode(password.expose().as_bytes()))
            }
            State::Scram { password, binding, bare, nonce } => {
                let (response, signature) = prove(&password, binding, &bare, &nonce, &challenge)?;
                self.state = State::Proved { signature };
                Some(base64::encode(response.as_bytes()))
            }
            State::Proved { signature } => {
                let is_right: bool = challenge.as_bytes().ct_eq(signature.expose().as_bytes()).into();
                self.state = if is_right { State::Signed } else { State::Over };
                is_right.then(String::new)
            }
            State::SaidAll | State::Signed | State::Over => None,
        }
    }

    /// Whether the server may say now that all is well.
    pub(crate) fn may_succeed(&self) -> bool {
        matches!(self.state, State::Said | State::SaidAll | State::Signed)
    }
}

/// The last response of SCRAM, and what the server has to answer (RFC 5802 §3).
fn prove(password: &Secret, binding: Binding, bare: &str, nonce: &str, challenge: &str) -> Option<(String, Secret)> {
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
    let without_proof = format!("c={},r={whole_nonce}", base64::encode(&binding.input()));
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
        let (exchange, response) = ClientExchange::begin(auth, Choice::unbound(mechanism), nonce)?;
        Some((exchange, response.map(|response| decoded(&response)).unwrap_or_default()))
    }

    fn decoded(response: &str) -> String {
        String::from_utf8_lossy(&base64::decode(response.as_bytes()).unwrap_or_default()).into_owned()
    }

    #[test] // RFC 5802 §6: what is offered, whether the connection can be bound to; what is chosen, and its flag.
    fn r5802_the_strongest_mechanism_is_chosen_and_the_flag_says_why() {
        use Mechanism::{External, Login, OauthBearer, Plain, ScramSha256, ScramSha256Plus};
        let password = || ClientAuth::password("tim", Secret::new("x"));
        let all: Mechanisms = Mechanism::ALL.into_iter().collect();
        let scram = Mechanisms::from([ScramSha256, Plain, Login]);
        let exporter = Some([9; 32]);
        for (auth, offered, exporter, expected) in [
            (password(), all, exporter, Some((ScramSha256Plus, "p=tls-exporter,,"))),
            (password(), all, None, Some((ScramSha256, "n,,"))),
            (password(), scram, exporter, Some((ScramSha256, "y,,"))),
            (password(), scram, None, Some((ScramSha256, "n,,"))),
            (password().only(Mechanisms::from([ScramSha256])), all, exporter, Some((ScramSha256, "n,,"))),
            (password().only(Mechanisms::from([ScramSha256Plus])), scram, exporter, None),
            (password().only(Mechanisms::from([ScramSha256Plus])), all, None, None),
            (password(), Mechanisms::PASSWORD, exporter, Some((Plain, "y,,"))),
            (password(), Mechanisms::from([Login, External]), None, Some((Login, "n,,"))),
            (password(), Mechanisms::from([External, OauthBearer]), None, None),
            (ClientAuth::certificate(), all, exporter, Some((External, "n,,"))),
            (ClientAuth::certificate(), scram, exporter, None),
            (ClientAuth::token("tim", Secret::new("x")), all, exporter, Some((OauthBearer, "n,,"))),
        ] {
            let choice = auth.choose(offered, exporter);
            let choice = choice.map(|choice| (choice.mechanism, choice.binding.header()));
            assert_eq!(choice, expected, "{offered} {}", exporter.is_some());
        }
    }

    #[test] // RFC 4954 §4: only mechanisms whose client speaks first have an initial response.
    fn r4954_login_waits_to_be_asked_and_external_has_nothing_to_say() {
        let begin = |auth: &ClientAuth, mechanism| {
            ClientExchange::begin(auth, Choice::unbound(mechanism), "nonce").expect("valid")
        };
        let (mut login, initial) = begin(&ClientAuth::password("tim", Secret::new("pencil")), Mechanism::Login);
        assert!(initial.is_none() && !login.may_succeed(), "nothing is said before it is asked for");
        for (challenge, response, done) in
            [("VXNlcm5hbWU6", Some("tim"), false), ("", Some("pencil"), true), ("", None, false)]
        {
            let said = login.respond(challenge.as_bytes());
            assert_eq!((said.as_deref().map(decoded).as_deref(), login.may_succeed()), (response, done), "{challenge}");
            assert!(!format!("{login:?}").contains("pencil"));
        }
        let (mut external, initial) = begin(&ClientAuth::certificate(), Mechanism::External);
        assert_eq!((initial.as_deref(), external.may_succeed()), (Some("="), true));
        assert_eq!((external.respond(b"").as_deref(), external.may_succeed()), (None, false));
    }

    #[test] // RFC 5802 §6, RFC 9266: both sides; what the server can, what the client sees of that, and how it ends.
    fn r5802_both_sides_notice_whoever_stands_between_them() {
        use crate::sasl::secret::ServerSecret;
        use crate::sasl::{Exchange, Facts, Failure, Progress};

        let plus = Mechanisms::from([Mechanism::ScramSha256Plus, Mechanism::ScramSha256]);
        let without = Mechanisms::from([Mechanism::ScramSha256]);
        let password = Secret::new("pencil");
        let keys = ScramKeys::derive(ScramHash::Sha256, &password, b"salt", 4096).expect("valid");
        for (what, of_server, seen, of_client, succeeds) in [
            ("both can bind", Some([9; 32]), plus, Some([9; 32]), true),
            ("neither can", None, without, None, true),
            ("the server cannot", None, without, Some([9; 32]), true),
            ("the client cannot", Some([9; 32]), plus, None, true),
            ("somebody ended TLS on the way", Some([9; 32]), plus, Some([8; 32]), false),
            ("somebody took the offer away", Some([9; 32]), without, Some([9; 32]), false),
        ] {
            let auth = ClientAuth::password("user", password.clone());
            let choice = auth.choose(seen, of_client).expect("SCRAM is offered");
            let (mut client, first) = ClientExchange::begin(&auth, choice, "clientnonce").expect("valid");
            let secret = ServerSecret::new([7; 32]);
            let (nonce, certificate) = ("servernonce".to_owned(), None);
            let facts = Facts { channel_binding: of_server, certificate, nonce, secret, iterations: 4096 };
            let mut server = Exchange::new(choice.mechanism, facts);
            let mut response = first;
            let ended = loop {
                let said = response.take().expect("the client goes on");
                let mut progress = server.respond(&base64::decode(said.as_bytes()).expect("Base64"));
                if progress == Progress::FindKeys("user".into()) {
                    progress = server.found(Some(keys.clone()));
                }
                match progress {
                    Progress::Challenge(challenge) => {
                        response = client.respond(base64::encode(&challenge).as_bytes());
                    }
                    ended => break ended,
                }
            };
            let expected =
                if succeeds { Progress::Done { authzid: None } } else { Progress::Failed(Failure::Rejected) };
            assert_eq!((ended, client.may_succeed()), (expected, succeeds), "{what}");
        }
    }

    #[test] // RFC 4616 §2, RFC 7628 §4.1
    fn initial_responses() {
        let password = |user: &str, password: &str| ClientAuth::password(user, Secret::new(password));
        let token = ClientAuth::token("a,b=c", Secret::new("tok"));
        let nobodys = ClientAuth::token("", Secret::new("tok"));
        for (auth, mechanism, expected) in [
            (password("tim", "tanstaaftanstaaf"), Mechanism::Plain, Some("\0tim\0tanstaaftanstaaf")),
            (password("a,b=c", "x"), Mechanism::ScramSha256, Some("n,,n=a=2Cb=3Dc,r=nonce")),
            (token.clone(), Mechanism::OauthBearer, Some("n,a=a=2Cb=3Dc,\x01auth=Bearer tok\x01\x01")),
            (nobodys.clone(), Mechanism::OauthBearer, Some("n,,\x01auth=Bearer tok\x01\x01")),
            (nobodys, Mechanism::Xoauth2, None),
            (token, Mechanism::Xoauth2, Some("user=a,b=c\x01auth=Bearer tok\x01\x01")),
            (password("tim", ""), Mechanism::Plain, None),
            (password("", "x"), Mechanism::Plain, None),
            (password("t\0im", "x"), Mechanism::Plain, None),
            (password("tim", "x\x01"), Mechanism::Plain, None),
            (password("t\0im", "x"), Mechanism::Login, None),
            (password("tim", "x"), Mechanism::ScramSha1, None),
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
