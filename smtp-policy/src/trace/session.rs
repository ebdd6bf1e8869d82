//! The entries of one session, found among all by any of its names.

use std::collections::BTreeSet;
use std::fmt;

use super::entry::TraceEntry;
use super::event::Traced;
use super::page;

/// The most entries of one session and of its messages that are gathered: 20,000.
const ENTRIES: usize = 20_000;

/// What happened in a session, and to the messages that came in it. Shown with `{}` it is a page for people.
///
/// ```
/// use smtp_policy::{SessionTrace, TraceEntry};
///
/// let lines = r#"{"v":1,"at":1795311863000,"session":"b43f482884374732","what":"connected","peer":"192.0.2.1:4321","local":"192.0.2.25:25"}
/// {"v":1,"at":1795311863012,"session":"b43f482884374732","what":"closed","reason":"quit"}"#;
/// let entries = || lines.lines().filter_map(|line| TraceEntry::from_line(line).ok());
/// let trace = SessionTrace::find("b43f482884374732", entries).expect("it is there");
/// assert_eq!(trace.entries().len(), 2);
/// assert!(trace.to_string().contains("+0.012 s  closed: quit"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTrace {
    entries: Vec<TraceEntry>,
    is_cut: bool,
}

impl SessionTrace {
    /// The session of that name: a session, one of its transactions, or the queue id of a message, as they stand in the log, in
    /// replies and in `Received`. `entries` gives all entries in the order in which they were written, and is asked twice. A
    /// message that came in no session is found with what became of it.
    pub fn find<I: IntoIterator<Item = TraceEntry>>(name: &str, entries: impl Fn() -> I) -> Option<Self> {
        // Who gives no queue id gives an empty one.
        let name = Some(name).filter(|name| !name.is_empty())?;
        let root = entries().into_iter().find_map(|entry| Root::named_by(name, &entry))?;
        let mut members = Members::of(root);
        let mut found = Self { entries: Vec::new(), is_cut: false };
        for entry in entries() {
            if !members.take(&entry) {
                continue;
            }
            if found.entries.len() == ENTRIES {
                found.is_cut = true;
                break;
            }
            found.entries.push(entry);
        }
        Some(found)
    }

    /// What happened, in order.
    pub fn entries(&self) -> &[TraceEntry] {
        &self.entries
    }

    /// Whether there was more than is gathered of one session.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl fmt::Display for SessionTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        page::write(f, &self.entries)?;
        if self.is_cut { writeln!(f, "\nThere is more, which is not shown.") } else { Ok(()) }
    }
}

/// From where all entries are found.
enum Root {
    Session(String),
    Message(String),
}

impl Root {
    /// What the name names, if this entry tells.
    fn named_by(name: &str, entry: &TraceEntry) -> Option<Self> {
        let session = |session: &str| Self::Session(session.to_owned());
        if let Some(of) = entry.session()
            && (of == name || (session_of(name) == Some(of) && is_of_transaction(entry, name)))
        {
            return Some(session(of));
        }
        match entry.traced() {
            Traced::Accepted { id, .. } if id.as_str() == name => entry.session().map(session),
            Traced::Queued { id, transaction, .. } if id.as_str() == name => {
                Some(session_of(transaction.as_str()).map_or_else(|| Self::Message(name.to_owned()), session))
            }
            Traced::Attempted { id, .. } | Traced::Noted { id, .. } | Traced::Notified { id, .. }
                if id.as_str() == name =>
            {
                Some(Self::Message(name.to_owned()))
            }
            _ => None,
        }
    }
}

/// Whether the entry is of that transaction: a session may never have had it.
fn is_of_transaction(entry: &TraceEntry, name: &str) -> bool {
    entry.to_line().contains(&format!("\"transaction\":\"{name}\""))
}

/// The session in the name of a transaction.
fn session_of(transaction: &str) -> Option<&str> {
    transaction.split_once('-').map(|(session, _)| session)
}

/// What belongs to it.
struct Members {
    session: Option<String>,
    messages: BTreeSet<String>,
}

impl Members {
    fn of(root: Root) -> Self {
        match root {
            Root::Session(session) => Self { session: Some(session), messages: BTreeSet::new() },
            Root::Message(id) => Self { session: None, messages: BTreeSet::from([id]) },
        }
    }

    /// Whether the entry belongs to it, and so the message that it names.
    fn take(&mut self, entry: &TraceEntry) -> bool {
        let is_ours = |session: Option<&str>| session.is_some() && session == self.session.as_deref();
        if is_ours(entry.session()) {
            if let Traced::Accepted { id, .. } = entry.traced() {
                self.add(id.as_str());
            }
            return true;
        }
        match entry.traced() {
            Traced::Queued { id, transaction, .. } => {
                let is_of_ours = is_ours(session_of(transaction.as_str())) || self.messages.contains(id.as_str());
                if is_of_ours {
                    self.add(id.as_str());
                }
                is_of_ours
            }
            Traced::Attempted { id, .. } | Traced::Noted { id, .. } => self.messages.contains(id.as_str()),
            Traced::Notified { about, id, .. } => {
                let is_of_ours = self.messages.contains(about.as_str()) || self.messages.contains(id.as_str());
                if is_of_ours {
                    self.add(id.as_str());
                }
                is_of_ours
            }
            _ => false,
        }
    }

    fn add(&mut self, id: &str) {
        if !id.is_empty() && self.messages.len() < ENTRIES {
            self.messages.insert(id.to_owned());
        }
    }
}
