//! Before and after: what a submission server makes of a message (RFC 6409 §8), and what an MX leaves alone.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::{Accepted, ContentSettings, Listener, Message, Server};
use smtp_policy::Submission;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::Anybody;

/// What is stored of a message that was sent with that content.
async fn stored(content: &str, authenticates: bool, memory_octets: usize) -> Vec<u8> {
    let (inbox, directory) = (Arc::new(Mutex::new(Vec::new())), tempfile::tempdir().expect("a directory"));
    let mut settings = ContentSettings::default();
    (settings.memory_octets, settings.directory) = (memory_octets, Some(directory.path().to_owned()));
    let delivered = inbox.clone();
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .policy(Submission::new(&"mx.example.org".parse().expect("a domain")))
        .authenticate(Anybody)
        .content(settings)
        .listener(Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear().refuse_early_talkers(false))
        .deliver(move |message: Message| {
            let delivered = delivered.clone();
            async move {
                let mut octets = Vec::new();
                let read = message.reader().and_then(|mut reader| reader.read_to_end(&mut octets));
                read.expect("it can be read");
                delivered.lock().unwrap_or_else(PoisonError::into_inner).push(octets);
                Ok(Accepted::all())
            }
        })
        .bind()
        .await
        .expect("a valid configuration");
    let (mut client, stream) = duplex(1 << 20);
    let auth = if authenticates { "AUTH PLAIN AGFsaWNlAHg=\r\n" } else { "" };
    let said = format!(
        "EHLO client.example\r\n{auth}MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n\
         {content}.\r\nQUIT\r\n"
    );
    client.write_all(said.as_bytes()).await.expect("it reads");
    client.shutdown().await.expect("a pipe");
    let address = "192.0.2.1:1".parse().expect("an address");
    server.serve_connection(stream, address, address).await;
    let mut replies = String::new();
    client.read_to_string(&mut replies).await.expect("it says something");
    let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
    inbox.pop().unwrap_or_else(|| panic!("{content:?} was not taken: {replies}"))
}

/// The names of the fields in front of the content, folded lines apart.
fn names_of_added(stored: &[u8], content: &str) -> Vec<String> {
    let added = stored.strip_suffix(content.as_bytes()).unwrap_or_else(|| panic!("{content:?} is not as it came"));
    let added = String::from_utf8(added.to_vec()).expect("ASCII");
    let first_lines = added.lines().filter(|line| !line.starts_with(' '));
    first_lines.map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test] // STANDARDS R6409a: the fields that lack, and the content octet for octet; an MX adds nothing.
async fn r6409a_only_what_lacks_is_added_and_only_for_who_has_authenticated() {
    for (content, expected) in [
        ("Subject: x\r\n\r\nx\r\n", &["Received", "Date", "Message-ID"][..]),
        ("Date: nonsense\r\nSubject:  x \r\n\r\nx\r\n", &["Received", "Message-ID"]),
        ("message-id : <1@client.example>\r\n\r\n", &["Received", "Date"]),
        ("Date: a\r\nMessage-ID: b\r\nDate: c\r\n\r\nx\r\n", &["Received"]),
        ("\r\nDate: x\r\n", &["Received", "Date", "Message-ID"]),
        ("no header section\r\n", &["Received", "Date", "Message-ID"]),
    ] {
        for memory_octets in [0, 1 << 20] {
            let submitted = stored(content, true, memory_octets).await;
            assert_eq!(names_of_added(&submitted, content), expected, "{content:?}");
            let relayed = stored(content, false, memory_octets).await;
            assert_eq!(names_of_added(&relayed, content), ["Received"], "{content:?}");
        }
    }
}

#[tokio::test] // RFC 5322 §3.3, §3.6.4
async fn r6409a_what_is_added_is_a_date_and_an_id_that_nothing_else_has() {
    let content = "Subject: x\r\n\r\nx\r\n";
    let mut ids = Vec::new();
    for _ in 0..3 {
        let text = String::from_utf8(stored(content, true, 1 << 20).await).expect("ASCII");
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).expect(name).to_owned();
        let id = field("Message-ID: ");
        assert!(id.starts_with('<') && id.ends_with("@mx.example.org>") && !id.contains(' '), "{id}");
        ids.push(id);
        let date = field("Date: ");
        assert!(date.ends_with(" +0000") && date.split(' ').count() == 6, "{date}");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}
