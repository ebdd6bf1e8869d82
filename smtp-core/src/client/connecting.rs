//! From addresses to a connection: the next is tried when one fails or takes long, and the first that answers is it (RFC
//! 8305, STANDARDS TO1).

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

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

/// Connects to whichever address takes the connection first; where none does, the last failure counts.
///
/// An address that does not answer at once is waited for beside the next, so that one family of addresses that leads nowhere
/// costs a moment and not a time limit (RFC 8305 §5). Attempts that lose are dropped before anything is said on them.
pub(super) async fn connect(addresses: &[SocketAddr], config: &ClientConfig) -> Result<TcpStream, SendError> {
    let limits = config.limits();
    let mut waiting = by_turns(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut last = failed(SendCause::Network(io::ErrorKind::AddrNotAvailable));
    loop {
        let next = waiting.by_ref().find_map(|address| Some((address, open(address, config.local_addresses())?)));
        let has_more = next.is_some();
        if let Some((address, socket)) = next {
            attempts.spawn(timeout(limits.connect_timeout, async move { socket?.connect(address).await }));
        }
        let pause = async { if has_more { sleep(limits.connect_pause).await } else { pending().await } };
        tokio::select! {
            biased;
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(Ok(stream)))) => {
                    // Groups of commands are written whole, so nothing is gained by waiting for more.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Ok(Ok(Err(error)))) => last = failed(SendCause::Network(error.kind())),
                Some(Ok(Err(_elapsed))) => last = failed(SendCause::TimedOut),
                Some(Err(_)) => last = failed(SendCause::Network(io::ErrorKind::Other)),
                None => return Err(last),
            },
            () = pause => {}
        }
    }
}

/// The addresses in their order, but each family in its turn (RFC 8305 §4).
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first.is_ipv4());
    let turns = (0..addresses.len()).map(|_| {
        std::mem::swap(&mut one, &mut other);
        other.pop_front().or_else(|| one.pop_front()).expect("as many as there are")
    });
    turns.collect()
}

/// A socket for that address, from the first of the local ones that this host has; `None` where all are of another family.
fn open(address: SocketAddr, local: &[IpAddr]) -> Option<io::Result<TcpSocket>> {
    let mut own = local.iter().filter(|own| own.is_ipv4() == address.is_ipv4()).peekable();
    if own.peek().is_none() && !local.is_empty() {
        return None;
    }
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    Some(socket.and_then(|socket| {
        let mut bound = Ok(());
        for own in own {
            bound = socket.bind(SocketAddr::new(*own, 0));
            if bound.is_ok() {
                break;
            }
        }
        bound.map(|()| socket)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 8305 §4
    fn families_take_turns_and_nobody_is_lost() {
        for (addresses, expected) in [
            ("", ""),
            ("4a", "4a"),
            ("4a 4b 4c", "4a 4b 4c"),
            ("6a 6b 6c 4a 4b", "6a 4a 6b 4b 6c"),
            ("4a 6a 6b 6c", "4a 6a 6b 6c"),
            ("4a 4b 4c 6a", "4a 6a 4b 4c"),
        ] {
            let address = |word: &str| {
                let number = word.as_bytes()[1];
                let ip =
                    if word.starts_with('4') { IpAddr::from([127, 0, 0, number]) } else { IpAddr::from([number; 16]) };
                SocketAddr::new(ip, 25)
            };
            let parse = |text: &str| text.split_whitespace().map(address).collect::<Vec<_>>();
            assert_eq!(by_turns(&parse(addresses)), parse(expected), "{addresses}");
        }
    }
}
