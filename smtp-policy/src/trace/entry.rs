//! An entry of a trace, and its line: JSON, one object in each line.
//!
//! ```text
//! {"v":1,"at":1795311863123,"session":"b43f482884374732","what":"greeted","name":"client.example","protocol":"ESMTP"}
//! ```
//!
//! | Key | What |
//! |---|---|
//! | `v` | the version of this form: 1. A reader leaves out lines of others |
//! | `at` | milliseconds since 1970 |
//! | `session` | the session; absent where a queue reports |
//! | `what` | the kind of [`Traced`] in lower case with hyphens, then its fields by their names |
//!
//! Keys may be added in a version, and readers ignore those that they do not know. Text is what [`SafeText`] lets pass, so that a
//! line is a line, whatever a client says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use smtp_core::{SafeText, SessionId};
use thiserror::Error;

use super::event::Traced;

/// The version of the form.
const VERSION: u32 = 1;

/// One thing that happened, when, and in which session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEntry {
    #[serde(rename = "v")]
    version: u32,
    #[serde(rename = "at")]
    millis: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SafeText>,
    #[serde(flatten)]
    traced: Traced,
}

/// A line is no entry of a trace.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TraceLineError {
    /// It is not JSON, or lacks a field: a crash cut it, for example.
    #[error("no entry of a trace")]
    Syntax(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has another version.
    #[error("a trace of version {0}")]
    Version(u32),
}

impl TraceEntry {
    /// What happened then, to whole milliseconds; a moment before 1970 counts as 1970.
    pub fn new(at: SystemTime, session: Option<SessionId>, traced: Traced) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let session = session.map(|session| SafeText::new(session.to_string()));
        Self { version: VERSION, millis, session, traced }
    }

    /// When.
    pub fn at(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.millis)).unwrap_or(UNIX_EPOCH)
    }

    /// The session, 16 hexadecimal digits; `None` where a queue reports.
    pub fn session(&self) -> Option<&str> {
        self.session.as_ref().map(SafeText::as_str)
    }

    /// What.
    pub fn traced(&self) -> &Traced {
        &self.traced
    }

    /// The line, with its line feed.
    pub fn to_line(&self) -> String {
        // It has texts and numbers and no map with other keys, so that there is nothing that cannot be written.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// The entry of a line, with or without its line feed.
    ///
    /// # Errors
    /// [`TraceLineError`].
    pub fn from_line(line: &str) -> Result<Self, TraceLineError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Any {
            v: u32,
        }
        match serde_json::from_str::<Self>(line) {
            Ok(entry) if entry.version == VERSION => Ok(entry),
            Ok(entry) => Err(TraceLineError::Version(entry.version)),
            Err(error) => match serde_json::from_str::<Any>(line) {
                Ok(Any { v }) if v != VERSION => Err(TraceLineError::Version(v)),
                _ => Err(TraceLineError::Syntax(error.into())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::event::{Judged, JudgedFinding};

    fn text() -> impl Strategy<Value = SafeText> {
        // What a client would like to write into a log.
        let nasty = prop_oneof![
            Just("\r\n{\"v\":1}".to_owned()),
            Just("\u{1b}[2J\"\\".to_owned()),
            Just("\u{202e}cba\u{2028}".to_owned()),
            any::<String>(),
        ];
        nasty.prop_map(SafeText::new)
    }

    fn finding() -> impl Strategy<Value = JudgedFinding> {
        let texts = (text(), text(), text(), text(), text(), text());
        (texts, any::<u16>(), any::<Option<u16>>(), proptest::option::of(text())).prop_map(
            |((practice, number, outcome, action, evidence, shadow), weight, own_weight, explanation)| JudgedFinding {
                practice,
                number,
                outcome,
                action,
                weight,
                own_weight,
                evidence,
                explanation,
                shadow,
            },
        )
    }

    fn traced() -> impl Strategy<Value = Traced> {
        let judged = (text(), text(), proptest::collection::vec(finding(), 0..4), any::<(bool, bool, u32)>()).prop_map(
            |(recipient, reply, findings, (content_seen, is_role, score))| {
                let judged = Judged { recipient, content_seen, is_role, findings, score, reply, ..Judged::default() };
                Traced::Judged(judged)
            },
        );
        let refused =
            (text(), text(), text(), text(), any::<bool>()).prop_map(|(transaction, stage, subject, reply, held)| {
                let policy = subject.clone();
                Traced::Refused { transaction, stage, subject, reply, policy, held }
            });
        let connected = any::<([u8; 16], u16)>().prop_map(|(address, port)| {
            let peer = (std::net::Ipv6Addr::from(address), port).into();
            Traced::Connected { peer, local: peer }
        });
        let attempted = (text(), text(), text(), any::<u32>()).prop_map(|(id, recipient, reply, number)| {
            let (site, result, remote) = (id.clone(), reply.clone(), recipient.clone());
            Traced::Attempted { id, recipient, site, number, result, reply, remote }
        });
        let rules = proptest::collection::vec(text(), 0..4).prop_map(|practices| Traced::Rules { practices });
        prop_oneof![judged, refused, connected, attempted, rules, Just(Traced::Cut)]
    }

    proptest! {
        #[test] // SECURITY D-26, PRACTICES S41
        fn d26_a_line_is_one_line_and_reads_as_what_was_written(
            traced in traced(), at: u32, session: Option<u64>
        ) {
            let at = UNIX_EPOCH + Duration::from_millis(u64::from(at) * 1000);
            let entry = TraceEntry::new(at, session.map(SessionId::new), traced);
            let line = entry.to_line();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].chars().any(char::is_control), "{}", line);
            prop_assert_eq!(TraceEntry::from_line(&line).expect("it was written so"), entry);
        }

        #[test]
        fn no_line_panics(line: String, cut in 0..100_usize) {
            let _ = TraceEntry::from_line(&line);
            let whole = TraceEntry::new(UNIX_EPOCH, None, Traced::Closed { reason: SafeText::new(line) }).to_line();
            let cut: String = whole.chars().take(cut).collect();
            prop_assert!(cut.trim_end() == whole.trim_end() || TraceEntry::from_line(&cut).is_err());
        }
    }

    #[test]
    fn a_line_of_a_later_version_is_known_as_such_and_unknown_keys_are_ignored() {
        let later = TraceEntry::from_line(r#"{"v":2,"when":"now"}"#);
        assert!(matches!(later, Err(TraceLineError::Version(2))), "{later:?}");
        let more = TraceEntry::from_line(r#"{"v":1,"at":7,"what":"cut","why":"because"}"#).expect("an entry");
        assert_eq!(more, TraceEntry::new(UNIX_EPOCH + Duration::from_millis(7), None, Traced::Cut));
        assert!(matches!(TraceEntry::from_line(r#"{"v":1,"at":7,"what":"#), Err(TraceLineError::Syntax(_))));
    }

    #[test] // What is written by hand into a file is no more dangerous than what a client says.
    fn d26_what_is_read_is_cleaned() {
        let line = "{\"v\":1,\"at\":7,\"what\":\"closed\",\"reason\":\"a\\u001b[31m\\nb\"}";
        let entry = TraceEntry::from_line(line).expect("an entry");
        assert_eq!(*entry.traced(), Traced::Closed { reason: SafeText::new("a?[31m?b") });
    }

    #[test] // The form is stable: who changes this line changes the version.
    fn a_line_reads_like_this() {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_311_863_123);
        let traced = Traced::Greeted { name: SafeText::new("client.example"), protocol: SafeText::new("ESMTP") };
        assert_eq!(
            TraceEntry::new(at, Some(SessionId::new(0xb43f_4828_8437_4732)), traced).to_line(),
            "{\"v\":1,\"at\":1795311863123,\"session\":\"b43f482884374732\",\"what\":\"greeted\",\
             \"name\":\"client.example\",\"protocol\":\"ESMTP\"}\n"
        );
    }
}
