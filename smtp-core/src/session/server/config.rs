//! What all sessions of a listener have in common.

use std::time::Duration;

use crate::syntax::address::Mailbox;
use crate::syntax::domain::Domain;

use crate::sasl::keys::ScramKeys;
use crate::sasl::secret::ServerSecret;
use crate::session::limits::Limits;
use crate::session::transfer_protocol::TransferProtocol;
use crate::syntax::mechanism::Mechanisms;
use crate::syntax::solicitation::SolicitationClasses;

/// Which stages some policy wants to be asked about; the others cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stages(u8);

impl Stages {
    /// None.
    pub const NONE: Self = Self(0);
    /// A client connected.
    pub const CONNECT: Self = Self(1);
    /// `EHLO` or `HELO`.
    pub const HELO: Self = Self(2);
    /// `MAIL`.
    pub const MAIL: Self = Self(4);
    /// `RCPT`.
    pub const RECIPIENT: Self = Self(8);
    /// The whole message.
    pub const MESSAGE: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// Whether all stages of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Stages {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// To whom `DSN` is offered (RFC 3461 §3): who may ask to be told what became of a message, and in how many words.
///
/// Whoever offers it is obliged to honour it, so a session offers it only where somebody said that its delivery does.
/// Notifications of success tell which mailboxes live, hence not to everybody (PRACTICES S22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DsnOffer {
    /// To nobody; a parameter of it is answered with `555 5.5.4`.
    #[default]
    Nobody,
    /// To clients that are authenticated or may relay.
    KnownClients,
    /// To all. For listeners where nobody else can send anything, since `EHLO` comes before `AUTH`.
    Everybody,
}

/// How clients may authenticate (RFC 4954).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Authentication {
    /// With what. `SCRAM-SHA-256-PLUS` is offered only where the TLS connection has an exporter, `EXTERNAL` only where the
    /// client showed a certificate.
    pub mechanisms: Mechanisms,
    /// What nonces and the salts of unknown users derive from.
    pub secret: ServerSecret,
    /// How many iterations an unknown user seems to have: as many as others. [`ScramKeys::DEFAULT_ITERATIONS`].
    pub iterations_of_nobody: u32,
    /// Whether it is offered without TLS, so that everybody on the way can read the passwords: no.
    pub dangerously_in_clear: bool,
    /// Whether only clients that have authenticated may send anything, to mailboxes of this server as well (RFC 4954 §6):
    /// others get `530 5.7.0`.
    pub is_required: bool,
}

impl Authentication {
    /// With those mechanisms, under TLS only.
    pub fn new(mechanisms: Mechanisms, secret: ServerSecret) -> Self {
        let iterations_of_nobody = ScramKeys::DEFAULT_ITERATIONS;
        Self { mechanisms, secret, iterations_of_nobody, dangerously_in_clear: false, is_required: false }
    }
}

/// What all sessions of a listener have in common.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that holds or not")]
pub struct SessionConfig {
    /// The name of this server: greeting, answer to `EHLO`, `Received`.
    pub hostname: Domain,
    /// Where mail for `<postmaster>` without a domain goes (RFC 5321 §4.5.1).
    pub postmaster: Mailbox,
    /// Domains whose mail is never relayed: a mailbox there that the lookup calls not local does not exist.
    pub local_domains: Vec<Domain>,
    /// What is allowed.
    pub limits: Limits,
    /// To whom `DSN` is offered. Default: nobody.
    pub dsn: DsnOffer,
    /// Whether `BINARYMIME` is offered (RFC 3030 §3), because the delivery takes content of any octets. Default: no.
    pub honours_binarymime: bool,
    /// Whether `REQUIRETLS` is offered under TLS (RFC 8689), because the delivery sends such mail only where that is
    /// promised again. Default: no.
    pub honours_requiretls: bool,
    /// Whether `FUTURERELEASE` is offered to clients that have authenticated, and where nobody else may send (RFC 4865), because
    /// the delivery holds messages. Only by sessions that know what time it is
    /// ([`ServerSession::with_wall_time`](super::ServerSession::with_wall_time)). Default: no.
    pub honours_future_release: bool,
    /// Whether `DELIVERBY` is offered (RFC 2852), because the delivery keeps to it. Only by sessions that know what time it is
    /// ([`ServerSession::with_wall_time`](super::ServerSession::with_wall_time)). Default: no.
    pub honours_deliver_by: bool,
    /// Whether `MT-PRIORITY` is offered (RFC 6710), because the delivery takes urgent messages first. Default: no.
    pub honours_priority: bool,
    /// Whether `RRVS` is offered (RFC 7293), because the lookup knows since when mailboxes have their owners. Default: no.
    pub honours_rrvs: bool,
    /// Whether the delivery passes `RRVS=` on with recipients that are not of this host, or fails them; otherwise they are
    /// refused at `RCPT`, unless the client said `;C`. Default: no.
    pub relays_rrvs: bool,
    /// Which stages are asked about.
    pub stages: Stages,
    /// Whether octets that come before a reply that must be waited for end the session with `554 5.5.0`.
    pub refuse_early_talkers: bool,
    /// How long a stranger waits for the greeting, since it connected, unless the server is under stress: programs that send
    /// spam do not, and are early talkers then. Default: none.
    pub greeting_delay: Duration,
    /// Whether `STARTTLS` is offered in clear (RFC 3207). Who drives the session makes the handshake when
    /// [`ServerSession::is_starting_tls`](super::ServerSession::is_starting_tls) says so.
    pub offers_starttls: bool,
    /// What is spoken. Default: SMTP.
    pub protocol: TransferProtocol,
    /// Whether the host takes no mail at all: it says so with `521` in its greeting, and to every command but `QUIT` (RFC 7504
    /// §3). Nothing is asked then. Default: no.
    pub no_mail: bool,
    /// Whether `PRDR` is offered where SMTP is spoken (draft-hall-prdr-00): a client can ask for a reply for each recipient.
    pub offers_prdr: bool,
    /// Of which classes no message is taken, where `NO-SOLICITING` is offered (RFC 3865); maybe of none in particular, so
    /// that policies alone decide. Default: not offered.
    pub no_soliciting: Option<SolicitationClasses>,
    /// How clients may authenticate; `None` where they cannot.
    pub authentication: Option<Authentication>,
    /// The domain that completes unqualified addresses of authenticated clients (RFC 6409 §4.2); `None`: they are refused.
    pub qualify_with: Option<Domain>,
    /// Whether events are collected.
    pub observed: bool,
}

impl SessionConfig {
    /// The defaults for a server of that name, with `postmaster` at that name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            postmaster: Mailbox::postmaster_at(hostname.clone()),
            hostname,
            local_domains: Vec::new(),
            limits: Limits::default(),
            dsn: DsnOffer::default(),
            honours_binarymime: false,
            honours_requiretls: false,
            honours_future_release: false,
            honours_deliver_by: false,
            honours_priority: false,
            honours_rrvs: false,
            relays_rrvs: false,
            stages: Stages::ALL,
            refuse_early_talkers: true,
            greeting_delay: Duration::ZERO,
            offers_starttls: false,
            protocol: TransferProtocol::default(),
            offers_prdr: false,
            no_mail: false,
            no_soliciting: None,
            authentication: None,
            qualify_with: None,
            observed: false,
        }
    }
}
