//! A signal ends the program, and no message with it.

use crate::common::Mta;

#[test]
fn a_signal_ends_an_idle_server_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut mta = Mta::start();
        let mut idle = mta.connect();
        idle.expect(&[("EHLO client.example", "250")]);
        mta.signal(signal);
        assert!(idle.reply().starts_with("421 4.3.2"), "{signal}");
        drop(idle);
        assert_eq!(mta.wait().code(), Some(0), "{signal}: {}", mta.log());
        assert!(mta.log().contains("stopped"));
    }
}

#[test] // What was begun is finished, and what comes after it is not.
fn an_open_transaction_is_finished() {
    let mut mta = Mta::start();
    let mut session = mta.connect();
    session.expect(&[
        ("EHLO client.example", "250"),
        ("MAIL FROM:<bob@client.example>", "250"),
        ("RCPT TO:<alice@localhost>", "250"),
        ("DATA", "354"),
    ]);
    session.send(b"Subject: begun\r\n\r\n");
    mta.signal("TERM");
    wait_until_refused(&mta);
    session.send(b"finished\r\n");
    session.expect(&[(".", "250 2.0.0 Ok: queued as ")]);
    assert!(session.reply().starts_with("421 4.3.2"));
    drop(session);
    assert_eq!(mta.wait().code(), Some(0), "{}", mta.log());
    let file = std::fs::read_to_string(&mta.new_files("localhost/alice")[0]).expect("a file");
    assert!(file.ends_with("Subject: begun\r\n\r\nfinished\r\n"), "{file}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut mta = Mta::start();
    let mut session = mta.connect();
    session.expect(&[("EHLO client.example", "250"), ("MAIL FROM:<>", "250")]);
    mta.signal("TERM");
    wait_until_refused(&mta);
    mta.signal("INT");
    assert_eq!(mta.wait().code(), Some(130), "{}", mta.log());
    assert_eq!(session.reply(), "");
}

#[test] // A transaction that does not go on ends with the time of grace.
fn the_time_of_grace_has_an_end() {
    let mut mta = Mta::with_config("[limits]\nshutdown_grace_seconds = 0\n");
    let mut session = mta.connect();
    session.expect(&[("EHLO client.example", "250"), ("MAIL FROM:<>", "250")]);
    mta.signal("TERM");
    assert!(session.reply().starts_with("421 4.3.2"));
    drop(session);
    assert_eq!(mta.wait().code(), Some(0), "{}", mta.log());
}

/// The signal has arrived when nobody listens any more.
fn wait_until_refused(mta: &Mta) {
    for _ in 0..1000 {
        if std::net::TcpStream::connect(mta.address).is_err() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("it still listens: {}", mta.log());
}
