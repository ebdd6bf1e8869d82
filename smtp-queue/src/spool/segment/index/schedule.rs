//! What is due when: for each site an ordered set of what waits there, and one of the first times of all sites.
//!
//! What is leased, held or damaged is in none of them.

use std::collections::HashSet;

use smtp_core::Priority;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::spool::Lease;

use super::{DAMAGED, HELD, Index, MessageEntry, PairEntry};

impl Index {
    /// Lets a pair wait for its time, unless it is leased or its message is not to move.
    pub(super) fn enqueue(&mut self, pair: u32) {
        let PairEntry { next_attempt, message, site, .. } = self.pairs[pair];
        let MessageEntry { flags, priority, .. } = self.messages[message];
        let stays = flags & (HELD | DAMAGED) != 0;
        if stays || self.leases.contains_key(&pair) {
            return;
        }
        let order = &mut self.sites[site as usize].order;
        let first = order.first_time();
        order.insert(priority, next_attempt, pair);
        if first.is_none_or(|first| next_attempt < first) {
            self.set_due(site, first, Some(next_attempt));
        }
    }

    pub(super) fn dequeue(&mut self, pair: u32) {
        let PairEntry { next_attempt, message, site, .. } = self.pairs[pair];
        if self.leases.contains_key(&pair) {
            return;
        }
        let order = &mut self.sites[site as usize].order;
        let before = order.first_time();
        order.remove(self.messages[message].priority, next_attempt, pair);
        if before == Some(next_attempt) {
            let after = order.first_time();
            self.set_due(site, before, after);
        }
    }

    /// The first time of a site has changed.
    fn set_due(&mut self, site: u32, before: Option<u64>, after: Option<u64>) {
        if before != after {
            before.map(|time| self.due_sites.remove(&(time, site)));
            after.map(|time| self.due_sites.insert((time, site)));
        }
    }

    /// Leases a pair whatever its time is; `None` where it is not there or leased already.
    pub(in crate::spool::segment) fn lease(&mut self, id: QueueId, site: &SiteName) -> Option<u64> {
        let pair = self.pair_number(id, site)?;
        if self.leases.contains_key(&pair) {
            return None;
        }
        Some(self.lease_pair(pair))
    }

    pub(super) fn lease_pair(&mut self, pair: u32) -> u64 {
        self.dequeue(pair);
        self.last_token += 1;
        self.leases.insert(pair, self.last_token);
        self.last_token
    }

    /// Leases what is due: at most `total`, and `room` of each site. Also says when there will be more at a site that
    /// has room.
    pub(in crate::spool::segment) fn due(
        &mut self,
        now: u64,
        total: usize,
        room: impl Fn(&SiteName) -> usize,
    ) -> (Vec<Lease>, Option<u64>) {
        let mut found = Vec::new();
        let sites: Vec<u32> =
            self.due_sites.iter().take_while(|(time, _)| *time <= now).map(|(_, site)| *site).collect();
        let mut full = HashSet::new();
        for site in sites {
            let name = self.sites[site as usize].name.clone();
            let mut left = room(&name);
            while left > 0
                && found.len() < total
                && let Some(pair) = self.sites[site as usize].order.next_due(now)
            {
                left -= 1;
                let token = self.lease_pair(pair);
                let number = self.pairs[pair].message;
                let (id, site) = (self.id_of(number), name.clone());
                let priority = Priority::new(self.messages[number].priority).unwrap_or_default();
                found.push(Lease { id, site, priority, token });
            }
            if left == 0 {
                full.insert(site);
            }
        }
        let has_room = |site: u32| !full.contains(&site) && room(&self.sites[site as usize].name) > 0;
        let next = self.due_sites.iter().find(|(_, site)| has_room(*site)).map(|(time, _)| *time);
        (found, next)
    }

    /// The pair of a lease, if the lease still holds.
    fn leased_pair(&self, id: QueueId, site: &SiteName, token: u64) -> Option<u32> {
        self.pair_number(id, site).filter(|pair| self.leases.get(pair) == Some(&token))
    }

    pub(in crate::spool::segment) fn holds_lease(&self, id: QueueId, site: &SiteName, token: u64) -> bool {
        self.leased_pair(id, site, token).is_some()
    }

    /// Ends a lease; `false` where it did not hold any more.
    pub(in crate::spool::segment) fn give_back(&mut self, id: QueueId, site: &SiteName, token: u64) -> bool {
        let Some(pair) = self.leased_pair(id, site, token) else { return false };
        self.leases.remove(&pair);
        self.enqueue(pair);
        true
    }
}
