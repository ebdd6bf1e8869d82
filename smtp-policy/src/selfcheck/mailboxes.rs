//! Mailboxes of roles: those who are troubled by a domain can write to somebody (PRACTICES S14, S15, B3013; RFC 2142).

use super::facts::OwnDomain;
use super::report::{SelfFinding, SelfItem};

const POSTMASTER: SelfItem = SelfItem::new("postmaster", "S14", "mail for postmaster reaches somebody");
const ABUSE: SelfItem = SelfItem::new("abuse", "S14", "mail for abuse reaches somebody");
const SECURITY: SelfItem = SelfItem::new("security", "S14", "mail for security reaches somebody");
const HOSTMASTER: SelfItem = SelfItem::new("hostmaster", "B1033", "mail for hostmaster reaches somebody");

pub(super) fn check(domain: &OwnDomain) -> Vec<SelfFinding> {
    let name = &domain.name;
    let Some(mailboxes) = &domain.mailboxes else {
        return vec![POSTMASTER.unknown(name, "it is not known which mailboxes there are")];
    };
    let each = [("postmaster", POSTMASTER), ("abuse", ABUSE), ("security", SECURITY), ("hostmaster", HOSTMASTER)];
    let finding = |(local_part, item): (&str, SelfItem)| {
        let mailbox = format!("{local_part}@{name}");
        if mailboxes.contains(local_part) {
            return item.ok(mailbox, "there is such a mailbox");
        }
        let evidence = "there is no such mailbox";
        let advice = format!("make {mailbox} an alias of somebody who reads it and can act");
        match local_part {
            "postmaster" => item.error(mailbox, evidence).advising(advice + " (RFC 5321 section 4.5.1)"),
            "hostmaster" => item.note(mailbox, evidence).advising(advice + " (RFC 2142 section 7)"),
            _ => item.warning(mailbox, evidence).advising(advice + " (RFC 2142 section 4)"),
        }
    };
    each.into_iter().map(finding).collect()
}
