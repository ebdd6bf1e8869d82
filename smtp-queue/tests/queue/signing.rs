//! What the outbound policy puts in front of a message: once, and the same at every attempt.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use smtp_core::{
    Content, HeaderField, Outbound, OutboundContent, OutboundPolicy, OutboundRecipient, Transient, async_trait,
};
use smtp_queue::SubmitError;

use crate::support::{DAY, Does, MINUTE, World, mailbox, path};

/// Counts its questions, and keeps what it was shown.
#[derive(Default)]
struct Signer {
    asked: AtomicU32,
    /// The number of the question that has no answer.
    fails_at: Option<u32>,
    seen: Mutex<Vec<String>>,
}

#[async_trait]
impl OutboundPolicy for Signer {
    async fn enqueue(&self, _: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        for recipient in recipients {
            recipient.set_reverse_path(path("<tagged@client.example>"));
        }
        Ok(())
    }

    async fn sign(
        &self,
        _: &Outbound<'_>,
        recipients: &[OutboundRecipient],
        content: &OutboundContent,
    ) -> Result<Vec<HeaderField>, Transient> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.fails_at == Some(number) {
            return Err(Transient::new("no key now"));
        }
        let mut text = String::new();
        content.reader().and_then(|mut reader| reader.read_to_string(&mut text)).map_err(Transient::new)?;
        assert!(recipients.iter().all(|to| to.reverse_path().to_string() == "<tagged@client.example>"));
        self.seen.lock().expect("no panic").push(text);
        ["First", "Second"]
            .map(|name| HeaderField::new(name, &number.to_string()))
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(Transient::new)
    }
}

#[tokio::test(start_paused = true)] // PRACTICES.md S32, S39
async fn s39_a_message_is_signed_once_and_every_attempt_sends_the_same_octets() {
    let signer = Arc::new(Signer::default());
    let world = World::build(|builder| builder.outbound(signer.clone()));
    world.hops.otherwise(Does::Defer);
    world.submit(&["a@one.example", "b@two.example"]).await;
    world.pass(DAY).await;
    world.queue.shutdown(MINUTE).await;
    world.spool.reopen();
    let again = World::over(world.spool.clone(), world.spool.clone(), |builder| {
        builder.outbound(signer.clone()).clock(world.clock.clone())
    });
    again.hops.otherwise(Does::Defer);
    again.pass(DAY).await;
    let seen: Vec<_> = world.hops.seen().into_iter().chain(again.hops.seen()).collect();
    assert!(seen.len() > 10 && !again.hops.seen().is_empty(), "{}", seen.len());
    for seen in &seen {
        let text = String::from_utf8_lossy(&seen.octets);
        assert_eq!(text, "First: 0\r\nSecond: 0\r\nSubject: test\r\n\r\nbody\r\n");
    }
    assert_eq!(signer.asked.load(Ordering::Relaxed), 1, "the policy is asked once");
    assert_eq!(*signer.seen.lock().expect("no panic"), ["Subject: test\r\n\r\nbody\r\n"]);
}

#[tokio::test(start_paused = true)] // PRACTICES.md S39
async fn s39_notifications_are_signed_as_well_and_leave_where_that_fails() {
    for fails_at in [None, Some(1)] {
        let signer = Arc::new(Signer { fails_at, ..Signer::default() });
        let world = World::build(|builder| builder.outbound(signer.clone()));
        world.hops.set("b@one.example", Does::Refuse);
        world.submit(&["b@one.example"]).await;
        world.pass(MINUTE).await;
        let notification = world.hops.seen().pop().expect("the notification");
        assert_eq!(notification.recipients, ["alice@client.example"]);
        let text = String::from_utf8_lossy(&notification.octets);
        assert_eq!(text.starts_with("First: 1\r\nSecond: 1\r\n"), fails_at.is_none(), "{text}");
        world.assert_balanced();
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_signed_now_is_not_taken_now() {
    let signer = Arc::new(Signer { fails_at: Some(0), ..Signer::default() });
    let world = World::build(|builder| builder.outbound(signer.clone()));
    let submit = || world.queue.submit(path("<a@b.example>"), [mailbox("b@one.example")], Content::new("x: y\r\n\r\n"));
    let refused = submit().await;
    assert!(matches!(&refused, Err(SubmitError::Outbound(_))), "{refused:?}");
    assert!(refused.is_err_and(|error| error.is_transient()));
    assert_eq!(world.queue.totals().mail.taken, 0);
    assert!(submit().await.is_ok());
}
