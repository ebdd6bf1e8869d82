//! What a server has of chance: nonces and the keys of users that do not exist derive from it.

use std::fmt;

use super::base64;
use super::keys::{ScramHash, ScramKeys};

/// 32 random octets of a server, the same for all its sessions.
///
/// An unknown user gets the salt that derives from it, so that it looks like a user, today and tomorrow. Where the secret
/// changes, as it does at each start unless it is kept, the salts of unknown users change, and those of others do not.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSecret([u8; 32]);

impl ServerSecret {
    /// From random octets: of a new secret, or of one that was kept.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// A nonce for one exchange, by its name: 24 characters that nobody else can foresee.
    pub(crate) fn nonce(&self, exchange: &str) -> String {
        let octets = self.derive("nonce", exchange.as_bytes());
        base64::encode(&octets[..18])
    }

    /// The keys of a user that does not exist: no password has them.
    pub(crate) fn keys_of_nobody(&self, hash: ScramHash, user: &str, iterations: u32) -> ScramKeys {
        let purpose = |sha1, sha256| match hash {
            ScramHash::Sha1 => sha1,
            ScramHash::Sha256 => sha256,
        };
        let salt = self.derive(purpose("SCRAM-SHA-1 salt", "SCRAM-SHA-256 salt"), user.as_bytes());
        let key = self.derive(purpose("SCRAM-SHA-1 key", "SCRAM-SHA-256 key"), user.as_bytes());
        let (salt, key) = (&salt[..ScramKeys::SALT_OCTETS], &key[..hash.octets()]);
        let iterations = iterations.max(ScramKeys::LEAST_ITERATIONS);
        ScramKeys::from_parts(hash, salt, iterations, key, key).expect("a short salt, and keys as long as the hash")
    }

    fn derive(&self, purpose: &str, about: &[u8]) -> Vec<u8> {
        ScramHash::Sha256.hmac(&self.0, &[purpose.as_bytes(), &[0], about].concat())
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 5802 §9; SECURITY.md D-19
    fn d19_nobody_has_a_steady_salt_of_his_own() {
        let (first, other) = (ServerSecret::new([1; 32]), ServerSecret::new([2; 32]));
        let salt = |secret: &ServerSecret, hash, user| secret.keys_of_nobody(hash, user, 4096).salt().to_vec();
        let expected = salt(&first, ScramHash::Sha256, "nobody");
        assert_eq!(salt(&first, ScramHash::Sha256, "nobody"), expected);
        assert_eq!(expected.len(), ScramKeys::SALT_OCTETS);
        for salt in [
            salt(&first, ScramHash::Sha256, "nobody2"),
            salt(&first, ScramHash::Sha1, "nobody"),
            salt(&other, ScramHash::Sha256, "nobody"),
        ] {
            assert_ne!(salt, expected);
        }
        assert_eq!(format!("{first:?}"), "ServerSecret(..)");
    }

    #[test] // RFC 5802 §5.1: printable ASCII without a comma; another one for each exchange.
    fn nonces_differ_and_are_in_the_grammar() {
        let secret = ServerSecret::new([1; 32]);
        let nonces =
            [secret.nonce("1-1"), secret.nonce("1-2"), secret.nonce("2-1"), ServerSecret::new([2; 32]).nonce("1-1")];
        for (number, nonce) in nonces.iter().enumerate() {
            assert!(nonce.len() == 24 && nonce.bytes().all(|octet| octet.is_ascii_graphic() && octet != b','));
            assert!(!nonces[..number].contains(nonce), "{nonces:?}");
        }
    }
}
