//! How mail comes to a domain: MTA-STS and reports about TLS (PRACTICES S39, S23; RFC 8461, RFC 8460).

use smtp_core::{Answer, DnsName, Resolver};

use crate::signature::tag;

use super::exchangers::names;
use super::facts::OwnDomain;
use super::questions::{Addresses, listed};
use super::report::{SelfFinding, SelfItem, text_record};

const STS: SelfItem = SelfItem::new("mta-sts", "S23", "the domain asks for TLS with certificates, by MTA-STS");
const STS_HOST: SelfItem = SelfItem::new("mta-sts-host", "S23", "there is a host for the policy of MTA-STS");
const STS_POLICY: SelfItem = SelfItem::new("mta-sts-policy", "S23", "the policy of MTA-STS names the hosts for mail");
const REPORTS: SelfItem = SelfItem::new("tls-reports", "S23", "somebody gets reports about TLS");

pub(super) async fn check(dns: &dyn Resolver, domain: &OwnDomain) -> Vec<SelfFinding> {
    let (mut found, reports) = tokio::join!(mta_sts(dns, &domain.name), tls_reports(dns, &domain.name));
    found.push(reports);
    found
}

/// The records of a name that begin with this version.
async fn versioned(dns: &dyn Resolver, name: &DnsName, version: &str) -> Answer<Vec<Box<[u8]>>> {
    let is_of_it = |text: &[u8]| tag(text, "v").is_some_and(|said| said == version.as_bytes());
    dns.txt(name).await.map(|texts| texts.into_iter().filter(|text| is_of_it(text)).collect())
}

async fn mta_sts(dns: &dyn Resolver, domain: &DnsName) -> Vec<SelfFinding> {
    let (Some(at), Some(policy_host)) = (domain.child("_mta-sts"), domain.child("mta-sts")) else {
        return vec![STS.note(domain, "the name is too long for it")];
    };
    // The date of a policy makes a good number: it changes with each.
    let publish = |finding: SelfFinding| finding.publishing(text_record(&at, "v=STSv1; id=1"));
    let texts = match versioned(dns, &at, "STSv1").await {
        Answer::Unknown => return vec![STS.unknown(domain, "DNS does not answer")],
        Answer::Found { data, .. } => data,
        Answer::Absent => Vec::new(),
    };
    let is_id = |id: &[u8]| matches!(id.len(), 1..=32) && id.iter().all(u8::is_ascii_alphanumeric);
    let mut found = vec![match &texts[..] {
        [] => {
            let advice =
                format!("serve a policy at https://{policy_host}/.well-known/mta-sts.txt, then publish its number");
            return vec![publish(STS.note(&at, "no record").advising(advice))];
        }
        [text] if tag(text, "id").is_some_and(is_id) => STS.ok(&at, "one record"),
        [_] => publish(STS.error(&at, "no `id` of letters and digits").advising("give the policy a number")),
        several => publish(STS.error(&at, format!("{} records", several.len())).advising("leave one")),
    }];
    let (addresses, exchangers) = tokio::join!(Addresses::of(dns, &policy_host), names(dns, domain));
    found.push(match (&addresses.found[..], addresses.is_partial) {
        ([], true) => STS_HOST.unknown(&policy_host, "DNS does not answer"),
        ([], false) => {
            let finding = STS_HOST.error(&policy_host, "it has no address: nobody can get the policy");
            finding.advising("name a web server that has the policy")
        }
        _ => STS_HOST.ok(&policy_host, addresses.shown()),
    });
    let hosts = exchangers.found().unwrap_or_default();
    let advice = format!(
        "see that https://{policy_host}/.well-known/mta-sts.txt says `mx: ` for each of {}",
        if hosts.is_empty() { "the hosts for mail".to_owned() } else { listed(&hosts) }
    );
    found.push(STS_POLICY.note(&policy_host, "not looked at").advising(advice));
    found
}

async fn tls_reports(dns: &dyn Resolver, domain: &DnsName) -> SelfFinding {
    let Some(at) = domain.child("_smtp._tls") else { return REPORTS.note(domain, "the name is too long for it") };
    let publish = |finding: SelfFinding, advice: &str| {
        let record = format!("v=TLSRPTv1; rua=mailto:postmaster@{domain}");
        finding.advising(advice).publishing(text_record(&at, &record))
    };
    let is_place = |place: &[u8]| {
        let place = place.trim_ascii();
        place.starts_with(b"mailto:") && place.contains(&b'@') || place.starts_with(b"https://")
    };
    match versioned(dns, &at, "TLSRPTv1").await {
        Answer::Unknown => REPORTS.unknown(domain, "DNS does not answer"),
        Answer::Absent => {
            publish(REPORTS.note(&at, "no record"), "name a mailbox: reports show who cannot reach you by TLS")
        }
        Answer::Found { data, .. } => match &data[..] {
            [] => publish(REPORTS.note(&at, "no record"), "name a mailbox: reports show who cannot reach you by TLS"),
            [text] if tag(text, "rua").is_some_and(|rua| rua.split(|&octet| octet == b',').all(is_place)) => {
                REPORTS.ok(&at, "one record")
            }
            [_] => publish(REPORTS.warning(&at, "`rua` is neither `mailto:` nor `https:`"), "correct it"),
            several => publish(REPORTS.warning(&at, format!("{} records", several.len())), "leave one"),
        },
    }
}
