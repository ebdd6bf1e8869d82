//! What signatures of DKIM and ARC have in common: the key in DNS, the fields that are signed, the body.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use mail_auth::common::crypto::Algorithm;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::Canonicalization;
use smtp_core::{Answer, Content, DnsName, Resolver};

use crate::body_hash::{BodyHash, BodyHasher, Form};
use crate::header::{Field, fields};

/// Keys of RSA that are used, in bits: smaller ones prove nothing (RFC 8301 §3.2), larger ones cost too much (SECURITY D-24).
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=4096;

/// Why a signature does not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not what was signed.
    Broken(&'static str),
    /// It cannot be used, now and later.
    Unusable(&'static str),
    /// DNS did not answer.
    Unknown,
}

/// The body and the fields of a message, read once.
pub(crate) struct Signed<'a> {
    fields: Vec<Field<'a>>,
    /// Where the fields of a name stand, by its small letters.
    places: HashMap<Vec<u8>, Vec<usize>>,
}

impl<'a> Signed<'a> {
    pub(crate) fn new(section: &'a [u8]) -> Self {
        let fields: Vec<_> = fields(section).collect();
        let mut places: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (place, field) in fields.iter().enumerate() {
            places.entry(field.name.to_ascii_lowercase()).or_default().push(place);
        }
        Self { fields, places }
    }

    /// The fields of that name, from the top.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = Field<'a>> {
        let places = self.places.get(name.to_ascii_lowercase().as_bytes()).map(Vec::as_slice).unwrap_or_default();
        places.iter().map(|place| self.fields[*place])
    }

    /// The fields that a list of names means: those of a name from the bottom (RFC 6376 §5.4.2).
    pub(crate) fn chosen(&self, names: &[String]) -> Vec<Field<'a>> {
        let mut used: HashMap<Vec<u8>, usize> = HashMap::new();
        let choose = |name: &String| {
            let name = name.trim().to_ascii_lowercase().into_bytes();
            let places = self.places.get(&name)?;
            let used = used.entry(name).or_default();
            *used += 1;
            places.len().checked_sub(*used).map(|place| self.fields[places[place]])
        };
        names.iter().filter_map(choose).collect()
    }
}

/// The value of a signature field as it was signed: its tag `b` empty, without its last line break (RFC 6376 §3.7).
pub(crate) fn without_signature(value: &[u8]) -> Vec<u8> {
    let value = value.strip_suffix(b"\r\n").unwrap_or(value);
    let tags = value.split(|&octet| octet == b';').map(|tag| {
        let equals = tag.iter().position(|&octet| octet == b'=');
        match equals {
            Some(equals) if tag[..equals].trim_ascii() == b"b" => &tag[..=equals],
            _ => tag,
        }
    });
    tags.collect::<Vec<_>>().join(&b';')
}

/// The value of a tag (RFC 6376 §3.2).
pub(crate) fn tag<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    value.split(|&octet| octet == b';').find_map(|tag| {
        let equals = tag.iter().position(|&octet| octet == b'=')?;
        (tag[..equals].trim_ascii() == name.as_bytes()).then(|| tag[equals + 1..].trim_ascii())
    })
}

/// Whether the value is a list of tags, none of them twice (RFC 6376 §3.2): so that nobody reads it otherwise than we do.
pub(crate) fn is_tag_list(value: &[u8]) -> bool {
    let value = value.trim_ascii_end();
    let mut names = HashSet::new();
    value.strip_suffix(b";").unwrap_or(value).split(|&octet| octet == b';').all(|tag| {
        let name = tag.split(|&octet| octet == b'=').next().unwrap_or_default();
        let (has_value, name) = (name.len() < tag.len(), name.trim_ascii());
        let is_name = name.first().is_some_and(u8::is_ascii_alphabetic)
            && name.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'_');
        has_value && is_name && names.insert(name)
    })
}

/// The key in DNS of a signature.
pub(crate) struct Key {
    key: DomainKey,
    /// It signs for its domain and for none below it (RFC 6376 §3.6.1, `t=s`).
    pub(crate) is_for_domain_only: bool,
}

/// Verifies what was signed with the key of a domain. The last field is the signature itself.
pub(crate) async fn verify(
    resolver: &dyn Resolver,
    (selector, domain): (&str, &str),
    algorithm: Algorithm,
    canonicalization: Canonicalization,
    signed: &[(&[u8], &[u8])],
    signature: &[u8],
) -> Result<Key, Flaw> {
    if algorithm == Algorithm::RsaSha1 {
        return Err(Flaw::Unusable("rsa-sha1 proves nothing"));
    }
    let found = key(resolver, selector, domain).await?;
    if algorithm == Algorithm::RsaSha256 && !RSA_BITS.contains(&found.key.p.public_key_bits()) {
        return Err(Flaw::Unusable("key too small or too large"));
    }
    let verified = found.key.p.verify(&mut signed.iter().copied(), signature, canonicalization, algorithm);
    verified.map_err(|_| Flaw::Broken("signature does not fit"))?;
    Ok(found)
}

async fn key(resolver: &dyn Resolver, selector: &str, domain: &str) -> Result<Key, Flaw> {
    let no_name = Flaw::Unusable("no name of a key");
    let domain = idna::domain_to_ascii(domain).map_err(|_| no_name.clone())?;
    let name = DnsName::parse(format!("{selector}._domainkey.{domain}")).map_err(|_| no_name)?;
    match resolver.txt(&name).await {
        Answer::Found { data, .. } => {
            data.iter().find_map(|text| usable_key(text)).ok_or(Flaw::Unusable("no key that can be used"))
        }
        Answer::Absent => Err(Flaw::Unusable("no key")),
        Answer::Unknown => Err(Flaw::Unknown),
    }
}

/// The bits of a published key, where it can be used for mail.
pub(crate) fn key_bits(text: &[u8]) -> Option<usize> {
    usable_key(text).map(|found| found.key.p.public_key_bits())
}

/// A key that is for mail and for SHA-256, where it says what it is for (RFC 6376 §3.6.1).
fn usable_key(text: &[u8]) -> Option<Key> {
    let is_for = |name: &str, wanted: &[&[u8]]| match tag(text, name) {
        Some(list) => list.split(|&octet| octet == b':').any(|item| wanted.contains(&item.trim_ascii())),
        None => true,
    };
    let key = DomainKey::parse(text).ok().filter(|_| is_for("s", &[b"*", b"email"]) && is_for("h", &[b"sha256"]))?;
    Some(Key { key, is_for_domain_only: tag(text, "t").is_some() && is_for("t", &[b"s"]) })
}

/// One way in which signatures of a message hash its body.
pub(crate) type BodyForm = (Form, Option<u64>);

pub(crate) fn form(canonicalization: Canonicalization) -> Form {
    match canonicalization {
        Canonicalization::Simple => Form::Simple,
        Canonicalization::Relaxed => Form::Relaxed,
    }
}

/// Hashes the body in all these ways in one pass, beside the tasks.
pub(crate) async fn body_hashes(
    content: &Content,
    header_octets: usize,
    forms: Vec<BodyForm>,
) -> io::Result<Vec<(BodyForm, BodyHash)>> {
    let content = content.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut hashers: Vec<_> = forms.iter().map(|(form, limit)| BodyHasher::new(*form, *limit)).collect();
        let mut reader = content.reader()?;
        // The header section and the empty line behind it.
        io::copy(&mut (&mut reader).take(header_octets as u64 + 2), &mut io::sink())?;
        let mut piece = vec![0; 65_536];
        loop {
            let length = reader.read(&mut piece)?;
            if length == 0 {
                break;
            }
            for hasher in &mut hashers {
                hasher.update(&piece[..length]);
            }
        }
        Ok(forms.into_iter().zip(hashers.into_iter().map(BodyHasher::finish)).collect())
    });
    read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
