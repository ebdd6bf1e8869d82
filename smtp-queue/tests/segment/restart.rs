//! What a restart must not believe: names that nobody has synced, and octets that somebody sent.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use smtp_core::Content;
use smtp_queue::contract::message;
use smtp_queue::{
    FaultEffect, FaultError, FaultPoint, NewMessage, OperationKind, PowerLoss, QueueId, RecoveryReport,
    SegmentSettings, SegmentSpool, SimStorage, Space, Spool, StorageFault,
};

const SEGMENT: u64 = 64 << 10;

fn open(storage: &SimStorage, first_epoch: Option<u64>) -> (SegmentSpool, RecoveryReport) {
    let mut settings = SegmentSettings::default();
    settings.segment_octets = Some(SEGMENT);
    settings.kept_segments = 0;
    settings.reserve_octets = Some(0);
    settings.reserve_inodes = 0;
    settings.first_epoch = first_epoch;
    SegmentSpool::open_manual(Arc::new(storage.clone()), settings).expect("opens")
}

fn now<T>(spool: &SegmentSpool, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return value,
            Poll::Pending => assert!(spool.commit_step(), "it waits for nothing"),
        }
    }
}

fn is_there(spool: &SegmentSpool, number: u128) -> bool {
    now(spool, spool.show(QueueId::from_u128(number))).expect("it answers").is_some()
}

#[test] // STANDARDS.md C3: what a start builds on is durable, whoever was ended in front of a sync.
fn a_segment_whose_name_was_not_synced_is_not_written_to_before_it_is() {
    let probe = SimStorage::new();
    drop(open(&probe, Some(1)));
    let is_sync = |kind: OperationKind, path: &str| kind == OperationKind::SyncDirectory && path == "log";
    let operations = probe.operations();
    // The last one is of the second of two segments; it fails.
    let sync = operations.iter().rfind(|operation| is_sync(operation.kind, &operation.path)).expect("names are synced");
    let storage = SimStorage::new();
    let point = FaultPoint::Operation(sync.number);
    storage.fail(StorageFault { point, error: FaultError::Io, effect: FaultEffect::None });
    let (spool, _) = open(&storage, Some(1));
    assert!(spool.is_read_only());
    drop(spool);
    // The process ends, and the name is still seen; power has not failed. Then there is no room for another.
    let storage = storage.kill();
    let (spool, _) = open(&storage, Some(1));
    storage.set_space(Space { total_octets: 1 << 30, free_octets: 0, free_inodes: None });
    let mut numbers = Vec::new();
    for number in 1.. {
        if now(&spool, spool.put(message(number, &["one"], 500))).is_err() {
            break;
        }
        numbers.push(number);
    }
    let mut removed = Vec::new();
    for number in numbers {
        if now(&spool, spool.remove(QueueId::from_u128(number))).is_ok() {
            removed.push(number);
        }
        let (again, _) = open(&storage.crash(PowerLoss::AllLost), Some(1));
        let back: Vec<_> = removed.iter().filter(|removed| is_there(&again, **removed)).collect();
        assert!(back.is_empty(), "{back:?} of {} are back", removed.len());
    }
    assert!(!removed.is_empty());
}

/// Octets that say that a message is gone, if they are believed.
fn removal(of: QueueId, epoch: u64, batch: u64) -> Vec<u8> {
    let mut header = vec![0; 48];
    header[..3].copy_from_slice(&[0x53, 0x71, 6]);
    header[8..24].copy_from_slice(&of.as_u128().to_le_bytes());
    header[24..32].copy_from_slice(&epoch.to_le_bytes());
    header[32..40].copy_from_slice(&batch.to_le_bytes());
    let sum = crc32c::crc32c(&header[..44]);
    header[44..].copy_from_slice(&sum.to_le_bytes());
    header
}

const VICTIM: u128 = 9999;

/// Fills segments that will be used again with forged removals for that epoch, and restarts. Whether the victim is there.
fn survives(first_epoch: Option<u64>, target: u64) -> bool {
    let storage = SimStorage::new();
    let (spool, _) = open(&storage, first_epoch);
    now(&spool, spool.put(message(VICTIM, &["one"], 10))).expect("taken");
    for number in 1..=100 {
        let mut content = Vec::new();
        for turn in 0..2 {
            content.extend(removal(QueueId::from_u128(VICTIM), target, (1 << 50) + 2 * number + turn));
            content.extend([b'p'; 1500]);
        }
        let mut new: NewMessage = message(number.into(), &["one"], 10);
        new.content.content = Content::new(content);
        now(&spool, spool.put(new)).expect("taken");
        now(&spool, spool.remove(QueueId::from_u128(number.into()))).expect("removed");
    }
    for number in 200..210 {
        now(&spool, spool.put(message(number, &["one"], 700))).expect("taken");
    }
    let (spool, _) = open(&storage.kill(), first_epoch);
    is_there(&spool, VICTIM)
}

#[test] // SECURITY.md G2: whatever a message holds, it is content and nothing else.
fn content_left_behind_in_a_segment_does_not_pass_for_records() {
    let targets = 2..30;
    assert!(targets.clone().any(|target| !survives(Some(1), target)), "who knows the epoch could do it");
    for target in targets {
        assert!(survives(None, target), "epoch {target}");
    }
}
