//! Does the author's domain stand by the message? (PRACTICES S39; RFC 9989)
//!
//! `author` reads whose message it says it is, `policy` what that domain wants, and `evaluated` is what reports tell of it; `own` is
//! for who publishes a policy.

pub(crate) mod author;
mod evaluated;
pub(crate) mod own;
mod policy;

use std::fmt;
use std::sync::Arc;

use mail_auth::dmarc::{Alignment, Policy};
use smtp_core::{Content, DnsName, Domain, Resolver, async_trait};

use crate::arc::{ArcResult, Sealed};
use crate::auth_results::{property_value, results};
use crate::check::{Check, Observation, Scope, Subject};
use crate::dkim::{DkimResult, DkimSignature, DkimSignatures};
use crate::finding::{Action, Finding};
use crate::header::header_section;
use crate::practice::{ForRoleMailboxes, Practice};
use crate::signature::Signed;
use crate::spf::{SpfIdentity, SpfResult};

use author::{Author, author};
pub(crate) use evaluated::{Evaluated, Published, addresses};
use policy::Found;
pub(crate) use policy::{Trees, Unknown};

/// The domain asks for refusal.
const REJECT: Practice =
    of_dmarc("dmarc-reject", "The author's domain, which wants forgeries refused, stands by the message")
        .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
        .unknown([Action::Observe, Action::Observe, Action::Defer])
        .refuses(7, 1, "DMARC: the domain of the author does not stand by this message")
        .when_unknown("DMARC: the domain of the author cannot be looked up now, try again later");
/// The same, where SPF and a signature were there and both failed (RFC 7372 §3.3).
const REJECT_BOTH: Practice = of_dmarc("dmarc-reject-both", "One of SPF and DKIM confirms the author's domain")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
    .refuses(7, 26, "DMARC: both SPF and DKIM fail for the domain of the author");
/// The domain asks for suspicion.
const QUARANTINE: Practice =
    of_dmarc("dmarc-quarantine", "The author's domain, which wants forgeries marked, stands by the message")
        .fails([Action::Observe, Action::Tag, Action::Tag], [0; 3]);
/// The domain asks for nothing, or for reports.
const ALIGNED: Practice = of_dmarc("dmarc-aligned", "The author's domain stands by the message");
/// There is one author.
const SINGLE: Practice = of_dmarc("author-single", "The message has authors of one domain")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
    .refuses(7, 1, "The authors of a message must be of one domain");
/// There is an author.
const PRESENT: Practice = of_dmarc("author-readable", "The message has a From field that can be read")
    .fails([Action::Observe, Action::Score, Action::Reject], [0, 2, 2])
    .refuses(7, 1, "The message needs a From field with an address");

const fn of_dmarc(name: &'static str, about: &'static str) -> Practice {
    Practice::new(name, "S39", about).for_role_mailboxes(ForRoleMailboxes::Tagged)
}

/// Whether the author's domain stands by a message (RFC 9989 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DmarcResult {
    /// The domain has no policy.
    None,
    /// SPF or a signature confirms it.
    Pass,
    /// Neither does.
    Fail,
    /// DNS did not answer, or nobody looked at SPF and DKIM.
    TempError,
    /// There is no author's domain, or several.
    PermError,
}

impl DmarcResult {
    /// The word for it in `Authentication-Results`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// Compares the author's domain with those that SPF and DKIM confirm: what [`Spf`](crate::Spf) and [`Dkim`](crate::Dkim) found.
/// Without both of them in the chain nothing can be concluded, and nobody is refused. It leaves the [`DmarcResult`].
///
/// Whom it [trusts](Dmarc::trusting_sealer) may say that the author's domain stood by the message when it came to them: with an
/// [`ArcChain`](crate::ArcChain) in the chain of checks that holds.
#[derive(Clone)]
pub struct Dmarc {
    resolver: Arc<dyn Resolver>,
    sealers: Vec<Domain>,
}

impl Dmarc {
    /// With policies from this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver), sealers: Vec::new() }
    }

    /// Believes this sealer (RFC 8617 §7.2.1): where all who sealed a chain that holds are believed, and
    /// the first of them saw DMARC pass for the author's domain, a failure here is taken for what handing on does to messages. Default:
    /// nobody.
    #[must_use]
    pub fn trusting_sealer(mut self, domain: &Domain) -> Self {
        self.sealers.push(domain.to_ascii());
        self
    }

    /// Whether somebody who is believed saw what we do not see any more.
    fn is_vouched_for(&self, author: &DnsName, sealed: Option<&Sealed>) -> bool {
        let Some(sealed) = sealed.filter(|sealed| sealed.result == ArcResult::Pass) else { return false };
        let is_trusted = |sealer: &Domain| self.sealers.contains(&sealer.to_ascii());
        let passed = |result: &String| {
            let mut words = result.split_ascii_whitespace();
            words.next() == Some("dmarc=pass")
                && words.any(|word| {
                    word.strip_prefix("header.from=").is_some_and(|from| from.eq_ignore_ascii_case(author.as_str()))
                })
        };
        !sealed.sealers.is_empty()
            && sealed.sealers.iter().all(is_trusted)
            && results(&sealed.first_seen).iter().any(passed)
    }

    /// What is to be said of a message of which SPF and DKIM said that.
    pub async fn examine_message(
        &self,
        content: &Content,
        spf: Option<&SpfIdentity>,
        dkim: Option<&DkimSignatures>,
    ) -> Observation {
        self.examine_sealed(content, spf, dkim, None).await
    }

    async fn examine_sealed(
        &self,
        content: &Content,
        spf: Option<&SpfIdentity>,
        dkim: Option<&DkimSignatures>,
        sealed: Option<&Sealed>,
    ) -> Observation {
        let Ok(section) = header_section(content).await else {
            return Finding::unknown(ALIGNED.name(), "cannot read the content").into();
        };
        let bad = |practice: &Practice, evidence: &str| {
            let seen = Observation::from(Finding::fail(practice.name(), evidence));
            seen.with_result("dmarc=permerror").with_fact(DmarcResult::PermError)
        };
        let domain = match author(&Signed::new(&section)) {
            Author::One(domain) => domain,
            Author::Several => return bad(&SINGLE, "authors of several domains"),
            Author::Unreadable => return bad(&PRESENT, "no author that can be read"),
        };
        let concluded = self.conclude(&domain, spf, dkim).await.unwrap_or_else(|Unknown| Concluded::temporary(None));
        let Concluded { result, found, .. } = &concluded;
        let (result, policy) = (*result, found.as_ref().map(|found| found.asked));
        let word = match policy {
            Some(Policy::Reject) => " policy.dmarc=reject",
            Some(Policy::Quarantine) => " policy.dmarc=quarantine",
            Some(_) => " policy.dmarc=none",
            None => "",
        };
        let from = property_value(domain.as_str());
        let is_vouched_for = result == DmarcResult::Fail && self.is_vouched_for(&domain, sealed);
        let reason = if is_vouched_for { " reason=\"local_policy: arc=pass\"" } else { "" };
        let mut seen = Observation::new()
            .with_result(format!("dmarc={}{reason} header.from={from}{word}", result.as_str()))
            .with_fact(result);
        if let Some(evaluated) = Evaluated::new(&domain, &concluded) {
            seen = seen.with_fact(evaluated);
        }
        let failed = match policy {
            Some(Policy::Reject) if both_failed(spf, dkim) => REJECT_BOTH,
            Some(Policy::Reject) => REJECT,
            Some(Policy::Quarantine) => QUARANTINE,
            _ => ALIGNED,
        };
        match result {
            DmarcResult::Pass => seen.with(Finding::pass(ALIGNED.name(), domain.to_string())),
            DmarcResult::Fail if is_vouched_for => {
                seen.with(Finding::pass(ALIGNED.name(), format!("confirmed by who sealed it: {domain}")))
            }
            DmarcResult::Fail => seen.with(Finding::fail(failed.name(), format!("not confirmed: {domain}"))),
            DmarcResult::TempError => seen.with(Finding::unknown(REJECT.name(), format!("cannot conclude: {domain}"))),
            DmarcResult::None | DmarcResult::PermError => seen,
        }
    }

    async fn conclude(
        &self,
        author: &DnsName,
        spf: Option<&SpfIdentity>,
        dkim: Option<&DkimSignatures>,
    ) -> Result<Concluded, Unknown> {
        let mut trees = Trees::new(&*self.resolver);
        let Some(found) = trees.policy(author).await? else {
            return Ok(Concluded { result: DmarcResult::None, ..Concluded::temporary(None) });
        };
        let (Some(spf), Some(dkim)) = (spf, dkim) else { return Ok(Concluded::temporary(Some(found))) };
        let by_spf = confirmed(&mut trees, author, found.record.aspf, of_spf(spf)).await;
        let by_dkim = confirmed(&mut trees, author, found.record.adkim, of_dkim(dkim)).await;
        let result = match (by_spf, by_dkim) {
            (Ok(true), _) | (_, Ok(true)) => DmarcResult::Pass,
            // It would decide, if DNS answered (RFC 9989 §5.3.6).
            (Err(Unknown), _) | (_, Err(Unknown)) => DmarcResult::TempError,
            _ => DmarcResult::Fail,
        };
        Ok(Concluded { result, found: Some(found), spf: by_spf == Ok(true), dkim: by_dkim == Ok(true) })
    }
}

/// What is concluded of one message.
struct Concluded {
    result: DmarcResult,
    found: Option<Found>,
    /// Whether SPF confirms the author's domain.
    spf: bool,
    /// Whether a signature does.
    dkim: bool,
}

impl Concluded {
    fn temporary(found: Option<Found>) -> Self {
        Self { result: DmarcResult::TempError, found, spf: false, dkim: false }
    }
}

/// A domain that is confirmed, or, with `false`, might be if DNS answered.
type Identifier = (DnsName, bool);

fn of_spf(spf: &SpfIdentity) -> Vec<Identifier> {
    let is_pass = match spf.result {
        SpfResult::Pass => true,
        SpfResult::TempError => false,
        _ => return Vec::new(),
    };
    let domain = spf.domain.as_ref().and_then(|domain| DnsName::try_from(domain).ok());
    domain.map(|domain| (domain, is_pass)).into_iter().collect()
}

fn of_dkim(dkim: &DkimSignatures) -> Vec<Identifier> {
    let of = |signature: &DkimSignature| {
        let is_pass = match signature.result {
            DkimResult::Pass => true,
            DkimResult::TempError => false,
            _ => return None,
        };
        Some((DnsName::try_from(signature.domain.as_ref()?).ok()?, is_pass))
    };
    dkim.0.iter().filter_map(of).collect()
}

/// Whether one of these speaks for the author's domain; unknown where one might.
async fn confirmed(
    trees: &mut Trees<'_>,
    author: &DnsName,
    alignment: Alignment,
    identifiers: Vec<Identifier>,
) -> Result<bool, Unknown> {
    let mut is_unknown = false;
    for (domain, is_pass) in identifiers {
        match is_aligned(trees, author, &domain, alignment).await {
            Ok(true) if is_pass => return Ok(true),
            Ok(true) | Err(Unknown) => is_unknown = true,
            Ok(false) => {}
        }
    }
    if is_unknown { Err(Unknown) } else { Ok(false) }
}

/// Whether a confirmed domain speaks for the author's (RFC 9989 §4.4).
async fn is_aligned(
    trees: &mut Trees<'_>,
    author: &DnsName,
    domain: &DnsName,
    alignment: Alignment,
) -> Result<bool, Unknown> {
    if domain == author {
        return Ok(true);
    }
    if alignment == Alignment::Strict {
        return Ok(false);
    }
    let organizational = trees.organizational(author).await?;
    Ok(domain.is_within(&organizational) && trees.organizational(domain).await? == organizational)
}

/// Whether both were there to be checked, and both failed.
fn both_failed(spf: Option<&SpfIdentity>, dkim: Option<&DkimSignatures>) -> bool {
    spf.is_some_and(|spf| matches!(spf.result, SpfResult::Fail | SpfResult::SoftFail))
        && dkim.is_some_and(|dkim| dkim.0.iter().any(|signature| signature.result == DkimResult::Fail))
}

impl fmt::Debug for Dmarc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dmarc").finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for Dmarc {
    fn practices(&self) -> &[Practice] {
        &[REJECT, REJECT_BOTH, QUARANTINE, ALIGNED, SINGLE, PRESENT]
    }

    fn scope(&self) -> Scope {
        Scope::Conclusion
    }

    fn asks_dns(&self) -> bool {
        true
    }

    fn examines_submission(&self) -> bool {
        false
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let Some(content) = subject.content() else { return Observation::new() };
        self.examine_sealed(content, subject.fact(), subject.fact(), subject.fact()).await
    }
}
