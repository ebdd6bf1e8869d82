//! Ready-made lookups: whole domains, and a table of mailboxes that can be read from a file.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use async_trait::async_trait;
use thiserror::Error;

use crate::session::connection::Connection;
use crate::session::decision::{Lookup, LookupError};
use crate::session::ownership::Ownership;
use crate::session::transaction::Transaction;
use crate::syntax::address::Mailbox;
use crate::syntax::domain::Domain;
use crate::syntax::path::ForwardPath;

use super::recipient_lookup::RecipientLookup;
use super::role_mailboxes::RoleMailboxes;

/// Every mailbox of some domains exists.
#[derive(Debug, Clone, Default)]
pub struct LocalDomains {
    domains: HashSet<Domain>,
}

impl LocalDomains {
    /// Every mailbox of these.
    pub fn new(domains: impl IntoIterator<Item = Domain>) -> Self {
        Self { domains: domains.into_iter().collect() }
    }
}

#[async_trait]
impl RecipientLookup for LocalDomains {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        let is_local = match to {
            ForwardPath::Postmaster => true,
            ForwardPath::Mailbox(mailbox) => mailbox.domain().is_some_and(|domain| self.domains.contains(domain)),
        };
        Ok(if is_local { Lookup::Mailbox } else { Lookup::NotLocal })
    }
}

/// What a table says of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Mailbox,
    Alias(Vec<Mailbox>),
}

/// Mailboxes and aliases of some domains; others do not exist.
///
/// Local-parts compare without case, as users expect of their own server. `user+detail` is `user` where only that
/// exists (RFC 5233). `postmaster`, `abuse` and `security` exist in every domain (RFC 5321 §4.5.1, RFC 2142): without
/// an entry of their own they are aliases of the mailbox given to [`MailboxTable::with_roles_to`], and unknown where
/// there is none.
///
/// As a file, one entry a line, `#` starts a comment:
///
/// ```text
/// alice@example.org
/// info@example.org    alice@example.org bob@example.org
/// ```
#[derive(Debug, Clone, Default)]
pub struct MailboxTable {
    domains: HashSet<Domain>,
    entries: HashMap<(Box<str>, Domain), Entry>,
    roles: RoleMailboxes,
    roles_to: Option<Mailbox>,
    /// Since when some of the entries have had their owner.
    owned_since: HashMap<(Box<str>, Domain), SystemTime>,
}

/// What is wrong with a table in a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot read the table")]
    Io(#[from] std::io::Error),
    /// A word is no mailbox.
    #[error("line {line}, column {column}: {error}")]
    Mailbox {
        /// The line, from 1.
        line: usize,
        /// The octet in the line, from 1.
        column: usize,
        /// What was expected.
        error: crate::SyntaxError,
    },
    /// A mailbox has two entries.
    #[error("line {line}: {mailbox} stands here again")]
    Twice {
        /// The line, from 1.
        line: usize,
        /// The mailbox.
        mailbox: Mailbox,
    },
}

impl TableError {
    /// Whether reading it again may do.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

impl MailboxTable {
    /// An empty table for these domains.
    pub fn new(domains: impl IntoIterator<Item = Domain>) -> Self {
        Self { domains: domains.into_iter().collect(), ..Self::default() }
    }

    /// Adds a mailbox; its domain becomes local.
    #[must_use]
    pub fn with_mailbox(mut self, mailbox: &Mailbox) -> Self {
        self.insert(mailbox, Entry::Mailbox);
        self
    }

    /// Adds an alias; its domain becomes local.
    #[must_use]
    pub fn with_alias(mut self, alias: &Mailbox, mailboxes: Vec<Mailbox>) -> Self {
        self.insert(alias, Entry::Alias(mailboxes));
        self
    }

    /// Says since when a mailbox or an alias has had its owner, so that `RRVS` is offered (RFC 7293). Of those of whom nothing
    /// is said it is not known, and mail that demands it is refused with `550 5.7.19`.
    #[must_use]
    pub fn with_owner_since(mut self, mailbox: &Mailbox, since: SystemTime) -> Self {
        self.owned_since.extend(key(mailbox).map(|key| (key, since)));
        self
    }

    /// Which role mailboxes there are. Default: [`RoleMailboxes::default`].
    #[must_use]
    pub fn with_roles(mut self, roles: RoleMailboxes) -> Self {
        self.roles = roles;
        self
    }

    /// Where mail for role mailboxes without an entry goes.
    #[must_use]
    pub fn with_roles_to(mut self, mailbox: Mailbox) -> Self {
        self.roles_to = Some(mailbox);
        self
    }

    /// Reads entries from a file.
    ///
    /// # Errors
    /// [`TableError`] with line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TableError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Reads entries from text.
    ///
    /// # Errors
    /// [`TableError`] with line and column.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (index, full_line) in text.lines().enumerate() {
            let line = index + 1;
            let content = full_line.split('#').next().unwrap_or_default();
            let mut mailboxes = Vec::new();
            for word in content.split_ascii_whitespace() {
                let column = word.as_ptr() as usize - full_line.as_ptr() as usize + 1;
                let mailbox = Mailbox::parse(word).map_err(|error| TableError::Mailbox { line, column, error })?;
                mailboxes.push(mailbox);
            }
            if mailboxes.is_empty() {
                continue;
            }
            let name = mailboxes.remove(0);
            let entry = if mailboxes.is_empty() { Entry::Mailbox } else { Entry::Alias(mailboxes) };
            if table.insert(&name, entry) {
                return Err(TableError::Twice { line, mailbox: name });
            }
        }
        Ok(table)
    }

    /// The local domains.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter()
    }

    /// Whether there was an entry before.
    fn insert(&mut self, mailbox: &Mailbox, entry: Entry) -> bool {
        let Some(key) = key(mailbox) else { return false };
        self.domains.insert(key.1.clone());
        self.entries.insert(key, entry).is_some()
    }

    fn find(&self, to: &ForwardPath) -> Lookup {
        let Some(mailbox) = to.mailbox() else { return self.postmaster() };
        let Some(domain) = mailbox.domain().filter(|domain| self.domains.contains(domain)) else {
            return Lookup::NotLocal;
        };
        let local = mailbox.local_part().as_str().to_ascii_lowercase();
        let entry = |local: &str| self.entries.get(&(local.into(), domain.clone()));
        let user = local.split_once('+').map(|(user, _)| user);
        match entry(&local).or_else(|| entry(user?)) {
            Some(Entry::Mailbox) => Lookup::Mailbox,
            Some(Entry::Alias(mailboxes)) => Lookup::Alias(mailboxes.clone()),
            None if self.roles.contains(to) => self.role(),
            None => Lookup::Unknown,
        }
    }

    fn owner(&self, to: &ForwardPath, since: SystemTime) -> Ownership {
        let Some((local, domain)) = to.mailbox().and_then(key) else { return Ownership::Unknown };
        let user = local.split_once('+').map(|(user, _)| user).filter(|_| {
            let entry = (local.clone(), domain.clone());
            !self.entries.contains_key(&entry)
        });
        let entry = (user.map_or_else(|| local.clone(), Box::from), domain);
        match self.owned_since.get(&entry) {
            Some(owned) if *owned <= since => Ownership::Continuous,
            Some(_) => Ownership::MailboxChanged,
            None => Ownership::Unknown,
        }
    }

    /// Of `<postmaster>` without a domain: an entry of the domain of [`MailboxTable::with_roles_to`] goes before it.
    fn postmaster(&self) -> Lookup {
        let domain = self.roles_to.as_ref().and_then(Mailbox::domain).cloned();
        domain.map_or(Lookup::Unknown, |domain| self.find(&Mailbox::postmaster_at(domain).into()))
    }

    fn role(&self) -> Lookup {
        self.roles_to.clone().map_or(Lookup::Unknown, |mailbox| Lookup::Alias(vec![mailbox]))
    }
}

#[async_trait]
impl RecipientLookup for MailboxTable {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        Ok(self.find(to))
    }

    fn is_role(&self, to: &ForwardPath) -> bool {
        self.roles.spare(to)
    }

    fn honours_rrvs(&self) -> bool {
        !self.owned_since.is_empty()
    }

    async fn ownership(
        &self,
        _: &Connection,
        _: &Transaction,
        to: &ForwardPath,
        since: SystemTime,
    ) -> Result<Ownership, LookupError> {
        Ok(self.owner(to, since))
    }
}

/// Under which name a mailbox stands in the table.
fn key(mailbox: &Mailbox) -> Option<(Box<str>, Domain)> {
    Some((mailbox.local_part().as_str().to_ascii_lowercase().into(), mailbox.domain()?.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_knows_its_mailboxes_and_no_others() {
        let mailbox = |text: &str| Mailbox::parse(text).expect("valid");
        let table = MailboxTable::parse(
            "# users\nalice@example.org\ninfo@example.org alice@example.org bob@example.net # two\n",
        )
        .expect("valid")
        .with_roles_to(mailbox("alice@example.org"));
        let alice = || Lookup::Alias(vec![mailbox("alice@example.org")]);
        let both = Lookup::Alias(vec![mailbox("alice@example.org"), mailbox("bob@example.net")]);
        for (path, expected) in [
            ("<alice@example.org>", Lookup::Mailbox),
            ("<Alice@EXAMPLE.org>", Lookup::Mailbox),
            ("<alice+lists@example.org>", Lookup::Mailbox),
            ("<info@example.org>", both),
            ("<bob@example.org>", Lookup::Unknown),
            ("<bob@example.net>", Lookup::NotLocal),
            ("<alice@[127.0.0.1]>", Lookup::NotLocal),
            ("<abuse@example.org>", alice()),
            ("<postmaster>", alice()),
            ("<security@example.org>", alice()),
            ("<postmaster@example.net>", Lookup::NotLocal),
        ] {
            assert_eq!(table.find(&ForwardPath::parse(path).expect("valid")), expected, "{path}");
        }
    }

    #[test] // RFC 5321 §4.5.1: `<postmaster>` is the postmaster of the table, where it has one.
    fn postmaster_without_a_domain_is_that_of_the_table() {
        let mailbox = |text: &str| Mailbox::parse(text).expect("valid");
        let table = MailboxTable::parse("alice@example.org\npostmaster@example.org bob@example.org")
            .expect("valid")
            .with_roles_to(mailbox("alice@example.org"));
        assert_eq!(table.find(&ForwardPath::Postmaster), Lookup::Alias(vec![mailbox("bob@example.org")]));
    }

    #[test] // RFC 7293 §5.1: who was there at that moment or before is the one who is meant.
    fn r7293_a_table_knows_since_when_some_have_their_mailboxes() {
        let mailbox = |text: &str| Mailbox::parse(text).expect("valid");
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let text = "alice@example.org\ninfo@example.org alice@example.org\nbob@example.org\nalice+x@example.org";
        let table = MailboxTable::parse(text).expect("valid");
        assert!(!table.honours_rrvs());
        let table = table
            .with_owner_since(&mailbox("Alice@EXAMPLE.org"), at(1000))
            .with_owner_since(&mailbox("info@example.org"), at(2000));
        assert!(table.honours_rrvs());
        for (path, since, expected) in [
            ("<alice@example.org>", at(999), Ownership::MailboxChanged),
            ("<alice@example.org>", at(1000), Ownership::Continuous),
            ("<ALICE@example.org>", at(1001), Ownership::Continuous),
            ("<alice+lists@example.org>", at(999), Ownership::MailboxChanged),
            ("<alice+lists@example.org>", at(1001), Ownership::Continuous),
            ("<alice+x@example.org>", at(1001), Ownership::Unknown),
            ("<info@example.org>", at(1999), Ownership::MailboxChanged),
            ("<info@example.org>", at(2000), Ownership::Continuous),
            ("<bob@example.org>", at(5000), Ownership::Unknown),
        ] {
            assert_eq!(table.owner(&ForwardPath::parse(path).expect("valid"), since), expected, "{path} {since:?}");
        }
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, expected) in [
            ("alice@example.org\n\n  bob", "line 3, column 3: expected @ at octet 3"),
            ("a@b.example  c@", "line 1, column 14: expected a letter or digit of the domain at octet 2"),
            ("a@b.example\nA@B.example", "line 2: A@B.example stands here again"),
        ] {
            assert_eq!(MailboxTable::parse(text).map_err(|error| error.to_string()).err().as_deref(), Some(expected));
        }
    }
}
