//! SCRAM (RFC 5802, RFC 7677): two responses. The password is not sent, and the server proves that it knows the user.
//!
//! Who does not exist is answered with keys that nobody has; the work is the same, because those are made for each user
//! (SECURITY D-19). The signature of the server is the last challenge; the client answers it with nothing.

use subtle::ConstantTimeEq;

use crate::syntax::mechanism::Mechanism;

use super::keys::{ScramHash, ScramKeys};
use super::prepare::prepared;
use super::{Facts, Failure, Progress, Steps, base64, other_than};

/// The only channel binding that is known here (RFC 9266).
const BINDING: &[u8] = b"p=tls-exporter";
/// Octets of the client's nonce, at most: it comes back in a challenge.
const NONCE_LIMIT_OCTETS: usize = 1024;

pub(super) struct Scram {
    hash: ScramHash,
    /// Whether the mechanism is a `-PLUS`.
    binds: bool,
    facts: Facts,
    state: State,
}

enum State {
    Start,
    /// The application looks for the keys.
    Asked(First),
    /// The first challenge was sent.
    Challenged {
        first: First,
        keys: ScramKeys,
        challenge: String,
    },
    /// The proof was right, and our signature was sent.
    Signed {
        authzid: Option<String>,
    },
    Over,
}

/// The first response (RFC 5802 §7: `client-first-message`).
struct First {
    /// `gs2-header`.
    header: Vec<u8>,
    authzid: Option<String>,
    user: String,
    nonce: Vec<u8>,
    /// `client-first-message-bare`.
    bare: Vec<u8>,
}

impl Scram {
    pub(super) fn new(mechanism: Mechanism, facts: Facts) -> Self {
        let hash = if mechanism == Mechanism::ScramSha1 { ScramHash::Sha1 } else { ScramHash::Sha256 };
        Self { hash, binds: mechanism == Mechanism::ScramSha256Plus, facts, state: State::Start }
    }

    fn first(&mut self, response: &[u8]) -> Result<Progress, Failure> {
        let first = First::parse(response)?;
        let flag = first.header.split(|&octet| octet == b',').next().unwrap_or_default();
        match flag {
            BINDING if self.binds => {}
            b"n" if !self.binds => {}
            // RFC 5802 §6: a client that could bind and believes that we cannot was told so by somebody else.
            b"y" if !self.binds && self.facts.channel_binding.is_none() => {}
            _ => return Err(Failure::Rejected),
        }
        let user = first.user.clone();
        self.state = State::Asked(first);
        Ok(Progress::FindKeys(user))
    }

    fn last(&mut self, first: First, keys: &ScramKeys, challenge: &str, response: &[u8]) -> Result<Progress, Failure> {
        let response = std::str::from_utf8(response).map_err(|_| Failure::Malformed)?;
        let (without_proof, proof) = response.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c=")).ok_or(Failure::Malformed)?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r=")).ok_or(Failure::Malformed)?;
        let binding = base64::decode(binding.as_bytes()).ok_or(Failure::Malformed)?;
        let proof = base64::decode(proof.as_bytes()).ok_or(Failure::Malformed)?;

        let mut expected = first.header;
        if self.binds {
            expected.extend_from_slice(&self.facts.channel_binding.ok_or(Failure::Rejected)?);
        }
        let auth_message = [&first.bare[..], challenge.as_bytes(), without_proof.as_bytes()].join(&b","[..]);
        let signature = self.hash.hmac(keys.stored_key(), &auth_message);
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let is_right = self.hash.digest(&client_key).ct_eq(keys.stored_key())
            & proof.len().ct_eq(&signature.len())
            & binding.ct_eq(&expected)
            & nonce.as_bytes().ct_eq(&[&first.nonce[..], self.facts.nonce.as_bytes()].concat());
        if !bool::from(is_right) {
            return Err(Failure::Rejected);
        }
        let signature = self.hash.hmac(keys.server_key(), &auth_message);
        self.state = State::Signed { authzid: first.authzid };
        Ok(Progress::Challenge(format!("v={}", base64::encode(&signature)).into()))
    }
}

impl Steps for Scram {
    fn respond(&mut self, response: &[u8]) -> Progress {
        let progress = match std::mem::replace(&mut self.state, State::Over) {
            State::Start => self.first(response),
            State::Challenged { first, keys, challenge } => self.last(first, &keys, &challenge, response),
            State::Signed { authzid } if response.is_empty() => Ok(Progress::Done { authzid }),
            State::Signed { .. } => Err(Failure::Malformed),
            State::Asked(_) | State::Over => Err(Failure::Rejected),
        };
        progress.unwrap_or_else(Progress::Failed)
    }

    fn found(&mut self, keys: Option<ScramKeys>) -> Progress {
        let State::Asked(first) = std::mem::replace(&mut self.state, State::Over) else {
            return Progress::Failed(Failure::Rejected);
        };
        // Made also where it is not needed: the work is the same.
        let of_nobody = self.facts.secret.keys_of_nobody(self.hash, &first.user, self.facts.iterations);
        let keys = keys.filter(|keys| keys.hash() == self.hash).unwrap_or(of_nobody);
        let nonce = String::from_utf8_lossy(&first.nonce);
        let (salt, iterations) = (base64::encode(keys.salt()), keys.iterations());
        let challenge = format!("r={nonce}{},s={salt},i={iterations}", self.facts.nonce);
        self.state = State::Challenged { first, keys, challenge: challenge.clone() };
        Progress::Challenge(challenge.into())
    }
}

impl First {
    fn parse(response: &[u8]) -> Result<Self, Failure> {
        let mut parts = response.splitn(3, |&octet| octet == b',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Failure::Malformed);
        };
        if !(matches!(flag, b"n" | b"y") || flag.starts_with(b"p=")) {
            return Err(Failure::Malformed);
        }
        let header = response[..flag.len() + authzid.len() + 2].to_vec();
        let authzid = match authzid {
            [] => String::new(),
            [b'a', b'=', name @ ..] => name_of(name)?,
            _ => return Err(Failure::Malformed),
        };
        let mut attributes = bare.split(|&octet| octet == b',');
        // An extension that must be understood (`m=`) would stand in front of the name; none is.
        let user = attributes.next().and_then(|attribute| attribute.strip_prefix(b"n=")).ok_or(Failure::Malformed)?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix(b"r=")).ok_or(Failure::Malformed)?;
        let is_nonce = (1..=NONCE_LIMIT_OCTETS).contains(&nonce.len()) && nonce.iter().all(u8::is_ascii_graphic);
        if !is_nonce || bare.contains(&0) || std::str::from_utf8(bare).is_err() {
            return Err(Failure::Malformed);
        }
        let (nonce, user) = (nonce.to_vec(), name_of(user)?);
        Ok(Self { header, authzid: other_than(&user, authzid), user, nonce, bare: bare.to_vec() })
    }
}

/// A `saslname`, prepared.
fn name_of(name: &[u8]) -> Result<String, Failure> {
    let name = unescape(name).filter(|name| !name.is_empty() && !name.contains(&0)).ok_or(Failure::Malformed)?;
    if std::str::from_utf8(&name).is_err() {
        return Err(Failure::Malformed);
    }
    prepared(&name).ok_or(Failure::Rejected)
}

/// `=2C` is a comma, `=3D` an equals sign, and no other equals sign may be there (RFC 5802 §5.1).
pub(super) fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut parts = name.split(|&octet| octet == b'=');
    let mut unescaped = parts.next()?.to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        unescaped.push(match code {
            b"2C" => b',',
            b"3D" => b'=',
            _ => return None,
        });
        unescaped.extend_from_slice(rest);
    }
    Some(unescaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::secret::ServerSecret;
    use crate::syntax::secret::Secret;

    fn scram(mechanism: Mechanism, nonce: &str, channel_binding: Option<[u8; 32]>) -> Scram {
        let secret = ServerSecret::new([7; 32]);
        Scram::new(
            mechanism,
            Facts { channel_binding, certificate: None, nonce: nonce.into(), secret, iterations: 4096 },
        )
    }

    fn keys(hash: ScramHash, salt: &str) -> ScramKeys {
        let salt = base64::decode(salt.as_bytes()).expect("valid");
        ScramKeys::derive(hash, &Secret::new("pencil"), &salt, 4096).expect("valid")
    }

    fn challenge(text: &str) -> Progress {
        Progress::Challenge(text.into())
    }

    /// Mechanism, hash, our nonce, salt, the nonce of the client, its proof, our signature.
    const VECTORS: [(Mechanism, ScramHash, [&str; 5]); 2] = [
        (
            Mechanism::ScramSha1,
            ScramHash::Sha1,
            [
                "3rfcNHYJY1ZVvWVs7j",
                "QSXCR+Q6sek8bf92",
                "fyko+d2lbbFgONRv9qkxdawL",
                "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        ),
        (
            Mechanism::ScramSha256,
            ScramHash::Sha256,
            [
                "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                "W22ZaJ0SNY7soEsUEjb6gQ==",
                "rOprNGfwEbeRWgbNEkqO",
                "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        ),
    ];

    #[test] // RFC 5802 §5, RFC 7677 §3
    fn r5802_the_examples_of_the_rfcs() {
        for (mechanism, hash, [nonce, salt, client, proof, signature]) in VECTORS {
            let mut scram = scram(mechanism, nonce, None);
            let first = format!("n,,n=user,r={client}");
            assert_eq!(scram.respond(first.as_bytes()), Progress::FindKeys("user".into()));
            let expected = challenge(&format!("r={client}{nonce},s={salt},i=4096"));
            assert_eq!(scram.found(Some(keys(hash, salt))), expected);
            let last = format!("c=biws,r={client}{nonce},p={proof}");
            assert_eq!(scram.respond(last.as_bytes()), challenge(&format!("v={signature}")));
            assert_eq!(scram.respond(b""), Progress::Done { authzid: None });
        }
    }

    #[test] // RFC 5802 §5, §6, §7: whatever is changed in the last response, it fails.
    fn r5802_a_last_response_that_differs_anywhere_fails() {
        let (mechanism, hash, [nonce, salt, client, proof, _]) = VECTORS[1];
        let (malformed, rejected) = (Failure::Malformed, Failure::Rejected);
        for (last, expected) in [
            (format!("c=biws,r={client}{nonce}x,p={proof}"), rejected),
            (format!("c=biws,r={client},p={proof}"), rejected),
            (format!("c=eSws,r={client}{nonce},p={proof}"), rejected),
            (format!("c=,r={client}{nonce},p={proof}"), rejected),
            (format!("c=biws,r={client}{nonce},x=1,p={proof}"), rejected),
            (format!("c=biws,r={client}{nonce},p=AAAA"), rejected),
            (format!("c=biws,r={client}{nonce},p="), rejected),
            (format!("c=biws,r={client}{nonce},p={}", proof.replacen('d', "e", 1)), rejected),
            (format!("c=biws,r={client}{nonce},p=x{proof}"), malformed),
            (format!("c=biws,r={client}{nonce}"), malformed),
            (format!("r={client}{nonce},c=biws,p={proof}"), malformed),
            (format!("c=b,r={client}{nonce},p={proof}"), malformed),
            ("\u{e9}".into(), malformed),
            (String::new(), malformed),
        ] {
            let mut scram = scram(mechanism, nonce, None);
            scram.respond(format!("n,,n=user,r={client}").as_bytes());
            scram.found(Some(keys(hash, salt)));
            assert_eq!(scram.respond(last.as_bytes()), Progress::Failed(expected), "{last}");
            assert_eq!(scram.respond(b""), Progress::Failed(Failure::Rejected), "it is over");
        }
    }

    #[test] // RFC 5802 §5.1, §6, §7; RFC 9266: the flag, the names, the nonce.
    fn r5802_first_responses() {
        use Mechanism::{ScramSha256, ScramSha256Plus};
        let (malformed, rejected) = (Progress::Failed(Failure::Malformed), Progress::Failed(Failure::Rejected));
        let user = |name: &str| Progress::FindKeys(name.into());
        let long = format!("n,,n=user,r={}", "x".repeat(NONCE_LIMIT_OCTETS + 1));
        for (mechanism, bound, first, expected) in [
            (ScramSha256, true, &b"n,,n=user,r=x"[..], user("user")),
            (ScramSha256, true, b"n,a=other,n=user,r=x,ext=1", user("user")),
            (ScramSha256, true, b"n,,n=a=2Cb=3Dc,r=x", user("a,b=c")),
            (ScramSha256, false, b"y,,n=user,r=x", user("user")),
            (ScramSha256, true, b"y,,n=user,r=x", rejected),
            (ScramSha256, true, b"p=tls-exporter,,n=user,r=x", Progress::Failed(Failure::Rejected)),
            (ScramSha256Plus, true, b"p=tls-exporter,,n=user,r=x", user("user")),
            (ScramSha256Plus, true, b"p=tls-unique,,n=user,r=x", Progress::Failed(Failure::Rejected)),
            (ScramSha256Plus, true, b"n,,n=user,r=x", Progress::Failed(Failure::Rejected)),
            (ScramSha256Plus, true, b"y,,n=user,r=x", Progress::Failed(Failure::Rejected)),
            (ScramSha256, true, b"n,,n=\x07,r=x", Progress::Failed(Failure::Rejected)),
            (ScramSha256, true, b"n,,m=1,n=user,r=x", malformed),
            (ScramSha256, true, b"n,,n=,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,,n=a=2cb,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,,n=a=,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,,n=u\0,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,,n=\xff,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,,n=user,r=", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,,n=user", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n,x,n=user,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"x,,n=user,r=x", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"n", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, b"", Progress::Failed(Failure::Malformed)),
            (ScramSha256, true, long.as_bytes(), Progress::Failed(Failure::Malformed)),
        ] {
            let mut scram = scram(mechanism, "nonce", bound.then_some([9; 32]));
            assert_eq!(scram.respond(first), expected, "{mechanism} {}", first.escape_ascii());
        }
    }

    /// The last response of a client that knows the password.
    fn last(hash: ScramHash, bare: &str, challenge: &str, nonce: &str, binding: &[u8], password: &str) -> String {
        let attribute = |name: char| {
            let found = challenge.split(',').find_map(|attribute| attribute.strip_prefix(name)?.strip_prefix('='));
            found.expect("in the challenge")
        };
        let salt = base64::decode(attribute('s').as_bytes()).expect("Base64");
        let salted = hash.salted_password(password.as_bytes(), &salt, attribute('i').parse().expect("a number"));
        let key = hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c={},r={nonce}", base64::encode(binding));
        let signature = hash.hmac(&hash.digest(&key), format!("{bare},{challenge},{without_proof}").as_bytes());
        let proof: Vec<u8> = key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        format!("{without_proof},p={}", base64::encode(&proof))
    }

    #[test] // RFC 9266 §4.2: the exporter of another connection is of no use.
    fn r5802_plus_is_bound_to_its_connection() {
        for (exporter, accepted) in [([9_u8; 32], true), ([8; 32], false)] {
            let mut scram = scram(Mechanism::ScramSha256Plus, "nonce", Some([9; 32]));
            scram.respond(b"p=tls-exporter,a=boss,n=user,r=x");
            let Progress::Challenge(challenge) = scram.found(Some(keys(ScramHash::Sha256, "c2FsdA=="))) else {
                panic!("a challenge")
            };
            let challenge = String::from_utf8(challenge).expect("ASCII");
            let binding = [&b"p=tls-exporter,a=boss,"[..], &exporter].concat();
            let last = last(ScramHash::Sha256, "n=user,r=x", &challenge, "xnonce", &binding, "pencil");
            let progress = scram.respond(last.as_bytes());
            assert_eq!(matches!(progress, Progress::Challenge(_)), accepted, "{progress:?}");
            let done = if accepted {
                Progress::Done { authzid: Some("boss".into()) }
            } else {
                Progress::Failed(Failure::Rejected)
            };
            assert_eq!(scram.respond(b""), done);
        }
    }

    #[test] // RFC 5802 §5.1: a proof that is right for another nonce is of no use either.
    fn r5802_the_nonce_is_that_of_this_exchange() {
        for (nonce, accepted) in [("xnonce", true), ("xnonce2", false), ("x", false)] {
            let mut scram = scram(Mechanism::ScramSha256, "nonce", None);
            scram.respond(b"n,,n=user,r=x");
            let Progress::Challenge(challenge) = scram.found(Some(keys(ScramHash::Sha256, "c2FsdA=="))) else {
                panic!("a challenge")
            };
            let challenge = String::from_utf8(challenge).expect("ASCII");
            let last = last(ScramHash::Sha256, "n=user,r=x", &challenge, nonce, b"n,,", "pencil");
            let progress = scram.respond(last.as_bytes());
            assert_eq!(matches!(progress, Progress::Challenge(_)), accepted, "{nonce}: {progress:?}");
        }
    }

    #[test] // SECURITY.md D-19: nobody looks like somebody, and cannot log in with any password.
    fn d19_an_unknown_user_is_challenged_like_a_known_one() {
        let of_another_hash = keys(ScramHash::Sha1, "c2FsdA==");
        for found in [None, Some(of_another_hash)] {
            let mut scram = scram(Mechanism::ScramSha256, "nonce", None);
            scram.respond(b"n,,n=nobody,r=x");
            let Progress::Challenge(challenge) = scram.found(found) else { panic!("a challenge") };
            let challenge = String::from_utf8(challenge).expect("ASCII");
            assert!(challenge.starts_with("r=xnonce,s=") && challenge.ends_with("==,i=4096"), "{challenge}");
            let last = last(ScramHash::Sha256, "n=nobody,r=x", &challenge, "xnonce", b"n,,", "pencil");
            assert_eq!(scram.respond(last.as_bytes()), Progress::Failed(Failure::Rejected));
        }
    }
}
