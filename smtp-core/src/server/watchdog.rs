//! Names hooks that do not give their thread back: they cannot be ended from outside.

use std::cell::OnceCell;
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
    pub(crate) since: Instant,
    pub(crate) allowed: Duration,
}

type Slot = Mutex<Option<Running>>;

static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

thread_local! {
    static MINE: OnceCell<Arc<Slot>> = const { OnceCell::new() };
}

/// Runs `work` with the note that this thread is running that hook.
pub(crate) fn watched<T>(running: Running, work: impl FnOnce() -> T) -> T {
    let slot = MINE.with(|mine| mine.get_or_init(register).clone());
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    let result = work();
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
    result
}

fn register() -> Arc<Slot> {
    let slot = Arc::new(Slot::default());
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
            loop {
                std::thread::sleep(TICK);
                look();
            }
        });
    });
}

fn look() {
    let slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for slot in slots.iter().filter_map(Weak::upgrade) {
        // Taken out so that it is named once.
        let late = {
            let mut running = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if running.as_ref().is_some_and(|running| running.since.elapsed() > running.allowed) {
                running.take()
            } else {
                None
            }
        };
        if let Some(running) = late {
            let failure = HookFailure::Blocks(running.since.elapsed());
            let hook = running.hooks.name(running.stage, running.policy);
            running.hooks.observe(&running.connection, || SessionEvent::HookFailed {
                stage: running.stage,
                hook,
                failure,
            });
        }
    }
}
