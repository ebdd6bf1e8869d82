//! Who sends for a domain: its SPF record, and that of the name in EHLO (PRACTICES S34 to S37; RFC 7208).

use futures_util::future::join_all;
use smtp_core::{DnsName, Resolver};

use crate::spf::SpfResult;
use crate::spf::own::{Opinion, Published, published, says, says_of_strangers};

use super::facts::OwnHost;
use super::report::{SelfFinding, SelfItem, text_record};

const RECORD: SelfItem = SelfItem::new("spf", "S34", "the domain says by SPF who sends for it");
const SINGLE: SelfItem = SelfItem::new("spf-single", "S34", "the domain has one SPF record");
const READABLE: SelfItem = SelfItem::new("spf-readable", "S34", "the SPF record is in the grammar");
const PASS: SelfItem = SelfItem::new("spf-pass", "S35", "the address may send for the domain");
const SPECIFIC: SelfItem = SelfItem::new("spf-specific", "S37", "the record lets few others pass");
const END: SelfItem = SelfItem::new("spf-end", "S35", "the record ends with `-all` or `~all`");
const LOOKUPS: SelfItem = SelfItem::new("spf-lookups", "S34", "the record asks DNS no more than it may");
const PTR: SelfItem = SelfItem::new("spf-ptr", "S34", "the record does without `ptr`");
const EHLO: SelfItem = SelfItem::new("spf-ehlo", "S34", "the name in EHLO says by SPF that the host is itself");

/// A domain in reverse-paths.
pub(super) async fn check(dns: &dyn Resolver, domain: &DnsName, host: &OwnHost) -> Vec<SelfFinding> {
    let propose =
        |finding: SelfFinding, advice: &str| finding.advising(advice).publishing(text_record(domain, &proposal(host)));
    let uses_ptr = match published(dns, domain).await {
        Published::Unknown => return vec![RECORD.unknown(domain, "DNS does not answer")],
        Published::None => {
            return vec![propose(RECORD.error(domain, "no record"), "publish who sends for the domain")];
        }
        Published::Several(count) => {
            return vec![propose(SINGLE.error(domain, format!("{count} records")), "leave one (RFC 7208 section 3.2)")];
        }
        Published::Unreadable(term) => {
            return vec![propose(READABLE.error(domain, format!("cannot read `{term}`")), "correct the record")];
        }
        Published::Record { uses_ptr } => uses_ptr,
    };
    let addresses: Vec<_> = host.public_addresses().collect();
    let ours = join_all(addresses.iter().map(|address| says(dns, domain, *address, &host.name)));
    let (ours, others) = tokio::join!(ours, says_of_strangers(dns, domain));
    let mut found = vec![RECORD.ok(domain, "one record")];
    found.extend(addresses.iter().zip(&ours).map(|(address, opinion)| {
        let Opinion { result, reason, .. } = opinion;
        let subject = format!("{address} for {domain}");
        let evidence = format!("{}: {reason}", result.as_str());
        match result {
            SpfResult::Pass => PASS.ok(subject, evidence),
            SpfResult::TempError => PASS.unknown(subject, evidence),
            _ => propose(PASS.error(subject, evidence), "let the record name each address that sends"),
        }
    }));
    found.extend(whole(domain, &others, |finding, advice| propose(finding, advice)));
    // Who lets everybody pass hears of that once.
    if others.result != SpfResult::Pass
        && let Some(wide) = ours.iter().find(|opinion| opinion.is_wide)
    {
        let advice = "name single addresses or small networks: a pass that many get is worth little";
        found.push(propose(SPECIFIC.warning(domain, format!("{} means too many", wide.reason)), advice));
    }
    if uses_ptr {
        found.push(propose(PTR.warning(domain, "`ptr`"), "name addresses instead (RFC 7208 section 5.5)"));
    }
    found
}

/// The record as a whole: what it says of those whom it does not name.
fn whole(domain: &DnsName, others: &Opinion, propose: impl Fn(SelfFinding, &str) -> SelfFinding) -> Vec<SelfFinding> {
    let Opinion { result, reason, .. } = others;
    let evidence = format!("{} for strangers: {reason}", result.as_str());
    match result {
        SpfResult::TempError => return vec![LOOKUPS.unknown(domain, reason.as_str())],
        SpfResult::PermError => {
            let advice =
                "name addresses in the place of names, and leave out what leads nowhere (RFC 7208 section 4.6.4)";
            return vec![propose(LOOKUPS.error(domain, reason.as_str()), advice)];
        }
        _ => {}
    }
    let end = match result {
        SpfResult::Fail | SpfResult::SoftFail => END.ok(domain, evidence),
        SpfResult::Pass => propose(END.error(domain, evidence), "end the record with `-all`: now everybody may send"),
        _ => propose(END.warning(domain, evidence), "end the record with `-all` or `~all`"),
    };
    vec![LOOKUPS.ok(domain, "all of it can be evaluated"), end]
}

/// A record that names our addresses.
fn proposal(host: &OwnHost) -> String {
    let addresses = host.public_addresses().map(|address| {
        let kind = if address.is_ipv4() { "ip4" } else { "ip6" };
        format!("{kind}:{address}")
    });
    let terms: Vec<_> = ["v=spf1".to_owned(), "mx".to_owned()].into_iter().chain(addresses).collect();
    terms.join(" ") + " -all"
}

/// The names in EHLO: who answers for mail without a reverse-path (RFC 7208 §2.4).
pub(super) async fn check_ehlo(dns: &dyn Resolver, host: &OwnHost) -> Vec<SelfFinding> {
    let names: Vec<_> = std::iter::once(&host.name).chain(&host.ehlo_names).collect();
    let each = join_all(names.into_iter().map(|name| async move {
        let record = published(dns, name).await;
        let propose = |finding: SelfFinding| {
            finding
                .advising("say that this name sends from its own address")
                .publishing(text_record(name, "v=spf1 a -all"))
        };
        match record {
            Published::Unknown => return vec![EHLO.unknown(name, "DNS does not answer")],
            Published::None => return vec![propose(EHLO.note(name, "no record"))],
            Published::Several(count) => return vec![propose(EHLO.error(name, format!("{count} records")))],
            Published::Unreadable(term) => return vec![propose(EHLO.error(name, format!("cannot read `{term}`")))],
            Published::Record { .. } => {}
        }
        let addresses: Vec<_> = host.public_addresses().collect();
        let opinions = join_all(addresses.iter().map(|address| says(dns, name, *address, name))).await;
        let finding = |(address, Opinion { result, reason, .. }): (_, Opinion)| {
            let (subject, evidence) = (format!("{address} as {name}"), format!("{}: {reason}", result.as_str()));
            match result {
                SpfResult::Pass => EHLO.ok(subject, evidence),
                SpfResult::TempError => EHLO.unknown(subject, evidence),
                SpfResult::Neutral | SpfResult::None => propose(EHLO.note(subject, evidence)),
                _ => propose(EHLO.error(subject, evidence)),
            }
        };
        addresses.iter().zip(opinions).map(finding).collect::<Vec<_>>()
    }));
    each.await.into_iter().flatten().collect()
}
