//! A [`ServerSession`] driven by hand: octets and time go in, replies and messages come out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{
    Accepted, CloseReason, Connection, Decision, Domain, LookupAnswer, Question, Refusal, ServerSession, SessionConfig,
    SessionId, Stage, Stages, Step, Verdict,
};

use super::world::{find, is_role};

/// A message as the delivery got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) content: Vec<u8>,
}

/// A session, its clock, and the answers it gets.
pub(crate) struct Machine {
    pub(crate) session: ServerSession,
    pub(crate) now: Instant,
    /// What policies say at each stage; [`Verdict::Continue`] where nothing is set.
    pub(crate) verdicts: HashMap<Stage, Verdict>,
    /// What the delivery says.
    pub(crate) delivery: Result<Accepted, Refusal>,
    pub(crate) has_room: bool,
    /// How many octets of content can be stored.
    pub(crate) stores_octets: usize,
    pub(crate) delivered: Vec<Delivered>,
    /// Every forward-path that was looked up.
    pub(crate) looked_up: Vec<String>,
    content: Vec<u8>,
    pending: Vec<u8>,
    output: Vec<u8>,
}

/// The configuration of a test: `mx.example.org`, every stage asked, events collected.
pub(crate) fn config() -> SessionConfig {
    SessionConfig { observed: true, ..SessionConfig::new(Domain::parse("mx.example.org").expect("a domain")) }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(config())
    }
}

impl Machine {
    /// A session of a client at 192.0.2.1.
    pub(crate) fn new(config: SessionConfig) -> Self {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let connection = Connection::new(SessionId::new(1), address("192.0.2.1:40000"), address("192.0.2.25:25"));
        let now = Instant::now();
        Self {
            session: ServerSession::new(Arc::new(config), Arc::new(connection), now),
            now,
            verdicts: HashMap::new(),
            delivery: Ok(Accepted::all()),
            has_room: true,
            stores_octets: usize::MAX,
            delivered: Vec::new(),
            looked_up: Vec::new(),
            content: Vec::new(),
            pending: Vec::new(),
            output: Vec::new(),
        }
    }

    /// One whose client has read the greeting and the answer to `EHLO`.
    pub(crate) fn greeted(config: SessionConfig) -> Self {
        let mut machine = Self::new(config);
        assert!(machine.send("").starts_with("220 "));
        assert!(machine.send("EHLO client.example\r\n").starts_with("250-"));
        machine
    }

    /// One with a transaction, and `<alice@example.org>` in it.
    pub(crate) fn with_recipient(config: SessionConfig) -> Self {
        let mut machine = Self::greeted(config);
        assert_eq!(machine.codes("MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n"), ["250", "250"]);
        machine
    }

    pub(crate) fn refusing(mut self, stage: Stage, refusal: Refusal) -> Self {
        self.verdicts.insert(stage, Verdict::Refuse(refusal));
        self
    }

    /// Gives octets to the session and takes what it says.
    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> String {
        self.pending.extend_from_slice(octets.as_ref());
        self.drive();
        self.take_output()
    }

    /// The reply codes, each with its status where it has one, of what [`Machine::send`] gives.
    pub(crate) fn replies(&mut self, octets: impl AsRef<[u8]>) -> Vec<String> {
        replies(&self.send(octets))
    }

    /// The bare reply codes.
    pub(crate) fn codes(&mut self, octets: impl AsRef<[u8]>) -> Vec<String> {
        self.replies(octets).iter().map(|reply| reply[..3].to_owned()).collect()
    }

    /// Lets time pass, and every deadline in it be met.
    pub(crate) fn pass(&mut self, time: Duration) -> String {
        let end = self.now + time;
        for _ in 0..10_000 {
            let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) else { break };
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now);
            self.drive();
        }
        self.now = end;
        self.take_output()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    pub(crate) fn shut_down(&mut self) -> String {
        self.session.shut_down();
        self.send("")
    }

    pub(crate) fn leave(&mut self) {
        self.session.client_left(CloseReason::ClientLeft);
        self.drive();
    }

    fn take_output(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.output)).expect("replies are ASCII")
    }

    fn drive(&mut self) {
        let input = std::mem::take(&mut self.pending);
        let mut rest = &input[..];
        while let Some(step) = self.session.poll(self.now, &mut rest) {
            match step {
                Step::Content(octets) if self.content.len() + octets.len() <= self.stores_octets => {
                    self.content.extend_from_slice(octets);
                }
                Step::Content(_) => self.session.content_lost(),
                Step::Ask(question) => self.answer(question),
            }
        }
        self.pending = rest.to_vec();
        self.output.extend_from_slice(self.session.output());
        self.session.output_written();
    }

    fn decision(&self, stage: Stage) -> Decision {
        self.verdicts.get(&stage).cloned().unwrap_or(Verdict::Continue).into()
    }

    fn answer(&mut self, question: Question) {
        let now = self.now;
        match question {
            Question::Connect(ask) => self.session.answer(now, ask, self.decision(Stage::Connect)),
            Question::Helo(ask) => self.session.answer(now, ask, self.decision(Stage::Helo)),
            Question::Mail(ask) => self.session.answer(now, ask, self.decision(Stage::Mail)),
            Question::Recipient(ask) => self.session.answer(now, ask, self.decision(Stage::Recipient)),
            Question::Message(ask) => self.session.answer(now, ask, self.decision(Stage::Message)),
            Question::Lookup(ask) => {
                self.looked_up.push(ask.subject().to_string());
                let answer = LookupAnswer { lookup: find(ask.subject()), is_role: is_role(ask.subject()) };
                self.session.answer(now, ask, answer);
            }
            Question::Room(ask) => {
                self.content.clear();
                let room = if self.has_room { Ok(()) } else { Err(Refusal::insufficient_storage()) };
                self.session.answer(now, ask, room);
            }
            Question::Deliver(mut ask) => {
                let transaction = ask.take_transaction().expect("it is there once");
                let result = self.delivery.clone();
                if result.is_ok() {
                    self.delivered.push(Delivered {
                        reverse_path: transaction.reverse_path().to_string(),
                        recipients: transaction.recipients().iter().map(ToString::to_string).collect(),
                        content: std::mem::take(&mut self.content),
                    });
                }
                self.session.answer(now, ask, result);
            }
            other => panic!("a question that this test does not know: {other:?}"),
        }
    }
}

/// The replies in `output`: code and enhanced status code, without the text; lines of one reply are one.
pub(crate) fn replies(output: &str) -> Vec<String> {
    output
        .split_terminator("\r\n")
        .filter(|line| line.as_bytes().get(3) != Some(&b'-'))
        .map(|line| {
            let mut words = line.split(' ');
            let code = words.next().unwrap_or_default();
            match words.next().filter(|word| is_status(word)) {
                Some(status) => format!("{code} {status}"),
                None => code.to_owned(),
            }
        })
        .collect()
}

/// Whether a word is `class.subject.detail` (RFC 3463 §2).
pub(crate) fn is_status(word: &str) -> bool {
    let numbers: Vec<_> = word.split('.').collect();
    numbers.len() == 3
        && matches!(numbers[0], "2" | "4" | "5")
        && numbers[1..].iter().all(|number| {
            (1..=3).contains(&number.len())
                && number.bytes().all(|octet| octet.is_ascii_digit())
                && (number.len() == 1 || !number.starts_with('0'))
        })
}

/// A configuration without the questions of policies.
pub(crate) fn without_policies() -> SessionConfig {
    SessionConfig { stages: Stages::NONE, ..config() }
}

/// A configuration that does not mind clients that talk early.
pub(crate) fn patient() -> SessionConfig {
    SessionConfig { refuse_early_talkers: false, ..config() }
}
