//! The loop that drives one session: read, ask, write. How it is answered stands in [`answers`] and
//! [`authentication`].

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::message::content::ContentWriter;
use crate::session::connection::{Connection, SessionId, TransactionId, Treatment};
use crate::session::event::{CloseReason, SessionEvent};
use crate::session::limits::Limits;
use crate::session::replies;
use crate::session::server::{ServerSession, Step};
use crate::session::tls::TlsFacts;
use crate::syntax::proxy::ProxyHeader;
use crate::syntax::text::SafeText;

use super::connection_limits::Admission;
use super::inbound::Inbound;
use super::listener::Profile;
use super::logins::Attempt;
use super::proxy_protocol;
use super::shutdown::{Phase, Presence, Shutdown};

mod answers;
mod authentication;

/// Replies are written before a group of commands is through where they have grown to this, or have waited so long.
const OUTPUT_OCTETS: usize = 16 << 10;
const OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// What is known of a connection before a word is said.
pub(crate) fn of(peer: SocketAddr, local: SocketAddr, profile: &Profile) -> Connection {
    let treatment = if profile.peers.is_relay_client(peer.ip()) { Treatment::RelayClient } else { Treatment::Mx };
    let connection = Connection::new(SessionId::new(random()), peer, local).with_treatment(treatment);
    connection.with_peer_rights(profile.peers.rights_of(peer.ip()))
}

/// A connection that a proxy passes on. Without its word for whose it is, not a word is said.
pub(crate) async fn serve_proxied(
    mut stream: TcpStream,
    proxy: SocketAddr,
    local: SocketAddr,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
    mut admission: Admission,
) {
    let header = if profile.peers.is_proxy(proxy.ip()) {
        proxy_protocol::read(&mut stream).await
    } else {
        Err(SafeText::new("its address is not listed as that of a proxy"))
    };
    let connection = match header {
        Ok(ProxyHeader::Client { source, destination }) => of(source, destination, &profile).with_proxy(proxy),
        Ok(ProxyHeader::Own) => of(proxy, local, &profile),
        Err(cause) => {
            let connection = of(proxy, local, &profile);
            profile.shared.hooks.observe(&connection, || SessionEvent::ProxyRefused { cause });
            return profile.shared.hooks.observe(&connection, || SessionEvent::Closed(CloseReason::Violation));
        }
    };
    if admission.count_client(connection.peer().ip()).is_ok() {
        serve(stream, connection, profile, shutdown, presence).await;
    } else {
        let mut line = Vec::new();
        replies::TOO_MANY_CONNECTIONS.reply().write_to(&mut line);
        // A new socket has room for one line, and a client that is gone needs none.
        let _ = stream.write_all(&line).await;
    }
}

/// Drives one session to its end.
pub(crate) async fn serve<S>(
    stream: S,
    connection: Connection,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    profile.shared.hooks.observe(&connection, || SessionEvent::Connected);
    if profile.is_implicit {
        Box::pin(serve_implicit(stream, connection, profile, shutdown, presence)).await;
        return;
    }
    let session = ServerSession::new(profile.session.clone(), Arc::new(connection), now());
    let session = session.with_wall_time(SystemTime::now());
    if let Some(upgrade) = Driver::new(stream, session, profile, shutdown, presence).run().await {
        Box::pin(upgrade.go_on()).await;
    }
}

/// A connection that begins with the handshake (RFC 8314 §3).
async fn serve_implicit<S>(
    stream: S,
    connection: Connection,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if !profile.shared.connections.admit_handshake(connection.peer().ip(), now()) {
        return no_tls(&profile, &connection, SafeText::new("too many handshakes from this client"));
    }
    if let Some((stream, facts)) = handshake(stream, &connection, &profile).await {
        let connection = Arc::new(connection.with_tls(facts));
        profile.shared.hooks.observe(&connection, || SessionEvent::TlsStarted(connection.clone()));
        let session = ServerSession::new(profile.session.clone(), connection, now());
        let session = session.with_wall_time(SystemTime::now());
        Driver::new(stream, session, profile, shutdown, presence).run().await;
    }
}

async fn handshake<S>(stream: S, connection: &Connection, profile: &Profile) -> Option<(TlsStream<S>, TlsFacts)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let made = match &profile.tls {
        Some(tls) => tls.accept(stream, profile.session.limits.handshake_timeout).await,
        None => Err(SafeText::new("there is no certificate")),
    };
    made.map_err(|cause| no_tls(profile, connection, cause)).ok()
}

fn no_tls(profile: &Profile, connection: &Connection, cause: SafeText) {
    profile.shared.hooks.observe(connection, || SessionEvent::TlsFailed { cause });
    profile.shared.hooks.observe(connection, || SessionEvent::Closed(CloseReason::Tls));
}

/// A connection whose client was told to begin its handshake (RFC 3207). Nothing that was read in clear comes along.
struct Upgrade<S> {
    stream: S,
    session: ServerSession,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Upgrade<S> {
    async fn go_on(self) {
        let Self { stream, session, profile, shutdown, presence } = self;
        if let Some((stream, facts)) = handshake(stream, session.connection(), &profile).await {
            let session = session.into_tls(facts, now());
            Driver::new(stream, session, profile, shutdown, presence).run().await;
        }
    }
}

/// Random bits from the hasher's seed: a name, not a secret.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The clock of tokio, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// What ended a wait.
enum Woken {
    Input,
    ClientLeft,
    Failed,
    Timeout,
    Shutdown,
}

struct Driver<S> {
    inbound: Inbound<S>,
    session: ServerSession,
    /// When the current step began, so that not each one asks the clock.
    time: std::time::Instant,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
    /// Boxed, because most of the time there is none.
    content: Option<Box<ContentWriter>>,
    /// One for the whole connection, moved only when it fires or must fire earlier.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the content of the current message was complete.
    arrived: SystemTime,
    /// The place of the policy that is being asked.
    policy: Arc<AtomicUsize>,
    /// Messages whose `250` is not written yet.
    acknowledged: Vec<TransactionId>,
    /// The login that goes on.
    login: Option<Attempt>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    fn new(
        stream: S,
        session: ServerSession,
        profile: Arc<Profile>,
        shutdown: Arc<Shutdown>,
        presence: Presence,
    ) -> Self {
        Self {
            inbound: Inbound::new(stream, profile.shared.buffers.clone()),
            session,
            time: now(),
            profile,
            shutdown,
            presence,
            content: None,
            timer: None,
            policy: Arc::default(),
            acknowledged: Vec::new(),
            login: None,
            arrived: SystemTime::UNIX_EPOCH,
        }
    }

    /// Drives the session to its end, or to a TLS handshake.
    async fn run(mut self) -> Option<Upgrade<S>> {
        self.look_for_early_talker().await;
        loop {
            self.advance().await;
            if self.write().await.is_err() {
                self.session.client_left(CloseReason::Network);
                break;
            }
            if self.session.is_starting_tls() {
                self.report_events();
                let Self { inbound, mut session, profile, shutdown, presence, .. } = self;
                if let Some(stream) = inbound.into_stream() {
                    return Some(Upgrade { stream, session, profile, shutdown, presence });
                }
                session.client_left(CloseReason::ClientLeft);
                profile.shared.hooks.observe(session.connection(), || SessionEvent::Closed(CloseReason::ClientLeft));
                return None;
            }
            if self.session.is_closed() {
                self.linger().await;
                break;
            }
            match self.wait().await {
                Woken::Input | Woken::Shutdown => {}
                Woken::ClientLeft => self.session.client_left(CloseReason::ClientLeft),
                Woken::Failed => self.session.client_left(CloseReason::Network),
                Woken::Timeout => self.session.handle_timeout(now()),
            }
            match self.presence.phase() {
                Phase::Serve => {}
                Phase::Finish => self.session.shut_down(),
                Phase::End => self.session.end_now(),
            }
        }
        let reason = self.session.close_reason().unwrap_or(CloseReason::Network);
        self.report_events();
        self.observe(|| SessionEvent::Closed(reason));
        None
    }

    /// Gives the runtime one chance to say that octets came before the greeting (SECURITY D-3).
    async fn look_for_early_talker(&mut self) {
        if self.profile.session.refuse_early_talkers {
            tokio::task::yield_now().await;
            poll_fn(|cx| {
                let _ = self.inbound.poll_read(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Lets the session go on until it needs something from the client.
    async fn advance(&mut self) {
        self.time = now();
        loop {
            let mut input = self.inbound.unread();
            let before = input.len();
            let step = self.session.poll(self.time, &mut input);
            if let (Some(outcome), Some(attempt)) = (self.session.take_login(), &self.login) {
                self.profile.shared.logins.end(attempt, outcome, self.time);
                self.login = None;
            }
            let consumed = before - input.len();
            match step {
                None => {
                    self.inbound.consume(consumed);
                    break;
                }
                Some(Step::Content(octets)) => {
                    let limits = &self.profile.session.limits;
                    let stored = match &mut self.content {
                        Some(content) => in_time(limits.hook_timeout, content.append(octets)).await,
                        None => Err(io::ErrorKind::NotFound.into()),
                    };
                    self.inbound.consume(consumed);
                    if let Err(cause) = stored {
                        self.storage_failed(&cause);
                        self.session.content_lost();
                    }
                }
                Some(Step::Ask(question)) => {
                    self.inbound.consume(consumed);
                    // What led to the question is reported before what the hooks report.
                    self.report_events();
                    let asked = self.time;
                    self.answer(question).await;
                    if self.session.output().len() > OUTPUT_OCTETS || self.time - asked > OUTPUT_WAIT {
                        self.session.check_silence(self.inbound.unread());
                        self.report_events();
                        if self.write().await.is_err() {
                            self.session.client_left(CloseReason::Network);
                        }
                    }
                }
            }
            self.drop_spoilt_content();
        }
        self.drop_spoilt_content();
        self.report_events();
    }

    /// Content that is refused already need not be kept while the rest of it arrives.
    fn drop_spoilt_content(&mut self) {
        if self.content.is_some() && !self.session.needs_content() {
            self.content = None;
        }
    }

    fn limits(&self) -> &Limits {
        &self.profile.session.limits
    }

    // -- writing and waiting

    async fn write(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        if self.session.expects_silence() && self.inbound.has_more() {
            // The end of a read must not hide what came before the reply.
            poll_fn(|cx| Poll::Ready(self.inbound.poll_read(cx).is_ready())).await;
            self.session.check_silence(self.inbound.unread());
        }
        if !self.session.output().is_empty() {
            let Self { inbound, session, profile, .. } = self;
            let write = async {
                inbound.stream.write_all(session.output()).await?;
                inbound.stream.flush().await
            };
            result = in_time(profile.session.limits.write_timeout, write).await;
            self.session.output_written();
        }
        for transaction in std::mem::take(&mut self.acknowledged) {
            // Who closed its side before the reply, without QUIT, may never have read it (RFC 1047).
            let has_left = self.inbound.has_failed() || (self.inbound.has_ended() && self.inbound.unread().is_empty());
            if result.is_err() || (has_left && !self.session.is_closed()) {
                self.observe(|| SessionEvent::AcknowledgementUnconfirmed { transaction });
            }
        }
        result
    }

    async fn wait(&mut self) -> Woken {
        poll_fn(|cx| {
            self.session.set_under_stress(self.profile.shared.connections.is_under_stress());
            if self.session.is_delayed() && self.inbound.has_ended() {
                // Half-closed: the late reply, and what was said before the end, still have their turn.
                return self.poll_deadline(cx).map(|()| Woken::Timeout);
            }
            match self.inbound.poll_read(cx) {
                Poll::Ready(Ok(0)) if self.inbound.has_failed() => return Poll::Ready(Woken::Failed),
                Poll::Ready(Ok(0)) if self.session.is_delayed() => {
                    cx.waker().wake_by_ref(); // The end is known now: see above.
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Woken::ClientLeft),
                Poll::Ready(Ok(_)) => return Poll::Ready(Woken::Input),
                Poll::Ready(Err(_)) => return Poll::Ready(Woken::Failed),
                Poll::Pending => {}
            }
            if self.poll_deadline(cx).is_ready() {
                return Poll::Ready(Woken::Timeout);
            }
            self.presence.wake_on_change(cx.waker());
            match self.presence.phase() {
                Phase::Finish if self.session.is_shutting_down() => Poll::Pending,
                Phase::Serve => Poll::Pending,
                Phase::Finish | Phase::End => Poll::Ready(Woken::Shutdown),
            }
        })
        .await
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.session.deadline().map(Instant::from_std) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Half-closes and discards, so that unread input does not reset the connection and take the last reply with it.
    async fn linger(&mut self) {
        let (time, mut octets) = (self.limits().linger, self.limits().linger_octets);
        let discard = async {
            self.inbound.stream.shutdown().await?;
            self.inbound.consume(self.inbound.unread().len());
            loop {
                let read = poll_fn(|cx| self.inbound.poll_read(cx)).await?;
                self.inbound.consume(read);
                octets = octets.saturating_sub(read as u64);
                if read == 0 || octets == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let _ = timeout(time, discard).await;
    }

    // -- events

    fn storage_failed(&self, cause: &io::Error) {
        self.profile.shared.note_lack_of_room();
        self.observe(|| SessionEvent::StorageFailed { cause: SafeText::new(cause.to_string()) });
    }

    fn observe(&self, event: impl FnOnce() -> SessionEvent) {
        self.profile.shared.hooks.observe(self.session.connection(), event);
    }

    fn report_events(&mut self) {
        if self.profile.session.observed {
            for event in self.session.take_events() {
                self.profile.shared.hooks.observe(self.session.connection(), || event);
            }
        }
    }
}

/// A disk that hangs is a disk that fails.
async fn in_time<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
