//! RFC 8689: mail that must be protected on its whole way, the receiving side.

use std::time::Instant;

use smtp_core::{Accepted, Delivery, Message, Refusal, Server, SessionConfig, TlsFacts, TlsVersion, async_trait};

use crate::support::machine::{Machine, config};
use crate::support::tls::server_tls;
use crate::support::world::{Inbox, Log, Users, builder, in_process, open, unbound};

fn honouring() -> SessionConfig {
    SessionConfig { honours_requiretls: true, ..config() }
}

/// A session under TLS whose client has read the answer to `EHLO`, and that answer.
fn under_tls(config: SessionConfig) -> (Machine, String) {
    let mut machine = Machine::greeted(config.clone());
    let session = std::mem::replace(&mut machine.session, Machine::new(config).session);
    machine.session = session.into_tls(TlsFacts::new(TlsVersion::Tls13, "TLS13_AES_256_GCM_SHA384"), Instant::now());
    let reply = machine.send("EHLO client.example\r\n");
    (machine, reply)
}

fn is_offered(reply: &str) -> bool {
    reply.lines().any(|line| line.get(4..) == Some("REQUIRETLS"))
}

#[test] // RFC 8689 §2, §4.1; STANDARDS.md R8689
fn r8689_it_is_offered_under_tls_only_and_where_it_is_honoured() {
    for (config, in_clear, protected) in [(honouring(), false, true), (config(), false, false)] {
        let mut machine = Machine::new(config.clone());
        machine.send("");
        assert_eq!(is_offered(&machine.send("EHLO client.example\r\n")), in_clear);
        assert_eq!(is_offered(&under_tls(config).1), protected);
    }
}

#[test] // RFC 8689 §2: a parameter of MAIL, without a value.
fn r8689_the_parameter_is_understood_or_refused() {
    for (command, expected) in [
        ("MAIL FROM:<a@c.example> REQUIRETLS", "250 2.1.0"),
        ("MAIL FROM:<a@c.example> requiretls SIZE=100 BODY=8BITMIME", "250 2.1.0"),
        ("MAIL FROM:<> REQUIRETLS", "250 2.1.0"),
        ("MAIL FROM:<a@c.example> REQUIRETLS=1", "501 5.5.4"),
        ("MAIL FROM:<a@c.example> REQUIRETLS REQUIRETLS", "501 5.5.4"),
    ] {
        let (mut machine, _) = under_tls(honouring());
        assert_eq!(machine.replies(format!("{command}\r\n")), [expected], "{command}");
    }
    let (mut machine, _) = under_tls(honouring());
    assert_eq!(
        machine.replies("MAIL FROM:<a@c.example>\r\nRCPT TO:<alice@example.org> REQUIRETLS\r\n"),
        ["250 2.1.0", "555 5.5.4"]
    );
}

#[test] // RFC 5321 §4.1.1.11: what was not offered is not recognized, and nothing is kept of it.
fn r8689_where_it_is_not_offered_it_is_refused() {
    let mut after_helo = under_tls(honouring()).0;
    after_helo.send("HELO client.example\r\n");
    for (what, mut machine) in [
        ("in clear", Machine::greeted(honouring())),
        ("not honoured", under_tls(config()).0),
        ("after HELO", after_helo),
    ] {
        let replies = machine.replies("MAIL FROM:<a@c.example> REQUIRETLS\r\nRCPT TO:<alice@example.org>\r\n");
        assert_eq!(replies, ["555 5.5.4", "503 5.5.1"], "{what}");
        assert_eq!(machine.replies("MAIL FROM:<a@c.example>\r\n"), ["250 2.1.0"], "{what}");
    }
}

/// A delivery that says of itself that it keeps to it.
struct Honouring(Inbox);

#[async_trait]
impl Delivery for Honouring {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_requiretls(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)] // RFC 8689 §4.1: the message is marked, and the next one is not.
async fn r8689_the_message_carries_it() {
    in_process(async {
        let inbox = Inbox::default();
        let server =
            Server::builder("mx.example.org").recipients(Users).deliver(Honouring(inbox.clone())).tls(server_tls());
        let mut client = open(&unbound(server).await).start_tls().await;
        client.ask("EHLO client.example", "250").await;
        for parameter in [" REQUIRETLS", ""] {
            client.ask(&format!("MAIL FROM:<a@client.example>{parameter}"), "250 2.1.0").await;
            client.ask("RCPT TO:<alice@example.org>", "250").await;
            client.ask("DATA", "354").await;
            client.send("TLS-Required: No\r\n\r\nx\r\n.\r\n").await;
            client.expect("250 2.0.0").await;
        }
        let marked: Vec<_> = inbox.messages().iter().map(|message| message.parameters().requiretls).collect();
        assert_eq!(marked, [true, false]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn r8689_a_delivery_that_says_nothing_is_not_trusted_with_it() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let mut client = open(&unbound(builder(&inbox, &log).tls(server_tls())).await).start_tls().await;
        client.ask("EHLO client.example", "250").await;
        client.ask("MAIL FROM:<a@client.example> REQUIRETLS", "555 5.5.4").await;
    })
    .await;
}
