//! What only people can look at: who is named for our addresses and domains in the registries (PRACTICES S16).

use std::collections::BTreeSet;

use super::facts::{OwnDomain, OwnHost};
use super::report::{SelfFinding, SelfItem};

const CONTACTS: SelfItem =
    SelfItem::new("contacts", "S16", "the registries name working contacts for abuse and for technical trouble");

/// A reminder for each address, and for each domain that is in use: nobody is asked here.
pub(super) fn check(host: &OwnHost, domains: &[OwnDomain]) -> Vec<SelfFinding> {
    let names: BTreeSet<_> = domains.iter().map(|domain| &domain.name).chain(&host.reverse_path_domains).collect();
    let names = names.into_iter().map(ToString::to_string);
    let subjects = names.chain(host.public_addresses().map(|address| address.to_string()));
    let remind = |subject: String| {
        let advice = format!("ask `whois {subject}`, and make sure that the contacts it names are read");
        CONTACTS.note(subject, "not looked at").advising(advice)
    };
    subjects.map(remind).collect()
}
