//! Operations that fail.

use std::io;

use rustix::io::Errno;

use super::operation::OperationKind;

/// A failure that a simulated storage has in store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageFault {
    /// Which operations fail.
    pub point: FaultPoint,
    /// What the caller is told.
    pub error: FaultError,
    /// What has happened all the same.
    pub effect: FaultEffect,
}

/// Which operations fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultPoint {
    /// The one with that number: see [`StorageOperation::number`](super::StorageOperation::number).
    Operation(u64),
    /// That one, and all later ones.
    From(u64),
    /// Of the operations of a kind, the one that follows so many others from now on.
    Next(OperationKind, u64),
    /// All of a kind.
    Every(OperationKind),
}

/// What the caller of a failed operation is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultError {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    NoSpace,
    /// `EDQUOT`.
    Quota,
    /// `EMFILE`.
    TooManyFiles,
    /// `ENOMEM`.
    NoMemory,
    /// `EROFS`.
    ReadOnly,
}

impl FaultError {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Io, Self::NoSpace, Self::Quota, Self::TooManyFiles, Self::NoMemory, Self::ReadOnly];

    pub(super) fn error(self) -> io::Error {
        let errno = match self {
            Self::Io => Errno::IO,
            Self::NoSpace => Errno::NOSPC,
            Self::Quota => Errno::DQUOT,
            Self::TooManyFiles => Errno::MFILE,
            Self::NoMemory => Errno::NOMEM,
            Self::ReadOnly => Errno::ROFS,
        };
        errno.into()
    }
}

/// What an operation has done although it failed. Operations on names know only `None` and `Whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultEffect {
    /// Nothing. What a sync should have written waits for the next sync.
    None,
    /// A write: a part, as after a signal. A sync: some sectors are durable, the others are forgotten as below.
    Part,
    /// Everything, and the caller is told otherwise.
    Whole,
    /// A sync: nothing is durable, and what should have been counts as written from now on, so that the next sync
    /// succeeds without it although the process goes on to read it (STANDARDS.md C7). Otherwise as `None`.
    Forgotten,
}

impl FaultEffect {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::None, Self::Part, Self::Whole, Self::Forgotten];
}

/// The failures in store.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<StorageFault>);

impl Faults {
    pub(super) fn add(&mut self, fault: StorageFault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The failure of that operation, if it is to fail.
    pub(super) fn meets(&mut self, number: u64, kind: OperationKind) -> Option<StorageFault> {
        let mut met = None;
        self.0.retain_mut(|fault| {
            let (fails, stays) = match &mut fault.point {
                FaultPoint::Operation(n) => (*n == number, *n > number),
                FaultPoint::From(n) => (*n <= number, true),
                FaultPoint::Next(of, 0) => (*of == kind, *of != kind),
                FaultPoint::Next(of, others) => {
                    *others -= u64::from(*of == kind);
                    (false, true)
                }
                FaultPoint::Every(of) => (*of == kind, true),
            };
            if fails {
                met.get_or_insert(*fault);
            }
            stays
        });
        met
    }
}
