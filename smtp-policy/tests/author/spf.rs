//! SPF as a client meets it, by preset; and SPF as a weapon.

use std::sync::Arc;
use std::time::Duration;

use smtp_core::{
    Answer, DnsName, Host, MailExchanger, RecordType, Resolver, ResolverTable, ReversePath, TlsaRecord, async_trait,
};
use smtp_policy::{Chain, Greylisting, Preset, Spf, SpfIdentity, SpfResult, Subject};

use crate::support::{converse, message};

/// Nobody came before, whoever it is and whatever is known of it but a softfail is let through.
struct OnlySoftfail;

#[async_trait]
impl Greylisting for OnlySoftfail {
    async fn may_pass(&self, subject: &Subject<'_>) -> bool {
        assert!(subject.fact::<SpfResult>().is_some() && subject.fact::<SpfIdentity>().is_some());
        subject.fact() != Some(&SpfResult::SoftFail) && subject.fact() != Some(&SpfResult::None)
    }
}

fn dns(record: &str) -> ResolverTable {
    ResolverTable::new()
        .with_txt("client.example", record)
        .with_txt("why.client.example", "See http://client.example/%{i}?\r\n550 \u{1b}[1m")
        .with_txt("plain.client.example", "%{c} may not")
        .with_txt("long.client.example", "x".repeat(10_240))
        .with_unknown("slow.example")
}

const RECIPIENTS: [&str; 2] = ["RCPT TO:<user@example.org>", "RCPT TO:<postmaster@example.org>"];

#[tokio::test] // PRACTICES S34 to S37 × presets, P3, P5
async fn s34_s35_s36_s37_each_result_by_preset() {
    for (record, replies) in [
        ("v=spf1 ip4:192.0.2.1 -all", ["250", "250", "250"]),
        ("v=spf1 ?all", ["250", "250", "250"]),
        // S35
        ("v=spf1 -all", ["250", "550 5.7.23 ", "550 5.7.23 "]),
        // S36
        ("v=spf1 ~all", ["250", "451 4.7.1 ", "451 4.7.1 "]),
        // S34: permerror, temperror
        ("v=spf1 ip4:x", ["250", "250", "550 5.7.24 "]),
        ("v=spf1 a:slow.example -all", ["250", "250", "451 4.7.24 "]),
        // S37 alone is one point, too little to greylist.
        ("v=spf1 +all", ["250", "250", "250"]),
        // S38: neither its web server nor its mail host. With the point of S37 it is greylisted.
        ("unrelated", ["250", "451 4.7.1 ", "451 4.7.1 "]),
    ] {
        for (preset, expected) in Preset::ALL.into_iter().zip(replies) {
            let chain = Chain::new("spf", preset).with(Spf::new(dns(record))).with_greylisting(OnlySoftfail);
            let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&RECIPIENTS, "\r\nx")).await;
            assert!(seen.replies[0].starts_with("250 "), "{record}: P3");
            assert!(seen.replies[1].starts_with(expected), "{record} {preset:?}: {:?}", seen.replies);
            assert!(seen.replies[2].starts_with("250 "), "{record} {preset:?}: P4");
        }
    }
}

#[tokio::test] // PRACTICES S35; SECURITY D-10
async fn s35_the_words_of_the_domain_are_cleaned_and_said_to_be_its_own() {
    for (name, expected) in [
        ("plain", "client.example explains: 192.0.2.1 may not"),
        ("long", "client.example explains: xxxxxx"),
        ("absent", "550 5.7.23 SPF: not sent from where its domain sends"),
    ] {
        let record = format!("v=spf1 -all exp={name}.client.example");
        let chain = Chain::new("spf", Preset::Bcp).with(Spf::new(dns(&record)));
        let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&RECIPIENTS[..1], "\r\nx")).await;
        let reply = &seen.replies[1];
        assert!(reply.contains(expected) && reply.len() <= 510, "{reply}");
    }
    // Words with controls are not in the grammar, so there are none.
    let seen = examine(&dns("v=spf1 -all exp=why.client.example"), "192.0.2.1", "<me@client.example>").await;
    assert_eq!(seen.findings()[0].explanation(), None);
}

async fn examine(dns: &(impl Resolver + Clone + 'static), client: &str, path: &str) -> smtp_policy::Observation {
    let (helo, path) = (Host::parse("client.example"), ReversePath::parse(path));
    let (helo, path) = (helo.expect("a host"), path.expect("a path"));
    Spf::new(dns.clone()).examine_sender(client.parse().expect("an address"), &helo, &path).await
}

#[tokio::test] // PRACTICES S21, S37, S38; RFC 7208 §2.4
async fn s37_s38_what_is_wide_or_guessed_vouches_for_nobody() {
    for (record, client, result, sign) in [
        ("v=spf1 ip4:192.0.0.0/16 -all", "192.0.2.1", "pass", None),
        ("v=spf1 ip4:192.0.0.0/15 -all", "192.0.2.1", "pass", Some("spf-specific")),
        ("v=spf1 ip4:0.0.0.0/0 -all", "192.0.2.1", "pass", Some("spf-specific")),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::1", "pass", None),
        ("v=spf1 ip6:2001:db8::/31 -all", "2001:db8::1", "pass", Some("spf-specific")),
        ("v=spf1 a:mx.client.example/8 -all", "192.0.2.1", "pass", Some("spf-specific")),
        ("v=spf1 a:mx.client.example/24 -all", "192.0.2.1", "pass", None),
        ("v=spf1 ptr -all", "192.0.2.7", "pass", Some("spf-specific")),
        ("v=spf1 +all", "192.0.2.1", "pass", Some("spf-specific")),
        ("v=spf1 include:wide.example -all", "192.0.2.1", "pass", Some("spf-specific")),
        ("v=spf1 redirect=wide.example", "192.0.2.1", "pass", Some("spf-specific")),
        // S38: the guess passes for the mail host and not for others; it is never called SPF.
        ("unrelated", "192.0.2.7", "none", Some("spf-specific")),
        ("unrelated", "192.0.2.8", "none", Some("spf-specific spf-best-guess")),
    ] {
        let dns = dns(record)
            .with_host("mx.client.example", "192.0.2.7")
            .with_mx("client.example", 10, "mx.client.example")
            .with_txt("wide.example", "v=spf1 all");
        let seen = examine(&dns, client, "<me@client.example>").await;
        let failed: Vec<_> =
            seen.findings().iter().filter(|finding| finding.outcome() == smtp_policy::Outcome::Fail).collect();
        let failed: Vec<_> = failed.iter().map(|finding| finding.practice()).collect();
        assert_eq!(failed.join(" "), sign.unwrap_or_default(), "{record} {client}");
        let expected =
            [format!("spf={result} smtp.helo=client.example"), format!("spf={result} smtp.mailfrom=client.example")];
        assert_eq!(seen.results(), expected, "{record}");
        assert_eq!(seen.confirms_sender(), result == "pass" && sign.is_none(), "{record}: S21");
        let null = examine(&dns, client, "<>").await;
        assert_eq!(null.results(), &expected[..1], "the null reverse-path has the name in EHLO");
        assert!(!null.confirms_sender());
    }
}

#[tokio::test] // PRACTICES S34, S35
async fn s35_listed_forwarders_are_recorded_and_no_more() {
    let forwarded = Spf::new(dns("v=spf1 -all")).with_forwarder("192.0.2.0/24".parse().expect("a network"));
    let chain = || Chain::new("spf", Preset::BcpStrict).with(forwarded.clone());
    for (client, expected) in [("192.0.2.1", "250 "), ("198.51.100.1", "550 5.7.23")] {
        let seen = converse(vec![Arc::new(chain())], client, &message(&RECIPIENTS[..1], "\r\nx")).await;
        assert!(seen.replies[1].starts_with(expected), "{client}: {:?}", seen.replies);
    }
}

#[tokio::test] // PRACTICES S35: the name in EHLO disowns the client, the reverse-path does not know it
async fn s35_a_fail_of_either_name_is_refused_and_no_other_result_of_ehlo() {
    for (record, expected) in [
        ("v=spf1 -all", "550 5.7.23"),
        ("v=spf1 ~all", "250 "),
        ("v=spf1 ip4:x", "250 "),
        ("v=spf1 a:slow.example", "250 "),
    ] {
        let dns = dns(record).with_txt("other.example", "v=spf1 ip4:192.0.2.1 -all");
        let chain = Chain::new("spf", Preset::BcpStrict).with(Spf::new(dns)).with_greylisting(OnlySoftfail);
        let mut lines = message(&RECIPIENTS[..1], "\r\nx");
        lines[1] = "MAIL FROM:<me@other.example>";
        let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
        assert!(seen.replies[1].starts_with(expected), "{record}: {:?}", seen.replies);
    }
}

/// All that a hostile domain can make us ask.
#[tokio::test] // SECURITY D-23
async fn d23_no_record_makes_us_ask_often() {
    let names = |count: usize| {
        (0..count).fold(ResolverTable::new(), |dns, n| {
            dns.with_mx("many.example", 1, &format!("h{n}.many.example"))
                .with_address(&format!("h{n}.many.example"), "198.51.100.1")
                .with_ptr("192.0.2.1", &format!("h{n}.many.example"))
        })
    };
    let ten = "mx:many.example ".repeat(10);
    let include_both = "include:client.example include:client.example -all";
    let amplified = "exists:%{i}.%{l}.%{s}.%{d}.%{h}.%{p}.example ".repeat(200);
    for (hosts, record, expected) in [
        (10, format!("v=spf1 {ten} -all"), SpfResult::Fail),
        (10, format!("v=spf1 {ten} exists:%{{p}}.x.example -all"), SpfResult::PermError),
        (100, format!("v=spf1 {ten} -all"), SpfResult::PermError),
        (10, format!("v=spf1 {include_both}"), SpfResult::PermError),
        (10, "v=spf1 redirect=client.example".to_owned(), SpfResult::PermError),
        (10, format!("v=spf1 {amplified} -all"), SpfResult::PermError),
        (100, format!("v=spf1 {} exists:%{{p}}.x.example -all", "ptr ".repeat(9)), SpfResult::Fail),
        (10, format!("v=spf1 {} -all", "a:void.example ".repeat(10)), SpfResult::PermError),
        (10, format!("v=spf1 a:{}.example -all", "%{s}.".repeat(2000)), SpfResult::Fail),
    ] {
        let dns = names(hosts).with_txt("client.example", &record);
        let seen = examine(&dns, "192.0.2.1", "<>").await;
        assert_eq!(seen.fact(), Some(&expected), "{record:.80}");
        let asked = dns.asked().len();
        assert!(asked <= 112, "{asked} questions: {record:.80}");
        assert!(dns.asked().iter().filter(|(_, kind)| *kind == RecordType::Ptr).count() <= 1);
    }
}

/// DNS that never answers.
#[derive(Debug, Clone)]
struct Silent;

#[async_trait]
impl Resolver for Silent {
    async fn ipv4(&self, _: &DnsName) -> Answer<Vec<std::net::Ipv4Addr>> {
        std::future::pending().await
    }
    async fn ipv6(&self, _: &DnsName) -> Answer<Vec<std::net::Ipv6Addr>> {
        std::future::pending().await
    }
    async fn ptr(&self, _: std::net::IpAddr) -> Answer<Vec<DnsName>> {
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

#[tokio::test(start_paused = true)] // SECURITY D-23, RFC 7208 §4.6.4
async fn d23_silence_ends_after_20_seconds() {
    let start = tokio::time::Instant::now();
    let seen = examine(&Silent, "192.0.2.1", "<me@client.example>").await;
    assert_eq!(seen.fact(), Some(&SpfResult::TempError));
    assert!(start.elapsed() <= Duration::from_millis(20_100));
}
