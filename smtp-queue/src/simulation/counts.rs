//! Which operation was met by which loss, and how often: so that nobody believes in a test that tested nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::storage::{CrashPoint, OperationKind, PowerLoss, UnsyncedOperation};

/// What was unsynced, or under way, when power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LossKind {
    /// A name of a new file.
    Create,
    /// A name of a file from elsewhere.
    Adopt,
    /// The octets of a file from elsewhere.
    AdoptedOctets,
    /// A new name of a file.
    Rename,
    /// A name that was taken away.
    Remove,
    /// Room that was reserved.
    Allocate,
    /// Octets where there were none.
    Write,
    /// Octets where there were others: in a recycled segment.
    Overwrite,
    /// The sync of a file.
    Sync,
    /// The sync of a directory.
    SyncDirectory,
    /// A new directory.
    MakeDirectory,
}

/// How it was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LossClass {
    /// It alone was lost.
    Lost,
    /// It alone was kept.
    Kept,
    /// It was the last that was kept.
    Last,
    /// Some of its sectors were kept.
    Torn,
    /// The length of the file was lost.
    Short,
    /// Both names were kept.
    BothNames,
    /// It was among those that were all lost.
    All,
    /// Chance decided about it and all others.
    Random,
    /// It had not returned.
    UnderWay,
}

const KINDS: [(LossKind, &str); 11] = [
    (LossKind::Create, "create"),
    (LossKind::Adopt, "adopt: name"),
    (LossKind::AdoptedOctets, "adopt: octets"),
    (LossKind::Rename, "rename"),
    (LossKind::Remove, "remove"),
    (LossKind::Allocate, "allocate"),
    (LossKind::Write, "write"),
    (LossKind::Overwrite, "overwrite"),
    (LossKind::Sync, "sync"),
    (LossKind::SyncDirectory, "sync directory"),
    (LossKind::MakeDirectory, "make directory"),
];

const CLASSES: [(LossClass, &str); 9] = [
    (LossClass::Lost, "lost"),
    (LossClass::Kept, "kept"),
    (LossClass::Last, "last kept"),
    (LossClass::Torn, "torn"),
    (LossClass::Short, "short"),
    (LossClass::BothNames, "both names"),
    (LossClass::All, "all lost"),
    (LossClass::Random, "random"),
    (LossClass::UnderWay, "under way"),
];

impl LossKind {
    fn of(unsynced: &UnsyncedOperation) -> Option<Self> {
        Some(match unsynced.kind {
            OperationKind::Create => Self::Create,
            OperationKind::Adopt if unsynced.sectors == 0 => Self::Adopt,
            OperationKind::Adopt => Self::AdoptedOctets,
            OperationKind::Rename => Self::Rename,
            OperationKind::Remove => Self::Remove,
            OperationKind::Allocate => Self::Allocate,
            OperationKind::Write if unsynced.overwrites => Self::Overwrite,
            OperationKind::Write => Self::Write,
            _ => return None,
        })
    }

    /// Whether that class can be met at all.
    fn allows(self, class: LossClass) -> bool {
        let is_sync = matches!(self, Self::Sync | Self::SyncDirectory | Self::MakeDirectory);
        match class {
            LossClass::UnderWay => is_sync,
            _ if is_sync => false,
            LossClass::Torn => matches!(self, Self::Write | Self::Overwrite | Self::AdoptedOctets),
            LossClass::Short => matches!(self, Self::Write | Self::Allocate | Self::AdoptedOctets),
            LossClass::BothNames => self == Self::Rename,
            _ => true,
        }
    }
}

/// A table of what was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LossCounts(BTreeMap<(LossKind, LossClass), u64>);

impl LossCounts {
    /// How often.
    pub fn of(&self, kind: LossKind, class: LossClass) -> u64 {
        self.0.get(&(kind, class)).copied().unwrap_or(0)
    }

    /// What could be met and was not.
    pub fn missing(&self) -> Vec<(LossKind, LossClass)> {
        let all = KINDS.iter().flat_map(|(kind, _)| CLASSES.iter().map(|(class, _)| (*kind, *class)));
        all.filter(|(kind, class)| kind.allows(*class) && self.of(*kind, *class) == 0).collect()
    }

    pub(super) fn add(&mut self, point: &CrashPoint, unsynced: &[UnsyncedOperation], loss: PowerLoss) {
        let under_way = match point.before.as_ref().map(|next| next.kind) {
            Some(OperationKind::Sync) => Some(LossKind::Sync),
            Some(OperationKind::SyncDirectory) => Some(LossKind::SyncDirectory),
            Some(OperationKind::MakeDirectory) => Some(LossKind::MakeDirectory),
            _ => None,
        };
        if let Some(kind) = under_way {
            self.add_one(kind, LossClass::UnderWay);
        }
        let (class, only) = match loss {
            PowerLoss::Lost(number) => (LossClass::Lost, Some(number)),
            PowerLoss::Kept(number) => (LossClass::Kept, Some(number)),
            PowerLoss::KeptUpTo(number) => (LossClass::Last, Some(number)),
            PowerLoss::Torn(number, _) => (LossClass::Torn, Some(number)),
            PowerLoss::Short(number) => (LossClass::Short, Some(number)),
            PowerLoss::BothNames(number) => (LossClass::BothNames, Some(number)),
            PowerLoss::AllLost => (LossClass::All, None),
            PowerLoss::Random(_) | PowerLoss::Journaled(_) => (LossClass::Random, None),
            _ => return,
        };
        for operation in unsynced.iter().filter(|operation| only.is_none_or(|number| number == operation.number)) {
            if let Some(kind) = LossKind::of(operation).filter(|kind| kind.allows(class)) {
                self.add_one(kind, class);
            }
        }
    }

    fn add_one(&mut self, kind: LossKind, class: LossClass) {
        *self.0.entry((kind, class)).or_default() += 1;
    }
}

impl fmt::Display for LossCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<15}", "")?;
        for (_, name) in CLASSES {
            write!(f, "{name:>11}")?;
        }
        for (kind, name) in KINDS {
            write!(f, "\n{name:<15}")?;
            for (class, _) in CLASSES {
                if kind.allows(class) {
                    write!(f, "{:>11}", self.of(kind, class))?;
                } else {
                    write!(f, "{:>11}", "-")?;
                }
            }
        }
        Ok(())
    }
}
