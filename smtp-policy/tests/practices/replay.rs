//! Replay: a trace judged by its own rules gives its own verdicts, and by others those that a server with them gives.

use std::sync::{Arc, Mutex, PoisonError};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use smtp_core::async_trait;
use smtp_policy::{
    Action, Chain, Check, DecisionTrace, Finding, ForRoleMailboxes, Observation, Practice, Preset, Replay, Scope,
    Subject, Thresholds, TraceEntry, Traced,
};

use crate::support::{converse_observed, message, table};

const PRACTICES: [Practice; 3] = [
    Practice::new("client", "X1", "of the client")
        .fails([Action::Score; 3], [3; 3])
        .unknown([Action::Defer; 3])
        .refuses(7, 25, "No name"),
    Practice::new("sender", "X2", "of the sender")
        .fails([Action::Greylist; 3], [2; 3])
        .for_role_mailboxes(ForRoleMailboxes::Tagged)
        .refuses(7, 23, "Not from there"),
    Practice::new("content", "X3", "of the content")
        .fails([Action::Quarantine; 3], [4; 3])
        .for_role_mailboxes(ForRoleMailboxes::Kept),
];

/// Finds what it is told, about the client or the content.
struct Planned(Scope, Vec<Finding>);

#[async_trait]
impl Check for Planned {
    fn practices(&self) -> &[Practice] {
        if self.0 == Scope::Content { &PRACTICES[2..] } else { &PRACTICES[..2] }
    }

    fn scope(&self) -> Scope {
        self.0
    }

    async fn examine(&self, _: &Subject<'_>) -> Observation {
        self.1.iter().cloned().collect()
    }
}

/// What is configured: an action and a weight for each practice, and the thresholds.
type Settings = ([(Action, Action, u16); 3], Thresholds);

fn chain(findings: &[Finding], (settings, thresholds): &Settings) -> Chain {
    let of_content = |finding: &&Finding| finding.practice() == "content";
    let (content, envelope): (Vec<_>, Vec<_>) = findings.iter().partition(of_content);
    let owned = |findings: Vec<&Finding>| findings.into_iter().cloned().collect();
    let mut chain = Chain::new("planned", Preset::Bcp)
        .with(Planned(Scope::Client, owned(envelope)))
        .with(Planned(Scope::Content, owned(content)))
        .with_thresholds(*thresholds);
    for (practice, (fails, unknown, weight)) in PRACTICES.iter().zip(settings) {
        let rules = chain.rules_mut();
        rules.set_action(practice.name(), *fails).expect("it is there");
        rules.set_action_for_unknown(practice.name(), *unknown).expect("it is there");
        rules.set_weight(practice.name(), *weight).expect("it is there");
    }
    chain
}

/// What a server with that chain makes of one message to a user and a role mailbox.
async fn traced(chain: Chain) -> Vec<TraceEntry> {
    let kept = Arc::new(Mutex::new(DecisionTrace::rules_line(chain.rules())));
    let written = kept.clone();
    let keep = move |line: &str| written.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
    let trace = Arc::new(DecisionTrace::new(keep));
    let chain = chain.observed_by(trace.clone());
    let lines = message(&["RCPT TO:<user@example.org>", "RCPT TO:<abuse@example.org>"], "\r\nx");
    converse_observed(trace, table(), vec![Arc::new(chain)], "192.0.2.1", &lines).await;
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.lines().map(|line| TraceEntry::from_line(line).expect("we wrote it")).collect()
}

fn findings() -> impl Strategy<Value = Vec<Finding>> {
    let finding = (0..3_usize, 0..3_usize, proptest::option::of(0..12_u16), ".{0,8}", proptest::option::of(".{0,8}"))
        .prop_map(|(practice, outcome, weight, evidence, explanation)| {
            let make = [Finding::pass, Finding::fail, Finding::unknown][outcome];
            let finding = make(PRACTICES[practice].name(), evidence);
            let finding = weight.map_or(finding.clone(), |weight| finding.with_weight(weight));
            explanation.map_or(finding.clone(), |explanation| finding.with_explanation(explanation))
        });
    proptest::collection::vec(finding, 0..6)
}

fn settings() -> impl Strategy<Value = Settings> {
    // Nothing is off: what nobody looks at is another test.
    let action = || (1..Action::ALL.len()).prop_map(|place| Action::ALL[place]);
    let practice = || (action(), action(), 0..8_u16);
    let threshold = || proptest::option::of(1..20_u32);
    let thresholds = (threshold(), threshold(), threshold()).prop_map(|(greylist, tag, reject)| Thresholds {
        greylist,
        tag,
        reject,
    });
    ([practice(), practice(), practice()], thresholds)
}

fn judged(entries: &[TraceEntry]) -> Vec<&smtp_policy::Judged> {
    let judged = entries.iter().filter_map(|entry| match entry.traced() {
        Traced::Judged(judged) => Some(judged),
        _ => None,
    });
    judged.collect()
}

/// Of what was judged at `RCPT` for the user: there the other server meets the same.
fn at_rcpt(entries: &[TraceEntry]) -> (Action, String) {
    let all = judged(entries);
    let judged = all.iter().find(|judged| !judged.content_seen).expect("the user was judged");
    let action = Action::from_word(judged.action.as_str()).expect("an action");
    (if action <= Action::Score { Action::Observe } else { action }, judged.reply.to_string())
}

#[test] // PRACTICES P9: the weights are the score, and replaying gives the same verdict
fn p9_the_same_rules_change_nothing_and_others_what_a_server_with_them_would() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = Config { cases: 96, rng_seed: RngSeed::Fixed(9), failure_persistence: None, ..Config::default() };
    let differing = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&(findings(), settings(), settings()), |(findings, one, other)| {
        let (of_one, of_other) = (chain(&findings, &one), chain(&findings, &other));
        let (same, others) = (of_one.rules().clone(), of_other.rules().clone());
        let (entries, expected) = runtime.block_on(async { (traced(of_one).await, traced(of_other).await) });
        for judged in judged(&entries) {
            let sum: u32 = judged.findings.iter().map(|finding| u32::from(finding.weight)).sum();
            prop_assert_eq!(sum, judged.score);
        }
        let mut replay = Replay::new(&same);
        let changes: Vec<_> = entries.iter().filter_map(|entry| replay.judge(entry)).collect();
        prop_assert_eq!(changes, []);
        prop_assert!(replay.judged() > 0 && replay.changed() == 0 && replay.missing().next().is_none());
        let mut replay = Replay::new(&others);
        let changes: Vec<_> = entries.iter().filter_map(|entry| replay.judge(entry)).collect();
        let change = changes.iter().find(|change| !change.content_seen);
        let (before, mut after) = (at_rcpt(&entries), at_rcpt(&expected));
        // Nobody knows here who came again: whoever is asked to is let pass.
        let is_greylisted = change.is_some_and(|change| change.to == Action::Greylist);
        if is_greylisted {
            prop_assert!(change.is_some_and(|change| change.not_known.len() == 1));
            after = before.clone();
        }
        if let Some(change) = change.filter(|_| !is_greylisted) {
            prop_assert_eq!((change.to, change.to_reply.to_string()), after);
            prop_assert!(!change.because.is_empty());
        } else {
            prop_assert_eq!(before, after);
        }
        differing.set(differing.get() + u64::from(change.is_some()));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("seed 9: {error}"));
    assert!(differing.get() > 20, "the settings differ: {differing:?}");
}

fn scoring() -> Settings {
    let scores = (Action::Score, Action::Observe, 3);
    ([scores, scores, scores], Thresholds { greylist: None, tag: Some(5), reject: Some(10) })
}

#[tokio::test]
async fn a_change_says_from_what_to_what_and_why() {
    let findings = [Finding::fail("client", "no name"), Finding::fail("content", "no Date")];
    let entries = traced(chain(&findings, &scoring())).await;
    let (mut stricter, _) = scoring();
    stricter[0].0 = Action::Reject;
    let rules = chain(&[], &(stricter, scoring().1)).rules().clone();
    let mut replay = Replay::new(&rules);
    let changes: Vec<_> = entries.iter().filter_map(|entry| replay.judge(entry)).collect();
    let said: Vec<_> =
        changes.iter().map(|change| change.to_string().split_once('\n').expect("lines").1.to_owned()).collect();
    let because = "    because  client: score 3, now reject\n    because  the score was";
    assert_eq!(
        said,
        [
            format!("    from     let pass\n    to       refused: 550 5.7.25 No name\n{because} 3 and would be 0\n"),
            format!(
                "    from     delivered as junk\n    to       refused: 550 5.7.25 No name\n{because} 6 and would be 3\n"
            ),
        ]
    );
    assert_eq!(
        replay.to_string(),
        "judgements 3, of which 2 would be others\n       1  delivered as junk -> refused\n       1  let pass -> refused\n"
    );
    let rules = chain(&[], &(scoring().0, Thresholds { tag: None, ..scoring().1 })).rules().clone();
    let mut replay = Replay::new(&rules);
    let changes: Vec<_> = entries.iter().filter_map(|entry| replay.judge(entry)).collect();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].because, ["a score of 6 means something else"]);
}

#[tokio::test] // What nobody looked at is said, not guessed.
async fn what_the_trace_does_not_have_is_named() {
    let (mut settings, thresholds) = scoring();
    settings[2] = (Action::Off, Action::Off, 0);
    settings[0].0 = Action::Reject;
    let entries = traced(chain(&[Finding::fail("client", "no name")], &(settings, thresholds))).await;
    let rules = chain(&[], &scoring()).rules().clone();
    let mut replay = Replay::new(&rules);
    let changes: Vec<_> = entries.iter().filter_map(|entry| replay.judge(entry)).collect();
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.from, change.to), (Action::Reject, Action::Observe));
    assert_eq!(
        change.not_known,
        ["what `content` would find: nobody looked", "what the content would come to: it was not sent"]
    );
    assert_eq!(replay.missing().collect::<Vec<_>>(), [("content", 2)]);
    assert!(replay.to_string().ends_with("not known: what `content` would have found in 2 of them; nobody looked\n"));
    let mut replay = Replay::new(&rules);
    assert!(entries[1..].iter().filter_map(|entry| replay.judge(entry)).count() > 0);
    assert!(replay.missing().count() > 1, "without a heading nobody knows what was looked at");
}
