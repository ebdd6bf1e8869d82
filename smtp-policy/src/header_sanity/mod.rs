//! Is the header section one that RFC 5322 knows? What is malformed is found and said, never repaired (RFC 7103).
//!
//! Fields that lack or stand twice, lines that are no field, addresses and dates that nobody can read, octets that are not
//! ASCII, lines that are too long. No single one of these is a proof of anything: old programs write them as well. Two `From`
//! fields are, because each reader shows another one (SECURITY D-24).
//!
//! Nothing here knows MIME. The content is read once, in pieces; of the header section 1 MiB is looked at
//! (SECURITY D-25).

mod fields;
mod scan;

use std::io;

use smtp_core::{Content, Transaction, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::{ForRoleMailboxes, Practice};

use self::scan::{Scanned, scan};

/// RFC 5322 §3.6: exactly one.
const FROM_ONCE: Practice = malformed("from-once", "The message has one From field at most")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
    .refuses(7, 1, "A message has one From field (RFC 5322 3.6)");
/// RFC 5322 §3.6: exactly one. [`Dmarc`](crate::Dmarc) scores a missing author as well.
const FROM_PRESENT: Practice = malformed("from-present", "The message has a From field")
    .fails([Action::Observe, Action::Score, Action::Reject], [0, 1, 0])
    .refuses(7, 1, "A message has a From field (RFC 5322 3.6)");
/// RFC 5322 §3.6: at most one of each.
const ONCE: Practice = malformed("header-once", "Fields that stand once at most do so")
    .fails([Action::Observe, Action::Score, Action::Reject], [0, 2, 0])
    .refuses(6, 0, "A header field stands twice that may stand once (RFC 5322 3.6)");
/// RFC 5322 §3.6.1
const DATE: Practice = malformed("date-valid", "The message has a Date that can be read")
    .fails([Action::Observe, Action::Score, Action::Score], [0, 1, 1]);
/// RFC 5322 §3.6.4: it should be there, and many programs leave it to the server.
const MESSAGE_ID: Practice = malformed("message-id-present", "The message has a Message-ID")
    .fails([Action::Observe, Action::Observe, Action::Score], [0, 0, 1]);
/// RFC 7103 §7.2, §7.3
const SYNTAX: Practice = malformed("header-syntax", "Each line of the header section is a field or continues one")
    .fails([Action::Observe, Action::Score, Action::Score], [0, 1, 2]);
/// RFC 7103 §7.1
const ADDRESSES: Practice = malformed("header-addresses", "Addresses in the header section can be read in one way")
    .fails([Action::Observe, Action::Score, Action::Score], [0, 1, 2]);
/// RFC 7103 §7.7; RFC 6531 §3.4
const ASCII: Practice = malformed("header-ascii", "The header section is ASCII, or came with SMTPUTF8")
    .fails([Action::Observe, Action::Score, Action::Score], [0, 1, 2]);
/// RFC 5322 §2.1.1
const LINES: Practice = malformed("line-length", "No line has more than 998 octets")
    .fails([Action::Observe, Action::Observe, Action::Score], [0, 0, 1]);
/// LI9: what cannot be looked at whole.
const SIZE: Practice = malformed("header-size", "The header section has at most 1 MiB and 10,000 fields")
    .fails([Action::Observe, Action::Score, Action::Reject], [0, 3, 0])
    .refuses(6, 0, "The header section is too large to be examined");

const fn malformed(name: &'static str, about: &'static str) -> Practice {
    Practice::new(name, "R7103", about).for_role_mailboxes(ForRoleMailboxes::Tagged)
}

/// Looks whether a header section is well formed (RFC 5322 §3.6; RFC 7103 §7).
///
/// Mail of authenticated clients is not looked at: what lacks there is added (RFC 6409 §8).
///
/// ```
/// use smtp_policy::{Chain, HeaderSanity, Preset};
///
/// let chain = Chain::new("mx", Preset::Bcp).with(HeaderSanity);
/// assert!(chain.explain().contains("header-once"));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct HeaderSanity;

impl HeaderSanity {
    /// What there is to say of a content. Blocks where that is in a file.
    ///
    /// # Errors
    /// What reading the content gave.
    pub fn examine_content(content: &Content, smtputf8: bool) -> io::Result<Observation> {
        Ok(observation(&scan(content.reader()?)?, smtputf8))
    }
}

#[async_trait]
impl Check for HeaderSanity {
    fn practices(&self) -> &[Practice] {
        &[FROM_ONCE, FROM_PRESENT, ONCE, DATE, MESSAGE_ID, SYNTAX, ADDRESSES, ASCII, LINES, SIZE]
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    fn examines_submission(&self) -> bool {
        false
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let Some(content) = subject.content().cloned() else { return Observation::new() };
        let smtputf8 = subject.transaction().map(Transaction::parameters).is_some_and(|said| said.smtputf8);
        let examined = if content.as_bytes().is_some() {
            Self::examine_content(&content, smtputf8)
        } else {
            let examine = move || Self::examine_content(&content, smtputf8);
            tokio::task::spawn_blocking(examine).await.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        examined.unwrap_or_else(|_| Finding::unknown(SYNTAX.name(), "cannot read the content").into())
    }
}

/// One finding for each practice that is not kept.
fn observation(scanned: &Scanned, smtputf8: bool) -> Observation {
    let mut seen = Observation::new();
    let mut fail = |practice: &Practice, evidence: String| {
        seen.findings.push(Finding::fail(practice.name(), evidence));
    };
    match scanned.from_fields {
        0 => fail(&FROM_PRESENT, "no From field".to_owned()),
        1 => {}
        fields => fail(&FROM_ONCE, format!("{fields} From fields")),
    }
    if let Some(names) = scanned.repeated() {
        fail(&ONCE, format!("more than once: {names}"));
    }
    if let Some(problem) = &scanned.date_problem {
        fail(&DATE, problem.clone());
    }
    if !scanned.has_message_id {
        fail(&MESSAGE_ID, "no Message-ID field".to_owned());
    }
    if let Some(line) = scanned.no_field {
        fail(&SYNTAX, format!("line {line} of the header section is no field"));
    }
    if let Some(problem) = &scanned.address_problem {
        fail(&ADDRESSES, problem.clone());
    }
    if scanned.is_not_ascii && !smtputf8 {
        fail(&ASCII, "octets over 127, without SMTPUTF8".to_owned());
    }
    if scanned.longest_line > scan::LINE_LIMIT_OCTETS {
        fail(&LINES, format!("a line of {} octets", scanned.longest_line));
    }
    if scanned.is_cut {
        fail(&SIZE, format!("{} fields in the first octets, and more behind", scanned.fields));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the practices that are not kept.
    fn failing(header: &str, smtputf8: bool) -> Vec<&'static str> {
        let content = Content::new(format!("{header}\r\nbody\r\n"));
        let seen = HeaderSanity::examine_content(&content, smtputf8).expect("in memory");
        seen.findings().iter().map(Finding::practice).collect()
    }

    const DATE_AND_ID: &str = "Date: Fri, 21 Nov 1997 09:55:06 -0600\r\nMessage-ID: <1@client.example>\r\n";

    #[test] // RFC 7103 §7; RFC 5322 §3.6
    fn r7103_each_case_is_found_and_nothing_else() {
        for (rfc, header, expected) in [
            ("RFC 5322 §3.6", "From: a@b.example\r\n", &[][..]),
            ("RFC 5322 §3.6", "To: c@d.example\r\n", &["from-present"]),
            ("RFC 5322 §3.6", "From: a@b.example\r\nfrom : c@d.example\r\n", &["from-once"]),
            ("RFC 7103 §7.5.1", "From: a@b.example\r\nSubject: 1\r\nSUBJECT: 2\r\n", &["header-once"]),
            ("RFC 7103 §7.5.1", "From: a@b.example\r\nTo: c@d.example\r\nTo: e@f.example\r\n", &["header-once"]),
            ("RFC 5322 §3.6", "From: a@b.example\r\nReceived: x\r\nReceived: y\r\nX: 1\r\nX: 2\r\n", &[]),
            ("RFC 5322 §3.6", "From: a@b.example\r\nComments: 1\r\nComments: 2\r\nKeywords: x\r\n", &[]),
            ("RFC 7103 §7.2", "From: a@b.example\r\nno field at all\r\n", &["header-syntax"]),
            ("RFC 7103 §7.3", "From: a@b.example\r\nodd name: x\r\n", &["header-syntax"]),
            ("RFC 5322 §4.5", "From: a@b.example\r\nSubject : obsolete, and read\r\n", &[]),
            ("RFC 5322 §2.2", "From: a@b.example\r\n: nameless\r\n", &["header-syntax"]),
            ("RFC 7103 §7.1.2", "From: <<a@b.example>>\r\n", &["header-addresses"]),
            ("RFC 7103 §7.1.3", "From: <a@b.example\r\n", &["header-addresses"]),
            ("RFC 7103 §7.1.3", "From: a@b.example>\r\n", &["header-addresses"]),
            ("RFC 7103 §7.1.4", "From: (x <a@b.example>\r\n", &["header-addresses"]),
            ("RFC 7103 §7.1.4", "From: x) <a@b.example>\r\n", &["header-addresses"]),
            ("RFC 7103 §7.1.6", "From: \"x <a@b.example>\r\n", &["header-addresses"]),
            ("RFC 7103 §7.1.7", "From: <a>\r\n", &["header-addresses"]),
            ("RFC 5322 §3.4", "From: \"a (b <c\" (d \\) e (f)) <a@b.example>\r\n", &[]),
            ("RFC 5322 §3.4", "From: a@b.example\r\nTo: Undisclosed:;, <\"x<y\"@z.example>\r\n", &[]),
            ("RFC 7103 §7.7", "From: J\u{f6}rg <a@b.example>\r\n", &["header-ascii"]),
        ] {
            assert_eq!(failing(&format!("{DATE_AND_ID}{header}"), false), expected, "{rfc}: {header}");
        }
        assert!(failing(&format!("{DATE_AND_ID}From: J\u{f6}rg <a@b.example>\r\n"), true).is_empty(), "SMTPUTF8");
        let first = format!(" continues nothing: x\r\nFrom: a@b.example\r\n{DATE_AND_ID}");
        assert_eq!(failing(&first, false), ["header-syntax"]);
        assert_eq!(failing("From: a@b.example\r\n", false), ["date-valid", "message-id-present"]);
        assert_eq!(failing("", false), ["from-present", "date-valid", "message-id-present"]);
    }

    #[test] // RFC 5322 §2.1.1: without its CRLF; in the header section and in the body
    fn r5322_lines_have_998_octets_at_most() {
        for (octets, is_found) in [(998, false), (999, true)] {
            let long = "x".repeat(octets - 3);
            let header = format!("{DATE_AND_ID}From: a@b.example\r\n");
            let inside = failing(&format!("{header}X: {long}\r\n"), false);
            let body = failing(&format!("{header}\r\n{long}xxx\r\n"), false);
            assert_eq!(inside, body);
            assert_eq!(inside == ["line-length"], is_found, "{octets}: {inside:?}");
        }
    }

    #[test] // PRACTICES P2: refusals in `rfc-strict` rest on an RFC, and none here has to be made.
    fn p2_rfc_strict_observes_and_bcp_refuses_two_authors() {
        use crate::{Chain, Preset};
        for (preset, expected) in [
            (Preset::RfcStrict, [Action::Observe, Action::Observe, Action::Observe]),
            (Preset::Bcp, [Action::Reject, Action::Score, Action::Score]),
            (Preset::BcpStrict, [Action::Reject, Action::Reject, Action::Score]),
        ] {
            let chain = Chain::new("x", preset).with(HeaderSanity);
            let found = ["from-once", "header-once", "date-valid"].map(|name| chain.rules().action(name));
            assert_eq!(found, expected.map(Some), "{preset:?}");
        }
    }

    proptest::proptest! {
        #[test] // SECURITY G4
        fn no_input_panics(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            proptest::prop_assert!(HeaderSanity::examine_content(&Content::new(octets), false).is_ok());
        }

        #[test] // SECURITY G4: near what it reads
        fn no_header_panics(text in "(From|Date|To)?[:<>()\"\\\\@ \r\n\ta0+,;]{0,60}") {
            proptest::prop_assert!(HeaderSanity::examine_content(&Content::new(text), false).is_ok());
        }
    }
}
