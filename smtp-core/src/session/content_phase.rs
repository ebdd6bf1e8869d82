//! Content while it arrives: what was counted, and what is wrong with it.

use std::time::{Duration, Instant};

use crate::message::header_section::HeaderSection;
use crate::syntax::content::{DataDecoder, Decoded};

use super::limits::{Limits, after};
use super::replies::{self, Fixed};

/// What [`ContentPhase::receive`] made of some input.
#[derive(Debug)]
pub(crate) enum Received<'i> {
    /// Octets to keep.
    Octets(&'i [u8]),
    /// The true end.
    End,
    /// The content was refused long ago and still does not end.
    Endless,
    /// More input is needed.
    Nothing,
}

/// From `354` to the end of the content.
#[derive(Debug)]
pub(crate) struct ContentPhase {
    decoder: DataDecoder,
    header: HeaderSection,
    octets: u64,
    fault: Option<Fixed>,
    drained_octets: u64,
    wire_octets: u64,
    started: Instant,
    last_octet: Instant,
}

impl ContentPhase {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            decoder: DataDecoder::new(),
            header: HeaderSection::new(),
            octets: 0,
            fault: None,
            drained_octets: 0,
            wire_octets: 0,
            started: now,
            last_octet: now,
        }
    }

    /// Octets of the content as RFC 1870 §3 counts them.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Why the content is refused; known for sure only at its end.
    pub(crate) fn fault(&self) -> Option<Fixed> {
        if self.is_defective() { Some(replies::BARE_CR_LF_NUL) } else { self.fault }
    }

    /// Whether its framing is such that the session cannot go on.
    pub(crate) fn is_defective(&self) -> bool {
        self.decoder.defect().is_some()
    }

    /// The driver could not keep what it was given.
    pub(crate) fn lose(&mut self, fault: Fixed) {
        self.fault.get_or_insert(fault);
    }

    pub(crate) fn receive<'i>(&mut self, now: Instant, limits: &Limits, input: &mut &'i [u8]) -> Received<'i> {
        while !input.is_empty() {
            self.last_octet = now;
            let was_refused = self.fault().is_some();
            let before = input.len();
            let decoded = self.decoder.next(input);
            let taken = (before - input.len()) as u64;
            self.wire_octets += taken;
            if was_refused {
                self.drained_octets += taken;
            }
            match decoded {
                Some(Decoded::End) => return Received::End,
                Some(Decoded::Content(octets)) if !was_refused => {
                    self.octets += octets.len() as u64;
                    self.header.watch(octets);
                    self.fault = self.excess(limits);
                    if self.fault.is_none() {
                        return Received::Octets(octets);
                    }
                }
                _ if self.drained_octets > limits.message_octets => return Received::Endless,
                _ => {}
            }
        }
        Received::Nothing
    }

    fn excess(&self, limits: &Limits) -> Option<Fixed> {
        if self.octets > limits.message_octets {
            Some(replies::MESSAGE_TOO_LARGE)
        } else if self.header.received_fields() > limits.received_fields {
            Some(replies::TOO_MANY_HOPS)
        } else if self.header.octets() > limits.header_octets || self.header.fields() > limits.header_fields {
            Some(replies::HEADER_TOO_LARGE)
        } else if self.header.starts_with_space() {
            Some(replies::CONTINUES_NOTHING)
        } else {
            None
        }
    }

    /// When the client will have paused too long, or been too slow on average; and what it is told then.
    pub(crate) fn deadline(&self, limits: &Limits) -> (Instant, Fixed) {
        let pause = after(self.last_octet, limits.content_timeout);
        let credit = Duration::from_secs(self.wire_octets / limits.content_octets_per_second.max(1));
        let slowness = after(self.started, limits.content_timeout.saturating_add(credit));
        if slowness < pause { (slowness, replies::TOO_SLOW) } else { (pause, replies::TIMEOUT_CONTENT) }
    }
}
