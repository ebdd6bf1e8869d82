//! A server on tokio: listeners, connections, shutdown.
//!
//! [`builder`] says what there is to decide, [`listener`] accepts on a [`socket`], [`connection`] is the loop that drives a session,
//! [`inbound`] reads into what [`buffers`] lends, [`hook_set`] holds the hooks, [`hook_call`] and [`watchdog`] keep
//! them in their place, [`connection_limits`], [`logins`] and [`shutdown`] are what connections share.

mod buffers;
pub(crate) mod builder;
mod connection;
pub(crate) mod connection_limits;
mod hook_call;
mod hook_set;
mod inbound;
pub(crate) mod listener;
pub(crate) mod logins;
mod proxy_protocol;
mod shutdown;
mod socket;
pub(crate) mod tls;
#[cfg(unix)]
mod unix_socket;
mod watchdog;

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use self::builder::{ConfigError, ServerBuilder, Undecided};
use self::listener::{Bound, Profile};
use self::shutdown::{Phase, Shutdown};

/// Why a server did not start, or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Listen { .. })
    }
}

/// What makes the server stop. In a lock only so that a server can be shared: `serve_connection` may run in any task.
type Signal = Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>;

/// What a shutdown waits for at most before sessions are ended between two commands.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// A server that is bound to its addresses and not yet running.
pub struct Server {
    listeners: Vec<Bound>,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    signal: Signal,
    grace: Duration,
}

impl Server {
    /// Starts to describe a server of that name: a domain name, best one that resolves to this host.
    ///
    /// ```
    /// use smtp_core::{Accepted, Message, Server};
    ///
    /// # async fn example() -> Result<(), smtp_core::Error> {
    /// let server = Server::builder("mx.example.org")
    ///     .local_domain("example.org")
    ///     .deliver(|message: Message| async move {
    ///         println!("{} octets from {}", message.content().len(), message.reverse_path());
    ///         Ok(Accepted::all())
    ///     })
    ///     .listen("127.0.0.1:0")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(name: impl Into<String>) -> ServerBuilder<Undecided, Undecided> {
        ServerBuilder::new(name.into())
    }

    /// The addresses that are listened on, in the order of the listeners. That of a Unix socket is `127.0.0.1:0`.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Bound::address).collect()
    }

    /// Something to stop the server with.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shutdown: self.shutdown.clone() }
    }

    /// Accepts connections until it is told to stop; then finishes what was begun, deliveries included.
    ///
    /// A delivery that is still running when its client has long been told `451` (see
    /// [`Limits::deliver_timeout`](crate::Limits::deliver_timeout)) is not waited for.
    ///
    /// # Errors
    /// None at present: trouble with a single connection does not end a server.
    pub async fn run(self) -> Result<(), Error> {
        watchdog::start();
        let profiles = self.listeners.iter().map(Bound::profile).chain([&self.profile]);
        let longest = profiles.map(|profile| profile.session.limits.longest_answer()).max().unwrap_or_default();
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(listener.accept(self.shutdown.clone()));
        }
        let signal = self.signal.into_inner().unwrap_or_else(PoisonError::into_inner);
        let signal = signal.unwrap_or_else(|| Box::pin(pending()));
        tokio::select! {
            () = signal => {}
            () = self.shutdown.reached(Phase::Finish) => {}
        }
        self.shutdown.advance(Phase::Finish);
        accepting.shutdown().await;
        if tokio::time::timeout(self.grace, self.shutdown.all_gone()).await.is_err() {
            self.shutdown.advance(Phase::End);
            // Whoever is still being answered has a time limit. A delivery that goes on beyond it has been answered
            // 451, so nothing that was acknowledged depends on it.
            let _ = tokio::time::timeout(longest, self.shutdown.all_gone()).await;
        }
        Ok(())
    }

    /// Drives one session over any stream: of a test, of another kind of listener. Returns when it is over.
    ///
    /// The rules are those of the first listener, or of the server where there is none, but for those about proxies:
    /// `peer` is the client. Limits on the number of
    /// connections do not apply. [`ServerHandle::shut_down`] ends the session as it does others; the signal of
    /// [`ServerBuilder::graceful_shutdown`] is only watched by [`Server::run`].
    ///
    /// ```
    /// use smtp_core::{Accepted, Message, Server};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::builder("mx.example.org")
    ///     .local_domain("example.org")
    ///     .deliver(|_: Message| async { Ok(Accepted::all()) })
    ///     .bind()
    ///     .await?;
    /// let (mut client, stream) = duplex(4096);
    /// let session = tokio::spawn(async move {
    ///     server.serve_connection(stream, "192.0.2.1:1".parse().unwrap(), "192.0.2.2:25".parse().unwrap()).await;
    /// });
    /// let mut greeting = [0; 26];
    /// client.read_exact(&mut greeting).await?;
    /// assert_eq!(&greeting, b"220 mx.example.org ESMTP\r\n");
    /// client.write_all(b"QUIT\r\n").await?;
    /// drop(client);
    /// session.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve_connection<S>(&self, stream: S, peer: SocketAddr, local: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        watchdog::start();
        let profile = self.listeners.first().map_or(&self.profile, Bound::profile);
        let presence = self.shutdown.join();
        let connection = connection::of(peer, local, profile);
        connection::serve(stream, connection, profile.clone(), self.shutdown.clone(), presence).await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.local_addresses()).finish_non_exhaustive()
    }
}

/// Stops a server from elsewhere.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    shutdown: Arc<Shutdown>,
}

impl ServerHandle {
    /// No new connections; sessions without a transaction are told `421 4.3.2`, the others when theirs is finished.
    /// After the time of [`ServerBuilder::shutdown_grace`] they are told so between two commands; deliveries finish in
    /// any case.
    pub fn shut_down(&self) {
        self.shutdown.advance(Phase::Finish);
    }

    /// How many connections and running deliveries there are.
    pub fn connections(&self) -> usize {
        self.shutdown.connections()
    }
}
