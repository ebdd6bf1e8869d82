//! RFC 3207 and RFC 8314 on the server; SECURITY.md D-4, D-7 and D-8.

use std::time::Duration;

use smtp_core::{
    Accepted, CloseReason, ConnectionLimits, Limits, Listener, Message, Server, ServerTls, SessionEvent, TlsError,
    TlsVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::tls::{client_config, client_config_of, pem, root_pem, server_tls, shake_hands};
use crate::support::world::{Inbox, Log, Running, builder, in_process, open, start, unbound};

async fn running(inbox: &Inbox, log: &Log) -> Running {
    start(builder(inbox, log).tls(server_tls())).await
}

fn failed(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::TlsFailed { .. })
}

#[tokio::test]
async fn r3207a_starttls_stands_between_ehlo_and_mail_and_is_not_offered_twice() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log).await;
    let mut client = Client::connect(server.address).await;
    client.expect("220").await;
    client.ask("STARTTLS", "503 5.5.1").await;
    client.send("EHLO client.example\r\n").await;
    let mut offered = Vec::new();
    while let Some(line) = client.line().await {
        offered.push(line.clone());
        if line.starts_with("250 ") {
            break;
        }
    }
    assert!(offered.iter().any(|line| line.ends_with("STARTTLS")), "{offered:?}");
    client.ask("STARTTLS now", "501 5.5.4").await;
    client.ask("MAIL FROM:<a@client.example>", "250").await;
    client.ask("STARTTLS", "503 5.5.1").await;
    client.ask("RSET", "250").await;
    client.ask("starttls", "220 2.0.0").await;
    let mut client = client.under_tls().await;
    // RFC 3207 §4.2: the server knows nothing of what was said in clear.
    client.ask("MAIL FROM:<a@client.example>", "503 5.5.1").await;
    client.send("EHLO client.example\r\n").await;
    while let Some(line) = client.line().await {
        assert!(!line.contains("STARTTLS"), "{line}");
        if line.starts_with("250 ") {
            break;
        }
    }
    client.ask("STARTTLS", "503 5.5.1").await;
    client.send_message().await;
    client.expect("250").await;
    client.ask("QUIT", "221").await;
    client.expect_closed().await;
    let messages = inbox.messages();
    let prefix = String::from_utf8(messages[0].header_prefix()).expect("ASCII").replace("\r\n", "");
    assert!(prefix.contains(" with ESMTPS id "), "RFC 3848: {prefix}");
    assert_eq!(messages[0].connection().tls().map(|tls| tls.version), Some(TlsVersion::Tls13));
}

#[tokio::test]
async fn r3207a_who_has_no_certificate_offers_no_tls() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log)).await;
    let mut client = Client::connect(server.address).await;
    client.greet().await;
    client.ask("STARTTLS", "502 5.5.1").await;
}

#[tokio::test(start_paused = true)] // RFC 3207 §4, R3207b: also where early talkers are let pass elsewhere.
async fn d4_octets_behind_starttls_are_never_executed() {
    for check in [true, false] {
        let (inbox, log) = (Inbox::default(), Log::default());
        let listener = Listener::new("127.0.0.1:0").refuse_early_talkers(check);
        let server = unbound(builder(&inbox, &log).tls(server_tls()).listener(listener)).await;
        in_process(async {
            for behind in
                ["EHLO evil.example\r\n", "MAIL FROM:<a@b.example>\r\nRCPT TO:<alice@example.org>\r\n", "x", "\r"]
            {
                let mut client = open(&server);
                client.greet().await;
                client.send(format!("STARTTLS\r\n{behind}")).await;
                client.expect("501 5.5.2").await;
                client.expect_closed().await;
            }
        })
        .await;
        assert_eq!(inbox.len(), 0);
        assert_eq!(log.count(|event| matches!(event, SessionEvent::TlsStarted(_))), 0);
    }
}

#[tokio::test]
async fn d4_clear_octets_in_the_place_of_a_handshake_are_never_executed() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log).await;
    let mut client = Client::connect(server.address).await;
    client.greet().await;
    client.ask("STARTTLS", "220").await;
    client.send("EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n").await;
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest).await;
    assert!(!rest.windows(3).any(|part| part == b"250" || part == b"501" || part == b"503"), "{rest:?}");
    log.wait_for(failed).await;
    log.wait_for(|event| matches!(event, SessionEvent::Closed(CloseReason::Tls))).await;
    assert_eq!(inbox.len(), 0);
}

#[tokio::test] // CVE-2026-45185: whatever ends the TLS, what follows in clear is nothing, and half a message is none.
async fn d7_a_session_ends_with_its_tls() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log).await;
    for (what, says_goodbye, state) in [
        ("truncated between commands", false, 0),
        ("closed between commands", true, 0),
        ("truncated in the envelope", false, 1),
        ("closed in the envelope", true, 1),
        ("truncated in the content", false, 2),
        ("closed in the content", true, 2),
    ] {
        let mut client = Client::connect(server.address).await.start_tls().await;
        client.ask("EHLO client.example", "250").await;
        match state {
            1 => drop(client.ask("MAIL FROM:<a@client.example>", "250").await),
            2 => {
                client.begin_content().await;
                client.send("Subject: half\r\n\r\nof it\r\n").await;
            }
            _ => {}
        }
        let (mut socket, mut tls) = client.stream.into_inner();
        if says_goodbye {
            tls.send_close_notify();
            let mut alert = Vec::new();
            tls.write_tls(&mut alert).expect("memory takes it");
            socket.write_all(&alert).await.expect("the server is there");
        }
        // What somebody between the two adds, who cannot make a TLS record.
        socket.write_all(b".\r\nEHLO evil.example\r\nMAIL FROM:<a@b.example>\r\n").await.expect("the server is there");
        socket.shutdown().await.expect("the server is there");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        assert!(!rest.windows(4).any(|part| part == b"250 " || part == b"250-"), "{what}: {rest:?}");
    }
    while log.count(|event| matches!(event, SessionEvent::Closed(_))) < 6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(inbox.len(), 0);
}

#[tokio::test]
async fn d8_a_handshake_has_a_time_limit() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_secs(1);
    let implicit = Listener::new("127.0.0.1:0").implicit_tls();
    let server = builder(&inbox, &log).tls(server_tls()).limits(limits).listener(implicit).listen("127.0.0.1:0").await;
    let server = server.expect("loopback has free ports");
    let addresses = server.local_addresses();
    tokio::spawn(server.run());
    let mut silent = TcpStream::connect(addresses[0]).await.expect("it listens");
    let mut client = Client::connect(addresses[1]).await;
    client.greet().await;
    client.ask("STARTTLS", "220").await;
    for socket in [&mut silent, &mut client.stream] {
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    }
    assert_eq!(log.count(failed), 2);
}

#[tokio::test(start_paused = true)] // RFC 3207 §4
async fn d8_too_many_handshakes_are_put_off_and_the_session_goes_on() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let mut limits = ConnectionLimits::default();
    limits.handshakes_per_minute = 0;
    let server = unbound(builder(&inbox, &log).tls(server_tls()).connection_limits(limits)).await;
    in_process(async {
        let mut client = open(&server);
        client.greet().await;
        client.ask("STARTTLS", "454 4.7.0").await;
        client.send_message().await;
        client.expect("250").await;
    })
    .await;
}

#[tokio::test] // RFC 8314 §3.3: where TLS comes first there is nobody to say 454 to. Behind a proxy it is the client that counts.
async fn d8_too_many_handshakes_are_not_made_where_tls_comes_first() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let mut limits = ConnectionLimits::default();
    limits.handshakes_per_minute = 2;
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let listener = Listener::new("127.0.0.1:0").implicit_tls().behind_proxy(loopback);
    let server = builder(&inbox, &log).tls(server_tls()).connection_limits(limits).listener(listener).bind().await;
    let server = server.expect("loopback has free ports");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    for (client, is_served) in
        [("192.0.2.1", true), ("192.0.2.1", true), ("192.0.2.1", false), ("192.0.2.2", true), ("192.0.2.1", false)]
    {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let header = format!("PROXY TCP4 {client} 192.0.2.25 40000 465\r\n");
        stream.write_all(header.as_bytes()).await.expect("the server is there");
        assert_eq!(shake_hands(stream, client_config(), "mx.example.org").await.is_ok(), is_served, "{client}");
    }
}

#[tokio::test] // Another protocol's client is not made to speak SMTP (RFC 7301 §3.2).
async fn d8_who_wants_another_protocol_is_refused() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = running(&inbox, &log).await;
    for (protocols, is_served) in [(&["http/1.1"][..], false), (&["h2", "smtp"], true), (&[], true)] {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.ask("STARTTLS", "220").await;
        let mut config = client_config();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(shake_hands(client.stream, config, "mx.example.org").await.is_ok(), is_served, "{protocols:?}");
    }
}

#[tokio::test] // RFC 8314 §3.3
async fn r8314_a_listener_may_begin_with_tls() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let listener = Listener::new("127.0.0.1:0").implicit_tls();
    let server = builder(&inbox, &log).tls(server_tls()).listener(listener).bind().await.expect("it listens");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    let mut client = Client::connect(address).await.under_tls().await;
    client.greet().await;
    client.ask("STARTTLS", "503 5.5.1").await;
    client.send_message().await;
    client.expect("250").await;
    assert_eq!(inbox.len(), 1);
    let without = builder(&inbox, &log).listener(Listener::new("127.0.0.1:0").implicit_tls()).bind().await;
    assert!(without.is_err_and(|error| error.to_string().contains("no certificate")));
}

#[tokio::test] // RFC 6066 §3
async fn certificates_are_chosen_by_name_and_read_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |file: &str, name: &str| {
        let (chain, key) = pem(name);
        let paths = (directory.path().join(format!("{file}.pem")), directory.path().join(format!("{file}.key")));
        std::fs::write(&paths.0, chain).expect("there is room");
        std::fs::write(&paths.1, key).expect("there is room");
        paths
    };
    let (first, second) = (write("first", "mx.example.org"), write("second", "*.example.net"));
    let tls = ServerTls::from_pem_files(&first.0, &first.1).and_then(|tls| tls.and_pem_files(&second.0, &second.1));
    let tls = tls.expect("they belong together");
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).tls(tls.clone())).await;
    let is_shown = async |name: &str| {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.ask("STARTTLS", "220").await;
        shake_hands(client.stream, client_config(), name).await.is_ok()
    };
    assert!(is_shown("mx.example.org").await && is_shown("mx.example.net").await);
    assert!(!is_shown("mx.example.com").await, "the first certificate is not for that name");
    write("first", "mx.example.com");
    tls.reload().expect("the files are there");
    assert!(is_shown("mx.example.com").await && !is_shown("mx.example.org").await);
    // A key that belongs to another certificate: nothing changes.
    std::fs::write(&first.1, pem("mx.example.com").1).expect("there is room");
    assert!(matches!(tls.reload(), Err(TlsError::Unusable(_))));
    std::fs::remove_file(&first.1).expect("it was there");
    assert!(tls.reload().is_err_and(|error| error.is_transient()));
    assert!(is_shown("mx.example.com").await);
}

#[tokio::test] // RFC 4422: what EXTERNAL will rest on.
async fn a_client_certificate_is_kept_with_the_connection_and_a_foreign_one_is_refused() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let tls = server_tls().ask_for_client_certificates(root_pem().as_bytes()).expect("a root");
    let server = start(builder(&inbox, &log).tls(tls)).await;
    let (chain, key) = pem("client.example");
    let own = ServerTls::from_pem(chain.as_bytes(), key.as_bytes());
    assert!(own.is_ok());
    for shows in [true, false] {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.ask("STARTTLS", "220").await;
        let config = if shows { crate::support::tls::client_config_with(&chain, &key) } else { client_config() };
        let stream = shake_hands(client.stream, config, "mx.example.org").await.expect("a handshake");
        let mut client = Client::new(stream);
        client.ask("EHLO client.example", "250").await;
        client.send_message().await;
        client.expect("250").await;
        let shown =
            inbox.messages().pop().expect("delivered").connection().tls().expect("TLS").client_certificate.clone();
        assert_eq!(shown.is_some(), shows);
    }
}

#[tokio::test]
async fn certificates_of_no_use_are_found_before_anything_listens() {
    let ((chain, key), (other, _)) = (pem("mx.example.org"), pem("mx.example.org"));
    assert!(matches!(ServerTls::from_pem(b"", key.as_bytes()), Err(TlsError::Certificate(_))));
    assert!(matches!(ServerTls::from_pem(chain.as_bytes(), b""), Err(TlsError::Key(_))));
    assert!(matches!(ServerTls::from_pem(other.as_bytes(), key.as_bytes()), Err(TlsError::Unusable(_))));
    let missing = ServerTls::from_pem_files("/nonexistent/chain.pem", "/nonexistent/key.pem");
    assert!(missing.is_err_and(|error| error.to_string() == "cannot read /nonexistent/chain.pem"));
    // What a program says first.
    let server = Server::builder("mx.example.org").local_domain("example.org");
    let server = server.deliver(|_: Message| async { Ok(Accepted::all()) });
    assert!(server.tls(server_tls()).bind().await.is_ok());
}

#[tokio::test] // By default there are no tickets where other mail servers come: who comes again proves everything again.
async fn d47_no_session_is_resumed_at_any_listener() {
    let implicit = || Listener::new("127.0.0.1:0").implicit_tls();
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = builder(&inbox, &log).tls(server_tls()).listener(implicit()).listener(implicit()).bind().await;
    let server = server.expect("loopback has free ports");
    let addresses = server.local_addresses();
    tokio::spawn(server.run());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        // It keeps what it is given, and shows it again.
        let config = client_config_of(version);
        for address in [addresses[0], addresses[0], addresses[1], addresses[0]] {
            let stream = TcpStream::connect(address).await.expect("it listens");
            let stream = shake_hands(stream, config.clone(), "mx.example.org").await.expect("a handshake");
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full), "{version:?}");
            let mut client = Client::new(stream);
            client.greet().await;
            client.ask("QUIT", "221").await;
        }
    }
}
