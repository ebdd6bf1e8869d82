//! A spool in memory: nothing survives the process.
//!
//! It is for tests and for trying things out, and it is the reference model of the contract test, so it is written to be
//! seen to be right: a map of messages, and for each site and priority an ordered set of what is due when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::{Priority, async_trait};

use crate::content::StoredContent;
use crate::envelope::{Envelope, SiteName};
use crate::id::QueueId;
use crate::progress::Progress;
use crate::turns::Turns;

use super::{
    Change, Due, Lease, Listed, ListedPair, NewContent, NewMessage, Room, Shown, Spool, SpoolError, SpoolTotals,
};

/// Keeps messages in memory, up to a number of octets.
#[derive(Debug)]
pub struct MemorySpool {
    state: Mutex<State>,
    limit_octets: u64,
}

#[derive(Debug, Default)]
struct State {
    messages: BTreeMap<QueueId, Stored>,
    /// What may be leased: neither leased already nor held. No site without an entry.
    schedule: BTreeMap<SiteName, Waiting>,
    totals: SpoolTotals,
    octets: u64,
    last_token: u64,
}

/// What waits at one site.
#[derive(Debug, Default)]
struct Waiting {
    /// The most urgent first.
    levels: BTreeMap<Reverse<Priority>, BTreeSet<(SystemTime, QueueId)>>,
    turns: Turns,
}

impl Waiting {
    fn add(&mut self, priority: Priority, time: SystemTime, id: QueueId) {
        self.levels.entry(Reverse(priority)).or_default().insert((time, id));
    }

    fn remove(&mut self, priority: Priority, time: SystemTime, id: QueueId) {
        if let Some(level) = self.levels.get_mut(&Reverse(priority)) {
            level.remove(&(time, id));
            if level.is_empty() {
                self.levels.remove(&Reverse(priority));
            }
        }
    }

    /// When the first of all is due.
    fn first_time(&self) -> Option<SystemTime> {
        self.firsts().map(|(time, _)| time).min()
    }

    /// The first of each level, the most urgent level first.
    fn firsts(&self) -> impl Iterator<Item = (SystemTime, QueueId)> {
        self.levels.values().filter_map(BTreeSet::first).copied()
    }

    /// Who comes next of those who are due.
    fn next(&mut self, now: SystemTime) -> Option<QueueId> {
        let first = self.firsts().find(|(time, _)| *time <= now)?;
        let next = if self.turns.is_for_the_oldest() {
            self.firsts().min_by_key(|(time, _)| *time).unwrap_or(first)
        } else {
            first
        };
        Some(next.1)
    }
}

#[derive(Debug)]
struct Stored {
    envelope: Arc<Envelope>,
    content: StoredContent,
    held: bool,
    pairs: BTreeMap<SiteName, Pair>,
}

#[derive(Debug)]
struct Pair {
    progress: Progress,
    /// The token of who works on it.
    lease: Option<u64>,
}

impl MemorySpool {
    /// The octets of content that [`MemorySpool::new`] takes: 1 GiB.
    pub const LIMIT_OCTETS: u64 = 1 << 30;

    /// An empty spool.
    pub fn new() -> Self {
        Self::with_limit_octets(Self::LIMIT_OCTETS)
    }

    /// An empty spool for so many octets of content.
    pub fn with_limit_octets(limit_octets: u64) -> Self {
        Self { state: Mutex::default(), limit_octets }
    }

    /// Behaves as a durable spool does that is closed and opened again: all leases are lost, and what was leased is due
    /// when it was. For tests of a restart.
    pub fn reopen(&self) {
        let mut state = self.lock();
        let leased: Vec<_> = state.pairs().filter(|(.., pair)| pair.lease.is_some()).map(key).collect();
        for (id, site) in leased {
            state.end_lease(id, &site);
        }
        for waiting in state.schedule.values_mut() {
            waiting.turns = Turns::default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemorySpool {
    fn default() -> Self {
        Self::new()
    }
}

fn key((id, site, _): (QueueId, &SiteName, &Pair)) -> (QueueId, SiteName) {
    (id, site.clone())
}

impl State {
    fn pairs(&self) -> impl Iterator<Item = (QueueId, &SiteName, &Pair)> {
        self.messages.iter().flat_map(|(id, stored)| stored.pairs.iter().map(|(site, pair)| (*id, site, pair)))
    }

    /// Makes the schedule say what the pair says.
    fn schedule(&mut self, id: QueueId, site: &SiteName) {
        let Some(stored) = self.messages.get(&id) else { return };
        let Some(pair) = stored.pairs.get(site) else { return };
        if pair.lease.is_none() && !stored.held {
            let waiting = self.schedule.entry(site.clone()).or_default();
            waiting.add(stored.envelope.priority, pair.progress.next_attempt, id);
        }
    }

    /// Takes a pair out of the schedule, before it changes.
    fn unschedule(&mut self, id: QueueId, site: &SiteName) {
        let Some(stored) = self.messages.get(&id) else { return };
        let Some(pair) = stored.pairs.get(site) else { return };
        if let Some(waiting) = self.schedule.get_mut(site) {
            waiting.remove(stored.envelope.priority, pair.progress.next_attempt, id);
            if waiting.levels.is_empty() {
                self.schedule.remove(site);
            }
        }
    }

    fn end_lease(&mut self, id: QueueId, site: &SiteName) {
        if let Some(pair) = self.messages.get_mut(&id).and_then(|stored| stored.pairs.get_mut(site)) {
            pair.lease = None;
        }
        self.schedule(id, site);
    }

    fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// The message and the pair of a lease that still holds.
    fn leased(&self, lease: &Lease) -> Result<(&Stored, &Pair), SpoolError> {
        let stored = self.messages.get(&lease.id);
        let found = stored.and_then(|stored| stored.pairs.get(&lease.site).map(|pair| (stored, pair)));
        match found {
            Some((stored, pair)) if pair.lease == Some(lease.token) => Ok((stored, pair)),
            _ => Err(SpoolError::LeaseLost { id: lease.id }),
        }
    }

    /// Adds a pair. Who counts recipients has counted them.
    fn add_pair(&mut self, id: QueueId, progress: Progress, lease: bool) -> Option<Lease> {
        let site = progress.site.clone();
        let token = lease.then(|| self.next_token());
        let stored = self.messages.get_mut(&id)?;
        stored.pairs.insert(site.clone(), Pair { progress, lease: token });
        let priority = stored.envelope.priority;
        self.totals.pairs += 1;
        self.schedule(id, &site);
        token.map(|token| Lease { id, site, priority, token })
    }

    fn add(&mut self, message: NewMessage, content: StoredContent) -> Vec<Lease> {
        let id = message.envelope.id;
        self.octets += content.len();
        self.totals.messages += 1;
        self.totals.recipients += message.envelope.recipients.len() as u64;
        let stored = Stored { envelope: message.envelope, content, held: false, pairs: BTreeMap::new() };
        self.messages.insert(id, stored);
        message.progress.into_iter().filter_map(|new| self.add_pair(id, new.progress, new.lease)).collect()
    }

    fn remove(&mut self, id: QueueId) -> Option<Stored> {
        let sites: Vec<_> = self.messages.get(&id)?.pairs.keys().cloned().collect();
        for site in &sites {
            self.unschedule(id, site);
        }
        let stored = self.messages.remove(&id)?;
        self.octets -= stored.content.len();
        self.totals.messages -= 1;
        self.totals.pairs -= stored.pairs.len() as u64;
        self.totals.recipients -= stored.waiting();
        self.totals.held -= u64::from(stored.held);
        Some(stored)
    }

    fn listed(id: QueueId, stored: &Stored) -> Listed {
        let pairs = stored.pairs.iter().map(|(site, pair)| ListedPair {
            site: site.clone(),
            next_attempt: pair.progress.next_attempt,
            attempts: pair.progress.attempts,
            leased: pair.lease.is_some(),
        });
        Listed { id, octets: stored.content.len(), held: stored.held, pairs: pairs.collect() }
    }
}

impl Stored {
    fn waiting(&self) -> u64 {
        self.pairs.values().map(|pair| pair.progress.waiting.len() as u64).sum()
    }
}

/// All of it in memory.
async fn read(new: &NewContent) -> Result<StoredContent, SpoolError> {
    let (content, skipped) = (new.content.clone(), new.skipped_octets);
    let octets = match content.as_bytes() {
        Some(octets) => octets.clone(),
        None => tokio::task::spawn_blocking(move || {
            let mut octets = Vec::new();
            content.reader()?.read_to_end(&mut octets).map(|_| Bytes::from(octets))
        })
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| SpoolError::Io { action: "read content", source: Arc::new(source) })?,
    };
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(octets.len());
    Ok(StoredContent::in_memory(new.head.clone(), octets.slice(skipped..)))
}

#[async_trait]
impl Spool for MemorySpool {
    async fn put(&self, message: NewMessage) -> Result<Vec<Lease>, SpoolError> {
        message.check()?;
        let content = read(&message.content).await?;
        let mut state = self.lock();
        if state.messages.contains_key(&message.envelope.id) {
            return Err(SpoolError::Invalid("its name is taken"));
        }
        if state.octets + content.len() > self.limit_octets {
            return Err(SpoolError::Full(None));
        }
        Ok(state.add(message, content))
    }

    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError> {
        let mut state = self.lock();
        let mut due = Due::default();
        let mut sites: Vec<_> = state
            .schedule
            .iter()
            .filter(|(site, _)| room.of(site) > 0)
            .filter_map(|(site, waiting)| waiting.first_time().map(|earliest| (earliest, site.clone())))
            .collect();
        sites.sort();
        for (_, site) in sites {
            let room_here = room.of(&site).min(room.total - due.leases.len());
            let mut leased = 0;
            while leased < room_here
                && let Some(id) = state.schedule.get_mut(&site).and_then(|waiting| waiting.next(now))
            {
                state.unschedule(id, &site);
                let token = state.next_token();
                let Some(stored) = state.messages.get_mut(&id) else { break };
                let priority = stored.envelope.priority;
                if let Some(pair) = stored.pairs.get_mut(&site) {
                    pair.lease = Some(token);
                }
                due.leases.push(Lease { id, site: site.clone(), priority, token });
                leased += 1;
            }
            let has_room_left = leased < room.of(&site);
            if has_room_left && let Some(time) = state.schedule.get(&site).and_then(Waiting::first_time) {
                due.next = Some(due.next.map_or(time, |next| next.min(time)));
            }
        }
        Ok(due)
    }

    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        let state = self.lock();
        let (stored, pair) = state.leased(lease)?;
        Ok((stored.envelope.clone(), pair.progress.clone()))
    }

    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        let state = self.lock();
        state.messages.get(&id).map(|stored| stored.content.clone()).ok_or(SpoolError::Absent { id })
    }

    async fn record(&self, lease: Lease, change: Change) -> Result<(), SpoolError> {
        let mut caused = Vec::with_capacity(change.caused.len());
        for message in change.caused {
            message.check()?;
            let content = read(&message.content).await?;
            caused.push((message, content));
        }
        let mut state = self.lock();
        let (stored, pair) = state.leased(&lease)?;
        let waited = pair.progress.waiting.len() as u64;
        if let Some(progress) = &change.progress {
            progress.check(stored.envelope.recipients.len())?;
            if progress.site != lease.site && stored.pairs.contains_key(&progress.site) {
                return Err(SpoolError::Invalid("it has another pair at that site"));
            }
        }
        // From here on nothing fails.
        let stored = state.messages.get_mut(&lease.id).expect("it was there under the same lock");
        stored.pairs.remove(&lease.site);
        let is_done = stored.pairs.is_empty() && change.progress.is_none();
        state.totals.pairs -= 1;
        state.totals.recipients -= waited;
        if let Some(progress) = change.progress {
            state.totals.recipients += progress.waiting.len() as u64;
            state.add_pair(lease.id, progress, false);
        } else if is_done {
            state.remove(lease.id);
        }
        for (message, content) in caused {
            if !state.messages.contains_key(&message.envelope.id) {
                state.add(message, content);
            }
        }
        Ok(())
    }

    async fn give_back(&self, lease: Lease) {
        let mut state = self.lock();
        if state.leased(&lease).is_ok() {
            state.end_lease(lease.id, &lease.site);
        }
    }

    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        Ok(self.lock().remove(id).map(|stored| stored.waiting()))
    }

    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError> {
        let mut state = self.lock();
        let Some(stored) = state.messages.get(&id) else { return Ok(false) };
        let (was_held, sites) = (stored.held, stored.pairs.keys().cloned().collect::<Vec<_>>());
        for site in &sites {
            state.unschedule(id, site);
        }
        if let Some(stored) = state.messages.get_mut(&id) {
            stored.held = held;
        }
        for site in &sites {
            state.schedule(id, site);
        }
        state.totals.held = state.totals.held + u64::from(held) - u64::from(was_held);
        Ok(true)
    }

    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError> {
        let mut state = self.lock();
        let Some(stored) = state.messages.get(&id) else { return Ok(false) };
        for site in stored.pairs.keys().cloned().collect::<Vec<_>>() {
            state.unschedule(id, &site);
            if let Some(pair) = state.messages.get_mut(&id).and_then(|stored| stored.pairs.get_mut(&site)) {
                pair.progress.next_attempt = next_attempt;
            }
            state.schedule(id, &site);
        }
        Ok(true)
    }

    async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.lock();
        let later = state.messages.range((after.map_or(Unbounded, Excluded), Unbounded));
        Ok(later.take(limit).map(|(id, stored)| State::listed(*id, stored)).collect())
    }

    async fn show(&self, id: QueueId) -> Result<Option<Shown>, SpoolError> {
        let state = self.lock();
        Ok(state.messages.get(&id).map(|stored| Shown {
            listed: State::listed(id, stored),
            envelope: stored.envelope.clone(),
            progress: stored.pairs.values().map(|pair| pair.progress.clone()).collect(),
        }))
    }

    fn totals(&self) -> SpoolTotals {
        self.lock().totals
    }

    fn has_room(&self, octets: Option<u64>) -> bool {
        self.lock().octets.saturating_add(octets.unwrap_or(1)) <= self.limit_octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::contract::{SpoolUnderTest, check_spool};

    struct Memory;

    #[async_trait]
    impl SpoolUnderTest for Memory {
        type Spool = MemorySpool;

        async fn create(&self) -> MemorySpool {
            MemorySpool::new()
        }

        async fn reopen(&self, spool: MemorySpool) -> Option<MemorySpool> {
            spool.reopen();
            Some(spool)
        }
    }

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        check_spool(&Memory).await;
    }

    #[tokio::test] // SECURITY.md D-32
    async fn d32_what_is_beyond_the_limit_is_refused_and_nothing_is_kept_of_it() {
        use crate::spool::contract::message;
        let spool = MemorySpool::with_limit_octets(1000);
        spool.put(message(1, &["one"], 600)).await.expect("there is room");
        assert!(matches!(spool.put(message(2, &["one"], 600)).await, Err(SpoolError::Full(_))));
        assert!(!spool.has_room(Some(600)) && spool.has_room(Some(300)));
        assert_eq!(spool.totals().messages, 1);
        spool.remove(QueueId::from_u128(1)).await.expect("in memory");
        assert!(spool.put(message(2, &["one"], 600)).await.is_ok());
    }
}
