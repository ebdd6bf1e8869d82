//! From keys to a configuration that makes sense, or to all that is wrong with it.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use smtp_core::{ConnectionLimits, Domain, Host, IpNet, Limits, Listener, Mailbox, RoleMailboxes};
use smtp_queue::{QuarantineSettings, QueueSettings, Schedule, mailbox_directory};
use toml::Spanned;

use super::file::{
    ConfigFile, LimitsTable, ListenerService, ListenerTable, ListenerTls, Mailboxes, Placed, Protocol, QuarantineTable,
    QueueTable,
};
use super::problem::{ConfigError, Report};
use super::{
    Config, ListenerConfig, POSTMASTER, TRIAL_DIRECTORY, aliases, outbound, policy, relay, tls_policy, trace, unix_path,
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:2525";
const DEFAULT_DATA: &str = "mta-data";
const DEFAULT_DOMAIN: &str = "localhost";
const DEFAULT_USER: &str = "alice@localhost";
const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// Reads and checks.
pub(super) fn parse(name: &str, octets: Vec<u8>) -> Result<Config, ConfigError> {
    let (text, end_of_text) = match String::from_utf8(octets) {
        Ok(text) => (text, None),
        Err(error) => {
            let end = error.utf8_error().valid_up_to();
            (String::from_utf8_lossy(&error.as_bytes()[..end]).into_owned(), Some(end))
        }
    };
    let mut report = Report::new(name, &text);
    if let Some(end) = end_of_text {
        report.add_at(end, "not UTF-8");
        return report.finish(None);
    }
    match toml::from_str::<ConfigFile>(&text) {
        Ok(file) => {
            let config = config(&mut report, file);
            report.finish(config)
        }
        Err(error) => {
            report.add_parse_error(error);
            report.finish(None)
        }
    }
}

fn config(report: &mut Report<'_>, file: ConfigFile) -> Option<Config> {
    let hostname = match &file.hostname {
        Some(text) => parsed(report, "hostname", "a domain", text),
        None => Domain::parse(DEFAULT_DOMAIN).ok(),
    };
    let trial = trial(report, &file);
    let knows_users = trial || file.passwords.is_some() || file.dovecot.is_some();
    let can = Abilities { tls: trial || !file.certificate.is_empty(), passwords: knows_users };
    let listeners = listeners(report, file.listener, can, trial);
    let (limits, connection_limits, shutdown_grace) = limits(report, file.limits);
    let relay_tls = file.relay.tls.unwrap_or_default();
    let relay_protocol = file.relay.protocol.as_ref().map_or(Protocol::Smtp, |said| *said.get_ref());
    let source_addresses = relay::source_addresses(report, &file.relay);
    let (smart_host, relay_clients) = relay::check(report, file.relay);
    for (key, place) in [("passwords", &file.passwords), ("dovecot", &file.dovecot)] {
        if let Some(place) = place.as_ref().filter(|_| smart_host.is_none()) {
            report.add(place.span(), key, "their mail would have nowhere to go: name a `relay.smart_host`");
        }
    }
    if let Some(dovecot) = file.dovecot.as_ref().filter(|_| file.passwords.is_some()) {
        report.add(dovecot.span(), "dovecot", "the users are those of `passwords`: leave out one of the two");
    }
    let tls_policy = tls_policy::check(report, file.tls_policy, smart_host.is_some());
    let policy_settings = policy::check(report, &file.policy);
    let trace = trace::check(report, file.trace);
    let (queue, schedule, concurrency) = queue(report, file.queue);
    let quarantine = quarantine(report, file.quarantine);
    let mailboxes = file.mailboxes.unwrap_or(Mailboxes::Listed);
    // Whether a mailbox is local can be said only once the domains are known.
    let domains = domains(report, file.domains.as_ref())?;
    let names_domains = file.domains.as_ref().map(Spanned::span);
    let mut directory = Directory { report, domains: &domains, mailboxes, users: Vec::new(), names: HashSet::new() };
    directory.add_users(file.users.as_ref(), names_domains);
    let aliases = aliases::check(&mut directory, &file.aliases, limits.alias_mailboxes, smart_host.is_some());
    let roles = roles(directory.report, file.roles.as_ref());
    let postmaster = directory.postmaster(file.postmaster.as_ref());
    let users = directory.users;
    let data = file.data.as_ref().map_or_else(|| PathBuf::from(DEFAULT_DATA), |data| data.get_ref().clone());
    let outbound = outbound::check(report, (&file.dkim, &file.srs, &file.batv), &domains, &data);
    let config = Config {
        hostname: hostname?,
        // What lies where it lies by default moves with `data`.
        queue: queue.filter(|directory| *directory != Config::default_queue(&data)),
        data,
        schedule,
        concurrency,
        quarantine,
        smart_host,
        source_addresses,
        relay_clients,
        relay_tls,
        relay_protocol,
        tls_policy,
        passwords: file.passwords.map(Spanned::into_inner),
        dovecot: file.dovecot.map(Spanned::into_inner),
        trial,
        certificates: file.certificate.into_iter().map(|files| (files.chain, files.key)).collect(),
        mailboxes,
        users,
        roles,
        postmaster: postmaster?,
        aliases,
        listeners,
        limits,
        connection_limits,
        shutdown_grace,
        policy: policy_settings,
        outbound,
        log: file.log,
        trace,
        domains,
    };
    policy::check_with_others(report, &file.policy, &config);
    Some(config)
}

/// Who can get mail.
pub(super) struct Directory<'r, 't> {
    pub(super) report: &'r mut Report<'t>,
    pub(super) domains: &'r [Domain],
    mailboxes: Mailboxes,
    users: Vec<Mailbox>,
    /// Users and aliases so far, in lower case.
    names: HashSet<String>,
}

impl Directory<'_, '_> {
    fn add_users(&mut self, users: Option<&Spanned<Vec<Spanned<String>>>>, domains: Option<std::ops::Range<usize>>) {
        match users {
            Some(list) => {
                for text in list.get_ref() {
                    let user = self.local_mailbox("users", text).filter(|user| self.can_be_user(user, text));
                    self.users.extend(user);
                }
                if list.get_ref().is_empty() && self.mailboxes == Mailboxes::Listed {
                    self.report.add(list.span(), "users", NOBODY);
                }
            }
            None if self.mailboxes == Mailboxes::Any => {}
            // Who names domains has users in mind, and alice is hardly one of them.
            None => match domains {
                Some(span) => self.report.add(span, "users", NOBODY),
                None => self.users.extend(Mailbox::parse(DEFAULT_USER)),
            },
        }
    }

    fn can_be_user(&mut self, user: &Mailbox, text: &Spanned<String>) -> bool {
        let shown = text.get_ref();
        let problem = if user.local_part().as_str().contains('+') {
            format!("`{shown}`: a user has no `+`, behind it stands a detail")
        } else if mailbox_directory(user).is_err() {
            format!("`{shown}` is too long for the name of a directory, or empty")
        } else {
            return self.is_new_name("users", user, text);
        };
        self.report.add(text.span(), "users", problem);
        false
    }

    /// Where mail for role mailboxes goes in the end (RFC 5321 §4.5.1, RFC 2142).
    fn postmaster(&mut self, text: Option<&Spanned<String>>) -> Option<Mailbox> {
        match text {
            Some(text) => self.destination("postmaster", text),
            None if self.mailboxes == Mailboxes::Any => self.domains.first().cloned().map(Mailbox::postmaster_at),
            None => self.users.first().cloned(),
        }
    }

    /// A mailbox that mail can end in: one of the users, or in a domain where every mailbox exists.
    pub(super) fn destination(&mut self, key: &str, text: &Spanned<String>) -> Option<Mailbox> {
        let mailbox = self.local_mailbox(key, text)?;
        let directory = mailbox_directory(&mailbox).ok();
        let exists = directory.is_some()
            && (self.mailboxes == Mailboxes::Any
                || self.users.iter().any(|user| mailbox_directory(user).ok() == directory));
        if !exists {
            self.report.add(text.span(), key, format!("`{}` is not one of the users", text.get_ref()));
        }
        exists.then_some(mailbox)
    }

    pub(super) fn local_mailbox(&mut self, key: &str, text: &Spanned<String>) -> Option<Mailbox> {
        let mailbox: Mailbox = parsed(self.report, key, "a mailbox", text)?;
        let is_local = mailbox.domain().is_some_and(|domain| self.domains.contains(domain));
        if !is_local {
            let problem = format!("`{}` is in none of the `domains`", text.get_ref());
            self.report.add(text.span(), key, problem);
        }
        is_local.then_some(mailbox)
    }

    pub(super) fn is_new_name(&mut self, key: &str, mailbox: &Mailbox, text: &Spanned<String>) -> bool {
        let is_new = self.names.insert(mailbox.to_string().to_ascii_lowercase());
        if !is_new {
            self.report.add(text.span(), key, format!("`{}` is named twice", text.get_ref()));
        }
        is_new
    }
}

/// The role mailboxes of every domain (PRACTICES S14).
fn roles(report: &mut Report<'_>, list: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<String> {
    let Some(list) = list else { return RoleMailboxes::default().names().map(str::to_owned).collect() };
    let mut roles = Vec::new();
    for text in list.get_ref() {
        let role = text.get_ref().to_ascii_lowercase();
        if Mailbox::parse(format!("{role}@localhost")).is_err() || role.contains(['+', '"', '@']) {
            let shown = text.get_ref().escape_debug();
            report.add(text.span(), "roles", format!("`{shown}` is not the part of a mailbox before `@`"));
        } else if roles.contains(&role) {
            report.add(text.span(), "roles", format!("`{role}` is named twice"));
        }
        roles.push(role);
    }
    if !roles.iter().any(|role| role == POSTMASTER) {
        report.add(list.span(), "roles", "`postmaster` must be among them (RFC 5321 section 4.5.1)");
    }
    roles
}

const NOBODY: &str = "nobody can get mail: name users, or set mailboxes = \"any\"";

fn domains(report: &mut Report<'_>, list: Option<&Spanned<Vec<Spanned<String>>>>) -> Option<Vec<Domain>> {
    let Some(list) = list else { return Domain::parse(DEFAULT_DOMAIN).ok().map(|domain| vec![domain]) };
    if list.get_ref().is_empty() {
        report.add(list.span(), "domains", "at least one is needed");
        return None;
    }
    let mut domains = Vec::new();
    for text in list.get_ref() {
        let domain = parsed(report, "domains", "a domain", text)?;
        if domains.contains(&domain) {
            report.add(text.span(), "domains", format!("`{domain}` is named twice"));
        }
        domains.push(domain);
    }
    Some(domains)
}

/// Whether the server makes its own certificate and password.
fn trial(report: &mut Report<'_>, file: &ConfigFile) -> bool {
    let Some(trial) = file.trial.as_ref().filter(|trial| *trial.get_ref()) else { return false };
    let mut wrong = |problem: &str| report.add(trial.span(), "trial", problem);
    if !file.certificate.is_empty() || file.passwords.is_some() || file.dovecot.is_some() {
        wrong("it makes its own `[[certificate]]` and `passwords`: leave out these, or this");
    }
    if file.users.as_ref().is_some_and(|users| users.get_ref().is_empty()) || file.mailboxes == Some(Mailboxes::Any) {
        wrong("it makes a password for the first of the `users`: name one, and list the mailboxes");
    }
    let has_a_maildir_there = |domain: &Spanned<String>| domain.get_ref().eq_ignore_ascii_case(TRIAL_DIRECTORY);
    if file.domains.as_ref().is_some_and(|domains| domains.get_ref().iter().any(has_a_maildir_there)) {
        wrong("its directory `tls` is that of the domain with this name");
    }
    true
}

/// What listeners can do.
#[derive(Debug, Clone, Copy)]
struct Abilities {
    tls: bool,
    passwords: bool,
}

/// What the port says where nothing else does (PRACTICES L6).
fn by_port(address: &str, can: Abilities) -> (ListenerTls, ListenerService) {
    if unix_path(address).is_some() {
        return (ListenerTls::None, ListenerService::Mx);
    }
    match address.rsplit_once(':').map_or("", |(_, port)| port) {
        "465" => (ListenerTls::Implicit, ListenerService::Mixed),
        "587" => (ListenerTls::StartTls, ListenerService::Submission),
        _ => (Config::usual_tls(can.tls), ListenerService::Mx),
    }
}

/// What there is to try: a port for other mail servers, and two for users.
fn trial_listeners() -> Vec<ListenerConfig> {
    [
        (DEFAULT_ADDRESS, ListenerTls::StartTls, ListenerService::Mx),
        ("127.0.0.1:2587", ListenerTls::StartTls, ListenerService::Submission),
        ("127.0.0.1:2465", ListenerTls::Implicit, ListenerService::Mixed),
    ]
    .map(|(address, tls, service)| ListenerConfig { service, ..ListenerConfig::new(address, tls) })
    .into()
}

fn listeners(
    report: &mut Report<'_>,
    tables: Placed<Vec<ListenerTable>>,
    can: Abilities,
    trial: bool,
) -> Vec<ListenerConfig> {
    let Some(tables) = tables else {
        return if trial {
            trial_listeners()
        } else {
            vec![ListenerConfig::new(DEFAULT_ADDRESS, Config::usual_tls(can.tls))]
        };
    };
    if tables.get_ref().is_empty() {
        report.add(tables.span(), "listener", "at least one is needed");
    }
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for table in tables.into_inner() {
        let address = table.address.get_ref().clone();
        let is_unix = unix_path(&address).is_some();
        if !is_unix && !is_socket_address(&address) {
            let address = address.escape_debug();
            let problem = format!(
                "`{address}` is neither `host:port`, for example `127.0.0.1:2525` or `[::1]:2525`, nor `unix:/path`"
            );
            report.add(table.address.span(), "listener.address", problem);
        } else if !address.ends_with(":0") && listeners.iter().any(|listener| listener.address == address) {
            // Port 0 is any that is free, each time another.
            report.add(table.address.span(), "listener.address", format!("`{address}` is named twice"));
        }
        let (usual_tls, usual_service) = by_port(&address, can);
        let tls = table.tls.as_ref().map_or(usual_tls, |tls| *tls.get_ref());
        let service = table.service.as_ref().map_or(usual_service, |service| *service.get_ref());
        // Where the port decides, the address is the place.
        let span = |said: Option<std::ops::Range<usize>>| said.unwrap_or_else(|| table.address.span());
        if is_unix && tls != ListenerTls::None {
            report.add(
                span(table.tls.as_ref().map(Spanned::span)),
                "listener.tls",
                "there is no TLS on a Unix socket: leave it out, or say `\"none\"`",
            );
        } else if tls != ListenerTls::None && !can.tls {
            let problem = "TLS needs a `[[certificate]]` with `chain` and `key`";
            report.add(span(table.tls.as_ref().map(Spanned::span)), "listener.tls", problem);
        }
        if service != ListenerService::Mx && !(can.passwords && tls != ListenerTls::None && can.tls) {
            let problem = "users authenticate under TLS: it needs a `[[certificate]]`, and `passwords` or `dovecot`; or `service = \"mx\"`";
            report.add(span(table.service.as_ref().map(Spanned::span)), "listener.service", problem);
        }
        let mut listener = ListenerConfig { service, ..ListenerConfig::new(address, tls) };
        if let Some(said) = table.protocol {
            listener.protocol = *said.get_ref();
            if listener.protocol == Protocol::Lmtp && !is_unix && listener.address.ends_with(":25") {
                report.add(said.span(), "listener.protocol", LMTP_ON_25);
            }
        }
        if let Some(text) = &table.qualify {
            listener.qualify = parsed(report, "listener.qualify", "a domain", text);
            if service == ListenerService::Mx {
                report.add(
                    text.span(),
                    "listener.qualify",
                    "only addresses of users are completed, and none are served here",
                );
            }
        }
        let (mut delay, most) = (0, Listener::GREETING_DELAY_LIMIT.as_secs());
        set(report, "listener.greeting_delay_seconds", 0, most, table.greeting_delay_seconds, &mut delay);
        listener.greeting_delay = Duration::from_secs(delay);
        for text in table.proxies.iter().flatten() {
            if is_unix {
                report.add(text.span(), "listener.proxies", "a proxy connects by TCP, and this is a Unix socket");
            }
            listener.proxies.extend(parsed::<IpNet>(report, "listener.proxies", "a network like `10.0.0.0/8`", text));
        }
        listeners.push(listener);
    }
    listeners
}

pub(super) fn is_socket_address(text: &str) -> bool {
    let is_name = |host: &str| matches!(Host::parse(host), Ok(Host::Domain(_))) && host.parse::<f64>().is_err();
    SocketAddr::from_str(text).is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && is_name(host))
}

pub(super) const LMTP_ON_25: &str = "LMTP must not be spoken on port 25 (RFC 2033)";

/// Where messages wait, for how long, and how much of them is tried at a time.
fn queue(report: &mut Report<'_>, table: QueueTable) -> (Option<PathBuf>, Schedule, usize) {
    const YEAR_HOURS: u64 = 365 * 24;
    let mut schedule = Schedule::default();
    let mut hours = schedule.lifetime.as_secs() / 3600;
    set(report, "queue.lifetime_hours", 1, YEAR_HOURS, table.lifetime_hours, &mut hours);
    schedule.lifetime = Duration::from_secs(hours * 3600);
    for (key, value, wait) in [
        ("queue.first_retry_seconds", table.first_retry_seconds, &mut schedule.first_retry),
        ("queue.longest_wait_seconds", table.longest_wait_seconds, &mut schedule.longest_wait),
    ] {
        let mut seconds = wait.as_secs();
        set(report, key, 1, 7 * 24 * 3600, value, &mut seconds);
        *wait = Duration::from_secs(seconds);
    }
    let mut concurrency = QueueSettings::default().concurrency_limit;
    set(report, "queue.concurrency", 1, 10_000, table.concurrency, &mut concurrency);
    (table.directory.map(Spanned::into_inner), schedule, concurrency)
}

fn quarantine(report: &mut Report<'_>, table: QuarantineTable) -> QuarantineSettings {
    const DAY_SECONDS: u64 = 24 * 3600;
    let mut settings = QuarantineSettings::default();
    let mut days = settings.retention.as_secs() / DAY_SECONDS;
    set(report, "quarantine.days", 1, 3650, table.days, &mut days);
    settings.retention = Duration::from_secs(days * DAY_SECONDS);
    set(report, "quarantine.messages", 0, 1_000_000, table.messages, &mut settings.messages_limit);
    set(report, "quarantine.octets", 0, 1 << 40, table.octets, &mut settings.octets_limit);
    settings
}

fn limits(report: &mut Report<'_>, table: LimitsTable) -> (Limits, ConnectionLimits, Duration) {
    let (mut limits, mut connections) = (Limits::default(), ConnectionLimits::default());
    let mut grace = DEFAULT_SHUTDOWN_GRACE;
    // The least are those of RFC 5321 §4.5.3; the engine checks them once more.
    set(report, "limits.message_octets", 65_536, u64::from(u32::MAX), table.message_octets, &mut limits.message_octets);
    set(report, "limits.recipients", 100, 100_000, table.recipients, &mut limits.recipients);
    set(report, "limits.transactions", 1, u32::MAX, table.transactions, &mut limits.transactions);
    for (key, value, limit) in [
        ("limits.connections", table.connections, &mut connections.total),
        ("limits.connections_per_address", table.connections_per_address, &mut connections.per_address),
        ("limits.connections_per_network", table.connections_per_network, &mut connections.per_network),
    ] {
        set(report, key, 1, 1_000_000, value, limit);
    }
    for (key, least, value, limit) in [
        ("limits.command_timeout_seconds", 1, table.command_timeout_seconds, &mut limits.command_timeout),
        ("limits.content_timeout_seconds", 1, table.content_timeout_seconds, &mut limits.content_timeout),
        ("limits.shutdown_grace_seconds", 0, table.shutdown_grace_seconds, &mut grace),
    ] {
        let mut seconds = limit.as_secs();
        set(report, key, least, 3600, value, &mut seconds);
        *limit = Duration::from_secs(seconds);
    }
    for text in table.connections_exempt.iter().flatten() {
        let key = "limits.connections_exempt";
        connections.exempt.extend(parsed::<IpNet>(report, key, "a network like `10.0.0.0/8`", text));
    }
    (limits, connections, grace)
}

/// Sets a limit that the file names, if it is in its range.
pub(super) fn set<T: Copy + PartialOrd + Display>(
    report: &mut Report<'_>,
    key: &str,
    least: T,
    most: T,
    value: Placed<T>,
    limit: &mut T,
) {
    let Some(value) = value else { return };
    if (least..=most).contains(value.get_ref()) {
        *limit = value.into_inner();
    } else {
        let problem = format!("{} is not between {least} and {most}", value.get_ref());
        report.add(value.span(), key, problem);
    }
}

pub(super) fn parsed<T: FromStr<Err: Display>>(
    report: &mut Report<'_>,
    key: &str,
    kind: &str,
    text: &Spanned<String>,
) -> Option<T> {
    let shown = text.get_ref();
    match shown.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            report.add(text.span(), key, format!("`{}` is not {kind}: {error}", shown.escape_debug()));
            None
        }
    }
}
