//! RFC 3207 §4.2 on the client: under TLS the session begins anew, and `STARTTLS` is no part of it.

use std::time::Instant;

use smtp_core::{ClientLimits, ClientSession, Host, StartTls};

/// What the client says to that.
fn told(session: &mut ClientSession, now: Instant, reply: &str) -> String {
    let mut input = reply.as_bytes();
    assert!(session.poll(now, &mut input).is_none() && input.is_empty());
    let output = session.output().to_vec();
    session.output_written(now, output.len());
    String::from_utf8(output).expect("UTF-8")
}

#[test]
fn r3207_starttls_is_said_once_however_often_it_is_offered() {
    const OFFER: &str = "250-mx.example.org\r\n250-SMTPUTF8\r\n250 STARTTLS\r\n";
    for rule in [StartTls::IfOffered, StartTls::Required] {
        let now = Instant::now();
        let host = Host::parse("client.example").expect("a name");
        let mut session = ClientSession::new(host, ClientLimits::default(), now).with_starttls(rule);
        assert_eq!(told(&mut session, now, "220 mx.example.org\r\n"), "EHLO client.example\r\n");
        assert_eq!(told(&mut session, now, OFFER), "STARTTLS\r\n");
        assert_eq!(told(&mut session, now, "220 go\r\n"), "");
        assert!(session.is_starting_tls());

        session.tls_started(now);
        assert_eq!(told(&mut session, now, ""), "EHLO client.example\r\n", "it introduces itself again");
        assert_eq!(told(&mut session, now, OFFER), "", "nothing, but it waits for a message");
        assert!(session.is_idle() && !session.is_starting_tls() && session.error().is_none());
    }
}
