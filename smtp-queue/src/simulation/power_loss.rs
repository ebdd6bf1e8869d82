//! Power fails at every moment of random work, and every disk that it can leave behind is recovered and compared with
//! what was promised.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use fastrand::Rng;
use smtp_core::Content;

use super::counts::LossCounts;
use super::ledger::{Breach, SpoolLedger};
use super::run::{SpoolRun, Subject};
use super::workload::Workload;
use crate::storage::{CrashPoint, OperationKind, PowerLoss, SimStorage};

/// How thoroughly a piece of work is looked into.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PowerLossSettings {
    /// Turns of work before a new spool is begun: 80.
    pub turns: u32,
    /// Random losses at each moment, besides the loss of each operation by itself: 12.
    pub random_losses: u32,
    /// Power fails again while the spool recovers, or right after: at one of so many images: 24.
    pub again_in: u32,
    /// The work goes on with a recovered image instead: after one of so many turns: 10.
    pub go_on_in: u32,
    /// The kernel writes everything out by itself: before one of so many turns: 3.
    pub flush_in: u32,
    /// The newest snapshot is damaged as well: at one of so many images: 16.
    pub damage_in: u32,
    /// A rename may leave both names, as without a journal: yes.
    pub both_names: bool,
    /// Contents that lie in files, so that they are taken without copying: none.
    pub files: Arc<[Content]>,
}

impl Default for PowerLossSettings {
    fn default() -> Self {
        Self {
            turns: 80,
            random_losses: 12,
            again_in: 24,
            go_on_in: 10,
            flush_in: 3,
            damage_in: 16,
            both_names: true,
            files: Arc::new([]),
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PowerLossReport {
    hashes: HashSet<u64>,
    /// Recoveries that were compared, also of images that were met before with other promises.
    pub recoveries: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Recoveries with a damaged newest snapshot.
    pub damaged_snapshots: u64,
    /// Power failed again while a spool recovered.
    pub crashes_in_recovery: u64,
    /// Power failed again right after a recovery.
    pub crashes_after_recovery: u64,
    /// Work that went on with what a recovery had found.
    pub restarts: u64,
    /// What was met.
    pub counts: LossCounts,
    /// What was found.
    pub breaches: Vec<FoundBreach>,
}

/// A promise that was broken, and how to see it again.
#[derive(Debug, Clone)]
pub struct FoundBreach {
    /// The seed of the work.
    pub seed: u64,
    /// The turn.
    pub turn: u32,
    /// The moment and the loss, in words.
    pub moment: String,
    /// What was broken.
    pub breach: Breach,
    /// The disk as power loss has left it.
    pub disk: SimStorage,
}

impl fmt::Display for FoundBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, turn {}, {}: {}", self.seed, self.turn, self.moment, self.breach)
    }
}

impl PowerLossReport {
    /// Distinct images, by hash.
    pub fn states(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// How many breaches are losses.
    pub fn lost(&self) -> u64 {
        self.breaches.iter().filter(|found| found.breach.is_loss()).count() as u64
    }
}

/// Works with one seed, and fails at every moment of it. Ends early at the first breach, and where `enough` says so.
pub fn power_loss<S: Subject>(
    subject: &S,
    seed: u64,
    settings: &PowerLossSettings,
    report: &mut PowerLossReport,
    enough: impl Fn(&PowerLossReport) -> bool,
) {
    let mut explorer = Explorer {
        subject,
        settings,
        report,
        random: Rng::with_seed(seed ^ 0x6c62_272e_07bb_0142),
        ledger: SpoolLedger::default(),
        met: HashSet::new(),
        disk: SimStorage::new(),
    };
    let (mut turn, mut moment) = (0, "at work".to_owned());
    let ended = explorer.work(seed, &mut turn, &mut moment, &enough);
    let Explorer { report, ledger, disk, .. } = explorer;
    report.acknowledged += ledger.acknowledged();
    if let Err(breach) = ended {
        report.breaches.push(FoundBreach { seed, turn, moment, breach, disk });
    }
}

struct Explorer<'a, S> {
    subject: &'a S,
    settings: &'a PowerLossSettings,
    report: &'a mut PowerLossReport,
    random: Rng,
    ledger: SpoolLedger,
    /// Images that were compared with the promises as they are.
    met: HashSet<u64>,
    /// The image that is looked at.
    disk: SimStorage,
}

impl<'a, S: Subject> Explorer<'a, S> {
    fn work(
        &mut self,
        seed: u64,
        turn: &mut u32,
        moment: &mut String,
        enough: &impl Fn(&PowerLossReport) -> bool,
    ) -> Result<(), Breach> {
        let mut workload = Workload::new(seed, self.settings.files.clone());
        let storage = SimStorage::new();
        storage.keep_crash_points();
        let (mut run, _) = SpoolRun::open(self.subject, storage)?;
        for point in run.storage().take_crash_points() {
            self.explore(&point, moment)?;
        }
        while *turn < self.settings.turns && !enough(self.report) {
            *turn += 1;
            "at work".clone_into(moment);
            if self.one_of(self.settings.flush_in) {
                run.storage().flush();
            }
            // What is asked for only loosens promises, so images that were fine are fine.
            workload.ask(&mut run, &mut self.ledger);
            let (_, events) = run.step();
            let mut events = events.into_iter().peekable();
            let mut points = run.storage().take_crash_points();
            points.push(run.storage().crash_point());
            let goes_on = self.one_of(self.settings.go_on_in).then(|| self.random.usize(..points.len()));
            for (place, point) in points.iter().enumerate() {
                let done = |operations: u64| point.before.as_ref().is_none_or(|next| operations <= next.number);
                while let Some(event) = events.next_if(|event| done(event.operations)) {
                    event.note(&mut self.ledger);
                    workload.learn(&event);
                    self.met.clear();
                }
                self.explore(point, moment)?;
                if goes_on == Some(place) {
                    let loss = self.random_loss();
                    *moment = format!("{}, goes on", describe(point, loss));
                    run = self.restart(&mut workload, point.crash(loss))?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Goes on with what power loss has left.
    fn restart(&mut self, workload: &mut Workload, image: SimStorage) -> Result<SpoolRun<&'a S>, Breach> {
        self.disk = image.kill();
        image.keep_crash_points();
        let (run, _) = SpoolRun::open(self.subject, image)?;
        let found = run.look()?;
        self.ledger.check(&found)?;
        self.ledger.settle(&found);
        self.met.clear();
        self.report.restarts += 1;
        workload.restart(&found);
        Ok(run)
    }

    fn one_of(&mut self, many: u32) -> bool {
        many > 0 && self.random.u32(..many) == 0
    }

    fn random_loss(&mut self) -> PowerLoss {
        let seed = self.random.u64(..);
        if self.settings.both_names { PowerLoss::Random(seed) } else { PowerLoss::Journaled(seed) }
    }

    /// All losses at a moment.
    fn explore(&mut self, point: &CrashPoint, moment: &mut String) -> Result<(), Breach> {
        let unsynced = point.unsynced();
        let mut losses = vec![PowerLoss::AllKept];
        if !unsynced.is_empty() {
            losses.push(PowerLoss::AllLost);
        }
        for operation in &unsynced {
            let number = operation.number;
            losses.extend([PowerLoss::Lost(number), PowerLoss::Kept(number), PowerLoss::KeptUpTo(number)]);
            if operation.sectors > 1 {
                losses.extend((0..3).map(|_| PowerLoss::Torn(number, self.random.u64(..))));
            }
            if operation.grows {
                losses.push(PowerLoss::Short(number));
            }
            if self.settings.both_names && operation.kind == OperationKind::Rename {
                losses.push(PowerLoss::BothNames(number));
            }
        }
        if !unsynced.is_empty() {
            losses.extend((0..self.settings.random_losses).map(|_| self.random_loss()));
        }
        for loss in losses {
            let image = point.crash(loss);
            let hash = image.image_hash();
            self.report.counts.add(point, &unsynced, loss);
            self.report.hashes.insert(hash);
            if self.met.insert(hash) {
                *moment = describe(point, loss);
                self.disk = image.kill();
                self.recover(&image, moment)?;
            }
        }
        Ok(())
    }

    /// Recovers an image, compares it with what was promised, and sometimes lets power fail again meanwhile.
    fn recover(&mut self, image: &SimStorage, moment: &mut String) -> Result<(), Breach> {
        let damages_it = self.one_of(self.settings.damage_in);
        let again = self.one_of(self.settings.again_in);
        let mut may_be_damaged = false;
        if damages_it && let Some((path, octets)) = self.newest_snapshot(image) {
            let place = self.random.u64(..octets.max(1));
            may_be_damaged = image.flip(path.as_ref(), place, self.random.u32(..8)).is_ok();
            self.report.damaged_snapshots += u64::from(may_be_damaged);
            moment.push_str(", newest snapshot damaged");
        }
        if again {
            image.keep_crash_points();
        }
        let (run, damage) = SpoolRun::open(self.subject, image.clone())?;
        self.report.recoveries += 1;
        let found = run.look()?;
        self.ledger.check(&found)?;
        if !damage.is_empty() && !may_be_damaged {
            return Err(Breach::Failed(format!("called damaged, and nothing is: {}", damage.join(", "))));
        }
        if !again {
            return Ok(());
        }
        let points = image.take_crash_points();
        for _ in 0..3.min(points.len()) {
            let point = &points[self.random.usize(..points.len())];
            let loss = self.random_loss();
            self.report.crashes_in_recovery += 1;
            let ledger = self.ledger.clone();
            self.compare(point, loss, &ledger, moment)?;
        }
        let mut settled = self.ledger.clone();
        settled.settle(&found);
        for loss in [PowerLoss::AllLost, self.random_loss()] {
            self.report.crashes_after_recovery += 1;
            self.compare(&image.crash_point(), loss, &settled, moment)?;
        }
        Ok(())
    }

    /// Power fails once more; what is left is compared with what was promised.
    fn compare(
        &mut self,
        point: &CrashPoint,
        loss: PowerLoss,
        ledger: &SpoolLedger,
        moment: &str,
    ) -> Result<(), Breach> {
        let image = point.crash(loss);
        self.disk = image.kill();
        self.report.hashes.insert(image.image_hash());
        self.report.recoveries += 1;
        let in_words = |breach| match breach {
            Breach::Failed(why) => Breach::Failed(format!("{why} ({moment}; then {})", describe(point, loss))),
            other => other,
        };
        let (run, _) = SpoolRun::open(self.subject, image).map_err(in_words)?;
        ledger.check(&run.look().map_err(in_words)?).map_err(in_words)
    }

    fn newest_snapshot(&self, image: &SimStorage) -> Option<(String, u64)> {
        let files = image.files();
        let newest = self.subject.newest_snapshot(&files)?;
        files.into_iter().find(|(name, _)| *name == newest)
    }
}

fn describe(point: &CrashPoint, loss: PowerLoss) -> String {
    match &point.before {
        Some(next) => format!("before {:?} of {} (operation {}), {loss:?}", next.kind, next.path, next.number),
        None => format!("between two turns, {loss:?}"),
    }
}
