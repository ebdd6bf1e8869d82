//! Pairs that have moved to another site.
//!
//! Records about a pair call it by its *key*: the site that the record of its message names, wherever it has moved since.

use crate::envelope::SiteName;
use crate::id::QueueId;

use super::{Index, PairEntry};

impl Index {
    /// The pair that records call by that site.
    pub(super) fn pair_by_key(&self, message: u32, key: &SiteName) -> Option<u32> {
        let key = *self.site_numbers.get(key)?;
        self.pairs_of(message).find(|pair| self.key_of(*pair) == key)
    }

    /// Ends pairs that stand where another has moved to, when the whole log was read. There was none when it moved, so the
    /// record that ended it was damaged. The messages of which that is so.
    pub(in crate::spool::segment) fn settle_moves(&mut self) -> Vec<QueueId> {
        let mut moved: Vec<u32> = self.moved.keys().copied().collect();
        // A later record tells of a later move.
        moved.sort_unstable_by_key(|pair| {
            let place = self.pairs[*pair].place;
            (self.segments.get(place.segment).map(|segment| segment.epoch), place.offset)
        });
        let mut found = Vec::new();
        while let Some(pair) = moved.pop() {
            let PairEntry { message, site, .. } = self.pairs[pair];
            let is_other = |other: &u32| *other != pair && self.pairs[*other].site == site;
            let others: Vec<u32> = self.pairs_of(message).filter(is_other).collect();
            for other in others {
                moved.retain(|pair| *pair != other);
                self.drop_pair(other);
                found.push(self.id_of(message));
            }
        }
        found
    }

    pub(super) fn key_of(&self, pair: u32) -> u32 {
        self.moved.get(&pair).copied().unwrap_or(self.pairs[pair].site)
    }

    pub(super) fn set_key(&mut self, pair: u32, key: &SiteName) {
        let key = self.site_number(key);
        if key == self.pairs[pair].site {
            self.moved.remove(&pair);
        } else {
            self.moved.insert(pair, key);
        }
    }

    /// What records call the pair that is at that site now.
    pub(in crate::spool::segment) fn key(&self, id: QueueId, site: &SiteName) -> Option<SiteName> {
        let pair = self.pair_number(id, site)?;
        Some(self.sites[self.key_of(pair) as usize].name.clone())
    }
}
