//! What is stored of a password that is shown to the server: its Argon2id hash (RFC 9106), as a PHC string.
//!
//! A hash says itself what it costs to check, so the costs are bounded where it is read: no line of a file makes a server
//! ask for gigabytes, or work for minutes.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq;

use crate::syntax::secret::Secret;

use super::prepare::prepared;

/// Memory of one check, at most: 128 MiB, in KiB.
const MOST_MEMORY_KIB: u32 = 128 << 10;
/// Passes over it, at most: 10.
const MOST_PASSES: u32 = 10;
/// Lanes, at most: 16.
const MOST_LANES: u32 = 16;
/// Octets of a salt (RFC 9106 §3.1 wants 8 at least), and of a hash.
const SALT_OCTETS: std::ops::RangeInclusive<usize> = 8..=64;
const HASH_OCTETS: std::ops::RangeInclusive<usize> = 16..=64;

/// What a hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Costs {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Costs {
    /// 19 MiB, 2 passes, 1 lane: some tens of milliseconds.
    const USUAL: Self =
        Self { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST, lanes: Params::DEFAULT_P_COST };

    /// `m=19456,t=2,p=1`; `None` where it is something else.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut next = |name: &str| {
            let digits = parts.next()?.strip_prefix(name)?;
            digits.bytes().all(|octet| octet.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        let costs = Self { memory_kib: next("m=")?, passes: next("t=")?, lanes: next("p=")? };
        parts.next().is_none().then_some(costs)
    }

    /// Whether a server is willing to pay them.
    fn are_bounded(self) -> bool {
        let Self { memory_kib, passes, lanes } = self;
        (1..=MOST_LANES).contains(&lanes)
            && (1..=MOST_PASSES).contains(&passes)
            && (8 * lanes..=MOST_MEMORY_KIB).contains(&memory_kib)
    }

    /// How much work they are.
    pub(crate) fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// The hash of a password; `None` where there is no memory for it.
    fn run(self, password: &[u8], salt: &[u8], octets: usize) -> Option<Vec<u8>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(octets)).ok()?;
        let mut hash = vec![0; octets];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(password, salt, &mut hash).ok()?;
        Some(hash)
    }
}

/// The hash of a password, and what it takes to check one against it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash {
    costs: Costs,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

impl PasswordHash {
    /// The hash of a password with the usual costs; `None` where it cannot be a password, or the salt has a wrong length.
    pub(crate) fn derive(password: &Secret, salt: &[u8]) -> Option<Self> {
        let password = prepared(password.expose().as_bytes())?;
        let hash = Costs::USUAL.run(password.as_bytes(), salt, 32).filter(|_| SALT_OCTETS.contains(&salt.len()))?;
        Some(Self { costs: Costs::USUAL, salt: salt.into(), hash: hash.into() })
    }

    /// `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    ///
    /// # Errors
    /// What is wrong. Nothing is shown of what stands there.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "its hash is not `$argon2id$v=19$m=…,t=…,p=…$salt$hash`";
        let parts: Vec<_> = text.split('$').collect();
        let ["", "argon2id", "v=19", costs, salt, hash] = parts[..] else { return Err(FORM) };
        let costs = Costs::parse(costs).ok_or(FORM)?;
        if !costs.are_bounded() {
            return Err("its hash costs too much, or nothing: up to m=131072 (128 MiB), t=10 and p=16 are possible");
        }
        let decode = |text| STANDARD_NO_PAD.decode(text).map_err(|_| FORM);
        let (salt, hash) = (decode(salt)?, decode(hash)?);
        if !SALT_OCTETS.contains(&salt.len()) || !HASH_OCTETS.contains(&hash.len()) {
            return Err("its hash or the salt of it has the wrong length");
        }
        Ok(Self { costs, salt: salt.into(), hash: hash.into() })
    }

    /// The hash of nobody's password, which takes as long to check.
    pub(crate) fn of_nobody(costs: Costs) -> Self {
        Self { costs, salt: [0; 16].into(), hash: [0; 32].into() }
    }

    pub(crate) fn costs(&self) -> Costs {
        self.costs
    }

    /// Whether it is that of the password. `None` where there is no memory to find that out. Not for a thread that serves
    /// sessions.
    pub(crate) fn matches(&self, password: &Secret) -> Option<bool> {
        let Some(password) = prepared(password.expose().as_bytes()) else { return Some(false) };
        let hash = self.costs.run(password.as_bytes(), &self.salt, self.hash.len())?;
        Some(hash.ct_eq(&self.hash).into())
    }
}

/// As [`PasswordHash::parse`] reads it.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Costs { memory_kib, passes, lanes } = self.costs;
        let [salt, hash] = [&self.salt, &self.hash].map(|octets| STANDARD_NO_PAD.encode(octets));
        write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("costs", &self.costs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both made by the reference implementation, of `pencil` and `sixteen random o`.
    const PENCIL: &str =
        "$argon2id$v=19$m=64,t=2,p=1$c2l4dGVlbiByYW5kb20gbw$BrRen5hrcdI91yY8OW6YNBs20WUsy6ps5Txe+nTGphc";
    const WIDE: &str = "$argon2id$v=19$m=64,t=1,p=4$c2l4dGVlbiByYW5kb20gbw$VPdBbEhLYBGRsGUasLLB+FSYVyfE8vrgWMGNvnHk3gM";

    #[test] // RFC 9106 §3.1: what another implementation has written is checked here, and written again as it was.
    fn r9106_hashes_of_other_programs_are_understood() {
        for text in [PENCIL, WIDE] {
            let hash = PasswordHash::parse(text).expect("it is one");
            // A soft hyphen means nothing (RFC 4013): that is the same password.
            for (password, is_right) in [
                ("pencil", true),
                ("p\u{ad}encil", true),
                ("Pencil", false),
                ("pencil ", false),
                ("", false),
                ("\0", false),
            ] {
                assert_eq!(hash.matches(&Secret::new(password)), Some(is_right), "{password:?}");
            }
            assert_eq!(hash.to_string(), text);
            assert!(!format!("{hash:?}").contains("BrRen5") && !format!("{hash:?}").contains("VPdBbE"));
        }
    }

    #[test] // What an absurd line asks for is never done.
    fn only_hashes_in_the_form_and_within_reason_are_read() {
        let with = |from: &str, to: &str| PENCIL.replace(from, to);
        for (text, problem) in [
            (PENCIL.to_owned(), None),
            (with("m=64", "m=131072"), None),
            (with("m=64", "m=131073"), Some("costs too much")),
            (with("m=64", "m=4294967295"), Some("costs too much")),
            (with("m=64", "m=4294967296"), Some("is not")),
            (with("m=64", "m=7"), Some("costs too much")),
            (with("p=1", "p=8"), None),
            (with("p=1", "p=9"), Some("costs too much")),
            (with("p=1", "p=16777215"), Some("costs too much")),
            (with("p=1", "p=0"), Some("costs too much")),
            (with("t=2", "t=11"), Some("costs too much")),
            (with("t=2", "t=0"), Some("costs too much")),
            (with("t=2", "t=+2"), Some("is not")),
            (with("t=2", "t="), Some("is not")),
            (with(",p=1", ""), Some("is not")),
            (with(",p=1", ",p=1,keyid=x"), Some("is not")),
            (with("m=64,t=2", "t=2,m=64"), Some("is not")),
            (with("v=19", "v=16"), Some("is not")),
            (with("$v=19", ""), Some("is not")),
            (with("argon2id", "argon2i"), Some("is not")),
            (with("argon2id", "argon2d"), Some("is not")),
            (with("argon2id", "2y"), Some("is not")),
            (with("bw$", "bw==$"), Some("is not")),
            (with("c2l4dGVlbiByYW5kb20gbw", "c2l4"), Some("wrong length")),
            (with("c2l4dGVlbiByYW5kb20gbw", &"A".repeat(88)), Some("wrong length")),
            (PENCIL[..PENCIL.len() - 23].to_owned(), Some("wrong length")),
            (format!("{PENCIL}${PENCIL}"), Some("is not")),
            (format!(" {PENCIL}"), Some("is not")),
            (String::new(), Some("is not")),
        ] {
            match (PasswordHash::parse(&text), problem) {
                (Ok(_), None) => {}
                (Err(error), Some(problem)) => assert!(error.contains(problem), "{text}: {error}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn a_hash_is_made_of_what_can_be_a_password() {
        for (password, salt, can_be) in
            [("", &b"sixteen random o"[..], false), ("a\0b", b"sixteen random o", false), ("pencil", b"short", false)]
        {
            assert_eq!(PasswordHash::derive(&Secret::new(password), salt).is_some(), can_be, "{password:?}");
        }
    }
}
