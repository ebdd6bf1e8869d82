//! What is known of the client and the reverse-path, as a client meets it: each practice under each preset.

use std::sync::Arc;

use smtp_core::{Domain, ResolverTable, RoleMailboxes, async_trait};
use smtp_policy::{
    Action, Chain, Check, DnsList, Dnsbl, Dnswl, DomainDnsbl, Greylisting, Helo, KnownClient, NullSender, Preset,
    ReverseDns, SenderDomain, Subject, Trust,
};

use crate::support::{Judged, Transcript, converse, converse_about, message, table};

/// Nobody came before; whom a list knows need not.
struct OnlyKnown;

#[async_trait]
impl Greylisting for OnlyKnown {
    async fn may_pass(&self, subject: &Subject<'_>) -> bool {
        subject.fact::<KnownClient>().is_some_and(|KnownClient(trust)| *trust >= Trust::Low)
    }
}

const USER: &str = "RCPT TO:<user@example.org>";
const POSTMASTER: &str = "RCPT TO:<postmaster@example.org>";

/// What is said under one preset, to a client that says `greeting` and `mail`.
async fn said(preset: Preset, check: impl Check + 'static, peer: &str, greeting: &str, mail: &str) -> Transcript {
    let chain = Chain::new("one", preset).with(check).with_greylisting(OnlyKnown);
    let mut lines = message(&[USER, POSTMASTER], "\r\nx");
    (lines[0], lines[1]) = (greeting, mail);
    converse(vec![Arc::new(chain)], peer, &lines).await
}

/// The replies to the recipient by preset; the postmaster gets the message under each (PRACTICES P3, P4).
async fn by_preset(
    check: &(impl Check + Clone + 'static),
    peer: &str,
    greeting: &str,
    mail: &str,
    expected: [&str; 3],
) {
    for (preset, expected) in Preset::ALL.into_iter().zip(expected) {
        let seen = said(preset, check.clone(), peer, greeting, mail).await;
        let [sender, user, postmaster, ..] = &seen.replies[..] else { panic!("{seen:?}") };
        let case = format!("{preset:?} {peer} {greeting} {mail}: {seen:?}");
        assert!(sender.starts_with("250 ") && postmaster.starts_with("250 "), "{case}");
        assert!(user.starts_with(expected), "{case}");
        assert_eq!(seen.delivered.len(), 1, "{case}");
    }
}

const MAIL: &str = "MAIL FROM:<sender@client.example>";

#[tokio::test] // PRACTICES S8, S10, S11, S12, S12a × presets
async fn s10_s11_s12_s12a_the_greeting_by_preset() {
    let dns = ResolverTable::new()
        .with_address("mx.client.example", "192.0.2.1")
        .with_address("other.example", "192.0.2.9")
        .with_unknown("slow.example");
    let helo = Helo::new(dns).with_domain(Domain::parse("example.org").expect("a domain"));
    for (greeting, expected) in [
        ("EHLO mx.client.example", ["250", "250", "250"]),
        ("HELO mx.client.example", ["250", "250", "250"]),
        ("EHLO [192.0.2.1]", ["250", "250", "250"]),
        // S10
        ("EHLO localhost", ["250", "451 4.7.1", "550 5.7.1"]),
        ("HELO 192.0.2.1", ["250", "451 4.7.1", "550 5.7.1"]),
        ("EHLO [192.0.2.77]", ["250", "250", "550 5.7.1"]),
        // S11
        ("EHLO gone.example", ["250", "451 4.7.1", "550 5.7.1"]),
        ("EHLO slow.example", ["250", "250", "450 4.7.1"]),
        // S12: the only defect does not even delay but under the strict preset.
        ("EHLO other.example", ["250", "250", "550 5.7.1"]),
        // S12a
        ("EHLO EXAMPLE.org", ["250", "550 5.7.1", "550 5.7.1"]),
        ("HELO [192.0.2.25]", ["250", "550 5.7.1", "550 5.7.1"]),
    ] {
        by_preset(&helo, "192.0.2.1", greeting, MAIL, expected).await;
    }
}

#[tokio::test] // PRACTICES S10, S12a
async fn s10_bad_syntax_is_refused_at_once_and_s12a_trusted_relays_are_not_judged() {
    let helo = Helo::new(ResolverTable::new()).with_domain(Domain::parse("example.org").expect("a domain"));
    let chain = Chain::new("trusting", Preset::BcpStrict).with(helo);
    let chain = Arc::new(chain.trusting("198.51.100.0/24".parse().expect("a network")));
    let mut lines = message(&[USER], "\r\nx");
    lines[0] = "EHLO example.org";
    assert_eq!(converse(vec![chain.clone()], "198.51.100.7", &lines).await.delivered.len(), 1);
    lines.insert(1, "EHLO client..example");
    let seen = converse(vec![chain], "192.0.2.1", &lines).await;
    assert!(seen.replies[0].starts_with("501 5.5.2 "), "{seen:?}");
}

#[tokio::test] // PRACTICES B2505.9 × presets, each answer of DNS, held back to RCPT (P3)
async fn b2505_9_the_domain_of_the_reverse_path_by_preset() {
    let dns = ResolverTable::new()
        .with_mx("client.example", 10, "mx.client.example")
        .with_mx("null.example", 0, ".")
        .with_address("a.example", "192.0.2.1")
        .with_unknown("slow.example");
    let check = SenderDomain::new(dns);
    for (mail, expected) in [
        (MAIL, ["250", "250", "250"]),
        ("MAIL FROM:<x@a.example>", ["250", "250", "250"]),
        ("MAIL FROM:<>", ["250", "250", "250"]),
        ("MAIL FROM:<x@gone.example>", ["250", "550 5.1.8", "550 5.1.8"]),
        ("MAIL FROM:<x@slow.example>", ["250", "451 4.1.8", "451 4.1.8"]),
        ("MAIL FROM:<x@null.example>", ["250", "550 5.7.27", "550 5.7.27"]),
    ] {
        by_preset(&check, "192.0.2.1", "EHLO mx.client.example", mail, expected).await;
    }
}

#[tokio::test] // PRACTICES S20 × presets
async fn s20_the_null_reverse_path_is_accepted_and_has_one_recipient() {
    for (preset, weight) in Preset::ALL.into_iter().zip([0, 1, 1]) {
        for (recipients, expected) in [(&[USER][..], 0), (&[USER, "RCPT TO:<other@example.org>"], weight)] {
            let judged = Judged::default();
            let chain = Chain::new("null", preset).with(NullSender).observed_by(judged.clone());
            let mut lines = message(recipients, "\r\nx");
            lines[1] = "MAIL FROM:<>";
            let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
            assert!(
                seen.replies.iter().all(|reply| reply.starts_with("250 ") || reply.starts_with("354 ")),
                "{seen:?}"
            );
            let events = judged.events();
            let scores: Vec<_> = events.iter().filter(|event| event.content_seen).map(|event| event.score).collect();
            assert_eq!(scores, vec![expected; recipients.len()], "{preset:?}");
        }
    }
    let mut lines = message(&["RCPT TO:<nobody@example.org>"], "");
    lines[1] = "MAIL FROM:<>";
    let chain = Chain::new("null", Preset::BcpStrict).with(NullSender);
    let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines[..3]).await;
    assert!(seen.replies[1].starts_with("550 5.1.1 "), "{seen:?}");
}

fn list(zone: &str) -> DnsList {
    DnsList::new(zone.parse().expect("a name"))
}

/// Three lists of clients, of which one is off, and one of domains.
fn lists() -> ResolverTable {
    ResolverTable::new()
        .with_address("2.0.0.127.dyn.example", "127.0.0.2")
        .with_address("2.0.0.127.bad.example", "127.0.0.2")
        .with_address("test.domains.example", "127.0.0.2")
        .with_address("2.0.0.127.good.example", "127.0.0.2")
        .with_address("2.2.0.192.dyn.example", "127.0.0.10")
        .with_address("3.2.0.192.bad.example", "127.0.0.4")
        .with_txt("3.2.0.192.bad.example", "Sent\r\n250 spam")
        .with_address("4.2.0.192.dyn.example", "127.255.255.254")
        .with_unknown("5.2.0.192.bad.example")
        .with_address("6.2.0.192.off.example", "127.0.0.2")
        .with_address("7.2.0.192.dyn.example", "127.0.0.2")
        .with_address("7.2.0.192.good.example", "127.0.9.1")
        .with_address("spam.example.domains.example", "127.0.1.2")
}

#[tokio::test] // PRACTICES S27 × presets, P3a: no list acts before RCPT
async fn s27_blocklists_by_preset() {
    let blocklists =
        Dnsbl::new(lists()).with(list("dyn.example")).with(list("bad.example").refusing()).with(list("off.example"));
    for (peer, expected) in [
        ("192.0.2.1", ["250", "250", "250"]),
        ("192.0.2.2", ["250", "451 4.7.1", "550 5.7.1"]),
        ("192.0.2.3", ["250", "550 5.7.1", "550 5.7.1"]),
        ("192.0.2.4", ["250", "250", "250"]),
        ("192.0.2.5", ["250", "250", "250"]),
        ("192.0.2.6", ["250", "250", "250"]),
    ] {
        by_preset(&blocklists, peer, "EHLO client.example", MAIL, expected).await;
    }
    let seen = said(Preset::Bcp, blocklists.clone(), "192.0.2.3", "EHLO client.example", MAIL).await;
    assert_eq!(seen.replies[1], "550 5.7.1 Blocklisted: 192.0.2.3 is on bad.example: Sent??250 spam");
    // PRACTICES P6: mail clients come from dynamic networks.
    let chain = Chain::new("lists", Preset::BcpStrict).with(blocklists);
    let mut lines = message(&[USER], "\r\nx");
    lines.insert(1, "AUTH PLAIN AGFsaWNlAHg=");
    assert_eq!(converse(vec![Arc::new(chain)], "192.0.2.3", &lines).await.delivered.len(), 1);
}

#[tokio::test] // PRACTICES S27 × presets, RFC 5782 §3
async fn s27_blocklists_of_domains_by_preset() {
    for (is_refusing, listed) in [(false, ["250", "451 4.7.1", "550 5.7.1"]), (true, ["250", "550 5.7.1", "550 5.7.1"])]
    {
        let domains = list("domains.example");
        let check = DomainDnsbl::new(lists()).with(if is_refusing { domains.refusing() } else { domains });
        for (greeting, mail, expected) in [
            ("EHLO client.example", MAIL, ["250", "250", "250"]),
            ("EHLO client.example", "MAIL FROM:<x@Spam.Example>", listed),
            ("EHLO spam.example", MAIL, listed),
            ("EHLO [192.0.2.1]", "MAIL FROM:<>", ["250", "250", "250"]),
        ] {
            by_preset(&check, "192.0.2.1", greeting, mail, expected).await;
        }
    }
}

#[tokio::test] // PRACTICES S43 × presets
async fn s43_whom_a_list_knows_is_not_greylisted() {
    for (preset, expected) in Preset::ALL.into_iter().zip(["250", "250", "550 5.7.1"]) {
        let chain = Chain::new("known", preset)
            .with(Dnsbl::new(lists()).with(list("dyn.example")))
            .with(Dnswl::new(lists()).with(list("good.example")))
            .with_greylisting(OnlyKnown);
        let seen = converse(vec![Arc::new(chain)], "192.0.2.7", &message(&[USER], "\r\nx")).await;
        assert!(seen.replies[1].starts_with(expected), "{preset:?}: {seen:?}");
    }
}

#[tokio::test] // PRACTICES P3, S45; P8: together in `bcp` they refuse nobody before the content
async fn p3_a_client_with_every_fault_reaches_the_postmaster() {
    let dns = lists().with_unknown("never.example");
    for (preset, expected) in Preset::ALL.into_iter().zip(["250 ", "451 4.7.1 ", "550 5."]) {
        let chain = Chain::new("all", preset)
            .with(ReverseDns::new(dns.clone()))
            .with(Helo::new(dns.clone()))
            .with(Dnsbl::new(dns.clone()).with(list("dyn.example")))
            .with(DomainDnsbl::new(dns.clone()).with(list("domains.example")))
            .with_greylisting(OnlyKnown);
        let nobody = "RCPT TO:<nobody@example.org>";
        let mut lines = message(&[nobody, USER, POSTMASTER, "RCPT TO:<abuse@example.org>"], "\r\nx");
        (lines[0], lines[1]) = ("EHLO localhost", "MAIL FROM:<x@spam.example>");
        let seen = converse(vec![Arc::new(chain)], "192.0.2.2", &lines).await;
        let starts = ["250 ", "550 5.1.1 ", expected, "250 ", "250 ", "354 ", "250 "];
        assert_eq!(seen.replies.len(), starts.len(), "{seen:?}");
        assert!(seen.replies.iter().zip(starts).all(|(reply, start)| reply.starts_with(start)), "{preset:?}: {seen:?}");
        let [delivered] = &seen.delivered[..] else { panic!("{seen:?}") };
        assert_eq!(delivered.recipients.len(), if preset == Preset::RfcStrict { 3 } else { 2 });
    }
}

#[tokio::test] // PRACTICES S46
async fn s46_a_refusal_of_mail_for_abuse_names_the_form() {
    const ABUSE: &str = "RCPT TO:<Abuse@example.org>";
    const FORM: &str = "reports are taken at https://example.org/abuse";
    let dns = lists();
    let chain = || {
        let client =
            Chain::new("all", Preset::BcpStrict).with(Dnsbl::new(dns.clone()).with(list("bad.example").refusing()));
        Arc::new(client.with_abuse_form("https://example.org/abuse".parse().expect("an address")))
    };
    let lines = message(&[USER, ABUSE, POSTMASTER], "\r\nx");
    for filters in [false, true] {
        let roles = if filters { RoleMailboxes::default().filtering("abuse") } else { RoleMailboxes::default() };
        let seen = converse_about(table().with_roles(roles), vec![chain()], "192.0.2.3", &lines).await;
        let [_, user, abuse, postmaster, ..] = &seen.replies[..] else { panic!("{seen:?}") };
        assert!(user.starts_with("550 5.7.1 ") && !user.contains(FORM), "{seen:?}");
        assert!(postmaster.starts_with("250 "), "{seen:?}");
        if filters {
            assert!(abuse.starts_with("550 5.7.1 ") && abuse.trim_end().ends_with(FORM), "{seen:?}");
        } else {
            assert!(abuse.starts_with("250 "), "{seen:?}");
        }
    }
    // What may pass later needs no form, and who is not refused reaches the mailbox.
    let deferring = || {
        let chain = Chain::new("all", Preset::BcpStrict).with(ReverseDns::new(dns.clone()));
        chain.with_abuse_form("https://example.org/abuse".parse().expect("an address"))
    };
    for (chain, expected) in [
        (deferring().with_action("reverse-name", Action::Defer).expect("it looks there"), "45"),
        (deferring().with_action("reverse-name", Action::Off).expect("it looks there"), "250 "),
    ] {
        let table = table().with_roles(RoleMailboxes::default().filtering("abuse"));
        let seen = converse_about(table, vec![Arc::new(chain)], "192.0.2.99", &message(&[ABUSE], "\r\nx")).await;
        assert!(seen.replies[1].starts_with(expected) && !seen.replies[1].contains("https"), "{seen:?}");
    }
}

#[tokio::test] // PRACTICES P5
async fn p5_without_dns_nobody_is_refused_for_good() {
    let nothing = ResolverTable::new().with_unknown("example").with_unknown_ptr("192.0.2.1");
    for preset in Preset::ALL {
        let chain = Chain::new("all", preset)
            .with(ReverseDns::new(nothing.clone()))
            .with(Helo::new(nothing.clone()))
            .with(SenderDomain::new(nothing.clone()))
            .with(Dnsbl::new(nothing.clone()).with(list("bad.example").refusing()))
            .with(Dnswl::new(nothing.clone()).with(list("good.example")))
            .with(DomainDnsbl::new(nothing.clone()).with(list("domains.example").refusing()))
            .with_greylisting(OnlyKnown);
        let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&[USER], "\r\nx")[..3]).await;
        let expected = if preset == Preset::RfcStrict { "250 " } else { "45" };
        assert!(seen.replies[1].starts_with(expected), "{preset:?}: {seen:?}");
    }
}
