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
    /// How many pieces were handed over, how many of them may be taken, and how many are taken. Never less again.
    submitted: u64,
    ready: u64,
    taken: u64,
    is_closed: bool,
}

impl<W, A> State<W, A> {
    fn has_ready(&self) -> bool {
        self.ready > self.taken
    }

    fn make_all_ready(&mut self) {
        self.ready = self.submitted;
    }
}

/// Lets the one who writes take everything that waits, when it is dropped, unless another one has let it take this piece
/// already. Whoever hands work over may keep it for a moment, so that others come into the same batch; it must not be
/// kept for long.
#[derive(Debug)]
#[must_use]
pub(super) struct Ring<'a, W, A> {
    inbox: &'a Inbox<W, A>,
    /// The number of the piece.
    piece: u64,
}

impl<W, A> Drop for Ring<'_, W, A> {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        if state.ready >= self.piece {
            return;
        }
        let was_ready = state.has_ready();
        state.make_all_ready();
        drop(state);
        // Whoever takes from it takes until nothing is ready before it waits again.
        if !was_ready {
            self.inbox.bell.notify_one();
        }
    }
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
        let state = State { waiting: VecDeque::new(), submitted: 0, ready: 0, taken: 0, is_closed: false };
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    /// Hands work over: where the answer will come, or an error where the one who writes has gone. `None` where no more
    /// is taken. The work is taken when the ring is dropped, or another one is.
    pub(super) fn submit(&self, work: W) -> Option<(Receiver<A>, Ring<'_, W, A>)> {
        let (answer, receiver) = channel();
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        state.waiting.push_back(Waiting { work, answer });
        state.submitted += 1;
        Some((receiver, Ring { inbox: self, piece: state.submitted }))
    }

    /// No more work is taken; what waits is still done.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.make_all_ready();
        drop(state);
        self.bell.notify_all();
    }

    /// The one who writes has gone: no more work is taken, and whoever waits is told.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let left = std::mem::take(&mut state.waiting);
        state.make_all_ready();
        state.taken = state.submitted;
        drop(state);
        drop(left);
    }

    /// Whether work can be taken.
    pub(super) fn has_work(&self) -> bool {
        self.lock().has_ready()
    }

    /// Waits for work; `false` where there will be none.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        while !state.has_ready() && !state.is_closed {
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.has_ready()
    }

    /// Takes what came first of what is ready, up to so many octets, and at least one piece.
    pub(super) fn take(&self, limit_octets: u64, octets_of: impl Fn(&W) -> u64) -> VecDeque<Waiting<W, A>> {
        let mut state = self.lock();
        let mut octets = 0;
        let mut within = |next: &Waiting<W, A>| {
            octets += octets_of(&next.work);
            octets <= limit_octets
        };
        let ready = usize::try_from(state.ready - state.taken).unwrap_or(usize::MAX);
        let count = state.waiting.iter().take(ready).take_while(|next| within(next)).count().max(1).min(ready);
        state.taken += count as u64;
        state.waiting.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<W, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
