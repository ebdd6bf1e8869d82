//! RFC 4865: messages that are to be held, the receiving side: for submission only, and within the limits that `EHLO` names.

use std::time::{Duration, SystemTime};

use smtp_core::{Accepted, Delivery, FutureRelease, Listener, Message, Refusal, Server, Service, async_trait};

use crate::support::client::Client;
use crate::support::world::{AUTH_ALICE, Anybody, Inbox, Users, in_process, open, unbound};

/// A delivery that says of itself whether it holds messages.
struct Holding(Inbox, bool);

#[async_trait]
impl Delivery for Holding {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_future_release(&self) -> bool {
        self.1
    }
}

/// A client behind the greeting.
async fn client(inbox: &Inbox, holds: bool, service: Service) -> Client<tokio::io::DuplexStream> {
    let listener = Listener::new("127.0.0.1:0").service(service).dangerously_authenticate_in_clear();
    let server = Server::builder("mx.example.org").recipients(Users).deliver(Holding(inbox.clone(), holds));
    let mut client = open(&unbound(server.authenticate(Anybody).listener(listener)).await);
    client.reply().await.expect("a greeting");
    client
}

/// The line of the answer to `EHLO`, if there is one.
async fn offer(client: &mut Client<tokio::io::DuplexStream>) -> Option<String> {
    client.send("EHLO client.example\r\n").await;
    let mut found = None;
    loop {
        let line = client.line().await.expect("an answer");
        if line[4..].starts_with("FUTURERELEASE") {
            found = Some(line[4..].to_owned());
        }
        if !line.starts_with("250-") {
            return found;
        }
    }
}

#[tokio::test(start_paused = true)] // RFC 4865 §4: a submission extension.
async fn r4865_it_is_offered_to_who_has_authenticated_and_where_nobody_else_may_send() {
    in_process(async {
        let inbox = Inbox::default();
        for (service, holds, before, behind) in [
            (Service::Submission, true, true, true),
            (Service::Mixed, true, false, true),
            (Service::Mixed, false, false, false),
            (Service::Submission, false, false, false),
        ] {
            let mut client = client(&inbox, holds, service).await;
            assert_eq!(offer(&mut client).await.is_some(), before, "{service:?} {holds}");
            client.ask(AUTH_ALICE, "235").await;
            let offered = offer(&mut client).await;
            assert_eq!(offered.is_some(), behind, "{service:?} {holds}");
            let Some(offered) = offered else { continue };
            let words: Vec<_> = offered.split(' ').collect();
            assert_eq!((words.len(), words[1]), (3, "2419200"), "{offered}");
            assert!(words[2].len() == 20 && words[2].ends_with('Z'), "{offered}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 4865 §4: within the limits, one of the two, once.
async fn r4865_what_is_asked_is_held_or_refused() {
    in_process(async {
        for (parameters, expected) in [
            ("HOLDFOR=0", "250"),
            ("HOLDFOR=2419200", "250"),
            ("HOLDFOR=2419201", "501 5.5.4"),
            ("HOLDFOR=999999999", "501 5.5.4"),
            ("HOLDFOR=1000000000", "501 5.5.4"),
            ("HOLDFOR=x", "501 5.5.4"),
            ("HOLDUNTIL=2007-01-01T00:00:00Z", "250"),
            ("HOLDUNTIL=9999-01-01T00:00:00Z", "501 5.5.4"),
            ("HOLDUNTIL=2007-01-01T00:00:00+01:00", "501 5.5.4"),
            ("HOLDFOR=1 HOLDUNTIL=2007-01-01T00:00:00Z", "501 5.5.4"),
            ("HOLDFOR=1 HOLDFOR=1", "501 5.5.4"),
        ] {
            let mut client = client(&Inbox::default(), true, Service::Mixed).await;
            let line = format!("MAIL FROM:<alice@example.org> {parameters}");
            client.ask("EHLO client.example", "250").await;
            if expected == "250" {
                client.ask(&line, "555 5.5.4").await;
            }
            client.ask(AUTH_ALICE, "235").await;
            client.ask(&line, expected).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn r4865_the_message_carries_it_and_the_next_one_does_not() {
    in_process(async {
        let inbox = Inbox::default();
        let mut client = client(&inbox, true, Service::Submission).await;
        client.ask("EHLO client.example", "250").await;
        client.ask(AUTH_ALICE, "235").await;
        for parameter in [" HOLDFOR=3600", " HOLDUNTIL=2007-01-01T00:00:00Z", ""] {
            client.ask(&format!("MAIL FROM:<alice@example.org>{parameter}"), "250").await;
            client.ask("RCPT TO:<bob@example.org>", "250").await;
            client.ask("DATA", "354").await;
            client.send("x: y\r\n\r\nx\r\n.\r\n").await;
            client.expect("250 2.0.0").await;
        }
        let asked: Vec<_> = inbox.messages().iter().map(|message| message.parameters().future_release).collect();
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_167_609_600);
        let hour = FutureRelease::For(Duration::from_secs(3600));
        assert_eq!(asked, [Some(hour), Some(FutureRelease::Until(moment)), None]);
    })
    .await;
}
