//! A zone for tests of the self-check, as text: a perfect one, of which each test changes a line.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use smtp_core::{DnsName, ResolverTable, TlsaRecord};
use smtp_policy::{DnsList, OwnDomain, OwnHost, OwnTls, SelfReport, selfcheck};

/// What the selector says.
pub(crate) const KEY: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// Nothing is wrong here. `CERT` stands for the key of the certificate.
const PERFECT: &str = "
    mx.example.org A 192.0.2.1
    mx.example.org AAAA 2001:db8::1
    192.0.2.1 PTR mx.example.org
    2001:db8::1 PTR mx.example.org
    example.org SOA hostmaster@example.org
    example.org NS ns1.example.org
    example.org NS ns2.example.net
    example.org MX 10 mx.example.org
    example.org TXT v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all
    mx.example.org TXT v=spf1 a -all
    s1._domainkey.example.org TXT v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
    _dmarc.example.org TXT v=DMARC1; p=reject; rua=mailto:dmarc@example.org
    _mta-sts.example.org TXT v=STSv1; id=20260101
    mta-sts.example.org A 192.0.2.80
    _smtp._tls.example.org TXT v=TLSRPTv1; rua=mailto:tls@example.org
    _25._tcp.mx.example.org TLSA 3 1 CERT
    mx.example.org SECURE
    2.0.0.127.list.example A 127.0.0.2
";

/// The day on which all is looked at: 2026-06-01.
pub(crate) fn today() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(20_605 * 86_400)
}

static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("a key"));

/// A certificate for these names, from 2026-05-01 to the first of this month.
pub(crate) fn certificate(names: &[&str], end: (i32, u8)) -> Vec<rcgen::Certificate> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).expect("names");
    parameters.not_before = rcgen::date_time_ymd(2026, 5, 1);
    parameters.not_after = rcgen::date_time_ymd(end.0, end.1, 1);
    vec![parameters.self_signed(&*PAIR).expect("signed")]
}

/// What the server tells of itself, without certificates.
pub(crate) fn host() -> OwnHost {
    OwnHost::new(name("mx.example.org"))
        .with_address("192.0.2.1".parse().expect("an address"))
        .with_address("2001:db8::1".parse().expect("an address"))
        .with_blocklist(DnsList::new(name("list.example")))
        .with_listener(25, OwnTls::StartTls, false)
        .with_listener(465, OwnTls::Implicit, false)
        .with_listener(587, OwnTls::StartTls, true)
        .at(today())
}

pub(crate) fn with_certificate(host: OwnHost, names: &[&str], end: (i32, u8)) -> OwnHost {
    host.with_certificate(certificate(names, end).iter().map(|own| own.der().clone()).collect())
}

pub(crate) fn domain() -> OwnDomain {
    OwnDomain::new(name("example.org")).with_dkim_record(name("s1"), KEY).with_role_mailboxes([
        "postmaster",
        "Abuse",
        "security",
        "hostmaster",
    ])
}

pub(crate) fn name(text: &str) -> DnsName {
    text.parse().expect("a name")
}

/// The perfect zone without the lines that begin so, and with these.
pub(crate) fn zone(without: &[&str], with: &[&str]) -> ResolverTable {
    let lines = PERFECT.lines().map(str::trim).filter(|line| !line.is_empty());
    for start in without {
        assert!(lines.clone().any(|line| line.starts_with(start)), "no line begins with `{start}`");
    }
    let kept = lines.filter(|line| !without.iter().any(|start| line.starts_with(start)));
    kept.chain(with.iter().copied()).fold(ResolverTable::new(), add)
}

fn add(dns: ResolverTable, line: &str) -> ResolverTable {
    let mut words = line.splitn(3, ' ');
    let (owner, kind, data) =
        (words.next().expect("a name"), words.next().expect("a kind"), words.next().unwrap_or(""));
    match kind {
        "A" | "AAAA" => dns.with_address(owner, data),
        "PTR" => dns.with_ptr(owner, data),
        "SOA" => dns.with_soa(owner, Some(data).filter(|contact| !contact.is_empty())),
        "NS" => dns.with_ns(owner, data),
        "CNAME" => dns.with_alias(owner, data),
        "TXT" => dns.with_txt(owner, data),
        "MX" => {
            let (preference, host) = data.split_once(' ').expect("two words");
            dns.with_mx(owner, preference.parse().expect("a number"), host)
        }
        "TLSA" => {
            let digest = Sha256::digest(PAIR.subject_public_key_info()).to_vec();
            let words: Vec<_> = data.split(' ').collect();
            let [usage, selector, what] = words[..] else { panic!("three words: {data}") };
            let data = if what == "CERT" { digest } else { vec![7; 32] };
            let number = |text: &str| text.parse().expect("a number");
            let record = TlsaRecord { usage: number(usage), selector: number(selector), matching: 1, data };
            dns.with_tlsa(owner, record)
        }
        "SECURE" => dns.with_secure(owner),
        "UNKNOWN" => dns.with_unknown(owner),
        "UNKNOWN-PTR" => dns.with_unknown_ptr(owner),
        other => panic!("no kind: {other}"),
    }
}

/// What is said of a zone by a server that does everything well.
pub(crate) async fn report(dns: ResolverTable) -> SelfReport {
    selfcheck(dns, &domain(), &with_certificate(host(), &["mx.example.org"], (2027, 5))).await
}
