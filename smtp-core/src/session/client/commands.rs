//! What the client sends, and when (RFC 5321 §4.1.4, RFC 2920 §3.1).

use std::time::Instant;

use crate::session::limits::after;
use crate::syntax::deliver_by::ByMode;
use crate::syntax::parameter::Body;
use crate::syntax::path::{ForwardPath, ReversePath};

use super::content::{END, Way};
use super::envelope::Envelope;
use super::report::{SendCause, SendError, SendReport, SendStage};
use super::{Awaited, ClientSession, Outstanding, State};

/// Chunks that are sent without waiting for replies, where the server offers `PIPELINING`: enough to keep the network
/// busy, and few enough that little is sent in vain.
const CHUNKS_AHEAD: usize = 8;

impl ClientSession {
    /// Begins a message whose content has that many octets. [`ClientStep::Sent`](super::ClientStep::Sent) will end it,
    /// at once where the session is not [reusable](ClientSession::is_reusable) or the server cannot take the message.
    ///
    /// A message in progress is given up, and the session with it: whoever sent it has gone.
    pub fn begin(&mut self, now: Instant, envelope: &Envelope, octets: u64) {
        if !self.is_idle() {
            self.end(SendError::new(SendStage::Local, SendCause::NotUsable));
        }
        if envelope.recipients().is_empty() {
            self.report = Some(SendReport::new(Vec::new(), None, false));
            return;
        }
        if let Some(error) = self.impossible(envelope, octets) {
            let is_stale = error.is_transient() && self.messages > 0;
            self.report = Some(SendReport::failed(envelope.recipients().len(), &error, is_stale));
            return;
        }
        self.dialogue_until = after(now, self.limits.message(octets));
        self.waiting_since = now;
        self.transaction.begin(envelope, self.offers);
        if self.wants_each(envelope) {
            self.transaction.ask_for_each();
        }
        let way = match envelope.body() {
            Some(Body::BinaryMime) => Way::Binary,
            _ if self.prefers_chunks && self.offers.chunking() => Way::Chunks,
            _ => Way::Data,
        };
        self.content.begin(octets, way);
        self.state = State::Gathering;
    }

    /// Asks whether the server would take mail for that recipient, as a callout does: `MAIL FROM:<>`, `RCPT` and `RSET`, one at a
    /// time, and no message. [`ClientStep::Sent`](super::ClientStep::Sent) will end it, as a message: `Ok` is the reply to `RCPT`.
    pub fn begin_question(&mut self, now: Instant, recipient: &ForwardPath) {
        let envelope = Envelope::new(ReversePath::Null, [recipient.clone()]);
        if !self.is_idle() {
            self.end(SendError::new(SendStage::Local, SendCause::NotUsable));
        }
        if let Some(error) = self.impossible(&envelope, 0) {
            let is_stale = error.is_transient() && self.messages > 0;
            self.report = Some(SendReport::failed(1, &error, is_stale));
            return;
        }
        self.dialogue_until = after(now, self.limits.dialogue);
        self.waiting_since = now;
        self.transaction.begin(&envelope, self.offers);
        self.transaction.only_ask();
        self.messages += 1;
        self.state = State::Envelope;
        self.go_on(now);
    }

    /// Why a message cannot even be tried.
    fn impossible(&self, envelope: &Envelope, octets: u64) -> Option<SendError> {
        let local = |cause| Some(SendError::new(SendStage::Local, cause));
        if !self.is_reusable() {
            let idle = self.error.clone().filter(|error| error.stage() == SendStage::Idle && error.is_transient());
            return idle.or_else(|| local(SendCause::NotUsable));
        }
        if envelope.requires_tls() {
            if !(self.is_under_tls && self.is_tls_verified) {
                return local(SendCause::TlsNotVerified);
            }
            // RFC 8689 §5: a notification is not lost for want of the keyword; verified TLS it has to have.
            if !(self.offers.requiretls() || envelope.reverse_path().is_null()) {
                return local(SendCause::RequireTlsNotOffered);
            }
        }
        if envelope.body() == Some(Body::EightBitMime) && !self.offers.eight_bit_mime() {
            return local(SendCause::EightBit);
        }
        if !self.offers.smtputf8() {
            let has_no_one = envelope.recipients().iter().all(|recipient| recipient.to_ascii().is_none());
            if envelope.has_utf8_header() || envelope.reverse_path().to_ascii().is_none() || has_no_one {
                return local(SendCause::NotAscii);
            }
        }
        if !self.offers.rrvs() && (0..envelope.recipients().len()).all(|place| envelope.needs_rrvs(place)) {
            return local(SendCause::RrvsNotOffered);
        }
        if envelope.body() == Some(Body::BinaryMime) && !self.takes_binary() {
            return local(SendCause::Binary);
        }
        if let Some(by) = envelope.deliver_by().filter(|by| by.mode() == ByMode::Return) {
            if !self.offers.deliver_by() {
                return local(SendCause::DeliverByNotOffered);
            }
            let least = self.offers.deliver_by_minimum_seconds().unwrap_or(1);
            if u32::try_from(by.seconds()).map_or(true, |seconds| seconds < least) {
                return local(SendCause::TooLate);
            }
        }
        self.too_large(octets).and_then(local)
    }

    /// Whether the server takes content of any octets (RFC 3030 §3).
    fn takes_binary(&self) -> bool {
        self.offers.chunking() && self.offers.binarymime()
    }

    /// Whether it may still be said of the content that it is binary: before `MAIL`, to a server that takes it.
    pub(super) fn may_be_binary(&self) -> bool {
        self.state == State::Gathering && self.takes_binary()
    }

    fn too_large(&self, octets: u64) -> Option<SendCause> {
        let limit_octets = self.offers.size_limit_octets().filter(|&limit_octets| octets > limit_octets)?;
        Some(SendCause::TooLarge { octets, limit_octets })
    }

    /// Whether more content is wanted now; otherwise what is there becomes output.
    pub(super) fn wants_content(&mut self, now: Instant) -> bool {
        match self.state {
            State::Gathering if self.content.wants_more() => return true,
            State::Gathering => self.start_transaction(now),
            State::Content if self.is_early || !self.output().is_empty() || !self.may_send_content() => {}
            State::Content if self.content.wants_more() => return true,
            State::Content => self.send_block(now),
            _ => {}
        }
        false
    }

    pub(super) fn is_taking_content(&self) -> bool {
        let is_time = self.state == State::Gathering || (self.state == State::Content && self.may_send_content());
        is_time && self.content.wants_more()
    }

    /// Whether more content may be sent: by `DATA` until its end is sent, by `BDAT` while not too many chunks are without a
    /// reply, and none behind one that was refused (RFC 3030 §2).
    fn may_send_content(&self) -> bool {
        let is_ended = |command: &Outstanding| command.awaited.stage() == SendStage::EndOfContent;
        self.outstanding.is_empty() && !self.transaction.has_failed()
            || (self.content.way() != Way::Data
                && self.offers.pipelining()
                && !self.transaction.has_failed()
                && self.outstanding.len() < CHUNKS_AHEAD
                && !self.outstanding.back().is_some_and(is_ended))
    }

    fn start_transaction(&mut self, now: Instant) {
        let size_octets = self.content.size_octets();
        if let Some(cause) = self.too_large(size_octets) {
            return self.content_broken(now, cause);
        }
        if self.content.way() == Way::Binary {
            self.transaction.declare_binary();
        }
        self.transaction.set_size(self.offers, size_octets);
        self.messages += 1;
        self.state = State::Envelope;
        self.go_on(now);
    }

    /// Sends what may be sent: one group where the server offers `PIPELINING`, one command otherwise.
    pub(super) fn go_on(&mut self, now: Instant) {
        if self.has_refused_chunk() && self.outstanding.is_empty() {
            return self.reset(now);
        }
        if self.state != State::Envelope || !self.has_room() {
            return;
        }
        if self.output.is_empty() {
            self.waiting_since = now;
        }
        while self.transaction.has_more_lines() && self.may_send() {
            let Some((number, line)) = self.transaction.next_line() else { break };
            let awaited = number.checked_sub(1).map_or(Awaited::Mail, Awaited::Rcpt);
            self.output.extend_from_slice(line);
            self.issued += line.len() as u64;
            self.outstanding.push_back(Outstanding { awaited, end: self.issued });
        }
        if self.transaction.has_more_lines() || self.is_data_sent() {
            return;
        }
        if self.transaction.is_question() {
            if self.outstanding.is_empty() {
                self.reset(now);
            }
            return;
        }
        if self.content.way() != Way::Data && self.outstanding.is_empty() && self.is_wanted() {
            return self.start_chunks(now);
        }
        let is_by_data = self.content.way() == Way::Data;
        let may_be_taken = self.transaction.has_accepted() || !self.outstanding.is_empty();
        if is_by_data && !self.transaction.has_failed() && may_be_taken && self.may_send() {
            self.send(now, Awaited::Data, b"DATA\r\n");
            self.content_start = self.issued;
        } else if self.outstanding.is_empty() {
            self.reset(now);
        }
    }

    fn is_data_sent(&self) -> bool {
        self.outstanding.back().is_some_and(|command| command.awaited == Awaited::Data)
    }

    /// Half of a group must be answered before it is filled up, so that a long envelope goes in large writes.
    fn has_room(&self) -> bool {
        self.outstanding.len() <= self.limits.pipelined_commands / 2
            && self.octets_outstanding() <= self.limits.pipelined_octets / 2
    }

    fn may_send(&self) -> bool {
        let limits = &self.limits;
        self.outstanding.is_empty()
            || (self.offers.pipelining()
                && !self.transaction.is_question()
                && self.outstanding.len() < limits.pipelined_commands
                && self.octets_outstanding() < limits.pipelined_octets)
    }

    fn octets_outstanding(&self) -> u64 {
        self.issued - self.answered
    }

    /// Behind `354`: content, or the dot alone where nobody is to get it (RFC 2920 §3.1).
    pub(super) fn start_content(&mut self, now: Instant) {
        self.state = State::Content;
        self.waiting_since = now;
        if !self.is_wanted() {
            if self.protocol.is_lmtp() {
                // RFC 2033 §4.2: as many replies as recipients, so none could be waited for.
                return self.end(SendError::new(SendStage::Data, SendCause::NotUsable));
            }
            self.content.clear();
            self.send(now, Awaited::EndOfContent, END);
        }
    }

    /// Whether the server has refused a chunk, and with it the message.
    pub(super) fn has_refused_chunk(&self) -> bool {
        self.state == State::Content && self.content.way() != Way::Data && self.transaction.has_failed()
    }

    /// Whether somebody is to get the message, as far as is known.
    fn is_wanted(&self) -> bool {
        self.transaction.has_accepted() && !self.transaction.has_failed()
    }

    /// All recipients are answered, and the first chunk follows at once: `BDAT` has no reply to wait for before its octets.
    fn start_chunks(&mut self, now: Instant) {
        self.state = State::Content;
        self.content_start = self.issued;
        self.send_block(now);
    }

    fn send_block(&mut self, now: Instant) {
        self.content.move_block_to(&mut self.output);
        self.issued += self.output.len() as u64;
        self.waiting_since = now;
        if self.content.has_ended() {
            let end = self.issued;
            if self.protocol.is_lmtp() {
                let each = self.transaction.accepted_places().map(Awaited::EndOfContentFor);
                self.outstanding.extend(each.map(|awaited| Outstanding { awaited, end }));
            } else {
                self.outstanding.push_back(Outstanding { awaited: Awaited::EndOfContent, end });
            }
        } else if self.content.way() != Way::Data {
            self.outstanding.push_back(Outstanding { awaited: Awaited::Chunk, end: self.issued });
        }
    }

    /// The message has failed and the server may hold a part of it. The reply tells whether both sides are in step.
    fn reset(&mut self, now: Instant) {
        self.state = State::Resetting;
        self.content.clear();
        if self.transaction.has_accepted() {
            // Somebody was accepted and `DATA` was not: that is rare, and what it looks like when replies belong to
            // other commands. The reply to `RSET` could be one to `RCPT`; that to `QUIT` is like no other.
            self.send(now, Awaited::Quit, b"QUIT\r\n");
        } else {
            self.send(now, Awaited::Rset, b"RSET\r\n");
        }
    }

    pub(super) fn send_hello(&mut self, now: Instant, awaited: Awaited) {
        let verb = match awaited {
            Awaited::Ehlo if self.protocol.is_lmtp() => "LHLO",
            Awaited::Ehlo => "EHLO",
            _ => "HELO",
        };
        let line = format!("{verb} {}\r\n", self.name);
        self.send(now, awaited, line.as_bytes());
    }

    pub(super) fn send(&mut self, now: Instant, awaited: Awaited, line: &[u8]) {
        if self.output.is_empty() {
            self.waiting_since = now;
        }
        self.output.extend_from_slice(line);
        self.issued += line.len() as u64;
        self.outstanding.push_back(Outstanding { awaited, end: self.issued });
    }

    /// Whatever was to be written is not.
    pub(super) fn discard_output(&mut self) {
        self.output.clear();
        self.output_start = 0;
    }
}
