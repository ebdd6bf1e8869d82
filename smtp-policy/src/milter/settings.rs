//! One filter: where it listens, what it may cost, and what becomes of mail while it is away.

use std::time::Duration;

use crate::filter::FilterAddress;
use crate::practice::ForRoleMailboxes;

/// What becomes of mail while a filter is away, or says what nobody understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MilterFallback {
    /// The client is asked to come again: `451 4.7.1`.
    #[default]
    TempFail,
    /// It passes without this filter. A filter that was lost while it said what it changes has the client come again all the same,
    /// and so has one whose changes are impossible (SECURITY D-49).
    Accept,
}

impl MilterFallback {
    /// Both.
    pub const ALL: [Self; 2] = [Self::TempFail, Self::Accept];

    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TempFail => "tempfail",
            Self::Accept => "accept",
        }
    }

    /// The one of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fallback| fallback.as_str() == word)
    }
}

/// One filter.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub(super) address: FilterAddress,
    pub(super) time: Duration,
    pub(super) octets: u64,
    pub(super) fallback: MilterFallback,
    pub(super) for_role_mailboxes: ForRoleMailboxes,
}

impl Filter {
    /// With the defaults.
    pub(super) fn new(address: FilterAddress) -> Self {
        Self {
            address,
            time: Duration::from_secs(60),
            octets: 32 << 20,
            fallback: MilterFallback::default(),
            for_role_mailboxes: ForRoleMailboxes::Tagged,
        }
    }
}
