//! A model of the committer: how work and answers change hands, tried under every schedule up to a bound.
//!
//! `inbox.rs` is compiled here once more, with locks that loom moves, so the model runs the very text that the spool
//! runs. Around it stand a log whose segments are used again and a committer in a few lines. The laws: no work is
//! lost, each is answered exactly once, never before its batch is synced; no batch is written before the sync of the
//! one before has returned; what was taken before the spool was closed is answered; nobody waits for ever. The last
//! tests run the real spool on real threads, and take its power away at each answer.
//!
//! loom tries every order of locks, bells and answers in which at most [`PREEMPTIONS`] times a thread loses its turn
//! though it could go on; how often threads wait for each other has no bound. Two writers have three pieces of work,
//! so that a segment is used again, and a committer and somebody who closes run beside them. What loom does not try:
//! a bell that wakes somebody without a ring, and one ring that wakes another than the first who waits.

#[path = "../src/spool/segment/inbox.rs"]
#[allow(dead_code, unreachable_pub, reason = "the model needs a part of it")]
mod inbox;

#[path = "committer_model/sync.rs"]
mod sync;

#[path = "committer_model/log.rs"]
mod log;

#[path = "committer_model/real.rs"]
mod real;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use loom::thread;

use self::inbox::{Inbox, Waiting};
use self::log::ModelLog;
use self::sync::Receiver;

/// How often a schedule takes the turn from a thread that could go on. With three it would take minutes.
const PREEMPTIONS: usize = 2;

/// When the spool is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// While writers come.
    Early,
    /// When all have their answers, so that nothing but the bell wakes the committer.
    Late,
}

/// A way to run the model.
#[derive(Debug, Clone, Copy)]
struct Plan {
    close: Close,
    fault: Fault,
    /// The committer dies behind so many batches.
    dies_behind: Option<u64>,
    /// How many pieces of work each writer has. The first hands all over before it waits, the second one by one.
    works: [u32; 2],
}

/// The last piece may stay behind when the others are taken.
const AT_ONCE: [u32; 2] = [2, 1];
/// The last piece comes behind an answer.
const BY_TURNS: [u32; 2] = [1, 2];
const LATE: Plan = Plan { close: Close::Late, fault: Fault::None, dies_behind: None, works: AT_ONCE };

/// What a writer is told: the batch of its work.
type Answer = u64;

/// How work changes hands; the real inbox, or one with a fault.
trait Handover: Send + Sync + 'static {
    fn submit(&self, work: u32) -> Option<Receiver<Answer>>;
    fn wait(&self) -> bool;
    fn take(&self) -> Vec<Waiting<u32, Answer>>;
    fn close(&self);
    fn abandon(&self);
}

impl Handover for Inbox<u32, Answer> {
    fn submit(&self, work: u32) -> Option<Receiver<Answer>> {
        // The bell rings at once here; the scheduler lets others come in between all the same.
        Self::submit(self, work).map(|(receiver, _ring)| receiver)
    }
    fn wait(&self) -> bool {
        Self::wait(self)
    }
    fn take(&self) -> Vec<Waiting<u32, Answer>> {
        // Two pieces at once, so that some stay behind.
        Self::take(self, 2, |_| 1).into()
    }
    fn close(&self) {
        Self::close(self);
    }
    fn abandon(&self) {
        Self::abandon(self);
    }
}

/// Rings only where it saw nothing waiting, and looks before it hands over: the one who waits may have taken it all in
/// between.
struct RingsLate(Inbox<u32, Answer>, sync::Bell);

impl Handover for RingsLate {
    fn submit(&self, work: u32) -> Option<Receiver<Answer>> {
        let was_empty = !self.0.has_work();
        let (receiver, _ring) = self.0.submit(work)?;
        if was_empty {
            self.1.ring();
        }
        Some(receiver)
    }
    fn wait(&self) -> bool {
        loop {
            if self.0.has_work() {
                return true;
            }
            if !self.1.wait() {
                return self.0.has_work();
            }
        }
    }
    fn take(&self) -> Vec<Waiting<u32, Answer>> {
        Handover::take(&self.0)
    }
    fn close(&self) {
        self.0.close();
        self.1.close();
    }
    fn abandon(&self) {
        self.0.abandon();
    }
}

/// What the model does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    AnswersBeforeSync,
    WritesBeforeSync,
    DropsWork,
    DiesSilently,
}

/// The committer of the spool, without what is in the batches.
fn commit(inbox: &impl Handover, log: &ModelLog, fault: Fault, dies_behind: Option<u64>) {
    let mut batches = 0;
    while inbox.wait() {
        let mut taken = inbox.take();
        if dies_behind == Some(batches) {
            // With work in its hands.
            break;
        }
        let mut work: Vec<u32> = taken.iter().map(|waiting| waiting.work).collect();
        if fault == Fault::DropsWork {
            // It is still answered: only what is in the log tells.
            work.truncate(1);
        }
        let batch = log.write(&work);
        batches += 1;
        if fault == Fault::WritesBeforeSync && inbox.wait() {
            let more = inbox.take();
            let next = log.write(&more.iter().map(|waiting| waiting.work).collect::<Vec<_>>());
            log.sync(next);
            for waiting in more {
                waiting.answer(next);
            }
        }
        if fault == Fault::AnswersBeforeSync {
            for waiting in taken.drain(..) {
                waiting.answer(batch);
            }
        }
        log.sync(batch);
        for waiting in taken {
            waiting.answer(batch);
        }
    }
    if fault != Fault::DiesSilently {
        inbox.abandon();
    }
}

/// Writers, a committer, and somebody who closes, in one schedule. The number of batches.
fn run(inbox: impl Handover, plan: Plan) -> u64 {
    let Plan { close, fault, dies_behind, works } = plan;
    let (inbox, log) = (Arc::new(inbox), Arc::new(ModelLog::new()));
    // No schedule changes inside this lock, so it is none of loom's.
    let answered = Arc::new(Mutex::new(Vec::new()));
    let writers = [0, 1].map(|writer: usize| {
        let (inbox, log, answered) = (inbox.clone(), log.clone(), answered.clone());
        thread::spawn(move || {
            let wait = |(work, receiver): (u32, Receiver<Answer>)| match receiver.wait() {
                Ok(batch) => {
                    log.is_durable(work, batch);
                    answered.lock().expect("nobody panicked").push(work);
                }
                Err(_) => assert!(dies_behind.is_some(), "work {work} was taken and not answered"),
            };
            let first = [0, works[0]][writer];
            let submitted = (first..first + works[writer]).filter_map(|work| Some((work, inbox.submit(work)?)));
            if writer == 0 {
                submitted.collect::<Vec<_>>().into_iter().for_each(wait);
            } else {
                submitted.for_each(wait);
            }
        })
    });
    let closer = thread::spawn({
        let inbox = inbox.clone();
        move || {
            if close == Close::Early {
                inbox.close();
            }
            for writer in writers {
                writer.join().expect("a panic ends the schedule");
            }
            if close == Close::Late {
                inbox.close();
            }
        }
    });
    commit(&*inbox, &log, fault, dies_behind);
    closer.join().expect("a panic ends the schedule");
    let answered = answered.lock().expect("nobody panicked");
    log.holds_exactly(&answered)
}

/// Tries every schedule up to the bound: the most batches in one.
fn explore(model: impl Fn() -> u64 + Send + Sync + 'static) -> u64 {
    let mut explorer = loom::model::Builder::new();
    // Whatever the environment says.
    explorer.preemption_bound = Some(PREEMPTIONS);
    explorer.max_permutations = None;
    explorer.max_duration = None;
    let most = Arc::new(AtomicU64::new(0));
    let seen = most.clone();
    explorer.check(move || {
        seen.fetch_max(model(), Ordering::Relaxed);
    });
    most.load(Ordering::Relaxed)
}

/// What the first schedule says that breaks a law.
fn broken_law(model: impl Fn() -> u64 + Send + Sync + 'static) -> String {
    match catch_unwind(AssertUnwindSafe(|| explore(model))) {
        Ok(_) => "none".into(),
        Err(panic) => *panic.downcast().expect("its words have arguments"),
    }
}

#[test]
fn the_laws_hold_where_writers_come_while_the_spool_is_closed() {
    let early = Plan { close: Close::Early, ..LATE };
    assert_eq!(explore(move || run(Inbox::new(), early)), 3, "a segment is used again");
}

#[test]
fn the_laws_hold_where_work_stays_behind() {
    assert_eq!(explore(|| run(Inbox::new(), LATE)), 3, "a segment is used again");
}

#[test]
fn the_laws_hold_where_work_comes_behind_an_answer() {
    let by_turns = Plan { works: BY_TURNS, ..LATE };
    assert_eq!(explore(move || run(Inbox::new(), by_turns)), 3, "a segment is used again");
}

#[test]
fn a_committer_that_dies_leaves_nobody_waiting() {
    for batches in 0..3 {
        let dies = Plan { dies_behind: Some(batches), ..LATE };
        assert_eq!(explore(move || run(Inbox::new(), dies)), batches);
    }
}

#[test]
fn planted_faults_are_found() {
    let faults = [
        (Fault::AnswersBeforeSync, "was answered before the sync"),
        (Fault::WritesBeforeSync, "the batch before is not synced"),
        (Fault::DropsWork, "is in no batch"),
    ];
    for (fault, law) in faults {
        let broken = broken_law(move || run(Inbox::new(), Plan { fault, ..LATE }));
        assert!(broken.contains(law), "{fault:?}: {broken}");
    }
    let dies = Plan { fault: Fault::DiesSilently, dies_behind: Some(1), ..LATE };
    let broken = broken_law(move || run(Inbox::new(), dies));
    assert!(broken.contains("deadlock"), "a committer that dies silently: {broken}");
    // With one piece each nobody comes later and rings for those who sleep.
    let one_each = Plan { works: [1, 1], ..LATE };
    let broken = broken_law(move || run(RingsLate(Inbox::new(), sync::Bell::new()), one_each));
    assert!(broken.contains("deadlock"), "a lost wake-up: {broken}");
}
