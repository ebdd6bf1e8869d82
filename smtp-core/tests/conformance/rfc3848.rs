//! RFC 3848: what `with` in `Received` says of a session (STANDARDS R3848). Those of SMTPUTF8 are not among them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use smtp_core::{
    Authentication, Connection, Credential, Identity, Mechanism, Protocol, Question, ServerSecret, ServerSession,
    SessionConfig, SessionId, Stages, Step, TlsFacts, TlsVersion, TransferProtocol,
};

use crate::support::machine::config;

/// What the session of a client that says these lines is called.
fn spoken(protocol: TransferProtocol, under_tls: bool, lines: &[&str]) -> Protocol {
    let mut authentication = Authentication::new([Mechanism::Plain].into_iter().collect(), ServerSecret::new([7; 32]));
    authentication.dangerously_in_clear = true;
    let config = SessionConfig { protocol, stages: Stages::NONE, authentication: Some(authentication), ..config() };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let connection = Connection::new(SessionId::new(1), address("192.0.2.1:40000"), address("192.0.2.25:24"));
    let now = Instant::now();
    let mut session = ServerSession::new(Arc::new(config), Arc::new(connection), now);
    assert!(session.poll(now, &mut &[][..]).is_none());
    session.output_written();
    if under_tls {
        session = session.into_tls(TlsFacts::new(TlsVersion::Tls13, "TLS13_AES_256_GCM_SHA384"), now);
    }
    for line in lines {
        let line = format!("{line}\r\n");
        let mut input = line.as_bytes();
        while let Some(step) = session.poll(now, &mut input) {
            let Step::Ask(Question::Authenticate(ask)) = step else { panic!("not asked for: {step:?}") };
            assert!(matches!(ask.subject(), Credential::Password { .. }));
            session.answer(now, ask, Ok(Identity::new("alice@example.org")));
        }
        assert!(session.output().starts_with(b"2"), "{line}: {}", session.output().escape_ascii());
        session.output_written();
    }
    session.connection().protocol()
}

#[test] // RFC 3848 §2, and RFC 5321 §4.4 for the first two.
fn r3848_each_kind_of_session_has_its_word() {
    use TransferProtocol::{Lmtp, Smtp};
    let password = "AUTH PLAIN AHRpbQB0YW4=";
    let mut words = HashSet::new();
    for (protocol, under_tls, lines, word) in [
        (Smtp, false, &["HELO c.example"][..], "SMTP"),
        (Smtp, false, &["EHLO c.example"], "ESMTP"),
        (Smtp, true, &["EHLO c.example"], "ESMTPS"),
        (Smtp, false, &["EHLO c.example", password], "ESMTPA"),
        (Smtp, true, &["EHLO c.example", password], "ESMTPSA"),
        (Lmtp, false, &["LHLO c.example"], "LMTP"),
        (Lmtp, true, &["LHLO c.example"], "LMTPS"),
        (Lmtp, false, &["LHLO c.example", password], "LMTPA"),
        (Lmtp, true, &["LHLO c.example", password], "LMTPSA"),
    ] {
        assert_eq!(spoken(protocol, under_tls, lines).as_str(), word);
        words.insert(word);
    }
    assert_eq!(words.len(), 9);
    assert_eq!(spoken(Smtp, true, &["HELO c.example"]).as_str(), "SMTP", "RFC 3848 has no word for it");
}
