//! What stands in a file of users: who they are, what is known of their passwords, and what a login costs.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::sasl::base64;
use crate::sasl::keys::{ScramHash, ScramKeys};
use crate::sasl::password_hash::{Costs, PasswordHash};
use crate::syntax::address::Mailbox;
use crate::syntax::domain::Domain;
use crate::syntax::secret::Secret;

/// A file of users is of no use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PasswordFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anybody on this host can read it.
    #[error("{} can be read by everybody on this host: chmod o= it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong. What stands there is not shown.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl PasswordFileError {
    /// Whether the same may work later: a file can be there by then.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

#[derive(Default)]
pub(super) struct Users {
    pub(super) by_name: HashMap<String, User>,
    /// The most of any user, which an unknown one has too.
    pub(super) iterations: u32,
    /// Whether any user has keys.
    has_keys: bool,
    /// The most that a hash costs, where any user has one.
    costs: Option<Costs>,
}

/// What is known of a password.
#[derive(Clone)]
pub(super) enum Stored {
    Keys(ScramKeys),
    Hash(PasswordHash),
}

pub(super) struct User {
    pub(super) stored: Stored,
    /// What it may send as besides itself.
    pub(super) senders: Vec<String>,
}

impl Users {
    pub(super) fn read(path: &Path) -> Result<Self, PasswordFileError> {
        let failed = |source| PasswordFileError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        if is_open(path).map_err(failed)? {
            return Err(PasswordFileError::Open { path: path.to_owned() });
        }
        let mut users = Self { iterations: ScramKeys::DEFAULT_ITERATIONS, ..Self::default() };
        for (line, number) in text.lines().zip(1..) {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let wrong = |problem| PasswordFileError::Line { path: path.to_owned(), line: number, problem };
            let (name, keys) =
                content.split_once([' ', '\t']).ok_or_else(|| wrong("a mailbox and its keys are needed"))?;
            let name: Mailbox = name.parse().map_err(|_| wrong("it does not begin with a mailbox"))?;
            let mut words = keys.split_ascii_whitespace();
            let stored = Stored::parse(words.next().unwrap_or_default()).map_err(wrong)?;
            let senders = words.map(parse_sender).collect::<Option<_>>();
            let senders =
                senders.ok_or_else(|| wrong("behind the keys stand mailboxes, and domains like `@example.org`"))?;
            users.count(&stored);
            if users.by_name.insert(key(&name.to_string()), User { stored, senders }).is_some() {
                return Err(wrong("the mailbox is named twice"));
            }
        }
        Ok(users)
    }

    /// Takes what one more user costs into account.
    fn count(&mut self, stored: &Stored) {
        match stored {
            Stored::Keys(keys) => {
                self.has_keys = true;
                self.iterations = self.iterations.max(keys.iterations());
            }
            Stored::Hash(hash) => {
                let most = self.costs.into_iter().chain([hash.costs()]).max_by_key(|costs| costs.work());
                self.costs = most;
            }
        }
    }

    /// Whether nobody has anything else than keys.
    pub(super) fn offers_scram(&self) -> bool {
        self.has_keys || self.costs.is_none()
    }

    /// What a login of that user is checked against. It costs the same for all, also for one that does not exist: where the
    /// file has both keys and hashes, whoever has one of them is checked against nobody's other as well.
    pub(super) fn check_of(&self, user: &str) -> Check {
        let nobodys_keys = || {
            let (salt, keys) = ([0; ScramKeys::SALT_OCTETS], [0; 32]);
            ScramKeys::from_parts(ScramHash::Sha256, &salt, self.iterations, &keys, &keys)
                .expect("a short salt, keys of the right length, and enough iterations")
        };
        let (keys, hash) = match self.by_name.get(&key(user)).map(|user| user.stored.clone()) {
            Some(Stored::Keys(keys)) => (Some(keys), None),
            Some(Stored::Hash(hash)) => (None, Some(hash)),
            None => (None, None),
        };
        Check {
            counts: keys.as_ref().map(|_| Counts::Keys).or(hash.as_ref().map(|_| Counts::Hash)),
            keys: keys.or_else(|| self.offers_scram().then(nobodys_keys)),
            hash: hash.or_else(|| self.costs.map(PasswordHash::of_nobody)),
        }
    }
}

/// The work of one login.
pub(super) struct Check {
    pub(super) keys: Option<ScramKeys>,
    pub(super) hash: Option<PasswordHash>,
    /// Which of the two is that of the user; `None` where there is no such user.
    counts: Option<Counts>,
}

enum Counts {
    Keys,
    Hash,
}

impl Check {
    /// Does all of it. `None` where there is no memory for that.
    pub(super) fn run(&self, password: &Secret) -> Option<bool> {
        let has_keys = self.keys.as_ref().is_some_and(|keys| keys.matches(password));
        let has_hash = match &self.hash {
            Some(hash) => hash.matches(password)?,
            None => false,
        };
        Some(match self.counts {
            Some(Counts::Keys) => has_keys,
            Some(Counts::Hash) => has_hash,
            None => false,
        })
    }
}

impl Stored {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with('$') {
            return PasswordHash::parse(text).map(Self::Hash);
        }
        parse_keys(text).map(Self::Keys).ok_or("its keys are not those of SCRAM-SHA-256")
    }
}

/// A mailbox, or a domain behind an `@`, as it compares.
fn parse_sender(text: &str) -> Option<String> {
    let is_one = match text.strip_prefix('@') {
        Some(domain) => Domain::parse(domain).is_ok(),
        None => text.parse::<Mailbox>().is_ok(),
    };
    is_one.then(|| key(text))
}

/// How names compare.
pub(super) fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(unix)]
fn is_open(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5803 §2).
fn parse_keys(text: &str) -> Option<ScramKeys> {
    let mut parts = text.strip_prefix("SCRAM-SHA-256$")?.split('$');
    let (Some(costs), Some(keys), None) = (parts.next(), parts.next(), parts.next()) else { return None };
    let ((iterations, salt), (stored, server)) = (costs.split_once(':')?, keys.split_once(':')?);
    let decode = |text: &str| base64::decode(text.as_bytes());
    let (salt, stored, server) = (decode(salt)?, decode(stored)?, decode(server)?);
    ScramKeys::from_parts(ScramHash::Sha256, &salt, iterations.parse().ok()?, &stored, &server).ok()
}
