//! Hands work over to the one who writes, and answers back: nothing is lost, each is answered once, nobody waits for ever.
//!
//! Locks and channel come from `super::sync`, so that the model in `tests/committer_model.rs` can compile this very file
//! with locks that try thousands of schedules.

use std::collections::VecDeque;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, Receiver, Sender, channel};

/// Work that waits for the one who writes.
#[derive(Debug)]
pub(super) struct Inbox<W, A> {
    state: Mutex<State<W, A>>,
    bell: Condvar,
}

#[derive(Debug)]
struct State<W, A> {
    waiting: VecDeque<Waiting<W, A>>,
    is_closed: bool,
}

/// A piece of work and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting<W, A> {
    pub(super) work: W,
    answer: Sender<A>,
}

impl<W, A> Waiting<W, A> {
    /// Tells whoever waits. Nobody may: a caller that was dropped has its work done all the same.
    pub(super) fn answer(self, answer: A) {
        let _ = self.answer.send(answer);
    }
}

impl<W, A> Inbox<W, A> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), is_closed: false }), bell: Condvar::new() }
    }

    /// Hands work over: where the answer will come, or an error where the one who writes has gone. `None` where no more
    /// is taken.
    pub(super) fn submit(&self, work: W) -> Option<Receiver<A>> {
        let (answer, receiver) = channel();
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        state.waiting.push_back(Waiting { work, answer });
        // Whoever takes from it takes until it is empty before it waits again.
        if state.waiting.len() == 1 {
            self.bell.notify_one();
        }
        Some(receiver)
    }

    /// No more work is taken; what waits is still done.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.bell.notify_all();
    }

    /// The one who writes has gone: no more work is taken, and whoever waits is told.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        drop(left);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Waits for work; `false` where there will be none.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.is_closed {
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.waiting.is_empty()
    }

    /// Takes what came first, up to so many octets, and at least one piece.
    pub(super) fn take(&self, limit_octets: u64, octets_of: impl Fn(&W) -> u64) -> VecDeque<Waiting<W, A>> {
        let mut state = self.lock();
        let mut octets = 0;
        let mut taken = VecDeque::with_capacity(state.waiting.len().min(256));
        while let Some(next) = state.waiting.front() {
            octets += octets_of(&next.work);
            if octets > limit_octets && !taken.is_empty() {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, State<W, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
