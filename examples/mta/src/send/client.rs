//! A client that sends one message: blocking, with the time limits of RFC 5321 §4.5.3.2.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use smtp_core::{AddressLiteral, DataEncoder, Defect, Mailbox, ReversePath, SafeText};
use thiserror::Error;

/// The most octets and lines of a reply that are read (SECURITY.md D-35).
const REPLY_LIMIT_OCTETS: usize = 64 << 10;
const REPLY_LIMIT_LINES: usize = 512;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For most replies (RFC 5321 §4.5.3.2.1 to §4.5.3.2.3).
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// For the reply to `DATA` (§4.5.3.2.4).
const DATA_TIMEOUT: Duration = Duration::from_secs(120);
/// For a block of content (§4.5.3.2.5).
const WRITE_TIMEOUT: Duration = Duration::from_secs(180);
/// For the reply to the end of the content (§4.5.3.2.6).
const END_TIMEOUT: Duration = Duration::from_secs(600);
/// A farewell is not worth a wait.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message was not sent.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// The message cannot be read.
    #[error("{path}: cannot be read")]
    File {
        /// Its name.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no connection.
    #[error("cannot connect to {server}")]
    Connect {
        /// As it was given.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The connection failed.
    #[error("connection lost")]
    Network(#[from] io::Error),
    /// What came is no reply (RFC 5321 §4.2).
    #[error("the server sent {0}")]
    NoReply(&'static str),
    /// The server said no.
    #[error("{command}: {reply}")]
    Refused {
        /// To what.
        command: String,
        /// What it said.
        reply: Reply,
    },
    /// The server took the message, but not for these many recipients.
    #[error("not sent to {0} recipient(s)")]
    SomeRefused(usize),
    /// Content that must not be sent by `DATA`.
    #[error("the message has a {0}")]
    Content(#[from] Defect),
    /// The server is not made for such content (RFC 6152).
    #[error("the message has 8-bit octets, and the server does not offer 8BITMIME")]
    EightBit,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    code: u16,
    lines: Vec<SafeText>,
}

impl Reply {
    fn is(&self, class: u16) -> bool {
        self.code / 100 == class
    }

    /// The parameter of a service extension, if it is offered; empty where it has none.
    fn extension(&self, keyword: &str) -> Option<&str> {
        self.lines.iter().skip(1).find_map(|line| {
            let (word, parameter) = line.as_str().split_once(' ').unwrap_or((line.as_str(), ""));
            word.eq_ignore_ascii_case(keyword).then_some(parameter)
        })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        self.lines.iter().try_for_each(|line| write!(f, " {line}"))
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) reply: Reply,
    pub(super) refused: Vec<(Mailbox, Reply)>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    is_verbose: bool,
}

impl Client {
    pub(super) fn connect(server: &str, is_verbose: bool) -> Result<Self, SendError> {
        let stream = connect(server).map_err(|source| SendError::Connect { server: server.to_owned(), source })?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, received: Vec::new(), is_verbose };
        let greeting = client.reply(REPLY_TIMEOUT)?;
        expect(2, "connecting", greeting).map(|_| client)
    }

    /// Sends to those recipients that the server takes.
    pub(super) fn send(&mut self, from: &ReversePath, to: &[Mailbox], content: &[u8]) -> Result<Sent, SendError> {
        let offered = self.hello()?;
        let mut wire = Vec::new();
        let mut encoder = DataEncoder::new();
        encoder.encode(content, &mut wire)?;
        encoder.finish(&mut wire)?;

        let mut mail = format!("MAIL FROM:{from}");
        if offered.extension("SIZE").is_some() {
            // RFC 1870 §3: with the line end that the encoder adds to a last line without one, without transparency.
            let missing = if content.is_empty() || content.ends_with(b"\r\n") { 0 } else { 2 };
            mail = format!("{mail} SIZE={}", content.len() + missing);
        }
        if !content.is_ascii() {
            offered.extension("8BITMIME").ok_or(SendError::EightBit)?;
            mail.push_str(" BODY=8BITMIME");
        }
        let reply = self.command(&mail, REPLY_TIMEOUT)?;
        expect(2, "MAIL", reply)?;

        let mut refused = Vec::new();
        for mailbox in to {
            let reply = self.command(&format!("RCPT TO:<{mailbox}>"), REPLY_TIMEOUT)?;
            if !reply.is(2) {
                refused.push((mailbox.clone(), reply));
            }
        }
        if let (Some((mailbox, reply)), true) = (refused.first(), refused.len() == to.len()) {
            return Err(SendError::Refused { command: mailbox.to_string(), reply: reply.clone() });
        }
        let reply = self.command("DATA", DATA_TIMEOUT)?;
        expect(3, "DATA", reply)?;
        self.show("C: ", &format!("({} octets of content)", content.len()));
        let reply = self.exchange(&wire, END_TIMEOUT)?;
        Ok(Sent { reply: expect(2, "end of content", reply)?, refused })
    }

    /// Says goodbye; the message is sent or not, whatever comes of it.
    pub(super) fn quit(mut self) {
        let _ = self.command("QUIT", QUIT_TIMEOUT);
    }

    /// `EHLO`, or `HELO` where that is not known (RFC 5321 §3.2).
    fn hello(&mut self) -> Result<Reply, SendError> {
        let host = AddressLiteral::from(self.stream.local_addr()?.ip().to_canonical());
        let reply = self.command(&format!("EHLO {host}"), REPLY_TIMEOUT)?;
        if reply.is(5) {
            let reply = self.command(&format!("HELO {host}"), REPLY_TIMEOUT)?;
            // The words behind `HELO` offer nothing.
            return expect(2, "HELO", reply).map(|reply| Reply { lines: Vec::new(), ..reply });
        }
        expect(2, "EHLO", reply)
    }

    fn command(&mut self, command: &str, timeout: Duration) -> Result<Reply, SendError> {
        self.show("C: ", command);
        self.exchange(format!("{command}\r\n").as_bytes(), timeout)
    }

    /// Writes, then reads a reply, even if not all could be written: a server that has seen enough says why and closes.
    fn exchange(&mut self, octets: &[u8], timeout: Duration) -> Result<Reply, SendError> {
        let written = self.stream.write_all(octets);
        match (self.reply(timeout), written) {
            (Err(_), Err(error)) => Err(error.into()),
            (reply, _) => reply,
        }
    }

    /// One reply, of however many lines (RFC 5321 §4.2.1).
    fn reply(&mut self, timeout: Duration) -> Result<Reply, SendError> {
        let deadline = Instant::now() + timeout;
        let mut reply: Option<Reply> = None;
        let mut octets = 0;
        for _ in 0..REPLY_LIMIT_LINES {
            let line = self.line(deadline, REPLY_LIMIT_OCTETS.saturating_sub(octets))?;
            octets += line.len();
            let (code, is_last, text) = parse_line(&line).ok_or(SendError::NoReply("something that is no reply"))?;
            self.show("S: ", SafeText::from_octets(line.trim_ascii_end()).as_str());
            let reply = reply.get_or_insert_with(|| Reply { code, lines: Vec::new() });
            if reply.code != code {
                return Err(SendError::NoReply("lines of different replies"));
            }
            reply.lines.push(SafeText::from_octets(text));
            if is_last {
                return Ok(reply.clone());
            }
        }
        Err(SendError::NoReply("a reply without an end"))
    }

    /// One line with its LF.
    fn line(&mut self, deadline: Instant, limit_octets: usize) -> Result<Vec<u8>, SendError> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.received.iter().position(|&octet| octet == b'\n') {
                let rest = self.received.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.received, rest));
            }
            if self.received.len() > limit_octets {
                return Err(SendError::NoReply("a reply without an end"));
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
            self.stream.set_read_timeout(Some(left.ok_or_else(timed_out)?))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out().into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn show(&self, direction: &str, text: &str) {
        if self.is_verbose {
            let _ = writeln!(io::stderr(), "{direction}{text}");
        }
    }
}

fn connect(server: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn expect(class: u16, command: &str, reply: Reply) -> Result<Reply, SendError> {
    if reply.is(class) { Ok(reply) } else { Err(SendError::Refused { command: command.to_owned(), reply }) }
}

/// Code, whether it is the last line, and text.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (code, rest) = line.split_at_checked(3)?;
    let code: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
    let (is_last, text) = match rest {
        [] => (true, rest),
        [b' ', text @ ..] => (true, text),
        [b'-', text @ ..] => (false, text),
        _ => return None,
    };
    (200..600).contains(&code).then_some((code, is_last, text))
}
