//! A ready-made [`Authenticator`]: users in a file, each with the keys of a password.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::sasl::base64;
use crate::sasl::keys::{ScramHash, ScramKeys};
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity};
use crate::syntax::address::Mailbox;
use crate::syntax::domain::Domain;
use crate::syntax::mechanism::{Mechanism, Mechanisms};
use crate::syntax::path::ReversePath;
use crate::syntax::secret::Secret;

use super::authenticator::Authenticator;

/// Passwords that are verified at the same time: each takes a processor for some milliseconds.
const AT_A_TIME: usize = 2;

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

/// Users by their mailbox, in a file that can be read again while the server runs.
///
/// A line has the mailbox and the keys of its password, as [`PasswordFile::line`] makes them, and behind them what else the
/// user may send as: mailboxes, and domains with an `@` in front. `#` starts a comment. Names compare without case. There is no password in it, but whoever has it can try passwords at leisure, and pass for the
/// server: it must not be readable by everybody.
///
/// ```text
/// alice@example.org SCRAM-SHA-256$10000:c2l4dGVlbiByYW5kb20gbw==$…:… sales@example.org @example.net
/// ```
///
/// Users authenticate by `SCRAM-SHA-256`, `PLAIN` and `LOGIN`, and send as their own mailbox, as those
/// of their line, or with `<>` (RFC 6409 §6.1).
///
/// ```
/// use smtp_core::{PasswordFile, Secret};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("passwords");
/// let alice = "alice@example.org".parse()?;
/// std::fs::write(&path, PasswordFile::line(&alice, &Secret::new("wonderland"), b"sixteen random o")?)?;
/// # use std::os::unix::fs::PermissionsExt;
/// # std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
/// let users = PasswordFile::open(&path)?;
/// assert_eq!(users.len(), 1);
/// // Server::builder(..).authenticate(users.clone()), and when the file has changed:
/// users.reload()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PasswordFile {
    path: PathBuf,
    users: Arc<ArcSwap<Users>>,
    verifying: Arc<Semaphore>,
}

#[derive(Default)]
struct Users {
    users: HashMap<String, User>,
    /// The most of any user, which an unknown one has too.
    iterations: u32,
}

struct User {
    keys: ScramKeys,
    /// What it may send as besides itself.
    senders: Vec<String>,
}

impl PasswordFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PasswordFileError`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, PasswordFileError> {
        let path = path.into();
        let users = Arc::new(ArcSwap::from_pointee(Users::read(&path)?));
        Ok(Self { path, users, verifying: Arc::new(Semaphore::new(AT_A_TIME)) })
    }

    /// Reads the file again. Copies share what it holds.
    ///
    /// # Errors
    /// [`PasswordFileError`]: then nothing has changed.
    pub fn reload(&self) -> Result<(), PasswordFileError> {
        self.users.store(Arc::new(Users::read(&self.path)?));
        Ok(())
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.load().users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The line of a user, with a line feed. The salt is to be random, of [`ScramKeys::SALT_OCTETS`].
    ///
    /// # Errors
    /// [`ScramKeysError`](crate::ScramKeysError): the password or the salt cannot be used.
    pub fn line(user: &Mailbox, password: &Secret, salt: &[u8]) -> Result<String, crate::ScramKeysError> {
        let keys = ScramKeys::derive(ScramHash::Sha256, password, salt, ScramKeys::DEFAULT_ITERATIONS)?;
        let [salt, stored, server] = [keys.salt(), keys.stored_key(), keys.server_key()].map(base64::encode);
        Ok(format!("{user} SCRAM-SHA-256${}:{salt}${stored}:{server}\n", keys.iterations()))
    }
}

impl Users {
    fn read(path: &Path) -> Result<Self, PasswordFileError> {
        let failed = |source| PasswordFileError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        if is_open(path).map_err(failed)? {
            return Err(PasswordFileError::Open { path: path.to_owned() });
        }
        let mut users = Self { users: HashMap::new(), iterations: ScramKeys::DEFAULT_ITERATIONS };
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
            let keys = words.next().and_then(parse_keys);
            let keys = keys.ok_or_else(|| wrong("its keys are not those of SCRAM-SHA-256"))?;
            let senders = words.map(parse_sender).collect::<Option<_>>();
            let senders =
                senders.ok_or_else(|| wrong("behind the keys stand mailboxes, and domains like `@example.org`"))?;
            users.iterations = users.iterations.max(keys.iterations());
            if users.users.insert(key(&name.to_string()), User { keys, senders }).is_some() {
                return Err(wrong("the mailbox is named twice"));
            }
        }
        Ok(users)
    }

    /// The keys of a user; of one that does not exist, keys that no password has and that take as long.
    fn keys_of(&self, user: &str) -> (ScramKeys, bool) {
        let found = self.users.get(&key(user)).map(|user| user.keys.clone());
        let is_there = found.is_some();
        let nobody = || {
            let (salt, keys) = ([0; ScramKeys::SALT_OCTETS], [0; 32]);
            ScramKeys::from_parts(ScramHash::Sha256, &salt, self.iterations, &keys, &keys)
                .expect("a short salt, keys of the right length, and enough iterations")
        };
        (found.unwrap_or_else(nobody), is_there)
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
fn key(name: &str) -> String {
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

#[async_trait]
impl Authenticator for PasswordFile {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD.with(Mechanism::ScramSha256).with(Mechanism::ScramSha256Plus)
    }

    fn scram_iterations(&self) -> u32 {
        self.users.load().iterations
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        let (keys, is_there) = self.users.load().keys_of(user);
        let password = password.clone();
        let _permit = self.verifying.acquire().await.map_err(|_| AuthError::Unavailable)?;
        let verified = tokio::task::spawn_blocking(move || keys.matches(&password)).await;
        match verified {
            Ok(matches) if matches && is_there => Ok(Identity::new(key(user))),
            Ok(_) => Err(AuthError::Rejected),
            Err(_) => Err(AuthError::Unavailable),
        }
    }

    async fn scram(
        &self,
        _: &Connection,
        user: &str,
        hash: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        let (keys, is_there) = self.users.load().keys_of(user);
        Ok((is_there && keys.hash() == hash).then(|| (keys, Identity::new(key(user)))))
    }

    async fn may_send_as(&self, _: &Connection, who: &Identity, from: &ReversePath) -> Result<bool, AuthError> {
        Ok(match from {
            ReversePath::Null => true,
            ReversePath::Mailbox(mailbox) => {
                let (from, domain) = (key(&mailbox.to_string()), mailbox.domain().map(|domain| key(domain.as_str())));
                let is_listed = |sender: &String| {
                    let listed = sender.strip_prefix('@');
                    listed.map_or(*sender == from, |listed| domain.as_deref() == Some(listed))
                };
                let users = self.users.load();
                from == who.as_str()
                    || users.users.get(who.as_str()).is_some_and(|user| user.senders.iter().any(is_listed))
            }
        })
    }
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordFile").field("path", &self.path).field("users", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::connection::SessionId;

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).expect("there is room");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
    }

    fn line(user: &str, password: &str) -> String {
        let user = user.parse().expect("a mailbox");
        PasswordFile::line(&user, &Secret::new(password), b"sixteen random o").expect("a good password")
    }

    #[tokio::test]
    async fn users_have_their_passwords_and_nobody_else_has_one() -> Result<(), PasswordFileError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        let comment = "# who may send\n\n";
        write(&path, &format!("{comment}{}{}", line("Alice@Example.org", "wonderland"), line("bob@example.org", "b")));
        let users = PasswordFile::open(&path)?;
        let address = "192.0.2.1:1".parse().expect("an address");
        let connection = Connection::new(SessionId::new(1), address, address);
        let login = async |user: &str, password: &str| users.password(&connection, user, &Secret::new(password)).await;
        let alice = Identity::new("alice@example.org");
        assert_eq!(login("alice@example.org", "wonderland").await, Ok(alice.clone()));
        assert_eq!(login("ALICE@example.ORG", "wonderland").await, Ok(alice.clone()));
        for (user, password) in
            [("alice@example.org", "b"), ("alice", "wonderland"), ("carol@example.org", "x"), ("", "")]
        {
            assert_eq!(login(user, password).await, Err(AuthError::Rejected), "{user}");
        }
        let keys = users.scram(&connection, "bob@example.org", ScramHash::Sha256).await.expect("it is there");
        assert!(keys.is_some_and(|(keys, who)| keys.matches(&Secret::new("b")) && who.as_str() == "bob@example.org"));
        assert!(matches!(users.scram(&connection, "carol@example.org", ScramHash::Sha256).await, Ok(None)));
        for (from, may) in [("<alice@EXAMPLE.org>", true), ("<>", true), ("<bob@example.org>", false)] {
            let from = ReversePath::parse(from).expect("a path");
            assert_eq!(users.may_send_as(&connection, &alice, &from).await, Ok(may), "{from}");
        }
        // A user has gone; copies know.
        let copy = users.clone();
        write(&path, &line("bob@example.org", "b"));
        users.reload()?;
        assert_eq!(copy.len(), 1);
        assert_eq!(login("alice@example.org", "wonderland").await, Err(AuthError::Rejected));
        // Of no use: nothing has changed.
        write(&path, "bob@example.org secret\n");
        let error = users.reload().expect_err("no keys").to_string();
        assert!(error.ends_with("passwords:1: its keys are not those of SCRAM-SHA-256") && copy.len() == 1, "{error}");
        Ok(())
    }

    #[tokio::test] // STANDARDS R6409b, RFC 6409 §6.1: each row: who, what it sends as, and whether it may.
    async fn r6409b_a_user_sends_as_what_stands_in_its_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        let (alice, bob) = (line("alice@example.org", "a"), line("bob@example.org", "b"));
        let alice = alice.replace('\n', " Sales@example.org @example.NET # a comment\n");
        write(&path, &format!("{alice}{bob}"));
        let users = PasswordFile::open(&path).expect("it is right");
        let address = "192.0.2.1:1".parse().expect("an address");
        let connection = Connection::new(SessionId::new(1), address, address);
        for (who, from, may) in [
            ("alice@example.org", "<alice@example.org>", true),
            ("alice@example.org", "<sales@EXAMPLE.org>", true),
            ("alice@example.org", "<anybody@example.net>", true),
            ("alice@example.org", "<anybody@sub.example.net>", false),
            ("alice@example.org", "<bob@example.org>", false),
            ("alice@example.org", "<alice@[192.0.2.1]>", false),
            ("bob@example.org", "<sales@example.org>", false),
            ("bob@example.org", "<bob@example.net>", false),
            ("carol@example.org", "<sales@example.org>", false),
        ] {
            let path = ReversePath::parse(from).expect("a path");
            assert_eq!(users.may_send_as(&connection, &Identity::new(who), &path).await, Ok(may), "{who} {from}");
        }
    }

    #[test] // What is wrong is said with its line, and what stands there is not shown.
    fn wrong_lines_have_a_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        let good = line("alice@example.org", "wonderland");
        for (text, at) in [
            ("alice@example.org\n", ":1: a mailbox and its keys are needed"),
            ("\nalice hunter2\n", ":2: it does not begin with a mailbox"),
            ("alice@example.org hunter2\n", ":1: its keys are not those of SCRAM-SHA-256"),
            (&good.replace("$10000:", "$10:"), ":1: its keys are not those of SCRAM-SHA-256"),
            (&good.replace('\n', "$\n"), ":1: its keys are not those of SCRAM-SHA-256"),
            (&format!("{good}{}", good.replace("alice", "ALICE")), ":2: the mailbox is named twice"),
            (&format!("{good}{good}"), ":2: the mailbox is named twice"),
            (&good.replace('\n', " sales\n"), ":1: behind the keys stand mailboxes, and domains like `@example.org`"),
            (&good.replace('\n', " @-a\n"), ":1: behind the keys stand mailboxes, and domains like `@example.org`"),
        ] {
            write(&path, text);
            let error = PasswordFile::open(&path).map(drop).expect_err(text).to_string();
            assert!(error.contains(at) && !error.contains("hunter2"), "{error}");
        }
        std::fs::remove_file(&path).expect("it was there");
        assert!(PasswordFile::open(&path).is_err_and(|error| error.is_transient()));
    }

    #[cfg(unix)]
    #[test] // SECURITY.md D-39
    fn d39_a_file_that_everybody_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        write(&path, &line("alice@example.org", "wonderland"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        assert!(matches!(PasswordFile::open(&path), Err(PasswordFileError::Open { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
        assert!(PasswordFile::open(&path).is_ok());
    }
}
