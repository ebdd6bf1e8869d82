//! What the checks found, written down for those behind us; and what others wrote in our name (RFC 8601).

use smtp_core::Domain;

use crate::header::fields;

/// The field.
pub(crate) const FIELD: &str = "Authentication-Results";

/// The value of the field that says all results of this hop (RFC 8601 §2.2).
pub(crate) fn written(authserv_id: &Domain, results: &[String]) -> String {
    let mut value = authserv_id.to_ascii().as_str().to_owned();
    for result in results {
        value.push_str("; ");
        value.extend(result.chars().map(|c| if c.is_ascii() { c } else { '?' }));
    }
    if results.is_empty() {
        value.push_str("; none");
    }
    value
}

/// A value of a property that came from outside: as it is, or as a quoted string (RFC 8601 §2.2, `pvalue`).
pub(crate) fn property_value(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._+@/".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// The results of such a field, without comments; of quoted strings the quotes are left, so that nothing in one passes for a result
/// (RFC 8601 §2.2). What has no end is left out.
pub(crate) fn results(value: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0_usize, false);
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if is_quoted || depth > 0 => {
                characters.next();
            }
            '"' if depth == 0 => {
                is_quoted = !is_quoted;
                part.push('"');
            }
            _ if is_quoted => {}
            '(' => {
                depth += 1;
                part.push(' ');
            }
            ')' if depth > 0 => depth -= 1,
            ';' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ if depth == 0 => part.push(c),
            _ => {}
        }
    }
    if depth == 0 && !is_quoted {
        parts.push(part);
    }
    parts.iter().map(|part| part.trim().to_ascii_lowercase()).collect()
}

/// Which of the arriving fields claim to be ours, by their places among those of the name (RFC 8601 §5; SECURITY D-24).
pub(crate) fn forged(section: &[u8], authserv_id: &Domain) -> Vec<usize> {
    let own = authserv_id.to_ascii();
    let all = fields(section).filter(|field| field.is(FIELD)).enumerate();
    all.filter(|(_, field)| claims(&String::from_utf8_lossy(field.value), own.as_str()))
        .map(|(place, _)| place)
        .collect()
}

/// Whether the field names us, in any spelling that somebody might read as our name. In doubt it does.
pub(crate) fn claims(value: &str, own: &str) -> bool {
    let Some(name) = first_part(value) else {
        return value.to_ascii_lowercase().contains(&own.to_ascii_lowercase());
    };
    let words: Vec<&str> = name.split_whitespace().collect();
    let without_version = match &words[..] {
        [before @ .., last] if last.bytes().all(|octet| octet.is_ascii_digit()) => before,
        all => all,
    };
    words.first().is_some_and(|word| is_name(word, own))
        || is_name(&words.concat(), own)
        || is_name(&without_version.concat(), own)
}

fn is_name(text: &str, own: &str) -> bool {
    let text = text.trim_end_matches('.');
    text.eq_ignore_ascii_case(own) || idna::domain_to_ascii(text).is_ok_and(|text| text.eq_ignore_ascii_case(own))
}

/// What stands before the first semicolon, without comments, quotes and the backslashes in them. `None` where one of them has
/// no end.
fn first_part(value: &str) -> Option<String> {
    let (mut part, mut depth, mut is_quoted) = (String::new(), 0_usize, false);
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if is_quoted || depth > 0 => {
                let escaped = characters.next()?;
                if depth == 0 {
                    part.push(escaped);
                }
            }
            '"' if depth == 0 => is_quoted = !is_quoted,
            '(' if !is_quoted => {
                depth += 1;
                part.push(' ');
            }
            ')' if !is_quoted && depth > 0 => depth -= 1,
            ';' if !is_quoted && depth == 0 => return Some(part),
            _ if depth == 0 => part.push(c),
            _ => {}
        }
    }
    (depth == 0 && !is_quoted).then_some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test] // SECURITY D-24, RFC 8601 §5
    fn d24_our_name_is_found_in_every_disguise() {
        let own: Domain = "mx.b\u{fc}cher.example".parse().expect("a domain");
        for (value, expected) in [
            (" mx.xn--bcher-kva.example; spf=pass", true),
            (" MX.XN--BCHER-KVA.EXAMPLE; spf=pass", true),
            (" mx.b\u{fc}cher.example; spf=pass", true),
            (" MX.B\u{dc}CHER.example; spf=pass", true),
            (" \u{ff4d}\u{ff58}.b\u{fc}cher.example; none", true),
            (" mx\u{3002}b\u{fc}cher\u{3002}example; none", true),
            (" mx.xn--bcher-kva.example.; none", true),
            ("\r\n\tmx.xn--bcher-kva.example\r\n 1;\r\n spf=pass", true),
            ("(a comment) mx.xn--bcher-kva.example (another) 1 (third); spf=pass", true),
            ("(a (nested \\) ; one)) mx.xn--bcher-kva.example; none", true),
            (" \"mx.xn--bcher-kva.example\"; none", true),
            (" \"mx.xn\\--bcher-kva.example\"; none", true),
            (" mx.(x)xn--bcher-kva(y).example; none", true),
            (" mx . xn--bcher-kva . example 1; none", true),
            (" mx.xn--bcher-kva.example", true),
            (" mx.xn--bcher-kva.example x y; none", true),
            // What cannot be read is ours where it might be.
            (" (mx.xn--bcher-kva.example; none", true),
            (" \"mx.xn--bcher-kva.example; none", true),
            (" (other.example; none", false),
            (" other.example; spf=pass smtp.mailfrom=mx.xn--bcher-kva.example", false),
            (" other.example (mx.xn--bcher-kva.example); none", false),
            (" amx.xn--bcher-kva.example; none", false),
            (" xn--bcher-kva.example; none", false),
            ("", false),
            (";", false),
        ] {
            let section = format!("authentication-results :{value}\r\nSubject: x\r\n");
            assert_eq!(!forged(section.as_bytes(), &own).is_empty(), expected, "{value:?}");
        }
    }

    #[test]
    fn places_count_only_fields_of_the_name() {
        let own: Domain = "mx.example.org".parse().expect("a domain");
        let section = "Authentication-Results: a.example; none\r\nSubject: x\r\nAUTHENTICATION-RESULTS: mx.example.org; none\r\n\
                       ARC-Authentication-Results: i=1; mx.example.org; none\r\nAuthentication-Results:mx.example.org\r\n";
        assert_eq!(forged(section.as_bytes(), &own), [1, 2]);
    }

    #[test] // RFC 8601 §2.2
    fn results_stand_behind_our_name() {
        let own: Domain = "mx.B\u{fc}cher.example".parse().expect("a domain");
        assert_eq!(written(&own, &[]), "mx.xn--bcher-kva.example; none");
        let results = ["spf=pass smtp.helo=x".to_owned(), "iprev=fail".to_owned()];
        assert_eq!(written(&own, &results), "mx.xn--bcher-kva.example; spf=pass smtp.helo=x; iprev=fail");
    }

    #[test] // RFC 8601 §2.2; SECURITY D-11
    fn d11_results_are_what_stands_outside_of_quotes_and_comments() {
        for (value, expected) in [
            (
                " i=1; one.example; SPF=pass smtp.mailfrom=x; arc=none",
                &["i=1", "one.example", "spf=pass smtp.mailfrom=x", "arc=none"][..],
            ),
            (" one.example (a; b) ; spf=fail smtp.helo=\"; dmarc=pass\"", &["one.example", "spf=fail smtp.helo=\"\""]),
            (" one.example; spf=fail reason=\"a\\\"; dmarc=pass\"", &["one.example", "spf=fail reason=\"\""]),
            (" one.example; spf=pass; dmarc=pass (", &["one.example", "spf=pass"]),
            ("", &[""]),
        ] {
            assert_eq!(results(value), expected, "{value:?}");
        }
    }

    /// How many results a reader finds: semicolons outside of quotes.
    fn count(value: &str) -> usize {
        let (mut rest, mut found) = (value, 0);
        while let Some(part) = first_part(rest) {
            found += 1;
            let mut is_quoted = false;
            let mut is_escaped = false;
            let end = rest.char_indices().find(|(_, c)| match c {
                _ if is_escaped => {
                    is_escaped = false;
                    false
                }
                '\\' if is_quoted => {
                    is_escaped = true;
                    false
                }
                '"' => {
                    is_quoted = !is_quoted;
                    false
                }
                c => *c == ';' && !is_quoted,
            });
            let Some((end, _)) = end else { break };
            assert!(part.len() <= end);
            rest = &rest[end + 1..];
        }
        found
    }

    proptest! {
        #[test] // SECURITY D-11
        fn d11_a_value_from_outside_adds_no_result(text in "\\PC{0,40}", odd in "[;\"\\\\()= \r\n\u{e9}]{0,20}") {
            let own: Domain = "mx.example.org".parse().expect("a domain");
            for text in [&text, &odd] {
                let result = format!("dkim=pass header.d={}", property_value(text));
                let value = written(&own, &[result.clone(), result]);
                prop_assert!(value.chars().all(|c| (' '..='~').contains(&c)), "{}", value);
                prop_assert_eq!(count(&value), 3, "{}", value);
            }
        }

        #[test] // SECURITY G4
        fn no_input_panics(octets in proptest::collection::vec(any::<u8>(), 0..300), text in "[mx.example.org();\"\\\\ \r\n1]{0,60}") {
            let own: Domain = "mx.example.org".parse().expect("a domain");
            forged(&octets, &own);
            forged(format!("Authentication-Results:{text}\r\n").as_bytes(), &own);
        }
    }
}
