//! RFC 3461: what a sender asks of notifications, the receiving side: parsed, kept, and offered where it is honoured.

use std::sync::Arc;

use smtp_core::{
    Accepted, Delivery, DsnOffer, EnvelopeId, Listener, Message, Notify, Refusal, Ret, Server, SessionConfig,
    async_trait,
};

use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, Users, builder, in_process, open, unbound};

/// A delivery that says of itself that it honours what is asked.
struct Honouring(Inbox);

#[async_trait]
impl Delivery for Honouring {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_dsn(&self) -> bool {
        true
    }
}

fn offering(dsn: DsnOffer) -> SessionConfig {
    SessionConfig { dsn, ..config() }
}

fn ehlo(config: SessionConfig) -> String {
    let mut machine = Machine::new(config);
    machine.send("");
    machine.send("EHLO c.example\r\n")
}

#[test] // RFC 3461 §3; PRACTICES S22. The client of these sessions is nobody whom the server knows.
fn r3461_dsn_is_offered_to_whom_the_server_says() {
    for (offer, is_offered) in [(DsnOffer::Nobody, false), (DsnOffer::KnownClients, false), (DsnOffer::Everybody, true)]
    {
        let reply = ehlo(offering(offer));
        assert_eq!(reply.contains("250 DSN\r\n"), is_offered, "{offer:?}: {reply}");
    }
    // RFC 3461 §3: nor where the longest line that it allows would be refused.
    let mut short = offering(DsnOffer::Everybody);
    short.limits.command_line_octets = 1011;
    assert!(!ehlo(short.clone()).contains("DSN"));
    short.limits.command_line_octets = 1012;
    assert!(ehlo(short).contains("DSN"));
}

#[test] // RFC 3461 §4.1 to §4.4, and the rows of R3461a.
fn r3461a_what_is_asked_is_understood_or_refused() {
    let (orcpt, envid) = (format!("ORCPT=rfc822;{}", "x".repeat(493)), format!("ENVID={}", "x".repeat(100)));
    for (command, expected) in [
        ("MAIL FROM:<a@c.example> RET=FULL ENVID=QQ+20314159", "250 2.1.0"),
        (&*format!("MAIL FROM:<a@c.example> RET=HDRS {envid} SIZE=100 BODY=8BITMIME"), "250 2.1.0"),
        (&*format!("MAIL FROM:<a@c.example> {envid}x"), "501 5.5.4"),
        ("MAIL FROM:<> RET=HDRS", "250 2.1.0"),
        ("MAIL FROM:<a@c.example> RET=HDRS RET=HDRS", "501 5.5.4"),
        ("MAIL FROM:<a@c.example> ENVID=1 ENVID=2", "501 5.5.4"),
        ("MAIL FROM:<a@c.example> ENVID=+0D+0ARCPT", "501 5.5.4"),
        ("MAIL FROM:<a@c.example> RET=NONE", "501 5.5.4"),
        ("MAIL FROM:<a@c.example> NOTIFY=NEVER", "555 5.5.4"),
        ("RCPT TO:<alice@example.org> NOTIFY=NEVER", "250 2.1.5"),
        ("RCPT TO:<alice@example.org> NOTIFY=success,failure,delay ORCPT=rfc822;b@c", "250 2.1.5"),
        (&*format!("RCPT TO:<alice@example.org> NOTIFY=SUCCESS,FAILURE,DELAY {orcpt}"), "250 2.1.5"),
        (&*format!("RCPT TO:<alice@example.org> {orcpt}x"), "501 5.5.4"),
        ("RCPT TO:<alice@example.org> NOTIFY=NEVER,SUCCESS", "501 5.5.4"),
        ("RCPT TO:<alice@example.org> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4"),
        ("RCPT TO:<alice@example.org> ORCPT=rfc822;a ORCPT=rfc822;a", "501 5.5.4"),
        ("RCPT TO:<alice@example.org> ORCPT=rfc822;a+00b", "501 5.5.4"),
        ("RCPT TO:<alice@example.org> RET=FULL", "555 5.5.4"),
    ] {
        let mut machine = Machine::greeted(offering(DsnOffer::Everybody));
        if command.starts_with("RCPT") {
            machine.send("MAIL FROM:<a@c.example>\r\n");
        }
        assert_eq!(machine.replies(format!("{command}\r\n")), [expected], "{command}");
    }
}

#[test] // PRACTICES S22; RFC 5321 §4.1.1.11. After HELO there are no extensions.
fn s22_a_parameter_that_is_not_offered_is_unknown() {
    let mut machine = Machine::greeted(offering(DsnOffer::KnownClients));
    for command in ["MAIL FROM:<a@c.example> RET=FULL", "MAIL FROM:<a@c.example> ENVID=1"] {
        assert_eq!(machine.replies(format!("{command}\r\n")), ["555 5.5.4"], "{command}");
    }
    machine.send("MAIL FROM:<a@c.example>\r\n");
    for parameter in ["NOTIFY=NEVER", "ORCPT=rfc822;a"] {
        let command = format!("RCPT TO:<alice@example.org> {parameter}\r\n");
        assert_eq!(machine.replies(command), ["555 5.5.4"], "{parameter}");
    }
    let mut machine = Machine::new(offering(DsnOffer::Everybody));
    machine.send("");
    machine.send("HELO c.example\r\n");
    let said = machine.replies("MAIL FROM:<> RET=FULL\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org> NOTIFY=NEVER\r\n");
    assert_eq!(said, ["555 5.5.4", "250 2.1.0", "555 5.5.4"]);
}

#[tokio::test(start_paused = true)] // RFC 3461 §5: with the recipient that it was said of, and no other.
async fn r3461a_what_is_asked_arrives_with_the_message() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let listener = Listener::new("127.0.0.1:0").dsn(DsnOffer::Everybody);
        let server = Server::builder("mx.example.org")
            .recipients(Users)
            .deliver(Arc::new(Honouring(inbox.clone())))
            .observer(log)
            .listener(listener);
        let server = unbound(server).await;
        let mut client = open(&server);
        client.greet().await;
        for round in 0..2 {
            let asked = if round == 0 { " RET=HDRS ENVID=a+2Bb" } else { "" };
            client.ask(&format!("MAIL FROM:<a@c.example>{asked}"), "250").await;
            client.ask("RCPT TO:<alice@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+3Dy@z", "250").await;
            // What was said of a recipient that was refused is not the next one's.
            client.ask("RCPT TO:<nobody@example.org> NOTIFY=NEVER ORCPT=rfc822;nobody", "550").await;
            client.ask("RCPT TO:<error@example.org> NOTIFY=NEVER", "451").await;
            client.ask("RCPT TO:<bob@example.org>", "250").await;
            client.ask("RCPT TO:<postmaster> NOTIFY=NEVER", "250").await;
            client.ask("DATA", "354").await;
            client.send("Subject: x\r\n\r\n.\r\n").await;
            client.expect("250 2.0.0").await;
            let messages = inbox.messages();
            let message = &messages[round];
            let dsn = &message.parameters().dsn;
            assert_eq!(dsn.ret, (round == 0).then_some(Ret::Headers));
            assert_eq!(dsn.envelope_id.as_ref().map(EnvelopeId::as_str), (round == 0).then_some("a+b"));
            let [alice, bob, postmaster] = message.recipients() else { panic!("three recipients") };
            assert_eq!(alice.dsn().notify, Some(Notify::SUCCESS | Notify::DELAY));
            let original = alice.dsn().original_recipient.as_ref().expect("it was said");
            assert_eq!((original.address_type(), original.address()), ("rfc822", "x=y@z"));
            assert!(bob.dsn().is_empty() && bob.dsn().notify() == Notify::FAILURE);
            assert_eq!((postmaster.dsn().notify, &postmaster.dsn().original_recipient), (Some(Notify::NEVER), &None));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 3461 §3: nobody promises for a delivery what it does not do.
async fn r3461_without_a_delivery_that_honours_it_dsn_is_never_offered() {
    in_process(async {
        for (honours, network, is_offered) in
            [(false, "192.0.2.0/24", false), (true, "192.0.2.0/24", true), (true, "198.51.100.0/24", false)]
        {
            let (inbox, log) = (Inbox::default(), Log::default());
            let listener = Listener::new("127.0.0.1:0").relay_for(network.parse().expect("a network"));
            let server = builder(&inbox, &log).listener(listener);
            let server = if honours { server.deliver(Honouring(inbox)) } else { server };
            let server = unbound(server).await;
            let mut client = open(&server);
            client.expect("220").await;
            client.send("EHLO client.example\r\n").await;
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line: &String| line.as_bytes()[3] == b'-') {
                lines.push(client.line().await.expect("a line"));
            }
            assert_eq!(lines.iter().any(|line| &line[4..] == "DSN"), is_offered, "{honours} {network}");
            let code = if is_offered { "250" } else { "555 5.5.4" };
            client.ask("MAIL FROM:<a@c.example> RET=FULL", code).await;
        }
    })
    .await;
}
