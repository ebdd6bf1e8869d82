//! RFC 1870: the size of a message, as a client declares and obeys it.

use crate::scripted::{Machine, envelope, outcomes};

#[test] // RFC 1870 §6 and §5: with the line end that is added, without transparency.
fn r1870_size_is_declared_where_it_is_offered() {
    for (extensions, content, expected) in [
        (&["SIZE 1000"][..], &b".a\r\n"[..], "MAIL FROM:<a@client.example> SIZE=4\r\n"),
        (&["SIZE"], b".a", "MAIL FROM:<a@client.example> SIZE=4\r\n"),
        (&["SIZE 0"], b"", "MAIL FROM:<a@client.example> SIZE=0\r\n"),
        (&[], b"a\r\n", "MAIL FROM:<a@client.example>\r\n"),
    ] {
        let mut machine = Machine::greeted(extensions);
        machine.begin(&envelope(&["jones"]), &[content]);
        assert_eq!(String::from_utf8_lossy(&machine.take_sent()), expected, "{extensions:?}");
    }
}

#[test] // RFC 1870 §6.1: what exceeds the limit is refused here, and what does not is tried.
fn r1870_a_message_over_the_limit_is_not_even_tried() {
    for (octets, sent, expected) in [(999, true, ""), (1000, true, ""), (1001, false, "failed 5.3.4")] {
        let mut machine = Machine::greeted(&["PIPELINING", "SIZE 1000"]);
        let mut content = vec![b'x'; octets - 2];
        content.extend_from_slice(b"\r\n");
        machine.begin(&envelope(&["jones"]), &[&content]);
        assert_eq!(!machine.take_sent().is_empty(), sent, "{octets}");
        if !sent {
            assert_eq!(outcomes(&machine.report()), [expected]);
            assert!(machine.session.is_reusable());
        }
    }
    // The line end that is added counts.
    let mut machine = Machine::greeted(&["SIZE 1000"]);
    machine.begin(&envelope(&["jones"]), &[&[b'x'; 999]]);
    assert_eq!(outcomes(&machine.report()), ["failed 5.3.4"]);
}
