//! RFC 3865: what a message solicits, said by the client and refused by the server (STANDARDS R3865).

use std::sync::{Arc, Mutex};

use smtp_core::{
    Limits, Listener, Policy, PolicyContext, Refusal, ReversePath, SessionConfig, SolicitationClasses, Stage, Stages,
    Verdict, async_trait,
};

use crate::scripted::{self, envelope};
use crate::support::machine::{Machine, config};
use crate::support::transcript::play;
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

fn classes(text: &str) -> SolicitationClasses {
    SolicitationClasses::parse(text).expect("keywords")
}

/// A server that takes no message of these classes; none in particular where there is no text.
fn refusing(text: &str) -> SessionConfig {
    let refused = if text.is_empty() { SolicitationClasses::none() } else { classes(text) };
    SessionConfig { no_soliciting: Some(refused), ..config() }
}

/// The line of the answer to that greeting, and the reply to `MAIL` with the parameter.
fn offered(config: SessionConfig, hello: &str) -> (Option<String>, String) {
    let mut machine = Machine::new(config);
    machine.send("");
    let answer = machine.send(format!("{hello} client.example\r\n"));
    let line = answer.lines().find(|line| line[4..].starts_with("NO-SOLICITING")).map(|line| line[4..].to_owned());
    (line, machine.replies("MAIL FROM:<a@client.example> SOLICIT=org.example:ADV\r\n").remove(0))
}

#[test] // §2.1: the keyword, with the classes or alone. It is refused where it is not offered (RFC 5321 §4.1.1.11).
fn r3865_it_is_offered_where_it_is_configured() {
    let yes = || "250 2.1.0".to_owned();
    let no = || "555 5.5.4".to_owned();
    let line = |text: &str| Some(text.to_owned());
    assert_eq!(offered(refusing("net.example:ADV,b"), "EHLO"), (line("NO-SOLICITING net.example:ADV,b"), yes()));
    assert_eq!(offered(refusing(""), "EHLO"), (line("NO-SOLICITING"), yes()));
    assert_eq!(offered(config(), "EHLO"), (None, no()));
    assert_eq!(offered(refusing(""), "HELO"), (None, no()));
    // §2: the line may be 1007 octets longer, so a server with shorter lines does not offer it.
    let mut limits = Limits::default();
    limits.command_line_octets = 1518;
    assert_eq!(offered(SessionConfig { limits, ..refusing("") }, "EHLO"), (None, no()));
}

#[test] // §2.2, §2.3: the value is what the grammar has, once.
fn r3865_what_is_no_list_of_keywords_is_refused() {
    for parameter in
        ["SOLICIT", "SOLICIT=", "SOLICIT=,", "SOLICIT=9", "SOLICIT=a,", "SOLICIT=a SOLICIT=a", "SOLICIT=a;b"]
    {
        let mut machine = Machine::greeted(refusing(""));
        assert_eq!(machine.replies(format!("MAIL FROM:<> {parameter}\r\n")), ["501 5.5.4"], "{parameter}");
    }
    let mut machine = Machine::greeted(refusing(""));
    let longest = "a".repeat(SolicitationClasses::LIMIT_OCTETS);
    assert_eq!(machine.codes(format!("MAIL FROM:<> SOLICIT={longest}b\r\n")), ["501"]);
    assert_eq!(machine.codes(format!("MAIL FROM:<a@client.example> SOLICIT={longest} SIZE=1\r\n")), ["250"]);
}

#[test] // §2.3 has the refusal at RCPT, §2.4 its code. Role mailboxes stay reachable (PRACTICES P4).
fn r3865_a_message_of_a_class_that_is_not_wanted_is_refused() {
    play(
        &mut Machine::new(refusing("net.example:ADV,org.example:ADV:ADLT")),
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<a@client.example> SOLICIT=x,ORG.example:adv:ADLT
        S: 250 2.1.0
        C: RCPT TO:<alice@example.org>
        S: 550 5.7.1 No soliciting
        C: RCPT TO:<postmaster@example.org>
        S: 250 2.1.5
        C: RSET
        S: 250 2.0.0
        C: MAIL FROM:<a@client.example> SOLICIT=org.example:ADV
        S: 250 2.1.0
        C: RCPT TO:<alice@example.org>
        S: 250 2.1.5
        C: RSET
        S: 250 2.0.0
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0
        C: RCPT TO:<alice@example.org>
        S: 250 2.1.5
    ",
    );
    // Of none in particular: it is for the policies to say.
    let mut machine = Machine::greeted(refusing(""));
    assert_eq!(machine.codes("MAIL FROM:<> SOLICIT=a\r\nRCPT TO:<alice@example.org>\r\n"), ["250", "250"]);
    // A policy's own words go before.
    let mut machine = Machine::greeted(refusing("a")).refusing(Stage::Mail, Refusal::permanent(7, 27, "by policy"));
    let replies = machine.replies("MAIL FROM:<> SOLICIT=a\r\nRCPT TO:<alice@example.org>\r\n");
    assert_eq!(replies, ["250 2.1.0", "550 5.7.27"]);
}

/// What a policy was shown.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Option<String>>>>);

#[async_trait]
impl Policy for Seen {
    fn name(&self) -> &'static str {
        "seen"
    }

    fn stages(&self) -> Stages {
        Stages::MAIL
    }

    async fn mail(&self, cx: &mut PolicyContext<'_>, _: &ReversePath) -> Verdict {
        let said = cx.transaction().and_then(|transaction| transaction.parameters().solicit.as_ref());
        self.0.lock().expect("no panic").push(said.map(ToString::to_string));
        Verdict::Continue
    }
}

#[tokio::test(start_paused = true)] // STANDARDS R3865: given to the hook, and to the delivery. §2.7: relays refuse as well.
async fn r3865_policies_and_deliveries_see_what_a_listener_lets_in() {
    in_process(async {
        let (inbox, seen) = (Inbox::default(), Seen::default());
        let listener = Listener::new("127.0.0.1:0")
            .no_soliciting(classes("net.example:ADV"))
            .relay_for("192.0.2.0/24".parse().expect("a network"));
        let server = builder(&inbox, &Log::default()).policy(seen.clone()).listener(listener);
        let mut client = open(&unbound(server).await);
        client.greet().await;
        client.ask("MAIL FROM:<a@client.example> SOLICIT=net.example:adv", "250 2.1.0").await;
        client.ask("RCPT TO:<b@elsewhere.example>", "550 5.7.1 No soliciting").await;
        client.ask("RSET", "250").await;
        client.ask("MAIL FROM:<a@client.example> SOLICIT=org.example:ADV", "250 2.1.0").await;
        client.ask("RCPT TO:<b@elsewhere.example>", "250 2.1.5").await;
        client.ask("DATA", "354").await;
        client.send("Subject: x\r\n\r\nx\r\n.\r\n").await;
        client.expect("250").await;
        let said = inbox.messages()[0].parameters().solicit.clone();
        assert_eq!(said, Some(classes("org.example:ADV")));
        let shown = seen.0.lock().expect("no panic").clone();
        assert_eq!(shown, [Some("net.example:adv".to_owned()), Some("org.example:ADV".to_owned())]);
    })
    .await;
}

#[test] // §2.3: the client says it where it is offered, and nothing else changes (§2.7).
fn r3865_the_client_says_it_where_it_is_offered() {
    let soliciting = || envelope(&["b"]).with_solicitation(classes("org.example:ADV,b"));
    for (extensions, message, expected) in [
        (&["NO-SOLICITING"][..], soliciting(), "MAIL FROM:<a@client.example> SOLICIT=org.example:ADV,b\r\n"),
        (&["no-soliciting x,y"], soliciting(), "MAIL FROM:<a@client.example> SOLICIT=org.example:ADV,b\r\n"),
        (&["SOLICITING"], soliciting(), "MAIL FROM:<a@client.example>\r\n"),
        (&["NO-SOLICITING"], envelope(&["b"]), "MAIL FROM:<a@client.example>\r\n"),
        (
            &["NO-SOLICITING"],
            envelope(&["b"]).with_solicitation(SolicitationClasses::none()),
            "MAIL FROM:<a@client.example>\r\n",
        ),
    ] {
        let mut machine = scripted::Machine::greeted(extensions);
        machine.begin(&message, &[b"x\r\n"]);
        assert_eq!(String::from_utf8(machine.take_sent()).expect("ASCII"), expected, "{extensions:?}");
    }
}
