//! The self-check: zones with one mistake each, and what is said of it (PRACTICES S4, S7, S16, S39, B1912, B1033, B3013).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use smtp_core::ResolverTable;
use smtp_policy::Severity::{Error, Note, Unknown, Warning};
use smtp_policy::{OwnDomain, OwnHost, OwnTls, SelfReport, Severity, selfcheck, selfcheck_all};

use crate::selfcheck_zone::{domain, host, name, report, with_certificate, zone};

type Found = Vec<(&'static str, Severity)>;

/// What is not well, but for what is always left to people.
fn trouble(report: &SelfReport) -> Found {
    let always = ["contacts", "mta-sts-policy"];
    let findings = report.findings().iter().filter(|it| it.severity() > Severity::Ok && !always.contains(&it.id()));
    findings.map(|finding| (finding.id(), finding.severity())).collect()
}

#[tokio::test]
async fn s4_of_a_perfect_zone_there_is_nothing_to_say() {
    let report = report(zone(&[], &[])).await;
    assert_eq!(trouble(&report), [], "{report}");
    // What only people can look at: the domain, two addresses, and the policy of MTA-STS.
    assert_eq!(report.count(Note), 4, "{report}");
    for id in
        ["ptr-confirmed", "soa-contact", "mx-ours", "spf-end", "dkim-key", "dmarc-policy", "alignment", "dane-match"]
    {
        assert!(report.findings().iter().any(|it| it.id() == id && it.severity() == Severity::Ok), "{id}: {report}");
    }
}

/// Lines that the perfect zone has not, lines that it has besides, and what is said.
type Row = (&'static str, &'static [&'static str], &'static [&'static str], &'static [(&'static str, Severity)]);

const ADDRESSES: &[Row] = &[
    ("PTR missing", &["192.0.2.1 PTR"], &[], &[("ptr", Error)]),
    ("PTR of IPv6 missing", &["2001:db8::1 PTR"], &[], &[("ptr", Error)]),
    (
        "PTR to a name without addresses",
        &["192.0.2.1 PTR"],
        &["192.0.2.1 PTR old.example.org"],
        &[("ptr-address", Error), ("ptr-name", Warning)],
    ),
    (
        "PTR to a name with another address",
        &["192.0.2.1 PTR"],
        &["192.0.2.1 PTR old.example.org", "old.example.org A 192.0.2.9"],
        &[("ptr-confirmed", Error), ("ptr-name", Warning)],
    ),
    (
        "PTR with the name of another host of ours",
        &["192.0.2.1 PTR"],
        &["192.0.2.1 PTR web.example.org", "web.example.org A 192.0.2.1"],
        &[("ptr-name", Warning)],
    ),
    ("two PTR", &[], &["192.0.2.1 PTR web.example.org", "web.example.org A 192.0.2.1"], &[("ptr-single", Note)]),
    (
        "PTR that looks generic",
        &["192.0.2.1 PTR"],
        &["192.0.2.1 PTR ip-192-0-2-1.example.net", "ip-192-0-2-1.example.net A 192.0.2.1"],
        &[("ptr-name", Warning), ("name-generic", Warning)],
    ),
    (
        "host without IPv4",
        &["mx.example.org A "],
        &[],
        &[("host-address", Error), ("ptr-confirmed", Error), ("spf-ehlo", Error)],
    ),
    (
        "host without addresses",
        &["mx.example.org A"],
        &[],
        &[
            ("host-name", Error),
            ("ptr-address", Error),
            ("ptr-address", Error),
            ("spf-ehlo", Error),
            ("spf-ehlo", Error),
            ("mx-address", Error),
        ],
    ),
    ("on a blocklist", &[], &["1.2.0.192.list.example A 127.0.0.2"], &[("blocklist", Error)]),
    ("dead blocklist", &["2.0.0.127.list.example"], &[], &[("blocklist-test", Warning)]),
    ("blocklist of everybody", &[], &["1.0.0.127.list.example A 127.0.0.2"], &[("blocklist-test", Warning)]),
];

const DOMAIN: &[Row] = &[
    ("SOA without contact", &["example.org SOA"], &["example.org SOA"], &[("soa-contact", Warning)]),
    (
        "SOA with a contact nowhere",
        &["example.org SOA"],
        &["example.org SOA root@nowhere.example"],
        &[("soa-contact", Warning)],
    ),
    ("no SOA", &["example.org SOA"], &[], &[("soa-contact", Warning)]),
    ("one name server", &["example.org NS ns2"], &[], &[("name-servers", Warning)]),
    ("name server is an alias", &[], &["ns1.example.org CNAME ns.example.net"], &[("name-server-alias", Warning)]),
    ("domain is an alias", &[], &["example.org CNAME www.example.net"], &[("domain-alias", Error)]),
    ("no MX", &["example.org MX"], &[], &[("mx", Error)]),
    ("no MX, but an address of ours", &["example.org MX"], &["example.org A 192.0.2.1"], &[("mx", Warning)]),
    ("no MX, and the address of a web server", &["example.org MX"], &["example.org A 192.0.2.80"], &[("mx", Error)]),
    ("null MX", &["example.org MX"], &["example.org MX 0 ."], &[("mx-null", Error)]),
    ("null MX besides others", &[], &["example.org MX 0 ."], &[("mx-null", Error)]),
    (
        "MX to a CNAME",
        &["example.org MX"],
        &[
            "example.org MX 10 mail.example.org",
            "mail.example.org CNAME mx.example.org",
            "mail.example.org A 192.0.2.1",
        ],
        &[("mx-alias", Error)],
    ),
    ("MX to an address literal", &[], &["example.org MX 20 192.0.2.1"], &[("mx-literal", Error)]),
    ("MX without address", &[], &["example.org MX 20 old.example.org"], &[("mx-address", Error)]),
    (
        "MX to others alone",
        &["example.org MX"],
        &["example.org MX 10 mx.example.net", "mx.example.net A 198.51.100.1"],
        &[("mx-ours", Error)],
    ),
    ("MX to us and to others", &[], &["example.org MX 20 mx.example.net", "mx.example.net A 198.51.100.1"], &[]),
];

const AUTHOR: &[Row] = &[
    ("no SPF", &["example.org TXT"], &[], &[("spf", Error)]),
    ("two SPF", &[], &["example.org TXT v=spf1 -all"], &[("spf-single", Error)]),
    (
        "SPF with a slip",
        &["example.org TXT"],
        &["example.org TXT v=spf1 ipv4:192.0.2.1 -all"],
        &[("spf-readable", Error)],
    ),
    (
        "SPF without our IPv6",
        &["example.org TXT"],
        &["example.org TXT v=spf1 ip4:192.0.2.1 -all"],
        &[("spf-pass", Error)],
    ),
    ("SPF with +all", &["example.org TXT"], &["example.org TXT v=spf1 +all"], &[("spf-end", Error)]),
    ("SPF with ?all", &["example.org TXT"], &["example.org TXT v=spf1 mx ?all"], &[("spf-end", Warning)]),
    ("SPF without end", &["example.org TXT"], &["example.org TXT v=spf1 mx"], &[("spf-end", Warning)]),
    ("SPF with ~all", &["example.org TXT"], &["example.org TXT v=spf1 mx ~all"], &[]),
    (
        "SPF for half of the world",
        &["example.org TXT"],
        &["example.org TXT v=spf1 ip4:192.0.0.0/8 ip6:2001:db8::1 -all"],
        &[("spf-specific", Warning)],
    ),
    ("SPF with ptr", &["example.org TXT"], &["example.org TXT v=spf1 mx ptr -all"], &[("spf-ptr", Warning)]),
    (
        "SPF with eleven questions",
        &["example.org TXT"],
        &["example.org TXT v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 mx mx mx mx mx mx mx mx mx mx mx -all"],
        &[("spf-lookups", Error)],
    ),
    (
        "SPF with an include of nothing",
        &["example.org TXT"],
        &["example.org TXT v=spf1 mx include:none.example -all"],
        &[("spf-lookups", Error)],
    ),
    ("no SPF of EHLO", &["mx.example.org TXT"], &[], &[("spf-ehlo", Note)]),
    (
        "SPF of EHLO against us",
        &["mx.example.org TXT"],
        &["mx.example.org TXT v=spf1 ip4:192.0.2.1 -all"],
        &[("spf-ehlo", Error)],
    ),
    ("no key", &["s1._domainkey"], &[], &[("dkim-key", Error), ("alignment", Note)]),
    (
        "another key",
        &["s1._domainkey"],
        &["s1._domainkey.example.org TXT v=DKIM1; k=ed25519; p=iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="],
        &[("dkim-key", Error), ("alignment", Note)],
    ),
    (
        "key revoked",
        &["s1._domainkey"],
        &["s1._domainkey.example.org TXT v=DKIM1; k=ed25519; p="],
        &[("dkim-revoked", Error), ("alignment", Note)],
    ),
    (
        "key without a meaning",
        &["s1._domainkey"],
        &["s1._domainkey.example.org TXT v=DKIM1; k=ed25519; p=!!"],
        &[("dkim-readable", Error), ("alignment", Note)],
    ),
    ("key twice", &[], &["s1._domainkey.example.org TXT v=DKIM1; p="], &[("dkim-single", Error), ("alignment", Note)]),
    (
        "key for tests",
        &["s1._domainkey"],
        &["s1._domainkey.example.org TXT v=DKIM1; k=ed25519; t=s:y; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="],
        &[("dkim-testing", Warning), ("alignment", Note)],
    ),
    ("no DMARC", &["_dmarc"], &[], &[("dmarc", Warning)]),
    ("DMARC at the wrong name", &["_dmarc"], &["example.org TXT v=DMARC1; p=reject"], &[("dmarc-name", Error)]),
    ("two DMARC", &[], &["_dmarc.example.org TXT v=DMARC1; p=none"], &[("dmarc-single", Error)]),
    (
        "DMARC that asks for nothing",
        &["_dmarc"],
        &["_dmarc.example.org TXT v=DMARC1; p=none; rua=mailto:dmarc@example.org"],
        &[("dmarc-policy", Note)],
    ),
    ("DMARC without reports", &["_dmarc"], &["_dmarc.example.org TXT v=DMARC1; p=reject"], &[("dmarc-reports", Note)]),
    (
        "DMARC reports to who does not want them",
        &["_dmarc"],
        &["_dmarc.example.org TXT v=DMARC1; p=reject; rua=mailto:a@reports.example"],
        &[("dmarc-consent", Warning)],
    ),
    (
        "DMARC reports to who wants them",
        &["_dmarc"],
        &[
            "_dmarc.example.org TXT v=DMARC1; p=reject; rua=mailto:a@reports.example",
            "example.org._report._dmarc.reports.example TXT v=DMARC1",
        ],
        &[],
    ),
];

const TRANSPORT: &[Row] = &[
    ("no MTA-STS", &["_mta-sts"], &[], &[("mta-sts", Note)]),
    ("MTA-STS without number", &["_mta-sts"], &["_mta-sts.example.org TXT v=STSv1;"], &[("mta-sts", Error)]),
    ("MTA-STS twice", &[], &["_mta-sts.example.org TXT v=STSv1; id=2"], &[("mta-sts", Error)]),
    ("MTA-STS without a host", &["mta-sts.example.org"], &[], &[("mta-sts-host", Error)]),
    ("no TLSRPT", &["_smtp._tls"], &[], &[("tls-reports", Note)]),
    (
        "TLSRPT to nobody",
        &["_smtp._tls"],
        &["_smtp._tls.example.org TXT v=TLSRPTv1; rua=x"],
        &[("tls-reports", Warning)],
    ),
    ("no DANE", &["_25._tcp"], &[], &[("dane", Note)]),
    ("DANE of another key", &["_25._tcp"], &["_25._tcp.mx.example.org TLSA 3 1 OTHER"], &[("dane-match", Error)]),
    ("DANE of a usage of the web", &["_25._tcp"], &["_25._tcp.mx.example.org TLSA 1 1 CERT"], &[("dane-usage", Error)]),
    ("DANE without DNSSEC", &["mx.example.org SECURE"], &[], &[("dane-secure", Note)]),
    ("DANE of the next key as well", &[], &["_25._tcp.mx.example.org TLSA 3 1 OTHER"], &[]),
];

#[tokio::test(start_paused = true)]
async fn s4_b1912_b1033_s39_each_mistake_is_named() {
    let rows: Vec<_> = [ADDRESSES, DOMAIN, AUTHOR, TRANSPORT].concat();
    assert!(rows.len() >= 40);
    let mut wrong = Vec::new();
    for (mistake, without, with, expected) in rows {
        let report = report(zone(without, with)).await;
        if trouble(&report) != expected {
            wrong.push((mistake, trouble(&report), expected));
        }
        // Who is told that something is wrong is told what to do.
        let silent = report.findings().iter().find(|it| it.severity() > Unknown && it.instruction().is_none());
        assert_eq!(silent, None, "{mistake}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test] // What the server tells of itself.
async fn s7_s14_s23_each_mistake_of_the_server_is_named() {
    let dns = || zone(&[], &[]);
    let good = || with_certificate(host(), &["mx.example.org"], (2027, 5));
    let rows: Vec<(&str, OwnDomain, OwnHost, Found)> = vec![
        (
            "no postmaster",
            domain().with_role_mailboxes(["abuse", "security", "hostmaster"]),
            good(),
            vec![("postmaster", Error)],
        ),
        (
            "no abuse",
            domain().with_role_mailboxes(["postmaster", "security", "hostmaster"]),
            good(),
            vec![("abuse", Warning)],
        ),
        (
            "no hostmaster",
            domain().with_role_mailboxes(["postmaster", "abuse", "security"]),
            good(),
            vec![("hostmaster", Note)],
        ),
        ("no certificate", domain(), host(), vec![("certificate", Warning), ("dane-match", Unknown)]),
        (
            "of another name",
            domain(),
            with_certificate(host(), &["example.org"], (2027, 5)),
            vec![("certificate-name", Error)],
        ),
        ("a star", domain(), with_certificate(host(), &["*.example.org"], (2027, 5)), vec![]),
        (
            "it ended",
            domain(),
            with_certificate(host(), &["mx.example.org"], (2026, 6)),
            vec![("certificate-date", Error)],
        ),
        (
            "it ends soon",
            domain(),
            with_certificate(good(), &["mx.example.org"], (2026, 6))
                .at(crate::selfcheck_zone::today() - Duration::from_secs(86_400)),
            vec![("certificate-date", Warning)],
        ),
        (
            "EHLO of nobody",
            domain(),
            good().with_ehlo_name(name("old.example.org")),
            vec![("ehlo-name", Error), ("spf-ehlo", Note)],
        ),
        (
            "EHLO of others",
            domain(),
            good().with_ehlo_name(name("mta-sts.example.org")),
            vec![("ehlo-address", Error), ("spf-ehlo", Note)],
        ),
        (
            "another reverse-path",
            domain(),
            good().with_reverse_path_domain(name("list.example.org")),
            vec![("spf", Error)],
        ),
    ];
    for (what, domain, host, expected) in rows {
        let report = selfcheck(dns(), &domain, &host).await;
        assert_eq!(trouble(&report), expected, "{what}:\n{report}");
    }
    let localhost = OwnHost::new(name("localhost")).with_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let report = selfcheck(dns(), &domain(), &localhost).await;
    let found = trouble(&report);
    assert!(found.contains(&("host-name", Error)) && found.contains(&("host-public", Note)), "{report}");
}

#[tokio::test] // PRACTICES S23 to S26
async fn s23_s24_s25_each_port_does_what_others_expect() {
    let base = || OwnHost::new(name("mx.example.org"));
    for (listeners, expected) in [
        (&[(25, OwnTls::StartTls, false), (465, OwnTls::Implicit, true), (587, OwnTls::StartTls, true)][..], &[][..]),
        (&[(2525, OwnTls::None, false)], &[("port-25", Warning), ("port-465", Note), ("port-587", Note)]),
        (&[(25, OwnTls::None, false)], &[("port-25", Warning), ("port-465", Note), ("port-587", Note)]),
        (&[(25, OwnTls::StartTls, true)], &[("port-25", Error), ("port-465", Note), ("port-587", Note)]),
        (
            &[(25, OwnTls::Implicit, false), (465, OwnTls::StartTls, true), (587, OwnTls::None, true)],
            &[("port-25", Error), ("port-465", Error), ("port-587", Error)],
        ),
        (&[(25, OwnTls::StartTls, false), (587, OwnTls::StartTls, false)], &[("port-465", Note), ("port-587", Error)]),
    ] {
        let host =
            listeners.iter().fold(base(), |host, (port, tls, password)| host.with_listener(*port, *tls, *password));
        let report = selfcheck_all(ResolverTable::new(), &[], &host).await;
        let found: Found = trouble(&report).into_iter().filter(|(id, _)| id.starts_with("port-")).collect();
        assert_eq!(found, expected, "{listeners:?}");
    }
}

#[tokio::test] // RFC 8301 §3.2
async fn s39_small_keys_are_named() {
    const OF_1024: &str = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDqkwG5DttIQFAbNuOzwYGyU8xqIRHyqH3XJYjSDFRr+74jLr06gNTIwj2PS6JcmSEIQh1Dt6W/AYv10B6Cv6dRafxbkJ+fGKhJKqxuS/EQF81efwzxVwwk0kZKVbde8OTteKive3A8+TiGL4EFp6o3+JMLPGHzJ0KiupK29sApywIDAQAB";
    let record = format!("v=DKIM1; k=rsa; p={OF_1024}");
    let domain = OwnDomain::new(name("example.org")).with_dkim_record(name("s2"), record.clone());
    let report = selfcheck(zone(&[], &[]).with_txt("s2._domainkey.example.org", record), &domain, &host()).await;
    let found: Found = trouble(&report).into_iter().filter(|(id, _)| id.starts_with("dkim")).collect();
    assert_eq!(found, [("dkim-size", Warning)], "{report}");
}
