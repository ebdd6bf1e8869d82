//! From acceptance to an outcome for every recipient.

use crate::support::*;

use smtp_core::Content;
use smtp_queue::{SubmitError, Waiting};

#[tokio::test(start_paused = true)]
async fn a_message_is_delivered_once_to_each_recipient() {
    let world = World::new();
    world.submit(&["a@one.example", "b@one.example", "c@two.example", "a@one.example"]).await;
    world.pass(MINUTE).await;
    let seen = world.hops.seen();
    let mut sites: Vec<_> = seen.iter().map(|seen| (seen.site.as_str(), seen.recipients.clone())).collect();
    sites.sort();
    assert_eq!(
        sites,
        [
            ("one.example", vec!["a@one.example".to_owned(), "b@one.example".to_owned()]),
            ("two.example", vec!["c@two.example".to_owned()]),
        ]
    );
    assert!(seen.iter().all(|seen| seen.octets == b"Subject: test\r\n\r\nbody\r\n" && seen.number == 1));
    assert!(seen.iter().all(|seen| seen.reverse_path == "<alice@client.example>"));
    assert_eq!(world.messages_and_pairs(), (0, 0));
    let totals = world.queue.totals();
    assert_eq!((totals.mail.taken, totals.mail.delivered), (3, 3));
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn only_who_was_deferred_is_tried_again() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Defer);
    let id = world.submit(&["a@one.example", "b@one.example"]).await;
    world.pass(MINUTE).await;
    let entry = world.queue.show(id).await.expect("it answers").expect("it is there");
    assert_eq!(entry.pairs.len(), 1);
    let Waiting::NotDue { until, last: Some(last) } = &entry.pairs[0].waiting else { panic!("{entry:?}") };
    assert_eq!(last.reply.to_string(), "451 4.7.1 Later");
    let wait = until.duration_since(start_time()).expect("later");
    assert!(wait >= 4 * MINUTE && wait <= 6 * MINUTE, "{wait:?}");
    world.hops.set("b@one.example", Does::Accept);
    world.pass(6 * MINUTE).await;
    let seen = world.hops.seen();
    assert_eq!((seen.len(), seen[1].number), (2, 2));
    assert_eq!(seen[1].recipients, ["b@one.example"]);
    assert_eq!(seen[1].octets, seen[0].octets);
    assert_eq!(world.events.count("delivered"), 2);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn a_refused_recipient_causes_a_notification_and_the_others_do_not_mind() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Refuse);
    world.submit(&["a@one.example", "b@one.example", "c@one.example"]).await;
    world.pass(MINUTE).await;
    let seen = world.hops.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(
        (seen[1].reverse_path.as_str(), &seen[1].recipients[..]),
        ("<>", &["alice@client.example".to_owned()][..])
    );
    let report = String::from_utf8_lossy(&seen[1].octets);
    assert!(report.contains("Final-Recipient: rfc822; b@one.example"), "{report}");
    assert!(!report.contains("<a@one.example>") && report.contains("mx.example"), "{report}");
    let totals = world.queue.totals();
    assert_eq!((totals.mail.delivered, totals.mail.failed), (2, 1));
    assert_eq!((totals.notifications.taken, totals.notifications.delivered), (1, 1));
    world.assert_balanced();
}

#[tokio::test(start_paused = true)]
async fn what_is_for_nobody_is_not_taken() {
    let world = World::new();
    let refused = world.queue.submit(path("<>"), [], Content::new("x\r\n")).await;
    assert!(matches!(refused, Err(SubmitError::NoRecipient)));
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // SECURITY.md D-52
async fn d52_what_an_application_submits_must_be_canonical() {
    let world = World::new();
    for (octets, why) in [
        ("Subject: x\r\n\r\na\0b\r\n", Some("the message has a NUL")),
        ("Subject: x\n\na\n", Some("the message has a bare LF")),
        ("Subject: x\r\n\r\na\rb\r\n", Some("the message has a bare CR")),
        ("Subject: x\r\n\r\nno line end", None),
    ] {
        let taken = world.queue.submit(path("<>"), [mailbox("b@one.example")], Content::new(octets)).await;
        assert_eq!(taken.err().map(|error| error.to_string()).as_deref(), why, "{octets:?}");
    }
}
