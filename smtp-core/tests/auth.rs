//! AUTH (RFC 4954): every reply code, the vectors of SECURITY.md D-19 and D-20, and that nothing secret gets out.

#[path = "auth/conversations.rs"]
mod conversations;
#[path = "auth/scram_client.rs"]
mod scram_client;
#[path = "auth/talk.rs"]
mod talk;

use std::time::Duration;

use smtp_core::{Limits, SessionConfig, Stages, TlsFacts, TlsVersion};

use conversations::{conversations, row};
use scram_client::Login;
use talk::{Below, EXPORTER, PASSWORD, TOKEN, Talk, base64, config, plain};

/// Plays lines, each with the start of its reply.
fn play(talk: &mut Talk, name: &str, lines: &[(String, &str)]) {
    for (line, expected) in lines {
        let reply = talk.line(line);
        assert!(reply.starts_with(expected), "{name}: {line:?}: expected {expected:?}, got {reply:?}");
    }
}

#[test] // STANDARDS R4954a, R4616, R7628; SECURITY.md D-20
fn r4954a_every_reply_code_has_its_conversation() {
    for (name, below, lines) in conversations() {
        let mut talk = Talk::new(below);
        play(&mut talk, name, &lines);
        let is_in = lines.iter().any(|(_, reply)| reply.starts_with("235"));
        assert_eq!(talk.identity().is_some(), is_in, "{name}");
        assert!(!talk.session.is_closed(), "{name}");
    }
}

#[test] // RFC 4954 §4: before EHLO there is no AUTH, and without an authenticator there is none at all.
fn r4954a_auth_is_not_known_before_ehlo_nor_without_an_authenticator() {
    let mut talk = Talk::connected(config(Below::Tls), Below::Tls);
    play(&mut talk, "before EHLO", &[row("AUTH LOGIN", "503 5.5.1")]);
    let without = SessionConfig { authentication: None, ..config(Below::Tls) };
    let mut talk = Talk::connected(without, Below::Tls);
    assert!(!talk.line("EHLO client.example").contains("AUTH"));
    play(&mut talk, "without", &[row(format!("AUTH PLAIN {}", plain("alice", PASSWORD)), "502 5.5.1")]);
    assert!(talk.asked.is_empty());
}

#[test] // RFC 4954 §3, PRACTICES S26: what EHLO lists.
fn s26_ehlo_lists_what_can_be_used_on_this_connection() {
    for (below, expected) in [
        (Below::Clear, None),
        (Below::DangerousClear, Some("AUTH SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 PLAIN LOGIN")),
        (Below::Tls, Some("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 PLAIN LOGIN")),
        (
            Below::TlsWithCertificate,
            Some("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 EXTERNAL PLAIN LOGIN"),
        ),
    ] {
        let reply = Talk::connected(config(below), below).line("EHLO client.example");
        let found = reply.lines().find_map(|line| line.get(4..).filter(|line| line.starts_with("AUTH")));
        assert_eq!(found, expected, "{below:?}: {reply}");
    }
}

#[test] // SECURITY.md: no secret in a log. PRACTICES S26: in clear it does not reach the hook either.
fn no_credential_is_in_any_event_reply_or_debug_output() {
    let secrets = |text: &str| {
        let token_response = base64(format!("user=alice\x01auth=Bearer {TOKEN}\x01\x01"));
        [PASSWORD.into(), TOKEN.into(), plain("alice", PASSWORD), base64(PASSWORD), token_response]
            .into_iter()
            .find(|secret| text.contains(secret))
    };
    for (name, below, lines) in conversations() {
        let mut talk = Talk::new(below);
        play(&mut talk, name, &lines);
        // What follows a failed AUTH may be a password of a client that does not look at replies.
        talk.line(PASSWORD);
        talk.line(&base64(PASSWORD));
        assert_eq!(secrets(&talk.events), None, "{name}: {}", talk.events);
        assert_eq!(secrets(&talk.said), None, "{name}: {}", talk.said);
        assert!(below != Below::Clear || talk.asked.is_empty(), "{name}: {:?}", talk.asked);
    }
}

#[test] // D-20: an audit event for each attempt: who, how, and the reply.
fn d20_each_attempt_is_an_event() {
    let mut talk = Talk::new(Below::Tls);
    talk.line(&format!("AUTH PLAIN {}", plain("mallory", "guess")));
    assert!(talk.events.contains("stage: Authentication") && talk.events.contains("\"mallory\""), "{}", talk.events);
    talk.line(&format!("AUTH PLAIN {}", plain("alice", PASSWORD)));
    assert!(talk.events.contains("Authenticated { identity: \"alice\", mechanism: Plain }"), "{}", talk.events);
}

fn scram<'a>(mechanism: &'a str, user: &'a str, password: &'a str) -> Login<'a> {
    let binds = mechanism.ends_with("-PLUS");
    let header = if binds { "p=tls-exporter,," } else { "n,," };
    Login { mechanism, header, binding: if binds { &EXPORTER } else { &[] }, user, password }
}

#[test] // STANDARDS R5802: SCRAM-SHA-1, -256 and -PLUS against a client of our own; the server proves itself.
fn r5802_scram_in_every_form() {
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"] {
        let mut talk = Talk::new(Below::Tls);
        let outcome = scram(mechanism, "alice", PASSWORD).run(&mut talk);
        assert!(outcome.is_signed && outcome.reply.starts_with("235 2.7.0"), "{mechanism}: {}", outcome.reply);
        assert_eq!(talk.identity(), Some("alice"));
        let other_exporter = Login { binding: &[8; 32], ..scram(mechanism, "alice", PASSWORD) };
        let downgraded = Login { header: "y,,", binding: &[], ..scram(mechanism, "alice", PASSWORD) };
        let as_root = Login { header: "n,a=root,", binding: &[], ..scram("SCRAM-SHA-256", "alice", PASSWORD) };
        for (name, login, expected) in [
            ("wrong password", scram(mechanism, "alice", "x"), "535 5.7.8"),
            ("unknown user", scram(mechanism, "nobody", PASSWORD), "535 5.7.8"),
            ("a user that the hook rejects", scram(mechanism, "refused", PASSWORD), "535 5.7.8"),
            ("bound to another connection", other_exporter, "535 5.7.8"),
            ("downgraded", downgraded, "535 5.7.8"),
            ("foreign authorization identity", as_root, "535 5.7.8"),
            ("down", scram(mechanism, "down", PASSWORD), "454 4.7.0"),
            ("too weak", scram(mechanism, "weak", PASSWORD), "534 5.7.9"),
        ] {
            let mut talk = Talk::new(Below::Tls);
            let outcome = login.run(&mut talk);
            assert!(outcome.reply.starts_with(expected), "{mechanism}, {name}: {}", outcome.reply);
            assert_eq!(talk.identity(), None, "{mechanism}, {name}");
        }
    }
}

#[test] // SECURITY.md D-19, T19: same questions, same replies, same delay, same iterations; a salt that stays.
fn d19_an_unknown_user_is_treated_like_a_wrong_password() {
    let run = |login: &dyn Fn(&mut Talk) -> String| {
        let mut talk = Talk::new(Below::Tls);
        let start = talk.now;
        let said = login(&mut talk);
        (said, talk.asked.clone(), talk.now - start)
    };
    for user in ["nobody", "alice2", "refused"] {
        for mechanism in ["PLAIN", "LOGIN"] {
            let login = |user: &'static str| {
                move |talk: &mut Talk| match mechanism {
                    "PLAIN" => talk.line(&format!("AUTH PLAIN {}", plain(user, "guess"))),
                    _ => ["AUTH LOGIN", &base64(user), &base64("guess")].map(|line| talk.line(line)).concat(),
                }
            };
            assert_eq!(run(&login("alice")), run(&login(user)), "{mechanism} {user}");
        }
        for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"] {
            let challenge_of = |user: &str, talk: &mut Talk| {
                let outcome = scram(mechanism, user, "guess").run(talk);
                (outcome.reply, outcome.challenge)
            };
            let shape = |user: &'static str| {
                move |talk: &mut Talk| {
                    let (reply, challenge) = challenge_of(user, talk);
                    let iterations = challenge.rsplit(',').next().unwrap_or_default().to_owned();
                    format!("{reply} {} {iterations}", challenge.len())
                }
            };
            assert_eq!(run(&shape("alice")), run(&shape(user)), "{mechanism} {user}");
            let salt = |talk: &mut Talk| challenge_of(user, talk).1.split(',').nth(1).map(str::to_owned);
            let first = salt(&mut Talk::new(Below::Tls));
            assert!(first.is_some() && first == salt(&mut Talk::new(Below::Tls)), "{mechanism} {user}");
        }
    }
}

#[test] // SECURITY.md D-20, STANDARDS LI11: each guess is answered twice as late, and there are so many and no more.
fn d20_guessing_becomes_slow_and_ends() {
    let mut talk = Talk::new(Below::Tls);
    let mut lateness = Vec::new();
    for _ in 0..20 {
        let at_once = talk.send(format!("AUTH PLAIN {}\r\n", plain("alice", "guess")));
        assert_eq!(at_once, "");
        let late = talk.lateness().expect("a late reply");
        lateness.push(late.as_secs());
        assert_eq!(talk.send("NOOP\r\n"), "", "nothing goes on before it");
        talk.now += late;
        talk.session.handle_timeout(talk.now);
        assert!(talk.send("").starts_with("535 5.7.8"));
    }
    assert_eq!(lateness[..7], [1, 2, 4, 8, 16, 32, 32]);
    assert!(talk.line(&format!("AUTH PLAIN {}", plain("alice", PASSWORD))).starts_with("235"), "not locked out");
    let mut talk = Talk::new(Below::Tls);
    for _ in 0..20 {
        talk.line("AUTH PLAIN eA==");
    }
    assert!(talk.line("AUTH PLAIN eA==").starts_with("421 4.7.0") && talk.session.is_closed());
}

#[test] // What is no guess is not answered late: a directory that is down, a response that is not in the grammar.
fn d20_what_is_no_guess_is_answered_at_once() {
    for line in ["AUTH PLAIN eA==", "AUTH FOO", &format!("AUTH PLAIN {}", plain("down", "x"))] {
        let mut talk = Talk::new(Below::Tls);
        assert!(talk.send(format!("{line}\r\n")).len() > 4 && talk.lateness().is_none(), "{line}");
    }
    let mut talk = Talk::new(Below::Tls);
    for _ in 0..50 {
        assert!(talk.line(&format!("AUTH PLAIN {}", plain("down", "x"))).starts_with("454"), "4yz is no error");
    }
}

#[test] // STANDARDS LI3: 12,288 octets with CRLF, and not one more, however they are cut; other lines as ever.
fn li3_lines_of_an_exchange_may_be_longer_than_commands() {
    let line = |start: &str, octets: usize| format!("{start}{}\r\n", "A".repeat(octets - start.len() - 2));
    for chunk in [usize::MAX, 1, 1000] {
        for (start, octets, expected) in [
            ("AUTH PLAIN ", 12_288, "501 5.5.2"),
            ("AUTH PLAIN ", 12_289, "500 5.5.6"),
            ("auth plain ", 100_000, "500 5.5.6"),
            ("", 12_288, "501 5.5.2"),
            ("", 12_289, "500 5.5.6"),
            ("NOOP ", 2048, "250 2.0.0"),
            ("NOOP ", 2049, "500 5.5.2"),
            ("AUTHX ", 2049, "500 5.5.2"),
            ("NOOP ", 12_289, "500 5.5.2"),
        ] {
            let mut talk = Talk::new(Below::Tls);
            if start.is_empty() {
                talk.line("AUTH PLAIN");
            }
            let text = line(start, octets);
            let mut reply = String::new();
            for piece in text.as_bytes().chunks(chunk.min(text.len())) {
                reply += &talk.send(piece);
            }
            assert!(reply.starts_with(expected), "{start}{octets}, {chunk}: {reply}");
            assert_eq!(talk.line("NOOP"), "250 2.0.0 Ok\r\n", "{start}{octets}: the exchange is over");
        }
    }
    let mut talk = Talk::new(Below::Tls);
    talk.line("AUTH PLAIN");
    for _ in 0..1_000 {
        talk.send("A".repeat(2_000));
    }
    let reply = "500 5.5.6 Authentication exchange line is too long\r\n";
    assert!(talk.said.ends_with(reply) && talk.session.is_closed(), "endless: {}", talk.said);
}

#[test] // RFC 6409 §6.1: at MAIL, before policies are asked.
fn s25_an_authenticated_client_sends_as_itself() {
    let everything = SessionConfig { stages: Stages::MAIL, ..config(Below::Tls) };
    for (path, reply, asked) in [
        ("<alice@example.org>", "250 2.1.0", &["send as", "mail"][..]),
        ("<>", "250 2.1.0", &["send as", "mail"]),
        ("<boss@example.org>", "550 5.7.1", &["send as"]),
        ("<refused@example.org>", "550 5.7.1", &["send as"]),
        ("<down@example.org>", "451 4.3.0", &["send as"]),
    ] {
        let mut talk = Talk::connected(everything.clone(), Below::Tls);
        talk.line("EHLO client.example");
        talk.line(&format!("AUTH PLAIN {}", plain("alice", PASSWORD)));
        talk.asked.clear();
        play(&mut talk, path, &[row(format!("MAIL FROM:{path}"), reply)]);
        assert_eq!(talk.asked, asked, "{path}");
        assert_eq!(talk.session.transaction().is_some(), reply.starts_with("250"), "{path}");
    }
    let mut talk = Talk::new(Below::Tls);
    play(&mut talk, "nobody", &[row("MAIL FROM:<boss@example.org>", "250 2.1.0")]);
    assert!(talk.asked.is_empty(), "who is not authenticated is nobody's business here");
}

#[test] // STANDARDS R4954b: believed of those who may relay, `<>` of others, and not known where there is no AUTH.
fn r4954b_the_auth_parameter_is_trusted_of_authorised_clients_only() {
    let mail = "MAIL FROM:<alice@example.org> AUTH=e+3Dmc2@example.com";
    let auth = |talk: &Talk| {
        let transaction = talk.session.transaction().expect("there is one");
        transaction.parameters().auth.as_ref().map(ToString::to_string)
    };
    let mut talk = Talk::new(Below::Tls);
    play(&mut talk, "unknown client", &[row(mail, "250 2.1.0")]);
    assert_eq!(auth(&talk).as_deref(), Some("<>"));
    let login = format!("AUTH PLAIN {}", plain("alice", PASSWORD));
    play(&mut talk, "authenticated", &[row("RSET", "250"), row(login, "235"), row(mail, "250 2.1.0")]);
    assert_eq!(auth(&talk).as_deref(), Some("<e=mc2@example.com>"));
    let bad = "MAIL FROM:<alice@example.org> AUTH=e=mc2@example.com";
    play(&mut talk, "no xtext", &[row("RSET", "250"), row(bad, "501 5.5.4"), row("MAIL FROM:<>", "250")]);
    assert_eq!(auth(&talk), None);
    let without = SessionConfig { authentication: None, ..config(Below::Tls) };
    let mut talk = Talk::connected(without, Below::Tls);
    play(&mut talk, "not offered", &[row("EHLO client.example", "250"), row(mail, "555 5.5.4")]);
}

#[test] // DESIGN.md: NotLocal is let through for an authenticated identity, and the transaction survives nothing else.
fn an_authenticated_client_may_relay() {
    let path = ["MAIL FROM:<alice@example.org>", "RCPT TO:<bob@elsewhere.example>"];
    let mut talk = Talk::new(Below::Tls);
    play(&mut talk, "before", &[row(path[0], "250"), row(path[1], "550 5.7.1"), row("RSET", "250")]);
    let auth = format!("AUTH PLAIN {}", plain("alice", PASSWORD));
    play(&mut talk, "after", &[row(auth, "235"), row(path[0], "250"), row(path[1], "250 2.1.5")]);
    assert_eq!(talk.session.connection().protocol().as_str(), "ESMTPSA", "RFC 3848");
    play(&mut talk, "after EHLO", &[row("EHLO again.example", "250"), row(path[0], "250"), row(path[1], "250 2.1.5")]);
}

#[test] // RFC 5321 §4.5.3.2.7: an exchange waits no longer than for a command.
fn an_exchange_that_stops_is_ended() {
    let mut talk = Talk::new(Below::Tls);
    talk.line("AUTH LOGIN");
    let deadline = talk.session.deadline().expect("there is one");
    assert_eq!(deadline - talk.now, Limits::default().command_timeout);
    talk.now = deadline + Duration::from_secs(1);
    talk.session.handle_timeout(talk.now);
    assert!(talk.send("").starts_with("421 4.4.2"));
}

#[test] // A session that goes on under TLS has no identity, and its nonces are new ones.
fn what_was_authenticated_in_clear_is_forgotten_under_tls() {
    let mut talk = Talk::new(Below::DangerousClear);
    let challenge = scram("SCRAM-SHA-256", "alice", "x").run(&mut talk).challenge;
    talk.line(&format!("AUTH PLAIN {}", plain("alice", PASSWORD)));
    assert_eq!(talk.identity(), Some("alice"));
    let facts = TlsFacts::new(TlsVersion::Tls13, "x");
    talk.session = talk.session.into_tls(facts, talk.now);
    talk.line("EHLO client.example");
    assert_eq!(talk.identity(), None);
    let again = scram("SCRAM-SHA-256", "alice", "x").run(&mut talk).challenge;
    assert_ne!(challenge, again);
}
