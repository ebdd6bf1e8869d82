//! What is served, to whom, and within which limits: the configuration, read once and validated whole.
//!
//! [`mod@file`] has the keys as they stand in TOML, [`check`] turns them into [`Config`] or into [`problem::Problems`]
//! with line and column; [`aliases`] has other names of mailboxes, [`outbound`] how mail leaves, [`tls_policy`] what next hops
//! ask for, [`policy`] what is done about mail of strangers, [`access`] the operator's own rules about them, [`milters`] which filters are asked, [`dmarc_reports`]
//! what domains are told of it, and [`trace`] how long it is remembered.

mod access;
mod aliases;
mod check;
mod dmarc_reports;
mod file;
mod milters;
mod outbound;
mod policy;
mod problem;
mod rates;
mod relay;
mod tls_policy;
mod trace;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smtp_core::{
    ConnectionLimits, Domain, IpNet, Limits, LocalDomains, Mailbox, MailboxTable, RoleMailboxes, TlsPolicyTable,
};
use smtp_policy::Action;
use smtp_queue::{QuarantineSettings, Schedule};

use crate::outbound::OutboundSettings;
use crate::policy::PolicySettings;
use crate::recipients::Recipients;
use crate::trace::TraceSettings;

pub(crate) use self::file::{ListenerService, ListenerTls, Log, LogFormat, Mailboxes, Protocol, RelayTls};
pub(crate) use self::milters::{MilterConfig, policy as milter_policy};
pub(crate) use self::problem::ConfigError;
pub(crate) use self::rates::RateConfig;
use self::tls_policy::TlsPolicyConfig;

const POSTMASTER: &str = "postmaster";
/// The role mailbox that a form can stand for.
const ABUSE: &str = "abuse";

/// Beneath `data`.
const TRIAL_DIRECTORY: &str = "tls";

/// A configuration that makes sense. The default is that of an empty file.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The name of the server.
    pub(crate) hostname: Domain,
    /// The local domains: at least one.
    pub(crate) domains: Vec<Domain>,
    /// Where the Maildirs lie.
    pub(crate) data: PathBuf,
    /// Whether mailboxes beyond `users` and `aliases` exist.
    pub(crate) mailboxes: Mailboxes,
    /// Mailboxes by name.
    pub(crate) users: Vec<Mailbox>,
    /// The role mailboxes of every domain, in lower case; `postmaster` is among them.
    pub(crate) roles: Vec<String>,
    /// Where mail for role mailboxes without an entry goes.
    pub(crate) postmaster: Mailbox,
    /// Other names of mailboxes.
    pub(crate) aliases: Vec<(Mailbox, Vec<Mailbox>)>,
    /// Where messages wait; `None`: beneath `data`.
    pub(super) queue: Option<PathBuf>,
    /// When a message is tried again, and when it is given up.
    pub(crate) schedule: Schedule,
    /// The most attempts at a time at one next hop.
    pub(crate) concurrency: usize,
    /// How much of what policies set aside is kept, and for how long.
    pub(crate) quarantine: QuarantineSettings,
    /// The host that takes mail for other hosts, as `host:port`, or as the path of a Unix socket.
    pub(crate) smart_host: Option<String>,
    /// From which addresses of this host connections to it are made; with none the system chooses.
    pub(crate) source_addresses: Vec<IpAddr>,
    /// Networks whose clients may send to other hosts.
    pub(crate) relay_clients: Vec<IpNet>,
    /// What is demanded of that host.
    pub(crate) relay_tls: RelayTls,
    /// What is spoken with it.
    pub(crate) relay_protocol: Protocol,
    /// What next hops ask of those who send to them.
    pub(super) tls_policy: Vec<TlsPolicyConfig>,
    /// What is looked at in mail of strangers.
    pub(crate) policy: PolicySettings,
    /// How mail leaves.
    pub(crate) outbound: OutboundSettings,
    /// Where to listen: at least one.
    pub(crate) listeners: Vec<ListenerConfig>,
    /// The file of users with passwords.
    pub(crate) passwords: Option<PathBuf>,
    /// The socket of Dovecot's authentication server, which knows the users in the place of that file.
    pub(crate) dovecot: Option<PathBuf>,
    /// Whether the server makes its own certificate, and a password for the first user, in the place of the two.
    pub(crate) trial: bool,
    /// Files of certificates and their keys. Without any there is no TLS.
    pub(crate) certificates: Vec<(PathBuf, PathBuf)>,
    /// Limits of a session.
    pub(crate) limits: Limits,
    /// Limits of the number of connections.
    pub(crate) connection_limits: ConnectionLimits,
    /// How long a shutdown waits for transactions.
    pub(crate) shutdown_grace: Duration,
    /// What is logged, and how.
    pub(crate) log: Log,
    /// How long the trace of decisions is kept.
    pub(crate) trace: TraceSettings,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerConfig {
    /// As `host:port`, or as `unix:/path`.
    pub(crate) address: String,
    /// How its connections are protected.
    pub(crate) tls: ListenerTls,
    /// Whom it serves.
    pub(crate) service: ListenerService,
    /// The domain that completes addresses of users.
    pub(crate) qualify: Option<Domain>,
    /// Networks of the proxies behind which it is; with none, clients connect themselves.
    pub(crate) proxies: Vec<IpNet>,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// How long strangers wait for the greeting.
    pub(crate) greeting_delay: Duration,
}

impl ListenerConfig {
    fn new(address: impl Into<String>, tls: ListenerTls) -> Self {
        let (service, protocol) = (ListenerService::Mx, Protocol::Smtp);
        let (proxies, greeting_delay) = (Vec::new(), Duration::ZERO);
        Self { address: address.into(), tls, service, qualify: None, proxies, protocol, greeting_delay }
    }

    /// The path, where it is a Unix socket.
    pub(crate) fn unix_path(&self) -> Option<&str> {
        unix_path(&self.address)
    }
}

/// The path of `unix:/path`.
fn unix_path(address: &str) -> Option<&str> {
    address.strip_prefix("unix:").filter(|path| path.starts_with('/'))
}

impl Config {
    /// Listens on these addresses in the place of others, for other mail servers. No user can show a password there, so that
    /// there is nothing to try out.
    pub(crate) fn listen_on(&mut self, addresses: &[String]) {
        self.trial = false;
        let usual = Self::usual_tls(!self.certificates.is_empty());
        let tls = |address: &String| if unix_path(address).is_some() { ListenerTls::None } else { usual };
        self.listeners = addresses.iter().map(|address| ListenerConfig::new(address, tls(address))).collect();
    }

    /// What a listener does that says nothing of TLS.
    fn usual_tls(has_certificate: bool) -> ListenerTls {
        if has_certificate { ListenerTls::StartTls } else { ListenerTls::None }
    }

    /// Reads a configuration; without a file, one to try the server out.
    ///
    /// # Errors
    /// [`ConfigError`], with a line for each thing that is wrong.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Self::parse("the defaults", "trial = true\n") };
        let name = path.display().to_string();
        let octets = std::fs::read(path).map_err(|source| ConfigError::Read { file: name.clone(), source })?;
        Self::parse(&name, octets)
    }

    /// Reads a configuration from text.
    ///
    /// # Errors
    /// [`ConfigError`], with a line for each thing that is wrong.
    pub(crate) fn parse(name: &str, text: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        check::parse(name, text.into())
    }

    /// The configuration with every default, as TOML that means the same.
    ///
    /// # Errors
    /// Where a path is not UTF-8.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&file::ConfigFile::from(self))
    }

    /// Where messages wait.
    pub(crate) fn queue_directory(&self) -> PathBuf {
        self.queue.clone().unwrap_or_else(|| Self::default_queue(&self.data))
    }

    /// Where what policies set aside lies. No domain has a directory that starts with a dot.
    pub(crate) fn quarantine_directory(&self) -> PathBuf {
        self.data.join(".quarantine")
    }

    /// Where what a trial needs is kept.
    pub(crate) fn trial_directory(&self) -> PathBuf {
        self.data.join(TRIAL_DIRECTORY)
    }

    /// Where what is known of clients is kept. No domain has a directory that starts with a dot.
    pub(crate) fn state_directory(&self) -> PathBuf {
        self.data.join(".state")
    }

    /// Where the trace of decisions is kept.
    pub(crate) fn trace_directory(&self) -> PathBuf {
        self.data.join(".trace")
    }

    /// What next hops ask of those who send to them, by name.
    pub(crate) fn tls_policy(&self) -> TlsPolicyTable {
        tls_policy::table(&self.tls_policy)
    }

    /// Where the preset does something else than an RFC says, or than was surely meant (PRACTICES P2).
    fn policy_warnings(&self) -> Vec<String> {
        let Ok(chain) = crate::policy::plan(&self.hostname, &self.domains, &self.policy) else { return Vec::new() };
        let (rules, mut warnings) = (chain.rules(), Vec::new());
        if rules.action("helo-confirmed") == Some(Action::Reject) {
            warnings.push(
                "`helo-confirmed` refuses clients whose name has another address, which RFC 5321 section 4.1.4 does not allow; \
                 another action in [policy.actions] keeps to it"
                    .to_owned(),
            );
        }
        for practice in ["malware", "dnsbl", "dnsbl-refusing", "domain-dnsbl", "domain-dnsbl-refusing"] {
            if rules.action(practice) == Some(Action::Off) && self.policy.is_wanted(practice) {
                let preset = rules.preset().as_str();
                warnings.push(format!(
                    "`{practice}` is off with the preset {preset}: say in [policy.actions] what it is to do"
                ));
            }
        }
        warnings
    }

    /// Where messages wait if nothing is said. No domain has a directory that starts with a dot.
    fn default_queue(data: &Path) -> PathBuf {
        data.join(".queue")
    }

    /// Which mailboxes there are.
    pub(crate) fn recipients(&self) -> Recipients {
        let roles = RoleMailboxes::new(&self.roles);
        // Who has a form for reports filters the mailbox.
        let roles = if self.policy.abuse_form.is_some() { roles.filtering(ABUSE) } else { roles };
        let table = MailboxTable::new(self.domains.iter().cloned()).with_roles(roles);
        let mut table = table.with_roles_to(self.postmaster.clone());
        for user in &self.users {
            table = table.with_mailbox(user);
        }
        for (alias, mailboxes) in &self.aliases {
            table = table.with_alias(alias, mailboxes.clone());
        }
        let any = (self.mailboxes == Mailboxes::Any).then(|| LocalDomains::new(self.domains.iter().cloned()));
        Recipients::new(table, any)
    }
}

#[cfg(test)]
mod tests;
