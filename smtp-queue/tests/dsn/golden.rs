//! Notifications line for line.

use smtp_core::{Body, Disposition, ForwardPath, ReversePath};
use smtp_queue::{NotificationKind, QueueId, Withheld};

use crate::case::{Case, at, said};

fn three_recipients() -> Case {
    let words = "No such user here, and a few more words so that this line gets folded";
    Case::new("<alice@client.example>")
        .failed("bob@example.net", said(550, "5.1.1", words, Some("mx.example.net [192.0.2.25]")))
        .failed("carol@example.org", said(452, "4.2.2", "Mailbox full", None))
        .alias("<sales@example.org>")
        .failed("dave@example.com", None)
}

#[test] // RFC 3464, RFC 6522 §3, RFC 3834 §5
fn r3464_a_notification_with_three_recipients() {
    let notification = three_recipients().notification();
    let expected = "\
From: Mail Delivery System <mailer-daemon@mx.example.org>
To: <alice@client.example>
Subject: Undelivered mail
Date: Sun, 22 Nov 2026 01:47:43 +0000
Message-ID: <000sgndhda0001GENERATED@mx.example.org>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary=\"=_000sgndhda0001GENERATED.0000000000000000\"

--=_000sgndhda0001GENERATED.0000000000000000
Content-Type: text/plain; charset=us-ascii

This is the mail system at mx.example.org.

Your message could not be delivered to the 3 mailboxes below. It will not be
tried again.

<bob@example.net>
    Refused by mx.example.net [192.0.2.25]:
    550 5.1.1 No such user here, and a few more words so that this line gets
    folded

<carol@example.org>, where mail for <sales@example.org> goes
    Not accepted in the time that a message is kept. The last answer was
    from this host:
    452 4.2.2 Mailbox full

<dave@example.com>
    No attempt was possible in the time that a message is kept.

The message arrived on Sun, 22 Nov 2026 01:44:23 +0000 and was called
000sgndhda00014d2pf2dbsqqg.
It is returned below.

--=_000sgndhda0001GENERATED.0000000000000000
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
Received-From-MTA: dns; [192.0.2.1]
Arrival-Date: Sun, 22 Nov 2026 01:44:23 +0000

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net ([192.0.2.25])
Diagnostic-Code: smtp; 550 5.1.1 No such user here, and a few more words so
 that this line gets folded
Last-Attempt-Date: Sun, 22 Nov 2026 01:45:23 +0000

Final-Recipient: rfc822; carol@example.org
Action: failed
Status: 4.2.2
Diagnostic-Code: smtp; 452 4.2.2 Mailbox full
Last-Attempt-Date: Sun, 22 Nov 2026 01:45:23 +0000

Final-Recipient: rfc822; dave@example.com
Action: failed
Status: 4.4.7

--=_000sgndhda0001GENERATED.0000000000000000
Content-Type: message/rfc822
Content-Transfer-Encoding: 7bit

Subject: hello

Hi.

--=_000sgndhda0001GENERATED.0000000000000000--
";
    let id = notification.envelope.id.to_string();
    let expected = expected.replace("000sgndhda0001GENERATED", &id).replace('\n', "\r\n");
    assert_eq!(String::from_utf8_lossy(&notification.content), expected);
}

#[test] // RFC 5321 §4.5.5, §6.1; STANDARDS.md R3464
fn r3464_it_leaves_under_the_null_reverse_path_and_goes_to_the_sender() {
    let case = three_recipients();
    let notification = case.notification();
    let envelope = &notification.envelope;
    assert_eq!(notification.kind, NotificationKind::Failure);
    assert_eq!((&envelope.reverse_path, &envelope.outgoing[..]), (&ReversePath::Null, &[ReversePath::Null][..]));
    assert_eq!((envelope.arrival, envelope.body, envelope.deadline), (at(200), None, None));
    assert_eq!(envelope.origin.notification_of, Some(case.envelope.id));
    let [recipient] = &envelope.recipients[..] else { panic!("{:?}", envelope.recipients) };
    assert_eq!(recipient.path.to_string(), "<alice@client.example>");
    assert_eq!(recipient.mailbox.to_string(), "alice@client.example");
}

#[test] // STANDARDS.md Q5: a double failure goes to postmaster, and its own failure to nobody.
fn q5_a_notification_that_fails_goes_to_postmaster_once() {
    let first = three_recipients().notification();
    let mut second = Case::new("<>").content(first.content);
    second.envelope = first.envelope;
    second.recipients = Case::new("<>").failed("a@b", said(550, "5.1.1", "Gone", Some("mx.client.example"))).recipients;
    let copy = second.notification();
    assert_eq!(copy.kind, NotificationKind::PostmasterCopy);
    assert_eq!(copy.envelope.recipients[0].path, ForwardPath::Postmaster);
    assert_eq!(copy.envelope.recipients[0].mailbox.to_string(), "admin@example.org");
    assert!(copy.envelope.recipients[0].is_role && copy.envelope.reverse_path.is_null());
    let text = String::from_utf8_lossy(&copy.content).into_owned();
    let expected = "\
Subject: Undelivered notification
"
    .replace('\n', "\r\n");
    assert!(text.contains("To: <admin@example.org>\r\n") && text.contains(&expected), "{text}");
    let expected = "\
A notification about an undelivered message could itself not be delivered to
the mailbox below. It will not be tried again, and nobody else is told.

<alice@client.example>
    Refused by mx.client.example:
    550 5.1.1 Gone
"
    .replace('\n', "\r\n");
    assert!(text.contains(&expected), "{text}");

    second.envelope = copy.envelope;
    let notified = second.notify();
    assert!(notified.notification.is_none());
    assert_eq!(notified.withheld, [(0, Withheld::ToPostmaster)]);
}

#[test] // PRACTICES.md S19, S21; STANDARDS.md Q6
fn s19_s21_who_may_not_be_told_stands_in_no_notification() {
    let mut case = three_recipients();
    case.envelope.recipients[0].disposition = Disposition::Junk;
    case.envelope.recipients[2].disposition = Disposition::Quarantine("virus".into());
    case.recipients[1].index = 7;
    let notified = case.notify();
    assert!(notified.notification.is_none());
    let junk = Withheld::JunkOrQuarantine;
    assert_eq!(notified.withheld, [(0, junk), (7, Withheld::UnknownRecipient), (2, junk)]);

    case.recipients[1].index = 1;
    let notified = case.notify();
    let content = notified.notification.expect("for one of them").content;
    let text = String::from_utf8_lossy(&content);
    assert!(text.contains("carol@") && !text.contains("bob@") && !text.contains("dave@"), "{text}");

    case.envelope.sender_confirmed = false;
    assert!(case.notify().notification.is_none());
    case.envelope.sender_confirmed = true;
    case.envelope.reverse_path = ReversePath::Null;
    assert!(case.notify().notification.is_none());
}

#[test] // Doing it again is harmless: the same name and the same octets; another failure has another name.
fn a_failure_has_one_notification() {
    let (one, again) = (three_recipients().notification(), three_recipients().notification());
    assert_eq!((one.envelope.clone(), one.content), (again.envelope, again.content));
    let mut case = three_recipients();
    case.recipients.reverse();
    assert_eq!(case.notification().envelope.id, one.envelope.id, "the order says nothing");
    case.recipients.push(case.recipients[0].clone());
    assert_eq!(case.notification().envelope.id, one.envelope.id, "nor does saying it twice");
    case.recipients.truncate(2);
    assert_ne!(case.notification().envelope.id, one.envelope.id, "fewer recipients");
    case = three_recipients();
    case.envelope.id = QueueId::from_u128(case.envelope.id.as_u128() + 1);
    assert_ne!(case.notification().envelope.id, one.envelope.id, "another message");

    let mut ids = std::collections::HashSet::new();
    for subset in 1_u32..1 << 10 {
        let mut case = Case::new("<alice@client.example>");
        for index in 0..10 {
            case = case.failed(&format!("r{index}@example.org"), None);
        }
        case.recipients.retain(|recipient| subset >> recipient.index & 1 == 1);
        assert!(ids.insert(case.notification().envelope.id), "{subset:b}");
    }
}

#[test] // RFC 2045 §6.4, RFC 6152 §3
fn octets_above_127_are_declared() {
    let notification = three_recipients().content(&b"Subject: x\r\n\r\nJ\xfcrgen\r\n"[..]).notification();
    assert_eq!(notification.envelope.body, Some(Body::EightBitMime));
    let text = String::from_utf8_lossy(&notification.content).into_owned();
    let (header, parts) = text.split_once("\r\n\r\n").expect("an empty line");
    assert!(header.ends_with("\r\nContent-Transfer-Encoding: 8bit"), "{header}");
    assert!(parts.contains("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: x\r\n"));
    assert!(notification.content.windows(9).any(|octets| octets == b"J\xfcrgen\r\n\r"));
}

#[test] // STANDARDS.md Q7; RFC 6522 §4
fn q7_a_large_message_is_returned_as_its_header_section() {
    let large = format!("Subject: x\r\nX: J\u{fc}rgen\r\n\r\n{}", "line\r\n".repeat(20_000));
    let notification = three_recipients().content(large).notification();
    let text = String::from_utf8(notification.content.to_vec()).expect("ASCII");
    let expected = "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                    Subject: x\r\nX: J=C3=BCrgen\r\n\r\n--=_";
    assert!(text.contains(expected) && text.contains("Its header section is returned below.") && text.len() < 4096);
    assert_eq!(notification.envelope.body, None);
}

#[test]
fn a_thousand_recipients_with_much_to_say_have_a_bounded_notification() {
    let count = 1000;
    let mut case = Case::new("<alice@client.example>");
    for number in 0..count {
        let to = format!("{number}-{}@example.net", "x".repeat(900));
        let remote = format!("mx.example.net {}", "y".repeat(490));
        case = case.failed(&to, said(550, "5.1.1", "z ".repeat(32_768), Some(&remote)));
    }
    let content = case.notification().content;
    let text = String::from_utf8_lossy(&content).into_owned();
    let written = text.matches("\r\nFinal-Recipient: ").count();
    assert!(content.len() < (1 << 20) + (16 << 10), "{} octets", content.len());
    assert!(written > 100 && text.contains(&format!("\r\n{} more are left out here", count - written)), "{written}");
    assert!(text.contains("to the 1000 mailboxes below"));

    // Ordinary ones are all named.
    let mut case = Case::new("<alice@client.example>");
    for number in 0..count {
        let remote = Some("mx.example.net [192.0.2.25]");
        case = case.failed(&format!("user{number}@example.net"), said(550, "5.1.1", "No such user here", remote));
    }
    let content = case.notification().content;
    assert_eq!(String::from_utf8_lossy(&content).matches("\r\nFinal-Recipient: ").count(), count);
}

#[test] // RFC 2046 §5.1.1: a boundary that is in the content is not used.
fn the_boundary_stands_in_no_part() {
    let plain = three_recipients().notification();
    let boundary = |number: u32| format!("=_{}.{number:016x}", plain.envelope.id);
    let hostile = format!("Subject: x\r\n\r\n--{}\r\n\r\n--{}--\r\n", boundary(0), boundary(2));
    let mut case = three_recipients().content(hostile);
    case.recipients[1].last = Some(said(550, "", boundary(1), None));
    let text = String::from_utf8_lossy(&case.notification().content).into_owned();
    assert!(text.contains(&format!("boundary=\"{}\"", boundary(3))), "{text}");
    assert_eq!(text.matches(&format!("\r\n--{}", boundary(3))).count(), 4);
}
