//! The real spool on real threads: at each answer power fails, and what was acknowledged is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

use smtp_queue::contract::message;
use smtp_queue::{
    Faults, OperationKind, PowerLoss, QueueId, SegmentSpool, SimStorage, Spool, StorageOperation, small_spool,
};

const WRITERS: u128 = 6;
const MESSAGES: u128 = 8;
/// Of the sizes of segments and batches.
const SEED: u64 = 7;

/// Puts messages from several threads, and takes a copy of the storage as power loss leaves it at each answer.
fn answers(faults: Faults) -> (SimStorage, Vec<(QueueId, SimStorage)>) {
    let storage = SimStorage::new();
    let mut settings = small_spool(SEED);
    settings.faults = faults;
    let (spool, _) = SegmentSpool::open(Arc::new(storage.clone()), settings).expect("opens");
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (spool, storage, answers) = (&spool, &storage, &answers);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("made");
                for number in 0..MESSAGES {
                    let message = message(writer * MESSAGES + number, &["one"], 300);
                    let id = message.envelope.id;
                    runtime.block_on(spool.put(message)).expect("taken");
                    let lost = storage.crash(PowerLoss::AllLost);
                    answers.lock().expect("nobody panicked").push((id, lost));
                }
            });
        }
    });
    drop(spool);
    (storage, answers.into_inner().expect("nobody panicked"))
}

fn is_kept(id: QueueId, storage: &SimStorage) -> bool {
    let (spool, _) = SegmentSpool::open_manual(Arc::new(storage.clone()), small_spool(SEED)).expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("made");
    runtime.block_on(spool.list(None, usize::MAX)).expect("works").iter().any(|listed| listed.id == id)
}

#[test]
fn what_is_answered_survives_power_loss_at_that_moment() {
    let (_, answers) = answers(Faults::default());
    assert_eq!(answers.len(), usize::try_from(WRITERS * MESSAGES).expect("few"));
    for (id, storage) in &answers {
        assert!(is_kept(*id, storage), "{id}");
    }
}

#[test]
fn answering_before_the_sync_is_found() {
    let (_, answers) = answers(Faults { acknowledges_before_sync: true, ..Faults::default() });
    assert!(answers.iter().any(|(id, storage)| !is_kept(*id, storage)));
}

#[test]
fn no_batch_is_written_before_the_sync_of_the_one_before() {
    let (storage, _) = answers(Faults::default());
    let mut unsynced: BTreeMap<String, u64> = BTreeMap::new();
    let mut batches = 0;
    for StorageOperation { kind, path, number, .. } in storage.operations() {
        match kind {
            OperationKind::Write if path.starts_with("log/") => {
                assert!(unsynced.is_empty(), "operation {number} writes while {unsynced:?} are not synced");
                unsynced.insert(path.to_string(), number);
                batches += 1;
            }
            OperationKind::Sync => drop(unsynced.remove(&*path)),
            _ => {}
        }
    }
    assert!(unsynced.is_empty());
    let most = usize::try_from(WRITERS * MESSAGES).expect("few");
    assert!((1..=most + 20).contains(&batches), "{batches} batches");
}
