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
    lost: Option<Fixed>,
    excess: Option<Fixed>,
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
            lost: None,
            excess: None,
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
        if self.is_defective() { Some(replies::BARE_CR_LF_NUL) } else { self.lost.or(self.excess) }
    }

    /// Whether its framing is such that the session cannot go on.
    pub(crate) fn is_defective(&self) -> bool {
        self.decoder.defect().is_some()
    }

    /// The driver could not keep what it was given.
    pub(crate) fn lose(&mut self, fault: Fixed) {
        self.lost.get_or_insert(fault);
    }

    pub(crate) fn receive<'i>(&mut self, now: Instant, limits: &Limits, input: &mut &'i [u8]) -> Received<'i> {
        let most_wire_octets = limits.message_octets.saturating_mul(2);
        while !input.is_empty() {
            self.last_octet = now;
            // Cut where it would be endless, so that this depends on the octets and not on how they came.
            let room = usize::try_from(most_wire_octets - self.wire_octets).unwrap_or(usize::MAX);
            if room == 0 {
                return Received::Endless;
            }
            let was_refused = self.fault().is_some();
            let mut part = &input[..room.min(input.len())];
            let before = part.len();
            let decoded = self.decoder.next(&mut part);
            let taken = before - part.len();
            *input = &input[taken..];
            self.wire_octets += taken as u64;
            match decoded {
                Some(Decoded::End) => return Received::End,
                Some(Decoded::Content(octets)) => {
                    // Counted also behind a fault: which one is told depends on the whole content.
                    self.octets += octets.len() as u64;
                    self.header.watch(octets);
                    self.excess = self.excess(limits);
                    if !was_refused && self.excess.is_none() {
                        return Received::Octets(octets);
                    }
                }
                None => {}
            }
        }
        Received::Nothing
    }

    /// What exceeds a limit so far; of several, the one that the content would be refused for also if it were shorter.
    fn excess(&self, limits: &Limits) -> Option<Fixed> {
        if self.header.starts_with_space() {
            Some(replies::CONTINUES_NOTHING)
        } else if self.header.received_fields() > limits.received_fields {
            Some(replies::TOO_MANY_HOPS)
        } else if self.header.octets() > limits.header_octets || self.header.fields() > limits.header_fields {
            Some(replies::HEADER_TOO_LARGE)
        } else if self.octets > limits.message_octets {
            Some(replies::MESSAGE_TOO_LARGE)
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
