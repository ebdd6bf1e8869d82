//! All checks that ask DNS, over a name server that fails or lies: nobody is refused for good (PRACTICES P5, SECURITY D-34).

use std::sync::Arc;
use std::time::Duration;

use crate::dns_server::{DnsServer, Way, address, alias, alone, answer, asked_for, record};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType, rdata};
use smtp_policy::{Chain, DnsList, Dnsbl, Dnswl, DomainDnsbl, Helo, HickoryResolver, Preset, ReverseDns, SenderDomain};

use crate::support::{converse, message};

/// A way to do harm.
type Harm = fn(&Message, Way) -> Vec<Vec<u8>>;

fn changed(question: &Message, change: impl Fn(&mut Message)) -> Vec<Vec<u8>> {
    let mut message = answer(question, ResponseCode::NoError);
    change(&mut message);
    alone(&message)
}

const HARMS: [(&str, Harm); 9] = [
    ("silence", |_, _| Vec::new()),
    ("SERVFAIL", |question, _| alone(&answer(question, ResponseCode::ServFail))),
    ("REFUSED", |question, _| alone(&answer(question, ResponseCode::Refused))),
    ("truncation", |question, _| changed(question, |message| message.metadata.truncation = true)),
    ("garbage", |question, _| vec![[&question.metadata.id.to_be_bytes()[..], &[0xff; 300]].concat()]),
    ("of another id", |question, _| {
        changed(question, |message| {
            message.metadata.id = !message.metadata.id;
            message.metadata.response_code = ResponseCode::NXDomain;
        })
    }),
    ("of another name", |question, _| {
        changed(question, |message| message.answers.push(address("other.example", "203.0.113.66")))
    }),
    ("circle", |question, _| {
        let (asked, _) = asked_for(question);
        changed(question, |message| message.answers.push(alias(&asked, &asked)))
    }),
    ("a list of everybody", |question, _| {
        let (asked, kind) = asked_for(question);
        changed(question, |message| match kind {
            RecordType::A => message.answers.push(address(&asked, "127.0.0.2")),
            _ => message.metadata.response_code = ResponseCode::ServFail,
        })
    }),
];

#[tokio::test(flavor = "multi_thread")] // SECURITY D-34, PRACTICES P5
async fn p5_a_name_server_that_fails_or_lies_refuses_nobody_for_good() {
    for (what, harm) in HARMS {
        let server = DnsServer::start(harm).await;
        for preset in [Preset::Bcp, Preset::BcpStrict] {
            let dns = HickoryResolver::with_servers([server.address]).expect("one server");
            let dns = dns.with_limit(Duration::from_millis(400));
            let list = |zone: &str| DnsList::new(zone.parse().expect("a name")).refusing();
            let chain = Chain::new("all", preset)
                .with(ReverseDns::new(dns.clone()))
                .with(SenderDomain::new(dns.clone()))
                .with(Dnsbl::new(dns.clone()).with(list("bad.example")).with(list("dyn.example")))
                .with(Dnswl::new(dns.clone()).with(list("good.example")))
                .with(DomainDnsbl::new(dns.clone()).with(list("domains.example")));
            // Whose addresses are all over the world does not have the client's.
            let chain = if what == "a list of everybody" { chain } else { chain.with(Helo::new(dns)) };
            let lines = message(&["RCPT TO:<user@example.org>", "RCPT TO:<postmaster>"], "\r\nx");
            let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
            let [sender, user, postmaster, ..] = &seen.replies[..] else { panic!("{seen:?}") };
            assert!(user.starts_with("250 ") || user.starts_with('4'), "{what} {preset:?}: {seen:?}");
            assert!(sender.starts_with("250 ") && postmaster.starts_with("250 "), "{what} {preset:?}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")] // PRACTICES S1, S3: a name that is none reaches no reply, log or header field
async fn s1_a_name_with_line_breaks_is_none() {
    let server = DnsServer::start(|question, _| {
        let (asked, _) = asked_for(question);
        let host = Name::from_labels([&b"mx\r\n250 ok\0"[..], b"example"]).expect("a name");
        changed(question, |message| message.answers.push(record(&asked, 60, RData::PTR(rdata::PTR(host.clone())))))
    })
    .await;
    let dns = HickoryResolver::with_servers([server.address]).expect("one server");
    let seen = ReverseDns::new(dns).examine_address("192.0.2.1".parse().expect("an address")).await;
    assert_eq!(seen.results(), ["iprev=permerror policy.iprev=192.0.2.1"]);
    let [finding] = seen.findings() else { panic!("{seen:?}") };
    assert_eq!(finding.to_string(), "reverse-name fail: what names 192.0.2.1 is no name");
}
