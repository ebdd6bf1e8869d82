//! Bounce address tag validation: notifications come back to addresses that we gave out, or not at all (`prvs=`, PRACTICES S32,
//! STANDARDS Rbatv).
//!
//! `prvs=KDDDSSSSSS=alice@example.org`: the number of a key, the last three digits of the day on which the tag expires, and six
//! hexadecimal digits of an HMAC-SHA-1 of these and the address. It is to be chosen: where it is in force, all mail of a domain
//! must leave through servers that sign.

use std::fmt;
use std::iter;
use std::time::{Duration, SystemTime};

use smtp_core::{
    Connection, Domain, ForwardPath, Lookup, LookupError, Mailbox, Outbound, OutboundPolicy, OutboundRecipient,
    RecipientLookup, Refusal, ReversePath, Transaction, Transient, Treatment, async_trait,
};
use thiserror::Error;

use crate::clock::Clock;
use crate::rewriting_key::RewritingKey;
use crate::srs::{LOCAL_PART_OCTETS, mailbox};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days until the day of a tag begins anew.
const ROUND_DAYS: u16 = 1000;

/// Why an address was not tagged, or its tag not taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatvError {
    /// It has no tag.
    #[error("no tag")]
    NotTagged,
    /// The tag was not made by us.
    #[error("the tag of the address is wrong")]
    BadTag,
    /// The tag was made by us, too long ago.
    #[error("the tag of the address has expired")]
    Expired,
    /// The local-part would have more than 64 octets.
    #[error("the tagged local-part would have more than 64 octets")]
    TooLong,
}

/// Tags the addresses of senders, and takes the tags off.
///
/// ```
/// use std::time::SystemTime;
/// use smtp_core::Mailbox;
/// use smtp_policy::{Batv, RewritingKey};
///
/// let batv = Batv::new(0, RewritingKey::new(*b"sixteen random o")?);
/// let (alice, now): (Mailbox, _) = ("alice@example.org".parse()?, SystemTime::now());
/// let tagged = batv.tag(&alice, now)?;
/// assert!(tagged.to_string().starts_with("prvs=0"));
/// assert_eq!(batv.verify(&tagged, now)?, alice);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Batv {
    key: (u8, RewritingKey),
    older: Vec<(u8, RewritingKey)>,
    valid_days: u16,
}

impl Batv {
    /// With a key, and its number from 0 to 9; of a larger number the last digit counts.
    pub fn new(number: u8, key: RewritingKey) -> Self {
        Self { key: (number % 10, key), older: Vec::new(), valid_days: 7 }
    }

    /// With a key that was in use before, and its number: it verifies what it has signed.
    #[must_use]
    pub fn verifying_also(mut self, number: u8, key: RewritingKey) -> Self {
        self.older.push((number % 10, key));
        self
    }

    /// With another number of days for which a tag is valid, at most 900. Default: 7.
    #[must_use]
    pub fn valid_for_days(self, days: u16) -> Self {
        Self { valid_days: days.min(900), ..self }
    }

    /// The address with a tag.
    ///
    /// # Errors
    /// [`BatvError::TooLong`].
    pub fn tag(&self, sender: &Mailbox, now: SystemTime) -> Result<Mailbox, BatvError> {
        let (number, key) = &self.key;
        let until = format!("{number}{:03}", (day(now) + self.valid_days) % ROUND_DAYS);
        let local_part = format!("prvs={until}{}={}", signature(key, &until, sender), sender.local_part().as_str());
        let tagged = mailbox(&local_part, &sender.host().to_string()).ok_or(BatvError::TooLong)?;
        if tagged.local_part().to_string().len() > LOCAL_PART_OCTETS {
            return Err(BatvError::TooLong);
        }
        Ok(tagged)
    }

    /// The address without its tag.
    ///
    /// # Errors
    /// [`BatvError`], but not [`BatvError::TooLong`].
    pub fn verify(&self, tagged: &Mailbox, now: SystemTime) -> Result<Mailbox, BatvError> {
        let (tag, plain) = parse(tagged).ok_or(BatvError::NotTagged)?;
        let (until, given) = tag.split_at(4);
        let until_day = &until[1..];
        // The number is in the signature too, and whoever leaves a key out may have given the others other numbers.
        let is_ours = iter::once(&self.key).chain(&self.older).any(|(_, key)| {
            // In any case of letters: the address may have come back in another than that in which it left.
            signature(key, until, &plain).eq_ignore_ascii_case(given)
        });
        if !is_ours {
            return Err(BatvError::BadTag);
        }
        let until_day: u16 = until_day.parse().map_err(|_| BatvError::BadTag)?;
        let left = (until_day + ROUND_DAYS - day(now)) % ROUND_DAYS;
        if left > self.valid_days { Err(BatvError::Expired) } else { Ok(plain) }
    }
}

/// The ten characters of a tag, and the address without it.
fn parse(tagged: &Mailbox) -> Option<(&str, Mailbox)> {
    let (tag, rest) = tagged.local_part().as_str().split_at_checked(5)?;
    let (value, local_part) = rest.split_at_checked(10)?;
    let has_form = tag.eq_ignore_ascii_case("prvs=")
        && value.bytes().take(4).all(|octet| octet.is_ascii_digit())
        && value.bytes().skip(4).all(|octet| octet.is_ascii_hexdigit());
    let local_part = local_part.strip_prefix('=').filter(|_| has_form)?;
    Some((value, mailbox(local_part, &tagged.host().to_string())?))
}

fn signature(key: &RewritingKey, until: &str, sender: &Mailbox) -> String {
    let host = sender.host().clone().into_ascii().to_string();
    let [a, b, c, ..] = key.sign(&[until, sender.local_part().as_str(), "@", &host]);
    format!("{a:02x}{b:02x}{c:02x}")
}

fn day(now: SystemTime) -> u16 {
    let days = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs();
    u16::try_from(days % u64::from(ROUND_DAYS)).expect("less than 1,000")
}

/// Tags the reverse-path of what authenticated clients and relay clients send from these domains to others, and of what this host
/// writes itself.
///
/// One that would become too long stays as it is, and [`BatvLookup`] knows that.
#[derive(Debug, Clone)]
pub struct BatvSigning {
    batv: Batv,
    domains: Vec<Domain>,
    clock: Clock,
}

impl BatvSigning {
    /// For mail of these domains.
    pub fn new(batv: Batv, domains: impl IntoIterator<Item = Domain>) -> Self {
        Self { batv, domains: domains.into_iter().collect(), clock: Clock::default() }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    fn is_ours(&self, mailbox: &Mailbox) -> bool {
        mailbox.domain().is_some_and(|domain| self.domains.contains(domain))
    }
}

#[async_trait]
impl OutboundPolicy for BatvSigning {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        // What this host writes itself is ours as well: notifications of it are to find their way.
        if message.connection().is_some_and(|client| client.treatment() == Treatment::Mx) {
            return Ok(());
        }
        let now = self.clock.now();
        for recipient in recipients {
            let sender = recipient.reverse_path().mailbox().filter(|sender| self.is_ours(sender));
            let sender = sender.filter(|sender| parse(sender).is_none() && !self.is_ours(recipient.mailbox()));
            if let Some(tagged) = sender.and_then(|sender| self.batv.tag(sender, now).ok()) {
                recipient.set_reverse_path(ReversePath::Mailbox(tagged));
            }
        }
        Ok(())
    }
}

/// Finds recipients as another lookup does, those with a tag of ours besides, and refuses notifications to addresses of these
/// domains without one: `550 5.7.1`.
///
/// Role mailboxes take notifications without a tag, and so does who has an address too long for one.
#[derive(Clone)]
pub struct BatvLookup<L> {
    inner: L,
    batv: Batv,
    domains: Vec<Domain>,
    clock: Clock,
}

impl<L: RecipientLookup> BatvLookup<L> {
    /// Around that lookup, for these domains.
    pub fn new(inner: L, batv: Batv, domains: impl IntoIterator<Item = Domain>) -> Self {
        Self { inner, batv, domains: domains.into_iter().collect(), clock: Clock::default() }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    fn needs_tag(&self, mailbox: &Mailbox, to: &ForwardPath) -> bool {
        !self.inner.is_role(to) && self.batv.tag(mailbox, self.clock.now()).is_ok()
    }
}

impl<L> fmt::Debug for BatvLookup<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatvLookup").field("domains", &self.domains).finish_non_exhaustive()
    }
}

#[async_trait]
impl<L: RecipientLookup> RecipientLookup for BatvLookup<L> {
    async fn lookup(
        &self,
        connection: &Connection,
        transaction: &Transaction,
        to: &ForwardPath,
    ) -> Result<Lookup, LookupError> {
        let is_ours = |mailbox: &&Mailbox| mailbox.domain().is_some_and(|domain| self.domains.contains(domain));
        let Some(mailbox) = to.mailbox().filter(is_ours) else {
            return self.inner.lookup(connection, transaction, to).await;
        };
        match self.batv.verify(mailbox, self.clock.now()) {
            Ok(plain) => {
                let path = ForwardPath::Mailbox(plain.clone());
                Ok(match self.inner.lookup(connection, transaction, &path).await? {
                    Lookup::Mailbox => Lookup::Alias(vec![plain]),
                    other => other,
                })
            }
            Err(BatvError::BadTag | BatvError::Expired) => {
                Ok(Lookup::Refused(Refusal::permanent(7, 1, "The tag of this address is not valid, or not any more")))
            }
            Err(_) => match self.inner.lookup(connection, transaction, to).await? {
                Lookup::Mailbox | Lookup::Alias(_)
                    if transaction.reverse_path().is_null() && self.needs_tag(mailbox, to) =>
                {
                    let text = "No message was sent under this address, so there is nothing to notify of";
                    Ok(Lookup::Refused(Refusal::permanent(7, 1, text)))
                }
                other => Ok(other),
            },
        }
    }

    fn is_role(&self, to: &ForwardPath) -> bool {
        match to.mailbox().and_then(parse) {
            Some((_, plain)) => self.inner.is_role(&ForwardPath::Mailbox(plain)),
            None => self.inner.is_role(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> RewritingKey {
        RewritingKey::new(text).expect("long enough")
    }

    fn address(text: &str) -> Mailbox {
        text.parse().expect("a mailbox")
    }

    fn at(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY.as_secs() + 77)
    }

    /// The signature was computed with `openssl dgst -sha1 -hmac`.
    const TAGGED: &str = "prvs=300780eb42=alice@example.org";

    #[test] // STANDARDS Rbatv
    fn rbatv_a_tag_names_its_key_its_last_day_and_its_address() {
        let batv = Batv::new(3, key("tops3cr3tkey"));
        assert_eq!(
            batv.tag(&address("alice@example.org"), at(20_000)).map(|tagged| tagged.to_string()),
            Ok(TAGGED.to_owned())
        );
        for (text, days, expected) in [
            (TAGGED.to_owned(), 20_000, Ok("alice@example.org")),
            (TAGGED.to_owned(), 20_007, Ok("alice@example.org")),
            (TAGGED.to_owned(), 20_008, Err(BatvError::Expired)),
            (TAGGED.to_owned(), 19_999, Err(BatvError::Expired)),
            (TAGGED.to_ascii_uppercase(), 20_001, Ok("ALICE@EXAMPLE.ORG")),
            (TAGGED.replace("alice", "bob"), 20_000, Err(BatvError::BadTag)),
            (TAGGED.replace("example.org", "example.net"), 20_000, Err(BatvError::BadTag)),
            (TAGGED.replace("=3007", "=3008"), 20_000, Err(BatvError::BadTag)),
            (TAGGED.replace("=3007", "=4007"), 20_000, Err(BatvError::BadTag)),
            ("prvs=3007zzzzzz=alice@example.org".to_owned(), 20_000, Err(BatvError::NotTagged)),
            ("prvs=3007=alice@example.org".to_owned(), 20_000, Err(BatvError::NotTagged)),
            ("prvs=300780eb42@example.org".to_owned(), 20_000, Err(BatvError::NotTagged)),
            ("prvs=300780eb42=@example.org".to_owned(), 20_000, Err(BatvError::BadTag)),
            ("\"prvs=\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}=x\"@example.org".to_owned(), 20_000, Err(BatvError::NotTagged)),
            ("prvs=300\u{fc}0eb42=alice@example.org".to_owned(), 20_000, Err(BatvError::NotTagged)),
            ("alice@example.org".to_owned(), 20_000, Err(BatvError::NotTagged)),
        ] {
            let found = batv.verify(&address(&text), at(days)).map(|plain| plain.to_string());
            assert_eq!(found.as_deref().map_err(|error| *error), expected, "{text} on day {days}");
        }
    }

    #[test] // STANDARDS Rbatv: key rotation
    fn rbatv_the_first_key_signs_and_all_verify() {
        let (old, new) = (Batv::new(3, key("tops3cr3tkey")), Batv::new(4, key("another secret")));
        let rotated = Batv::new(4, key("another secret")).verifying_also(3, key("tops3cr3tkey"));
        let alice = address("alice@example.org");
        for batv in [&old, &new, &rotated] {
            assert_eq!(rotated.verify(&batv.tag(&alice, at(1)).expect("short"), at(2)), Ok(alice.clone()));
        }
        let tagged = rotated.tag(&alice, at(1)).expect("short");
        assert_eq!(new.verify(&tagged, at(2)), Ok(alice));
        assert_eq!(old.verify(&tagged, at(2)), Err(BatvError::BadTag));
        // Whoever leaves the old key out may number the others anew.
        let renumbered = Batv::new(0, key("another secret"));
        assert_eq!(renumbered.verify(&tagged, at(2)), Ok(address("alice@example.org")));
    }

    proptest! {
        #[test] // STANDARDS Rbatv
        fn rbatv_verify_undoes_tag(local in "[a-zA-Z0-9=+_-]{1,60}|\"[ -!#-\\[\\]-~]{1,20}\"", days in 0..3000_u64, later in 0..=7_u64) {
            let batv = Batv::new(0, key("tops3cr3tkey"));
            let sender = address(&format!("{local}@example.org"));
            match batv.tag(&sender, at(days)) {
                Ok(tagged) => {
                    prop_assert!(tagged.local_part().to_string().len() <= 64);
                    prop_assert_eq!(batv.verify(&address(&tagged.to_string()), at(days + later)), Ok(sender));
                    prop_assert_eq!(batv.verify(&tagged, at(days + 8)), Err(BatvError::Expired));
                }
                Err(error) => prop_assert!(error == BatvError::TooLong && local.len() > 40, "{local}: {error}"),
            }
        }
    }
}
