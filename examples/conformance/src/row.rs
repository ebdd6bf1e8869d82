//! One rule of an RFC, and the conversation that shows whether a server keeps it.

use std::fmt;
use std::io;

use crate::session::Session;
use crate::target::Target;

/// How strongly the RFC says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Must,
    Should,
    /// A server may do otherwise; most do this, and clients are glad of it.
    May,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        })
    }
}

/// What a row cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A service extension, by its keyword, in clear or under TLS.
    Keyword(&'static str),
    /// A server without that service extension.
    No(&'static str),
    /// Somebody who takes the mail: `--to`.
    Recipient,
    /// A port that begins with TLS: `--tls-port`.
    TlsPort,
}

/// Commands, and what their replies begin with.
pub(crate) type Lines = &'static [(&'static str, &'static str)];

/// The conversation of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Play {
    /// In a session that was greeted. `{to}`, `{from}` and `{ehlo}` are filled in; `250|251` is either, `5` any 5yz.
    Lines(Lines),
    /// What needs more than commands and replies.
    Talk(fn(&mut Session<'_>) -> Result<(), Ending>),
    /// What needs more than one session, or none.
    Target(fn(&Target) -> Result<(), Ending>),
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) section: &'static str,
    pub(crate) level: Level,
    pub(crate) says: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) play: Play,
}

/// All rows of one document.
#[derive(Debug)]
pub(crate) struct Rfc {
    pub(crate) number: &'static str,
    pub(crate) rows: &'static [Row],
}

/// Why a conversation did not come to its good end.
#[derive(Debug)]
pub(crate) enum Ending {
    Differs { expected: String, got: String },
    Skipped(String),
}

impl Ending {
    pub(crate) fn differs(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Differs { expected: expected.into(), got: got.into() }
    }
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        Self::differs("the conversation to go on", error.to_string())
    }
}

impl Row {
    pub(crate) const fn lines(section: &'static str, level: Level, says: &'static str, lines: Lines) -> Self {
        Self { section, level, says, needs: &[], play: Play::Lines(lines) }
    }

    pub(crate) const fn talk(
        section: &'static str,
        level: Level,
        says: &'static str,
        talk: fn(&mut Session<'_>) -> Result<(), Ending>,
    ) -> Self {
        Self { section, level, says, needs: &[], play: Play::Talk(talk) }
    }

    pub(crate) const fn target(
        section: &'static str,
        level: Level,
        says: &'static str,
        judge: fn(&Target) -> Result<(), Ending>,
    ) -> Self {
        Self { section, level, says, needs: &[], play: Play::Target(judge) }
    }

    pub(crate) const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Has the conversation, unless something is missing.
    pub(crate) fn play(&self, target: &Target) -> Result<(), Ending> {
        for need in self.needs {
            target.has(*need)?;
        }
        match self.play {
            Play::Lines(lines) => {
                let mut session = Session::open(target)?;
                lines.iter().try_for_each(|(command, pattern)| session.expect(command, pattern).map(drop))
            }
            Play::Talk(talk) => talk(&mut Session::open(target)?),
            Play::Target(judge) => judge(target),
        }
    }
}
