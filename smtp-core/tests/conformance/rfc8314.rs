//! RFC 8314 §4.1, RFC 8996: versions of TLS that are too old.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::tls::server_tls;
use crate::support::world::{Inbox, Log, builder, start};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// A `ClientHello` of a client that knows this version and none above it, and is sound otherwise.
fn client_hello(minor: u8) -> Vec<u8> {
    const SUITES: [u8; 6] = [0, 4, 0xc0, 0x2b, 0xc0, 0x09];
    const SIGNATURES: [u8; 10] = [0, 13, 0, 6, 0, 4, 4, 3, 8, 4];
    const GROUPS: [u8; 10] = [0, 10, 0, 6, 0, 4, 0, 29, 0, 23];
    const POINTS: [u8; 6] = [0, 11, 0, 2, 1, 0];
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend(SUITES);
    hello.extend([1, 0, 0, 26]);
    hello.extend(SIGNATURES.iter().chain(&GROUPS).chain(&POINTS));
    let length = u8::try_from(hello.len()).expect("it is short");
    let mut record = vec![HANDSHAKE, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[tokio::test]
async fn r8996_older_versions_than_tls_1_2_are_refused() {
    const PROTOCOL_VERSION: u8 = 70;
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = start(builder(&inbox, &log).tls(server_tls())).await;
    for (name, minor, is_spoken) in [("TLS 1.0", 1, false), ("TLS 1.1", 2, false), ("TLS 1.2", 3, true)] {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.ask("STARTTLS", "220").await;
        client.stream.write_all(&client_hello(minor)).await.expect("it reads");
        let mut answer = [0; 7];
        let read = timeout(Duration::from_secs(20), client.stream.read_exact(&mut answer)).await;
        read.expect("within reason").expect("an answer");
        let is_answered = if is_spoken { answer[0] == HANDSHAKE } else { answer[0] == ALERT };
        assert!(is_answered && (is_spoken || answer[6] == PROTOCOL_VERSION), "{name}: {answer:?}");
    }
}
