//! Signatures for tests, by the key of RFC 8032 §7.1, test 1, which is also that of RFC 8463 appendix A.

#![allow(dead_code, reason = "each test program uses a part of it")]

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner};

/// What DNS says of the key.
pub(crate) const KEY: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// The private key.
pub(crate) fn key() -> Ed25519Key {
    let octets = |text: &str| -> Vec<u8> {
        let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect()
    };
    Ed25519Key::from_seed_and_public_key(&octets(SEED), &octets(PUBLIC)).expect("a pair")
}

/// How a message is signed.
pub(crate) struct Signing<'a> {
    pub(crate) domain: &'a str,
    pub(crate) fields: &'a [&'a str],
    pub(crate) is_simple: bool,
    pub(crate) with_length: bool,
    /// Seconds from now until it expires; 0 is never.
    pub(crate) expires: u64,
}

impl Default for Signing<'_> {
    fn default() -> Self {
        Self {
            domain: "client.example",
            fields: &["From", "Subject"],
            is_simple: false,
            with_length: false,
            expires: 0,
        }
    }
}

impl Signing<'_> {
    /// The field for that message, with its line break.
    pub(crate) fn field(&self, message: &str) -> String {
        let form = if self.is_simple { Canonicalization::Simple } else { Canonicalization::Relaxed };
        let signer = DkimSigner::from_key(key())
            .domain(self.domain)
            .selector("ed")
            .headers(self.fields.iter().copied())
            .header_canonicalization(form)
            .body_canonicalization(form)
            .body_length(self.with_length)
            .expiration(self.expires);
        signer.sign(message.as_bytes()).expect("it has these fields").to_header()
    }

    /// The message with the field in front.
    pub(crate) fn sign(&self, message: &str) -> String {
        self.field(message) + message
    }
}
