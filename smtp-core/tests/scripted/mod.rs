//! A [`ClientSession`] driven by hand: a test plays the server, the source of content and the clock.
//!
//! In a conversation `C:` is what the client must say, `S:` what the server says, `--` what else happens or must be so.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smtp_core::{ClientLimits, ClientSession, ClientStep, Envelope, Host, Reply, SendCause, SendError, SendReport};

/// A session, its clock, and what it said.
pub(crate) struct Machine {
    pub(crate) session: ClientSession,
    pub(crate) now: Instant,
    pub(crate) reports: Vec<SendReport>,
    /// Content that was not taken yet, chunk by chunk; an error instead of more.
    chunks: VecDeque<Vec<u8>>,
    source_failure: Option<std::io::ErrorKind>,
    source_hangs: bool,
    sent: Vec<u8>,
}

impl Machine {
    /// A client that has connected.
    pub(crate) fn new(limits: ClientLimits) -> Self {
        let now = Instant::now();
        let name = Host::parse("client.example").expect("a name");
        Self {
            session: ClientSession::new(name, limits, now),
            now,
            reports: Vec::new(),
            chunks: VecDeque::new(),
            source_failure: None,
            source_hangs: false,
            sent: Vec::new(),
        }
    }

    /// One that has introduced itself to a server with these service extensions.
    pub(crate) fn greeted(extensions: &[&str]) -> Self {
        let mut machine = Self::new(ClientLimits::default());
        machine.receive("220 mx.example.org ESMTP\r\n");
        assert_eq!(machine.take_sent(), b"EHLO client.example\r\n");
        let mut lines = vec!["mx.example.org"];
        lines.extend(extensions);
        let last = lines.len() - 1;
        let reply =
            lines.iter().enumerate().map(|(at, line)| format!("250{}{line}\r\n", if at < last { '-' } else { ' ' }));
        machine.receive(reply.collect::<Vec<_>>().concat());
        assert!(machine.session.is_reusable());
        machine
    }

    /// Gives the session a message whose content comes in these chunks.
    pub(crate) fn begin(&mut self, envelope: &Envelope, chunks: &[&[u8]]) {
        let octets = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.begin_declared(envelope, chunks, octets);
    }

    /// The same with another length.
    pub(crate) fn begin_declared(&mut self, envelope: &Envelope, chunks: &[&[u8]], octets: u64) {
        self.chunks = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        self.session.begin(self.now, envelope, octets);
        self.drive(&[]);
    }

    /// Behind its last chunk the source fails.
    pub(crate) fn fail_source(&mut self, kind: std::io::ErrorKind) {
        self.source_failure = Some(kind);
    }

    /// Behind its last chunk the source hangs.
    pub(crate) fn hang_source(&mut self) {
        self.source_hangs = true;
    }

    /// The server says something, in one piece.
    pub(crate) fn receive(&mut self, octets: impl AsRef<[u8]>) {
        self.drive(octets.as_ref());
    }

    /// The server closes its side.
    pub(crate) fn leave(&mut self) {
        self.session.server_left();
        self.drive(&[]);
    }

    /// Lets time pass, and every deadline in it be met.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) else { break };
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now);
            self.drive(&[]);
        }
        self.now = end;
    }

    /// What the client has written since the last call.
    pub(crate) fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// The one report so far.
    pub(crate) fn report(&mut self) -> SendReport {
        assert_eq!(self.reports.len(), 1, "one report: {:?}", self.reports);
        self.reports.remove(0)
    }

    fn drive(&mut self, mut input: &[u8]) {
        loop {
            while let Some(step) = self.session.poll(self.now, &mut input) {
                match step {
                    ClientStep::Sent(report) => self.reports.push(report),
                    ClientStep::Content if !self.give_content() => return,
                    ClientStep::Content => {}
                    other => panic!("a step that this test does not know: {other:?}"),
                }
            }
            let output = self.session.output().to_vec();
            if output.is_empty() {
                return;
            }
            self.sent.extend_from_slice(&output);
            self.session.output_written(self.now, output.len());
        }
    }

    fn give_content(&mut self) -> bool {
        if let Some(chunk) = self.chunks.front_mut() {
            let mut rest = &chunk[..];
            self.session.content(self.now, &mut rest);
            let taken = chunk.len() - rest.len();
            chunk.drain(..taken);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        } else if self.source_hangs {
            return false;
        } else if let Some(kind) = self.source_failure {
            self.session.content_failed(self.now, SendCause::Source(kind));
        } else {
            self.session.end_of_content(self.now);
        }
        true
    }
}

/// `delivered 250`, `deferred 4.3.0`, `failed 5.1.1`.
pub(crate) fn outcome(result: &Result<Reply, SendError>) -> String {
    match result {
        Ok(reply) => format!("delivered {}", reply.code()),
        Err(error) if error.is_transient() => format!("deferred {}", error.status()),
        Err(error) => format!("failed {}", error.status()),
    }
}

pub(crate) fn outcomes(report: &SendReport) -> Vec<String> {
    report.recipients().iter().map(outcome).collect()
}

/// From `a@client.example` to these at `example.org`.
pub(crate) fn envelope(recipients: &[&str]) -> Envelope {
    let recipients = recipients.iter().map(|name| format!("{name}@example.org"));
    Envelope::parse("a@client.example", recipients).expect("paths")
}

/// Plays a conversation with a new session; see [`play`].
pub(crate) fn transcript(envelope: &Envelope, content: &str, script: &str) {
    play(&mut Machine::new(ClientLimits::default()), envelope, content, script);
}

/// Plays a conversation.
///
/// - `S:` lines that follow each other come in one piece.
/// - `C:` is the next line of the client. Whatever it says must be in the script.
/// - `-- send` gives it the message; `-- ask` asks about its first recipient; `-- quit`; `-- the server leaves`; `-- 5 minutes pass`; `-- closed`; `-- ready`.
/// - `-- result: delivered 250, failed 5.1.1` is what became of the message, recipient by recipient.
pub(crate) fn play(machine: &mut Machine, envelope: &Envelope, content: &str, script: &str) {
    let mut said = VecDeque::new();
    let mut to_receive = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix("S:") {
            assert!(said.is_empty(), "before {line:?} the client also said {said:?}");
            to_receive.push_str(text.strip_prefix(' ').unwrap_or(text));
            to_receive.push_str("\r\n");
            continue;
        }
        listen(machine, &mut to_receive, &mut said);
        if let Some(text) = line.strip_prefix("C:") {
            let next = said.pop_front().unwrap_or_else(|| panic!("the client did not say {text:?}"));
            assert_eq!(next, text.strip_prefix(' ').unwrap_or(text));
        } else if let Some(event) = line.strip_prefix("--") {
            assert!(said.is_empty(), "before {line:?} the client also said {said:?}");
            happen(machine, envelope, content, event.trim());
            listen(machine, &mut to_receive, &mut said);
        } else {
            panic!("not a line of a transcript: {line}");
        }
    }
    listen(machine, &mut to_receive, &mut said);
    assert!(said.is_empty(), "at the end the client also said {said:?}");
    assert!(machine.reports.is_empty(), "a result that is not in the script: {:?}", machine.reports);
}

fn listen(machine: &mut Machine, to_receive: &mut String, said: &mut VecDeque<String>) {
    if !to_receive.is_empty() {
        machine.receive(std::mem::take(to_receive));
    }
    let sent = String::from_utf8(machine.take_sent()).expect("ASCII");
    assert!(sent.is_empty() || sent.ends_with("\r\n"), "whole lines: {sent:?}");
    said.extend(sent.split_terminator("\r\n").map(str::to_owned));
}

fn happen(machine: &mut Machine, envelope: &Envelope, content: &str, event: &str) {
    match event {
        "send" => machine.begin(envelope, &[content.as_bytes()]),
        "ask" => {
            machine.session.begin_question(machine.now, &envelope.recipients()[0]);
            machine.drive(&[]);
        }
        "quit" => {
            machine.session.quit(machine.now);
            machine.drive(&[]);
        }
        "the server leaves" => machine.leave(),
        "closed" => assert!(machine.session.is_closed(), "the session should be closed"),
        "ready" => assert!(machine.session.is_reusable(), "the session should be ready"),
        _ => match (event.strip_prefix("result: "), event.strip_suffix(" pass").and_then(duration)) {
            (Some(expected), _) => assert_eq!(outcomes(&machine.report()).join(", "), expected),
            (None, Some(time)) => machine.pass(time),
            (None, None) => panic!("unknown event: {event}"),
        },
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()? * seconds))
}
