//! Every reply of all conversations: some rules hold for each of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::row::Ending;
use crate::session::shown;

/// A reply as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    octets: Vec<u8>,
}

impl Reply {
    /// Takes a whole reply from the front of what came.
    pub(crate) fn take(pending: &mut Vec<u8>) -> Option<Self> {
        let mut end = 0;
        loop {
            let line = &pending[end..];
            let length = line.iter().position(|octet| *octet == b'\n')? + 1;
            end += length;
            if line.get(3) != Some(&b'-') || length < 5 {
                return Some(Self { octets: pending.drain(..end).collect() });
            }
        }
    }

    /// The three digits of the last line.
    pub(crate) fn code(&self) -> String {
        self.raw_lines().last().unwrap_or_default().get(..3).map(lossy).unwrap_or_default()
    }

    /// The text of each line, without code and line end.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.raw_lines().map(|line| lossy(line.get(4..).unwrap_or_default()).trim_end().to_owned()).collect()
    }

    /// Whether the code begins with one of what stands between the bars.
    pub(crate) fn matches(&self, pattern: &str) -> bool {
        pattern.split('|').any(|start| self.code().starts_with(start))
    }

    pub(crate) fn must_match(&self, command: &str, pattern: &str) -> Result<(), Ending> {
        if self.matches(pattern) {
            return Ok(());
        }
        let pattern = pattern.replace('|', " or ");
        Err(Ending::differs(format!("{pattern} to {}", shown(command)), self.first_line()))
    }

    pub(crate) fn first_line(&self) -> String {
        lossy(self.raw_lines().next().unwrap_or_default()).trim_end().to_owned()
    }

    /// The lines with their ends.
    pub(crate) fn raw_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.octets.split_inclusive(|octet| *octet == b'\n')
    }
}

/// One reply and to what.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) command: String,
    pub(crate) reply: Reply,
    /// Whether it answered a command: the greeting does not.
    pub(crate) is_answer: bool,
}

/// What was said in this run.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Vec<Entry>>);

impl Journal {
    pub(crate) fn add(&self, command: &str, reply: &Reply, is_answer: bool) {
        self.entries().push(Entry { command: command.to_owned(), reply: reply.clone(), is_answer });
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a rule holds for every reply; the first that breaks it is named.
    pub(crate) fn each(&self, rule: &str, holds: impl Fn(&Entry) -> bool) -> Result<(), Ending> {
        match self.entries().iter().find(|entry| !holds(entry)) {
            None => Ok(()),
            Some(entry) => {
                Err(Ending::differs(rule, format!("{} to {}", entry.reply.first_line(), shown(&entry.command))))
            }
        }
    }
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
