//! What arrives from a client, and the stream it arrives on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{Buffer, BufferPool};

/// A stream and the octets that were read from it and not used.
#[derive(Debug)]
pub(crate) struct Inbound<S> {
    pub(crate) stream: S,
    pool: Arc<BufferPool>,
    /// Only while there are unread octets.
    buffer: Option<Buffer>,
    has_ended: bool,
    has_failed: bool,
    /// The last read took all that there was room for.
    has_more: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbound<S> {
    pub(crate) fn new(stream: S, pool: Arc<BufferPool>) -> Self {
        Self { stream, pool, buffer: None, has_ended: false, has_failed: false, has_more: false }
    }

    /// The stream, where nothing was read ahead of its use.
    pub(crate) fn into_stream(self) -> Option<S> {
        let is_clean = self.unread().is_empty() && !self.has_ended && !self.has_failed;
        is_clean.then_some(self.stream)
    }

    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::unread)
    }

    pub(crate) fn consume(&mut self, octets: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.consume(octets);
            if buffer.unread().is_empty() {
                self.buffer = None;
            }
        }
    }

    /// Whether the client has closed its side.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the connection was lost.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Reads once; 0 octets at the end. Pending also where the buffer is full: whoever waits for room waits for
    /// something else too.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.has_ended || self.has_failed {
            return Poll::Ready(Ok(0));
        }
        // Not kept while the stream has nothing: `AsyncRead` must not have used a buffer when it is pending.
        let mut buffer = self.buffer.take().unwrap_or_else(|| self.pool.take());
        let free = buffer.free();
        let room = free.len();
        let read = if free.is_empty() {
            Poll::Pending
        } else {
            let mut read = ReadBuf::new(free);
            Pin::new(&mut self.stream).poll_read(cx, &mut read).map_ok(|()| read.filled().len())
        };
        if let Poll::Ready(Ok(octets)) = read {
            buffer.filled(octets);
            self.has_more = octets == room;
        }
        if !buffer.unread().is_empty() {
            self.buffer = Some(buffer);
        }
        let read = ready!(read);
        self.has_ended = matches!(read, Ok(0));
        self.has_failed = read.is_err();
        Poll::Ready(read)
    }

    /// Whether there is probably more to read at once.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Reads ahead while something else is waited for, so that a client that leaves is noticed.
    pub(crate) fn poll_read_ahead(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Ok(1..)) = self.poll_read(cx) {}
    }
}
