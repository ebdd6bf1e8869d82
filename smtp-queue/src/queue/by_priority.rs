//! What is ready to be tried at one site: the most urgent first, and now and then whoever has waited longest (RFC 6710
//! §5.1).

use std::collections::VecDeque;

use smtp_core::Priority;

use crate::id::QueueId;
use crate::turns::Turns;

use super::ready::Ready;

/// Pairs that are ready, in the order in which they are tried.
#[derive(Debug, Default)]
pub(super) struct ByPriority {
    /// The most urgent first. A level stays when it is empty: there are at most 19.
    levels: Vec<(Priority, VecDeque<Numbered>)>,
    added: u64,
    turns: Turns,
}

#[derive(Debug)]
struct Numbered {
    /// How many came before it.
    number: u64,
    ready: Ready,
}

impl ByPriority {
    pub(super) fn push(&mut self, ready: Ready) {
        let priority = ready.lease.priority;
        let place = self.levels.partition_point(|(level, _)| *level > priority);
        if self.levels.get(place).is_none_or(|(level, _)| *level != priority) {
            self.levels.insert(place, (priority, VecDeque::new()));
        }
        self.levels[place].1.push_back(Numbered { number: self.added, ready });
        self.added += 1;
    }

    /// Takes whoever comes next.
    pub(super) fn pop(&mut self) -> Option<Ready> {
        let first = self.levels.iter().position(|(_, level)| !level.is_empty())?;
        let next = if self.turns.is_for_the_oldest() {
            let fronts = self.levels.iter().enumerate().filter_map(|(place, (_, level))| Some((level.front()?, place)));
            fronts.min_by_key(|(front, _)| front.number).map_or(first, |(_, place)| place)
        } else {
            first
        };
        self.levels[next].1.pop_front().map(|numbered| numbered.ready)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.iter().all(|(_, level)| level.is_empty())
    }

    /// Whether somebody is less urgent than that.
    pub(super) fn has_below(&self, priority: Priority) -> bool {
        self.levels.iter().any(|(level, ready)| *level < priority && !ready.is_empty())
    }

    pub(super) fn contains(&self, id: QueueId) -> bool {
        self.levels.iter().flat_map(|(_, level)| level).any(|numbered| numbered.ready.lease.id == id)
    }

    /// Takes those that are wanted, whatever their turn is.
    pub(super) fn take(&mut self, wanted: impl Fn(QueueId) -> bool) -> Vec<Ready> {
        let mut taken = Vec::new();
        for (_, level) in &mut self.levels {
            let (leaving, staying) = level.drain(..).partition(|numbered| wanted(numbered.ready.lease.id));
            *level = staying;
            taken.extend::<VecDeque<Numbered>>(leaving);
        }
        taken.into_iter().map(|numbered| numbered.ready).collect()
    }
}
