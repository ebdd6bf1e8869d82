//! How much may come from one client, one user, one sender, or for one recipient? (PRACTICES P3a, B2505.8)

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use smtp_core::{Policy, PolicyContext, Recipient, Refusal, ReversePath, Stages, Transaction, Verdict, async_trait};

use crate::clock::Clock;
use crate::network::network_of;
use crate::stable_sender::stable_sender;
use crate::state::{Change, StateError, StateStore, short_key};

const TABLE: &str = "rates";

/// So many within a time, evenly, and a burst at once.
///
/// What is kept of it is one moment: that at which everything would be paid back (GCRA). A burst of `b` and a steady rate of `n`
/// in a time `t` admit at most `b + n` within any `t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// So many within that time, and as many at once. 0 admits nothing.
    pub const fn new(count: u32, per: Duration) -> Self {
        Self { count, per, burst: count }
    }

    /// With another number that may come at once after a pause. 0 admits nothing.
    #[must_use]
    pub const fn with_burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }

    /// Whether one more may come now, by the moment that was kept, both in microseconds since 1970: the moment to keep, or how
    /// long to wait.
    ///
    /// # Errors
    /// How long one more has to wait.
    pub fn admit(self, kept: Option<u64>, now: u64) -> Result<u64, Duration> {
        let each = micros(self.per) / u64::from(self.count.max(1));
        let room = each.saturating_mul(u64::from(if self.count == 0 { 0 } else { self.burst }));
        // What lies further ahead was kept under another rate or another clock.
        let base = kept.unwrap_or(now).clamp(now, now.saturating_add(room));
        let next = base.saturating_add(each.max(1));
        match (next - now).checked_sub(room) {
            None | Some(0) => Ok(next),
            Some(excess) => Err(Duration::from_micros(excess)),
        }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

/// Whose rate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RateBy {
    /// The address of the client: `421 4.7.0`, and the session ends.
    Address,
    /// Its /24 or /64: `421 4.7.0`, and the session ends.
    Network,
    /// Who it has authenticated as: `451 4.7.1`.
    Identity,
    /// The reverse-path, without tags of SRS, BATV and VERP, of this network or identity: nobody can use up what another has.
    /// The null reverse-path has no rate. `451 4.7.1`.
    Sender,
    /// The forward-path, whoever writes to it: `451 4.7.1`.
    Recipient,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rated {
    /// Connections, by address and network.
    Connections,
    /// Each `MAIL`, by all but the recipient.
    Messages,
    /// Each `RCPT` for a mailbox that exists, role mailboxes apart. By all.
    Recipients,
}

/// Counts one more of that name in the store, unless it comes too fast: then it says how long to wait.
pub(crate) async fn admit(
    store: &dyn StateStore,
    name: &str,
    rate: Rate,
    now: SystemTime,
) -> Result<Result<(), Duration>, StateError> {
    let since = micros(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let mut admitted = Ok(());
    let mut count = |kept: Option<&[u8]>| {
        let kept = kept.and_then(|kept| kept.try_into().ok().map(u64::from_be_bytes));
        match rate.admit(kept, since) {
            Ok(next) => {
                admitted = Ok(());
                let expires = now + Duration::from_micros(next - since);
                Change::Set { value: next.to_be_bytes().to_vec(), expires }
            }
            Err(wait) => {
                admitted = Err(wait);
                Change::Keep
            }
        }
    };
    store.update(TABLE, &short_key(name), now, &mut count).await?;
    Ok(admitted)
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    rated: Rated,
    by: RateBy,
    rate: Rate,
}

/// Refuses for a while what comes too fast. It is a policy of its own, because its refusals are not held back until `RCPT`.
///
/// What a limit needs and a stage does not have is not counted: mail of unknown clients has no identity. Where the store fails,
/// everything passes. What is refused does not count.
///
/// ```
/// use std::time::Duration;
/// use smtp_policy::{MemoryStateStore, Rate, RateBy, RateLimits, Rated};
///
/// let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
/// let limits = RateLimits::new(MemoryStateStore::new())
///     .with(Rated::Connections, RateBy::Address, Rate::new(60, minute))
///     .with(Rated::Messages, RateBy::Identity, Rate::new(200, hour).with_burst(20))
///     .with(Rated::Recipients, RateBy::Identity, Rate::new(500, hour).with_burst(100));
/// ```
#[derive(Clone)]
pub struct RateLimits {
    store: Arc<dyn StateStore>,
    clock: Clock,
    limits: Vec<Limit>,
    spared: Vec<IpNet>,
}

impl RateLimits {
    /// Without limits; what is counted is in that store.
    pub fn new(store: impl StateStore + 'static) -> Self {
        Self { store: Arc::new(store), clock: Clock::default(), limits: Vec::new(), spared: Vec::new() }
    }

    /// With a limit. Several of the same kind hold together: ten a minute and a hundred a day.
    #[must_use]
    pub fn with(mut self, rated: Rated, by: RateBy, rate: Rate) -> Self {
        self.limits.push(Limit { rated, by, rate });
        self
    }

    /// Clients of this network have no limits.
    #[must_use]
    pub fn sparing(mut self, network: IpNet) -> Self {
        self.spared.push(network);
        self
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    async fn judge(
        &self,
        rated: Rated,
        cx: &PolicyContext<'_>,
        from: Option<&ReversePath>,
        to: Option<&Recipient>,
    ) -> Verdict {
        let peer = cx.connection().peer().ip().to_canonical();
        if self.spared.iter().any(|network| network.contains(&peer)) {
            return Verdict::Continue;
        }
        for limit in self.limits.iter().filter(|limit| limit.rated == rated) {
            let Some(whose) = limit.whose(cx, from, to) else { continue };
            // PRACTICES P5: a store that does not answer refuses nobody.
            if let Ok(Err(wait)) = self.count(limit, &whose).await {
                return Verdict::Refuse(limit.refusal(wait));
            }
        }
        Verdict::Continue
    }

    async fn count(&self, limit: &Limit, whose: &str) -> Result<Result<(), Duration>, StateError> {
        let Limit { rated, by, rate } = limit;
        admit(&*self.store, &format!("{rated:?} {by:?} {rate:?} {whose}"), *rate, self.clock.now()).await
    }
}

impl Limit {
    fn whose(&self, cx: &PolicyContext<'_>, from: Option<&ReversePath>, to: Option<&Recipient>) -> Option<String> {
        let connection = cx.connection();
        let peer = connection.peer().ip().to_canonical();
        match self.by {
            RateBy::Address => Some(peer.to_string()),
            RateBy::Network => Some(network_of(peer).to_string()),
            RateBy::Identity => connection.identity().map(|identity| identity.as_str().to_owned()),
            RateBy::Sender => {
                let from = from.filter(|from| !from.is_null())?;
                let network = || network_of(peer).to_string();
                let client = connection.identity().map_or_else(network, |identity| identity.as_str().to_owned());
                Some(format!("{client} {}", stable_sender(from)))
            }
            RateBy::Recipient => to.map(|to| to.path().to_string().to_lowercase()),
        }
    }

    fn refusal(&self, wait: Duration) -> Refusal {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        match self.by {
            RateBy::Address | RateBy::Network => {
                let text = format!("Too much from your address, please come again in {seconds} s");
                Refusal::transient(7, 0, text).with_code(421).and_close().immediately()
            }
            RateBy::Identity | RateBy::Sender | RateBy::Recipient => {
                let text = format!("Too much in a short time, please come again in {seconds} s");
                Refusal::transient(7, 1, text).immediately()
            }
        }
    }
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[async_trait]
impl Policy for RateLimits {
    fn name(&self) -> &'static str {
        "rate-limits"
    }

    fn stages(&self) -> Stages {
        self.limits.iter().fold(Stages::NONE, |stages, limit| match limit.rated {
            Rated::Connections => stages | Stages::CONNECT,
            Rated::Messages => stages | Stages::MAIL,
            Rated::Recipients => stages | Stages::RECIPIENT,
        })
    }

    async fn connect(&self, cx: &mut PolicyContext<'_>) -> Verdict {
        self.judge(Rated::Connections, cx, None, None).await
    }

    async fn mail(&self, cx: &mut PolicyContext<'_>, from: &ReversePath) -> Verdict {
        self.judge(Rated::Messages, cx, Some(from), None).await
    }

    async fn recipient(&self, cx: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        let from = cx.transaction().map(Transaction::reverse_path);
        self.judge(Rated::Recipients, cx, from, Some(recipient)).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    /// How many of those that come at these moments are admitted, and when.
    fn admitted(rate: Rate, moments: &[u64]) -> Vec<u64> {
        let mut kept = None;
        let mut come = |now: &&u64| rate.admit(kept, **now).map(|next| kept = Some(next)).is_ok();
        moments.iter().filter(|now| come(now)).copied().collect()
    }

    #[test] // PRACTICES B2505.8
    fn b2505_8_a_burst_and_a_steady_rate() {
        let rate = Rate::new(6, Duration::from_secs(60)).with_burst(3);
        for (moments, count) in [
            (vec![0; 10], 3),
            (vec![0, 0, 0, 9 * SECOND, 10 * SECOND, 10 * SECOND], 4),
            ((0..100).map(|n| n * 10 * SECOND).collect(), 100),
            ((0..100).map(|n| n * 5 * SECOND).collect(), 52),
            (vec![0, 0, 0, 3600 * SECOND, 3600 * SECOND, 3600 * SECOND, 3600 * SECOND], 6),
        ] {
            assert_eq!(admitted(rate, &moments).len(), count, "{moments:?}");
        }
        assert_eq!(admitted(Rate::new(0, Duration::from_secs(1)), &[0, SECOND, 3600 * SECOND]), [0; 0]);
        assert_eq!(admitted(Rate::new(9, Duration::from_secs(1)).with_burst(0), &[0, SECOND]), [0; 0]);
        // A clock that went back by a year blocks nobody for a year.
        assert!(rate.admit(Some(u64::MAX), 0).is_err_and(|wait| wait == Duration::from_secs(10)));
    }

    proptest! {
        #[test] // PRACTICES B2505.8
        fn b2505_8_never_more_than_the_burst_and_the_rate(
            count in 1..50_u32, burst in 1..50_u32, seconds in 1..100_u64,
            gaps in proptest::collection::vec(0..20 * SECOND, 1..200),
        ) {
            let per = Duration::from_secs(seconds);
            let rate = Rate::new(count, per).with_burst(burst);
            let each = micros(per) / u64::from(count);
            let mut now = 0;
            let moments: Vec<_> = gaps.iter().map(|gap| { now += gap; now }).collect();
            let admitted = admitted(rate, &moments);
            for (place, first) in admitted.iter().enumerate() {
                for (further, last) in admitted[place..].iter().enumerate() {
                    let most = u64::from(burst) + (last - first) / each;
                    prop_assert!((further as u64) < most, "{} from {first} to {last}", further + 1);
                }
            }
        }

        #[test]
        fn the_wait_is_exact(count in 1..50_u32, burst in 1..5_u32, seconds in 1..100_u64, ahead in 0..100 * SECOND) {
            let rate = Rate::new(count, Duration::from_secs(seconds)).with_burst(burst);
            let room = micros(rate.per) / u64::from(count) * u64::from(burst);
            let now = 1000 * SECOND;
            let kept = Some(now + ahead % (room + 1));
            if let Err(wait) = rate.admit(kept, now) {
                prop_assert!(rate.admit(kept, now + micros(wait)).is_ok());
                prop_assert!(rate.admit(kept, now + micros(wait) - 1).is_err());
            }
        }
    }
}
