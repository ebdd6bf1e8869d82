//! Credentials that a client sends although AUTH is not offered appear in no event.

use std::sync::Arc;
use std::time::Instant;

use smtp_core::{Connection, Domain, ServerSession, SessionConfig, SessionId, Stages};

#[test] // PRACTICES S26: the credential reaches neither hook nor log.
fn s26_a_password_in_clear_reaches_no_event() {
    let config = SessionConfig {
        stages: Stages::NONE,
        observed: true,
        ..SessionConfig::new(Domain::parse("mx.example.org").expect("valid"))
    };
    let address = "192.0.2.1:1".parse().expect("valid");
    let connection = Arc::new(Connection::new(SessionId::new(1), address, address));
    let mut session = ServerSession::new(Arc::new(config), connection, Instant::now());
    for line in ["", "EHLO client.example\r\n", "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n", "auth login\r\n", "c2VjcmV0\r\n"]
    {
        assert!(session.poll(Instant::now(), &mut line.as_bytes()).is_none());
        session.output_written();
    }
    let events = format!("{:?}", session.take_events());
    assert!(events.contains("code: 502") && events.contains("code: 500"), "{events}");
    for secret in ["AGFsaWNlAHNlY3JldA==", "c2VjcmV0"] {
        assert!(!events.contains(secret), "{events}");
    }
}
