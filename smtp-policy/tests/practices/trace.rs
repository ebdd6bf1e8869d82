//! The trace of a session: all that was said, found and decided is in it, in the words of who decided, and no secret.

use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::async_trait;
use smtp_policy::{
    Action, Chain, Check, DecisionTrace, Finding, Observation, Practice, Preset, Scope, SessionTrace, Subject,
    TRACE_SESSION_LIMIT_OCTETS, TraceEntry, Traced,
};

use crate::support::{Transcript, converse_observed, message, table};

const CLIENT: Practice = Practice::new("client", "X1", "of the client").fails([Action::Score; 3], [3; 3]);
const SENDER: Practice =
    Practice::new("sender", "X2", "of the sender").fails([Action::Reject; 3], [0; 3]).refuses(7, 2, "Not from there");
const CONTENT: Practice = Practice::new("content", "X3", "of the content").fails([Action::Score; 3], [1; 3]);

/// Finds what it is told.
struct Planned(Practice, Scope, Vec<Finding>);

#[async_trait]
impl Check for Planned {
    fn practices(&self) -> &[Practice] {
        std::slice::from_ref(&self.0)
    }

    fn scope(&self) -> Scope {
        self.1
    }

    async fn examine(&self, _: &Subject<'_>) -> Observation {
        self.2.iter().cloned().collect()
    }
}

/// A chain whose client scores by two lists, whose sender is as said, and whose content scores one.
fn chain(sender: Vec<Finding>) -> Chain {
    let client = vec![
        Finding::fail("client", "on list.example").with_weight(4),
        Finding::fail("client", "on another.example").with_weight(2),
    ];
    let content = vec![Finding::fail("content", "no Date\r\nforged: line"), Finding::pass("content", "a Subject")];
    Chain::new("planned", Preset::Bcp)
        .with(Planned(CLIENT, Scope::Client, client))
        .with(Planned(SENDER, Scope::Sender, sender))
        .with(Planned(CONTENT, Scope::Content, content))
}

/// Says these lines to a server with that chain, and keeps the trace.
async fn traced(chain: Chain, lines: &[&str]) -> (Transcript, Vec<TraceEntry>) {
    let kept = Arc::new(Mutex::new(String::new()));
    let written = kept.clone();
    let keep = move |line: &str| written.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
    let trace = Arc::new(DecisionTrace::new(keep));
    let chain = chain.observed_by(trace.clone());
    let seen = converse_observed(trace, table(), vec![Arc::new(chain)], "192.0.2.1", lines).await;
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    (seen, kept.lines().map(|line| TraceEntry::from_line(line).expect("we wrote it")).collect())
}

#[tokio::test] // PRACTICES P9, S41: the session, its findings, their weights and the replies
async fn p9_the_page_of_a_session_says_what_was_found_and_why_it_was_decided_so() {
    let lines = message(
        &["RCPT TO:<user@example.org>", "RCPT TO:<nobody@example.org>", "RCPT TO:<abuse@example.org>"],
        "\r\nx",
    );
    let (seen, entries) = traced(chain(Vec::new()), &lines).await;
    assert_eq!(seen.delivered.len(), 1, "{seen:?}");
    let session = entries[0].session().expect("a session").to_owned();
    let page = SessionTrace::find(&session, || entries.clone()).expect("it is there").to_string();
    let mut rest = &page[..];
    for line in [
        &format!("session {session}\n"),
        "connected: 192.0.2.1:1 to 192.0.2.25:25\n",
        "greeted: client.example (ESMTP)\n",
        &format!("MAIL <sender@client.example>: ok (transaction {session}-1)\n"),
        "`planned` on <user@example.org>, at RCPT: let pass\n",
        "X1       client                   fail     score 2    on another.example\n",
        "X1       client                   fail     score 4    on list.example\n",
        "score 6 = 2 (client) + 4 (client)\n",
        "greylist because of the score, but it came again or is known\n",
        "RCPT <user@example.org>: ok\n",
        "refused at lookup: <nobody@example.org>: 550 5.1.1 ",
        "RCPT <abuse@example.org>: ok\n",
        "`planned` on <user@example.org>, with the content: delivered as junk\n",
        "X3       content                  pass                a Subject\n",
        "X3       content                  fail     score 1    no Date??forged: line\n",
        "score 7 = 2 (client) + 4 (client) + 1 (content)\n",
        "because of the score\n",
        "`planned` on <abuse@example.org>, a role mailbox, with the content: let pass\n",
        "score 0\n",
        "nothing that was found asks for more\n",
        "accepted: ",
        "closed: ",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} in its place:\n{page}"));
        rest = &rest[at + line.len()..];
    }
}

#[tokio::test] // B2505.2 to 4: from the transaction in Received one finds the session
async fn a_session_is_found_by_its_transaction_and_only_it_is_shown() {
    let lines = message(&["RCPT TO:<user@example.org>"], "\r\nx");
    let (_, mut entries) = traced(chain(Vec::new()), &lines).await;
    let (_, others) = traced(chain(Vec::new()), &lines).await;
    let session = entries[0].session().expect("a session").to_owned();
    let own = entries.len();
    entries.extend(others);
    entries.sort_by_key(TraceEntry::at);
    let found = SessionTrace::find(&format!("{session}-1"), || entries.clone()).expect("it is there");
    assert_eq!(found.entries().len(), own);
    assert!(found.entries().iter().all(|entry| entry.session() == Some(&session)));
    for unknown in ["", "-", "0000000000000000", "x"] {
        assert_eq!(SessionTrace::find(unknown, || entries.clone()), None, "{unknown:?}");
    }
}

#[tokio::test] // The reply of a refusal is in the trace, with what decided.
async fn a_refusal_names_the_practice_and_the_reply() {
    let refused = chain(vec![Finding::fail("sender", "forged").with_explanation("ask there")]);
    let (seen, entries) = traced(refused, &message(&["RCPT TO:<user@example.org>"], "")[..3]).await;
    assert_eq!(seen.replies[1], "550 5.7.2 Not from there: ask there");
    let judged = entries.iter().find_map(|entry| match entry.traced() {
        Traced::Judged(judged) => Some(judged),
        _ => None,
    });
    let judged = judged.expect("it was judged");
    assert_eq!((judged.action.as_str(), judged.reply.as_str()), ("reject", seen.replies[1].as_str()));
    let session = entries[0].session().expect("a session");
    let page = SessionTrace::find(session, || entries.clone()).expect("it is there").to_string();
    assert!(page.contains("because of sender\n"), "{page}");
    assert!(
        page.contains("refused at recipient: <user@example.org>: 550 5.7.2 Not from there: ask there (by `planned`)")
    );
}

#[tokio::test] // DESIGN: a rule can be tried in shadow before it bites
async fn what_is_in_shadow_passes_and_the_trace_says_what_it_would_have_done()
-> Result<(), smtp_policy::UnknownPractice> {
    let findings = || vec![Finding::fail("sender", "forged")];
    let shadowed = chain(findings()).with_action("sender", Action::Observe)?;
    let (seen, entries) = traced(shadowed, &message(&["RCPT TO:<user@example.org>"], "\r\nx")).await;
    assert!(seen.replies[1].starts_with("250 "), "{seen:?}");
    let session = entries[0].session().expect("a session");
    let page = SessionTrace::find(session, || entries.clone()).expect("it is there").to_string();
    assert!(page.contains("[in shadow: the preset would reject]"), "{page}");
    assert!(page.contains("without shadow: refused: 550 5.7.2 Not from there\n"), "{page}");
    let (_, entries) = traced(chain(vec![Finding::pass("sender", "good")]), &["EHLO x"]).await;
    assert!(!entries.iter().any(|entry| entry.to_line().contains("shadow")));
    Ok(())
}

#[tokio::test] // No secret in a trace
async fn a_password_is_not_in_the_trace() {
    // "\0paul\0secret-of-paul"
    let mut lines = message(&["RCPT TO:<user@example.org>"], "\r\nsecret-of-paul");
    lines.insert(1, "AUTH PLAIN AHBhdWwAc2VjcmV0LW9mLXBhdWw=");
    lines.insert(1, "AUTH PLAIN");
    lines.insert(2, "*");
    let (seen, entries) = traced(chain(Vec::new()), &lines).await;
    assert_eq!(seen.delivered.len(), 1, "{seen:?}");
    let all: String = entries.iter().map(TraceEntry::to_line).collect();
    assert!(all.contains("\"what\":\"authenticated\",\"identity\":\"paul\",\"mechanism\":\"PLAIN\""), "{all}");
    assert!(!all.contains("secret") && !all.contains("AHBhdWw"), "{all}");
}

#[tokio::test] // SECURITY: nothing is unbounded
async fn a_session_fills_no_more_than_its_part_and_its_end_is_there() {
    let long = format!("RCPT TO:<{}@example.org>", "x".repeat(60));
    let mut lines = vec!["EHLO client.example"];
    for _ in 0..4 {
        lines.push("MAIL FROM:<>");
        lines.extend(std::iter::repeat_n("RCPT TO:<user@example.org>", 400));
        lines.push("RSET");
    }
    lines.push(&long);
    let (_, entries) = traced(chain(Vec::new()), &lines).await;
    let octets: usize = entries.iter().map(|entry| entry.to_line().len()).sum();
    assert!(octets > TRACE_SESSION_LIMIT_OCTETS / 2 && octets < TRACE_SESSION_LIMIT_OCTETS + 1000, "{octets}");
    let cuts = entries.iter().filter(|entry| *entry.traced() == Traced::Cut).count();
    let last = entries.last().map(TraceEntry::traced);
    assert_eq!(cuts, 1);
    assert!(matches!(last, Some(Traced::Closed { .. })), "{last:?}");
}
