//! What a sender asks of notifications, on its way to a next hop that offers `DSN` and to one that does not (RFC 3461
//! §5.2.1, §5.2.2; STANDARDS.md R3461a, R3461b).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::{
    Accepted, ClientConfig, Delivery, DsnOffer, EnvelopeId, Host, Listener, Mailbox, MailboxTable, Message, MessageDsn,
    Notify, OriginalRecipient, RecipientDsn, Refusal, Ret, ReversePath, Server, async_trait,
};
use smtp_queue::{Attempt, Envelope, Outcome, QueueId, SmtpTransport, StoredContent, Transport};

/// One transaction, as the next hop was told: reverse-path, parameters of `MAIL`, and of each `RCPT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    reverse_path: String,
    message: MessageDsn,
    recipients: Vec<(String, RecipientDsn)>,
}

#[derive(Clone)]
struct Hop {
    offers: DsnOffer,
    told: Arc<Mutex<Vec<Told>>>,
}

#[async_trait]
impl Delivery for Hop {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let recipients = message.recipients().iter().map(|recipient| (recipient.to_string(), recipient.dsn().clone()));
        self.told.lock().expect("no panic").push(Told {
            reverse_path: message.reverse_path().to_string(),
            message: message.parameters().dsn.clone(),
            recipients: recipients.collect(),
        });
        Ok(Accepted::all())
    }

    fn honours_dsn(&self) -> bool {
        true
    }
}

impl Hop {
    fn new(offers: DsnOffer) -> Self {
        Self { offers, told: Arc::default() }
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().expect("no panic"))
    }

    async fn listen(&self) -> SocketAddr {
        let table: Vec<_> = (0..200).map(|number| format!("user{number}@example.org")).collect();
        let server = Server::builder("mx.example.org")
            .recipients(MailboxTable::parse(&table.join("\n")).expect("a table"))
            .deliver(self.clone())
            .listener(Listener::new("127.0.0.1:0").dsn(self.offers))
            .bind()
            .await
            .expect("it listens");
        let address = server.local_addresses()[0];
        tokio::spawn(server.run());
        address
    }
}

fn transport(address: SocketAddr) -> SmtpTransport {
    let config = ClientConfig::new("client.example").expect("a name");
    SmtpTransport::new(&Host::parse("mx.example.org").expect("a name"), [address], config)
}

fn asked() -> MessageDsn {
    MessageDsn { ret: Some(Ret::Headers), envelope_id: Some(EnvelopeId::new("id 1").expect("printable")) }
}

fn wish(notify: Option<Notify>) -> RecipientDsn {
    let original = OriginalRecipient::new("rfc822", "First+Name@client.example").expect("printable");
    RecipientDsn { notify, original_recipient: Some(original) }
}

fn attempt(recipients: &[(String, RecipientDsn)]) -> Attempt {
    let sender = ReversePath::parse("<alice@client.example>").expect("in the grammar");
    let mut envelope = Envelope::new(QueueId::from_u128(1), SystemTime::UNIX_EPOCH, sender);
    envelope.dsn = asked();
    for (recipient, dsn) in recipients {
        envelope = envelope.with_recipient(Mailbox::parse(recipient).expect("in the grammar"));
        envelope.recipients.last_mut().expect("just added").dsn = dsn.clone();
    }
    let content = StoredContent::in_memory(Bytes::new(), Bytes::from("Subject: y\r\n\r\nbody\r\n"));
    let all = 0..u32::try_from(recipients.len()).expect("few");
    Attempt::new(Arc::new(envelope), all, content, "hop".into(), 1)
}

fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Relayed(_) => "relayed",
        Outcome::PassedOn(_) => "passed on",
        Outcome::Failed(_) => "failed",
        _ => "other",
    };
    outcomes.iter().map(word).collect()
}

#[tokio::test] // R3461a, R3461b
async fn r3461_a_hop_with_dsn_is_told_and_one_without_leaves_the_telling_to_us() {
    let recipients = [
        ("user1@example.org".to_owned(), wish(Some(Notify::SUCCESS | Notify::DELAY))),
        ("nobody@example.org".to_owned(), wish(Some(Notify::FAILURE))),
        ("user2@example.org".to_owned(), RecipientDsn::default()),
    ];
    for (offer, word) in [(DsnOffer::Everybody, "passed on"), (DsnOffer::Nobody, "relayed")] {
        let hop = Hop::new(offer);
        let transport = transport(hop.listen().await);
        // Over a new connection, and over a kept one.
        for _ in 0..2 {
            let outcomes = transport.deliver(attempt(&recipients)).await;
            assert_eq!(words(&outcomes), [word, "failed", word]);
            let [told] = &hop.take()[..] else { panic!("one transaction") };
            assert_eq!(told.reverse_path, "<alice@client.example>");
            let is_told = offer == DsnOffer::Everybody;
            assert_eq!(told.message, if is_told { asked() } else { MessageDsn::default() });
            let wishes: Vec<_> = told.recipients.iter().map(|(_, dsn)| dsn.clone()).collect();
            let expected = [recipients[0].1.clone(), recipients[2].1.clone()];
            assert_eq!(wishes, if is_told { expected.to_vec() } else { vec![RecipientDsn::default(); 2] });
        }
    }
}

#[tokio::test] // RFC 3461 §5.2.2 (d): a hop that cannot be told is given nobody to tell.
async fn r3461b_never_leaves_under_the_null_reverse_path_where_it_cannot_be_said() {
    let never = |number: u32| (format!("user{number}@example.org"), wish(Some(Notify::NEVER)));
    let other = |number: u32| (format!("user{number}@example.org"), wish(None));
    let (alice, null) = ("<alice@client.example>", "<>");
    for (offer, recipients, expected) in [
        (DsnOffer::Nobody, vec![never(1), other(2), never(3), other(4)], &[(alice, "2,4"), (null, "1,3")][..]),
        (DsnOffer::Nobody, vec![never(1)], &[(null, "1")]),
        (DsnOffer::Nobody, vec![other(1)], &[(alice, "1")]),
        (DsnOffer::Everybody, vec![never(1), other(2), never(3)], &[(alice, "2"), (alice, "1,3")]),
        (DsnOffer::Everybody, vec![never(1)], &[(alice, "1")]),
    ] {
        let hop = Hop::new(offer);
        let transport = transport(hop.listen().await);
        let mut recipients = recipients;
        recipients.push(("nobody@example.org".to_owned(), wish(Some(Notify::NEVER))));
        let outcomes = transport.deliver(attempt(&recipients)).await;
        let word = if offer == DsnOffer::Nobody { "relayed" } else { "passed on" };
        let mut words_expected = vec![word; recipients.len() - 1];
        words_expected.push("failed");
        assert_eq!(words(&outcomes), words_expected, "in the order of the recipients");
        let found = hop.take().into_iter().map(|told| {
            let names = told.recipients.iter().map(|(name, _)| name.replace("<user", "").replace("@example.org>", ""));
            (told.reverse_path, names.collect::<Vec<_>>().join(","))
        });
        let expected: Vec<_> = expected.iter().map(|(path, names)| ((*path).to_owned(), (*names).to_owned())).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test] // Each recipient has the outcome of its own transaction, however many there are.
async fn many_recipients_of_both_kinds_keep_their_order() {
    let hop = Hop::new(DsnOffer::Nobody);
    let transport = transport(hop.listen().await);
    let recipients: Vec<_> = (0..250_u32)
        .map(|number| {
            let name = if number % 40 == 0 { "nobody".to_owned() } else { format!("user{}", number % 200) };
            let notify = (number % 3 == 0).then_some(Notify::NEVER);
            (format!("{name}@example.org"), RecipientDsn { notify, original_recipient: None })
        })
        .collect();
    let outcomes = transport.deliver(attempt(&recipients)).await;
    let expected: Vec<_> = (0..250).map(|number| if number % 40 == 0 { "failed" } else { "relayed" }).collect();
    assert_eq!(words(&outcomes), expected);
    for told in hop.take() {
        assert!(told.recipients.len() <= 100);
    }
}

#[tokio::test] // PRACTICES S19: what was judged bad causes no notification at the next hop either.
async fn s19_a_hop_with_dsn_is_asked_to_tell_nobody_of_junk() {
    for (offers, notify, reverse_path) in [
        (DsnOffer::Everybody, Some(Notify::NEVER), "<alice@client.example>"),
        // Who does not know DSN gets the message as it came.
        (DsnOffer::Nobody, None, "<alice@client.example>"),
    ] {
        let hop = Hop::new(offers);
        let transport = transport(hop.listen().await);
        let recipients = ["user1@example.org", "user2@example.org"];
        let all = Notify::SUCCESS | Notify::FAILURE | Notify::DELAY;
        let wishes = recipients.map(|recipient| (recipient.to_owned(), wish(Some(all))));
        let mut envelope = (**attempt(&wishes).envelope()).clone();
        envelope.recipients[1].disposition = smtp_core::Disposition::Junk;
        let content = StoredContent::in_memory(Bytes::new(), Bytes::from("Subject: y\r\n\r\nbody\r\n"));
        let outcomes = transport.deliver(Attempt::new(Arc::new(envelope), 0..2, content, "hop".into(), 1)).await;
        assert!(outcomes.iter().all(Outcome::is_success), "{outcomes:?}");
        let [told] = &hop.take()[..] else { panic!("one transaction") };
        assert_eq!(told.reverse_path, reverse_path);
        let notified: Vec<_> = told.recipients.iter().map(|(_, dsn)| dsn.notify).collect();
        assert_eq!(notified, [(offers == DsnOffer::Everybody).then_some(all), notify]);
    }
}
