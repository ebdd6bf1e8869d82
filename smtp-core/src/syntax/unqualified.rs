//! Addresses without a domain, as mail clients of one site may write them (RFC 6409 §4.2).
//!
//! They are not in the grammar of RFC 5321 and no value of this crate can hold one: a line with such an address is completed
//! before it is parsed, or refused.

use super::address::LocalPart;
use super::cursor::Cursor;
use super::domain::Domain;

/// Where in a line of `MAIL` or `RCPT` the local-part ends that ought to go on with `@`; `None` where there is no such
/// address.
pub(crate) fn end_of_unqualified(line: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::new(line);
    let is_introduced = cursor.eat_word("MAIL FROM:") || cursor.eat_word("RCPT TO:");
    cursor.skip_spaces();
    if !(is_introduced && cursor.eat(b'<')) {
        return None;
    }
    LocalPart::parse_at(&mut cursor).ok()?;
    let end = line.len() - cursor.rest().len();
    (cursor.eat(b'>') && matches!(cursor.peek(), None | Some(b' '))).then_some(end)
}

/// The same line with that domain behind the local-part.
pub(crate) fn qualified(line: &[u8], domain: &Domain) -> Option<Vec<u8>> {
    let (before, behind) = line.split_at(end_of_unqualified(line)?);
    Some([before, b"@", domain.as_str().as_bytes(), behind].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::command::Command;

    #[test] // RFC 6409 §4.2: an address without a domain is completed, and nothing else is touched.
    fn r6409b_only_the_missing_domain_is_added() {
        let domain = Domain::parse("example.org").expect("a domain");
        for (line, expected) in [
            ("MAIL FROM:<alice>", Some("MAIL FROM:<alice@example.org>")),
            ("mail from: <a.b> SIZE=3", Some("mail from: <a.b@example.org> SIZE=3")),
            ("RCPT TO:<\"a b\">", Some("RCPT TO:<\"a b\"@example.org>")),
            ("RCPT TO:<bob> NOTIFY=NEVER", Some("RCPT TO:<bob@example.org> NOTIFY=NEVER")),
            ("MAIL FROM:<>", None),
            ("MAIL FROM:<alice@example.net>", None),
            ("MAIL FROM:alice", None),
            ("MAIL FROM:<alice", None),
            ("MAIL FROM:<alice>x", None),
            ("MAIL FROM:<a b>", None),
            ("MAIL FROM:<a..b>", None),
            ("MAIL FROM:<@relay.example:alice>", None),
            ("VRFY <alice>", None),
        ] {
            let line = qualified(line.as_bytes(), &domain);
            assert_eq!(line.as_deref(), expected.map(str::as_bytes));
            assert!(line.is_none_or(|line| Command::parse(&line).is_ok()));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_completed_was_no_command_before(local in "[ -~]{0,12}", verb in "(MAIL FROM|RCPT TO):") {
            let line = format!("{verb}<{local}>");
            let domain = Domain::parse("example.org").expect("a domain");
            let is_bare_postmaster = verb.starts_with("RCPT") && local.eq_ignore_ascii_case("postmaster");
            if let Some(completed) = qualified(line.as_bytes(), &domain) {
                proptest::prop_assert!(is_bare_postmaster || Command::parse(line.as_bytes()).is_err());
                proptest::prop_assert!(Command::parse(&completed).is_ok());
            }
        }
    }
}
