//! Whom a listener serves, and as what: PRACTICES L1 to L8, RFC 6409 and RFC 8314 §3.3.

use std::net::SocketAddr;

use smtp_core::{
    AuthError, Authenticator, Connection, Identity, Listener, Mechanisms, PolicyContext, Protocol, ReversePath, Secret,
    Service, Stages, Treatment, Verdict, async_trait,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::Client;
use crate::support::tls::server_tls;
use crate::support::world::{AUTH_ALICE, Inbox, Log, builder};

const HERS: &str = "MAIL FROM:<alice@example.org>";
const ELSEWHERE: &str = "RCPT TO:<carol@elsewhere.example>";

/// `alice`, who may use her own address, that of sales, and the null reverse-path.
struct Alice;

#[async_trait]
impl Authenticator for Alice {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        let is_right = user == "alice" && *password == Secret::new("wonderland");
        if is_right { Ok(Identity::new("alice")) } else { Err(AuthError::Rejected) }
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, from: &ReversePath) -> Result<bool, AuthError> {
        Ok(matches!(&*from.to_string(), "<>" | "<alice@example.org>" | "<sales@example.org>"))
    }
}

/// Refuses one sender by what treatment it has, as a hook sees it.
struct SeesTreatment;

#[async_trait]
impl smtp_core::Policy for SeesTreatment {
    fn name(&self) -> &'static str {
        "sees-treatment"
    }

    fn stages(&self) -> Stages {
        Stages::MAIL
    }

    async fn mail(&self, cx: &mut PolicyContext<'_>, _: &ReversePath) -> Verdict {
        let connection = cx.connection();
        assert_eq!(connection.treatment() == Treatment::Submission, connection.identity().is_some());
        Verdict::Continue
    }
}

/// The rows of L8, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Mx,
    Submission,
    MixedStartTls,
    MixedImplicit,
    SubmissionImplicit,
    MxImplicit,
}

struct World {
    addresses: Vec<SocketAddr>,
    inbox: Inbox,
}

impl World {
    async fn start(change: impl Fn(Listener) -> Listener) -> Self {
        let (inbox, log) = (Inbox::default(), Log::default());
        let mut builder = builder(&inbox, &log)
            .local_domain("example.org")
            .policy(SeesTreatment)
            .tls(server_tls())
            .authenticate(Alice);
        for (service, is_implicit) in [
            (Service::Mx, false),
            (Service::Submission, false),
            (Service::Mixed, false),
            (Service::Mixed, true),
            (Service::Submission, true),
            (Service::Mx, true),
        ] {
            let listener = change(Listener::new("127.0.0.1:0").service(service));
            builder = builder.listener(if is_implicit { listener.implicit_tls() } else { listener });
        }
        let server = builder.bind().await.expect("loopback has free ports");
        let addresses = server.local_addresses();
        tokio::spawn(server.run());
        Self { addresses, inbox }
    }

    /// Before a word is said.
    async fn connect(&self, row: Row) -> Client<TcpStream> {
        Client::connect(self.addresses[row as usize]).await
    }

    /// In clear, behind `EHLO`.
    async fn clear(&self, row: Row) -> Client<TcpStream> {
        let mut client = self.connect(row).await;
        client.greet().await;
        client
    }

    /// Under TLS, behind `EHLO`.
    async fn protected(&self, row: Row) -> Client<TlsStream<TcpStream>> {
        let client = self.connect(row).await;
        if matches!(row, Row::MixedImplicit | Row::SubmissionImplicit | Row::MxImplicit) {
            let mut client = client.under_tls().await;
            client.greet().await;
            client
        } else {
            let mut client = client.start_tls().await;
            client.ask("EHLO client.example", "250").await;
            client
        }
    }
}

/// All lines of the reply to a line.
async fn lines<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, line: &str) -> Vec<String> {
    client.send(format!("{line}\r\n")).await;
    let mut lines = Vec::new();
    while let Some(line) = client.line().await {
        let is_last = line.as_bytes().get(3) != Some(&b'-');
        lines.push(line);
        if is_last {
            break;
        }
    }
    lines
}

async fn offers_auth<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> bool {
    lines(client, "EHLO client.example").await.iter().any(|line| line[4..].starts_with("AUTH"))
}

/// The columns of L8 for a client that has not authenticated.
async fn ask_as_stranger<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>, relay: &str) {
    client.ask("MAIL FROM:<bob@client.example>", "250 2.1.0").await;
    client.ask("RCPT TO:<alice@example.org>", "250 2.1.5").await;
    client.ask("RCPT TO:<nobody@example.org>", "550 5.1.1").await;
    client.ask(ELSEWHERE, relay).await;
    client.ask("RSET", "250").await;
}

/// The column of L8 for a client that has.
async fn ask_as_alice<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) {
    client.ask(AUTH_ALICE, "235 2.7.0").await;
    client.ask("MAIL FROM:<bob@example.org>", "550 5.7.1 This sender address is not yours").await;
    client.ask("MAIL FROM:<sales@example.org>", "250 2.1.0").await;
    client.ask("RSET", "250").await;
    client.ask(HERS, "250 2.1.0").await;
    client.ask(ELSEWHERE, "250 2.1.5").await;
    client.ask("RCPT TO:<alice@example.org>", "250 2.1.5").await;
    client.ask("RCPT TO:<nobody@example.org>", "550 5.1.1").await;
    client.ask("RSET", "250").await;
}

#[tokio::test] // PRACTICES L3, L8 row `mx`: AUTH does not exist, whatever lies beneath.
async fn l3_on_an_mx_there_is_no_auth() {
    let world = World::start(|listener| listener).await;
    let relay = "550 5.7.1 Relaying denied";
    let mut clear = world.clear(Row::Mx).await;
    assert!(!offers_auth(&mut clear).await);
    clear.ask(AUTH_ALICE, "502 5.5.1").await;
    ask_as_stranger(&mut clear, relay).await;
    for row in [Row::Mx, Row::MxImplicit] {
        let mut protected = world.protected(row).await;
        assert!(!offers_auth(&mut protected).await, "{row:?}");
        protected.ask(AUTH_ALICE, "502 5.5.1").await;
        ask_as_stranger(&mut protected, relay).await;
    }
}

#[tokio::test] // PRACTICES L4, S26, L8 row `submission, starttls, before TLS`; RFC 3207 §4
async fn l4_before_tls_submission_knows_four_commands() {
    let world = World::start(|listener| listener).await;
    let mut silent = world.connect(Row::Submission).await;
    silent.expect("220").await;
    silent.ask(HERS, "530 5.7.0 Must issue a STARTTLS command first").await;
    let mut client = world.clear(Row::Submission).await;
    assert!(!offers_auth(&mut client).await);
    for (line, expected) in [
        (HERS, "530 5.7.0"),
        ("MAIL FROM:<>", "530 5.7.0"),
        ("RCPT TO:<alice@example.org>", "530 5.7.0"),
        ("DATA", "530 5.7.0"),
        ("RSET", "530 5.7.0"),
        ("VRFY alice", "530 5.7.0"),
        ("EXPN alice", "530 5.7.0"),
        ("HELP", "530 5.7.0"),
        ("HELO client.example", "530 5.7.0"),
        ("ETRN example.org", "530 5.7.0"),
        (AUTH_ALICE, "530 5.7.0"),
        ("NOOP", "250"),
        ("EHLO client.example", "250"),
    ] {
        client.ask(line, expected).await;
    }
    client.ask("QUIT", "221").await;
    let mut client = world.clear(Row::Submission).await;
    client.ask("STARTTLS", "220").await;
}

#[tokio::test] // PRACTICES L4, S25, L8 row `submission, under TLS`
async fn l4_under_tls_submission_is_for_who_has_authenticated() {
    let world = World::start(|listener| listener).await;
    for row in [Row::Submission, Row::SubmissionImplicit] {
        let mut client = world.protected(row).await;
        assert!(offers_auth(&mut client).await, "{row:?}");
        for line in [HERS, "MAIL FROM:<>", "mail from: <bob@client.example> size=10", "VRFY alice"] {
            client.ask(line, "530 5.7.0 Authentication required").await;
        }
        for line in ["NOOP", "RSET", "EHLO client.example"] {
            client.ask(line, "250").await;
        }
        ask_as_alice(&mut client).await;
    }
    assert_eq!(world.inbox.len(), 0);
}

#[tokio::test] // PRACTICES L5, L8 rows `mixed`
async fn l5_a_mixed_listener_serves_both_and_tells_who_wants_more_to_authenticate() {
    let world = World::start(|listener| listener).await;
    let relay = "550 5.7.1 Relaying denied, authenticate first";
    let mut clear = world.clear(Row::MixedStartTls).await;
    assert!(!offers_auth(&mut clear).await);
    clear.ask(AUTH_ALICE, "538 5.7.11").await;
    clear.ask("AUTH LOGIN", "538 5.7.11").await;
    ask_as_stranger(&mut clear, relay).await;
    for row in [Row::MixedStartTls, Row::MixedImplicit] {
        let mut client = world.protected(row).await;
        assert!(offers_auth(&mut client).await, "{row:?}");
        ask_as_stranger(&mut client, relay).await;
        ask_as_alice(&mut client).await;
    }
}

#[tokio::test] // PRACTICES L1, L2, L5; RFC 4954 §4, RFC 3848
async fn l5_the_treatment_is_fixed_at_mail_and_the_message_has_it() {
    let world = World::start(|listener| listener).await;
    let mut client = world.protected(Row::MixedImplicit).await;
    client.ask("MAIL FROM:<bob@client.example>", "250").await;
    client.ask(AUTH_ALICE, "503 5.5.1").await;
    client.ask("RCPT TO:<alice@example.org>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nx\r\n.", "250").await;
    client.ask(AUTH_ALICE, "235").await;
    client.ask(HERS, "250").await;
    client.ask(ELSEWHERE, "250").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nx\r\n.", "250").await;
    let messages = world.inbox.messages();
    let seen: Vec<_> = messages.iter().map(|message| (message.treatment(), message.connection().protocol())).collect();
    assert_eq!(seen, [(Treatment::Mx, Protocol::Esmtps), (Treatment::Submission, Protocol::Esmtpsa)]);
}

#[tokio::test] // PRACTICES L7: reply for reply, but for STARTTLS, AUTH, and the words for relaying (L8).
async fn l7_who_does_not_authenticate_on_465_meets_port_25() {
    let world = World::start(|listener| listener).await;
    let mut port_25 = world.clear(Row::Mx).await;
    let mut port_465 = world.protected(Row::MixedImplicit).await;
    let without = |lines: Vec<String>, keyword: &str| -> Vec<String> {
        lines.into_iter().map(|line| line[4..].to_owned()).filter(|line| !line.starts_with(keyword)).collect()
    };
    let (offered_25, offered_465) =
        (lines(&mut port_25, "EHLO client.example").await, lines(&mut port_465, "EHLO client.example").await);
    assert!(offered_465.iter().all(|line| !line.contains("STARTTLS")), "{offered_465:?}");
    assert_eq!(without(offered_25, "STARTTLS"), without(offered_465, "AUTH"));
    port_465.ask("STARTTLS", "503 5.5.1").await;
    for line in [
        "NOOP",
        "HELP",
        "VRFY alice",
        "EXPN list",
        "RCPT TO:<alice@example.org>",
        "DATA",
        "MAIL FROM:<bob>",
        "MAIL FROM:<bob@client.example> X=y",
        "MAIL FROM:<bob@client.example> RET=HDRS",
        "MAIL FROM:<bob@client.example> SIZE=99999999999",
        "MAIL FROM:<bob@client.example>",
        "MAIL FROM:<bob@client.example>",
        "RCPT TO:<nobody@example.org>",
        "RCPT TO:<bob>",
        "RCPT TO:<error@example.org>",
        "RCPT TO:<Postmaster>",
        "RCPT TO:<list@example.org>",
        "DATA",
        "Subject: x\r\n\r\nx\r\n.",
        "ETRN example.org",
        "BURL x",
        "RSET",
        "HELO client.example",
        "MAIL FROM:<>",
        "QUIT",
    ] {
        let (said_25, said_465) = (lines(&mut port_25, line).await, lines(&mut port_465, line).await);
        assert_eq!(said_25, said_465, "{line}");
    }
}

#[tokio::test] // STANDARDS R6409b: completed by configuration, otherwise refused; on an MX a syntax error.
async fn r6409b_unqualified_addresses() {
    for (domain, sender, recipient) in
        [(None, "554 5.1.7", "554 5.1.3"), (Some("example.org"), "250 2.1.0", "250 2.1.5")]
    {
        let world = World::start(|listener| match domain {
            Some(domain) => listener.qualify_with(domain),
            None => listener,
        })
        .await;
        let mut client = world.protected(Row::Submission).await;
        client.ask(AUTH_ALICE, "235").await;
        client.ask("MAIL FROM:<alice>", sender).await;
        client.ask("RSET", "250").await;
        client.ask(HERS, "250").await;
        client.ask("RCPT TO:<bob>", recipient).await;
        client.ask("RCPT TO:<nobody>", if domain.is_some() { "550 5.1.1" } else { "554 5.1.3" }).await;
        client.ask("RCPT TO:<postmaster>", "250").await;
        client.ask("DATA", "354").await;
        client.ask("Subject: x\r\n\r\nx\r\n.", "250").await;
        let message = world.inbox.messages().pop().expect("delivered");
        let recipients: Vec<_> = message.recipients().iter().map(ToString::to_string).collect();
        let expected: &[&str] =
            if domain.is_some() { &["<bob@example.org>", "<postmaster>"] } else { &["<postmaster>"] };
        assert_eq!(recipients, expected);
        // Nobody else's addresses are completed.
        for row in [Row::MxImplicit, Row::MixedImplicit] {
            let mut stranger = world.protected(row).await;
            stranger.ask("MAIL FROM:<alice>", "501 5.1.7").await;
            stranger.ask("MAIL FROM:<bob@client.example>", "250").await;
            stranger.ask("RCPT TO:<bob>", "501 5.1.3").await;
        }
    }
}

#[tokio::test] // A completed sender has to be the client's own like any.
async fn r6409b_what_is_completed_is_judged_like_what_was_said() {
    let world = World::start(|listener| listener.qualify_with("example.org")).await;
    let mut client = world.protected(Row::Submission).await;
    client.ask("MAIL FROM:<alice>", "501 5.1.7").await;
    client.ask(AUTH_ALICE, "235").await;
    client.ask("MAIL FROM:<bob>", "550 5.7.1").await;
    client.ask("MAIL FROM:<alice> X=y", "555 5.5.4").await;
    client.ask("MAIL FROM:<alice> SIZE=x", "501 5.5.4").await;
    client.ask("MAIL FROM:<a..b>", "501 5.1.7").await;
}
