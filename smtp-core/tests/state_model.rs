//! T20b: a session does what a small model of RFC 5321 does, under random commands and verdicts (SECURITY D-44, D-45).
//!
//! After each step replies, open envelope, deliveries and the end of the session are equal; what the next command is
//! answered is the next step. The generator prefers steps that were rarely taken in the state at hand, so that each
//! reachable (state, command, verdict) is met often. A failure prints its seed; `STATE_MODEL_SEED` sets it,
//! `STATE_MODEL_STEPS` how many steps. `--nocapture` shows the table.

#[path = "state_model/model.rs"]
mod model;
#[path = "state_model/session.rs"]
mod session;
#[path = "state_model/steps.rs"]
mod steps;
#[path = "state_model/table.rs"]
mod table;

use std::time::Instant;

use model::{Limits, Model};
use session::Driver;
use smtp_core::TransferProtocol;
use steps::{Chunk, Command, Content, Mail, No, Rcpt, Verdict, every_greeting, every_step};

const STEPS: u64 = 1_000_000;
const SEED: u64 = 5321;
/// How often each triple is met at least.
const LEAST: u32 = 100;

/// What a session tends to do, so that each limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Goes to a state, and takes the steps there that were rarely taken.
    Curious,
    /// Makes errors.
    Wrong,
    /// Achieves nothing.
    Idle,
    /// Sends messages, and makes errors between them.
    Busy,
}

#[test]
fn t20b_a_session_equals_the_model_under_random_commands_and_verdicts() {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    };
    let (seed, wanted) = (number("STATE_MODEL_SEED", SEED), number("STATE_MODEL_STEPS", STEPS));
    let mut run = Run::new(seed, TransferProtocol::Smtp);
    while run.taken < wanted {
        run.session();
    }
    println!("{}", table::render(&run.steps, &run.counts));
    let least = run.counts.iter().flatten().chain(&run.greeting_counts).min().copied().unwrap_or(0);
    println!(
        "T20b: {} steps in {} sessions, 0 differences, seed {seed}, in {:.1} s; \
         {} triples, each at least {least} times; 421 for {} errors, {} idle commands, {} transactions; {} messages",
        run.taken,
        run.sessions,
        run.started.elapsed().as_secs_f64(),
        run.counts.iter().flatten().chain(&run.greeting_counts).count(),
        run.ends[0],
        run.ends[1],
        run.ends[2],
        run.messages,
    );
    if wanted >= STEPS {
        assert!(least >= LEAST, "a triple was met {least} times");
        assert!(run.ends.iter().all(|&times| times >= LEAST), "limits were reached {:?} times", run.ends);
    }
}

#[test] // RFC 2033: the same model, but for LHLO, 503 and a reply for each recipient.
fn t20b_a_session_of_lmtp_equals_the_model() {
    let mut run = Run::new(SEED, TransferProtocol::Lmtp);
    while run.taken < STEPS / 5 {
        run.session();
    }
    println!("T20b, LMTP: {} steps in {} sessions, {} messages, seed {SEED}", run.taken, run.sessions, run.messages);
    assert!(run.messages > 0 && run.ends.iter().all(|&times| times > 0), "limits were reached {:?} times", run.ends);
}

/// All sessions.
struct Run {
    seed: u64,
    protocol: TransferProtocol,
    random: fastrand::Rng,
    started: Instant,
    greetings: Vec<(Command, Verdict)>,
    greeting_counts: Vec<u32>,
    steps: Vec<(Command, Verdict)>,
    /// By state and step.
    counts: Vec<Vec<u32>>,
    taken: u64,
    sessions: u64,
    messages: usize,
    /// Sessions that ended for the default number of errors, of idle commands, and for too many transactions.
    ends: [u32; 3],
}

impl Run {
    fn new(seed: u64, protocol: TransferProtocol) -> Self {
        let (greetings, steps) = (every_greeting(), every_step());
        Self {
            seed,
            protocol,
            random: fastrand::Rng::with_seed(seed),
            started: Instant::now(),
            greeting_counts: vec![0; greetings.len()],
            greetings,
            counts: vec![vec![0; steps.len()]; table::COUNT],
            steps,
            taken: 0,
            sessions: 0,
            messages: 0,
            ends: [0; 3],
        }
    }

    /// One session from its greeting to its end, which a limit brings if nothing else does.
    fn session(&mut self) {
        let mood = match self.random.u32(..100) {
            0..3 => Mood::Idle,
            3..8 => Mood::Wrong,
            8..16 => Mood::Busy,
            _ => Mood::Curious,
        };
        let limits = Limits {
            errors: if mood == Mood::Curious { self.random.u32(1..40) } else { 20 },
            idle_commands: if mood == Mood::Curious { self.random.u32(1..40) } else { 100 },
            transactions: self.random.u32(1..20),
        };
        let goal = self.goal();
        let mut model = if self.protocol.is_lmtp() { Model::of_lmtp(limits) } else { Model::new(limits) };
        let mut driver = Driver::new(limits, self.protocol, self.started);
        let mut history = Vec::new();
        let mut next = self.greeting(goal);
        loop {
            history.push(next);
            let expected = model.step(next.0, next.1);
            let got = driver.step(next.0, next.1);
            let envelope = model.envelope.as_ref().map(owned);
            let delivered: Vec<_> = model.delivered.iter().map(owned).collect();
            assert!(
                expected == got
                    && envelope == driver.envelope()
                    && delivered == driver.delivered
                    && model.is_closed == driver.session.is_closed(),
                "seed {}, session {}, {limits:?}\nsteps {history:#?}\n\
                 model:   {expected:?}, envelope {envelope:?}, closed {}, delivered {delivered:?}\n\
                 session: {got:?}, envelope {:?}, closed {}, delivered {:?}",
                self.seed,
                self.sessions,
                model.is_closed,
                driver.envelope(),
                driver.session.is_closed(),
                driver.delivered,
            );
            self.taken += 1;
            if model.is_closed {
                self.note_end(next.0, mood, &expected);
                self.sessions += 1;
                self.messages += model.delivered.len();
                return;
            }
            next = self.choose(table::state(&model), goal, mood);
        }
    }

    fn note_end(&mut self, last: Command, mood: Mood, replies: &str) {
        let of_limit = match last {
            Command::Idle(..) | Command::Rset => 1,
            Command::Mail(Mail::Plain | Mail::Null) => 2,
            Command::Wrong(..) => 0,
            _ => return,
        };
        let is_limit = replies == "421 4.7.0";
        self.ends[of_limit] += u32::from(is_limit && mood != Mood::Curious);
    }

    /// Of some states the one with the rarest triple.
    fn goal(&mut self) -> usize {
        let some: Vec<usize> = (0..4).map(|_| self.random.usize(..table::COUNT)).collect();
        some.into_iter().min_by_key(|&state| self.counts[state].iter().min()).expect("there are some")
    }

    fn greeting(&mut self, goal: usize) -> (Command, Verdict) {
        let (place, held) = table::parts(goal);
        let verdict = if place == 0 || held == 0 { self.verdict(held) } else { Verdict::Continue };
        let wanted = self.greetings.iter().position(|greeting| greeting.1 == verdict);
        let any = self.random.usize(..self.greetings.len());
        let chosen = wanted.filter(|_| self.random.u32(..3) > 0).unwrap_or(any);
        self.greeting_counts[chosen] += 1;
        self.greetings[chosen]
    }

    /// One after which a refusal of that class is held.
    fn verdict(&mut self, class: u8) -> Verdict {
        let no = No { is_permanent: class == 5, is_immediate: false, closes: self.random.bool() };
        if class == 0 { Verdict::Continue } else { Verdict::Refuse(no) }
    }

    fn choose(&mut self, state: usize, goal: usize, mood: Mood) -> (Command, Verdict) {
        let is_wrong = |command| matches!(command, Command::Wrong(..));
        let is_idle = |command| matches!(command, Command::Idle(..) | Command::Rset);
        let dice = self.random.u32(..100);
        let chosen = match mood {
            Mood::Wrong if dice < 80 => self.any(is_wrong),
            Mood::Idle if dice < 97 => self.any(is_idle),
            Mood::Busy if dice < 30 => self.any(|command| is_wrong(command) || is_idle(command)),
            Mood::Busy if table::parts(state).0 == 3 => self.find(Command::Data(Content::Good), Verdict::Continue),
            Mood::Busy => self.towards(state, table::RECIPIENTS),
            Mood::Curious if dice < 10 => self.random.usize(..self.steps.len()),
            _ if state == goal || table::parts(goal).0 == 0 => self.rare(state),
            _ => self.towards(state, goal),
        };
        self.counts[state][chosen] += 1;
        self.steps[chosen]
    }

    /// A step that leads from one state towards another; `RSET` where it lies behind.
    fn towards(&mut self, state: usize, goal: usize) -> usize {
        let ((place, held), (goal_place, goal_held)) = (table::parts(state), table::parts(goal));
        let pick = self.random.bool();
        if place == 0 || (held != goal_held && (place > 1 || pick)) {
            let verdict = self.verdict(goal_held);
            let by_helo = !pick && goal_place != 4 && !self.protocol.is_lmtp();
            return self.find(if by_helo { Command::Helo } else { Command::Ehlo }, verdict);
        }
        match place {
            _ if place > goal_place => self.find(Command::Rset, Verdict::Continue),
            1 => {
                let verdict = self.verdict(goal_held);
                self.find(Command::Mail(if pick { Mail::Plain } else { Mail::Null }), verdict)
            }
            3 => self.find(Command::Bdat(Chunk::First), Verdict::Continue),
            _ => self.find(Command::Rcpt(if pick { Rcpt::Role } else { Rcpt::Postmaster }), Verdict::Continue),
        }
    }

    fn find(&self, command: Command, verdict: Verdict) -> usize {
        self.steps.iter().position(|&step| step == (command, verdict)).expect("every step is in the table")
    }

    fn any(&mut self, fits: impl Fn(Command) -> bool) -> usize {
        let fitting: Vec<usize> = (0..self.steps.len()).filter(|&at| fits(self.steps[at].0)).collect();
        fitting[self.random.usize(..fitting.len())]
    }

    /// The rarest of some random steps in that state.
    fn rare(&mut self, state: usize) -> usize {
        let some: Vec<usize> = (0..12).map(|_| self.random.usize(..self.steps.len())).collect();
        some.into_iter().min_by_key(|&at| self.counts[state][at]).expect("there are some")
    }
}

fn owned((reverse_path, recipients): &model::Envelope) -> (String, Vec<String>) {
    ((*reverse_path).to_owned(), recipients.iter().map(|&path| path.to_owned()).collect())
}
