//! The client of SCRAM (RFC 5802 §3), written from the RFC and not from the server, so that both can be wrong but not in
//! the same way.

use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::talk::{Talk, base64, from_base64};

fn hmac(is_sha1: bool, key: &[u8], text: &[u8]) -> Vec<u8> {
    if is_sha1 {
        let mac = Hmac::<Sha1>::new_from_slice(key).expect("any length");
        mac.chain_update(text).finalize().into_bytes().to_vec()
    } else {
        let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.chain_update(text).finalize().into_bytes().to_vec()
    }
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(left, right)| left ^ right).collect()
}

/// `Hi()`: RFC 5802 §2.2, as it stands there.
fn salted(is_sha1: bool, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut last = hmac(is_sha1, password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
    let mut sum = last.clone();
    for _ in 1..iterations {
        last = hmac(is_sha1, password.as_bytes(), &last);
        sum = xor(&sum, &last);
    }
    sum
}

fn attribute(challenge: &str, name: char) -> &str {
    let found = challenge.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {challenge}"))
}

/// One login.
pub(crate) struct Login<'a> {
    pub(crate) mechanism: &'a str,
    /// `n,,`
    pub(crate) header: &'a str,
    /// Of the TLS connection; empty where the header says that there is none.
    pub(crate) binding: &'a [u8],
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

/// What the server said to the last response, and its challenge.
pub(crate) struct Outcome {
    pub(crate) reply: String,
    pub(crate) challenge: String,
    /// Whether it proved that it knows the user.
    pub(crate) is_signed: bool,
}

impl Login<'_> {
    /// Where the first response is refused, the challenge is empty.
    pub(crate) fn run(&self, talk: &mut Talk) -> Outcome {
        let is_sha1 = self.mechanism == "SCRAM-SHA-1";
        let bare = format!("n={},r=clientnonce", self.user);
        let reply = talk.line(&format!("AUTH {} {}", self.mechanism, base64(format!("{}{bare}", self.header))));
        let Some(challenge) = reply.trim_end().strip_prefix("334 ").map(from_base64) else {
            return Outcome { reply, challenge: String::new(), is_signed: false };
        };
        assert!(attribute(&challenge, 'r').starts_with("clientnonce"), "{challenge}");
        let salt = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, attribute(&challenge, 's'));
        let iterations = attribute(&challenge, 'i').parse().expect("a number");
        let salted = salted(is_sha1, self.password, &salt.expect("Base64"), iterations);
        let key = hmac(is_sha1, &salted, b"Client Key");
        let stored = if is_sha1 { Sha1::digest(&key).to_vec() } else { Sha256::digest(&key).to_vec() };
        let binding = base64([self.header.as_bytes(), self.binding].concat());
        let last = format!("c={binding},r={}", attribute(&challenge, 'r'));
        let message = format!("{bare},{challenge},{last}");
        let proof = base64(xor(&key, &hmac(is_sha1, &stored, message.as_bytes())));
        let mut reply = talk.line(&base64(format!("{last},p={proof}")));
        let signature = hmac(is_sha1, &hmac(is_sha1, &salted, b"Server Key"), message.as_bytes());
        let is_signed = reply.trim_end() == format!("334 {}", base64(format!("v={}", base64(signature))));
        if is_signed {
            reply = talk.line("");
        }
        Outcome { reply, challenge, is_signed }
    }
}
