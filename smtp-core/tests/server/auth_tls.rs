//! AUTH under a TLS that was really negotiated: submission from our client to our server (RFC 4954, RFC 6409).

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use smtp_core::{
    AuthError, Authenticator, Bytes, ClientAuth, ClientCertificate, ClientConfig, ClientConnection, ClientTls,
    Connection, Envelope, Identity, Listener, Lookup, Mechanism, Mechanisms, ReversePath, ScramHash, ScramKeys, Secret,
    SendCause, SendStage, Service, SessionEvent, async_trait,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::client::Client;
use crate::support::tls::{pem, root_pem, server_tls};
use crate::support::world::{Inbox, Log, Users, builder, find, start};

const PASSWORD: &str = "wonderland";

/// `alice`, who sends from her own address only.
struct Alice;

#[async_trait]
impl Authenticator for Alice {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD.with(Mechanism::ScramSha256).with(Mechanism::ScramSha256Plus)
    }

    async fn password(&self, connection: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        assert!(connection.tls().is_some(), "never in clear");
        if user == "alice" && *password == Secret::new(PASSWORD) {
            Ok(Identity::new("alice"))
        } else {
            Err(AuthError::Rejected)
        }
    }

    async fn scram(
        &self,
        connection: &Connection,
        user: &str,
        hash: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        assert!(connection.tls().is_some_and(|tls| tls.exporter.is_some()), "never in clear");
        let keys = ScramKeys::derive(hash, &Secret::new(PASSWORD), b"salt of alice", 4096).expect("good parameters");
        Ok((user == "alice").then(|| (keys, Identity::new("alice"))))
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, from: &ReversePath) -> Result<bool, AuthError> {
        Ok(from.to_string() == "<alice@example.org>")
    }
}

fn config(password: &str, mechanism: Mechanism) -> ClientConfig {
    let tls = ClientTls::verified_with_roots(["mx.example.org"], root_pem().as_bytes()).expect("a name and a root");
    let auth = ClientAuth::password("alice", Secret::new(password)).only(Mechanisms::from([mechanism]));
    ClientConfig::new("client.example").expect("a name").with_tls(tls).with_auth(auth)
}

#[tokio::test]
async fn r4954_who_has_proved_who_it_is_may_send_anywhere_and_only_as_itself() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).recipients(Users).tls(server_tls()).authenticate(Alice)).await;
    let elsewhere = "carol@elsewhere.example";
    assert!(matches!(find(&format!("<{elsewhere}>").parse().expect("a path")), Ok(Lookup::NotLocal)));
    for mechanism in [Mechanism::ScramSha256Plus, Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login] {
        let mut connection =
            ClientConnection::connect(server.address, &config(PASSWORD, mechanism)).await.expect("alice");
        for (from, is_taken) in [("alice@example.org", true), ("bob@example.org", false)] {
            let envelope = Envelope::parse(from, [elsewhere]).expect("valid");
            let report = connection.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
            assert_eq!(report.is_delivered(), is_taken, "{mechanism} {from}: {report:?}");
        }
        connection.quit().await;
        let is_by_it = |event: &SessionEvent| matches!(event, SessionEvent::Authenticated { mechanism: by, .. } if *by == mechanism);
        assert_eq!(log.count(is_by_it), 1, "{mechanism}");
        let message = inbox.messages().pop().expect("delivered");
        assert_eq!(message.connection().identity(), Some(&Identity::new("alice")));
        let prefix = String::from_utf8(message.header_prefix()).expect("ASCII").replace("\r\n", "");
        assert!(prefix.contains(" with ESMTPSA id "), "RFC 3848: {prefix}");

        let wrong = ClientConnection::connect(server.address, &config("looking-glass", mechanism)).await.map(drop);
        let wrong = wrong.expect_err("another password");
        assert_eq!(wrong.stage(), SendStage::Auth, "{wrong}");
        assert!(wrong.to_string().contains("535 5.7.8") && !wrong.to_string().contains("looking-glass"), "{wrong}");
    }
    let events = format!("{:?}", log.events());
    assert!(!events.contains(PASSWORD) && !events.contains("looking-glass"));
}

#[tokio::test] // PRACTICES S26, RFC 9266: what binds to the connection is offered where the connection can be bound to.
async fn s26_mechanisms_are_offered_under_tls_only() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).tls(server_tls()).authenticate(Alice)).await;
    let mut clear = Client::connect(server.address).await;
    clear.expect("220").await;
    let in_clear = ehlo(&mut clear).await;
    assert!(!in_clear.iter().any(|line| line.contains("AUTH")), "{in_clear:?}");
    clear.ask("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=", "538 5.7.11").await;
    let mut client = Client::connect(server.address).await.start_tls().await;
    let under_tls = ehlo(&mut client).await;
    let offered = under_tls.iter().find(|line| line.contains("AUTH")).expect("it is offered");
    assert!(offered.contains(" SCRAM-SHA-256-PLUS") && offered.contains(" PLAIN"), "{offered}");
}

#[tokio::test] // PRACTICES S25, RFC 4954 §6, RFC 6409 §4.3: for mailboxes of this server, too, and in every spelling.
async fn s25_where_authentication_is_demanded_strangers_send_nothing() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let listener = || Listener::new("127.0.0.1:0").service(Service::Submission);
    let server = builder(&inbox, &log).tls(server_tls()).authenticate(Alice).listener(listener()).bind().await;
    let server = server.expect("loopback has free ports");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    let mut clear = Client::connect(address).await;
    clear.greet().await;
    let mut protected = Client::connect(address).await.start_tls().await;
    protected.ask("EHLO client.example", "250").await;
    for line in [
        "MAIL FROM:<alice@example.org>",
        "mail from: <alice@example.org>",
        "Mail FROM:<> SIZE=10",
        "MAIL FROM:<alice@example.org> AUTH=alice@example.org",
        "MAIL FROM:<alice@example.org> BODY=8BITMIME",
        "VRFY alice",
    ] {
        clear.ask(line, "530 5.7.0 Must issue a STARTTLS command first").await;
        protected.ask(line, "530 5.7.0 Authentication required").await;
    }
    for client_line in ["RCPT TO:<alice@example.org>", "DATA"] {
        protected.ask(client_line, "503 5.5.1").await;
    }
    for harmless in ["NOOP", "RSET", "EHLO again.example"] {
        protected.ask(harmless, "250").await;
    }
    protected.ask("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=", "235 2.7.0").await;
    protected.send_message_from("alice@example.org").await;
    protected.expect("250").await;
    assert_eq!(inbox.len(), 1);
    for wrong in [
        builder(&inbox, &log).tls(server_tls()).listener(listener()),
        builder(&inbox, &log).authenticate(Alice).listener(listener()),
    ] {
        assert!(wrong.bind().await.is_err_and(|error| error.to_string().contains("nobody can authenticate there")));
    }
}

async fn ehlo<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> Vec<String> {
    client.send("EHLO client.example\r\n").await;
    let mut lines = Vec::new();
    while let Some(line) = client.line().await {
        let is_last = line.starts_with("250 ");
        lines.push(line);
        if is_last {
            break;
        }
    }
    lines
}

/// Who shows this certificate is `alice`.
struct Holder(Vec<u8>);

#[async_trait]
impl Authenticator for Holder {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::from([Mechanism::External])
    }

    async fn certificate(&self, _: &Connection, certificate: &ClientCertificate) -> Result<Identity, AuthError> {
        if certificate.der() == self.0 { Ok(Identity::new("alice")) } else { Err(AuthError::Rejected) }
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

#[tokio::test] // RFC 4422 Appendix A: by STARTTLS and with TLS from the start; her certificate, another one, none.
async fn r4422_a_client_is_known_by_its_certificate() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let ((chain, key), (other, other_key)) = (pem("alice.example"), pem("bob.example"));
    let der = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
    let tls = server_tls().ask_for_client_certificates(root_pem().as_bytes()).expect("a root");
    let server = builder(&inbox, &log).tls(tls).authenticate(Holder(der.to_vec()));
    let server = server.listener(Listener::new("127.0.0.1:0").implicit_tls());
    let server = server.listener(Listener::new("127.0.0.1:0")).bind().await.expect("loopback has free ports");
    let addresses = server.local_addresses();
    tokio::spawn(server.run());
    let client = || ClientTls::verified_with_roots(["mx.example.org"], root_pem().as_bytes()).expect("valid");
    let with = |chain: &str, key: &str| client().with_certificate(chain.as_bytes(), key.as_bytes());
    for (address, is_implicit) in [(addresses[0], true), (addresses[1], false)] {
        for (tls, expected) in [
            (with(&chain, &key).expect("they belong together"), "alice"),
            (with(&other, &other_key).expect("they belong together"), "rejected"),
            (client(), "not offered"),
        ] {
            let tls = if is_implicit { tls.implicit() } else { tls };
            let config = ClientConfig::new("client.example").expect("a name").with_tls(tls);
            let config = config.with_auth(ClientAuth::certificate());
            match (ClientConnection::connect(address, &config).await, expected) {
                (Ok(mut connection), "alice") => {
                    let envelope = Envelope::parse("a@client.example", ["carol@elsewhere.example"]).expect("valid");
                    let report = connection.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
                    assert!(report.is_delivered(), "{report:?}");
                }
                (Err(error), "rejected") => assert!(error.to_string().contains("535 5.7.8"), "{error}"),
                (Err(error), "not offered") => assert_eq!(*error.cause(), SendCause::AuthNotOffered),
                (connected, _) => panic!("{expected}: {:?}", connected.map(drop)),
            }
        }
    }
    assert_eq!(inbox.len(), 2);
    for (chain, key) in [(&chain, &other_key), (&key, &key), (&chain, &chain)] {
        assert!(with(chain, key).is_err(), "nothing that can be shown");
    }
}
