//! The reply that a filter wants the client to read, as a refusal of ours (SECURITY D-10, D-50).

use smtp_core::Refusal;

/// `550 5.7.1 words`, maybe in several lines, as our own refusal: what a filter says is never sent as it is (SECURITY D-50).
/// `None` of what is neither 4yz nor 5yz.
pub(super) fn refusal(text: &str) -> Option<Refusal> {
    let mut words = Vec::new();
    let mut first = None;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let (code, rest) = line.split_at_checked(3)?;
        let code: u16 = code.parse().ok().filter(|code| (400..600).contains(code))?;
        // RFC 5321 §4.2.1: all lines have one code, and behind it stands a space, a hyphen, or nothing.
        let is_reply = rest.is_empty() || rest.starts_with([' ', '-']);
        if !is_reply || first.is_some_and(|(first, _)| first != code) {
            return None;
        }
        let rest = rest.strip_prefix([' ', '-']).unwrap_or(rest);
        let (status, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = status_of(status, code);
        let rest = if status.is_some() { rest } else { line.get(4..).unwrap_or_default() };
        first.get_or_insert((code, status));
        words.push(rest.to_owned());
    }
    let (code, status) = first?;
    let (subject, detail) = status.unwrap_or((7, 1));
    let words = words.join(" ");
    let words = if words.is_empty() { "Refused by a filter".to_owned() } else { words };
    let refusal = if code < 500 {
        Refusal::transient(subject, detail, words)
    } else {
        Refusal::permanent(subject, detail, words)
    };
    let refusal = refusal.with_code(code);
    Some(if code == 421 { refusal.and_close() } else { refusal })
}

/// Subject and detail of an enhanced status code of the same class (RFC 3463 §2).
fn status_of(word: &str, code: u16) -> Option<(u16, u16)> {
    let mut parts = word.split('.');
    let class: u16 = parts.next()?.parse().ok()?;
    let (subject, detail): (u16, u16) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    // RFC 3463 §2: at most three digits.
    let is_status = class == code / 100 && subject <= 999 && detail <= 999 && parts.next().is_none();
    is_status.then_some((subject, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY D-50
    fn d50_replies_of_filters_become_ours() {
        for (text, expected) in [
            ("550 5.7.1 No", Some("550 5.7.1 No")),
            ("451 4.7.1 Later\r\n", Some("451 4.7.1 Later")),
            ("554 No status", Some("554 5.7.1 No status")),
            ("550 4.7.1 Of another class", Some("550 5.7.1 4.7.1 Of another class")),
            ("550-5.7.1 One\r\n550 5.7.1 Two", Some("550 5.7.1 One Two")),
            ("550 5.7.1 a\u{1b}[1m\u{202e}b", Some("550 5.7.1 a?[1m?b")),
            ("550", Some("550 5.7.1 Refused by a filter")),
            ("250 2.0.0 Ok", None),
            ("354 Go on", None),
            ("550 5.7.1 a\r\n250 2.0.0 b", None),
            ("550-5.7.1 a\r\n451 4.7.1 b", None),
            ("5501 a", None),
            ("550 5.70000.1 a", Some("550 5.7.1 5.70000.1 a")),
            ("no", None),
            ("", None),
        ] {
            assert_eq!(refusal(text).map(|refusal| refusal.to_string()).as_deref(), expected, "{text:?}");
        }
        assert!(refusal("421 4.7.0 Bye").is_some_and(|refusal| refusal.closes()));
    }
}
