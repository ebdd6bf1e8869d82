//! Chunks: `BDAT`, which counts the octets of content (RFC 3030 §2). What is done with the content stands in [`content`].
//!
//! Content must never be read as commands. So the octets of a chunk that is refused are read too, dropped, and only then
//! answered; where there are more of them than a message may have, the session ends instead, and it ends at once where
//! nobody knows how many there are (SECURITY D-14). A chunk that is refused ends its transaction: whatever was sent
//! behind it must not become a message in which it is missing.
//!
//! [`content`]: super::content

use std::time::Instant;

use crate::session::content_phase::ContentPhase;
use crate::session::decision::{Question, Refusal};
use crate::session::event::{CloseReason, Stage};
use crate::session::replies::{self, Fixed};
use crate::syntax::chunk::Chunk;
use crate::syntax::parameter::Body;
use crate::syntax::text::SafeText;

use super::{ServerSession, State};

/// What is known of the chunks of a transaction.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The first one, while room is made for it.
    pub(super) first: Option<Chunk>,
    /// How many there were, and the octets that they announced.
    count: u32,
    octets: u64,
    /// The content that is arriving is that of a chunk that is refused.
    refused: Option<Box<RefusedChunk>>,
    /// One was, and nothing but chunks came since: what still comes may have been on its way.
    pub(super) one_was_refused: bool,
}

impl Chunks {
    /// The transaction is over.
    pub(super) fn end(&mut self) {
        *self = Self { one_was_refused: self.one_was_refused, ..Self::default() };
    }
}

/// A chunk without a place: what is said behind its octets, and where the session goes on then.
#[derive(Debug)]
struct RefusedChunk {
    answer: Answer,
    /// How often it is said: in LMTP, behind the last chunk, once for each recipient (RFC 2033 §4.3).
    replies: usize,
    next: State,
}

#[derive(Debug)]
enum Answer {
    /// It is an error of the client.
    Error(Fixed),
    /// It achieves nothing.
    Idle(Fixed),
    /// There is no room.
    Refusal(Refusal),
}

impl ServerSession {
    pub(super) fn bdat(&mut self, now: Instant, chunk: Chunk) {
        let has_recipients = self.transaction.as_ref().is_some_and(|it| !it.recipients().is_empty());
        match self.state {
            _ if self.demands_tls() => self.refuse_chunk(now, chunk, Answer::Error(replies::START_TLS_FIRST)),
            State::Connected => self.refuse_chunk(now, chunk, Answer::Error(self.greet_first())),
            State::Envelope | State::Chunks if !self.is_esmtp() => {
                self.refuse_chunk(now, chunk, Answer::Error(replies::NOT_OFFERED));
            }
            State::Envelope if !has_recipients => {
                self.refuse_chunk(now, chunk, Answer::Idle(self.no_valid_recipients()));
            }
            State::Envelope => self.first_chunk(chunk),
            State::Chunks => {
                if self.admit_chunk(chunk) {
                    self.begin_chunk(now, chunk);
                }
            }
            // RFC 3030 §2: chunks that were on their way when one before them was refused are nobody's error.
            _ if self.chunks.one_was_refused => {
                self.refuse_chunk(now, chunk, Answer::Idle(replies::BAD_SEQUENCE));
            }
            _ => self.refuse_chunk(now, chunk, Answer::Error(replies::BAD_SEQUENCE)),
        }
    }

    fn first_chunk(&mut self, chunk: Chunk) {
        if self.admit_chunk(chunk) {
            let declared = self.transaction.as_ref().and_then(|transaction| transaction.parameters().size_octets);
            let is_whole = chunk.is_last && chunk.octets <= self.config.limits.message_octets;
            self.chunks.first = Some(chunk);
            self.ask(Question::Room, declared.or(is_whole.then_some(chunk.octets)));
        }
    }

    /// RFC 3030 §2: `DATA` and `BDAT` are never mixed in a transaction. What a client means that does is not known, so
    /// nothing of it becomes a message.
    pub(super) fn data_behind_chunks(&mut self, now: Instant, line: &[u8]) {
        self.end_transaction();
        self.error(now, Stage::Content, replies::BAD_SEQUENCE, line);
    }

    /// Nobody knows how much follows the line, or whether any of it is meant as commands.
    pub(super) fn bad_chunk(&mut self, line: &[u8]) {
        self.refused_fixed(Stage::Content, replies::BAD_ARGUMENT, line);
        self.close(CloseReason::Violation, Some(replies::BAD_ARGUMENT));
    }

    /// Whether the chunk is within what a message may have: `false` where the session has ended for it.
    fn admit_chunk(&mut self, chunk: Chunk) -> bool {
        let limits = &self.config.limits;
        self.chunks.count += 1;
        self.chunks.octets = self.chunks.octets.saturating_add(chunk.octets);
        let is_too_small = self.chunks.count > limits.chunks_before_average
            && self.chunks.octets < limits.chunk_octets_on_average.saturating_mul(self.chunks.count.into());
        // What is too large is read to its end, but not without end: one message that counts, one that is dropped.
        let is_endless = self.chunks.octets > limits.message_octets.saturating_mul(2);
        let reply = if self.chunks.count > limits.chunks || is_too_small {
            replies::TOO_MANY_CHUNKS
        } else if is_endless {
            replies::MESSAGE_TOO_LARGE
        } else {
            return true;
        };
        self.refused_fixed(Stage::Content, reply, &[]);
        self.close(CloseReason::Limit, Some(reply));
        false
    }

    /// There is room for the content that begins with this chunk, or there is none.
    pub(super) fn room_for_chunk(&mut self, now: Instant, chunk: Chunk, room: Result<(), Refusal>) {
        if let Err(refusal) = room {
            return self.refuse_chunk(now, chunk, Answer::Refusal(refusal));
        }
        let body = self.transaction.as_ref().and_then(|transaction| transaction.parameters().body);
        self.content = Some(Box::new(ContentPhase::chunks(now, body == Some(Body::BinaryMime))));
        self.begin_chunk(now, chunk);
    }

    fn begin_chunk(&mut self, now: Instant, chunk: Chunk) {
        if let Some(content) = &mut self.content {
            content.begin_chunk(now, self.waiting_since, chunk);
            self.state = State::Content;
        }
    }

    /// Drops what follows, and then answers; or closes, where that would be too much.
    fn refuse_chunk(&mut self, now: Instant, chunk: Chunk, answer: Answer) {
        let recipients = self.transaction.as_ref().map_or(0, |transaction| transaction.recipients().len());
        let replies = if chunk.is_last && self.config.protocol.is_lmtp() { recipients.max(1) } else { 1 };
        let next = if self.state == State::Connected { State::Connected } else { State::Ready };
        self.end_transaction();
        if chunk.octets > self.config.limits.message_octets {
            let fixed = match answer {
                Answer::Error(fixed) | Answer::Idle(fixed) => fixed,
                Answer::Refusal(_) => replies::MESSAGE_TOO_LARGE,
            };
            self.refused_fixed(Stage::Content, fixed, &[]);
            return self.close(CloseReason::Limit, Some(fixed));
        }
        self.chunks.one_was_refused = !chunk.is_last;
        self.chunks.refused = Some(Box::new(RefusedChunk { answer, replies, next }));
        self.content = Some(Box::new(ContentPhase::chunks(now, true)));
        self.begin_chunk(now, chunk);
    }

    /// The octets of a chunk have come.
    pub(super) fn chunk_ended(&mut self, now: Instant) {
        self.waiting_since = now;
        if let Some(refused) = self.chunks.refused.take() {
            self.content = None;
            self.state = refused.next;
            return match refused.answer {
                Answer::Error(fixed) => self.error(now, Stage::Content, fixed, b"BDAT"),
                Answer::Idle(fixed) => {
                    self.refused_fixed(Stage::Content, fixed, b"BDAT");
                    self.idle_command(|session| session.say_fixed(fixed));
                }
                Answer::Refusal(refusal) => {
                    self.refused(Stage::Content, SafeText::default(), refusal.reply(), None, false);
                    for _ in 1..refused.replies {
                        self.say(refusal.reply());
                    }
                    self.say_refusal(&refusal);
                }
            };
        }
        let Some(content) = &self.content else { return };
        if content.is_complete() {
            self.content_ended(now);
        } else if content.fault().is_some() {
            self.content_ended(now);
            self.chunks.one_was_refused = true;
        } else {
            self.state = State::Chunks;
            self.say_fixed(replies::CHUNK_OK);
        }
    }
}
