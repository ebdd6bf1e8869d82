//! DMARC through a server: SPF, DKIM and what the author's domain wants.

use std::sync::Arc;

use smtp_core::{
    Connection, Content, Domain, Outbound, OutboundContent, OutboundPolicy, OutboundRecipient, ResolverTable,
    ReversePath, SessionId,
};
use smtp_policy::{Action, ArcChain, ArcSealing, Chain, Dkim, DkimKey, DkimSigner, Dmarc, Preset, Spf};

use crate::signing::{KEY, Signing};
use crate::support::{converse, message};

const RECIPIENTS: [&str; 1] = ["RCPT TO:<user@example.org>"];

fn own() -> Domain {
    "mx.example.org".parse().expect("a domain")
}

/// A message of an author of `domain`.
fn by(domain: &str) -> String {
    format!("From: Me <me@{domain}>\r\nSubject: x\r\n\r\nHello")
}

fn dns(spf: &str, policy: &str) -> ResolverTable {
    ResolverTable::new()
        .with_txt("client.example", spf)
        .with_txt("_dmarc.client.example", policy)
        .with_txt("_dmarc.bank.example", policy)
        .with_txt("_dmarc.bank.example", "unrelated")
        .with_txt("ed._domainkey.client.example", KEY)
        .with_txt("ed._domainkey.other.example", KEY)
        .with_unknown("slow.example")
        .with_unknown("slow.client.example")
}

/// SPF refuses nobody here, so that DMARC has its say.
fn chain(preset: Preset, dns: &ResolverTable) -> Chain {
    let chain = Chain::new("author", preset).with(Spf::new(dns.clone())).with(Dkim::new(dns.clone()));
    let chain = chain.with_action("spf-fail", Action::Observe).expect("it is there");
    let mut chain = chain.with(Dmarc::new(dns.clone())).reporting_as(&own());
    for practice in ["spf-readable", "spf-best-guess"] {
        chain.rules_mut().set_action_for_unknown(practice, Action::Observe).expect("it is there");
    }
    chain
}

#[tokio::test] // PRACTICES S39 × presets; RFC 9989
async fn s39_each_result_by_preset() {
    let pass = "v=spf1 ip4:192.0.2.1 -all";
    let signed = |domain| Signing { domain, ..Signing::default() }.sign(&format!("{}\r\n", by("client.example")));
    let signed = |domain| signed(domain).trim_end().to_owned();
    let broken = signed("client.example").replace("Hello", "Hullo");
    let reject = "v=DMARC1; p=reject";
    for (spf, policy, content, result, replies) in [
        (pass, reject, by("client.example"), "pass", ["250", "250", "250"]),
        (pass, reject, by("sub.client.example"), "pass", ["250", "250", "250"]),
        (pass, "v=DMARC1; p=reject; aspf=s", by("sub.client.example"), "fail", ["250", "550 5.7.1 ", "550 5.7.1 "]),
        (pass, reject, by("bank.example"), "fail", ["250", "550 5.7.1 ", "550 5.7.1 "]),
        ("v=spf1 -all", reject, signed("client.example"), "pass", ["250", "250", "250"]),
        ("v=spf1 -all", reject, signed("other.example"), "fail", ["250", "550 5.7.1 ", "550 5.7.1 "]),
        ("v=spf1 -all", reject, broken.clone(), "fail", ["250", "550 5.7.26 ", "550 5.7.26 "]),
        ("v=spf1 -all", "v=DMARC1; p=quarantine", broken, "fail", ["250", "250", "250"]),
        ("v=spf1 -all", "v=DMARC1; p=none", by("client.example"), "fail", ["250", "250", "250"]),
        ("v=spf1 -all", "v=DMARC1; p=reject; t=y", by("client.example"), "fail", ["250", "250", "250"]),
        ("v=spf1 -all", "none", by("client.example"), "none", ["250", "250", "250"]),
        // Unknown is neither.
        ("v=spf1 a:slow.example -all", reject, by("client.example"), "temperror", ["250", "250", "451 4.7.1 "]),
        ("v=spf1 -all", reject, by("slow.example"), "temperror", ["250", "250", "451 4.7.1 "]),
    ] {
        for (preset, expected) in Preset::ALL.into_iter().zip(replies) {
            let seen = converse(
                vec![Arc::new(chain(preset, &dns(spf, policy)))],
                "192.0.2.1",
                &message(&RECIPIENTS, &content),
            )
            .await;
            let reply = seen.replies.last().expect("a reply");
            assert!(reply.starts_with(expected), "{spf} {policy} {preset:?}: {:?}", seen.replies);
            if let [delivered] = &seen.delivered[..] {
                let results = delivered.fields("Authentication-Results").join(" ");
                assert!(results.contains(&format!("dmarc={result} header.from=")), "{results}");
                let is_junk = policy.contains("quarantine") || policy.contains("t=y");
                let expected = if is_junk && preset != Preset::RfcStrict { "Junk" } else { "Deliver" };
                assert_eq!(delivered.recipients[0].1, expected, "{spf} {policy} {preset:?}");
            }
        }
    }
}

#[tokio::test] // SECURITY D-24 × presets
async fn d24_several_authors_and_none() {
    for (content, replies) in [
        ("From: me@client.example, you@bank.example\r\n\r\nx", ["250", "550 5.7.1 ", "550 5.7.1 "]),
        ("From: me@client.example\r\nFrom: you@bank.example\r\n\r\nx", ["250", "550 5.7.1 ", "550 5.7.1 "]),
        ("Subject: x\r\n\r\nx", ["250", "250", "550 5.7.1 "]),
        ("From: me@client.example, you@client.example\r\n\r\nx", ["250", "250", "250"]),
    ] {
        for (preset, expected) in Preset::ALL.into_iter().zip(replies) {
            let dns = dns("v=spf1 ip4:192.0.2.1 -all", "v=DMARC1; p=reject");
            let seen = converse(vec![Arc::new(chain(preset, &dns))], "192.0.2.1", &message(&RECIPIENTS, content)).await;
            assert!(
                seen.replies.last().is_some_and(|reply| reply.starts_with(expected)),
                "{preset:?} {:?}",
                seen.replies
            );
        }
    }
}

#[tokio::test] // PRACTICES P5, P4
async fn p5_dmarc_without_spf_and_dkim_concludes_nothing_and_role_mailboxes_are_only_tagged() {
    let dns = dns("v=spf1 -all", "v=DMARC1; p=reject");
    let content = by("client.example");
    let alone = Chain::new("dmarc", Preset::Bcp).with(Dmarc::new(dns.clone()));
    let seen = converse(vec![Arc::new(alone)], "192.0.2.1", &message(&RECIPIENTS, &content)).await;
    assert_eq!(seen.delivered.len(), 1, "{seen:?}");
    let lines = message(&["RCPT TO:<abuse@example.org>"], &content);
    let seen = converse(vec![Arc::new(chain(Preset::BcpStrict, &dns))], "192.0.2.1", &lines).await;
    assert_eq!(seen.delivered[0].recipients[0].1, "Junk", "a report quotes what it reports");
}

/// A message as a sealer passes it on, which saw that of it.
async fn handed_on(sealer: &str, saw: &str) -> String {
    let key = DkimKey::from_pem("s", include_bytes!("../data/ed25519.pem")).expect("a key");
    let signer = DkimSigner::new(&sealer.parse().expect("a domain"), key);
    let sealing = ArcSealing::new(ArcChain::new(ResolverTable::new()), signer, []);
    let head = format!("Authentication-Results: {sealer}; {saw}\r\nReceived: by {sealer}\r\n");
    let text = by("client.example") + "\r\n";
    let content = OutboundContent::new(head.clone(), Content::new(text.clone()), 0);
    let address = |text: &str| text.parse().expect("an address");
    let client = Connection::new(SessionId::new(1), address("192.0.2.1:1"), address("192.0.2.25:25"));
    let to = OutboundRecipient::new("you@example.org".parse().expect("a mailbox"), ReversePath::Null);
    let set = sealing.sign(&Outbound::received(&ReversePath::Null, &client), &[to], &content).await;
    let set: Vec<u8> = set.expect("it is in memory").iter().flat_map(|field| field.as_bytes().to_vec()).collect();
    format!("{}{head}{}", String::from_utf8_lossy(&set), text.trim_end())
}

#[tokio::test] // RFC 8617 §7.2.1: local policy
async fn s39_who_is_believed_may_say_that_the_author_stood_by_it() {
    let key = DkimKey::from_pem("s", include_bytes!("../data/ed25519.pem")).expect("a key").record();
    let dns = dns("v=spf1 -all", "v=DMARC1; p=reject")
        .with_txt("s._domainkey.list.example", key.clone())
        .with_txt("s._domainkey.liar.example", key);
    let passed = "dmarc=pass header.from=client.example";
    for (sealer, saw, change, expected) in [
        ("list.example", passed, ("", ""), "250"),
        ("list.example", "dmarc=pass (p=reject) header.from=Client.Example", ("", ""), "250"),
        ("liar.example", passed, ("", ""), "550 5.7.1 "),
        ("list.example", "dmarc=fail header.from=client.example", ("", ""), "550 5.7.1 "),
        ("list.example", "dmarc=pass header.from=bank.example", ("", ""), "550 5.7.1 "),
        ("list.example", "dmarc=pass", ("", ""), "550 5.7.1 "),
        ("list.example", "spf=fail smtp.helo=\"; dmarc=pass header.from=client.example\"", ("", ""), "550 5.7.1 "),
        ("list.example", passed, ("Hello", "Hullo"), "550 5.7.1 "),
    ] {
        let text = handed_on(sealer, saw).await.replace(change.0, change.1);
        let chain = Chain::new("author", Preset::Bcp)
            .with(Spf::new(dns.clone()))
            .with(Dkim::new(dns.clone()))
            .with(ArcChain::new(dns.clone()))
            .with(Dmarc::new(dns.clone()).trusting_sealer(&"LIST.example".parse().expect("a domain")))
            .reporting_as(&own());
        let chain = chain.with_action("spf-fail", Action::Observe).expect("it is there");
        let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&RECIPIENTS, &text)).await;
        let reply = seen.replies.last().expect("a reply");
        assert!(reply.starts_with(expected), "{sealer} {saw} {change:?}: {:?}", seen.replies);
        if let [delivered] = &seen.delivered[..] {
            let results = delivered.fields("Authentication-Results").join(" ");
            assert!(
                results.contains("dmarc=fail reason=\"local_policy: arc=pass\" header.from=client.example"),
                "{results}"
            );
        }
    }
}
