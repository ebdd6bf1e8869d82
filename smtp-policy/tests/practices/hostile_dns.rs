//! All checks that ask DNS, over a name server that fails or lies: nobody is refused for good (PRACTICES P5, SECURITY D-34).

use std::sync::Arc;
use std::time::Duration;

use crate::dns_server::{DnsServer, Way, address, alias, alone, answer, asked_for, record};
use futures_util::future::join_all;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType, rdata};
use smtp_core::ClientConfig;
use smtp_policy::{
    Action, ArcChain, Callouts, Chain, Dkim, Dmarc, DnsList, Dnsbl, Dnswl, DomainDnsbl, Helo, HickoryResolver,
    MemoryStateStore, Preset, ReverseDns, SenderDomain, Spf,
};

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

/// A chain with one check.
type Alone = fn(HickoryResolver, Chain) -> Chain;

fn refusing(zone: &str) -> DnsList {
    DnsList::new(zone.parse().expect("a name")).refusing()
}

/// Each check that asks DNS.
const CHECKS: [(&str, Alone); 12] = [
    ("reverse DNS", |dns, chain| chain.with(ReverseDns::new(dns))),
    ("HELO", |dns, chain| chain.with(Helo::new(dns))),
    ("sender domain", |dns, chain| chain.with(SenderDomain::new(dns))),
    ("DNSBL", |dns, chain| chain.with(Dnsbl::new(dns).with(refusing("bad.example")))),
    ("DNSBL of domains", |dns, chain| chain.with(DomainDnsbl::new(dns).with(refusing("domains.example")))),
    ("DNSWL", |dns, chain| chain.with(Dnswl::new(dns).with(refusing("good.example")))),
    ("SPF", |dns, chain| chain.with(Spf::new(dns))),
    ("DKIM", |dns, chain| chain.with(Dkim::new(dns))),
    ("ARC", |dns, chain| chain.with(ArcChain::new(dns))),
    ("DMARC", |dns, chain| chain.with(Spf::new(dns.clone())).with(Dkim::new(dns.clone())).with(Dmarc::new(dns))),
    ("callout of the sender", |dns, chain| {
        let callouts = callouts(dns);
        chain.with(callouts.of_senders()).with_action("callout-sender", Action::Defer).expect("a practice")
    }),
    ("callout of the client", |dns, chain| {
        let callouts = callouts(dns);
        chain.with(callouts.of_clients()).with_action("callout-client", Action::Defer).expect("a practice")
    }),
];

/// Where nobody listens.
fn callouts(dns: HickoryResolver) -> Callouts {
    let config = ClientConfig::new("mx.example.org").expect("a name");
    Callouts::new(dns, MemoryStateStore::new(), config).to_address("127.0.0.1:1".parse().expect("an address"))
}

/// Signed, as far as one can tell without the key.
const SIGNED: &str = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=client.example; s=one; h=from; \
    bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\
    From: <sender@client.example>\r\n\r\nx";

#[tokio::test(flavor = "multi_thread")] // SECURITY D-34, PRACTICES P5: each check alone, by each way to do harm
async fn d34_no_check_makes_trouble_with_dns_permanent() {
    for (what, harm) in HARMS {
        let server = DnsServer::start(harm).await;
        let each = CHECKS.iter().map(|(check, with)| {
            let dns = HickoryResolver::with_servers([server.address]).expect("one server");
            let dns = dns.with_limit(Duration::from_millis(300));
            let chain = with(dns, Chain::new(*check, Preset::BcpStrict));
            async move {
                let lines = message(&["RCPT TO:<user@example.org>", "RCPT TO:<postmaster>"], SIGNED);
                let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
                // Whose addresses are all over the world does not have the client's: that is an answer.
                let is_answer = what == "a list of everybody" && *check == "HELO";
                let permanent = seen.replies.iter().find(|reply| reply.starts_with('5'));
                assert!(permanent.is_none() || is_answer, "{what}, {check}: {seen:?}");
                assert!(seen.replies[2].starts_with("250 "), "{what}, {check}: {seen:?}");
                assert_eq!(seen.delivered.len(), 1, "{what}, {check}: the postmaster has it: {seen:?}");
            }
        });
        join_all(each).await;
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
