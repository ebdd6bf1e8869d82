//! What a server has that was never configured: a certificate, and a user with a password. For trying it out, on one host.
//!
//! Both are made at the first start and kept in `<data>/tls`: an authority that clients can be told to trust ([`authority`]),
//! and the keys of a password that is shown once.

mod authority;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use smtp_core::{Domain, Mailbox, PasswordFile, ScramKeys, Secret, ServerTls};

use crate::AnyError;

pub(crate) use authority::Authority;

/// How often a certificate is made while the server runs; each is good for three times as long.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The directory of one server, prepared.
#[derive(Debug)]
pub(crate) struct Trial {
    directory: PathBuf,
    hostname: Domain,
    user: Mailbox,
    /// Only at the first start.
    password: Option<Secret>,
    /// Whether somebody saw it.
    is_told: AtomicBool,
}

/// A password that nobody saw, because the server did not start, is of no use: the next start makes another.
impl Drop for Trial {
    fn drop(&mut self) {
        if self.password.is_some() && !self.is_told.load(Ordering::Relaxed) {
            // What is left behind is said at the next start.
            let _ = fs::remove_file(self.passwords());
        }
    }
}

impl Trial {
    /// Makes what is not there yet, and a new certificate in any case.
    ///
    /// # Errors
    /// What cannot be written, or read.
    pub(crate) fn prepare(directory: PathBuf, hostname: &Domain, user: &Mailbox) -> Result<Self, AnyError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        let mut trial = Self {
            directory,
            hostname: hostname.clone(),
            user: user.clone(),
            password: None,
            is_told: AtomicBool::new(false),
        };
        trial.renew()?;
        if !trial.passwords().exists() {
            let password = random_password()?;
            let line = PasswordFile::line(user, &password, &random::<{ ScramKeys::SALT_OCTETS }>()?)?;
            write(&trial.passwords(), line.as_bytes())?;
            trial.password = Some(password);
        }
        Ok(trial)
    }

    fn renew(&self) -> Result<(), AnyError> {
        Authority::open(&self.directory)?.issue(self.hostname.as_str(), SystemTime::now())
    }

    /// Makes new certificates for as long as the server runs.
    pub(crate) async fn keep_renewing(self, tls: ServerTls) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            match self.renew().and_then(|()| Ok(tls.reload()?)) {
                Ok(()) => tracing::info!(target: "mta", "a new certificate was made"),
                Err(error) => {
                    let error = crate::describe(&*error);
                    tracing::error!(target: "mta", error, "no new certificate could be made");
                }
            }
        }
    }

    /// The certificate that a client has to trust.
    fn root(&self) -> PathBuf {
        self.directory.join(authority::ROOT)
    }

    /// Certificate and key of the server.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.directory.join(authority::CHAIN), self.directory.join(authority::KEY))
    }

    /// The file of users.
    pub(crate) fn passwords(&self) -> PathBuf {
        self.directory.join("passwords")
    }

    /// Says whom to trust, and the password at the first start.
    ///
    /// # Errors
    /// What `output` gave.
    pub(crate) fn introduce(&self, output: &mut impl Write) -> io::Result<()> {
        let (root, user, passwords) = (self.root(), &self.user, self.passwords());
        writeln!(output, "certificate   by an authority of its own: clients are to trust {}", root.display())?;
        let other = format!("another one: mta password {user} >{}, then SIGHUP", passwords.display());
        match &self.password {
            Some(password) => {
                writeln!(output, "password      {user} has  {}", password.expose())?;
                writeln!(output, "              it is shown this once; {other}")?;
                self.is_told.store(true, Ordering::Relaxed);
                Ok(())
            }
            None => writeln!(output, "password      {user} has that of the first start; {other}"),
        }
    }

    /// A command that sends the user a message under TLS, with the password where it is known: curl asks for it otherwise.
    pub(crate) fn command(&self, scheme: &str, address: &str) -> String {
        let (root, user) = (self.root(), &self.user);
        let password = self.password.as_ref().map(|password| format!(":{}", password.expose())).unwrap_or_default();
        format!(
            "echo 'Subject: hello' | curl --crlf --ssl-reqd --cacert {} --user '{user}{password}' \
             --mail-from {user} --mail-rcpt {user} --upload-file - {scheme}://{address}",
            root.display()
        )
    }
}

/// Sixteen letters and digits that nobody confuses: 80 random bits.
fn random_password() -> io::Result<Secret> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut password = String::new();
    for (place, octet) in random::<16>()?.into_iter().enumerate() {
        if place > 0 && place % 4 == 0 {
            password.push('-');
        }
        password.push(char::from(ALPHABET[usize::from(octet) % ALPHABET.len()]));
    }
    Ok(Secret::new(password))
}

/// Random octets of the system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(octets)
}

/// Writes a file that its owner alone can read, whole or not at all.
pub(crate) fn write(path: &Path, octets: &[u8]) -> Result<(), AnyError> {
    let new = path.with_extension("new");
    let written = (|| {
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    })();
    written.map_err(|error: io::Error| format!("cannot write {}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_eighty_random_bits() {
        let (first, second) = (random_password().expect("random"), random_password().expect("random"));
        assert_ne!(first, second);
        let text = first.expose();
        assert!(text.len() == 19 && text.split('-').all(|part| part.len() == 4), "{}", text.len());
    }
}
