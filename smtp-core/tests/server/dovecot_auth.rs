//! Users of Dovecot: against a server that says what a test tells it to, by its Unix socket, as the real one listens.

#![cfg(unix)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smtp_core::{
    AuthError, Authenticator, Connection, DovecotAuth, DovecotError, Identity, Listener, Mechanism, ReversePath,
    Secret, SessionId, TlsFacts, TlsVersion,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use crate::support::client::Client;
use crate::support::world::{Inbox, Log, builder};

const HELLO: &str = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tX-OTHER\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n";

/// A Dovecot that greets each connection so, and answers the line of a login so; `ID` is the number of the login.
struct Dovecot {
    directory: TempDir,
    /// What clients have said, and `--` where a connection begins.
    said: Arc<Mutex<Vec<String>>>,
}

impl Dovecot {
    /// `answer` is given the lines that follow the handshake; `None` closes the connection.
    fn start(hello: &'static str, answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("auth")).expect("a socket");
        let said = Arc::new(Mutex::new(Vec::new()));
        let log = said.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (log.clone(), answer.clone());
                log.lock().expect("no panic").push("--".to_owned());
                tokio::spawn(async move {
                    let (read, mut write) = stream.into_split();
                    write.write_all(hello.as_bytes()).await?;
                    let mut lines = BufReader::new(read).lines();
                    let mut id = String::new();
                    while let Some(line) = lines.next_line().await? {
                        log.lock().expect("no panic").push(line.clone());
                        if line.starts_with("VERSION\t") || line.starts_with("CPID\t") {
                            continue;
                        }
                        line.split('\t').nth(1).unwrap_or_default().clone_into(&mut id);
                        let Some(answer) = answer(&line) else { break };
                        write.write_all(answer.replace("ID", &id).as_bytes()).await?;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Self { directory, said }
    }

    fn answering(answer: &'static str) -> Self {
        Self::start(HELLO, move |_| Some(answer.to_owned()))
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("auth")
    }

    fn auth(&self) -> DovecotAuth {
        DovecotAuth::unix(self.path())
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().expect("no panic").clone()
    }
}

fn connection() -> Connection {
    let (peer, local) = ("192.0.2.7:40000", "[::ffff:192.0.2.25]:587");
    Connection::new(SessionId::new(1), peer.parse().expect("an address"), local.parse().expect("an address"))
}

async fn log_in(users: &DovecotAuth) -> Result<Identity, AuthError> {
    users.password(&connection(), "alice", &Secret::new("wonder land")).await
}

#[tokio::test] // Each row: what Dovecot says, and who that is, or why nobody.
async fn an_answer_is_what_dovecot_says_and_nothing_else_is_one() {
    let broken = Err(AuthError::Unavailable);
    for (answer, expected) in [
        ("OK\tID\tuser=Alice@Example.org\toriginal_user=x\n", Ok("alice@example.org")),
        ("OK\tID\n", Ok("alice@example.net")),
        ("OK\tID\tuser=a\x01tb@example.org\n", broken),
        ("OK\tID\tuser=\n", broken),
        ("FAIL\tID\tuser=alice\n", Err(AuthError::Rejected)),
        ("FAIL\tID\tuser=alice\ttemp\n", broken),
        ("FAIL\tID\tcode=temp_fail\treason=a b\n", broken),
        ("FAIL\tID\tcode=pass_expired\n", Err(AuthError::ChangeNeeded)),
        ("MECH\tLATE\nnonsense\n\nOK\t999\tuser=eve\nFAIL\t0\nOK\tID\tuser=bob\n", Ok("bob@example.net")),
        ("YES\tID\n", broken),
        ("CONT\tID\t\nOK\tID\tuser=eve\n", broken),
        ("CONT\tID\t###\n", broken),
        ("OK\tID\tuser=\u{fffd}\n", Ok("\u{fffd}@example.net")),
    ] {
        let dovecot = Dovecot::answering(answer);
        let users = dovecot.auth().with_domain("example.net".parse().expect("a domain"));
        let answered = log_in(&users).await;
        assert_eq!(answered, expected.map(Identity::new), "{answer:?}");
    }
}

#[tokio::test] // SECURITY.md D-35, of this server: endless lines, endless lines' number, silence, another protocol.
async fn d35_whatever_dovecot_says_ends_within_bounds() {
    let long: &'static str = Box::leak(format!("{}\n", "x".repeat(1 << 20)).into_boxed_str());
    let many: &'static str = Box::leak("MECH\tX\n".repeat(100_000).into_boxed_str());
    for (hello, answer, why) in [
        (long, "", "a line is too long"),
        (many, "", "its handshake does not end"),
        (HELLO, long, "a line is too long"),
        (HELLO, many, "it does not come to an answer"),
        ("VERSION\t2\t0\n", "", "it speaks another version"),
        ("VERSION\t10\t0\n", "", "it speaks another version"),
        ("MECH\tPLAIN\nDONE\n", "", "it does not say which version"),
        ("VERSION\t1\t2\nMECH\tLOGIN\nDONE\n", "", "does not offer PLAIN"),
        ("VERSION\t1\t2\n", "", "took too long"),
        (HELLO, "", "took too long"),
    ] {
        let dovecot = Dovecot::start(hello, move |_| Some(answer.to_owned()));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let seen = reports.clone();
        let report = move |error: &DovecotError| seen.lock().expect("no panic").push(error.to_string());
        let users = dovecot.auth().on_failure(report);
        let users = if why == "took too long" { users.with_deadline(Duration::from_millis(200)) } else { users };
        assert_eq!(log_in(&users).await, Err(AuthError::Unavailable), "{why}");
        let reports = reports.lock().expect("no panic").clone();
        assert!(reports.len() == 1 && reports[0].contains(why), "{why}: {reports:?}");
        assert!(!format!("{users:?} {reports:?}").contains("wonder"));
    }
}

#[tokio::test] // One connection for many logins, another where it was closed; who comes back is asked again.
async fn connections_are_kept_and_replaced() {
    let dovecot = Dovecot::answering("OK\tID\tuser=alice@example.org\n");
    let users = dovecot.auth();
    users.check().await.expect("it is there");
    for _ in 0..3 {
        log_in(&users).await.expect("alice");
    }
    let said = dovecot.said();
    assert_eq!(said.iter().filter(|line| *line == "--").count(), 1, "{said:?}");
    assert_eq!(said[1], "VERSION\t1\t2");
    let numbers: Vec<_> = said[3..].iter().filter_map(|line| line.split('\t').nth(1)).collect();
    assert_eq!(numbers, ["1", "2", "3"]);

    let leaves = Dovecot::start(HELLO, |line| line.starts_with("AUTH\t1\t").then(|| "OK\tID\tuser=a\n".to_owned()));
    let users = leaves.auth();
    for _ in 0..3 {
        assert_eq!(log_in(&users).await, Ok(Identity::new("a")));
    }
    assert_eq!(leaves.said().iter().filter(|line| *line == "--").count(), 3, "a new one behind each that was closed");

    let nobody = DovecotAuth::unix(leaves.directory.path().join("nothing"));
    assert!(matches!(nobody.check().await, Err(DovecotError::Network(_))));
    assert_eq!(log_in(&nobody).await, Err(AuthError::Unavailable));
    let listener = UnixListener::bind(leaves.directory.path().join("nothing")).expect("a socket");
    let (login, accepted) = tokio::join!(log_in(&nobody), async {
        let (stream, _) = listener.accept().await.expect("it comes back");
        drop(stream);
    });
    assert_eq!((login, accepted), (Err(AuthError::Unavailable), ()));
}

#[tokio::test] // A Dovecot that was stopped serves the connections that it has, and must not do so for ever.
async fn no_connection_is_kept_for_longer_than_a_minute() {
    let dovecot = Dovecot::answering("OK\tID\tuser=alice\n");
    let users = dovecot.auth();
    for (seconds, connections) in [(0, 1), (30, 1), (31, 2), (0, 2), (61, 3)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        log_in(&users).await.expect("alice");
        let said = dovecot.said();
        assert_eq!(said.iter().filter(|line| *line == "--").count(), connections, "{said:?}");
    }
}

#[tokio::test] // Many at once: each gets its own answer, over a connection with a number of its own.
async fn logins_at_the_same_time_do_not_meet() {
    let dovecot = Dovecot::start(HELLO, |line| {
        let response = STANDARD.decode(line.rsplit_once("resp=")?.1).ok()?;
        let user = String::from_utf8(response.split(|&octet| octet == 0).nth(1)?.to_vec()).ok()?;
        Some(if user.ends_with('7') { "FAIL\tID\n".to_owned() } else { format!("OK\tID\tuser={user}\n") })
    });
    let users = dovecot.auth();
    let logins = (0..50).map(|number| {
        let users = users.clone();
        tokio::spawn(async move {
            let user = format!("user{number}");
            let answer = users.password(&connection(), &user, &Secret::new("x")).await;
            let expected = if number % 10 == 7 { Err(AuthError::Rejected) } else { Ok(Identity::new(user)) };
            assert_eq!(answer, expected);
        })
    });
    for login in logins.collect::<Vec<_>>() {
        login.await.expect("no panic");
    }
    let mut said = dovecot.said();
    said.retain(|line| line.starts_with("CPID\t"));
    let count = said.len();
    said.sort();
    said.dedup();
    assert!(said.len() == count && !said.contains(&"CPID\t0".to_owned()), "{said:?}");
}

#[tokio::test] // What Dovecot is told of the client: addresses, and whether TLS hid the password.
async fn dovecot_is_told_who_asks() {
    let dovecot = Dovecot::answering("OK\tID\tuser=alice\n");
    let users = dovecot.auth();
    log_in(&users).await.expect("alice");
    let tls = connection().with_tls(TlsFacts::new(TlsVersion::Tls13, "TLS13_AES_256_GCM_SHA384"));
    users.password(&tls, "alice", &Secret::new("wonder land")).await.expect("alice");
    let said = dovecot.said();
    let place = "rip=192.0.2.7\trport=40000\tlip=192.0.2.25\tlport=587";
    let response = STANDARD.encode("\0alice\0wonder land");
    for (line, id, secured) in [(&said[3], 1, ""), (&said[4], 2, "\tsecured")] {
        let expected =
            format!("AUTH\t{id}\tPLAIN\tservice=smtp\tnologin\tno-penalty{secured}\t{place}\tresp={response}");
        assert_eq!(*line, expected);
    }
    // What cannot be a credential (RFC 4013), or be in a line, is nobody's, and nobody is asked.
    for (user, password) in [("alice", "a\tb\n"), ("a\0lice", "x"), ("", "x"), ("alice", &*"x".repeat(20_000))] {
        assert_eq!(users.password(&tls, user, &Secret::new(password)).await, Err(AuthError::Rejected), "{user:?}");
    }
    assert_eq!(dovecot.said().len(), said.len());
}

#[tokio::test] // RFC 7628 §3.2.3: a token that is wrong is answered with a challenge first.
async fn tokens_are_asked_about_where_dovecot_takes_them() {
    const TOKENS: &str = "VERSION\t1\t1\nMECH\tPLAIN\nMECH\tOAUTHBEARER\nMECH\tXOAUTH2\nDONE\n";
    const OLD: &str = "VERSION\t1\t1\nMECH\tPLAIN\nMECH\tXOAUTH2\nDONE\n";
    let answer = |line: &str| {
        if line.starts_with("CONT\t") {
            return Some(if line.ends_with("\tAQ==") { "FAIL\tID\tuser=alice\n" } else { "OK\tID\n" }.to_owned());
        }
        let response = STANDARD.decode(line.rsplit_once("resp=")?.1).ok()?;
        let is_right = String::from_utf8(response).ok()?.contains("auth=Bearer t0ken\x01");
        Some(if is_right { "OK\tID\tuser=alice@example.org\n" } else { "CONT\tID\teyJ9\n" }.to_owned())
    };
    for hello in [TOKENS, OLD] {
        let dovecot = Dovecot::start(hello, answer);
        let users = dovecot.auth().with_tokens();
        users.check().await.expect("it takes tokens");
        assert!(users.mechanisms().contains(Mechanism::OauthBearer));
        let token = async |user, token| users.token(&connection(), user, &Secret::new(token)).await;
        assert_eq!(token(Some("alice"), "t0ken").await, Ok(Identity::new("alice@example.org")));
        assert_eq!(token(Some("alice"), "wrong").await, Err(AuthError::Rejected));
        let nobodys = if hello == OLD { Err(AuthError::Rejected) } else { Ok(Identity::new("alice@example.org")) };
        assert_eq!(token(None, "t0ken").await, nobodys, "only one of the two can go without a name");
    }
    let without = Dovecot::answering("OK\tID\n");
    assert!(matches!(without.auth().with_tokens().check().await, Err(DovecotError::NotOffered(Mechanism::Xoauth2))));
    assert!(!without.auth().mechanisms().contains(Mechanism::OauthBearer));
}

#[tokio::test] // RFC 6409 §6.1; RFC 4954 §6: through a session, and what is not known is 454.
async fn r6409b_users_of_dovecot_send_as_themselves() {
    let answers = |line: &str| {
        let response = STANDARD.decode(line.rsplit_once("resp=")?.1).ok()?;
        match &response[..] {
            b"\0alice\0wonderland" => Some("OK\tID\tuser=alice\n".to_owned()),
            b"\0bob\0x" => Some("FAIL\tID\ttemp\n".to_owned()),
            _ => Some("FAIL\tID\n".to_owned()),
        }
    };
    let dovecot = Dovecot::start(HELLO, answers);
    let users = dovecot.auth().with_domain("example.org".parse().expect("a domain"));
    let (inbox, log) = (Inbox::default(), Log::default());
    let listener = Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear();
    let server = builder(&inbox, &log).authenticate(users.clone()).listener(listener).bind().await;
    let server = server.expect("loopback has free ports");
    let address = server.local_addresses()[0];
    tokio::spawn(server.run());
    let mut client = Client::connect(address).await;
    client.greet().await;
    for (mechanism, response, reply) in [
        ("PLAIN", "\0alice\0looking-glass", "535 5.7.8"),
        ("PLAIN", "\0bob\0x", "454 4.7.0"),
        ("PLAIN", "\0alice\0wonderland", "235 2.7.0"),
    ] {
        client.ask(&format!("AUTH {mechanism} {}", STANDARD.encode(response)), reply).await;
    }
    client.ask("MAIL FROM:<bob@example.org>", "550 5.7.1").await;
    client.send_message_from("Alice@Example.org").await;
    client.expect("250").await;
    assert_eq!(inbox.messages()[0].connection().identity(), Some(&Identity::new("alice@example.org")));
    assert!(!format!("{:?}", log.events()).contains("wonderland"));

    let who = Identity::new("alice");
    for (from, may) in [("<>", true), ("<alice@example.org>", false), ("<alice@example.net>", false)] {
        let path = ReversePath::parse(from).expect("a path");
        assert_eq!(dovecot.auth().may_send_as(&connection(), &who, &path).await, Ok(may), "{from}: she has no domain");
    }
}
