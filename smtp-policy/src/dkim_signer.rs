//! Our own signatures on what leaves (PRACTICES S39; RFC 6376 §5, RFC 8463).

use std::fmt;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::dkim::Canonicalization;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use smtp_core::{DnsName, Domain, HeaderField};
use thiserror::Error;

use crate::body_hash::{BodyHasher, Form};
use crate::clock::Clock;
use crate::header::read_section;
use crate::signature::Signed;

/// The least bits of an RSA key that we sign with (RFC 8301 §3.2): 2048.
const RSA_BITS_LEAST: usize = 2048;

/// Fields that are signed where they are there, and once more, so that nobody adds another (RFC 6376 §5.4.1, §8.15).
const FIELDS: [&str; 18] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "sender",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "auto-submitted",
];

/// Why a key cannot be used to sign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DkimKeyError {
    /// It is no PEM file with a private key.
    #[error("no private key in PEM")]
    Pem,
    /// It is neither an Ed25519 key nor an RSA key of 2048 bits or more (RFC 8301 §3.2).
    #[error("neither an Ed25519 key nor an RSA key of at least 2048 bits")]
    Kind,
    /// The selector is no part of a domain name.
    #[error("`{0}` is no selector")]
    Selector(String),
}

/// A private key and the selector under which its public half is published.
pub struct DkimKey {
    selector: DnsName,
    secret: Secret,
    valid: Range<Option<SystemTime>>,
}

enum Secret {
    Rsa(RsaKey<Sha256>),
    Ed25519(Ed25519Key),
}

impl DkimKey {
    /// Reads a key from a PEM file, PKCS #8 or, for RSA, PKCS #1.
    ///
    /// # Errors
    /// [`DkimKeyError`].
    pub fn from_pem(selector: &str, pem: &[u8]) -> Result<Self, DkimKeyError> {
        let selector = DnsName::parse(selector).map_err(|_| DkimKeyError::Selector(selector.to_owned()))?;
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| DkimKeyError::Pem)?;
        let ed25519 = match &der {
            PrivateKeyDer::Pkcs8(der) => Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der()).ok(),
            _ => None,
        };
        let secret = match ed25519 {
            Some(key) => Secret::Ed25519(key),
            None => Secret::Rsa(RsaKey::from_key_der(der).map_err(|_| DkimKeyError::Kind)?),
        };
        // A signature is as long as the key.
        if let Secret::Rsa(key) = &secret
            && key.sign(&b"x"[..]).map_err(|_| DkimKeyError::Kind)?.len() * 8 < RSA_BITS_LEAST
        {
            return Err(DkimKeyError::Kind);
        }
        Ok(Self { selector, secret, valid: None..None })
    }

    /// Signs with it from that time on: the record has been published before, and is known by then.
    #[must_use]
    pub fn valid_from(mut self, time: SystemTime) -> Self {
        self.valid.start = Some(time);
        self
    }

    /// Signs with it until that time, and not at it. The record stays published for a week after, because mail may be on its way so
    /// long.
    #[must_use]
    pub fn valid_until(mut self, time: SystemTime) -> Self {
        self.valid.end = Some(time);
        self
    }

    fn is_valid_at(&self, time: SystemTime) -> bool {
        self.valid.start.is_none_or(|start| start <= time) && self.valid.end.is_none_or(|end| time < end)
    }

    /// What the `TXT` record of `selector._domainkey.domain` must say (RFC 6376 §3.6.1).
    pub fn record(&self) -> String {
        match &self.secret {
            Secret::Rsa(key) => {
                format!("v=DKIM1; k=rsa; p={}", BASE64_STANDARD.encode(public_key_info(&key.public_key())))
            }
            Secret::Ed25519(key) => format!("v=DKIM1; k=ed25519; p={}", BASE64_STANDARD.encode(key.public_key())),
        }
    }

    /// The selector.
    pub fn selector(&self) -> &str {
        self.selector.as_str()
    }

    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.secret, Secret::Rsa(_))
    }

    /// The name of its algorithm (RFC 6376 §3.3, RFC 8463 §3).
    pub(crate) fn algorithm(&self) -> &'static str {
        if self.is_rsa() { "rsa-sha256" } else { "ed25519-sha256" }
    }

    /// A field whose value ends with the signature of what is covered, and of itself as far as that (RFC 6376 §3.7), relaxed.
    pub(crate) fn signed_field<'a>(
        &self,
        name: &'a str,
        unsigned: &'a str,
        covered: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> io::Result<HeaderField> {
        let covered = covered.chain([(name.as_bytes(), unsigned.as_bytes())]);
        let mut octets = Vec::new();
        Canonicalization::Relaxed.canonicalize_headers(covered, &mut octets);
        let signature = BASE64_STANDARD.encode(self.sign(&octets)?);
        // White space in it means nothing, and lets the field be folded.
        let pieces: Vec<String> =
            signature.as_bytes().chunks(64).map(|piece| String::from_utf8_lossy(piece).into()).collect();
        HeaderField::new(name, &format!("{unsigned}{}", pieces.join(" "))).map_err(io::Error::other)
    }

    fn sign(&self, octets: &[u8]) -> io::Result<Vec<u8>> {
        match &self.secret {
            Secret::Rsa(key) => key.sign(octets),
            Secret::Ed25519(key) => key.sign(octets),
        }
        .map_err(io::Error::other)
    }
}

/// The key itself appears nowhere.
impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimKey").field("selector", &self.selector).finish_non_exhaustive()
    }
}

/// An RSA public key as other implementations want it: with the name of its kind (RFC 5280 §4.1).
fn public_key_info(key: &[u8]) -> Vec<u8> {
    const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0];
    let bits = der(0x03, &[&[0], key].concat());
    der(0x30, &[&RSA_ENCRYPTION, &bits[..]].concat())
}

fn der(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|&octet| octet != 0).unwrap_or(length.len() - 1);
    let mut octets = vec![kind];
    match &length[significant..] {
        [short @ 0..=0x7f] => octets.push(*short),
        long => {
            // At most eight octets.
            octets.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            octets.extend_from_slice(long);
        }
    }
    octets.extend_from_slice(content);
    octets
}

/// A message as it leaves: its header section, and the hash of its body, relaxed.
pub(crate) struct Unsigned {
    pub(crate) section: Vec<u8>,
    body_hash: String,
}

impl Unsigned {
    /// Reads it to its end. It blocks, as reading does; the body passes in pieces.
    pub(crate) fn read(message: impl Read) -> io::Result<Self> {
        let mut message = BufReader::new(message);
        let section = read_section(&mut message)?;
        let mut body = BodyHasher::new(Form::Relaxed, None);
        let mut piece = vec![0; 65_536];
        loop {
            let length = message.read(&mut piece)?;
            if length == 0 {
                break;
            }
            body.update(&piece[..length]);
        }
        Ok(Self { section, body_hash: BASE64_STANDARD.encode(body.finish().digest) })
    }

    /// A signature of the message: a field of that name, whose value begins with these tags. `also` are names of fields that are
    /// covered as often as they are there.
    pub(crate) fn signature(
        &self,
        key: &DkimKey,
        (name, first_tags): (&str, &str),
        domain: &Domain,
        time: SystemTime,
        also: &[&str],
    ) -> io::Result<HeaderField> {
        let fields = Signed::new(&self.section);
        // One more of each that is there; `From` and `Subject` in any case.
        let times = |name: &str| match fields.named(name).count() {
            0 if !["from", "subject", "reply-to"].contains(&name) => 0,
            count => count + 1,
        };
        let oversigned = FIELDS.iter().map(|name| (*name, times(name)));
        let counted = also.iter().map(|name| (*name, fields.named(name).count()));
        let names: Vec<String> =
            oversigned.chain(counted).flat_map(|(name, times)| std::iter::repeat_n(name.to_owned(), times)).collect();
        let unsigned = format!(
            "{first_tags}; a={}; c=relaxed/relaxed; d={domain}; s={}; t={}; h={}; bh={}; b=",
            key.algorithm(),
            key.selector,
            seconds(time),
            names.join(" : "),
            self.body_hash
        );
        let covered = fields.chosen(&names);
        key.signed_field(name, &unsigned, covered.iter().map(|field| (field.name, field.value)))
    }
}

/// A time in a tag (RFC 6376 §3.5).
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Signs messages of one domain, by each of its keys: an RSA key for all, and an Ed25519 key for those who know it.
///
/// Both forms are relaxed. The fields by which people and programs know a message are signed once more than they are there, so
/// that nobody can add another. To change a key, publish the new one under another selector first, give both their times
/// ([`DkimKey::valid_from`], [`DkimKey::valid_until`]), and leave the record of the old one for a week.
///
/// [`DkimSigning`](crate::DkimSigning) uses it where a queue asks.
#[derive(Debug)]
pub struct DkimSigner {
    domain: Domain,
    keys: Vec<DkimKey>,
    clock: Clock,
}

impl DkimSigner {
    /// For a domain, with one key.
    pub fn new(domain: &Domain, key: DkimKey) -> Self {
        Self { domain: domain.to_ascii(), keys: vec![key], clock: Clock::default() }
    }

    /// With another key.
    #[must_use]
    pub fn with_key(mut self, key: DkimKey) -> Self {
        self.keys.push(key);
        self
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    /// Whose signatures they are.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Now, and the keys that are valid.
    pub(crate) fn valid_keys(&self) -> (SystemTime, impl Iterator<Item = &DkimKey>) {
        let now = self.clock.now();
        (now, self.keys.iter().filter(move |key| key.is_valid_at(now)))
    }

    /// The fields to put in front of a message, one for each key that is valid now. The message must be read here as it leaves, as
    /// [`Message::reader`](smtp_core::Message::reader) gives it: a field that is added later breaks the signature. It blocks, as
    /// reading does, and its body passes in pieces.
    ///
    /// # Errors
    /// What reading gave. A message without `From` cannot be signed, and is [`io::ErrorKind::InvalidData`].
    pub fn sign(&self, message: impl Read) -> io::Result<Vec<HeaderField>> {
        self.sign_unsigned(&Unsigned::read(message)?)
    }

    pub(crate) fn sign_unsigned(&self, message: &Unsigned) -> io::Result<Vec<HeaderField>> {
        if Signed::new(&message.section).named("From").next().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no From field"));
        }
        let (now, keys) = self.valid_keys();
        keys.map(|key| message.signature(key, ("DKIM-Signature", "v=1"), &self.domain, now, &[])).collect()
    }
}
