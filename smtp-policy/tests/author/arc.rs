//! Chains of seals: those that hold, and every way in which one does not.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use mail_auth::common::crypto::SigningKey;
use smtp_core::{Content, Domain, ResolverTable};
use smtp_policy::{ArcChain, ArcResult, Chain, Preset, Sealed};

use crate::signing::{KEY, key};
use crate::support::{converse, message};

const BODY: &str = "Hello\r\n";

fn dns() -> ResolverTable {
    ["one.example", "two.example", "three.example"]
        .iter()
        .fold(ResolverTable::new(), |dns, domain| dns.with_txt(&format!("ed._domainkey.{domain}"), KEY))
}

/// Relaxed, as RFC 6376 §3.4.2 says it of fields of one line with single spaces.
fn relaxed(field: &str) -> String {
    let (name, value) = field.split_once(':').expect("a field");
    format!("{}:{}", name.to_ascii_lowercase(), value.trim())
}

fn signed(field: &str, covered: &[String]) -> String {
    let text = format!("{}{}", covered.iter().map(|field| relaxed(field) + "\r\n").collect::<String>(), relaxed(field));
    field.to_owned() + &BASE64_STANDARD.encode(key().sign(text.as_bytes()).expect("it signs"))
}

/// The fields of a chain of these sealers, the newest set first, by our own reading of RFC 8617 §5.1.
fn chain(sealers: &[&str], fields: &[&str]) -> Vec<String> {
    use sha2::Digest;
    let hash = BASE64_STANDARD.encode(sha2::Sha256::digest(BODY.as_bytes()));
    let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
    let mut sets: Vec<String> = Vec::new();
    for (place, sealer) in sealers.iter().enumerate() {
        let (number, valid) = (place + 1, if place == 0 { "none" } else { "pass" });
        let results = format!("ARC-Authentication-Results: i={number}; {sealer}; spf=pass");
        let signature = format!(
            "ARC-Message-Signature: i={number}; a=ed25519-sha256; c=relaxed/relaxed; d={sealer}; s=ed; h=from:subject; bh={hash}; b="
        );
        let signature = signed(&signature, &fields);
        sets.extend([results, signature]);
        let seal = format!("ARC-Seal: i={number}; a=ed25519-sha256; cv={valid}; d={sealer}; s=ed; b=");
        sets.push(signed(&seal, &sets));
    }
    sets.reverse();
    sets
}

const FIELDS: [&str; 2] = ["From: me@client.example", "Subject: x"];

fn text(chain: &[String]) -> String {
    let fields: Vec<&str> = chain.iter().map(String::as_str).chain(FIELDS).collect();
    format!("{}\r\n\r\n{BODY}", fields.join("\r\n"))
}

/// A message with so many sets, all of one sealer.
pub(crate) fn sets(count: usize) -> String {
    text(&chain(&vec!["one.example"; count], &FIELDS))
}

async fn verify(dns: &ResolverTable, text: &str) -> Sealed {
    ArcChain::new(dns.clone()).verify(&Content::new(text.to_owned())).await.expect("it is in memory")
}

#[tokio::test] // RFC 8617 §5.2
async fn chains_that_hold() {
    let all = ["one.example", "two.example", "three.example"];
    for count in 0..=3 {
        let sealed = verify(&dns(), &text(&chain(&all[..count], &FIELDS))).await;
        let expected = if count == 0 { ArcResult::None } else { ArcResult::Pass };
        let sealers: Vec<Domain> = all[..count].iter().map(|name| name.parse().expect("a domain")).collect();
        assert_eq!((sealed.result, &sealed.sealers), (expected, &sealers), "{sealed:?}");
    }
}

#[tokio::test] // RFC 8617 §5.2; SECURITY D-24: 51 sets, gaps, duplicates
async fn d24_chains_that_do_not_hold() {
    let good = chain(&["one.example", "two.example"], &FIELDS);
    let whole = text(&good);
    assert_eq!(verify(&dns(), &whole).await.result, ArcResult::Pass);
    let with = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        whole.replacen(from, to, 1)
    };
    let many = ["one.example"; 51];
    for (what, text) in [
        ("a changed body", with(BODY, "Hullo\r\n")),
        ("a changed field", with("Subject: x", "Subject: y")),
        ("a changed result", with("i=1; one.example; spf=pass", "i=1; one.example; spf=fail")),
        (
            "an old signature changed",
            with("i=1; a=ed25519-sha256; c=relaxed", "i=1; a=ed25519-sha256;  t=1; c=relaxed"),
        ),
        ("a gap", with("ARC-Seal: i=1;", "X-Seal: i=1;")),
        ("a missing result", with("ARC-Authentication-Results: i=2;", "X: i=2;")),
        ("a number given twice", format!("{}\r\n{whole}", good[0])),
        ("a number out of range", with("ARC-Seal: i=2;", "ARC-Seal: i=0;")),
        ("no number", with("ARC-Seal: i=2;", "ARC-Seal: i=x;")),
        ("only the second", text(&good[..3])),
        ("a seal that says fail", with("cv=pass", "cv=fail")),
        ("a first seal that says pass", with("cv=none", "cv=pass")),
        ("a seal that covers fields", with("cv=pass;", "cv=pass; h=from;")),
        ("a length", with("c=relaxed/relaxed;", "c=relaxed/relaxed; l=7;")),
        ("a tag twice", with("cv=pass;", "cv=pass; d=x.example;")),
        ("sha1", with("a=ed25519-sha256; cv=pass", "a=rsa-sha1; cv=pass")),
        ("51 sets", text(&chain(&many, &FIELDS))),
        ("another key", with("d=two.example; s=ed; h=", "d=four.example; s=ed; h=")),
    ] {
        assert_eq!(verify(&dns(), &text).await.result, ArcResult::Fail, "{what}");
    }
    let slow = ResolverTable::new().with_unknown("one.example").with_txt("ed._domainkey.two.example", KEY);
    assert_eq!(verify(&slow, &whole).await.result, ArcResult::TempError);
    let fifty = verify(&dns(), &text(&chain(&many[..50], &FIELDS))).await;
    assert_eq!(fifty.result, ArcResult::Pass, "{fifty:?}");
}

#[tokio::test] // PRACTICES S39 × presets: a chain is recorded
async fn s39_a_chain_refuses_nobody() {
    let good = text(&chain(&["one.example"], &FIELDS));
    let own: Domain = "mx.example.org".parse().expect("a domain");
    for (content, expected) in [
        (good.clone(), "mx.example.org; arc=pass"),
        (good.replace("Hello", "Hullo"), "mx.example.org; arc=fail reason=\"body was changed\""),
        ("From: me@client.example\r\n\r\nx".to_owned(), "mx.example.org; arc=none"),
    ] {
        for preset in Preset::ALL {
            let checks = Chain::new("arc", preset).with(ArcChain::new(dns())).reporting_as(&own);
            let lines = message(&["RCPT TO:<user@example.org>"], content.trim_end());
            let seen = converse(vec![Arc::new(checks)], "192.0.2.1", &lines).await;
            assert_eq!(seen.delivered[0].fields("Authentication-Results"), [expected]);
        }
    }
}
