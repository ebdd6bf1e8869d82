//! The self-check where DNS is away or hostile, and what the report reads like (PRACTICES P5, S4, S7, S16; SECURITY D-10).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smtp_core::{Answer, DnsName, MailExchanger, Resolver, ResolverTable, TlsaRecord, async_trait};
use smtp_policy::Severity::{Error, Note, Unknown, Warning};
use smtp_policy::{OwnDomain, SelfReport, Severity, leads_to, selfcheck};

use crate::selfcheck_zone::{domain, host, name, report, with_certificate, zone};

/// It never answers.
struct Silence;

#[async_trait]
impl Resolver for Silence {
    async fn ipv4(&self, _: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        std::future::pending().await
    }
    async fn ipv6(&self, _: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        std::future::pending().await
    }
    async fn ptr(&self, _: IpAddr) -> Answer<Vec<DnsName>> {
        std::future::pending().await
    }
    async fn mx(&self, _: &DnsName) -> Answer<Vec<MailExchanger>> {
        std::future::pending().await
    }
    async fn txt(&self, _: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        std::future::pending().await
    }
    async fn tlsa(&self, _: &DnsName) -> Answer<Vec<TlsaRecord>> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)] // PRACTICES P5: DNS that is silent, or fails, makes nothing wrong and nothing right
async fn p5_without_dns_everything_is_unknown_and_it_ends() {
    let host = with_certificate(host(), &["mx.example.org"], (2027, 5));
    let start = tokio::time::Instant::now();
    let silent = selfcheck(Silence, &domain(), &host).await;
    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
    let failing = ["org", "net", "arpa", "example"].into_iter().fold(zone(&[], &[]), ResolverTable::with_unknown);
    for report in [silent, selfcheck(failing, &domain(), &host).await] {
        assert_eq!((report.count(Error), report.count(Warning)), (0, 0), "{report}");
        // What is good needs no DNS.
        let told = ["name-generic", "certificate-", "port-", "postmaster", "abuse", "security", "hostmaster"];
        let good = report.findings().iter().filter(|it| it.severity() == Severity::Ok);
        assert_eq!(good.filter(|it| !told.iter().any(|start| it.id().starts_with(start))).count(), 0, "{report}");
        for id in [
            "host-name",
            "ptr",
            "blocklist-test",
            "domain-alias",
            "soa-contact",
            "mx",
            "spf",
            "spf-ehlo",
            "dkim-key",
            "dmarc",
            "alignment",
            "mta-sts",
            "tls-reports",
            "dane",
        ] {
            assert!(report.findings().iter().any(|it| it.id() == id && it.severity() == Unknown), "{id}: {report}");
        }
    }
}

#[tokio::test(start_paused = true)] // PRACTICES P5, one name after the other
async fn p5_one_name_without_an_answer_is_no_mistake() {
    for line in [
        "mx.example.org UNKNOWN",
        "192.0.2.1 UNKNOWN-PTR",
        "list.example UNKNOWN",
        "ns1.example.org UNKNOWN",
        "s1._domainkey.example.org UNKNOWN",
        "_dmarc.example.org UNKNOWN",
        "_mta-sts.example.org UNKNOWN",
        "mta-sts.example.org UNKNOWN",
        "_smtp._tls.example.org UNKNOWN",
        "_25._tcp.mx.example.org UNKNOWN",
    ] {
        let report = report(zone(&[], &[line])).await;
        assert_eq!((report.count(Error), report.count(Warning)), (0, 0), "{line}: {report}");
        if !line.starts_with("ns1") {
            assert!(report.count(Unknown) > 0, "{line}: {report}");
        }
    }
}

#[tokio::test] // SECURITY D-10, D-26
async fn d10_nothing_from_dns_drives_a_terminal_or_fills_it() {
    let evil = b"v=spf1 \x1b[2Jx\r\nX forged (S1) all is well\r\n\0-all".as_slice();
    let large = vec![b'a'; 65_536];
    let mut dns = zone(&["example.org TXT", "_dmarc", "s1._domainkey", "_mta-sts", "_smtp._tls"], &[]);
    dns = dns.with_txt("example.org", evil).with_txt("list.example", evil);
    for at in ["s1._domainkey", "_dmarc", "_mta-sts", "_smtp._tls"] {
        let at = format!("{at}.example.org");
        let start: &[u8] = match at.split('.').next() {
            Some("_dmarc") => b"v=DMARC1; p=reject; rua=mailto:a@reports.example\r\n\x1b[2J; x=",
            Some("_mta-sts") => b"v=STSv1; id=\x1b[2J; x=",
            Some("_smtp") => b"v=TLSRPTv1; rua=\r\n\x1b[2J",
            _ => b"v=DKIM1; p=\x1b[2J",
        };
        dns = dns.with_txt(&at, [start, &large].concat());
    }
    dns = dns.with_address("1.2.0.192.list.example", "127.0.0.2");
    dns = dns.with_txt("1.2.0.192.list.example", [evil, &large].concat());
    let report = report(dns).await;
    let text = report.to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("X forged")), "{text}");
    assert!(text.len() < 32_768 && text.lines().all(|line| line.len() < 1_200), "{}", text.len());
    assert!(report.findings().iter().any(|it| it.id() == "spf-readable"), "{report}");
    assert!(report.findings().iter().any(|it| it.id() == "blocklist" && it.severity() == Error), "{report}");
}

#[tokio::test]
async fn s16_each_domain_and_address_in_use_is_listed() {
    let host = host().with_reverse_path_domain(name("list.example.org")).with_reverse_path_domain(name("example.org"));
    let report = selfcheck(zone(&[], &[]), &domain(), &host).await;
    let listed = report.findings().iter().filter(|it| it.id() == "contacts").map(|it| it.subject().to_string());
    assert_eq!(listed.collect::<Vec<_>>(), ["example.org", "list.example.org", "192.0.2.1", "2001:db8::1"]);
}

#[tokio::test] // What stands there can be pasted into a zone.
async fn s4_the_report_says_what_to_publish() {
    let mistakes = ["192.0.2.1 PTR", "example.org MX", "example.org TXT", "s1._domainkey", "_dmarc"];
    let report = report(zone(&mistakes, &[])).await;
    let bad = SelfReport::new(report.findings().iter().filter(|it| it.severity() > Note).cloned());
    let expected = "\
X ptr (S1) 192.0.2.1: the address has a name
    seen: 1.2.0.192.in-addr.arpa has no PTR record
    do:   ask whoever lent you the address to set its name (RFC 1912 section 2.1)
          1.2.0.192.in-addr.arpa. IN PTR mx.example.org.
X mx (S4) example.org: the domain says which hosts take its mail
    seen: neither an MX record nor an address
    do:   name this host, and others that take mail for the domain
          example.org. IN MX 10 mx.example.org.
X spf (S34) example.org: the domain says by SPF who sends for it
    seen: no record
    do:   publish who sends for the domain
          example.org. IN TXT \"v=spf1 mx ip4:192.0.2.1 ip6:2001:db8::1 -all\"
X dkim-key (S39) s1._domainkey.example.org: the selector has the key that signs
    seen: no record
    do:   publish the key
          s1._domainkey.example.org. IN TXT \"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"
! dmarc (S39) example.org: the domain says by DMARC what becomes of forgeries
    seen: no policy at _dmarc.example.org
    do:   publish a policy; `p=none` to begin with, and look at the reports
          _dmarc.example.org. IN TXT \"v=DMARC1; p=quarantine; rua=mailto:postmaster@example.org\"
X alignment (S39) example.org: SPF or DKIM confirms the domain of the author
    seen: neither
    do:   publish who sends for the domain, and sign: else mail is taken for forged
5 error, 1 warning, 0 unknown, 0 note, 0 ok
";
    assert_eq!(bad.to_string(), expected);
    let long =
        OwnDomain::new(name("example.org")).with_dkim_record(name("s9"), format!("v=DKIM1; p={}", "A".repeat(400)));
    let report = selfcheck(zone(&[], &[]), &long, &host()).await;
    let record = report.findings().iter().find(|it| it.id() == "dkim-key").map(|it| it.records()[0].clone());
    let record = record.expect("a record");
    assert_eq!(record.matches('"').count(), 4, "strings of 255 octets: {record}");
}

#[tokio::test]
async fn s7_a_name_leads_to_an_address_or_not_or_nobody_knows() {
    let address = |text: &str| [text.parse::<IpAddr>().expect("an address")];
    let dns = ResolverTable::new().with_host("mx.example.org", "192.0.2.1").with_unknown("slow.example");
    assert_eq!(leads_to(dns.clone(), &name("mx.example.org"), &address("::ffff:192.0.2.1")).await, Some(true));
    assert_eq!(leads_to(dns.clone(), &name("mx.example.org"), &address("192.0.2.2")).await, Some(false));
    assert_eq!(leads_to(dns.clone(), &name("slow.example"), &address("192.0.2.2")).await, None);
}
