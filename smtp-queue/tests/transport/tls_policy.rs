//! What a policy demands of a next hop, and a message through the queue: met, put off, or set aside by its sender with
//! `TLS-Required: No` (RFC 8689 §3, §4.2.2).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, ClientConnection, ClientTls, Content, Delivery, Host, Listener, Mailbox, Message, NextHop,
    Refusal, ReversePath, Server, ServerTls, TlsPolicy, TlsRequirement, Transient, async_trait,
};
use smtp_queue::{
    Attempt, Envelope, MemorySpool, Outcome, Queue, QueueId, Route, Routing, SmtpTransport, StoredContent, Transport,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const SENDER: &str = "alice@client.example";

/// What a next hop was given: whether under TLS, and the octets.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<(bool, String)>>>);

impl Inbox {
    fn take(&self) -> Vec<(bool, String)> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

#[async_trait]
impl Delivery for Inbox {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let content = message.content().to_bytes().expect("readable");
        let content = String::from_utf8(content.to_vec()).expect("UTF-8");
        self.0.lock().expect("no panic").push((message.connection().tls().is_some(), content));
        Ok(Accepted::all())
    }

    fn honours_requiretls(&self) -> bool {
        true
    }
}

/// A server whose certificate is for `mx.example.org`, and that certificate.
async fn listen(delivery: impl Delivery + 'static, has_tls: bool) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["mx.example.org".to_owned()]).expect("a name");
    let chain = made.cert.pem();
    let server = Server::builder("mx.example.org").local_domain("example.org").deliver(delivery);
    let tls = ServerTls::from_pem(chain.as_bytes(), made.signing_key.serialize_pem().as_bytes());
    let server = if has_tls { server.tls(tls.expect("they belong together")) } else { server };
    let server = server.listener(Listener::new("127.0.0.1:0")).bind().await.expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    (address, chain)
}

/// Says what it is told to say, and remembers about whom. Nothing: it does not know.
#[derive(Clone, Default)]
struct Oracle {
    answer: Arc<Mutex<Option<TlsRequirement>>>,
    asked: Arc<Mutex<Vec<NextHop>>>,
}

impl Oracle {
    fn say(&self, answer: Option<TlsRequirement>) {
        *self.answer.lock().expect("no panic") = answer;
    }
}

#[async_trait]
impl TlsPolicy for Oracle {
    async fn requirement(&self, next_hop: &NextHop) -> Result<TlsRequirement, Transient> {
        self.asked.lock().expect("no panic").push(next_hop.clone());
        self.answer.lock().expect("no panic").clone().ok_or_else(|| Transient::new("DNS is away"))
    }
}

/// A next hop, the policy for it, and the way to it.
struct Hop {
    address: SocketAddr,
    inbox: Inbox,
    policy: Oracle,
    transport: SmtpTransport,
}

impl Hop {
    async fn start(has_tls: bool) -> Self {
        let (inbox, policy) = (Inbox::default(), Oracle::default());
        let (address, root) = listen(inbox.clone(), has_tls).await;
        let config = ClientConfig::new("mx.client.example").expect("a name");
        let config = config.with_authorities(root.as_bytes()).expect("a certificate");
        let domain = Some("example.org".parse().expect("a domain"));
        let name = Host::parse("mx.example.org").expect("a name");
        let transport = SmtpTransport::new(&name, [address], config).with_tls_policy(domain, Arc::new(policy.clone()));
        Self { address, inbox, policy, transport }
    }
}

fn verified() -> TlsRequirement {
    TlsRequirement::Names(vec!["mx.example.org".into()])
}

fn attempt(requires_tls: bool, tls_is_optional: bool) -> Attempt {
    let sender = ReversePath::parse(format!("<{SENDER}>")).expect("in the grammar");
    let envelope = ["bob@example.org", "carol@example.org"]
        .into_iter()
        .fold(Envelope::new(QueueId::from_u128(1), SystemTime::UNIX_EPOCH, sender), |envelope, recipient| {
            envelope.with_recipient(Mailbox::parse(recipient).expect("in the grammar"))
        });
    let envelope = Envelope { requires_tls, tls_is_optional, ..envelope };
    let content = StoredContent::in_memory(Bytes::new(), Bytes::from("Subject: x\r\n\r\nx\r\n"));
    Attempt::new(Arc::new(envelope), [0, 1], content, "hop".into(), 1)
}

#[tokio::test] // Promise: a temporary fault is never a permanent answer, and no permission either.
async fn without_an_answer_all_recipients_are_deferred_and_nothing_is_said() {
    let hop = Hop::start(true).await;
    let outcomes = hop.transport.deliver(attempt(false, false)).await;
    assert_eq!(outcomes.len(), 2);
    for outcome in &outcomes {
        assert!(matches!(outcome, Outcome::Deferred(_)), "{outcome:?}");
        let words = outcome.diagnosis().reply.to_string();
        assert!(words.starts_with("451 4.7.5 ") && words.ends_with("not known: DNS is away"), "{words}");
    }
    assert_eq!(hop.inbox.take(), []);
    let next_hop = NextHop::new("mx.example.org", hop.address.port());
    let next_hop = next_hop.with_domain("example.org".parse().expect("a domain"));
    assert!(hop.policy.asked.lock().expect("no panic").iter().all(|asked| *asked == next_hop));
    hop.policy.say(Some(verified()));
    assert!(hop.transport.deliver(attempt(false, false)).await.iter().all(Outcome::is_success));
    assert!(hop.inbox.take()[0].0, "under TLS");
}

#[tokio::test] // RFC 8689 §4.2.1: rows of what is demanded, and whether a message with REQUIRETLS goes there.
async fn r8689_4_2_1_requiretls_goes_where_the_policy_verifies() {
    let hop = Hop::start(true).await;
    for (requirement, status) in [
        (TlsRequirement::None, Some("5.7.10")),
        (TlsRequirement::Opportunistic, Some("5.7.10")),
        (TlsRequirement::Required, Some("5.7.10")),
        (TlsRequirement::Dane { records: Vec::new(), names: vec!["mx.example.org".into()] }, Some("5.7.10")),
        (verified(), None),
    ] {
        hop.policy.say(Some(requirement.clone()));
        let outcomes = hop.transport.deliver(attempt(true, false)).await;
        let found = outcomes[0].diagnosis().reply.status().map(|status| status.to_string());
        assert_eq!(outcomes[0].is_success(), status.is_none(), "{requirement:?}: {outcomes:?}");
        assert!(status.is_none_or(|status| found.as_deref() == Some(status)), "{requirement:?}: {found:?}");
        assert_eq!(hop.inbox.take().len(), usize::from(status.is_none()), "{requirement:?}");
    }
}

/// A queue that sends everything to a hop, and the first outcome of each attempt.
fn queue(hop: &Hop) -> (Queue, UnboundedReceiver<Outcome>) {
    let (sender, outcomes) = unbounded_channel();
    let transport = hop.transport.clone();
    let route = Route::new("hop", move |attempt: Attempt| {
        let (transport, sender) = (transport.clone(), sender.clone());
        async move {
            let outcomes = transport.deliver(attempt).await;
            sender.send(outcomes[0].clone()).expect("the test waits for it");
            outcomes
        }
    });
    let hostname = "mx.client.example".parse().expect("a domain");
    (Queue::builder(Arc::new(MemorySpool::new()), hostname, Routing::new(route)).start(), outcomes)
}

async fn next(outcomes: &mut UnboundedReceiver<Outcome>) -> Outcome {
    let next = tokio::time::timeout(Duration::from_secs(60), outcomes.recv()).await;
    next.expect("an attempt is made at once").expect("the queue is there")
}

async fn submit(queue: &Queue, content: impl Into<Vec<u8>>) {
    let sender = ReversePath::parse(format!("<{SENDER}>")).expect("in the grammar");
    let recipient = Mailbox::parse("bob@example.org").expect("in the grammar");
    queue.submit(sender, [recipient], Content::new(content.into())).await.expect("it is taken");
}

#[tokio::test] // RFC 8689 §3, §4.1, §4.2.2: read when the message is taken, obeyed when it leaves, and left in the content.
async fn r8689_4_2_2_tls_required_no_is_delivered_rather_than_protected() {
    let (in_clear, under_tls) = (Hop::start(false).await, Hop::start(true).await);
    for hop in [&in_clear, &under_tls] {
        let has_tls = hop.address == under_tls.address;
        let (queue, mut outcomes) = queue(hop);
        for answer in [Some(TlsRequirement::Names(vec!["other.example".into()])), None] {
            hop.policy.say(answer);
            let content = "Subject: x\r\nTLS-Required: No\r\n\r\nx\r\n";
            submit(&queue, content).await;
            let outcome = next(&mut outcomes).await;
            assert!(outcome.is_success(), "{outcome:?}");
            assert_eq!(hop.inbox.take().pop().map(|(tls, got)| (tls, got.ends_with(content))), Some((has_tls, true)));
            submit(&queue, "Subject: x\r\n\r\nTLS-Required: No\r\n").await;
            let outcome = next(&mut outcomes).await;
            assert!(matches!(outcome, Outcome::Deferred(_)), "{outcome:?}");
            assert_eq!(hop.inbox.take(), []);
        }
    }
}

#[tokio::test] // RFC 8689 §4.1: beside REQUIRETLS the header field means nothing. Large content is looked at in its file.
async fn r8689_4_1_the_field_is_read_of_what_clients_send_and_ignored_beside_requiretls() {
    let hop = Hop::start(true).await;
    let (queue, mut outcomes) = queue(&hop);
    let (address, root) = listen(queue.clone(), true).await;
    let tls = ClientTls::verified_with_roots(["mx.example.org"], root.as_bytes()).expect("a name and a root");
    let config = ClientConfig::new("client.example").expect("a name").with_tls(tls);
    hop.policy.say(None);
    for (requiretls, octets) in [(false, 10), (true, 10), (false, 1 << 20), (true, 1 << 20)] {
        let mut client = ClientConnection::connect(address, &config).await.expect("it greets");
        let envelope = smtp_core::Envelope::parse(SENDER, ["bob@example.org"]).expect("mailboxes");
        let envelope = if requiretls { envelope.with_requiretls() } else { envelope };
        let content = format!("tls-required: no\r\n\r\n{}", "0123456\r\n".repeat(octets / 9 + 1));
        assert!(client.send(&envelope, Bytes::from(content)).await.is_delivered());
        client.quit().await;
        let outcome = next(&mut outcomes).await;
        assert_eq!(outcome.is_success(), !requiretls, "{octets}: {outcome:?}");
        // Read, it would fail for good: opportunistic TLS is not what REQUIRETLS is about.
        assert_eq!(matches!(outcome, Outcome::Deferred(_)), requiretls, "{octets}: {outcome:?}");
        assert_eq!(hop.inbox.take().len(), usize::from(!requiretls), "{octets}");
    }
}
