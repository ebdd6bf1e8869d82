//! The book of rows in the state store: counted while their day lasts, taken out when it is over.
//!
//! Each row has a value of its own, so that to count one message more writes little. A domain's head says how many rows it has,
//! and in which phase its report is. Where a stop comes between two writes, at most that one message is not counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dmarc::Published;
use crate::state::{Change, StateError, StateStore};

use super::Day;
use super::row::Row;

/// The table.
const TABLE: &str = "dmarc-reports";
/// How long a day is kept after its end.
const KEPT: Duration = Duration::from_secs(4 * Day::SECONDS);
/// Octets of the list of domains, with room below the limit of a value.
const LIST_LIMIT_OCTETS: usize = 100_000;

/// How much is collected. What is over is counted, and reports say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DmarcReportLimits {
    /// The most domains of a day: 500.
    pub domains: usize,
    /// The most rows of a domain and day: 1,000.
    pub rows_per_domain: u32,
    /// The most rows of a day: 10,000.
    pub rows: u32,
    /// The most octets of the rows of a day: 8 MiB.
    pub octets: u64,
}

impl Default for DmarcReportLimits {
    fn default() -> Self {
        Self { domains: 500, rows_per_domain: 1000, rows: 10_000, octets: 8 << 20 }
    }
}

/// What is known of a domain and a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// As it was seen last (RFC 9990 §3.1.8).
    pub(super) published: Published,
    pub(super) phase: Phase,
    /// Places of rows that were given out.
    pub(super) rows: u32,
    /// Messages for which there was no row.
    pub(super) left_out: u64,
}

/// How far a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Messages are counted.
    Open,
    /// It is being sent: nothing changes any more, so that each attempt sends the same.
    Closed,
    /// It was sent, or never will be. What is left of its rows is removed.
    Done,
}

/// All rows of a day.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Totals {
    rows: u32,
    octets: u64,
    /// Messages of domains for which there was no room.
    left_out: u64,
}

#[derive(Clone)]
pub(super) struct Ledger {
    store: Arc<dyn StateStore>,
    limits: DmarcReportLimits,
}

impl Ledger {
    pub(super) fn new(store: Arc<dyn StateStore>, limits: DmarcReportLimits) -> Self {
        Self { store, limits }
    }

    pub(super) fn with_limits(self, limits: DmarcReportLimits) -> Self {
        Self { limits, ..self }
    }

    /// Counts a message.
    pub(super) async fn count(&self, published: &Published, row: &Row, now: SystemTime) -> Result<(), StateError> {
        let (day, domain) = (Day::of(now), published.domain.as_str());
        let octets = to_octets(row);
        let hash = Sha256::digest(&octets)[..16].to_vec();
        let head = self.head(day, domain, now).await?;
        if head.is_none() && !self.list(day, domain, now).await? {
            return self.totals(day, now, |totals| totals.left_out += 1).await;
        }
        let row_key = key(b'r', day, domain, &hash);
        // Of what is left to all a domain takes nothing that it could not use.
        let is_full = head.as_ref().is_some_and(|head| head.rows >= self.limits.rows_per_domain);
        let is_current = head.is_some_and(|head| head.published == *published && head.phase == Phase::Open);
        if is_current && self.add(&row_key, None, day, now).await? {
            return Ok(());
        }
        let is_there = self.store.get(TABLE, &row_key, now).await?.is_some();
        let has_room = is_there || !is_full && self.reserve(day, octets.len() as u64, now).await?;
        let mut place = None;
        self.change_head(day, domain, now, |head| {
            let mut head =
                head.unwrap_or(Head { published: published.clone(), phase: Phase::Open, rows: 0, left_out: 0 });
            place = None;
            if head.phase != Phase::Open {
                return head;
            }
            head.published = published.clone();
            if !has_room || (!is_there && head.rows >= self.limits.rows_per_domain) {
                head.left_out += 1;
            } else {
                place = Some(head.rows);
                head.rows += u32::from(!is_there);
            }
            head
        })
        .await?;
        let Some(place) = place else { return Ok(()) };
        if !is_there {
            // First where it stands, so that no row is counted that nobody finds.
            self.set(&key(b'n', day, domain, &place.to_be_bytes()), hash, day, now).await?;
        }
        self.add(&row_key, Some(&octets), day, now).await.map(drop)
    }

    /// The domains of a day.
    pub(super) async fn domains(&self, day: Day, now: SystemTime) -> Result<Vec<String>, StateError> {
        let list = self.store.get(TABLE, &key(b'd', day, "", &[]), now).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&list);
        Ok(text.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    pub(super) async fn head(&self, day: Day, domain: &str, now: SystemTime) -> Result<Option<Head>, StateError> {
        let value = self.store.get(TABLE, &key(b'h', day, domain, &[]), now).await?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Nothing of that report changes any more, but its phase.
    pub(super) async fn set_phase(
        &self,
        day: Day,
        domain: &str,
        phase: Phase,
        now: SystemTime,
    ) -> Result<(), StateError> {
        self.update(&key(b'h', day, domain, &[]), day, now, |value| {
            let head = value.and_then(|value| serde_json::from_slice::<Head>(value).ok())?;
            Some(to_octets(&Head { phase, ..head }))
        })
        .await
    }

    /// The rows and how many messages each has, in an order that depends on nothing but them.
    pub(super) async fn rows(
        &self,
        day: Day,
        domain: &str,
        head: &Head,
        now: SystemTime,
    ) -> Result<Vec<(Row, u64)>, StateError> {
        let mut hashes = BTreeSet::new();
        for place in 0..head.rows {
            hashes.extend(self.store.get(TABLE, &key(b'n', day, domain, &place.to_be_bytes()), now).await?);
        }
        let mut rows = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let value = self.store.get(TABLE, &key(b'r', day, domain, &hash), now).await?;
            rows.extend(value.as_deref().and_then(read_row));
        }
        rows.sort();
        Ok(rows)
    }

    /// Removes the rows of a report that is done, and then says that there are none.
    pub(super) async fn clear(&self, day: Day, domain: &str, head: &Head, now: SystemTime) -> Result<(), StateError> {
        for place in 0..head.rows {
            let place = key(b'n', day, domain, &place.to_be_bytes());
            if let Some(hash) = self.store.get(TABLE, &place, now).await? {
                self.remove(&key(b'r', day, domain, &hash), now).await?;
                self.remove(&place, now).await?;
            }
        }
        self.change_head(day, domain, now, |found| {
            let head = found.unwrap_or_else(|| head.clone());
            Head { rows: 0, left_out: 0, phase: Phase::Done, ..head }
        })
        .await
    }

    /// How many messages of a day are of domains for which there was no room. It is said once.
    pub(super) async fn take_left_out(&self, day: Day, now: SystemTime) -> Result<u64, StateError> {
        let mut taken = 0;
        self.update(&key(b't', day, "", &[]), day, now, |value| {
            let mut totals: Totals = serde_json::from_slice(value?).ok()?;
            taken = std::mem::take(&mut totals.left_out);
            (taken > 0).then(|| to_octets(&totals))
        })
        .await?;
        Ok(taken)
    }

    /// Puts a domain on the list of a day. `false` where there is no room.
    async fn list(&self, day: Day, domain: &str, now: SystemTime) -> Result<bool, StateError> {
        let mut is_listed = false;
        self.update(&key(b'd', day, "", &[]), day, now, |value| {
            let value = value.unwrap_or_default();
            let mut names = value.split(|&octet| octet == b' ').filter(|name| !name.is_empty());
            let count = names.clone().count();
            is_listed = names.any(|name| name == domain.as_bytes());
            let has_room = count < self.limits.domains && value.len() + domain.len() < LIST_LIMIT_OCTETS;
            if is_listed || !has_room {
                return None;
            }
            is_listed = true;
            Some([value, domain.as_bytes(), b" "].concat())
        })
        .await?;
        Ok(is_listed)
    }

    /// Makes room for a row. `false` where there is none.
    async fn reserve(&self, day: Day, octets: u64, now: SystemTime) -> Result<bool, StateError> {
        let mut has_room = false;
        self.totals(day, now, |totals| {
            has_room = totals.rows < self.limits.rows && totals.octets + octets <= self.limits.octets;
            if has_room {
                totals.rows += 1;
                totals.octets += octets;
            }
        })
        .await?;
        Ok(has_room)
    }

    async fn totals(
        &self,
        day: Day,
        now: SystemTime,
        mut change: impl FnMut(&mut Totals) + Send,
    ) -> Result<(), StateError> {
        self.update(&key(b't', day, "", &[]), day, now, |value| {
            let mut totals = value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
            change(&mut totals);
            Some(to_octets(&totals))
        })
        .await
    }

    async fn change_head(
        &self,
        day: Day,
        domain: &str,
        now: SystemTime,
        mut change: impl FnMut(Option<Head>) -> Head + Send,
    ) -> Result<(), StateError> {
        self.update(&key(b'h', day, domain, &[]), day, now, |value| {
            Some(to_octets(&change(value.and_then(|value| serde_json::from_slice(value).ok()))))
        })
        .await
    }

    /// Counts one message more in a row. Where it is not there, a new one is made, if its octets are given; else `false`.
    async fn add(&self, row_key: &[u8], octets: Option<&[u8]>, day: Day, now: SystemTime) -> Result<bool, StateError> {
        let mut is_counted = false;
        self.update(row_key, day, now, |value| {
            let (count, row) = match value.and_then(<[u8]>::split_first_chunk) {
                Some((count, row)) => (u64::from_be_bytes(*count), row),
                None => (0, octets?),
            };
            is_counted = true;
            Some([&count.saturating_add(1).to_be_bytes(), row].concat())
        })
        .await?;
        Ok(is_counted)
    }

    async fn set(&self, key: &[u8], value: Vec<u8>, day: Day, now: SystemTime) -> Result<(), StateError> {
        self.update(key, day, now, |_| Some(value.clone())).await
    }

    async fn remove(&self, key: &[u8], now: SystemTime) -> Result<(), StateError> {
        self.store.update(TABLE, key, now, &mut |_: Option<&[u8]>| Change::Remove).await
    }

    /// Changes a value, where there is something to change.
    async fn update(
        &self,
        key: &[u8],
        day: Day,
        now: SystemTime,
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send,
    ) -> Result<(), StateError> {
        let expires = day.end() + KEPT;
        let mut change = |value: Option<&[u8]>| match change(value) {
            Some(value) => Change::Set { value, expires },
            None => Change::Keep,
        };
        self.store.update(TABLE, key, now, &mut change).await
    }
}

fn key(kind: u8, day: Day, domain: &str, of: &[u8]) -> Vec<u8> {
    [&[kind], &day.0.to_be_bytes()[..], domain.as_bytes(), &[0], of].concat()
}

fn to_octets(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("its maps have names as keys, and writing to memory works")
}

fn read_row(value: &[u8]) -> Option<(Row, u64)> {
    let (count, row) = value.split_first_chunk()?;
    Some((serde_json::from_slice(row).ok()?, u64::from_be_bytes(*count)))
}
