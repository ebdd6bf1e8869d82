//! A ready-made [`Authenticator`]: asks Dovecot, by its authentication protocol (version 1), so that users have one password
//! for their mail store and for sending.
//!
//! [`wire`] is one connection; here is which of them is used, and for how long.

mod wire;

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::sasl::client::{Choice, ClientAuth, ClientExchange};
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity};
use crate::syntax::domain::Domain;
use crate::syntax::mechanism::{Mechanism, Mechanisms};
use crate::syntax::path::ReversePath;
use crate::syntax::secret::Secret;

use super::authenticator::Authenticator;
use super::password_users::key;

use wire::{Answer, Stream, Wire};

/// Logins at a time, each over a connection of its own. Dovecot takes some seconds to say that a password is wrong.
const AT_A_TIME: usize = 128;
/// Connections that are kept for the next login.
const KEPT: usize = 8;
/// How long a connection lasts. One process of Dovecot serves it from its beginning to its end, and one that was stopped or started
/// anew goes on with what it knew until then.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a login may take, from connecting to the answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// Dovecot cannot be asked. The next login tries again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DovecotError {
    /// There is no connection, or it has ended.
    #[error("no connection to the authentication server")]
    Network(#[from] io::Error),
    /// It took too long.
    #[error("the authentication server took too long")]
    TimedOut,
    /// What it said is not in the protocol, or beyond all bounds.
    #[error("the authentication server does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// It does not offer what is needed to ask it.
    #[error("the authentication server does not offer {0}")]
    NotOffered(Mechanism),
}

impl DovecotError {
    /// Always: it can be set right while the server runs.
    pub fn is_transient(&self) -> bool {
        true
    }
}

/// Users of Dovecot, by the socket of its authentication server. Copies share their connections.
///
/// Dovecot opens it with a listener in `service auth`, which the server must be allowed to write to:
///
/// ```text
/// service auth {
///   unix_listener auth-client {
///     mode = 0660
///     user = mta
///   }
/// }
/// ```
///
/// Users authenticate by `PLAIN` and `LOGIN`, which Dovecot checks as `PLAIN`, and send as the name that Dovecot knows them by,
/// or with `<>` (RFC 6409 §6.1). Where it cannot be asked, within 15 s, nobody is told that a password is wrong: `454 4.7.0`.
///
/// ```
/// use smtp_core::DovecotAuth;
///
/// # #[cfg(unix)]
/// let users = DovecotAuth::unix("/run/dovecot/auth-client")
///     .with_domain("example.org".parse()?)
///     .on_failure(|error| eprintln!("{error}"));
/// // Server::builder(..).authenticate(users)
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Clone)]
pub struct DovecotAuth {
    place: Place,
    deadline: Duration,
    domain: Option<Domain>,
    takes_tokens: bool,
    report: Option<Arc<Report>>,
    kept: Arc<Mutex<Vec<Wire>>>,
    turns: Arc<Semaphore>,
}

type Report = dyn Fn(&DovecotError) + Send + Sync;

/// Where it listens.
#[derive(Debug, Clone)]
enum Place {
    #[cfg(unix)]
    Unix(PathBuf),
    Tcp(String),
}

impl Place {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            #[cfg(unix)]
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

impl DovecotAuth {
    /// At that socket in the file system. Nothing is opened yet: see [`DovecotAuth::check`].
    #[cfg(unix)]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::Unix(path.into()))
    }

    /// At `host:port`. The protocol has no protection of its own: everybody between the two can read the passwords, so only on
    /// the same host.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::at(Place::Tcp(address.into()))
    }

    fn at(place: Place) -> Self {
        let (kept, turns) = (Arc::default(), Arc::new(Semaphore::new(AT_A_TIME)));
        Self { place, deadline: DEADLINE, domain: None, takes_tokens: false, report: None, kept, turns }
    }

    /// How long a login may take. Default: 15 s.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The domain of users whom Dovecot knows without one: `alice` is `alice@domain`. Default: none; they send with `<>` only.
    #[must_use]
    pub fn with_domain(self, domain: Domain) -> Self {
        Self { domain: Some(domain), ..self }
    }

    /// Takes bearer tokens too (`OAUTHBEARER`, `XOAUTH2`), which Dovecot then must know how to check. Default: no.
    #[must_use]
    pub fn with_tokens(self) -> Self {
        Self { takes_tokens: true, ..self }
    }

    /// Says to `report` why Dovecot could not be asked, each time; clients are told no more than `454 4.7.0`.
    #[must_use]
    pub fn on_failure(self, report: impl Fn(&DovecotError) + Send + Sync + 'static) -> Self {
        Self { report: Some(Arc::new(report)), ..self }
    }

    /// Connects, and sees whether Dovecot offers what is needed: at the start of a server, to know it before users do.
    ///
    /// # Errors
    /// [`DovecotError`].
    pub async fn check(&self) -> Result<(), DovecotError> {
        let open = async {
            let wire = self.open().await?;
            offered(&wire, Mechanism::Plain)?;
            if self.takes_tokens {
                offered(&wire, by_token(&wire))?;
            }
            self.keep(wire);
            Ok(())
        };
        timeout(self.deadline, open).await.unwrap_or(Err(DovecotError::TimedOut))
    }

    /// One login, over a connection that was kept or over a new one.
    async fn log_in(&self, connection: &Connection, auth: &ClientAuth, by: By) -> Result<Identity, AuthError> {
        match timeout(self.deadline, self.ask(connection, auth, by)).await.unwrap_or(Err(DovecotError::TimedOut)) {
            Ok(answer) => Ok(self.identity(&answer?.unwrap_or_else(|| auth.user().to_owned()))),
            Err(error) => {
                if let Some(report) = &self.report {
                    report(&error);
                }
                Err(AuthError::Unavailable)
            }
        }
    }

    async fn ask(&self, connection: &Connection, auth: &ClientAuth, by: By) -> Result<Answer, DovecotError> {
        let _turn = self.turns.acquire().await.map_err(|_| DovecotError::TimedOut)?;
        let kept = self.take();
        if let Some(wire) = kept {
            match self.ask_over(wire, connection, auth, by).await {
                Ok(answer) => return Ok(answer),
                // It was closed while nobody used it; then the others are too.
                Err(_) => lock(&self.kept).clear(),
            }
        }
        self.ask_over(self.open().await?, connection, auth, by).await
    }

    fn take(&self) -> Option<Wire> {
        let mut kept = lock(&self.kept);
        kept.retain(|wire| wire.age() < LIFETIME);
        kept.pop()
    }

    async fn open(&self) -> Result<Wire, DovecotError> {
        let wire = Wire::open(self.place.connect().await?).await?;
        let kept = Arc::downgrade(&self.kept);
        tokio::spawn(async move {
            sleep(LIFETIME).await;
            if let Some(kept) = kept.upgrade() {
                lock(&kept).retain(|wire| wire.age() < LIFETIME);
            }
        });
        Ok(wire)
    }

    /// Keeps the connection where all went well. Whoever stops waiting drops it with its unread answer.
    async fn ask_over(
        &self,
        mut wire: Wire,
        connection: &Connection,
        auth: &ClientAuth,
        by: By,
    ) -> Result<Answer, DovecotError> {
        let mechanism = match by {
            By::Password => Mechanism::Plain,
            By::Token => by_token(&wire),
        };
        offered(&wire, mechanism)?;
        let answer = match ClientExchange::begin(auth, Choice::unbound(mechanism), "") {
            Some((exchange, Some(first))) => wire.log_in(connection, mechanism, exchange, &first).await?,
            // What cannot be said in the mechanism is nobody's credential.
            _ => Err(AuthError::Rejected),
        };
        self.keep(wire);
        Ok(answer)
    }

    fn keep(&self, wire: Wire) {
        let mut kept = lock(&self.kept);
        if kept.len() < KEPT && wire.age() < LIFETIME {
            kept.push(wire);
        }
    }

    fn identity(&self, user: &str) -> Identity {
        match &self.domain {
            Some(domain) if !user.contains('@') => Identity::new(key(&format!("{user}@{domain}"))),
            _ => Identity::new(key(user)),
        }
    }
}

/// What a client has shown.
#[derive(Debug, Clone, Copy)]
enum By {
    Password,
    Token,
}

fn lock(kept: &Mutex<Vec<Wire>>) -> MutexGuard<'_, Vec<Wire>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a token is shown to Dovecot.
fn by_token(wire: &Wire) -> Mechanism {
    if wire.offers(Mechanism::OauthBearer) { Mechanism::OauthBearer } else { Mechanism::Xoauth2 }
}

fn offered(wire: &Wire, mechanism: Mechanism) -> Result<(), DovecotError> {
    if wire.offers(mechanism) { Ok(()) } else { Err(DovecotError::NotOffered(mechanism)) }
}

#[async_trait]
impl Authenticator for DovecotAuth {
    fn mechanisms(&self) -> Mechanisms {
        let tokens = [Mechanism::OauthBearer, Mechanism::Xoauth2].into_iter().filter(|_| self.takes_tokens);
        Mechanisms::PASSWORD.iter().chain(tokens).collect()
    }

    async fn password(&self, connection: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        self.log_in(connection, &ClientAuth::password(user, password.clone()), By::Password).await
    }

    async fn token(&self, connection: &Connection, user: Option<&str>, token: &Secret) -> Result<Identity, AuthError> {
        self.log_in(connection, &ClientAuth::token(user.unwrap_or_default(), token.clone()), By::Token).await
    }

    async fn may_send_as(&self, _: &Connection, who: &Identity, from: &ReversePath) -> Result<bool, AuthError> {
        Ok(match from {
            ReversePath::Null => true,
            ReversePath::Mailbox(mailbox) => key(&mailbox.to_string()) == who.as_str(),
        })
    }
}

impl fmt::Debug for DovecotAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DovecotAuth").field("place", &self.place).finish_non_exhaustive()
    }
}
