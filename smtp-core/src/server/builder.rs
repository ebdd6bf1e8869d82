//! What there is to decide before a server can listen.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;

use crate::hooks::authenticator::Authenticator;
use crate::hooks::delivery::Delivery;
use crate::hooks::observer::Observer;
use crate::hooks::policy::Policy;
use crate::hooks::recipient_lookup::RecipientLookup;
use crate::hooks::tables::LocalDomains;
use crate::message::content::{ContentSettings, ContentStore};
use crate::sasl::secret::ServerSecret;
use crate::session::limits::Limits;
use crate::session::server::{Authentication, DsnOffer, SessionConfig};
use crate::syntax::SyntaxError;
use crate::syntax::address::Mailbox;
use crate::syntax::domain::Domain;

use super::connection_limits::{ConnectionCounter, ConnectionLimits};
use super::hook_set::{HookSet, NamedPolicy, Nobody};
use super::listener::{Bound, Listener, Peers, Profile, Service, Shared};
use super::logins::{LoginLimits, Logins};
use super::shutdown::Shutdown;
use super::tls::{Acceptor, ServerTls};
use super::{DEFAULT_GRACE, Error, Server};

/// A configuration that makes no sense. Found before anything listens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name of the server or a local domain is no domain.
    #[error("`{text}` is not a domain: {error}")]
    Domain {
        /// What was given.
        text: String,
        /// What was expected.
        error: SyntaxError,
    },
    /// The postmaster is no mailbox.
    #[error("`{text}` is not a mailbox: {error}")]
    Mailbox {
        /// What was given.
        text: String,
        /// What was expected.
        error: SyntaxError,
    },
    /// A limit below what RFC 5321 §4.5.3 obliges a server to accept, or zero where that makes no sense.
    #[error("limit `{0}` is too small")]
    Limit(&'static str),
    /// No file can be made where large content is to be kept.
    #[error("no file can be made in {}: {cause}", directory.display())]
    ContentDirectory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The certificates cannot be used.
    #[error("TLS cannot be offered: {0}")]
    Tls(String),
    /// A listener is to begin with TLS, and has no certificates.
    #[error("the listener {0} begins with TLS and has no certificate")]
    NoCertificate(String),
    /// The system gives no random octets.
    #[error("the system gives no random octets")]
    NoRandomness,
    /// A listener demands authentication, and nobody can authenticate there: the server has no authenticator, or the listener
    /// has no TLS under which it would be offered.
    #[error("the listener {0} demands authentication, and nobody can authenticate there")]
    NoAuthentication(String),
    /// A listener is to speak LMTP on the port of SMTP, where nobody expects it (RFC 2033 §5).
    #[error("the listener {0} is to speak LMTP, which must not be spoken on port 25")]
    LmtpOnPort25(String),
    /// A listener on a Unix socket is to have TLS, which nobody speaks there.
    #[error("the listener {0} is to have TLS, but it is a Unix socket")]
    TlsOnUnixSocket(String),
    /// A listener on a Unix socket is to be behind proxies, which connect by TCP.
    #[error("the listener {0} is to be behind proxies, but it is a Unix socket")]
    ProxyOnUnixSocket(String),
    /// A network of relay clients (wider than `/8`, or `/16` for public IPv6) so wide that the server would be an open relay.
    #[error("relaying for {0} would make an open relay")]
    OpenRelay(IpNet),
    /// A network of peers as wide that are believed what they say of others.
    #[error("believing {0} what it says with XCLIENT or XFORWARD would believe anybody")]
    BelievesAnybody(IpNet),
}

impl ConfigError {
    /// Never: it has to be changed.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// Marks what is still to be said.
#[derive(Debug)]
pub enum Undecided {}
/// Marks what was said.
#[derive(Debug)]
pub enum Decided {}

struct Settings {
    name: String,
    domains: Vec<String>,
    postmaster: Option<String>,
    lookup: Option<Arc<dyn RecipientLookup>>,
    policies: Vec<Arc<dyn Policy>>,
    delivery: Option<Arc<dyn Delivery>>,
    authenticator: Option<Arc<dyn Authenticator>>,
    secret: Option<ServerSecret>,
    observer: Option<Arc<dyn Observer>>,
    limits: Limits,
    connection_limits: ConnectionLimits,
    login_limits: LoginLimits,
    content: ContentSettings,
    listeners: Vec<Listener>,
    tls: Option<ServerTls>,
    signal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    grace: Duration,
}

/// Describes a server. It can listen once it has a rule for recipients ([`local_domain`](Self::local_domain) or
/// [`recipients`](Self::recipients)) and a place for mail ([`deliver`](Self::deliver)); everything else has a default.
pub struct ServerBuilder<Recipients = Decided, Place = Decided> {
    settings: Box<Settings>,
    state: PhantomData<(Recipients, Place)>,
}

impl ServerBuilder<Undecided, Undecided> {
    pub(super) fn new(name: String) -> Self {
        let settings = Settings {
            name,
            domains: Vec::new(),
            postmaster: None,
            lookup: None,
            policies: Vec::new(),
            delivery: None,
            authenticator: None,
            secret: None,
            observer: None,
            limits: Limits::default(),
            connection_limits: ConnectionLimits::default(),
            login_limits: LoginLimits::default(),
            content: ContentSettings::default(),
            listeners: Vec::new(),
            tls: None,
            signal: None,
            grace: DEFAULT_GRACE,
        };
        Self { settings: Box::new(settings), state: PhantomData }
    }
}

impl<R, P> ServerBuilder<R, P> {
    fn set<R2, P2>(mut self, change: impl FnOnce(&mut Settings)) -> ServerBuilder<R2, P2> {
        change(&mut self.settings);
        ServerBuilder { settings: self.settings, state: PhantomData }
    }

    /// Takes mail for every mailbox of that domain. Can be called several times.
    ///
    /// With [`recipients`](Self::recipients), only the lookup says which mailboxes exist; one of a local domain that it
    /// calls [`Lookup::NotLocal`](crate::Lookup::NotLocal) is unknown, and never relayed.
    #[must_use]
    pub fn local_domain(self, domain: impl Into<String>) -> ServerBuilder<Decided, P> {
        self.set(|settings| settings.domains.push(domain.into()))
    }

    /// Asks `lookup` whether there is such a mailbox.
    #[must_use]
    pub fn recipients(self, lookup: impl RecipientLookup + 'static) -> ServerBuilder<Decided, P> {
        self.set(|settings| settings.lookup = Some(Arc::new(lookup)))
    }

    /// Gives messages to `delivery`: a closure `|message: Message| async move { … }` or an own type.
    #[must_use]
    pub fn deliver(self, delivery: impl Delivery + 'static) -> ServerBuilder<R, Decided> {
        self.set(|settings| settings.delivery = Some(Arc::new(delivery)))
    }

    /// Adds a rule. Policies are asked in the order in which they were added.
    #[must_use]
    pub fn policy(self, policy: impl Policy + 'static) -> Self {
        self.set(|settings| settings.policies.push(Arc::new(policy)))
    }

    /// Lets clients authenticate, and asks `authenticator` who they are. They are offered `AUTH` under TLS only.
    #[must_use]
    pub fn authenticate(self, authenticator: impl Authenticator + 'static) -> Self {
        self.set(|settings| settings.authenticator = Some(Arc::new(authenticator)))
    }

    /// A secret that was kept from the last start, so that the salts that unknown users of SCRAM seem to have stay the
    /// same. Default: a new one at each start.
    #[must_use]
    pub fn authentication_secret(self, secret: ServerSecret) -> Self {
        self.set(|settings| settings.secret = Some(secret))
    }

    /// Tells `observer` what happens. One at most; the last call counts.
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.set(|settings| settings.observer = Some(Arc::new(observer)))
    }

    /// Where mail for `<postmaster>` without a domain goes. Default: `postmaster` at the first local domain, or else at
    /// the name of the server.
    #[must_use]
    pub fn postmaster(self, mailbox: impl Into<String>) -> Self {
        self.set(|settings| settings.postmaster = Some(mailbox.into()))
    }

    /// Other limits for sessions.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.set(|settings| settings.limits = limits)
    }

    /// Other limits for the number of connections.
    #[must_use]
    pub fn connection_limits(self, limits: ConnectionLimits) -> Self {
        self.set(|settings| settings.connection_limits = limits)
    }

    /// Other limits for failed logins.
    #[must_use]
    pub fn login_limits(self, limits: LoginLimits) -> Self {
        self.set(|settings| settings.login_limits = limits)
    }

    /// Where content lies while it is received.
    #[must_use]
    pub fn content(self, content: ContentSettings) -> Self {
        self.set(|settings| settings.content = content)
    }

    /// Offers `STARTTLS` (RFC 3207) on all listeners. Default: none do.
    #[must_use]
    pub fn tls(self, tls: ServerTls) -> Self {
        self.set(|settings| settings.tls = Some(tls))
    }

    /// Adds an address with rules of its own.
    #[must_use]
    pub fn listener(self, listener: Listener) -> Self {
        self.set(|settings| settings.listeners.push(listener))
    }

    /// Begins to stop when `signal` is ready: see [`ServerHandle::shut_down`](super::ServerHandle::shut_down).
    #[must_use]
    pub fn graceful_shutdown(self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.set(|settings| settings.signal = Some(Box::pin(signal)))
    }

    /// How long a shutdown waits for transactions. Default: 30 s.
    #[must_use]
    pub fn shutdown_grace(self, grace: Duration) -> Self {
        self.set(|settings| settings.grace = grace)
    }
}

impl ServerBuilder<Decided, Decided> {
    /// Listens on `host:port`, besides the listeners that were added.
    ///
    /// # Errors
    /// [`Error::Config`] where something makes no sense, [`Error::Listen`] where an address cannot be had.
    pub async fn listen(self, address: impl Into<String>) -> Result<Server, Error> {
        self.listener(Listener::new(address)).bind().await
    }

    /// Listens on the addresses that were added. With none, the server only serves connections that it is
    /// given ([`Server::serve_connection`]).
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub async fn bind(self) -> Result<Server, Error> {
        let settings = *self.settings;
        let common = settings.check()?;
        let mut listeners = Vec::new();
        for listener in &settings.listeners {
            let profile = common.profile(listener, settings.tls.as_ref())?;
            let bound = Bound::bind(listener, Arc::new(profile))
                .await
                .map_err(|source| Error::Listen { address: listener.address.clone(), source })?;
            listeners.push(bound);
        }
        Ok(Server {
            listeners,
            profile: Arc::new(common),
            shutdown: Arc::new(Shutdown::default()),
            signal: Mutex::new(settings.signal),
            grace: settings.grace,
        })
    }
}

impl Settings {
    /// The profile that all listeners start from.
    fn check(&self) -> Result<Profile, ConfigError> {
        // RFC 6531 §3.7.1: whoever reads the greeting may know nothing else.
        let hostname = domain(&self.name)?.to_ascii();
        let domains = self.domains.iter().map(|text| domain(text)).collect::<Result<Vec<_>, _>>()?;
        let postmaster = match &self.postmaster {
            Some(text) => Mailbox::parse(text).map_err(|error| ConfigError::Mailbox { text: text.clone(), error })?,
            None => Mailbox::postmaster_at(domains.first().unwrap_or(&hostname).clone()),
        };
        if self.connection_limits.total == 0 {
            return Err(ConfigError::Limit("total"));
        }
        check_limits(&self.limits)?;
        let delivery = self.delivery.clone().expect("the type of the builder says that there is one");
        let hooks = HookSet {
            lookup: self.lookup.clone().unwrap_or_else(|| Arc::new(LocalDomains::new(domains.clone()))),
            policies: self.policies.iter().cloned().map(NamedPolicy::new).collect(),
            authenticator: self.authenticator.clone().unwrap_or_else(|| Arc::new(Nobody)),
            delivery,
            observer: self.observer.clone(),
        };
        let session = SessionConfig {
            postmaster,
            local_domains: domains.clone(),
            limits: self.limits.clone(),
            dsn: if hooks.delivery.honours_dsn() { DsnOffer::KnownClients } else { DsnOffer::Nobody },
            honours_binarymime: hooks.delivery.honours_binarymime(),
            honours_requiretls: hooks.delivery.honours_requiretls(),
            honours_future_release: hooks.delivery.honours_future_release(),
            honours_deliver_by: hooks.delivery.honours_deliver_by(),
            honours_priority: hooks.delivery.honours_priority(),
            honours_rrvs: hooks.lookup.honours_rrvs(),
            relays_rrvs: hooks.delivery.honours_rrvs(),
            stages: hooks.stages(),
            authentication: self.authentication()?,
            observed: hooks.observer.is_some(),
            offers_starttls: self.tls.is_some(),
            ..SessionConfig::new(hostname)
        };
        let store = ContentStore::new(&self.content, hooks.delivery.content_dir());
        store.check().map_err(|(directory, cause)| ConfigError::ContentDirectory { directory, cause })?;
        let shared = Shared {
            store,
            hooks: Arc::new(hooks),
            buffers: Arc::default(),
            connections: Arc::new(ConnectionCounter::new(self.connection_limits.clone())),
            logins: Arc::new(Logins::new(self.login_limits.clone())),
            has_no_room: Arc::new(AtomicBool::new(false)),
        };
        let tls = self.tls.as_ref().map(|tls| acceptor(tls, false)).transpose()?;
        let peers = Peers::default();
        Ok(Profile { session: Arc::new(session), peers, tls, is_implicit: false, shared })
    }
}

impl Settings {
    fn authentication(&self) -> Result<Option<Authentication>, ConfigError> {
        let Some(authenticator) = &self.authenticator else { return Ok(None) };
        let secret = if let Some(secret) = &self.secret {
            secret.clone()
        } else {
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|_| ConfigError::NoRandomness)?;
            ServerSecret::new(random)
        };
        let mut authentication = Authentication::new(authenticator.mechanisms(), secret);
        authentication.iterations_of_nobody = authenticator.scram_iterations();
        Ok(Some(authentication))
    }
}

impl Profile {
    /// The same with what a listener has of its own. Certificates may be those of the server, keys of tickets are not.
    fn profile(&self, listener: &Listener, of_server: Option<&ServerTls>) -> Result<Self, ConfigError> {
        if let Some(limits) = &listener.limits {
            check_limits(limits)?;
        }
        listener.peers.check()?;
        let tls = if listener.is_unix() {
            if listener.tls.is_some() || listener.is_implicit {
                return Err(ConfigError::TlsOnUnixSocket(listener.address.clone()));
            }
            if listener.peers.are_behind_proxies() {
                return Err(ConfigError::ProxyOnUnixSocket(listener.address.clone()));
            }
            None
        } else {
            listener.tls.as_ref().or(of_server)
        };
        let tls = tls.map(|tls| acceptor(tls, listener.sends_tickets())).transpose()?;
        if listener.is_implicit && tls.is_none() {
            return Err(ConfigError::NoCertificate(listener.address.clone()));
        }
        let is_required = listener.service == Service::Submission;
        let offered = self.session.authentication.clone().filter(|_| listener.service != Service::Mx);
        let authentication = offered.map(|offered| Authentication {
            dangerously_in_clear: listener.authenticates_in_clear,
            is_required,
            ..offered
        });
        let can_authenticate =
            authentication.as_ref().is_some_and(|offered| tls.is_some() || offered.dangerously_in_clear);
        if is_required && !can_authenticate {
            return Err(ConfigError::NoAuthentication(listener.address.clone()));
        }
        if listener.protocol.is_lmtp() && !listener.is_unix() && port_of(&listener.address) == Some(25) {
            return Err(ConfigError::LmtpOnPort25(listener.address.clone()));
        }
        let session = SessionConfig {
            protocol: listener.protocol,
            offers_prdr: listener.offers_prdr,
            no_mail: listener.no_mail,
            no_soliciting: listener.no_soliciting.clone(),
            offers_starttls: tls.is_some() && !listener.is_implicit,
            authentication,
            limits: listener.limits.clone().unwrap_or_else(|| self.session.limits.clone()),
            refuse_early_talkers: listener.refuse_early_talkers,
            greeting_delay: listener.greeting_delay,
            qualify_with: listener.qualify_with.as_deref().map(domain).transpose()?,
            dsn: if self.shared.hooks.delivery.honours_dsn() { listener.dsn } else { DsnOffer::Nobody },
            ..(*self.session).clone()
        };
        Ok(Self {
            session: Arc::new(session),
            peers: listener.peers.clone(),
            tls,
            is_implicit: listener.is_implicit,
            shared: self.shared.clone(),
        })
    }
}

fn acceptor(tls: &ServerTls, sends_tickets: bool) -> Result<Acceptor, ConfigError> {
    tls.acceptor(sends_tickets).map_err(|error| ConfigError::Tls(error.to_string()))
}

/// The port of `host:port`.
fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

fn domain(text: &str) -> Result<Domain, ConfigError> {
    Domain::parse(text).map_err(|error| ConfigError::Domain { text: text.to_owned(), error })
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    limits.below_standard().map_or(Ok(()), |name| Err(ConfigError::Limit(name)))
}

impl<R, P> fmt::Debug for ServerBuilder<R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("name", &self.settings.name).finish_non_exhaustive()
    }
}
