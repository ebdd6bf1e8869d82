//! draft-hall-prdr-00, the client (STANDARDS Rprdr): each recipient has its own reply, and none of another.

use std::time::Duration;

use smtp_core::{
    Accepted, Bytes, ClientConfig, ClientConnection, ClientLimits, Listener, Message, Refusal, TransferProtocol,
};

use crate::scripted::{Machine, envelope, outcomes, play};
use crate::support::world::{Inbox, Log, builder};

const OFFERS: &[&str] = &["PRDR", "PIPELINING", "CHUNKING"];

fn asking(extensions: &[&str]) -> Machine {
    let mut machine = Machine::greeted(extensions);
    let other = Machine::new(ClientLimits::default()).session;
    machine.session = std::mem::replace(&mut machine.session, other).with_prdr();
    machine
}

/// Up to the end of the content for `alice`, `nobody`, whom the server refuses, and `bob`; in the group of `DATA` or by one
/// chunk.
fn behind_content(by_chunks: bool) -> Machine {
    let mut machine = asking(OFFERS);
    if by_chunks {
        let other = Machine::new(ClientLimits::default()).session;
        machine.session = std::mem::replace(&mut machine.session, other).with_chunking();
    }
    machine.begin(&envelope(&["alice", "nobody", "bob"]), &[b"x\r\n"]);
    let sent = String::from_utf8(machine.take_sent()).expect("ASCII");
    assert!(sent.starts_with("MAIL FROM:<a@client.example> PRDR\r\n"), "{sent}");
    machine.receive("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n");
    if !by_chunks {
        machine.receive("354 go\r\n");
    }
    let end: &[u8] = if by_chunks { b"BDAT 3 LAST\r\nx\r\n" } else { b"x\r\n.\r\n" };
    assert_eq!(machine.take_sent(), end);
    machine
}

#[test] // It is off by default, and asked for only where it is offered and can say more than one reply.
fn rprdr_it_is_asked_for_where_it_helps() {
    for (machine, recipients, expected) in [
        (asking(&["PRDR"]), &["alice", "bob"][..], true),
        (asking(&["prdr"]), &["alice", "bob"], true),
        (asking(&["PRDR"]), &["alice"], false),
        (asking(&["DSN"]), &["alice", "bob"], false),
        (Machine::greeted(&["PRDR"]), &["alice", "bob"], false),
    ] {
        let mut machine = machine;
        machine.begin(&envelope(recipients), &[b"x\r\n"]);
        let mail =
            if expected { &b"MAIL FROM:<a@client.example> PRDR\r\n"[..] } else { b"MAIL FROM:<a@client.example>\r\n" };
        assert_eq!(machine.take_sent(), mail, "{recipients:?}");
    }
    let mut machine = Machine::new(ClientLimits::default());
    machine.session = machine.session.with_protocol(TransferProtocol::Lmtp).with_prdr();
    machine.receive("220 store LMTP\r\n");
    machine.receive("250-store\r\n250 PRDR\r\n");
    machine.take_sent();
    machine.begin(&envelope(&["alice", "bob"]), &[b"x\r\n"]);
    assert_eq!(machine.take_sent(), b"MAIL FROM:<a@client.example>\r\n", "in LMTP each has a reply anyway");
}

#[test] // 353, a reply for each accepted recipient in the order of RCPT, and the reply for the message.
fn rprdr_a_typical_session() {
    play(
        &mut asking(OFFERS),
        &envelope(&["alice", "nobody", "bob"]),
        "Blah\r\n",
        "
        -- send
        C: MAIL FROM:<a@client.example> PRDR
        C: RCPT TO:<alice@example.org>
        C: RCPT TO:<nobody@example.org>
        C: RCPT TO:<bob@example.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 5.1.1 no
        S: 250 ok
        S: 354 go
        C: Blah
        C: .
        S: 353 each
        S: 250 taken
        S: 550 5.7.1 not this
        S: 250 done
        -- result: delivered 250, failed 5.1.1, failed 5.7.1
        -- ready
        -- send
        C: MAIL FROM:<a@client.example> PRDR
        C: RCPT TO:<alice@example.org>
        C: RCPT TO:<nobody@example.org>
        C: RCPT TO:<bob@example.org>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        C: Blah
        C: .
        S: 250 all of them
        -- result: delivered 250, delivered 250, delivered 250
        -- ready
    ",
    );
}

#[test] // However the replies arrive, they mean the same; what is said of nobody is the reply to the content.
fn rprdr_what_each_block_of_replies_means() {
    let taken = ["delivered 250", "failed 5.1.1", "delivered 250"];
    for (replies, expected) in [
        ("250 ok\r\n", taken),
        ("550 5.7.1 no\r\n", ["failed 5.7.1", "failed 5.1.1", "failed 5.7.1"]),
        ("451 4.3.0 later\r\n", ["deferred 4.3.0", "failed 5.1.1", "deferred 4.3.0"]),
        ("353 a\r\n250 b\r\n250 c\r\n250 d\r\n", taken),
        (
            "353-a\r\n353 b\r\n250-b\r\n250 b\r\n450 4.2.2 c\r\n250 d\r\n",
            ["delivered 250", "failed 5.1.1", "deferred 4.2.2"],
        ),
        ("353 a\r\n550 5.2.2 b\r\n550 5.2.1 c\r\n550 5.2.2 d\r\n", ["failed 5.2.2", "failed 5.1.1", "failed 5.2.1"]),
        // The reply for the message takes back what was said of recipients, where it is a refusal.
        ("353 a\r\n250 b\r\n550 5.2.1 c\r\n451 4.3.0 d\r\n", ["deferred 4.3.0", "failed 5.1.1", "failed 5.2.1"]),
        ("353 a\r\n450 4.2.2 b\r\n250 c\r\n554 5.6.0 d\r\n", ["deferred 4.2.2", "failed 5.1.1", "failed 5.6.0"]),
    ] {
        for by_chunks in [false, true] {
            let mut machine = behind_content(by_chunks);
            machine.receive(replies);
            assert_eq!(outcomes(&machine.report()), expected, "{replies:?}");
            assert!(machine.session.is_reusable(), "{replies:?}");
            assert_eq!(machine.take_sent(), b"", "nothing more is said of it");
            let mut machine = behind_content(by_chunks);
            for octet in replies.as_bytes().chunks(1) {
                machine.receive(octet);
            }
            assert_eq!(outcomes(&machine.report()), expected, "{replies:?}, octet by octet");
        }
    }
}

#[test] // D-35: too few, too many, or none that means anything: nobody has the reply of another, and the session ends.
fn d35_replies_that_do_not_fit_the_recipients_count_for_nobody() {
    let deferred = |replies: &str, machine: &mut Machine| {
        let outcomes = outcomes(&machine.report());
        assert!(machine.session.is_closed(), "{replies:?}");
        assert!(
            outcomes[0].starts_with("deferred") && outcomes[2].starts_with("deferred"),
            "{replies:?}: {outcomes:?}"
        );
    };
    for replies in [
        "353 a\r\n",
        "353 a\r\n550 5.1.1 of bob\r\n",
        "353 a\r\n550 5.1.1 of bob\r\n250 of all\r\n",
        "353 a\r\n250 b\r\n550 5.1.1 c",
    ] {
        let mut machine = behind_content(false);
        machine.receive(replies);
        assert!(machine.reports.is_empty(), "{replies:?}");
        machine.pass(Duration::from_secs(599));
        assert!(machine.reports.is_empty(), "{replies:?}");
        machine.pass(Duration::from_secs(1));
        deferred(replies, &mut machine);
        let mut machine = behind_content(true);
        machine.receive(replies);
        machine.leave();
        deferred(replies, &mut machine);
    }
    for replies in [
        "353 a\r\n250 b\r\n550 5.1.1 c\r\n550 5.1.1 d\r\n250 e\r\n",
        "353 a\r\n353 b\r\n",
        "353 a\r\n550 5.1.1 b\r\n354 c\r\n",
        "353 a\r\n550 5.1.1 b\r\nnonsense\r\n",
        "353 a\r\n550 5.1.1 b\r\n421 4.3.2 c\r\n",
        "353 a\r\n550 5.1.1 b\r\n550 5.1.1 c\r\n421 4.3.2 d\r\n",
        "354 a\r\n",
        "352 a\r\n",
    ] {
        let mut machine = behind_content(false);
        machine.receive(replies);
        deferred(replies, &mut machine);
    }
    // Behind the last reply a server may say good-bye.
    let mut machine = behind_content(false);
    machine.receive("353 a\r\n250 b\r\n250 c\r\n250 d\r\n421 4.3.2 bye\r\n");
    assert_eq!(outcomes(&machine.report()), ["delivered 250", "failed 5.1.1", "delivered 250"]);
    assert!(machine.session.is_closed());
    // Who was not asked for it has no reason to say 353.
    let mut machine = Machine::greeted(OFFERS);
    machine.begin(&envelope(&["alice", "bob"]), &[b"x\r\n"]);
    machine.receive("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    machine.receive("353 a\r\n250 b\r\n250 c\r\n250 d\r\n");
    assert_eq!(outcomes(&machine.report()), ["deferred 4.5.0", "deferred 4.5.0"]);
}

#[tokio::test] // Over a connection to a server of ours, and nothing else changes where it is not asked for.
async fn rprdr_a_client_and_a_server_of_ours() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let kept = inbox.clone();
    let refusing_bob = move |message: Message| {
        let kept = kept.clone();
        async move {
            let refusal = |path: &str| path.contains("bob").then(|| Refusal::permanent(7, 1, "not for bob"));
            let outcomes = message.recipients().iter().map(|to| refusal(&to.to_string()).map_or(Ok(()), Err));
            let accepted = Accepted::each(outcomes.collect::<Vec<_>>());
            kept.messages().push(message);
            Ok(accepted)
        }
    };
    let server = builder(&inbox, &log)
        .deliver(refusing_bob)
        .listener(Listener::new("127.0.0.1:0").prdr())
        .bind()
        .await
        .expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    let config = ClientConfig::new("client.example").expect("a name");
    let envelope = envelope(&["alice", "bob", "user1"]);
    for (config, bob) in [(config.clone(), "delivered 250"), (config.with_prdr(), "failed 5.7.1")] {
        for config in [config.clone(), config.with_chunking()] {
            let mut connection = ClientConnection::connect(address, &config).await.expect("the server greets");
            for _ in 0..2 {
                let report = connection.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
                assert_eq!(outcomes(&report), ["delivered 250", bob, "delivered 250"]);
                assert_eq!(report.content_reply().map(|reply| reply.code().get()), Some(250));
            }
            connection.quit().await;
        }
    }
    assert_eq!(inbox.len(), 8);
}
