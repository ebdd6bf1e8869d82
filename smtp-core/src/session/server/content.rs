//! Content: from `DATA`, or from the end of the last chunk, to the answer, where the transaction ends too.

use std::time::Instant;

use crate::session::content_phase::{ContentPhase, Received};
use crate::session::decision::{Accepted, Decision, Question, Refusal, Verdict, mildest};
use crate::session::event::{CloseReason, Stage};
use crate::session::replies;
use crate::session::transaction::Transaction;
use crate::syntax::parameter::Body;
use crate::syntax::reply::Reply;
use crate::syntax::text::SafeText;

use super::{ServerSession, Stages, State};

impl ServerSession {
    pub(super) fn data(&mut self, now: Instant) {
        self.expect_silence();
        let Some(transaction) = &self.transaction else { return };
        if transaction.parameters().body == Some(Body::BinaryMime) {
            return self.error(now, Stage::Content, replies::BAD_SEQUENCE, b"DATA");
        }
        if transaction.recipients().is_empty() {
            self.refused_fixed(Stage::Content, replies::NO_VALID_RECIPIENTS, &[]);
            return self.idle_command(|session| session.say_fixed(replies::NO_VALID_RECIPIENTS));
        }
        let size = transaction.parameters().size_octets;
        self.ask(Question::Room, size);
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
                self.close(CloseReason::Limit, Some(fault));
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
            self.end_transaction();
            if is_defective {
                return self.close(CloseReason::Violation, Some(fault));
            }
            return self.say_fixed(fault);
        }
        if self.config.stages.contains(Stages::MESSAGE) {
            self.ask(Question::Message, ());
        } else {
            self.deliver();
        }
    }

    pub(crate) fn message_decided(&mut self, _now: Instant, (): (), mut decision: Decision) {
        let Some(transaction) = &self.transaction else { return };
        if !matches!(decision.verdict, Verdict::Refuse(_)) {
            let refused: Vec<_> = decision.changes.refused.iter().map(|&(index, _)| index).collect();
            if (0..transaction.recipients().len()).all(|index| refused.contains(&index)) {
                let all = decision.changes.refused.iter().map(|(_, refusal)| refusal);
                decision.verdict = mildest(all).cloned().map_or(Verdict::Continue, Verdict::Refuse);
            }
        }
        let refusal = self.take_decision(Stage::Message, &mut decision, SafeText::default());
        if let Some(transaction) = &mut self.transaction {
            transaction.apply(decision.changes);
        }
        match refusal {
            Some(refusal) => {
                self.end_transaction();
                self.say_refusal(&refusal);
            }
            None => self.deliver(),
        }
    }

    pub(super) fn deliver(&mut self) {
        let transaction = self.transaction.take();
        self.ask(Question::Deliver, transaction);
    }

    pub(crate) fn delivered(
        &mut self,
        now: Instant,
        _transaction: Option<Box<Transaction>>,
        result: Result<Accepted, Refusal>,
    ) {
        match result {
            Ok(accepted) => {
                self.end_transaction();
                self.progress = now;
                self.errors = 0;
                self.idle_commands = 0;
                match accepted.id() {
                    Some(id) => {
                        let reply = replies::MESSAGE_OK.reply();
                        let status = reply.status().expect("the table gives it one");
                        self.say(&Reply::new(reply.code(), status, format!("Ok: queued as {id}")));
                    }
                    None => self.say_fixed(replies::MESSAGE_OK),
                }
            }
            Err(refusal) => {
                self.refused(Stage::Deliver, SafeText::default(), refusal.reply(), None, false);
                self.end_transaction();
                self.say_refusal(&refusal);
            }
        }
    }

    /// The one place where a transaction ends, however it does (SECURITY D-44).
    pub(super) fn end_transaction(&mut self) {
        self.transaction = None;
        self.transaction_id = None;
        self.content = None;
        self.held.mail = None;
        self.chunks.end();
        if matches!(self.state, State::Envelope | State::Chunks | State::Content) {
            self.state = State::Ready;
        }
    }
}
