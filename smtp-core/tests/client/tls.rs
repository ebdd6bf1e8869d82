//! TLS of the client: RFC 3207, RFC 7435; SECURITY.md D-5 and D-6.

use std::net::SocketAddr;
use std::time::Duration;

use smtp_core::{
    Bytes, ClientConfig, ClientConnection, ClientLimits, ClientTls, Envelope, Listener, SendCause, SendError,
    SendStage, TlsVersion,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::tls::{root_pem, server_tls};
use crate::support::world::{Inbox, Log, builder, start};

const CONTENT: &str = "Subject: hello\r\n\r\nHello\r\n";

fn config(tls: ClientTls) -> ClientConfig {
    ClientConfig::new("client.example").expect("a name").with_tls(tls)
}

fn verified(name: &str) -> ClientTls {
    ClientTls::verified_with_roots([name], root_pem().as_bytes()).expect("a name and a root")
}

fn all_kinds() -> [(&'static str, ClientTls); 3] {
    [
        ("opportunistic", ClientTls::opportunistic().expect("there is cryptography")),
        ("encrypted", ClientTls::encrypted().expect("there is cryptography")),
        ("verified", verified("mx.example.org")),
    ]
}

async fn deliver(address: SocketAddr, config: &ClientConfig) -> Result<Option<TlsVersion>, SendError> {
    let mut connection = ClientConnection::connect(address, config).await?;
    let envelope = Envelope::parse("alice@client.example", ["bob@example.org"]).expect("valid");
    let report = connection.send(&envelope, Bytes::from(CONTENT)).await;
    assert!(report.is_delivered(), "{report:?}");
    let version = connection.tls().map(|tls| tls.version);
    connection.quit().await;
    Ok(version)
}

#[tokio::test]
async fn r3207_mail_goes_under_tls_where_the_server_offers_it() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let implicit = Listener::new("127.0.0.1:0").implicit_tls();
    let server =
        builder(&inbox, &log).tls(server_tls()).listener(implicit).listen("127.0.0.1:0").await.expect("it listens");
    let addresses = server.local_addresses();
    tokio::spawn(server.run());
    for (what, tls) in all_kinds() {
        assert_eq!(deliver(addresses[1], &config(tls.clone())).await, Ok(Some(TlsVersion::Tls13)), "{what}");
        assert_eq!(deliver(addresses[0], &config(tls.implicit())).await, Ok(Some(TlsVersion::Tls13)), "{what}");
    }
    assert_eq!(inbox.len(), 6);
    assert!(inbox.messages().iter().all(|message| message.connection().tls().is_some()));
}

#[tokio::test]
async fn a_certificate_for_another_name_or_by_a_stranger_is_refused_where_it_matters() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).tls(server_tls())).await;
    let other = deliver(server.address, &config(verified("mx.example.net"))).await.expect_err("another name");
    assert!(matches!(other.cause(), SendCause::Handshake(_)), "{other}");
    assert!(other.is_transient() && other.status().to_string() == "4.7.5", "{other}");
    let both = ClientTls::verified_with_roots(["mx.example.net", "mx.example.org"], root_pem().as_bytes());
    assert!(deliver(server.address, &config(both.expect("names"))).await.is_ok());
    if let Ok(by_system) = ClientTls::verified(["mx.example.org"]) {
        let stranger = deliver(server.address, &config(by_system)).await.expect_err("nobody knows this authority");
        assert!(matches!(stranger.cause(), SendCause::Handshake(_)), "{stranger}");
    }
    assert_eq!(inbox.len(), 1);
}

#[tokio::test] // SECURITY.md D-6
async fn d6_without_starttls_nothing_is_said_of_a_message_that_must_be_protected() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log)).await;
    for (what, tls) in all_kinds() {
        let result = deliver(server.address, &config(tls)).await;
        if what == "opportunistic" {
            assert_eq!(result, Ok(None));
            continue;
        }
        let error = result.expect_err(what);
        assert_eq!((error.stage(), error.cause()), (SendStage::Tls, &SendCause::TlsNotOffered), "{what}");
        assert!(error.is_transient() && error.status().to_string() == "4.7.10", "{error}");
    }
    assert_eq!(inbox.len(), 1);
}

/// A server that answers each line in turn, whatever it says, and then closes. What it was told.
async fn scripted(replies: &'static [&'static str]) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    let told = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let (read, mut write) = stream.split();
        let mut lines = BufReader::new(read).split(b'\n');
        let mut told = Vec::new();
        for reply in replies {
            let _ = write.write_all(reply.as_bytes()).await;
            match lines.next_segment().await {
                Ok(Some(line)) => told.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
                _ => break,
            }
        }
        told
    });
    (address, told)
}

const OFFER: &str = "250-mx.example.org\r\n250 STARTTLS\r\n";

#[tokio::test] // CVE-2021-38371: what follows the 220 in clear is never read as if it came under TLS.
async fn d5_octets_behind_the_220_end_the_connection() {
    for reply in [
        "220 go\r\n250-mx.example.org\r\n250 AUTH PLAIN\r\n",
        "220-go\r\n220 on\r\n250 mx.example.org\r\n",
        "220 go\r\n2",
        "220 go\r\n\r\n",
    ] {
        let replies: &'static [&'static str] = vec!["220 mx.example.org\r\n", OFFER, reply, "250 more\r\n"].leak();
        for (what, tls) in all_kinds() {
            let (address, told) = scripted(replies).await;
            let error = ClientConnection::connect(address, &config(tls)).await.map(drop).expect_err(what);
            assert_eq!((error.stage(), error.cause()), (SendStage::Tls, &SendCause::Unsolicited), "{what}: {reply:?}");
            assert!(error.is_transient());
            let told = told.await.expect("it ends");
            assert_eq!(told.get(..2), Some(&["EHLO client.example".to_owned(), "STARTTLS".to_owned()][..]));
            assert!(told.len() == 2, "no handshake was begun, and nothing more was said: {told:?}");
        }
    }
}

#[tokio::test] // RFC 3207 §4, RFC 7435 §3
async fn a_server_that_refuses_starttls_gets_in_clear_only_what_may_go_in_clear() {
    for (reply, status) in [("454 4.7.0 not now\r\n", "4.7.0"), ("502 5.5.1 never\r\n", "4.5.1")] {
        let replies: &'static [&'static str] = vec!["220 mx.example.org\r\n", OFFER, reply, "221 bye\r\n"].leak();
        for (what, tls) in all_kinds() {
            let (address, told) = scripted(replies).await;
            match ClientConnection::connect(address, &config(tls)).await {
                Ok(connection) => {
                    assert_eq!(what, "opportunistic");
                    assert!(connection.tls().is_none());
                    connection.quit().await;
                }
                Err(error) => {
                    assert_ne!(what, "opportunistic");
                    assert_eq!(error.stage(), SendStage::Tls);
                    assert_eq!(
                        (error.is_transient(), error.status().to_string()),
                        (true, status.to_owned()),
                        "{error}"
                    );
                }
            }
            assert!(!told.await.expect("it ends").iter().any(|line| line.starts_with("MAIL")));
        }
    }
}

#[tokio::test] // RFC 7435 §3
async fn a_failed_handshake_goes_on_in_clear_only_where_nothing_was_demanded() {
    for (what, tls) in all_kinds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let serve = tokio::spawn(async move {
            let mut connections = 0;
            while let Ok(Ok((mut stream, _))) = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await {
                connections += 1;
                let (read, mut write) = stream.split();
                let mut lines = BufReader::new(read).split(b'\n');
                let _ = write.write_all(b"220 mx.example.org\r\n").await;
                let _ = lines.next_segment().await;
                let _ = write.write_all(OFFER.as_bytes()).await;
                let Ok(Some(line)) = lines.next_segment().await else { continue };
                if line.starts_with(b"STARTTLS") {
                    // No TLS record.
                    let _ = write.write_all(b"220 go\r\n").await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let _ = write.write_all(b"250 what?\r\n").await;
                } else {
                    let _ = write.write_all(b"221 bye\r\n").await;
                }
            }
            connections
        });
        let result = ClientConnection::connect(address, &config(tls)).await;
        assert_eq!(result.is_ok(), what == "opportunistic", "{what}");
        if let Ok(connection) = result {
            assert!(connection.tls().is_none());
            connection.quit().await;
        }
        assert_eq!(serve.await.expect("it ends"), if what == "opportunistic" { 2 } else { 1 }, "{what}");
    }
}

#[tokio::test] // TO10
async fn a_handshake_that_never_ends_is_given_up() {
    let mut limits = ClientLimits::default();
    limits.handshake_timeout = Duration::from_secs(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    let tls = verified("mx.example.org").implicit();
    let error =
        ClientConnection::connect(address, &config(tls).with_limits(limits)).await.map(drop).expect_err("silence");
    assert!(matches!(error.cause(), SendCause::Handshake(_)) && error.is_transient(), "{error}");
}
