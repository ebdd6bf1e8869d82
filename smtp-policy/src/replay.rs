//! A trace judged anew: which verdicts would be others under other rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use smtp_core::{DateTime, SafeText};

use crate::finding::{Action, Finding, Outcome};
use crate::judgement::{Circumstances, Contribution, Judgement};
use crate::rules::Rules;
use crate::trace::entry::TraceEntry;
use crate::trace::event::{Judged, JudgedFinding, Traced};
use crate::trace::page::in_words;

/// Judges what a trace has by these rules, one entry after the other, and counts. It looks at nothing and asks nobody: what the
/// trace does not have is named, not guessed.
///
/// Under the rules of the trace nothing changes (PRACTICES P9).
///
/// ```
/// use smtp_policy::{Action, NullSender, Chain, Preset, Replay, TraceEntry};
///
/// let line = r#"{"v":1,"at":1795311863000,"session":"b43f482884374732","what":"judged","policy":"policy",
///     "transaction":"b43f482884374732-1","recipient":"<carol@example.org>","content_seen":false,"is_role":false,"findings":[{
///     "practice":"null-sender-recipients","outcome":"fail","action":"observe","weight":0,"evidence":"2 recipients"}],
///     "score":0,"judged":"observe","action":"observe"}"#;
/// let stricter = Chain::new("policy", Preset::Bcp).with(NullSender).with_action("null-sender-recipients", Action::Reject)?;
/// let mut replay = Replay::new(stricter.rules());
/// let change = replay.judge(&TraceEntry::from_line(line)?).expect("another verdict");
/// assert!(change.to_string().contains("null-sender-recipients: observe, now reject"));
/// assert_eq!((replay.judged(), replay.changed()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replay<'a> {
    rules: &'a Rules,
    /// What the trace looked at, as its last heading says.
    looked_at: BTreeSet<String>,
    judged: u64,
    changed: u64,
    kinds: BTreeMap<(String, String), u64>,
    missing: BTreeMap<&'static str, u64>,
}

/// A verdict that would be another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerdictChange {
    /// When it was given.
    pub at: SystemTime,
    /// In which transaction.
    pub transaction: SafeText,
    /// For whom.
    pub recipient: SafeText,
    /// Whether the content had come.
    pub content_seen: bool,
    /// What was done.
    pub from: Action,
    /// What the client was told; empty where it was not refused.
    pub from_reply: SafeText,
    /// What would be done.
    pub to: Action,
    /// What the client would be told; empty where it would not be refused.
    pub to_reply: SafeText,
    /// What counts otherwise, one practice or threshold each.
    pub because: Vec<String>,
    /// What the trace cannot say of it; empty where nothing.
    pub not_known: Vec<String>,
}

impl<'a> Replay<'a> {
    /// By these rules.
    pub fn new(rules: &'a Rules) -> Self {
        let (looked_at, kinds, missing) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        Self { rules, looked_at, judged: 0, changed: 0, kinds, missing }
    }

    /// Judges the next entry, if it is a judgement. `None` where the verdict stays.
    pub fn judge(&mut self, entry: &TraceEntry) -> Option<VerdictChange> {
        match entry.traced() {
            Traced::Rules { practices } => {
                self.looked_at = practices.iter().map(|practice| practice.as_str().to_owned()).collect();
                None
            }
            // What a filter said, it said; no rules would have it otherwise.
            Traced::Judged(judged) if judged.is_by_rules() => {
                let change = self.judge_again(entry.at(), judged);
                self.judged += 1;
                if let Some(change) = &change {
                    self.changed += 1;
                    let word = |action| in_words(Action::as_str(action), "").trim_end_matches(": ").to_owned();
                    *self.kinds.entry((word(change.from), word(change.to))).or_default() += 1;
                }
                change
            }
            _ => None,
        }
    }

    /// How many judgements there were.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// How many would be others.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// What these rules look at and the trace did not, and in how many judgements that was missing.
    pub fn missing(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.missing.iter().map(|(practice, count)| (*practice, *count))
    }

    fn judge_again(&mut self, at: SystemTime, judged: &Judged) -> Option<VerdictChange> {
        let missing = self.missing_in(judged);
        for practice in &missing {
            *self.missing.entry(practice).or_default() += 1;
        }
        let findings: Vec<Finding> = judged.findings.iter().filter_map(|finding| self.finding(finding)).collect();
        let circumstances = Circumstances { content_seen: judged.content_seen, is_role: judged.is_role };
        let judgement = self.rules.judge(&findings, circumstances);
        let [was_judged, from] = [&judged.judged, &judged.action].map(|word| effect(Action::from_word(word.as_str())));
        // Who came again then comes again now.
        let again = was_judged == Action::Greylist && judgement.action() == Action::Greylist;
        let to = if again { from } else { effect(Some(judgement.action())) };
        let reply = judgement.refusal().filter(|_| to >= Action::Greylist);
        let to_reply = SafeText::new(reply.map(ToString::to_string).unwrap_or_default());
        if from == to && judged.reply == to_reply {
            return None;
        }
        let mut not_known: Vec<_> =
            missing.iter().map(|practice| format!("what `{practice}` would find: nobody looked")).collect();
        if to == Action::Greylist && !again {
            not_known.push("whether the client came before".into());
        }
        if !judged.content_seen && from >= Action::Greylist && to < Action::Greylist {
            not_known.push("what the content would come to: it was not sent".into());
        }
        Some(VerdictChange {
            at,
            transaction: judged.transaction.clone(),
            recipient: judged.recipient.clone(),
            content_seen: judged.content_seen,
            from,
            from_reply: judged.reply.clone(),
            to,
            to_reply,
            because: because(judged, &judgement),
            not_known,
        })
    }

    /// The finding as the check gave it; `None` where these rules know no such practice.
    fn finding(&self, traced: &JudgedFinding) -> Option<Finding> {
        let (practice, _) = self.rules.get(traced.practice.as_str())?;
        let evidence = traced.evidence.to_string();
        let mut finding = match traced.outcome.as_str() {
            word if word == Outcome::Pass.as_str() => Finding::pass(practice.name(), evidence),
            word if word == Outcome::Fail.as_str() => Finding::fail(practice.name(), evidence),
            _ => Finding::unknown(practice.name(), evidence),
        };
        if let Some(weight) = traced.own_weight {
            finding = finding.with_weight(weight);
        }
        match &traced.explanation {
            Some(explanation) => Some(finding.with_explanation(explanation.to_string())),
            None => Some(finding),
        }
    }

    fn missing_in(&self, judged: &Judged) -> Vec<&'static str> {
        let is_found = |name: &str| judged.findings.iter().any(|finding| finding.practice.as_str() == name);
        self.rules.looked_at().filter(|name| !self.looked_at.contains(*name) && !is_found(name)).collect()
    }
}

impl fmt::Display for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "judgements {}, of which {} would be others", self.judged, self.changed)?;
        for ((from, to), count) in &self.kinds {
            // The words are the same where only the reply is another.
            let to = if from == to { "the same with another reply" } else { to };
            writeln!(f, "{count:>8}  {from} -> {to}")?;
        }
        for (practice, count) in &self.missing {
            writeln!(f, "not known: what `{practice}` would have found in {count} of them; nobody looked")?;
        }
        Ok(())
    }
}

impl fmt::Display for VerdictChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.content_seen { "with the content" } else { "at RCPT" };
        writeln!(f, "{}  {}  {}, {when}", DateTime::new(self.at), self.transaction, self.recipient)?;
        writeln!(f, "    from     {}", in_words(self.from.as_str(), self.from_reply.as_str()))?;
        writeln!(f, "    to       {}", in_words(self.to.as_str(), self.to_reply.as_str()))?;
        for reason in &self.because {
            writeln!(f, "    because  {reason}")?;
        }
        for gap in &self.not_known {
            writeln!(f, "    unknown  {gap}")?;
        }
        Ok(())
    }
}

/// What is done: all that lets a message pass is the same.
fn effect(action: Option<Action>) -> Action {
    action.filter(|action| *action > Action::Score).unwrap_or(Action::Observe)
}

/// What counts otherwise than it did.
fn because(judged: &Judged, judgement: &Judgement) -> Vec<String> {
    let shown = |action: &str, weight: u16| match action {
        "score" => format!("score {weight}"),
        action => action.to_owned(),
    };
    let mut of_findings: BTreeMap<&str, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for finding in &judged.findings {
        let (before, _) = of_findings.entry(finding.practice.as_str()).or_default();
        before.insert(shown(finding.action.as_str(), finding.weight));
    }
    for Contribution { practice, action, weight, .. } in judgement.contributions() {
        of_findings.entry(practice).or_default().1.insert(shown(action.as_str(), *weight));
    }
    let words = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" and ");
    let mut reasons: Vec<_> = of_findings
        .into_iter()
        .filter(|(_, (before, now))| before != now)
        .map(|(practice, (before, now))| match words(now) {
            now if now.is_empty() => format!("{practice}: {}, now nobody looks", words(before)),
            now => format!("{practice}: {}, now {now}", words(before)),
        })
        .collect();
    if judged.score != judgement.score() {
        reasons.push(format!("the score was {} and would be {}", judged.score, judgement.score()));
    } else if reasons.is_empty() {
        reasons.push(format!("a score of {} means something else", judged.score));
    }
    reasons
}
