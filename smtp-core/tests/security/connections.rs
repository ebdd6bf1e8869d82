//! SECURITY.md D-30, LI13: too many connections; and D-31: commands that achieve nothing.

use std::time::Duration;

use smtp_core::{ConnectionLimits, Limits};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::support::client::Client;
use crate::support::machine::{Machine, config, replies};
use crate::support::world::{Inbox, Log, builder, start};

fn at_most(total: usize) -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    limits.total = total;
    limits
}

#[tokio::test] // The refusal is read, also by a client that talks first.
async fn d30_connections_over_the_total_are_told_421_4_3_2() {
    let server = start(builder(&Inbox::default(), &Log::default()).connection_limits(at_most(3))).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        inside.push(client);
    }
    for talks in [false, true] {
        for _ in 0..10 {
            let mut client = Client::connect(server.address).await;
            if talks {
                client.send("EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n").await;
            }
            client.expect("421 4.3.2").await;
            client.expect_closed().await;
        }
    }
    for client in &mut inside {
        client.ask("NOOP", "250 2.0.0").await;
    }
    inside.pop().expect("three").ask("QUIT", "221 2.0.0").await;
    for _ in 0..500 {
        if server.handle.connections() < 3 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let mut client = Client::connect(server.address).await;
    client.greet().await;
    server.run.abort();
}

#[tokio::test] // LI13: loopback counts for the total only.
async fn li13_loopback_is_exempt_from_the_limits_of_clients() {
    let mut limits = at_most(100);
    limits.per_address = 1;
    limits.per_network = 1;
    let server = start(builder(&Inbox::default(), &Log::default()).connection_limits(limits)).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        clients.push(client);
    }
    server.run.abort();
}

/// D-30: under stress one error is allowed, and commands must come sooner.
#[tokio::test]
async fn d30_under_stress_the_limits_are_shorter() {
    let mut limits = Limits::default();
    limits.command_timeout_under_stress = Duration::from_millis(300);
    let server = start(builder(&Inbox::default(), &Log::default()).connection_limits(at_most(10)).limits(limits)).await;
    let mut early = Client::connect(server.address).await;
    early.greet().await;
    for _ in 0..3 {
        early.ask("junk", "500 5.5.1").await;
    }
    let mut crowd = Vec::new();
    for _ in 0..9 {
        crowd.push(Client::connect(server.address).await);
    }
    for client in &mut crowd {
        client.expect("220").await;
    }
    let mut last = crowd.pop().expect("nine");
    last.ask("junk", "500 5.5.1").await;
    last.ask("junk", "421 4.7.0").await;
    last.expect_closed().await;
    crowd.pop().expect("eight").expect("421 4.4.2").await;
    server.run.abort();
}

/// Connections that were idle before the crowd came are those that must make room.
#[tokio::test]
async fn d30_stress_also_shortens_waits_that_began_before_it() {
    let mut limits = Limits::default();
    limits.command_timeout_under_stress = Duration::from_millis(300);
    let server = start(builder(&Inbox::default(), &Log::default()).connection_limits(at_most(10)).limits(limits)).await;
    let mut idle = Client::connect(server.address).await;
    idle.greet().await;
    let mut crowd = Vec::new();
    for _ in 0..9 {
        let mut client = Client::connect(server.address).await;
        client.expect("220").await;
        crowd.push(client);
    }
    let told = tokio::time::timeout(Duration::from_secs(10), idle.reply()).await;
    assert!(
        told.is_ok_and(|reply| reply.is_some_and(|reply| reply.starts_with("421 4.4.2"))),
        "still idle under stress"
    );
    server.run.abort();
}

/// What is said by a server that closes while the client is still sending; it must end with FIN, not with a reset, which
/// would take the reply with it on many systems (LI18: 256 KiB are discarded).
#[tokio::test]
async fn li18_every_close_lingers() {
    let mut limits = Limits::default();
    limits.error_delay = Duration::ZERO;
    let (junk, errors) = ("x".repeat(200 << 10), "x\r\n".repeat(21));
    let begin = "MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
    for (steps, last) in [
        (&["EHLO c.example\r\n", "QUIT\r\n"][..], "221 2.0.0"),
        (&["EHLO c.example\r\nMAIL FROM:<>\r\n"], "554 5.5.0"),
        (&["EHLO c.example\r\n", begin, "a\nb\r\n.\r\n"], "550 5.5.2"),
        (&[&errors], "421 4.7.0"),
        (&[], "421 4.3.2"),
    ] {
        let total = if steps.is_empty() { 1 } else { 50 };
        let server =
            builder(&Inbox::default(), &Log::default()).connection_limits(at_most(total)).limits(limits.clone());
        let server = start(server).await;
        let mut other = Client::connect(server.address).await;
        other.expect("220").await;
        let mut client = Client::connect(server.address).await;
        if let Some((end, steps)) = steps.split_last() {
            client.expect("220").await;
            for step in steps {
                client.send(step).await;
                for _ in 0..step.lines().count() {
                    client.reply().await.expect("a reply");
                }
            }
            client.send(format!("{end}{junk}")).await;
        } else {
            client.send(&junk).await;
        }
        let mut said = Vec::new();
        let end = client.stream.read_to_end(&mut said).await;
        assert!(end.is_ok(), "{last}: {end:?} instead of the end");
        assert_eq!(replies(std::str::from_utf8(&said).expect("ASCII")).last().map(String::as_str), Some(last));
        server.run.abort();
    }
}

#[test] // LI12: 100 commands that achieve nothing are answered, the next is the last.
fn d31_junk_commands_end_after_100() {
    for (command, reply) in [
        ("NOOP\r\n", "250 2.0.0"),
        ("NOOP ignored\r\n", "250 2.0.0"),
        ("RSET\r\n", "250 2.0.0"),
        ("VRFY alice\r\n", "252 2.0.0"),
        ("EHLO again.example\r\n", "250"),
        ("HELO again.example\r\n", "250"),
        ("HELP\r\n", "214 2.0.0"),
    ] {
        let mut machine = Machine::greeted(config());
        for number in 1..=100 {
            assert_eq!(machine.replies(command), [reply], "{command:?} number {number}");
        }
        assert_eq!(machine.replies([command, command].concat()), ["421 4.7.0"], "{command:?}");
        assert!(machine.is_closed());
    }
}

#[test] // They are counted together, and a message starts the count anew.
fn li12_the_count_starts_anew_with_a_message() {
    let mut machine = Machine::greeted(config());
    for round in 0..5 {
        for _ in 0..30 {
            assert_eq!(
                machine.replies("NOOP\r\nVRFY x\r\nRSET\r\n"),
                ["250 2.0.0", "252 2.0.0", "250 2.0.0"],
                "{round}"
            );
        }
        let envelope = "MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
        assert_eq!(machine.codes(envelope), ["250", "250", "354"]);
        assert_eq!(machine.codes(".\r\n"), ["250"]);
    }
}

#[test] // Neither is there another loop that costs nothing: each of these ends by itself.
fn d31_no_command_can_be_repeated_for_ever() {
    let mut endless = Vec::new();
    for (begin, repeated) in [
        ("", "EXPN list\r\n"),
        ("", "STARTTLS\r\n"),
        ("", "MAIL FROM:<\r\n"),
        ("", "RCPT TO:<alice@example.org>\r\n"),
        ("", "DATA\r\n"),
        ("", "MAIL FROM:<>\r\nRSET\r\n"),
        ("", "MAIL FROM:<>\r\nEHLO x.example\r\n"),
        ("MAIL FROM:<>\r\n", "MAIL FROM:<>\r\n"),
        ("MAIL FROM:<>\r\n", "RCPT TO:<nobody@example.org>\r\n"),
        ("MAIL FROM:<>\r\n", "RCPT TO:<x@other.example>\r\n"),
        ("MAIL FROM:<>\r\n", "RCPT TO:<alice@example.org> X=1\r\n"),
        ("MAIL FROM:<>\r\n", "DATA\r\n"),
        ("", "MAIL FROM:<> SIZE=99999999999\r\n"),
        ("", "\r\n"),
        ("", " \r\n"),
    ] {
        let mut machine = Machine::greeted(config());
        machine.send(begin);
        for _ in 0..2500 {
            if machine.is_closed() {
                break;
            }
            machine.send(repeated);
            machine.pass(Duration::from_secs(1));
        }
        if !machine.is_closed() {
            endless.push(repeated);
        }
    }
    assert!(endless.is_empty(), "these go on for ever: {endless:?}");
}
