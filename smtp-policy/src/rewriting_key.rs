//! The keys of addresses that we make and know again: SRS and BATV.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use thiserror::Error;

/// A secret of less than eight octets can be guessed, and then anybody can relay mail through us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key of rewritten addresses has fewer than {} octets", RewritingKey::LEAST_OCTETS)]
pub struct KeyTooShort;

/// A secret with which addresses are signed. It is shown nowhere.
#[derive(Clone)]
pub struct RewritingKey(Box<[u8]>);

impl RewritingKey {
    /// The fewest octets of a key: 8. At least 16 random ones are better.
    pub const LEAST_OCTETS: usize = 8;

    /// From its octets.
    ///
    /// # Errors
    /// [`KeyTooShort`].
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, KeyTooShort> {
        let octets = octets.into();
        if octets.len() < Self::LEAST_OCTETS {
            return Err(KeyTooShort);
        }
        Ok(Self(octets.into()))
    }

    /// HMAC-SHA-1 (RFC 2104) of these parts, one behind the other, letters in lower case: on their way addresses lose case.
    pub(crate) fn sign(&self, parts: &[&str]) -> [u8; 20] {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part.to_ascii_lowercase().as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for RewritingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RewritingKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 2202 §3, test case 2
    fn signatures_are_those_of_rfc_2202_and_keys_are_not_shown() {
        let key = RewritingKey::new(*b"JefeJefe").expect("eight octets");
        assert_eq!(format!("{key:?}"), "RewritingKey(..)");
        let hex = |octets: [u8; 20]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().concat();
        // `Jefe` has four octets, so it goes around the constructor.
        let short = RewritingKey(Box::from(*b"Jefe"));
        let signature = short.sign(&["WHAT do ya ", "want for nothing?"]);
        assert_eq!(hex(signature), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert!(RewritingKey::new(*b"1234567").is_err());
    }
}
