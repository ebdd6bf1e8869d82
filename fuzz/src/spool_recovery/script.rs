//! Builds a real spool, operation by operation, and remembers what must be in it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{Content, Mailbox, Reply, ReplyCode, ReversePath, SafeText};
use smtp_queue::{
    Change, Diagnosis, Envelope, Lease, NewContent, NewMessage, NewProgress, Progress, QueueId, RecoveryReport, Room,
    SegmentSettings, SegmentSpool, Spool, SpoolError,
};

use super::choices::Choices;
use super::memory::{Image, MemoryStorage};

const SITES: [&str; 5] = ["local", "smtp:[192.0.2.1]:25", "smtp:[192.0.2.2]:25", "lmtp", "elsewhere"];
/// Each takes a turn of the committer or more; a script beyond is not a better one.
const STEPS: usize = 300;
/// How many earlier states of the files are remembered.
const IMAGES: usize = 4;

/// Small ones, so that a short script fills several segments.
pub(super) fn settings() -> SegmentSettings {
    let mut settings = SegmentSettings::default();
    settings.segment_octets = Some(16 << 10);
    settings.content_octets = 1 << 10;
    settings.batch_octets = 4 << 10;
    settings.snapshot_octets = 48 << 10;
    settings.reserve_octets = Some(0);
    settings.reserve_inodes = 0;
    settings.kept_segments = 1;
    settings.first_epoch = Some(1);
    settings
}

/// What must be known of a message.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) envelope: Arc<Envelope>,
    pub(super) content: Vec<u8>,
    pub(super) held: bool,
    /// What remains, by site; nothing where the message is gone.
    pub(super) progress: BTreeMap<String, Progress>,
    /// Every progress that was ever recorded.
    pub(super) history: Vec<Progress>,
}

/// A spool under test, and what must be in it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) storage: Arc<MemoryStorage>,
    pub(super) spool: SegmentSpool,
    pub(super) known: BTreeMap<QueueId, Known>,
    /// The files as they were now and then, for blocks that come back.
    pub(super) images: Vec<Image>,
    next: u64,
}

/// Something to be done, with its lease where it needs one.
enum Step {
    Put(NewMessage),
    Record(Lease, Change),
    Remove(QueueId),
    Hold(QueueId, bool),
    Reschedule(QueueId, SystemTime),
}

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

/// Runs a future of a spool whose committer the caller drives.
pub(super) fn now<T>(spool: &SegmentSpool, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => assert!(spool.commit_step(), "it waits for nothing"),
        }
    }
}

impl Script {
    /// Opens a spool on these files. What is in it is not known.
    pub(super) fn open(image: &Image, first: u64) -> (Self, RecoveryReport) {
        let storage = MemoryStorage::of(image);
        let (spool, report) = SegmentSpool::open_manual(storage.clone(), settings()).expect("every file can be read");
        (Self { storage, spool, known: BTreeMap::new(), images: Vec::new(), next: first }, report)
    }

    /// Runs operations until there are no choices left, or the octet that ends them.
    pub(super) fn run(&mut self, choices: &mut Choices<'_>) {
        let mut interval = 8;
        for step in 0..STEPS {
            if choices.is_empty() {
                return;
            }
            match choices.next() % 32 {
                0 => return,
                1 => self.spool.write_snapshot(),
                2 => self.reopen(),
                3..=6 => self.churn(choices),
                number => {
                    let together = if number < 14 { 1 } else { 1 + choices.below(6) };
                    let mut steps: Vec<Step> = Vec::with_capacity(together);
                    for _ in 0..together {
                        steps.extend(self.step(choices, &steps));
                    }
                    self.carry_out(steps);
                }
            }
            if step == interval {
                interval *= 2;
                self.images.truncate(IMAGES - 1);
                self.images.insert(0, self.storage.image());
            }
        }
    }

    /// Closes the spool and opens it again: nothing is damaged.
    pub(super) fn reopen(&mut self) {
        let (mut opened, report) = Self::open(&self.storage.image(), self.next);
        assert_eq!((report.damage, report.torn_tail), (Vec::new(), false));
        std::mem::swap(&mut self.known, &mut opened.known);
        std::mem::swap(&mut self.images, &mut opened.images);
        *self = opened;
        self.is_as_it_was();
    }

    fn is_as_it_was(&self) {
        let listed = now(&self.spool, self.spool.list(None, usize::MAX)).expect("it works");
        for (id, known) in &self.known {
            let listed = listed.iter().find(|listed| listed.id == *id);
            assert_eq!(listed.is_some(), !known.progress.is_empty(), "{id} came or went with the end of the process");
            let Some(listed) = listed else { continue };
            let shown = now(&self.spool, self.spool.show(*id)).expect("it is whole").expect("it is listed");
            let progress = shown.progress.into_iter().map(|progress| (progress.site.to_string(), progress));
            assert_eq!(progress.collect::<BTreeMap<_, _>>(), known.progress);
            assert_eq!((listed.held, shown.envelope), (known.held, known.envelope.clone()));
        }
    }

    /// Messages that come and go, so that segments are used again.
    fn churn(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..4 + choices.below(12) {
            let message = self.message(&[0], 900);
            let id = message.envelope.id;
            self.carry_out(vec![Step::Put(message)]);
            self.carry_out(vec![Step::Remove(id)]);
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>, others: &[Step]) -> Option<Step> {
        let choice = choices.next();
        if choice % 8 < 2 || self.spool.totals().messages < 2 {
            let sites: Vec<usize> = (0..=choices.below(3)).map(|place| (place + usize::from(choice)) % 5).collect();
            let octets = if choice % 16 == 1 { 1024 + choices.below(4096) } else { choices.below(900) };
            return Some(Step::Put(self.message(&sites, octets)));
        }
        let alive: Vec<_> = self.known.iter().filter(|(_, known)| !known.progress.is_empty()).collect();
        let &(&id, known) = alive.get(choices.below(alive.len()))?;
        let held = known.held;
        let is_alone = others.iter().all(|other| other.id() != id);
        match choice % 8 {
            2 if is_alone => Some(Step::Remove(id)),
            3 if is_alone => Some(Step::Hold(id, !held)),
            4 if is_alone => Some(Step::Reschedule(id, at(choices.next().into()))),
            kind => self.outcome(kind, choices, others),
        }
    }

    /// What came of an attempt at whatever is due.
    fn outcome(&mut self, kind: u8, choices: &mut Choices<'_>, others: &[Step]) -> Option<Step> {
        let mut due = now(&self.spool, self.spool.due(at(1 << 30), &Room::anywhere(1))).expect("it is whole");
        let lease = due.leases.pop()?;
        let is_alone = others.iter().all(|other| other.id() != lease.id);
        if others.iter().any(|other| other.id() == lease.id && !matches!(other, Step::Record(..))) {
            now(&self.spool, self.spool.give_back(lease));
            return None;
        }
        let all = &self.known[&lease.id].progress;
        let mut progress = all[&*lease.site].clone();
        progress.attempts += 1;
        progress.last_attempt = Some(at(choices.next().into()));
        progress.next_attempt = at(300 + u64::from(choices.next()));
        let text = format!("later, {}", progress.attempts);
        let reply = Reply::bare(ReplyCode::new(451).expect("valid"), text);
        let remote = Some(SafeText::new("mx.example [192.0.2.1]"));
        progress.waiting[0].last = Some(Diagnosis { reply, remote });
        if kind == 5 && is_alone {
            let free = SITES.iter().find(|site| !all.contains_key(**site)).expect("a message has at most three");
            progress.site = (*free).into();
        }
        let caused = if kind == 6 { vec![self.message(&[1], 300)] } else { Vec::new() };
        let progress = if kind < 6 { Some(progress) } else { None };
        Some(Step::Record(lease, Change { progress, caused }))
    }

    /// A message that was not there before.
    pub(super) fn message(&mut self, sites: &[usize], octets: usize) -> NewMessage {
        self.next += 1;
        let number = self.next;
        let id = QueueId::from_u128(u128::from(number) << 64 | 7);
        let sender = ReversePath::parse(format!("<sender{number}@client.example>")).expect("valid");
        let mut envelope = Envelope::new(id, at(number), sender);
        for site in sites {
            envelope = envelope.with_recipient(Mailbox::parse(format!("user{site}@example.org")).expect("valid"));
        }
        let content: Vec<u8> = (0..octets).map(|place| b'a' + ((place as u64 * 7 + number) % 26) as u8).collect();
        let progress = sites.iter().zip(0..).map(|(site, index)| NewProgress {
            progress: Progress::new(SITES[*site].into(), [index], at(number % 100)),
            lease: false,
        });
        NewMessage {
            envelope: Arc::new(envelope),
            content: NewContent {
                head: Bytes::from(format!("Received: number {number}\r\n")),
                content: Content::new(content),
                skipped_octets: number % 3,
            },
            progress: progress.collect(),
        }
    }

    /// Hands all over before the committer takes a turn, so that they share a batch as far as it goes.
    fn carry_out(&mut self, steps: Vec<Step>) {
        let mut running: Vec<_> = steps.iter().map(|step| step.run(&self.spool)).collect();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            running.retain_mut(|step| match step.as_mut().poll(&mut context) {
                Poll::Ready(result) => {
                    result.expect("there is room, and nothing is damaged");
                    false
                }
                Poll::Pending => true,
            });
            if running.is_empty() {
                break;
            }
            assert!(self.spool.commit_step(), "they wait for nothing");
        }
        drop(running);
        for step in steps {
            self.remember(step);
        }
    }

    /// Takes a message and remembers it.
    pub(super) fn put(&mut self, message: NewMessage) {
        self.carry_out(vec![Step::Put(message)]);
    }

    fn remember(&mut self, step: Step) {
        match step {
            Step::Put(message) => self.remember_message(&message),
            Step::Record(lease, change) => {
                let known = self.known.get_mut(&lease.id).expect("it was leased");
                known.progress.remove(&*lease.site);
                if let Some(progress) = change.progress {
                    known.history.push(progress.clone());
                    known.progress.insert(progress.site.to_string(), progress);
                }
                for message in &change.caused {
                    self.remember_message(message);
                }
            }
            Step::Remove(id) => self.known.get_mut(&id).expect("it is known").progress.clear(),
            Step::Hold(id, held) => self.known.get_mut(&id).expect("it is known").held = held,
            Step::Reschedule(id, time) => {
                let known = self.known.get_mut(&id).expect("it is known");
                for progress in known.progress.values_mut() {
                    progress.next_attempt = time;
                }
                known.history.extend(known.progress.values().cloned());
            }
        }
    }

    fn remember_message(&mut self, message: &NewMessage) {
        let content = message.content.content.to_bytes().expect("in memory");
        let skipped = usize::try_from(message.content.skipped_octets).expect("few").min(content.len());
        let progress = message.progress.iter().map(|new| (new.progress.site.to_string(), new.progress.clone()));
        let progress: BTreeMap<_, _> = progress.collect();
        let known = Known {
            envelope: message.envelope.clone(),
            content: [&message.content.head[..], &content[skipped..]].concat(),
            held: false,
            history: progress.values().cloned().collect(),
            progress,
        };
        self.known.insert(message.envelope.id, known);
    }
}

impl Step {
    fn id(&self) -> QueueId {
        match self {
            Self::Put(message) => message.envelope.id,
            Self::Record(lease, _) => lease.id,
            Self::Remove(id) | Self::Hold(id, _) | Self::Reschedule(id, _) => *id,
        }
    }

    fn run<'a>(&self, spool: &'a SegmentSpool) -> Pin<Box<dyn Future<Output = Result<(), SpoolError>> + 'a>> {
        match self {
            Self::Put(message) => {
                let message = message.clone();
                Box::pin(async move { spool.put(message).await.map(drop) })
            }
            Self::Record(lease, change) => Box::pin(spool.record(lease.clone(), change.clone())),
            Self::Remove(id) => Box::pin({
                let id = *id;
                async move { spool.remove(id).await.map(drop) }
            }),
            Self::Hold(id, held) => Box::pin({
                let (id, held) = (*id, *held);
                async move { spool.set_held(id, held).await.map(drop) }
            }),
            Self::Reschedule(id, time) => Box::pin({
                let (id, time) = (*id, *time);
                async move { spool.reschedule(id, time).await.map(drop) }
            }),
        }
    }
}
