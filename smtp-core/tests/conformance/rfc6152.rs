//! RFC 6152: 8-bit MIME transport, the receiving side.

use smtp_core::Body;

use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

#[test] // RFC 6152 §2.
fn r6152_8bitmime_is_offered() {
    let mut machine = Machine::new(config());
    machine.send("");
    assert!(machine.send("EHLO c.example\r\n").contains("-8BITMIME\r\n"));
}

#[test] // RFC 6152 §3: the values of BODY. BINARYMIME belongs to RFC 3030 and is for deliveries that take it.
fn r6152_the_values_of_body() {
    for (parameter, expected) in [
        ("BODY=8BITMIME", "250 2.1.0"),
        ("BODY=7BIT", "250 2.1.0"),
        ("body=8bitmime", "250 2.1.0"),
        ("BODY=8BITMIME SIZE=100", "250 2.1.0"),
        ("BODY=BINARYMIME", "555 5.5.4"),
        ("BODY", "501 5.5.4"),
        ("BODY=", "501 5.5.4"),
        ("BODY=8BIT", "501 5.5.4"),
        ("BODY=7BIT BODY=8BITMIME", "501 5.5.4"),
    ] {
        let mut machine = Machine::greeted(config());
        assert_eq!(machine.replies(format!("MAIL FROM:<> {parameter}\r\n")), [expected], "{parameter}");
    }
}

/// RFC 6152 §3: all octets pass, with or without the declaration; it is kept for the next hop.
#[tokio::test(start_paused = true)]
async fn r6152_all_octets_arrive_as_they_were_sent() {
    in_process(async {
        let octets: Vec<u8> = (1..=255).filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
        let content = [b"Subject: x\r\n\r\n", &octets[..], b"\r\n", &octets[100..], b"\r\n"].concat();
        for (parameter, body) in
            [(" BODY=8BITMIME", Some(Body::EightBitMime)), (" BODY=7BIT", Some(Body::SevenBit)), ("", None)]
        {
            let (inbox, log) = (Inbox::default(), Log::default());
            let server = unbound(builder(&inbox, &log)).await;
            let mut client = open(&server);
            client.greet().await;
            client.ask(&format!("MAIL FROM:<>{parameter}"), "250").await;
            client.ask("RCPT TO:<alice@example.org>", "250").await;
            client.ask("DATA", "354").await;
            client.send([&content[..], b".\r\n"].concat()).await;
            client.expect("250 2.0.0").await;
            let messages = inbox.messages();
            assert!(messages[0].content().to_bytes().expect("readable") == content, "{parameter}");
            assert_eq!(messages[0].parameters().body, body);
        }
    })
    .await;
}
