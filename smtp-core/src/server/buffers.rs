//! Read buffers, lent out only while octets move: an idle connection has none.

use std::sync::{Arc, Mutex, PoisonError};

/// Octets of one buffer: what is read at a time.
const BUFFER_OCTETS: usize = 64 << 10;
/// How many buffers are kept for the next connection that reads.
const KEPT_BUFFERS: usize = 64;

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Mutex<Vec<Box<[u8]>>>,
}

impl BufferPool {
    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        let octets = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let octets = octets.unwrap_or_else(|| vec![0; BUFFER_OCTETS].into());
        Buffer { octets, start: 0, end: 0, pool: self.clone() }
    }
}

/// A buffer with unread octets in it. Goes back to its pool when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    octets: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Arc<BufferPool>,
}

impl Buffer {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.octets[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, octets: usize) {
        self.start += octets;
    }

    /// The free part behind the unread octets; these move to the front if that makes room.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.octets.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.octets[self.end..]
    }

    pub(crate) fn filled(&mut self, octets: usize) {
        self.end += octets;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let octets = std::mem::take(&mut self.octets);
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_BUFFERS {
            free.push(octets);
        }
    }
}
