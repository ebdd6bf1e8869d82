//! Next hops that accept, defer, refuse, are slow, say nothing, die in the middle, and lie.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smtp_core::{Mailbox, Refusal, SafeText, async_trait};
use smtp_queue::{Attempt, Outcome, Route, Router, Transport};

use crate::ledger::{Ledger, Said};

/// The domains that mail goes to; the last two are those of senders and of postmaster.
pub(crate) const DOMAINS: [&str; 7] =
    ["one.example", "two.example", "three.example", "four.example", "five.example", "client.example", "mx.example.org"];
/// How many of them are only next hops of mail: the others never refuse, so that it can be seen that they are told.
pub(crate) const REFUSING: usize = 5;

/// How a next hop behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Accepts,
    Defers,
    /// Refuses some recipients, defers some and takes the others.
    Picks,
    /// Does not answer.
    Silent,
    /// Dies: the transport panics.
    Dies,
    /// Hangs for longer than anybody waits.
    Hangs,
    /// Takes the message and says that it did not.
    Lies,
    /// Answers for some recipients only.
    Forgets,
}

#[derive(Debug)]
struct State {
    moods: HashMap<&'static str, Mood>,
    rng: fastrand::Rng,
}

/// Copies are the same next hops.
#[derive(Clone)]
pub(crate) struct Hops {
    state: Arc<Mutex<State>>,
    ledger: Ledger,
}

impl Hops {
    pub(crate) fn new(seed: u64, ledger: Ledger) -> Self {
        let state = State { moods: HashMap::new(), rng: fastrand::Rng::with_seed(seed ^ 0x4055) };
        Self { state: Arc::new(Mutex::new(state)), ledger }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One of them changes its mood.
    pub(crate) fn change_mood(&self) {
        self.with(|state| {
            let place = state.rng.usize(..DOMAINS.len());
            let mood = match state.rng.u32(..14) {
                0..5 => Mood::Accepts,
                5..7 => Mood::Defers,
                7..9 if place < REFUSING => Mood::Picks,
                9 => Mood::Silent,
                10 => Mood::Dies,
                11 => Mood::Hangs,
                12 if place < REFUSING => Mood::Lies,
                _ => Mood::Forgets,
            };
            state.moods.insert(DOMAINS[place], mood);
        });
    }

    /// All of them become reasonable.
    pub(crate) fn calm_down(&self) {
        self.with(|state| state.moods.clear());
    }

    /// How it behaves now, how long it takes, and a number for what it does with each recipient.
    fn mood(&self, domain: &str, recipients: usize) -> (Mood, Duration, Vec<u32>) {
        self.with(|state| {
            let mood = state.moods.get(domain).copied().unwrap_or(Mood::Accepts);
            let longest = [10, 1000, 60_000, 400_000][state.rng.usize(..4)];
            let delay = Duration::from_millis(state.rng.u64(..longest));
            (mood, delay, (0..recipients).map(|_| state.rng.u32(..100)).collect())
        })
    }
}

fn said_by(outcome: Outcome) -> Outcome {
    outcome.said_by(SafeText::new("hop.example [192.0.2.1]"))
}

#[async_trait]
impl Transport for Hops {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        let recipients: Vec<String> = attempt.recipients().map(|recipient| recipient.mailbox.to_string()).collect();
        self.ledger.attempt(attempt.id(), attempt.origin().notification_of, attempt.number(), &recipients);
        let (mood, delay, dice) = self.mood(attempt.site(), recipients.len());
        match mood {
            Mood::Dies => panic!("a next hop dies, as it should"),
            Mood::Hangs => std::future::pending().await,
            _ => tokio::time::sleep(delay).await,
        }
        let mut content = String::new();
        if attempt.content().reader().read_to_string(&mut content).is_err() {
            self.ledger.is_wrong(format!("the content of {} cannot be read", attempt.id()));
        }
        let is_notification = attempt.origin().notification_of.is_some();
        let mut outcomes = Vec::new();
        for (recipient, dice) in recipients.iter().zip(dice) {
            let said = match mood {
                Mood::Picks if dice < 40 => Said::Refused,
                Mood::Picks if dice < 70 => Said::Deferred,
                Mood::Forgets if dice < 50 => break,
                Mood::Accepts | Mood::Picks | Mood::Forgets => Said::Delivered,
                _ => Said::Deferred,
            };
            self.ledger.said(attempt.id(), recipient, said);
            if said == Said::Delivered && is_notification {
                self.ledger.notified(&content);
            }
            outcomes.push(match said {
                Said::Delivered => said_by(Outcome::delivered("Ok")),
                Said::Refused => said_by(Refusal::permanent(1, 1, "Nobody").into()),
                Said::Deferred if mood == Mood::Silent => Refusal::transient(4, 1, "No answer").into(),
                Said::Deferred => said_by(Refusal::transient(7, 1, "Later").into()),
            });
        }
        if mood == Mood::Accepts && outcomes.len() == 1 && delay.as_millis() % 7 == 0 {
            // More than it was asked.
            outcomes.push(Refusal::permanent(1, 1, "Somebody else").into());
        }
        outcomes
    }
}

impl Router for Hops {
    fn route(&self, mailbox: &Mailbox) -> Route {
        Route::new(mailbox.host().to_string(), self.clone())
    }

    fn site(&self, name: &str) -> Option<Route> {
        Some(Route::new(name, self.clone()))
    }
}
