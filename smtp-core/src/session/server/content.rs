//! Content: from `DATA`, or from the end of the last chunk, to the answer, where the transaction ends too.

use std::time::Instant;

use crate::session::content_phase::{ContentPhase, Received};
use crate::session::decision::{Accepted, Decision, Question, Refusal, Verdict, mildest};
use crate::session::event::{CloseReason, Stage};
use crate::session::replies::{self, Fixed};
use crate::session::transaction::Transaction;
use crate::syntax::parameter::Body;
use crate::syntax::text::SafeText;

use super::{ServerSession, Stages, State, Unspoken};

impl ServerSession {
    pub(super) fn data(&mut self, now: Instant) {
        self.expect_silence();
        let Some(transaction) = &self.transaction else { return };
        if transaction.parameters().body == Some(Body::BinaryMime) {
            return self.error(now, Stage::Content, replies::BAD_SEQUENCE, b"DATA");
        }
        if transaction.recipients().is_empty() {
            let refusal = self.no_valid_recipients();
            self.refused_fixed(Stage::Content, refusal, &[]);
            return self.idle_command(|session| session.say_fixed(refusal));
        }
        let size = transaction.parameters().size_octets;
        self.ask(Question::Room, size);
    }

    /// RFC 2033 §4.2: 503, not the 554 of RFC 5321 §3.3.
    pub(super) fn no_valid_recipients(&self) -> Fixed {
        if self.config.protocol.is_lmtp() { replies::NO_VALID_RECIPIENTS_LMTP } else { replies::NO_VALID_RECIPIENTS }
    }

    pub(crate) fn room_made(&mut self, now: Instant, _size: Option<u64>, room: Result<(), Refusal>) {
        if let Some(chunk) = self.chunks.first.take() {
            return self.room_for_chunk(now, chunk, room);
        }
        if let Err(refusal) = room {
            self.refused(Stage::Content, SafeText::default(), refusal.reply(), None, false);
            self.say_refusal(&refusal);
            return self.end_transaction();
        }
        self.content = Some(Box::new(ContentPhase::data(now)));
        if self.unspoken == Unspoken::Content {
            self.unspoken = Unspoken::Nothing;
        }
        self.state = State::Content;
        self.say_fixed(replies::START_CONTENT);
    }

    pub(super) fn receive_content<'i>(&mut self, now: Instant, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let content = self.content.as_mut()?;
        match content.receive(now, &self.config.limits, input) {
            Received::Octets(octets) => return Some(octets),
            Received::Nothing => {}
            Received::End if content.comes_in_chunks() => self.chunk_ended(now),
            Received::End => self.content_ended(now),
            Received::Endless => {
                let fault = content.fault().unwrap_or(replies::MESSAGE_TOO_LARGE);
                self.refused_fixed(Stage::Content, fault, &[]);
                self.answer_all(&fault.reply());
                self.close(CloseReason::Limit, None);
            }
        }
        None
    }

    pub(super) fn content_ended(&mut self, now: Instant) {
        self.waiting_since = now;
        let Some(content) = &self.content else { return };
        let is_defective = content.is_defective();
        if let Some(fault) = content.fault() {
            self.refused_fixed(Stage::Content, fault, &[]);
            self.answer_all(&fault.reply());
            self.end_transaction();
            if is_defective {
                self.close(CloseReason::Violation, None);
            }
            return;
        }
        if self.config.stages.contains(Stages::MESSAGE) {
            self.ask(Question::Message, ());
        } else {
            self.deliver();
        }
    }

    pub(crate) fn message_decided(&mut self, _now: Instant, (): (), mut decision: Decision) {
        let Some(transaction) = &self.transaction else { return };
        if transaction.answers_each() {
            self.owe();
            self.refuse_some(std::mem::take(&mut decision.changes.refused));
        } else if !matches!(decision.verdict, Verdict::Refuse(_)) {
            let refused: Vec<_> = decision.changes.refused.iter().map(|&(index, _)| index).collect();
            if (0..transaction.recipients().len()).all(|index| refused.contains(&index)) {
                let all = decision.changes.refused.iter().map(|(_, refusal)| refusal);
                decision.verdict = mildest(all).cloned().map_or(Verdict::Continue, Verdict::Refuse);
            }
        }
        let refusal = self.take_decision(Stage::Message, &mut decision, SafeText::default());
        if let Some(transaction) = &mut self.transaction {
            let rewriting = std::mem::take(&mut decision.changes.rewriting);
            transaction.apply(decision.changes);
            transaction.rewrite(rewriting);
        }
        match refusal {
            Some(refusal) => {
                self.conclude(&Err(refusal));
            }
            None => self.deliver(),
        }
    }

    /// Without those who were refused already, if somebody is left.
    pub(super) fn deliver(&mut self) {
        self.owe();
        let Some(mut transaction) = self.transaction.take() else { return };
        if !self.owed.is_empty() {
            transaction.leave_out(|place| self.is_refused(place));
        }
        // Where all of them were refused, the client keeps the message, and those that were added get it with the next attempt.
        if transaction.recipients_of_client() == 0 {
            self.conclude(&Ok(Accepted::all()));
        } else {
            self.ask(Question::Deliver, Some(transaction));
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "answers are given away")]
    pub(crate) fn delivered(
        &mut self,
        now: Instant,
        _transaction: Option<Box<Transaction>>,
        result: Result<Accepted, Refusal>,
    ) {
        if let Err(refusal) = &result {
            self.refused(Stage::Deliver, SafeText::default(), refusal.reply(), None, false);
        }
        if self.conclude(&result) {
            self.progress = now;
            self.errors = 0;
            self.idle_commands = 0;
        }
    }

    /// The one place where a transaction ends, however it does (SECURITY D-44).
    pub(super) fn end_transaction(&mut self) {
        self.transaction = None;
        self.transaction_id = None;
        self.content = None;
        self.owed = Vec::new();
        self.held.mail = None;
        self.chunks.end();
        if matches!(self.state, State::Envelope | State::Chunks | State::Content) {
            self.state = State::Ready;
        }
    }
}
