//! Deliveries whose client leaves, or whose time is over, before they are done.

use std::sync::Arc;
use std::time::Duration;

use smtp_core::{Decided, Delivery, Message, ServerBuilder, SessionEvent};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::support::client::Client;
use crate::support::world::{Inbox, Log, builder, in_process, open, start, unbound};

/// A delivery that waits until it is let go.
fn gated(inbox: &Inbox, log: &Log) -> (ServerBuilder<Decided, Decided>, Arc<Notify>, Arc<Notify>) {
    let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inbox_of_it, begun_of_it, gate_of_it) = (inbox.clone(), begun.clone(), gate.clone());
    let builder = builder(inbox, log).deliver(move |message: Message| {
        let (inbox, begun, gate) = (inbox_of_it.clone(), begun_of_it.clone(), gate_of_it.clone());
        async move {
            begun.notify_one();
            gate.notified().await;
            inbox.deliver(message).await
        }
    });
    (builder, begun, gate)
}

/// C5, RFC 1047: nobody who leaves ends a delivery; that the client may not know of it is said.
#[tokio::test]
async fn c5_a_client_that_leaves_while_its_message_is_delivered() {
    for resets in [true, false] {
        let (inbox, log) = (Inbox::default(), Log::default());
        let (builder, begun, gate) = gated(&inbox, &log);
        let server = start(builder).await;
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        client.send_message().await;
        begun.notified().await;
        if resets {
            client.stream.set_zero_linger().expect("the socket lives");
        }
        drop(client);
        sleep(Duration::from_millis(200)).await; // The server notices.
        assert_eq!((inbox.len(), server.handle.connections() > 0), (0, true));
        gate.notify_one();
        log.wait_for(|event| matches!(event, SessionEvent::Closed(_))).await;
        assert_eq!(inbox.len(), 1, "the delivery completes");
        let unconfirmed = |event: &SessionEvent| matches!(event, SessionEvent::AcknowledgementUnconfirmed { .. });
        assert_eq!(log.count(unconfirmed), 1, "resets: {resets}: {:?}", log.events());
        assert_eq!(log.count(|event| matches!(event, SessionEvent::Accepted { .. })), 1);
        assert_eq!(log.count(|event| matches!(event, SessionEvent::HookFailed { .. })), 0);
        server.run.abort();
    }
}

/// A client that says QUIT and closes its side can still read: that is no doubt.
#[tokio::test]
async fn c5_a_client_that_half_closes_behind_quit_has_its_acknowledgement() {
    let (inbox, log) = (Inbox::default(), Log::default());
    let (builder, begun, gate) = gated(&inbox, &log);
    let server = start(builder).await;
    let mut client = Client::connect(server.address).await;
    client.greet().await;
    client.send_message().await;
    client.send("QUIT\r\n").await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("the socket lives");
    begun.notified().await;
    sleep(Duration::from_millis(100)).await;
    gate.notify_one();
    client.expect("250 2.0.0").await;
    client.expect("221 2.0.0").await;
    client.expect_closed().await;
    log.wait_for(|event| matches!(event, SessionEvent::Closed(_))).await;
    assert_eq!(log.count(|event| matches!(event, SessionEvent::AcknowledgementUnconfirmed { .. })), 0);
    server.run.abort();
}

#[tokio::test(start_paused = true)] // DESIGN: at its deadline 451 4.3.0, and a later success is an event.
async fn to12_a_late_delivery_is_said_to_be_late() {
    in_process(async {
        for (takes, is_late) in [(299, false), (301, true), (420, true)] {
            let (inbox, log) = (Inbox::default(), Log::default());
            let kept = inbox.clone();
            let server = unbound(builder(&inbox, &log).deliver(move |message: Message| {
                let inbox = kept.clone();
                async move {
                    sleep(Duration::from_secs(takes)).await;
                    inbox.deliver(message).await
                }
            }))
            .await;
            let mut client = open(&server);
            client.greet().await;
            let begin = Instant::now();
            client.send_message().await;
            client.expect(if is_late { "451 4.3.0" } else { "250 2.0.0" }).await;
            assert_eq!(begin.elapsed().as_secs(), takes.min(300));
            client.ask("QUIT", "221 2.0.0").await;
            drop(client);
            sleep(Duration::from_secs(200)).await;
            assert_eq!(inbox.len(), 1, "{takes}");
            let late = log.count(|event| matches!(event, SessionEvent::DeliveredLate { .. }));
            let accepted = log.count(|event| matches!(event, SessionEvent::Accepted { .. }));
            assert_eq!((late, accepted), if is_late { (1, 0) } else { (0, 1) }, "{takes}");
        }
    })
    .await;
}
