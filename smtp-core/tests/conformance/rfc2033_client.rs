//! RFC 2033: LMTP, the client. Nobody is delivered without a reply of its own (STANDARDS R2033).

use std::net::SocketAddr;
use std::time::Duration;

use smtp_core::{
    Accepted, Bytes, ClientConfig, ClientConnection, ClientLimits, Listener, Message, Refusal, TransferProtocol,
};

use crate::scripted::{Machine, envelope, outcomes, play};
use crate::support::world::{Inbox, Log, builder};

fn lmtp() -> Machine {
    let mut machine = Machine::new(ClientLimits::default());
    machine.session = machine.session.with_protocol(TransferProtocol::Lmtp);
    machine
}

fn transcript(recipients: &[&str], script: &str) {
    play(&mut lmtp(), &envelope(recipients), "Blah\r\n", script);
}

/// What becomes of three recipients, of which the second was refused, after these replies to the content.
fn after(replies: &str) -> (Machine, Vec<String>) {
    let mut machine = lmtp();
    machine.receive("220 store.example.org LMTP\r\n");
    machine.receive("250-store.example.org\r\n250 PIPELINING\r\n");
    machine.begin(&envelope(&["alice", "nobody", "bob"]), &[b"x\r\n"]);
    machine.receive("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n");
    assert!(machine.take_sent().ends_with(b"DATA\r\nx\r\n.\r\n"));
    machine.receive(replies);
    if machine.reports.is_empty() {
        machine.leave();
    }
    let outcomes = outcomes(&machine.report());
    (machine, outcomes)
}

#[test] // RFC 2033 §4.2: its example.
fn r2033_a_typical_session() {
    transcript(
        &["pat", "jones", "green"],
        "
        S: 220 foo.example LMTP server ready
        C: LHLO client.example
        S: 250-foo.example
        S: 250-PIPELINING
        S: 250 SIZE
        -- send
        C: MAIL FROM:<a@client.example> SIZE=6
        C: RCPT TO:<pat@example.org>
        C: RCPT TO:<jones@example.org>
        C: RCPT TO:<green@example.org>
        C: DATA
        S: 250 OK
        S: 250 OK
        S: 550 No such user here
        S: 250 OK
        S: 354 Start mail input; end with <CRLF>.<CRLF>
        C: Blah
        C: .
        S: 250 OK
        S: 452 <green@example.org> is temporarily over quota
        -- result: delivered 250, failed 5.0.0, deferred 4.0.0
        -- ready
        -- quit
        C: QUIT
        S: 221 foo.example closing connection
        -- closed
    ",
    );
}

#[test] // RFC 2033 §4.1: a server that does not know LHLO does not speak LMTP; HELO would not help.
fn r2033_a_server_without_lhlo_is_left_for_later() {
    let mut machine = lmtp();
    machine.receive("220 mx.example.org ESMTP\r\n");
    assert_eq!(machine.take_sent(), b"LHLO client.example\r\n");
    machine.receive("500 5.5.1 Unknown command\r\n");
    assert!(machine.session.is_closed());
    let error = machine.session.error().expect("it has failed");
    assert!(error.is_transient(), "{error}");
}

#[test] // R2033: a reply stays with its recipient; who has none is deferred, never delivered.
fn r2033_each_recipient_has_the_reply_that_was_given_for_it() {
    let (yes, later, no) = ("250 2.1.5 ok\r\n", "451 4.2.2 full\r\n", "550 5.2.1 off\r\n");
    let outcome = |reply: &str| match &reply[..1] {
        "2" => "delivered 250".to_owned(),
        "4" => "deferred 4.2.2".to_owned(),
        _ => "failed 5.2.1".to_owned(),
    };
    for first in [yes, later, no] {
        for second in [yes, later, no] {
            let (machine, outcomes) = after(&format!("{first}{second}"));
            assert_eq!(outcomes, [outcome(first), "failed 5.1.1".to_owned(), outcome(second)]);
            assert!(machine.session.is_reusable());
        }
        for (what, rest, status) in [
            ("closes", "", "deferred 4.4.2"),
            ("half a reply", "250 2.1.5 o", "deferred 4.4.2"),
            ("a farewell", "421 4.3.2 bye\r\n", "deferred 4.3.2"),
            ("no reply", "hello\r\n", "deferred 4.5.0"),
            ("a misplaced reply", "354 go\r\n", "deferred 4.5.0"),
        ] {
            let (machine, outcomes) = after(&format!("{first}{rest}"));
            // What was refused at RCPT is believed unless the server is out of step.
            assert_eq!((&outcomes[0], &*outcomes[2]), (&outcome(first), status), "{what}");
            assert!(outcomes[1] == "failed 5.1.1" || status == "deferred 4.5.0", "{what}: {outcomes:?}");
            assert!(machine.session.is_closed(), "{what}");
        }
    }
    assert_eq!(after("").1, ["deferred 4.4.2", "failed 5.1.1", "deferred 4.4.2"]);
    let (mut machine, outcomes) = after("250 a\r\n250 b\r\n250 c\r\n");
    assert_eq!(outcomes, ["delivered 250", "failed 5.1.1", "delivered 250"], "one more than asked for");
    machine.receive("");
    assert!(!machine.session.is_reusable(), "out of step");
}

#[test] // STANDARDS TO9: each reply is waited for, and no longer.
fn r2033_who_is_not_answered_in_time_is_deferred() {
    let mut machine = lmtp();
    machine.receive("220 x LMTP\r\n");
    machine.receive("250 x\r\n");
    machine.begin(&envelope(&["alice", "bob"]), &[b"x\r\n"]);
    for reply in ["250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 ok\r\n"] {
        machine.receive(reply);
    }
    machine.pass(Duration::from_secs(24 * 3600));
    assert_eq!(outcomes(&machine.report()), ["delivered 250", "deferred 4.4.2"]);
}

#[test] // RFC 2033 §4.2: behind 354 for nobody no reply would come.
fn r2033_content_for_nobody_is_not_sent() {
    let mut machine = lmtp();
    machine.receive("220 x LMTP\r\n");
    machine.receive("250-x\r\n250 PIPELINING\r\n");
    machine.begin(&envelope(&["alice"]), &[b"x\r\n"]);
    machine.take_sent();
    machine.receive("250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
    assert!(machine.take_sent().is_empty());
    assert_eq!(outcomes(&machine.report()), ["failed 5.1.1"]);
    assert!(machine.session.is_closed());
    // As it should be: 503.
    let mut machine = lmtp();
    machine.receive("220 x LMTP\r\n");
    machine.receive("250-x\r\n250 PIPELINING\r\n");
    machine.begin(&envelope(&["alice"]), &[b"x\r\n"]);
    machine.take_sent();
    machine.receive("250 ok\r\n550 5.1.1 no\r\n503 5.5.1 no recipients\r\n");
    assert_eq!(machine.take_sent(), b"RSET\r\n");
    machine.receive("250 ok\r\n");
    assert_eq!(outcomes(&machine.report()), ["failed 5.1.1"]);
    assert!(machine.session.is_reusable());
}

#[test] // A reply amid the content is about one recipient, and of several nobody knows which.
fn r2033_an_early_refusal_is_permanent_for_one_alone() {
    for (recipients, expected) in [(&["alice"][..], "failed 5.3.4"), (&["alice", "bob"], "deferred 4.5.0")] {
        let mut machine = lmtp();
        machine.receive("220 x LMTP\r\n");
        machine.receive("250-x\r\n250 PIPELINING\r\n");
        let large = vec![b'x'; 300_000];
        machine.hang_source();
        machine.begin_declared(&envelope(recipients), &[&large], 400_000);
        machine.receive(format!("250 ok\r\n{}354 go\r\n", "250 ok\r\n".repeat(recipients.len())));
        machine.receive("552 5.3.4 too large\r\n");
        assert!(outcomes(&machine.report()).iter().all(|outcome| outcome == expected), "{recipients:?}");
    }
}

#[tokio::test] // Both sides of this crate: each recipient, with its reply, over a socket.
async fn r2033_client_and_server_agree_on_each_recipient() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = builder(&inbox, &log)
        .deliver(|message: Message| async move {
            let outcomes = message.recipients().iter().map(|recipient| {
                match recipient.path().to_string().trim_matches(['<', '>']).split('@').next() {
                    Some("user1") => Err(Refusal::transient(2, 2, "full")),
                    Some("user2") => Err(Refusal::permanent(2, 1, "off")),
                    _ => Ok(()),
                }
            });
            Ok(Accepted::each(outcomes.collect::<Vec<_>>()))
        })
        .listener(Listener::new("127.0.0.1:0").lmtp())
        .bind()
        .await
        .expect("loopback has free ports");
    let (address, handle): (SocketAddr, _) = (server.local_addresses()[0], server.handle());
    let running = tokio::spawn(server.run());
    let config = ClientConfig::new("client.example").expect("a name").with_lmtp();
    let mut connection = ClientConnection::connect(address, &config).await.expect("it is greeted");
    for _ in 0..3 {
        let to = envelope(&["user2", "alice", "nobody", "user1", "bob"]);
        let report = connection.send(&to, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
        let expected = ["failed 5.2.1", "delivered 250", "failed 5.1.1", "deferred 4.2.2", "delivered 250"];
        assert_eq!(outcomes(&report), expected);
        assert!(connection.is_reusable());
    }
    connection.quit().await;
    // One that speaks SMTP is not understood, nor is LMTP by a server of SMTP.
    let smtp = ClientConfig::new("client.example").expect("a name");
    assert!(ClientConnection::connect(address, &smtp).await.is_err_and(|error| error.is_transient()));
    handle.shut_down();
    running.await.expect("no panic").expect("a server ends well");
}

#[test] // RFC 2033 §4.3: behind the last chunk the client waits for as many replies as there are recipients, and says nothing.
fn r2033_nothing_follows_the_last_chunk_but_replies() {
    let mut machine = lmtp();
    machine.session = std::mem::replace(&mut machine.session, lmtp().session).with_chunking();
    machine.receive("220 store.example.org LMTP\r\n");
    machine.receive("250-store.example.org\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    machine.begin(&envelope(&["alice", "bob"]), &[b"x\r\n"]);
    machine.receive("250 ok\r\n250 ok\r\n250 ok\r\n");
    assert!(machine.take_sent().ends_with(b"BDAT 3 LAST\r\nx\r\n"));
    machine.receive("250 ok\r\n");
    assert_eq!(machine.take_sent(), b"");
    machine.receive("550 5.2.1 no\r\n");
    assert_eq!(outcomes(&machine.report()), ["delivered 250", "failed 5.2.1"]);
}
