//! What was acknowledged and what arrived, and the verdict on both.
//!
//! Counted in recipients of messages. Times are milliseconds since the run began; a run is one life of the program.

use std::fmt::Write as _;

use crate::mailing::MOST_RECIPIENTS;

/// The most cases of a kind that are printed.
const SHOWN_CASES: usize = 10;
/// How long before the last `250` of a run an outcome may have arrived and not be written, in milliseconds: it was in
/// the next group.
const STALL: u32 = 250;

/// What is known of one message.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    recipients: u8,
    /// Bits of the recipients whose `250` is in the ledger.
    acknowledged: u8,
    /// Bits of the recipients that the program did not take.
    not_taken: u8,
    /// Bits of the recipients that the sink refused for good.
    refused: u8,
    /// Bits of the recipients for which the sender got a notification.
    notified: u8,
    arrivals: [Option<Arrival>; MOST_RECIPIENTS],
}

impl Entry {
    fn all(&self) -> u8 {
        (1 << self.recipients) - 1
    }

    fn arrived(&self) -> u8 {
        self.arrivals.iter().enumerate().map(|(place, arrival)| u8::from(arrival.is_some()) << place).sum()
    }

    /// Those that have an outcome which the sink has seen.
    fn settled(&self) -> u8 {
        self.arrived() | self.refused & self.notified
    }
}

/// The last copy that arrived for a recipient.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    run: u32,
    at: u32,
}

/// When things happened in a run, and how long its start took.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    began: u32,
    greeted: Option<u32>,
    acknowledged: Option<u32>,
    /// The last proof that it could write: when a client saw a `250`.
    last_250: Option<u32>,
    killed: Option<u32>,
}

/// Everything that happened.
#[derive(Debug)]
pub(crate) struct Account {
    /// How long before a kill an attempt counts as in flight, in milliseconds.
    in_flight: u32,
    entries: Vec<Entry>,
    runs: Vec<Run>,
    acknowledged_messages: u64,
    arrived: u64,
    /// Recipients that were acknowledged and not settled.
    waiting: u64,
    duplicates: u64,
    /// The longest time between an arrival and the kill that explains why it came twice.
    longest_in_flight: u32,
    /// Copies too many that arrived longer before a kill, when no client saw a `250` any more: the disk stood still.
    stalled: u64,
    /// The longest time between such an arrival and the last `250`; none where that was first.
    longest_in_stall: u32,
    /// Copies that no kill explains.
    unexplained: Cases,
    /// What arrived and is not what was sent.
    damage: Cases,
    /// Other things that must not be.
    faults: Cases,
}

/// A number of cases, the first of them in words.
#[derive(Debug, Default)]
struct Cases {
    count: u64,
    shown: Vec<String>,
}

impl Cases {
    fn add(&mut self, what: String) {
        self.count += 1;
        if self.shown.len() < SHOWN_CASES {
            self.shown.push(what);
        }
    }
}

/// What is to be said in the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) kills: usize,
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// Whether there is nothing to complain about.
    pub(crate) is_good: bool,
    pub(crate) details: String,
}

impl Account {
    /// An attempt counts as in flight at a kill if its message arrived at most that many milliseconds before.
    pub(crate) fn new(in_flight: u32) -> Self {
        Self {
            in_flight,
            entries: Vec::new(),
            runs: Vec::new(),
            acknowledged_messages: 0,
            arrived: 0,
            waiting: 0,
            duplicates: 0,
            longest_in_flight: 0,
            stalled: 0,
            longest_in_stall: 0,
            unexplained: Cases::default(),
            damage: Cases::default(),
            faults: Cases::default(),
        }
    }

    /// The program is started.
    pub(crate) fn start(&mut self, run: usize, now: u32) {
        self.runs.resize(run + 1, Run::default());
        self.runs[run].began = now;
    }

    /// It said `220` for the first time.
    pub(crate) fn greet(&mut self, run: usize, now: u32) {
        let run = &mut self.runs[run];
        run.greeted.get_or_insert(now - run.began);
    }

    /// It said `250` for a message: seen by a client, and not yet in the ledger.
    pub(crate) fn saw_250(&mut self, run: usize, now: u32) {
        let run = &mut self.runs[run];
        run.acknowledged.get_or_insert(now - run.began);
        run.last_250 = Some(now);
    }

    /// It is about to be killed.
    pub(crate) fn kill(&mut self, run: usize, now: u32) {
        self.runs[run].killed = Some(now);
    }

    /// A message is about to be sent.
    pub(crate) fn send(&mut self, number: u64, recipients: usize) {
        let entry = self.entry(number);
        entry.recipients = u8::try_from(recipients).expect("at most three");
    }

    /// Recipients that were not taken: nothing is expected for them.
    pub(crate) fn not_taken(&mut self, number: u64, recipients: u8) {
        self.entry(number).not_taken |= recipients;
    }

    /// The `250` for these recipients is in the ledger.
    pub(crate) fn acknowledge(&mut self, number: u64, recipients: u8) {
        let entry = self.entry(number);
        entry.acknowledged = recipients;
        self.waiting += u64::from((recipients & !self.entry(number).settled()).count_ones());
        self.acknowledged_messages += 1;
    }

    /// A whole message arrived for a recipient, sent by that run.
    pub(crate) fn arrive(&mut self, number: u64, recipient: usize, run: usize, now: u32) {
        let run = u32::try_from(run).unwrap_or(u32::MAX);
        let before = self.entry(number).settled();
        let earlier = self.entry(number).arrivals[recipient].replace(Arrival { run, at: now });
        self.arrived += 1;
        self.settle(number, before);
        let Some(earlier) = earlier else { return };
        self.duplicates += 1;
        let of = self.runs.get(earlier.run as usize).copied().unwrap_or_default();
        let killed = of.killed;
        // Everything goes through one log: where nothing was written any more, no outcome was either.
        let proven = killed.map(|killed| killed.min(of.last_250.unwrap_or(of.began)).saturating_sub(earlier.at));
        match killed.filter(|_| earlier.run < run).map(|killed| killed.saturating_sub(earlier.at)) {
            Some(before) if before <= self.in_flight => self.longest_in_flight = self.longest_in_flight.max(before),
            Some(_) if proven.is_some_and(|proven| proven <= STALL) => {
                self.stalled += 1;
                self.longest_in_stall = self.longest_in_stall.max(proven.unwrap_or_default());
            }
            Some(before) => self.unexplained.add(format!(
                "message {number}, recipient {recipient}: arrived {before} ms before the kill of run {}, {} ms before \
                 its last 250, again in run {run}",
                earlier.run,
                proven.unwrap_or_default()
            )),
            None => self.unexplained.add(format!(
                "message {number}, recipient {recipient}: arrived in run {}, again in run {run} after {} ms",
                earlier.run,
                now.saturating_sub(earlier.at)
            )),
        }
    }

    /// The sink refused a recipient for good.
    pub(crate) fn refuse(&mut self, number: u64, recipient: usize) {
        let before = self.entry(number).settled();
        self.entry(number).refused |= 1 << recipient;
        self.settle(number, before);
    }

    /// The sender was told that a recipient was not reached.
    pub(crate) fn notify(&mut self, number: u64, recipient: usize) {
        let before = self.entry(number).settled();
        self.entry(number).notified |= 1 << recipient;
        self.settle(number, before);
    }

    /// What arrived is not what was sent.
    pub(crate) fn damage(&mut self, what: String) {
        self.damage.add(what);
    }

    /// Something else that must not be.
    pub(crate) fn fault(&mut self, what: String) {
        self.faults.add(what);
    }

    /// Acknowledged recipients for which nothing is settled.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Messages whose `250` is in the ledger.
    pub(crate) fn acknowledged_messages(&self) -> u64 {
        self.acknowledged_messages
    }

    /// Copies that arrived, one for each recipient.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Whether something is wrong already.
    pub(crate) fn has_faults(&self) -> bool {
        self.unexplained.count + self.damage.count + self.faults.count > 0
    }

    /// Milliseconds to the first `220` and to the first `250`: median and longest, and how many starts came so far.
    pub(crate) fn start_times(&self) -> String {
        let line = |name: &str, mut times: Vec<u32>| {
            times.sort_unstable();
            match (times.get(times.len() / 2), times.last()) {
                (Some(median), Some(longest)) => format!("{name} {median} ms, longest {longest} ms ({})", times.len()),
                _ => format!("{name} never"),
            }
        };
        // The first start is not one after a kill.
        let restarts = self.runs.get(1..).unwrap_or_default();
        let greeted = line("first 220 after a median of", restarts.iter().filter_map(|run| run.greeted).collect());
        let taken = line("first 250", restarts.iter().filter_map(|run| run.acknowledged).collect());
        format!("{greeted}, {taken}")
    }

    /// What became of everything.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut lost = Cases::default();
        let mut partial = Cases::default();
        let (mut refused, mut untold) = (0, 0);
        for (number, entry) in self.entries.iter().enumerate() {
            let missing = entry.acknowledged & !entry.settled();
            refused += u64::from((entry.refused & !entry.arrived()).count_ones());
            untold += u64::from((entry.refused & !entry.settled()).count_ones());
            if missing != 0 {
                lost.add(format!(
                    "message {number}: acknowledged {:03b}, arrived {:03b}, refused {:03b}, notified {:03b}",
                    entry.acknowledged,
                    entry.arrived(),
                    entry.refused,
                    entry.notified
                ));
            } else if entry.acknowledged == 0 && entry.settled() != 0 {
                let missing = entry.all() & !entry.not_taken & !entry.settled();
                if missing != 0 {
                    partial.add(format!("message {number}: no 250, and of its recipients {missing:03b} got nothing"));
                }
            }
        }
        let mut details = String::new();
        let explained = self.duplicates - self.unexplained.count - self.stalled;
        let _ = writeln!(
            details,
            "recipients: {} copies arrived, {refused} refused for good ({untold} without a notification)\n\
             duplicates: {explained} in flight at a kill (longest {} ms before it), {} more while the disk stood \
             still (longest {} ms before the last 250), {} without excuse\n\
             restarts: {}",
            self.arrived,
            self.longest_in_flight,
            self.stalled,
            self.longest_in_stall,
            self.unexplained.count,
            self.start_times()
        );
        for (name, cases) in [
            ("LOST", &lost),
            ("TWICE", &self.unexplained),
            ("DAMAGED", &self.damage),
            ("PARTIAL", &partial),
            ("FAULT", &self.faults),
        ] {
            for case in &cases.shown {
                let _ = writeln!(details, "{name}: {case}");
            }
            if let Some(more) = cases.count.checked_sub(SHOWN_CASES as u64).filter(|more| *more > 0) {
                let _ = writeln!(details, "{name}: and {more} more");
            }
        }
        Verdict {
            kills: self.runs.iter().filter(|run| run.killed.is_some()).count(),
            acknowledged: self.acknowledged_messages,
            lost: lost.count,
            duplicated: self.duplicates,
            is_good: lost.count + partial.count == 0 && !self.has_faults(),
            details,
        }
    }

    fn entry(&mut self, number: u64) -> &mut Entry {
        let place = usize::try_from(number).expect("numbers count messages that were sent");
        if place >= self.entries.len() {
            self.entries.resize(place + 1, Entry::default());
        }
        &mut self.entries[place]
    }

    /// Something of a message changed: fewer recipients may be waiting.
    fn settle(&mut self, number: u64, before: u8) {
        let entry = self.entry(number);
        let settled = entry.acknowledged & entry.settled() & !before;
        self.waiting -= u64::from(settled.count_ones());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let mut account = Account::new(1000);
        account.start(0, 0);
        account
    }

    #[test] // T1
    fn t1_what_was_acknowledged_and_did_not_arrive_is_lost() {
        let mut account = account();
        for number in 0..3 {
            account.send(number, 2);
            account.acknowledge(number, 0b11);
        }
        account.arrive(0, 0, 0, 10);
        account.arrive(0, 1, 0, 10);
        account.arrive(1, 1, 0, 10);
        assert_eq!(account.waiting(), 3);
        let verdict = account.verdict();
        assert_eq!((verdict.lost, verdict.acknowledged, verdict.is_good), (2, 3, false));
        assert!(verdict.details.contains("LOST: message 1: acknowledged 011, arrived 010"), "{}", verdict.details);
    }

    #[test] // T1: an arrival may come before its 250 is in the ledger.
    fn t1_the_order_of_arrival_and_ledger_makes_no_difference() {
        let mut account = account();
        account.send(0, 1);
        account.arrive(0, 0, 0, 10);
        account.acknowledge(0, 1);
        assert_eq!(account.waiting(), 0);
        assert!(account.verdict().is_good);
    }

    #[test] // T1: a duplicate is excused by a kill between the two, shortly after the first.
    fn t1_only_what_was_in_flight_at_a_kill_may_come_twice() {
        for (first, killed, second, is_good) in [
            ((0, 500), Some(900), 1, true),
            // The content was on its way when the program was killed.
            ((0, 950), Some(900), 1, true),
            ((0, 500), Some(1600), 1, false),
            ((0, 500), Some(900), 0, false),
            ((0, 500), None, 1, false),
        ] {
            let mut account = account();
            account.send(0, 1);
            account.acknowledge(0, 1);
            account.arrive(0, 0, first.0, first.1);
            account.saw_250(0, 850);
            if let Some(killed) = killed {
                account.kill(0, killed);
            }
            account.start(1, 2000);
            account.arrive(0, 0, second, 2500);
            let verdict = account.verdict();
            assert_eq!((verdict.is_good, verdict.duplicated), (is_good, 1), "{first:?} {killed:?} {second}");
        }
    }

    #[test] // T1: where the disk stands still, nothing is recorded, however long that takes.
    fn t1_a_stall_excuses_what_arrived_in_it() {
        for (last_250, is_good) in [(None, true), (Some(600), true), (Some(1100), false)] {
            let mut account = account();
            account.send(0, 1);
            account.acknowledge(0, 1);
            account.arrive(0, 0, 0, 500);
            if let Some(last_250) = last_250 {
                account.saw_250(0, last_250);
            }
            account.kill(0, 1700);
            account.start(1, 2000);
            account.arrive(0, 0, 1, 2500);
            assert_eq!(account.verdict().is_good, is_good, "{last_250:?}");
        }
    }

    #[test] // T1: each further copy needs a kill of its own.
    fn t1_a_third_copy_needs_a_second_kill() {
        for (kills, is_good) in [(1, false), (2, true)] {
            let mut account = account();
            account.send(0, 1);
            account.acknowledge(0, 1);
            for copy in 0..3_u32 {
                let run = copy.min(kills);
                account.start(run as usize, copy * 100);
                account.arrive(0, 0, run as usize, copy * 100 + 10);
                account.kill(run as usize, copy * 100 + 20);
            }
            assert_eq!(account.verdict().is_good, is_good, "{kills}");
        }
    }

    #[test] // Without a 250 a message arrives for all of its recipients or for none.
    fn t1_a_message_without_250_arrives_whole_or_not_at_all() {
        for (arrived, not_taken, is_good) in
            [(0b00, 0, true), (0b11, 0, true), (0b01, 0, false), (0b01, 0b10, true), (0b10, 0b10, false)]
        {
            let mut account = account();
            account.send(0, 2);
            account.not_taken(0, not_taken);
            for recipient in (0..2).filter(|recipient| arrived & 1 << recipient != 0) {
                account.arrive(0, recipient, 0, 10);
            }
            assert_eq!(account.verdict().is_good, is_good, "{arrived:b} {not_taken:b}");
        }
    }

    #[test] // Promise 1: failed means that the sender was told.
    fn a_refused_recipient_is_settled_by_its_notification() {
        let mut account = account();
        account.send(0, 2);
        account.acknowledge(0, 0b11);
        account.arrive(0, 1, 0, 10);
        account.refuse(0, 0);
        assert_eq!((account.waiting(), account.verdict().lost), (1, 1));
        account.notify(0, 0);
        assert_eq!((account.waiting(), account.verdict().lost), (0, 0));
        assert!(account.verdict().is_good);
    }
}
