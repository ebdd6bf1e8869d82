//! From addresses to a connection: each in turn, each with its time limit (STANDARDS TO1).

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio::time::timeout;

use crate::session::client::report::{SendCause, SendError, SendStage};
use crate::syntax::text::SafeText;

use super::config::ClientConfig;

/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;

fn failed(cause: SendCause) -> SendError {
    SendError::new(SendStage::Connect, cause)
}

/// What the system knows of a name.
pub(super) async fn resolve(server: impl ToSocketAddrs, config: &ClientConfig) -> Result<Vec<SocketAddr>, SendError> {
    let lookup = timeout(config.limits().connect_timeout, lookup_host(server));
    match lookup.await {
        Ok(Ok(addresses)) => Ok(addresses.take(ADDRESSES).collect()),
        Ok(Err(error)) => Err(failed(SendCause::Lookup(SafeText::new(error.to_string())))),
        Err(_elapsed) => Err(failed(SendCause::TimedOut)),
    }
}

/// Connects to the first address that takes the connection; otherwise the last failure counts.
pub(super) async fn connect(addresses: &[SocketAddr], config: &ClientConfig) -> Result<TcpStream, SendError> {
    let mut last = failed(SendCause::Network(io::ErrorKind::AddrNotAvailable));
    for &address in addresses {
        let Some(socket) = open(address, config.local_address()) else { continue };
        let attempt = timeout(config.limits().connect_timeout, async { socket?.connect(address).await });
        last = match attempt.await {
            Ok(Ok(stream)) => {
                // Groups of commands are written whole, so nothing is gained by waiting for more.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failed(SendCause::Network(error.kind())),
            Err(_elapsed) => failed(SendCause::TimedOut),
        };
    }
    Err(last)
}

/// A socket for that address; `None` where the local address is of another family.
fn open(address: SocketAddr, local: Option<IpAddr>) -> Option<io::Result<TcpSocket>> {
    if local.is_some_and(|local| local.is_ipv4() != address.is_ipv4()) {
        return None;
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    Some(socket.and_then(|socket| {
        if let Some(local) = local {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        Ok(socket)
    }))
}
