//! Content bombs (SECURITY D-25): whatever reads content takes time in proportion to its size, and no more memory than a part.

use std::time::{Duration, Instant};

use smtp_core::{Content, ResolverTable};
use smtp_policy::{ArcChain, Dkim, Dmarc, HeaderSanity};

use crate::support::{converse, message};

/// Who reads content.
const READERS: [&str; 4] = ["header sanity", "DKIM", "ARC", "DMARC"];

async fn read(reader: &str, content: &Content) {
    match reader {
        "header sanity" => drop(HeaderSanity::examine_content(content, false).expect("in memory")),
        "DKIM" => drop(Dkim::new(ResolverTable::new()).verify(content).await.expect("in memory")),
        "ARC" => drop(ArcChain::new(ResolverTable::new()).verify(content).await.expect("in memory")),
        _ => drop(Dmarc::new(ResolverTable::new()).examine_message(content, None, None).await),
    }
}

/// The least of some runs: others use the machine as well.
async fn time(reader: &str, content: &Content) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        read(reader, content).await;
        least = least.min(start.elapsed());
    }
    least
}

#[tokio::test] // SECURITY D-25: four times as much takes at most eight times as long; squared it would be sixteen.
async fn d25_the_time_is_in_proportion_to_the_size() {
    type Bomb = (&'static str, fn(usize) -> String);
    let bombs: [Bomb; 8] = [
        ("fields", |n| "Subject: x\r\n".repeat(n) + "\r\n"),
        ("fields of addresses", |n| "From: <a@b.example>\r\n".repeat(n) + "\r\n"),
        ("one field", |n| format!("From: {}\r\n\r\n", "a@b.example, ".repeat(n))),
        ("comments", |n| format!("From: {}a@b.example\r\n\r\n", "(".repeat(8 * n))),
        ("quotes", |n| format!("To: {}\r\n\r\n", "\"<(\\\"".repeat(2 * n))),
        ("folded", |n| format!("Date:{}\r\n\r\n", "\r\n x".repeat(2 * n))),
        ("no field", |n| "x\r\n".repeat(4 * n) + "\r\n"),
        ("parts", |n| format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(n))),
    ];
    for (name, bomb) in bombs {
        let (small, large) = (Content::new(bomb(5_000)), Content::new(bomb(20_000)));
        for reader in READERS {
            // A machine that does something else for a moment is measured again.
            let mut measured = Vec::new();
            for _ in 0..4 {
                let (small, large) = (time(reader, &small).await, time(reader, &large).await);
                measured.push((small, large));
                if large < small * 8 + Duration::from_millis(20) {
                    measured.clear();
                    break;
                }
            }
            assert!(measured.is_empty(), "{name}, {reader}: {measured:?}");
        }
    }
}

#[tokio::test] // SECURITY D-25: 100,000 parts, also in each other; nobody descends.
async fn d25_a_hundred_thousand_parts_are_octets() {
    let nested = "--b\r\nContent-Type: message/rfc822\r\n\r\n".repeat(100_000);
    for reader in READERS {
        read(reader, &Content::new(format!("From: a@b.example\r\n\r\n{nested}"))).await;
    }
}

#[tokio::test] // SECURITY D-25; LI8: the session ends it before any check sees it, and the client is still understood.
async fn d25_fields_without_number_are_refused() {
    let fields = "X: y\r\n".repeat(150_000);
    let mut lines = message(&["RCPT TO:<user@example.org>"], &fields);
    lines.push("QUIT");
    let chain = smtp_policy::Chain::new("x", smtp_policy::Preset::Bcp).with(HeaderSanity);
    let said = converse(vec![std::sync::Arc::new(chain)], "192.0.2.1", &lines).await;
    let [.., refused, quit] = &said.replies[..] else { panic!("{:?}", said.replies) };
    assert!(refused.starts_with("554 5.6.0") && quit.starts_with("221"), "{:?}", said.replies);
    assert!(said.delivered.is_empty());
}
