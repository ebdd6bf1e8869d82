//! SECURITY.md D-22: `XCLIENT` and `XFORWARD` are believed of listed peers only, and give no right by themselves.

use std::sync::Arc;

use smtp_core::{
    ConfigError, Connection, Error, IpNet, Listener, PeerRights, Policy, PolicyContext, Refusal, ServerSession,
    SessionEvent, Stages, Verdict, async_trait,
};

use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::tls::server_tls;
use crate::support::world::{Inbox, Log, Running, builder, start};

const ALL: PeerRights = PeerRights { xclient: true, xclient_login: true, xforward: true };
const NO_LOGIN: PeerRights = PeerRights { xclient: true, xclient_login: false, xforward: false };

fn network(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// A session with a peer of those rights, which has read the greeting and the answer to `EHLO`.
fn machine(rights: PeerRights) -> Machine {
    let mut machine = Machine::new(config());
    let connection = Connection::clone(machine.session.connection()).with_peer_rights(rights);
    let connection = connection.with_treatment(smtp_core::Treatment::RelayClient);
    machine.session = ServerSession::new(Arc::new(config()), Arc::new(connection), machine.now);
    assert!(machine.send("").starts_with("220 "));
    machine.send("EHLO proxy.example\r\n");
    machine
}

#[test]
fn d22_an_unlisted_client_is_refused_whatever_it_says() {
    for line in [
        "XCLIENT ADDR=127.0.0.1",
        "XCLIENT ADDR=192.0.2.9 LOGIN=root",
        "XCLIENT NAME=a+",
        "XCLIENT",
        "XFORWARD ADDR=192.0.2.9",
        "XFORWARD",
        "xclient addr=[UNAVAILABLE]",
    ] {
        for rights in [PeerRights::default(), PeerRights { xclient: false, xclient_login: true, xforward: false }] {
            let mut machine = machine(rights);
            assert_eq!(machine.replies(format!("{line}\r\n")), ["550 5.7.0"], "{line}");
            assert_eq!(machine.session.connection().peer().ip().to_string(), "192.0.2.1");
        }
    }
    let mut machine = machine(PeerRights::default());
    assert!(!machine.send("EHLO c.example\r\n").contains("XCLIENT"), "not offered");
}

#[test]
fn d22_what_a_listed_peer_says_is_validated() {
    for (line, expected) in [
        ("XCLIENT ADDR=999.0.0.1", "501 5.5.4"),
        ("XCLIENT ADDR=192.0.2.9 NAME=a..b", "501 5.5.4"),
        ("XCLIENT ADDR=192.0.2.9+0D+0AMAIL", "501 5.5.4"),
        ("XCLIENT PORT=70000", "501 5.5.4"),
        ("XCLIENT HELO=c.example", "501 5.5.4"),
        ("XCLIENT", "501 5.5.4"),
        ("XCLIENT ADDR=192.0.2.9 LOGIN=alice", "550 5.7.0"),
        ("XCLIENT LOGIN=[UNAVAILABLE]", "550 5.7.0"),
        ("XFORWARD ADDR=192.0.2.9", "550 5.7.0"),
    ] {
        let mut machine = machine(NO_LOGIN);
        assert_eq!(machine.replies(format!("{line}\r\n")), [expected], "{line}");
        assert_eq!(machine.session.connection().peer().ip().to_string(), "192.0.2.1", "{line}");
    }
}

#[test] // Whatever the address is: the peer may relay, and the client in whose place it speaks may not.
fn d22_the_session_begins_anew_without_any_right() {
    for address in ["127.0.0.1", "192.0.2.1", "IPV6:::1", "[UNAVAILABLE]"] {
        let mut machine = machine(ALL);
        assert_eq!(
            machine.replies("MAIL FROM:<a@b.example>\r\nRCPT TO:<x@elsewhere.example>\r\n"),
            ["250 2.1.0", "250 2.1.5"]
        );
        let line = format!("XCLIENT ADDR={address} PORT=4711 NAME=c.example\r\n");
        assert_eq!(machine.replies(&line), ["503 5.5.1"], "in a transaction");
        assert_eq!(machine.replies("RSET\r\n"), ["250 2.0.0"]);
        assert_eq!(machine.replies(&line), ["220"]);
        let connection = machine.session.connection().clone();
        assert_eq!(connection.client_name().expect("said").as_str(), "c.example");
        assert_eq!(connection.peer().port(), 4711);
        assert_eq!(connection.proxy().expect("the peer").ip().to_string(), "192.0.2.1");
        assert!(connection.greeting().is_none() && connection.identity().is_none());
        assert_eq!(machine.replies("MAIL FROM:<a@b.example>\r\n"), ["503 5.5.1"], "EHLO is forgotten");
        assert!(machine.send("EHLO c.example\r\n").contains("XCLIENT"), "the peer may do it again");
        assert_eq!(
            machine
                .replies("MAIL FROM:<a@b.example>\r\nRCPT TO:<x@elsewhere.example>\r\nRCPT TO:<alice@example.org>\r\n"),
            ["250 2.1.0", "550 5.7.1", "250 2.1.5"],
            "{address}"
        );
        let events = machine.session.take_events();
        assert!(events.iter().any(|event| matches!(event, SessionEvent::PassedOn { .. })), "{events:?}");
    }
}

#[test] // And may relay then, as the operator wished.
fn d22_a_login_counts_where_it_is_believed() {
    let mut machine = machine(ALL);
    assert_eq!(machine.replies("XCLIENT ADDR=192.0.2.9 LOGIN=alice DESTADDR=192.0.2.26 DESTPORT=587\r\n"), ["220"]);
    let connection = machine.session.connection().clone();
    assert_eq!(connection.identity().expect("believed").as_str(), "alice");
    assert_eq!(connection.local().to_string(), "192.0.2.26:587");
    // The next client has not proved anything.
    assert_eq!(machine.replies("XCLIENT ADDR=192.0.2.10\r\n"), ["220"]);
    assert!(machine.session.connection().identity().is_none());
}

#[test] // Octets behind it would be read as the word of the client before.
fn d22_nothing_may_stand_behind_xclient() {
    let mut machine = machine(ALL);
    let replies = machine.replies("XCLIENT ADDR=192.0.2.9\r\nEHLO c.example\r\n");
    assert_eq!(replies, ["554 5.5.0"]);
    assert!(machine.is_closed());
}

#[test] // LI12: without a limit each would be a greeting for nothing.
fn d22_xclient_without_end_ends_the_session() {
    let mut machine = machine(ALL);
    let ended = (0..200).find(|_| machine.replies("XCLIENT ADDR=192.0.2.9\r\n") != ["220"]);
    assert!(machine.is_closed() && ended.is_some_and(|count| count <= 100), "{ended:?}");
}

/// Refuses one client by its address.
struct NotFrom;

#[async_trait]
impl Policy for NotFrom {
    fn name(&self) -> &'static str {
        "not from"
    }
    fn stages(&self) -> Stages {
        Stages::CONNECT
    }
    async fn connect(&self, cx: &mut PolicyContext<'_>) -> Verdict {
        if cx.connection().peer().ip().to_string() == "192.0.2.66" {
            return Verdict::Refuse(Refusal::permanent(7, 1, "Not you"));
        }
        Verdict::Continue
    }
}

async fn running(inbox: &Inbox, log: &Log, listener: Listener) -> Running {
    start(builder(inbox, log).tls(server_tls()).policy(NotFrom).listener(listener)).await
}

#[tokio::test] // Policies are asked about the client, not about the peer; under TLS as in clear.
async fn d22_policies_judge_the_client_that_is_passed_on() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let listener =
        Listener::new("127.0.0.1:0").xclient_from(network("127.0.0.0/8")).xforward_from(network("127.0.0.1/32"));
    let server = running(&inbox, &log, listener).await;
    let mut client = Client::connect(server.address).await.start_tls().await;
    client.ask("EHLO proxy.example", "250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE").await;
    client.ask("XCLIENT ADDR=192.0.2.66", "220 mx.example.org").await;
    client.ask("EHLO c.example", "250").await;
    client.ask("MAIL FROM:<a@c.example>", "250").await;
    client.ask("RCPT TO:<alice@example.org>", "550 5.7.1").await;
    client.ask("RSET", "250").await;
    client.ask("XCLIENT ADDR=192.0.2.67 NAME=[TEMPUNAVAIL]", "220 mx.example.org").await;
    client.ask("EHLO c.example", "250").await;
    client.ask("XFORWARD NAME=origin.example ADDR=198.51.100.7", "250 2.0.0").await;
    client.ask("XFORWARD PORT=25 PROTO=ESMTP HELO=h+20h IDENT=4711 SOURCE=REMOTE", "250 2.0.0").await;
    client.send_message().await;
    client.expect("250").await;
    client.send_message().await;
    client.expect("250").await;
    client.ask("MAIL FROM:<a@c.example>", "250").await;
    client.ask("XFORWARD NAME=x.example", "503 5.5.1").await;
    let messages = inbox.messages();
    assert_eq!(messages[0].connection().peer().ip().to_string(), "192.0.2.67");
    let received = String::from_utf8(messages[0].header_prefix()).expect("ASCII");
    assert!(received.contains("[192.0.2.67]") && received.contains("ESMTPS"), "{received}");
    let forwarded = messages[0].forwarded().expect("said");
    assert_eq!(forwarded.name.as_ref().expect("said").as_str(), "origin.example");
    assert_eq!((forwarded.address, forwarded.port), (Some("198.51.100.7".parse().expect("valid")), Some(25)));
    assert_eq!(forwarded.helo.as_ref().expect("said").as_str(), "h h");
    // It was said of one message.
    assert!(messages[1].forwarded().is_none());
}

#[tokio::test] // D-43
async fn d22_nobody_lists_everybody() {
    for listener in [
        Listener::new("127.0.0.1:0").xclient_from(network("0.0.0.0/0")),
        Listener::new("127.0.0.1:0").xforward_from(network("::/0")),
    ] {
        let error = builder(&Inbox::default(), &Log::default()).listener(listener).bind().await.err();
        assert!(matches!(error, Some(Error::Config(ConfigError::BelievesAnybody(_)))), "{error:?}");
    }
}

#[test] // Front, filter, back: whoever is listed for anything frames as strictly as a stranger (D-1, D-53, D-54).
fn d48_listed_peers_get_no_looser_framing() {
    for ending in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r\r\n", "\r\n.\0\r\n"] {
        let mut machine = machine(ALL);
        assert_eq!(
            machine.replies("XFORWARD NAME=origin.example\r\nMAIL FROM:<a@b.example>\r\n"),
            ["250 2.0.0", "250 2.1.0"]
        );
        assert_eq!(machine.replies("RCPT TO:<x@elsewhere.example>\r\n"), ["250 2.1.5"]);
        assert_eq!(machine.replies("DATA\r\n"), ["354"]);
        let smuggled = "MAIL FROM:<evil@b.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nx\r\n.\r\n";
        let replies = machine.replies(format!("text{ending}{smuggled}"));
        assert_eq!(replies, ["550 5.5.2"], "{ending:?}");
        assert!(machine.is_closed() && machine.delivered.is_empty(), "{ending:?}");
    }
}
