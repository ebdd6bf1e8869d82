//! What is ready to be tried: a bounded window for each site, a number of attempts at a time that adapts to the site's
//! answers, and turns between the sites (STANDARDS.md Q11).
//!
//! Plain data without locks or tasks: who holds the lock asks [`Sites::next_to_start`] after each change.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smtp_core::Priority;
use tokio::time::Instant;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::routing::Router;
use crate::spool::{Lease, Room};

use super::attempt::Loaded;
use super::by_priority::ByPriority;
use super::settings::QueueSettings;

/// A pair that somebody may work on.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) lease: Lease,
    /// Where it was accepted a moment ago: what would otherwise be read back.
    pub(super) loaded: Option<Box<Loaded>>,
}

/// What an attempt said about its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SiteAnswer {
    /// It works, whatever it said of the message.
    Reached,
    /// It could not be reached, or wants to be left alone.
    Unreachable,
    /// Nothing: there was no attempt.
    NotAsked,
}

/// Why a pair that is ready is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// Nothing: it is next.
    Nothing,
    /// So many attempts are all that the site gets at a time.
    SiteConcurrency(usize),
    /// The site could not be reached and is left alone until then.
    SiteRests(Instant),
    /// So many attempts are all that there are.
    TotalConcurrency(usize),
}

pub(super) struct Sites {
    /// Says how many attempts at a time a site gets.
    router: Arc<dyn Router>,
    limits: Limits,
    /// Sites with work, and those of which something was learnt.
    known: HashMap<SiteName, Site>,
    /// Sites that may have something to start, each once, in turns.
    turns: VecDeque<SiteName>,
    in_window: usize,
    in_flight: usize,
    window_octets: u64,
    /// How many sites there were when those without work were last forgotten.
    remembered: usize,
    /// No attempt starts any more.
    stopped: bool,
    /// The spool had more than all the room together.
    has_more: bool,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    concurrency_start: usize,
    concurrency: usize,
    total_concurrency: usize,
    window: usize,
    total_window: usize,
    window_octets: u64,
}

#[derive(Debug)]
struct Site {
    ready: ByPriority,
    /// Reserved, ready, in flight, or being recorded.
    in_window: usize,
    in_flight: usize,
    /// Attempts at a time, as they have proved to be good.
    concurrency: usize,
    /// Never more than this.
    limit: usize,
    /// How often it was reached since the concurrency was changed.
    reached: usize,
    /// How often in a row it could not be reached at the lowest concurrency.
    unreachable: u32,
    /// The last attempt reached it.
    is_proven: bool,
    rests_until: Option<Instant>,
    /// The spool may have more for it.
    has_more: bool,
    has_turn: bool,
}

/// How long a site is left alone that could not be reached by a single attempt: 1 s, doubled each time.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest of these: 1 min, far below the first retry of a message.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// How many sites are remembered without work before they are looked through.
const REMEMBERED: usize = 10_000;

impl Sites {
    pub(super) fn new(settings: &QueueSettings, router: Arc<dyn Router>) -> Self {
        Self {
            router,
            limits: Limits {
                concurrency_start: settings.concurrency_start.min(settings.concurrency_limit),
                concurrency: settings.concurrency_limit,
                total_concurrency: settings.total_concurrency,
                window: settings.site_window,
                total_window: settings.total_window,
                window_octets: settings.window_octets,
            },
            known: HashMap::new(),
            turns: VecDeque::new(),
            in_window: 0,
            in_flight: 0,
            window_octets: 0,
            remembered: 0,
            stopped: false,
            has_more: false,
        }
    }

    /// No attempt starts any more; what was ready is returned.
    pub(super) fn stop(&mut self) -> Vec<Ready> {
        self.stopped = true;
        self.take_ready(|_| true)
    }

    /// How many pairs are leased, or about to be.
    pub(super) fn in_window(&self) -> usize {
        self.in_window
    }

    /// Whether anything more could be leased.
    pub(super) fn room_left(&self) -> bool {
        !self.stopped && self.in_window < self.limits.total_window
    }

    /// How many attempts are made now.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A place in the window of a site, for a message that is being accepted. Where there is none, the message is taken
    /// from the spool later. Whoever is more urgent than what is ready there gets one also where the window is full, up to
    /// twice as many: it would otherwise wait behind all of these.
    pub(super) fn reserve(&mut self, name: &SiteName, priority: Priority) -> bool {
        if self.stopped {
            return false;
        }
        let has_total = self.in_window < self.limits.total_window;
        let is_crowded = self.is_window_crowded();
        let limits = self.limits;
        let site = self.site(name);
        // Who came first is tried first: what is in the spool is not overtaken.
        let overtakes = || site.ready.has_below(priority) && site.in_window < 2 * limits.window;
        let has_room = has_total && ((!site.has_more && site.room(limits, is_crowded) > 0) || overtakes());
        if has_room {
            site.in_window += 1;
            self.in_window += 1;
        }
        has_room
    }

    /// Gives a place back that was not used, or is not any more. Whether the spool should be asked for more.
    pub(super) fn leave(&mut self, name: &SiteName) -> bool {
        self.in_window = self.in_window.saturating_sub(1);
        let total_is_free = self.has_more && self.in_window <= self.limits.total_window / 2;
        let half = self.limits.window / 2;
        let Some(site) = self.known.get_mut(name) else { return total_is_free };
        site.in_window = site.in_window.saturating_sub(1);
        total_is_free || (site.has_more && site.in_window <= half)
    }

    /// Room in memory for that much content; it is given back with [`Sites::free_octets`].
    pub(super) fn reserve_octets(&mut self, octets: u64) -> bool {
        let fits = self.window_octets.saturating_add(octets) <= self.limits.window_octets;
        if fits {
            self.window_octets += octets;
        }
        fits
    }

    pub(super) fn free_octets(&mut self, octets: u64) {
        self.window_octets = self.window_octets.saturating_sub(octets);
    }

    /// A pair for whose site there is a place already.
    pub(super) fn add(&mut self, ready: Ready) {
        let name = ready.lease.site.clone();
        self.site(&name).ready.push(ready);
        self.give_turn(&name);
    }

    /// A message for that site stayed in the spool although it is due. Whether the spool should be asked for it.
    pub(super) fn left_in_spool(&mut self, name: &SiteName) -> bool {
        let half = self.limits.window / 2;
        let site = self.site(name);
        site.has_more = true;
        site.in_window <= half
    }

    /// What the dispatcher needs to know: when the next rest is over, and how much may be leased now.
    pub(super) fn look(&mut self, now: Instant, most: usize) -> (Option<Instant>, Room) {
        (self.end_rests(now), self.room(now, most))
    }

    /// How much may be leased now. Who is told meanwhile that there is more remembers it until the next time.
    fn room(&mut self, now: Instant, most: usize) -> Room {
        self.has_more = false;
        for site in self.known.values_mut() {
            site.has_more = false;
        }
        let is_crowded = self.is_window_crowded();
        let others = if is_crowded { 1 } else { self.limits.window };
        let rooms = self.known.iter().map(|(name, site)| (name, site.room_at(now, self.limits, is_crowded)));
        let total = if self.stopped { 0 } else { self.limits.total_window.saturating_sub(self.in_window).min(most) };
        Room {
            total,
            others: others.min(total),
            sites: rooms.filter(|(_, room)| *room != others).map(|(name, room)| (name.clone(), room)).collect(),
        }
    }

    /// What the spool leased of that room. What comes too late to be tried is returned.
    pub(super) fn add_leases(&mut self, room: &Room, leases: Vec<Lease>) -> Vec<Ready> {
        self.has_more |= leases.len() >= room.total;
        let mut taken: HashMap<SiteName, usize> = HashMap::new();
        for lease in leases {
            *taken.entry(lease.site.clone()).or_default() += 1;
            self.in_window += 1;
            self.site(&lease.site).in_window += 1;
            self.add(Ready { lease, loaded: None });
        }
        // A site that used its room, or had none, may have more.
        let full = room.sites.iter().filter(|(_, room)| **room == 0).map(|(name, _)| name);
        for name in full.chain(taken.iter().filter(|(name, taken)| **taken >= room.of(name)).map(|(name, _)| name)) {
            if let Some(site) = self.known.get_mut(name) {
                site.has_more = true;
            }
        }
        if self.stopped { self.take_ready(|_| true) } else { Vec::new() }
    }

    /// The next pair to try, in turns between the sites; the attempt counts as in flight.
    pub(super) fn next_to_start(&mut self, now: Instant) -> Option<Ready> {
        while self.in_flight < self.limits.total_concurrency && !self.stopped {
            let is_crowded = self.is_flight_crowded();
            let name = self.turns.pop_front()?;
            let Some(site) = self.known.get_mut(&name) else { continue };
            site.has_turn = false;
            if site.hindrance(now, is_crowded) != Hindrance::Nothing {
                // It gets its next turn when an attempt ends or its rest is over.
                continue;
            }
            let Some(ready) = site.ready.pop() else { continue };
            site.in_flight += 1;
            self.in_flight += 1;
            self.give_turn(&name);
            return Some(ready);
        }
        None
    }

    /// An attempt has ended; its pair keeps its place in the window until [`Sites::leave`]. Whether its site rests now.
    pub(super) fn ended(&mut self, name: &SiteName, answer: SiteAnswer, now: Instant) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let start = self.limits.concurrency_start;
        let Some(site) = self.known.get_mut(name) else { return false };
        site.in_flight = site.in_flight.saturating_sub(1);
        match answer {
            SiteAnswer::Reached => site.was_reached(start),
            SiteAnswer::Unreachable => site.was_unreachable(now),
            SiteAnswer::NotAsked => {}
        }
        let rests = site.rests_until.is_some();
        self.give_turn(name);
        rests
    }

    /// Sites whose rest is over get their turn. When the next rest is over.
    fn end_rests(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut rested = Vec::new();
        for (name, site) in &mut self.known {
            match site.rests_until {
                Some(until) if until <= now => {
                    site.rests_until = None;
                    rested.push(name.clone());
                }
                Some(until) => next = Some(next.map_or(until, |next| next.min(until))),
                None => {}
            }
        }
        // In an order that a test can repeat.
        rested.sort();
        for name in rested {
            self.give_turn(&name);
        }
        next
    }

    /// A site that rests is tried again now. If it still cannot be reached, its next rest is longer all the same.
    pub(super) fn end_rest(&mut self, name: &SiteName) {
        if let Some(site) = self.known.get_mut(name) {
            site.rests_until = None;
            self.give_turn(name);
        }
    }

    /// Takes what is ready and not yet in flight out of the window's queues; the places are still to be left.
    pub(super) fn take_ready(&mut self, wanted: impl Fn(QueueId) -> bool) -> Vec<Ready> {
        let mut taken = Vec::new();
        for site in self.known.values_mut() {
            taken.extend(site.ready.take(&wanted));
        }
        taken.sort_by(|a, b| (a.lease.id, &a.lease.site).cmp(&(b.lease.id, &b.lease.site)));
        taken
    }

    /// Whether a pair is ready and not in flight, and what it waits for.
    pub(super) fn hindrance(&self, name: &SiteName, id: QueueId, now: Instant) -> Option<Hindrance> {
        let site = self.known.get(name)?;
        if !site.ready.contains(id) {
            return None;
        }
        let is_full = self.in_flight >= self.limits.total_concurrency;
        Some(match site.hindrance(now, self.is_flight_crowded()) {
            Hindrance::Nothing if is_full => Hindrance::TotalConcurrency(self.limits.total_concurrency),
            hindrance => hindrance,
        })
    }

    /// Until when a site is left alone.
    pub(super) fn rest_of(&self, name: &SiteName, now: Instant) -> Option<Instant> {
        self.known.get(name)?.rests_until.filter(|until| *until > now)
    }

    /// The window of a site, where it has no place left.
    pub(super) fn full_window(&self, name: &SiteName) -> Option<usize> {
        let is_crowded = self.is_window_crowded();
        if self.in_window >= self.limits.total_window {
            return Some(self.limits.total_window);
        }
        let site = self.known.get(name)?;
        (site.room(self.limits, is_crowded) == 0).then_some(site.window(self.limits, is_crowded))
    }

    fn is_window_crowded(&self) -> bool {
        self.in_window > self.limits.total_window / 2
    }

    fn is_flight_crowded(&self) -> bool {
        self.in_flight > self.limits.total_concurrency / 2
    }

    fn site(&mut self, name: &SiteName) -> &mut Site {
        if !self.known.contains_key(name) {
            self.forget_idle();
        }
        let limits = self.limits;
        let router = &self.router;
        let limit = || router.site(name).and_then(|route| route.concurrency_limit).unwrap_or(limits.concurrency);
        self.known.entry(name.clone()).or_insert_with(|| Site {
            ready: ByPriority::default(),
            in_window: 0,
            in_flight: 0,
            concurrency: limits.concurrency_start,
            limit: limit(),
            reached: 0,
            unreachable: 0,
            is_proven: false,
            rests_until: None,
            has_more: false,
            has_turn: false,
        })
    }

    /// Forgets sites without work, when there are many and twice as many as last time.
    fn forget_idle(&mut self) {
        if self.known.len() >= REMEMBERED.max(2 * self.remembered) {
            self.known.retain(|_, site| site.in_window > 0 || site.has_more);
            self.remembered = self.known.len();
        }
    }

    fn give_turn(&mut self, name: &SiteName) {
        let Some(site) = self.known.get_mut(name) else { return };
        if !site.has_turn && !site.ready.is_empty() {
            site.has_turn = true;
            self.turns.push_back(name.clone());
        }
    }
}

impl Site {
    fn window(&self, limits: Limits, is_crowded: bool) -> usize {
        if is_crowded && !self.is_proven { 1 } else { limits.window }
    }

    fn room(&self, limits: Limits, is_crowded: bool) -> usize {
        self.window(limits, is_crowded).saturating_sub(self.in_window)
    }

    /// None while it rests, so that nothing is leased only to wait.
    fn room_at(&self, now: Instant, limits: Limits, is_crowded: bool) -> usize {
        let rests = self.rests_until.is_some_and(|until| until > now);
        if rests { 0 } else { self.room(limits, is_crowded) }
    }

    fn hindrance(&self, now: Instant, is_crowded: bool) -> Hindrance {
        let rests_until = self.rests_until.filter(|until| *until > now);
        if let Some(until) = rests_until {
            return Hindrance::SiteRests(until);
        }
        let allowed = if is_crowded && !self.is_proven { 1 } else { self.concurrency.min(self.limit) };
        if self.in_flight >= allowed { Hindrance::SiteConcurrency(allowed) } else { Hindrance::Nothing }
    }

    /// One attempt more at a time, when as many as now have reached it; after trouble up to the start at once.
    fn was_reached(&mut self, start: usize) {
        self.is_proven = true;
        self.unreachable = 0;
        self.rests_until = None;
        self.reached += 1;
        if self.concurrency < start {
            self.concurrency = (self.concurrency * 2).min(start);
            self.reached = 0;
        } else if self.reached >= self.concurrency && self.concurrency < self.limit {
            self.concurrency += 1;
            self.reached = 0;
        }
    }

    /// Half as many attempts at a time; when it is one already, a rest.
    fn was_unreachable(&mut self, now: Instant) {
        self.is_proven = false;
        self.reached = 0;
        if self.concurrency > 1 {
            self.concurrency /= 2;
            return;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.unreachable.min(16)).min(LONGEST_REST);
        self.unreachable = self.unreachable.saturating_add(1);
        self.rests_until = Some(now + rest);
    }
}
