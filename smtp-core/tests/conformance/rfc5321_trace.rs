//! RFC 5321 §4.4: what is added to a message, and that nothing else changes (R5321k).

use std::io::Read as _;

use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

/// A canonical message, from a seed.
fn message(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut content = Vec::new();
    for _ in 0..random.usize(0..12) {
        let length = if random.u8(..) < 8 { random.usize(0..3000) } else { random.usize(0..90) };
        let dots = random.usize(0..3);
        content.extend(std::iter::repeat_n(b'.', if random.bool() { dots } else { 0 }));
        content.extend((0..length).map(|_| match random.u8(..) {
            b'\r' | b'\n' | 0 => b' ',
            octet => octet,
        }));
        content.extend_from_slice(b"\r\n");
    }
    // White space at the very start would continue the field that is put in front of it.
    if let Some(first) = content.first_mut().filter(|octet| matches!(octet, b' ' | b'\t')) {
        *first = b'-';
    }
    content
}

/// RFC 5321 §4.4, §3.6.1: one `Received` in front, and nothing else changes; 10,000 messages in groups.
#[tokio::test]
async fn r5321k_nothing_but_received_is_added() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log)).await;
        let mut random = fastrand::Rng::with_seed(5321);
        for _ in 0..20 {
            let mut client = open(&server);
            client.greet().await;
            for _ in 0..500 {
                let content = message(&mut random);
                let mut wire = Vec::new();
                for line in content.split_inclusive(|&octet| octet == b'\n') {
                    wire.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
                    wire.extend_from_slice(line);
                }
                wire.extend_from_slice(b".\r\n");
                client
                    .send("MAIL FROM:<a@client.example> BODY=8BITMIME\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
                    .await;
                for expected in ["250 2.1.0", "250 2.1.5", "354"] {
                    client.expect(expected).await;
                }
                client.send(&wire).await;
                client.expect("250 2.0.0").await;
                let message = inbox.messages().pop().expect("it was delivered");
                assert!(message.content().to_bytes().expect("readable") == content, "octet for octet");
                let mut whole = Vec::new();
                message.reader().expect("readable").read_to_end(&mut whole).expect("readable");
                let prefix = whole.strip_suffix(&content[..]).expect("the content stands behind the prefix");
                let prefix = std::str::from_utf8(prefix).expect("text").replace("\r\n ", " ").replace("\r\n\t", "\t");
                assert_eq!(prefix.matches("\r\n").count(), 1, "one field: {prefix}");
                assert!(
                    prefix.starts_with("Received: from client.example ([192.0.2.1]) by mx.example.org with ESMTP id ")
                );
                assert!(
                    prefix.contains("for <alice@example.org>") && prefix.contains("(envelope-from <a@client.example>)")
                );
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // RFC 5321 §7.6: `for` only with one recipient. §4.4: HELO is SMTP.
async fn r5321k_received_names_one_recipient_at_most() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log)).await;
        let mut client = open(&server);
        client.expect("220").await;
        client.ask("HELO [192.0.2.1]", "250").await;
        client.ask("MAIL FROM:<>", "250").await;
        client.ask("RCPT TO:<alice@example.org>", "250").await;
        client.ask("RCPT TO:<bob@example.org>", "250").await;
        client.ask("DATA", "354").await;
        client.ask(".", "250").await;
        let prefix = String::from_utf8(inbox.messages()[0].header_prefix()).expect("text").replace("\r\n", "");
        assert!(prefix.contains("from [192.0.2.1] ([192.0.2.1]) by mx.example.org with SMTP id"), "{prefix}");
        assert!(
            !prefix.contains("alice") && !prefix.contains("bob") && prefix.contains("(envelope-from <>)"),
            "{prefix}"
        );
    })
    .await;
}
