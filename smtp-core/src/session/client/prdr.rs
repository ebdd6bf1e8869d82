//! `PRDR` (draft-hall-prdr-00): behind the content a reply for each recipient, then one for the message, where the client
//! has asked for it and the server begins with `353`.
//!
//! What is said of the recipients counts once the message has its reply, and not before: a server may answer for each of
//! them before it keeps the message, and one that gives fewer or more replies than there are recipients has mixed them up.

use crate::syntax::reply::Reply;

use super::envelope::Envelope;
use super::{Awaited, ClientSession, Outstanding, State};

impl ClientSession {
    /// Whether `MAIL` asks for it: one recipient has its reply anyway, and in LMTP each has.
    pub(super) fn wants_each(&self, envelope: &Envelope) -> bool {
        self.asks_for_each && self.offers.prdr() && !self.protocol.is_lmtp() && envelope.recipients().len() > 1
    }

    /// Whether the reply to the content says that one for each recipient follows.
    pub(super) fn is_for_each(&self, reply: &Reply) -> bool {
        reply.code().get() == 353 && self.transaction.asks_for_each()
    }

    /// As many replies as recipients that were accepted, in the order of `RCPT`, and the one for the message.
    pub(super) fn await_each(&mut self) {
        self.transaction.await_conclusion();
        let each = self.transaction.accepted_places().map(Awaited::EndOfContentFor);
        let end = self.answered;
        self.outstanding.extend(each.chain([Awaited::Conclusion]).map(|awaited| Outstanding { awaited, end }));
    }

    /// The server has answered for each recipient, and now for the message.
    pub(super) fn content_concluded(&mut self, reply: Reply) {
        self.report = Some(self.transaction.concluded(reply));
        self.content.clear();
        self.state = State::Ready;
    }
}
