//! The zone of a domain: who answers for it, and how many servers have it (PRACTICES B1033, B1912).

use futures_util::future::join_all;
use smtp_core::{Answer, DnsName, Mailbox, Resolver};

use super::facts::OwnDomain;
use super::questions::{Addresses, listed};
use super::report::{SelfFinding, SelfItem, record};

const ALIAS: SelfItem = SelfItem::new("domain-alias", "B1912", "the domain is no alias of another");
const CONTACT: SelfItem =
    SelfItem::new("soa-contact", "B1033", "the zone names a mailbox of who is responsible for it");
const SERVERS: SelfItem = SelfItem::new("name-servers", "B1912", "the zone has two name servers or more");
const SERVER_ALIAS: SelfItem = SelfItem::new("name-server-alias", "B1912", "a name server is no alias");

/// How many names are asked for the beginning of their zone, from the domain up.
const NAMES_LIMIT: usize = 8;
/// Of more name servers the rest is not looked at.
const SERVERS_LIMIT: usize = 13;

pub(super) async fn check(dns: &dyn Resolver, domain: &OwnDomain) -> Vec<SelfFinding> {
    let mut found = vec![match dns.alias(&domain.name).await {
        Answer::Absent => ALIAS.ok(&domain.name, "it has records of its own"),
        Answer::Unknown => ALIAS.unknown(&domain.name, "DNS does not answer"),
        Answer::Found { data, .. } => ALIAS
            .error(&domain.name, format!("it is an alias of {data}"))
            .advising("give the domain its own records: others rewrite its addresses to those of the alias"),
    }];
    match zone(dns, &domain.name).await {
        Answer::Found { data: (zone, contact), .. } => {
            let (contact, servers) = tokio::join!(contact_of(dns, &domain.name, &zone, contact), servers(dns, &zone));
            found.push(contact);
            found.extend(servers);
        }
        Answer::Absent => {
            let finding = CONTACT.warning(&domain.name, "no zone above it has a SOA record that can be read");
            found.push(finding.advising("ask whoever keeps the zone to give it one (RFC 1033)"));
        }
        Answer::Unknown => found.push(CONTACT.unknown(&domain.name, "DNS does not answer")),
    }
    found
}

/// The zone that a name is in, and its contact.
async fn zone(dns: &dyn Resolver, name: &DnsName) -> Answer<(DnsName, Option<Mailbox>)> {
    let mut next = Some(name.clone());
    for _ in 0..NAMES_LIMIT {
        let Some(name) = next.take() else { break };
        match dns.soa(&name).await {
            Answer::Found { data, secure, ttl } => return Answer::Found { data: (name, data.contact), secure, ttl },
            Answer::Unknown => return Answer::Unknown,
            // A zone of a single label is a registry's.
            Answer::Absent => next = name.parent().filter(|parent| parent.as_str().contains('.')),
        }
    }
    Answer::Absent
}

async fn contact_of(dns: &dyn Resolver, own: &DnsName, zone: &DnsName, contact: Option<Mailbox>) -> SelfFinding {
    let advice =
        format!("name a mailbox that is read, like hostmaster.{zone}. for hostmaster@{zone}, in the SOA record");
    let Some(contact) = contact else {
        return CONTACT.warning(zone, "the contact in its SOA record is no mailbox").advising(advice);
    };
    let Some(domain) = contact.domain().and_then(|domain| DnsName::try_from(domain).ok()) else {
        return CONTACT.warning(zone, format!("{contact} is in no domain")).advising(advice);
    };
    if domain == *own {
        // Whether mail for it arrives is looked at elsewhere.
        return CONTACT.ok(zone, contact.to_string());
    }
    let (mx, addresses) = tokio::join!(dns.mx(&domain), Addresses::of(dns, &domain));
    match mx {
        Answer::Found { data, .. } if data.iter().any(|exchanger| exchanger.host.is_some()) => {
            CONTACT.ok(zone, contact.to_string())
        }
        Answer::Found { .. } => {
            CONTACT.warning(zone, format!("{contact}, and {domain} takes no mail")).advising(advice)
        }
        Answer::Absent if !addresses.found.is_empty() => CONTACT.ok(zone, contact.to_string()),
        Answer::Absent if !addresses.is_partial => {
            CONTACT.warning(zone, format!("{contact}, and {domain} has no host for mail")).advising(advice)
        }
        _ => CONTACT.unknown(zone, format!("{contact}; DNS does not answer for {domain}")),
    }
}

async fn servers(dns: &dyn Resolver, zone: &DnsName) -> Vec<SelfFinding> {
    let servers = match dns.ns(zone).await {
        Answer::Found { data, .. } => data,
        Answer::Absent => Vec::new(),
        Answer::Unknown => return vec![SERVERS.unknown(zone, "DNS does not answer")],
    };
    let mut found = vec![match servers.len() {
        0 | 1 => SERVERS
            .warning(zone, if servers.is_empty() { "none".to_owned() } else { listed(&servers) })
            .advising("let a second server in another network have the zone (RFC 1912 section 2.8)"),
        _ => SERVERS.ok(zone, listed(&servers)),
    }];
    let looked_at = &servers[..servers.len().min(SERVERS_LIMIT)];
    let aliases = join_all(looked_at.iter().map(|server| dns.alias(server))).await;
    for (server, alias) in looked_at.iter().zip(aliases) {
        match alias {
            Answer::Found { data, .. } => {
                let finding = SERVER_ALIAS.warning(zone, format!("{server} is an alias of {data}"));
                found.push(finding.advising("name the host itself").publishing(record(zone, "NS", format!("{data}."))));
            }
            Answer::Absent => {}
            Answer::Unknown => found.push(SERVER_ALIAS.unknown(zone, format!("{server}: DNS does not answer"))),
        }
    }
    found
}
