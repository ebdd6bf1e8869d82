//! SECURITY D-35, T14: whatever a server does, each recipient gets exactly one result and none gets that of another;
//! nothing counts as delivered that the server did not take; the session ends in bounded time and memory.
//!
//! Each server meets a client that sends a message to three recipients, in a group and one command at a time, and
//! speaks in whole pieces and octet by octet. Where the connection is reusable it must serve another message.

mod scripted;
#[path = "hostile_servers/scripts.rs"]
mod scripts;
#[path = "hostile_servers/server.rs"]
mod server;

use std::time::Duration;

use bytes::Bytes;
use smtp_core::{ClientConfig, ClientConnection, Reply, SendError};
use tokio::time::Instant;

use scripted::{envelope, outcome};
use scripts::{Case, LARGE, SMALL, Then};
use server::{Server, Writes};

/// What a client may take at most: an hour of dialogue, and the longest wait behind it.
const LONGEST: Duration = Duration::from_secs(3600 + 600);
/// What a server may get rid of at most: a reply that is too long, a buffer and a pipe full.
const MOST_OCTETS: usize = (64 << 10) + (8 << 10) + (4 << 10) + 100;

/// What came of one server.
struct Met {
    results: Vec<Result<Reply, SendError>>,
    is_reusable: bool,
    /// What became of another message.
    again: Option<String>,
    elapsed: Duration,
    server: Server,
}

async fn meet(case: &Case, content: Bytes, extensions: &'static [&'static str], writes: Writes) -> Met {
    let (server, stream) = Server::new(case.script, extensions, writes);
    let server = tokio::spawn(server.serve());
    let started = Instant::now();
    let config = ClientConfig::new("client.example").expect("a name");
    let (mut results, mut is_reusable, mut again) = (Vec::new(), false, None);
    match ClientConnection::over(stream, &config).await {
        Err(error) => results = vec![Err(error); 3],
        Ok(mut connection) => {
            let report = connection.send(&envelope(&["a", "b", "c"]), content.clone()).await;
            results.extend(report.into_recipients());
            let elapsed = started.elapsed();
            // What a server says between messages has time to arrive.
            tokio::time::sleep(Duration::from_secs(5)).await;
            is_reusable = connection.is_reusable();
            let report = connection.send(&envelope(&["d"]), content).await;
            again = Some(outcome(&report.recipients()[0]));
            connection.quit().await;
            let server = server.await.expect("a server does not panic");
            return Met { results, is_reusable, again, elapsed, server };
        }
    }
    let elapsed = started.elapsed();
    let server = server.await.expect("a server does not panic");
    Met { results, is_reusable, again, elapsed, server }
}

async fn check(cases: &[Case], content: &Bytes) -> usize {
    let mut met = 0;
    for case in cases {
        for extensions in [&["PIPELINING", "SIZE"][..], &[]] {
            for writes in [Writes::Joined, Writes::Single] {
                let who = format!("{} ({extensions:?}, {writes:?})", case.name);
                let found = meet(case, content.clone(), extensions, writes).await;
                let results: Vec<_> = found.results.iter().map(outcome).collect();
                assert_eq!(results.len(), 3, "{who}");
                for (result, expected) in results.iter().zip(case.results) {
                    assert!(result.starts_with(expected), "{who}: {results:?}, not {:?}", case.results);
                }
                let delivered = results.iter().filter(|result| result.starts_with("delivered")).count();
                assert!(delivered == 0 || found.server.taken > 0, "{who}: delivered, but not taken");
                assert_eq!(found.is_reusable, case.then != Then::Last, "{who}");
                let expected = match case.then {
                    Then::Last => "deferred",
                    Then::Again => "delivered 250",
                    Then::Same => case.results[0],
                };
                assert!(found.again.is_none_or(|again| again.starts_with(expected)), "{who}: not {expected}");
                assert!(found.elapsed <= LONGEST, "{who}: {:?}", found.elapsed);
                assert!(found.server.octets_written <= MOST_OCTETS, "{who}: {}", found.server.octets_written);
                for reply in found.results.iter().filter_map(|result| match result {
                    Ok(reply) => Some(reply),
                    Err(error) => error.reply(),
                }) {
                    assert!(reply.text().bytes().all(|octet| matches!(octet, b' '..=b'~')), "{who}: {reply}");
                }
                met += 1;
            }
        }
    }
    met
}

#[tokio::test(start_paused = true)]
async fn d35_each_recipient_gets_its_own_result_from_whatever_server() {
    let small = check(SMALL, &Bytes::from_static(b"Subject: x\r\n\r\n.Hello\r\n")).await;
    let large = check(LARGE, &Bytes::from("A line of text that goes on for a while.\r\n".repeat(8000))).await;
    let scripts = SMALL.len() + LARGE.len();
    println!("T14: {scripts} hostile servers, {} sessions, 0 results at the wrong recipient", small + large);
    assert!(scripts >= 40, "{scripts}");
}
