//! Tables in memory: bounded, and what expires first is forgotten first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Change, Changing, STATE_KEY_LIMIT_OCTETS, STATE_TABLE_LIMIT_OCTETS, STATE_VALUE_LIMIT_OCTETS, StateError};

/// What an entry costs besides its key, twice, and its value. A guess on the high side.
const ENTRY_OCTETS: usize = 200;
/// How many expired entries one change clears away at most.
const CLEARED_AT_ONCE: usize = 100;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateLimits {
    /// The most tables: 32.
    pub tables: usize,
    /// The most values of a table: 200,000.
    pub entries_per_table: usize,
    /// The most octets of a table in memory, about: 64 MiB.
    pub octets_per_table: usize,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { tables: 32, entries_per_table: 200_000, octets_per_table: 64 << 20 }
    }
}

/// Milliseconds since 1970: what a value keeps of its end.
pub(super) type Millis = u64;

fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis().try_into().unwrap_or(Millis::MAX)
}

/// One value, as the log has it. Without a value it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) table: &'a str,
    pub(super) key: &'a [u8],
    pub(super) value: Option<(&'a [u8], Millis)>,
}

/// All tables.
#[derive(Debug, Default)]
pub(super) struct Entries {
    limits: StateLimits,
    tables: BTreeMap<Box<str>, Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_key: BTreeMap<Arc<[u8]>, Held>,
    by_end: BTreeSet<(Millis, Arc<[u8]>)>,
    octets: usize,
}

#[derive(Debug)]
struct Held {
    value: Box<[u8]>,
    expires: Millis,
}

impl Entries {
    pub(super) fn new(limits: StateLimits) -> Self {
        Self { limits, tables: BTreeMap::new() }
    }

    /// About so many octets of memory.
    pub(super) fn octets(&self) -> usize {
        self.tables.values().map(|table| table.octets).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.tables.values().map(|table| table.by_key.len()).sum()
    }

    pub(super) fn get(&self, table: &str, key: &[u8], now: SystemTime) -> Option<&[u8]> {
        let held = self.tables.get(table)?.by_key.get(key)?;
        (millis(now) < held.expires).then_some(&held.value)
    }

    /// Asks for a change and makes it. `written` sees what changed.
    pub(super) fn update(
        &mut self,
        table: &str,
        key: &[u8],
        now: SystemTime,
        change: &mut Changing<'_>,
        written: impl FnOnce(Entry<'_>),
    ) -> Result<(), StateError> {
        if table.len() > STATE_TABLE_LIMIT_OCTETS || key.len() > STATE_KEY_LIMIT_OCTETS {
            return Err(StateError::TooLarge);
        }
        let value = match change(self.get(table, key, now)) {
            Change::Keep => return Ok(()),
            Change::Remove => None,
            Change::Set { value, .. } if value.len() > STATE_VALUE_LIMIT_OCTETS => return Err(StateError::TooLarge),
            Change::Set { value, expires } => Some((value, millis(expires))),
        };
        let entry = Entry { table, key, value: value.as_ref().map(|(value, expires)| (&value[..], *expires)) };
        if !self.apply(entry) {
            return Err(StateError::TooLarge);
        }
        if let Some(table) = self.tables.get_mut(table) {
            table.forget_expired(millis(now));
        }
        written(entry);
        Ok(())
    }

    /// Makes a change, and room for it. `false` where there is no room for another table.
    pub(super) fn apply(&mut self, entry: Entry<'_>) -> bool {
        if !self.tables.contains_key(entry.table) {
            if entry.value.is_none() {
                return true;
            }
            if self.tables.len() >= self.limits.tables {
                return false;
            }
            self.tables.insert(entry.table.into(), Table::default());
        }
        let Some(table) = self.tables.get_mut(entry.table) else { return false };
        table.remove(entry.key);
        if let Some((value, expires)) = entry.value {
            let octets = ENTRY_OCTETS + entry.key.len() + value.len();
            while table.by_key.len() >= self.limits.entries_per_table.max(1)
                || (table.octets + octets > self.limits.octets_per_table && !table.by_key.is_empty())
            {
                table.forget_first();
            }
            table.insert(entry.key.into(), value.into(), expires);
        }
        true
    }

    /// Shows entries behind that place, in their order, until `show` has seen enough. Says where to go on, and `None` at the
    /// end.
    pub(super) fn walk(&self, after: Option<&Place>, mut show: impl FnMut(Entry<'_>) -> bool) -> Option<Place> {
        let first = after.map_or(Bound::Unbounded, |place| Bound::Included(&*place.table));
        for (name, table) in self.tables.range::<str, _>((first, Bound::Unbounded)) {
            let behind = match after {
                Some(place) if place.table == *name => Bound::Excluded(&*place.key),
                _ => Bound::Unbounded,
            };
            for (key, held) in table.by_key.range::<[u8], _>((behind, Bound::Unbounded)) {
                if !show(Entry { table: name, key, value: Some((&held.value, held.expires)) }) {
                    return Some(Place { table: name.clone(), key: key.clone() });
                }
            }
        }
        None
    }
}

/// Where a walk stopped.
#[derive(Debug, Clone)]
pub(super) struct Place {
    table: Box<str>,
    key: Arc<[u8]>,
}

impl Table {
    fn insert(&mut self, key: Arc<[u8]>, value: Box<[u8]>, expires: Millis) {
        self.octets += ENTRY_OCTETS + key.len() + value.len();
        self.by_end.insert((expires, key.clone()));
        self.by_key.insert(key, Held { value, expires });
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, held)) = self.by_key.remove_entry(key) {
            self.octets -= ENTRY_OCTETS + key.len() + held.value.len();
            self.by_end.remove(&(held.expires, key));
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.by_end.first().cloned() {
            self.remove(&key);
        }
    }

    fn forget_expired(&mut self, now: Millis) {
        for _ in 0..CLEARED_AT_ONCE {
            match self.by_end.first() {
                Some((expires, _)) if *expires <= now => self.forget_first(),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &mut Entries, key: &str, expires: Millis) {
        let value = Some((&b"x"[..], expires));
        assert!(entries.apply(Entry { table: "t", key: key.as_bytes(), value }));
    }

    fn has(entries: &Entries, key: &str) -> bool {
        entries.get("t", key.as_bytes(), SystemTime::UNIX_EPOCH).is_some()
    }

    #[test]
    fn what_expires_first_makes_room_for_what_is_new() {
        let mut entries = Entries::new(StateLimits { entries_per_table: 3, ..StateLimits::default() });
        for (key, expires) in [("late", 30), ("soon", 10), ("later", 40), ("new", 5)] {
            set(&mut entries, key, expires);
        }
        assert!(!has(&entries, "soon") && has(&entries, "late") && has(&entries, "later") && has(&entries, "new"));
        set(&mut entries, "late", 50);
        assert!(has(&entries, "new"), "to replace a value needs no room");
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn octets_are_bounded_and_counted_back() {
        let limits = StateLimits { octets_per_table: 1000, ..StateLimits::default() };
        let mut entries = Entries::new(limits);
        for number in 0..100 {
            set(&mut entries, &number.to_string(), 1000 + number);
            assert!(entries.octets() <= 1000);
        }
        assert_eq!(entries.len(), 4);
        for number in 0..100 {
            entries.apply(Entry { table: "t", key: number.to_string().as_bytes(), value: None });
        }
        assert_eq!((entries.octets(), entries.len()), (0, 0));
    }

    #[test]
    fn a_walk_in_steps_sees_everything_once() {
        let mut entries = Entries::default();
        for (table, key) in [("a", 1), ("a", 2), ("b", 1), ("b", 3), ("c", 1)] {
            entries.apply(Entry { table, key: &[key], value: Some((b"", 9)) });
        }
        let (mut seen, mut place) = (Vec::new(), None);
        for _ in 0..10 {
            place = entries.walk(place.as_ref(), |entry| {
                seen.push((entry.table.to_owned(), entry.key[0]));
                seen.len() % 2 == 1
            });
            if place.is_none() {
                break;
            }
        }
        let seen: Vec<_> = seen.iter().map(|(table, key)| (table.as_str(), *key)).collect();
        assert_eq!(seen, [("a", 1), ("a", 2), ("b", 1), ("b", 3), ("c", 1)]);
    }
}
