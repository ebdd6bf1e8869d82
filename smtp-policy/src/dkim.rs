//! Who vouches for the message? (PRACTICES S39; RFC 6376, RFC 8301, RFC 8463)

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mail_auth::common::crypto::Algorithm;
use mail_auth::dkim::Signature;
use smtp_core::{Content, Domain, Resolver, async_trait};

use crate::auth_results::property_value;
use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::header::{Field, header_section};
use crate::practice::{ForRoleMailboxes, Practice};
use crate::signature::{BodyForm, Flaw, Signed, body_hashes, form, is_tag_list, tag, verify, without_signature};

/// A signature verifies. What is not signed, or no more fits, is as good as unsigned (RFC 6376 §6.1).
const SIGNED: Practice = Practice::new("dkim-signed", "S39", "A domain vouches for the message by a signature")
    .fails([Action::Observe; 3], [0; 3])
    .for_role_mailboxes(ForRoleMailboxes::Tagged);

/// Signatures that are looked at (SECURITY D-24): 10. RFC 6376 §6.1 lets a verifier set a limit.
pub const DKIM_SIGNATURES_LIMIT: usize = 10;

/// The field.
const FIELD: &str = "DKIM-Signature";

/// How a signature came out (RFC 8601 §2.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DkimResult {
    /// It verifies.
    Pass,
    /// It does not fit the message.
    Fail,
    /// It verifies, and covers too little of the message to be believed.
    Policy,
    /// It has expired.
    Neutral,
    /// DNS did not answer.
    TempError,
    /// It cannot be read or used.
    PermError,
}

impl DkimResult {
    /// The word for it in `Authentication-Results`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// One signature of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DkimSignature {
    /// Whose it is, the tag `d`; `None`, where it is no domain.
    pub domain: Option<Domain>,
    /// The name of the key, the tag `s`.
    pub selector: String,
    /// How it came out.
    pub result: DkimResult,
    /// Why, in a few words.
    pub reason: &'static str,
    algorithm: &'static str,
    /// The start of the signature, which tells several apart (RFC 6008 §4).
    start: String,
}

/// The signatures of the message, from the top, ten at most: what [`Dkim`] leaves for other checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DkimSignatures(pub Vec<DkimSignature>);

/// Verifies the `DKIM-Signature` fields of a message, ten at most.
///
/// `rsa-sha256` with keys of 1024 to 4096 bits, and `ed25519-sha256`. A signature by SHA-1, or one that does not cover `From`,
/// is a permanent error. One that leaves a part of the body out (`l=`) is not believed. A body of any size passes in pieces.
/// It refuses nobody: what a domain wants to be done is said by DMARC.
///
/// ```
/// use smtp_core::{Content, ResolverTable};
/// use smtp_policy::{Dkim, Outcome};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let unsigned = Content::new("From: me@client.example\r\n\r\nHello\r\n");
/// let seen = Dkim::new(ResolverTable::new()).examine_message(&unsigned, None).await;
/// assert_eq!(seen.results(), ["dkim=none"]);
/// assert_eq!(seen.findings()[0].outcome(), Outcome::Fail);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dkim {
    resolver: Arc<dyn Resolver>,
}

impl Dkim {
    /// With keys from this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver) }
    }

    /// The signatures of a message, from the top, ten at most.
    ///
    /// # Errors
    /// What reading the content gave.
    pub async fn verify(&self, content: &Content) -> io::Result<DkimSignatures> {
        let section = header_section(content).await?;
        let signed = Signed::new(&section);
        let fields: Vec<Field<'_>> = signed.named(FIELD).take(DKIM_SIGNATURES_LIMIT).collect();
        let read: Vec<_> = fields.iter().map(|field| (*field, read(*field))).collect();
        let mut forms: Vec<BodyForm> = Vec::new();
        for (_, signature) in &read {
            let form = signature.as_ref().map(body_form);
            forms.extend(form.ok().filter(|form| !forms.contains(form)));
        }
        let hashes = if forms.is_empty() { Vec::new() } else { body_hashes(content, section.len(), forms).await? };
        let verified = read.iter().map(|(field, signature)| async {
            let outcome = match signature {
                Ok(signature) => self.outcome(*field, signature, &signed, &hashes).await,
                Err(reason) => (DkimResult::PermError, *reason),
            };
            described(*field, outcome)
        });
        Ok(DkimSignatures(futures_util::future::join_all(verified).await))
    }

    async fn outcome(
        &self,
        field: Field<'_>,
        signature: &Signature,
        signed: &Signed<'_>,
        hashes: &[(BodyForm, crate::body_hash::BodyHash)],
    ) -> (DkimResult, &'static str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if signature.x != 0 && signature.x <= now {
            return (DkimResult::Neutral, "expired");
        }
        let body = hashes.iter().find(|(form, _)| *form == body_form(signature)).map(|(_, hash)| hash);
        if body.is_none_or(|body| body.digest != signature.bh) {
            return (DkimResult::Fail, "body was changed");
        }
        let own = without_signature(field.value);
        let mut covered: Vec<_> =
            signed.chosen(&signature.h).iter().map(|field| (field.name_as_written, field.value)).collect();
        covered.push((field.name_as_written, &own));
        let key = (signature.s.as_str(), signature.d.as_str());
        let verified = verify(&*self.resolver, key, signature.a, signature.ch, &covered, &signature.b).await;
        match verified {
            Err(Flaw::Broken(reason)) => (DkimResult::Fail, reason),
            Err(Flaw::Unusable(reason)) => (DkimResult::PermError, reason),
            Err(Flaw::Unknown) => (DkimResult::TempError, "no answer for the key"),
            Ok(key) if key.is_for_domain_only && !is_of(&signature.i, &signature.d, false) => {
                (DkimResult::PermError, "identity is not of the domain")
            }
            Ok(_) if body.is_some_and(|body| body.left_out > 0) => (DkimResult::Policy, "covers a part of the body"),
            Ok(_) => (DkimResult::Pass, "verified"),
        }
    }

    /// What is to be said of a message. A signature of the reverse-path's domain vouches for it (PRACTICES S21).
    pub async fn examine_message(&self, content: &Content, sender: Option<&Domain>) -> Observation {
        let Ok(signatures) = self.verify(content).await else {
            return Finding::unknown(SIGNED.name(), "cannot read the content").into();
        };
        let all = &signatures.0;
        let mut seen = Observation::new();
        for signature in all {
            seen = seen.with_result(signature.to_string());
        }
        if all.is_empty() {
            seen = seen.with_result("dkim=none");
        }
        let finds = |wanted: DkimResult| all.iter().find(|signature| signature.result == wanted);
        let finding = match (finds(DkimResult::Pass), finds(DkimResult::TempError)) {
            (Some(signature), _) => Finding::pass(SIGNED.name(), signature.to_string()),
            (None, Some(signature)) => Finding::unknown(SIGNED.name(), signature.to_string()),
            _ => Finding::fail(SIGNED.name(), format!("{} signatures, none verifies", all.len())),
        };
        let sender = sender.map(Domain::to_ascii);
        let vouches = |signature: &DkimSignature| {
            let domain = signature.domain.as_ref().map(Domain::to_ascii);
            let pair = domain.as_ref().zip(sender.as_ref());
            signature.result == DkimResult::Pass
                && pair.is_some_and(|(domain, sender)| is_within(sender.as_str(), domain.as_str()))
        };
        if all.iter().any(vouches) {
            seen = seen.confirming_sender();
        }
        seen.with(finding).with_fact(signatures)
    }
}

/// The signature in a field, or why it is none (RFC 6376 §6.1.1).
fn read(field: Field<'_>) -> Result<Signature, &'static str> {
    let signature = Signature::parse(field.value).ok().filter(|_| is_tag_list(field.value)).ok_or("cannot be read")?;
    if tag(field.value, "v") != Some(b"1") {
        return Err("not of version 1");
    }
    if signature.a == Algorithm::RsaSha1 {
        return Err("rsa-sha1 proves nothing");
    }
    if !signature.h.iter().any(|name| name.trim().eq_ignore_ascii_case("from")) {
        return Err("does not cover From");
    }
    if !is_of(&signature.i, &signature.d, true) {
        return Err("identity is not of the domain");
    }
    if signature.x != 0 && signature.x < signature.t {
        return Err("expired before it was made");
    }
    Ok(signature)
}

fn body_form(signature: &Signature) -> BodyForm {
    (form(signature.cb), (signature.l > 0).then_some(signature.l))
}

/// Whether the identity, the tag `i`, is of the domain, or below it.
fn is_of(identity: &str, domain: &str, or_below: bool) -> bool {
    let Some((_, host)) = identity.rsplit_once('@') else { return identity.is_empty() };
    if or_below { is_within(host, domain) } else { host.eq_ignore_ascii_case(domain) }
}

fn is_within(name: &str, other: &str) -> bool {
    let (name, other) = (name.to_ascii_lowercase(), other.to_ascii_lowercase());
    name.strip_suffix(&other).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn described(field: Field<'_>, (result, reason): (DkimResult, &'static str)) -> DkimSignature {
    let text = |name| String::from_utf8_lossy(tag(field.value, name).unwrap_or_default()).into_owned();
    let algorithm = match text("a").to_ascii_lowercase().as_str() {
        "rsa-sha256" => "rsa-sha256",
        "ed25519-sha256" => "ed25519-sha256",
        "rsa-sha1" => "rsa-sha1",
        _ => "unknown",
    };
    let start = text("b").chars().filter(|c| !c.is_whitespace()).take(8).collect();
    DkimSignature { domain: Domain::parse(text("d")).ok(), selector: text("s"), result, reason, algorithm, start }
}

/// As in `Authentication-Results`.
impl fmt::Display for DkimSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dkim={}", self.result.as_str())?;
        if self.result != DkimResult::Pass {
            write!(f, " reason=\"{}\"", self.reason)?;
        }
        if let Some(domain) = &self.domain {
            write!(f, " header.d={}", property_value(domain.to_ascii().as_str()))?;
        }
        write!(f, " header.s={} header.a={}", property_value(&self.selector), self.algorithm)?;
        write!(f, " header.b={}", property_value(&self.start))
    }
}

impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dkim").finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for Dkim {
    fn practices(&self) -> &[Practice] {
        &[SIGNED]
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
        let Some(content) = subject.content() else { return Observation::new() };
        let path = subject.transaction().and_then(|transaction| transaction.reverse_path().mailbox());
        self.examine_message(content, path.and_then(|mailbox| mailbox.domain())).await
    }
}
