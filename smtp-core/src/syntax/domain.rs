//! Domains, and when two of them are one (RFC 5321 §2.3.5).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::address::{parse_whole, shared};
use super::cursor::{Cursor, SyntaxError};

/// The most octets of a domain (RFC 1035 §2.3.4, RFC 5321 §4.5.3.1.2).
pub(super) const DOMAIN_LIMIT_OCTETS: usize = 255;
const LABEL_LIMIT_OCTETS: usize = 63;

/// A domain: labels of letters, digits, hyphens and (as seen in the wild) underscores, with dots between.
///
/// Compares without case (RFC 5321 §2.4) and keeps the case it came with. A clone shares the text.
#[derive(Clone)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Parses `example.org`.
    ///
    /// # Errors
    /// [`SyntaxError`] where a label is empty, too long or holds another character, where there is a final
    /// dot, and where the whole has more than 255 octets.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        parse_whole(text.as_ref(), Self::parse_at)
    }

    /// The text, in the case it came with.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let start = cursor.rest();
        loop {
            let label = cursor.take_while(is_label);
            if label.is_empty() {
                return Err(cursor.error("a letter or digit of the domain"));
            }
            if label.len() > LABEL_LIMIT_OCTETS {
                return Err(cursor.error("a label of at most 63 octets"));
            }
            if label[0] == b'-' || label[label.len() - 1] == b'-' {
                return Err(cursor.error("a label that neither starts nor ends with a hyphen"));
            }
            if !cursor.eat(b'.') {
                break;
            }
        }
        let domain = &start[..start.len() - cursor.rest().len()];
        if domain.len() > DOMAIN_LIMIT_OCTETS {
            return Err(cursor.error("a domain of at most 255 octets"));
        }
        Ok(Self(shared(domain)))
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in self.0.bytes() {
            state.write_u8(octet.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Self::parse(text)
    }
}

fn is_label(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_'
}
