//! Sending to one server again and again, over connections that are kept for a while.

use std::fmt;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::sasl::client::ClientAuth;
use crate::server::tls::TlsError;
use crate::session::client::envelope::Envelope;
use crate::session::client::offers::Offers;
use crate::session::client::report::{SendCause, SendError, SendReport, SendStage};
use crate::syntax::reply::Reply;
use crate::syntax::secret::Secret;

use super::config::ClientConfig;
use super::connection::ClientConnection;
use super::content_source::ContentSource;
use super::demand::Demands;
use super::pool::{Kept, Pool};
use super::stream::ClientStream;
use super::tls::ClientTls;
use super::tls_policy::{NextHop, TlsPolicy, TlsRequirement};

/// How a [`Mailer`] uses its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailerSettings {
    /// How long a connection is kept without work: 2 s (STANDARDS Q12).
    pub idle_timeout: Duration,
    /// How old a connection gets: 300 s (Q12).
    pub connection_lifetime: Duration,
    /// Messages over one connection: 100 (Q12).
    pub messages_limit: u64,
    /// Connections that are kept without work: 20 (ours).
    pub idle_limit: usize,
}

impl Default for MailerSettings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(2),
            connection_lifetime: Duration::from_secs(300),
            messages_limit: 100,
            idle_limit: 20,
        }
    }
}

/// A server that is not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not host:port")]
pub struct NotHostAndPort(Box<str>);

impl NotHostAndPort {
    /// Never: the same text will be as wrong tomorrow.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// Sends messages to one server. Cheap to copy; copies share their connections.
///
/// As a mail client does, with a password, to the submission server of a provider:
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_core::{Envelope, Mailer};
///
/// let mailer = Mailer::submission("smtp.example.org", "alice", "correct horse")?;
/// let envelope = Envelope::parse("alice@example.org", ["bob@example.net"])?;
/// let report = mailer.send(&envelope, "Subject: hello\r\n\r\nHello\r\n").await?;
/// println!("{:?}", report.recipients());
/// # Ok(())
/// # }
/// ```
///
/// As a mail server does, to its smart host: [`Mailer::to`] with a [`ClientConfig`].
#[derive(Clone)]
pub struct Mailer {
    server: Arc<Server>,
    /// What is demanded of the server; `None`: what its configuration says.
    demands: Option<Arc<Demands>>,
    /// Whether messages go also where that cannot be met.
    is_tls_optional: bool,
    pool: Arc<Pool>,
}

struct Server {
    place: Place,
    config: ClientConfig,
}

#[derive(Debug)]
enum Place {
    Addresses(Vec<SocketAddr>),
    /// `host:port`, which the system looks up for each connection.
    Name(Box<str>),
    #[cfg(unix)]
    Path(PathBuf),
}

impl Mailer {
    /// To `host:port`. The system looks the host up for each connection, without MX records.
    ///
    /// # Errors
    /// [`NotHostAndPort`].
    pub fn to(server: &str, config: ClientConfig) -> Result<Self, NotHostAndPort> {
        let parts = server.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if parts.is_none() {
            return Err(NotHostAndPort(server.into()));
        }
        Ok(Self::new(Place::Name(server.into()), config))
    }

    /// To whichever of the addresses takes the connection first.
    pub fn to_addresses(addresses: impl IntoIterator<Item = SocketAddr>, config: ClientConfig) -> Self {
        Self::new(Place::Addresses(addresses.into_iter().collect()), config)
    }

    /// To the Unix socket at that path, as of a mail store on the same host that speaks LMTP
    /// ([`ClientConfig::with_lmtp`]).
    #[cfg(unix)]
    pub fn to_unix_socket(path: impl Into<PathBuf>, config: ClientConfig) -> Self {
        Self::new(Place::Path(path.into()), config)
    }

    /// As a user of the submission server of that name: port 465, TLS from the first octet, the certificate verified, then the
    /// password (RFC 8314 §3.3).
    ///
    /// # Errors
    /// As [`ClientTls::verified`].
    pub fn submission(host: &str, user: &str, password: &str) -> Result<Self, TlsError> {
        let tls = ClientTls::verified([host])?.implicit();
        let auth = ClientAuth::password(user, Secret::new(password));
        let config = ClientConfig::default().with_tls(tls).with_auth(auth);
        Ok(Self::new(Place::Name(format!("{host}:465").into()), config))
    }

    fn new(place: Place, config: ClientConfig) -> Self {
        let server = Arc::new(Server { place, config });
        Self { server, demands: None, is_tls_optional: false, pool: Pool::new(&MailerSettings::default()) }
    }

    /// The same with a policy that says, for each message, what a connection to that next hop must be, in the place of
    /// [`ClientConfig::with_tls`]. Of that only [`ClientTls::implicit`] still counts: the handshake comes first there.
    ///
    /// A connection that is there already is used again only where it was made for the same. Where the policy does not know, or
    /// does not say within [`ClientLimits::connect_timeout`](crate::ClientLimits::connect_timeout), nothing is sent:
    /// [`SendCause::TlsPolicy`], which is transient. Over a Unix socket nobody is asked.
    #[must_use]
    pub fn with_tls_policy(self, next_hop: NextHop, policy: impl TlsPolicy + 'static) -> Self {
        Self { demands: Some(Arc::new(Demands::new(next_hop, Box::new(policy)))), ..self }
    }

    /// The same for messages whose senders put delivery before protection (`TLS-Required: No`, RFC 8689 §3): what the policy
    /// demands beyond [`TlsRequirement::Opportunistic`] is left out, and so is that it does not know. What the configuration
    /// says holds, and where the client authenticates the policy holds as well: the password is not the sender's. Copies
    /// share their connections.
    #[must_use]
    pub fn with_tls_optional(&self) -> Self {
        Self { is_tls_optional: true, ..self.clone() }
    }

    /// The same with other settings. Connections are not shared with copies that were made before.
    #[must_use]
    pub fn with_settings(self, settings: &MailerSettings) -> Self {
        Self { pool: Pool::new(settings), ..self }
    }

    /// What connections are made with.
    pub fn config(&self) -> &ClientConfig {
        &self.server.config
    }

    /// Whether it sends over a Unix socket: to this host.
    pub fn is_local(&self) -> bool {
        #[cfg(unix)]
        let is_local = matches!(self.server.place, Place::Path(_));
        #[cfg(not(unix))]
        let is_local = false;
        is_local
    }

    /// Sends one message, over a connection that is there already or a new one.
    ///
    /// A server that has closed a kept connection before it heard of the message is connected to again. Nothing is sent twice
    /// that a server may have taken.
    ///
    /// # Errors
    /// Where the server cannot be reached or takes no mail at all. What became of each recipient stands in the report.
    pub async fn send(&self, envelope: &Envelope, content: impl Into<Bytes>) -> Result<SendReport, SendError> {
        let content = content.into();
        self.send_with(|_| envelope.clone(), || content.clone()).await.map(|(report, _)| report)
    }

    /// The same with an envelope that depends on what the server offers, and content from any source; both are asked for
    /// once for each connection that is tried. With the report comes the address of the server, where it has one.
    ///
    /// # Errors
    /// As [`Mailer::send`].
    pub async fn send_with<C: ContentSource>(
        &self,
        envelope: impl Fn(Offers) -> Envelope,
        content: impl Fn() -> C,
    ) -> Result<(SendReport, Option<SocketAddr>), SendError> {
        let requirement = self.requirement().await?;
        if let Some(mut kept) = self.pool.take(requirement.as_ref()) {
            let report = kept.connection.send(&envelope(kept.connection.offers()), content()).await;
            if !was_closed_before(&report) {
                return Ok(self.finish(kept, report));
            }
            // The server had had enough of this connection, which says nothing about the message.
        }
        let mut connection = self.connect(requirement.as_ref()).await?;
        let report = connection.send(&envelope(connection.offers()), content()).await;
        Ok(self.finish(Kept { connection, requirement }, report))
    }

    /// What the connection must be; `None`: what the configuration says.
    async fn requirement(&self) -> Result<Option<TlsRequirement>, SendError> {
        match &self.demands {
            Some(demands) if !self.is_local() => demands.ask(&self.server.config, self.is_tls_optional).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn connect(&self, requirement: Option<&TlsRequirement>) -> Result<ClientConnection<ClientStream>, SendError> {
        match (&self.demands, requirement) {
            (Some(demands), Some(requirement)) => {
                self.server.connect(&demands.meet(requirement, &self.server.config).await?).await
            }
            _ => self.server.connect(&self.server.config).await,
        }
    }

    fn finish(&self, kept: Kept, report: SendReport) -> (SendReport, Option<SocketAddr>) {
        let peer = kept.connection.peer();
        self.pool.give_back(kept);
        (report, peer)
    }
}

impl Server {
    async fn connect(&self, config: &ClientConfig) -> Result<ClientConnection<ClientStream>, SendError> {
        match &self.place {
            Place::Addresses(addresses) => {
                ClientConnection::connect_with(&addresses[..], config, ClientStream::Tcp).await
            }
            Place::Name(name) => ClientConnection::connect_with(&**name, config, ClientStream::Tcp).await,
            #[cfg(unix)]
            Place::Path(path) => ClientConnection::connect_unix_with(path, config, ClientStream::Unix).await,
        }
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("to", &self.server.place).field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// Whether a server closed a kept connection before it heard of the message.
fn was_closed_before(report: &SendReport) -> bool {
    let is_before = |result: &Result<Reply, SendError>| match result {
        Ok(_) => false,
        Err(error) => {
            let is_gone = matches!(
                error.cause(),
                SendCause::Closed | SendCause::Network(_) | SendCause::NotUsable | SendCause::Unsolicited
            );
            let is_farewell = error.reply().is_some_and(|reply| reply.code().get() == 421);
            matches!(error.stage(), SendStage::Local | SendStage::Idle | SendStage::Mail) && (is_gone || is_farewell)
        }
    };
    report.recipients().iter().all(is_before)
}
