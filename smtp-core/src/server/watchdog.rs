//! Names hooks that do not give their thread back, which cannot be ended from outside, and lets the others go on.
//!
//! Of the threads of a runtime, one waits for sockets and timers. When work comes it wakes another to take its place, but
//! that one may look too early and fall asleep again; if the work then blocks, nobody waits, and every session stands
//! still. A task from outside wakes one of the sleepers, so the watchdog sends one at each look that finds a hook which
//! still has its thread.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::session::connection::Connection;
use crate::session::event::{HookFailure, SessionEvent, Stage};

use super::hook_set::HookSet;

/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(250);

/// What a thread is running.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) hooks: Arc<HookSet>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) stage: Stage,
    pub(crate) policy: usize,
    pub(crate) allowed: Duration,
}

impl Running {
    fn report(&self, since: Instant) {
        let failure = HookFailure::Blocks(since.elapsed());
        let hook = self.hooks.name(self.stage, self.policy);
        self.hooks.observe(&self.connection, || SessionEvent::HookFailed { stage: self.stage, hook, failure });
    }
}

/// The place of one thread: how many hooks it has entered, and the one it is in.
struct Slot {
    entered: u64,
    running: Option<Running>,
    /// The runtime of this thread, where it has others.
    runtime: Option<Handle>,
}

/// What the watchdog knows of a thread that is in a hook.
struct Seen {
    entered: u64,
    since: Instant,
    is_named: bool,
}

type SharedSlot = Mutex<Slot>;

static SLOTS: Mutex<Vec<Weak<SharedSlot>>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

thread_local! {
    static MINE: OnceCell<Arc<SharedSlot>> = const { OnceCell::new() };
}

/// Runs `work` with the note that this thread is running that hook. Reads no clock: the watchdog has its own.
pub(crate) fn watched<T>(running: Running, work: impl FnOnce() -> T) -> T {
    let slot = MINE.with(|mine| mine.get_or_init(register).clone());
    {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.entered += 1;
        slot.running = Some(running);
    }
    let result = work();
    let left = slot.lock().unwrap_or_else(PoisonError::into_inner).running.take();
    drop(left);
    result
}

fn register() -> Arc<SharedSlot> {
    let runtime = Handle::try_current().ok().filter(|of| of.runtime_flavor() == RuntimeFlavor::MultiThread);
    let slot = Arc::new(Mutex::new(Slot { entered: 0, running: None, runtime }));
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    slots.retain(|other| other.strong_count() > 0);
    slots.push(Arc::downgrade(&slot));
    slot
}

/// Starts the watchdog of this process, once.
pub(crate) fn start() {
    STARTED.call_once(|| {
        // Without the thread, blocking hooks are not named; nothing else changes.
        let _ = std::thread::Builder::new().name("smtp-watchdog".to_owned()).spawn(|| {
            let mut seen = HashMap::new();
            loop {
                std::thread::sleep(TICK);
                look(&mut seen);
            }
        });
    });
}

/// One round. `seen` holds each thread that was inside a hook at the last one.
fn look(seen: &mut HashMap<usize, Seen>) {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut still = HashMap::new();
    for slot in slots.iter().filter_map(Weak::upgrade) {
        let key = Arc::as_ptr(&slot) as usize;
        let (entered, running, runtime) = {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(running) = &slot.running else { continue };
            (slot.entered, running.clone(), slot.runtime.clone())
        };
        let Some(known) = seen.remove(&key).filter(|known| known.entered == entered) else {
            still.insert(key, Seen { entered, since: Instant::now(), is_named: false });
            continue;
        };
        let is_late = known.since.elapsed() > running.allowed;
        if is_late && !known.is_named {
            running.report(known.since);
        }
        still.insert(key, Seen { is_named: is_late, ..known });
        if let Some(runtime) = runtime {
            runtime.spawn(std::future::ready(()));
        }
    }
    *seen = still;
}
