//! The law of AUTH (RFC 4954): who is authenticated was named by a hook, a hook is asked about what the client sent, and
//! nothing secret gets out.
//!
//! Choice 0 holds switches; those from 1 on are answers, by the number of the question.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smtp_core::{
    Authentication, Connection, Credential, Domain, Mechanism, Mechanisms, ScramKeys, ServerSecret, ServerSession,
    SessionConfig, SessionId, Stages, TlsFacts, TlsVersion,
};

use crate::client::{Client, Record};
use crate::control::{Control, split};
use crate::text::is_reply_line;

/// Switches of choice 0.
const IN_CLEAR: u8 = 1;
const WITH_CERTIFICATE: u8 = 2;
const WITHOUT_EXPORTER: u8 = 4;
const DANGEROUS: u8 = 8;

/// Shorter ones are in some reply by chance.
const SECRET_OCTETS: usize = 8;

/// Runs the exchange at once, octet by octet and in pieces.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (wire, control) = split(data);
    let start = Instant::now();
    let whole = run(wire, control, start, &|client, wire| client.send(wire));
    for (name, found) in [
        ("single", run(wire, control, start, &|client, wire| wire.chunks(1).for_each(|octet| client.send(octet)))),
        (
            "pieces",
            run(wire, control, start, &|client, wire| {
                control.cuts(wire.len()).for_each(|piece| client.send(&wire[piece]));
            }),
        ),
    ] {
        assert_eq!(text(&found.output), text(&whole.output), "{name}");
        assert_eq!(found.events, whole.events, "{name}");
        assert_eq!(found.credentials, whole.credentials, "{name}");
        assert_eq!(found.identity, whole.identity, "{name}");
    }
    somebody_vouches(&whole);
    output_is_replies_and_challenges(&whole.output);
    for credential in &whole.credentials {
        it_was_sent(wire, credential);
        nothing_secret_gets_out(&whole, wire, credential);
    }
    if control.choice(0) & (IN_CLEAR | DANGEROUS) == IN_CLEAR {
        assert!(whole.credentials.is_empty() && whole.vouched_for.is_empty() && whole.identity.is_none());
        assert!(!text(&whole.output).contains("334 "), "a challenge in clear");
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn run(wire: &[u8], control: Control<'_>, start: Instant, send: &dyn Fn(&mut Client<'_>, &[u8])) -> Record {
    let mut client = Client::new(session(control.choice(0), start), control.skip(1), start);
    client.last_line_may_be_open = true;
    client.advance();
    send(&mut client, wire);
    client.finish()
}

fn session(switches: u8, start: Instant) -> ServerSession {
    let all: Mechanisms = Mechanism::ALL.into_iter().collect();
    let mut authentication = Authentication::new(all, ServerSecret::new([7; 32]));
    authentication.dangerously_in_clear = switches & DANGEROUS != 0;
    authentication.iterations_of_nobody = ScramKeys::LEAST_ITERATIONS;
    let mut config = SessionConfig {
        stages: Stages::NONE,
        refuse_early_talkers: false,
        observed: true,
        authentication: Some(authentication),
        ..SessionConfig::new(Domain::parse("mx.example.org").expect("a domain"))
    };
    // The client waits no longer than for the reply to any error.
    config.limits.authentication_delay = config.limits.error_delay / 32;
    let address = |last| SocketAddr::from(([192, 0, 2, last], 25));
    let mut connection = Connection::new(SessionId::new(1), address(1), address(2));
    if switches & IN_CLEAR == 0 {
        let mut facts = TlsFacts::new(TlsVersion::Tls13, "TLS13_AES_256_GCM_SHA384");
        facts.exporter = (switches & WITHOUT_EXPORTER == 0).then_some([9; 32]);
        facts.client_certificate = (switches & WITH_CERTIFICATE != 0).then(|| b"DER".to_vec());
        connection = connection.with_tls(facts);
    }
    ServerSession::new(Arc::new(config), Arc::new(connection), start)
}

/// STANDARDS R4954a: nobody is somebody by himself, and `235` is said of exactly one.
fn somebody_vouches(record: &Record) {
    let successes = text(&record.output).lines().filter(|line| line.starts_with("235 2.7.0 ")).count();
    let events = record.events.iter().filter(|event| event.starts_with("Authenticated")).count();
    assert_eq!((successes, events), (usize::from(record.identity.is_some()), successes));
    if let Some(identity) = &record.identity {
        assert!(record.vouched_for.contains(identity), "nobody said that the client is {identity:?}");
    }
}

/// Each word of the client that is Base64, decoded by the same crate and looked at in another way: the credential stands
/// in one of them. Names and passwords beyond ASCII are prepared first, so they need not.
fn it_was_sent(wire: &[u8], credential: &Credential) {
    let secret = match credential {
        Credential::Password { password, .. } => password.expose(),
        Credential::Token { token, .. } => token.expose(),
        _ => return,
    };
    assert!(!secret.is_empty(), "nobody is asked about nothing");
    let words = wire.split(u8::is_ascii_whitespace).filter_map(|word| STANDARD.decode(word).ok());
    let was_sent = |octets: Vec<u8>| {
        let field = |is_end: fn(&u8) -> bool| octets.split(is_end).any(|field| field.ends_with(secret.as_bytes()));
        std::str::from_utf8(&octets).is_ok_and(|text| !text.is_ascii())
            || field(|&octet| octet <= 1)
            || field(|_| false)
    };
    assert!(words.into_iter().any(was_sent), "{secret:?} was not sent");
}

fn nothing_secret_gets_out(record: &Record, wire: &[u8], credential: &Credential) {
    let (secret, user) = match credential {
        Credential::Password { user, password } => (password.expose(), Some(&**user)),
        Credential::Token { user, token } => (token.expose(), user.as_deref()),
        _ => return,
    };
    // What is also a name, or a word of ours, is not told apart.
    let is_word =
        user.is_some_and(|user| user.contains(secret)) || FIXED_WORDS.iter().any(|word| word.contains(secret));
    // Nor what the client itself says in clear, as in `EHLO`.
    if secret.len() < SECRET_OCTETS || is_word || text(wire).contains(secret) {
        return;
    }
    let told = record.events.join("\n") + &text(&record.output);
    assert!(!told.contains(secret), "{secret:?} is in {told}");
    assert!(!format!("{credential:?}").replace(&format!("{user:?}"), "").contains(secret), "{secret:?} is shown");
}

/// Whole replies and events that a password may be a part of.
const FIXED_WORDS: [&str; 2] = [
    "Authentication credentials invalid Authentication mechanism is too weak Temporary authentication failure",
    "Refused { stage: Authentication, transaction: None, subject: ",
];

/// RFC 4954 §4: `334` and Base64 are a challenge; all else is a reply.
fn output_is_replies_and_challenges(output: &[u8]) {
    for line in output.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_prefix(b"334 ") {
            Some(challenge) => {
                let challenge = challenge.strip_suffix(b"\r\n").expect("a line");
                assert!(line.len() <= 12_288 && STANDARD.decode(challenge).is_ok(), "{}", text(line));
            }
            None => is_reply_line(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A law about logins that never succeed would hold for a server that refuses all.
    #[test]
    fn the_seeds_log_in_by_every_mechanism() {
        for (seed, expected) in [
            (&include_bytes!("../corpus/sasl/plain")[..], "alice"),
            (include_bytes!("../corpus/sasl/plain-authzid"), "sales"),
            (include_bytes!("../corpus/sasl/plain-unicode"), "alice"),
            (include_bytes!("../corpus/sasl/login"), "alice"),
            (include_bytes!("../corpus/sasl/scram-sha-1"), "alice"),
            (include_bytes!("../corpus/sasl/scram-sha-256"), "alice"),
            (include_bytes!("../corpus/sasl/scram-sha-256-plus"), "alice"),
            (include_bytes!("../corpus/sasl/oauthbearer"), "alice"),
            (include_bytes!("../corpus/sasl/external"), "alice"),
            (include_bytes!("../corpus/sasl/dangerous"), "alice"),
        ] {
            let (wire, control) = split(seed);
            let record = run(wire, control, Instant::now(), &|client, wire| client.send(wire));
            let identity = record.identity.as_ref().map(smtp_core::Identity::as_str);
            assert_eq!(identity, Some(expected), "{}", text(&record.output));
        }
    }
}
