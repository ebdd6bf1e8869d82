//! RFC 5321: rows R5321a to R5321m and R5321p, as far as their verbs exist. R5321g has a file of its own.

use std::time::Duration;

use smtp_core::{Accepted, Message, Refusal, Stage};

use crate::support::machine::{Machine, config, without_policies};
use crate::support::transcript::play;
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

const MAIL: &str = "MAIL FROM:<a@client.example>\r\n";
const RCPT: &str = "RCPT TO:<alice@example.org>\r\n";

fn in_content() -> Machine {
    let mut machine = Machine::with_recipient(config());
    assert_eq!(machine.replies("DATA\r\n"), ["354"]);
    machine
}

#[test] // RFC 5321 §4.1.1.4: the end, and nothing else, is the end.
fn r5321a_content_ends_at_crlf_dot_crlf_only() {
    for no_end in ["x\r\n.", "x\r\n.\r", "x.\r\n", "x\r\n .\r\n", "x\r\n. \r\n", "x\r\n..\r\n", "x\r\n.x\r\n"] {
        let mut machine = in_content();
        assert_eq!(machine.replies(no_end), [""; 0], "{no_end:?}");
        assert!(machine.delivered.is_empty(), "{no_end:?}");
    }
    for (end, content) in [("x\r\n.\r\n", "x\r\n"), (".\r\n", ""), ("\r\n.\r\n", "\r\n")] {
        let mut machine = in_content();
        assert_eq!(machine.replies(end), ["250 2.0.0"], "{end:?}");
        assert_eq!(machine.delivered[0].content, content.as_bytes(), "{end:?}");
    }
}

#[test] // RFC 5321 §2.3.8, §4.1.1.4: read to the true end, then refused, then closed.
fn r5321a_bare_cr_lf_and_nul_are_refused_at_the_true_end() {
    for bad in [
        "\n",
        "\r",
        "\0",
        "\n.\n",
        "\r.\r",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r\n",
        "\r\n.\r",
        "\r\r\n",
        "\r\n.\0\r\n",
        "\r\n\0.\r\n",
    ] {
        let mut machine = in_content();
        let behind = format!("x{bad}x\r\nMAIL FROM:<evil@client.example>\r\n{RCPT}DATA\r\nevil\r\n");
        assert_eq!(machine.replies(behind), [""; 0], "{bad:?}: not the end");
        assert_eq!(machine.replies(".\r\nNOOP\r\n"), ["550 5.5.2"], "{bad:?}");
        assert!(machine.is_closed() && machine.delivered.is_empty(), "{bad:?}");
    }
}

#[test] // RFC 5321 §4.5.2.
fn r5321b_one_leading_dot_is_removed() {
    for (sent, kept) in [
        ("..\r\n", ".\r\n"),
        ("...\r\n", "..\r\n"),
        (".x\r\n", "x\r\n"),
        ("x.\r\n", "x.\r\n"),
        ("x\r\n..x\r\n.y\r\n", "x\r\n.x\r\ny\r\n"),
        (".. \r\n", ". \r\n"),
    ] {
        let mut machine = in_content();
        assert_eq!(machine.replies(format!("{sent}.\r\n")), ["250 2.0.0"], "{sent:?}");
        assert_eq!(machine.delivered[0].content, kept.as_bytes(), "{sent:?}");
    }
}

/// What a client has done; the state machine of RFC 5321 §4.1.4 in the words of the RFC.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Has {
    Connected,
    Greeted,
    Mail,
    Recipient,
}

const STATES: [Has; 4] = [Has::Connected, Has::Greeted, Has::Mail, Has::Recipient];

/// A command, the reply to it and the state behind it.
fn model(state: Has, command: &str) -> (&'static str, Has) {
    match (command, state) {
        ("EHLO c.example" | "HELO c.example", _) => ("250", Has::Greeted),
        ("RSET", Has::Connected) => ("250 2.0.0", Has::Connected),
        ("RSET", _) => ("250 2.0.0", Has::Greeted),
        ("NOOP", _) => ("250 2.0.0", state),
        ("HELP", _) => ("214 2.0.0", state),
        ("VRFY alice", _) => ("252 2.0.0", state),
        ("EXPN list", _) => ("502 5.5.1", state),
        ("JUNK", _) => ("500 5.5.1", state),
        ("MAIL FROM:<>", Has::Greeted) => ("250 2.1.0", Has::Mail),
        ("RCPT TO:<bob@example.org>", Has::Mail | Has::Recipient) => ("250 2.1.5", Has::Recipient),
        ("RCPT TO:<nobody@example.org>", Has::Mail | Has::Recipient) => ("550 5.1.1", state),
        ("DATA", Has::Mail) => ("554 5.5.1", Has::Mail),
        ("DATA", Has::Recipient) => ("354", Has::Greeted),
        _ => ("503 5.5.1", state),
    }
}

const COMMANDS: [&str; 12] = [
    "EHLO c.example",
    "HELO c.example",
    "RSET",
    "NOOP",
    "HELP",
    "VRFY alice",
    "EXPN list",
    "JUNK",
    "MAIL FROM:<>",
    "RCPT TO:<bob@example.org>",
    "RCPT TO:<nobody@example.org>",
    "DATA",
];

fn machine_in(state: Has) -> Machine {
    match state {
        Has::Connected => {
            let mut machine = Machine::default();
            assert_eq!(machine.replies(""), ["220"]);
            machine
        }
        Has::Greeted => Machine::greeted(config()),
        Has::Mail => {
            let mut machine = Machine::greeted(config());
            assert_eq!(machine.replies(MAIL), ["250 2.1.0"]);
            machine
        }
        Has::Recipient => Machine::with_recipient(config()),
    }
}

#[test] // RFC 5321 §4.1.4: all sequences of three commands in all states.
fn r5321c_r5321d_the_order_of_commands() {
    let mut cases = 0;
    for begin in STATES {
        for first in COMMANDS {
            for second in COMMANDS {
                for third in COMMANDS {
                    let mut machine = machine_in(begin);
                    let mut state = begin;
                    for command in [first, second, third] {
                        let (expected, next) = model(state, command);
                        let replies = machine.replies(format!("{command}\r\n"));
                        assert_eq!(replies, [expected], "{begin:?}: {first}, {second}, {third}: {command}");
                        if expected == "354" {
                            assert_eq!(machine.replies("x\r\n.\r\n"), ["250 2.0.0"]);
                        }
                        state = next;
                    }
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 4 * 12 * 12 * 12);
}

#[test] // STANDARDS R5321e, RFC 5321 §4.2.4, RFC 5248, RFC 3463.
fn r5321e_each_error_has_its_reply() {
    let long = "NOOP ".to_owned() + &"x".repeat(3000);
    for (what, line, expected) in [
        ("unknown verb", "FOO", "500 5.5.1"),
        ("unknown verb with argument", "FOO BAR", "500 5.5.1"),
        ("empty line", "", "500 5.5.1"),
        ("verb run together", "MAILFROM:<a@b.example>", "500 5.5.1"),
        ("8-bit verb", "M\u{c4}IL FROM:<>", "500 5.5.1"),
        ("line too long", &long, "500 5.5.2"),
        ("bad client name", "EHLO -bad-", "501 5.5.2"),
        ("no client name", "EHLO", "501 5.5.2"),
        ("two client names", "HELO a.example b.example", "501 5.5.2"),
        ("bad literal", "EHLO [300.1.1.1]", "501 5.5.2"),
        ("no FROM:", "MAIL <a@b.example>", "501 5.5.4"),
        ("no argument", "MAIL", "501 5.5.4"),
        ("TO: for FROM:", "MAIL TO:<a@b.example>", "501 5.5.4"),
        ("argument of DATA", "DATA now", "501 5.5.4"),
        ("argument of RSET", "RSET now", "501 5.5.4"),
        ("argument of QUIT", "QUIT now", "501 5.5.4"),
        ("VRFY without argument", "VRFY", "501 5.5.4"),
        ("bad SIZE", "MAIL FROM:<> SIZE=big", "501 5.5.4"),
        ("SIZE twice", "MAIL FROM:<> SIZE=1 SIZE=1", "501 5.5.4"),
        ("bad BODY", "MAIL FROM:<> BODY=9BIT", "501 5.5.4"),
        ("reverse-path without domain", "MAIL FROM:<alice>", "501 5.1.7"),
        ("reverse-path without brackets", "MAIL FROM:alice@client.example", "501 5.1.7"),
        ("reverse-path with two at-signs", "MAIL FROM:<a@b@c.example>", "501 5.1.7"),
        ("reverse-path with a dot at the end", "MAIL FROM:<a.@b.example>", "501 5.1.7"),
        ("reverse-path not closed", "MAIL FROM:<a@b.example", "501 5.1.7"),
        ("unknown parameter", "MAIL FROM:<a@b.example> FOO=bar", "555 5.5.4"),
        ("unknown parameter without value", "MAIL FROM:<a@b.example> FOO", "555 5.5.4"),
        ("RET, not offered", "MAIL FROM:<a@b.example> RET=HDRS", "555 5.5.4"),
        ("ENVID, not offered", "MAIL FROM:<a@b.example> ENVID=x", "555 5.5.4"),
        ("AUTH=, not offered", "MAIL FROM:<a@b.example> AUTH=<>", "555 5.5.4"),
        ("HOLDFOR, not offered", "MAIL FROM:<a@b.example> HOLDFOR=60", "555 5.5.4"),
        ("REQUIRETLS, not offered", "MAIL FROM:<a@b.example> REQUIRETLS", "555 5.5.4"),
        ("BINARYMIME, not offered", "MAIL FROM:<a@b.example> BODY=BINARYMIME", "555 5.5.4"),
        ("EXPN", "EXPN list", "502 5.5.1"),
        ("STARTTLS, not offered", "STARTTLS", "502 5.5.1"),
        ("AUTH, not offered", "AUTH PLAIN", "502 5.5.1"),
        ("LHLO, of LMTP", "LHLO client.example", "500 5.5.1"),
        ("BURL, not offered", "BURL imap://x LAST", "502 5.5.1"),
        ("ETRN, off", "ETRN example.org", "502 5.5.1"),
        ("ATRN, off", "ATRN", "502 5.5.1"),
        ("TURN, obsolete", "TURN", "502 5.5.1"),
        ("SEND, obsolete", "SEND FROM:<a@b.example>", "502 5.5.1"),
        ("SOML, obsolete", "SOML FROM:<a@b.example>", "502 5.5.1"),
        ("SAML, obsolete", "SAML FROM:<a@b.example>", "502 5.5.1"),
    ] {
        let mut machine = Machine::greeted(config());
        assert_eq!(machine.replies(format!("{line}\r\n")), [expected], "{what}: {line}");
        assert_eq!(machine.replies("RCPT TO:<alice@example.org>\r\n"), ["503 5.5.1"], "{what}: no transaction began");
    }
}

#[test] // The same for RCPT, which needs a transaction, and for parameters behind HELO.
fn r5321e_errors_of_rcpt_and_of_helo_clients() {
    for (what, line, expected) in [
        ("no TO:", "RCPT <alice@example.org>", "501 5.5.4"),
        ("no argument", "RCPT", "501 5.5.4"),
        ("no brackets", "RCPT TO:alice@example.org", "501 5.1.3"),
        ("null forward-path", "RCPT TO:<>", "501 5.1.3"),
        ("no domain", "RCPT TO:<alice>", "501 5.1.3"),
        ("empty local-part", "RCPT TO:<@example.org>", "501 5.1.3"),
        ("two dots", "RCPT TO:<a..b@example.org>", "501 5.1.3"),
        ("space", "RCPT TO:<a b@example.org>", "501 5.1.3"),
        ("unknown parameter", "RCPT TO:<alice@example.org> FOO=bar", "555 5.5.4"),
        ("NOTIFY, not offered", "RCPT TO:<alice@example.org> NOTIFY=NEVER", "555 5.5.4"),
        ("ORCPT, not offered", "RCPT TO:<alice@example.org> ORCPT=rfc822;x", "555 5.5.4"),
        ("SIZE is of MAIL", "RCPT TO:<alice@example.org> SIZE=1", "555 5.5.4"),
    ] {
        let mut machine = Machine::with_recipient(config());
        assert_eq!(machine.replies(format!("{line}\r\n")), [expected], "{what}: {line}");
        assert_eq!(machine.replies("DATA\r\n"), ["354"], "{what}: the transaction is untouched");
    }
    let mut machine = Machine::new(config());
    machine.send("");
    assert_eq!(machine.replies("HELO client.example\r\n"), ["250"]);
    for parameter in ["SIZE=1", "BODY=8BITMIME"] {
        assert_eq!(machine.replies(format!("MAIL FROM:<> {parameter}\r\n")), ["555 5.5.4"], "{parameter}");
    }
    assert_eq!(machine.replies("MAIL FROM:<>\r\n"), ["250 2.1.0"]);
}

#[test] // RFC 5321 §4.1.1.5 to §4.1.1.10, in each state, and the envelope as it was.
fn r5321f_commands_that_are_always_allowed() {
    for state in STATES {
        for (command, expected) in [
            ("NOOP", "250 2.0.0"),
            ("NOOP anything at all", "250 2.0.0"),
            ("noop", "250 2.0.0"),
            ("HELP", "214 2.0.0"),
            ("HELP MAIL", "214 2.0.0"),
            ("VRFY alice", "252 2.0.0"),
            ("VRFY nobody", "252 2.0.0"),
            ("VRFY <alice@example.org>", "252 2.0.0"),
            ("EXPN list", "502 5.5.1"),
        ] {
            let mut machine = machine_in(state);
            assert_eq!(machine.replies(format!("{command}\r\n")), [expected], "{state:?}: {command}");
            assert_eq!(machine.replies("DATA\r\n"), [model(state, "DATA").0], "{state:?}: {command}");
        }
        let mut machine = machine_in(state);
        assert_eq!(machine.replies("QUIT\r\nNOOP\r\n"), ["221 2.0.0"], "{state:?}");
        assert!(machine.is_closed() && machine.delivered.is_empty(), "{state:?}");
        let mut machine = machine_in(state);
        assert_eq!(machine.replies("RSET\r\nRSET \r\n"), ["250 2.0.0", "250 2.0.0"], "{state:?}");
        assert_eq!(machine.replies(RCPT), ["503 5.5.1"], "{state:?}");
    }
}

#[test] // RFC 5321 §2.4, §4.5.1.
fn r5321h_case_matters_in_local_parts_only() {
    let mut machine = Machine::default();
    play(
        &mut machine,
        "
        S: 220
        C: eHlO Client.EXAMPLE
        S: 250 mx.example.org
        C: mAiL fRoM:<Smith@Client.Example> sIzE=10 bOdY=8bitmime
        S: 250 2.1.0
        C: rcpt to:<user-Case@EXAMPLE.Org>
        S: 250 2.1.5
        C: RCPT TO:<pOsTmAsTeR>
        S: 250 2.1.5
        C: dAtA
        S: 354
        C: .
        S: 250 2.0.0
        C: qUiT
        S: 221 2.0.0
    ",
    );
    assert_eq!(machine.looked_up[0], "<user-Case@EXAMPLE.Org>", "as it was written");
    assert_eq!(machine.delivered[0].reverse_path, "<Smith@Client.Example>");
}

#[test] // RFC 5321 Appendix C, §4.1.1.3.
fn r5321i_source_routes_are_ignored() {
    for (path, mailbox) in [
        ("<@a.example:alice@example.org>", "<alice@example.org>"),
        ("<@a.example,@b.example:alice@example.org>", "<alice@example.org>"),
        ("<@example.org:alice@example.org>", "<alice@example.org>"),
    ] {
        let mut machine = Machine::greeted(config());
        assert_eq!(
            machine.replies(format!("MAIL FROM:{path}\r\nRCPT TO:{path}\r\nDATA\r\n")),
            ["250 2.1.0", "250 2.1.5", "354"]
        );
        assert_eq!(machine.replies(".\r\n"), ["250 2.0.0"]);
        assert_eq!((&*machine.delivered[0].reverse_path, &*machine.delivered[0].recipients[0]), (mailbox, mailbox));
    }
    let mut machine = Machine::with_recipient(config());
    assert_eq!(
        machine.replies("RCPT TO:<@example.org:x@other.example>\r\n"),
        ["550 5.7.1"],
        "the final mailbox counts"
    );
}

#[test] // RFC 5321 §3.3.
fn r5321j_every_recipient_has_its_own_reply_in_order() {
    let rows = [
        ("alice@example.org", "250 2.1.5"),
        ("nobody@example.org", "550 5.1.1"),
        ("error@example.org", "451 4.3.0"),
        ("x@other.example", "550 5.7.1"),
        ("a b@example.org", "501 5.1.3"),
        ("bob@example.org", "250 2.1.5"),
        ("alice@example.org", "250 2.1.5"),
    ];
    let mut machine = Machine::greeted(config());
    assert_eq!(machine.replies(MAIL), ["250 2.1.0"]);
    let group = rows.map(|(mailbox, _)| format!("RCPT TO:<{mailbox}>\r\n"));
    assert_eq!(machine.replies(group.concat()), rows.map(|(_, reply)| reply));
}

#[tokio::test(start_paused = true)] // RFC 5321 §4.2.5, §6.1: 250 comes when the delivery has said so, and not before.
async fn r5321l_250_waits_for_the_delivery() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let kept = inbox.clone();
        let server = unbound(builder(&inbox, &log).deliver(move |message: Message| {
            let inbox = kept.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(100)).await;
                inbox.messages().push(message);
                Ok(Accepted::all())
            }
        }))
        .await;
        let mut client = open(&server);
        client.greet().await;
        client.send_message().await;
        let early = tokio::time::timeout(Duration::from_secs(99), client.reply()).await;
        assert!(early.is_err() && inbox.len() == 0, "{early:?}");
        client.expect("250 2.0.0").await;
        assert_eq!(inbox.len(), 1);
    })
    .await;
    for refusal in [Refusal::transient(3, 0, "Later"), Refusal::permanent(6, 0, "Never")] {
        let mut machine = in_content();
        let expected = refusal.to_string();
        machine.delivery = Err(refusal);
        assert_eq!(machine.send("x\r\n.\r\n").trim_end(), expected);
    }
}

#[test] // RFC 5321 §6.3. All rows: li10_more_than_100_received_fields_are_a_loop.
fn r5321m_a_loop_is_refused() {
    for (count, expected) in [(99, "250 2.0.0"), (100, "250 2.0.0"), (101, "554 5.4.6")] {
        let mut machine = in_content();
        assert_eq!(machine.replies(format!("{}\r\n.\r\n", "Received: x\r\n".repeat(count))), [expected], "{count}");
    }
}

#[test] // RFC 5321 §4.5.3.1: what a server must be able to take, all at once.
fn r5321p_the_minimum_sizes_are_accepted() {
    let label = "d".repeat(62);
    let domain = format!("{label}.{label}.{label}.{}", &label[..55]);
    let path = format!("<{}@{domain}>", "l".repeat(9));
    assert_eq!((path.len(), domain.len()), (256, 244));
    let mut machine = Machine::greeted(without_policies());
    let line = format!("MAIL FROM:{path}");
    let padded = format!("{line}{}\r\n", " ".repeat(510 - line.len()));
    assert_eq!(padded.len(), 512);
    assert_eq!(machine.replies(padded), ["250 2.1.0"]);
    for number in 0..100 {
        let local = format!("user{number}{}", "x".repeat(60))[..64].to_owned();
        assert_eq!(machine.replies(format!("RCPT TO:<{local}@example.org>\r\n")), ["250 2.1.5"], "{number}");
    }
    assert_eq!(machine.replies("DATA\r\n"), ["354"]);
    let text = format!("{}\r\n", "t".repeat(998));
    assert_eq!(text.len(), 1000);
    let content = format!("\r\n{}", text.repeat(66));
    assert!(content.len() > 64 << 10);
    assert_eq!(machine.replies(format!("{content}.\r\n")), ["250 2.0.0"]);
    assert_eq!(machine.delivered[0].recipients.len(), 100);
}

#[test] // RFC 5321 §4.1.1.1, §4.1.3: every legal name is taken; it is no matter for syntax who it is (S10).
fn ehlo_takes_every_legal_name() {
    for name in [
        "client.example",
        "CLIENT",
        "localhost",
        "a",
        "1.2.3.example",
        "xn--bcher-kva.example",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        "[IPv6:::ffff:192.0.2.1]",
        "mx.example.org",
    ] {
        for verb in ["EHLO", "HELO"] {
            let mut machine = Machine::new(config());
            machine.send("");
            assert_eq!(machine.replies(format!("{verb} {name}\r\n")), ["250"], "{verb} {name}");
        }
    }
    let mut machine = Machine::default().refusing(Stage::Helo, Refusal::permanent(7, 1, "No"));
    machine.send("");
    assert_eq!(machine.replies("EHLO client.example\r\n"), ["250"], "a policy's refusal is held (P3)");
}
