//! A server with a policy, one client at an address of its choice, and what was said, delivered and judged.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::{
    Accepted, AuthError, Authenticator, Connection, Identity, Listener, MailboxTable, Mechanisms, Message, Observer,
    Policy, PolicyEvent, RecipientLookup, ReversePath, Secret, Server, SessionEvent, async_trait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// What came of a session.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// The greeting.
    pub(crate) greeting: String,
    /// The first lines of the replies, without the greeting and the reply to `EHLO`.
    pub(crate) replies: Vec<String>,
    /// What was delivered.
    pub(crate) delivered: Vec<Delivered>,
}

/// One delivered message.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// The recipients and what becomes of their copies.
    pub(crate) recipients: Vec<(String, String)>,
    /// Where it goes.
    pub(crate) mailboxes: Vec<String>,
    /// The message as it is stored.
    pub(crate) text: String,
    /// Where notifications go.
    pub(crate) reverse_path: String,
    /// Whether a notification may be sent.
    pub(crate) sender_confirmed: bool,
}

impl Delivered {
    /// The values of the fields of that name, unfolded.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let header =
            self.text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
        let fields = header.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
    }
}

/// Keeps what was judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judged(Arc<Mutex<Vec<PolicyEvent>>>);

impl Judged {
    /// All so far.
    pub(crate) fn events(&self) -> Vec<PolicyEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Judged {
    fn session(&self, _: &Connection, _: &SessionEvent) {}

    fn policy(&self, _: &Connection, event: &PolicyEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

/// Everybody is who they say they are.
pub(crate) struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD
    }

    async fn password(&self, _: &Connection, user: &str, _: &Secret) -> Result<Identity, AuthError> {
        Ok(Identity::new(user))
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

/// Says these lines, from that address, to a server with these policies that knows `user@example.org`, `other@example.org` and
/// the role mailboxes. The greeting and the reply to the first line, `EHLO` or `HELO`, are left out of the replies.
pub(crate) async fn converse(policies: Vec<Arc<dyn Policy>>, peer: &str, lines: &[&str]) -> Transcript {
    converse_about(table(), policies, peer, lines).await
}

/// `user@example.org`, `other@example.org` and the role mailboxes.
pub(crate) fn table() -> MailboxTable {
    let mailbox = |text: &str| text.parse().expect("a mailbox");
    MailboxTable::new(["example.org".parse().expect("a domain")])
        .with_mailbox(&mailbox("user@example.org"))
        .with_mailbox(&mailbox("other@example.org"))
        .with_roles_to(mailbox("user@example.org"))
}

/// The same, where the server knows other recipients.
pub(crate) async fn converse_about(
    recipients: impl RecipientLookup + 'static,
    policies: Vec<Arc<dyn Policy>>,
    peer: &str,
    lines: &[&str],
) -> Transcript {
    converse_observed(Judged::default(), recipients, policies, peer, lines).await
}

/// The same, where somebody is told what happens.
pub(crate) async fn converse_observed(
    observer: impl Observer + 'static,
    recipients: impl RecipientLookup + 'static,
    policies: Vec<Arc<dyn Policy>>,
    peer: &str,
    lines: &[&str],
) -> Transcript {
    let inbox = Arc::new(Mutex::new(Vec::new()));
    let delivered = inbox.clone();
    let mut builder = Server::builder("mx.example.org").local_domain("example.org").recipients(recipients);
    builder = builder.observer(observer);
    for policy in policies {
        builder = builder.policy(policy);
    }
    let server = builder
        .authenticate(Anybody)
        .listener(
            Listener::new("127.0.0.1:0")
                .dangerously_authenticate_in_clear()
                .refuse_early_talkers(false)
                .relay_for("10.201.0.0/16".parse().expect("a network")),
        )
        .deliver(move |message: Message| {
            let delivered = delivered.clone();
            async move {
                let mut text = String::new();
                let read = message.reader().and_then(|mut reader| reader.read_to_string(&mut text));
                read.expect("it can be read");
                let copies = message.recipients().iter();
                let recipients = copies.map(|copy| (copy.to_string(), format!("{:?}", copy.disposition()))).collect();
                let mailboxes = message.recipients().iter().flat_map(smtp_core::Recipient::mailboxes);
                let mailboxes = mailboxes.map(ToString::to_string).collect();
                let sender_confirmed = message.sender_confirmed();
                let reverse_path = message.reverse_path().to_string();
                let message = Delivered { recipients, mailboxes, text, reverse_path, sender_confirmed };
                delivered.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                Ok(Accepted::all())
            }
        })
        .bind()
        .await
        .expect("a valid configuration");
    let (mut client, stream) = duplex(1 << 20);
    let said: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
    client.write_all(said.as_bytes()).await.expect("it reads");
    client.shutdown().await.expect("a pipe");
    let (peer, local) = (format!("{peer}:1"), "192.0.2.25:25");
    let peer = peer.parse().expect("an address");
    server.serve_connection(stream, peer, local.parse().expect("an address")).await;
    let mut said = String::new();
    client.read_to_string(&mut said).await.expect("it says something");
    // The last line of each reply has a space behind its code.
    let replies = said.lines().filter(|line| line.as_bytes().get(3) != Some(&b'-')).skip(2).map(ToOwned::to_owned);
    let delivered = inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let greeting = said.lines().next().unwrap_or_default().to_owned();
    Transcript { greeting, replies: replies.collect(), delivered }
}

/// One message of `sender@client.example` to these recipients, with that content in front of the last dot.
pub(crate) fn message<'a>(recipients: &[&'a str], content: &'a str) -> Vec<&'a str> {
    let mut lines = vec!["EHLO client.example", "MAIL FROM:<sender@client.example>"];
    lines.extend(recipients);
    lines.extend(["DATA", content, "."]);
    lines
}
