//! Text that is never shown.

use std::fmt;

use subtle::ConstantTimeEq;

/// A password or a token. It never appears in a log: `Debug` shows nothing of it.
///
/// Two are compared in a time that depends on their lengths only.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps the characters.
    pub fn new(characters: impl Into<Box<str>>) -> Self {
        Self(characters.into())
    }

    /// The characters, to check them.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_and_still_compares() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("hunter2").count(), 0);
        for (other, equal) in [("hunter2", true), ("hunter3", false), ("hunter", false), ("", false)] {
            assert_eq!(secret == Secret::new(other), equal, "{other}");
        }
    }
}
