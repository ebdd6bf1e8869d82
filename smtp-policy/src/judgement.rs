//! Findings in, one decision out: a pure function (PRACTICES P1).

use smtp_core::{Refusal, SafeText};

use crate::finding::{Action, Finding, Outcome};
use crate::practice::{ForRoleMailboxes, Practice, Setting};
use crate::rules::Rules;

/// When, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Circumstances {
    /// Whether the content was seen. Before that a score can at most greylist (PRACTICES P8); after it nothing is greylisted
    /// any more.
    pub content_seen: bool,
    /// Whether the recipient is one of the role mailboxes (PRACTICES P4).
    pub is_role: bool,
}

/// What one finding came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contribution {
    /// The practice.
    pub practice: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What is done about it, here.
    pub action: Action,
    /// What it added to the score.
    pub weight: u16,
}

/// What the findings of a recipient come to. The weights of its contributions are its score (PRACTICES P9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    action: Action,
    refusal: Option<Refusal>,
    score: u32,
    contributions: Vec<Contribution>,
}

impl Judgement {
    /// What is done: [`Action::Observe`] lets it pass.
    pub fn action(&self) -> Action {
        self.action
    }

    /// How a refusal reads: there is one with [`Action::Reject`], [`Action::Defer`] and [`Action::Greylist`].
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// The sum of the weights.
    pub fn score(&self) -> u32 {
        self.score
    }

    /// What each finding came to, in the order of their names.
    pub fn contributions(&self) -> &[Contribution] {
        &self.contributions
    }
}

impl Rules {
    /// What these findings come to. Their order means nothing. A finding of a practice that the rules do not have is left out.
    pub fn judge<'a>(
        &self,
        findings: impl IntoIterator<Item = &'a Finding>,
        circumstances: Circumstances,
    ) -> Judgement {
        let findings = self.in_order(findings);
        let mut contributions = Vec::with_capacity(findings.len());
        let (mut strongest, mut decisive, mut score) = (Action::Observe, None, 0);
        for (practice, setting, finding) in findings {
            let action = asked(finding, practice, setting, circumstances);
            let weight = if action == Action::Score { finding.weight().unwrap_or(setting.weight) } else { 0 };
            score += u32::from(weight);
            contributions.push(Contribution { practice: practice.name(), outcome: finding.outcome(), action, weight });
            if action > Action::Score && action > strongest {
                (strongest, decisive) = (action, Some((practice, finding)));
            }
        }
        let by_score = self.of_score(score, circumstances);
        if by_score > strongest {
            (strongest, decisive) = (by_score, None);
        }
        Judgement { action: strongest, refusal: refusal(strongest, decisive), score, contributions }
    }

    /// The findings of practices that these rules have, each with its practice. Of two refusals of the same strength always the
    /// same one is given, and the contributions of a judgement stand in this order.
    pub(crate) fn in_order<'f>(
        &self,
        findings: impl IntoIterator<Item = &'f Finding>,
    ) -> Vec<(&Practice, Setting, &'f Finding)> {
        let known =
            |finding: &'f Finding| self.get(finding.practice()).map(|(practice, setting)| (practice, setting, finding));
        let mut findings: Vec<_> = findings.into_iter().filter_map(known).collect();
        findings.sort_by_key(|(_, _, finding)| {
            let explanation = finding.explanation().map(SafeText::as_str);
            (finding.practice(), finding.evidence().as_str(), explanation)
        });
        findings
    }

    fn of_score(&self, score: u32, circumstances: Circumstances) -> Action {
        let thresholds = self.thresholds();
        let reaches = |threshold: Option<u32>| threshold.is_some_and(|threshold| score >= threshold);
        match circumstances {
            Circumstances { content_seen: true, is_role: false } if reaches(thresholds.reject) => Action::Reject,
            Circumstances { content_seen: true, .. } if reaches(thresholds.tag) => Action::Tag,
            Circumstances { content_seen: false, is_role: false } if reaches(thresholds.greylist) => Action::Greylist,
            _ => Action::Observe,
        }
    }
}

/// What is done about a finding, here.
fn asked(finding: &Finding, practice: &Practice, setting: Setting, circumstances: Circumstances) -> Action {
    let asked = match finding.outcome() {
        Outcome::Pass => Action::Off,
        Outcome::Fail if practice.is_never_permanent() => setting.fails.min(Action::Defer),
        Outcome::Fail => setting.fails,
        // PRACTICES P5: what is not known is never permanent.
        Outcome::Unknown => setting.unknown.min(Action::Defer),
    };
    // It came again already, or was let through.
    let asked = if circumstances.content_seen && asked == Action::Greylist { Action::Observe } else { asked };
    if !circumstances.is_role {
        return asked;
    }
    match practice.meaning_for_role_mailboxes() {
        ForRoleMailboxes::Waived => asked.min(Action::Observe),
        ForRoleMailboxes::Tagged => asked.min(Action::Tag),
        ForRoleMailboxes::Kept => asked,
    }
}

/// How it reads: by the practice that decided, or by the score.
fn refusal(action: Action, decisive: Option<(&Practice, &Finding)>) -> Option<Refusal> {
    match (action, decisive) {
        (Action::Greylist, _) => Some(Refusal::transient(7, 1, "Greylisted, please come again in a few minutes")),
        (Action::Reject, None) => Some(Refusal::permanent(7, 1, "Refused: too many signs of unwanted mail")),
        (Action::Reject | Action::Defer, Some((practice, finding))) => {
            Some(practice.refusal(action == Action::Reject, finding))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::practice::Preset;

    const CLIENT: Practice = Practice::new("client", "X1", "of the client")
        .fails([Action::Observe, Action::Score, Action::Reject], [0, 3, 0])
        .unknown([Action::Observe, Action::Observe, Action::Reject])
        .refuses(7, 25, "No reverse name")
        .when_unknown("No answer of DNS")
        .with_transient_code(450);
    const CONTENT: Practice = Practice::new("content", "X2", "of the content")
        .fails([Action::Score; 3], [8; 3])
        .for_role_mailboxes(ForRoleMailboxes::Tagged);
    const MALWARE: Practice = Practice::new("malware", "X3", "malware")
        .fails([Action::Reject; 3], [0; 3])
        .for_role_mailboxes(ForRoleMailboxes::Kept)
        .refuses(7, 1, "Malware");
    const FIRST: Circumstances = Circumstances { content_seen: false, is_role: false };
    const LAST: Circumstances = Circumstances { content_seen: true, is_role: false };

    fn rules(preset: Preset) -> Rules {
        Rules::new(preset).with_practices(&[CLIENT, CONTENT, MALWARE])
    }

    fn verdict(rules: &Rules, findings: &[Finding], circumstances: Circumstances) -> (Action, Option<String>) {
        let judgement = rules.judge(findings, circumstances);
        let sum: u32 = judgement.contributions().iter().map(|part| u32::from(part.weight)).sum();
        assert_eq!(sum, judgement.score(), "PRACTICES P9");
        (judgement.action(), judgement.refusal().map(ToString::to_string))
    }

    #[test] // PRACTICES P2, P8
    fn p8_a_score_greylists_before_the_content_and_rejects_only_behind_it() {
        let rules = rules(Preset::Bcp);
        let (client, content) = (Finding::fail("client", "x"), Finding::fail("content", "y"));
        let (action, reply) = verdict(&rules, std::slice::from_ref(&client), FIRST);
        assert_eq!(action, Action::Greylist);
        assert!(reply.is_some_and(|reply| reply.starts_with("451 4.7.1 ")));
        assert_eq!(verdict(&rules, std::slice::from_ref(&client), LAST), (Action::Observe, None));
        assert_eq!(verdict(&rules, std::slice::from_ref(&content), LAST), (Action::Tag, None));
        let both = [client, content];
        assert_eq!(verdict(&rules, &both, FIRST).0, Action::Greylist, "11 points before the content");
        let (action, reply) = verdict(&rules, &both, LAST);
        assert_eq!(action, Action::Reject);
        assert!(reply.is_some_and(|reply| reply.starts_with("550 5.7.1 ")));
        assert_eq!(verdict(&self::rules(Preset::RfcStrict), &both, LAST), (Action::Observe, None), "no score counts");
    }

    #[test] // PRACTICES P4, S45
    fn p4_role_mailboxes_waive_the_client_are_tagged_for_content_and_refuse_malware() {
        let rules = rules(Preset::BcpStrict);
        let role = Circumstances { content_seen: true, is_role: true };
        assert_eq!(verdict(&rules, &[Finding::fail("client", "x")], role), (Action::Observe, None));
        let content = [Finding::fail("client", "x"), Finding::fail("content", "x").with_weight(50)];
        assert_eq!(verdict(&rules, &content, role), (Action::Tag, None));
        let malware = verdict(&rules, &[Finding::fail("malware", "x")], role);
        assert_eq!(malware, (Action::Reject, Some("550 5.7.1 Malware".to_owned())));
    }

    #[test] // PRACTICES P5: unknown never leads to 5yz
    fn p5_what_is_not_known_is_deferred_at_most() {
        let rules = rules(Preset::BcpStrict);
        let unknown = verdict(&rules, &[Finding::unknown("client", "no answer")], FIRST);
        assert_eq!(unknown, (Action::Defer, Some("450 4.7.25 No answer of DNS".to_owned())));
        let failed = verdict(&rules, &[Finding::fail("client", "x").with_explanation("see there")], FIRST);
        assert_eq!(failed, (Action::Reject, Some("550 5.7.25 No reverse name: see there".to_owned())));
    }

    /// Each action, of a practice that fails and of one that cannot be known.
    #[test] // PRACTICES P1
    fn p1_every_practice_can_have_every_action() -> Result<(), crate::UnknownPractice> {
        for action in Action::ALL {
            let mut rules = rules(Preset::Bcp);
            rules.set_action("client", action)?;
            rules.set_weight("client", 1)?;
            let failed = verdict(&rules, &[Finding::fail("client", "x")], FIRST).0;
            assert_eq!(failed, if action < Action::Tag { Action::Observe } else { action });
            rules.set_action_for_unknown("client", action)?;
            let unknown = verdict(&rules, &[Finding::unknown("client", "x")], FIRST).0;
            assert_eq!(unknown, if action < Action::Tag { Action::Observe } else { action.min(Action::Defer) });
            assert_eq!(verdict(&rules, &[Finding::pass("client", "x")], FIRST).0, Action::Observe);
        }
        assert!(rules(Preset::Bcp).set_action("no-such", Action::Off).is_err());
        Ok(())
    }

    fn findings() -> impl Strategy<Value = Vec<Finding>> {
        let finding = (0..3_usize, 0..3_usize, 0..30_u16, 0..4_u8).prop_map(|(practice, outcome, weight, evidence)| {
            let name = ["client", "content", "malware"][practice];
            let make = [Finding::pass, Finding::fail, Finding::unknown][outcome];
            make(name, evidence.to_string()).with_weight(weight)
        });
        proptest::collection::vec(finding, 0..8)
    }

    proptest! {
        #[test] // PRACTICES P1: the same findings in any order give the same verdict
        fn p1_the_order_of_findings_means_nothing(findings in findings(), content_seen: bool, is_role: bool, at in 0..8_usize) {
            let mut turned = findings.clone();
            turned.rotate_left(at.min(findings.len()));
            turned.reverse();
            for preset in Preset::ALL {
                let (rules, circumstances) = (rules(preset), Circumstances { content_seen, is_role });
                let (one, other) = (rules.judge(&findings, circumstances), rules.judge(&turned, circumstances));
                prop_assert_eq!((one.action(), one.refusal(), one.score()), (other.action(), other.refusal(), other.score()));
                let refuses = one.action() >= Action::Greylist;
                prop_assert_eq!(one.refusal().is_some(), refuses);
            }
        }
    }
}
