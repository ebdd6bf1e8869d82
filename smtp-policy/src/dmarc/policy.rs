//! Which policy a domain has, and which domain it belongs to: the DNS tree walk (RFC 9989 §4.10).

use std::collections::HashMap;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dmarc::{Dmarc as Record, Policy, Psd};
use smtp_core::{Answer, DnsName, Resolver};

/// Labels of the second name that is asked for, where the first has more (RFC 9989 §4.10): so that eight are asked for at most.
const LABELS_LIMIT: usize = 7;

/// DNS did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown;

/// The record that holds for mail of an author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it stands.
    pub(super) domain: DnsName,
    pub(super) record: Record,
    /// What the domain asks for.
    pub(super) configured: Policy,
    /// The same, one step milder where it is a test (RFC 9989 §4.7, `t`).
    pub(super) asked: Policy,
}

/// What is known of the trees so far.
pub(crate) struct Trees<'a> {
    resolver: &'a dyn Resolver,
    walked: HashMap<DnsName, Vec<(DnsName, Record)>>,
}

impl<'a> Trees<'a> {
    pub(crate) fn new(resolver: &'a dyn Resolver) -> Self {
        Self { resolver, walked: HashMap::new() }
    }

    /// The records from a domain up, the domain's own first.
    async fn walk(&mut self, start: &DnsName) -> Result<&[(DnsName, Record)], Unknown> {
        if !self.walked.contains_key(start) {
            let mut found = Vec::new();
            let mut next = Some(start.clone());
            while let Some(name) = next {
                if let Some(record) = self.record(&name).await? {
                    let is_last = record.psd != Psd::Default;
                    found.push((name.clone(), record));
                    if is_last {
                        break;
                    }
                }
                next = name.parent();
                while let Some(longer) = next.take_if(|name| name.as_str().split('.').count() > LABELS_LIMIT) {
                    next = longer.parent();
                }
            }
            self.walked.insert(start.clone(), found);
        }
        Ok(self.walked.get(start).map(Vec::as_slice).unwrap_or_default())
    }

    /// The record of one name. Of several none counts.
    async fn record(&self, name: &DnsName) -> Result<Option<Record>, Unknown> {
        let Some(name) = name.child("_dmarc") else { return Ok(None) };
        let texts = match self.resolver.txt(&name).await {
            Answer::Found { data, .. } => data,
            Answer::Absent => return Ok(None),
            Answer::Unknown => return Err(Unknown),
        };
        let mut records = texts.iter().filter_map(|text| Record::parse(text).ok());
        Ok(records.next().filter(|_| records.next().is_none()))
    }

    /// The domain that stands for all below it (RFC 9989 §4.10.2).
    pub(crate) async fn organizational(&mut self, domain: &DnsName) -> Result<DnsName, Unknown> {
        let walk = self.walk(domain).await?;
        for (name, record) in walk {
            match record.psd {
                Psd::No => return Ok(name.clone()),
                Psd::Yes if name != domain => return Ok(one_label_below(name, domain)),
                _ => {}
            }
        }
        Ok(walk.last().map_or_else(|| domain.clone(), |(name, _)| name.clone()))
    }

    /// The record that holds for mail of an author of this domain, and what it asks for (RFC 9989 §4.10.1, §4.7).
    pub(super) async fn policy(&mut self, author: &DnsName) -> Result<Option<Found>, Unknown> {
        let organizational = self.organizational(author).await?;
        let walk = self.walk(author).await?;
        let of = |domain: &DnsName| walk.iter().find(|(name, _)| name == domain);
        let Some((name, record)) = of(author).or_else(|| of(&organizational)).or(walk.last()).cloned() else {
            return Ok(None);
        };
        let configured = match record.p {
            Policy::Unspecified if record.rua.is_empty() => return Ok(None),
            Policy::Unspecified => Policy::None,
            _ if name == *author => record.p,
            _ if record.np == record.sp || self.exists(author).await? => record.sp,
            _ => record.np,
        };
        let asked = match configured {
            Policy::Reject if record.t => Policy::Quarantine,
            Policy::Quarantine if record.t => Policy::None,
            configured => configured,
        };
        Ok(Some(Found { domain: name, record, configured, asked }))
    }

    /// Whether there is such a domain. Our resolver does not tell a name without data from none, so one that has neither
    /// addresses nor mail hosts is none, as RFC 9091 §2.7 had it.
    async fn exists(&self, name: &DnsName) -> Result<bool, Unknown> {
        let (ipv4, ipv6, mx) = tokio::join!(self.resolver.ipv4(name), self.resolver.ipv6(name), self.resolver.mx(name));
        if ipv4.is_found() || ipv6.is_found() || mx.is_found() {
            return Ok(true);
        }
        if ipv4.is_unknown() || ipv6.is_unknown() || mx.is_unknown() { Err(Unknown) } else { Ok(false) }
    }
}

/// Of the names from `start` up to `top` the last before it.
fn one_label_below(top: &DnsName, start: &DnsName) -> DnsName {
    let mut name = start.clone();
    while let Some(parent) = name.parent().filter(|parent| parent != top && parent.is_within(top)) {
        name = parent;
    }
    name
}

#[cfg(test)]
mod tests {
    use smtp_core::ResolverTable;

    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().expect("a name")
    }

    #[tokio::test] // RFC 9989 §4.10, §4.10.2
    async fn the_tree_walk() {
        let dns = ResolverTable::new()
            .with_txt("_dmarc.example.com", "v=DMARC1; p=reject")
            .with_txt("_dmarc.lists.example.com", "v=DMARC1; p=none")
            .with_txt("_dmarc.own.example.com", "v=DMARC1; p=none; psd=n")
            .with_txt("_dmarc.bank", "v=DMARC1; p=reject; psd=y")
            .with_txt("_dmarc.two.example", "v=DMARC1; p=none")
            .with_txt("_dmarc.two.example", "v=DMARC1; p=reject")
            .with_txt("_dmarc.odd.example", "v=DMARC2; p=reject")
            .with_txt("_dmarc.odd.example", "something else");
        for (domain, organizational) in [
            ("example.com", "example.com"),
            ("a.b.lists.example.com", "example.com"),
            ("x.own.example.com", "own.example.com"),
            ("a.mine.bank", "mine.bank"),
            ("mine.bank", "mine.bank"),
            ("bank", "bank"),
            ("a.two.example", "a.two.example"),
            ("odd.example", "odd.example"),
        ] {
            let found = Trees::new(&dns).organizational(&name(domain)).await;
            assert_eq!(found, Ok(name(organizational)), "{domain}");
        }
    }

    #[tokio::test] // RFC 9989 §4.10: a.b.c.d.e.f.g.h.i.j.mail.example.com is asked about eight times
    async fn of_a_long_name_eight_are_asked_for() {
        let dns = ResolverTable::new();
        let _ = Trees::new(&dns).organizational(&name("a.b.c.d.e.f.g.h.i.j.mail.example.com")).await;
        let asked: Vec<_> = dns.asked().into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(asked.len(), 8, "{asked:?}");
        assert_eq!(asked[1], "_dmarc.g.h.i.j.mail.example.com");
        assert_eq!(asked[7], "_dmarc.com");
    }

    #[tokio::test] // RFC 9989 §4.7, §4.10.1
    async fn which_policy_holds() {
        let dns = ResolverTable::new()
            .with_txt("_dmarc.example.com", "v=DMARC1; p=reject; sp=quarantine; np=none")
            .with_txt("_dmarc.test.example", "v=DMARC1; p=reject; t=y")
            .with_txt("_dmarc.report.example", "v=DMARC1; rua=mailto:a@report.example")
            .with_txt("_dmarc.nothing.example", "v=DMARC1;")
            .with_address("real.example.com", "192.0.2.1")
            .with_unknown("slow.example.com");
        for (domain, expected) in [
            ("example.com", Ok(Some(Policy::Reject))),
            ("real.example.com", Ok(Some(Policy::Quarantine))),
            ("forged.example.com", Ok(Some(Policy::None))),
            ("slow.example.com", Err(Unknown)),
            ("test.example", Ok(Some(Policy::Quarantine))),
            ("report.example", Ok(Some(Policy::None))),
            ("nothing.example", Ok(None)),
            ("none.example", Ok(None)),
        ] {
            let found = Trees::new(&dns).policy(&name(domain)).await;
            assert_eq!(found.map(|found| found.map(|found| found.asked)), expected, "{domain}");
        }
    }
}
