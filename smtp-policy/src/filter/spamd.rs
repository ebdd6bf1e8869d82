//! SpamAssassin: how much does it look like spam? (`spamd`, protocol SPAMC 1.5; PRACTICES S33)

use std::time::Duration;

use smtp_core::{Content, Identity, SafeText, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::{ForRoleMailboxes, Practice};

use super::{FilterAddress, FilterLimits};

/// Its score is added to ours, which are of the same scale: 5 is doubtful. What cannot be asked defers.
const SPAMASSASSIN: Practice = Practice::new("spamassassin", "S33", "SpamAssassin gives no points")
    .fails([Action::Observe, Action::Score, Action::Score], [0; 3])
    .unknown([Action::Observe, Action::Defer, Action::Defer])
    .refuses(7, 1, "The content looks like spam")
    .when_unknown("The content filter cannot be asked now, try again later")
    .for_role_mailboxes(ForRoleMailboxes::Tagged);

/// Shows the content to a `spamd` and adds the points that it gives, rounded down, to the score.
#[derive(Debug, Clone)]
pub struct Spamd {
    address: FilterAddress,
    limits: FilterLimits,
}

impl Spamd {
    /// The one that listens there. Content above 512 KiB is not shown to it by default, as its own client has it.
    pub fn new(address: FilterAddress) -> Self {
        Self { address, limits: FilterLimits { octets: 512 << 10, ..FilterLimits::default() } }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: FilterLimits) -> Self {
        Self { limits, ..self }
    }

    /// What it says of this content. The user's own rules count where one is named.
    pub async fn examine_content(&self, content: &Content, user: Option<&str>) -> Finding {
        if content.len() > self.limits.octets {
            return Finding::pass(SPAMASSASSIN.name(), "larger than what is looked at");
        }
        let user = user.filter(|user| !user.is_empty() && user.bytes().all(|octet| octet.is_ascii_graphic()));
        let user = user.map(|user| format!("User: {user}\r\n")).unwrap_or_default();
        let command = format!("SYMBOLS SPAMC/1.5\r\nContent-length: {}\r\n{user}\r\n", content.len());
        let asked = self.address.ask(command.as_bytes(), content, |framed, part| framed.extend(part), b"");
        match tokio::time::timeout(self.limits.time, asked).await {
            Ok(Ok(answer)) => read(&answer),
            Ok(Err(error)) => Finding::unknown(SPAMASSASSIN.name(), format!("spamd: {error}")),
            Err(_elapsed) => Finding::unknown(SPAMASSASSIN.name(), "spamd took too long"),
        }
    }
}

/// `SPAMD/1.1 0 EX_OK`, fields of which one is `Spam: True ; 15.0 / 5.0`, an empty line, and the names of the rules.
fn read(answer: &[u8]) -> Finding {
    let text = String::from_utf8_lossy(answer);
    let unknown = || {
        let start = text.lines().next().unwrap_or_default();
        Finding::unknown(SPAMASSASSIN.name(), format!("spamd: {}", SafeText::new(start.to_owned())))
    };
    let Some((head, rules)) = text.split_once("\r\n\r\n") else { return unknown() };
    let (status, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = status.split(' ');
    let is_well = words.next().is_some_and(|word| word.starts_with("SPAMD/")) && words.next() == Some("0");
    let points = fields.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let (_, points) = value.split_once(';')?;
        let (points, _) = points.split_once('/')?;
        let points: f64 = points.trim().parse().ok()?;
        (name.eq_ignore_ascii_case("Spam") && points.is_finite()).then_some(points)
    });
    let Some(points) = points.filter(|_| is_well) else { return unknown() };
    let rules = SafeText::new(rules.trim().to_owned());
    let evidence = format!("{points:.1} points: {rules}");
    // It may also take points off; those of others stay.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range, and cut on purpose")]
    let weight = points.clamp(0.0, 1000.0) as u16;
    if weight == 0 {
        Finding::pass(SPAMASSASSIN.name(), evidence)
    } else {
        Finding::fail(SPAMASSASSIN.name(), evidence).with_weight(weight)
    }
}

#[async_trait]
impl Check for Spamd {
    fn practices(&self) -> &[Practice] {
        &[SPAMASSASSIN]
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    fn time_limit(&self) -> Duration {
        self.limits.time
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let user = subject.connection().identity().map(Identity::as_str);
        match subject.content() {
            Some(content) => self.examine_content(content, user).await.into(),
            None => Observation::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Outcome;

    #[test] // SECURITY D-50
    fn d50_answers_of_spamd() {
        for (answer, outcome, weight) in [
            ("SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: True ; 15.9 / 5.0\r\n\r\nGTUBE", Outcome::Fail, Some(15)),
            ("SPAMD/1.1 0 EX_OK\r\nspam: False ; 0.9 / 5.0\r\n\r\n", Outcome::Pass, None),
            ("SPAMD/1.1 0 EX_OK\r\nSpam: False ; -3.2 / 5.0\r\n\r\n", Outcome::Pass, None),
            ("SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1e300 / 5.0\r\n\r\n", Outcome::Fail, Some(1000)),
            ("SPAMD/1.1 0 EX_OK\r\nSpam: True ; NaN / 5.0\r\n\r\n", Outcome::Unknown, None),
            ("SPAMD/1.1 0 EX_OK\r\n\r\nSpam: True ; 15.0 / 5.0\r\n", Outcome::Unknown, None),
            ("SPAMD/1.1 75 EX_TEMPFAIL\r\nSpam: True ; 15.0 / 5.0\r\n\r\n", Outcome::Unknown, None),
            ("HTTP/1.1 0 OK\r\nSpam: True ; 15.0 / 5.0\r\n\r\n", Outcome::Unknown, None),
            ("SPAMD/1.1 0 EX_OK", Outcome::Unknown, None),
            ("", Outcome::Unknown, None),
        ] {
            let finding = read(answer.as_bytes());
            assert_eq!((finding.outcome(), finding.weight()), (outcome, weight), "{answer}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            read(&octets);
        }
    }
}
