//! The domain of the author, read so that nobody who reads otherwise is deceived (RFC 9989 §4.1; SECURITY D-24).

use smtp_core::DnsName;

use crate::signature::Signed;

/// Whose message it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Author {
    /// All its addresses are of this domain.
    One(DnsName),
    /// Several fields, or addresses of several domains.
    Several,
    /// No field, or none with an address that can be read.
    Unreadable,
}

/// Reads the `From` fields.
pub(crate) fn author(message: &Signed<'_>) -> Author {
    let mut fields = message.named("From");
    let Some(field) = fields.next() else { return Author::Unreadable };
    if fields.next().is_some() {
        return Author::Several;
    }
    let Ok(value) = std::str::from_utf8(field.value) else { return Author::Unreadable };
    let Some(mut domains) = domains(value) else { return Author::Unreadable };
    match domains.len() {
        0 => Author::Unreadable,
        1 => domains.pop().map_or(Author::Unreadable, Author::One),
        _ => Author::Several,
    }
}

/// What follows each `@` outside of quotes and comments, also in a display name, where it may not stand but where people read it.
/// `None` where one of them is no domain. Each once, if they stand together; behind the second nobody looks.
fn domains(value: &str) -> Option<Vec<DnsName>> {
    let (mut rest, mut found, mut last) = (value, Vec::new(), None);
    loop {
        rest = skip_to_at(rest)?;
        let Some(behind) = rest.strip_prefix('@') else { return Some(found) };
        let behind = skip_space_and_comments(behind)?;
        let end = behind.find(|c: char| c.is_whitespace() || "<>,;:()\"@".contains(c)).unwrap_or(behind.len());
        let (domain, behind) = behind.split_at(end);
        // What was just read is not read again: there may be thousands (SECURITY D-24).
        if last.replace(domain) != Some(domain) {
            let domain = idna::domain_to_ascii(domain.trim_end_matches('.')).ok()?;
            let domain = DnsName::parse(domain).ok().filter(|name| name.as_str().contains('.'))?;
            if found.last() != Some(&domain) {
                found.push(domain);
            }
            if found.len() > 1 {
                return Some(found);
            }
        }
        rest = skip_space_and_comments(behind)?;
        // More of a domain behind white space is obsolete, and read by some.
        if !rest.is_empty() && !rest.starts_with(['<', '>', ',', ';', ':']) {
            return None;
        }
    }
}

/// The rest from the next `@` on, or nothing. `None` where a quote or comment has no end.
fn skip_to_at(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let Some(at) = rest.find(['@', '"', '(']) else { return Some("") };
        rest = &rest[at..];
        match rest.as_bytes().first() {
            Some(b'@') => return Some(rest),
            Some(b'"') => rest = behind_quote(&rest[1..])?,
            _ => rest = skip_space_and_comments(rest)?,
        }
    }
}

fn behind_quote(text: &str) -> Option<&str> {
    let mut is_escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    Some(&text[end + 1..])
}

fn skip_space_and_comments(text: &str) -> Option<&str> {
    let (mut depth, mut is_escaped) = (0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if depth > 0 => is_escaped = true,
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            c if depth == 0 && !c.is_whitespace() => return Some(&text[at..]),
            _ => {}
        }
    }
    (depth == 0).then_some("")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test] // SECURITY D-24
    fn d24_the_author_in_every_disguise() {
        for (section, expected) in [
            ("From: me@client.example\r\n", Some("client.example")),
            ("from : Me <me@CLIENT.example.>\r\n", Some("client.example")),
            ("From: \"a@bank.example\" <me@client.example>\r\n", Some("client.example")),
            ("From: (a@bank.example) me@client.example (x)\r\n", Some("client.example")),
            ("From: \"a\\\"@bank.example\"@client.example\r\n", Some("client.example")),
            ("From: me@client.example <me@client.example>\r\n", Some("client.example")),
            ("From: me@client.example,\r\n you@client.example\r\n", Some("client.example")),
            ("From: Us: me@client.example, you@client.example;\r\n", Some("client.example")),
            ("From: me @ (x) client.example\r\n", Some("client.example")),
            ("From: me@b\u{fc}cher.example\r\n", Some("xn--bcher-kva.example")),
            ("From: me@client.example, you@bank.example\r\n", Some("several")),
            ("From: you@bank.example <me@client.example>\r\n", Some("several")),
            ("From: <you@bank.example> <me@client.example>\r\n", Some("several")),
            ("From: <@bank.example:me@client.example>\r\n", Some("several")),
            ("From: me@client.example\r\nFROM: me@client.example\r\n", Some("several")),
            ("Subject: x\r\n", None),
            ("From:\r\n", None),
            ("From: nobody\r\n", None),
            ("From: Undisclosed:;\r\n", None),
            ("From: me@client .example\r\n", None),
            ("From: me@client.example\0.bank.example\r\n", None),
            ("From: me@[192.0.2.1]\r\n", None),
            ("From: me@localhost\r\n", None),
            ("From: me@=?utf-8?q?client=2Eexample?=\r\n", None),
            ("From: \"me@client.example\r\n", None),
            ("From: (me@client.example\r\n", None),
            ("From: me@client.example@bank.example\r\n", None),
            ("From: me@\r\n", None),
        ] {
            let found = match author(&Signed::new(section.as_bytes())) {
                Author::One(domain) => Some(domain.to_string()),
                Author::Several => Some("several".to_owned()),
                Author::Unreadable => None,
            };
            assert_eq!(found.as_deref(), expected, "{section:?}");
        }
        assert_eq!(author(&Signed::new(b"From: me@client\xff.example\r\n")), Author::Unreadable);
    }

    proptest! {
        #[test] // SECURITY G4
        fn no_input_panics(text in "[@a.b<>(),;:\"\\\\ \u{e9}\r\n\t]{0,40}") {
            author(&Signed::new(format!("From:{text}\r\n").as_bytes()));
        }
    }
}
