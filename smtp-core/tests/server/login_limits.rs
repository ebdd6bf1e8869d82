//! Guessing passwords against a server that listens (SECURITY D-20): what waits, and what nobody can tell from it.

use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use smtp_core::{
    AuthError, Authenticator, Connection, Identity, Limits, Listener, Mechanism, Mechanisms, ReversePath, ScramHash,
    ScramKeys, Secret, Server, SessionEvent, async_trait,
};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::support::client::Client;
use crate::support::world::{Inbox, Log, builder, in_process, unbound};

/// `alice` and her password; `down` stands for a directory that does not answer.
struct Alice;

#[async_trait]
impl Authenticator for Alice {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD.with(Mechanism::ScramSha256)
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        match user {
            "alice" if *password == Secret::new("wonderland") => Ok(Identity::new("alice")),
            "down" => Err(AuthError::Unavailable),
            _ => Err(AuthError::Rejected),
        }
    }

    async fn scram(
        &self,
        _: &Connection,
        user: &str,
        hash: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        let keys = ScramKeys::derive(hash, &Secret::new("wonderland"), b"salt of alice", 4096).expect("valid");
        Ok((user == "alice").then(|| (keys, Identity::new("alice"))))
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

/// `PLAIN` with that password.
fn plain(user: &str, password: &str) -> String {
    let response = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
    format!("AUTH PLAIN {response}")
}

async fn server(log: &Log) -> Rc<Server> {
    // What the session itself adds for each guess is tested elsewhere.
    let mut limits = Limits::default();
    limits.authentication_delay = Duration::ZERO;
    limits.error_delay = Duration::ZERO;
    let listener = Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear();
    unbound(builder(&Inbox::default(), log).authenticate(Alice).limits(limits).listener(listener)).await
}

/// A session of a client at that address, behind `EHLO`.
async fn open(server: &Rc<Server>, address: &str) -> Client<DuplexStream> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (server, peer) = (server.clone(), format!("{address}:1").parse().expect("an address"));
    tokio::task::spawn_local(async move {
        server.serve_connection(far, peer, "192.0.2.25:587".parse().expect("an address")).await;
    });
    let mut client = Client::new(near);
    client.greet().await;
    client
}

/// The reply to a line of an own session, and how long it took by the clock of the test, in seconds.
async fn try_once(server: &Rc<Server>, address: &str, line: &str) -> (String, u64) {
    let mut client = open(server, address).await;
    let start = Instant::now();
    client.send(format!("{line}\r\n")).await;
    let reply = client.reply().await.expect("a reply");
    (reply, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)] // D-20: the delay of an address grows, over sessions, and is an event each time.
async fn d20_guesses_of_an_address_wait_longer_and_longer() {
    in_process(async {
        let log = Log::default();
        let server = server(&log).await;
        let mut delays = Vec::new();
        for n in 0..14 {
            let (reply, delay) = try_once(&server, "192.0.2.1", &plain(&format!("user{n}"), "x")).await;
            assert!(reply.starts_with("535 5.7.8"), "{reply}");
            delays.push(delay);
        }
        assert_eq!(delays, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8]);
        assert_eq!(log.count(|event| matches!(event, SessionEvent::LoginDelayed { .. })), 4);
        assert_eq!(try_once(&server, "198.51.100.1", &plain("alice", "wonderland")).await.1, 0, "others do not wait");
    })
    .await;
}

#[tokio::test(start_paused = true)] // D-19, T19: an account that is slowed is slowed whether it exists or not.
async fn d20_delays_do_not_tell_who_exists() {
    in_process(async {
        let server = server(&Log::default()).await;
        let mut seen = Vec::new();
        for user in ["alice", "nobody"] {
            let mut said = Vec::new();
            for n in 0..16 {
                let line = if n % 2 == 0 { plain(user, "guess") } else { plain(user, "other guess") };
                said.push(try_once(&server, &format!("10.0.{n}.1"), &line).await);
            }
            said.push(try_once(&server, "10.1.0.1", &format!("AUTH PLAIN {}", "!")).await);
            seen.push(said);
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0].iter().map(|(_, delay)| *delay).max(), Some(10), "and never longer");
        try_once(&server, "10.2.0.1", &plain("alice", "guess")).await;
        // She is late, and not locked out; from there on she is known.
        let (reply, delay) = try_once(&server, "203.0.113.1", &plain("alice", "wonderland")).await;
        assert!(reply.starts_with("235") && delay == 10, "{reply} {delay}");
        assert_eq!(try_once(&server, "203.0.113.1", &plain("alice", "wonderland")).await.1, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)] // Guesses at the same time are no way around; who would wait too long is told at once.
async fn d20_many_sessions_at_once_are_no_faster() {
    in_process(async {
        let server = server(&Log::default()).await;
        let line = plain("bob", "x");
        let tries: Vec<_> = (0..50)
            .map(|_| {
                let (server, line) = (server.clone(), line.clone());
                tokio::task::spawn_local(async move { try_once(&server, "192.0.2.1", &line).await })
            })
            .collect();
        let mut looked_at = 0;
        for tried in tries {
            let (reply, delay) = tried.await.expect("no panic");
            assert!(delay <= 30);
            if reply.starts_with("535 5.7.8") {
                looked_at += 1;
            } else {
                assert!(reply.starts_with("454 4.7.0") && delay == 0, "{reply} {delay}");
            }
        }
        assert_eq!(looked_at, 14);
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 5321 §3.8: a server that stops does not wait for who guesses.
async fn d20_a_shutdown_ends_the_wait() {
    in_process(async {
        let server = server(&Log::default()).await;
        for _ in 0..14 {
            try_once(&server, "192.0.2.1", &plain("alice", "x")).await;
        }
        let mut client = open(&server, "192.0.2.1").await;
        let start = Instant::now();
        client.send(format!("{}\r\n", plain("alice", "x"))).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.handle().shut_down();
        client.expect("454 4.7.0").await;
        client.expect("421 4.3.2").await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)] // A guess cannot be taken back by what follows it in the same packet.
async fn d20_a_guess_counts_whatever_follows() {
    in_process(async {
        let log = Log::default();
        let server = server(&log).await;
        for _ in 0..12 {
            let mut client = open(&server, "192.0.2.1").await;
            client.send(format!("{}\r\nAUTH PLAIN !\r\nAUTH LOGIN\r\n*\r\n", plain("alice", "x"))).await;
            client.expect("535 5.7.8").await;
            client.expect("501 5.5.2").await;
            client.expect("334").await;
            client.expect("501 5.7.0").await;
        }
        assert_eq!(log.count(|event| matches!(event, SessionEvent::LoginDelayed { .. })), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)] // SCRAM counts like a password: the question about keys is the attempt.
async fn d20_scram_counts_and_a_cancelled_exchange_does_not() {
    in_process(async {
        let log = Log::default();
        let server = server(&log).await;
        let delayed = || log.count(|event| matches!(event, SessionEvent::LoginDelayed { .. }));
        for _ in 0..20 {
            let mut client = open(&server, "192.0.2.1").await;
            client.ask("AUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPXg=", "334").await;
            client.ask("*", "501 5.7.0").await;
            client.ask(&plain("down", "x"), "454 4.7.0").await;
        }
        assert_eq!(delayed(), 0);
        for _ in 0..12 {
            let mut client = open(&server, "192.0.2.1").await;
            let challenge = client.ask("AUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPXg=", "334").await;
            let engine = base64::engine::general_purpose::STANDARD;
            let first = String::from_utf8(engine.decode(&challenge[4..]).expect("Base64")).expect("ASCII");
            let nonce = first.split(',').next().expect("a nonce");
            let proof = engine.encode([0; 32]);
            let last = engine.encode(format!("c=biws,{nonce},p={proof}"));
            client.ask(&last, "535 5.7.8").await;
        }
        assert_eq!(delayed(), 2);
    })
    .await;
}
