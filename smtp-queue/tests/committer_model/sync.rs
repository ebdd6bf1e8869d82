//! What `inbox.rs` is made of, moved by loom.

pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
pub(super) use std::sync::PoisonError;

// Counting references changes nothing that is modelled; loom's own would only make more schedules.
use std::sync::Arc;

/// A channel for one value.
pub(super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Empty), bell: Condvar::new() });
    (Sender(Some(slot.clone())), Receiver(slot))
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Empty,
    Full(T),
    /// Nothing will come any more.
    Gone,
}

impl<T> Slot<T> {
    fn settle(&self, to: State<T>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(matches!(*state, State::Empty), "answered twice");
        *state = to;
        drop(state);
        self.bell.notify_one();
    }
}

/// The end that answers; empty once it has.
#[derive(Debug)]
pub(super) struct Sender<T>(Option<Arc<Slot<T>>>);

impl<T> Sender<T> {
    #[expect(clippy::unnecessary_wraps, reason = "the channel in its place can fail")]
    pub(super) fn send(mut self, value: T) -> Result<(), T> {
        self.0.take().expect("it sends once").settle(State::Full(value));
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // A schedule that broke a law is at its end: no thread moves any more, and no lock works.
        if let Some(slot) = self.0.take().filter(|_| !std::thread::panicking()) {
            slot.settle(State::Gone);
        }
    }
}

/// The end that waits.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Slot<T>>);

/// The other end has gone.
#[derive(Debug)]
pub(super) struct Gone;

impl<T> Receiver<T> {
    pub(super) fn wait(self) -> Result<T, Gone> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *state, State::Gone) {
                State::Full(value) => return Ok(value),
                State::Gone => return Err(Gone),
                State::Empty => {
                    *state = State::Empty;
                    state = self.0.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// A bell that remembers one ring, for an inbox with a fault.
pub(super) struct Bell {
    state: Mutex<(bool, bool)>,
    bell: Condvar,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new((false, false)), bell: Condvar::new() }
    }

    pub(super) fn ring(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        self.bell.notify_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.bell.notify_all();
    }

    /// Until it rings; `false` where it is closed.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.0 && !state.1 {
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.0)
    }
}
