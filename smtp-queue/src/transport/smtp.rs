//! To a fixed next hop by SMTP: a smart host, or a host behind this one.
//!
//! Connections are kept for a short while and used again (STANDARDS.md Q12). What one connection met with says nothing
//! about another: a kept one that the next hop has closed in the meantime is replaced, not counted.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use smtp_core::{
    Body, ClientConfig, ClientConnection, ContentSource, Envelope, ForwardPath, Host, Reply, ReplyCode, SafeText,
    SendCause, SendError, async_trait,
};
use thiserror::Error;
use tokio::time::Instant;

use crate::content::StoredContent;
use crate::outcome::Outcome;
use crate::progress::Diagnosis;

use super::{Attempt, Transport};

/// Octets that are read of a content at once.
const CHUNK_OCTETS: usize = 256 << 10;

/// Hands messages to one next hop, whatever their domain.
///
/// ```
/// use smtp_core::Domain;
/// use smtp_queue::{Route, SmtpTransport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = SmtpTransport::new("smtp.example.com:25", Domain::parse("mx.example.org")?)?;
/// let route = Route::new("smtp:smtp.example.com:25", transport);
/// # let _ = route;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SmtpTransport {
    inner: Arc<Inner>,
}

/// A next hop that is not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not host:port")]
pub struct NextHopError(String);

/// How long and how often a connection is used (STANDARDS.md Q12).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReuseLimits {
    /// How long it may be idle: 2 s.
    pub idle_time: Duration,
    /// How old it may be: 300 s.
    pub age: Duration,
    /// How many messages it may carry: 100 (ours).
    pub messages: u64,
    /// How many may be idle at the same time: 20, as many as there are attempts at a time at one site (ours).
    pub idle_connections: usize,
}

impl Default for ReuseLimits {
    fn default() -> Self {
        let (idle_time, age) = (Duration::from_secs(2), Duration::from_secs(300));
        Self { idle_time, age, messages: 100, idle_connections: 20 }
    }
}

struct Inner {
    next_hop: Box<str>,
    config: ClientConfig,
    limits: ReuseLimits,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<ClientConnection>,
    has_keeper: bool,
}

impl SmtpTransport {
    /// To `host:port`, introducing ourselves by that name. The host is looked up by the system for each connection.
    ///
    /// # Errors
    /// [`NextHopError`].
    pub fn new(next_hop: impl Into<String>, hostname: smtp_core::Domain) -> Result<Self, NextHopError> {
        let next_hop = next_hop.into();
        let parts = next_hop.rsplit_once(':');
        if parts.is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
            return Err(NextHopError(next_hop));
        }
        let config = ClientConfig::named(Host::Domain(hostname));
        Ok(Self::with(next_hop.into(), config, ReuseLimits::default()))
    }

    /// The same with another configuration of the client: its name, its times, the address that it binds.
    #[must_use]
    pub fn with_client(self, config: ClientConfig) -> Self {
        Self::with(self.inner.next_hop.clone(), config, self.inner.limits.clone())
    }

    /// The same with other limits of reuse.
    #[must_use]
    pub fn with_reuse(self, limits: ReuseLimits) -> Self {
        Self::with(self.inner.next_hop.clone(), self.inner.config.clone(), limits)
    }

    fn with(next_hop: Box<str>, config: ClientConfig, limits: ReuseLimits) -> Self {
        Self { inner: Arc::new(Inner { next_hop, config, limits, pool: Mutex::default() }) }
    }
}

impl fmt::Debug for SmtpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpTransport").field("next_hop", &self.inner.next_hop).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for SmtpTransport {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        let body = match body(&attempt).await {
            Ok(body) => body,
            Err(error) => {
                let outcome = Outcome::Deferred(unreadable(&error));
                return attempt.recipients().map(|_| outcome.clone()).collect();
            }
        };
        let mut left: Vec<usize> = (0..attempt.recipients().len()).collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; left.len()];
        while !left.is_empty() {
            let (results, remote) = self.inner.send(&attempt, &left, body).await;
            let mut again = Vec::new();
            for (place, result) in left.iter().copied().zip(results) {
                // RFC 5321 §4.5.3.1.10: the rest is sent in another transaction, as long as each takes some.
                if matches!(&result, Err(error) if matches!(error.cause(), SendCause::TooManyRecipients(_))) {
                    again.push(place);
                }
                outcomes[place] = Some(outcome(result, remote.as_ref()));
            }
            left = if again.len() < left.len() { again } else { Vec::new() };
        }
        // What has no outcome is deferred by the queue.
        outcomes.into_iter().map_while(|outcome| outcome).collect()
    }
}

impl Inner {
    /// One transaction for the recipients at these places.
    async fn send(
        self: &Arc<Self>,
        attempt: &Attempt,
        places: &[usize],
        body: Option<Body>,
    ) -> (Vec<Result<Reply, SendError>>, Option<SafeText>) {
        let paths = places.iter().filter_map(|place| attempt.recipients().nth(*place));
        let paths = paths.map(|recipient| ForwardPath::Mailbox(recipient.mailbox.clone()));
        let mut envelope = Envelope::new(attempt.reverse_path().clone(), paths);
        if let Some(body) = body {
            envelope = envelope.with_body(body);
        }
        loop {
            let kept = self.take();
            let was_kept = kept.is_some();
            let connected = match kept {
                Some(connection) => Ok(connection),
                None => ClientConnection::connect(&*self.next_hop, &self.config).await,
            };
            let mut connection = match connected {
                Ok(connection) => connection,
                Err(error) => return (vec![Err(error); places.len()], None),
            };
            let remote = connection.peer().map(|peer| SafeText::new(format!("{} [{}]", self.host(), peer.ip())));
            let report = connection.send(&envelope, Source::new(attempt.content())).await;
            let is_stale = report.is_stale() && was_kept;
            self.keep(connection);
            if !is_stale {
                return (report.into_recipients(), remote);
            }
        }
    }

    fn host(&self) -> &str {
        self.next_hop.rsplit_once(':').map_or(&*self.next_hop, |(host, _)| host)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that can carry another message: the one that was used last, so that others may go.
    fn take(&self) -> Option<ClientConnection> {
        loop {
            let mut connection = self.pool().idle.pop()?;
            if self.may_go_on(&mut connection) && connection.idle_since().elapsed() <= self.limits.idle_time {
                return Some(connection);
            }
            tokio::spawn(connection.quit());
        }
    }

    fn may_go_on(&self, connection: &mut ClientConnection) -> bool {
        connection.messages_sent() < self.limits.messages
            && connection.opened().elapsed() < self.limits.age
            && connection.is_reusable()
    }

    fn keep(self: &Arc<Self>, mut connection: ClientConnection) {
        let mut pool = self.pool();
        if !self.may_go_on(&mut connection) || pool.idle.len() >= self.limits.idle_connections {
            drop(pool);
            tokio::spawn(connection.quit());
            return;
        }
        pool.idle.push(connection);
        if !std::mem::replace(&mut pool.has_keeper, true) {
            tokio::spawn(keep_pool(Arc::downgrade(self), self.limits.idle_time));
        }
    }

    /// Takes out what has been idle for too long. When the next one will have been; `None` where there is none.
    fn expire(&self) -> (Vec<ClientConnection>, Option<Instant>) {
        let mut pool = self.pool();
        let now = Instant::now();
        let (expired, idle): (Vec<_>, Vec<_>) = std::mem::take(&mut pool.idle)
            .into_iter()
            .partition(|connection| connection.idle_since() + self.limits.idle_time <= now);
        pool.idle = idle;
        let next = pool.idle.iter().map(|connection| connection.idle_since() + self.limits.idle_time).min();
        pool.has_keeper = next.is_some();
        (expired, next)
    }
}

/// Says `QUIT` on connections that were idle for too long, as long as there are any.
async fn keep_pool(inner: Weak<Inner>, idle_time: Duration) {
    let mut next = Some(Instant::now() + idle_time);
    while let Some(time) = next {
        tokio::time::sleep_until(time).await;
        let Some(inner) = inner.upgrade() else { return };
        let expired;
        (expired, next) = inner.expire();
        for connection in expired {
            tokio::spawn(connection.quit());
        }
    }
}

/// What `BODY=` says. Where the client said nothing, the octets do (RFC 6152 §3).
async fn body(attempt: &Attempt) -> io::Result<Option<Body>> {
    if attempt.body() == Some(Body::EightBitMime) {
        return Ok(attempt.body());
    }
    let content = attempt.content();
    let is_ascii = if let Some(parts) = content.as_parts() {
        parts.iter().all(|part| part.is_ascii())
    } else {
        let content = content.clone();
        let look = tokio::task::spawn_blocking(move || is_ascii(&content));
        look.await.unwrap_or_else(|error| Err(io::Error::other(error)))?
    };
    Ok(if is_ascii { attempt.body() } else { Some(Body::EightBitMime) })
}

fn is_ascii(content: &StoredContent) -> io::Result<bool> {
    let mut place = 0;
    while let Some(chunk) = content.chunk(place, CHUNK_OCTETS)? {
        if !chunk.is_ascii() {
            return Ok(false);
        }
        place += chunk.len() as u64;
    }
    Ok(true)
}

fn outcome(result: Result<Reply, SendError>, remote: Option<&SafeText>) -> Outcome {
    let error = match result {
        Ok(reply) => return Outcome::Delivered(Diagnosis { reply, remote: remote.cloned() }),
        Err(error) => error,
    };
    // What the next hop said before `MAIL` is about us, whatever its first digit: it does not fail the message.
    let said = error.reply().filter(|reply| reply.code().is_permanent() != error.is_transient());
    let diagnosis = match said {
        Some(reply) => Diagnosis { reply: reply.clone(), remote: remote.cloned() },
        None => Diagnosis { reply: own_words(&error), remote: None },
    };
    if error.is_transient() { Outcome::Deferred(diagnosis) } else { Outcome::Failed(diagnosis) }
}

/// What our own side says of an error.
fn own_words(error: &SendError) -> Reply {
    let code = ReplyCode::new(if error.is_transient() { 451 } else { 554 });
    Reply::new(code.expect("both are in the grammar"), error.status(), error.to_string())
}

fn unreadable(error: &io::Error) -> Diagnosis {
    let refusal = smtp_core::Refusal::transient(3, 0, format!("The message cannot be read: {}", error.kind()));
    Diagnosis { reply: refusal.reply().clone(), remote: None }
}

/// Stored content as the client takes it: both parts from memory, or a file in chunks.
struct Source {
    content: StoredContent,
    place: u64,
}

impl Source {
    fn new(content: &StoredContent) -> Self {
        Self { content: content.clone(), place: 0 }
    }
}

#[async_trait]
impl ContentSource for Source {
    fn len(&self) -> u64 {
        self.content.len()
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let chunk = if self.content.as_parts().is_some() {
            self.content.chunk(self.place, usize::MAX)?
        } else {
            let (content, place) = (self.content.clone(), self.place);
            let read = tokio::task::spawn_blocking(move || content.chunk(place, CHUNK_OCTETS));
            read.await.unwrap_or_else(|error| Err(io::Error::other(error)))?
        };
        self.place += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        let Some(parts) = self.content.as_parts() else { return false };
        for part in parts {
            look(part);
        }
        true
    }
}
