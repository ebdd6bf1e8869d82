//! Each practice × preset × outcome × recipient, as a client meets it: the rows of PRACTICES S1 to S48 that are checks.

use std::sync::Arc;

use smtp_core::{ClientConfig, ResolverTable, async_trait};
use smtp_policy::{
    Action, ArcChain, Callouts, Chain, Check, Circumstances, Clamd, Dkim, Dmarc, DnsList, Dnsbl, Dnswl, DomainDnsbl,
    Finding, ForRoleMailboxes, Greylist, Greylisting, HeaderSanity, Helo, LoopWindow, MemoryStateStore, NullSender,
    Observation, Outcome, Practice, Preset, ReverseDns, Rspamd, Rules, Scope, SenderDomain, Spamd, Spf, Subject,
};

use crate::support::{converse, message};

/// A practice; what the presets `rfc-strict`, `bcp` and `bcp-strict` do where it is not kept, and where that cannot be known;
/// how a refusal for good reads, and one for now.
type Row = (&'static str, [&'static str; 3], [&'static str; 3], &'static str, &'static str);

const NEVER: [&str; 3] = ["observe"; 3];
const STRICT: [&str; 3] = ["observe", "observe", "defer"];
const SCANNER: [&str; 3] = ["observe", "defer", "defer"];

const ROWS: &[Row] = &[
    // S1 to S3, S5
    ("reverse-name", ["observe", "score 3", "reject"], STRICT, "550 5.7.25", "450 4.7.25"),
    ("reverse-name-address", ["observe", "score 3", "reject"], STRICT, "550 5.7.25", "450 4.7.25"),
    ("reverse-name-confirmed", ["observe", "score 2", "reject"], STRICT, "550 5.7.25", "450 4.7.25"),
    ("reverse-name-generic", ["off", "score 1", "score 2"], NEVER, "550 5.7.25", "450 4.7.25"),
    // S10 to S12a
    ("helo-qualified", ["observe", "score 2", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("helo-literal", ["observe", "score 1", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("helo-address", ["observe", "score 2", "reject"], STRICT, "550 5.7.1", "450 4.7.1"),
    ("helo-confirmed", ["observe", "score 1", "reject"], STRICT, "550 5.7.1", "450 4.7.1"),
    ("helo-ours", ["observe", "reject", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    // S18, S33
    ("malware", ["off", "reject", "reject"], SCANNER, "550 5.7.1", "451 4.7.1"),
    ("spamassassin", ["observe", "score 0", "score 0"], SCANNER, "550 5.7.1", "451 4.7.1"),
    ("rspamd-reject", ["observe", "reject", "reject"], SCANNER, "550 5.7.1", "451 4.7.1"),
    ("rspamd-defer", ["observe", "defer", "defer"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("rspamd-tag", ["observe", "tag", "tag"], NEVER, "550 5.7.1", "451 4.7.1"),
    // S20
    ("null-sender-recipients", ["observe", "score 1", "score 1"], NEVER, "550 5.7.1", "451 4.7.1"),
    // S27
    ("dnsbl", ["off", "score 3", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("dnsbl-refusing", ["off", "reject", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("domain-dnsbl", ["off", "score 3", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("domain-dnsbl-refusing", ["off", "reject", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    // S34 to S38
    ("spf-readable", ["observe", "score 1", "reject"], STRICT, "550 5.7.24", "451 4.7.24"),
    ("spf-fail", ["observe", "reject", "reject"], NEVER, "550 5.7.23", "451 4.7.23"),
    ("spf-softfail", ["observe", "greylist", "greylist"], NEVER, "550 5.7.23", "451 4.7.1"),
    ("spf-specific", ["observe", "score 1", "score 1"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("spf-best-guess", ["off", "score 1", "greylist"], NEVER, "550 5.7.1", "451 4.7.1"),
    // S39
    ("dkim-signed", NEVER, NEVER, "550 5.7.1", "451 4.7.1"),
    ("arc-chain", NEVER, NEVER, "550 5.7.1", "451 4.7.1"),
    ("author-readable", ["observe", "score 2", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("author-single", ["observe", "reject", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("dmarc-aligned", NEVER, NEVER, "550 5.7.1", "451 4.7.1"),
    ("dmarc-quarantine", ["observe", "tag", "tag"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("dmarc-reject", ["observe", "reject", "reject"], STRICT, "550 5.7.1", "451 4.7.1"),
    ("dmarc-reject-both", ["observe", "reject", "reject"], NEVER, "550 5.7.26", "451 4.7.26"),
    // S40
    ("callout-sender", ["off"; 3], NEVER, "450 4.1.8", "450 4.1.8"),
    ("callout-client", ["off"; 3], NEVER, "450 4.1.8", "450 4.1.8"),
    // RFC 7103, SECURITY D-18
    ("from-once", ["observe", "reject", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("from-present", ["observe", "score 1", "reject"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("header-once", ["observe", "score 2", "reject"], NEVER, "550 5.6.0", "451 4.6.0"),
    ("date-valid", ["observe", "score 1", "score 1"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("message-id-present", ["observe", "observe", "score 1"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("header-syntax", ["observe", "score 1", "score 2"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("header-addresses", ["observe", "score 1", "score 2"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("header-ascii", ["observe", "score 1", "score 2"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("line-length", ["observe", "observe", "score 1"], NEVER, "550 5.7.1", "451 4.7.1"),
    ("header-size", ["observe", "score 3", "reject"], NEVER, "550 5.6.0", "451 4.6.0"),
    ("loop", ["observe", "defer", "defer"], NEVER, "550 5.4.6", "451 4.4.6"),
    // S43
    ("dnswl", NEVER, NEVER, "550 5.7.1", "451 4.7.1"),
    ("familiar", ["off", "off", "greylist"], NEVER, "550 5.7.1", "451 4.7.1"),
    // B2505.9
    ("sender-domain", ["observe", "reject", "reject"], SCANNER, "550 5.1.8", "451 4.1.8"),
    ("sender-null-mx", ["observe", "reject", "reject"], NEVER, "550 5.7.27", "451 4.7.27"),
];

fn checks() -> Vec<Arc<dyn Check>> {
    let dns = ResolverTable::new();
    let filter = || "127.0.0.1:1".parse().expect("an address");
    let config = ClientConfig::new("mx.example.org").expect("a name");
    let callouts = Callouts::new(dns.clone(), MemoryStateStore::new(), config);
    let list = || DnsList::new("list.example".parse().expect("a zone"));
    vec![
        Arc::new(ReverseDns::new(dns.clone())),
        Arc::new(Helo::new(dns.clone())),
        Arc::new(SenderDomain::new(dns.clone())),
        Arc::new(NullSender),
        Arc::new(Spf::new(dns.clone())),
        Arc::new(Dkim::new(dns.clone())),
        Arc::new(ArcChain::new(dns.clone())),
        Arc::new(Dmarc::new(dns.clone())),
        Arc::new(Dnsbl::new(dns.clone()).with(list())),
        Arc::new(DomainDnsbl::new(dns.clone()).with(list())),
        Arc::new(Dnswl::new(dns).with(list())),
        Arc::new(Greylist::new(MemoryStateStore::new())),
        Arc::new(Clamd::new(filter())),
        Arc::new(Spamd::new(filter())),
        Arc::new(Rspamd::new(filter())),
        Arc::new(HeaderSanity),
        Arc::new(LoopWindow::new(MemoryStateStore::new())),
        Arc::new(callouts.of_senders()),
        Arc::new(callouts.of_clients()),
    ]
}

#[test] // PRACTICES S47, P5
fn s47_each_refusal_has_a_status_and_words_and_what_is_not_known_accuses_nobody() {
    for check in checks() {
        for practice in check.practices() {
            let mut rules = Rules::new(Preset::Bcp).with_practices([practice]);
            let name = practice.name();
            rules.set_action(name, Action::Reject).expect("it is there");
            rules.set_action_for_unknown(name, Action::Defer).expect("it is there");
            let circumstances = Circumstances { content_seen: check.scope() >= Scope::Content, is_role: false };
            let [fails, unknown] = [Finding::fail(name, ""), Finding::unknown(name, "")].map(|finding| {
                let judgement = rules.judge([&finding], circumstances);
                judgement.refusal().expect("it is refused").reply().clone()
            });
            for reply in [&fails, &unknown] {
                let length = reply.text().len();
                assert!(reply.status().is_some() && (10..=200).contains(&length), "{name}: {reply}");
            }
            assert_ne!(fails.text(), unknown.text(), "{name}");
            assert!(
                unknown.code().is_transient() && unknown.text().ends_with(" now, try again later"),
                "{name}: {unknown}"
            );
        }
    }
}

/// Finds what the test wants of one practice, when the check that has it would.
struct Finds {
    practice: Practice,
    scope: Scope,
    outcome: Outcome,
}

#[async_trait]
impl Check for Finds {
    fn practices(&self) -> &[Practice] {
        std::slice::from_ref(&self.practice)
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    async fn examine(&self, _: &Subject<'_>) -> Observation {
        match self.outcome {
            Outcome::Fail => Finding::fail(self.practice.name(), "planned").into(),
            _ => Finding::unknown(self.practice.name(), "planned").into(),
        }
    }
}

/// Nobody comes again.
struct Strangers;

#[async_trait]
impl Greylisting for Strangers {
    async fn may_pass(&self, _: &Subject<'_>) -> bool {
        false
    }
}

/// How a reply begins to whoever meets that action, before the content and behind it.
fn expected<'a>(action: &str, is_content: bool, permanent: &'a str, transient: &'a str) -> (&'a str, &'a str) {
    let at = |reply: &'a str| if is_content { ("250 2.1.5", reply) } else { (reply, "554 5.5.1") };
    match action.split_once(' ').map_or((action, 0), |(word, weight)| (word, weight.parse().expect("a weight"))) {
        ("reject", _) => at(permanent),
        ("defer", _) => at(transient),
        ("greylist", _) => at("451 4.7.1"),
        // PRACTICES P8: from 2 on strangers come again; one practice alone refuses nobody for good.
        ("score", 2..10) if !is_content => at("451 4.7.1"),
        _ => ("250 2.1.5", "250 2.0.0"),
    }
}

#[tokio::test] // PRACTICES S1 to S48 × presets, P1 to P5
async fn p2_every_practice_in_every_preset_meets_a_client_as_the_table_says() {
    let checks = checks();
    let practices =
        || checks.iter().flat_map(|check| check.practices().iter().map(|practice| (practice, check.scope())));
    for (practice, _) in practices() {
        let rows = ROWS.iter().filter(|row| row.0 == practice.name()).count();
        assert_eq!(rows, 1, "{} has a row of its own", practice.name());
    }
    for (name, fails, unknown, permanent, transient) in ROWS {
        let found = practices().find(|(practice, _)| practice.name() == *name);
        let (practice, scope) = found.unwrap_or_else(|| panic!("no check has {name}"));
        let is_content = scope >= Scope::Content;
        for (place, preset) in Preset::ALL.into_iter().enumerate() {
            for (outcome, action) in [(Outcome::Fail, fails[place]), (Outcome::Unknown, unknown[place])] {
                // What is off is not looked at.
                let action = if fails[place] == "off" && action == "observe" { "off" } else { action };
                let check = Finds { practice: *practice, scope, outcome };
                let chain: Arc<Chain> = Arc::new(Chain::new("table", preset).with(check).with_greylisting(Strangers));
                for (recipient, is_role) in [("user@example.org", false), ("postmaster@example.org", true)] {
                    let is_spared = is_role && practice.meaning_for_role_mailboxes() != ForRoleMailboxes::Kept;
                    let action = if is_spared { "observe" } else { action };
                    let rcpt = format!("RCPT TO:<{recipient}>");
                    let said = message(&[&rcpt], "Subject: x\r\n\r\nx");
                    let seen = converse(vec![chain.clone()], "192.0.2.1", &said).await.replies;
                    let (first, last) = expected(action, is_content, permanent, transient);
                    let end = if last == "554 5.5.1" { &seen[2] } else { &seen[3] };
                    let what = format!("{name} {preset:?} {outcome:?} {recipient}: {action}, {seen:?}");
                    assert!(seen[1].starts_with(first) && end.starts_with(last), "{what}");
                }
            }
        }
    }
}
