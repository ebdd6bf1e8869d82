//! `PLAIN`: `[authzid] NUL authcid NUL passwd` (RFC 4616 §2).

use crate::syntax::secret::Secret;

use super::credential::Credential;
use super::prepare::prepared;
use super::{Failure, Progress, Steps, other_than, outcome};

#[derive(Default)]
pub(super) struct Plain {
    authzid: Option<String>,
}

impl Steps for Plain {
    fn respond(&mut self, response: &[u8]) -> Progress {
        let mut parts = response.split(|&octet| octet == 0);
        let (Some(authzid), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Progress::Failed(Failure::Malformed);
        };
        if user.is_empty() || std::str::from_utf8(response).is_err() {
            return Progress::Failed(Failure::Malformed);
        }
        let authzid = if authzid.is_empty() { Some(String::new()) } else { prepared(authzid) };
        // No password is empty, and none holds what cannot be in one: nobody has to be asked.
        let (Some(authzid), Some(user), Some(password)) = (authzid, prepared(user), prepared(password)) else {
            return Progress::Failed(Failure::Rejected);
        };
        self.authzid = other_than(&user, authzid);
        Progress::Check(Credential::Password { user, password: Secret::new(password) })
    }

    fn checked(&mut self, accepted: bool) -> Progress {
        outcome(accepted, self.authzid.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 4616 §2; STANDARDS R4616
    fn r4616_nul_stands_exactly_twice_and_nothing_is_empty() {
        let check = |user: &str, password: &str| {
            Progress::Check(Credential::Password { user: user.into(), password: Secret::new(password) })
        };
        let (malformed, rejected) = (|| Progress::Failed(Failure::Malformed), || Progress::Failed(Failure::Rejected));
        for (response, expected, authzid) in [
            (&b"\0tim\0tanstaaftanstaaf"[..], check("tim", "tanstaaftanstaaf"), None),
            (b"Ursel\0Kurt\0xipj3plmq", check("Kurt", "xipj3plmq"), Some("Ursel")),
            (b"tim\0tim\0secret", check("tim", "secret"), None),
            (b"\0tim\0 ", check("tim", " "), None),
            ("\0\u{2168}\0\u{aa}".as_bytes(), check("IX", "a"), None),
            (b"", malformed(), None),
            (b"tim", malformed(), None),
            (b"tim\0secret", malformed(), None),
            (b"\0tim\0secret\0", malformed(), None),
            (b"\0tim\0sec\0ret", malformed(), None),
            (b"\0\0tim\0secret", malformed(), None),
            (b"\0\0secret", malformed(), None),
            (b"\0\0", malformed(), None),
            (b"\0tim\0\xff", malformed(), None),
            (b"\xc0\x80tim\0tim\0secret", malformed(), None),
            (b"\0tim\0", rejected(), None),
            (b"\0tim\0\x07", rejected(), None),
            (b"\x07\0tim\0secret", rejected(), None),
        ] {
            let mut plain = Plain::default();
            assert_eq!(plain.respond(response), expected, "{response:?}");
            assert_eq!(plain.authzid.as_deref(), authzid, "{response:?}");
        }
    }
}
