//! Where mail for a domain goes: hosts with names and addresses, of which we are one (PRACTICES S4, B1912).

use futures_util::future::join_all;
use smtp_core::{Answer, DnsName, MailExchanger, Resolver};

use super::facts::{OwnDomain, OwnHost};
use super::questions::{Addresses, listed};
use super::report::{SelfFinding, SelfItem, record};

const MX: SelfItem = SelfItem::new("mx", "S4", "the domain says which hosts take its mail");
const NULL: SelfItem = SelfItem::new("mx-null", "S4", "the domain takes mail");
const LITERAL: SelfItem = SelfItem::new("mx-literal", "B1912", "a host for mail is a name, not an address");
const ALIAS: SelfItem = SelfItem::new("mx-alias", "B1912", "a host for mail is no alias");
const ADDRESS: SelfItem = SelfItem::new("mx-address", "S4", "a host for mail has addresses");
const OURS: SelfItem = SelfItem::new("mx-ours", "S4", "one of the hosts for mail is this one");

/// Of more hosts the rest is not looked at.
const HOSTS_LIMIT: usize = 16;

pub(super) async fn check(dns: &dyn Resolver, domain: &OwnDomain, host: &OwnHost) -> Vec<SelfFinding> {
    let name = &domain.name;
    let publish = |finding: SelfFinding| {
        let finding = finding.advising("name this host, and others that take mail for the domain");
        finding.publishing(record(name, "MX", format!("10 {}.", host.name)))
    };
    let mut exchangers = match dns.mx(name).await {
        Answer::Unknown => return vec![MX.unknown(name, "DNS does not answer")],
        Answer::Absent => return vec![publish(without_record(dns, domain, host).await)],
        Answer::Found { data, .. } => data,
    };
    exchangers.sort();
    if exchangers.iter().any(|exchanger| exchanger.host.is_none()) {
        let evidence = match exchangers.len() {
            1 => "`MX 0 .`: it takes no mail (RFC 7505)",
            _ => "`MX 0 .` besides hosts, which contradict it (RFC 7505 section 3)",
        };
        return vec![publish(NULL.error(name, evidence))];
    }
    if exchangers.is_empty() {
        return vec![publish(LITERAL.error(name, "none of its MX records has the name of a host"))];
    }
    let hosts: Vec<_> =
        exchangers.into_iter().take(HOSTS_LIMIT).filter_map(|it| Some((it.preference, it.host?))).collect();
    let shown: Vec<_> = hosts.iter().map(|(preference, host)| format!("{preference} {host}")).collect();
    let mut found = vec![MX.ok(name, listed(&shown))];
    let each = join_all(hosts.iter().map(|(preference, exchanger)| one(dns, name, *preference, exchanger))).await;
    let (mut is_ours, mut is_unknown) = (false, false);
    for ((_, exchanger), (findings, addresses)) in hosts.iter().zip(each) {
        is_ours |= *exchanger == host.name || host.addresses.iter().any(|address| addresses.found.contains(address));
        is_unknown |= addresses.is_partial;
        found.extend(findings);
    }
    found.push(if is_ours {
        OURS.ok(name, listed(&shown))
    } else if is_unknown {
        OURS.unknown(name, "DNS does not answer")
    } else {
        publish(OURS.error(name, format!("{} is none of {}", host.name, listed(&shown))))
    });
    found
}

/// Without a record the addresses of the domain itself take its mail (RFC 5321 §5.1).
async fn without_record(dns: &dyn Resolver, domain: &OwnDomain, host: &OwnHost) -> SelfFinding {
    let addresses = Addresses::of(dns, &domain.name).await;
    let is_ours = addresses.found.iter().any(|address| host.addresses.contains(address));
    match (&addresses.found[..], addresses.is_partial) {
        _ if is_ours => MX.warning(&domain.name, "no MX record; mail comes to the addresses of the domain itself"),
        (_, true) => MX.unknown(&domain.name, "no MX record, and DNS does not answer for addresses"),
        ([], false) => MX.error(&domain.name, "neither an MX record nor an address"),
        _ => MX.error(&domain.name, format!("no MX record, and its addresses are others: {}", addresses.shown())),
    }
}

async fn one(
    dns: &dyn Resolver,
    domain: &DnsName,
    preference: u16,
    exchanger: &DnsName,
) -> (Vec<SelfFinding>, Addresses) {
    let none = Addresses { found: Vec::new(), is_partial: false };
    // A name whose last label is a number is an address to whoever connects to it (RFC 1123 §2.1).
    let is_number = |label: &str| label.bytes().all(|octet| octet.is_ascii_digit());
    if exchanger.as_str().rsplit('.').next().is_some_and(is_number) {
        let finding = LITERAL.error(domain, format!("MX {preference} {exchanger}"));
        return (vec![finding.advising("name a host that has this address")], none);
    }
    let (alias, addresses) = tokio::join!(dns.alias(exchanger), Addresses::of(dns, exchanger));
    let mut found = vec![match alias {
        Answer::Absent => ALIAS.ok(exchanger, "it has records of its own"),
        Answer::Unknown => ALIAS.unknown(exchanger, "DNS does not answer"),
        Answer::Found { data, .. } => ALIAS
            .error(exchanger, format!("it is an alias of {data}"))
            .advising("name the host itself (RFC 2181 section 10.3)")
            .publishing(record(domain, "MX", format!("{preference} {data}."))),
    }];
    found.push(match (&addresses.found[..], addresses.is_partial) {
        ([], true) => ADDRESS.unknown(exchanger, "DNS does not answer"),
        ([], false) => ADDRESS.error(exchanger, "it has none").advising("give the host an address, or name another"),
        _ => ADDRESS.ok(exchanger, addresses.shown()),
    });
    (found, addresses)
}

/// The hosts that take mail for a domain, where that is known.
pub(super) async fn names(dns: &dyn Resolver, domain: &DnsName) -> Answer<Vec<DnsName>> {
    let named = |exchangers: Vec<MailExchanger>| exchangers.into_iter().filter_map(|it| it.host).collect();
    dns.mx(domain).await.map(named)
}
