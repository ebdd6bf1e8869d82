//! RFC 2852: until when a message is to be delivered, the receiving side: what is offered, read and refused.

use std::time::{Duration, SystemTime};

use smtp_core::{Accepted, ByMode, DeliverBy, Delivery, Listener, Message, Refusal, Server, async_trait};

use crate::support::client::Client;
use crate::support::world::{Inbox, Users, in_process, open, unbound};

/// A delivery that says of itself whether it keeps to the time.
struct Punctual(Inbox, bool);

#[async_trait]
impl Delivery for Punctual {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_deliver_by(&self) -> bool {
        self.1
    }
}

/// A client behind the answer to `EHLO`, and whether `DELIVERBY` stands in it.
async fn client(inbox: &Inbox, honours: bool, hello: &str) -> (Client<tokio::io::DuplexStream>, bool) {
    let server = Server::builder("mx.example.org").recipients(Users).deliver(Punctual(inbox.clone(), honours));
    let mut client = open(&unbound(server.listener(Listener::new("127.0.0.1:0"))).await);
    client.reply().await.expect("a greeting");
    client.send(format!("{hello} client.example\r\n")).await;
    let mut is_offered = false;
    loop {
        let line = client.line().await.expect("an answer");
        is_offered |= &line[4..] == "DELIVERBY";
        if !line.starts_with("250-") {
            return (client, is_offered);
        }
    }
}

#[tokio::test(start_paused = true)] // RFC 2852 §3
async fn r2852_it_is_offered_where_the_delivery_honours_it() {
    in_process(async {
        for (honours, hello, expected) in [(true, "EHLO", true), (false, "EHLO", false), (true, "HELO", false)] {
            let (mut client, is_offered) = client(&Inbox::default(), honours, hello).await;
            assert_eq!(is_offered, expected, "{hello} {honours}");
            let reply = if expected { "250 2.1.0" } else { "555 5.5.4" };
            client.ask("MAIL FROM:<a@client.example> BY=120;R", reply).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 2852 §4: what is to be returned has time left.
async fn r2852_what_is_no_time_is_a_syntax_error() {
    in_process(async {
        let (mut client, _) = client(&Inbox::default(), true, "EHLO").await;
        for wrong in ["BY", "BY=120", "BY=120;X", "BY=0;R", "BY=-1;R", "BY=1000000000;N", "BY=1;N BY=1;N"] {
            client.ask(&format!("MAIL FROM:<a@client.example> {wrong}"), "501 5.5.4").await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 2852 §4: the time is counted from `MAIL`, however long the content takes.
async fn r2852_the_message_carries_the_time_and_the_next_one_does_not() {
    in_process(async {
        let inbox = Inbox::default();
        let before = SystemTime::now();
        let (mut client, _) = client(&inbox, true, "EHLO").await;
        let within = |seconds, mode| Some(DeliverBy::new(seconds, mode));
        for (parameter, expected) in [
            (" BY=3600;R", within(3600, ByMode::Return)),
            (" BY=-60;NT", within(-60, ByMode::Notify).map(DeliverBy::with_trace)),
            ("", None),
        ] {
            client.ask(&format!("MAIL FROM:<a@client.example>{parameter}"), "250").await;
            client.ask("RCPT TO:<bob@example.org>", "250").await;
            client.ask("DATA", "354").await;
            tokio::time::sleep(Duration::from_secs(100)).await;
            client.send("x: y\r\n\r\nx\r\n.\r\n").await;
            client.expect("250 2.0.0").await;
            let message = inbox.messages().pop().expect("it was delivered");
            assert_eq!(message.parameters().deliver_by, expected);
            assert_eq!(message.deliver_by_time().is_some(), expected.is_some());
            let (Some(by), Some(time)) = (expected, message.deliver_by_time()) else { continue };
            // The clock of the test stands still but for what it waits: nothing for the first message, 100 s for the second.
            let waited = if by.mode() == ByMode::Return { 0 } else { 100 };
            let earliest = by.time(before + Duration::from_secs(waited));
            let latest = by.time(SystemTime::now() + Duration::from_secs(waited));
            assert!((earliest..=latest).contains(&time), "{earliest:?} {time:?} {latest:?}");
        }
    })
    .await;
}
