//! Where connections come in: an address, its rules, and the loop that accepts.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Semaphore;

use crate::message::content::ContentStore;
use crate::session::connection::PeerRights;
use crate::session::limits::Limits;
use crate::session::replies;
use crate::session::server::{DsnOffer, SessionConfig};
use crate::session::transfer_protocol::TransferProtocol;
use crate::syntax::solicitation::SolicitationClasses;

use super::buffers::BufferPool;
use super::builder::ConfigError;
use super::connection;
use super::connection_limits::{ConnectionCounter, Excess};
use super::hook_set::HookSet;
use super::logins::Logins;
use super::shutdown::{Phase, Shutdown};
use super::socket::{Arrived, Socket};
use super::tls::{Acceptor, ServerTls};

/// Refused connections that linger at the same time; more are closed at once.
const LINGERING_REFUSALS: usize = 100;
/// How long a trial whether content can be kept takes at most, and how long it is until the next.
const ROOM_TRIAL: Duration = Duration::from_secs(1);
/// How long accepting pauses when the system has no descriptors or no memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// An address to listen on, and the rules for those who connect there.
///
/// ```
/// use smtp_core::{Limits, Listener};
///
/// let mut limits = Limits::default();
/// limits.message_octets = 200 << 20;
/// let inside = Listener::new("127.0.0.1:2526").relay_for("10.1.0.0/16".parse()?).limits(limits);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that holds or not")]
pub struct Listener {
    /// `host:port`, or `unix:` and a path.
    pub(crate) address: String,
    /// The path and the permissions of a Unix socket.
    #[cfg(unix)]
    pub(super) unix: Option<(PathBuf, u32)>,
    pub(crate) peers: Peers,
    pub(crate) limits: Option<Limits>,
    pub(crate) refuse_early_talkers: bool,
    pub(crate) greeting_delay: Duration,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) is_implicit: bool,
    session_tickets: Option<bool>,
    pub(crate) dsn: DsnOffer,
    pub(crate) service: Service,
    pub(crate) authenticates_in_clear: bool,
    pub(crate) qualify_with: Option<String>,
    pub(crate) protocol: TransferProtocol,
    pub(crate) offers_prdr: bool,
    pub(crate) no_mail: bool,
    pub(crate) no_soliciting: Option<SolicitationClasses>,
}

impl Listener {
    /// Listens on `host:port` for anybody, with the limits of the server.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            #[cfg(unix)]
            unix: None,
            peers: Peers::default(),
            limits: None,
            refuse_early_talkers: true,
            greeting_delay: Duration::ZERO,
            tls: None,
            is_implicit: false,
            session_tickets: None,
            dsn: DsnOffer::KnownClients,
            service: Service::Mixed,
            authenticates_in_clear: false,
            qualify_with: None,
            protocol: TransferProtocol::default(),
            offers_prdr: false,
            no_mail: false,
            no_soliciting: None,
        }
    }

    /// Whether it is a socket in the file system.
    pub(super) fn is_unix(&self) -> bool {
        #[cfg(unix)]
        return self.unix.is_some();
        #[cfg(not(unix))]
        false
    }

    /// Clients of that network may send to any domain. Default: none.
    #[must_use]
    pub fn relay_for(mut self, network: IpNet) -> Self {
        self.peers.relay_clients.push(network);
        self
    }

    /// Whom it serves, and as what. Default: [`Service::Mixed`].
    ///
    /// Where nobody can send anything without authentication, `DSN` is offered to everybody, if the delivery honours it.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.service = service;
        if service == Service::Submission {
            self.dsn = DsnOffer::Everybody;
        }
        self
    }

    /// The domain that completes the addresses of authenticated clients where they have none: `<alice>` in `MAIL` and `RCPT`
    /// is read as `<alice@domain>` (RFC 6409 §4.2). Default: none; they are refused with `554 5.1.7` and `554 5.1.3`, and with
    /// `501` where the client has not authenticated.
    #[must_use]
    pub fn qualify_with(mut self, domain: impl Into<String>) -> Self {
        self.qualify_with = Some(domain.into());
        self
    }

    /// Speaks LMTP in the place of SMTP (RFC 2033), as a mail store does to the server in front of it: clients say `LHLO`,
    /// and each recipient has a reply of its own behind the content. Not on TCP port 25 (RFC 2033 §5).
    #[must_use]
    pub fn lmtp(mut self) -> Self {
        self.protocol = TransferProtocol::Lmtp;
        self
    }

    /// Offers `PRDR` (draft-hall-prdr-00): behind the content of a client that asks for it each recipient has a reply of its
    /// own, as in LMTP. The delivery must leave to the client whom it does not take
    /// ([`Message::answers_each`](crate::Message::answers_each)). Default: no.
    #[must_use]
    pub fn prdr(mut self) -> Self {
        self.offers_prdr = true;
        self
    }

    /// Says that this host never takes mail, for one whose name other servers may believe to be a mail exchanger: `521` in the
    /// greeting, and to every command but `QUIT` (RFC 7504 §3). No hook is asked. Default: it takes mail.
    #[must_use]
    pub fn no_mail(mut self) -> Self {
        self.no_mail = true;
        self
    }

    /// Offers `NO-SOLICITING` (RFC 3865): a message that says with `SOLICIT=` that it is of one of these classes is refused
    /// with `550 5.7.1` to all but role mailboxes, and what it says is given to policies and to the delivery
    /// ([`MailParameters::solicit`](crate::MailParameters::solicit)). With [`SolicitationClasses::none`] the policies alone
    /// decide. Default: not offered.
    #[must_use]
    pub fn no_soliciting(mut self, classes: SolicitationClasses) -> Self {
        self.no_soliciting = Some(classes);
        self
    }

    /// Offers `AUTH` without TLS: everybody between client and server can read the passwords and use them. For tests, and
    /// for networks that nobody else can listen to.
    #[must_use]
    pub fn dangerously_authenticate_in_clear(mut self) -> Self {
        self.authenticates_in_clear = true;
        self
    }

    /// Other limits than those of the server.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Offers `STARTTLS` (RFC 3207) with these certificates instead of those of the server.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A connection begins with the TLS handshake (RFC 8314 §3.3), as on port 465. Without certificates of its own it has
    /// those of the server.
    #[must_use]
    pub fn implicit_tls(mut self) -> Self {
        self.is_implicit = true;
        self
    }

    /// Whether clients get session tickets, by which they come again without a full handshake (RFC 8446 §2.2, RFC 5077).
    ///
    /// A ticket is good for 12 hours at this listener and at no other; it carries no authentication. Default: only with
    /// [`Service::Submission`], where the same few clients come again and again. On port 25 a ticket would save little, and
    /// whoever steals its key could read what was sent meanwhile. Where
    /// [client certificates](ServerTls::ask_for_client_certificates) are asked for there are none.
    #[must_use]
    pub fn session_tickets(mut self, send: bool) -> Self {
        self.session_tickets = Some(send);
        self
    }

    pub(super) fn sends_tickets(&self) -> bool {
        self.session_tickets.unwrap_or(self.service == Service::Submission)
    }

    /// Behind a proxy in that network, which says whose connection it passes on by the PROXY protocol, version 1 or 2.
    /// From then on every connection must begin with its header, within 5 s; one that does not, or comes from elsewhere,
    /// is closed without a word. Default: none.
    #[must_use]
    pub fn behind_proxy(mut self, network: IpNet) -> Self {
        self.peers.proxies.push(network);
        self
    }

    /// Peers in that network may say with `XCLIENT` in whose place they speak, as mail proxies do: the session begins anew as one
    /// of that client, who is treated as unknown whatever its address. Connections are counted by peer, not by client. Default:
    /// nobody (SECURITY D-22).
    #[must_use]
    pub fn xclient_from(mut self, network: IpNet) -> Self {
        self.peers.xclient.push(network);
        self
    }

    /// Believes those peers also who the client has proved to be (`LOGIN=`): whoever speaks in their place may send as anybody.
    /// Default: no.
    #[must_use]
    pub fn trust_xclient_login(mut self) -> Self {
        self.peers.trusts_xclient_login = true;
        self
    }

    /// Peers in that network may say with `XFORWARD` where a message came from, as a filter does that gives it back. It is
    /// for the log and for hooks ([`Message::forwarded`](crate::Message::forwarded)). Default: nobody.
    #[must_use]
    pub fn xforward_from(mut self, network: IpNet) -> Self {
        self.peers.xforward.push(network);
        self
    }

    /// Whether clients that send before a reply they must wait for are told `554 5.5.0` and closed. Default: yes.
    #[must_use]
    pub fn refuse_early_talkers(mut self, refuse: bool) -> Self {
        self.refuse_early_talkers = refuse;
        self
    }

    /// How long strangers wait for the greeting. Programs that send spam often do not wait, and get `554 5.5.0`; other servers
    /// wait for five minutes (RFC 5321 §4.5.3.2.1). Relay clients do not wait, and neither does anybody while the server is under stress.
    /// Each that waits is a connection that counts. Default: none; at most 60 s.
    #[must_use]
    pub fn greeting_delay(mut self, delay: Duration) -> Self {
        self.greeting_delay = delay.min(Self::GREETING_DELAY_LIMIT);
        self
    }

    /// The longest [delay](Self::greeting_delay): 60 s.
    pub const GREETING_DELAY_LIMIT: Duration = Duration::from_secs(60);

    /// To whom `DSN` is offered (RFC 3461), where the delivery [honours](crate::Delivery::honours_dsn) it; otherwise to
    /// nobody. Default: known clients (PRACTICES S22).
    #[must_use]
    pub fn dsn(mut self, offer: DsnOffer) -> Self {
        self.dsn = offer;
        self
    }
}

/// What a listener lets peers do because of where they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    relay_clients: Vec<IpNet>,
    /// Where proxies are; with none, clients connect themselves.
    proxies: Vec<IpNet>,
    xclient: Vec<IpNet>,
    trusts_xclient_login: bool,
    xforward: Vec<IpNet>,
}

impl Peers {
    /// SECURITY D-43.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let too_wide = |networks: &[IpNet]| networks.iter().find(|network| is_too_wide(network)).copied();
        if let Some(network) = too_wide(&self.relay_clients) {
            return Err(ConfigError::OpenRelay(network));
        }
        let believed = too_wide(&self.xclient).or_else(|| too_wide(&self.xforward));
        believed.map_or(Ok(()), |network| Err(ConfigError::BelievesAnybody(network)))
    }

    pub(crate) fn is_relay_client(&self, address: IpAddr) -> bool {
        is_listed(&self.relay_clients, address)
    }

    pub(crate) fn are_behind_proxies(&self) -> bool {
        !self.proxies.is_empty()
    }

    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        is_listed(&self.proxies, address)
    }

    pub(crate) fn rights_of(&self, address: IpAddr) -> PeerRights {
        let xclient = is_listed(&self.xclient, address);
        let xclient_login = xclient && self.trusts_xclient_login;
        PeerRights { xclient, xclient_login, xforward: is_listed(&self.xforward, address) }
    }
}

/// Wider than a large organisation; of private networks, the largest is `fc00::/7`.
fn is_too_wide(network: &IpNet) -> bool {
    match network {
        IpNet::V4(network) => network.prefix_len() < 8,
        IpNet::V6(network) => network.prefix_len() < if network.addr().is_unique_local() { 7 } else { 16 },
    }
}

fn is_listed(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Whom a listener serves, and as what (RFC 5321, RFC 6409, RFC 8314 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Service {
    /// Other mail servers, as on port 25: `AUTH` is not offered, and `502 5.5.1`.
    Mx,
    /// Clients that have authenticated under TLS and nobody else, as on port 587: others get `530 5.7.0`, also for mailboxes
    /// of this server (RFC 6409 §4.3).
    Submission,
    /// Both, as on port 465: who has authenticated when it says `MAIL` is served as on port 587, everybody else as on port
    /// 25. `AUTH` is offered under TLS, where the server has an authenticator.
    #[default]
    Mixed,
}

/// What all listeners of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) hooks: Arc<HookSet>,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) connections: Arc<ConnectionCounter>,
    pub(crate) logins: Arc<Logins>,
    pub(crate) store: ContentStore,
    pub(crate) has_no_room: Arc<AtomicBool>,
}

impl Shared {
    /// Content could not be kept: new sessions are turned away until a trial says that it can (SECURITY D-33).
    ///
    /// The trial runs by itself, one at a time: accepting never waits for a disk.
    pub(crate) fn note_lack_of_room(&self) {
        if self.has_no_room.swap(true, Ordering::Relaxed) {
            return;
        }
        let (store, has_no_room) = (self.store.clone(), self.has_no_room.clone());
        tokio::spawn(async move {
            while !matches!(tokio::time::timeout(ROOM_TRIAL, store.open(None)).await, Ok(Ok(_))) {
                tokio::time::sleep(ROOM_TRIAL).await;
            }
            has_no_room.store(false, Ordering::Relaxed);
        });
    }

    fn has_room(&self) -> bool {
        !self.has_no_room.load(Ordering::Relaxed)
    }
}

/// The rules of one listener.
pub(crate) struct Profile {
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) peers: Peers,
    pub(crate) tls: Option<Acceptor>,
    /// A connection begins with the handshake.
    pub(crate) is_implicit: bool,
    pub(crate) shared: Shared,
}

/// A listener that is bound.
pub(crate) struct Bound {
    socket: Socket,
    address: SocketAddr,
    profile: Arc<Profile>,
}

impl Bound {
    pub(crate) async fn bind(listener: &Listener, profile: Arc<Profile>) -> io::Result<Self> {
        #[cfg(unix)]
        let socket = match &listener.unix {
            Some((path, mode)) => Socket::unix(path, *mode).await?,
            None => Socket::tcp(&listener.address).await?,
        };
        #[cfg(not(unix))]
        let socket = Socket::tcp(&listener.address).await?;
        Ok(Self { address: socket.address()?, socket, profile })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Accepts until the task is dropped. Nothing that one connection or the system does ends it.
    pub(crate) async fn accept(self, shutdown: Arc<Shutdown>) {
        let lingering = Arc::new(Semaphore::new(LINGERING_REFUSALS));
        let mut reserve = reserve_descriptor();
        while shutdown.phase() == Phase::Serve {
            match self.socket.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer, &shutdown, &lingering),
                // No descriptor is left: the reserved one lets the client be told.
                Err(error) if is_exhaustion(&error) && reserve.take().is_some() => {
                    if let Ok(Ok((stream, _))) = tokio::time::timeout(ACCEPT_PAUSE, self.socket.accept()).await {
                        let _ = stream.turn_away(replies::OVERLOADED);
                    }
                    reserve = reserve_descriptor();
                }
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    reserve = reserve.or_else(reserve_descriptor);
                }
            }
        }
    }

    fn admit(&self, stream: Arrived, peer: SocketAddr, shutdown: &Arc<Shutdown>, lingering: &Arc<Semaphore>) {
        let shared = &self.profile.shared;
        let is_proxied = self.profile.peers.are_behind_proxies();
        let admitted = if is_proxied { shared.connections.admit_proxy() } else { shared.connections.admit(peer.ip()) };
        let refusal = match admitted {
            Err(Excess::Total) => replies::OVERLOADED,
            Err(Excess::Client) => replies::TOO_MANY_CONNECTIONS,
            Ok(_) if !shared.has_room() => replies::OVERLOADED,
            Ok(admission) => {
                if shared.connections.stress_begins() {
                    // Those who wait by the longer limits look again, once.
                    shutdown.wake_all();
                }
                let (profile, shutdown) = (self.profile.clone(), shutdown.clone());
                let presence = shutdown.join();
                let address = self.address;
                match stream {
                    Arrived::Tcp(stream) => {
                        let local = stream.local_addr().unwrap_or(address);
                        let _ = stream.set_nodelay(true);
                        if is_proxied {
                            tokio::spawn(connection::serve_proxied(
                                stream, peer, local, profile, shutdown, presence, admission,
                            ));
                        } else {
                            tokio::spawn(async move {
                                let connection = connection::of(peer, local, &profile);
                                connection::serve(stream, connection, profile, shutdown, presence).await;
                                drop(admission);
                            });
                        }
                    }
                    #[cfg(unix)]
                    Arrived::Unix(stream) => {
                        tokio::spawn(async move {
                            let connection = connection::of(peer, address, &profile);
                            connection::serve(stream, connection, profile, shutdown, presence).await;
                            drop(admission);
                        });
                    }
                }
                return;
            }
        };
        if let Ok(stream) = stream.turn_away(refusal)
            && let Ok(permit) = lingering.clone().try_acquire_owned()
        {
            let limits = &self.profile.session.limits;
            let (time, most) = (limits.linger, limits.linger_octets);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(time, stream.discard(most)).await;
                drop(permit);
            });
        }
    }
}

/// A descriptor to give up when there are no others.
fn reserve_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// ENFILE or EMFILE.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}
