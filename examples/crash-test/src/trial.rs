//! What clients, sink and killer share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::account::Account;
use crate::mailing::Mailing;

/// A trial of the program, from its first start to its last.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) mailing: Mailing,
    /// Everything that the trial leaves on disk.
    pub(crate) directory: PathBuf,
    began: Instant,
    account: Mutex<Account>,
    /// Which life of the program this is.
    run: AtomicUsize,
    /// The number of the next message.
    next: AtomicU64,
    /// Messages that were sent and are not under way any more.
    answered: AtomicU64,
    /// Messages from this number on are not sent.
    end: AtomicU64,
    /// How many recipients may be acknowledged and not settled before clients pause.
    backlog: AtomicU64,
}

impl Trial {
    /// Nothing has happened yet, and nothing is sent before [`Trial::send_up_to`].
    pub(crate) fn new(mailing: Mailing, directory: PathBuf, in_flight: u32) -> Self {
        Self {
            mailing,
            directory,
            began: Instant::now(),
            account: Mutex::new(Account::new(in_flight)),
            run: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            end: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
        }
    }

    /// Milliseconds since the beginning: 49 days of them fit.
    pub(crate) fn now(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    /// The account, for a moment.
    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run that is on.
    pub(crate) fn run(&self) -> usize {
        self.run.load(Ordering::Acquire)
    }

    /// The program is about to be started.
    pub(crate) fn start(&self, run: usize) {
        self.account().start(run, self.now());
        self.run.store(run, Ordering::Release);
    }

    /// Clients may send messages below that number, while no more than `backlog` recipients wait.
    pub(crate) fn send_up_to(&self, end: u64, backlog: u64) {
        self.backlog.store(backlog, Ordering::Release);
        self.end.store(end, Ordering::Release);
    }

    /// A message got its answer, or none.
    pub(crate) fn answer(&self) {
        self.answered.fetch_add(1, Ordering::AcqRel);
    }

    /// How many messages did.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// The number of the next message, which then belongs to the caller; `None` where nothing is to be sent now.
    pub(crate) fn take_number(&self) -> Option<u64> {
        let end = self.end.load(Ordering::Acquire);
        let mut account = self.account();
        if account.waiting() >= self.backlog.load(Ordering::Acquire) {
            return None;
        }
        let number = self.next.load(Ordering::Acquire);
        if number >= end {
            return None;
        }
        // Under the lock of the account, so nobody else takes the same one.
        self.next.store(number + 1, Ordering::Release);
        account.send(number, self.mailing.recipients(number));
        Some(number)
    }
}
