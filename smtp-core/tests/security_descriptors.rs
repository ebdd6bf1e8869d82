//! SECURITY.md D-30: a server without descriptors tells its clients, survives, and goes on when there are some again.
//!
//! It changes a limit of the process, so nothing else runs in this one.

mod support;

use std::process::Command;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::timeout;

use support::client::Client;
use support::world::{Inbox, Log, builder, start};

fn open_descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Sets the soft limit of this process.
fn limit_descriptors(to: usize) -> bool {
    let of_this = format!("--pid={}", std::process::id());
    Command::new("prlimit").args([of_this, format!("--nofile={to}:")]).status().is_ok_and(|status| status.success())
}

#[tokio::test]
async fn d30_the_accept_loop_survives_without_descriptors() {
    let inbox = Inbox::default();
    let server = start(builder(&inbox, &Log::default())).await;
    // One session first, so that whatever is opened once is open.
    let mut first = Client::connect(server.address).await;
    first.greet().await;
    // The sockets of the clients are made while there are descriptors.
    let sockets: Vec<_> = (0..30).map(|_| TcpSocket::new_v4().expect("a descriptor")).collect();
    let Some(open) = open_descriptors().filter(|&open| limit_descriptors(open + 10)) else {
        println!("skipped: d30_the_accept_loop_survives_without_descriptors (no prlimit)");
        return;
    };
    let (mut inside, mut told, mut waiting) = (Vec::new(), 0, Vec::new());
    for socket in sockets {
        let stream = socket.connect(server.address).await.expect("the backlog takes it");
        let mut client = Client::new(stream);
        match timeout(Duration::from_millis(300), client.reply()).await {
            Ok(Some(reply)) if reply.starts_with("220") => inside.push(client),
            Ok(Some(reply)) => {
                assert!(reply.starts_with("421 4.3.2"), "{reply}");
                told += 1;
            }
            Ok(None) => panic!("closed without a word"),
            Err(_) => waiting.push(client),
        }
    }
    assert!(inside.len() >= 5, "{} inside, {told} told, {} waiting", inside.len(), waiting.len());
    assert!(told > 0, "{} inside, {told} told, {} waiting", inside.len(), waiting.len());
    // Those inside are inside as ever.
    first.send_message().await;
    first.expect("250 2.0.0").await;
    assert_eq!(inbox.len(), 1);
    // When they leave, there is room again.
    for mut client in inside {
        client.ask("QUIT", "221 2.0.0").await;
    }
    drop(waiting);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut last = Client::connect(server.address).await;
    last.greet().await;
    last.ask("QUIT", "221 2.0.0").await;
    assert!(!server.run.is_finished());
    limit_descriptors(open + 1000);
    server.run.abort();
}
