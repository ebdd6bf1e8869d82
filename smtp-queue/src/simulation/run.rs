//! A spool on a simulated storage, in one thread: what is asked of it, what it answers, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::SystemTime;

use bytes::Bytes;

use super::ledger::{Breach, Found, SpoolLedger};
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::{Change, Lease, NewMessage, Spool, SpoolError};
use crate::storage::SimStorage;

/// A kind of spool that works on a storage and moves only when it is told to.
pub trait Subject {
    /// The spool.
    type Spool: Spool;

    /// Opens the spool, and recovers what is there.
    ///
    /// # Errors
    /// Why not, in words.
    fn open(&self, storage: &SimStorage) -> Result<Opened<Self::Spool>, String>;

    /// Does what is to be done next, one batch; `false` where nothing is.
    fn step(&self, spool: &Self::Spool) -> bool;

    /// The newest of the files from which the spool could recover without it as well.
    fn newest_snapshot(&self, files: &[(String, u64)]) -> Option<String>;
}

impl<S: Subject> Subject for &S {
    type Spool = S::Spool;

    fn open(&self, storage: &SimStorage) -> Result<Opened<Self::Spool>, String> {
        (**self).open(storage)
    }

    fn step(&self, spool: &Self::Spool) -> bool {
        (**self).step(spool)
    }

    fn newest_snapshot(&self, files: &[(String, u64)]) -> Option<String> {
        (**self).newest_snapshot(files)
    }
}

/// A spool that was opened.
#[derive(Debug)]
pub struct Opened<S> {
    /// The spool.
    pub spool: Arc<S>,
    /// The damage that it has found, in words.
    pub damaged: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub enum Request {
    /// To keep a message.
    Put(NewMessage),
    /// To record an outcome of a pair whose progress was that.
    Record(Lease, Progress, Change),
    /// To remove a message.
    Remove(QueueId),
    /// To hold a message, or to let it go on.
    SetHeld(QueueId, bool),
    /// To make a message due.
    Reschedule(QueueId, SystemTime),
}

impl Request {
    /// Of which message; `None` for a new one.
    pub fn about(&self) -> Option<QueueId> {
        match self {
            Self::Put(_) => None,
            Self::Record(lease, ..) => Some(lease.id),
            Self::Remove(id) | Self::SetHeld(id, _) | Self::Reschedule(id, _) => Some(*id),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// It is done; these leases were given with it.
    Done(Vec<Lease>),
    /// There is no such message.
    Absent,
    /// It was refused.
    Refused(SpoolError),
}

type Waiting = Pin<Box<dyn Future<Output = Result<Option<Vec<Lease>>, SpoolError>> + Send>>;

/// Something that was asked for and is not answered yet.
struct Flight {
    request: Request,
    future: Waiting,
    answered: Arc<Answered>,
}

/// Notes how many operations there had been when the answer was ready.
struct Answered {
    storage: SimStorage,
    operations: AtomicU64,
}

impl Wake for Answered {
    fn wake(self: Arc<Self>) {
        // Only the first counts.
        let _ = self.operations.compare_exchange(
            u64::MAX,
            self.storage.operation_count(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}

/// An answer, and how many operations the storage had seen when it was given.
#[derive(Debug)]
pub struct Event {
    /// How many operations.
    pub operations: u64,
    /// What was asked for.
    pub request: Request,
    /// What came of it.
    pub answer: Answer,
}

/// A spool at work.
pub struct SpoolRun<S: Subject> {
    subject: S,
    storage: SimStorage,
    spool: Arc<S::Spool>,
    flights: Vec<Flight>,
}

impl<S: Subject> fmt::Debug for SpoolRun<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolRun").field("in_flight", &self.flights.len()).finish_non_exhaustive()
    }
}

/// After so many steps without an answer nobody will give one.
const STEP_LIMIT: usize = 1000;

impl<S: Subject> SpoolRun<S> {
    /// Opens the spool on that storage; the damage that it has found.
    ///
    /// # Errors
    /// [`Breach::Failed`].
    pub fn open(subject: S, storage: SimStorage) -> Result<(Self, Vec<String>), Breach> {
        let Opened { spool, damaged } = subject.open(&storage).map_err(Breach::Failed)?;
        Ok((Self { subject, storage, spool, flights: Vec::new() }, damaged))
    }

    /// The storage.
    pub fn storage(&self) -> &SimStorage {
        &self.storage
    }

    /// The spool.
    pub fn spool(&self) -> &Arc<S::Spool> {
        &self.spool
    }

    /// How many requests wait for an answer.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Asks for something; the answer comes with one of the next steps.
    pub fn ask(&mut self, ledger: &mut SpoolLedger, request: Request) {
        match &request {
            Request::Put(message) => ledger.ask_put(message),
            Request::Record(lease, before, change) => ledger.ask_record(lease.id, before, change),
            Request::Remove(id) => ledger.ask_remove(*id),
            Request::SetHeld(id, held) => ledger.ask_held(*id, *held),
            Request::Reschedule(id, at) => ledger.ask_reschedule(*id, *at),
        }
        let (spool, asked) = (self.spool.clone(), request.clone());
        let future: Waiting = Box::pin(async move {
            let done = |done: bool| done.then(Vec::new);
            match asked {
                Request::Put(message) => spool.put(message).await.map(Some),
                Request::Record(lease, _, change) => spool.record(lease, change).await.map(|()| Some(Vec::new())),
                Request::Remove(id) => spool.remove(id).await.map(|waited| waited.map(|_| Vec::new())),
                Request::SetHeld(id, held) => spool.set_held(id, held).await.map(done),
                Request::Reschedule(id, at) => spool.reschedule(id, at).await.map(done),
            }
        });
        let answered = Arc::new(Answered { storage: self.storage.clone(), operations: AtomicU64::new(u64::MAX) });
        self.flights.push(Flight { request, future, answered });
        // It may be answered at once; that is seen with the next step.
        self.poll_last();
    }

    /// A first poll hands the request over. An answer at once must not be lost, so it is put behind a future of its own.
    fn poll_last(&mut self) {
        let Some(flight) = self.flights.last_mut() else { return };
        let waker = Waker::from(flight.answered.clone());
        if let Poll::Ready(answer) = flight.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            waker.wake();
            flight.future = Box::pin(std::future::ready(answer));
        }
    }

    /// One step of the spool; what was answered, in the order of the answers.
    pub fn step(&mut self) -> (bool, Vec<Event>) {
        let moved = self.subject.step(&self.spool);
        let mut events = Vec::new();
        let mut waiting = Vec::new();
        for mut flight in std::mem::take(&mut self.flights) {
            let waker = Waker::from(flight.answered.clone());
            match flight.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => waiting.push(flight),
                Poll::Ready(answer) => {
                    waker.wake();
                    let operations = flight.answered.operations.load(Ordering::Relaxed);
                    let answer = match answer {
                        Ok(Some(leases)) => Answer::Done(leases),
                        Ok(None) => Answer::Absent,
                        Err(error) => Answer::Refused(error),
                    };
                    events.push(Event { operations, request: flight.request, answer });
                }
            }
        }
        self.flights = waiting;
        events.sort_by_key(|event| event.operations);
        (moved, events)
    }

    /// Waits for something that needs no step, or takes the steps that it needs.
    ///
    /// # Errors
    /// [`Breach::Failed`] where no answer comes.
    pub fn finish<T>(&self, future: impl Future<Output = T>) -> Result<T, Breach> {
        let mut future = std::pin::pin!(future);
        for _ in 0..STEP_LIMIT {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Ok(done);
            }
            self.subject.step(&self.spool);
        }
        Err(Breach::Failed("the spool hangs".to_owned()))
    }

    /// Everything that the spool shows.
    ///
    /// # Errors
    /// [`Breach::Failed`] where it cannot.
    pub fn look(&self) -> Result<BTreeMap<QueueId, Found>, Breach> {
        let failed = |what: &'static str| {
            move |error: SpoolError| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                Breach::Failed(format!("{what}: {error}{}", cause.unwrap_or_default()))
            }
        };
        let listed = self.finish(self.spool.list(None, usize::MAX))?.map_err(failed("it does not list"))?;
        let totals = self.spool.totals();
        let pairs: usize = listed.iter().map(|listed| listed.pairs.len()).sum();
        if (totals.messages, totals.pairs) != (listed.len() as u64, pairs as u64) {
            return Err(Breach::Failed(format!("{totals:?}, but {} messages are listed", listed.len())));
        }
        let (mut found, mut recipients) = (BTreeMap::new(), 0);
        for listed in listed {
            let shown = self.finish(self.spool.show(listed.id))?.map_err(failed("it does not show"))?;
            let shown = shown.ok_or_else(|| Breach::Failed(format!("{} is listed and not shown", listed.id)))?;
            let content = self.finish(self.spool.content(listed.id))?.map_err(failed("it does not read"))?;
            let octets = read(&content).map_err(|error| Breach::Failed(format!("{}: {error}", listed.id)))?;
            if octets.len() as u64 != listed.octets || shown.listed.pairs.len() != shown.progress.len() {
                return Err(Breach::Altered(listed.id, "size"));
            }
            recipients += shown.progress.iter().map(|progress| progress.waiting.len() as u64).sum::<u64>();
            let (held, progress, envelope) = (listed.held, shown.progress, shown.envelope);
            found.insert(listed.id, Found { envelope, content: octets, held, progress });
        }
        if recipients != totals.recipients {
            return Err(Breach::Failed(format!("{totals:?}, but {recipients} recipients wait")));
        }
        Ok(found)
    }
}

fn read(content: &crate::StoredContent) -> std::io::Result<Bytes> {
    let mut octets = Vec::with_capacity(usize::try_from(content.len()).unwrap_or_default());
    while let Some(chunk) = content.chunk(octets.len() as u64, 1 << 20)? {
        octets.extend_from_slice(&chunk);
    }
    Ok(octets.into())
}

impl Event {
    /// Writes down what the answer promises.
    pub fn note(&self, ledger: &mut SpoolLedger) {
        match (&self.answer, &self.request) {
            (Answer::Done(_), Request::Put(message)) => ledger.keep(message.envelope.id),
            (Answer::Done(_), Request::Record(lease, before, change)) => ledger.recorded(lease.id, before, change),
            (Answer::Done(_), Request::Remove(id)) => ledger.removed(*id),
            (Answer::Done(_), Request::SetHeld(id, held)) => ledger.held(*id, *held),
            (Answer::Done(_), Request::Reschedule(id, at)) => ledger.rescheduled(*id, *at),
            // Whether it happened is open.
            (Answer::Refused(_) | Answer::Absent, _) => {}
        }
    }
}
