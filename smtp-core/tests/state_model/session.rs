//! Drives a session value by steps, and shows what can be seen of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{
    Accepted, Connection, Domain, Limits, Lookup, LookupAnswer, LookupError, Question, Refusal, ServerSession,
    SessionConfig, SessionId, Step, Transaction, TransferProtocol,
};

use crate::model;
use crate::steps::{Command, MESSAGE_LIMIT_OCTETS, No, Rcpt, Verdict};

/// Steps of one session between two commands, at most.
const MOST_STEPS: usize = 100;

/// The session, and what was delivered from it.
pub(crate) struct Driver {
    pub(crate) session: ServerSession,
    protocol: TransferProtocol,
    pub(crate) delivered: Vec<(String, Vec<String>)>,
    now: Instant,
}

impl Driver {
    /// A session with the limits of a model.
    pub(crate) fn new(of_model: model::Limits, protocol: TransferProtocol, now: Instant) -> Self {
        let mut limits = Limits::default();
        limits.errors = of_model.errors;
        limits.error_delay = Duration::ZERO;
        limits.commands_without_progress = of_model.idle_commands;
        limits.transactions = of_model.transactions;
        limits.message_octets = MESSAGE_LIMIT_OCTETS;
        let hostname = Domain::parse("mx.example.org").expect("a domain");
        let config = Arc::new(SessionConfig { limits, protocol, ..SessionConfig::new(hostname) });
        let client = "192.0.2.1:4711".parse().expect("an address");
        let server = "192.0.2.2:25".parse().expect("an address");
        let connection = Arc::new(Connection::new(SessionId::new(1), client, server));
        Self { session: ServerSession::new(config, connection, now), protocol, delivered: Vec::new(), now }
    }

    /// The replies to a command, content included where it is asked for.
    pub(crate) fn step(&mut self, command: Command, verdict: Verdict) -> String {
        let mut line = command.line();
        if self.protocol.is_lmtp() && command == Command::Ehlo {
            line[..4].copy_from_slice(b"LHLO");
        }
        let mut replies = self.write(&line, command, verdict);
        if let Command::Data(content) = command
            && replies.last().is_some_and(|reply| reply == "354")
        {
            replies.extend(self.write(&content.octets(), command, verdict));
        }
        replies.join(" ")
    }

    /// Reverse-path and recipients of the open transaction.
    pub(crate) fn envelope(&self) -> Option<(String, Vec<String>)> {
        self.session.transaction().map(envelope)
    }

    fn write(&mut self, mut input: &[u8], command: Command, verdict: Verdict) -> Vec<String> {
        for _ in 0..MOST_STEPS {
            match self.session.poll(self.now, &mut input) {
                Some(Step::Content(_)) => {}
                Some(Step::Ask(question)) => self.answer(question, command, verdict),
                None => {
                    let replies = codes(self.session.output());
                    self.session.output_written();
                    return replies;
                }
            }
        }
        panic!("the session does not come to rest behind {command:?}");
    }

    fn answer(&mut self, question: Question, command: Command, verdict: Verdict) {
        let (session, now) = (&mut self.session, self.now);
        let policy = |stage| match verdict {
            Verdict::Refuse(no) => smtp_core::Verdict::Refuse(refusal(no, stage)),
            Verdict::Exempt => smtp_core::Verdict::Exempt,
            _ => smtp_core::Verdict::Continue,
        };
        match question {
            Question::Connect(ask) => session.answer(now, ask, policy(1).into()),
            Question::Helo(ask) => session.answer(now, ask, policy(2).into()),
            Question::Mail(ask) => session.answer(now, ask, policy(3).into()),
            Question::Lookup(ask) => session.answer(now, ask, lookup(command)),
            Question::Recipient(ask) => session.answer(now, ask, policy(4).into()),
            Question::Room(ask) => {
                let room = if verdict == Verdict::NoRoom { Err(Refusal::insufficient_storage()) } else { Ok(()) };
                session.answer(now, ask, room);
            }
            Question::Message(ask) => session.answer(now, ask, policy(5).into()),
            Question::Deliver(mut ask) => {
                let transaction = ask.take_transaction().expect("it is there once");
                let result = match verdict {
                    Verdict::NotTaken(no) => Err(refusal(no, 6)),
                    Verdict::Exempt => Ok(Accepted::queued("17")),
                    _ => Ok(Accepted::all()),
                };
                if result.is_ok() {
                    self.delivered.push(envelope(&transaction));
                }
                session.answer(now, ask, result);
            }
            other => panic!("a question that the model does not know: {other:?}"),
        }
    }
}

fn envelope(transaction: &Transaction) -> (String, Vec<String>) {
    let recipients = transaction.recipients().iter().map(|recipient| recipient.path().to_string()).collect();
    (transaction.reverse_path().to_string(), recipients)
}

/// `451 4.7.stage` or `550 5.7.stage`; the greeting's own are told apart by their code.
fn refusal(no: No, stage: u16) -> Refusal {
    let of_class = if no.is_permanent { Refusal::permanent } else { Refusal::transient };
    let mut refusal = of_class(7, stage, "No");
    if no.is_immediate {
        refusal = refusal.immediately();
    }
    if no.closes { refusal.and_close() } else { refusal }
}

fn lookup(command: Command) -> LookupAnswer {
    let Command::Rcpt(rcpt) = command else { panic!("a lookup at {command:?}") };
    let lookup = match rcpt {
        // RFC 5321 §4.5.1: <postmaster> is accepted although the directory does not know it.
        Rcpt::Unknown | Rcpt::UnknownRole | Rcpt::Postmaster => Ok(Lookup::Unknown),
        Rcpt::NotLocal => Ok(Lookup::NotLocal),
        Rcpt::LookupFails | Rcpt::PostmasterLookupFails => Err(LookupError::new("the directory is down")),
        _ => Ok(Lookup::Mailbox),
    };
    LookupAnswer { lookup, is_role: matches!(rcpt, Rcpt::Role | Rcpt::UnknownRole) }
}

/// Reply code and enhanced status code of each reply.
fn codes(wire: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(wire).expect("replies are ASCII");
    let last_lines = text.split_terminator("\r\n").filter(|line| line.as_bytes().get(3) == Some(&b' '));
    last_lines
        .map(|line| match line.as_bytes().get(4..9) {
            Some([b'2' | b'4' | b'5', b'.', _, b'.', _]) => line[..9].to_owned(),
            _ => line[..3].to_owned(),
        })
        .collect()
}
