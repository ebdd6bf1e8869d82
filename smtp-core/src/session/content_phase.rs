//! Content while it arrives: what was counted, and what is wrong with it.

use std::time::{Duration, Instant};

use crate::message::header_section::HeaderSection;
use crate::syntax::chunk::{Chunk, ChunkDecoder};
use crate::syntax::content::{DataDecoder, Decoded, Defect};

use super::limits::{Limits, after};
use super::replies::{self, Fixed};

/// What [`ContentPhase::receive`] made of some input.
#[derive(Debug)]
pub(crate) enum Received<'i> {
    /// Octets to keep.
    Octets(&'i [u8]),
    /// The true end, or that of a chunk.
    End,
    /// The content was refused long ago and still does not end.
    Endless,
    /// More input is needed.
    Nothing,
}

/// How the end of what arrives is known.
#[derive(Debug)]
enum Framing {
    /// By a line that is one dot (RFC 5321 §4.1.1.4).
    Data(DataDecoder),
    /// By its count; and whether this chunk is the last one (RFC 3030 §2).
    Chunks(ChunkDecoder, bool),
}

impl Framing {
    fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<Decoded<'i>> {
        match self {
            Self::Data(decoder) => decoder.next(input),
            Self::Chunks(decoder, _) => decoder.next(input),
        }
    }

    fn defect(&self) -> Option<Defect> {
        match self {
            Self::Data(decoder) => decoder.defect(),
            Self::Chunks(decoder, _) => decoder.defect(),
        }
    }
}

/// From `354`, or from the first chunk, to the end of the content.
#[derive(Debug)]
pub(crate) struct ContentPhase {
    framing: Framing,
    header: HeaderSection,
    octets: u64,
    lost: Option<Fixed>,
    excess: Option<Fixed>,
    wire_octets: u64,
    started: Instant,
    last_octet: Instant,
}

impl ContentPhase {
    /// Content that comes by `DATA`.
    pub(crate) fn data(now: Instant) -> Self {
        Self::new(now, Framing::Data(DataDecoder::new()))
    }

    /// Content that comes by `BDAT`, before its first chunk.
    pub(crate) fn chunks(now: Instant, is_binary: bool) -> Self {
        Self::new(now, Framing::Chunks(ChunkDecoder::new(is_binary), false))
    }

    fn new(now: Instant, framing: Framing) -> Self {
        Self {
            framing,
            header: HeaderSection::new(),
            octets: 0,
            lost: None,
            excess: None,
            wire_octets: 0,
            started: now,
            last_octet: now,
        }
    }

    /// The octets of a chunk follow. Time that the client took since `idle_since` to say so is not that of content.
    pub(crate) fn begin_chunk(&mut self, now: Instant, idle_since: Instant, chunk: Chunk) {
        self.started += now.saturating_duration_since(idle_since.max(self.last_octet));
        self.last_octet = now;
        if let Framing::Chunks(decoder, is_last) = &mut self.framing {
            decoder.begin(chunk.octets);
            *is_last = chunk.is_last;
        }
    }

    /// At the end of a chunk: whether it was the last one.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.framing, Framing::Chunks(_, true))
    }

    /// Whether the content comes in chunks.
    pub(crate) fn comes_in_chunks(&self) -> bool {
        matches!(self.framing, Framing::Chunks(..))
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
        self.framing.defect().is_some()
    }

    /// The driver could not keep what it was given.
    pub(crate) fn lose(&mut self, fault: Fixed) {
        self.lost.get_or_insert(fault);
    }

    pub(crate) fn receive<'i>(&mut self, now: Instant, limits: &Limits, input: &mut &'i [u8]) -> Received<'i> {
        let most_wire_octets = limits.message_octets.saturating_mul(2);
        while !input.is_empty() || self.comes_in_chunks() {
            if !input.is_empty() {
                self.last_octet = now;
            }
            // Cut where it would be endless, so that this depends on the octets and not on how they came. Of chunks that
            // was known before they came.
            let room = match self.framing {
                Framing::Data(_) => usize::try_from(most_wire_octets - self.wire_octets).unwrap_or(usize::MAX),
                Framing::Chunks(..) => usize::MAX,
            };
            if room == 0 {
                return Received::Endless;
            }
            let was_refused = self.fault().is_some();
            let mut part = &input[..room.min(input.len())];
            let before = part.len();
            let decoded = self.framing.next(&mut part);
            let taken = before - part.len();
            *input = &input[taken..];
            self.wire_octets += taken as u64;
            match decoded {
                Some(Decoded::End) => {
                    self.end();
                    return Received::End;
                }
                Some(Decoded::Content(octets)) => {
                    // Counted also behind a fault: which one is told depends on the whole content.
                    self.octets += octets.len() as u64;
                    self.header.watch(octets);
                    self.excess = self.excess(limits);
                    if !was_refused && self.excess.is_none() {
                        return Received::Octets(octets);
                    }
                }
                None if input.is_empty() => break,
                None => {}
            }
        }
        Received::Nothing
    }

    fn end(&mut self) {
        if let Framing::Chunks(decoder, true) = &mut self.framing {
            decoder.end();
        }
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
