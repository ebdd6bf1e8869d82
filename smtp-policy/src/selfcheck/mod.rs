//! Are our own records such as others want them? (PRACTICES S4, S7, S15, S16, S39, B1912, B1033, B3013)
//!
//! `facts` is what a server knows of itself, `report` what comes out; `questions` makes every question end. Each other file looks at
//! one thing: `host` at addresses and names, `zone` and `exchangers` at the domain, `sending`, `signing` and `policy` at SPF, DKIM and
//! DMARC, `transport` and `tls` at MTA-STS, reports, certificates and DANE, `lists` at blocklists, `mailboxes`, `listeners` and
//! `contacts` at what it was told. What nobody answers is unknown, never good or bad.

mod certificate;
mod contacts;
mod exchangers;
mod facts;
mod host;
mod listeners;
mod lists;
mod mailboxes;
mod policy;
mod questions;
mod report;
mod sending;
mod signing;
mod tls;
mod transport;
mod zone;

use futures_util::future::join_all;
use smtp_core::{DnsName, Resolver};

pub use facts::{OwnDomain, OwnHost, OwnTls, is_public};
pub use report::{SelfFinding, SelfItem, SelfReport, Severity};

use questions::{Addresses, InTime};

/// Whether a domain and its host are such as others want them, from DNS and from what is told of them.
///
/// Each question takes 5 s at most, and all groups are asked at the same time, so that it ends within a minute where DNS is silent.
///
/// ```
/// use smtp_core::ResolverTable;
/// use smtp_policy::{OwnDomain, OwnHost, Severity, selfcheck};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dns = ResolverTable::new().with_host("mx.example.org", "192.0.2.1").with_mx("example.org", 10, "mx.example.org");
/// let host = OwnHost::new("mx.example.org".parse()?).with_address("192.0.2.1".parse()?);
/// let report = selfcheck(dns, &OwnDomain::new("example.org".parse()?), &host).await;
/// let errors = report.findings().iter().filter(|finding| finding.severity() == Severity::Error);
/// for finding in errors {
///     println!("{finding}");
/// }
/// assert!(report.findings().iter().any(|finding| finding.id() == "spf" && finding.severity() == Severity::Error));
/// # Ok(())
/// # }
/// ```
pub async fn selfcheck(resolver: impl Resolver, domain: &OwnDomain, host: &OwnHost) -> SelfReport {
    selfcheck_all(resolver, std::slice::from_ref(domain), host).await
}

/// The same for several domains of one host, at which it looks once.
pub async fn selfcheck_all(resolver: impl Resolver, domains: &[OwnDomain], host: &OwnHost) -> SelfReport {
    let dns = InTime(resolver);
    let others = host.reverse_path_domains.iter().filter(|name| domains.iter().all(|domain| domain.name != **name));
    let (names, lists, certificates, ehlo, each, reverse_paths) = tokio::join!(
        host::check(&dns, host),
        lists::check(&dns, host),
        tls::check(&dns, host),
        sending::check_ehlo(&dns, host),
        join_all(domains.iter().map(|domain| of_domain(&dns, domain, host))),
        join_all(others.map(|name| sending::check(&dns, name, host))),
    );
    let of_host = [names, lists, certificates, listeners::check(host), ehlo].into_iter();
    let of_domains = each.into_iter().chain(reverse_paths);
    SelfReport::new(of_host.chain(of_domains).flatten().chain(contacts::check(host, domains)))
}

async fn of_domain(dns: &dyn Resolver, domain: &OwnDomain, host: &OwnHost) -> Vec<SelfFinding> {
    let (zone, exchangers, spf, dkim, dmarc, transport) = tokio::join!(
        zone::check(dns, domain),
        exchangers::check(dns, domain, host),
        sending::check(dns, &domain.name, host),
        signing::check(dns, domain),
        policy::check(dns, domain),
        transport::check(dns, domain),
    );
    let author = [spf, dkim].concat();
    let alignment = policy::alignment(domain, &author);
    let domain_itself = [zone, exchangers, mailboxes::check(domain)].concat();
    domain_itself.into_iter().chain(author).chain(dmarc).chain([alignment]).chain(transport).collect()
}

/// Whether a name leads to one of these addresses: what a server should know of its own name before others tell it (PRACTICES S7).
/// `None` where DNS does not answer.
pub async fn leads_to(resolver: impl Resolver, name: &DnsName, addresses: &[std::net::IpAddr]) -> Option<bool> {
    let found = Addresses::of(&InTime(resolver), name).await;
    match addresses.iter().any(|address| found.found.contains(&address.to_canonical())) {
        true => Some(true),
        false if found.is_partial => None,
        false => Some(false),
    }
}
