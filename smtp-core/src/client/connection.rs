//! A connection to a server, kept for any number of messages: the loop that drives one [`ClientSession`].

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::{Instant, Sleep, timeout_at};

use crate::sasl::base64;
use crate::session::client::envelope::Envelope;
use crate::session::client::offers::Offers;
use crate::session::client::report::{SendCause, SendError, SendReport, SendStage};
use crate::session::client::{ClientSession, ClientStep, StartTls};
use crate::session::tls::TlsFacts;
use crate::syntax::path::ForwardPath;
use crate::syntax::reply::Reply;

use super::body::body_of;
use super::config::ClientConfig;
use super::connecting;
use super::content_source::ContentSource;
use super::inbound::Inbound;
use super::tls::{Channel, ClientTls};

/// The clock of tokio, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Random, for one exchange of SCRAM.
fn nonce() -> Result<String, SendError> {
    let mut random = [0; 18];
    let failed = |_| SendError::new(SendStage::Auth, SendCause::Source(io::ErrorKind::Other));
    getrandom::fill(&mut random).map_err(failed)?;
    Ok(base64::encode(&random))
}

/// What ended a wait.
enum Woken {
    Wrote(usize),
    Read(usize),
    ReadFailed(io::ErrorKind),
    WriteFailed(io::ErrorKind),
    Timeout,
}

/// A connection that a server has greeted.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::Bytes;
/// use smtp_core::{ClientConfig, ClientConnection, Envelope};
///
/// let config = ClientConfig::new("client.example")?;
/// let mut connection = ClientConnection::connect("127.0.0.1:2525", &config).await?;
/// let envelope = Envelope::parse("alice@client.example", ["bob@example.org", "carol@example.org"])?;
/// let report = connection.send(&envelope, Bytes::from("Subject: hello\r\n\r\nHello\r\n")).await;
/// for (recipient, result) in envelope.recipients().iter().zip(report.recipients()) {
///     match result {
///         Ok(reply) => println!("{recipient} delivered: {reply}"),
///         Err(error) if error.is_transient() => println!("{recipient} deferred: {error}"),
///         Err(error) => println!("{recipient} failed: {error}"),
///     }
/// }
/// connection.quit().await;
/// # Ok(())
/// # }
/// ```
pub struct ClientConnection<S = TcpStream> {
    stream: Channel<S>,
    tls: Option<TlsFacts>,
    session: ClientSession,
    inbound: Inbound,
    /// One for the whole connection, moved only when it fires or must fire earlier.
    timer: Option<Pin<Box<Sleep>>>,
    has_unflushed: bool,
    write_failure: Option<io::ErrorKind>,
    peer: Option<SocketAddr>,
    opened: Instant,
    idle_since: Instant,
    messages_sent: u64,
}

impl ClientConnection {
    /// Connects to the first address of `server` that takes the connection, and reads the greeting and the answer to
    /// `EHLO`. A name is looked up as the system does it, without MX records.
    ///
    /// # Errors
    /// Where there is no connection, or the server takes no mail from this client.
    pub async fn connect(server: impl ToSocketAddrs, config: &ClientConfig) -> Result<Self, SendError> {
        Self::connect_with(server, config, |stream| stream).await
    }

    /// The same without a name.
    ///
    /// # Errors
    /// As [`ClientConnection::connect`].
    pub async fn connect_to(addresses: &[SocketAddr], config: &ClientConfig) -> Result<Self, SendError> {
        Self::open_tcp(addresses, config, |stream| stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ClientConnection<S> {
    /// Connects as [`ClientConnection::connect`] does, and speaks over what `wrap` makes of the connection: a stream that
    /// shows, counts or delays what passes.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_core::{ClientConfig, ClientConnection};
    /// use tokio::io::BufWriter;
    ///
    /// let config = ClientConfig::new("client.example")?;
    /// let connection = ClientConnection::connect_with("127.0.0.1:2525", &config, BufWriter::new).await?;
    /// println!("{:?} offers {:?}", connection.peer(), connection.offers());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ClientConnection::connect`].
    pub async fn connect_with(
        server: impl ToSocketAddrs,
        config: &ClientConfig,
        wrap: impl FnMut(TcpStream) -> S,
    ) -> Result<Self, SendError> {
        let addresses = connecting::resolve(server, config).await?;
        Self::open_tcp(&addresses, config, wrap).await
    }

    /// Speaks over any stream: of a test, of another kind of transport. Without a name in the configuration the client
    /// calls itself `[127.0.0.1]`.
    ///
    /// # Errors
    /// Where the server takes no mail from this client.
    pub async fn over(stream: S, config: &ClientConfig) -> Result<Self, SendError> {
        Self::open(stream, None, IpAddr::V4(Ipv4Addr::LOCALHOST), config).await
    }

    async fn open_tcp(
        addresses: &[SocketAddr],
        config: &ClientConfig,
        mut wrap: impl FnMut(TcpStream) -> S,
    ) -> Result<Self, SendError> {
        let stream = connecting::connect(addresses, config).await?;
        let (peer, local) = (stream.peer_addr().ok(), local_address(&stream));
        let opened = Self::open(wrap(stream), peer, local, config).await;
        let Err(error) = opened else { return opened };
        let may_be_in_clear = config.tls().is_some_and(|tls| tls.use_of_starttls() == StartTls::IfOffered);
        if may_be_in_clear && matches!(error.cause(), SendCause::Handshake(_)) {
            // RFC 7435 §3: what would have gone in clear to a server without TLS goes in clear to one whose TLS fails.
            let stream = connecting::connect(addresses, config).await?;
            let (peer, local) = (stream.peer_addr().ok(), local_address(&stream));
            return Self::open(wrap(stream), peer, local, &config.without_tls()).await;
        }
        Err(error)
    }

    async fn open(
        stream: S,
        peer: Option<SocketAddr>,
        local: IpAddr,
        config: &ClientConfig,
    ) -> Result<Self, SendError> {
        let opened = Instant::now();
        let to = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip());
        let session = ClientSession::new(config.name_at(local), config.limits().clone(), opened.into_std())
            .with_protocol(config.protocol());
        let session = if config.prefers_chunks() { session.with_chunking() } else { session };
        let session = if config.asks_for_each() { session.with_prdr() } else { session };
        let session = match config.auth() {
            Some(auth) => session.with_auth(auth.clone(), nonce()?),
            None => session,
        };
        let is_verified = config.tls().is_some_and(ClientTls::is_verified);
        let session = if is_verified { session.with_verified_tls() } else { session };
        let (stream, tls, session) = match config.tls() {
            Some(tls) if tls.is_implicit() => {
                let made = Box::pin(tls.connect(stream, to, config.limits().handshake_timeout)).await;
                let failed = |why| SendError::new(SendStage::Connect, SendCause::Handshake(why));
                let (stream, facts) = made.map_err(failed)?;
                let mut session = session;
                session.bind_to(facts.exporter);
                (Channel::Tls(Box::new(stream)), Some(facts), session.under_tls())
            }
            tls => {
                let starttls = tls.map_or(StartTls::Never, ClientTls::use_of_starttls);
                (Channel::Clear(stream), None, session.with_starttls(starttls))
            }
        };
        let mut connection = Self {
            stream,
            tls,
            session,
            inbound: Inbound::new(),
            timer: None,
            has_unflushed: false,
            write_failure: None,
            peer,
            opened,
            idle_since: opened,
            messages_sent: 0,
        };
        connection.drive(&mut Bytes::new()).await;
        if let (true, Some(tls)) = (connection.session.is_starting_tls(), config.tls()) {
            Box::pin(connection.start_tls(tls, to)).await;
        }
        match connection.session.error() {
            Some(error) => Err(error.clone()),
            None => Ok(connection),
        }
    }

    /// The handshake behind `STARTTLS`, and the answer to the second `EHLO`.
    async fn start_tls(&mut self, tls: &ClientTls, to: IpAddr) {
        // The session takes all that was read, so nothing that came in clear is left.
        let Channel::Clear(stream) = std::mem::replace(&mut self.stream, Channel::Gone) else { return };
        match Box::pin(tls.connect(stream, to, self.session.limits().handshake_timeout)).await {
            Ok((stream, facts)) => {
                self.stream = Channel::Tls(Box::new(stream));
                self.session.bind_to(facts.exporter);
                self.tls = Some(facts);
                self.session.tls_started(now());
                self.drive(&mut Bytes::new()).await;
            }
            Err(why) => self.session.tls_failed(why),
        }
    }

    /// Sends one message, and says for each recipient what became of it.
    ///
    /// Content up to 64 KiB, and all content that is in memory, is checked before the server hears of the message.
    /// Content in memory with octets above 127 is declared as 8-bit (RFC 6152), unless the envelope says otherwise. What
    /// cannot go by `DATA` is declared as binary and goes by `BDAT`, where the server takes that (RFC 3030).
    /// Dropping the future leaves the connection of no further use.
    pub async fn send(&mut self, envelope: &Envelope, mut content: impl ContentSource) -> SendReport {
        self.look_for_farewell();
        let octets = content.len();
        let body = match body_of(envelope, &content, self.session.offers()) {
            Ok(body) => body,
            Err(defect) => {
                let error = SendError::new(SendStage::Local, SendCause::Defect(defect));
                return SendReport::failed(envelope.recipients().len(), &error, false);
            }
        };
        match body {
            Some(body) if envelope.body() != Some(body) => {
                self.session.begin(now(), &envelope.clone().with_body(body), octets);
            }
            _ => self.session.begin(now(), envelope, octets),
        }
        let report = self.drive(&mut content).await;
        // What came behind the last reply makes the connection useless; better to know now.
        self.look_for_farewell();
        self.idle_since = Instant::now();
        let report = report.unwrap_or_else(|| {
            let error = SendError::new(SendStage::Local, SendCause::NotUsable);
            SendReport::failed(envelope.recipients().len(), &error, false)
        });
        self.messages_sent += u64::from(report.delivered() > 0);
        report
    }

    /// Asks whether the server would take mail for that recipient, as a callout does (RFC 5321 §7.3 has what it costs others):
    /// `MAIL FROM:<>`, `RCPT` and `RSET`, and no message. The reply is that to `RCPT`.
    ///
    /// # Errors
    /// Where the server would not, or something else went wrong: [`SendError::stage`] tells which.
    pub async fn ask(&mut self, recipient: &ForwardPath) -> Result<Reply, SendError> {
        self.look_for_farewell();
        self.session.begin_question(now(), recipient);
        let report = self.drive(&mut Bytes::new()).await;
        self.idle_since = Instant::now();
        let result = report.and_then(|report| report.into_recipients().pop());
        result.unwrap_or_else(|| Err(SendError::new(SendStage::Local, SendCause::NotUsable)))
    }

    /// Says `QUIT` and waits for the reply, at most [`ClientLimits::quit_timeout`](crate::ClientLimits::quit_timeout).
    /// What was sent is sent, whatever comes of it.
    pub async fn quit(mut self) {
        self.look_for_farewell();
        self.session.quit(now());
        self.drive(&mut Bytes::new()).await;
    }

    /// Whether another message can be sent: the server has answered the last one and neither said nor closed anything
    /// since.
    pub fn is_reusable(&mut self) -> bool {
        self.look_for_farewell();
        self.session.is_reusable()
    }

    /// How many messages were delivered to at least one recipient.
    pub fn messages_sent(&self) -> u64 {
        self.messages_sent
    }

    /// When the connection was made.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// When the last message was finished; when the connection was made where there was none.
    pub fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// The address of the server; `None` over a stream that was given ([`ClientConnection::over`]).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What the TLS handshake settled; `None` in clear.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// What the server offers.
    pub fn offers(&self) -> Offers {
        self.session.offers()
    }

    /// What the server said first.
    pub fn greeting(&self) -> Option<&Reply> {
        self.session.greeting()
    }

    /// Why the connection can no longer be used, where that is so and was not asked for.
    pub fn error(&self) -> Option<&SendError> {
        self.session.error()
    }

    // -- the loop

    /// Lets the session go on until it has a report, or nothing to do.
    async fn drive(&mut self, content: &mut dyn ContentSource) -> Option<SendReport> {
        let mut chunk = Bytes::new();
        loop {
            let time = now();
            match self.poll_session(time) {
                Some(ClientStep::Sent(report)) => return Some(report),
                Some(ClientStep::Content) => self.supply(time, content, &mut chunk).await,
                None if self.session.is_idle() || self.session.is_starting_tls() => return None,
                None => self.exchange().await,
            }
        }
    }

    fn poll_session(&mut self, time: std::time::Instant) -> Option<ClientStep> {
        let mut input = self.inbound.unread();
        let before = input.len();
        let step = self.session.poll(time, &mut input);
        let taken = before - input.len();
        self.inbound.consume(taken);
        step
    }

    /// Gives the session more content. A source that hangs is a source that fails.
    async fn supply(&mut self, time: std::time::Instant, content: &mut dyn ContentSource, chunk: &mut Bytes) {
        if chunk.is_empty() {
            let deadline = self.session.deadline().map_or_else(Instant::now, Instant::from_std);
            match timeout_at(deadline, content.next_chunk()).await {
                Ok(Ok(Some(next))) => *chunk = next,
                Ok(Ok(None)) => return self.session.end_of_content(time),
                Ok(Err(error)) => return self.session.content_failed(time, SendCause::Source(error.kind())),
                Err(_elapsed) => return self.session.handle_timeout(now()),
            }
            if chunk.is_empty() {
                // A source of nothing must not keep the thread, nor go on for ever.
                tokio::task::yield_now().await;
                return self.session.handle_timeout(now());
            }
        }
        let mut rest = &chunk[..];
        self.session.content(time, &mut rest);
        let taken = chunk.len() - rest.len();
        let _ = chunk.split_to(taken);
    }

    /// Writes, reads or waits, whichever can be done first.
    async fn exchange(&mut self) {
        let woken = poll_fn(|cx| self.poll_exchange(cx)).await;
        let time = now();
        match woken {
            Woken::Wrote(octets) => self.session.output_written(time, octets),
            Woken::Read(0) => self.session.server_left(),
            Woken::Read(octets) => self.inbound.filled(octets),
            Woken::ReadFailed(kind) => self.session.network_failed(kind),
            // A server that has seen enough says why and closes: that is still to be read.
            Woken::WriteFailed(kind) => self.write_failure = Some(kind),
            Woken::Timeout => self.session.handle_timeout(time),
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        // While content is written, a server that has seen enough is heard at once; otherwise nothing is to be read yet.
        if self.session.is_sending_content()
            && let Poll::Ready(woken) = self.poll_read(cx)
        {
            return Poll::Ready(woken);
        }
        if let Poll::Ready(woken) = self.poll_write(cx) {
            return Poll::Ready(woken);
        }
        if let Poll::Ready(woken) = self.poll_read(cx) {
            return Poll::Ready(woken);
        }
        if let Some(kind) = self.write_failure {
            return Poll::Ready(Woken::ReadFailed(kind));
        }
        self.poll_deadline(cx).map(|()| Woken::Timeout)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        if self.write_failure.is_some() {
            return Poll::Pending;
        }
        let output = self.session.output();
        if output.is_empty() {
            if self.has_unflushed && Pin::new(&mut self.stream).poll_flush(cx).is_ready() {
                self.has_unflushed = false;
            }
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, output).map(|written| match written {
            Ok(0) => Woken::WriteFailed(io::ErrorKind::WriteZero),
            Ok(octets) => {
                self.has_unflushed = true;
                Woken::Wrote(octets)
            }
            Err(error) => Woken::WriteFailed(error.kind()),
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        let mut free = ReadBuf::new(self.inbound.free());
        Pin::new(&mut self.stream).poll_read(cx, &mut free).map(|read| match read {
            Ok(()) => Woken::Read(free.filled().len()),
            Err(error) => Woken::ReadFailed(error.kind()),
        })
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

    /// Whether a server that nobody asks has said something, as `421`, or has closed.
    fn look_for_farewell(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.session.is_idle() && !self.session.is_closed() {
            if self.inbound.unread().is_empty() {
                match self.poll_read(&mut cx) {
                    Poll::Ready(Woken::Read(octets @ 1..)) => self.inbound.filled(octets),
                    Poll::Ready(Woken::ReadFailed(kind)) => return self.session.network_failed(kind),
                    Poll::Ready(_) => return self.session.server_left(),
                    Poll::Pending => return,
                }
            }
            if self.poll_session(now()).is_some() {
                return;
            }
        }
    }
}

/// Where a connection comes from.
fn local_address(stream: &TcpStream) -> IpAddr {
    stream.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

impl<S> fmt::Debug for ClientConnection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnection")
            .field("peer", &self.peer)
            .field("session", &self.session)
            .field("messages_sent", &self.messages_sent)
            .finish_non_exhaustive()
    }
}
