//! The operator's own rules, as clients meet them (PRACTICES B2505.5–7, B2505.13, P3a, S20).

use std::sync::Arc;

use smtp_core::{Policy, ResolverTable};
use smtp_policy::{AccessAction, AccessRule, AccessRules, AccessSubject, Chain, Preset, ReverseDns};

use crate::support::{Transcript, converse};

fn rule(subject: AccessSubject, action: AccessAction) -> AccessRules {
    AccessRules::new().with(AccessRule::new(subject, action).expect("it fits"))
}

fn client(network: &str) -> AccessSubject {
    AccessSubject::Client(network.parse().expect("a network"))
}

fn sender(pattern: &str) -> AccessSubject {
    AccessSubject::Sender(pattern.parse().expect("a pattern"))
}

fn subjects() -> [AccessSubject; 6] {
    [
        client("192.0.2.0/24"),
        sender("client.example"),
        sender(".example"),
        sender("SENDER@client.example"),
        AccessSubject::Greeting("mx.client.example".parse().expect("a pattern")),
        AccessSubject::Recipient("user@example.org".parse().expect("a pattern")),
    ]
}

async fn say(policies: Vec<Arc<dyn Policy>>, from: &str) -> Transcript {
    let from = format!("MAIL FROM:<{from}>");
    let lines = [
        "EHLO mx.client.example",
        from.as_str(),
        "RCPT TO:<user@example.org>",
        "RCPT TO:<postmaster>",
        "RCPT TO:<abuse@example.org>",
        "RCPT TO:<nobody@example.org>",
        "DATA",
        "\r\nx",
        ".",
    ];
    converse(policies, "192.0.2.1", &lines).await
}

#[tokio::test] // PRACTICES B2505.5–7, B2505.13, P3: each kind of rule, 4yz or 5yz, held until RCPT
async fn b2505_5_each_kind_of_rule_refuses_or_defers_at_rcpt_and_spares_role_mailboxes() {
    for subject in subjects() {
        for (action, expected) in [(AccessAction::Refuse, "550 5.7.1 "), (AccessAction::Defer, "451 4.7.1 ")] {
            let seen = say(vec![Arc::new(rule(subject.clone(), action))], "sender@client.example").await;
            let [mail, user, postmaster, abuse, nobody, ..] = &seen.replies[..] else { panic!("{seen:?}") };
            assert!(mail.starts_with("250 ") && user.starts_with(expected), "{subject:?}: {seen:?}");
            assert!(postmaster.starts_with("250 ") && abuse.starts_with("250 "), "{subject:?}: {seen:?}");
            assert!(nobody.starts_with("550 5.1.1 "), "{subject:?}: {seen:?}");
            assert_eq!(seen.delivered[0].recipients.len(), 2, "{subject:?}: {seen:?}");
        }
    }
    let words = AccessRule::new(client("192.0.2.1/32"), AccessAction::Refuse).expect("it fits").saying("Ask\r\nus");
    let seen = say(vec![Arc::new(AccessRules::new().with(words))], "a@b.example").await;
    assert_eq!(seen.replies[1], "550 5.7.1 Ask??us");
}

#[tokio::test] // PRACTICES B2505.6, S20: the null reverse-path is never refused by a rule for senders
async fn b2505_6_no_rule_for_senders_meets_the_null_reverse_path() {
    for subject in subjects().into_iter().filter(|subject| matches!(subject, AccessSubject::Sender(_))) {
        let seen = say(vec![Arc::new(rule(subject.clone(), AccessAction::Refuse))], "").await;
        assert!(seen.replies[1].starts_with("250 "), "{subject:?}: {seen:?}");
    }
}

#[tokio::test] // PRACTICES P3a: 554 5.7.1 and close
async fn p3a_a_blocked_network_is_told_at_once() {
    let block = rule(client("192.0.2.0/24"), AccessAction::Block);
    let seen = say(vec![Arc::new(block.clone())], "sender@client.example").await;
    assert_eq!((&seen.greeting[..], seen.replies.len()), ("554 5.7.1 No mail from your network", 0), "{seen:?}");
    let others = converse(vec![Arc::new(block)], "198.51.100.1", &["EHLO a.example", "NOOP"]).await;
    assert!(others.greeting.starts_with("220 "), "{others:?}");
    // The first rule that fits holds: one host of the network is spared.
    let spared = rule(client("192.0.2.1/32"), AccessAction::Exempt)
        .with(AccessRule::new(client("192.0.2.0/24"), AccessAction::Block).expect("a client"));
    let seen = say(vec![Arc::new(spared)], "sender@client.example").await;
    assert!(seen.replies[1].starts_with("250 "), "{seen:?}");
}

#[tokio::test] // PRACTICES B2505.5: who is exempt is not judged by what is known of client and envelope, also behind the content
async fn b2505_5_who_is_exempt_passes_where_others_are_refused() {
    // Strict: no reverse name is refused.
    let strict = || Arc::new(Chain::new("strict", Preset::BcpStrict).with(ReverseDns::new(ResolverTable::new())));
    let seen = say(vec![strict()], "sender@client.example").await;
    assert!(seen.replies[1].starts_with("550 5.7.25 "), "{seen:?}");
    for subject in subjects() {
        let rules = Arc::new(rule(subject.clone(), AccessAction::Exempt));
        let seen = say(vec![rules, strict()], "sender@client.example").await;
        assert!(seen.replies[1].starts_with("250 "), "{subject:?}: {seen:?}");
        let [delivered] = &seen.delivered[..] else { panic!("{subject:?}: {seen:?}") };
        let user = delivered.recipients.iter().find(|(path, _)| path.contains("user@")).expect("a copy");
        assert_eq!(user.1, "Deliver", "{subject:?}: {seen:?}");
    }
}

#[tokio::test] // PRACTICES P6
async fn p6_authenticated_clients_have_no_rules() {
    let lines =
        ["EHLO a.example", "AUTH PLAIN AGFsaWNlAHg=", "MAIL FROM:<a@client.example>", "RCPT TO:<user@example.org>"];
    for subject in subjects() {
        let seen = converse(vec![Arc::new(rule(subject, AccessAction::Refuse))], "192.0.2.1", &lines).await;
        assert!(seen.replies[2].starts_with("250 "), "{seen:?}");
    }
}
