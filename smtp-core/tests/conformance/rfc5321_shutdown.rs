//! RFC 5321 §3.8: a server that stops says `421 4.3.2` at each state, and finishes what was begun (R5321g).

use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{Accepted, Message};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, Running, builder, start};

/// The server has stopped, within reason and without an error.
async fn assert_stops(server: Running) {
    let run = timeout(Duration::from_secs(20), server.run).await.expect("it stops");
    run.expect("no panic").expect("no error");
}

#[tokio::test]
async fn r5321g_a_session_without_a_transaction_is_told_at_once() {
    for lines in [
        &[][..],
        &["EHLO client.example"],
        &["EHLO client.example", "NOOP"],
        &["EHLO client.example", "MAIL FROM:<>", "RSET"],
        &["EHLO client.example", "MAIL FROM:<>", "RCPT TO:<alice@example.org>", "DATA", "x\r\n."],
    ] {
        for half_a_command in ["", "MAIL FR"] {
            let server = start(builder(&Inbox::default(), &Log::default())).await;
            let mut client = Client::connect(server.address).await;
            client.expect("220").await;
            for line in lines {
                client.send(format!("{line}\r\n")).await;
                client.reply().await.expect("a reply");
            }
            client.send(half_a_command).await;
            server.handle.shut_down();
            client.expect("421 4.3.2").await;
            client.expect_closed().await;
            drop(client);
            assert_stops(server).await;
        }
    }
}

#[tokio::test] // In a transaction: it is finished, and then the session ends. Nobody new comes in.
async fn r5321g_a_transaction_is_finished_first() {
    let steps = ["MAIL FROM:<a@client.example>", "RCPT TO:<alice@example.org>", "DATA", "Subject: x\r\n\r\nx\r\n."];
    for stop_before in 1..steps.len() {
        let inbox = Inbox::default();
        let server = start(builder(&inbox, &Log::default())).await;
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        for (place, (step, expected)) in steps.iter().zip(["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]).enumerate() {
            if place == stop_before {
                server.handle.shut_down();
                tokio::time::sleep(Duration::from_millis(50)).await;
                let mut late = match TcpStream::connect(server.address).await {
                    Ok(_) => panic!("the listener is closed"),
                    Err(_) => None::<Client<TcpStream>>,
                };
                assert!(late.take().is_none() && !server.run.is_finished());
            }
            client.ask(step, expected).await;
        }
        client.expect("421 4.3.2").await;
        client.expect_closed().await;
        drop(client);
        assert_eq!(inbox.len(), 1);
        assert_stops(server).await;
    }
}

#[tokio::test] // Pipelined commands behind the transaction find the end of the session.
async fn r5321g_an_abandoned_transaction_is_an_end_too() {
    for command in ["RSET", "EHLO again.example"] {
        let server = start(builder(&Inbox::default(), &Log::default())).await;
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.ask("MAIL FROM:<>", "250").await;
        server.handle.shut_down();
        client.ask(command, "250").await;
        client.expect("421 4.3.2").await;
        client.expect_closed().await;
        drop(client);
        assert_stops(server).await;
    }
}

#[tokio::test] // DESIGN: a shutdown never ends a delivery; `run` returns when it is through.
async fn r5321g_a_delivery_in_flight_completes_before_the_server_stops() {
    for client_stays in [true, false] {
        let (inbox, log) = (Inbox::default(), Log::default());
        let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (kept, begun_of_it, gate_of_it) = (inbox.clone(), begun.clone(), gate.clone());
        let builder =
            builder(&inbox, &log).shutdown_grace(Duration::from_millis(100)).deliver(move |message: Message| {
                let (inbox, begun, gate) = (kept.clone(), begun_of_it.clone(), gate_of_it.clone());
                async move {
                    begun.notify_one();
                    gate.notified().await;
                    inbox.messages().push(message);
                    Ok(Accepted::all())
                }
            });
        let server = start(builder).await;
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.send_message().await;
        begun.notified().await;
        server.handle.shut_down();
        let mut client = client_stays.then_some(client);
        tokio::time::sleep(Duration::from_millis(700)).await; // Longer than the grace.
        assert!(!server.run.is_finished(), "the delivery is not through");
        assert_eq!(inbox.len(), 0);
        gate.notify_one();
        if let Some(client) = &mut client {
            client.expect("250 2.0.0").await;
            client.expect("421 4.3.2").await;
            client.expect_closed().await;
        }
        drop(client);
        assert_stops(server).await;
        assert_eq!(inbox.len(), 1);
    }
}

#[tokio::test] // After the grace, sessions end between two commands.
async fn r5321g_a_client_that_does_not_go_on_is_ended_after_the_grace() {
    let inbox = Inbox::default();
    let server = start(builder(&inbox, &Log::default()).shutdown_grace(Duration::from_millis(300))).await;
    let mut client = Client::connect(server.address).await;
    client.greet().await;
    client.ask("MAIL FROM:<a@client.example>", "250").await;
    let begin = Instant::now();
    server.handle.shut_down();
    client.expect("421 4.3.2").await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
    client.expect_closed().await;
    drop(client);
    assert_stops(server).await;
    assert_eq!(inbox.len(), 0);
}

#[tokio::test] // The signal of the builder does the same.
async fn r5321g_a_signal_stops_the_server() {
    let signal = Arc::new(Notify::new());
    let of_it = signal.clone();
    let stop = async move { of_it.notified().await };
    let server = start(builder(&Inbox::default(), &Log::default()).graceful_shutdown(stop)).await;
    let mut client = Client::connect(server.address).await;
    client.greet().await;
    signal.notify_one();
    client.expect("421 4.3.2").await;
    client.expect_closed().await;
    drop(client);
    assert_stops(server).await;
}

#[test] // The engine alone: before the greeting, between commands, and behind a transaction.
fn r5321g_the_session_value_says_421() {
    let mut machine = Machine::default();
    machine.session.shut_down();
    assert_eq!(machine.replies(""), ["421 4.3.2"], "instead of the greeting");
    assert!(machine.is_closed());
    let mut machine = Machine::with_recipient(config());
    assert_eq!(machine.shut_down(), "");
    assert_eq!(machine.replies("DATA\r\n"), ["354"]);
    assert_eq!(machine.replies("x\r\n.\r\nMAIL FROM:<>\r\n"), ["250 2.0.0", "421 4.3.2"]);
    assert!(machine.is_closed());
    assert_eq!(machine.delivered.len(), 1);
}
