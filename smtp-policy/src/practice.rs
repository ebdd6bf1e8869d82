//! A practice by its number: what it asks, and what each preset makes of it.

use smtp_core::Refusal;

use crate::finding::{Action, Finding, Outcome};

/// Three ways to read the source documents (PRACTICES P2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Preset {
    /// Heuristics only observe; what is refused rests on an RFC. Whoever sends is told of failures, also where nothing confirms
    /// that it was the sender (RFC 5321 §6.1; PRACTICES S21).
    RfcStrict,
    /// Heuristics score and greylist. The default.
    #[default]
    Bcp,
    /// The letter of the practice, even where it departs from an RFC.
    BcpStrict,
}

impl Preset {
    /// All, as they are named here.
    pub const ALL: [Self; 3] = [Self::RfcStrict, Self::Bcp, Self::BcpStrict];

    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RfcStrict => "rfc-strict",
            Self::Bcp => "bcp",
            Self::BcpStrict => "bcp-strict",
        }
    }

    /// The preset of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == word)
    }
}

/// What a finding means for `postmaster`, `abuse` and `security` (PRACTICES P4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForRoleMailboxes {
    /// Nothing: those in trouble must be able to write. For what is known of the client and the envelope.
    Waived,
    /// At most a mark: a report quotes what it reports. For what is known of the content.
    Tagged,
    /// The same as for everybody: malware.
    Kept,
}

/// One practice: its name and number, what each preset makes of it, and how a refusal reads. It is data, in the file of the
/// check that observes it.
///
/// ```
/// use smtp_policy::{Action, Practice};
///
/// /// A practice of one's own takes part in the verdict as ours do.
/// const ON_A_MONDAY: Practice = Practice::new("on-a-monday", "M1", "Nobody writes on a Monday")
///     .fails([Action::Observe, Action::Score, Action::Reject], [1, 1, 1])
///     .refuses(7, 1, "Try on Tuesday");
/// # let _ = ON_A_MONDAY;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Practice {
    name: &'static str,
    id: &'static str,
    about: &'static str,
    fails: [Action; 3],
    weights: [u16; 3],
    unknown: [Action; 3],
    for_role_mailboxes: ForRoleMailboxes,
    is_never_permanent: bool,
    transient_code: u16,
    status: (u16, u16),
    text: &'static str,
    text_when_unknown: &'static str,
}

impl Practice {
    /// A practice of that name, number, and content in one sentence. Until more is said it is observed and no more.
    pub const fn new(name: &'static str, id: &'static str, about: &'static str) -> Self {
        Self {
            name,
            id,
            about,
            fails: [Action::Observe; 3],
            weights: [0; 3],
            unknown: [Action::Observe; 3],
            for_role_mailboxes: ForRoleMailboxes::Waived,
            is_never_permanent: false,
            transient_code: 451,
            status: (7, 1),
            text: "Refused by local policy",
            text_when_unknown: "What is asked of mail cannot be found out now, try again later",
        }
    }

    /// What it means where it is not kept, and its weight where it scores, by preset in the order of [`Preset::ALL`].
    #[must_use]
    pub const fn fails(self, actions: [Action; 3], weights: [u16; 3]) -> Self {
        Self { fails: actions, weights, ..self }
    }

    /// What it means where it cannot be known, by preset. A [`Action::Reject`] becomes a [`Action::Defer`]. Default: observe.
    #[must_use]
    pub const fn unknown(self, actions: [Action; 3]) -> Self {
        Self { unknown: actions, ..self }
    }

    /// How a refusal reads: `550 5.subject.detail text`, or `451 4.subject.detail text`. Default: `7.1`.
    #[must_use]
    pub const fn refuses(self, subject: u16, detail: u16, text: &'static str) -> Self {
        Self { status: (subject, detail), text, ..self }
    }

    /// What a client is told where the practice cannot be known, for which it may do nothing.
    #[must_use]
    pub const fn when_unknown(self, text: &'static str) -> Self {
        Self { text_when_unknown: text, ..self }
    }

    /// A transient refusal has this code in the place of 451.
    #[must_use]
    pub const fn with_transient_code(self, code: u16) -> Self {
        Self { transient_code: code, ..self }
    }

    /// It never refuses for good: [`Action::Reject`] has the effect of [`Action::Defer`]. For what others say of others.
    #[must_use]
    pub const fn never_permanent(self) -> Self {
        Self { is_never_permanent: true, ..self }
    }

    /// What it means for role mailboxes. Default: [`ForRoleMailboxes::Waived`].
    #[must_use]
    pub const fn for_role_mailboxes(self, meaning: ForRoleMailboxes) -> Self {
        Self { for_role_mailboxes: meaning, ..self }
    }

    /// Its name, in configurations, findings and logs.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its number in the list of practices.
    pub const fn id(&self) -> &'static str {
        self.id
    }

    /// What it asks.
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// What it means for role mailboxes.
    pub const fn meaning_for_role_mailboxes(&self) -> ForRoleMailboxes {
        self.for_role_mailboxes
    }

    /// Whether it never refuses for good.
    pub const fn is_never_permanent(&self) -> bool {
        self.is_never_permanent
    }

    pub(crate) fn setting(&self, preset: Preset) -> Setting {
        let place = preset as usize;
        Setting { fails: self.fails[place], unknown: self.unknown[place], weight: self.weights[place] }
    }

    /// The refusal in its words, and in those of the finding.
    pub(crate) fn refusal(&self, is_permanent: bool, finding: &Finding) -> Refusal {
        let (subject, detail) = self.status;
        let text = if finding.outcome() == Outcome::Unknown { self.text_when_unknown } else { self.text };
        let text = match finding.explanation() {
            Some(explanation) => format!("{text}: {explanation}"),
            None => text.to_owned(),
        };
        if is_permanent {
            Refusal::permanent(subject, detail, text)
        } else {
            Refusal::transient(subject, detail, text).with_code(self.transient_code)
        }
    }
}

/// What a configuration makes of a practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) fails: Action,
    pub(crate) unknown: Action,
    pub(crate) weight: u16,
}

impl Setting {
    pub(crate) fn is_off(self) -> bool {
        self.fails == Action::Off && self.unknown <= Action::Observe
    }
}
