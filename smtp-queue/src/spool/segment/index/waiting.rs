//! What waits at one site: by priority, and then by time (RFC 6710 §5.1).
//!
//! One set for all priorities: each entry is as large as it would be without one, and a level is found by where it begins.

use std::collections::BTreeSet;

use smtp_core::Priority;

use crate::turns::Turns;

/// The pairs that wait at a site.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// How far below the highest priority, when, and the pair: 16 octets.
    order: BTreeSet<(u8, u64, u32)>,
    turns: Turns,
}

impl Waiting {
    pub(super) fn insert(&mut self, priority: i8, time: u64, pair: u32) {
        self.order.insert((level(priority), time, pair));
    }

    pub(super) fn remove(&mut self, priority: i8, time: u64, pair: u32) {
        self.order.remove(&(level(priority), time, pair));
        if self.order.is_empty() {
            self.turns = Turns::default();
        }
    }

    /// When the first of all is due.
    pub(super) fn first_time(&self) -> Option<u64> {
        self.firsts().map(|(_, time, _)| time).min()
    }

    /// Who comes next of those who are due.
    pub(super) fn next_due(&mut self, now: u64) -> Option<u32> {
        let (_, _, first) = self.firsts().find(|(_, time, _)| *time <= now)?;
        if self.turns.is_for_the_oldest() {
            return self.firsts().min_by_key(|(_, time, _)| *time).map(|(_, _, pair)| pair);
        }
        Some(first)
    }

    /// The first of each level, the most urgent level first.
    fn firsts(&self) -> impl Iterator<Item = (u8, u64, u32)> {
        let first = self.order.first().copied();
        std::iter::successors(first, |(level, ..)| self.order.range((level + 1, 0, 0)..).next().copied())
    }
}

impl Extend<(i8, u64, u32)> for Waiting {
    fn extend<T: IntoIterator<Item = (i8, u64, u32)>>(&mut self, pairs: T) {
        self.order.extend(pairs.into_iter().map(|(priority, time, pair)| (level(priority), time, pair)));
    }
}

/// How far below the highest priority.
fn level(priority: i8) -> u8 {
    Priority::HIGHEST.get().abs_diff(priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 6710 §5
    fn r6710_each_priority_is_a_level_of_its_own() {
        let mut waiting = Waiting::default();
        // The less urgent, the earlier; nobody is due but the last ten.
        for (priority, pair) in (-9..=9).zip(0_u32..) {
            waiting.insert(priority, 100 + u64::from(pair), pair);
        }
        assert_eq!((waiting.first_time(), waiting.next_due(99)), (Some(100), None));
        let mut order = Vec::new();
        while let Some(pair) = waiting.next_due(109) {
            waiting.remove(i8::try_from(pair).expect("small") - 9, 100 + u64::from(pair), pair);
            order.push(pair);
        }
        assert_eq!(order, [9, 8, 7, 0, 6, 5, 4, 1, 3, 2], "the fourth place is for the earliest");
        assert_eq!(waiting.first_time(), Some(110));
    }

    #[test]
    fn an_entry_is_no_larger_than_without_a_priority() {
        assert_eq!(size_of::<(u8, u64, u32)>(), size_of::<(u64, u32)>());
    }
}
