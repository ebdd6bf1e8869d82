//! Our own signatures, verified.

use smtp_core::{Content, Domain, ResolverTable};
use smtp_policy::{Dkim, DkimKey, DkimKeyError, DkimResult, DkimSigner};

const RSA: &[u8] = include_bytes!("../data/rsa2048.pem");
const RSA_1024: &[u8] = include_bytes!("../data/rsa1024.pem");
const ED25519: &[u8] = include_bytes!("../data/ed25519.pem");
const EC: &[u8] = include_bytes!("../data/p256.pem");

const MESSAGE: &str = "Received: from x\r\nFrom: Me\r\n <me@client.example>\r\nTo: you@example.org\r\nsubject:  Hello \t you\r\n\
                       Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\nHello  you \r\n\r\n \r\n";

fn signer() -> (DkimSigner, ResolverTable) {
    let (rsa, ed25519) = (DkimKey::from_pem("r1", RSA), DkimKey::from_pem("e1", ED25519));
    let (rsa, ed25519) = (rsa.expect("a key"), ed25519.expect("a key"));
    let dns = ResolverTable::new()
        .with_txt("r1._domainkey.client.example", rsa.record())
        .with_txt("e1._domainkey.client.example", ed25519.record());
    let domain: Domain = "client.example".parse().expect("a domain");
    (DkimSigner::new(&domain, rsa).with_key(ed25519), dns)
}

async fn results(dns: ResolverTable, message: String) -> Vec<DkimResult> {
    let verified = Dkim::new(dns).verify(&Content::new(message)).await.expect("it is in memory");
    verified.0.iter().map(|signature| signature.result).collect()
}

fn signed(message: &str) -> (String, ResolverTable) {
    let (signer, dns) = signer();
    let fields = signer.sign(message.as_bytes()).expect("it has an author");
    let fields: String = fields.iter().map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
    assert!(fields.lines().all(|line| line.len() <= 78), "{fields}");
    (fields + message, dns)
}

#[tokio::test] // PRACTICES S39; RFC 6376 §5, RFC 8463
async fn s39_a_message_is_signed_by_both_keys_and_both_verify() {
    for message in [MESSAGE, "From: me@client.example\r\n\r\n", "From: me@client.example\r\n\r\nno line end"] {
        let (signed, dns) = signed(message);
        assert_eq!(results(dns, signed).await, [DkimResult::Pass; 2], "{message}");
    }
}

/// Signed with the same keys by dkimpy 1.1, in each pair of forms.
#[tokio::test] // PRACTICES S39; SECURITY T18
async fn s39_signatures_of_another_implementation_verify() {
    let (_, dns) = signer();
    assert_eq!(results(dns, include_str!("../data/dkimpy.eml").to_owned()).await, [DkimResult::Pass; 4]);
}

#[tokio::test] // RFC 6376 §8.15; SECURITY D-24
async fn d24_nobody_can_add_a_field_or_change_one() {
    for (from, to, expected) in [
        ("Received: from x", "Received: from y", DkimResult::Pass),
        ("Received: from x", "X-Other: y", DkimResult::Pass),
        ("Received: from x", "Subject: other", DkimResult::Fail),
        ("Received: from x", "From: other@client.example", DkimResult::Fail),
        ("Received: from x", "Reply-To: other@client.example", DkimResult::Fail),
        ("Received: from x", "To: other@example.org", DkimResult::Fail),
        ("Hello \t you", "Hello me", DkimResult::Fail),
        ("Hello  you", "Hello me", DkimResult::Fail),
    ] {
        let (signed, dns) = signed(MESSAGE);
        assert!(signed.contains(from));
        assert_eq!(results(dns, signed.replacen(from, to, 1)).await, [expected; 2], "{to}");
    }
}

#[test] // RFC 8301 §3.2
fn keys_that_cannot_be_used() {
    for (selector, pem, expected) in [
        ("r1", RSA_1024, DkimKeyError::Kind),
        ("r1", EC, DkimKeyError::Kind),
        ("r1", b"nothing", DkimKeyError::Pem),
        ("r 1", RSA, DkimKeyError::Selector("r 1".to_owned())),
    ] {
        assert_eq!(DkimKey::from_pem(selector, pem).err(), Some(expected));
    }
    let key = DkimKey::from_pem("e1", ED25519).expect("a key");
    assert_eq!(format!("{key:?}"), "DkimKey { selector: e1, .. }", "no secret in a log");
}

#[test] // RFC 5322 §3.6
fn a_message_without_an_author_is_not_signed() {
    let error = signer().0.sign(&b"Subject: x\r\n\r\nx"[..]).err();
    assert_eq!(error.map(|error| error.kind()), Some(std::io::ErrorKind::InvalidData));
}
