//! Who is told of what (STANDARDS.md Q5, Q6, Q8, Q9; PRACTICES.md S19, S21, S32).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smtp_core::{Outbound, OutboundPolicy, OutboundRecipient, ReversePath, Transient, async_trait};
use smtp_queue::SubmitError;

use crate::support::*;

#[tokio::test(start_paused = true)] // STANDARDS.md Q6, RFC 5321 §4.5.5
async fn q6_a_null_reverse_path_is_never_answered() {
    let world = World::new();
    world.hops.set("b@one.example", Does::Refuse);
    world.submit_from("<>", &["b@one.example"]).await;
    world.pass(HOUR).await;
    assert_eq!(world.hops.seen().len(), 1);
    assert_eq!(world.events.count("withheld b@one.example: the reverse-path is null"), 1);
    assert_eq!(world.queue.totals().mail.failed, 1);
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q5
async fn q5_a_notification_that_cannot_be_delivered_goes_to_postmaster_once() {
    for (sender, postmaster) in [(Does::Refuse, Does::Accept), (Does::Refuse, Does::Refuse), (Does::Defer, Does::Defer)]
    {
        let world = World::new();
        world.hops.set("b@one.example", Does::Refuse);
        world.hops.set("alice@client.example", sender);
        world.hops.set("postmaster@mx.example.org", postmaster);
        world.submit(&["b@one.example"]).await;
        world.pass(12 * DAY).await;
        let told = world.hops.times("postmaster@mx.example.org");
        assert!(!told.is_empty());
        if sender == Does::Defer {
            assert!(told[0] >= 5 * DAY && told[0] < 5 * DAY + MINUTE, "{:?}", told[0]);
            assert_eq!(world.events.count("expired"), 2, "the notification and the copy");
        } else {
            assert_eq!(told.len(), 1);
        }
        let copies: std::collections::HashSet<_> = world
            .hops
            .seen()
            .iter()
            .filter(|seen| seen.recipients[0].starts_with("postmaster"))
            .map(|seen| seen.id)
            .collect();
        assert_eq!(copies.len(), 1, "once");
        let dropped = world.events.count("withheld postmaster@mx.example.org: it was a notification to postmaster");
        assert_eq!(dropped, usize::from(postmaster != Does::Accept));
        assert_eq!(world.queue.totals().notifications.taken, 2);
        world.assert_balanced();
    }
}

/// VERP by domain, for some recipients by local-part, with a key that changes with every question.
#[derive(Default)]
struct Verp {
    asked: AtomicU32,
    unknown: AtomicU32,
}

#[async_trait]
impl OutboundPolicy for Verp {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        if self.unknown.load(Ordering::Relaxed) > 0 {
            self.unknown.fetch_sub(1, Ordering::Relaxed);
            return Err(Transient::new("the key store does not answer"));
        }
        let question = self.asked.fetch_add(1, Ordering::Relaxed);
        if let ReversePath::Mailbox(sender) = message.reverse_path() {
            for recipient in recipients {
                let local_part = recipient.mailbox().local_part().as_str();
                let domain = recipient.mailbox().host().to_string();
                let whose = if local_part.starts_with("own") { local_part } else { &domain };
                let path = format!("<{}+{question}={whose}@client.example>", sender.local_part());
                recipient.set_reverse_path(ReversePath::parse(path).expect("in the grammar"));
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)] // STANDARDS.md Q9, PRACTICES.md S32
async fn q9_s32_every_attempt_presents_the_reverse_path_that_was_decided_at_acceptance() {
    let policy = Arc::new(Verp::default());
    let world = World::build(|builder| builder.outbound(policy.clone()));
    let all = ["a@one.example", "b@one.example", "c@two.example", "own1@one.example", "own2@one.example"];
    for recipient in all {
        world.hops.set(recipient, Does::Defer);
    }
    world.submit(&all).await;
    world.pass(DAY).await;
    // A restart in between.
    world.queue.shutdown(MINUTE).await;
    world.spool.reopen();
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| {
        builder.outbound(policy.clone()).clock(world.clock.clone())
    });
    for recipient in all {
        again.hops.set(recipient, Does::Defer);
    }
    again.pass(3 * DAY).await;
    let seen: Vec<_> = world.hops.seen().into_iter().chain(again.hops.seen()).collect();
    assert!(seen.len() > 100, "{}", seen.len());
    for seen in seen {
        let expected = match seen.recipients[0].as_str() {
            "a@one.example" => ("one.example", 2),
            "c@two.example" => ("two.example", 1),
            "own1@one.example" => ("own1", 1),
            _ => ("own2", 1),
        };
        assert_eq!(seen.reverse_path, format!("<alice+0={}@client.example>", expected.0));
        assert_eq!(seen.recipients.len(), expected.1, "who leaves alike leaves together, and nobody else");
    }
    assert_eq!(policy.asked.load(Ordering::Relaxed), 1, "the policy is asked once");
    // The notification goes to the reverse-path as it was received, under the null reverse-path.
    again.pass(3 * DAY).await;
    let last = again.hops.seen().pop().expect("the notification");
    assert_eq!((last.recipients[0].as_str(), last.reverse_path.as_str()), ("alice@client.example", "<>"));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_of_the_outbound_policy_nothing_is_taken_and_no_outcome_is_lost() {
    let policy = Arc::new(Verp::default());
    let world = World::build(|builder| builder.outbound(policy.clone()));
    policy.unknown.store(1, Ordering::Relaxed);
    let content = smtp_core::Content::new("x: y\r\n\r\n");
    let refused = world.queue.submit(path("<a@b.example>"), [mailbox("b@one.example")], content).await;
    assert!(matches!(&refused, Err(SubmitError::Outbound(_))), "{refused:?}");
    assert_eq!(world.queue.totals().mail.taken, 0);
    world.hops.set("b@one.example", Does::Refuse);
    world.submit(&["b@one.example"]).await;
    policy.unknown.store(1, Ordering::Relaxed);
    world.pass(MINUTE).await;
    assert_eq!(world.hops.times("alice@client.example").len(), 1, "the notification leaves all the same");
    world.assert_balanced();
}

#[tokio::test(start_paused = true)] // SECURITY.md D-17; PRACTICES.md S21
async fn d17_a_sender_is_told_of_so_much_within_an_hour_and_the_rest_is_logged() {
    let mut settings = smtp_queue::QueueSettings::default();
    settings.notifications_per_hour = 5;
    let world = World::with(settings);
    world.hops.set("b@one.example", Does::Refuse);
    for _ in 0..20 {
        world.submit(&["b@one.example"]).await;
    }
    world.submit_from("<other@client.example>", &["b@one.example"]).await;
    world.pass(MINUTE).await;
    assert_eq!(world.hops.times("alice@client.example").len(), 5);
    assert_eq!(world.hops.times("other@client.example").len(), 1);
    assert_eq!(world.events.count("withheld b@one.example: the sender was told of too much within an hour"), 15);
    let totals = world.queue.totals();
    assert_eq!((totals.mail.failed, totals.notifications.taken), (21, 6));
    world.pass(HOUR).await;
    world.submit(&["b@one.example"]).await;
    world.pass(MINUTE).await;
    assert_eq!(world.hops.times("alice@client.example").len(), 6);
    world.assert_balanced();
}
