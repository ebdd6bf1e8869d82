//! What is said behind the content: one reply for the message, or in LMTP one for each recipient, in the order of `RCPT`
//! (RFC 2033 §4.2).
//!
//! With `PRDR` (draft-hall-prdr-00) `353` stands in front of these, and the reply for the message behind them; where one
//! reply says all, it is said alone.

use crate::session::decision::{Accepted, Refusal, mildest};
use crate::session::event::{CloseReason, Stage};
use crate::session::replies;
use crate::syntax::path::ForwardPath;
use crate::syntax::reply::Reply;
use crate::syntax::text::SafeText;

use super::ServerSession;

/// A recipient that waits for an answer of its own.
#[derive(Debug)]
pub(super) struct Owed {
    path: ForwardPath,
    /// It was refused once the content was seen; otherwise it depends on the delivery.
    refusal: Option<Refusal>,
}

impl ServerSession {
    /// Notes who is owed an answer, where each is: the transaction goes away before they get it.
    pub(super) fn owe(&mut self) {
        if let Some(transaction) = self.transaction.as_ref().filter(|transaction| transaction.answers_each())
            && self.owed.is_empty()
        {
            let paths = transaction.recipients().iter().map(|recipient| recipient.path().clone());
            self.owed = paths.map(|path| Owed { path, refusal: None }).collect();
        }
    }

    /// Policies refuse some of those who are owed an answer; of several refusals, the first counts.
    pub(super) fn refuse_some(&mut self, refused: Vec<(usize, Refusal)>) {
        for (place, refusal) in refused {
            let Some(owed) = self.owed.get_mut(place).filter(|owed| owed.refusal.is_none()) else { continue };
            owed.refusal = Some(refusal.clone());
            let subject = SafeText::new(owed.path.to_string());
            self.refused(Stage::Message, subject, refusal.reply(), None, false);
        }
    }

    pub(super) fn is_refused(&self, place: usize) -> bool {
        self.owed.get(place).is_some_and(|owed| owed.refusal.is_some())
    }

    /// Says the same once, or in LMTP once for each recipient. RFC 2033 §4.2: also where the message as a whole is refused. A
    /// chunk that is not the last one has one reply (§4.3).
    pub(super) fn answer_all(&mut self, reply: &Reply) {
        self.owe();
        let is_end = self.content.as_ref().is_none_or(|content| content.is_complete() || !content.comes_in_chunks());
        let replies = if is_end && self.config.protocol.is_lmtp() { self.owed.len() } else { 1 };
        for _ in 0..replies.max(1) {
            self.say(reply);
        }
    }

    /// Answers the message and ends the transaction. Whether somebody's copy was taken.
    pub(super) fn conclude(&mut self, result: &Result<Accepted, Refusal>) -> bool {
        self.owe();
        let is_lmtp = self.config.protocol.is_lmtp();
        let owed = std::mem::take(&mut self.owed);
        let is_uniform = result.is_err() && owed.iter().all(|owed| owed.refusal.is_none());
        let (is_taken, closes) = if owed.is_empty() || (is_uniform && !is_lmtp) {
            self.say(&reply_of(result));
            (result.is_ok(), result.as_ref().is_err_and(Refusal::closes))
        } else {
            let outcomes = self.outcomes(owed, result);
            let refusals = || outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            let is_taken = outcomes.iter().any(Result::is_ok);
            if !is_lmtp {
                self.say_fixed(replies::START_EACH);
            }
            for outcome in &outcomes {
                self.say(&outcome.as_ref().map_or_else(|refusal| refusal.reply().clone(), |()| reply_of(result)));
            }
            if !is_lmtp {
                let of_all = mildest(refusals()).filter(|_| !is_taken);
                self.say(&of_all.map_or_else(|| reply_of(result), |refusal| refusal.reply().clone()));
            }
            (is_taken, refusals().any(Refusal::closes))
        };
        self.end_transaction();
        if closes {
            self.finish(CloseReason::Refused);
        }
        is_taken
    }

    /// What becomes of each. Those refused before are not among the recipients that the delivery knows.
    fn outcomes(&mut self, owed: Vec<Owed>, result: &Result<Accepted, Refusal>) -> Vec<Result<(), Refusal>> {
        let mut place = 0;
        let mut outcomes = Vec::with_capacity(owed.len());
        for Owed { path, refusal } in owed {
            outcomes.push(match (refusal, result) {
                (Some(refusal), _) => Err(refusal),
                (None, Err(refusal)) => Err(refusal.clone()),
                (None, Ok(accepted)) => {
                    let outcome = accepted.outcome(place).map_err(Clone::clone);
                    place += 1;
                    if let Err(refusal) = &outcome {
                        let subject = SafeText::new(path.to_string());
                        self.refused(Stage::Deliver, subject, refusal.reply(), None, false);
                    }
                    outcome
                }
            });
        }
        outcomes
    }
}

/// `250`, with the identifier where there is one; or the refusal.
fn reply_of(result: &Result<Accepted, Refusal>) -> Reply {
    let accepted = match result {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.reply().clone(),
    };
    let reply = replies::MESSAGE_OK.reply();
    match (accepted.id(), reply.status()) {
        (Some(id), Some(status)) => Reply::new(reply.code(), status, format!("Ok: queued as {id}")),
        _ => reply,
    }
}
