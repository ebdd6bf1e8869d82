//! What a next hop demands, end to end: asked before each message, met by the connection or not at all.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use smtp_core::{
    ClientAuth, ClientConfig, ClientTls, Envelope, Listener, Mailbox, Mailer, NextHop, PasswordFile, Secret, SendCause,
    SendError, ServerTls, Service, SessionEvent, TlsPolicy, TlsRequirement, TlsaRecord, Transient, async_trait,
};

use crate::support::tls::{pem, root_pem, server_tls};
use crate::support::world::{Inbox, Log, Running, builder, start};

/// Says what it is told to say, and remembers about whom.
#[derive(Clone, Default)]
struct Oracle {
    answer: Arc<Mutex<Option<TlsRequirement>>>,
    asked: Arc<Mutex<Vec<NextHop>>>,
}

impl Oracle {
    fn saying(answer: impl Into<Option<TlsRequirement>>) -> Self {
        let oracle = Self::default();
        oracle.say(answer);
        oracle
    }

    /// Nothing: it does not know.
    fn say(&self, answer: impl Into<Option<TlsRequirement>>) {
        *self.answer.lock().expect("no panic") = answer.into();
    }
}

#[async_trait]
impl TlsPolicy for Oracle {
    async fn requirement(&self, next_hop: &NextHop) -> Result<TlsRequirement, Transient> {
        self.asked.lock().expect("no panic").push(next_hop.clone());
        self.answer.lock().expect("no panic").clone().ok_or_else(|| Transient::new("DNS is away"))
    }
}

fn names(name: &str) -> TlsRequirement {
    TlsRequirement::Names(vec![name.to_owned()])
}

fn config() -> ClientConfig {
    ClientConfig::new("client.example").expect("a name").with_authorities(root_pem().as_bytes()).expect("a root")
}

fn next_hop(address: SocketAddr) -> NextHop {
    let hop = NextHop::new("mx.example.org", address.port());
    hop.with_domain("example.org".parse().expect("a domain"))
}

fn mailer(address: SocketAddr, policy: impl TlsPolicy + 'static) -> Mailer {
    Mailer::to_addresses([address], config()).with_tls_policy(next_hop(address), policy)
}

async fn send(mailer: &Mailer) -> Result<(), SendError> {
    let envelope = Envelope::parse("alice@client.example", ["bob@example.org"]).expect("mailboxes");
    let report = mailer.send(&envelope, "Subject: x\r\n\r\nx\r\n").await?;
    report.recipients()[0].clone().map(drop)
}

/// Whether the last message came under TLS.
fn came_under_tls(inbox: &Inbox) -> bool {
    inbox.messages().last().expect("one came").connection().tls().is_some()
}

fn connections(log: &Log) -> usize {
    log.count(|event| matches!(event, SessionEvent::Connected))
}

#[tokio::test] // RFC 7435, RFC 8461 §4, RFC 7672 §2.2: rows of what is demanded, what there is, and what comes of it.
async fn a_connection_is_what_the_next_hop_demands() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let (chain, key) = pem("mx.example.org");
    let tls = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they belong together");
    let under_tls = start(builder(&inbox, &log).tls(tls)).await.address;
    let in_clear = start(builder(&inbox, &log)).await.address;
    let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate");
    let dane = |octets: &[u8]| TlsRequirement::Dane {
        records: vec![TlsaRecord { usage: 3, selector: 0, matching: 1, data: Sha256::digest(octets).to_vec() }],
        names: vec!["mx.example.org".into()],
    };
    let (none, may, must) = (TlsRequirement::None, TlsRequirement::Opportunistic, TlsRequirement::Required);
    // The last two: how it goes to a server with TLS and to one without; `None` is not at all.
    for (requirement, with, without) in [
        (none, Some(false), Some(false)),
        (may, Some(true), Some(false)),
        (must, Some(true), None),
        (names("mx.example.org"), Some(true), None),
        (names("mx.example.net"), None, None),
        (TlsRequirement::Names(vec!["mx.example.net".into(), "mx.example.org".into()]), Some(true), None),
        (dane(&certificate), Some(true), None),
        (dane(b"another"), None, None),
    ] {
        for (address, expected) in [(under_tls, with), (in_clear, without)] {
            let before = inbox.len();
            let result = send(&mailer(address, requirement.clone())).await;
            assert_eq!(result.is_ok(), expected.is_some(), "{requirement:?}: {result:?}");
            assert_eq!(inbox.len() - before, usize::from(expected.is_some()), "{requirement:?}");
            match result {
                Ok(()) => assert_eq!(Some(came_under_tls(&inbox)), expected, "{requirement:?}"),
                Err(error) => assert!(error.is_transient(), "{requirement:?}: {error}"),
            }
        }
    }
}

#[tokio::test] // What could not be looked up is no permission.
async fn without_an_answer_nobody_is_connected_to() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).tls(server_tls())).await;
    let oracle = Oracle::saying(None);
    let mailer = mailer(server.address, oracle.clone());
    let error = send(&mailer).await.expect_err("it does not know");
    assert!(matches!(error.cause(), SendCause::TlsPolicy(why) if why.as_str() == "DNS is away"), "{error:?}");
    assert!(error.is_transient() && error.status().to_string() == "4.7.5", "{error}");
    assert_eq!(error.to_string(), "connect: what the server demands of TLS is not known: DNS is away");
    assert_eq!((inbox.len(), connections(&log)), (0, 0));
    assert_eq!(*oracle.asked.lock().expect("no panic"), [next_hop(server.address)]);
    // A connection that is there already is no way around.
    oracle.say(TlsRequirement::Opportunistic);
    assert_eq!(send(&mailer).await, Ok(()));
    oracle.say(None);
    assert!(send(&mailer).await.is_err());
    assert_eq!((inbox.len(), connections(&log)), (1, 1));
}

/// Never answers.
struct Silent;

#[async_trait]
impl TlsPolicy for Silent {
    async fn requirement(&self, _: &NextHop) -> Result<TlsRequirement, Transient> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_hangs_does_not_know() {
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let error = send(&mailer(nobody, Silent)).await.expect_err("it hangs");
    assert!(matches!(error.cause(), SendCause::TlsPolicy(_)) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_connection_is_used_again_only_where_it_was_made_for_the_same() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).tls(server_tls())).await;
    let oracle = Oracle::default();
    let mut settings = smtp_core::MailerSettings::default();
    settings.idle_timeout = std::time::Duration::from_secs(3600);
    let mailer = mailer(server.address, oracle.clone()).with_settings(&settings);
    // The last: connections so far.
    for (requirement, is_under_tls, made) in [
        (TlsRequirement::None, false, 1),
        (TlsRequirement::None, false, 1),
        (names("mx.example.org"), true, 2),
        (TlsRequirement::Opportunistic, true, 3),
        (names("mx.example.org"), true, 3),
        (TlsRequirement::None, false, 3),
        (TlsRequirement::Names(vec!["mx.example.org".into(), "other.example".into()]), true, 4),
    ] {
        oracle.say(requirement.clone());
        assert_eq!(send(&mailer).await, Ok(()), "{requirement:?}");
        assert_eq!((came_under_tls(&inbox), connections(&log)), (is_under_tls, made), "{requirement:?}");
    }
    oracle.say(names("other.example"));
    assert!(send(&mailer).await.is_err(), "none of those that are there is for that name");
}

#[tokio::test] // RFC 8689 §4.2.2: what cannot be met, or is not known, is no reason; TLS that is there is used.
async fn r8689_4_2_2_who_puts_delivery_first_gets_it() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let (under_tls, in_clear) =
        (start(builder(&inbox, &log).tls(server_tls())).await, start(builder(&inbox, &log)).await);
    for answer in [Some(names("mx.example.net")), Some(TlsRequirement::Required), None] {
        for (address, has_tls) in [(under_tls.address, true), (in_clear.address, false)] {
            let mailer = mailer(address, Oracle::saying(answer.clone()));
            assert_eq!(send(&mailer.with_tls_optional()).await, Ok(()), "{answer:?}");
            assert_eq!(came_under_tls(&inbox), has_tls, "{answer:?}");
            // Nor is what it made a way for others.
            assert_eq!(send(&mailer).await.is_ok(), has_tls && answer == Some(TlsRequirement::Required), "{answer:?}");
        }
    }
    let never = mailer(under_tls.address, TlsRequirement::None).with_tls_optional();
    assert_eq!((send(&never).await, came_under_tls(&inbox)), (Ok(()), false), "what is not wanted is not tried");
    // What the client was told itself is no policy of the recipient's.
    let tls = ClientTls::encrypted().expect("there is cryptography");
    let fixed = Mailer::to_addresses([in_clear.address], config().with_tls(tls)).with_tls_optional();
    assert!(send(&fixed).await.is_err_and(|error| *error.cause() == SendCause::TlsNotOffered));
}

async fn submission(inbox: &Inbox, log: &Log, tls: ServerTls) -> Running {
    let user = Mailbox::parse("alice@client.example").expect("a mailbox");
    let line = PasswordFile::line(&user, &Secret::new("correct horse"), b"some salt of a test").expect("a password");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(format!("{line}\n").as_bytes()).expect("room");
    let users = PasswordFile::open(file.path()).expect("one user");
    let listener = Listener::new("127.0.0.1:0").implicit_tls().service(Service::Submission);
    start(builder(inbox, log).tls(tls).authenticate(users).listener(listener)).await
}

#[tokio::test] // RFC 8314 §3.3: how TLS begins is for the configuration to say; and nobody gives our password away.
async fn a_password_is_never_put_at_risk_by_who_sends() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let (chain, key) = pem("imposter.example");
    let imposter = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).expect("they belong together");
    for (tls, is_right) in [(server_tls(), true), (imposter, false)] {
        let server = submission(&inbox, &log, tls).await;
        let tls = ClientTls::opportunistic().expect("there is cryptography").implicit();
        let auth = ClientAuth::password("alice@client.example", Secret::new("correct horse"));
        let mailer = Mailer::to_addresses([server.address], config().with_tls(tls).with_auth(auth))
            .with_tls_policy(next_hop(server.address), names("mx.example.org"));
        assert_eq!(send(&mailer.with_tls_optional()).await.is_ok(), is_right);
        assert_eq!(send(&mailer).await.is_ok(), is_right);
    }
    assert_eq!(log.count(|event| matches!(event, SessionEvent::Authenticated { .. })), 1, "over one connection");
}
