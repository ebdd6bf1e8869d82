//! Session tickets of a server: at which listeners there are any, where they are good, and what they do not carry (SECURITY.md
//! D-47).

use std::io::Write;
use std::net::SocketAddr;

use rustls::{ClientConfig, HandshakeKind};
use smtp_core::{Listener, Mailbox, PasswordFile, Secret, ServerBuilder, ServerTls, Service};
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::tls::{client_config_of, pem, root_pem, server_tls, shake_hands};
use crate::support::world::{Inbox, Log, builder};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn users() -> PasswordFile {
    let user = Mailbox::parse("alice@example.org").expect("a mailbox");
    let line = PasswordFile::line(&user, &Secret::new("correct horse"), b"some salt of a test").expect("a password");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(format!("{line}\n").as_bytes()).expect("room");
    PasswordFile::open(file.path()).expect("one user")
}

fn listener(service: Service) -> Listener {
    Listener::new("127.0.0.1:0").implicit_tls().service(service)
}

/// Listeners of one server, with the same certificate.
async fn listen(tls: ServerTls, listeners: impl IntoIterator<Item = Listener>) -> Vec<SocketAddr> {
    let server = builder(&Inbox::default(), &Log::default()).tls(tls).authenticate(users());
    let server = listeners.into_iter().fold(server, ServerBuilder::listener);
    let server = server.bind().await.expect("loopback has free ports");
    let addresses = server.local_addresses();
    tokio::spawn(server.run());
    addresses
}

/// One session of a client that keeps the tickets it is given, and shows them again: how it began, and what `MAIL` is told.
async fn visit(address: SocketAddr, config: &ClientConfig) -> (HandshakeKind, String) {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let stream = shake_hands(stream, config.clone(), "mx.example.org").await.expect("a handshake");
    let kind = stream.get_ref().1.handshake_kind().expect("it is made");
    let mut client = Client::new(stream);
    client.greet().await;
    client.send("MAIL FROM:<alice@example.org>\r\n").await;
    let reply = client.line().await.expect("a reply");
    client.ask("QUIT", "221").await;
    (kind, reply)
}

async fn kind(address: SocketAddr, config: &ClientConfig) -> HandshakeKind {
    visit(address, config).await.0
}

#[tokio::test] // Rows: what a listener is, and whether who comes again resumes its session there.
async fn d47_users_get_tickets_and_other_mail_servers_do_not() {
    for (listener, is_resumed) in [
        (listener(Service::Submission), true),
        (listener(Service::Mixed), false),
        (listener(Service::Mx), false),
        (listener(Service::Submission).session_tickets(false), false),
        (listener(Service::Mixed).session_tickets(true), true),
        (listener(Service::Mx).tls(server_tls()).session_tickets(true), true),
    ] {
        let shown = format!("{listener:?}");
        let address = listen(server_tls(), [listener]).await[0];
        for version in VERSIONS {
            let config = client_config_of(version);
            assert_eq!(kind(address, &config).await, HandshakeKind::Full, "{version:?}");
            let expected = if is_resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
            assert_eq!(kind(address, &config).await, expected, "{version:?} {shown}");
        }
    }
}

#[tokio::test]
async fn d47_a_ticket_of_one_listener_is_refused_at_another_and_carries_no_authorisation() {
    let addresses = listen(server_tls(), [listener(Service::Submission), listener(Service::Submission)]).await;
    for version in VERSIONS {
        for (first, other) in [(addresses[0], addresses[1]), (addresses[1], addresses[0])] {
            let config = client_config_of(version);
            assert_eq!(kind(first, &config).await, HandshakeKind::Full, "{version:?}");
            let (kind_again, reply) = visit(first, &config).await;
            assert_eq!(kind_again, HandshakeKind::Resumed, "{version:?}");
            assert!(reply.starts_with("530 "), "{reply}");
            assert_eq!(kind(other, &config).await, HandshakeKind::Full, "{version:?}: it is not for that listener");
        }
    }
}

#[tokio::test] // RFC 4422: a certificate that EXTERNAL rests on is shown each time.
async fn d47_where_client_certificates_are_asked_for_there_are_no_tickets() {
    let (chain, key) = pem("mx.example.org");
    let tls = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they belong together");
    let tls = tls.ask_for_client_certificates(root_pem().as_bytes()).expect("a root");
    let address = listen(tls, [listener(Service::Submission).session_tickets(true)]).await[0];
    for version in VERSIONS {
        let config = client_config_of(version);
        for _ in 0..2 {
            assert_eq!(kind(address, &config).await, HandshakeKind::Full, "{version:?}");
        }
    }
}
