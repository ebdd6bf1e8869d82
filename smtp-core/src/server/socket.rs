//! What a listener accepts on, TCP or a socket in the file system, and what comes in there.

use std::io::{self, Write};
#[cfg(unix)]
use std::net::{IpAddr, Ipv4Addr};
use std::net::{Shutdown, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use crate::session::replies;

#[cfg(unix)]
use super::unix_socket::OwnedPath;

/// Connections that wait to be accepted, at most.
pub(super) const BACKLOG: u32 = 4096;
/// The address of both ends of a Unix socket, which have none.
#[cfg(unix)]
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A socket that is bound.
pub(super) enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(#[expect(dead_code, reason = "the file goes with the socket, when it is dropped")] OwnedPath, UnixListener),
}

/// A connection that was accepted.
pub(super) enum Arrived {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// Binds to the first address of `host:port` that can be had.
    pub(super) async fn tcp(address: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for resolved in lookup_host(address).await? {
            match listen(resolved) {
                Ok(listener) => return Ok(Self::Tcp(listener)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            #[cfg(unix)]
            Self::Unix(..) => Ok(LOCAL),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Arrived, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (Arrived::Tcp(stream), peer)),
            #[cfg(unix)]
            Self::Unix(_, listener) => listener.accept().await.map(|(stream, _)| (Arrived::Unix(stream), LOCAL)),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Arrived {
    /// Says why and half-closes. A new socket has room for one line, so this does not wait.
    pub(super) fn turn_away(self, reply: replies::Fixed) -> io::Result<Self> {
        let mut line = Vec::new();
        reply.reply().write_to(&mut line);
        Ok(match self {
            Self::Tcp(stream) => {
                let mut stream = stream.into_std()?;
                stream.write_all(&line)?;
                stream.shutdown(Shutdown::Write)?;
                Self::Tcp(TcpStream::from_std(stream)?)
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                let mut stream = stream.into_std()?;
                stream.write_all(&line)?;
                stream.shutdown(Shutdown::Write)?;
                Self::Unix(UnixStream::from_std(stream)?)
            }
        })
    }

    /// Reads what the client still sends, up to `most` octets, so that it can read the reply.
    pub(super) async fn discard(self, most: u64) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => discard(stream, most).await,
            #[cfg(unix)]
            Self::Unix(stream) => discard(stream, most).await,
        }
    }
}

async fn discard(stream: impl AsyncRead + Unpin, most: u64) -> io::Result<()> {
    let mut stream = stream.take(most);
    let mut octets = vec![0; 4096];
    while stream.read(&mut octets).await? > 0 {}
    Ok(())
}
