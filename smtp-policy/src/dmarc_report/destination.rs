//! Where a report may go: who is not of the domain must have said that it wants it (RFC 9990 §4; SECURITY D-40).

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dmarc::Dmarc as Record;
use smtp_core::{Answer, DnsName, Mailbox, Resolver};

use crate::dmarc::{Published, Trees, Unknown, addresses};

use super::collect::same;

/// Addresses that a report goes to at most (RFC 9990 §3.5): 5.
const DESTINATIONS_LIMIT: usize = 5;

/// A mailbox that wants reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) mailbox: Mailbox,
    /// The most octets of a message that it takes; 0 is any number.
    limit_octets: u64,
}

impl Destination {
    /// `None` where it is no mailbox that any server can be told.
    fn new((address, limit_octets): &(String, u64)) -> Option<Self> {
        let address = address.split('?').next().unwrap_or_default();
        let mailbox = Mailbox::parse(address).ok()?.to_ascii()?;
        Some(Self { mailbox, limit_octets: *limit_octets })
    }

    fn domain(&self) -> Option<DnsName> {
        self.mailbox.domain().and_then(|domain| DnsName::try_from(domain).ok())
    }

    /// Whether it takes a message of that size (RFC 9990 §3.5: after any encoding).
    pub(super) fn takes(&self, octets: u64) -> bool {
        self.limit_octets == 0 || octets <= self.limit_octets
    }
}

/// The mailboxes to which a report of that domain may go. `own`, from which reports come, is none of them.
pub(super) async fn destinations(
    resolver: &dyn Resolver,
    published: &Published,
    own: &Mailbox,
) -> Result<Vec<Destination>, Unknown> {
    let Ok(domain) = DnsName::parse(&published.domain) else { return Ok(Vec::new()) };
    let mut trees = Trees::new(resolver);
    let mut found: Vec<Destination> = Vec::new();
    for destination in published.addresses.iter().filter_map(Destination::new).take(DESTINATIONS_LIMIT) {
        let Some(host) = destination.domain() else { continue };
        // Not who is merely below it: below a public suffix are others.
        let is_internal = host == domain || trees.organizational(&host).await? == trees.organizational(&domain).await?;
        let wanted =
            if is_internal { vec![destination] } else { confirmed(resolver, &domain, &host, destination).await? };
        for destination in wanted {
            let is_known = found.iter().any(|known| same(&known.mailbox, &destination.mailbox));
            if !is_known && !same(&destination.mailbox, own) && found.len() < DESTINATIONS_LIMIT {
                found.push(destination);
            }
        }
    }
    Ok(found)
}

/// What a host that is not of the domain says to its reports: nothing, yes, or other addresses of its own.
async fn confirmed(
    resolver: &dyn Resolver,
    domain: &DnsName,
    host: &DnsName,
    asked_for: Destination,
) -> Result<Vec<Destination>, Unknown> {
    let Some(name) = host.child(&format!("{domain}._report._dmarc")) else { return Ok(Vec::new()) };
    let texts = match resolver.txt(&name).await {
        Answer::Found { data, .. } => data,
        Answer::Absent => return Ok(Vec::new()),
        Answer::Unknown => return Err(Unknown),
    };
    let records: Vec<_> = texts.iter().filter_map(|text| Record::parse(text).ok()).collect();
    let instead: Vec<_> = records.iter().flat_map(addresses).collect();
    if records.is_empty() || instead.is_empty() {
        return Ok(if records.is_empty() { Vec::new() } else { vec![asked_for] });
    }
    let instead: Vec<_> = instead.iter().filter_map(Destination::new).collect();
    // To prevent loops, neither goes anywhere where one of them is elsewhere.
    let are_there = instead.iter().all(|destination| destination.domain().as_ref() == Some(host));
    Ok(if are_there { instead } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use smtp_core::ResolverTable;

    use super::*;

    #[tokio::test] // RFC 9990 §4; SECURITY D-40
    async fn d40_reports_go_only_to_who_wants_them() {
        let dns = ResolverTable::new()
            .with_txt("_dmarc.client.example", "v=DMARC1; p=reject")
            .with_txt("client.example._report._dmarc.yes.example", "v=DMARC1")
            .with_txt("client.example._report._dmarc.yes-too.example", "v=DMARC1;")
            .with_txt("client.example._report._dmarc.odd.example", "v=DMARC2")
            .with_txt("client.example._report._dmarc.other.example", "v=DMARC1; rua=mailto:b@other.example!1k")
            .with_txt("client.example._report._dmarc.loop.example", "v=DMARC1; rua=mailto:a@victim.example")
            .with_txt(
                "client.example._report._dmarc.both.example",
                "v=DMARC1; rua=mailto:a@both.example,mailto:a@v.example",
            )
            .with_unknown("client.example._report._dmarc.slow.example");
        for (rua, expected) in [
            ("mailto:a@client.example", Some("a@client.example")),
            ("mailto:a@sub.client.example", Some("a@sub.client.example")),
            ("mailto:a@yes.example", Some("a@yes.example")),
            ("mailto:a@yes-too.example", Some("a@yes-too.example")),
            ("mailto:a@victim.example", Some("")),
            ("mailto:a@odd.example", Some("")),
            ("mailto:a@other.example", Some("b@other.example")),
            ("mailto:a@loop.example", Some("")),
            ("mailto:a@both.example", Some("")),
            ("mailto:a@slow.example", None),
            ("https://client.example/", Some("")),
            ("mailto:a@client.example?subject=x", Some("a@client.example")),
            ("mailto:%61@client.example, mailto:A@client.example", Some("a@client.example")),
            ("mailto:dmarc@example.org", Some("")),
            ("mailto:a@[192.0.2.1]", Some("")),
            ("mailto:a@client.example%0d%0aBcc:b@client.example", Some("")),
            (
                "mailto:1@client.example,mailto:2@client.example,mailto:3@client.example,mailto:4@client.example,\
              mailto:5@client.example,mailto:6@client.example",
                Some("1@client.example 2@client.example 3@client.example 4@client.example 5@client.example"),
            ),
        ] {
            let record = Record::parse(format!("v=DMARC1; p=reject; rua={rua}").as_bytes()).expect("a record");
            let published = Published { addresses: addresses(&record), ..published() };
            let own = "dmarc@example.org".parse().expect("a mailbox");
            let found = destinations(&dns, &published, &own).await.ok();
            let found = found.map(|found| found.iter().map(|to| to.mailbox.to_string()).collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), expected, "{rua}");
        }
    }

    #[tokio::test] // RFC 9990 §4, RFC 9989 §4.10.2; SECURITY D-40
    async fn d40_who_is_below_a_public_suffix_is_not_of_it() {
        let dns = ResolverTable::new()
            .with_txt("_dmarc.client.example", "v=DMARC1; p=reject; psd=y")
            .with_txt("_dmarc.tenant.client.example", "v=DMARC1; p=reject");
        for (domain, to, expected) in [
            ("client.example", "a@tenant.client.example", 0),
            ("client.example", "a@x.tenant.client.example", 0),
            ("client.example", "a@client.example", 1),
            ("tenant.client.example", "a@x.tenant.client.example", 1),
            ("tenant.client.example", "a@client.example", 0),
        ] {
            let addresses = vec![(to.to_owned(), 0)];
            let published = Published { domain: domain.to_owned(), addresses, ..published() };
            let own = "dmarc@example.org".parse().expect("a mailbox");
            let found = destinations(&dns, &published, &own).await.ok().map(|found| found.len());
            assert_eq!(found, Some(expected), "{domain}: {to}");
        }
    }

    #[test] // RFC 9990 §3.5
    fn a_size_is_that_of_the_message() {
        for (rua, taken, refused) in [("!10", 10, 11), ("!1k", 1024, 1025), ("!10m", 10 << 20, (10 << 20) + 1)] {
            let record = Record::parse(format!("v=DMARC1; p=none; rua=mailto:a@b.example{rua}").as_bytes());
            let destination = Destination::new(&addresses(&record.expect("a record"))[0]).expect("a mailbox");
            assert!(destination.takes(taken) && !destination.takes(refused), "{rua}");
        }
        let any = Destination::new(&("a@b.example".to_owned(), 0)).expect("a mailbox");
        assert!(any.takes(u64::MAX));
    }

    fn published() -> Published {
        Published {
            domain: "client.example".to_owned(),
            policy: "reject".to_owned(),
            subdomain_policy: "reject".to_owned(),
            missing_domain_policy: "reject".to_owned(),
            is_strict_dkim: false,
            is_strict_spf: false,
            is_test: false,
            failure_options: "0".to_owned(),
            addresses: Vec::new(),
        }
    }
}
