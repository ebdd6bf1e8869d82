//! SASL mechanisms by their registered names (RFC 4422 §3.1), as `EHLO` lists them and `AUTH` names them.

use std::fmt;

/// A mechanism that this crate can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// `SCRAM-SHA-256-PLUS`: as [`Mechanism::ScramSha256`], and bound to the TLS connection (RFC 7677, RFC 9266).
    ScramSha256Plus,
    /// `SCRAM-SHA-256`: the server learns no password, and proves that it knows the user (RFC 7677).
    ScramSha256,
    /// `SCRAM-SHA-1`: the same with an old hash function (RFC 5802).
    ScramSha1,
    /// `OAUTHBEARER`: a bearer token (RFC 7628).
    OauthBearer,
    /// `XOAUTH2`: its unregistered predecessor.
    Xoauth2,
    /// `EXTERNAL`: the certificate that the client showed in the TLS handshake (RFC 4422 Appendix A).
    External,
    /// `PLAIN`: user and password in one response (RFC 4616).
    Plain,
    /// `LOGIN`: user and password in two responses; obsolete, and the only one of some clients.
    Login,
}

impl Mechanism {
    /// All of them, the strongest first.
    pub const ALL: [Self; 8] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::OauthBearer,
        Self::Xoauth2,
        Self::External,
        Self::Plain,
        Self::Login,
    ];

    /// The registered name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
            Self::External => "EXTERNAL",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The mechanism of that name, in any case of letters.
    pub fn parse(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        Self::ALL.into_iter().find(|mechanism| name.eq_ignore_ascii_case(mechanism.as_str().as_bytes()))
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of mechanisms.
///
/// ```
/// use smtp_core::{Mechanism, Mechanisms};
///
/// let offered = Mechanisms::from([Mechanism::Plain, Mechanism::ScramSha256]);
/// assert_eq!(offered.to_string(), "SCRAM-SHA-256 PLAIN");
/// assert!(!offered.contains(Mechanism::Login));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mechanisms(u16);

impl Mechanisms {
    /// None.
    pub const NONE: Self = Self(0);
    /// Those with which the server sees the password: `PLAIN` and `LOGIN`.
    pub const PASSWORD: Self = Self::NONE.with(Mechanism::Plain).with(Mechanism::Login);

    /// The same and one more.
    #[must_use]
    pub const fn with(self, mechanism: Mechanism) -> Self {
        Self(self.0 | 1 << mechanism as u16)
    }

    /// The same and one less.
    #[must_use]
    pub const fn without(self, mechanism: Mechanism) -> Self {
        Self(self.0 & !(1 << mechanism as u16))
    }

    /// Whether that one is among them.
    pub const fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & (1 << mechanism as u16) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, the strongest first.
    pub fn iter(self) -> impl Iterator<Item = Mechanism> {
        Mechanism::ALL.into_iter().filter(move |&mechanism| self.contains(mechanism))
    }
}

impl FromIterator<Mechanism> for Mechanisms {
    fn from_iter<I: IntoIterator<Item = Mechanism>>(mechanisms: I) -> Self {
        mechanisms.into_iter().fold(Self::NONE, Self::with)
    }
}

impl<const N: usize> From<[Mechanism; N]> for Mechanisms {
    fn from(mechanisms: [Mechanism; N]) -> Self {
        mechanisms.into_iter().collect()
    }
}

/// The names with a space between, as `EHLO` lists them.
impl fmt::Display for Mechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mechanism) in self.iter().enumerate() {
            write!(f, "{}{mechanism}", if number == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 4422 §3.1: 1 to 20 upper-case letters, digits, hyphens and underscores.
    fn every_name_is_in_the_grammar_and_read_back() {
        let all: Mechanisms = Mechanism::ALL.into_iter().collect();
        for mechanism in Mechanism::ALL {
            let name = mechanism.as_str();
            assert!(
                (1..=20).contains(&name.len())
                    && name.bytes().all(|octet| matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-'))
            );
            assert_eq!(Mechanism::parse(name.to_lowercase()), Some(mechanism));
            assert!(all.contains(mechanism) && !all.without(mechanism).contains(mechanism));
        }
        assert_eq!((Mechanism::parse(""), Mechanism::parse("PLAIN ")), (None, None));
        assert!(Mechanisms::NONE.is_empty() && !Mechanisms::PASSWORD.is_empty());
    }
}
