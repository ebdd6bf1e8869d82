//! A server that behaves, but for what its script says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::sleep;

/// What a server does at one point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// What a server that behaves would say.
    Behave,
    /// These octets.
    Say(&'static str),
    /// These octets that are not text.
    SayOctets(&'static [u8]),
    /// These octets over and over, until nobody listens.
    Flood(&'static str),
    /// One octet after the other, with so many seconds between them, until nobody listens.
    Drip(&'static str, u64),
    /// Nothing for so many seconds.
    Pause(u64),
    /// Nothing any more; what comes is read.
    Silence,
    /// Nothing any more; nothing is read either.
    Deafness,
    /// Closes its side and goes on reading.
    HalfClose,
    /// Closes the connection.
    Close,
    /// Loses the connection.
    Reset,
}

/// What happens at which command, by its beginning. `greeting` is the connection, `content` the first octets of it, `end`
/// its end.
pub(crate) type Script = &'static [(&'static str, &'static [Act])];

/// How the server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Replies to a group in one piece.
    Joined,
    /// Octet by octet.
    Single,
}

/// The server's end of a pipe.
pub(crate) struct Server {
    stream: Option<DuplexStream>,
    script: Script,
    extensions: &'static [&'static str],
    writes: Writes,
    is_reset: Arc<AtomicBool>,
    pending: Vec<u8>,
    /// Messages that it took.
    pub(crate) taken: usize,
    pub(crate) octets_written: usize,
    recipients: usize,
}

impl Server {
    /// A server, and the client's end of the pipe.
    pub(crate) fn new(script: Script, extensions: &'static [&'static str], writes: Writes) -> (Self, Stream) {
        let (near, far) = tokio::io::duplex(4096);
        let is_reset = Arc::new(AtomicBool::new(false));
        let stream = Stream { stream: near, is_reset: is_reset.clone() };
        let (taken, octets_written, recipients) = (0, 0, 0);
        let (stream_of_server, pending) = (Some(far), Vec::new());
        let server = Self {
            stream: stream_of_server,
            script,
            extensions,
            writes,
            is_reset,
            pending,
            taken,
            octets_written,
            recipients,
        };
        (server, stream)
    }

    /// Serves until the connection is over.
    pub(crate) async fn serve(mut self) -> Self {
        // A pipe that is closed ends the session; a server minds it no more than a client does.
        let _ = self.session().await;
        self
    }

    async fn session(&mut self) -> io::Result<()> {
        self.at("greeting", "220 mx.example.org ESMTP\r\n").await?;
        let mut input = Vec::new();
        loop {
            let line = self.line(&mut input).await?;
            let line = line.as_str();
            let reply = match line.split(' ').next().unwrap_or_default() {
                "EHLO" => self.ehlo(),
                "RSET" | "MAIL" | "HELO" => {
                    self.recipients = 0;
                    "250 Ok\r\n".to_owned()
                }
                "RCPT" => {
                    self.recipients += 1;
                    "250 2.1.5 Ok\r\n".to_owned()
                }
                "DATA" => "354 Go\r\n".to_owned(),
                "QUIT" => "221 Bye\r\n".to_owned(),
                other => panic!("the client said {other:?}"),
            };
            self.at(line, &reply).await?;
            if line == "DATA" && self.says_354(&reply) {
                self.flush().await?;
                self.content(&mut input).await?;
            }
        }
    }

    /// Whether the script leaves `DATA` to be answered with 354, in one way or another.
    fn says_354(&self, normal: &str) -> bool {
        let acts = self.acts("DATA");
        acts.iter().any(|act| match act {
            Act::Behave => normal.starts_with("354"),
            Act::Say(text) => text.contains("354"),
            _ => false,
        })
    }

    async fn content(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        let mut content = b"\r\n".to_vec();
        let mut is_begun = false;
        loop {
            // No octet is looked at twice, but for those that may be the start of the end.
            let seen = content.len().saturating_sub(4);
            content.append(input);
            if !is_begun && content.len() > 2 {
                is_begun = true;
                if self.script.iter().any(|(at, _)| *at == "content") {
                    self.at("content", "").await?;
                    self.flush().await?;
                }
            }
            if let Some(at) = content[seen..].windows(5).position(|octets| octets == b"\r\n.\r\n") {
                *input = content.split_off(seen + at + 5);
                self.taken += 1;
                return self.at("end", "250 2.0.0 Ok\r\n").await;
            }
            self.read(input).await?;
        }
    }

    fn ehlo(&self) -> String {
        let mut lines = vec!["mx.example.org"];
        lines.extend(self.extensions);
        let last = lines.len() - 1;
        let lines = lines.iter().enumerate();
        lines
            .map(|(at, line)| format!("250{}{line}\r\n", if at < last { '-' } else { ' ' }))
            .collect::<Vec<_>>()
            .concat()
    }

    fn acts(&self, point: &str) -> &'static [Act] {
        let found = self.script.iter().find(|(at, _)| point.starts_with(at));
        found.map_or(&[Act::Behave], |(_, acts)| acts)
    }

    async fn at(&mut self, point: &str, normal: &str) -> io::Result<()> {
        for act in self.acts(point) {
            match *act {
                Act::Behave => self.say(normal.as_bytes()).await?,
                Act::Say(text) => self.say(text.as_bytes()).await?,
                Act::SayOctets(octets) => self.say(octets).await?,
                Act::Flood(text) => loop {
                    self.say(text.as_bytes()).await?;
                    self.flush().await?;
                },
                Act::Drip(text, seconds) => {
                    self.flush().await?;
                    for octet in text.bytes().cycle() {
                        self.write(&[octet]).await?;
                        sleep(Duration::from_secs(seconds)).await;
                    }
                }
                Act::Pause(seconds) => {
                    self.flush().await?;
                    sleep(Duration::from_secs(seconds)).await;
                }
                Act::Silence => {
                    self.flush().await?;
                    let mut ignored = Vec::new();
                    loop {
                        ignored.clear();
                        self.read(&mut ignored).await?;
                    }
                }
                Act::Deafness => {
                    self.flush().await?;
                    sleep(Duration::from_secs(7 * 24 * 3600)).await;
                }
                Act::HalfClose => {
                    self.flush().await?;
                    self.stream()?.shutdown().await?;
                }
                Act::Close => {
                    self.flush().await?;
                    self.stream = None;
                }
                Act::Reset => {
                    self.flush().await?;
                    // The client has time to read what was said before.
                    sleep(Duration::from_secs(1)).await;
                    self.is_reset.store(true, Ordering::Relaxed);
                    self.stream = None;
                }
            }
        }
        Ok(())
    }

    fn stream(&mut self) -> io::Result<&mut DuplexStream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        match self.writes {
            Writes::Joined => self.pending.extend_from_slice(octets),
            Writes::Single => {
                for octet in octets.chunks(1) {
                    self.write(octet).await?;
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.write(&pending).await
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream()?.write_all(octets).await?;
        self.octets_written += octets.len();
        Ok(())
    }

    async fn line(&mut self, input: &mut Vec<u8>) -> io::Result<String> {
        loop {
            if let Some(end) = input.windows(2).position(|octets| octets == b"\r\n") {
                let rest = input.split_off(end + 2);
                let line = std::mem::replace(input, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.flush().await?;
            self.read(input).await?;
        }
    }

    async fn read(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        match self.stream()?.read_buf(input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The client's end of a pipe, which can be lost as a TCP connection is.
pub(crate) struct Stream {
    stream: DuplexStream,
    is_reset: Arc<AtomicBool>,
}

impl Stream {
    fn check(&self) -> io::Result<()> {
        if self.is_reset.load(Ordering::Relaxed) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
