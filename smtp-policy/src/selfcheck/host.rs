//! The host: its addresses lead to its name, and its name leads to them (PRACTICES S1 to S5, S7, S10 to S12).

use std::net::IpAddr;

use futures_util::future::join_all;
use smtp_core::{Answer, DnsName, Resolver};

use crate::reverse_dns::generic_sign;

use super::facts::OwnHost;
use super::questions::{Addresses, listed};
use super::report::{SelfFinding, SelfItem, record};

const NAME: SelfItem = SelfItem::new("host-name", "S7", "the host has a full name, which has addresses");
const ADDRESS: SelfItem = SelfItem::new("host-address", "S12", "the name of the host leads to each of its addresses");
const PUBLIC: SelfItem = SelfItem::new("host-public", "S4", "the host has an address that others can reach");
const PTR: SelfItem = SelfItem::new("ptr", "S1", "the address has a name");
const PTR_ADDRESS: SelfItem = SelfItem::new("ptr-address", "S2", "the name of the address has addresses");
const PTR_CONFIRMED: SelfItem = SelfItem::new("ptr-confirmed", "S3", "the name of the address leads back to it");
const PTR_NAME: SelfItem =
    SelfItem::new("ptr-name", "S7", "the address has the name by which the host introduces itself");
const PTR_SINGLE: SelfItem = SelfItem::new("ptr-single", "B1912", "the address has one name");
const GENERIC: SelfItem = SelfItem::new("name-generic", "S5", "the name looks as if somebody had chosen it");
const EHLO: SelfItem = SelfItem::new("ehlo-name", "S11", "the name in EHLO has addresses");
const EHLO_ADDRESS: SelfItem = SelfItem::new("ehlo-address", "S12", "the name in EHLO leads to an address of the host");

/// Of more names of an address the rest is not looked at, as others do (PRACTICES S1).
const NAMES_LIMIT: usize = 10;

pub(super) async fn check(dns: &dyn Resolver, host: &OwnHost) -> Vec<SelfFinding> {
    let mut found = vec![];
    if host.name.as_str().contains('.') {
        found.extend(name(dns, host).await);
    } else {
        let advice = "name the host in full, like mx.example.org, in the configuration and in DNS";
        found.push(NAME.error(&host.name, "it has one label").advising(advice));
    }
    let public: Vec<_> = host.public_addresses().collect();
    if public.is_empty() {
        let evidence = match &host.addresses[..] {
            [] => "no address of it is known".to_owned(),
            some => format!("only {}", listed(some)),
        };
        found.push(PUBLIC.note(&host.name, evidence).advising("say by which address others see this host"));
    }
    found.extend(join_all(public.iter().map(|address| reverse(dns, host, *address))).await.into_iter().flatten());
    found.extend(join_all(host.ehlo_names.iter().map(|name| ehlo(dns, host, name))).await.into_iter().flatten());
    found
}

/// What to do about a name that has not this address.
fn address_record(name: &DnsName, address: IpAddr) -> String {
    record(name, if address.is_ipv4() { "A" } else { "AAAA" }, address)
}

/// Its own name, forward.
async fn name(dns: &dyn Resolver, host: &OwnHost) -> Vec<SelfFinding> {
    let addresses = Addresses::of(dns, &host.name).await;
    let publish = |finding: SelfFinding| {
        let finding = finding.advising("publish each address of the host");
        host.public_addresses().fold(finding, |it, address| it.publishing(address_record(&host.name, address)))
    };
    let mut found = vec![match (&addresses.found[..], addresses.is_partial) {
        ([], true) => NAME.unknown(&host.name, "DNS does not answer"),
        ([], false) => return vec![publish(NAME.error(&host.name, "it has no address"))],
        _ => NAME.ok(&host.name, addresses.shown()),
    }];
    for address in host.public_addresses() {
        let evidence = format!("{} leads to {}", host.name, addresses.shown());
        found.push(if addresses.found.contains(&address) {
            ADDRESS.ok(address, evidence)
        } else if addresses.is_partial {
            ADDRESS.unknown(address, "DNS does not answer")
        } else {
            let advice = "publish this address as well, or introduce the host by a name that has it";
            ADDRESS.error(address, evidence).advising(advice).publishing(address_record(&host.name, address))
        });
    }
    let address = host.public_addresses().next().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    found.push(looks(&host.name, address));
    found
}

fn looks(name: &DnsName, address: IpAddr) -> SelfFinding {
    match generic_sign(name, address) {
        None => GENERIC.ok(name, "nothing about it looks generated"),
        Some(sign) => GENERIC
            .warning(name, format!("it has {sign}"))
            .advising("choose a name like mx.example.org; filters score names that look like those of dial-up hosts"),
    }
}

/// One address, backwards and forward again.
async fn reverse(dns: &dyn Resolver, host: &OwnHost, address: IpAddr) -> Vec<SelfFinding> {
    let advice = "ask whoever lent you the address to set its name (RFC 1912 section 2.1)";
    let pointer = || record(&DnsName::reverse(address), "PTR", format!("{}.", host.name));
    let names = match dns.ptr(address).await {
        Answer::Found { data, .. } if !data.is_empty() => data,
        Answer::Found { .. } => {
            let evidence = "its names are no host names";
            return vec![PTR.error(address, evidence).advising(advice).publishing(pointer())];
        }
        Answer::Absent => {
            let evidence = format!("{} has no PTR record", DnsName::reverse(address));
            return vec![PTR.error(address, evidence).advising(advice).publishing(pointer())];
        }
        Answer::Unknown => return vec![PTR.unknown(address, "DNS does not answer")],
    };
    let mut found = vec![PTR.ok(address, listed(&names))];
    if names.len() > 1 {
        let finding = PTR_SINGLE.note(address, listed(&names));
        found.push(finding.advising("keep the name of the host alone: which one others see is chance"));
    }
    let looked_at = &names[..names.len().min(NAMES_LIMIT)];
    let forward = join_all(looked_at.iter().map(|name| Addresses::of(dns, name))).await;
    let is_unknown = forward.iter().any(|addresses| addresses.is_partial);
    let confirmed = looked_at.iter().zip(&forward).find(|(_, addresses)| addresses.found.contains(&address));
    found.push(match confirmed {
        Some((name, _)) => PTR_CONFIRMED.ok(address, format!("{name} leads back to it")),
        None if is_unknown => PTR_CONFIRMED.unknown(address, "DNS does not answer"),
        None => {
            let back: Vec<_> = forward.iter().flat_map(|addresses| addresses.found.iter().copied()).collect();
            let finding = if back.is_empty() {
                PTR_ADDRESS.error(address, format!("{} has no address", listed(looked_at)))
            } else {
                PTR_CONFIRMED.error(address, format!("{} leads to {}", listed(looked_at), listed(&back)))
            };
            let finding = finding.advising("let address and name lead to each other").publishing(pointer());
            finding.publishing(address_record(&host.name, address))
        }
    });
    let introduces = |name: &DnsName| *name == host.name || host.ehlo_names.contains(name);
    found.push(if names.iter().any(introduces) {
        PTR_NAME.ok(address, listed(&names))
    } else {
        let evidence = format!("{} introduces itself, and its address is called {}", host.name, listed(&names));
        let advice = "use one name for both, as most mail servers do";
        PTR_NAME.warning(address, evidence).advising(advice).publishing(pointer())
    });
    let others = names.iter().filter(|name| **name != host.name).take(NAMES_LIMIT);
    found.extend(others.map(|name| looks(name, address)));
    found
}

/// Another name by which it introduces itself.
async fn ehlo(dns: &dyn Resolver, host: &OwnHost, name: &DnsName) -> Vec<SelfFinding> {
    let addresses = Addresses::of(dns, name).await;
    let advise = |finding: SelfFinding| {
        let finding = finding.advising("give the name an address of the host, or introduce the host by another");
        host.public_addresses().take(1).fold(finding, |it, address| it.publishing(address_record(name, address)))
    };
    let mut found = vec![match (&addresses.found[..], addresses.is_partial) {
        ([], true) => return vec![EHLO.unknown(name, "DNS does not answer")],
        ([], false) => return vec![advise(EHLO.error(name, "it has no address"))],
        _ => EHLO.ok(name, addresses.shown()),
    }];
    if host.public_addresses().next().is_some() {
        let is_ours = host.public_addresses().any(|address| addresses.found.contains(&address));
        found.push(match (is_ours, addresses.is_partial) {
            (true, _) => EHLO_ADDRESS.ok(name, addresses.shown()),
            (false, true) => EHLO_ADDRESS.unknown(name, "DNS does not answer"),
            (false, false) => advise(EHLO_ADDRESS.error(name, format!("it leads to {}", addresses.shown()))),
        });
    }
    found
}
