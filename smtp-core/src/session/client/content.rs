//! Content on its way out: at most one block of it is held, ready for the wire.
//!
//! The first block is filled before `MAIL` is sent. So content that fits in it is known to be whole and free of defects
//! before the server hears of it, and it leaves in one write when the server is ready.

use std::io;

use crate::syntax::chunk::TextCheck;
use crate::syntax::content::{DataDecoder, DataEncoder, Decoded, Defect};

use super::report::SendCause;

/// Octets of content that are taken into one block.
pub(crate) const BLOCK_OCTETS: usize = 64 << 10;

/// How content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Way {
    /// Lines, by `DATA`.
    #[default]
    Data,
    /// Lines, by `BDAT` (RFC 3030 §2).
    Chunks,
    /// Octets as they are, by `BDAT` (RFC 3030 §3).
    Binary,
}

#[derive(Debug)]
enum Encoding {
    Data(DataEncoder),
    Chunks(TextCheck),
    Binary,
}

/// The content of the current message.
#[derive(Debug, Default)]
pub(super) struct OutgoingContent {
    /// Encoded octets that are not yet output. Its memory is kept from one message to the next.
    block: Vec<u8>,
    /// Octets of content in the block.
    in_block: usize,
    way: Way,
    encoding: Option<Encoding>,
    declared_octets: u64,
    taken_octets: u64,
    /// Octets that the end of the content adds to it: the CRLF of a last line that has none.
    added_octets: u64,
}

impl OutgoingContent {
    pub(super) fn begin(&mut self, declared_octets: u64, way: Way) {
        self.clear();
        self.way = way;
        self.encoding = Some(match way {
            Way::Data => Encoding::Data(DataEncoder::new()),
            Way::Chunks => Encoding::Chunks(TextCheck::default()),
            Way::Binary => Encoding::Binary,
        });
        self.declared_octets = declared_octets;
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Nothing of it is needed any more.
    pub(super) fn clear(&mut self) {
        self.block.clear();
        self.in_block = 0;
        self.encoding = None;
        self.declared_octets = 0;
        self.taken_octets = 0;
        self.added_octets = 0;
    }

    /// Whether all of it, with its end, was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.encoding.is_none()
    }

    /// Whether there is room in the block for more.
    pub(super) fn wants_more(&self) -> bool {
        !self.has_ended() && self.in_block < BLOCK_OCTETS
    }

    /// What `SIZE=` says (RFC 1870 §3).
    pub(super) fn size_octets(&self) -> u64 {
        self.declared_octets + self.added_octets
    }

    /// Takes octets from the front of `chunk`, as many as there is room for. What is not lines goes as octets, where that
    /// may still be chosen.
    pub(super) fn take(&mut self, chunk: &mut &[u8], may_be_binary: bool) -> Result<(), SendCause> {
        let room = BLOCK_OCTETS.saturating_sub(self.in_block).min(chunk.len());
        let (piece, rest) = chunk.split_at(room);
        *chunk = rest;
        self.in_block += piece.len();
        self.taken_octets += piece.len() as u64;
        if self.taken_octets > self.declared_octets {
            return Err(SendCause::Source(io::ErrorKind::InvalidData));
        }
        let before = self.block.len();
        match self.encode(piece) {
            Err(_) if may_be_binary => {
                self.turn_binary(before);
                self.block.extend_from_slice(piece);
                Ok(())
            }
            encoded => encoded.map_err(SendCause::Defect),
        }
    }

    fn encode(&mut self, piece: &[u8]) -> Result<(), Defect> {
        match &mut self.encoding {
            Some(Encoding::Data(encoder)) => return encoder.encode(piece, &mut self.block),
            Some(Encoding::Chunks(text)) => {
                text.look(piece);
                self.block.extend_from_slice(piece);
                return text.defect().map_or(Ok(()), Err);
            }
            Some(Encoding::Binary) => self.block.extend_from_slice(piece),
            None => {}
        }
        Ok(())
    }

    /// So much of the block is lines, and what comes next is not (SECURITY D-2): all of it goes as it was given.
    fn turn_binary(&mut self, lines: usize) {
        self.block.truncate(lines);
        if let Some(Encoding::Data(_)) = self.encoding.replace(Encoding::Binary) {
            let encoded = std::mem::take(&mut self.block);
            let (mut rest, mut decoder) = (&encoded[..], DataDecoder::new());
            while let Some(Decoded::Content(octets)) = decoder.next(&mut rest) {
                self.block.extend_from_slice(octets);
            }
        }
        self.way = Way::Binary;
    }

    /// The source has no more. Fewer octets than it said are half a message, which must not become a whole one.
    pub(super) fn end(&mut self, may_be_binary: bool) -> Result<(), SendCause> {
        if self.taken_octets < self.declared_octets {
            return Err(SendCause::Source(io::ErrorKind::UnexpectedEof));
        }
        let before = self.block.len();
        let finished = match self.encoding.take() {
            Some(Encoding::Data(encoder)) => {
                let finished = encoder.finish(&mut self.block);
                self.added_octets = (self.block.len() - before).saturating_sub(END.len()) as u64;
                if finished.is_err() {
                    // What was encoded is undone where the content may go as it is.
                    self.encoding = Some(Encoding::Data(DataEncoder::new()));
                }
                finished
            }
            Some(Encoding::Chunks(mut text)) => {
                if !text.end() && text.defect().is_none() {
                    self.block.extend_from_slice(b"\r\n");
                    self.added_octets = 2;
                }
                text.defect().map_or(Ok(()), Err)
            }
            Some(Encoding::Binary) | None => Ok(()),
        };
        if finished.is_err() && may_be_binary {
            self.turn_binary(before);
            self.encoding = None;
            return Ok(());
        }
        finished.map_err(SendCause::Defect)
    }

    /// Makes the block the output, which is empty, and starts another. By `BDAT` it is a chunk, behind its command.
    pub(super) fn move_block_to(&mut self, output: &mut Vec<u8>) {
        if self.way == Way::Data {
            std::mem::swap(&mut self.block, output);
        } else {
            let last = if self.has_ended() { " LAST" } else { "" };
            output.extend_from_slice(format!("BDAT {}{last}\r\n", self.block.len()).as_bytes());
            output.extend_from_slice(&self.block);
        }
        self.block.clear();
        self.in_block = 0;
    }
}

/// A line that is one dot: an empty message, where the line before it is that of `DATA`.
pub(super) const END: &[u8] = b".\r\n";
