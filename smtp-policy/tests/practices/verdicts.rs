//! The matrix of verdicts and recipients (PRACTICES S33): who has a reply of its own reads it, and where there is one reply for
//! all the copies of those refused are delivered with a mark.

use std::sync::{Arc, Mutex};

use smtp_core::{Accepted, Listener, Message, Server, async_trait};
use smtp_policy::{Action, Chain, Check, Finding, ForRoleMailboxes, Observation, Practice, Preset, Scope, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::table;

/// Spam is tagged for role mailboxes at most (PRACTICES P4), malware is malware for all.
const SPAM: Practice =
    Practice::new("spam", "X1", "No spam").refuses(7, 1, "Spam").for_role_mailboxes(ForRoleMailboxes::Tagged);
const MALWARE: Practice =
    Practice::new("malware", "X2", "No malware").refuses(7, 1, "Malware").for_role_mailboxes(ForRoleMailboxes::Kept);

/// Finds that in every content.
struct Finds(Practice);

#[async_trait]
impl Check for Finds {
    fn practices(&self) -> &[Practice] {
        std::slice::from_ref(&self.0)
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    async fn examine(&self, _: &Subject<'_>) -> Observation {
        Finding::fail(self.0.name(), "as planned").into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replies {
    One,
    EachByLmtp,
    EachByPrdr,
}

/// What `user` and `postmaster` are told behind the content, and what becomes of their copies.
async fn told(practice: Practice, replies: Replies) -> (Vec<String>, Vec<String>) {
    let listener = Listener::new("127.0.0.1:0").refuse_early_talkers(false);
    let (listener, hello, prdr) = match replies {
        Replies::One => (listener, "EHLO", ""),
        Replies::EachByLmtp => (listener.lmtp(), "LHLO", ""),
        Replies::EachByPrdr => (listener.prdr(), "EHLO", " PRDR"),
    };
    let inbox = Arc::new(Mutex::new(Vec::new()));
    let delivered = inbox.clone();
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .recipients(table())
        .policy(Chain::new("planned", Preset::Bcp).with(Finds(practice)))
        .listener(listener)
        .deliver(move |message: Message| {
            let delivered = delivered.clone();
            async move {
                let copies = message.recipients().iter().map(|copy| format!("{copy} {:?}", copy.disposition()));
                delivered.lock().expect("no panic").extend(copies);
                Ok(Accepted::all())
            }
        })
        .bind()
        .await
        .expect("a valid configuration");
    let (mut client, stream) = duplex(1 << 20);
    let said = format!(
        "{hello} client.example\r\nMAIL FROM:<a@client.example>{prdr}\r\nRCPT TO:<user@example.org>\r\n\
         RCPT TO:<postmaster>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
    );
    client.write_all(said.as_bytes()).await.expect("it reads");
    client.shutdown().await.expect("a pipe");
    let address = "192.0.2.1:1".parse().expect("an address");
    server.serve_connection(stream, address, address).await;
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.expect("it says something");
    let behind = heard.lines().skip_while(|line| !line.starts_with("354")).skip(1);
    let codes = behind.map(|line| line[..3].to_owned()).collect();
    let copies = inbox.lock().expect("no panic").clone();
    (codes, copies)
}

const USER: &str = "<user@example.org>";
const POSTMASTER: &str = "<postmaster>";

#[tokio::test] // PRACTICES S33; P4
async fn s33_recipients_with_differing_verdicts_have_one_reply_each_or_a_mark() {
    for (practice, action, user, postmaster) in [
        (SPAM, Action::Observe, Ok("Deliver"), Ok("Deliver")),
        (SPAM, Action::Tag, Ok("Junk"), Ok("Junk")),
        (SPAM, Action::Quarantine, Ok("Quarantine(\"spam\")"), Ok("Junk")),
        (SPAM, Action::Defer, Err("451"), Ok("Junk")),
        (SPAM, Action::Reject, Err("550"), Ok("Junk")),
        (MALWARE, Action::Quarantine, Ok("Quarantine(\"malware\")"), Ok("Quarantine(\"malware\")")),
        (MALWARE, Action::Reject, Err("550"), Err("550")),
    ] {
        let both = [(USER, user), (POSTMASTER, postmaster)];
        let is_refused = both.map(|(_, verdict)| verdict.is_err()) == [true; 2];
        for replies in [Replies::One, Replies::EachByLmtp, Replies::EachByPrdr] {
            let (mut codes, copies) = told(practice.fails([action; 3], [0; 3]), replies).await;
            let expected = both.map(|(_, verdict)| verdict.err().unwrap_or("250"));
            let mut kept: Vec<_> =
                both.iter().filter_map(|(path, verdict)| verdict.ok().map(|copy| format!("{path} {copy}"))).collect();
            match replies {
                // Everybody is refused, or nobody: then the copies of those who were are marked.
                Replies::One if is_refused => assert_eq!(codes, ["550"], "{action}"),
                Replies::One => {
                    assert_eq!(codes, ["250"], "{action}");
                    let mark =
                        |(path, verdict): &(&str, Result<&str, &str>)| format!("{path} {}", verdict.unwrap_or("Junk"));
                    kept = both.iter().map(mark).collect();
                }
                Replies::EachByLmtp => assert_eq!(codes, expected, "{action}"),
                Replies::EachByPrdr => {
                    // Where the replies are the same for all, one is enough.
                    if codes.len() > 1 {
                        codes.retain(|code| code != "353");
                        codes.truncate(2);
                        assert_eq!(codes, expected, "{action}");
                    } else {
                        assert!(expected.iter().all(|code| *code == codes[0]), "{action}: {codes:?}");
                    }
                }
            }
            assert_eq!(copies, kept, "{practice:?} {action} {replies:?}");
        }
    }
}
