//! Notifications that a sender asked for, and what of its own words comes back in them (RFC 3461 §6).

use smtp_core::{EnvelopeId, Notify, Ret};
use smtp_queue::{Action, NotificationKind, Withheld};

use crate::case::{Case, said};

const ALL: [Action; 5] = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed, Action::Expanded];

fn everything() -> Notify {
    Notify::SUCCESS | Notify::FAILURE | Notify::DELAY
}

/// One recipient behind an alias, with the names that the sender has for it and for the message.
fn case(action: Action, code: u16, status: &str) -> Case {
    let mut case = Case::new("<alice@client.example>")
        .failed("bob@example.net", said(code, status, "Words", Some("mx.example.net [192.0.2.25]")))
        .alias("<sales@example.org>")
        .asked(everything(), Some(("rfc822", "Sales+x@Example.ORG")))
        .action(action);
    case.envelope.dsn.envelope_id = Some(EnvelopeId::new("QQ 314=159").expect("printable"));
    case.envelope.dsn.ret = Some(Ret::Headers);
    case
}

fn text(case: &Case) -> String {
    String::from_utf8(case.notification().content.to_vec()).expect("ASCII").replace("\r\n", "\n")
}

/// The lines from that one on, up to an empty one.
fn block<'a>(text: &'a str, first: &str) -> &'a str {
    let start = text.find(&format!("\n{first}")).unwrap_or_else(|| panic!("no {first} in {text}")) + 1;
    text[start..].split("\n\n").next().unwrap_or_default()
}

#[test] // RFC 3461 §6.3 (a) and (d): as text and not as xtext.
fn r3461_envid_and_orcpt_come_back_as_the_sender_wrote_them() {
    for action in ALL {
        let text = text(&case(action, 550, "5.1.1"));
        assert_eq!(
            block(&text, "Original-Envelope-Id"),
            "Original-Envelope-Id: QQ 314=159\nReporting-MTA: dns; mx.example.org\n\
             Received-From-MTA: dns; [192.0.2.1]\nArrival-Date: Sun, 22 Nov 2026 01:44:23 +0000"
        );
        let recipient = block(&text, "Original-Recipient");
        let expected = "Original-Recipient: rfc822; Sales+x@Example.ORG\nFinal-Recipient: rfc822; bob@example.net\n";
        assert!(recipient.starts_with(expected), "{recipient}");
    }
    // RFC 3461 §6.3: where the sender gave none there is none, although the path was another.
    let text = text(&Case::new("<alice@client.example>").failed("bob@example.net", None).alias("<sales@example.org>"));
    assert!(!text.contains("Original-") && text.contains("where mail for <sales@example.org> goes"), "{text}");
}

#[test] // RFC 3464 §2.3.3, §2.3.4, §2.3.9
fn r3464_each_action_line_for_line() {
    for (action, code, status, subject, words, fields) in [
        (
            Action::Delayed,
            451,
            "4.7.1",
            "Delayed mail",
            "Your message could not be delivered to the mailbox below yet. It is tried again \
             until Fri, 27 Nov 2026 01:44:23 +0000; you need not send it again. This is told once.",
            "Action: delayed\nStatus: 4.7.1\nRemote-MTA: dns; mx.example.net ([192.0.2.25])\n\
             Diagnostic-Code: smtp; 451 4.7.1 Words\nLast-Attempt-Date: Sun, 22 Nov 2026 01:45:23 +0000\n\
             Will-Retry-Until: Fri, 27 Nov 2026 01:44:23 +0000",
        ),
        (
            Action::Delivered,
            250,
            "2.0.0",
            "Delivered mail",
            "Your message was delivered to the mailbox below.",
            "Action: delivered\nStatus: 2.0.0\nRemote-MTA: dns; mx.example.net ([192.0.2.25])\n\
             Diagnostic-Code: smtp; 250 2.0.0 Words\nLast-Attempt-Date: Sun, 22 Nov 2026 01:45:23 +0000",
        ),
        (
            Action::Relayed,
            250,
            "2.1.5",
            "Mail passed on",
            "Your message for the mailbox below was passed on to a host that does not tell of \
             success. You will hear no more of it if it arrives.",
            "Action: relayed\nStatus: 2.1.5\nRemote-MTA: dns; mx.example.net ([192.0.2.25])\n\
             Diagnostic-Code: smtp; 250 2.1.5 Words\nLast-Attempt-Date: Sun, 22 Nov 2026 01:45:23 +0000",
        ),
        (
            Action::Expanded,
            250,
            "",
            "Mail passed on",
            "Your message was delivered to the mailbox below, and passed on to all those whom \
             the address stands for. You will not be told when it reaches each of them.",
            "Action: expanded\nStatus: 2.0.0\nRemote-MTA: dns; mx.example.net ([192.0.2.25])\n\
             Diagnostic-Code: smtp; 250 Words\nLast-Attempt-Date: Sun, 22 Nov 2026 01:45:23 +0000",
        ),
    ] {
        let case = case(action, code, status);
        let text = text(&case);
        assert!(text.contains(&format!("\nSubject: {subject}\n")), "{text}");
        assert_eq!(block(&text, "Your message").replace('\n', " "), words);
        let (_, found) = block(&text, "Original-Recipient").split_once("bob@example.net\n").expect("two lines");
        assert_eq!(found, fields);
        let notification = case.notification();
        assert!(notification.envelope.reverse_path.is_null());
        assert_eq!(notification.envelope.recipients[0].path.to_string(), "<alice@client.example>");
        // RFC 3461 §6.1: a notification asks for nothing.
        assert!(notification.envelope.dsn.is_empty() && notification.envelope.recipients[0].dsn.is_empty());
    }
}

#[test] // Each may be done again, and none is taken for another.
fn each_action_has_a_notification_of_its_own() {
    let mut ids = std::collections::HashSet::new();
    for action in ALL {
        let (one, again) = (case(action, 451, "").notification(), case(action, 451, "").notification());
        assert_eq!((&one.envelope, &one.content), (&again.envelope, &again.content));
        assert!(ids.insert(one.envelope.id), "{action:?}");
    }
}

#[test] // R3461b: NEVER yields none, ever; and nobody is told what nobody asked for.
fn r3461b_who_did_not_ask_stands_in_no_notification() {
    for action in ALL {
        let silent = case(action, 550, "").asked(Notify::NEVER, None);
        let notified = silent.notify();
        assert!(notified.notification.is_none());
        assert_eq!(notified.withheld, [(0, Withheld::NotAskedFor)]);
        let other = said(550, "5.1.1", "Other words", None);
        let both = silent.failed("carol@example.net", other).asked(action.notify(), None);
        let text = text(&both);
        assert!(text.contains("carol@example.net") && !text.contains("bob@example.net"), "{text}");
    }
    let kinds = ALL.map(|action| case(action, 250, "").notification().kind);
    assert_eq!(
        kinds,
        [
            NotificationKind::Failure,
            NotificationKind::Delay,
            NotificationKind::Delivery,
            NotificationKind::Relay,
            NotificationKind::Expansion
        ]
    );
}
