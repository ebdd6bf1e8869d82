//! A client that says what a test tells it to, over any stream.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::transcript::starts_with;

/// How long a client on a real socket waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same where the clock is that of the test: longer than any session.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(48 * 3600);

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
    patience: Duration,
}

impl Client<TcpStream> {
    /// Connects to a server on loopback.
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        Self { stream, buffer: Vec::new(), patience: PATIENCE }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client of a server in the same process.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), patience: VIRTUAL_PATIENCE }
    }

    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.try_send(octets).await.expect("the server reads");
    }

    pub(crate) async fn try_send(&mut self, octets: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(octets.as_ref()).await?;
        self.stream.flush().await
    }

    /// The next line; `None` when the server has closed.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.buffer.split_off(end + 2);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(line[..end].to_vec()).expect("replies are ASCII"));
            }
            let mut octets = [0; 1024];
            let read = timeout(self.patience, self.stream.read(&mut octets)).await.expect("the server answers in time");
            match read {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.buffer.extend_from_slice(&octets[..read]),
            }
        }
    }

    /// The next reply, its last line if it has several; `None` when the server has closed.
    pub(crate) async fn reply(&mut self) -> Option<String> {
        loop {
            let line = self.line().await?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some(line);
            }
        }
    }

    /// The next reply must be `expected`, or go on behind it with a space.
    pub(crate) async fn expect(&mut self, expected: &str) -> String {
        let reply = self.reply().await.unwrap_or_else(|| panic!("closed instead of {expected:?}"));
        assert!(starts_with(&reply, expected), "expected {expected:?}, got {reply:?}");
        reply
    }

    /// Sends a line and expects a reply.
    pub(crate) async fn ask(&mut self, line: &str, expected: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.expect(expected).await
    }

    /// The server says nothing more and closes.
    pub(crate) async fn expect_closed(&mut self) {
        assert_eq!(self.reply().await, None);
    }

    /// Reads greeting and answer to `EHLO`.
    pub(crate) async fn greet(&mut self) {
        self.expect("220 mx.example.org ESMTP").await;
        self.ask("EHLO client.example", "250").await;
    }

    /// A message from that address up to the end of its content; the reply to it is left to be read.
    pub(crate) async fn send_message_from(&mut self, from: &str) {
        self.begin_content_from(from).await;
        self.send("Subject: test\r\n\r\nHello\r\n.\r\n").await;
    }

    /// A transaction up to `354`.
    pub(crate) async fn begin_content(&mut self) {
        self.begin_content_from("a@client.example").await;
    }

    async fn begin_content_from(&mut self, from: &str) {
        self.ask(&format!("MAIL FROM:<{from}>"), "250 2.1.0").await;
        self.ask("RCPT TO:<alice@example.org>", "250 2.1.5").await;
        self.ask("DATA", "354").await;
    }

    /// Everything up to the end of the content; the reply to it is left to be read.
    pub(crate) async fn send_message(&mut self) {
        self.send_message_from("a@client.example").await;
    }
}
