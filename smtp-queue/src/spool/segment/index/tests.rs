//! An index from a snapshot is the one that [`Index::apply`] makes from what the snapshot says.

use std::fmt::Write;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use crate::storage::{SimStorage, Storage};

use super::super::committer::Shared;
use super::super::segments::Use;
use super::super::settings::SegmentSettings;
use super::super::snapshot::{self, SNAPSHOTS};
use super::*;

const SITES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const SEGMENTS: u64 = 4;
const SEGMENT_OCTETS: u64 = 20_000;

/// A history of a spool that nobody wrote to a disk.
struct History {
    rng: fastrand::Rng,
    /// Where the next record stands.
    end: (u64, u32),
}

impl History {
    fn place(&mut self, index: &Index) -> Place {
        let (epoch, offset) = self.end;
        let octets = self.rng.u32(48..400);
        let is_last = index.segments.number_of(epoch + 1).is_none();
        let is_full = !is_last && u64::from(offset + octets) > SEGMENT_OCTETS;
        self.end = if is_full { (epoch + 1, octets) } else { (epoch, offset + octets) };
        let segment = index.segments.number_of(self.end.0).expect("it is there");
        Place { segment, offset: self.end.1 - octets, octets }
    }

    fn pair(&mut self, site: &str) -> PairFacts {
        // Few times, so that many are alike.
        let (next_attempt, attempts) = (self.rng.u64(..8), self.rng.u32(..70_000));
        PairFacts { site: site.into(), next_attempt, attempts, waiting: self.rng.u32(1..4) }
    }

    /// One more record, or something that is in no record.
    fn step(&mut self, indexes: &mut [&mut Index]) {
        let id = QueueId::from_u128(self.rng.u128(1..16) << 60);
        let place = self.place(indexes[0]);
        let known = indexes[0].message(id);
        let some_pair = known.as_ref().and_then(|facts| self.rng.choice(facts.pairs.clone()));
        let effect = match (self.rng.u32(..20), some_pair) {
            (0..6, _) => {
                let mut sites = SITES;
                self.rng.shuffle(&mut sites);
                let count = self.rng.usize(1..=4);
                let pairs = sites[..count].iter().map(|site| self.pair(site)).collect();
                let (octets, recipients) = (self.rng.u64(..1 << 34), self.rng.u32(..100_000));
                let (in_file, held) = (self.rng.bool(), self.rng.u8(..4) == 0);
                let priority = i8::try_from(octets % 19).expect("small") - 9;
                Effect::Message { octets, recipients, priority, in_file, held, pairs }
            }
            (6..13, Some(moved)) => {
                // To any site where no other pair of the message is.
                let taken = known.iter().flat_map(|facts| &facts.pairs).map(|pair| &pair.facts.site);
                let taken: Vec<_> = taken.filter(|site| **site != moved.facts.site).collect();
                let is_free = |site: &&&str| taken.iter().all(|taken| taken[..] != ***site);
                let free: Vec<_> = SITES.iter().filter(is_free).collect();
                let site = self.rng.choice(free).expect("more sites than pairs");
                Effect::Progress { from: moved.key, pair: self.pair(site) }
            }
            (13..15, Some(pair)) => Effect::Done { site: pair.key },
            (15..17, _) => Effect::Held(self.rng.bool()),
            (17, _) => Effect::Removal,
            (18, Some(pair)) => {
                return indexes.iter_mut().for_each(|index| {
                    index.lease(id, &pair.facts.site);
                });
            }
            _ => return indexes.iter_mut().for_each(|index| index.set_damaged(id)),
        };
        for index in indexes {
            index.apply(id, &effect, place);
        }
    }
}

/// An index that knows the segments as they are after `gone` was removed and `short` cut off.
fn empty(storage: &SimStorage, gone: u64, short: u64) -> Index {
    let mut index = Index::new();
    for epoch in (1..=SEGMENTS).filter(|epoch| *epoch != gone) {
        let file = storage.open(Path::new(&format!("{epoch}"))).expect("it is there");
        let octets = if epoch == short { SEGMENT_OCTETS / 2 } else { u64::from(u32::MAX) };
        index.segments.add(epoch, file, octets, Use::Written);
    }
    index
}

/// What a snapshot says, applied record by record.
fn one_by_one(from: &Index, mut to: Index) -> (Index, Vec<QueueId>) {
    let mut cut_off = Vec::new();
    for message in from.messages_after(None) {
        let place = |place: Place| {
            let segment = to.segments.number_of(from.segments.get(place.segment)?.epoch)?;
            Some(Place { segment, ..place })
        };
        let facts = message.facts();
        let Some(at) = place(facts.place) else { continue };
        let progress = facts.pairs.iter().filter_map(|pair| Some((pair, place(pair.place?)?))).collect::<Vec<_>>();
        let notes = message.notes().iter().filter_map(|note| place(*note)).collect::<Vec<_>>();
        let MessageFacts { octets, recipients, priority, in_file, held, .. } = facts;
        let named = |pair: &PairState| PairFacts { site: pair.key.clone(), ..pair.facts.clone() };
        let pairs = facts.pairs.iter().map(named).collect();
        to.apply(facts.id, &Effect::Message { octets, recipients, priority, in_file, held, pairs }, at);
        for (pair, at) in &progress {
            to.apply(facts.id, &Effect::Progress { from: pair.key.clone(), pair: pair.facts.clone() }, *at);
        }
        let number = to.by_id[&facts.id];
        for note in notes {
            to.add_note(number, note);
        }
        if !progress.iter().map(|(_, at)| *at).chain([at]).all(|at| to.segments.holds(at)) {
            cut_off.push(facts.id);
        }
    }
    let (draining, buries) = from.segments.graves();
    to.segments.restore_graves(&draining, &buries);
    (to, cut_off)
}

/// All that is in an index but the tokens of leases, whatever its numbers of sites are.
fn picture(index: &Index) -> String {
    let mut text = String::new();
    for message in index.messages_after(None) {
        writeln!(text, "{:?} notes {:?}", message.facts(), message.notes()).expect("memory");
    }
    let name = |site: u32| index.sites[site as usize].name.clone();
    let orders: BTreeMap<_, _> = index.sites.iter().map(|site| (&site.name, &site.order)).collect();
    let orders: Vec<_> = orders.into_iter().filter(|(_, order)| order.first_time().is_some()).collect();
    let due_sites: BTreeMap<_, _> = index.due_sites.iter().map(|(time, site)| (name(*site), time)).collect();
    let moved: BTreeMap<_, _> = index.moved.iter().map(|(pair, key)| (pair, name(*key))).collect();
    let counts = [index.message_count(), index.pair_count, index.waiting_count, index.held_count];
    writeln!(text, "{orders:?}\n{due_sites:?}\n{moved:?}\n{counts:?}\n{:?}", index.segments).expect("memory");
    text
}

#[test]
fn an_index_from_a_snapshot_is_the_one_that_applying_makes() {
    let (mut cut_offs, mut moves) = (0, 0);
    for seed in 0..200 {
        let storage = Arc::new(SimStorage::new());
        storage.make_directory(SNAPSHOTS.as_ref()).expect("it works");
        for epoch in 1..=SEGMENTS {
            storage.create(Path::new(&format!("{epoch}"))).expect("it works");
        }
        let mut history = History { rng: fastrand::Rng::with_seed(seed), end: (1, 0) };
        let mut index = empty(&storage, 0, 0);
        index.recovered();
        for _ in 0..history.rng.u32(..300) {
            history.step(&mut [&mut index]);
        }
        moves += index.moved.len();
        let shared = Shared::new(storage.clone(), SegmentSettings::default(), index, false);
        snapshot::write(&shared).expect("it works");

        let (gone, short) = (history.rng.u64(..2 * SEGMENTS), history.rng.u64(..2 * SEGMENTS));
        let (mut slow, slow_cut_off) = {
            let index = super::super::lock(&shared.index);
            one_by_one(&index, empty(&storage, gone, short))
        };
        let saved = snapshot::read(&*storage, 0, empty(&storage, gone, short)).expect("it works");
        let saved = saved.expect("it proves itself");
        let mut quick = saved.index;
        assert_eq!(picture(&quick), picture(&slow), "seed {seed}");
        assert_eq!(saved.cut_off, slow_cut_off, "seed {seed}");
        cut_offs += slow_cut_off.len();

        // And they stay the same.
        let last = quick.segments.iter().map(|(_, segment)| segment.epoch).max().expect("three are there");
        history.end = (last, 30_000);
        for _ in 0..60 {
            history.step(&mut [&mut quick, &mut slow]);
            assert_eq!(picture(&quick), picture(&slow), "seed {seed}");
        }
        assert_eq!(quick.settle_moves(), slow.settle_moves(), "seed {seed}");
        assert_eq!(picture(&quick), picture(&slow), "seed {seed}");
        for now in 0..8 {
            let due = [&mut quick, &mut slow].map(|index| {
                let (leases, next) = index.due(now, usize::MAX, |_| 2);
                // Sites with the same first time come in the order of their numbers.
                (leases.into_iter().map(|lease| (lease.site, lease.id)).collect::<BTreeSet<_>>(), next)
            });
            assert_eq!(due[0], due[1], "seed {seed}");
        }
    }
    assert!(cut_offs > 100 && moves > 100, "{cut_offs} {moves}");
}

#[test]
fn a_snapshot_that_lies_does_no_harm() {
    let storage = Arc::new(SimStorage::new());
    storage.make_directory(SNAPSHOTS.as_ref()).expect("it works");
    for epoch in 1..=SEGMENTS {
        storage.create(Path::new(&format!("{epoch}"))).expect("it works");
    }
    let mut history = History { rng: fastrand::Rng::with_seed(1), end: (1, 0) };
    let mut index = empty(&storage, 0, 0);
    for _ in 0..200 {
        history.step(&mut [&mut index]);
    }
    let shared = Shared::new(storage.clone(), SegmentSettings::default(), index, false);
    snapshot::write(&shared).expect("it works");
    let file = storage.open(&Path::new(SNAPSHOTS).join("0000000000000000.snapshot")).expect("it is there");
    let mut octets = vec![0; usize::try_from(file.octets().expect("it works")).expect("it is small")];
    file.read_at(0, &mut octets).expect("it works");
    let (said, _) = octets.split_at(octets.len() - 4);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut said = said.to_vec();
        for _ in 0..history.rng.usize(1..4) {
            let place = history.rng.usize(8..said.len());
            said[place] = history.rng.u8(..);
        }
        // It proves itself all the same: whoever wrote it was wrong.
        let sum = crc32c::crc32c(&said);
        file.write_at(0, &[IoSlice::new(&said), IoSlice::new(&sum.to_le_bytes())]).expect("it works");
        match snapshot::read(&*storage, 0, empty(&storage, 0, 0)).expect("it works") {
            Some(mut saved) => {
                for _ in 0..20 {
                    history.step(&mut [&mut saved.index]);
                }
            }
            None => refused += 1,
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn what_no_index_can_be_is_refused() {
    let storage = SimStorage::new();
    storage.create(Path::new("1")).expect("it works");
    let mut index = Index::new();
    index.segments.add(1, storage.open(Path::new("1")).expect("it is there"), 1000, Use::Written);
    let mut restoring = Restoring::new(index);
    assert_eq!(restoring.add_site(&"one".into()), Some(()));
    let place = DiskPlace { epoch: 1, offset: 0, octets: 100 };
    let message = |id| {
        let id = QueueId::from_u128(id);
        SavedMessage { id, place, octets: 1, recipients: 1, held: false, in_file: false, priority: 0 }
    };
    let pair = |site| SavedPair { site, next_attempt: 1, attempts: 0, waiting: 1, progress: None };
    assert_eq!(restoring.add_message(&message(5), &[pair(0)], &[]), Some(()));
    assert_eq!(restoring.add_message(&message(5), &[pair(0)], &[]), None, "the same again");
    assert_eq!(restoring.add_message(&message(4), &[pair(0)], &[]), None, "not by arrival");
    assert_eq!(restoring.add_message(&message(6), &[pair(1)], &[]), None, "a site without a name");
    assert_eq!(restoring.add_message(&message(7), &[pair(0), pair(0)], &[]), None, "two pairs of one name");
    assert_eq!(restoring.add_site(&"one".into()), None, "a site named twice");
}
