//! RFC 5321: the obligations of a client.

use proptest::prelude::*;
use smtp_core::ClientLimits;

use crate::scripted::{Machine, envelope, outcomes, transcript};
use crate::support::machine::{Machine as Server, patient};

#[test] // RFC 5321 §D.1 and §3.2: a server of old, one command at a time, without extensions.
fn r5321o_ehlo_is_not_known_so_helo_is_said() {
    for refusal in ["500 5.5.1 What?", "502 Not here", "504 No", "550 Access denied", "501 Syntax", "555 No"] {
        transcript(
            &envelope(&["jones", "green"]),
            "Hello",
            &format!(
                "
        S: 220 mx.example.org
        C: EHLO client.example
        S: {refusal}
        C: HELO client.example
        S: 250 mx.example.org
        -- ready
        -- send
        C: MAIL FROM:<a@client.example>
        S: 250 Ok
        C: RCPT TO:<jones@example.org>
        S: 250 Ok
        C: RCPT TO:<green@example.org>
        S: 251 Will forward
        C: DATA
        S: 354 Start
        C: Hello
        C: .
        S: 250 Ok
        -- result: delivered 250, delivered 250
        -- ready
    "
            ),
        );
    }
}

#[test] // RFC 5321 §3.2: what offers nothing before `HELO` offers nothing behind it.
fn extensions_of_a_refused_ehlo_are_not_used() {
    let mut machine = Machine::new(ClientLimits::default());
    machine.receive("220 mx.example.org\r\n");
    machine.receive("500-x\r\n500-PIPELINING\r\n500 SIZE 1\r\n");
    machine.receive("250-mx.example.org\r\n250-PIPELINING\r\n250 SIZE 1\r\n");
    assert!(machine.session.is_reusable());
    assert_eq!(machine.session.offers(), smtp_core::Offers::default());
}

/// The replies to a message for three recipients, the second of which gets `reply`.
fn with_reply_to_second(reply: &str, extensions: &[&str]) -> Vec<String> {
    let mut machine = Machine::greeted(extensions);
    machine.begin(&envelope(&["a", "b", "c"]), &[b"Hello\r\n"]);
    for _ in 0..20 {
        let said = String::from_utf8(machine.take_sent()).expect("ASCII");
        if !machine.reports.is_empty() {
            break;
        }
        let replies = said.split_terminator("\r\n").map(|line| match line {
            "RCPT TO:<b@example.org>" => reply,
            "DATA" => "354 Go\r\n",
            "Hello" => "",
            _ => "250 Ok\r\n",
        });
        machine.receive(replies.collect::<Vec<_>>().concat());
    }
    outcomes(&machine.report())
}

#[test] // RFC 5321 §4.3.2: by the first digit where the rest is not known. §3.3: each recipient for itself.
fn r5321o_unknown_codes_go_by_their_first_digit_and_touch_one_recipient() {
    for extensions in [&["PIPELINING"][..], &[]] {
        for (reply, expected) in [
            ("250 Ok\r\n", "delivered 250"),
            ("259 Ok\r\n", "delivered 250"),
            ("271 Ok\r\n", "delivered 250"),
            ("450 Later\r\n", "deferred 4.0.0"),
            ("459 Later\r\n", "deferred 4.0.0"),
            ("499 Later\r\n", "deferred 4.0.0"),
            ("550 5.1.1 No\r\n", "failed 5.1.1"),
            ("559 No\r\n", "failed 5.0.0"),
            ("571 5.7.1 No\r\n", "failed 5.7.1"),
        ] {
            let outcomes = with_reply_to_second(reply, extensions);
            assert_eq!(outcomes, ["delivered 250", expected, "delivered 250"], "{reply} {extensions:?}");
        }
    }
}

proptest! {
    #[test] // RFC 5321 §4.5.2: receive(send(x)) = x for all canonical x, over our own server, however it is cut.
    fn r5321b_what_a_client_sends_is_what_a_server_receives(
        lines in proptest::collection::vec("[.a]{0,3}|[^\\r\\n\\x00]{0,200}", 0..20),
        has_last_line_end in any::<bool>(),
        chunk in 1_usize..300,
        write in 1_usize..300,
    ) {
        // A server of ours takes no content that would continue its own header fields.
        let mut content = b"Subject: x\r\n".to_vec();
        content.extend(lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()));
        if !has_last_line_end {
            content.truncate(content.len().saturating_sub(2));
        }
        let chunks: Vec<_> = content.chunks(chunk).collect();
        let mut server = Server::new(patient());
        let mut client = Machine::new(ClientLimits::default());
        client.receive(server.send(""));
        for _ in 0..6 {
            let sent = client.take_sent();
            let replies: Vec<_> = sent.chunks(write).map(|octets| server.send(octets)).collect();
            client.receive(replies.concat());
            if client.session.is_reusable() && client.reports.is_empty() {
                client.begin(&envelope(&["alice", "nobody", "bob"]), &chunks);
            }
        }
        prop_assert_eq!(outcomes(&client.report()), ["delivered 250", "failed 5.1.1", "delivered 250"]);
        if !(content.is_empty() || content.ends_with(b"\r\n")) {
            content.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(&server.delivered[0].content, &content);
        prop_assert_eq!(&server.delivered[0].recipients, &["<alice@example.org>", "<bob@example.org>"]);
    }
}
