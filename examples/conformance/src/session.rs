//! One conversation with the server: commands, replies, and silence.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::journal::Reply;
use crate::row::Ending;
use crate::stream::{Bounded, Stream};
use crate::target::Target;

/// No reply is longer; who sends more never ends.
const REPLY_OCTETS: usize = 64 * 1024;

/// How long nothing may come before that counts as silence.
const QUIET: Duration = Duration::from_millis(400);

/// How often a server that says 421 at once is asked again, and when.
const BUSY_ATTEMPTS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A connection, from its greeting on.
#[derive(Debug)]
pub(crate) struct Session<'t> {
    pub(crate) target: &'t Target,
    pub(crate) greeting: Reply,
    stream: Stream,
    /// What came and was not yet read as a reply.
    pending: Vec<u8>,
    ends: Instant,
}

impl<'t> Session<'t> {
    /// Connects, and reads a greeting of 220. Who says 421 is busy, and asked again.
    pub(crate) fn open(target: &'t Target) -> Result<Self, Ending> {
        for _ in 0..BUSY_ATTEMPTS {
            let mut session = Self::connect(target, target.address)?;
            match session.greet() {
                Err(_) if session.greeting.matches("421") => std::thread::sleep(BUSY_PAUSE),
                result => return result.map(|()| session),
            }
        }
        Err(Ending::Skipped("the server is too busy".into()))
    }

    /// The same on the port that begins with TLS.
    pub(crate) fn open_tls(target: &'t Target, address: SocketAddr) -> Result<Self, Ending> {
        let mut session = Self::connect(target, address)?;
        session.handshake()?;
        session.greet()?;
        Ok(session)
    }

    fn connect(target: &'t Target, address: SocketAddr) -> Result<Self, Ending> {
        let ends = Instant::now() + target.row_patience();
        let stream = Stream::Clear(Bounded::connect(address, target.patience())?);
        Ok(Self { target, greeting: Reply::default(), stream, pending: Vec::new(), ends })
    }

    fn greet(&mut self) -> Result<(), Ending> {
        self.greeting = self.reply()?;
        self.target.journal().add("the greeting", &self.greeting, false);
        self.greeting.must_match("the greeting", "220")
    }

    /// Sends a command, and takes whatever the reply is.
    pub(crate) fn command(&mut self, command: &str) -> Result<Reply, Ending> {
        let command = self.target.fill_in(command);
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply_to(&command)
    }

    /// Sends a command whose reply has to begin so.
    pub(crate) fn expect(&mut self, command: &str, pattern: &str) -> Result<Reply, Ending> {
        let reply = self.command(command)?;
        reply.must_match(&self.target.fill_in(command), pattern)?;
        Ok(reply)
    }

    /// Several commands, one after the other.
    pub(crate) fn expect_all(&mut self, lines: &[(&str, &str)]) -> Result<(), Ending> {
        lines.iter().try_for_each(|(command, pattern)| self.expect(command, pattern).map(drop))
    }

    /// The next reply has to begin so. `what` says to what it is one.
    pub(crate) fn expect_reply(&mut self, what: &str, pattern: &str) -> Result<Reply, Ending> {
        let reply = self.reply_to(what)?;
        reply.must_match(what, pattern)?;
        Ok(reply)
    }

    /// As far as `DATA`: `354` was read.
    pub(crate) fn begin_data(&mut self) -> Result<(), Ending> {
        self.expect_all(&[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}>", "250"),
            ("RCPT TO:<{to}>", "250|251"),
            ("DATA", "354"),
        ])
    }

    /// `EHLO`, and its keywords with their parameters, in capitals.
    pub(crate) fn keywords(&mut self) -> Result<Vec<String>, Ending> {
        let reply = self.expect("EHLO {ehlo}", "250")?;
        Ok(reply.lines().iter().skip(1).map(|line| line.to_uppercase()).collect())
    }

    pub(crate) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.set_until(self.limit());
        self.stream.write_all(octets).and_then(|()| self.stream.flush())
    }

    /// `STARTTLS`, the handshake, and no more.
    pub(crate) fn start_tls(&mut self) -> Result<(), Ending> {
        self.expect("STARTTLS", "220")?;
        self.handshake()
    }

    pub(crate) fn handshake(&mut self) -> Result<(), Ending> {
        self.stream.set_until(self.limit());
        let host = self.target.host();
        self.stream.start_tls(host).map_err(|error| Ending::differs("a TLS handshake", error.to_string()))
    }

    /// Whether nothing comes for a moment: neither a reply nor the end.
    pub(crate) fn is_silent(&mut self) -> Result<bool, Ending> {
        if !self.pending.is_empty() {
            return Ok(false);
        }
        self.stream.set_until(Instant::now() + QUIET);
        match self.fill() {
            Ok(_) => Ok(false),
            Err(error) if is_timeout(&error) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the server ends the session now, without another reply.
    pub(crate) fn must_be_closed(&mut self) -> Result<(), Ending> {
        self.stream.set_until(self.limit());
        match self.fill() {
            Ok(0) => Ok(()),
            Ok(_) => Err(Ending::differs("the end of the session", String::from_utf8_lossy(&self.pending))),
            Err(error) if is_timeout(&error) => Err(Ending::differs("the end of the session", "silence")),
            Err(_reset) => Ok(()),
        }
    }

    fn reply_to(&mut self, command: &str) -> Result<Reply, Ending> {
        let reply = self.reply().map_err(|ending| match ending {
            Ending::Differs { expected, got } => Ending::differs(format!("{expected} to {}", shown(command)), got),
            skipped @ Ending::Skipped(_) => skipped,
        })?;
        self.target.journal().add(command, &reply, true);
        Ok(reply)
    }

    /// The next reply, however it looks: up to a line without a hyphen behind its code.
    pub(crate) fn reply(&mut self) -> Result<Reply, Ending> {
        self.stream.set_until(self.limit());
        loop {
            if let Some(reply) = Reply::take(&mut self.pending) {
                return Ok(reply);
            }
            if self.pending.len() > REPLY_OCTETS {
                return Err(Ending::differs("a reply", "one without end"));
            }
            match self.fill() {
                Ok(0) => return Err(Ending::differs("a reply", "the end of the session")),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Err(Ending::differs("a reply", "silence")),
                Err(error) => return Err(Ending::differs("a reply", error.to_string())),
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer)?;
        self.pending.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    fn limit(&self) -> Instant {
        (Instant::now() + self.target.patience()).min(self.ends)
    }
}

/// The beginning of a command, without what is long or secret in it.
pub(crate) fn shown(command: &str) -> String {
    let mut shown: String = command.chars().take(60).collect();
    if shown.len() < command.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
