//! A ready-made [`Authenticator`]: users in a file, each with the keys of a password.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::sasl::base64;
use crate::sasl::keys::{ScramHash, ScramKeys, ScramKeysError};
use crate::sasl::password_hash::PasswordHash;
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity};
use crate::syntax::address::Mailbox;
use crate::syntax::mechanism::{Mechanism, Mechanisms};
use crate::syntax::path::ReversePath;
use crate::syntax::secret::Secret;

use super::authenticator::Authenticator;
use super::password_users::{PasswordFileError, Stored, Users, key};

/// Passwords that are verified at the same time: each takes a processor for some milliseconds, and with Argon2 memory too.
const AT_A_TIME: usize = 2;

/// Users by their mailbox, in a file that can be read again while the server runs.
///
/// A line has the mailbox and the keys of its password, as [`PasswordFile::line`] makes them, or its Argon2id hash, as
/// [`PasswordFile::argon2_line`] does, and behind them what else the user may send as: mailboxes, and domains with an `@` in
/// front. `#` starts a comment. Names compare without case. There is no password in it, but whoever has it can try passwords
/// at leisure, and with keys pass for the server: it must not be readable by everybody.
///
/// ```text
/// alice@example.org SCRAM-SHA-256$10000:c2l4dGVlbiByYW5kb20gbw==$…:… sales@example.org @example.net
/// bob@example.org $argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiByYW5kb20gbw$…
/// ```
///
/// Users with keys authenticate by `SCRAM-SHA-256`, `PLAIN` and `LOGIN`; users with a hash by `PLAIN` and `LOGIN`. A server
/// cannot tell them apart before they have said who they are: where the file has users with keys it offers `SCRAM-SHA-256` to
/// everybody, which with a hash fails as a wrong password does. All send as their own mailbox, as those of their line, or with
/// `<>` (RFC 6409 §6.1).
///
/// A hash costs up to 128 MiB, 10 passes and 16 lanes; two passwords are verified at a time. Whoever has fewer iterations, or
/// a cheaper hash, than others in the file can be told from an unknown user by how long a failure takes.
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
        self.users.load().by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The line of a user, with a line feed. The salt is to be random, of [`ScramKeys::SALT_OCTETS`].
    ///
    /// # Errors
    /// [`ScramKeysError`](crate::ScramKeysError): the password or the salt cannot be used.
    pub fn line(user: &Mailbox, password: &Secret, salt: &[u8]) -> Result<String, ScramKeysError> {
        let keys = ScramKeys::derive(ScramHash::Sha256, password, salt, ScramKeys::DEFAULT_ITERATIONS)?;
        let [salt, stored, server] = [keys.salt(), keys.stored_key(), keys.server_key()].map(base64::encode);
        Ok(format!("{user} SCRAM-SHA-256${}:{salt}${stored}:{server}\n", keys.iterations()))
    }

    /// The same with an Argon2id hash (RFC 9106) in the place of keys: 19 MiB, 2 passes, 1 lane. Passwords are harder to find
    /// with it, and clients have to show theirs. The salt is to be random, of [`ScramKeys::SALT_OCTETS`]; 8 to 64 octets are
    /// possible.
    ///
    /// # Errors
    /// As [`PasswordFile::line`].
    pub fn argon2_line(user: &Mailbox, password: &Secret, salt: &[u8]) -> Result<String, ScramKeysError> {
        let hash = PasswordHash::derive(password, salt).ok_or(if salt.len() < 8 || salt.len() > 64 {
            ScramKeysError::Length
        } else {
            ScramKeysError::Password
        })?;
        Ok(format!("{user} {hash}\n"))
    }
}

#[async_trait]
impl Authenticator for PasswordFile {
    fn mechanisms(&self) -> Mechanisms {
        if !self.users.load().offers_scram() {
            return Mechanisms::PASSWORD;
        }
        Mechanisms::PASSWORD.with(Mechanism::ScramSha256).with(Mechanism::ScramSha256Plus)
    }

    fn scram_iterations(&self) -> u32 {
        self.users.load().iterations
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        let check = self.users.load().check_of(user);
        let password = password.clone();
        let permit = self.verifying.clone().acquire_owned().await.map_err(|_| AuthError::Unavailable)?;
        let verified = tokio::task::spawn_blocking(move || {
            let matches = check.run(&password);
            // Only now: who has asked may have gone, and its work still takes place and memory.
            drop(permit);
            matches
        });
        match verified.await {
            Ok(Some(true)) => Ok(Identity::new(key(user))),
            Ok(Some(false)) => Err(AuthError::Rejected),
            Ok(None) | Err(_) => Err(AuthError::Unavailable),
        }
    }

    async fn scram(
        &self,
        _: &Connection,
        user: &str,
        hash: ScramHash,
    ) -> Result<Option<(ScramKeys, Identity)>, AuthError> {
        let users = self.users.load();
        Ok(match users.by_name.get(&key(user)).map(|user| &user.stored) {
            Some(Stored::Keys(keys)) if keys.hash() == hash => Some((keys.clone(), Identity::new(key(user)))),
            _ => None,
        })
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
                    || users.by_name.get(who.as_str()).is_some_and(|user| user.senders.iter().any(is_listed))
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
    use std::path::Path;

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

    /// Of `pencil`.
    const HASH: &str = "$argon2id$v=19$m=64,t=2,p=1$c2l4dGVlbiByYW5kb20gbw$BrRen5hrcdI91yY8OW6YNBs20WUsy6ps5Txe+nTGphc";

    fn at_loopback() -> Connection {
        let address = "192.0.2.1:1".parse().expect("an address");
        Connection::new(SessionId::new(1), address, address)
    }

    #[tokio::test] // Each in its own way, beside each other; SCRAM knows nothing of a hash, and says no more than of nobody.
    async fn users_with_a_hash_show_their_password() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        let keys = line("alice@example.org", "wonderland");
        write(&path, &format!("{keys}bob@example.org {HASH} sales@example.org\n"));
        let users = PasswordFile::open(&path).expect("it is right");
        let connection = at_loopback();
        for (user, password, is_right) in [
            ("bob@example.org", "pencil", true),
            ("BOB@example.org", "pencil", true),
            ("bob@example.org", "wonderland", false),
            ("bob@example.org", "", false),
            ("alice@example.org", "wonderland", true),
            ("alice@example.org", "pencil", false),
            ("carol@example.org", "pencil", false),
        ] {
            let expected = if is_right { Ok(Identity::new(key(user))) } else { Err(AuthError::Rejected) };
            assert_eq!(users.password(&connection, user, &Secret::new(password)).await, expected, "{user} {password}");
        }
        for (user, has_keys) in [("alice@example.org", true), ("bob@example.org", false), ("carol@example.org", false)]
        {
            let found = users.scram(&connection, user, ScramHash::Sha256).await.expect("it can be asked");
            assert_eq!(found.is_some(), has_keys, "{user}");
        }
        let from = ReversePath::parse("<sales@example.org>").expect("a path");
        assert_eq!(users.may_send_as(&connection, &Identity::new("bob@example.org"), &from).await, Ok(true));
    }

    #[test] // SECURITY.md D-19: whose login it is does not show in what is done for it.
    fn d19_every_login_costs_what_the_file_has() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        let keys = line("alice@example.org", "wonderland");
        let (hash, more) = (format!("bob@example.org {HASH}\n"), HASH.replace("t=2", "t=3"));
        let more = format!("dave@example.org {more}\n");
        for (text, offers_scram, costs) in [
            (String::new(), true, None),
            (keys.clone(), true, None),
            (hash.clone(), false, Some(2)),
            (format!("{more}{hash}"), false, Some(3)),
            (format!("{hash}{more}"), false, Some(3)),
            (format!("{keys}{hash}"), true, Some(2)),
        ] {
            write(&path, &text);
            let file = PasswordFile::open(&path).expect("it is right");
            assert_eq!(file.mechanisms().contains(Mechanism::ScramSha256), offers_scram, "{text}");
            assert_eq!(file.mechanisms().contains(Mechanism::ScramSha256Plus), offers_scram, "{text}");
            let users = file.users.load();
            for user in ["nobody@example.org", "alice@example.org", "bob@example.org"] {
                let check = users.check_of(user);
                assert_eq!(
                    check.keys.map(|keys| keys.iterations()),
                    offers_scram.then_some(users.iterations),
                    "{user}"
                );
                let is_cheaper = user.starts_with("bob") && text.contains("bob");
                let costs = if is_cheaper { Some(2) } else { costs };
                assert_eq!(check.hash.map(|hash| hash.costs().work()), costs.map(|passes| 64 * passes), "{user}");
            }
        }
    }

    #[tokio::test] // The line that we write ourselves, with its full cost.
    async fn a_line_with_a_hash_is_written_and_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("passwords");
        let (bob, password) = ("bob@example.org".parse().expect("a mailbox"), Secret::new("correct horse"));
        let line = PasswordFile::argon2_line(&bob, &password, b"sixteen random o").expect("a good password");
        assert!(line.starts_with("bob@example.org $argon2id$v=19$m=19456,t=2,p=1$") && line.ends_with('\n'), "{line}");
        write(&path, &line);
        let users = PasswordFile::open(&path).expect("it is right");
        assert_eq!(
            users.password(&at_loopback(), "bob@example.org", &password).await,
            Ok(Identity::new("bob@example.org"))
        );
        for (password, salt, error) in [
            ("", &b"sixteen random o"[..], ScramKeysError::Password),
            ("x", b"short", ScramKeysError::Length),
            ("x", &[0; 65], ScramKeysError::Length),
        ] {
            assert_eq!(PasswordFile::argon2_line(&bob, &Secret::new(password), salt), Err(error));
        }
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
            (&format!("{good}bob@example.org {}\n", HASH.replace("m=64", "m=4194304")), ":2: its hash costs too much"),
            (&format!("bob@example.org {}\n", HASH.replace("v=19", "v=16")), ":1: its hash is not `$argon2id$"),
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
