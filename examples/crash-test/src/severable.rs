//! A stream that can be cut: at once, or in the middle of what is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Cuts a [`Severable`].
#[derive(Debug)]
pub(crate) struct Knife {
    /// Octets that can still be read.
    left: AtomicU64,
}

impl Default for Knife {
    fn default() -> Self {
        Self { left: AtomicU64::new(u64::MAX) }
    }
}

impl Knife {
    /// Nothing is written any more, and nothing read behind that many octets.
    pub(crate) fn cut_behind(&self, octets: u64) {
        self.left.fetch_min(octets, Ordering::AcqRel);
    }

    fn take(&self, octets: usize) -> io::Result<()> {
        let left = self.left.load(Ordering::Acquire);
        if left == u64::MAX {
            return Ok(());
        }
        let rest = left.checked_sub(octets as u64);
        self.left.fetch_min(rest.unwrap_or(0), Ordering::AcqRel);
        rest.map(drop).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Severable<S> {
    stream: S,
    knife: Arc<Knife>,
}

impl<S> Severable<S> {
    /// Whole until the knife is used.
    pub(crate) fn new(stream: S, knife: Arc<Knife>) -> Self {
        Self { stream, knife }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) {
            let octets = buffer.filled().len() - before;
            if let Err(error) = this.knife.take(octets) {
                buffer.set_filled(before);
                return Poll::Ready(Err(error));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.knife.left.load(Ordering::Acquire) == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.get_mut().stream).poll_write(context, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_is_behind_the_cut_is_not_read() {
        let (mut peer, stream) = duplex(100);
        let knife = Arc::new(Knife::default());
        let mut stream = Severable::new(stream, knife.clone());
        let mut buffer = [0; 10];
        peer.write_all(b"12345").await.expect("room");
        assert_eq!(stream.read(&mut buffer).await.expect("whole"), 5);
        knife.cut_behind(7);
        peer.write_all(b"12345").await.expect("room");
        assert_eq!(stream.read(&mut buffer).await.expect("before the cut"), 5);
        stream.write_all(b"still there").await.expect("before the cut");
        peer.write_all(b"123").await.expect("room");
        assert!(stream.read(&mut buffer).await.is_err());
        assert!(stream.write_all(b"gone").await.is_err());
    }
}
