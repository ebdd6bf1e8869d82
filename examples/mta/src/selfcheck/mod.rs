//! `mta check`: whether DNS, the ports and the mailboxes of this server are such as others want them (PRACTICES S4, S7, S15, S16).
//!
//! [`facts`] is what the configuration says of the server, [`ports`] asks the server itself; all that DNS knows is looked at by
//! `smtp_policy`.

mod facts;
mod ports;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use smtp_core::{DnsName, Domain, Resolver};
use smtp_policy::{DkimKey, SelfReport, Severity, is_public, leads_to, selfcheck_all};

use crate::AnyError;
use crate::config::Config;
use crate::policy;
use crate::queue::domains_in_use;

/// What `mta check` is told.
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// The domain; without it, all domains of the configuration
    #[arg(value_parser = domain)]
    domain: Option<Domain>,
    /// The configuration of the server; without it, what holds when there is none
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// By which address others see the server; can be given several times. Without it, where it listens, or else the address
    /// from which this host reaches others
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
    /// Where the server listens, in the place of what the configuration says; can be given several times
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// A domain in reverse-paths of mail that leaves here, besides those that are looked at; can be given several times
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    sends_for: Vec<Domain>,
    /// A key that signs, in PEM, and its selector; can be given several times
    #[arg(long, value_name = "SELECTOR=FILE", value_parser = selector_and_file)]
    dkim: Vec<(String, PathBuf)>,
    /// Do not connect to the ports of the server
    #[arg(long)]
    dns_only: bool,
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

fn selector_and_file(text: &str) -> Result<(String, PathBuf), String> {
    let (selector, file) = text.split_once('=').ok_or("a selector, `=` and a file are needed")?;
    Ok((selector.to_owned(), file.into()))
}

/// Looks at everything and prints what it saw. The status is 0 where nothing is wrong, 1 where something is, and 3 where nothing is
/// but not everything could be looked at.
///
/// # Errors
/// Where there is nothing to look at: the configuration or a key cannot be read.
pub(crate) fn run(options: &CheckOptions) -> Result<ExitCode, AnyError> {
    let mut config = Config::load(options.config.as_deref())?;
    if !options.listen.is_empty() {
        config.listen_on(&options.listen);
    }
    let domains = options.domain.as_ref().map_or_else(|| config.domains.clone(), |domain| vec![domain.clone()]);
    let keys = options.dkim.iter().map(|(selector, file)| {
        let pem = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        DkimKey::from_pem(selector, &pem).map_err(|error| format!("{}: {error}", file.display()))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    // PRACTICES S16: the domains that are told, and those that mail which waits leaves under.
    let sends_for = [options.sends_for.clone(), domains_in_use(&config.queue_directory())].concat();
    let host = facts::host(&config, &options.address, &sends_for)?;
    let own = facts::domains(&config, &domains, &keys)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let dns = policy::resolver(&config.policy)?;
        let (mut report, ports) = tokio::join!(selfcheck_all(dns, &own, &host.told), async {
            if options.dns_only { Vec::new() } else { ports::check(&config, &domains).await }
        });
        report.extend(ports);
        report.extend(host.trouble);
        Ok::<_, AnyError>(report)
    })?;
    // A name that the system is still looking up is not waited for.
    runtime.shutdown_background();
    write!(io::stdout(), "{report}")?;
    Ok(status(&report))
}

fn status(report: &SelfReport) -> ExitCode {
    match (report.count(Severity::Error), report.count(Severity::Unknown)) {
        (1.., _) => ExitCode::FAILURE,
        (0, 1..) => ExitCode::from(3),
        (0, 0) => ExitCode::SUCCESS,
    }
}

/// Warns, some time after the start, where the name of the server does not lead to it (PRACTICES S7): others look at that. Who has no
/// full name, or no address that others could see, is trying something out.
pub(crate) fn warn_of_name(config: &Config, dns: Arc<dyn Resolver>) {
    let Some((name, addresses)) = seen_by_others(config) else { return };
    tokio::spawn(async move {
        if leads_to(dns, &name, &addresses).await == Some(false) {
            let hostname = name.as_str();
            tracing::warn!(target: "mta", hostname, ?addresses, "the name of this server does not lead to it: see `mta check`");
        }
    });
}

/// The full name of the server and its addresses, where others can see them.
fn seen_by_others(config: &Config) -> Option<(DnsName, Vec<IpAddr>)> {
    let name = DnsName::try_from(&config.hostname).ok().filter(|name| name.as_str().contains('.'))?;
    let mut addresses = facts::addresses(config);
    addresses.retain(|address| is_public(*address));
    (!addresses.is_empty()).then_some((name, addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // PRACTICES S7: who tries something out is not warned
    fn s7_only_a_server_that_others_can_see_is_looked_at() {
        for (name, address, expected) in [
            ("mx.example.org", "192.0.2.1:25", true),
            ("mx.example.org", "[2001:db8::1]:25", true),
            ("mx.example.org", "127.0.0.1:25", false),
            ("mx.example.org", "10.0.0.1:25", false),
            ("localhost", "192.0.2.1:25", false),
        ] {
            let text = format!("hostname = \"{name}\"\n[[listener]]\naddress = \"{address}\"\n");
            let config = Config::parse("mta.toml", text).expect("a configuration");
            assert_eq!(seen_by_others(&config).is_some(), expected, "{name} {address}");
        }
    }
}
