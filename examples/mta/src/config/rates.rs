//! How much may come: `[[policy.rate]]`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smtp_policy::{Rate, RateBy, RateLimits, Rated};
use toml::Spanned;

use super::check::set;
use super::file::{Placed, unplaced};
use super::problem::Report;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    Connections,
    Messages,
    Recipients,
}

/// Whose rate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Address,
    Network,
    Identity,
    Sender,
    Recipient,
}

/// One entry as it stands in a file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateTable {
    of: Spanned<Of>,
    by: Spanned<By>,
    count: Spanned<u32>,
    per_seconds: Placed<u64>,
    burst: Placed<u32>,
}

/// One entry that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateConfig {
    of: Of,
    by: By,
    count: u32,
    per_seconds: u64,
    burst: u32,
}

/// All entries; what is wrong with one is in the report.
pub(super) fn check(report: &mut Report<'_>, entries: &[RateTable]) -> Vec<RateConfig> {
    entries.iter().map(|entry| entry.check(report)).collect()
}

impl RateTable {
    fn check(&self, report: &mut Report<'_>) -> RateConfig {
        let (of, by) = (*self.of.get_ref(), *self.by.get_ref());
        let is_known_then = match of {
            Of::Connections => matches!(by, By::Address | By::Network),
            Of::Messages => by != By::Recipient,
            Of::Recipients => true,
        };
        if !is_known_then {
            let problem = match of {
                Of::Connections => "connections are counted by `address` or `network`: nobody else is known yet",
                _ => "a message has several recipients: count `recipients` by `recipient`",
            };
            report.add(self.by.span(), "policy.rate.by", problem);
        }
        let most = u32::MAX;
        let (mut count, mut per_seconds, mut burst) = (0, HOUR_SECONDS, *self.count.get_ref());
        set(report, "policy.rate.count", 1, most, Some(self.count.clone()), &mut count);
        set(report, "policy.rate.per_seconds", 1, 30 * 24 * HOUR_SECONDS, self.per_seconds.clone(), &mut per_seconds);
        set(report, "policy.rate.burst", 1, most, self.burst.clone(), &mut burst);
        RateConfig { of, by, count, per_seconds, burst }
    }
}

const HOUR_SECONDS: u64 = 3600;

impl fmt::Display for RateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, by, count, per_seconds, burst } = self;
        let [of, by] = [format!("{of:?}"), format!("{by:?}")].map(|word| word.to_lowercase());
        write!(f, "{of} by {by}: {count} in {per_seconds} s, {burst} at once")
    }
}

impl RateConfig {
    /// The limits with this one.
    pub(crate) fn add_to(&self, limits: RateLimits) -> RateLimits {
        let of = match self.of {
            Of::Connections => Rated::Connections,
            Of::Messages => Rated::Messages,
            Of::Recipients => Rated::Recipients,
        };
        let by = match self.by {
            By::Address => RateBy::Address,
            By::Network => RateBy::Network,
            By::Identity => RateBy::Identity,
            By::Sender => RateBy::Sender,
            By::Recipient => RateBy::Recipient,
        };
        let rate = Rate::new(self.count, Duration::from_secs(self.per_seconds));
        limits.with(of, by, rate.with_burst(self.burst))
    }
}

/// With every key, so that every default can be seen.
impl From<&RateConfig> for RateTable {
    fn from(config: &RateConfig) -> Self {
        Self {
            of: unplaced(config.of),
            by: unplaced(config.by),
            count: unplaced(config.count),
            per_seconds: Some(unplaced(config.per_seconds)),
            burst: Some(unplaced(config.burst)),
        }
    }
}
