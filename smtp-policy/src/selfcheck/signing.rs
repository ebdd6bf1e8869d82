//! The keys of a domain: what DNS says is what we sign with (PRACTICES S39; RFC 6376 §3.6.1, RFC 8301).

use futures_util::future::join_all;
use smtp_core::{Answer, DnsName, Resolver};

use crate::signature::{key_bits, tag};

use super::facts::OwnDomain;
use super::report::{SelfFinding, SelfItem, text_record};

pub(super) const KEY: SelfItem = SelfItem::new("dkim-key", "S39", "the selector has the key that signs");
const SIGNED: SelfItem = SelfItem::new("dkim", "S39", "mail of the domain is signed");
const SINGLE: SelfItem = SelfItem::new("dkim-single", "S39", "the selector has one record");
const REVOKED: SelfItem = SelfItem::new("dkim-revoked", "S39", "the key in DNS is not revoked");
const READABLE: SelfItem = SelfItem::new("dkim-readable", "S39", "the key in DNS can be used");
const SIZE: SelfItem = SelfItem::new("dkim-size", "S39", "the key is of 2048 bits or more");
const TESTING: SelfItem = SelfItem::new("dkim-testing", "S39", "the key is not marked as a test");

/// The least bits of an RSA key that others take, and that they should see (RFC 8301 §3.2).
const RSA_BITS_TAKEN: usize = 1024;
const RSA_BITS_GOOD: usize = 2048;

pub(super) async fn check(dns: &dyn Resolver, domain: &OwnDomain) -> Vec<SelfFinding> {
    if domain.keys.is_empty() {
        let finding = SIGNED.warning(&domain.name, "no key of it is known here");
        return vec![finding.advising("make a key, sign with it, and publish its record")];
    }
    let each = domain.keys.iter().map(|(selector, record)| one(dns, &domain.name, selector, record));
    join_all(each).await.into_iter().flatten().collect()
}

async fn one(dns: &dyn Resolver, domain: &DnsName, selector: &DnsName, own: &str) -> Vec<SelfFinding> {
    let Some(name) = domain.child(&format!("{selector}._domainkey")) else {
        return vec![
            KEY.error(selector, "the name of its record would be too long").advising("choose a shorter selector"),
        ];
    };
    let publish = |finding: SelfFinding, advice: &str| finding.advising(advice).publishing(text_record(&name, own));
    let texts = match dns.txt(&name).await {
        Answer::Unknown => return vec![KEY.unknown(&name, "DNS does not answer")],
        Answer::Absent => return vec![publish(KEY.error(&name, "no record"), "publish the key")],
        Answer::Found { data, .. } => data,
    };
    let [text] = &texts[..] else {
        let evidence = format!("{} records: which of them others take is chance", texts.len());
        return vec![publish(SINGLE.error(&name, evidence), "leave one (RFC 6376 section 3.6.2.2)")];
    };
    let key = |text: &[u8]| -> Option<Vec<u8>> {
        tag(text, "p").map(|key| key.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect())
    };
    let theirs = key(text);
    if theirs.as_ref().is_some_and(Vec::is_empty) {
        return vec![publish(
            REVOKED.error(&name, "`p=` is empty: it is revoked"),
            "sign with another selector, or publish the key",
        )];
    }
    let Some(bits) = key_bits(text) else {
        return vec![publish(
            READABLE.error(&name, "no key for mail that can be read"),
            "publish the record as it is here",
        )];
    };
    let mut found = vec![if theirs == key(own.as_bytes()) {
        KEY.ok(&name, "the key in DNS is ours")
    } else {
        publish(KEY.error(&name, "the key in DNS is another"), "publish the key, or sign with the one that is there")
    }];
    let is_rsa = tag(text, "k").is_none_or(|kind| kind.eq_ignore_ascii_case(b"rsa"));
    if is_rsa && bits < RSA_BITS_GOOD {
        let evidence = format!("{bits} bits");
        let finding = if bits < RSA_BITS_TAKEN { SIZE.error(&name, evidence) } else { SIZE.warning(&name, evidence) };
        found.push(
            finding.advising("make a larger key, and publish it under a selector of its own (RFC 8301 section 3.2)"),
        );
    }
    let flags = tag(text, "t").unwrap_or_default();
    if flags.split(|&octet| octet == b':').any(|flag| flag.trim_ascii() == b"y") {
        found.push(publish(TESTING.warning(&name, "`t=y`: others treat the mail as unsigned"), "leave out `t=y`"));
    }
    found
}
