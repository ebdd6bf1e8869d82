//! A session with an authenticator, driven by hand: what it asked, what it said, what it reported.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smtp_core::{
    Accepted, AuthError, Authentication, Connection, Credential, Domain, Identity, Lookup, LookupAnswer, Mechanism,
    Mechanisms, Question, ScramHash, ScramKeys, Secret, ServerSecret, ServerSession, SessionConfig, SessionId, Stages,
    Step, TlsFacts, TlsVersion,
};

/// The password of `alice`.
pub(crate) const PASSWORD: &str = "wonderland";
/// Her token.
pub(crate) const TOKEN: &str = "t0ken-of-alice";
/// Her certificate.
pub(crate) const CERTIFICATE: &[u8] = b"DER of alice";
/// What the TLS connection exports.
pub(crate) const EXPORTER: [u8; 32] = [9; 32];

pub(crate) fn base64(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

pub(crate) fn from_base64(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).expect("Base64")).expect("ASCII")
}

/// The initial response of `PLAIN`.
pub(crate) fn plain(user: &str, password: &str) -> String {
    base64(format!("\0{user}\0{password}"))
}

/// What lies under the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    Clear,
    /// In clear, and the listener does not mind.
    DangerousClear,
    Tls,
    /// The client showed its certificate.
    TlsWithCertificate,
}

pub(crate) struct Talk {
    pub(crate) session: ServerSession,
    pub(crate) now: Instant,
    /// What the application was asked.
    pub(crate) asked: Vec<&'static str>,
    /// All that was said.
    pub(crate) said: String,
    pub(crate) events: String,
    unread: Vec<u8>,
}

/// Every mechanism, and no policies.
pub(crate) fn config(below: Below) -> SessionConfig {
    let all: Mechanisms = Mechanism::ALL.into_iter().collect();
    let mut authentication = Authentication::new(all, ServerSecret::new([7; 32]));
    authentication.dangerously_in_clear = below == Below::DangerousClear;
    authentication.iterations_of_nobody = ScramKeys::LEAST_ITERATIONS;
    SessionConfig {
        stages: Stages::NONE,
        observed: true,
        authentication: Some(authentication),
        ..SessionConfig::new(Domain::parse("mx.example.org").expect("a domain"))
    }
}

impl Talk {
    /// A client that has said `EHLO`.
    pub(crate) fn new(below: Below) -> Self {
        let mut talk = Self::connected(config(below), below);
        talk.send("EHLO client.example\r\n");
        talk
    }

    /// A client that has read the greeting.
    pub(crate) fn connected(config: SessionConfig, below: Below) -> Self {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut connection = Connection::new(SessionId::new(1), address("192.0.2.1:4000"), address("192.0.2.25:587"));
        if matches!(below, Below::Tls | Below::TlsWithCertificate) {
            let mut facts = TlsFacts::new(TlsVersion::Tls13, "TLS13_AES_256_GCM_SHA384");
            facts.exporter = Some(EXPORTER);
            facts.client_certificate = (below == Below::TlsWithCertificate).then(|| CERTIFICATE.to_vec());
            connection = connection.with_tls(facts);
        }
        let now = Instant::now();
        let session = ServerSession::new(Arc::new(config), Arc::new(connection), now);
        let mut talk =
            Self { session, now, asked: Vec::new(), said: String::new(), events: String::new(), unread: Vec::new() };
        talk.send("");
        talk
    }

    /// Sends octets; what the server says at once.
    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> String {
        self.unread.extend_from_slice(octets.as_ref());
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        while let Some(step) = self.session.poll(self.now, &mut input) {
            match step {
                Step::Ask(question) => self.answer(question),
                Step::Content(_) => {}
            }
        }
        self.unread = input.to_vec();
        let output = String::from_utf8(self.session.output().to_vec()).expect("replies are ASCII");
        self.session.output_written();
        self.said += &output;
        let (events, state) = (self.session.take_events(), format!("{:?}", self.session));
        self.log(&(events, state));
        output
    }

    fn log(&mut self, what: &impl std::fmt::Debug) {
        write!(self.events, "{what:?}").expect("memory takes what is written");
    }

    /// Sends a line and waits for the reply, at most so long as the slowest comes.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let mut reply = self.send(format!("{line}\r\n"));
        if let Some(late) = self.lateness() {
            self.now += late;
            self.session.handle_timeout(self.now);
            reply += &self.send("");
        }
        reply
    }

    /// How late the reply is that is awaited.
    pub(crate) fn lateness(&self) -> Option<Duration> {
        let deadline = self.session.deadline().filter(|_| self.session.is_delayed())?;
        Some(deadline - self.now)
    }

    pub(crate) fn identity(&self) -> Option<&str> {
        self.session.connection().identity().map(Identity::as_str)
    }

    fn answer(&mut self, question: Question) {
        let now = self.now;
        match question {
            Question::Authenticate(ask) => {
                self.asked.push("credential");
                self.log(&(&ask, ask.subject()));
                let answer = check(ask.subject());
                self.session.answer(now, ask, answer);
            }
            Question::ScramKeys(ask) => {
                self.asked.push("keys");
                let answer = match (&*ask.subject().user, ask.subject().hash) {
                    ("alice", hash) => Ok(Some((keys(hash), Identity::new("alice")))),
                    ("weak", _) => Err(AuthError::TooWeak),
                    ("down", _) => Err(AuthError::Unavailable),
                    ("refused", _) => Err(AuthError::Rejected),
                    _ => Ok(None),
                };
                self.log(&answer);
                self.session.answer(now, ask, answer);
            }
            Question::ActAs(ask) => {
                self.asked.push("act as");
                let (who, authzid) = ask.subject();
                let answer = match &**authzid {
                    "sales" if who.as_str() == "alice" => Ok(Identity::new("sales")),
                    "down" => Err(AuthError::Unavailable),
                    _ => Err(AuthError::Rejected),
                };
                self.session.answer(now, ask, answer);
            }
            Question::SendAs(ask) => {
                self.asked.push("send as");
                let answer = match &*ask.subject().reverse_path().to_string() {
                    "<>" | "<alice@example.org>" => Ok(true),
                    "<down@example.org>" => Err(AuthError::Unavailable),
                    "<refused@example.org>" => Err(AuthError::Rejected),
                    _ => Ok(false),
                };
                self.session.answer(now, ask, answer);
            }
            Question::Mail(ask) => {
                self.asked.push("mail");
                self.session.answer(now, ask, smtp_core::Verdict::Continue.into());
            }
            Question::Lookup(ask) => {
                self.session.answer(now, ask, LookupAnswer { lookup: Ok(Lookup::NotLocal), is_role: false });
            }
            Question::Room(ask) => self.session.answer(now, ask, Ok(())),
            Question::Deliver(ask) => self.session.answer(now, ask, Ok(Accepted::all())),
            other => panic!("not asked here: {other:?}"),
        }
    }
}

fn check(credential: &Credential) -> Result<Identity, AuthError> {
    let alice = |is_she: bool| if is_she { Ok(Identity::new("alice")) } else { Err(AuthError::Rejected) };
    match credential {
        Credential::Password { user, password } => match &**user {
            "weak" => Err(AuthError::TooWeak),
            "change" => Err(AuthError::ChangeNeeded),
            "down" => Err(AuthError::Unavailable),
            user => alice(user == "alice" && *password == Secret::new(PASSWORD)),
        },
        Credential::Token { user, token } => match user.as_deref() {
            Some("down") => Err(AuthError::Unavailable),
            user => alice(user.is_none_or(|user| user == "alice") && *token == Secret::new(TOKEN)),
        },
        Credential::Certificate(certificate) => alice(certificate.der() == CERTIFICATE),
        other => panic!("not asked here: {other:?}"),
    }
}

fn keys(hash: ScramHash) -> ScramKeys {
    static KEYS: OnceLock<[ScramKeys; 2]> = OnceLock::new();
    let derive = |hash| {
        ScramKeys::derive(hash, &Secret::new(PASSWORD), b"salt of 16 octet", ScramKeys::LEAST_ITERATIONS)
            .expect("valid")
    };
    let [sha1, sha256] = KEYS.get_or_init(|| [derive(ScramHash::Sha1), derive(ScramHash::Sha256)]);
    if hash == ScramHash::Sha1 { sha1.clone() } else { sha256.clone() }
}
