//! Notifications about and to mailboxes that are not ASCII (RFC 6533; STANDARDS.md R6531).

use smtp_core::{Body, OriginalRecipient};

use crate::case::{Case, said};

const RECIPIENT: &str = "J\u{f6}rg+x@b\u{fc}cher.example";

fn case(sender: &str) -> Case {
    Case::new(sender)
        .failed(RECIPIENT, said(550, "5.6.7", "SMTPUTF8 is needed", Some("mx.example.net [192.0.2.25]")))
        .content("Subject: \u{4f8b}\r\n\r\n\u{fc}\r\n")
}

fn text(case: &Case) -> (String, bool, Option<Body>) {
    let notification = case.notification();
    let text = String::from_utf8(notification.content.to_vec()).expect("UTF-8").replace("\r\n", "\n");
    (text, notification.envelope.smtputf8, notification.envelope.body)
}

#[test] // RFC 6533 §3 and §4: who can read no more is told in ASCII.
fn r6533_to_an_ascii_sender_the_recipient_is_written_as_ascii() {
    let (text, smtputf8, body) = text(&case("<alice@client.example>"));
    assert!(!smtputf8);
    assert_eq!(body, Some(Body::EightBitMime), "of what is returned");
    assert!(text.contains("\nFinal-Recipient: utf-8; J\\x{F6}rg+x@b\\x{FC}cher.example\n"), "{text}");
    assert!(text.contains("\nContent-Type: message/delivery-status\n"), "{text}");
    let returned = text.find("Content-Type: message/rfc822").expect("returned");
    assert!(text[..returned].is_ascii(), "{text}");
}

#[test] // RFC 6533 §4, §5: who needs SMTPUTF8 to be reached at all can read the rest.
fn r6533_to_another_sender_everything_is_written_as_it_is() {
    let (text, smtputf8, body) = text(&case("<\u{fc}@client.example>"));
    assert!(smtputf8);
    assert_eq!(body, Some(Body::EightBitMime));
    for line in [
        "To: <\u{fc}@client.example>",
        "Content-Transfer-Encoding: 8bit",
        "Content-Type: text/plain; charset=utf-8",
        "<J\u{f6}rg+x@b\u{fc}cher.example>",
        "Content-Type: message/global-delivery-status",
        "Final-Recipient: utf-8; J\u{f6}rg+x@b\u{fc}cher.example",
        "Content-Type: message/global",
        "Subject: \u{4f8b}",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
    }
}

#[test] // RFC 6533 §5: a header section alone.
fn r6533_a_header_section_goes_back_as_one() {
    let large = format!("Subject: \u{4f8b}\r\n\r\n{}", "\u{fc}\r\n".repeat(40_000));
    let (text, ..) = text(&case("<\u{fc}@client.example>").content(large));
    assert!(
        text.contains("\nContent-Type: message/global-headers\nContent-Transfer-Encoding: quoted-printable\n"),
        "{text}"
    );
}

#[test] // SECURITY.md D-11: a mailbox of any length and script stays in its line.
fn d11_long_mailboxes_of_other_scripts_stay_in_their_lines() {
    let long = format!("{}@example.net", "\u{4f8b}".repeat(330));
    for sender in ["<alice@client.example>", "<\u{fc}@client.example>"] {
        let (text, ..) = text(&Case::new(sender).failed(&long, said(550, "5.1.1", "No", None)));
        assert!(text.lines().all(|line| line.len() <= 998), "{text}");
        assert_eq!(text.matches("\nFinal-Recipient: ").count(), 1);
        assert_eq!(text.matches("\nAction: failed\n").count(), 1);
    }
}

#[test] // RFC 6533 §3: as the sender wrote it, in the form that is good everywhere.
fn r6533_orcpt_of_the_type_utf8_comes_back() {
    let mut case = case("<alice@client.example>");
    let original = OriginalRecipient::parse("utf-8;\u{fc}@example.org").expect("in the grammar");
    case.envelope.recipients[0].dsn.original_recipient = Some(original);
    let (text, ..) = text(&case);
    assert!(text.contains("\nOriginal-Recipient: utf-8; \\x{FC}@example.org\n"), "{text}");
}
