//! What others chose changes no line's kind: the same fields in the same order, whatever is said (SECURITY.md D-11).

use proptest::collection::vec;
use proptest::prelude::*;

use crate::case::{Case, said};

/// Text with all that ends a line, a part, a comment, a quote or a field somewhere, and all else.
fn hostile() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => "[ -~]{0,12}",
        1 => Just("\r\n".to_owned()),
        1 => Just("\r\n\r\n--=_".to_owned()),
        1 => Just("\r\nBcc: victim@example.org\r\n".to_owned()),
        1 => Just("\u{1b}[31m\u{202e}\u{2028}\0\u{85}".to_owned()),
        1 => Just(" ".repeat(100)),
        1 => "[\\PC]{0,12}",
        1 => Just("x".repeat(1100)),
        1 => Just("multipart ".repeat(6500)),
    ];
    vec(word, 0..6).prop_map(|words| words.concat())
}

/// Mailboxes with what a quoted local-part can hold.
fn mailbox() -> impl Strategy<Value = String> {
    let quoted =
        vec(prop_oneof![Just(";"), Just("("), Just("\\\""), Just("\\\\"), Just(" "), Just("="), Just("a")], 0..40);
    let domain = prop_oneof![Just("example.org"), Just("[192.0.2.1]"), Just("[x-tag:a;(b)=?]")];
    let plain = prop_oneof!["[a-z]{1,20}", Just("a".repeat(990))];
    prop_oneof![
        (quoted, domain).prop_map(|(local, domain)| format!("\"{}\"@{domain}", local.concat())),
        plain.prop_map(|local| format!("{local}@example.org")),
    ]
}

/// Each line as what it is: a delimiter, the name of a field, empty. Lines of text and of returned content are left
/// out, and so are lines that continue others.
fn skeleton(content: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(content).expect("ASCII");
    let boundary = text.split_once("boundary=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a boundary").0;
    let mut kinds: Vec<String> = Vec::new();
    let mut part = 0;
    let mut in_header = true;
    for line in text.strip_suffix("\r\n").expect("a last CRLF").split("\r\n") {
        assert!(line.len() <= 998 && line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{line:?}");
        let is_delimiter = line.strip_prefix("--").is_some_and(|line| line.trim_end_matches("--") == boundary);
        let is_free_text = part % 2 == 1 && !in_header;
        if is_delimiter {
            part += 1;
            in_header = true;
            kinds.push("--".to_owned());
        } else if line.is_empty() {
            in_header = false;
            if !is_free_text {
                kinds.push(String::new());
            }
        } else if !is_free_text && !line.starts_with(' ') {
            kinds.push(line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}")).0.to_owned());
        }
    }
    kinds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn d11_nothing_that_others_say_changes_the_structure(
        sender in mailbox(),
        recipients in vec((mailbox(), mailbox(), hostile(), hostile(), 400..559_u16), 1..4),
        body in hostile(),
    ) {
        let mut hostile = Case::new(&format!("<{sender}>"));
        let mut tame = Case::new("<alice@client.example>");
        for (to, alias, text, remote, code) in recipients {
            let code = if (code / 10) % 10 <= 5 { code } else { 550 };
            prop_assume!(to != alias);
            hostile = hostile.failed(&to, said(code, "", text, Some(&remote))).alias(&format!("<{alias}>"));
            tame = tame.failed("bob@example.org", said(550, "", "No", Some("mx"))).alias("<sales@example.org>");
        }
        let body: String = body.chars().filter(|c| matches!(c, ' '..='~')).collect();
        let hostile = hostile.content(format!("Subject: x\r\n\r\n{body}")).notification();
        prop_assert_eq!(skeleton(&hostile.content), skeleton(&tame.notification().content));
    }
}
