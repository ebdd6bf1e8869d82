//! The same streams over TCP on loopback.

use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_core::{Accepted, Listener, Message, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::candidates::{Position, Segmentation, Stream, compositions, product};
use crate::reference::{Outcome, Reference, codes};
use crate::tally::Tally;

const CASES: usize = 5_000;
const CONNECTIONS: usize = 16;
/// A server that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was delivered, by the client port of its connection.
type Delivered = Arc<Mutex<HashMap<u16, Vec<Vec<u8>>>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t5_nothing_is_smuggled_over_a_socket() {
    let delivered = Delivered::default();
    let taken = delivered.clone();
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .deliver(move |message: Message| {
            let mut content = Vec::new();
            let read = message.content().reader().and_then(|mut reader| reader.read_to_end(&mut content));
            read.expect("what was stored can be read");
            let port = message.connection().peer().port();
            taken.lock().expect("no holder panics").entry(port).or_default().push(content);
            async { Ok(Accepted::all()) }
        })
        .listener(Listener::new("127.0.0.1:0"))
        .listener(Listener::new("127.0.0.1:0").refuse_early_talkers(false))
        .bind()
        .await
        .expect("loopback can be listened on");
    let addresses = server.local_addresses();
    let handle = server.handle();
    let running = tokio::spawn(server.run());

    let tally = Arc::new(Mutex::new(Tally::new()));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|first| {
            let (addresses, delivered, tally) = (addresses.clone(), delivered.clone(), tally.clone());
            tokio::spawn(async move {
                for number in (first..CASES).step_by(CONNECTIONS) {
                    case(number, &addresses, &delivered, &tally).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client runs to its end");
    }
    handle.shut_down();
    running.await.expect("no panic").expect("a server ends well");
    let tally = tally.lock().expect("no holder panics");
    tally.conclude("sockets");
    assert_eq!(tally.cases, CASES as u64);
    assert!(tally.refused > 0 && tally.with_end_in_candidate > 0);
    assert!(delivered.lock().expect("no holder panics").is_empty(), "nothing came besides");
}

async fn case(number: usize, addresses: &[SocketAddr], delivered: &Delivered, tally: &Mutex<Tally>) {
    let candidates = product();
    let candidate = &candidates[number % candidates.len()];
    let positions = [&Position::NEAR[..], &Position::borders()].concat();
    let position = positions[(number + number / candidates.len() * 4) % positions.len()];
    let segmentation = match number % 4 {
        0 => Segmentation::Whole,
        1 => Segmentation::Octets,
        _ => {
            let mask = number as u128 / 4;
            Segmentation::Composed { candidate: mask % compositions(candidate.len()), end: mask % 16 }
        }
    };
    let stream = Stream::new(&position.prefix(candidate.len()), candidate);
    let mut reference = Reference::new(false);
    reference.write(stream.octets());
    let expected = reference.outcome();
    // TCP may join writes. So where the candidate holds a true end, and commands behind it are right, a server that
    // refuses early talkers may or may not see one.
    let is_ended = expected.replies.len() > "250 2.0.0\n221 2.0.0\n".len();
    let address = addresses[usize::from(is_ended)];
    let talk = tokio::time::timeout(PATIENCE, talk(address, &stream, segmentation));
    let (port, replies) = talk.await.expect("the server answers and closes").expect("loopback works");
    let messages = delivered.lock().expect("no holder panics").remove(&port).unwrap_or_default();
    let got = Outcome { messages, replies, closed_at: Some(0..usize::MAX) };
    let name = || format!("{} at {position:?} cut {segmentation:?}", candidate.escape_ascii());
    tally.lock().expect("no holder panics").compare(&expected, &got, name);
}

/// The port of the client, and what the server said behind `354`.
async fn talk(address: SocketAddr, stream: &Stream, segmentation: Segmentation) -> std::io::Result<(u16, String)> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let port = connection.local_addr()?.port();
    for (line, code) in [
        ("", "220 "),
        ("EHLO client.example\r\n", "250 "),
        ("MAIL FROM:<a@client.example>\r\n", "250 "),
        ("RCPT TO:<b@example.org>\r\n", "250 "),
        ("DATA\r\n", "354 "),
    ] {
        connection.write_all(line.as_bytes()).await?;
        let mut reply = Vec::new();
        while !is_whole(&reply) && connection.read_buf(&mut reply).await? > 0 {}
        let last = String::from_utf8_lossy(&reply);
        let last = last.trim_end().rsplit("\r\n").next().unwrap_or_default();
        assert!(last.starts_with(code), "{line}: {last}");
    }
    for write in stream.writes(segmentation) {
        // Behind a refusal the server may be gone; what it said before is read all the same.
        if connection.write_all(write).await.is_err() {
            break;
        }
    }
    let mut replies = Vec::new();
    connection.read_to_end(&mut replies).await?;
    Ok((port, codes(&replies)))
}

/// Whether the last line has come, the one without a hyphen.
fn is_whole(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\r\n") else { return false };
    lines.rsplit(|&octet| octet == b'\n').next().is_some_and(|last| last.get(3) == Some(&b' '))
}
