//! The server itself, asked as other servers ask it: banner, TLS, certificate, and who would get mail for a role (PRACTICES S15).
//!
//! It is asked about recipients as a callout does: there is no message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use smtp_core::{
    ClientConfig, ClientConnection, ClientLimits, ClientTls, Domain, ForwardPath, Mailbox, SendCause, SendStage,
};
use smtp_policy::{SelfFinding, SelfItem};

use crate::config::{Config, ListenerConfig, ListenerService, ListenerTls, Protocol};

const PORT: SelfItem = SelfItem::new("listening", "S4", "the port answers");
const BANNER: SelfItem = SelfItem::new("banner", "S9", "the banner has the name of the host");
const STARTTLS: SelfItem = SelfItem::new("starttls", "S23", "the port takes STARTTLS");
const TRUSTED: SelfItem = SelfItem::new("certificate-trusted", "S23", "the certificate is one that others can verify");
const ROLE: SelfItem = SelfItem::new("role-mailbox", "S15", "the server takes mail for the role");

/// How long each reply may take (ours): 10 s.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn check(config: &Config, domains: &[Domain]) -> Vec<SelfFinding> {
    let mut found = Vec::new();
    let is_smtp = |listener: &&ListenerConfig| listener.protocol == Protocol::Smtp && listener.unix_path().is_none();
    for listener in config.listeners.iter().filter(is_smtp) {
        let address = target(&listener.address);
        if !listener.proxies.is_empty() {
            found.push(PORT.note(&address, "not asked: it is behind a proxy").advising("ask it through the proxy"));
        } else if !address.ends_with(":0") {
            found.extend(one(config, listener, &address, domains).await);
        }
    }
    found
}

/// Where to connect: what listens everywhere listens on this host.
fn target(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let host: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(host, address.port()).to_string()
        }
        _ => address.to_owned(),
    }
}

fn client(listener: &ListenerConfig, tls: Option<ClientTls>) -> ClientConfig {
    let mut limits = ClientLimits::default();
    limits.connect_timeout = PATIENCE;
    limits.greeting_timeout = PATIENCE;
    limits.handshake_timeout = PATIENCE;
    limits.command_timeout = PATIENCE;
    limits.reset_timeout = PATIENCE;
    limits.quit_timeout = Duration::from_secs(2);
    let client = ClientConfig::default().with_limits(limits);
    match tls {
        Some(tls) if listener.tls == ListenerTls::Implicit => client.with_tls(tls.implicit()),
        Some(tls) => client.with_tls(tls),
        None => client,
    }
}

async fn one(config: &Config, listener: &ListenerConfig, address: &str, domains: &[Domain]) -> Vec<SelfFinding> {
    let name = config.hostname.to_ascii();
    let anybody = ClientTls::opportunistic().and_then(|tls| tls.with_server_name(name.as_str())).ok();
    let anybody = anybody.filter(|_| listener.tls != ListenerTls::None);
    let mut connection = match ClientConnection::connect(address, &client(listener, anybody)).await {
        Ok(connection) => connection,
        Err(error) if error.stage() == SendStage::Connect => {
            let advice = "start the server, `mta run`, and see that nothing is in the way of the port";
            return vec![PORT.error(address, error.to_string()).advising(advice)];
        }
        Err(error) if error.reply().is_some_and(|reply| reply.code().is_permanent()) => {
            let finding = PORT.error(address, error.to_string());
            return vec![finding.advising("see the log of the server for the reason")];
        }
        Err(error) => return vec![PORT.unknown(address, error.to_string())],
    };
    let greeting = connection.greeting().map(ToString::to_string).unwrap_or_default();
    let mut found = vec![PORT.ok(address, &greeting)];
    found.push(match greeting.split(' ').nth(1) {
        Some(word) if word.eq_ignore_ascii_case(name.as_str()) => BANNER.ok(address, word),
        _ => BANNER
            .warning(address, greeting)
            .advising("another program answers there, or a server with another configuration"),
    });
    if listener.tls == ListenerTls::StartTls {
        found.push(match connection.tls() {
            Some(tls) => STARTTLS.ok(address, format!("{} {}", tls.version, tls.cipher)),
            None => STARTTLS
                .error(address, "mail goes in clear: it is not offered, or fails")
                .advising("see the log of the server, and restart it where the configuration has changed"),
        });
    }
    if connection.tls().is_some() {
        found.push(verified(listener, address, name.as_str()).await);
    }
    if listener.service != ListenerService::Submission {
        found.extend(roles(&mut connection, &config.roles, domains).await);
    }
    connection.quit().await;
    found
}

/// Whether those who verify the certificate would go on.
async fn verified(listener: &ListenerConfig, address: &str, name: &str) -> SelfFinding {
    let tls = match ClientTls::verified([name]) {
        Ok(tls) => tls,
        Err(error) => return TRUSTED.unknown(address, error.to_string()),
    };
    match ClientConnection::connect(address, &client(listener, Some(tls))).await {
        Ok(connection) => {
            connection.quit().await;
            TRUSTED.ok(address, format!("for {name}, by an authority that this system trusts"))
        }
        Err(error) if matches!(error.cause(), SendCause::Handshake(_)) => TRUSTED
            .warning(address, error.to_string())
            .advising("get a certificate for this name by a public authority; MTA-STS and mail clients demand it"),
        Err(error) => TRUSTED.unknown(address, error.to_string()),
    }
}

async fn roles(connection: &mut ClientConnection, roles: &[String], domains: &[Domain]) -> Vec<SelfFinding> {
    let mut paths = vec![ForwardPath::Postmaster];
    for domain in domains {
        let mailbox = |role: &String| Mailbox::parse(format!("{role}@{domain}")).ok();
        paths.extend(roles.iter().filter_map(mailbox).map(ForwardPath::Mailbox));
    }
    let mut found = Vec::new();
    for path in paths {
        found.push(match connection.ask(&path).await {
            Ok(reply) => ROLE.ok(&path, reply.to_string()),
            Err(error) if error.stage() == SendStage::Rcpt && !error.is_transient() => ROLE
                .error(&path, error.to_string())
                .advising("make the mailbox, or an alias of somebody who reads it (RFC 5321 section 4.5.1)"),
            // A session that has ended says so at once for those that are left.
            Err(error) => ROLE.unknown(&path, error.to_string()),
        });
    }
    found
}
