//! The way of an application to send: a mailer keeps its connections, and nothing is sent twice.

use std::io::Write;
use std::time::Duration;

use smtp_core::{
    ClientAuth, ClientConfig, ClientTls, Envelope, Listener, Mailbox, Mailer, MailerSettings, PasswordFile, Secret,
    SendStage, Service, SessionEvent,
};

use crate::support::tls::{root_pem, server_tls};
use crate::support::world::{Inbox, Log, Running, builder, start};

fn envelope() -> Envelope {
    Envelope::parse("alice@example.org", ["bob@example.org", "nobody@example.org"]).expect("mailboxes")
}

fn sessions(log: &Log) -> usize {
    log.count(|event| matches!(event, SessionEvent::Connected))
}

async fn send(mailer: &Mailer) -> Vec<bool> {
    let report = mailer.send(&envelope(), "Subject: x\r\n\r\nx\r\n").await.expect("it is reached");
    report.recipients().iter().map(Result::is_ok).collect()
}

#[tokio::test]
async fn messages_share_a_connection_as_long_as_it_is_fit() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log)).await;
    let config = ClientConfig::new("client.example").expect("a name");
    let mut settings = MailerSettings::default();
    settings.idle_timeout = Duration::from_secs(3600);
    settings.messages_limit = 3;
    let mailer = Mailer::to(&server.address.to_string(), config.clone()).expect("host:port").with_settings(&settings);
    for _ in 0..6 {
        assert_eq!(send(&mailer.clone()).await, [true, false], "{mailer:?}");
    }
    assert_eq!((inbox.len(), sessions(&log)), (6, 2));
    settings.idle_timeout = Duration::ZERO;
    let mailer = mailer.with_settings(&settings);
    for _ in 0..3 {
        assert_eq!(send(&mailer).await, [true, false]);
    }
    assert_eq!((inbox.len(), sessions(&log)), (9, 5));
    assert!(mailer.config().auth().is_none());
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_made_again() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let mut limits = smtp_core::Limits::default();
    limits.transactions = 1;
    let server = start(builder(&inbox, &log).limits(limits)).await;
    let mut settings = MailerSettings::default();
    settings.idle_timeout = Duration::from_secs(3600);
    let mailer = Mailer::to_addresses([server.address], ClientConfig::default()).with_settings(&settings);
    for count in 1..=4 {
        // The second transaction of a session is 421, and nobody has taken anything then.
        assert_eq!(send(&mailer).await, [true, false]);
        assert_eq!(inbox.len(), count);
    }
}

async fn submission(inbox: &Inbox, log: &Log) -> Running {
    let user = Mailbox::parse("alice@example.org").expect("a mailbox");
    let line = PasswordFile::line(&user, &Secret::new("correct horse"), b"some salt of a test").expect("a password");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(format!("{line}\n").as_bytes()).expect("room");
    let users = PasswordFile::open(file.path()).expect("one user");
    let listener = Listener::new("127.0.0.1:0").implicit_tls().service(Service::Submission);
    start(builder(inbox, log).tls(server_tls()).authenticate(users).listener(listener)).await
}

#[tokio::test] // RFC 8314 §3.3
async fn as_a_user_under_tls_and_with_a_password() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = submission(&inbox, &log).await;
    let mailer = |password: &str| {
        let tls = ClientTls::verified_with_roots(["mx.example.org"], root_pem().as_bytes()).expect("a root").implicit();
        let auth = ClientAuth::password("alice@example.org", Secret::new(password));
        Mailer::to_addresses([server.address], ClientConfig::default().with_tls(tls).with_auth(auth))
    };
    assert_eq!(send(&mailer("correct horse")).await, [true, false]);
    let error = mailer("wrong").send(&envelope(), "x\r\n").await.expect_err("refused");
    assert_eq!(error.stage(), SendStage::Auth);
    assert!(!format!("{:?} {error}", mailer("hunter2")).contains("hunter2"));
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox.messages()[0].connection().identity().expect("proved").as_str(), "alice@example.org");
}

#[test]
fn a_server_is_host_and_port() {
    for wrong in ["", "example.org", "example.org:", ":25", "example.org:99999", "example.org:x"] {
        let error = Mailer::to(wrong, ClientConfig::default()).expect_err(wrong);
        assert_eq!(error.to_string(), format!("`{wrong}` is not host:port"));
        assert!(!error.is_transient());
    }
    assert!(Mailer::to("[::1]:25", ClientConfig::default()).is_ok());
}
