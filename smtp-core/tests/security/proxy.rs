//! SECURITY.md D-21: the PROXY protocol is believed of listed proxies only, and only at the start.

use std::time::Duration;

use smtp_core::{ConnectionLimits, IpNet, Listener, SessionEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::tls::server_tls;
use crate::support::world::{Inbox, Log, Running, builder, find};

const V1: &str = "PROXY TCP4 192.0.2.77 192.0.2.25 40000 25\r\n";

fn loopback() -> IpNet {
    "127.0.0.0/8".parse().expect("a network")
}

async fn running(inbox: &Inbox, log: &Log, listener: Listener) -> Running {
    let mut limits = ConnectionLimits::default();
    limits.per_address = 1;
    let server = builder(inbox, log).tls(server_tls()).connection_limits(limits).listener(listener).bind().await;
    let server = server.expect("loopback has free ports");
    let (address, handle) = (server.local_addresses()[0], server.handle());
    Running { address, handle, run: tokio::spawn(server.run()) }
}

fn behind(network: IpNet) -> Listener {
    Listener::new("127.0.0.1:0").behind_proxy(network)
}

/// Version 2, TCP over IPv6.
fn v2() -> Vec<u8> {
    let addresses = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7, 0x20, 1, 0xd, 0xb8], &[0; 11], &[2, 0x9c, 0x40, 0, 25]];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".as_slice(), &addresses.concat()].concat()
}

#[tokio::test]
async fn d21_the_client_is_who_the_proxy_says_it_is() {
    assert!(find(&smtp_core::ForwardPath::Postmaster).is_ok());
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log, behind(loopback()).relay_for("192.0.2.0/24".parse().expect("a network"))).await;
    for (header, peer, may_relay) in [
        (V1.as_bytes().to_vec(), "192.0.2.77:40000", true),
        (v2(), "[2001:db8::7]:40000", false),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", false),
    ] {
        for piece in [1, 7, header.len()] {
            let mut client = Client::connect(server.address).await;
            for part in header.chunks(piece) {
                client.send(part).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            client.greet().await;
            client.ask("MAIL FROM:<a@client.example>", "250").await;
            client.ask("RCPT TO:<x@elsewhere.example>", if may_relay { "250" } else { "550 5.7.1" }).await;
            client.ask("RSET", "250").await;
            client.send_message().await;
            client.expect("250").await;
            let message = inbox.messages().pop().expect("delivered");
            let connection = message.connection();
            assert!(connection.peer().to_string().starts_with(peer), "{}", connection.peer());
            assert_eq!(connection.proxy().is_some(), peer != "127.0.0.1");
            let received = String::from_utf8(message.header_prefix()).expect("ASCII");
            let shown = connection.peer().ip().to_string();
            assert!(received.contains(&shown), "{received}");
            client.ask("QUIT", "221").await;
            client.expect_closed().await;
        }
    }
}

#[tokio::test]
async fn d21_the_header_comes_before_tls() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log, behind(loopback()).implicit_tls()).await;
    let mut client = Client::connect(server.address).await;
    client.send(V1).await;
    let mut client = client.under_tls().await;
    client.expect("220").await;
    // Within TLS it is a line like any other.
    client.send(V1).await;
    client.expect("500 5.5.1").await;
}

#[tokio::test]
async fn d21_what_is_no_header_is_closed_without_a_word() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let elsewhere = "192.0.2.0/24".parse().expect("a network");
    let too_large = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 100]].concat();
    let mut refused = 0;
    for (what, network, octets) in [
        ("an address that is not listed", elsewhere, V1.as_bytes()),
        ("a client without a proxy", loopback(), b"EHLO client.example\r\n"),
        ("TLS", loopback(), b"\x16\x03\x01\x02\0"),
        ("twice", loopback(), [V1, V1].concat().as_bytes()),
        ("version 1 over 107 octets", loopback(), format!("PROXY UNKNOWN {}\r\n", "x".repeat(107)).as_bytes()),
        ("version 2 with 65,535 octets", loopback(), &too_large),
        ("a part, and then the end", loopback(), b"PROXY TCP4 192.0.2.77"),
        ("nothing at all", loopback(), b""),
    ] {
        let server = running(&inbox, &log, behind(network)).await;
        let mut stream = TcpStream::connect(server.address).await.expect("it listens");
        stream.write_all(octets).await.expect("it reads");
        if octets.len() < 40 {
            stream.shutdown().await.expect("it is there");
        }
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert_eq!(String::from_utf8_lossy(&said), "", "{what}");
        refused += 1;
        let is_refused = |event: &SessionEvent| matches!(event, SessionEvent::ProxyRefused { .. });
        while log.count(is_refused) < refused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(inbox.len(), 0);
}

#[tokio::test]
async fn d21_a_listener_without_proxies_believes_nobody() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log, Listener::new("127.0.0.1:0").refuse_early_talkers(false)).await;
    let mut client = Client::connect(server.address).await;
    client.send(V1).await;
    client.expect("220").await;
    client.expect("500 5.5.1").await;
}

#[tokio::test] // LI13: one client behind a proxy takes no more than one that connects itself.
async fn d21_limits_count_the_client_and_not_the_proxy() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log, behind(loopback())).await;
    let mut clients = Vec::new();
    for (address, reply) in
        [("192.0.2.1", "220"), ("192.0.2.2", "220"), ("192.0.2.1", "421 4.7.0"), ("192.0.2.3", "220")]
    {
        let mut client = Client::connect(server.address).await;
        client.send(format!("PROXY TCP4 {address} 192.0.2.25 40000 25\r\n")).await;
        client.expect(reply).await;
        clients.push(client);
    }
}

#[tokio::test]
async fn d21_a_proxy_has_five_seconds() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log, behind(loopback())).await;
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    stream.write_all(b"PROXY ").await.expect("it reads");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(said.is_empty());
    log.wait_for(|event| matches!(event, SessionEvent::ProxyRefused { cause } if cause.as_str().contains("too long")))
        .await;
}
