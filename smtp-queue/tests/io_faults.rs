//! SECURITY.md T3, STANDARDS.md C7: each I/O operation of a run fails in turn, in every way, and nothing that was
//! acknowledged is lost.

use std::sync::Arc;

use smtp_core::Content;
use smtp_queue::{
    Answer, Breach, Event, FaultEffect, FaultError, FaultPoint, OperationKind, PowerLoss, SegmentSettings, SimStorage,
    SpoolError, SpoolLedger, SpoolRun, StorageFault, StorageOperation, Workload, contents_in_files, small_spool,
};

/// Turns before the process ends, and after another has recovered.
const TURNS: [u32; 2] = [26, 6];
/// How many acknowledgements after a failure are looked at one by one; the others are at the end of the process.
const LOOKS: u32 = 4;

type Run<'a> = SpoolRun<&'a SegmentSettings>;

/// The failure of a run: in which process, at which operation, and how.
#[derive(Debug, Clone, Copy)]
struct Planned {
    process: usize,
    number: u64,
    error: FaultError,
    effect: FaultEffect,
}

/// What a run met.
#[derive(Default)]
struct Met {
    operations: [Vec<StorageOperation>; 2],
    /// Whether it was read-only when the process with the failure ended.
    was_read_only: bool,
    /// Requests that were granted by that process after the failure.
    granted: u32,
    acknowledged: u64,
}

/// One run: a process works and ends, another recovers and works, and at most one operation fails.
struct Trial<'a> {
    settings: &'a SegmentSettings,
    ledger: SpoolLedger,
    workload: Workload,
    planned: Option<Planned>,
    met: Met,
    seed: u64,
    looked: u32,
}

impl<'a> Trial<'a> {
    fn run(
        seed: u64,
        settings: &'a SegmentSettings,
        files: &Arc<[Content]>,
        planned: Option<Planned>,
    ) -> Result<Met, Breach> {
        let (ledger, workload) = (SpoolLedger::default(), Workload::new(seed, files.clone()));
        let mut trial = Self { settings, ledger, workload, planned, met: Met::default(), seed, looked: 0 };
        let mut storage = SimStorage::new();
        for process in 0..2 {
            storage = trial.process(process, &storage)?;
        }
        trial.met.acknowledged = trial.ledger.acknowledged();
        Ok(trial.met)
    }

    /// A process from its start to its end; what it leaves behind.
    fn process(&mut self, process: usize, storage: &SimStorage) -> Result<SimStorage, Breach> {
        let planned = self.planned.filter(|planned| planned.process == process);
        if let Some(Planned { number, error, effect, .. }) = planned {
            storage.set_seed(number);
            storage.fail(StorageFault { point: FaultPoint::Operation(number), error, effect });
        }
        let (mut run, storage_now) = match SpoolRun::open(self.settings, storage.clone()) {
            Ok((run, _)) => (run, storage.clone()),
            // It may refuse to open while something fails; nothing may be lost by that.
            Err(_) if planned.is_some() => {
                self.check(storage.crash(PowerLoss::AllLost))?;
                let again = storage.kill();
                (SpoolRun::open(self.settings, again.clone())?.0, again)
            }
            Err(breach) => return Err(breach),
        };
        let looked = run.look();
        // A read that fails may fail; it was for once.
        let found = if looked.is_err() && planned.is_some() { run.look()? } else { looked? };
        self.ledger.check(&found)?;
        self.ledger.settle(&found);
        self.workload.restart(&found);
        for _ in 0..TURNS[process] {
            let failed = planned.is_some_and(|planned| storage.operation_count() > planned.number);
            self.turn(&mut run, planned.is_some() && failed)?;
        }
        if planned.is_some() {
            self.met.was_read_only = run.spool().is_read_only();
        }
        self.met.operations[process] = storage.operations();
        for loss in [PowerLoss::AllLost, PowerLoss::AllKept, PowerLoss::Journaled(self.seed)] {
            self.check(storage_now.crash(loss))?;
        }
        Ok(storage_now.kill())
    }

    fn turn(&mut self, run: &mut Run<'_>, has_failed: bool) -> Result<(), Breach> {
        self.workload.ask(run, &mut self.ledger);
        let mut events = Vec::new();
        // One step may leave something for the next one, but not for ever.
        for _ in 0..20 {
            events.extend(run.step().1);
            if run.in_flight() == 0 {
                break;
            }
        }
        if run.in_flight() > 0 {
            return Err(Breach::Failed("a request is never answered".to_owned()));
        }
        for event in &events {
            self.judge(run, event)?;
            event.note(&mut self.ledger);
            self.workload.learn(event);
        }
        let granted = events.iter().filter(|event| matches!(event.answer, Answer::Done(_))).count();
        if has_failed {
            self.met.granted += u32::try_from(granted).unwrap_or(u32::MAX);
        }
        // Before the failure all runs are alike, so it is enough that the one without any looks at that.
        let looks = self.planned.is_none() || has_failed && self.looked < LOOKS;
        if granted > 0 && looks {
            self.looked += 1;
            self.check(run.storage().crash(PowerLoss::AllLost))?;
        }
        Ok(())
    }

    fn judge(&self, run: &Run<'_>, event: &Event) -> Result<(), Breach> {
        let Answer::Refused(error) = &event.answer else { return Ok(()) };
        let is_read_only = run.spool().is_read_only();
        match error {
            SpoolError::LeaseLost { .. } | SpoolError::Absent { .. } => Ok(()),
            SpoolError::ReadOnly if !is_read_only => Err(Breach::Failed("read-only, it says, and is not".to_owned())),
            _ if self.planned.is_none() => Err(Breach::Failed(format!("{error}, and nothing has failed"))),
            error if error.is_transient() => Ok(()),
            error => Err(Breach::Failed(format!("a fault became permanent: {error}"))),
        }
    }

    fn check(&self, image: SimStorage) -> Result<(), Breach> {
        let (run, _) = SpoolRun::open(self.settings, image)?;
        self.ledger.check(&run.look()?)
    }
}

fn files() -> (tempfile::TempDir, Arc<[Content]>) {
    let folder = tempfile::tempdir().expect("a directory for temporary files");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let files = runtime.block_on(contents_in_files(folder.path(), &[1500, 4000])).expect("a server takes them");
    (folder, files.into())
}

/// Every error by itself; of what changes the disk, also with everything that may have happened all the same.
fn ways(kind: OperationKind) -> Vec<(FaultError, FaultEffect)> {
    let mut ways: Vec<_> = FaultError::ALL.into_iter().map(|error| (error, FaultEffect::None)).collect();
    if kind.changes() {
        ways.extend(
            [FaultEffect::Part, FaultEffect::Whole, FaultEffect::Forgotten].map(|effect| (FaultError::Io, effect)),
        );
        ways.push((FaultError::NoSpace, FaultEffect::Part));
    }
    ways
}

/// What the spool must do about a failed operation of a process at work, as it documents.
fn check_reaction(planned: &Planned, failed: &StorageOperation, at_start: bool, met: &Met) -> Result<(), String> {
    let in_log = failed.path.starts_with("log");
    let is_sync = matches!(failed.kind, OperationKind::Sync | OperationKind::SyncDirectory);
    let is_full = matches!(planned.error, FaultError::NoSpace | FaultError::Quota);
    if at_start {
        return Ok(());
    }
    if in_log && is_sync && !met.was_read_only {
        return Err("a sync of the log failed and the spool goes on (C7)".to_owned());
    }
    if failed.kind == OperationKind::Write && is_full && met.was_read_only {
        return Err("a full disk made the spool read-only".to_owned());
    }
    if !failed.kind.changes() && met.was_read_only {
        return Err("a failed read made the spool read-only".to_owned());
    }
    if !met.was_read_only
        && met.granted == 0
        && planned.process == 0
        && planned.number + 60 < met.operations[0].len() as u64
    {
        return Err("nothing was granted any more, although it is not read-only".to_owned());
    }
    Ok(())
}

fn shows_everything(met: &Met) -> bool {
    let all: Vec<_> = met.operations.iter().flatten().collect();
    let wanted = [
        // A segment is made, used again; a snapshot is made, read.
        (OperationKind::Create, "log/"),
        (OperationKind::Rename, "log/"),
        (OperationKind::Rename, "snapshots/"),
        (OperationKind::Read, "snapshots/"),
        // Large content is copied, taken without a copy, removed.
        (OperationKind::Create, "incoming/"),
        (OperationKind::Adopt, "incoming/"),
        (OperationKind::Remove, "content/"),
    ];
    wanted.iter().all(|(kind, path)| all.iter().any(|one| one.kind == *kind && one.path.starts_with(path)))
}

#[test] // SECURITY.md T3; STANDARDS.md C7
fn t3_each_operation_fails_in_turn_and_nothing_is_lost() {
    let (_folder, files) = files();
    let clean = |seed| {
        let met = Trial::run(seed, &small_spool(seed), &files, None);
        met.unwrap_or_else(|breach| panic!("seed {seed}, without a fault: {breach}"))
    };
    // The first work that does everything at least once.
    let seed = (1..200).find(|seed| shows_everything(&clean(*seed))).expect("some work does everything");
    let (settings, clean) = (small_spool(seed), clean(seed));
    let mut plans = Vec::new();
    for (process, operations) in clean.operations.iter().enumerate() {
        let first_write = operations.iter().position(|operation| operation.kind == OperationKind::Write);
        for operation in operations {
            let number = operation.number;
            let at_start = process == 1 || first_write.is_none_or(|first| number < first as u64);
            let planned = |(error, effect)| Planned { process, number, error, effect };
            plans.extend(ways(operation.kind).into_iter().map(|way| (planned(way), operation, at_start)));
        }
    }
    let judge = |(planned, operation, at_start): &(Planned, &StorageOperation, bool)| {
        let result = Trial::run(seed, &settings, &files, Some(*planned)).map_err(|breach| breach.to_string());
        let judged = result.and_then(|met| check_reaction(planned, operation, *at_start, &met));
        judged.err().map(|what| format!("{planned:?}, {:?} of {}: {what}", operation.kind, operation.path))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<String> = std::thread::scope(|scope| {
        let parts = plans.chunks(plans.len().div_ceil(threads));
        let work = parts.map(|part| scope.spawn(|| part.iter().filter_map(judge).collect::<Vec<_>>()));
        let work: Vec<_> = work.collect();
        work.into_iter().flat_map(|thread| thread.join().expect("a fault is never a panic")).collect()
    });
    let count = clean.operations.iter().flatten().count();
    println!("operations {count}, failed each {} ways, lost {}", plans.len() / count, found.len());
    assert!(
        found.is_empty(),
        "seed {seed}: {} of them, first:\n{}",
        found.len(),
        found[..found.len().min(20)].join("\n")
    );
    assert!(clean.acknowledged > 15, "{}", clean.acknowledged);
}
