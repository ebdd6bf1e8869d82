//! The trace of decisions: what was said, found and done in a session, kept so that a person can read it afterwards.
//!
//! [`DecisionTrace`](observer::DecisionTrace) is an observer; it makes a [`TraceEntry`](entry::TraceEntry) of each event and
//! writes it as one line of JSON. What keeps the lines, and for how long, is the application's: a file, a table, memory. Read
//! again they are a [`SessionTrace`](session::SessionTrace), which is shown as a page; a
//! [`TraceSummary`](summary::TraceSummary) counts them, and [`Replay`](crate::replay::Replay) judges them anew.

pub(crate) mod entry;
pub(crate) mod event;
pub(crate) mod observer;
pub(crate) mod page;
pub(crate) mod session;
pub(crate) mod summary;
