//! Names hooks that do not give their thread back: they cannot be ended from outside.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::session::connection::Connection;
use crate::session::event::{HookFailure, SessionEvent, Stage};

use super::hook_set::HookSet;

/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(250);

/// What a thread is running.
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
#[derive(Default)]
struct Slot {
    entered: u64,
    running: Option<Running>,
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
    let slot = Arc::new(SharedSlot::default());
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

/// One round. `seen` holds, for each thread inside a hook, which one and since when.
fn look(seen: &mut HashMap<usize, (u64, Instant)>) {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut still = HashMap::new();
    for slot in slots.iter().filter_map(Weak::upgrade) {
        let key = Arc::as_ptr(&slot) as usize;
        let late = {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(running) = &slot.running else { continue };
            let known = seen.get(&key).filter(|(entered, _)| *entered == slot.entered);
            let since = known.map_or_else(Instant::now, |&(_, since)| since);
            still.insert(key, (slot.entered, since));
            let is_late = since.elapsed() > running.allowed;
            // Taken out so that it is named once.
            if is_late { slot.running.take().map(|running| (running, since)) } else { None }
        };
        if let Some((running, since)) = late {
            running.report(since);
        }
    }
    *seen = still;
}
