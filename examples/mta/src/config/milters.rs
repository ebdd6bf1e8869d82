//! Filters that speak the milter protocol: `[[policy.milter]]`.

use std::time::Duration;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smtp_core::{Domain, Observer};
use smtp_policy::{FilterAddress, ForRoleMailboxes, Milter, MilterFallback};
use toml::Spanned;

use super::check::{parsed, set};
use super::file::{Placed, unplaced};
use super::problem::Report;

/// What becomes of mail while the filter is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    #[default]
    TempFail,
    Accept,
}

/// One entry as it stands in a file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MilterTable {
    address: Spanned<String>,
    timeout_seconds: Placed<u64>,
    message_octets: Placed<u64>,
    fallback: Placed<Fallback>,
    malware: Placed<bool>,
}

/// One entry that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MilterConfig {
    address: FilterAddress,
    timeout_seconds: u64,
    message_octets: u64,
    fallback: Fallback,
    malware: bool,
}

/// All entries; what is wrong with one is in the report.
pub(super) fn check(report: &mut Report<'_>, entries: &[MilterTable]) -> Vec<MilterConfig> {
    entries.iter().filter_map(|entry| entry.check(report)).collect()
}

/// One policy of them all, in their order; `None` where there are none.
pub(crate) fn policy(entries: &[MilterConfig], hostname: &Domain, observer: Arc<dyn Observer>) -> Option<Milter> {
    let filters = entries.iter().map(|entry| entry.milter(hostname));
    filters.reduce(Milter::and).map(|filters| filters.observed_by(observer))
}

impl MilterTable {
    fn check(&self, report: &mut Report<'_>) -> Option<MilterConfig> {
        let kind = "the address of a filter, `inet:host:port` or `unix:/path`";
        let (mut timeout_seconds, mut message_octets) = (60, 32 << 20);
        // All filters of a message together have 110 s.
        set(report, "policy.milter.timeout_seconds", 1, 100, self.timeout_seconds.clone(), &mut timeout_seconds);
        set(report, "policy.milter.message_octets", 1, 1 << 30, self.message_octets.clone(), &mut message_octets);
        Some(MilterConfig {
            address: parsed(report, "policy.milter.address", kind, &self.address)?,
            timeout_seconds,
            message_octets,
            fallback: self.fallback.as_ref().map(|it| *it.get_ref()).unwrap_or_default(),
            malware: self.malware.as_ref().is_some_and(|it| *it.get_ref()),
        })
    }
}

impl fmt::Display for MilterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away = match self.fallback {
            Fallback::TempFail => "comes again",
            Fallback::Accept => "passes",
        };
        write!(f, "{}: at most {} s; mail {away} while it is away", self.address, self.timeout_seconds)
    }
}

/// With every key, so that every default can be seen.
impl From<&MilterConfig> for MilterTable {
    fn from(config: &MilterConfig) -> Self {
        Self {
            address: unplaced(config.address.to_string()),
            timeout_seconds: Some(unplaced(config.timeout_seconds)),
            message_octets: Some(unplaced(config.message_octets)),
            fallback: Some(unplaced(config.fallback)),
            malware: Some(unplaced(config.malware)),
        }
    }
}

impl MilterConfig {
    fn milter(&self, hostname: &Domain) -> Milter {
        Milter::new(self.address.clone(), hostname)
            .with_time(Duration::from_secs(self.timeout_seconds))
            .with_octets(self.message_octets)
            .with_fallback(match self.fallback {
                Fallback::TempFail => MilterFallback::TempFail,
                Fallback::Accept => MilterFallback::Accept,
            })
            .for_role_mailboxes(if self.malware { ForRoleMailboxes::Kept } else { ForRoleMailboxes::Tagged })
    }
}
