//! What is told of a message. Messages of which the same is told share a row (RFC 9990 §3.1.1.9).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smtp_core::{Domain, Transaction};

use crate::dkim::{DkimSignature, DkimSignatures};
use crate::dmarc::Evaluated;
use crate::finding::{Action, Outcome};
use crate::judgement::Judgement;
use crate::spf::SpfIdentity;

/// Octets of a text from outside, as the name of a key is. What is longer is cut.
const TEXT_LIMIT_OCTETS: usize = 255;
/// The practices whose domain asks for something.
const OF_DMARC: &str = "dmarc-";

/// All but how many messages there were.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) source: IpAddr,
    /// What was done: `none`, `pass`, `quarantine` or `reject`.
    pub(super) disposition: String,
    /// Whether a signature confirms the author's domain.
    pub(super) dkim: bool,
    /// Whether SPF does.
    pub(super) spf: bool,
    /// Why that is not what the domain asks for: `local_policy` or `policy_test_mode`.
    pub(super) reason: Option<String>,
    pub(super) header_from: String,
    /// Empty with the null reverse-path.
    pub(super) envelope_from: String,
    pub(super) signatures: Vec<SignatureRow>,
    /// The domain that SPF looked at, and what it said.
    pub(super) sender: Option<(String, String)>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct SignatureRow {
    pub(super) domain: String,
    pub(super) selector: String,
    pub(super) result: String,
}

impl Row {
    pub(super) fn new(
        client: IpAddr,
        transaction: &Transaction,
        evaluated: &Evaluated,
        (spf, dkim): (Option<&SpfIdentity>, Option<&DkimSignatures>),
        judgements: &[Judgement],
    ) -> Self {
        let disposition = disposition(evaluated, judgements);
        let path = transaction.reverse_path().mailbox();
        let signatures = dkim.map(|dkim| dkim.0.as_slice()).unwrap_or_default();
        let sender = spf.and_then(|spf| Some((of_domain(spf.domain.as_ref()?), spf.result.as_str().to_owned())));
        Self {
            source: client.to_canonical(),
            disposition: disposition.to_owned(),
            dkim: evaluated.dkim,
            spf: evaluated.spf,
            reason: reason(evaluated, disposition).map(str::to_owned),
            header_from: clean(&evaluated.author),
            envelope_from: path.and_then(|mailbox| mailbox.domain()).map(of_domain).unwrap_or_default(),
            signatures: signatures.iter().filter_map(SignatureRow::new).collect(),
            sender,
        }
    }
}

impl SignatureRow {
    /// `None` where nobody can be told of it.
    fn new(signature: &DkimSignature) -> Option<Self> {
        let domain = of_domain(signature.domain.as_ref()?);
        Some(Self { domain, selector: clean(&signature.selector), result: signature.result.as_str().to_owned() })
    }
}

/// The strongest that was done to one of the copies because of DMARC (RFC 9990 §3.1.1.11).
fn disposition(evaluated: &Evaluated, judgements: &[Judgement]) -> &'static str {
    if evaluated.is_pass {
        return if evaluated.asked == "none" { "none" } else { "pass" };
    }
    let contributions = judgements.iter().flat_map(Judgement::contributions);
    let of_dmarc = contributions.filter(|part| part.practice.starts_with(OF_DMARC) && part.outcome == Outcome::Fail);
    match of_dmarc.map(|part| part.action).max() {
        Some(Action::Reject | Action::Defer) => "reject",
        Some(Action::Quarantine | Action::Tag) => "quarantine",
        _ => "none",
    }
}

/// Why something else was done than the domain asks for (RFC 9990 §3.1.6).
fn reason(evaluated: &Evaluated, disposition: &str) -> Option<&'static str> {
    if evaluated.is_pass || disposition == evaluated.configured {
        return None;
    }
    Some(if disposition == evaluated.asked { "policy_test_mode" } else { "local_policy" })
}

fn of_domain(domain: &Domain) -> String {
    clean(domain.to_ascii().as_str())
}

/// One word of visible ASCII: what XML can hold and what means nothing to who shows it (SECURITY D-11).
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(TEXT_LIMIT_OCTETS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Finding;
    use crate::judgement::Circumstances;
    use crate::practice::Preset;

    /// What a message is, of which the domain asks for that.
    fn evaluated(is_pass: bool, configured: &'static str, asked: &'static str) -> Evaluated {
        let published = crate::dmarc::Published {
            domain: "client.example".to_owned(),
            policy: configured.to_owned(),
            subdomain_policy: configured.to_owned(),
            missing_domain_policy: configured.to_owned(),
            is_strict_dkim: false,
            is_strict_spf: false,
            is_test: configured != asked,
            failure_options: "0".to_owned(),
            addresses: Vec::new(),
        };
        let author = "client.example".to_owned();
        Evaluated { author, published, is_pass, configured, asked, spf: is_pass, dkim: false }
    }

    #[test] // RFC 9990 §3.1.1.11, §3.1.6
    fn what_was_done_and_why_not_what_was_asked_for() {
        let chain = |preset| {
            crate::Chain::new("x", preset).with(crate::Dmarc::new(smtp_core::ResolverTable::new())).rules().clone()
        };
        for (is_pass, configured, asked, failed, preset, is_role, expected) in [
            (true, "none", "none", "", Preset::Bcp, false, ("none", None)),
            (true, "reject", "reject", "", Preset::Bcp, false, ("pass", None)),
            (false, "none", "none", "dmarc-aligned", Preset::Bcp, false, ("none", None)),
            (false, "reject", "reject", "dmarc-reject", Preset::Bcp, false, ("reject", None)),
            (false, "reject", "reject", "dmarc-reject-both", Preset::Bcp, false, ("reject", None)),
            (false, "reject", "reject", "dmarc-reject", Preset::RfcStrict, false, ("none", Some("local_policy"))),
            (false, "reject", "reject", "dmarc-reject", Preset::Bcp, true, ("quarantine", Some("local_policy"))),
            (false, "quarantine", "quarantine", "dmarc-quarantine", Preset::Bcp, false, ("quarantine", None)),
            (
                false,
                "reject",
                "quarantine",
                "dmarc-quarantine",
                Preset::Bcp,
                false,
                ("quarantine", Some("policy_test_mode")),
            ),
            (false, "quarantine", "none", "dmarc-aligned", Preset::Bcp, false, ("none", Some("policy_test_mode"))),
        ] {
            let findings = (!failed.is_empty()).then(|| Finding::fail(failed, "x"));
            let judgement = chain(preset).judge(&findings, Circumstances { content_seen: true, is_role });
            let evaluated = evaluated(is_pass, configured, asked);
            let disposition = disposition(&evaluated, &[judgement]);
            assert_eq!((disposition, reason(&evaluated, disposition)), expected, "{configured} {failed} {preset:?}");
        }
    }

    #[test] // SECURITY D-11
    fn d11_text_from_outside_becomes_one_word() {
        assert_eq!(clean("a b\r\n\u{0}\u{202e}c]]>"), "a?b????c]]>");
        assert_eq!(clean(&"\u{e9}".repeat(500)).len(), TEXT_LIMIT_OCTETS);
    }
}
