//! The client of AUTH (RFC 4954): against our server by each mechanism, and against servers that do not keep to it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use smtp_core::{
    AuthError, Authenticator, Bytes, ClientAuth, ClientConfig, ClientConnection, ClientLimits, ClientSession,
    Connection, Envelope, Host, Identity, Listener, Mechanism, Mechanisms, ReversePath, ScramHash, ScramKeys, Secret,
    SendCause, SendStage, async_trait,
};

use crate::support::world::{Inbox, Log, builder};

/// Offers one set of mechanisms, and notes what it was asked by.
#[derive(Clone)]
struct Users {
    offered: Mechanisms,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Users {
    fn check(&self, asked: &'static str, is_right: bool) -> Result<Identity, AuthError> {
        self.asked.lock().expect("no panic").push(asked);
        if is_right { Ok(Identity::new("alice")) } else { Err(AuthError::Rejected) }
    }
}

#[async_trait]
impl Authenticator for Users {
    fn mechanisms(&self) -> Mechanisms {
        self.offered
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        self.check("password", user == "al,ice" && password.expose() == "wonder land")
    }

    async fn scram(
        &self,
        _: &Connection,
        user: &str,
        hash: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        let Ok(identity) = self.check("scram", user == "al,ice") else { return Ok(None) };
        let password = Secret::new("wonder land");
        let keys = ScramKeys::derive(hash, &password, b"salt of 16 octet", ScramKeys::LEAST_ITERATIONS);
        Ok(Some((keys.expect("valid"), identity)))
    }

    async fn token(&self, _: &Connection, user: Option<&str>, token: &Secret) -> Result<Identity, AuthError> {
        self.check("token", user == Some("al,ice") && token.expose() == "t0ken")
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

fn password(password: &str) -> ClientAuth {
    ClientAuth::password("al,ice", Secret::new(password)).dangerously_in_clear()
}

fn token(token: &str) -> ClientAuth {
    ClientAuth::token("al,ice", Secret::new(token)).dangerously_in_clear()
}

#[tokio::test] // The strongest mechanism that both know; the message carries the identity.
async fn a_client_logs_in_by_each_mechanism() {
    use Mechanism::{External, Login, OauthBearer, Plain, ScramSha1, ScramSha256, Xoauth2};
    let refused = |reply: &str| Err(reply.to_owned());
    for (offered, auth, asked, expected) in [
        (Mechanisms::from([Plain, Login]), password("wonder land"), &["password"][..], Ok("alice")),
        (Mechanisms::from([ScramSha1, ScramSha256, Plain]), password("wonder land"), &["scram"], Ok("alice")),
        (Mechanisms::from([OauthBearer, Xoauth2]), token("t0ken"), &["token"], Ok("alice")),
        (Mechanisms::from([Xoauth2, Plain]), token("t0ken"), &["token"], Ok("alice")),
        (Mechanisms::from([Plain]), password("x"), &["password"], refused("535 5.7.8")),
        (Mechanisms::from([ScramSha256]), password("x"), &["scram"], refused("535 5.7.8")),
        (Mechanisms::from([OauthBearer]), token("x"), &["token"], refused("535 5.7.8")),
        (Mechanisms::from([Xoauth2]), token("x"), &["token"], refused("535 5.7.8")),
        (Mechanisms::from([Login, External]), password("wonder land"), &["password"], Ok("alice")),
        (Mechanisms::from([Login]), password("x"), &["password"], refused("535 5.7.8")),
        (Mechanisms::from([OauthBearer, External]), password("wonder land"), &[], refused("")),
        (Mechanisms::from([Plain]), password("wonder land").only(Mechanisms::from([ScramSha256])), &[], refused("")),
    ] {
        let users = Users { offered, asked: Arc::default() };
        let (inbox, log) = (Inbox::default(), Log::default());
        let listener = Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear();
        let server = builder(&inbox, &log).authenticate(users.clone()).listener(listener);
        let server = server.bind().await.expect("loopback has free ports");
        let address = server.local_addresses()[0];
        let run = tokio::spawn(server.run());
        let config = ClientConfig::new("client.example").expect("a name").with_auth(auth);
        let connected = ClientConnection::connect_to(&[address], &config).await;
        assert_eq!(*users.asked.lock().expect("no panic"), asked, "{offered}");
        match (connected, expected) {
            (Ok(mut connection), Ok(name)) => {
                let envelope = Envelope::parse("a@client.example", ["bob@elsewhere.example"]).expect("addresses");
                let report = connection.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
                assert!(report.recipients()[0].is_ok(), "{offered}: {report:?}");
                let message = inbox.messages().pop().expect("it was delivered");
                assert_eq!(message.connection().identity().map(Identity::as_str), Some(name));
            }
            (Err(error), Err(reply)) => {
                assert_eq!(error.stage(), SendStage::Auth, "{offered}: {error}");
                assert!(error.is_transient(), "a password that is wrong here says nothing of the message");
                let said = error.reply().map(ToString::to_string);
                assert_eq!(said.is_some(), !reply.is_empty(), "{error}");
                assert!(said.unwrap_or_default().starts_with(&reply), "{offered}: {error}");
                assert!(!format!("{error:?} {config:?}").contains("wonder"));
            }
            (connected, _) => panic!("{offered}: {:?}", connected.err()),
        }
        run.abort();
    }
}

/// What lies under a session.
#[derive(Clone, Copy, PartialEq)]
enum Below {
    Clear,
    /// TLS, with a server that may be anybody.
    Tls,
    /// TLS, with a server whose certificate was verified.
    VerifiedTls,
}

/// What a client says to a server that says this, one line after each of its own, and how it ends.
fn against(auth: ClientAuth, below: Below, lines: &[&str]) -> (String, ClientSession) {
    let now = Instant::now();
    let host = Host::parse("client.example").expect("a name");
    let mut session = ClientSession::new(host, ClientLimits::default(), now).with_auth(auth, "clientnonce");
    if below != Below::Clear {
        session = session.under_tls();
    }
    if below == Below::VerifiedTls {
        session = session.with_verified_tls();
    }
    let mut said = String::new();
    for line in lines {
        let mut input = line.as_bytes();
        assert!(session.poll(now, &mut input).is_none());
        let output = session.output().to_vec();
        said += &String::from_utf8_lossy(&output);
        session.output_written(now, output.len());
    }
    (said, session)
}

#[test] // PRACTICES S26, seen from the client: nothing is said in clear, whatever the server offers.
fn s26_no_credential_is_sent_in_clear() {
    let offers = ["220 mx\r\n", "250-mx\r\n250 AUTH SCRAM-SHA-256 PLAIN\r\n"];
    let alice = || ClientAuth::password("alice", Secret::new("wonderland"));
    let (said, session) = against(alice(), Below::Clear, &offers);
    assert_eq!(said, "EHLO client.example\r\n");
    assert_eq!(session.error().map(|error| error.cause().clone()), Some(SendCause::AuthInClear));
    let (said, session) = against(alice(), Below::Tls, &offers);
    assert!(said.contains("AUTH SCRAM-SHA-256 ") && session.error().is_none(), "{said}");
    let (said, _) = against(alice().dangerously_in_clear(), Below::Clear, &offers);
    assert!(said.contains("AUTH SCRAM-SHA-256 "), "{said}");
}

#[test] // SECURITY.md D-35: whatever the server says, the session ends or is authenticated, and nothing else.
fn d35_servers_that_do_not_keep_to_the_mechanism() {
    let scram = "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n";
    let plain = "250-mx\r\n250 AUTH PLAIN\r\n";
    let login = "250-mx\r\n250 AUTH LOGIN\r\n";
    let broken = || Some(SendCause::AuthBroken);
    for (name, ehlo, replies, expected) in [
        ("success", plain, &["235 2.7.0 Ok\r\n"][..], None),
        ("success at once, without a proof", scram, &["235 2.7.0 Ok\r\n"], broken()),
        ("a challenge that is not Base64", scram, &["334 ###\r\n", "501 5.7.0 Cancelled\r\n"], broken()),
        ("no challenge", scram, &["334 \r\n", "501 5.7.0 Cancelled\r\n"], broken()),
        ("another nonce", scram, &["334 cj14LHM9YWJjZCxpPTQwOTY=\r\n", "501 5.7.0 Cancelled\r\n"], broken()),
        ("success before the password was asked for", login, &["334 VXNlcm5hbWU6\r\n", "235 2.7.0 Ok\r\n"], broken()),
        ("a question too many", login, &["334 \r\n", "334 \r\n", "334 \r\n", "334 \r\n"], broken()),
        ("challenges without end", plain, &["334 \r\n", "334 \r\n", "334 \r\n"], broken()),
        ("success of what was cancelled", scram, &["334 ###\r\n", "235 2.7.0 Ok\r\n"], broken()),
    ] {
        let auth = ClientAuth::password("alice", Secret::new("wonderland"));
        let lines = [&["220 mx\r\n", ehlo], replies].concat();
        let (_, session) = against(auth, Below::VerifiedTls, &lines);
        let cause = session.error().map(|error| error.cause().clone());
        assert_eq!(cause, expected, "{name}");
        assert_eq!(session.is_reusable(), expected.is_none(), "{name}");
    }
    for reply in
        ["250 Ok\r\n", "220 x\r\n", "354 Go\r\n", "535 5.7.8 No\r\n", "454 4.7.0 Later\r\n", "421 4.3.2 Bye\r\n"]
    {
        let auth = ClientAuth::password("alice", Secret::new("wonderland"));
        let (_, session) = against(auth, Below::VerifiedTls, &["220 mx\r\n", plain, reply]);
        let error = session.error().unwrap_or_else(|| panic!("{reply} is no success"));
        assert_eq!(error.stage(), SendStage::Auth, "{reply}");
    }
    let (_, session) =
        against(ClientAuth::password("alice", Secret::new("x")), Below::VerifiedTls, &["220 mx\r\n", "250 mx\r\n"]);
    assert_eq!(session.error().map(|error| error.cause().clone()), Some(SendCause::AuthNotOffered));
}

#[test] // RFC 4954 §14: a password is shown to nobody but the server that was meant; SCRAM shows none.
fn r4954_no_secret_is_shown_to_a_server_that_was_not_verified() {
    let alice = || ClientAuth::password("alice", Secret::new("wonderland"));
    let token = || ClientAuth::token("alice", Secret::new("t0ken"));
    let offers = |mechanisms: &str| format!("250-mx\r\n250 AUTH {mechanisms}\r\n");
    for (auth, mechanisms, expected) in [
        (alice(), "PLAIN LOGIN", None),
        (alice(), "PLAIN SCRAM-SHA-256", Some("SCRAM-SHA-256")),
        (token(), "OAUTHBEARER XOAUTH2", None),
        (alice().dangerously_in_clear(), "PLAIN LOGIN", Some("PLAIN")),
    ] {
        let (said, session) = against(auth.clone(), Below::Tls, &["220 mx\r\n", &offers(mechanisms)]);
        let cause = session.error().map(|error| error.cause().clone());
        if let Some(mechanism) = expected {
            assert!(said.contains(&format!("AUTH {mechanism} ")) && cause.is_none(), "{said}");
            continue;
        }
        assert_eq!((said.as_str(), cause), ("EHLO client.example\r\n", Some(SendCause::AuthNotVerified)));
        assert!(session.error().is_some_and(smtp_core::SendError::is_transient), "{mechanisms}");
        let (said, session) = against(auth, Below::VerifiedTls, &["220 mx\r\n", &offers(mechanisms)]);
        assert!(said.contains("AUTH ") && session.error().is_none(), "{said}");
    }
}

#[test] // RFC 4954 §4: where it makes the command longer than 512 octets, it is said behind an empty challenge.
fn r4954_a_long_initial_response_waits_for_the_challenge() {
    let command_of = |octets: usize| {
        let auth = ClientAuth::token("a", Secret::new("t".repeat(octets)));
        let lines = ["220 mx\r\n", "250-mx\r\n250 AUTH OAUTHBEARER\r\n", "334 \r\n"];
        let (at_once, _) = against(auth.clone(), Below::VerifiedTls, &lines[..2]);
        let (all, session) = against(auth.clone(), Below::VerifiedTls, &lines);
        let (_, with_challenge) = against(auth, Below::VerifiedTls, &[lines[0], lines[1], "334 eA==\r\n", "501 x\r\n"]);
        let command = at_once.lines().last().unwrap_or_default().to_owned();
        assert!(!format!("{session:?}").contains("dHR0"), "the token is no secret any more");
        (command, all, session, with_challenge)
    };
    let (mut lengths, mut held) = (Vec::new(), 0);
    for octets in 340..360 {
        let (command, all, session, with_challenge) = command_of(octets);
        if command == "AUTH OAUTHBEARER" {
            held += 1;
            let response = all.lines().last().unwrap_or_default();
            assert!(response.len() > 490 && response.starts_with("bixhPWEs"), "{response}");
            assert!(session.error().is_none());
            let cause = with_challenge.error().map(|error| error.cause().clone());
            assert_eq!(
                cause,
                Some(SendCause::AuthBroken),
                "the server speaks first, which this mechanism does not let it"
            );
        } else {
            lengths.push(command.len() + 2);
        }
    }
    assert!(held > 0 && lengths.iter().max() == Some(&511), "{held} {lengths:?}");
    let (command, ..) = command_of(9_300);
    assert!(!command.contains("AUTH"), "longer than the lines of an exchange may be");
}

#[test] // RFC 4954 §4: what cannot be decoded is answered by "*"; nothing is sent behind AUTH before its reply.
fn r4954_an_exchange_that_cannot_go_on_is_cancelled() {
    let scram = "250-mx\r\n250-PIPELINING\r\n250 AUTH SCRAM-SHA-256\r\n";
    let auth = || ClientAuth::password("alice", Secret::new("wonderland"));
    for challenge in ["334 ###\r\n", "334 AA=A\r\n", "334 \r\n"] {
        let (said, session) = against(auth(), Below::VerifiedTls, &["220 mx\r\n", scram, challenge]);
        let lines: Vec<_> = said.lines().collect();
        assert!(
            lines.len() == 3 && lines[1].starts_with("AUTH SCRAM-SHA-256 ") && lines[2] == "*",
            "{challenge}: {said}"
        );
        assert!(session.error().is_none(), "{challenge}: the refusal is waited for");
    }
}
