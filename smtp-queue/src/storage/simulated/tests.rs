//! Each trap of the simulation, shown; and a small log that is right, beside others that are not.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;

use super::*;

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn write(file: &dyn StorageFile, offset: u64, octets: &[u8]) {
    file.write_at(offset, &[IoSlice::new(octets)]).expect("nothing fails");
}

/// All files with their octets.
fn contents(storage: &SimStorage) -> BTreeMap<String, Vec<u8>> {
    let read = |(name, octets): (String, u64)| {
        let mut buffer = vec![0; usize::try_from(octets).expect("small")];
        let file = storage.open(path(&name)).expect("it was listed");
        assert_eq!(file.read_at(0, &mut buffer).expect("nothing fails"), buffer.len());
        (name, buffer)
    };
    storage.files().into_iter().map(read).collect()
}

/// What random power losses leave behind.
fn images(storage: &SimStorage, seeds: u64) -> Vec<BTreeMap<String, Vec<u8>>> {
    (0..seeds).map(|seed| contents(&storage.crash(PowerLoss::Random(seed)))).collect()
}

/// A storage with a durable file `log` of two sectors of `a`.
fn with_log() -> (SimStorage, Arc<dyn StorageFile>) {
    let storage = SimStorage::new();
    let file = storage.create(path("log")).expect("new");
    write(&*file, 0, &[b'a'; 1024]);
    file.sync().expect("nothing fails");
    storage.sync_directory(path("")).expect("it is there");
    (storage, file)
}

#[test]
fn a_write_is_durable_only_after_the_sync_of_its_file() {
    let (storage, file) = with_log();
    write(&*file, 0, &[b'b'; 1024]);
    assert_eq!(contents(&storage)["log"], [b'b'; 1024], "the process sees it");
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost))["log"], [b'a'; 1024]);
    assert_eq!(contents(&storage.crash(PowerLoss::AllKept))["log"], [b'b'; 1024]);
    file.sync().expect("nothing fails");
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost))["log"], [b'b'; 1024]);
}

#[test]
fn an_overwrite_is_torn_at_sectors_and_nowhere_else() {
    let (storage, file) = with_log();
    write(&*file, 100, &[b'b'; 800]);
    let mut old_and_new = [[b'a'; 512]; 2];
    old_and_new[0][100..].fill(b'b');
    old_and_new[1][..388].fill(b'b');
    let found: BTreeSet<_> = images(&storage, 200).into_iter().map(|mut files| files.remove("log")).collect();
    let half = |first: &[u8], second: &[u8]| Some([first, second].concat());
    let (a, [b, c]) = ([b'a'; 512], old_and_new);
    assert_eq!(found, BTreeSet::from([half(&a, &a), half(&b, &a), half(&a, &c), half(&b, &c)]));
}

#[test]
fn an_older_version_of_a_sector_may_be_the_one_that_is_kept() {
    let (storage, file) = with_log();
    write(&*file, 0, b"first");
    write(&*file, 0, b"later");
    let found: BTreeSet<_> = images(&storage, 200).into_iter().map(|files| files["log"][..5].to_vec()).collect();
    assert_eq!(found, BTreeSet::from([b"aaaaa".to_vec(), b"first".to_vec(), b"later".to_vec()]));
}

#[test]
fn the_length_may_lag_behind_and_what_was_not_written_is_zeros() {
    let (storage, file) = with_log();
    file.allocate(2048).expect("there is room");
    write(&*file, 1024, &[b'b'; 512]);
    assert_eq!(file.octets().expect("nothing fails"), 2048);
    let tails: BTreeSet<_> = images(&storage, 400).into_iter().map(|files| files["log"][1024..].to_vec()).collect();
    let tail = |first: &[u8], zeros: usize| [first, &vec![0; zeros]].concat();
    let possible = [vec![], tail(&[b'b'; 512], 1024 - 512), tail(&[], 1024)];
    assert_eq!(tails, BTreeSet::from(possible));

    let (storage, file) = with_log();
    write(&*file, 1024, &[b'b'; 512]);
    let number = storage.unsynced()[0].number;
    assert_eq!(contents(&storage.crash(PowerLoss::Short(number)))["log"], [b'a'; 1024]);
}

#[test]
fn what_lay_beyond_a_lost_length_does_not_come_back() {
    let (storage, file) = with_log();
    write(&*file, 1024, &[b'b'; 700]);
    let number = storage.unsynced()[0].number;
    let after = storage.crash(PowerLoss::Short(number));
    let file = after.open(path("log")).expect("its name is durable");
    file.allocate(2048).expect("there is room");
    assert_eq!(contents(&after)["log"][1024..], [0; 1024]);
}

#[test]
fn after_a_while_everything_is_durable_unless_a_failed_sync_forgot_it() {
    let (storage, file) = with_log();
    write(&*file, 0, &[b'b'; 512]);
    storage.fail(StorageFault {
        point: FaultPoint::Next(OperationKind::Sync, 0),
        error: FaultError::Io,
        effect: FaultEffect::Forgotten,
    });
    file.sync().expect_err("it was told to fail");
    write(&*file, 512, &[b'b'; 512]);
    storage.rename(path("log"), path("old")).expect("it is there");
    storage.flush();
    assert_eq!(storage.unsynced(), []);
    let after = contents(&storage.crash(PowerLoss::AllLost));
    assert_eq!(after, BTreeMap::from([("old".to_owned(), [[b'a'; 512], [b'b'; 512]].concat())]));
}

#[test]
fn a_sync_of_the_file_does_not_keep_its_name() {
    let storage = SimStorage::new();
    storage.make_directory(path("content/of")).expect("nothing fails");
    let file = storage.create(path("content/of/new")).expect("new");
    write(&*file, 0, b"octets");
    file.sync().expect("nothing fails");
    assert!(contents(&storage.crash(PowerLoss::AllLost)).is_empty());
    assert_eq!(storage.crash(PowerLoss::AllLost).list(path("content/of")).expect("durable at once"), []);
    storage.sync_directory(path("content")).expect("it is there");
    assert!(contents(&storage.crash(PowerLoss::AllLost)).is_empty(), "another directory was synced");
    storage.sync_directory(path("content/of")).expect("it is there");
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost))["content/of/new"], b"octets");
}

#[test]
fn a_sync_of_the_directory_does_not_keep_octets() {
    let storage = SimStorage::new();
    let file = storage.create(path("new")).expect("new");
    write(&*file, 0, b"octets");
    storage.sync_directory(path("")).expect("it is there");
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost))["new"], b"");
}

#[test]
fn a_rename_is_never_lost_under_both_names_and_both_may_stay() {
    let (storage, _) = with_log();
    storage.rename(path("log"), path("old")).expect("it is there");
    let names = |storage: &SimStorage| contents(storage).into_keys().collect::<Vec<_>>();
    let number = storage.unsynced()[0].number;
    assert_eq!(names(&storage.crash(PowerLoss::AllLost)), ["log"]);
    assert_eq!(names(&storage.crash(PowerLoss::AllKept)), ["old"]);
    assert_eq!(names(&storage.crash(PowerLoss::BothNames(number))), ["log", "old"]);
    storage.rename(path("old"), path("older")).expect("it is there");
    for seed in 0..200 {
        let after = storage.crash(PowerLoss::Random(seed));
        assert!(!names(&after).is_empty(), "seed {seed}");
        assert!(contents(&after).values().all(|octets| *octets == [b'a'; 1024]), "seed {seed}");
    }
    storage.sync_directory(path("")).expect("it is there");
    assert_eq!(names(&storage.crash(PowerLoss::AllLost)), ["older"]);
}

#[test]
fn a_rename_between_directories_is_durable_with_its_new_name() {
    let (storage, _) = with_log();
    storage.make_directory(path("b")).expect("nothing fails");
    let names = |storage: SimStorage| contents(&storage).into_keys().collect::<Vec<_>>();
    storage.rename(path("log"), path("b/log")).expect("both are there");
    let before = storage.kill();
    storage.sync_directory(path("b")).expect("it is there");
    assert_eq!(names(storage.crash(PowerLoss::AllLost)), ["b/log", "log"]);
    assert_eq!(names(storage.crash(PowerLoss::AllKept)), ["b/log"]);
    // To sync where it was takes the old name away, so the new one must stand.
    before.sync_directory(path("")).expect("it is there");
    assert_eq!(names(before.crash(PowerLoss::AllLost)), ["b/log"]);
}

#[test]
fn names_are_lost_in_any_order() {
    let storage = SimStorage::new();
    storage.create(path("first")).expect("new");
    storage.create(path("second")).expect("new");
    let found: HashSet<Vec<_>> = images(&storage, 200).into_iter().map(|files| files.into_keys().collect()).collect();
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn a_removed_file_may_come_back_until_its_directory_is_synced() {
    let (storage, file) = with_log();
    storage.remove(path("log")).expect("it is there");
    assert_eq!(storage.open(path("log")).expect_err("it is gone").kind(), ErrorKind::NotFound);
    let mut octets = [0; 4];
    assert_eq!(file.read_at(0, &mut octets).expect("it is still open"), 4);
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost)).len(), 1);
    storage.sync_directory(path("")).expect("it is there");
    assert!(contents(&storage.crash(PowerLoss::AllLost)).is_empty());
}

#[test]
fn a_file_taken_from_elsewhere_is_durable_after_both_syncs() {
    let folder = tempfile::tempdir().expect("a directory for temporary files");
    let source = folder.path().join("content");
    std::fs::write(&source, [b'x'; 700]).expect("it can be written");
    let storage = SimStorage::new();
    storage.adopt(&source, path("taken")).expect("it is there");
    assert_eq!(storage.adopt(&source, path("taken")).expect_err("the name is taken").kind(), ErrorKind::AlreadyExists);
    assert!(contents(&storage.crash(PowerLoss::AllLost)).is_empty());
    storage.open(path("taken")).expect("it is there").sync().expect("nothing fails");
    storage.sync_directory(path("")).expect("it is there");
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost))["taken"], [b'x'; 700]);
}

#[test]
fn the_end_of_the_process_loses_nothing_and_power_can_still_fail_afterwards() {
    let (storage, file) = with_log();
    write(&*file, 0, b"b");
    let lock = storage.lock().expect("nobody has it");
    assert_eq!(storage.lock().map(drop).expect_err("it is taken").kind(), ErrorKind::WouldBlock);
    let after = storage.kill();
    after.lock().map(drop).expect("its owner is dead");
    after.lock().map(drop).expect("it was given back");
    drop(lock);
    write(&*file, 0, b"c");
    assert_eq!(contents(&after)["log"][0], b'b', "the dead process does not write any more");
    assert_eq!(contents(&after.crash(PowerLoss::AllLost))["log"][0], b'a');
}

#[test] // STANDARDS.md C7
fn c7_a_failed_sync_may_forget_what_the_next_one_does_not_write() {
    let (storage, file) = with_log();
    write(&*file, 0, &[b'b'; 1024]);
    let point = FaultPoint::Next(OperationKind::Sync, 0);
    storage.fail(StorageFault { point, error: FaultError::Io, effect: FaultEffect::Forgotten });
    assert_eq!(file.sync().expect_err("it was told to fail").raw_os_error(), Some(5));
    file.sync().expect("the failure was for once");
    assert_eq!(contents(&storage)["log"], [b'b'; 1024], "the process sees it");
    assert_eq!(contents(&storage.crash(PowerLoss::AllKept))["log"], [b'a'; 1024], "and it was never written");
    // What is written again is durable; its neighbour is not.
    write(&*file, 512, &[b'b'; 512]);
    file.sync().expect("nothing fails");
    assert_eq!(contents(&storage.crash(PowerLoss::AllLost))["log"], [[b'a'; 512], [b'b'; 512]].concat());
}

#[test]
fn each_effect_of_a_failure_is_as_it_says() {
    for effect in FaultEffect::ALL {
        let (storage, file) = with_log();
        storage.set_seed(3);
        let point = FaultPoint::Next(OperationKind::Write, 0);
        storage.fail(StorageFault { point, error: FaultError::NoSpace, effect });
        let error = file.write_at(0, &[IoSlice::new(&[b'b'; 1024])]).expect_err("it was told to fail");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let changed = |storage: &SimStorage| contents(storage)["log"].split(|octet| *octet == b'b').count() - 1;
        let written = changed(&storage);
        match effect {
            FaultEffect::None | FaultEffect::Forgotten => assert_eq!(written, 0),
            FaultEffect::Part => assert!((1..1024).contains(&written), "{written}"),
            FaultEffect::Whole => assert_eq!(written, 1024),
        }
        write(&*file, 0, &[b'b'; 1024]);
        storage.fail(StorageFault { point: FaultPoint::Every(OperationKind::Sync), error: FaultError::Io, effect });
        file.sync().expect_err("it was told to fail");
        let kept = |loss| changed(&storage.crash(loss));
        let expected = match effect {
            FaultEffect::None => [0, 1024],
            FaultEffect::Part => [kept(PowerLoss::AllLost); 2],
            FaultEffect::Whole => [1024, 1024],
            FaultEffect::Forgotten => [0, 0],
        };
        assert_eq!([kept(PowerLoss::AllLost), kept(PowerLoss::AllKept)], expected, "{effect:?}");
        storage.heal();
        file.sync().expect("nothing fails any more");
    }
}

#[test]
fn failures_meet_the_operations_that_they_name() {
    let failing = |point| {
        let (storage, file) = with_log();
        storage.fail(StorageFault { point, error: FaultError::Quota, effect: FaultEffect::None });
        let mut failed = Vec::new();
        for _ in 0..3 {
            failed.push(file.write_at(0, &[IoSlice::new(b"b")]).is_err());
            failed.push(storage.rename(path("log"), path("log")).is_err());
        }
        failed.into_iter().map(u8::from).collect::<Vec<_>>()
    };
    // The file itself took four: create, write, sync, sync of the directory.
    assert_eq!(failing(FaultPoint::Operation(5)), [0, 1, 0, 0, 0, 0]);
    assert_eq!(failing(FaultPoint::From(6)), [0, 0, 1, 1, 1, 1]);
    assert_eq!(failing(FaultPoint::Next(OperationKind::Write, 1)), [0, 0, 1, 0, 0, 0]);
    assert_eq!(failing(FaultPoint::Every(OperationKind::Rename)), [0, 1, 0, 1, 0, 1]);
    assert_eq!(failing(FaultPoint::Operation(0)), [0; 6], "it has been");
}

#[test] // SECURITY.md D-32
fn d32_room_is_taken_and_given_back_and_a_full_disk_takes_a_part() {
    let (storage, file) = with_log();
    storage.set_space(Space { total_octets: 4096, free_octets: 1024, free_inodes: Some(1) });
    let error = file.write_at(512, &[IoSlice::new(&[b'b'; 4096])]).expect_err("there is too little room");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.octets().expect("nothing fails"), 2048);
    assert_eq!(storage.space().expect("nothing fails").free_octets, 0);
    assert_eq!(file.allocate(4096).expect_err("there is no room").kind(), ErrorKind::StorageFull);
    write(&*file, 0, &[b'b'; 2048]);
    storage.create(path("second")).expect("there is room for one name");
    assert_eq!(storage.create(path("third")).map(drop).expect_err("not for two").kind(), ErrorKind::StorageFull);
    storage.rename(path("second"), path("log")).expect("both are there");
    let space = storage.space().expect("nothing fails");
    assert_eq!((space.free_octets, space.free_inodes), (2048, Some(1)));
    assert_eq!(storage.crash(PowerLoss::AllLost).space().expect("nothing fails").free_octets, 1024);
}

#[test]
fn a_turned_bit_is_seen_and_stays() {
    let (storage, _) = with_log();
    let before = storage.image_hash();
    storage.flip(path("log"), 1000, 3).expect("it is there");
    assert_ne!(storage.image_hash(), before);
    for storage in [storage.clone(), storage.crash(PowerLoss::AllLost)] {
        assert_eq!(contents(&storage)["log"][1000], b'a' ^ 8);
    }
    assert_eq!(storage.flip(path("log"), 1024, 0).expect_err("it ends before").kind(), ErrorKind::UnexpectedEof);
    storage.flip(path("log"), 1000, 3).expect("it is there");
    assert_eq!(storage.image_hash(), before);
}

#[test]
fn images_are_told_apart_by_names_and_octets_and_not_by_how_they_came_about() {
    let (one, file) = with_log();
    write(&*file, 0, &[b'b'; 512]);
    file.sync().expect("nothing fails");
    let other = SimStorage::new();
    let file = other.create(path("tmp")).expect("new");
    write(&*file, 0, &[b'b'; 512]);
    write(&*file, 512, &[b'a'; 512]);
    other.rename(path("tmp"), path("log")).expect("it is there");
    let (lost, kept) = (other.crash(PowerLoss::AllLost), other.crash(PowerLoss::AllKept));
    assert_eq!(one.image_hash(), kept.image_hash());
    assert_ne!(one.image_hash(), lost.image_hash());
    kept.rename(path("log"), path("other")).expect("it is there");
    assert_ne!(one.image_hash(), kept.crash(PowerLoss::AllKept).image_hash());
}

#[test]
fn moments_before_each_change_are_kept() {
    let (storage, file) = with_log();
    storage.keep_crash_points();
    write(&*file, 0, &[b'b'; 512]);
    file.sync().expect("nothing fails");
    file.octets().expect("nothing fails");
    let moments = storage.take_crash_points();
    assert_eq!(
        moments
            .iter()
            .map(|moment| (moment.before.as_ref().map(|next| next.kind), moment.unsynced().len()))
            .collect::<Vec<_>>(),
        [(Some(OperationKind::Write), 0), (Some(OperationKind::Sync), 1)]
    );
    assert!(moments[1].unsynced()[0].overwrites && !moments[1].unsynced()[0].grows);
    assert_eq!(contents(&moments[1].crash(PowerLoss::AllLost))["log"], [b'a'; 1024]);
    assert_eq!(contents(&moments[1].crash(PowerLoss::AllKept))["log"][..512], [b'b'; 512]);
    assert!(storage.take_crash_points().is_empty());
}

#[test]
fn paths_stay_beneath_the_root() {
    let storage = SimStorage::new();
    for wrong in ["/etc/passwd", "../beside"] {
        assert_eq!(storage.create(path(wrong)).map(drop).expect_err("outside").kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(storage.create(path("no/directory")).map(drop).expect_err("missing").kind(), ErrorKind::NotFound);
    storage.create(path("./name")).expect("the same as without the dot");
    storage.open(path("name")).expect("it is there");
    assert_eq!(storage.rename(path("none"), path("x")).expect_err("missing").kind(), ErrorKind::NotFound);
}

/// A log of numbered entries, each in a sector of its own, appended one by one.
struct Log {
    file: Arc<dyn StorageFile>,
    entries: u8,
}

/// What a log does not do although it should.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Omitted {
    Nothing,
    Sync,
    SyncOfDirectory,
    Order,
}

impl Log {
    fn open(storage: &SimStorage, omitted: Omitted) -> io::Result<Self> {
        let file = storage.create(path("log.tmp"))?;
        file.write_at(0, &[IoSlice::new(&[b'h'; 512])])?;
        file.sync()?;
        storage.rename(path("log.tmp"), path("log"))?;
        if omitted != Omitted::SyncOfDirectory {
            storage.sync_directory(path(""))?;
        }
        Ok(Self { file, entries: 0 })
    }

    fn append(&mut self, omitted: Omitted) -> io::Result<()> {
        let place = u64::from(self.entries + 1) * 512;
        let entry = [self.entries + 1; 512];
        if omitted == Omitted::Order && self.entries.is_multiple_of(2) {
            // Two entries before one sync, of which the second is acknowledged first.
            self.file.write_at(place + 512, &[IoSlice::new(&[self.entries + 2; 512])])?;
        } else {
            self.file.write_at(place, &[IoSlice::new(&entry)])?;
            if omitted != Omitted::Sync {
                self.file.sync()?;
            }
        }
        self.entries += 1;
        Ok(())
    }

    /// How many entries a recovery finds in a row.
    fn recover(storage: &SimStorage) -> u8 {
        let found = contents(storage);
        let Some(log) = found.get("log").filter(|log| log.starts_with(&[b'h'; 512])) else { return 0 };
        let entries = log[512..].chunks(512).zip(1..).take_while(|(entry, number)| **entry == [*number; 512]);
        u8::try_from(entries.count()).expect("few")
    }
}

#[test]
fn a_right_log_loses_nothing_at_any_crash_and_wrong_ones_are_found() {
    let lost = |omitted| {
        let storage = SimStorage::new();
        storage.keep_crash_points();
        let mut log = Log::open(&storage, omitted).expect("nothing fails");
        let (mut images, mut lost) = (HashSet::new(), 0);
        storage.take_crash_points();
        for acknowledged in 0..6 {
            for moment in storage.take_crash_points() {
                for seed in 0..40 {
                    let after = moment.crash(PowerLoss::Random(seed));
                    images.insert(after.image_hash());
                    lost += u32::from(Log::recover(&after) + 1 < acknowledged);
                }
            }
            let now = storage.crash(PowerLoss::AllLost);
            lost += u32::from(Log::recover(&now) < acknowledged);
            log.append(omitted).expect("nothing fails");
        }
        (images.len(), lost)
    };
    let (images, none) = lost(Omitted::Nothing);
    assert!(images > 10, "{images}");
    assert_eq!(none, 0);
    for omitted in [Omitted::Sync, Omitted::SyncOfDirectory, Omitted::Order] {
        assert!(lost(omitted).1 > 0, "{omitted:?} was not found");
    }
}

#[test]
fn an_overwrite_of_many_sectors_makes_many_images() {
    // 16 segments of 64 KiB, one of them with unsynced writes.
    let storage = SimStorage::new();
    let files: Vec<_> = (0..16_u8)
        .map(|number| {
            let file = storage.create(path(&format!("segment-{number}"))).expect("new");
            write(&*file, 0, &vec![number + 1; 64 << 10]);
            file.sync().expect("nothing fails");
            file
        })
        .collect();
    storage.sync_directory(path("")).expect("it is there");
    write(&*files[3], 4096, &[b'x'; 8192]);
    let images: HashSet<u64> = (0..2000).map(|seed| storage.crash(PowerLoss::Random(seed)).image_hash()).collect();
    assert!(images.len() > 500, "{}", images.len());
}
