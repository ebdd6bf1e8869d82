//! What the configuration says of the server: its name, addresses, ports, certificates, and who reads mail for roles.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use smtp_core::{DnsName, Domain};
use smtp_policy::{DkimKey, DnsList, OwnDomain, OwnHost, OwnTls, SelfFinding, SelfItem};

use crate::AnyError;
use crate::config::{Config, ListenerConfig, ListenerService, ListenerTls, Mailboxes, Protocol};
use crate::policy::BlocklistOf;

const FILE: SelfItem = SelfItem::new("certificate-file", "S23", "the file of a certificate can be read");

/// Mailboxes for roles that there should be (RFC 2142).
const ROLES: [&str; 4] = ["postmaster", "abuse", "security", "hostmaster"];

/// The server as it tells of itself, and what was wrong already.
pub(super) struct Host {
    pub(super) told: OwnHost,
    pub(super) trouble: Vec<SelfFinding>,
}

/// The host of a configuration. With addresses, these are its own.
///
/// # Errors
/// Where a name is none that DNS could have.
pub(super) fn host(config: &Config, own: &[IpAddr], sends_for: &[Domain]) -> Result<Host, AnyError> {
    let mut host = OwnHost::new(name(&config.hostname)?);
    let addresses = if own.is_empty() { addresses(config) } else { own.to_vec() };
    host = addresses.into_iter().fold(host, OwnHost::with_address);
    for listener in config.listeners.iter().filter(|listener| listener.protocol == Protocol::Smtp) {
        let Some(port) = port(listener) else { continue };
        let tls = match listener.tls {
            ListenerTls::None => OwnTls::None,
            ListenerTls::StartTls => OwnTls::StartTls,
            ListenerTls::Implicit => OwnTls::Implicit,
        };
        host = host.with_listener(port, tls, listener.service == ListenerService::Submission);
    }
    for list in config.policy.blocklists.iter().filter(|list| list.of == BlocklistOf::Clients) {
        host = host.with_blocklist(DnsList::new(list.zone.clone()));
    }
    for domain in sends_for {
        host = host.with_reverse_path_domain(name(domain)?);
    }
    let mut trouble = Vec::new();
    for (chain, _) in &config.certificates {
        match std::fs::read(chain) {
            Ok(pem) => host = host.with_certificate_pem(&pem),
            Err(error) => {
                let finding = FILE.error(chain.display(), error.to_string());
                trouble.push(finding.advising("let the server read it, or name another"));
            }
        }
    }
    Ok(Host { told: host, trouble })
}

/// The domains, and which mailboxes for roles each has.
///
/// # Errors
/// Where a domain is no name that DNS could have.
pub(super) fn domains(config: &Config, domains: &[Domain], keys: &[DkimKey]) -> Result<Vec<OwnDomain>, AnyError> {
    let told = |domain: &Domain| {
        let mut told = keys.iter().fold(OwnDomain::new(name(domain)?), OwnDomain::with_dkim_key);
        // Of a domain whose mail is not for this server nothing is known.
        if config.domains.contains(domain) {
            told = told.with_role_mailboxes(ROLES.into_iter().filter(|role| exists(config, role, domain)));
        }
        Ok(told)
    };
    domains.iter().map(told).collect()
}

/// Whether there is such a mailbox. Those of the configured roles are always there: they lead to `postmaster`.
fn exists(config: &Config, role: &str, domain: &Domain) -> bool {
    let mut named = config.users.iter().chain(config.aliases.iter().map(|(alias, _)| alias));
    config.roles.iter().any(|it| it == role)
        || config.mailboxes == Mailboxes::Any
        || named.any(|it| it.local_part().as_str().eq_ignore_ascii_case(role) && it.domain() == Some(domain))
}

fn name(domain: &Domain) -> Result<DnsName, AnyError> {
    DnsName::try_from(domain).map_err(|_| format!("`{domain}` is no name that DNS could have").into())
}

fn port(listener: &ListenerConfig) -> Option<u16> {
    let (_, port) = listener.address.rsplit_once(':').filter(|_| listener.unix_path().is_none())?;
    port.parse().ok()
}

/// Where the server listens, unless that is everywhere or on this host alone; else from where this host reaches others.
pub(super) fn addresses(config: &Config) -> Vec<IpAddr> {
    let listening = config.listeners.iter().filter_map(|listener| listener.address.parse::<SocketAddr>().ok());
    let named: Vec<_> =
        listening.map(|address| address.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect();
    if !named.is_empty() {
        return named;
    }
    let is_everywhere = |listener: &ListenerConfig| {
        listener.address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified())
    };
    if !config.listeners.iter().any(is_everywhere) {
        return Vec::new();
    }
    // Nothing is sent: the system only says which address it would use (RFC 5737, RFC 3849).
    let toward = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let own = toward.into_iter().filter_map(|(any, there)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    own.collect()
}
