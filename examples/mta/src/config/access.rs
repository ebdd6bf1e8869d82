//! The operator's own rules: `[[policy.access]]`.

use serde::{Deserialize, Serialize};
use smtp_core::{Domain, Mailbox};
use smtp_policy::{AccessAction, AccessRule, AccessSubject};
use toml::Spanned;

use super::check::parsed;
use super::file::{Placed, unplaced};
use super::problem::Report;

const KEY: &str = "policy.access";

/// One rule as it stands in a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessTable {
    action: Spanned<String>,
    client: Placed<String>,
    greeting: Placed<String>,
    sender: Placed<String>,
    recipient: Placed<String>,
    text: Placed<String>,
}

/// The rules that make sense, in their order.
pub(super) fn check(report: &mut Report<'_>, tables: &[AccessTable]) -> Vec<AccessRule> {
    tables.iter().filter_map(|table| rule(report, table)).collect()
}

fn rule(report: &mut Report<'_>, table: &AccessTable) -> Option<AccessRule> {
    let word = &table.action;
    let Some(action) = AccessAction::from_word(word.get_ref()) else {
        let shown = word.get_ref().escape_debug();
        report.add(word.span(), "policy.access.action", format!("`{shown}` is not exempt, defer, refuse or block"));
        return None;
    };
    let subject = match (&table.client, &table.greeting, &table.sender, &table.recipient) {
        (Some(text), None, None, None) => {
            AccessSubject::Client(parsed(report, "policy.access.client", "a network like `192.0.2.0/24`", text)?)
        }
        (None, Some(text), None, None) => {
            AccessSubject::Greeting(parsed(report, "policy.access.greeting", "a domain or `.domain`", text)?)
        }
        (None, None, Some(text), None) => AccessSubject::Sender(parsed(report, "policy.access.sender", MAILBOX, text)?),
        (None, None, None, Some(text)) => {
            AccessSubject::Recipient(parsed(report, "policy.access.recipient", MAILBOX, text)?)
        }
        _ => {
            report.add(word.span(), KEY, "a rule is about one of client, greeting, sender and recipient");
            return None;
        }
    };
    if let Some(text) = table.text.as_ref().filter(|text| text.get_ref().contains(|c: char| c.is_control())) {
        report.add(text.span(), "policy.access.text", "a reply has no line breaks and no other control characters");
    }
    match AccessRule::new(subject, action) {
        Ok(rule) => Some(match &table.text {
            Some(text) => rule.saying(text.get_ref().clone()),
            None => rule,
        }),
        Err(error) => {
            report.add(word.span(), "policy.access.action", error.to_string());
            None
        }
    }
}

const MAILBOX: &str = "a mailbox, a domain or `.domain`";

/// RFC 2505 §2.6: that a reverse-path is of our own domain is no reason to refuse it; SPF and DMARC judge that.
pub(super) fn check_own_domains(report: &mut Report<'_>, tables: &[AccessTable], rules: &[AccessRule], own: &[Domain]) {
    let refuses_own = |rule: &&AccessRule| match rule.subject() {
        AccessSubject::Sender(pattern) if rule.action() != AccessAction::Exempt => {
            own.iter().any(|domain| pattern.matches_all_of(domain))
        }
        _ => false,
    };
    for rule in rules.iter().filter(refuses_own) {
        let AccessSubject::Sender(pattern) = rule.subject() else { continue };
        let places = tables.iter().filter_map(|table| table.sender.as_ref());
        for place in places.filter(|place| place.get_ref().parse().as_ref() == Ok(pattern)) {
            let problem = "senders of our own domains are judged by SPF and DMARC, and not refused by themselves";
            report.add(place.span(), "policy.access.sender", problem);
        }
    }
}

/// Rules about recipients that there are not, or whom nothing keeps mail from.
pub(super) fn check_recipients(report: &mut Report<'_>, tables: &[AccessTable], rules: &[AccessRule], own: &[Domain]) {
    const RECIPIENT: &str = "policy.access.recipient";
    for text in tables.iter().filter_map(|table| table.recipient.as_ref()) {
        let is_meant = |rule: &&AccessRule| match rule.subject() {
            AccessSubject::Recipient(pattern) => text.get_ref().parse().as_ref() == Ok(pattern),
            _ => false,
        };
        let Some(AccessSubject::Recipient(pattern)) = rules.iter().find(is_meant).map(AccessRule::subject) else {
            continue;
        };
        let domains = || own.iter().cloned();
        if domains().any(|domain| Mailbox::postmaster_at(domain).to_string().eq_ignore_ascii_case(text.get_ref())) {
            report.add(text.span(), RECIPIENT, "nothing keeps mail from `postmaster` (RFC 5321 section 4.5.1)");
        }
        let mailbox = text.get_ref().parse::<Mailbox>().ok().filter(|_| text.get_ref().contains('@'));
        let is_ours = |domain: Domain| match &mailbox {
            Some(mailbox) => mailbox.domain() == Some(&domain),
            None => pattern.matches(&Mailbox::postmaster_at(domain)),
        };
        if !domains().any(is_ours) {
            report.add(
                text.span(),
                RECIPIENT,
                format!("`{}` is in none of the `domains`", text.get_ref().escape_debug()),
            );
        }
    }
}

/// For people.
pub(super) fn in_words(rule: &AccessRule) -> String {
    let subject = match rule.subject() {
        AccessSubject::Client(network) => format!("client {network}"),
        AccessSubject::Greeting(pattern) => format!("greeting {pattern}"),
        AccessSubject::Sender(pattern) => format!("sender {pattern}"),
        AccessSubject::Recipient(pattern) => format!("recipient {pattern}"),
        _ => String::new(),
    };
    format!("{:<7} {subject}", rule.action().as_str())
}

/// As it would stand in a file.
pub(super) fn table(rule: &AccessRule) -> AccessTable {
    let mut table = AccessTable {
        action: unplaced(rule.action().as_str().to_owned()),
        client: None,
        greeting: None,
        sender: None,
        recipient: None,
        text: rule.text().map(|text| unplaced(text.to_string())),
    };
    match rule.subject() {
        AccessSubject::Client(network) => table.client = Some(unplaced(network.to_string())),
        AccessSubject::Greeting(pattern) => table.greeting = Some(unplaced(pattern.to_string())),
        AccessSubject::Sender(pattern) => table.sender = Some(unplaced(pattern.to_string())),
        AccessSubject::Recipient(pattern) => table.recipient = Some(unplaced(pattern.to_string())),
        // What this program does not know it has not made.
        _ => {}
    }
    table
}
