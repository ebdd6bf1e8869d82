//! What RFC 5321 demands of a server, with the reply codes of STANDARDS R5321c, R5321e, R5321f, LI11, LI12, LI16 and
//! the rules of PRACTICES P3 and P7 for refusals that are held. Written from these texts and not from the code.
//!
//! Where the texts leave a choice, the model takes: the grammar of a line is looked at before its order; a permanent
//! held refusal is stronger than a transient one, then the earlier stage (P1); relaying denied and commands that are
//! not offered count as errors, as the unknown recipients of LI11 do; `DATA` without an accepted recipient leaves the
//! envelope as it is; it, `HELP`, each `EHLO` or `HELO` but the first, and a `MAIL` that is refused at once (also for
//! its size) count as commands without progress; an `EHLO` that is refused at once leaves the session where it was
//! (RFC 5321 §4.1.4). A chunk that is refused ends its transaction; those that follow it are no errors.

use smtp_core::TransferProtocol;

use crate::steps::Command::{self, Bdat, Connect, Data, Ehlo, Helo, Idle, Mail, Quit, Rcpt, Rset, Wrong};
use crate::steps::{Chunk, Content, MESSAGE_LIMIT_OCTETS, No, Verdict};

/// Reverse-path and accepted forward-paths.
pub(crate) type Envelope = (&'static str, Vec<&'static str>);

/// The whole state of a session.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is known of a session or not")]
pub(crate) struct Model {
    pub(crate) is_greeted: bool,
    pub(crate) is_closed: bool,
    pub(crate) envelope: Option<Envelope>,
    pub(crate) delivered: Vec<Envelope>,
    /// From connect, from EHLO, from MAIL; with the digit that tells them apart.
    held: [Option<(No, u8)>; 3],
    is_esmtp: bool,
    /// Chunks of the message, and their octets.
    pub(crate) chunks: (u32, u64),
    /// One was refused, and nothing but chunks came since.
    a_chunk_was_refused: bool,
    /// Refused ones too.
    ehlos: u32,
    errors: u32,
    idle_commands: u32,
    transactions: u32,
    limits: Limits,
    protocol: TransferProtocol,
}

/// What a session is allowed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) errors: u32,
    pub(crate) idle_commands: u32,
    pub(crate) transactions: u32,
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The same where LMTP is spoken: [`Ehlo`] stands for `LHLO` (RFC 2033 §4.1).
    pub(crate) fn of_lmtp(limits: Limits) -> Self {
        Self { protocol: TransferProtocol::Lmtp, ..Self::new(limits) }
    }

    /// The replies to one command, where policies, lookup and delivery say `verdict`.
    pub(crate) fn step(&mut self, command: Command, verdict: Verdict) -> String {
        if !matches!(command, Bdat(_)) {
            self.a_chunk_was_refused = false;
        }
        let refusal = if let Verdict::Refuse(no) = verdict { Some(no) } else { None };
        match (command, refusal.filter(|no| no.is_immediate)) {
            (Connect, Some(no)) => self.close(if no.is_permanent { "554 5.7.1" } else { "421 4.7.1" }),
            (Connect, None) => self.hold(0, refusal, "220"),
            (Quit, _) => self.close("221 2.0.0"),
            (Helo, _) if self.protocol.is_lmtp() => self.error("500 5.5.1"),
            (Wrong(line, _), _) if self.protocol.is_lmtp() && is_hello_of_smtp(line) => self.error("500 5.5.1"),
            (Wrong(_, reply), _) => self.error(reply),
            (Ehlo | Helo, _) if self.says_ehlo_again() && self.is_idle_for_too_long() => self.close("421 4.7.0"),
            (Idle(..) | Rset, _) if self.is_idle_for_too_long() => self.close("421 4.7.0"),
            (Idle(_, reply), _) => reply.into(),
            (Rset, _) => self.end("250 2.0.0"),
            (Ehlo | Helo, Some(no)) => self.refuse(no, 2),
            (Ehlo | Helo, None) => {
                self.end("");
                (self.is_greeted, self.is_esmtp) = (true, command == Ehlo);
                self.hold(1, refusal, "250")
            }
            (Mail(_), _) if !self.is_greeted || self.envelope.is_some() => self.error("503 5.5.1"),
            (Mail(_), _) if self.transactions == self.limits.transactions => self.close("421 4.7.0"),
            (Mail(mail), _) if mail.has_unknown_parameter(self.is_esmtp) => self.error("555 5.5.4"),
            (Mail(mail), now) if (mail.is_too_large() || now.is_some()) && self.is_idle_for_too_long() => {
                self.close("421 4.7.0")
            }
            (Mail(mail), _) if mail.is_too_large() => "552 5.3.4".into(),
            (Mail(_), Some(no)) => self.refuse(no, 3),
            (Mail(mail), None) => {
                self.transactions += 1;
                self.envelope = Some((mail.path(), vec![]));
                self.hold(2, refusal, "250 2.1.0")
            }
            (Bdat(chunk), _) => self.chunk(chunk, verdict),
            (Data(_), _) if self.chunks.0 > 0 => {
                self.end("");
                self.error("503 5.5.1")
            }
            (Rcpt(_), _) if self.chunks.0 > 0 => self.error("503 5.5.1"),
            (Rcpt(_) | Data(_), _) if self.envelope.is_none() => self.error("503 5.5.1"),
            (Rcpt(rcpt), _) => match (rcpt.fault(), self.strongest().or(refusal.map(|no| (no, 4)))) {
                (Some(transient), _) if transient.starts_with('4') => transient.into(),
                (Some(error), _) => self.error(error),
                (None, Some((no, stage))) if !rcpt.is_role() => self.refuse(no, stage),
                (None, _) => {
                    self.envelope.iter_mut().for_each(|envelope| envelope.1.push(rcpt.path()));
                    "250 2.1.5".into()
                }
            },
            (Data(_), _) if self.envelope.as_ref().is_some_and(|it| it.1.is_empty()) => {
                if self.is_idle_for_too_long() {
                    self.close("421 4.7.0")
                } else {
                    // RFC 2033 §4.2.
                    if self.protocol.is_lmtp() { "503 5.5.1" } else { "554 5.5.1" }.into()
                }
            }
            (Data(_), _) if verdict == Verdict::NoRoom => self.end("452 4.3.1"),
            (Data(content), _) => format!("354 {}", self.content(content, verdict, true)),
        }
    }

    /// All of the content is there.
    fn content(&mut self, content: Content, verdict: Verdict, is_last: bool) -> String {
        let replies = self.replies(is_last);
        let envelope = self.envelope.take();
        let reply = match (content, verdict) {
            (Content::Defective, _) => self.close("550 5.5.2"),
            (Content::TooLarge, _) => self.end("552 5.3.4"),
            (Content::Good, Verdict::Refuse(no)) => self.refuse(no, 5),
            (Content::Good, Verdict::NotTaken(no)) => self.refuse(no, 6),
            (Content::Good, _) => {
                self.delivered.extend(envelope);
                (self.errors, self.idle_commands) = (0, 0);
                "250 2.0.0".into()
            }
        };
        vec![self.end(&reply); replies].join(" ")
    }

    /// RFC 2033 §4.2, §4.3.
    fn replies(&self, is_last: bool) -> usize {
        let each = self.envelope.as_ref().filter(|_| is_last && self.protocol.is_lmtp());
        each.map_or(1, |envelope| envelope.1.len())
    }

    /// RFC 3030 §2, LI17.
    fn chunk(&mut self, chunk: Chunk, verdict: Verdict) -> String {
        let has_recipients = self.envelope.as_ref().map(|envelope| !envelope.1.is_empty());
        if !(self.is_greeted && has_recipients == Some(true) && self.is_esmtp) {
            let was_refused = std::mem::replace(&mut self.a_chunk_was_refused, !chunk.is_last());
            self.end("");
            let (reply, is_error) = match has_recipients {
                Some(_) if !self.is_esmtp => ("502 5.5.1", true),
                Some(_) if self.protocol.is_lmtp() => ("503 5.5.1", false),
                Some(_) => ("554 5.5.1", false),
                None => ("503 5.5.1", !self.is_greeted || !was_refused),
            };
            return match is_error {
                // LI18: more than a message may have is not drained.
                _ if chunk.octets() > MESSAGE_LIMIT_OCTETS => self.close(reply),
                true => self.error(reply),
                false if self.is_idle_for_too_long() => self.close("421 4.7.0"),
                false => reply.into(),
            };
        }
        let is_first = self.chunks.0 == 0;
        self.chunks = (self.chunks.0 + 1, self.chunks.1 + chunk.octets());
        if self.chunks.0 > 100 && self.chunks.1 < 512 * u64::from(self.chunks.0) {
            return self.close("421 4.7.0");
        }
        let content = match chunk {
            Chunk::TooLarge if is_first && verdict == Verdict::NoRoom => return self.close("552 5.3.4"),
            _ if is_first && verdict == Verdict::NoRoom => {
                self.a_chunk_was_refused = !chunk.is_last();
                let replies = self.replies(chunk.is_last());
                return vec![self.end("452 4.3.1"); replies].join(" ");
            }
            Chunk::First => return "250 2.0.0".into(),
            Chunk::Last => Content::Good,
            Chunk::Defective => Content::Defective,
            Chunk::TooLarge => Content::TooLarge,
        };
        self.a_chunk_was_refused = !chunk.is_last();
        self.content(content, verdict, chunk.is_last())
    }

    /// R5321d: what ends a transaction empties the envelope; what `MAIL` had held goes with it.
    fn end(&mut self, reply: &str) -> String {
        (self.envelope, self.held[2], self.chunks) = (None, None, (0, 0));
        reply.into()
    }

    fn close(&mut self, reply: &str) -> String {
        self.is_closed = true;
        self.end(reply)
    }

    /// LI11.
    fn error(&mut self, reply: &str) -> String {
        self.errors += 1;
        if self.errors > self.limits.errors { self.close("421 4.7.0") } else { reply.into() }
    }

    /// LI12.
    fn is_idle_for_too_long(&mut self) -> bool {
        self.idle_commands += 1;
        self.idle_commands > self.limits.idle_commands
    }

    fn says_ehlo_again(&mut self) -> bool {
        self.ehlos += 1;
        self.ehlos > 1
    }

    /// P3.
    fn hold(&mut self, stage: u8, refusal: Option<No>, reply: &str) -> String {
        self.held[usize::from(stage)] = refusal.map(|no| (no, stage + 1));
        reply.into()
    }

    pub(crate) fn strongest(&self) -> Option<(No, u8)> {
        let mut held = self.held.iter().flatten();
        held.clone().find(|(no, _)| no.is_permanent).or(held.next()).copied()
    }

    fn refuse(&mut self, no: No, stage: u8) -> String {
        let reply = if no.is_permanent { format!("550 5.7.{stage}") } else { format!("451 4.7.{stage}") };
        if no.closes { self.close(&reply) } else { reply }
    }
}

/// Whether a line is one of `EHLO` and `HELO`, right or wrong.
fn is_hello_of_smtp(line: &str) -> bool {
    line.get(..4).is_some_and(|verb| ["EHLO", "HELO"].iter().any(|hello| verb.eq_ignore_ascii_case(hello)))
}
