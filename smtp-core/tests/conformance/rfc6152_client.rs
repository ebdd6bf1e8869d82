//! RFC 6152: 8-bit content, sent only where it is taken. Conversion to 7 bit is still to come.

use smtp_core::{Body, SendCause, SendStage};

use crate::scripted::{Machine, envelope, outcomes};

#[test] // RFC 6152 §2 and §3.
fn r6152_8bit_content_goes_only_where_it_is_taken() {
    let message = envelope(&["jones"]);
    for (extensions, body, expected) in [
        (&["8BITMIME"][..], Some(Body::EightBitMime), Some("MAIL FROM:<a@client.example> BODY=8BITMIME\r\n")),
        (&["8BITMIME"], Some(Body::SevenBit), Some("MAIL FROM:<a@client.example> BODY=7BIT\r\n")),
        (&["8BITMIME"], None, Some("MAIL FROM:<a@client.example>\r\n")),
        (&[], Some(Body::SevenBit), Some("MAIL FROM:<a@client.example>\r\n")),
        (&[], Some(Body::EightBitMime), None),
    ] {
        let mut machine = Machine::greeted(extensions);
        let message = body.map_or_else(|| message.clone(), |body| message.clone().with_body(body));
        machine.begin(&message, &["J\u{fc}rgen\r\n".as_bytes()]);
        let sent = machine.take_sent();
        assert_eq!(String::from_utf8_lossy(&sent), expected.unwrap_or_default());
        if expected.is_none() {
            let report = machine.report();
            assert_eq!(outcomes(&report), ["failed 5.6.3"]);
            let error = report.recipients()[0].as_ref().expect_err("refused");
            assert_eq!((error.stage(), error.cause()), (SendStage::Local, &SendCause::EightBit));
            assert!(machine.session.is_reusable());
        }
    }
}
