//! Drives a session value through one stream.

use std::sync::Arc;
use std::time::Instant;

use smtp_core::{
    Accepted, Connection, Domain, Lookup, LookupAnswer, Question, ServerSession, SessionConfig, SessionId, Stages,
    Step, TransferProtocol,
};

use crate::reference::{Outcome, codes};

/// A session in clear that asks no policies.
pub(crate) fn config(refuse_early_talkers: bool) -> Arc<SessionConfig> {
    let hostname = Domain::parse("mx.example.org").expect("a domain");
    Arc::new(SessionConfig { refuse_early_talkers, stages: Stages::NONE, ..SessionConfig::new(hostname) })
}

/// The same where LMTP is spoken (RFC 2033).
pub(crate) fn lmtp_config(refuse_early_talkers: bool) -> Arc<SessionConfig> {
    Arc::new(SessionConfig { protocol: TransferProtocol::Lmtp, ..SessionConfig::clone(&config(refuse_early_talkers)) })
}

/// What becomes of those writes behind `354`.
pub(crate) fn run<'a>(config: &Arc<SessionConfig>, writes: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut driver = Driver::new(config.clone());
    for write in [
        &b""[..],
        if config.protocol.is_lmtp() { b"LHLO client.example\r\n" } else { b"EHLO client.example\r\n" },
        b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@example.org>\r\n",
        b"DATA\r\n",
    ] {
        driver.write(write);
    }
    assert!(driver.replies.ends_with(b"CRLF>.<CRLF>\r\n") || codes(&driver.replies).ends_with("\n354\n"), "a 354");
    driver.replies.clear();
    let (mut sent, mut closed_at) = (0, None);
    for write in writes {
        driver.write(write);
        if driver.session.is_closed() {
            closed_at = Some(sent..sent + write.len());
            break;
        }
        sent += write.len();
    }
    Outcome { messages: driver.messages, replies: codes(&driver.replies), closed_at }
}

/// What becomes of those writes where the recipient is accepted, of a message that is binary or not.
pub(crate) fn run_chunks<'a>(
    config: &Arc<SessionConfig>,
    is_binary: bool,
    writes: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Vec<u8>>, String) {
    let mut driver = Driver::new(SessionConfig { honours_binarymime: true, ..(**config).clone() }.into());
    let body = if is_binary { " BODY=BINARYMIME" } else { "" };
    driver.write(b"");
    driver.write(b"EHLO client.example\r\n");
    driver.write(format!("MAIL FROM:<a@client.example>{body}\r\nRCPT TO:<b@example.org>\r\n").as_bytes());
    driver.replies.clear();
    for write in writes {
        if !driver.session.is_closed() {
            driver.write(write);
        }
    }
    (driver.messages, codes(&driver.replies))
}

struct Driver {
    session: ServerSession,
    now: Instant,
    content: Vec<u8>,
    messages: Vec<Vec<u8>>,
    replies: Vec<u8>,
}

impl Driver {
    fn new(config: Arc<SessionConfig>) -> Self {
        let now = Instant::now();
        let client = "192.0.2.1:4711".parse().expect("an address");
        let server = "192.0.2.2:25".parse().expect("an address");
        let connection = Arc::new(Connection::new(SessionId::new(1), client, server));
        let session = ServerSession::new(config, connection, now);
        Self { session, now, content: Vec::new(), messages: Vec::new(), replies: Vec::new() }
    }

    /// One write of the client, and the replies to it. Each step takes input or answers a question, so this ends.
    fn write(&mut self, mut input: &[u8]) {
        while let Some(step) = self.session.poll(self.now, &mut input) {
            match step {
                Step::Content(octets) => self.content.extend_from_slice(octets),
                Step::Ask(question) => self.answer(question),
            }
        }
        assert!(input.is_empty(), "nothing is awaited, so all input is taken");
        self.replies.extend_from_slice(self.session.output());
        self.session.output_written();
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Lookup(ask) => {
                let found = LookupAnswer { lookup: Ok(Lookup::Mailbox), is_role: false };
                self.session.answer(self.now, ask, found);
            }
            Question::Room(ask) => {
                self.content.clear();
                self.session.answer(self.now, ask, Ok(()));
            }
            Question::Deliver(ask) => {
                self.messages.push(std::mem::take(&mut self.content));
                self.session.answer(self.now, ask, Ok(Accepted::all()));
            }
            other => panic!("no policy was announced: {other:?}"),
        }
    }
}
