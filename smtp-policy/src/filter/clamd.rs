//! ClamAV: is there malware in it? (`clamd`, command `INSTREAM`; PRACTICES S18)

use std::time::Duration;

use smtp_core::{Content, SafeText, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::{ForRoleMailboxes, Practice};

use super::{FilterAddress, FilterLimits};

/// Malware is refused, also for role mailboxes. A scanner that does not answer defers. With the strict reading of the RFCs nobody
/// is asked, unless the operator says so.
const MALWARE: Practice = Practice::new("malware", "S18", "The content holds no malware")
    .fails([Action::Off, Action::Reject, Action::Reject], [0; 3])
    .unknown([Action::Off, Action::Defer, Action::Defer])
    .refuses(7, 1, "Malware found")
    .when_unknown("The content cannot be looked at for malware now, try again later")
    .for_role_mailboxes(ForRoleMailboxes::Kept);

/// Shows the content to a `clamd`. Each look is a connection of its own, which is how clamd is meant to be asked.
///
/// Without an answer within the limits the client is asked to come again (`451 4.7.1`). Whoever would rather let mail through
/// says so: `rules_mut().set_action_for_unknown("malware", Action::Observe)`.
#[derive(Debug, Clone)]
pub struct Clamd {
    address: FilterAddress,
    limits: FilterLimits,
}

impl Clamd {
    /// The one that listens there, with the default limits.
    pub fn new(address: FilterAddress) -> Self {
        Self { address, limits: FilterLimits::default() }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: FilterLimits) -> Self {
        Self { limits, ..self }
    }

    /// What it says of this content.
    pub async fn examine_content(&self, content: &Content) -> Finding {
        if content.len() > self.limits.octets {
            return Finding::pass(MALWARE.name(), "larger than what is scanned");
        }
        let asked = self.address.ask(b"zINSTREAM\0", content, frame, END);
        match tokio::time::timeout(self.limits.time, asked).await {
            Ok(Ok(answer)) => read(&answer),
            Ok(Err(error)) => Finding::unknown(MALWARE.name(), format!("clamd: {error}")),
            Err(_elapsed) => Finding::unknown(MALWARE.name(), "clamd took too long"),
        }
    }
}

/// A part with its length in front.
fn frame(framed: &mut Vec<u8>, part: &[u8]) {
    let octets = u32::try_from(part.len()).expect("a part is of 64 KiB at most");
    framed.extend(octets.to_be_bytes());
    framed.extend(part);
}

/// A part of no octets.
const END: &[u8] = &[0; 4];

/// `stream: OK`, `stream: NAME FOUND`, or why there is no answer; with a NUL at its end.
fn read(answer: &[u8]) -> Finding {
    let answer = answer.strip_suffix(b"\0").unwrap_or(answer).trim_ascii_end();
    let said = answer.strip_prefix(b"stream: ").unwrap_or_default();
    if said == b"OK" {
        return Finding::pass(MALWARE.name(), "clamd found nothing");
    }
    match said.strip_suffix(b" FOUND").filter(|name| !name.is_empty()) {
        Some(name) => {
            let name = SafeText::from_octets(name);
            Finding::fail(MALWARE.name(), format!("clamd: {name}")).with_explanation(name.as_str())
        }
        None => Finding::unknown(MALWARE.name(), format!("clamd: {}", SafeText::from_octets(answer))),
    }
}

#[async_trait]
impl Check for Clamd {
    fn practices(&self) -> &[Practice] {
        &[MALWARE]
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    fn time_limit(&self) -> Duration {
        self.limits.time
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        match subject.content() {
            Some(content) => self.examine_content(content).await.into(),
            None => Observation::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Outcome;

    #[test] // SECURITY D-50: what is no answer is unknown, and no answer becomes two lines
    fn d50_answers_of_clamd() {
        for (answer, outcome, explanation) in [
            (&b"stream: OK\0"[..], Outcome::Pass, None),
            (b"stream: OK\n", Outcome::Pass, None),
            (b"stream: Eicar-Test-Signature FOUND\0", Outcome::Fail, Some("Eicar-Test-Signature")),
            (b"stream: a\r\n550 x FOUND\0", Outcome::Fail, Some("a??550 x")),
            (b"INSTREAM size limit exceeded. ERROR\0", Outcome::Unknown, None),
            (b"stream:  FOUND\0", Outcome::Unknown, None),
            (b"stream: OK FOUND", Outcome::Fail, Some("OK")),
            (b"OK", Outcome::Unknown, None),
            (b"", Outcome::Unknown, None),
            (b"\xff\0\0", Outcome::Unknown, None),
        ] {
            let finding = read(answer);
            assert_eq!(finding.outcome(), outcome, "{}", answer.escape_ascii());
            assert_eq!(finding.explanation().map(SafeText::as_str), explanation);
        }
    }
}
