//! SMTP as a value: grammar, session state machines, hooks, and a server and a client on tokio.
//!
//! Start with [`Server::builder`]: a name, the local domains, and a function that takes the mail. Then, one line
//! each, what you want to decide yourself:
//!
//! | Question | Trait | Given to |
//! |---|---|---|
//! | is there such a mailbox? | [`RecipientLookup`] | [`ServerBuilder::recipients`] |
//! | do we want it? | [`Policy`] | [`ServerBuilder::policy`] |
//! | take it | [`Delivery`] | [`ServerBuilder::deliver`] |
//! | what happens? | [`Observer`] | [`ServerBuilder::observer`] |
//! | who is it? | [`Authenticator`] | [`ServerBuilder::authenticate`] |
//!
//! Whom an address serves, other mail servers or users or both, says [`Listener::service`].
//! Who they are, [`PasswordFile`] and [`DovecotAuth`] know.
//!
//! To send a message:
//!
//! | What | With |
//! |---|---|
//! | one message, now | [`send()`] |
//! | many over one connection | [`ClientConnection`] and its [`ClientConfig`] |
//! | who it is from and for | [`Envelope`] |
//! | where its content comes from | [`ContentSource`]: memory, [`StoredContent`], [`FileContent`], [`Chained`] |
//! | what became of each recipient | [`SendReport`], [`SendError`] |
//! | what a connection must be | [`ClientTls`], or [`TlsPolicy`] where that depends on the next hop |
//!
//! [`Resolver`] is DNS with three answers, as policies and queues ask it; [`ResolverTable`] is one for tests.
//!
//! Both sides speak LMTP as well: [`Listener::lmtp`], [`ClientConfig::with_lmtp`]; and both over Unix sockets:
//! `Listener::unix`, `ClientConnection::connect_unix`.
//!
//! Below the two lie [`ServerSession`] and [`ClientSession`], the protocol without any I/O, for other event loops, for
//! tests and for fuzzers.
//!
//! ```text
//! server        tokio: listeners, the loop of a connection, limits, shutdown
//! client        tokio: connecting, the loop of a connection, sources of content
//!   hooks       what an application implements
//!     session   state machines, limits, decisions: no I/O, no clock
//!       message content, header fields, trace
//!         syntax lines, commands, paths, replies
//! tls           what the handshakes of server and client have in common
//!       sasl    exchanges of challenges and responses: who is it?
//!         message content, header fields, trace
//!           syntax lines, commands, paths, replies
//! ```
//!
//! What this crate implements of which RFC stands in the README of the repository.

mod client;
mod hooks;
mod message;
mod resolver;
mod sasl;
mod server;
mod session;
mod syntax;
mod tls;

#[cfg(feature = "tracing")]
mod tracing_observer;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use ipnet::IpNet;

pub use client::config::ClientConfig;
pub use client::connection::ClientConnection;
pub use client::content_source::{Chained, ContentSource, FileContent, StoredContent};
pub use client::mailer::{Mailer, MailerSettings, NotHostAndPort};
pub use client::send;
pub use client::tls::ClientTls;
pub use client::tls_policy::{NextHop, TlsPolicy, TlsRequirement};
pub use client::tls_table::TlsPolicyTable;
pub use client::verify::TlsaRecord;
pub use hooks::authenticator::Authenticator;
pub use hooks::delivery::Delivery;
pub use hooks::delivery_event::{AttemptResult, DeliveryAttempt, DeliveryEvent, TransportFailure};
pub use hooks::dovecot::{DovecotAuth, DovecotError};
pub use hooks::message::{Message, MessageReader};
pub use hooks::observer::Observer;
pub use hooks::outbound::{Outbound, OutboundContent, OutboundPolicy, OutboundRecipient, Transient};
pub use hooks::password_users::PasswordFileError;
pub use hooks::passwords::PasswordFile;
pub use hooks::policy::{Policy, PolicyContext};
pub use hooks::policy_event::{PolicyEvent, PolicyFinding, ShadowVerdict};
pub use hooks::policy_rewriting::EnvelopeChangeError;
pub use hooks::recipient_lookup::RecipientLookup;
pub use hooks::role_mailboxes::RoleMailboxes;
pub use hooks::tables::{LocalDomains, MailboxTable, TableError};
pub use message::content::{Content, ContentReader, ContentSettings};
pub use message::date::DateTime;
pub use message::header_field::{HeaderField, HeaderFieldError};
pub use message::trace::{Protocol, Received, delivered_to, return_path};
pub use resolver::{Answer, MailExchanger, RecordType, Resolver, ResolverTable, StartOfAuthority};
pub use sasl::client::ClientAuth;
pub use sasl::credential::{ClientCertificate, Credential};
pub use sasl::keys::{ScramHash, ScramKeys, ScramKeysError};
pub use sasl::secret::ServerSecret;
pub use server::builder::{ConfigError, Decided, ServerBuilder, Undecided};
pub use server::connection_limits::ConnectionLimits;
pub use server::listener::{Listener, Service};
pub use server::logins::LoginLimits;
pub use server::tls::{ServerTls, TlsError};
pub use server::{Error, Server, ServerHandle};
pub use session::client::envelope::Envelope;
pub use session::client::limits::ClientLimits;
pub use session::client::offers::Offers;
pub use session::client::report::{SendCause, SendError, SendReport, SendStage};
pub use session::client::{ClientSession, ClientStep, StartTls};
pub use session::connection::{Connection, Greeting, PeerRights, SessionId, TransactionId, Treatment};
pub use session::decision::{
    Accepted, Ask, AuthError, Changes, Decision, Disposition, Identity, Kind, Lookup, LookupAnswer, LookupError,
    Question, Refusal, ScramUser, Verdict, kinds,
};
pub use session::event::{CloseReason, HookFailure, SessionEvent, Stage};
pub use session::extensions::Extensions;
pub use session::limits::Limits;
pub use session::ownership::Ownership;
pub use session::server::{Authentication, DsnOffer, ServerSession, SessionConfig, Stages, Step};
pub use session::tls::{TlsFacts, TlsVersion};
pub use session::transaction::{Recipient, Transaction};
pub use session::transfer_protocol::TransferProtocol;
pub use syntax::SyntaxError;
pub use syntax::address::{AddressLiteral, Host, LocalPart, Mailbox, PATH_LIMIT_OCTETS};
pub use syntax::chunk::{Chunk, ChunkDecoder};
pub use syntax::command::{Command, CommandError};
pub use syntax::content::{DataDecoder, DataEncoder, Decoded, Defect};
pub use syntax::deliver_by::{ByMode, DeliverBy};
pub use syntax::dns_name::DnsName;
pub use syntax::domain::Domain;
pub use syntax::extension::ServiceExtension;
pub use syntax::future_release::FutureRelease;
pub use syntax::line::{Line, LineLimits, LineReader};
pub use syntax::mechanism::{Mechanism, Mechanisms};
pub use syntax::notification::{EnvelopeId, MessageDsn, Notify, OriginalRecipient, RecipientDsn, Ret};
pub use syntax::parameter::{Body, MailParameters, RcptParameters};
pub use syntax::path::{ForwardPath, ReversePath};
pub use syntax::priority::Priority;
pub use syntax::proxy::{ProxyError, ProxyHeader};
pub use syntax::reply::{EnhancedStatusCode, Reply, ReplyCode, ReplyText};
pub use syntax::reply_reader::{ReplyError, ReplyLimits, ReplyReader};
pub use syntax::secret::Secret;
pub use syntax::solicitation::SolicitationClasses;
pub use syntax::text::SafeText;
pub use syntax::valid_since::{NoSupport, ValidSince};
pub use syntax::xclient::{Forwarded, Said, Xclient};

#[cfg(feature = "tracing")]
pub use tracing_observer::TracingObserver;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
