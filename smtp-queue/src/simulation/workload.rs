//! Random work for a spool: messages come, are tried, deferred, delivered, held, removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fastrand::Rng;
use smtp_core::{Content, Mailbox, Reply, ReplyCode, ReversePath};

use super::ledger::{Found, SpoolLedger};
use super::run::{Answer, Event, Request, SpoolRun, Subject};
use crate::envelope::{Envelope, SiteName};
use crate::id::{QueueId, QueueIds};
use crate::progress::{Diagnosis, Progress};
use crate::spool::{Change, Lease, NewContent, NewMessage, NewProgress, Room, Spool};

/// Makes work, by a seed.
#[derive(Debug)]
pub struct Workload {
    random: Rng,
    ids: QueueIds,
    now: SystemTime,
    /// What is worked on.
    leases: Vec<(Lease, Progress)>,
    /// What is there, as far as is known, and whether something is asked of it.
    messages: BTreeMap<QueueId, Known>,
    /// How many messages there are on the average.
    wanted: usize,
    files: Arc<[Content]>,
}

#[derive(Debug, Clone)]
struct Known {
    /// Whether it is being removed, held or rescheduled.
    asked: bool,
    rescheduling: bool,
    /// How many outcomes are being recorded.
    records: u32,
    pairs: Vec<Progress>,
}

impl Known {
    fn new(pairs: Vec<Progress>) -> Self {
        Self { asked: false, rescheduling: false, records: 0, pairs }
    }
}

impl Workload {
    /// With a seed; `files` are contents that lie in files, for messages that are taken without copying.
    pub fn new(seed: u64, files: Arc<[Content]>) -> Self {
        let mut random = Rng::with_seed(seed);
        let ids = QueueIds::with_seed(random.u64(..));
        let wanted = random.usize(3..14);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self { random, ids, now, leases: Vec::new(), messages: BTreeMap::new(), wanted, files }
    }

    /// Goes on with what a recovery has found.
    pub fn restart(&mut self, found: &BTreeMap<QueueId, Found>) {
        self.leases.clear();
        let known = |(id, found): (&QueueId, &Found)| (*id, Known::new(found.progress.clone()));
        self.messages = found.iter().map(known).collect();
    }

    /// Asks for a few things.
    pub fn ask<S: Subject>(&mut self, run: &mut SpoolRun<S>, ledger: &mut SpoolLedger) {
        self.now += Duration::from_micros(self.random.u64(1..400_000_000));
        if self.random.u8(..3) == 0 {
            self.take_leases(run);
        }
        for _ in 0..self.random.usize(1..5) {
            if let Some(request) = self.request(run) {
                self.asked(&request);
                run.ask(ledger, request);
            }
        }
    }

    fn take_leases<S: Subject>(&mut self, run: &SpoolRun<S>) {
        let room = Room { others: self.random.usize(1..4), ..Room::anywhere(self.random.usize(1..8)) };
        let Ok(Ok(due)) = run.finish(run.spool().due(self.now, &room)) else { return };
        for lease in due.leases {
            // A pair that is worked on keeps its time, so one that is rescheduled is not worked on.
            if self.messages.get(&lease.id).is_some_and(|known| known.rescheduling) {
                let _ = run.finish(run.spool().give_back(lease));
            } else {
                self.lease(lease);
            }
        }
    }

    fn lease(&mut self, lease: Lease) {
        let pairs = self.messages.get(&lease.id).map(|known| known.pairs.clone()).unwrap_or_default();
        if let Some(progress) = pairs.into_iter().find(|progress| progress.site == lease.site) {
            self.leases.push((lease, progress));
        }
    }

    fn request<S: Subject>(&mut self, run: &SpoolRun<S>) -> Option<Request> {
        let there = self.messages.len();
        let crowd = if there < self.wanted { 40 } else { 10 };
        let roll = self.random.usize(..60 + crowd);
        match roll {
            60.. => Some(Request::Put(self.message(None, 4))),
            0..48 => self.outcome(run),
            48..54 => self.idle().map(Request::Remove),
            54..57 => self.idle().map(|id| Request::SetHeld(id, self.random.bool())),
            _ => {
                // A pair that is worked on keeps its time.
                let id = self.idle().filter(|id| self.messages[id].records == 0)?;
                if self.leases.iter().any(|(lease, _)| lease.id == id) {
                    return None;
                }
                Some(Request::Reschedule(id, self.now + Duration::from_micros(self.random.u64(..600_000_000))))
            }
        }
    }

    /// Some message of which nothing but an outcome is asked yet.
    fn idle(&mut self) -> Option<QueueId> {
        let idle: Vec<_> = self.messages.iter().filter(|(_, known)| !known.asked).map(|(id, _)| *id).collect();
        self.random.choice(idle)
    }

    /// What came of an attempt.
    fn outcome<S: Subject>(&mut self, run: &SpoolRun<S>) -> Option<Request> {
        if self.leases.is_empty() {
            self.take_leases(run);
        }
        if self.leases.is_empty() {
            return None;
        }
        let (lease, before) = self.leases.swap_remove(self.random.usize(..self.leases.len()));
        if self.messages.get(&lease.id).is_some_and(|known| known.rescheduling) {
            run.finish(run.spool().give_back(lease)).ok()?;
            return None;
        }
        let mut progress = before.clone();
        progress.attempts += 1;
        progress.last_attempt = Some(self.now);
        progress.next_attempt = self.now + Duration::from_micros(self.random.u64(1..900_000_000));
        let final_ones = if self.random.u8(..10) < 4 { 100 } else { self.random.u8(..60) };
        progress.waiting.retain(|_| self.random.u8(..100) >= final_ones);
        for waiting in &mut progress.waiting {
            let text = "4.2.0 not now, said a next hop with that many words".get(..self.random.usize(10..50));
            let reply = Reply::bare(ReplyCode::new(451).expect("in the grammar"), text.unwrap_or("later"));
            waiting.last = Some(Diagnosis { reply, remote: None });
        }
        let elsewhere = self.random.u8(..20) == 0;
        if elsewhere {
            progress.site = format!("smtp:[192.0.2.{}]:25", self.random.u8(100..)).into();
        }
        let others = self.messages.get(&lease.id).map(|known| &known.pairs[..]).unwrap_or_default();
        if elsewhere && others.iter().any(|other| other.site == progress.site) {
            progress.site = before.site.clone();
        }
        let caused = if self.random.u8(..8) == 0 { vec![self.message(Some(lease.id), 1)] } else { Vec::new() };
        let progress = (!progress.waiting.is_empty()).then_some(progress);
        Some(Request::Record(lease, before, Change { progress, caused }))
    }

    /// A new message: for a few recipients at a few sites, of any size.
    fn message(&mut self, about: Option<QueueId>, most_sites: usize) -> NewMessage {
        let id = self.ids.next(self.now);
        let sender = format!("sender-{}@example.org", self.random.u16(..));
        let mailbox = |text: &str| text.parse::<Mailbox>().expect("the text is in the grammar");
        let reverse_path = if about.is_some() { ReversePath::Null } else { ReversePath::Mailbox(mailbox(&sender)) };
        let mut envelope = Envelope::new(id, self.now, reverse_path);
        envelope.origin.notification_of = about;
        envelope.sender_confirmed = self.random.bool();
        let mut progress = Vec::new();
        let sites = if self.random.u8(..3) == 0 { self.random.usize(1..=most_sites) } else { 1 };
        let mut index = 0;
        for site in 0..sites {
            let name: SiteName = if site == 0 { "local".into() } else { format!("smtp:[192.0.2.{site}]:25").into() };
            let recipients = self.random.u32(1..4);
            for number in 0..recipients {
                envelope = envelope.with_recipient(mailbox(&format!("recipient-{number}@site-{site}.example")));
            }
            let first = self.now + Duration::from_micros(self.random.u64(..100_000_000));
            let new = Progress::new(name, index..index + recipients, first);
            progress.push(NewProgress { progress: new, lease: self.random.bool() });
            index += recipients;
        }
        let content = self.content();
        self.random.shuffle(&mut progress);
        NewMessage { envelope: Arc::new(envelope), content, progress }
    }

    fn content(&mut self) -> NewContent {
        let content = if !self.files.is_empty() && self.random.u8(..12) == 0 {
            self.files[self.random.usize(..self.files.len())].clone()
        } else {
            let most = *self.random.choice(&[40, 400, 900, 2500]).expect("there are some");
            let seed = self.random.u8(..);
            let octets: Vec<u8> = (0..self.random.usize(..most)).map(|place| seed.wrapping_add(octet(place))).collect();
            Content::new(octets)
        };
        let head = Bytes::from(vec![b'h'; self.random.usize(..80)]);
        let skipped_octets = if self.random.u8(..4) == 0 { self.random.u64(..=content.len().min(50)) } else { 0 };
        NewContent { head, content, skipped_octets }
    }

    /// Remembers what is asked for, so that nothing is asked of a message twice at once.
    fn asked(&mut self, request: &Request) {
        let Some(known) = request.about().and_then(|id| self.messages.get_mut(&id)) else { return };
        if let Request::Record(..) = request {
            known.records += 1;
        } else {
            known.asked = true;
        }
        known.rescheduling |= matches!(request, Request::Reschedule(..));
    }

    /// Takes an answer to heart.
    pub fn learn(&mut self, event: &Event) {
        self.answered(&event.request);
        let Answer::Done(leases) = &event.answer else { return };
        match &event.request {
            Request::Put(message) => {
                self.add(message);
                for lease in leases {
                    self.lease(lease.clone());
                }
            }
            Request::Record(lease, before, change) => {
                change.caused.iter().for_each(|message| self.add(message));
                if let Some(known) = self.messages.get_mut(&lease.id) {
                    known.pairs.retain(|progress| progress.site != before.site);
                    known.pairs.extend(change.progress.clone());
                    if known.pairs.is_empty() {
                        self.messages.remove(&lease.id);
                    }
                }
            }
            Request::Remove(id) => {
                self.messages.remove(id);
                // A lease of a message that is gone is kept sometimes, to see that it is worth nothing.
                if self.random.bool() {
                    self.leases.retain(|(lease, _)| lease.id != *id);
                }
            }
            Request::SetHeld(..) => {}
            Request::Reschedule(id, at) => {
                for progress in self.messages.get_mut(id).into_iter().flat_map(|known| &mut known.pairs) {
                    progress.next_attempt = *at;
                }
            }
        }
    }

    fn answered(&mut self, request: &Request) {
        let Some(known) = request.about().and_then(|id| self.messages.get_mut(&id)) else { return };
        if let Request::Record(..) = request {
            known.records = known.records.saturating_sub(1);
        } else {
            (known.asked, known.rescheduling) = (false, false);
        }
    }

    fn add(&mut self, message: &NewMessage) {
        let pairs = message.progress.iter().map(|new| new.progress.clone()).collect();
        self.messages.insert(message.envelope.id, Known::new(pairs));
    }
}

/// Octets that differ from place to place, so that one sector is not like another.
fn octet(place: usize) -> u8 {
    let spread = (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    u8::try_from(spread).expect("eight bits are left")
}
