//! RFC 2920: pipelining. The replies do not depend on how the stream is cut (the check of early talkers is off).

use proptest::prelude::*;
use smtp_core::Refusal;

use crate::support::machine::{Delivered, Machine, patient};

/// Whole sessions of clients, well-behaved but for their haste, and some that err.
const STREAMS: [&str; 9] = [
    "EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n\
     S: x\r\n\r\n..x\r\n.\r\nQUIT\r\n",
    "HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n",
    "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n\
     x\r\n.\r\nNOOP\r\n",
    "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\nRSET\r\n\
     VRFY x\r\nHELP\r\nEXPN y\r\nQUIT\r\n",
    "junk\r\n\r\nEHLO -\r\nMAIL FROM:<a\r\nRCPT TO:x\r\nDATA x\r\na\rb\nc\r\n\
     EHLO c.example\r\nMAIL FROM:<> X=y\r\nQUIT\r\n",
    "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n\
     a\nb\r\n.\r\nMAIL FROM:<>\r\nQUIT\r\n",
    "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\na\r\n.\r\r\n.\r\nQUIT\r\n",
    "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<error@example.org>\r\nRCPT TO:<list@example.org>\r\nDATA\r\n\
     \r\n.x\r\n..\r\n.\r\n",
    "EHLO c.example\r\nMAIL FROM:<> SIZE=99999999999\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n\
     RCPT TO:<x@other.example>\r\nQUIT\r\nNOOP\r\n",
];

fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (String, Vec<Delivered>) {
    let mut machine = Machine::new(patient());
    let mut said = machine.send("");
    for piece in pieces {
        said.push_str(&machine.send(piece));
    }
    (said, machine.delivered)
}

#[test] // RFC 2920 §3.2.
fn r2920_every_cut_gives_the_same_replies() {
    let mut cases = 0;
    for stream in STREAMS {
        let stream = stream.as_bytes();
        let whole = run([stream]);
        for first in 0..=stream.len() {
            let (begin, rest) = stream.split_at(first);
            assert_eq!(run([begin, rest]), whole, "cut at {first}");
            for second in (0..rest.len()).step_by(3) {
                let (middle, end) = rest.split_at(second);
                assert_eq!(run([begin, middle, end]), whole, "cut at {first} and {second} behind");
                cases += 1;
            }
        }
        for size in 1..=17 {
            assert_eq!(run(stream.chunks(size)), whole, "in pieces of {size}");
        }
    }
    assert!(cases > 10_000, "{cases}");
}

#[test] // RFC 2920 §3.1: the replies to a group come in the order of its commands, one for each.
fn r2920_a_group_is_answered_in_order() {
    let mut machine = Machine::greeted(patient());
    let group = "MAIL FROM:<a@c.example>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n";
    assert_eq!(machine.replies(group), ["250 2.1.0", "250 2.1.5", "550 5.1.1", "354"]);
    // §3.1: the content and the commands behind it may come in one piece.
    assert_eq!(machine.replies("x\r\n.\r\nRSET\r\nMAIL FROM:<>\r\n"), ["250 2.0.0", "250 2.0.0", "250 2.1.0"]);
}

#[test] // RFC 2920 §3.1: a client that gets 554 instead of 354 behind a group sends no content, and goes on.
fn r2920_a_group_without_valid_recipients_ends_with_554() {
    let mut machine = Machine::greeted(patient());
    let group = "MAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n";
    assert_eq!(machine.replies(group), ["250 2.1.0", "550 5.1.1", "554 5.5.1"]);
    assert_eq!(machine.replies("RSET\r\nMAIL FROM:<>\r\n"), ["250 2.0.0", "250 2.1.0"]);
}

proptest! {
    #[test]
    fn r2920_random_cuts_change_nothing(
        stream in 0..STREAMS.len(), cuts in proptest::collection::vec(1_usize..60, 1..200), stage in 0..4_usize,
    ) {
        use smtp_core::{Stage, Verdict};
        let stream = STREAMS[stream].as_bytes();
        let stage = [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Recipient][stage];
        let machine = || {
            let mut machine = Machine::new(patient());
            machine.verdicts.insert(stage, Verdict::Refuse(Refusal::transient(7, 1, "Later")));
            machine
        };
        let mut whole = machine();
        let expected = whole.send(stream);
        let mut cut = machine();
        let (mut said, mut rest) = (String::new(), stream);
        for size in cuts {
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            said.push_str(&cut.send(piece));
            rest = behind;
        }
        said.push_str(&cut.send(rest));
        prop_assert_eq!(said, expected);
        prop_assert_eq!(cut.delivered, whole.delivered);
    }
}
