//! What SCRAM stores of a password (RFC 5802 §3): enough to check it, too little to log in with.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::syntax::secret::Secret;

use super::prepare::prepared;

/// The hash function of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScramHash {
    /// SHA-1 (RFC 5802).
    Sha1,
    /// SHA-256 (RFC 7677).
    Sha256,
}

impl ScramHash {
    /// Octets of its output.
    pub const fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// `H(octets)`.
    pub(crate) fn digest(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(octets).to_vec(),
            Self::Sha256 => Sha256::digest(octets).to_vec(),
        }
    }

    /// `HMAC(key, octets)`.
    pub(crate) fn hmac(self, key: &[u8], octets: &[u8]) -> Vec<u8> {
        fn run<M: Mac + KeyInit>(key: &[u8], octets: &[u8]) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.update(octets);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha1 => run::<Hmac<Sha1>>(key, octets),
            Self::Sha256 => run::<Hmac<Sha256>>(key, octets),
        }
    }

    /// `Hi(password, salt, iterations)`.
    pub(crate) fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut salted = vec![0; self.octets()];
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
        }
        salted
    }
}

/// The keys of a user: salt, iterations, `StoredKey` and `ServerKey` (RFC 5802 §3).
///
/// ```
/// use smtp_core::{ScramHash, ScramKeys, Secret};
///
/// let password = Secret::new("correct horse battery staple");
/// let keys = ScramKeys::derive(ScramHash::Sha256, &password, b"sixteen random o", ScramKeys::DEFAULT_ITERATIONS)?;
/// assert!(keys.matches(&password) && !keys.matches(&Secret::new("incorrect")));
/// # Ok::<(), smtp_core::ScramKeysError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    hash: ScramHash,
    salt: Box<[u8]>,
    iterations: u32,
    stored_key: Box<[u8]>,
    server_key: Box<[u8]>,
}

/// Why there can be no such keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramKeysError {
    /// An empty password, or one with characters that cannot be in it (RFC 4013).
    #[error("the password is empty or has characters that cannot be in one")]
    Password,
    /// Fewer than [`ScramKeys::LEAST_ITERATIONS`].
    #[error("fewer than {} iterations", ScramKeys::LEAST_ITERATIONS)]
    Iterations,
    /// An empty salt, one longer than [`ScramKeys::SALT_LIMIT_OCTETS`], or a key that is not as long as the hash.
    #[error("a salt or a key has the wrong length")]
    Length,
}

impl ScramKeysError {
    /// Never: the same values will be as wrong tomorrow.
    pub fn is_transient(self) -> bool {
        false
    }
}

impl ScramKeys {
    /// The fewest iterations: 4,096 (RFC 7677 §4).
    pub const LEAST_ITERATIONS: u32 = 4096;
    /// Iterations for new keys: 10,000. The client does this work at each login, so it is less than what stored hashes
    /// of passwords take.
    pub const DEFAULT_ITERATIONS: u32 = 10_000;
    /// Octets of a salt that is made here: 16.
    pub const SALT_OCTETS: usize = 16;
    /// The longest salt, in octets: 1,024, so that a challenge stays within its line.
    pub const SALT_LIMIT_OCTETS: usize = 1024;

    /// The keys of a password. Takes as long as so many iterations take: not for a thread that serves sessions.
    ///
    /// Salts are random; users whose salts are not [`ScramKeys::SALT_OCTETS`] long can be told from unknown ones.
    ///
    /// # Errors
    /// [`ScramKeysError`], by what is wrong.
    pub fn derive(hash: ScramHash, password: &Secret, salt: &[u8], iterations: u32) -> Result<Self, ScramKeysError> {
        let password = prepared(password.expose().as_bytes()).ok_or(ScramKeysError::Password)?;
        Self::check(salt, iterations)?;
        let salted = hash.salted_password(password.as_bytes(), salt, iterations);
        let stored_key = hash.digest(&hash.hmac(&salted, b"Client Key"));
        let server_key = hash.hmac(&salted, b"Server Key");
        Self::from_parts(hash, salt, iterations, &stored_key, &server_key)
    }

    /// Keys that were derived before.
    ///
    /// # Errors
    /// [`ScramKeysError`], by what is wrong.
    pub fn from_parts(
        hash: ScramHash,
        salt: &[u8],
        iterations: u32,
        stored_key: &[u8],
        server_key: &[u8],
    ) -> Result<Self, ScramKeysError> {
        Self::check(salt, iterations)?;
        if stored_key.len() != hash.octets() || server_key.len() != hash.octets() {
            return Err(ScramKeysError::Length);
        }
        Ok(Self { hash, salt: salt.into(), iterations, stored_key: stored_key.into(), server_key: server_key.into() })
    }

    fn check(salt: &[u8], iterations: u32) -> Result<(), ScramKeysError> {
        if iterations < Self::LEAST_ITERATIONS {
            return Err(ScramKeysError::Iterations);
        }
        if salt.is_empty() || salt.len() > Self::SALT_LIMIT_OCTETS {
            return Err(ScramKeysError::Length);
        }
        Ok(())
    }

    /// Whether they are the keys of that password: for `PLAIN` and `LOGIN`. Takes as long as
    /// [`ScramKeys::derive`].
    pub fn matches(&self, password: &Secret) -> bool {
        Self::derive(self.hash, password, &self.salt, self.iterations)
            .is_ok_and(|keys| subtle::ConstantTimeEq::ct_eq(&*keys.stored_key, &*self.stored_key).into())
    }

    /// The hash function.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// How many iterations.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// `StoredKey`: whoever has it can check a login.
    pub fn stored_key(&self) -> &[u8] {
        &self.stored_key
    }

    /// `ServerKey`: whoever has it can pass for the server.
    pub fn server_key(&self) -> &[u8] {
        &self.server_key
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_of_what_can_be_used() {
        let derive = |password: &str, salt: &[u8], iterations| {
            ScramKeys::derive(ScramHash::Sha256, &Secret::new(password), salt, iterations).err()
        };
        for (password, salt, iterations, expected) in [
            ("pencil", &b"salt"[..], 4096, None),
            ("", b"salt", 4096, Some(ScramKeysError::Password)),
            ("a\0b", b"salt", 4096, Some(ScramKeysError::Password)),
            ("pencil", b"salt", 4095, Some(ScramKeysError::Iterations)),
            ("pencil", b"salt", 0, Some(ScramKeysError::Iterations)),
            ("pencil", b"", 4096, Some(ScramKeysError::Length)),
            ("pencil", &[7; 1025], 4096, Some(ScramKeysError::Length)),
        ] {
            assert_eq!(derive(password, salt, iterations), expected, "{password:?} {iterations}");
        }
        let short = ScramKeys::from_parts(ScramHash::Sha1, b"salt", 4096, &[0; 32], &[0; 20]);
        assert_eq!(short.err(), Some(ScramKeysError::Length));
    }

    #[test] // RFC 4013: the same password however it is composed.
    fn keys_match_their_password_in_each_form_and_show_nothing() {
        let password = Secret::new("\u{aa}bc");
        let keys = ScramKeys::derive(ScramHash::Sha1, &password, b"salt", 4096).expect("valid");
        assert!(keys.matches(&password) && keys.matches(&Secret::new("abc")));
        assert!(!keys.matches(&Secret::new("abd")) && !keys.matches(&Secret::new("")));
        assert_eq!(format!("{keys:?}"), "ScramKeys { hash: Sha1, iterations: 4096, .. }");
    }
}
