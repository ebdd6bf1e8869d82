//! Loops whose hops take trace fields away (SECURITY D-18).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use smtp_core::Policy;
use smtp_policy::{Chain, LoopWindow, MemoryStateStore, Preset};

use crate::support::{Judged, converse, message};

/// A chain over a clock in seconds.
fn chain(preset: Preset, seconds: &Arc<AtomicU64>, judged: &Judged) -> Arc<dyn Policy> {
    let seconds = seconds.clone();
    let now = move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000 + seconds.load(Ordering::Relaxed));
    let check = LoopWindow::new(MemoryStateStore::new()).with_clock(now);
    Arc::new(Chain::new("loops", preset).with(check).observed_by(judged.clone()))
}

async fn said(chain: &Arc<dyn Policy>, recipient: &str, content: &str) -> String {
    let rcpt = format!("RCPT TO:<{recipient}>");
    let lines = message(&[&*rcpt], content);
    converse(vec![chain.clone()], "192.0.2.1", &lines).await.replies.pop().expect("a reply")
}

#[tokio::test] // SECURITY D-18: a window over Message-ID, content and recipient, that holds and alerts.
async fn d18_a_loop_whose_hops_strip_trace_fields_is_held_for_an_hour_and_told() {
    let (seconds, judged) = (Arc::new(AtomicU64::new(0)), Judged::default());
    let chain = chain(Preset::Bcp, &seconds, &judged);
    let letter = "Message-ID: <1@client.example>\r\n\r\nx";
    for round in 0..10 {
        seconds.store(60 * round, Ordering::Relaxed);
        let said = said(&chain, "user@example.org", &format!("X-Round: {round}\r\n{letter}")).await;
        assert!(said.starts_with("250 "), "{round}: {said}");
    }
    for recipient in ["user@example.org", "USER@example.org"] {
        let said = said(&chain, recipient, letter).await;
        assert!(said.starts_with("451 4.4.6 "), "{said}");
    }
    let events = judged.events();
    let told = events.last().expect("it is told");
    assert_eq!((told.action.as_str(), told.findings[0].practice.as_str()), ("defer", "loop"));
    assert!(told.findings[0].evidence.as_str().starts_with("came 1"), "{:?}", told.findings);
    // Others are not held: another recipient, another message, another body, or none that can be told from others.
    assert!(said(&chain, "other@example.org", letter).await.starts_with("250 "));
    assert!(said(&chain, "user@example.org", &letter.replace("<1@", "<2@")).await.starts_with("250 "));
    assert!(said(&chain, "user@example.org", &format!("{letter}y")).await.starts_with("250 "));
    for _ in 0..12 {
        assert!(said(&chain, "user@example.org", "Subject: x\r\n\r\nx").await.starts_with("250 "));
    }
    // The window begins with the first, and whoever tries on does not make it longer.
    seconds.store(3599, Ordering::Relaxed);
    assert!(said(&chain, "user@example.org", letter).await.starts_with("451 "));
    seconds.store(3601, Ordering::Relaxed);
    assert!(said(&chain, "user@example.org", letter).await.starts_with("250 "));
}

#[tokio::test] // PRACTICES P2: a heuristic, so `rfc-strict` only observes.
async fn p2_rfc_strict_holds_nothing() {
    let chain = chain(Preset::RfcStrict, &Arc::default(), &Judged::default());
    for _ in 0..15 {
        let said = said(&chain, "user@example.org", "Message-ID: <1@client.example>\r\n\r\nx").await;
        assert!(said.starts_with("250 "), "{said}");
    }
}
