//! Drives a [`ClientSession`] from the outside, as the target [`client_session`](crate::client_session) does: gives it
//! messages, writes what it says, feeds it, lets time pass, and keeps what came of it.

use std::time::{Duration, Instant};

use smtp_core::{
    Body, ClientLimits, ClientSession, ClientStep, DataEncoder, Envelope, Host, ReplyLimits, SendCause, SendReport,
    SendStage,
};

use crate::control::Control;

/// Switches.
const SMALL_LIMITS: u8 = 1;
const MANY_RECIPIENTS: u8 = 2;
const LARGE: u8 = 4;
const DEFECTIVE: u8 = 8;
const EIGHT_BIT: u8 = 16;
const SHORT: u8 = 64;

/// Messages that a session is given.
const MESSAGES: usize = 3;
/// No session has more to write at once than a block whose every octet is doubled, or a group and a command.
const MOST_OUTPUT: usize = 2 * (64 << 10) + (4 << 10);
/// An hour of dialogue and an hour for content, the longest waits around them, for each message and the start.
const LONGEST: Duration = Duration::from_secs(4 * 3 * 3600);

/// What a session did.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// All that it wrote.
    pub(crate) sent: Vec<u8>,
    /// What became of each message.
    pub(crate) reports: Vec<SendReport>,
    /// Why it ended.
    pub(crate) error: Option<String>,
}

/// The application, the network and the clock of a session.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    session: ClientSession,
    choices: Control<'a>,
    now: Instant,
    envelope: Envelope,
    content: Vec<u8>,
    /// The content as it goes over the wire, with its end; nothing where it must not.
    wire: Option<Vec<u8>>,
    declared_octets: u64,
    given: usize,
    begun: usize,
    record: Record,
    /// What was written when the end of the current content was.
    octets_since_content: Option<usize>,
    writes: usize,
    /// Whether a write may take a part of the output, and the server says something in between.
    pub(crate) writes_in_parts: bool,
}

impl<'a> Sender<'a> {
    /// A client that has connected at `now`.
    pub(crate) fn new(switches: u8, choices: Control<'a>, now: Instant) -> Self {
        let mut limits = ClientLimits::default();
        if switches & SMALL_LIMITS != 0 {
            limits.reply = ReplyLimits { octets: 60, lines: 4 };
            limits.pipelined_commands = 3;
            limits.pipelined_octets = 80;
            limits.dialogue = Duration::from_secs(700);
        }
        let recipients = if switches & MANY_RECIPIENTS == 0 { 2 } else { 12 };
        let recipients = (0..recipients).map(|number| format!("user{number}@example.org"));
        let envelope = Envelope::parse("alice@client.example", recipients).expect("paths");
        let envelope = if switches & EIGHT_BIT == 0 { envelope } else { envelope.with_body(Body::EightBitMime) };
        let mut content = b"Subject: x\r\n\r\n.dot\r\n".to_vec();
        if switches & LARGE != 0 {
            content.resize(66_000, b'x');
        }
        if switches & DEFECTIVE != 0 {
            content.extend_from_slice(b"\n.\n");
        }
        let declared_octets = content.len() as u64 + u64::from(switches & SHORT != 0);
        let mut wire = Vec::new();
        let mut encoder = DataEncoder::new();
        let may_be_sent = encoder.encode(&content, &mut wire).and_then(|()| encoder.finish(&mut wire)).is_ok();
        let wire = (may_be_sent && switches & SHORT == 0).then_some(wire);
        let name = Host::parse("client.example").expect("a name");
        let mut sender = Self {
            session: ClientSession::new(name, limits, now),
            choices,
            now,
            envelope,
            content,
            wire,
            declared_octets,
            given: 0,
            begun: 0,
            record: Record::default(),
            octets_since_content: None,
            writes: 0,
            writes_in_parts: false,
        };
        sender.advance(&mut &b""[..]);
        sender
    }

    /// The server says something. Whether the client has said something then, or was given a message.
    ///
    /// # Panics
    /// Where a law is broken; this holds for all that follow.
    pub(crate) fn receive(&mut self, octets: &[u8]) -> bool {
        self.too_early_a_timeout_changes_nothing();
        if let Some(octets_since_content) = &mut self.octets_since_content {
            *octets_since_content += octets.len();
        }
        let before = (self.record.sent.len(), self.record.reports.len(), self.begun, self.session.is_idle());
        self.advance(&mut &octets[..]);
        before != (self.record.sent.len(), self.record.reports.len(), self.begun, self.session.is_idle())
    }

    /// Waits; the session is woken when it asked for that.
    pub(crate) fn pause(&mut self, length: Duration) {
        let end = self.now + length;
        let mut turns = 0;
        while let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) {
            turns += 1;
            assert!(turns < 100, "a deadline that comes again at once");
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now);
            self.advance(&mut &b""[..]);
        }
        self.now = end;
    }

    /// The server closes its side.
    pub(crate) fn server_leaves(&mut self) {
        self.session.server_left();
        self.advance(&mut &b""[..]);
    }

    /// The server says nothing more; then the application says goodbye.
    pub(crate) fn finish(mut self) -> Record {
        self.pause(LONGEST);
        assert!(self.session.is_idle(), "no end: {:?}", self.session);
        assert_eq!(self.record.reports.len(), self.begun, "each message has one report");
        self.session.quit(self.now);
        self.advance(&mut &b""[..]);
        self.pause(Duration::from_secs(31));
        assert!(self.session.is_closed() && self.session.deadline().is_none());
        let sent = self.record.sent.len();
        self.advance(&mut &b"250 Ok\r\n"[..]);
        assert_eq!(self.record.sent.len(), sent, "a closed session says nothing");
        self.record.error = self.session.error().map(ToString::to_string);
        self.record
    }

    /// Lets the session go on until it needs input or time.
    fn advance(&mut self, input: &mut &[u8]) {
        // Each turn takes input, writes, or gives content or a message, all of which are bounded.
        for _ in 0..100_000 {
            match self.session.poll(self.now, input) {
                Some(ClientStep::Content) => self.give_content(),
                Some(ClientStep::Sent(report)) => self.sent(report),
                None => {
                    assert!(input.is_empty(), "what is not taken would be given twice");
                    if !self.write() && !self.begin() {
                        return;
                    }
                }
                Some(other) => panic!("unknown step: {other:?}"),
            }
        }
        panic!("no rest: {:?}", self.session);
    }

    fn begin(&mut self) -> bool {
        let may_begin = self.session.is_reusable() && self.begun < MESSAGES;
        if may_begin {
            self.begun += 1;
            self.given = 0;
            self.octets_since_content = None;
            self.session.begin(self.now, &self.envelope, self.declared_octets);
        }
        may_begin
    }

    fn give_content(&mut self) {
        if self.given == self.content.len() {
            return self.session.end_of_content(self.now);
        }
        let mut rest = &self.content[self.given..];
        self.session.content(self.now, &mut rest);
        assert!(rest.len() < self.content.len() - self.given, "content that nobody takes makes a loop");
        self.given = self.content.len() - rest.len();
    }

    /// Whether there was something to write.
    fn write(&mut self) -> bool {
        let output = self.session.output().len();
        assert!(output <= MOST_OUTPUT, "{output} octets at once");
        let choice = usize::from(self.choices.choice(self.writes));
        self.writes += 1;
        let octets = if self.writes_in_parts && choice % 3 > 0 { output.min(choice * 3) } else { output };
        if octets == 0 {
            return false;
        }
        self.record.sent.extend_from_slice(&self.session.output()[..octets]);
        self.session.output_written(self.now, octets);
        if self.wire.as_ref().is_some_and(|wire| self.record.sent.ends_with(wire)) {
            self.octets_since_content = Some(0);
        }
        true
    }

    fn too_early_a_timeout_changes_nothing(&mut self) {
        if self.session.deadline().is_none_or(|deadline| self.now < deadline) {
            let seen = |session: &ClientSession| (session.is_closed(), session.is_idle(), session.output().len());
            let before = seen(&self.session);
            self.session.handle_timeout(self.now);
            assert_eq!(seen(&self.session), before);
        }
    }

    fn sent(&mut self, report: SendReport) {
        assert!(self.record.reports.len() < self.begun, "a report for nothing");
        assert_eq!(report.recipients().len(), self.envelope.recipients().len());
        for result in report.recipients() {
            match result {
                Ok(reply) => {
                    assert!(reply.code().is_positive(), "{reply}");
                    let octets = self.octets_since_content.expect("delivered, but not wholly sent");
                    assert!(octets >= 5, "delivered, but the server said nothing behind the content");
                }
                Err(error) if error.is_transient() => assert_eq!(error.status().class(), 4, "{error}"),
                Err(error) => {
                    assert_eq!(error.status().class(), 5, "{error}");
                    let is_refused = error.reply().is_some_and(|reply| reply.code().is_permanent());
                    let is_local = match error.cause() {
                        SendCause::Defect(_) => self.wire.is_none(),
                        SendCause::TooLarge { octets, limit_octets } => octets > limit_octets,
                        SendCause::EightBit => self.envelope.body() == Some(Body::EightBitMime),
                        _ => false,
                    };
                    assert!(is_refused != is_local, "permanent without a reason: {error}");
                    assert!(!is_refused || !matches!(error.stage(), SendStage::Greeting | SendStage::Hello), "{error}");
                }
            }
        }
        self.record.reports.push(report);
    }
}
