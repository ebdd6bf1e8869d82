//! Credentials that a client sends although AUTH is not offered, and content that it sends although it may not, appear in no event.

use std::sync::Arc;
use std::time::Instant;

use smtp_core::{Connection, Domain, ServerSession, SessionConfig, SessionId, Stages};

/// What is told of a session of these lines, as far as it is told at all.
fn events(lines: &[&str]) -> String {
    let config = SessionConfig {
        stages: Stages::NONE,
        observed: true,
        ..SessionConfig::new(Domain::parse("mx.example.org").expect("valid"))
    };
    let address = "192.0.2.1:1".parse().expect("valid");
    let connection = Arc::new(Connection::new(SessionId::new(1), address, address));
    let mut session = ServerSession::new(Arc::new(config), connection, Instant::now());
    for line in [""].iter().chain(lines) {
        let line = format!("{line}{}", if line.is_empty() { "" } else { "\r\n" });
        assert!(session.poll(Instant::now(), &mut line.as_bytes()).is_none());
        session.output_written();
    }
    format!("{:?}", session.take_events())
}

#[test] // PRACTICES S26: the credential reaches neither hook nor log.
fn s26_a_password_in_clear_reaches_no_event() {
    for auth in
        ["AUTH PLAIN AGFsaWNlAHNlY3JldA==", " AUTH PLAIN AGFsaWNlAHNlY3JldA==", "\tauth PLAIN AGFsaWNlAHNlY3JldA=="]
    {
        let events = events(&["EHLO client.example", auth, "auth login", "c2VjcmV0"]);
        assert!(events.contains("code: 502") && events.contains("code: 500"), "{events}");
        for secret in ["AGFsaWNlAHNlY3JldA==", "c2VjcmV0"] {
            assert!(!events.contains(secret), "{events}");
        }
    }
    let events = events(&["EHLO client.example", "AUHT PLAIN AGFsaWNlAHNlY3JldA==", "AGFsaWNlAHNlY3JldA=="]);
    assert!(
        events.contains("AUHT") && !events.contains("AGFs"),
        "of what nobody knows the first word is told: {events}"
    );
}

#[test] // Who is refused DATA, and does not look, sends its message as commands.
fn content_behind_a_refused_data_reaches_no_event() {
    let content = ["Subject: secret", "secret", "MAIL secret", "RCPT TO:secret", "GET /secret HTTP/1.1"];
    for line in content {
        let events = events(&["EHLO client.example", "MAIL FROM:<a@b.example>", "DATA", line, "secret"]);
        assert!(events.contains("code: 554"), "{events}");
        assert!(!events.contains("secret"), "{line}: {events}");
    }
    let events = events(&["EHLO client.example", "MAIL FROM:<a@b.example>", "DATA", "RSET", "MAIL sender"]);
    assert!(events.contains("MAIL sender"), "who goes on with commands is told of again: {events}");
}
