//! The configuration as it stands in a file: every key, and nothing that is not in this list.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::Config;
use super::aliases::AliasTable;
use super::outbound::{self, BatvTable, DkimTable, SrsTable};
use super::policy::PolicyTable;
use super::trace::TraceTable;

/// A value and its place in the file.
pub(super) type Placed<T> = Option<Spanned<T>>;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) hostname: Placed<String>,
    pub(super) domains: Placed<Vec<Spanned<String>>>,
    pub(super) data: Placed<PathBuf>,
    pub(super) mailboxes: Option<Mailboxes>,
    pub(super) users: Placed<Vec<Spanned<String>>>,
    pub(super) roles: Placed<Vec<Spanned<String>>>,
    pub(super) postmaster: Placed<String>,
    #[serde(default)]
    pub(super) aliases: AliasTable,
    #[serde(default)]
    pub(super) queue: QueueTable,
    #[serde(default)]
    pub(super) relay: RelayTable,
    #[serde(default)]
    pub(super) quarantine: QuarantineTable,
    #[serde(default)]
    pub(super) policy: PolicyTable,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) trace: TraceTable,
    pub(super) passwords: Placed<PathBuf>,
    pub(super) dovecot: Placed<PathBuf>,
    pub(super) trial: Placed<bool>,
    pub(super) listener: Placed<Vec<ListenerTable>>,
    #[serde(default)]
    pub(super) certificate: Vec<CertificateTable>,
    #[serde(default)]
    pub(super) tls_policy: Vec<TlsPolicyEntry>,
    #[serde(default)]
    pub(super) srs: SrsTable,
    #[serde(default)]
    pub(super) batv: BatvTable,
    #[serde(default)]
    pub(super) dkim: Vec<DkimTable>,
}

/// Where messages wait, and for how long.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueTable {
    pub(super) directory: Placed<PathBuf>,
    pub(super) first_retry_seconds: Placed<u64>,
    pub(super) longest_wait_seconds: Placed<u64>,
    pub(super) lifetime_hours: Placed<u64>,
    pub(super) concurrency: Placed<usize>,
}

/// How much of what policies set aside is kept, and for how long.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuarantineTable {
    pub(super) days: Placed<u64>,
    pub(super) messages: Placed<u64>,
    pub(super) octets: Placed<u64>,
}

/// Who may send to other hosts, and through which host that goes.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayTable {
    pub(super) smart_host: Placed<String>,
    pub(super) tls: Option<RelayTls>,
    pub(super) clients: Option<Vec<Spanned<String>>>,
    pub(super) source_addresses: Option<Vec<Spanned<String>>>,
    pub(super) protocol: Placed<Protocol>,
}

/// Which mailboxes exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mailboxes {
    /// Those of `users` and `aliases`.
    Listed,
    /// Every mailbox of the domains, besides.
    Any,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) message_octets: Placed<u64>,
    pub(super) recipients: Placed<u32>,
    pub(super) transactions: Placed<u32>,
    pub(super) connections: Placed<usize>,
    pub(super) connections_per_address: Placed<usize>,
    pub(super) connections_per_network: Placed<usize>,
    pub(super) connections_exempt: Option<Vec<Spanned<String>>>,
    pub(super) command_timeout_seconds: Placed<u64>,
    pub(super) content_timeout_seconds: Placed<u64>,
    pub(super) shutdown_grace_seconds: Placed<u64>,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// The form of a line.
    pub(crate) format: LogFormat,
    /// The least important level that is written.
    pub(crate) level: LogLevel,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people: `time LEVEL target: message field=value`.
    #[default]
    Text,
    /// For programs: an object with the fields.
    Json,
}

/// How important an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Something has to be repaired.
    Error,
    /// Something should be looked at.
    Warn,
    /// Messages accepted and refused.
    #[default]
    Info,
    /// Sessions too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTable {
    pub(super) address: Spanned<String>,
    pub(super) tls: Placed<ListenerTls>,
    pub(super) service: Placed<ListenerService>,
    pub(super) qualify: Placed<String>,
    pub(super) proxies: Option<Vec<Spanned<String>>>,
    pub(super) protocol: Placed<Protocol>,
    pub(super) greeting_delay_seconds: Placed<u64>,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// One reply for a message (RFC 5321).
    #[default]
    Smtp,
    /// A reply for each recipient (RFC 2033).
    Lmtp,
}

/// How connections of a listener are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListenerTls {
    /// Not at all.
    None,
    /// Where the client asks for it.
    StartTls,
    /// From the start.
    Implicit,
}

/// Whom a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListenerService {
    /// Other mail servers.
    Mx,
    /// Users with a password.
    Submission,
    /// Both.
    Mixed,
}

/// What is demanded of the smart host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RelayTls {
    /// Nothing: all goes in clear.
    None,
    /// TLS where it can, with any certificate.
    #[default]
    Opportunistic,
    /// TLS, with any certificate.
    Required,
    /// TLS, with a certificate for its name.
    Verified,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateTable {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

/// What hosts of a name ask of those who send to them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsPolicyEntry {
    pub(super) name: Spanned<String>,
    pub(super) tls: Spanned<RelayTls>,
    pub(super) names: Option<Vec<Spanned<String>>>,
}

/// With every key, so that every default can be seen.
impl From<&Config> for ConfigFile {
    fn from(config: &Config) -> Self {
        let limits = &config.limits;
        let connections = &config.connection_limits;
        let listeners = config.listeners.iter().map(|listener| ListenerTable {
            address: unplaced(listener.address.clone()),
            tls: Some(unplaced(listener.tls)),
            service: Some(unplaced(listener.service)),
            qualify: listener.qualify.as_ref().map(|domain| unplaced(domain.to_string())),
            proxies: Some(texts(&listener.proxies)),
            protocol: Some(unplaced(listener.protocol)),
            greeting_delay_seconds: Some(unplaced(listener.greeting_delay.as_secs())),
        });
        let (dkim, srs, batv) = outbound::tables(config);
        let certificates =
            config.certificates.iter().map(|(chain, key)| CertificateTable { chain: chain.clone(), key: key.clone() });
        let tls_policy = config.tls_policy.iter().map(|entry| TlsPolicyEntry {
            name: unplaced(entry.name.clone()),
            tls: unplaced(entry.tls),
            names: (entry.tls == RelayTls::Verified).then(|| texts(&entry.names)),
        });
        Self {
            hostname: Some(unplaced(config.hostname.to_string())),
            domains: Some(unplaced(texts(&config.domains))),
            data: Some(unplaced(config.data.clone())),
            mailboxes: Some(config.mailboxes),
            users: Some(unplaced(texts(&config.users))),
            roles: Some(unplaced(texts(&config.roles))),
            postmaster: Some(unplaced(config.postmaster.to_string())),
            aliases: config
                .aliases
                .iter()
                .map(|(alias, mailboxes)| (unplaced(alias.to_string()), unplaced(texts(mailboxes))))
                .collect(),
            queue: QueueTable {
                directory: Some(unplaced(config.queue_directory())),
                first_retry_seconds: Some(unplaced(config.schedule.first_retry.as_secs())),
                longest_wait_seconds: Some(unplaced(config.schedule.longest_wait.as_secs())),
                lifetime_hours: Some(unplaced(config.schedule.lifetime.as_secs() / 3600)),
                concurrency: Some(unplaced(config.concurrency)),
            },
            relay: RelayTable {
                smart_host: config.smart_host.clone().map(unplaced),
                tls: Some(config.relay_tls),
                clients: Some(texts(&config.relay_clients)),
                source_addresses: Some(texts(&config.source_addresses)),
                protocol: Some(unplaced(config.relay_protocol)),
            },
            quarantine: QuarantineTable {
                days: Some(unplaced(config.quarantine.retention.as_secs() / (24 * 3600))),
                messages: Some(unplaced(config.quarantine.messages_limit)),
                octets: Some(unplaced(config.quarantine.octets_limit)),
            },
            policy: PolicyTable::from(&config.policy),
            limits: LimitsTable {
                message_octets: Some(unplaced(limits.message_octets)),
                recipients: Some(unplaced(limits.recipients)),
                transactions: Some(unplaced(limits.transactions)),
                connections: Some(unplaced(connections.total)),
                connections_per_address: Some(unplaced(connections.per_address)),
                connections_per_network: Some(unplaced(connections.per_network)),
                connections_exempt: Some(texts(&connections.exempt)),
                command_timeout_seconds: Some(unplaced(limits.command_timeout.as_secs())),
                content_timeout_seconds: Some(unplaced(limits.content_timeout.as_secs())),
                shutdown_grace_seconds: Some(unplaced(config.shutdown_grace.as_secs())),
            },
            log: config.log,
            trace: TraceTable::from(config.trace),
            passwords: config.passwords.clone().map(unplaced),
            dovecot: config.dovecot.clone().map(unplaced),
            trial: Some(unplaced(config.trial)),
            listener: Some(unplaced(listeners.collect())),
            certificate: certificates.collect(),
            tls_policy: tls_policy.collect(),
            srs,
            batv,
            dkim,
        }
    }
}

pub(super) fn texts<T: ToString>(values: &[T]) -> Vec<Spanned<String>> {
    values.iter().map(|value| unplaced(value.to_string())).collect()
}

/// A value that does not come from a file.
pub(super) fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
