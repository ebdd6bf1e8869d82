//! `LOGIN`: two questions, user and password. No RFC defines it; this is what deployed clients speak.

use crate::syntax::secret::Secret;

use super::credential::Credential;
use super::prepare::prepared;
use super::{Failure, Progress, Steps, outcome};

#[derive(Default)]
pub(super) struct Login {
    user: Option<Vec<u8>>,
}

impl Steps for Login {
    fn begin(&self) -> &'static str {
        "Username:"
    }

    fn respond(&mut self, response: &[u8]) -> Progress {
        let Some(user) = self.user.take() else {
            self.user = Some(response.to_vec());
            return Progress::Challenge("Password:".into());
        };
        if user.is_empty() || [&user[..], response].iter().any(|text| text.contains(&0)) {
            return Progress::Failed(Failure::Malformed);
        }
        if [&user[..], response].iter().any(|text| std::str::from_utf8(text).is_err()) {
            return Progress::Failed(Failure::Malformed);
        }
        let (Some(user), Some(password)) = (prepared(&user), prepared(response)) else {
            return Progress::Failed(Failure::Rejected);
        };
        Progress::Check(Credential::Password { user, password: Secret::new(password) })
    }

    fn checked(&mut self, accepted: bool) -> Progress {
        outcome(accepted, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_then_password_and_neither_is_empty() {
        let check = Progress::Check(Credential::Password { user: "tim".into(), password: Secret::new("secret") });
        let (malformed, rejected) = (|| Progress::Failed(Failure::Malformed), || Progress::Failed(Failure::Rejected));
        for (user, password, expected) in [
            (&b"tim"[..], &b"secret"[..], check),
            (b"", b"secret", malformed()),
            (b"tim", b"", rejected()),
            (b"t\0im", b"secret", malformed()),
            (b"tim", b"sec\0ret", malformed()),
            (b"tim", b"\xff", malformed()),
            (b"\x07", b"secret", rejected()),
        ] {
            let mut login = Login::default();
            assert_eq!(login.begin(), "Username:");
            assert_eq!(login.respond(user), Progress::Challenge("Password:".into()), "{user:?}");
            assert_eq!(login.respond(password), expected, "{user:?} {password:?}");
        }
    }
}
