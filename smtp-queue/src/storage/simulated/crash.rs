//! What a power loss does to each unsynced operation.

use fastrand::Rng;

/// Which of the unsynced operations a power loss leaves on the disk. The numbers are those of
/// [`UnsyncedOperation::number`](super::UnsyncedOperation::number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerLoss {
    /// All of them.
    AllKept,
    /// None of them.
    AllLost,
    /// All but that one.
    Lost(u64),
    /// That one alone.
    Kept(u64),
    /// That one and those before it.
    KeptUpTo(u64),
    /// All, but of that one only some sectors, by a seed.
    Torn(u64, u64),
    /// All, but of the file of that one not the length that it and later ones made.
    Short(u64),
    /// All, but that rename left the old name as well.
    BothNames(u64),
    /// Each operation, each sector of a write, each length and each half of a rename by itself, by a seed.
    Random(u64),
    /// The same, but a rename is kept whole or lost, as with a journal.
    Journaled(u64),
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Kept,
    /// Sector by sector; of a rename, the new name without the loss of the old one.
    Partly,
}

/// Says what becomes of each operation.
#[derive(Debug)]
pub(super) struct Dice {
    loss: PowerLoss,
    random: Rng,
    /// How many of 256 are kept, and how many of those only partly: they differ from crash to crash, so that nearly
    /// whole and nearly empty images are met as well.
    kept: u8,
    partly: u8,
}

impl Dice {
    pub(super) fn new(loss: PowerLoss) -> Self {
        let mut random = Rng::with_seed(match loss {
            PowerLoss::Random(seed) | PowerLoss::Journaled(seed) | PowerLoss::Torn(_, seed) => seed,
            _ => 0,
        });
        let (kept, partly) = (*random.choice(&[32, 128, 224, 250]).expect("there are four"), random.u8(..));
        Self { loss, random, kept, partly }
    }

    fn random_fate(&mut self) -> Fate {
        match self.random.u8(..) {
            roll if roll >= self.kept => Fate::Lost,
            _ if self.random.u8(..) < self.partly => Fate::Partly,
            _ => Fate::Kept,
        }
    }

    /// Of the octets of a write.
    pub(super) fn of_octets(&mut self, number: u64) -> Fate {
        let kept = |kept: bool| if kept { Fate::Kept } else { Fate::Lost };
        match self.loss {
            PowerLoss::AllLost => Fate::Lost,
            PowerLoss::Lost(lost) => kept(number != lost),
            PowerLoss::Kept(only) => kept(number == only),
            PowerLoss::KeptUpTo(last) => kept(number <= last),
            PowerLoss::Torn(torn, _) if torn == number => Fate::Partly,
            PowerLoss::AllKept | PowerLoss::Short(_) | PowerLoss::BothNames(_) | PowerLoss::Torn(..) => Fate::Kept,
            PowerLoss::Random(_) | PowerLoss::Journaled(_) => self.random_fate(),
        }
    }

    /// Of a change of names.
    pub(super) fn of_name(&mut self, number: u64, may_be_half: bool) -> Fate {
        let fate = match self.loss {
            PowerLoss::BothNames(half) if half == number => Fate::Partly,
            PowerLoss::Torn(..) => Fate::Kept,
            _ => self.of_octets(number),
        };
        let may_be_half = may_be_half && !matches!(self.loss, PowerLoss::Journaled(_));
        if fate == Fate::Partly && !may_be_half { Fate::Kept } else { fate }
    }

    /// Whether one sector of a write that was kept partly is there.
    pub(super) fn keeps_sector(&mut self) -> bool {
        self.random.bool()
    }

    /// Whether the length of a file stays what it was before that operation.
    pub(super) fn cuts(&mut self, number: u64) -> bool {
        match self.loss {
            PowerLoss::Short(from) => number >= from,
            PowerLoss::Random(_) | PowerLoss::Journaled(_) => self.random.u8(..16) == 0,
            _ => false,
        }
    }
}
