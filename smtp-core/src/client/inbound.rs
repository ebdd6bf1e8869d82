//! What was read from a server and not yet taken by the session.

/// Octets that are read at a time: a group of replies.
const BUFFER_OCTETS: usize = 8 << 10;

/// A buffer that stays with its connection.
#[derive(Debug)]
pub(super) struct Inbound {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self { octets: vec![0; BUFFER_OCTETS].into(), start: 0, end: 0 }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    pub(super) fn consume(&mut self, octets: usize) {
        self.start += octets;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The free part behind the unread octets.
    pub(super) fn free(&mut self) -> &mut [u8] {
        &mut self.octets[self.end..]
    }

    pub(super) fn filled(&mut self, octets: usize) {
        self.end += octets;
    }
}
