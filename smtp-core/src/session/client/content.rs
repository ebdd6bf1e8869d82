//! Content on its way out: at most one block of it is held, ready for the wire.
//!
//! The first block is filled before `MAIL` is sent. So content that fits in it is known to be whole and free of defects
//! before the server hears of it, and it leaves in one write when the server is ready.

use std::io;

use crate::syntax::content::DataEncoder;

use super::report::SendCause;

/// Octets of content that are taken into one block.
pub(crate) const BLOCK_OCTETS: usize = 64 << 10;

/// The content of the current message.
#[derive(Debug, Default)]
pub(super) struct OutgoingContent {
    /// Encoded octets that are not yet output. Its memory is kept from one message to the next.
    block: Vec<u8>,
    /// Octets of content in the block.
    in_block: usize,
    encoder: Option<DataEncoder>,
    declared_octets: u64,
    taken_octets: u64,
    /// Octets that the end of the content adds to it: the CRLF of a last line that has none.
    added_octets: u64,
}

impl OutgoingContent {
    pub(super) fn begin(&mut self, declared_octets: u64) {
        self.clear();
        self.encoder = Some(DataEncoder::new());
        self.declared_octets = declared_octets;
    }

    /// Nothing of it is needed any more.
    pub(super) fn clear(&mut self) {
        self.block.clear();
        self.in_block = 0;
        self.encoder = None;
        self.declared_octets = 0;
        self.taken_octets = 0;
        self.added_octets = 0;
    }

    /// Whether all of it, with its end, was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.encoder.is_none()
    }

    /// Whether there is room in the block for more.
    pub(super) fn wants_more(&self) -> bool {
        !self.has_ended() && self.in_block < BLOCK_OCTETS
    }

    /// What `SIZE=` says (RFC 1870 §3).
    pub(super) fn size_octets(&self) -> u64 {
        self.declared_octets + self.added_octets
    }

    /// Takes octets from the front of `chunk`, as many as there is room for.
    pub(super) fn take(&mut self, chunk: &mut &[u8]) -> Result<(), SendCause> {
        let room = BLOCK_OCTETS.saturating_sub(self.in_block).min(chunk.len());
        let (piece, rest) = chunk.split_at(room);
        *chunk = rest;
        self.in_block += piece.len();
        self.taken_octets += piece.len() as u64;
        if self.taken_octets > self.declared_octets {
            return Err(SendCause::Source(io::ErrorKind::InvalidData));
        }
        match &mut self.encoder {
            Some(encoder) => encoder.encode(piece, &mut self.block).map_err(SendCause::Defect),
            None => Ok(()),
        }
    }

    /// The source has no more. Fewer octets than it said are half a message, which must not become a whole one.
    pub(super) fn end(&mut self) -> Result<(), SendCause> {
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        if self.taken_octets < self.declared_octets {
            return Err(SendCause::Source(io::ErrorKind::UnexpectedEof));
        }
        let before = self.block.len();
        encoder.finish(&mut self.block).map_err(SendCause::Defect)?;
        self.added_octets = (self.block.len() - before) as u64 - END.len() as u64;
        Ok(())
    }

    /// Makes the block the output, which is empty, and starts another.
    pub(super) fn move_block_to(&mut self, output: &mut Vec<u8>) {
        std::mem::swap(&mut self.block, output);
        self.block.clear();
        self.in_block = 0;
    }
}

/// A line that is one dot: an empty message, where the line before it is that of `DATA`.
pub(super) const END: &[u8] = b".\r\n";
