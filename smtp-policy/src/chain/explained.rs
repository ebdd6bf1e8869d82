//! What a verdict rests on: told to the observer, and written into the message.

use std::sync::Arc;

use smtp_core::{Domain, PolicyContext, PolicyEvent, PolicyFinding, Recipient, SafeText, ShadowVerdict, Transaction};

use super::{Chain, MARK};
use crate::auth_results::{self, FIELD};
use crate::check::Observation;
use crate::finding::{Action, Finding, Outcome};
use crate::judgement::{Circumstances, Contribution, Judgement};
use crate::practice::{Practice, Setting};

impl Chain {
    /// Tells the observer what a judgement rests on.
    pub(super) fn report(
        &self,
        cx: &PolicyContext<'_>,
        recipient: &Recipient,
        seen: &[Arc<Observation>],
        judgement: &Judgement,
        (circumstances, action): (Circumstances, Action),
    ) {
        let Some(observer) = &self.observer else { return };
        let findings = || seen.iter().flat_map(|observation| &observation.findings);
        let mut event = PolicyEvent::new(self.name.clone());
        event.transaction = cx.transaction().map(Transaction::id);
        event.recipient = Some(recipient.path().clone());
        event.content_seen = circumstances.content_seen;
        event.is_role = circumstances.is_role;
        event.score = judgement.score();
        event.judged = SafeText::new(judgement.action().as_str());
        event.action = SafeText::new(action.as_str());
        event.reply = judgement.refusal().filter(|_| action >= Action::Greylist).map(|refusal| refusal.reply().clone());
        event.findings = self.explained(findings(), judgement);
        if event.findings.iter().any(|finding| finding.shadow.is_some()) {
            let shadow = self.rules.without_shadow().judge(findings(), circumstances);
            let reply = || shadow.refusal().map(|refusal| refusal.reply().clone());
            event.shadow =
                (shadow.action() != judgement.action()).then(|| ShadowVerdict::new(shadow.action().as_str(), reply()));
        }
        observer.policy(cx.connection(), &event);
    }

    /// Each finding with what it came to.
    fn explained<'f>(
        &self,
        findings: impl IntoIterator<Item = &'f Finding>,
        judgement: &Judgement,
    ) -> Vec<PolicyFinding> {
        let findings = self.rules.in_order(findings);
        debug_assert_eq!(
            findings.len(),
            judgement.contributions().len(),
            "both have what the rules know, in one order"
        );
        let parts = findings.into_iter().zip(judgement.contributions());
        let explain = |((practice, setting, finding), part): ((&Practice, Setting, &Finding), &Contribution)| {
            let (outcome, action) = (part.outcome.as_str(), part.action.as_str());
            let mut explained = PolicyFinding::new(part.practice, outcome, action, finding.evidence().clone());
            explained.number = SafeText::new(practice.id());
            explained.weight = part.weight;
            explained.own_weight = finding.weight();
            explained.explanation = finding.explanation().cloned();
            let shadow = self.rules.shadow_action(practice, setting).filter(|_| part.outcome == Outcome::Fail);
            explained.shadow = shadow.map(|action| SafeText::new(action.as_str()));
            explained
        };
        parts.map(explain).collect()
    }
}

/// Leaves out marks that arrived, and sets ours where a recipient's copy is doubtful.
pub(super) fn mark(cx: &mut PolicyContext<'_>, strongest: Action) {
    let marked = cx.remove_header(MARK).and_then(|()| match strongest {
        Action::Off | Action::Observe | Action::Score => Ok(()),
        _ => cx.prepend_header(MARK, "YES"),
    });
    debug_assert!(marked.is_ok(), "the field is well formed");
}

/// Leaves out the results that others wrote in our name, and writes ours.
pub(super) fn write_results(
    cx: &mut PolicyContext<'_>,
    authserv_id: &Domain,
    forged: &[usize],
    seen: &[Arc<Observation>],
) {
    let results: Vec<String> = seen.iter().flat_map(|observation| observation.results.clone()).collect();
    let value = auth_results::written(authserv_id, &results);
    let written = cx.remove_header_at(FIELD, forged.iter().copied()).and_then(|()| cx.prepend_header(FIELD, &value));
    debug_assert!(written.is_ok(), "each result is one line of at most 512 octets");
}

/// For people who look after the quarantine: what asked for it.
pub(super) fn reason(judgement: &Judgement) -> String {
    let asked = judgement.contributions().iter().filter(|part| part.action == judgement.action());
    asked.map(|part| part.practice).collect::<Vec<_>>().join(", ")
}
