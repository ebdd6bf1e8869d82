//! Mailboxes by which those in trouble reach whoever is responsible (RFC 5321 §4.5.1, RFC 2142; PRACTICES S14, S45).

use std::collections::BTreeSet;

use crate::syntax::path::ForwardPath;

const POSTMASTER: &str = "postmaster";

/// Which local-parts are those of role mailboxes, at every local domain. Case of letters makes no difference.
///
/// Default: `postmaster`, `abuse`, `security`. Only `postmaster` is a duty, and cannot be left out.
///
/// ```
/// use smtp_core::{MailboxTable, RoleMailboxes};
///
/// let roles = RoleMailboxes::new(["abuse", "noc"]);
/// let table = MailboxTable::parse("alice@example.org")?.with_roles(roles).with_roles_to("alice@example.org".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMailboxes {
    /// Lower case.
    names: BTreeSet<Box<str>>,
    filtered: BTreeSet<Box<str>>,
}

impl Default for RoleMailboxes {
    fn default() -> Self {
        Self::new(["abuse", "security"])
    }
}

impl RoleMailboxes {
    /// These, and `postmaster`.
    pub fn new(names: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let mut all: BTreeSet<_> = names.into_iter().map(|name| lower(name.as_ref())).collect();
        all.insert(POSTMASTER.into());
        Self { names: all, filtered: BTreeSet::new() }
    }

    /// One of them is refused as other mailboxes are: its senders have another way, which the refusal names. Of `postmaster` it
    /// changes nothing.
    #[must_use]
    pub fn filtering(mut self, name: &str) -> Self {
        self.filtered.insert(lower(name));
        self.filtered.remove(POSTMASTER);
        self
    }

    /// Whether there is such a mailbox at every domain.
    pub fn contains(&self, to: &ForwardPath) -> bool {
        holds(&self.names, to)
    }

    /// Whether it must stay reachable for those who are refused otherwise
    /// ([`RecipientLookup::is_role`](crate::RecipientLookup::is_role)).
    pub fn spare(&self, to: &ForwardPath) -> bool {
        self.contains(to) && !holds(&self.filtered, to)
    }

    /// Their local-parts, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }
}

/// They are few, so looking at each costs less than a key for all.
fn holds(names: &BTreeSet<Box<str>>, to: &ForwardPath) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(to.local_part()))
}

fn lower(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // PRACTICES S14, S46
    fn s14_roles_can_be_renamed_and_filtered_but_never_postmaster() {
        let path = |local: &str| ForwardPath::parse(format!("<{local}@example.org>")).expect("in the grammar");
        for (roles, contained, spared) in [
            (
                RoleMailboxes::default(),
                &["postmaster", "Abuse", "SECURITY"][..],
                &["PostMaster", "abuse", "security"][..],
            ),
            (RoleMailboxes::new(["NOC"]), &["postmaster", "noc"], &["postmaster", "noc"]),
            (RoleMailboxes::new([""; 0]), &["postmaster"], &["postmaster"]),
            (
                RoleMailboxes::default().filtering("Abuse"),
                &["postmaster", "abuse", "security"],
                &["postmaster", "security"],
            ),
            (RoleMailboxes::new(["abuse"]).filtering("POSTMASTER"), &["postmaster", "abuse"], &["postmaster", "abuse"]),
        ] {
            let asked = ["postmaster", "PostMaster", "Abuse", "abuse", "SECURITY", "security", "noc", "alice"];
            for local in asked {
                let is_among = |list: &[&str]| list.iter().any(|name| name.eq_ignore_ascii_case(local));
                assert_eq!(roles.contains(&path(local)), is_among(contained), "{roles:?} {local}");
                assert_eq!(roles.spare(&path(local)), is_among(spared), "{roles:?} {local}");
            }
            assert!(roles.spare(&ForwardPath::Postmaster) && roles.names().count() == contained.len());
        }
    }
}
