//! RFC 7293: mail for a mailbox that must still have the owner whom the sender knows, server and client (STANDARDS R7293).

use std::time::SystemTime;

use smtp_core::{
    Accepted, Connection, Delivery, ForwardPath, Listener, Lookup, LookupError, Message, Ownership, RecipientLookup,
    Refusal, SendCause, Server, SessionConfig, Transaction, ValidSince, async_trait,
};
use tokio::io::DuplexStream;

use crate::scripted::{self, envelope, outcomes};
use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, find, in_process, open, unbound};

const SINCE: &str = "RRVS=2014-04-03T23:01:00Z";

fn wish(text: &str) -> ValidSince {
    ValidSince::parse(text.trim_start_matches("RRVS=")).expect("in the grammar")
}

/// [`find`], where `alice` has been alice since 2014, `bob` was somebody else until 2020, of `user1` nobody knows, `user2` has
/// a domain that was sold, and the directory of dates is away for `user3`.
struct Dates(bool);

#[async_trait]
impl RecipientLookup for Dates {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        find(to)
    }

    fn honours_rrvs(&self) -> bool {
        self.0
    }

    async fn ownership(
        &self,
        _: &Connection,
        _: &Transaction,
        to: &ForwardPath,
        since: SystemTime,
    ) -> Result<Ownership, LookupError> {
        let owned =
            |text: &str| if wish(text).time() <= since { Ownership::Continuous } else { Ownership::MailboxChanged };
        match to.local_part() {
            "alice" | "list" => Ok(owned("2014-01-01T00:00:00Z")),
            "bob" => Ok(owned("2020-01-01T00:00:00Z")),
            "user2" => Ok(Ownership::DomainChanged),
            "user3" => Err(LookupError::new("the dates are away")),
            "user4" => panic!("a fault of the hook"),
            _ => Ok(Ownership::Unknown),
        }
    }
}

/// A delivery that says of itself whether it passes the demand on.
struct Relaying(Inbox, bool);

#[async_trait]
impl Delivery for Relaying {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_rrvs(&self) -> bool {
        self.1
    }
}

/// A client that may relay, behind `MAIL`; and whether it was offered.
async fn behind_mail(inbox: &Inbox, honours: bool, relays: bool) -> (Client<DuplexStream>, bool) {
    let listener = Listener::new("127.0.0.1:0").relay_for("192.0.2.0/24".parse().expect("a network"));
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .recipients(Dates(honours))
        .deliver(Relaying(inbox.clone(), relays))
        .listener(listener);
    let mut client = open(&unbound(server).await);
    client.expect("220").await;
    client.send("EHLO client.example\r\n").await;
    let mut is_offered = false;
    loop {
        let line = client.line().await.expect("an answer");
        is_offered |= &line[4..] == "RRVS";
        if !line.starts_with("250-") {
            break;
        }
    }
    client.ask("MAIL FROM:<a@client.example>", "250").await;
    (client, is_offered)
}

#[tokio::test(start_paused = true)] // §5.1, and the codes of §14.2: each answer of the lookup has its reply.
async fn r7293_who_has_another_owner_is_refused() {
    in_process(async {
        let inbox = Inbox::default();
        let (mut client, is_offered) = behind_mail(&inbox, true, false).await;
        assert!(is_offered);
        for (to, parameter, expected) in [
            ("alice", SINCE, "250 2.1.5"),
            ("alice", "RRVS=2013-12-31T23:59:59Z", "550 5.7.17"),
            ("alice", "RRVS=2014-01-01T00:00:00Z;C", "250 2.1.5"),
            ("alice", "RRVS=2014-01-01T01:00:00+01:00;R", "250 2.1.5"),
            // What is to be done without support means nothing where there is support.
            ("bob", "RRVS=2014-04-03T23:01:00Z;C", "550 5.7.17"),
            ("bob", "", "250 2.1.5"),
            ("list", SINCE, "250 2.1.5"),
            ("user1", SINCE, "550 5.7.19"),
            ("user2", SINCE, "550 5.7.18"),
            ("user3", SINCE, "451 4.3.0"),
            ("user4", SINCE, "451 4.3.0"),
            // §5.1: nobody owns a role mailbox.
            ("postmaster", SINCE, "250 2.1.5"),
            ("nobody", SINCE, "550 5.1.1"),
        ] {
            client.ask(&format!("RCPT TO:<{to}@example.org> {parameter}"), expected).await;
        }
        client.ask("DATA", "354").await;
        client.send("Subject: x\r\n\r\nx\r\n.\r\n").await;
        client.expect("250").await;
        let messages = inbox.messages();
        let kept: Vec<_> = messages[0].recipients().iter().map(|to| (to.to_string(), to.valid_since())).collect();
        let checked = |text: &str| Some(wish(text).or_continue());
        // What was checked here needs nobody behind who knows it; what is behind an alias was not meant.
        let expected = [
            ("alice", checked(SINCE)),
            ("alice", checked("2014-01-01T00:00:00Z")),
            ("alice", checked("2014-01-01T00:00:00Z")),
            ("bob", None),
            ("list", None),
            ("postmaster", None),
        ];
        assert_eq!(kept, expected.map(|(to, wish)| (format!("<{to}@example.org>"), wish)));
    })
    .await;
}

#[tokio::test(start_paused = true)] // §5.1.1: passed on by a delivery that does it; otherwise `;C` says whether it may go on.
async fn r7293_what_is_relayed_keeps_its_demand() {
    in_process(async {
        for (relays, parameter, expected) in [
            (true, SINCE, Ok(Some(wish(SINCE)))),
            (true, "RRVS=2014-04-03T23:01:00Z;C", Ok(Some(wish(SINCE).or_continue()))),
            (false, SINCE, Err("550 5.7.19")),
            (false, "RRVS=2014-04-03T23:01:00Z;R", Err("550 5.7.19")),
            (false, "RRVS=2014-04-03T23:01:00Z;C", Ok(Some(wish(SINCE).or_continue()))),
            (false, "", Ok(None)),
        ] {
            let inbox = Inbox::default();
            let (mut client, _) = behind_mail(&inbox, true, relays).await;
            let reply = expected.err().unwrap_or("250 2.1.5");
            client.ask(&format!("RCPT TO:<b@elsewhere.example> {parameter}"), reply).await;
            if let Ok(kept) = expected {
                client.ask("DATA", "354").await;
                client.send("Subject: x\r\n\r\nx\r\n.\r\n").await;
                client.expect("250").await;
                assert_eq!(inbox.messages()[0].recipients()[0].valid_since(), kept, "{parameter}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // Offered where the lookup knows dates, and refused elsewhere (RFC 5321 §4.1.1.11).
async fn r7293_it_is_offered_where_the_lookup_honours_it() {
    in_process(async {
        let (mut client, is_offered) = behind_mail(&Inbox::default(), false, true).await;
        assert!(!is_offered);
        client.ask(&format!("RCPT TO:<alice@example.org> {SINCE}"), "555 5.5.4").await;
        let (mut client, _) = behind_mail(&Inbox::default(), true, true).await;
        for wrong in ["RRVS", "RRVS=", "RRVS=2014", "RRVS=2014-04-03T23:01:00Z;", "RRVS=2014-04-03T23:01:00Z;X"] {
            client.ask(&format!("RCPT TO:<alice@example.org> {wrong}"), "501 5.5.4").await;
        }
        client.ask(&format!("RCPT TO:<alice@example.org> {SINCE} {SINCE}"), "501 5.5.4").await;
    })
    .await;
    let honours = || SessionConfig { honours_rrvs: true, ..config() };
    let mut machine = Machine::new(honours());
    machine.send("");
    assert!(machine.send("EHLO client.example\r\n").contains("RRVS"));
    assert!(!machine.send("HELO client.example\r\n").contains("RRVS"));
    let with = format!("MAIL FROM:<>\r\nRCPT TO:<alice@example.org> {SINCE}\r\n");
    assert_eq!(machine.codes(&with), ["250", "555"]);
    // §3.1: the line may be 33 octets longer.
    let mut limits = smtp_core::Limits::default();
    limits.command_line_octets = 512 + 500 + 32;
    let mut machine = Machine::greeted(SessionConfig { limits, ..honours() });
    assert_eq!(machine.codes(&with), ["250", "555"]);
}

#[test] // The client says it where it is offered; elsewhere the recipient fails unsaid, or goes on where it may.
fn r7293_the_client_says_it_or_leaves_the_recipient_out() {
    let demand = Some(wish(SINCE));
    let may_go_on = Some(wish(SINCE).or_continue());
    let with = |wishes: [Option<ValidSince>; 3]| envelope(&["a", "b", "c"]).with_valid_since(wishes);
    for (extensions, message, said, expected) in [
        (
            &["PIPELINING", "RRVS"][..],
            with([demand, may_go_on, None]),
            "RCPT TO:<a@example.org> RRVS=2014-04-03T23:01:00Z\r\n\
             RCPT TO:<b@example.org> RRVS=2014-04-03T23:01:00Z;C\r\nRCPT TO:<c@example.org>\r\n",
            ["delivered 250", "delivered 250", "delivered 250"],
        ),
        (
            &["PIPELINING", "RRVSX"],
            with([demand, may_go_on, None]),
            "RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\n",
            ["failed 5.7.19", "delivered 250", "delivered 250"],
        ),
        (&["PIPELINING"], with([demand; 3]), "", ["failed 5.7.19"; 3]),
    ] {
        let mut machine = scripted::Machine::greeted(extensions);
        machine.begin(&message, &[b"x\r\n"]);
        let expected_octets = match said {
            "" => String::new(),
            said => format!("MAIL FROM:<a@client.example>\r\n{said}DATA\r\n"),
        };
        assert_eq!(String::from_utf8(machine.take_sent()).expect("ASCII"), expected_octets, "{extensions:?}");
        let commands = expected_octets.lines().count();
        machine.receive("250 ok\r\n".repeat(commands.saturating_sub(1)));
        if commands > 0 {
            machine.receive("354 go\r\n");
            machine.receive("250 ok\r\n");
        }
        let report = machine.report();
        assert_eq!(outcomes(&report), expected, "{extensions:?}");
        let left_out = report.recipients()[0].as_ref().err();
        assert_eq!(left_out.is_some(), expected[0].starts_with("failed"));
        assert!(left_out.is_none_or(|error| *error.cause() == SendCause::RrvsNotOffered));
        assert!(machine.session.is_reusable());
    }
}
