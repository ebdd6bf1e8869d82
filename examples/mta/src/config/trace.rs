//! How long the trace of decisions is kept: `[trace]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace::TraceSettings;

use super::check::set;
use super::file::{Placed, unplaced};
use super::problem::Report;

/// The table as it stands in a file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceTable {
    keep_days: Placed<u64>,
    max_megabytes: Placed<u64>,
    daily_summary: Placed<bool>,
}

const DAY_SECONDS: u64 = 86_400;

/// The table checked.
pub(super) fn check(report: &mut Report<'_>, table: TraceTable) -> TraceSettings {
    let TraceSettings { keep, total_octets, daily_summary } = TraceSettings::default();
    let (mut days, mut megabytes) = (keep.as_secs() / DAY_SECONDS, total_octets >> 20);
    set(report, "trace.keep_days", 0, 3650, table.keep_days, &mut days);
    set(report, "trace.max_megabytes", 8, 1 << 20, table.max_megabytes, &mut megabytes);
    let daily_summary = table.daily_summary.map_or(daily_summary, toml::Spanned::into_inner);
    TraceSettings { keep: Duration::from_secs(days * DAY_SECONDS), total_octets: megabytes << 20, daily_summary }
}

/// With every key, so that every default can be seen.
impl From<TraceSettings> for TraceTable {
    fn from(settings: TraceSettings) -> Self {
        Self {
            keep_days: Some(unplaced(settings.keep.as_secs() / DAY_SECONDS)),
            max_megabytes: Some(unplaced(settings.total_octets >> 20)),
            daily_summary: Some(unplaced(settings.daily_summary)),
        }
    }
}
