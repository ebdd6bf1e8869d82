//! A policy of checks, as a client meets it: what runs when, what is held back, what is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smtp_core::{Policy, ResolverTable, Stages, async_trait};
use smtp_policy::{
    Action, CHECK_LIMIT, Chain, Check, Finding, ForRoleMailboxes, Greylisting, NullSender, Observation, Practice,
    Preset, ReverseDns, Scope, Subject,
};

use crate::support::{Judged, converse, message};

const PRACTICE: Practice = Practice::new("planned", "X1", "What the test wants")
    .refuses(7, 7, "Planned")
    .for_role_mailboxes(ForRoleMailboxes::Tagged);

/// Finds what it is told, and counts how often it was asked.
#[derive(Clone)]
struct Planned {
    practice: Practice,
    scope: Scope,
    hangs: bool,
    asked: Arc<AtomicUsize>,
}

impl Planned {
    fn new(scope: Scope, action: Action) -> Self {
        Self { practice: PRACTICE.fails([action; 3], [6; 3]), scope, hangs: false, asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Check for Planned {
    fn practices(&self) -> &[Practice] {
        std::slice::from_ref(&self.practice)
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        assert_eq!(subject.transaction().is_some(), self.scope > Scope::Client);
        assert_eq!(subject.recipient().is_some(), self.scope == Scope::Recipient);
        assert_eq!(subject.content().is_some(), self.scope >= Scope::Content);
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            tokio::time::sleep(CHECK_LIMIT * 2).await;
        }
        Finding::fail("planned", "as planned").into()
    }
}

fn chain(check: &Planned) -> Arc<Chain> {
    Arc::new(Chain::new("planned", Preset::Bcp).with(check.clone()))
}

fn codes(replies: &[String]) -> Vec<&str> {
    replies.iter().map(|reply| &reply[..3]).collect()
}

const SCOPES: [Scope; 5] = [Scope::Client, Scope::Sender, Scope::Recipient, Scope::Content, Scope::Conclusion];

#[tokio::test] // PRACTICES P3: greeting 220, EHLO 250, MAIL 250, RCPT user 550, RCPT postmaster 250
async fn p3_a_rejection_waits_for_rcpt_and_spares_role_mailboxes() {
    for scope in [Scope::Client, Scope::Sender, Scope::Recipient] {
        let check = Planned::new(scope, Action::Reject);
        let recipients = ["RCPT TO:<user@example.org>", "RCPT TO:<postmaster>", "RCPT TO:<abuse@example.org>"];
        let seen = converse(vec![chain(&check)], "192.0.2.1", &message(&recipients, "Subject: x\r\n\r\nx")).await;
        assert_eq!(codes(&seen.replies), ["250", "550", "250", "250", "354", "250"], "{scope:?}");
        assert_eq!(seen.replies[1], "550 5.7.7 Planned");
        let [delivered] = &seen.delivered[..] else { panic!("{seen:?}") };
        assert_eq!(delivered.recipients.len(), 2);
    }
}

#[tokio::test]
async fn a_check_takes_the_place_of_one_with_the_same_practices() {
    let (first, second) = (Planned::new(Scope::Client, Action::Reject), Planned::new(Scope::Client, Action::Reject));
    let chain = Chain::new("planned", Preset::Bcp).with(first.clone()).with(NullSender).with_instead(second.clone());
    let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&["RCPT TO:<user@example.org>"], "")).await;
    assert_eq!((seen.replies[1].as_str(), first.asked(), second.asked()), ("550 5.7.7 Planned", 0, 1));
}

#[tokio::test] // PRACTICES P7, S17, S44: the lookup comes first
async fn p7_an_unknown_user_is_refused_at_once_and_costs_no_check() {
    for action in [Action::Reject, Action::Defer, Action::Greylist] {
        let check = Planned::new(Scope::Client, action);
        let recipients = ["RCPT TO:<nobody@example.org>", "RCPT TO:<user@elsewhere.example>"];
        let mut lines = message(&recipients, "");
        lines.truncate(4);
        let seen = converse(vec![chain(&check)], "192.0.2.1", &lines).await;
        assert!(seen.replies[1].starts_with("550 5.1.1 ") && seen.replies[2].starts_with("550 5.7.1 "), "{seen:?}");
        assert_eq!(check.asked(), 0, "nothing was looked up for them");
    }
}

#[tokio::test]
async fn what_was_seen_of_the_client_is_remembered_for_the_session_and_of_the_sender_for_the_transaction() {
    let checks: Vec<_> = SCOPES.map(|scope| Planned::new(scope, Action::Observe)).into();
    // Of the same name: only the first counts for the rules, and all run.
    let chain = checks.iter().fold(Chain::new("all", Preset::Bcp), |chain, check| chain.with(check.clone()));
    let recipients = ["RCPT TO:<user@example.org>", "RCPT TO:<other@example.org>"];
    let mut lines = message(&recipients, "\r\nx");
    lines.extend_from_within(1..);
    // A client that introduces itself anew is looked at anew.
    lines.extend(["EHLO another.example", "MAIL FROM:<>", "RCPT TO:<user@example.org>"]);
    let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
    assert_eq!(seen.delivered.len(), 2, "{seen:?}");
    let asked: Vec<_> = checks.iter().map(Planned::asked).collect();
    assert_eq!(asked, [2, 3, 5, 2, 2], "client, sender, recipient, content, conclusion");
}

#[tokio::test] // PRACTICES P6
async fn p6_authenticated_clients_and_trusted_networks_are_spared_but_for_the_content() {
    for (scope, is_spared) in SCOPES.into_iter().zip([true, true, true, false, false]) {
        let check = Planned::new(scope, Action::Observe);
        let mut lines = message(&["RCPT TO:<user@example.org>"], "\r\nx");
        lines.insert(1, "AUTH PLAIN AGFsaWNlAHg=");
        let seen = converse(vec![chain(&check)], "192.0.2.1", &lines).await;
        assert_eq!((seen.delivered.len(), check.asked() == 0), (1, is_spared), "{scope:?}");
        let check = Planned::new(scope, Action::Observe);
        let trusting =
            Chain::new("x", Preset::Bcp).with(check.clone()).trusting("192.0.2.0/24".parse().expect("a network"));
        let lines = message(&["RCPT TO:<user@example.org>"], "\r\nx");
        converse(vec![Arc::new(trusting)], "192.0.2.1", &lines).await;
        assert_eq!(check.asked() == 0, is_spared, "{scope:?}");
    }
}

#[tokio::test]
async fn a_check_that_nobody_wants_is_not_asked_and_costs_no_stage() -> Result<(), smtp_policy::UnknownPractice> {
    for scope in SCOPES {
        let check = Planned::new(scope, Action::Reject);
        let off = Chain::new("off", Preset::Bcp).with(check.clone()).with_action("planned", Action::Off)?;
        assert_eq!(off.stages(), Stages::NONE);
        let lines = message(&["RCPT TO:<user@example.org>"], "\r\nx");
        assert_eq!(converse(vec![Arc::new(off)], "192.0.2.1", &lines).await.delivered.len(), 1);
        assert_eq!(check.asked(), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)] // STANDARDS TO11, PRACTICES P5
async fn p5_a_check_that_hangs_is_unknown_and_refuses_nobody_for_good() {
    let mut check = Planned::new(Scope::Client, Action::Reject);
    check.hangs = true;
    let lines = message(&["RCPT TO:<user@example.org>"], "\r\nx");
    assert_eq!(converse(vec![chain(&check)], "192.0.2.1", &lines).await.delivered.len(), 1);
    check.practice = check.practice.unknown([Action::Reject; 3]);
    let seen = converse(vec![chain(&check)], "192.0.2.1", &lines).await;
    assert_eq!(seen.replies[1], "451 4.7.7 What is asked of mail cannot be found out now, try again later");
}

#[tokio::test] // PRACTICES S33, P4
async fn s33_the_copy_of_each_recipient_is_tagged_quarantined_or_refused() {
    let recipients = ["RCPT TO:<user@example.org>", "RCPT TO:<postmaster>"];
    let content = "X-Spam-Flag: no\r\nSubject: x\r\n\r\nx";
    for (action, replies, dispositions) in [
        (Action::Observe, &["250", "250", "250", "354", "250"][..], &["Deliver", "Deliver"][..]),
        (Action::Tag, &["250", "250", "250", "354", "250"], &["Junk", "Junk"]),
        (Action::Score, &["250", "250", "250", "354", "250"], &["Junk", "Junk"]),
        (Action::Quarantine, &["250", "250", "250", "354", "250"], &["Quarantine(\"planned\")", "Junk"]),
        // One answer for all: the copy of the user is marked, that of the postmaster goes through.
        (Action::Reject, &["250", "250", "250", "354", "250"], &["Junk", "Junk"]),
    ] {
        let check = Planned::new(Scope::Content, action);
        let seen = converse(vec![chain(&check)], "192.0.2.1", &message(&recipients, content)).await;
        assert_eq!(codes(&seen.replies), replies, "{action}");
        let found: Vec<_> = seen.delivered[0].recipients.iter().map(|(_, disposition)| disposition.as_str()).collect();
        assert_eq!(found, dispositions, "{action}");
        let marks = if action == Action::Observe { vec![] } else { vec!["YES".to_owned()] };
        assert_eq!(seen.delivered[0].fields("X-Spam-Flag"), marks, "{action}");
        let alone = converse(vec![chain(&check)], "192.0.2.1", &message(&recipients[..1], content)).await;
        let last = alone.replies.last().expect("a reply");
        assert_eq!(last.starts_with("550 5.7.7"), action == Action::Reject, "{last}");
    }
}

/// Lets pass who was there before, and remembers who was good.
#[derive(Clone, Default)]
struct Once {
    seen: Arc<AtomicUsize>,
    learnt: Arc<AtomicUsize>,
}

#[async_trait]
impl Greylisting for Once {
    async fn may_pass(&self, subject: &Subject<'_>) -> bool {
        assert!(subject.recipient().is_some() && subject.findings().count() > 0);
        self.seen.fetch_add(1, Ordering::Relaxed) > 0
    }

    async fn learn(&self, _: &Subject<'_>) {
        self.learnt.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test] // PRACTICES S43
async fn s43_who_is_greylisted_passes_when_it_comes_again() {
    let check = Planned::new(Scope::Client, Action::Greylist);
    let greylisting = Once::default();
    let judged = Judged::default();
    let chain =
        Chain::new("grey", Preset::Bcp).with(check).with_greylisting(greylisting.clone()).observed_by(judged.clone());
    let rcpt = "RCPT TO:<user@example.org>";
    let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&[rcpt, rcpt], "\r\nx")).await;
    assert_eq!(codes(&seen.replies), ["250", "451", "250", "354", "250"]);
    assert_eq!(greylisting.learnt.load(Ordering::Relaxed), 1);
    // PRACTICES P9: each judgement is told with what it rests on.
    let told: Vec<_> = judged
        .events()
        .iter()
        .map(|event| (event.content_seen, event.action.to_string(), event.reply.is_some()))
        .collect();
    let expected = [(false, "greylist", true), (false, "observe", false), (true, "observe", false)];
    assert_eq!(told, expected.map(|(content, action, reply)| (content, action.to_owned(), reply)));
    assert_eq!(judged.events()[0].findings[0].evidence.as_str(), "as planned");
}

#[tokio::test] // PRACTICES S1 to S3 × presets, P3
async fn s1_s2_s3_reverse_dns_by_preset() {
    let dns = ResolverTable::new()
        .with_host("mx.client.example", "192.0.2.1")
        .with_ptr("192.0.2.3", "gone.client.example")
        .with_ptr("192.0.2.4", "mx.client.example")
        .with_unknown_ptr("192.0.2.5");
    let recipients = ["RCPT TO:<user@example.org>", "RCPT TO:<postmaster@example.org>"];
    for (peer, replies) in [
        ("192.0.2.1", ["250", "250", "250"]),
        ("192.0.2.2", ["250", "451 4.7.1", "550 5.7.25"]),
        ("192.0.2.3", ["250", "451 4.7.1", "550 5.7.25"]),
        ("192.0.2.4", ["250", "451 4.7.1", "550 5.7.25"]),
        ("192.0.2.5", ["250", "250", "450 4.7.25"]),
    ] {
        for (preset, expected) in Preset::ALL.into_iter().zip(replies) {
            let chain = Chain::new("dns", preset).with(ReverseDns::new(dns.clone())).with_greylisting(Never);
            let seen = converse(vec![Arc::new(chain)], peer, &message(&recipients, "\r\nx")).await;
            assert!(seen.replies[1].starts_with(expected), "{peer} {preset:?}: {:?}", seen.replies);
            assert!(seen.replies[2].starts_with("250 "), "{peer} {preset:?}: {:?}", seen.replies);
        }
    }
}

/// Nobody came before.
struct Never;

#[async_trait]
impl Greylisting for Never {
    async fn may_pass(&self, _: &Subject<'_>) -> bool {
        false
    }
}

#[test] // DESIGN: what runs where, in which mode
fn the_chain_says_what_runs_when_what_it_asks_and_what_is_in_shadow() -> Result<(), smtp_policy::UnknownPractice> {
    let mut content = Planned::new(Scope::Content, Action::Score);
    content.practice = Practice::new("filtered", "X2", "What a filter says").fails([Action::Score; 3], [6; 3]);
    let mut off = Planned::new(Scope::Recipient, Action::Off);
    off.practice = Practice::new("unwanted", "X3", "What nobody wants").fails([Action::Off; 3], [0; 3]);
    let chain = Chain::new("all", Preset::Bcp)
        .with(content)
        .with(off)
        .with(Planned::new(Scope::Sender, Action::Reject))
        .with(smtp_policy::SenderDomain::new(ResolverTable::new()))
        .with_action("planned", Action::Observe)?;
    let expected = "\
preset bcp

sender: at the first RCPT of a transaction, all at the same time
  a check of mail of strangers: no DNS, at most 20 s
    X1      planned                      observe, in shadow: reject   What the test wants
  a check of mail of strangers: DNS is asked, at most 20 s
    B2505.9 sender-domain                reject, unknown: defer       The domain of the reverse-path exists
    B2505.9 sender-null-mx               reject                       The domain of the reverse-path does not say that it takes no mail

recipient: at each RCPT behind those, all at the same time
  a check that does not run, since all of its practices are off
    X3      unwanted                     off                          What nobody wants

content: when it has come, all at the same time
  a check of mail of everybody: no DNS, at most 20 s
    X2      filtered                     score 6                      What a filter says

score: greylist 2, tag 5, reject 10; nobody is asked to come again";
    assert_eq!(chain.explain_chain(), expected);
    Ok(())
}
