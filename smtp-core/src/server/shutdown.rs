//! How a server stops, and who is still there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;

/// How far the shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not begun.
    Serve = 0,
    /// Transactions finish, nothing new begins.
    Finish = 1,
    /// Sessions end between two commands.
    End = 2,
}

/// Shared by all connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    phase: AtomicU8,
    changed: Notify,
    connections: AtomicUsize,
    gone: Notify,
    wakers: Mutex<HashMap<usize, Waker>>,
    next_key: AtomicUsize,
}

impl Shutdown {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serve,
            1 => Phase::Finish,
            _ => Phase::End,
        }
    }

    /// Goes on to `phase`, never back, and wakes everybody.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.changed.notify_waiters();
        self.wake_all();
    }

    /// Wakes every connection that waits.
    pub(crate) fn wake_all(&self) {
        for waker in self.wakers.lock().unwrap_or_else(PoisonError::into_inner).values() {
            waker.wake_by_ref();
        }
    }

    pub(crate) async fn reached(&self, phase: Phase) {
        loop {
            let changed = self.changed.notified();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Until there is no connection and no delivery.
    pub(crate) async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.connections() == 0 {
                return;
            }
            gone.await;
        }
    }

    /// Notes that somebody is there.
    pub(crate) fn join(self: &Arc<Self>) -> Presence {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Presence { shutdown: self.clone(), key: self.next_key.fetch_add(1, Ordering::Relaxed), waker: None }
    }
}

/// Somebody whom a shutdown waits for, until dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    shutdown: Arc<Shutdown>,
    key: usize,
    waker: Option<Waker>,
}

impl Presence {
    pub(crate) fn phase(&self) -> Phase {
        self.shutdown.phase()
    }

    /// Asks to be woken when the phase changes. Costs nothing while the waker stays the same.
    pub(crate) fn wake_on_change(&mut self, waker: &Waker) {
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.waker = Some(waker.clone());
            self.shutdown.wakers.lock().unwrap_or_else(PoisonError::into_inner).insert(self.key, waker.clone());
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.waker.is_some() {
            self.shutdown.wakers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
        if self.shutdown.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shutdown.gone.notify_waiters();
        }
    }
}
