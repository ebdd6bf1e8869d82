//! A message with `REQUIRETLS` from a client through the queue: on as well protected as it came, or not at all, and so is what
//! is told of it (STANDARDS.md R8689; RFC 8689 §4.2.1, §5).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, ClientConnection, ClientTls, Delivery, Envelope, Host, Listener, Mailbox, Message,
    MessageDsn, Notify, RecipientDsn, Refusal, Ret, Server, ServerTls, async_trait,
};
use smtp_queue::{Attempt, MemorySpool, Outcome, Queue, Route, Router, SmtpTransport};

const SENDER: &str = "alice@back.example";
const CONTENT: &str = "Subject: secret\r\nTLS-Required: No\r\n\r\nin the body\r\n";

/// What a next hop is, and how we connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It has no TLS.
    Clear,
    /// Its certificate is not looked at.
    Encrypted,
    Verified,
}

/// What a next hop was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Received {
    reverse_path: String,
    requiretls: bool,
    is_under_tls: bool,
    content: String,
}

#[derive(Clone)]
struct Hop {
    way: Way,
    offers: bool,
    received: Arc<Mutex<Vec<Received>>>,
}

#[async_trait]
impl Delivery for Hop {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let content = message.content().to_bytes().expect("readable");
        self.received.lock().expect("no panic").push(Received {
            reverse_path: message.reverse_path().to_string(),
            requiretls: message.parameters().requiretls,
            is_under_tls: message.connection().tls().is_some(),
            content: String::from_utf8(content.to_vec()).expect("UTF-8"),
        });
        Ok(Accepted::all())
    }

    fn honours_requiretls(&self) -> bool {
        self.offers
    }
}

impl Hop {
    fn new(way: Way, offers: bool) -> Self {
        Self { way, offers, received: Arc::default() }
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    async fn transport(&self) -> SmtpTransport {
        let (address, root) = listen(self.clone(), self.way != Way::Clear).await;
        let tls = match self.way {
            Way::Clear => ClientTls::opportunistic(),
            Way::Encrypted => ClientTls::encrypted(),
            Way::Verified => ClientTls::verified_with_roots(["mx.example.org"], root.as_bytes()),
        };
        let config = ClientConfig::new("mx.example.org").expect("a name").with_tls(tls.expect("there is cryptography"));
        SmtpTransport::new(&Host::parse("mx.example.org").expect("a name"), [address], config)
    }
}

/// A server, and the certificate that it shows.
async fn listen(delivery: impl Delivery + 'static, has_tls: bool) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["mx.example.org".to_owned()]).expect("a name");
    let chain = made.cert.pem();
    let server = Server::builder("mx.example.org").local_domain("example.org").deliver(delivery);
    let key = made.signing_key.serialize_pem();
    let tls = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they belong together");
    let server = if has_tls { server.tls(tls) } else { server };
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let server = server.listener(Listener::new("127.0.0.1:0").relay_for(loopback)).bind().await.expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    (address, chain)
}

/// What is kept on this host: for whom, whether it is to be protected, and what.
type Kept = Arc<Mutex<Vec<(String, bool, String)>>>;

/// `there.example` and `back.example` are behind next hops, all else is here.
struct Routes {
    there: SmtpTransport,
    back: SmtpTransport,
    kept: Kept,
}

impl Router for Routes {
    fn route(&self, mailbox: &Mailbox) -> Route {
        self.site(&mailbox.host().to_string()).expect("each domain is a site")
    }

    fn site(&self, name: &str) -> Option<Route> {
        let kept = self.kept.clone();
        Some(match name {
            "there.example" => Route::new(name, self.there.clone()),
            "back.example" => Route::new(name, self.back.clone()),
            _ => Route::new(name, move |attempt: Attempt| {
                let mut content = String::new();
                std::io::Read::read_to_string(&mut attempt.content().reader(), &mut content).expect("in memory");
                let recipients = attempt.recipients().map(|recipient| recipient.mailbox.to_string());
                let recipients: Vec<_> = recipients.collect();
                kept.lock().expect("no panic").push((recipients.join(" "), attempt.requires_tls(), content));
                async move { recipients.iter().map(|_| Outcome::delivered("Kept")).collect() }
            }),
        })
    }
}

/// Sends a message from `back.example` through the queue, and waits until nobody waits for anything.
async fn sent(to: &str, notify: Option<Notify>, there: &Hop, back: &Hop) -> (Queue, Kept) {
    let kept = Kept::default();
    let routes = Routes { there: there.transport().await, back: back.transport().await, kept: kept.clone() };
    let hostname = "mx.example.org".parse().expect("a domain");
    let queue = Queue::builder(Arc::new(MemorySpool::new()), hostname, routes).start();
    let (address, root) = listen(queue.clone(), true).await;
    let tls = ClientTls::verified_with_roots(["mx.example.org"], root.as_bytes()).expect("a name and a root");
    let config = ClientConfig::new("client.example").expect("a name").with_tls(tls);
    let mut client = ClientConnection::connect(address, &config).await.expect("it greets");
    let wishes =
        (MessageDsn { ret: Some(Ret::Full), envelope_id: None }, RecipientDsn { notify, ..Default::default() });
    let envelope = Envelope::parse(SENDER, [to]).expect("paths").with_requiretls().with_dsn(wishes.0, [wishes.1]);
    let report = client.send(&envelope, Bytes::from(CONTENT)).await;
    assert!(report.is_delivered(), "{report:?}");
    client.quit().await;
    for _ in 0..6000 {
        let totals = queue.totals();
        let is_over = |flow: &smtp_queue::Flow| flow.taken == flow.delivered + flow.quarantined + flow.failed;
        if is_over(&totals.mail) && is_over(&totals.notifications) {
            return (queue, kept);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("somebody waits: {:?}", queue.totals());
}

#[tokio::test] // RFC 8689 §4.2.1: all steps were taken.
async fn r8689_it_goes_on_where_the_next_hop_is_verified_and_promises_the_same() {
    let (there, back) = (Hop::new(Way::Verified, true), Hop::new(Way::Verified, true));
    let (queue, _) = sent("bob@there.example", None, &there, &back).await;
    let received = there.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].requiretls && received[0].is_under_tls, "{received:?}");
    // RFC 8689 §4.1: the header field means nothing beside the parameter, and stays.
    assert!(received[0].content.ends_with(CONTENT), "{received:?}");
    assert_eq!((queue.totals().mail.delivered, back.received().len()), (1, 0));
}

#[tokio::test] // RFC 8689 §4.2.1: what fails is not said at all; §5: what is told of it is protected as well.
async fn r8689_elsewhere_it_fails_for_good_and_the_notification_is_protected() {
    for (way, offers, status) in [
        (Way::Verified, false, "5.7.30"),
        (Way::Encrypted, true, "5.7.10"),
        (Way::Encrypted, false, "5.7.10"),
        (Way::Clear, true, "5.7.10"),
    ] {
        for back_offers in [true, false] {
            let (there, back) = (Hop::new(way, offers), Hop::new(Way::Verified, back_offers));
            let (queue, _) = sent("bob@there.example", None, &there, &back).await;
            assert_eq!(there.received(), [], "{way:?} {offers}");
            let told = back.received();
            assert_eq!((told.len(), queue.totals().mail.failed), (1, 1), "{way:?} {offers}: {told:?}");
            let told = &told[0];
            assert_eq!(told.reverse_path, "<>");
            assert!(told.content.contains(&format!("\r\nStatus: {status}\r\n")), "{way:?} {offers}: {}", told.content);
            // Headers only, although `RET=FULL` was asked for.
            assert!(told.content.contains("Subject: secret") && !told.content.contains("in the body"));
            // Where the promise lacks it goes all the same, under verified TLS.
            assert_eq!((told.requiretls, told.is_under_tls), (back_offers, true), "{way:?} {offers}");
        }
    }
}

#[tokio::test] // RFC 8689 §5: rather lost than in clear. The postmaster of this host has the copy of Q5.
async fn r8689_a_notification_goes_nowhere_without_verified_tls() {
    for way in [Way::Clear, Way::Encrypted] {
        let (there, back) = (Hop::new(Way::Verified, false), Hop::new(way, true));
        let (queue, kept) = sent("bob@there.example", None, &there, &back).await;
        assert_eq!((there.received(), back.received()), (vec![], vec![]), "{way:?}");
        assert_eq!(queue.totals().notifications.failed, 1);
        let kept = kept.lock().expect("no panic").clone();
        assert_eq!(kept.len(), 1, "{kept:?}");
        let (recipient, requires_tls, content) = &kept[0];
        assert_eq!((&**recipient, *requires_tls), ("postmaster@mx.example.org", true));
        assert!(content.contains("5.7.10") && !content.contains("in the body"), "{content}");
    }
}

#[tokio::test] // RFC 8689 §4.2.1 is about the way to another host.
async fn r8689_final_delivery_is_fine() {
    let (there, back) = (Hop::new(Way::Clear, false), Hop::new(Way::Clear, false));
    let (_, kept) = sent("bob@example.org", None, &there, &back).await;
    let kept = kept.lock().expect("no panic").clone();
    assert_eq!((kept.len(), &*kept[0].0, kept[0].1), (1, "bob@example.org", true));
}

#[tokio::test] // RFC 3461 §5.2.2 (d) makes a null reverse-path of such a message, and §5 of RFC 8689 must not take it for a notification.
async fn r8689_notify_never_opens_no_way_around() {
    let (there, back) = (Hop::new(Way::Verified, false), Hop::new(Way::Verified, true));
    let (queue, _) = sent("bob@there.example", Some(Notify::NEVER), &there, &back).await;
    assert_eq!((there.received(), back.received()), (vec![], vec![]));
    assert_eq!(queue.totals().mail.failed, 1);
}
