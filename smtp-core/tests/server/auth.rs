//! AUTH on a server that listens: the authenticator is asked, guarded, and asked only where that is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smtp_core::{
    AuthError, Authenticator, Connection, HookFailure, Identity, Limits, Listener, Mechanism, Mechanisms, ReversePath,
    ScramHash, ScramKeys, Secret, Service, SessionEvent, Stage, async_trait,
};

use crate::support::client::Client;
use crate::support::world::{Inbox, Log, Running, builder};

/// `PLAIN` for `alice` with her password.
const ALICE: &str = "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=";
/// For users who make the hook panic and hang: `panic` and `hang`.
const PANIC: &str = "AUTH PLAIN AHBhbmljAHg=";
const HANG: &str = "AUTH PLAIN AGhhbmcAeA==";
/// `SCRAM-SHA-256` for the user `panic`.
const SCRAM_PANIC: &str = "AUTH SCRAM-SHA-256 biwsbj1wYW5pYyxyPXg=";
/// `panic` as authorization identity.
const ACT_PANIC: &str = "AUTH PLAIN cGFuaWMAYWxpY2UAd29uZGVybGFuZA==";

/// Counts how often it is asked.
#[derive(Clone, Default)]
struct Users(Arc<AtomicUsize>);

impl Users {
    fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Authenticator for Users {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD.with(Mechanism::ScramSha256)
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match user {
            "panic" => panic!("the hook panics"),
            "hang" => std::future::pending().await,
            "alice" if password.expose() == "wonderland" => Ok(Identity::new("alice")),
            _ => Err(AuthError::Rejected),
        }
    }

    async fn scram(
        &self,
        _: &Connection,
        user: &str,
        _: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        if user == "panic" { panic!("the hook panics") } else { Ok(None) }
    }

    async fn act_as(&self, _: &Identity, authzid: &str) -> Result<Identity, AuthError> {
        if authzid == "panic" { panic!("the hook panics") } else { Err(AuthError::Rejected) }
    }

    async fn may_send_as(&self, _: &Connection, who: &Identity, from: &ReversePath) -> Result<bool, AuthError> {
        assert_eq!(who.as_str(), "alice");
        match &*from.to_string() {
            "<panic@example.org>" => panic!("the hook panics"),
            from => Ok(from == "<alice@example.org>"),
        }
    }
}

async fn start(
    listener: Listener,
    users: &Users,
    inbox: &Inbox,
    log: &Log,
) -> (Running, Client<tokio::net::TcpStream>) {
    let mut limits = Limits::default();
    limits.hook_timeout = Duration::from_millis(200);
    limits.authentication_delay = Duration::ZERO;
    let builder = builder(inbox, log).authenticate(users.clone()).limits(limits).listener(listener);
    let server = builder.bind().await.expect("loopback has free ports");
    let (address, handle) = (server.local_addresses()[0], server.handle());
    let running = Running { address, handle, run: tokio::spawn(server.run()) };
    let mut client = Client::connect(address).await;
    client.expect("220").await;
    (running, client)
}

fn in_clear() -> Listener {
    Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear()
}

#[tokio::test] // RFC 3848: what the delivery and the next reader of the trace learn.
async fn a_message_of_an_authenticated_client_says_so() {
    let (users, inbox, log) = (Users::default(), Inbox::default(), Log::default());
    let (running, mut client) = start(in_clear(), &users, &inbox, &log).await;
    client.ask("EHLO client.example", "250").await;
    client.ask("AUTH PLAIN AGFsaWNlAHg=", "535 5.7.8").await;
    client.ask(ALICE, "235 2.7.0").await;
    client.ask("MAIL FROM:<bob@example.org>", "550 5.7.1").await;
    client.ask("MAIL FROM:<alice@example.org>", "250").await;
    client.ask("RCPT TO:<bob@elsewhere.example>", "250").await;
    client.ask("DATA", "354").await;
    client.ask("Subject: x\r\n\r\nx\r\n.", "250").await;
    let message = inbox.messages().pop().expect("it was delivered");
    assert_eq!(message.connection().identity().map(Identity::as_str), Some("alice"));
    let prefix = String::from_utf8(message.header_prefix()).expect("ASCII");
    assert!(prefix.contains("with ESMTPA"), "{prefix}");
    assert_eq!(users.calls(), 2);
    running.run.abort();
}

#[tokio::test] // DESIGN.md, codes of a failed hook: the authenticator 454 4.7.0, at MAIL 451 4.3.0.
async fn t22_an_authenticator_that_fails_is_a_temporary_failure() {
    for (line, expected, failure) in [
        (PANIC, "454 4.7.0", HookFailure::Panicked),
        (HANG, "454 4.7.0", HookFailure::TimedOut),
        (SCRAM_PANIC, "454 4.7.0", HookFailure::Panicked),
        (ACT_PANIC, "454 4.7.0", HookFailure::Panicked),
    ] {
        let (users, inbox, log) = (Users::default(), Inbox::default(), Log::default());
        let (running, mut client) = start(in_clear(), &users, &inbox, &log).await;
        client.ask("EHLO client.example", "250").await;
        client.ask(line, expected).await;
        log.wait_for(|event| {
            matches!(event, SessionEvent::HookFailed { stage: Stage::Authentication, hook, failure: how }
                if *how == failure && hook.as_str() == "authentication")
        })
        .await;
        client.ask(ALICE, "235 2.7.0").await;
        client.ask("MAIL FROM:<panic@example.org>", "451 4.3.0").await;
        client.ask("MAIL FROM:<alice@example.org>", "250").await;
        running.run.abort();
    }
}

#[tokio::test] // PRACTICES S26; SECURITY.md D-43: in clear only by a name that says so, and elsewhere not at all.
async fn s26_the_authenticator_is_asked_only_where_that_is_safe() {
    for (listener, expected) in
        [(Listener::new("127.0.0.1:0"), "538 5.7.11"), (Listener::new("127.0.0.1:0").service(Service::Mx), "502 5.5.1")]
    {
        let (users, inbox, log) = (Users::default(), Inbox::default(), Log::default());
        let (running, mut client) = start(listener, &users, &inbox, &log).await;
        client.send("EHLO client.example\r\n").await;
        loop {
            let line = client.line().await.expect("a reply");
            assert!(!line.contains("AUTH"), "{line}");
            if line.as_bytes()[3] == b' ' {
                break;
            }
        }
        client.ask(ALICE, expected).await;
        client.ask("AUTH LOGIN", expected).await;
        client.ask("YWxpY2U=", "500 5.5.1").await;
        client.ask("QUIT", "221").await;
        log.wait_for(|event| matches!(event, SessionEvent::Closed(_))).await;
        assert_eq!(users.calls(), 0);
        let events = format!("{:?}", log.events());
        assert!(!events.contains("AGFsaWNl") && !events.contains("YWxpY2U="), "{events}");
        running.run.abort();
    }
}
