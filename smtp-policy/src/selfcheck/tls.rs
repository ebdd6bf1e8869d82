//! The certificates of the host: for its name, in force, and the one that DNS names (PRACTICES S23; RFC 7672).

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use smtp_core::{Answer, DateTime, DnsName, Resolver, TlsaRecord};

use super::certificate::Certificate;
use super::facts::OwnHost;
use super::questions::listed;
use super::report::{SelfFinding, SelfItem, record};

const READABLE: SelfItem = SelfItem::new("certificate", "S23", "the host shows a certificate");
const NAME: SelfItem = SelfItem::new("certificate-name", "S23", "a certificate is for the name of the host");
const DATE: SelfItem = SelfItem::new("certificate-date", "S23", "the certificate is in force for two weeks or more");
const DANE: SelfItem = SelfItem::new("dane", "S23", "DNS names the certificate of the host");
const SECURE: SelfItem = SelfItem::new("dane-secure", "S23", "DNSSEC vouches for the record of the certificate");
const USAGE: SelfItem = SelfItem::new("dane-usage", "S23", "the record can be used for mail");
const MATCH: SelfItem = SelfItem::new("dane-match", "S23", "the record is about the certificate that the host shows");

/// Before the end of a certificate there should be so much time (ours): 14 days.
const TIME_LEFT: Duration = Duration::from_secs(14 * 86_400);

pub(super) async fn check(dns: &dyn Resolver, host: &OwnHost) -> Vec<SelfFinding> {
    let mut found = certificates(host);
    found.extend(dane(dns, host).await);
    found
}

fn certificates(host: &OwnHost) -> Vec<SelfFinding> {
    let name = &host.name;
    if host.certificates.is_empty() {
        let finding = READABLE.warning(name, "none is known here: mail comes in clear");
        return vec![finding.advising("get a certificate for the name of the host, and name it in the configuration")];
    }
    let mut found = Vec::new();
    let (mut names, mut is_named) = (Vec::new(), false);
    for chain in &host.certificates {
        let Some(certificate) = chain.first().and_then(|own| Certificate::parse(own)) else {
            found.push(READABLE.error(name, "it cannot be read").advising("name a file with the certificate in PEM"));
            continue;
        };
        is_named |= certificate.is_for(name.as_str());
        found.push(in_force(&certificate, host.now));
        names.extend(certificate.names);
    }
    found.push(if is_named {
        NAME.ok(name, listed(&names))
    } else {
        let evidence =
            if names.is_empty() { "they are for no name".to_owned() } else { format!("only {}", listed(&names)) };
        NAME.error(name, evidence).advising("get a certificate for the name that stands in MX records")
    });
    found
}

fn in_force(certificate: &Certificate<'_>, now: SystemTime) -> SelfFinding {
    let subject = certificate.names.first().map_or("a certificate", String::as_str);
    let (begin, end) = (DateTime::new(certificate.not_before), DateTime::new(certificate.not_after));
    let advice = "renew it, and see that this happens by itself";
    if now < certificate.not_before {
        DATE.error(subject, format!("in force from {begin} on")).advising("look at the clock of this host")
    } else if now >= certificate.not_after {
        DATE.error(subject, format!("it ended {end}")).advising(advice)
    } else if now + TIME_LEFT > certificate.not_after {
        DATE.warning(subject, format!("it ends {end}")).advising(advice)
    } else {
        DATE.ok(subject, format!("until {end}"))
    }
}

/// The record that names the public key of the first certificate, whoever signed it (RFC 7672 §3.1.1).
fn proposal(host: &OwnHost, at: &DnsName) -> Option<String> {
    let own = Certificate::parse(host.certificates.first()?.first()?)?;
    let octets: Vec<_> = Sha256::digest(own.public_key).iter().map(|octet| format!("{octet:02x}")).collect();
    Some(record(at, "TLSA", format!("3 1 1 {}", octets.concat())))
}

async fn dane(dns: &dyn Resolver, host: &OwnHost) -> Vec<SelfFinding> {
    let name = &host.name;
    let Some(at) = name.child("_25._tcp") else { return vec![DANE.note(name, "the name is too long for a record")] };
    let propose = |finding: SelfFinding, advice: &str| {
        let finding = finding.advising(advice);
        match proposal(host, &at) {
            Some(record) => finding.publishing(record),
            None => finding,
        }
    };
    let (records, is_secure) = match dns.tlsa(&at).await {
        Answer::Unknown => return vec![DANE.unknown(name, "DNS does not answer")],
        Answer::Absent => {
            let advice = "where the zone is signed by DNSSEC, publish the key of the certificate (RFC 7672)";
            return vec![propose(DANE.note(&at, "no record"), advice)];
        }
        Answer::Found { data, secure, .. } => (data, secure),
    };
    let mut found = vec![DANE.ok(&at, format!("{} records", records.len()))];
    found.push(if is_secure {
        SECURE.ok(&at, "it does")
    } else {
        let advice =
            "look with a resolver that validates: without DNSSEC nobody heeds the record (RFC 7672 section 2.2)";
        SECURE.note(&at, "the resolver does not say so").advising(advice)
    });
    let usable: Vec<_> = records.iter().filter(|record| record.is_usable()).collect();
    if usable.len() < records.len() {
        let evidence = format!("{} of {} cannot", records.len() - usable.len(), records.len());
        let advice = "use `3 1 1` or `2 1 1`: other usages mean nothing for mail (RFC 7672 section 3.1.3)";
        let finding = if usable.is_empty() { USAGE.error(&at, evidence) } else { USAGE.warning(&at, evidence) };
        found.push(propose(finding, advice));
    }
    if host.certificates.is_empty() {
        found.push(MATCH.unknown(&at, "no certificate is known here"));
    } else if !usable.is_empty() {
        found.extend(host.certificates.iter().map(|chain| {
            let subject =
                chain.first().and_then(|own| Certificate::parse(own)).and_then(|it| it.names.into_iter().next());
            let subject = format!("{} at {at}", subject.as_deref().unwrap_or("a certificate"));
            if usable.iter().any(|record| is_about(record, chain)) {
                MATCH.ok(subject, "one of them is")
            } else {
                let advice = "publish the key before the certificate changes: those who heed DANE do not deliver now";
                propose(MATCH.error(subject, "none of them is"), advice)
            }
        }));
    }
    found
}

/// The certificate itself, or one of the authorities that it is shown with (RFC 7672 §3.1.1, §3.1.2).
fn is_about(record: &TlsaRecord, chain: &[CertificateDer<'static>]) -> bool {
    match record.usage {
        3 => chain.first().is_some_and(|own| record.matches(own)),
        _ => chain.iter().any(|certificate| record.matches(certificate)),
    }
}
