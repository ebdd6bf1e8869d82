//! RFC 6710: how urgent a message is, the receiving side: who may ask for what, and what is told of it.

use smtp_core::{Accepted, Delivery, Listener, Message, Priority, Refusal, Server, Service, async_trait};

use crate::support::client::Client;
use crate::support::world::{AUTH_ALICE, Anybody, Inbox, Users, in_process, open, unbound};

/// A delivery that says of itself whether it takes urgent messages first.
struct Ordering(Inbox, bool);

#[async_trait]
impl Delivery for Ordering {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.0.deliver(message).await
    }

    fn honours_priority(&self) -> bool {
        self.1
    }
}

type Stream = tokio::io::DuplexStream;

/// A client behind the answer to `EHLO`, and whether `MT-PRIORITY` stands in it.
async fn client(inbox: &Inbox, honours: bool, listener: Listener, hello: &str) -> (Client<Stream>, bool) {
    let server = Server::builder("mx.example.org").recipients(Users).deliver(Ordering(inbox.clone(), honours));
    let listener = listener.dangerously_authenticate_in_clear();
    let mut client = open(&unbound(server.authenticate(Anybody).listener(listener)).await);
    client.reply().await.expect("a greeting");
    client.send(format!("{hello} client.example\r\n")).await;
    let mut is_offered = false;
    loop {
        let line = client.line().await.expect("an answer");
        // RFC 6710 §9.2: a bare keyword means the policy of its Appendix B.
        is_offered |= &line[4..] == "MT-PRIORITY";
        if !line.starts_with("250-") {
            return (client, is_offered);
        }
    }
}

fn mixed() -> Listener {
    Listener::new("127.0.0.1:0").service(Service::Mixed)
}

#[tokio::test(start_paused = true)] // RFC 6710 §3, §6
async fn r6710_it_is_offered_where_the_delivery_honours_it() {
    in_process(Box::pin(async {
        for (listener, honours, hello, expected) in [
            (mixed(), true, "EHLO", true),
            (mixed(), false, "EHLO", false),
            (mixed(), true, "HELO", false),
            (Listener::new("127.0.0.1:0").lmtp(), true, "LHLO", true),
        ] {
            let (mut client, is_offered) = client(&Inbox::default(), honours, listener, hello).await;
            assert_eq!(is_offered, expected, "{hello} {honours}");
            let reply = if expected { "250 2.1.0" } else { "555 5.5.4" };
            client.ask("MAIL FROM:<a@client.example> MT-PRIORITY=-1", reply).await;
        }
    }))
    .await;
}

#[tokio::test(start_paused = true)] // RFC 6710 §4.1, §7
async fn r6710_what_is_no_priority_is_a_syntax_error() {
    in_process(async {
        let (mut client, _) = client(&Inbox::default(), true, mixed(), "EHLO").await;
        for wrong in ["MT-PRIORITY", "MT-PRIORITY=", "MT-PRIORITY=10", "MT-PRIORITY=+1", "MT-PRIORITY=1 MT-PRIORITY=1"]
        {
            client.ask(&format!("MAIL FROM:<a@client.example> {wrong}"), "501 5.5.4").await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 6710 §4.1: nobody is more urgent on its own word, and anybody may be less.
async fn r6710_a_stranger_is_never_more_urgent_than_others() {
    in_process(Box::pin(async {
        let here = "192.0.2.0/24".parse().expect("a network");
        let relay = || Listener::new("127.0.0.1:0").relay_for(here);
        let ok = "250 2.1.0 Sender ok";
        let lowered = "250 2.3.6 0 is the new priority, authenticate for a higher one";
        for (listener, authenticates, asked, reply, expected) in [
            (mixed(), false, Some(9), lowered, Some(0)),
            (mixed(), false, Some(1), lowered, Some(0)),
            (mixed(), false, Some(0), ok, Some(0)),
            (mixed(), false, Some(-9), ok, Some(-9)),
            (mixed(), false, None, ok, None),
            (mixed(), true, Some(9), ok, Some(9)),
            (mixed(), true, Some(-1), ok, Some(-1)),
            (relay(), false, Some(9), ok, Some(9)),
        ] {
            let inbox = Inbox::default();
            let (mut client, _) = client(&inbox, true, listener, "EHLO").await;
            if authenticates {
                client.ask(AUTH_ALICE, "235").await;
            }
            let parameter = asked.map(|number: i8| format!(" MT-PRIORITY={number}")).unwrap_or_default();
            client.ask(&format!("MAIL FROM:<alice@example.org>{parameter}"), reply).await;
            client.ask("RCPT TO:<bob@example.org>", "250").await;
            client.ask("DATA", "354").await;
            client.send("x: y\r\n\r\nx\r\n.\r\n").await;
            client.expect("250 2.0.0").await;
            // The next transaction knows nothing of it.
            client.ask("MAIL FROM:<alice@example.org>", ok).await;
            let message = inbox.messages().pop().expect("it was delivered");
            assert_eq!(message.parameters().priority.map(Priority::get), expected, "{asked:?}");
            let head = String::from_utf8(message.header_prefix()).expect("ASCII").replace("\r\n", "");
            let clause = expected.map(|number| format!(" PRIORITY {number} (envelope-from "));
            assert_eq!(head.contains(" PRIORITY "), clause.is_some(), "{head}");
            assert!(clause.is_none_or(|clause| head.contains(&clause)), "{head}");
        }
    }))
    .await;
}
