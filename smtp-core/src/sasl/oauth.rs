//! `OAUTHBEARER` (RFC 7628) and `XOAUTH2`: a bearer token. A token that is rejected is answered with a challenge that
//! says why; only behind the response to it the exchange ends.

use crate::syntax::secret::Secret;

use super::credential::Credential;
use super::prepare::prepared;
use super::{Failure, Progress, Steps};

/// Between the parts of a response: `kvsep` of RFC 7628 §3.1.
const SEPARATOR: u8 = 1;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    OauthBearer,
    Xoauth2,
}

pub(super) struct Bearer {
    form: Form,
    has_failed: bool,
}

impl Bearer {
    pub(super) fn new(form: Form) -> Self {
        Self { form, has_failed: false }
    }

    /// RFC 7628 §3.2.2. Nothing but the status: which scope would do is not for those who have none.
    fn fail(&mut self) -> Progress {
        self.has_failed = true;
        Progress::Challenge(match self.form {
            Form::OauthBearer => r#"{"status":"invalid_token"}"#.into(),
            Form::Xoauth2 => r#"{"status":"401","schemes":"Bearer"}"#.into(),
        })
    }
}

impl Steps for Bearer {
    fn respond(&mut self, response: &[u8]) -> Progress {
        if self.has_failed {
            return Progress::Failed(Failure::Rejected);
        }
        let parsed = match self.form {
            Form::OauthBearer => oauthbearer(response),
            Form::Xoauth2 => xoauth2(response),
        };
        let Some(Claim { user, token }) = parsed else { return Progress::Failed(Failure::Malformed) };
        let user = match user {
            None => None,
            Some(user) => match prepared(&user) {
                None => return self.fail(),
                user => user,
            },
        };
        match token {
            Some(token) => Progress::Check(Credential::Token { user, token }),
            // RFC 7628 §4.3: who sends no token asks what would be needed.
            None => self.fail(),
        }
    }

    fn checked(&mut self, accepted: bool) -> Progress {
        if accepted { Progress::Done { authzid: None } } else { self.fail() }
    }
}

/// What a response says.
struct Claim {
    /// Whom the token is for.
    user: Option<Vec<u8>>,
    /// `None` where it is empty or of another kind.
    token: Option<Secret>,
}

/// `n,a=user,^Ahost=…^Aport=…^Aauth=Bearer token^A^A` (RFC 7628 §3.1).
fn oauthbearer(response: &[u8]) -> Option<Claim> {
    let start = response.iter().position(|&octet| octet == SEPARATOR)?;
    let (header, pairs) = response.split_at(start);
    let mut header = header.split(|&octet| octet == b',');
    let (flag, authzid, end, more) = (header.next()?, header.next()?, header.next()?, header.next());
    if !matches!(flag, b"n" | b"y") || !end.is_empty() || more.is_some() {
        return None;
    }
    let user = match authzid {
        [] => None,
        [b'a', b'=', name @ ..] => Some(super::scram::unescape(name)?),
        _ => return None,
    };
    claim(user, pairs)
}

/// `user=name^Aauth=Bearer token^A^A`.
fn xoauth2(response: &[u8]) -> Option<Claim> {
    let start = response.iter().position(|&octet| octet == SEPARATOR)?;
    let (user, pairs) = response.split_at(start);
    let user = user.strip_prefix(b"user=").filter(|user| !user.is_empty())?;
    std::str::from_utf8(user).ok()?;
    claim(Some(user.to_vec()), pairs)
}

/// The value of `auth` among pairs that each have a separator in front, with two at the end.
fn claim(user: Option<Vec<u8>>, pairs: &[u8]) -> Option<Claim> {
    let pairs = pairs.strip_prefix(&[SEPARATOR])?.strip_suffix(&[SEPARATOR])?;
    let mut found = None;
    for pair in pairs.split_inclusive(|&octet| octet == SEPARATOR) {
        let pair = pair.strip_suffix(&[SEPARATOR])?;
        let equals = pair.iter().position(|&octet| octet == b'=')?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        if key.is_empty() || !key.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        if key == b"auth" && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found.unwrap_or_default();
    let Some((scheme, token)) = value.split_at_checked("Bearer ".len()) else {
        return Some(Claim { user, token: None });
    };
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Some(Claim { user, token: None });
    }
    let token = std::str::from_utf8(token).ok()?.trim_matches(' ');
    if !token.bytes().all(|octet| octet.is_ascii_graphic()) {
        return None;
    }
    let token = (!token.is_empty()).then(|| Secret::new(token));
    Some(Claim { user, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user: Option<&str>, token: &str) -> Progress {
        Progress::Check(Credential::Token { user: user.map(str::to_owned), token: Secret::new(token) })
    }

    #[test] // RFC 7628 §3.1, §4.1, §4.3
    fn r7628_tokens_are_found_where_they_belong() {
        use Form::{OauthBearer, Xoauth2};
        let malformed = || Progress::Failed(Failure::Malformed);
        for (form, response, expected) in [
            (
                OauthBearer,
                &b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01auth=Bearer vF9dft4qmT==\x01\x01"[..],
                check(Some("user@example.com"), "vF9dft4qmT=="),
            ),
            (OauthBearer, b"n,,\x01auth=bearer x\x01\x01", check(None, "x")),
            (OauthBearer, b"y,a=a=2Cb,\x01auth=Bearer x\x01\x01", check(Some("a,b"), "x")),
            (OauthBearer, b"n,,\x01auth=Bearer x\x01", malformed()),
            (OauthBearer, b"n,,\x01auth=Bearer x", malformed()),
            (OauthBearer, b"n,,auth=Bearer x\x01\x01", malformed()),
            (OauthBearer, b"p=tls-exporter,,\x01auth=Bearer x\x01\x01", malformed()),
            (OauthBearer, b"n,\x01auth=Bearer x\x01\x01", malformed()),
            (OauthBearer, b"n,x=y,\x01auth=Bearer x\x01\x01", malformed()),
            (OauthBearer, b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01", malformed()),
            (OauthBearer, b"n,,\x01auth=Bearer x\0y\x01\x01", malformed()),
            (OauthBearer, b"n,,\x01auth=Bearer x y\x01\x01", malformed()),
            (OauthBearer, b"n,,\x01=Bearer x\x01\x01", malformed()),
            (OauthBearer, b"", malformed()),
            (OauthBearer, b"\x01", malformed()),
            (Xoauth2, b"user=u@example.com\x01auth=Bearer tok\x01\x01", check(Some("u@example.com"), "tok")),
            (Xoauth2, b"user=\x01auth=Bearer tok\x01\x01", malformed()),
            (Xoauth2, b"auth=Bearer tok\x01\x01", malformed()),
            (Xoauth2, b"user=u\x01auth=Bearer tok\x01", malformed()),
        ] {
            assert_eq!(Bearer::new(form).respond(response), expected, "{}", response.escape_ascii());
        }
    }

    #[test] // RFC 7628 §3.2.3: an error challenge, a response that means nothing, the end.
    fn r7628_a_rejected_token_is_answered_with_a_challenge_first() {
        for response in
            ["n,,\x01\x01", "n,,\x01auth=\x01\x01", "n,,\x01auth=Basic x\x01\x01", "n,,\x01auth=Bearer x\x01\x01"]
        {
            let mut bearer = Bearer::new(Form::OauthBearer);
            let mut progress = bearer.respond(response.as_bytes());
            if matches!(progress, Progress::Check(_)) {
                progress = bearer.checked(false);
            }
            assert_eq!(progress, Progress::Challenge(br#"{"status":"invalid_token"}"#.to_vec()), "{response:?}");
            assert_eq!(bearer.respond(b"\x01"), Progress::Failed(Failure::Rejected));
        }
    }
}
