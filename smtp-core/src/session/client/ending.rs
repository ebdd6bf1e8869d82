//! How messages and the session end: each message in one report, whatever happens (SECURITY D-35).

use std::time::Instant;

use crate::syntax::reply::Reply;

use super::report::{SendCause, SendError, SendStage};
use super::{Awaited, ClientSession, State};

impl ClientSession {
    /// The server has the message, or has refused it; the transaction is over on both sides.
    pub(super) fn content_answered(&mut self, reply: Reply) {
        let closes = reply.code().get() == 421;
        let error = closes.then(|| SendError::new(SendStage::EndOfContent, SendCause::Refused(reply.clone())));
        self.report = Some(self.transaction.answered(reply));
        self.content.clear();
        self.state = State::Ready;
        if closes {
            self.shut(error);
        }
    }

    /// In LMTP, the server has the message of one recipient, or has refused it; after the last one the transaction is over.
    pub(super) fn content_answered_for(&mut self, index: usize, reply: Reply) {
        self.transaction.tell(index, reply);
        if self.outstanding.is_empty() {
            self.report =
                Some(self.transaction.ended(SendError::new(SendStage::EndOfContent, SendCause::Closed), false));
            self.content.clear();
            self.state = State::Ready;
        }
    }

    /// Both sides are in step, so what was said in the failed transaction can be believed.
    pub(super) fn reset_done(&mut self) {
        let reason = SendError::new(SendStage::Rset, SendCause::NotUsable);
        let has_quit = self.transaction.has_accepted();
        self.report = Some(self.transaction.ended(reason, false));
        if has_quit {
            self.close();
        } else {
            self.state = State::Ready;
        }
    }

    /// The server ends the session by a reply.
    pub(super) fn refused(&mut self, awaited: Awaited, reply: Reply) {
        self.end(SendError::new(awaited.stage(), SendCause::Refused(reply)));
    }

    /// The content cannot be sent. Before `MAIL` that is all; later the server must never see its end.
    pub(super) fn content_broken(&mut self, now: Instant, cause: SendCause) {
        self.waiting_since = now;
        if self.state == State::Gathering {
            let error = SendError::new(SendStage::Local, cause);
            self.report = Some(self.transaction.spoilt(&error, false));
            self.content.clear();
            self.state = State::Ready;
        } else {
            self.end(SendError::new(SendStage::Content, cause));
        }
    }

    /// The session ends; replies that came before still count.
    pub(super) fn end(&mut self, error: SendError) {
        match self.state {
            State::Closed => return,
            State::Opening | State::Handshake | State::Ready | State::Quitting => {}
            State::Gathering => self.report = Some(self.transaction.spoilt(&error, self.is_stale())),
            State::Envelope | State::Content | State::Resetting => {
                let is_stale = self.is_stale();
                self.report = Some(self.transaction.ended(error.clone(), is_stale));
            }
        }
        self.shut((self.state != State::Quitting).then_some(error));
    }

    /// Client and server are out of step: the session ends, and nothing that was said about the message counts.
    pub(super) fn distrust(&mut self, stage: SendStage, cause: SendCause) {
        let error = SendError::new(stage, cause);
        match self.state {
            State::Opening | State::Handshake | State::Ready | State::Quitting | State::Closed => {}
            State::Gathering | State::Envelope | State::Content | State::Resetting => {
                let is_stale = self.is_stale();
                self.report = Some(self.transaction.spoilt(&error, is_stale));
            }
        }
        self.shut((self.state != State::Quitting).then_some(error));
    }

    /// After `QUIT` was answered.
    pub(super) fn close(&mut self) {
        self.shut(None);
    }

    fn shut(&mut self, error: Option<SendError>) {
        self.error = error;
        self.state = State::Closed;
        self.outstanding.clear();
        self.discard_output();
        self.content.clear();
    }

    /// A connection that had served before, and was gone before the server said anything about this message.
    fn is_stale(&self) -> bool {
        let before = self.messages - u64::from(self.state != State::Gathering);
        before > 0 && !self.transaction.is_answered
    }
}
