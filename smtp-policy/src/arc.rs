//! What those who handed the message on saw of it, sealed (PRACTICES S39; RFC 8617).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use mail_auth::arc::{ChainValidation, Seal, Signature};
use mail_auth::dkim::Canonicalization;
use smtp_core::{Content, Domain, Resolver, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::Finding;
use crate::header::{Field, header_section};
use crate::practice::{ForRoleMailboxes, Practice};
use crate::signature::{Flaw, Signed, body_hashes, form, is_tag_list, tag, verify, without_signature};

/// A chain that is there holds. It refuses nobody: who believes whom is for others to say (RFC 8617 §7.2).
const SEALED: Practice = Practice::new("arc-chain", "S39", "The chain of those who handed the message on holds")
    .for_role_mailboxes(ForRoleMailboxes::Tagged);

/// Sets of fields in a chain (RFC 8617 §4.2.1): 50.
pub(crate) const SETS_LIMIT: usize = 50;

pub(crate) const RESULTS: &str = "ARC-Authentication-Results";
pub(crate) const SIGNATURE: &str = "ARC-Message-Signature";
pub(crate) const SEAL: &str = "ARC-Seal";

/// How a chain came out (RFC 8617 §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArcResult {
    /// There is none.
    None,
    /// It holds, back to the first.
    Pass,
    /// It does not, and never will.
    Fail,
    /// DNS did not answer.
    TempError,
}

impl ArcResult {
    /// What a result of `Authentication-Results`, in lower case, says of the chain; `None` where it is about something else.
    pub(crate) fn read(result: &str) -> Option<Self> {
        let word = result.strip_prefix("arc=")?.split_whitespace().next()?;
        [Self::None, Self::Pass, Self::Fail, Self::TempError].into_iter().find(|of| of.as_str() == word)
    }

    /// The word for it in `Authentication-Results`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
        }
    }
}

/// A chain: what [`ArcChain`] leaves for other checks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// How it came out.
    pub result: ArcResult,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Who sealed, the first one first, where the chain holds.
    pub sealers: Vec<Domain>,
    /// What the first of them saw, where the chain holds: the value of its `ARC-Authentication-Results`, unfolded.
    pub first_seen: String,
}

impl Sealed {
    fn new(result: ArcResult, reason: &'static str) -> Self {
        Self { result, reason, sealers: Vec::new(), first_seen: String::new() }
    }
}

/// Verifies the authenticated received chain of a message: the newest signature, and every seal.
///
/// ```
/// use smtp_core::{Content, ResolverTable};
/// use smtp_policy::{ArcChain, ArcResult};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let direct = Content::new("From: me@client.example\r\n\r\nHello\r\n");
/// assert_eq!(ArcChain::new(ResolverTable::new()).verify(&direct).await?.result, ArcResult::None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ArcChain {
    resolver: Arc<dyn Resolver>,
}

/// The fields of one hop.
struct Set<'a> {
    results: Field<'a>,
    signature: Field<'a>,
    seal: Field<'a>,
}

impl ArcChain {
    /// With keys from this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver) }
    }

    /// How the chain of a message comes out.
    ///
    /// # Errors
    /// What reading the content gave.
    pub async fn verify(&self, content: &Content) -> io::Result<Sealed> {
        let section = header_section(content).await?;
        let message = Signed::new(&section);
        let sets = match sets(&message) {
            Ok(sets) => sets,
            Err(reason) => return Ok(Sealed::new(ArcResult::Fail, reason)),
        };
        let Some(newest) = sets.last() else { return Ok(Sealed::new(ArcResult::None, "no chain")) };
        let seals = match seals(&sets) {
            Ok(seals) => seals,
            Err(reason) => return Ok(Sealed::new(ArcResult::Fail, reason)),
        };
        let Some(signature) = read_signature(newest.signature) else {
            return Ok(Sealed::new(ArcResult::Fail, "signature cannot be read"));
        };
        let form = (form(signature.cb), None);
        let hashes = body_hashes(content, section.len(), vec![form]).await?;
        if hashes.iter().any(|(_, hash)| hash.digest != signature.bh) {
            return Ok(Sealed::new(ArcResult::Fail, "body was changed"));
        }
        Ok(match self.verify_all(&message, &sets, &signature, &seals).await {
            Err(Flaw::Unknown) => Sealed::new(ArcResult::TempError, "no answer for a key"),
            Err(Flaw::Broken(reason) | Flaw::Unusable(reason)) => Sealed::new(ArcResult::Fail, reason),
            Ok(()) => {
                let sealers = seals.iter().filter_map(|seal| Domain::parse(&seal.d).ok()).collect();
                let first = sets.first().map(|set| String::from_utf8_lossy(set.results.value).replace("\r\n", ""));
                Sealed { result: ArcResult::Pass, reason: "verified", sealers, first_seen: first.unwrap_or_default() }
            }
        })
    }

    /// The newest signature, then the seals from the newest on (RFC 8617 §5.2).
    async fn verify_all(
        &self,
        message: &Signed<'_>,
        sets: &[Set<'_>],
        signature: &Signature,
        seals: &[Seal],
    ) -> Result<(), Flaw> {
        let written = |field: &Field<'_>| (field.name_as_written.to_vec(), field.value.to_vec());
        let last = |field: &Field<'_>| (field.name_as_written.to_vec(), without_signature(field.value));
        if let Some(newest) = sets.last() {
            let mut covered: Vec<_> = message.chosen(&signature.h).iter().map(written).collect();
            covered.push(last(&newest.signature));
            let key = (signature.s.as_str(), signature.d.as_str());
            verify(&*self.resolver, key, signature.a, signature.ch, &borrowed(&covered), &signature.b).await?;
        }
        for (place, seal) in seals.iter().enumerate().rev() {
            let before = sets[..place].iter().flat_map(|set| [set.results, set.signature, set.seal]);
            let mut covered: Vec<_> = before.map(|field| written(&field)).collect();
            let own = &sets[place];
            covered.extend([written(&own.results), written(&own.signature), last(&own.seal)]);
            let key = (seal.s.as_str(), seal.d.as_str());
            verify(&*self.resolver, key, seal.a, Canonicalization::Relaxed, &borrowed(&covered), &seal.b).await?;
        }
        Ok(())
    }

    /// What is to be said of a message.
    pub async fn examine_message(&self, content: &Content) -> Observation {
        let Ok(sealed) = self.verify(content).await else {
            return Finding::unknown(SEALED.name(), "cannot read the content").into();
        };
        let seen = Observation::new().with_result(match sealed.result {
            ArcResult::None | ArcResult::Pass => format!("arc={}", sealed.result.as_str()),
            result => format!("arc={} reason=\"{}\"", result.as_str(), sealed.reason),
        });
        let seen = match sealed.result {
            ArcResult::None => seen,
            ArcResult::Pass => seen.with(Finding::pass(SEALED.name(), format!("{} seals", sealed.sealers.len()))),
            ArcResult::Fail => seen.with(Finding::fail(SEALED.name(), sealed.reason)),
            ArcResult::TempError => seen.with(Finding::unknown(SEALED.name(), sealed.reason)),
        };
        seen.with_fact(sealed)
    }
}

fn borrowed(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect()
}

/// The sets in the order of their numbers, of which none may be left out or given twice.
fn sets<'a>(message: &Signed<'a>) -> Result<Vec<Set<'a>>, &'static str> {
    let numbered = |name: &str| {
        let mut found = BTreeMap::new();
        for field in message.named(name).take(SETS_LIMIT + 1) {
            let number = number(field.value).ok_or("number out of range")?;
            if found.insert(number, field).is_some() {
                return Err("number given twice");
            }
        }
        Ok(found)
    };
    let (results, signatures, seals) = (numbered(RESULTS)?, numbered(SIGNATURE)?, numbered(SEAL)?);
    let count = results.len().max(signatures.len()).max(seals.len());
    let set = |number| {
        let (results, signature, seal) = (results.get(&number)?, signatures.get(&number)?, seals.get(&number)?);
        Some(Set { results: *results, signature: *signature, seal: *seal })
    };
    (1..=count).map(|number| set(number).ok_or("a field of a set is missing")).collect()
}

/// The number of the set that a field belongs to: 1 to 50 (RFC 8617 §4.2.1).
pub(crate) fn number(value: &[u8]) -> Option<usize> {
    let number = std::str::from_utf8(tag(value, "i")?).ok()?.parse().ok()?;
    (1..=SETS_LIMIT).contains(&number).then_some(number)
}

/// The seals, each of which must say that those before it held.
fn seals(sets: &[Set<'_>]) -> Result<Vec<Seal>, &'static str> {
    let read = |(place, set): (usize, &Set<'_>)| {
        let is_whole = is_tag_list(set.seal.value) && has_tags(set.seal, &["a", "b", "cv", "d", "i", "s"]);
        let seal = Seal::parse(set.seal.value).ok().filter(|_| is_whole).ok_or("seal cannot be read")?;
        let expected = if place == 0 { ChainValidation::None } else { ChainValidation::Pass };
        if seal.cv == expected { Ok(seal) } else { Err("a seal says that the chain does not hold") }
    };
    sets.iter().enumerate().map(read).collect()
}

/// Whether these tags are there, in small letters: none of them has a default (RFC 8617 §4.1.2, §4.1.3).
fn has_tags(field: Field<'_>, names: &[&str]) -> bool {
    names.iter().all(|name| tag(field.value, name).is_some())
}

/// A signature covers no seal (RFC 8617 §4.1.2), and the whole body.
fn read_signature(field: Field<'_>) -> Option<Signature> {
    let is_whole = is_tag_list(field.value) && has_tags(field, &["a", "b", "bh", "d", "h", "i", "s"]);
    let signature = Signature::parse(field.value).ok().filter(|_| is_whole)?;
    let covers_seal = signature.h.iter().any(|name| name.trim().eq_ignore_ascii_case(SEAL));
    (!covers_seal && tag(field.value, "l").is_none()).then_some(signature)
}

impl fmt::Debug for ArcChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArcChain").finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for ArcChain {
    fn practices(&self) -> &[Practice] {
        &[SEALED]
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    fn asks_dns(&self) -> bool {
        true
    }

    fn examines_submission(&self) -> bool {
        false
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        match subject.content() {
            Some(content) => self.examine_message(content).await,
            None => Observation::new(),
        }
    }
}
