//! Messages made to cost or to confuse whoever looks for the author (SECURITY D-24): each vector of the list that has no test of its
//! own elsewhere, and a law about what all of them cost.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustix::time::{ClockId, clock_gettime};
use smtp_core::{Content, Host, ResolverTable, ReversePath};
use smtp_policy::{ArcChain, Dkim, DkimResult, DkimSignatures, Dmarc, DmarcResult, SpfIdentity};

use crate::signing::{KEY, Signing};

const PLAIN: &str = "From: Me <me@client.example>\r\nTo: you@example.org\r\nSubject: x\r\n\r\nHello\r\n";
/// The most that a message of the corpus may cost, in times of an honest one with as many octets of header and ten signatures. Such a
/// one takes far less than a twentieth of the 50 ms that SECURITY D-24 allows, once it is compiled for use.
const COST_LIMIT: u32 = 20;
/// The most questions to DNS: ten keys, fifty seals and their signatures, and eight for each tree of DMARC.
const QUESTIONS_LIMIT: usize = 200;
/// Runs of which the fastest counts.
const RUNS: usize = 5;

/// A key of that many bits. Nobody has its other half.
fn rsa_key(bits: usize) -> String {
    let number = |octets: &[u8]| {
        [&[0x02, 0x82][..], &u16::try_from(octets.len()).expect("short").to_be_bytes(), octets].concat()
    };
    let modulus = [&[0][..], &vec![0xff; bits / 8]].concat();
    let both = [number(&modulus), number(&[1, 0, 1])].concat();
    let sequence = [&[0x30, 0x82][..], &u16::try_from(both.len()).expect("short").to_be_bytes(), &both].concat();
    format!("v=DKIM1; k=rsa; p={}", BASE64_STANDARD.encode(sequence))
}

fn dns(key: &str) -> ResolverTable {
    let mut dns = ResolverTable::new()
        .with_txt("ed._domainkey.client.example", KEY)
        .with_txt("hostile._domainkey.client.example", key)
        .with_txt("_dmarc.client.example", "v=DMARC1; p=reject; rua=mailto:rua@client.example");
    for sealer in ["one.example", "client.example"] {
        dns = dns.with_txt(&format!("ed._domainkey.{sealer}"), KEY);
    }
    dns
}

/// A signature by a key that DNS has under `hostile`, which fits the body.
fn hostile() -> String {
    let field = Signing::default().field(PLAIN);
    field.replacen("s=ed", "s=hostile", 1).replacen("a=ed25519-sha256", "a=rsa-sha256", 1)
}

#[tokio::test] // SECURITY D-24: RSA 16,384 and 512; keys over 4,096 bits are not used
async fn d24_keys_that_are_too_large_or_too_small_are_not_used() {
    for (bits, expected) in [(512, false), (1016, false), (1024, true), (4096, true), (4104, false), (16_384, false)] {
        let content = Content::new(format!("{}{PLAIN}", hostile()));
        let found = Dkim::new(dns(&rsa_key(bits))).verify(&content).await.expect("it is in memory");
        // A key that is used finds the signature broken, which is no permanent error.
        let expected = if expected { DkimResult::Fail } else { DkimResult::PermError };
        assert_eq!(found.0[0].result, expected, "{bits} bits: {}", found.0[0]);
    }
}

/// The vectors, and the key in DNS where it matters.
fn corpus() -> Vec<(&'static str, String, String)> {
    let signed = Signing::default().sign(PLAIN);
    let with = |from: &str, to: &str| signed.replacen(from, to, 1);
    let of = |what, message: String| (what, message, String::new());
    let open = "(".repeat(50_000);
    let authors: String = (0..5000).fold(String::new(), |all, number| all + &format!("a@d{number}.example,\r\n "));
    let names = "x-a:".repeat(20_000);
    vec![
        of("1,000 signatures whose body fits", format!("{}{PLAIN}", hostile().repeat(1000))),
        of("1,000 signatures that cannot be read", format!("{}{PLAIN}", "DKIM-Signature: v=1; ;\r\n".repeat(1000))),
        ("a key of 16,384 bits", format!("{}{PLAIN}", hostile().repeat(10)), rsa_key(16_384)),
        ("a key of 512 bits", format!("{}{PLAIN}", hostile().repeat(10)), rsa_key(512)),
        ("ten keys of 4,096 bits", format!("{}{PLAIN}", hostile().repeat(10)), rsa_key(4096)),
        of("SHA-1", with("a=ed25519-sha256", "a=rsa-sha1")),
        of("appended", Signing { with_length: true, ..Signing::default() }.sign(PLAIN) + &"x\r\n".repeat(20_000)),
        of("expired", with("; t=", "; x=")),
        of("without From in h=", Signing { fields: &["Subject"], ..Signing::default() }.sign(PLAIN)),
        of("two From fields", format!("From: a@bank.example\r\n{signed}")),
        of("two Subject fields", format!("Subject: y\r\n{signed}")),
        of("a line break in d=", with("d=client.example", "d=client.exa\r\n mple")),
        of("20,000 names in h=", with("h=", &format!("h={names}"))),
        of("100,000 tags", with("v=1;", &format!("v=1;{}", "y=1;".repeat(100_000)))),
        of(
            "5,000 authors of one domain",
            format!("From: {}a@client.example\r\n\r\nx\r\n", "a@client.example,\r\n ".repeat(5000)),
        ),
        of("5,000 authors", format!("From: {authors}a@client.example\r\n\r\nx\r\n")),
        of("a comment in comments", format!("From: {open} a@client.example\r\n\r\nx\r\n")),
        of("quotes without end", format!("From: {}\r\n\r\nx\r\n", "\"\\".repeat(50_000))),
        of("NUL in From", format!("From: a@client.example\0.bank.example\r\n\r\n{}", "x\r\n".repeat(100))),
        of("no From", "Subject: x\r\n\r\nx\r\n".to_owned()),
        of("a group", "From: Us: a@client.example, b@bank.example;\r\n\r\nx\r\n".to_owned()),
        of("an encoded domain", "From: a@=?utf-8?q?client=2Eexample?=\r\n\r\nx\r\n".to_owned()),
        of("51 sets of ARC", crate::arc::sets(51)),
        of("50 sets of ARC", crate::arc::sets(50)),
        of("10,000 sets of ARC of one number", format!("{}{PLAIN}", "ARC-Seal: i=1; cv=none\r\n".repeat(10_000))),
        of("20,000 fields", format!("{}{PLAIN}", "X: y\r\n".repeat(20_000))),
        of("a domain of many labels", format!("From: a@{}client.example\r\n\r\nx\r\n", "a.".repeat(100))),
    ]
}

/// The time for which this thread has run. Others on the machine do not count; neither does the hash of the body, which is made
/// elsewhere, and takes as long as the body.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("less than a second"))
}

/// What all checks of the author make of a message, how much time the fastest run took, and how often one asked DNS.
async fn look(message: &str, key: &str) -> (DkimSignatures, Option<DmarcResult>, Duration, usize) {
    let content = Content::new(message.to_owned());
    let (mut fastest, mut last) = (Duration::MAX, None);
    for _ in 0..RUNS {
        let dns = dns(key);
        let spf = spf().await;
        let start = now();
        let dkim = Dkim::new(dns.clone()).verify(&content).await.expect("it is in memory");
        ArcChain::new(dns.clone()).verify(&content).await.expect("it is in memory");
        let dmarc = Dmarc::new(dns.clone()).examine_message(&content, Some(&spf), Some(&dkim)).await;
        fastest = fastest.min(now().saturating_sub(start));
        last = Some((dkim, dmarc.fact().copied(), dns.asked().len()));
    }
    let (dkim, dmarc, asked) = last.expect("it ran");
    (dkim, dmarc, fastest, asked)
}

/// What SPF says of a client that its domain disowns.
async fn spf() -> SpfIdentity {
    let dns = ResolverTable::new().with_txt("client.example", "v=spf1 -all");
    let client = "192.0.2.1".parse().expect("an address");
    let helo = Host::parse("a.example").expect("a host");
    let path = ReversePath::parse("<a@client.example>").expect("a path");
    let seen = smtp_policy::Spf::new(dns).examine_sender(client, &helo, &path).await;
    seen.fact::<SpfIdentity>().expect("it looked").clone()
}

#[tokio::test] // SECURITY D-24: bounded cost; no vector passes for what it is not
async fn d24_no_message_costs_much_more_than_an_honest_one_of_its_size() {
    for (what, message, key) in corpus() {
        let padding = format!("X-Long: {}\r\n", "y".repeat(62)).repeat(message.len() / 72);
        let honest = Signing::default().sign(&format!("{padding}{PLAIN}"));
        let (field, rest) = honest.split_at(honest.find("X-Long:").or(honest.find("From:")).expect("it is there"));
        let honest = format!("{}{rest}", field.repeat(10));
        let (_, result, expected, _) = look(&honest, "").await;
        assert_eq!(result, Some(DmarcResult::Pass), "{what}: an honest one");
        let (dkim, result, cost, asked) = look(&message, &key).await;
        eprintln!("{what}: {:.2} of an honest one, {asked} questions", cost.as_secs_f64() / expected.as_secs_f64());
        assert!(cost <= expected * COST_LIMIT, "{what}: {cost:?} of {expected:?}");
        assert!(asked <= QUESTIONS_LIMIT, "{what}: {asked} questions");
        // RFC 6376 §5.4.2: of two fields the lower one is signed.
        assert_eq!(result == Some(DmarcResult::Pass), what == "two Subject fields", "{what}: {result:?} {dkim:?}");
    }
}
