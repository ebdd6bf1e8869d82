//! The sender rewriting scheme: a forwarder writes under its own domain, and finds the way back (PRACTICES S30).
//!
//! `SRS0=HASH=TT=client.example=alice@forwarder.example` names the sender, `SRS1=HASH=first.example==HASH=TT=…` the forwarder
//! that did so first. Hash and time are those of postsrsd and libsrs2: four characters in base64 of HMAC-SHA-1, and the day
//! modulo 1024 in base32.

mod forwarding;

use std::iter;
use std::time::{Duration, SystemTime};

use smtp_core::{Domain, Host, Mailbox};
use thiserror::Error;

use crate::rewriting_key::RewritingKey;

pub use forwarding::{SrsForwarding, SrsLookup};

/// The most octets of a local-part that every server takes (RFC 5321 §4.5.3.1.1): 64.
pub(crate) const LOCAL_PART_OCTETS: usize = 64;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days until the time of an address begins anew.
const ROUND_DAYS: u16 = 1024;

/// Why an address was not rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SrsError {
    /// It has not the form, or it is not at our domain: an ordinary address.
    #[error("not a rewritten address")]
    NotRewritten,
    /// It has the form, and was not made by us.
    #[error("the hash of the rewritten address is wrong")]
    BadHash,
    /// It was made by us, too long ago.
    #[error("the rewritten address has expired")]
    Expired,
    /// The local-part would have more than 64 octets.
    #[error("the rewritten local-part would have more than 64 octets")]
    TooLong,
    /// The host is an address literal with an `=`, which would end it too soon.
    #[error("the host cannot stand in a local-part")]
    Host,
}

/// Rewrites reverse-paths, and back.
///
/// ```
/// use std::time::SystemTime;
/// use smtp_core::Mailbox;
/// use smtp_policy::{RewritingKey, Srs};
///
/// let key = RewritingKey::new(*b"sixteen random o")?;
/// let srs = Srs::new("forwarder.example".parse()?, key);
/// let (alice, now): (Mailbox, _) = ("alice@client.example".parse()?, SystemTime::now());
/// let rewritten = srs.forward(&alice, now)?;
/// assert!(rewritten.to_string().ends_with("=client.example=alice@forwarder.example"));
/// assert_eq!(srs.reverse(&rewritten, now)?, alice);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Srs {
    domain: Domain,
    key: RewritingKey,
    older: Vec<RewritingKey>,
    valid_days: u16,
}

impl Srs {
    /// Under that domain, signed with that key.
    pub fn new(domain: Domain, key: RewritingKey) -> Self {
        Self { domain, key, older: Vec::new(), valid_days: 21 }
    }

    /// With a key that was in use before: it verifies what it has signed.
    #[must_use]
    pub fn verifying_also(mut self, key: RewritingKey) -> Self {
        self.older.push(key);
        self
    }

    /// With another number of days for which an address is valid, at most 1,000. Default: 21.
    #[must_use]
    pub fn valid_for_days(self, days: u16) -> Self {
        Self { valid_days: days.min(1000), ..self }
    }

    /// The domain under which it rewrites.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The address under which a message of that sender leaves us. One of our domain stays as it is.
    ///
    /// # Errors
    /// [`SrsError::TooLong`], [`SrsError::Host`].
    pub fn forward(&self, sender: &Mailbox, now: SystemTime) -> Result<Mailbox, SrsError> {
        if sender.domain() == Some(&self.domain) {
            return Ok(sender.clone());
        }
        let (local_part, host) = (sender.local_part().as_str(), sender.host().clone().into_ascii().to_string());
        if host.contains('=') {
            return Err(SrsError::Host);
        }
        let rewritten = match Form::of(local_part) {
            Some(Form::First(rest)) => self.second(&host, rest),
            Some(Form::Second { host, rest, .. }) => self.second(host, rest),
            None => {
                let time = time(now);
                let hash = hash(&self.key, &[&time, &host, local_part]);
                format!("SRS0={hash}={time}={host}={local_part}")
            }
        };
        let rewritten = mailbox(&rewritten, &self.domain.to_string()).ok_or(SrsError::TooLong)?;
        if rewritten.local_part().to_string().len() > LOCAL_PART_OCTETS {
            return Err(SrsError::TooLong);
        }
        Ok(rewritten)
    }

    /// That of a message which somebody forwarded before us: it names who was first, however many there were.
    fn second(&self, first: &str, rest: &str) -> String {
        format!("SRS1={}={first}={rest}", hash(&self.key, &[first, rest]))
    }

    /// Whose address it was.
    ///
    /// # Errors
    /// [`SrsError::NotRewritten`], [`SrsError::BadHash`], [`SrsError::Expired`].
    pub fn reverse(&self, rewritten: &Mailbox, now: SystemTime) -> Result<Mailbox, SrsError> {
        if rewritten.domain() != Some(&self.domain) {
            return Err(SrsError::NotRewritten);
        }
        let original = match Form::of(rewritten.local_part().as_str()).ok_or(SrsError::NotRewritten)? {
            Form::Second { hash, host, rest } => {
                self.verify(hash, &[host, rest])?;
                mailbox(&format!("SRS0{rest}"), host)
            }
            Form::First(rest) => {
                let mut parts = rest[1..].splitn(4, '=');
                let mut next = || parts.next().ok_or(SrsError::NotRewritten);
                let (hash, time, host, local_part) = (next()?, next()?, next()?, next()?);
                self.verify(hash, &[time, host, local_part])?;
                if age(time, now).is_none_or(|days| days > self.valid_days) {
                    return Err(SrsError::Expired);
                }
                mailbox(local_part, host)
            }
        };
        original.ok_or(SrsError::NotRewritten)
    }

    fn verify(&self, given: &str, parts: &[&str]) -> Result<(), SrsError> {
        // In any case of letters: the address may have come back in another than that in which it left.
        let is_ours = iter::once(&self.key).chain(&self.older).any(|key| hash(key, parts).eq_ignore_ascii_case(given));
        is_ours.then_some(()).ok_or(SrsError::BadHash)
    }
}

/// What a local-part is to SRS.
enum Form<'a> {
    /// `SRS0` and this, with the separator in front.
    First(&'a str),
    /// `SRS1=hash=host=rest`.
    Second { hash: &'a str, host: &'a str, rest: &'a str },
}

impl<'a> Form<'a> {
    fn of(local_part: &'a str) -> Option<Self> {
        let (tag, rest) = local_part.split_at_checked(4)?;
        let inner = rest.strip_prefix(['=', '+', '-'])?;
        if tag.eq_ignore_ascii_case("SRS0") {
            return Some(Self::First(rest));
        }
        if !tag.eq_ignore_ascii_case("SRS1") {
            return None;
        }
        let mut parts = inner.splitn(3, '=');
        let (hash, host, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = Host::parse(host).is_ok() && rest.starts_with(['=', '+', '-']);
        is_whole.then_some(Self::Second { hash, host, rest })
    }
}

/// Four characters: 24 bits.
fn hash(key: &RewritingKey, parts: &[&str]) -> String {
    let [a, b, c, ..] = key.sign(parts);
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].iter().map(|shift| char::from(BASE64[(bits >> shift & 63) as usize])).collect()
}

fn days(now: SystemTime) -> u16 {
    let days = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs();
    u16::try_from(days % u64::from(ROUND_DAYS)).expect("less than 1,024")
}

/// Two characters: the day.
fn time(now: SystemTime) -> String {
    let days = days(now);
    [days >> 5, days & 31].iter().map(|digit| char::from(BASE32[usize::from(*digit)])).collect()
}

/// How many days ago that was. What lies ahead was long ago.
fn age(time: &str, now: SystemTime) -> Option<u16> {
    let digit = |c: u8| BASE32.iter().position(|digit| *digit == c.to_ascii_uppercase());
    let &[high, low] = time.as_bytes() else { return None };
    let then = u16::try_from(digit(high)? * 32 + digit(low)?).ok()?;
    Some((days(now) + ROUND_DAYS - then) % ROUND_DAYS)
}

/// With that local-part, as it is without quotes.
pub(crate) fn mailbox(local_part: &str, host: &str) -> Option<Mailbox> {
    let quoted = local_part.replace('\\', "\\\\").replace('"', "\\\"");
    Mailbox::parse(format!("\"{quoted}\"@{host}")).ok()
}

#[cfg(test)]
mod tests;
