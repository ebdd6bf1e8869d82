//! What each reply means (RFC 5321 §4.2, §4.3.2).

use std::time::Instant;

use crate::syntax::reply::Reply;

use super::offers::Offers;
use super::report::{SendCause, SendError, SendStage};
use super::{Awaited, ClientSession, State};

impl ClientSession {
    /// Takes one reply, or all of the input.
    pub(super) fn receive(&mut self, now: Instant, input: &mut &[u8]) {
        if !self.replies.is_within_reply() {
            self.is_early = self.outstanding.front().is_none_or(|command| command.end > self.written);
            if self.is_early {
                // Whatever this is, nothing more is said to who speaks out of turn.
                self.discard_output();
            }
        }
        let is_starttls = self.outstanding.front().is_some_and(|command| command.awaited == Awaited::StartTls);
        let is_ehlo = self.outstanding.front().is_some_and(|command| command.awaited == Awaited::Ehlo);
        let is_auth = self.outstanding.front().is_some_and(|command| command.awaited == Awaited::Auth);
        let challenge =
            self.authenticating.as_mut().filter(|_| is_auth).map(|authenticating| &mut authenticating.challenge);
        let mut challenge = challenge;
        let offers = &mut self.offers;
        let reply = self.replies.next(input, self.limits.reply, |number, line| {
            if is_ehlo && number > 0 {
                offers.read_line(line);
            }
            if let Some(challenge) = &mut challenge {
                line.clone_into(challenge);
            }
        });
        match reply {
            None => {}
            Some(Err(error)) => self.distrust(self.stage(), SendCause::NoReply(error)),
            Some(Ok(reply)) if self.is_early => self.answered_early(reply),
            Some(Ok(reply)) => {
                let Some(command) = self.outstanding.pop_front() else { return };
                self.answered = command.end;
                self.waiting_since = now;
                if is_starttls && !input.is_empty() {
                    // SECURITY D-5: whoever put it there wants it to be read under TLS.
                    return self.distrust(SendStage::Tls, SendCause::Unsolicited);
                }
                if command.awaited == Awaited::Conclusion && !(input.is_empty() || input.starts_with(b"421")) {
                    // More replies than recipients: which of them is whose, nobody knows.
                    return self.distrust(SendStage::EndOfContent, SendCause::Unsolicited);
                }
                self.answered(now, command.awaited, reply);
            }
        }
    }

    /// The whole state machine.
    fn answered(&mut self, now: Instant, awaited: Awaited, reply: Reply) {
        use Awaited::{
            Auth, Chunk, Conclusion, Data, Ehlo, EndOfContent, EndOfContentFor, Greeting, Helo, Mail, Quit, Rcpt, Rset,
            StartTls,
        };
        self.transaction.is_answered |= self.state == State::Envelope && !is_farewell(&reply);
        match (awaited, reply.code().class()) {
            (Quit, 2) if self.state == State::Resetting && reply.code().get() == 221 => self.reset_done(),
            (Quit, _) if self.state != State::Resetting => self.close(),
            // RFC 3030 §2: behind a chunk that was refused the server may still have a transaction.
            (EndOfContent, 4 | 5) if self.has_refused_chunk() && !is_farewell(&reply) => {}
            (EndOfContent, 2 | 4 | 5) => self.content_answered(reply),
            (_, 4) if is_farewell(&reply) => self.refused(awaited, reply),
            (EndOfContentFor(index), 2 | 4 | 5) => self.content_answered_for(index, reply),
            (EndOfContent, 3) if self.is_for_each(&reply) => self.await_each(),
            (Conclusion, 2 | 4 | 5) => self.content_concluded(reply),

            (Greeting, 2) => {
                self.greeting = Some(reply);
                self.send_hello(now, Ehlo);
            }
            (Ehlo, 5) if may_know_helo(&reply) && !self.protocol.is_lmtp() => {
                self.offers = Offers::default();
                self.send_hello(now, Helo);
            }
            (Ehlo | Helo, 2) => self.introduced(now),
            (StartTls, 2) => self.state = State::Handshake,
            (StartTls, 4 | 5) if self.starttls == super::StartTls::IfOffered => self.authenticate(now),
            (Auth, 3) if reply.code().get() == 334 => self.challenged(now),
            (Auth, 2) => self.authenticated(reply),
            (Auth, 4 | 5) if self.has_cancelled() => self.broken(),
            (Greeting | Ehlo | Helo | StartTls | Auth, 4 | 5) => self.refused(awaited, reply),

            (Mail | Chunk, 2) => {}
            (Rcpt(index), 2) => self.transaction.accept(index, reply),
            (Rcpt(index), 4 | 5) => self.transaction.refuse(index, reply),
            (Data, 3) => self.start_content(now),
            (Mail | Data | Chunk, 4 | 5) => {
                self.transaction.fail(SendError::new(awaited.stage(), SendCause::Refused(reply)));
            }
            (Rset, 2) => self.reset_done(),
            (_, _) if self.state == State::Resetting => self.distrust(SendStage::Rset, SendCause::Misplaced(reply)),
            (_, _) => self.distrust(awaited.stage(), SendCause::Misplaced(reply)),
        }
        self.go_on(now);
    }

    /// The server has said what it offers.
    fn introduced(&mut self, now: Instant) {
        match (self.starttls, self.offers.starttls()) {
            (super::StartTls::IfOffered | super::StartTls::Required, true) => {
                self.send(now, Awaited::StartTls, b"STARTTLS\r\n");
            }
            (super::StartTls::Required, false) => {
                // SECURITY D-6: somebody between the two may have taken it out.
                self.end(SendError::new(SendStage::Tls, SendCause::TlsNotOffered));
            }
            _ => self.authenticate(now),
        }
    }

    /// A reply that began before anything was asked. `421` may always come (RFC 5321 §3.8), and a server may have seen
    /// enough of content before its end; nothing else is believed.
    fn answered_early(&mut self, reply: Reply) {
        let has_sent_content = self.state == State::Content && self.written > self.content_start;
        let stage = if has_sent_content { SendStage::Content } else { self.stage() };
        // In LMTP a reply is about one recipient, so of several nobody knows whom it means.
        let is_for_all = !self.protocol.is_lmtp() || self.transaction.accepted_places().count() == 1;
        if is_farewell(&reply) || (has_sent_content && is_for_all && matches!(reply.code().class(), 4 | 5)) {
            self.end(SendError::new(stage, SendCause::Refused(reply)));
        } else if has_sent_content {
            self.distrust(stage, SendCause::Misplaced(reply));
        } else {
            self.distrust(stage, SendCause::Unsolicited);
        }
    }
}

/// Whether the server closes the connection (RFC 5321 §3.8).
fn is_farewell(reply: &Reply) -> bool {
    reply.code().get() == 421
}

/// Whether `EHLO` may be what the server does not like (RFC 5321 §3.2): any 5yz but those that say that there is no
/// service here at all.
fn may_know_helo(reply: &Reply) -> bool {
    !matches!(reply.code().get(), 521 | 554)
}
