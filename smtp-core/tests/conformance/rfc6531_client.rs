//! RFC 6531: internationalized mail goes only where it is understood.

use smtp_core::{ClientConfig, Envelope, SendCause, SendStage};

use crate::scripted::{Machine, outcomes};

fn envelope(from: &str, to: &[&str]) -> Envelope {
    Envelope::parse(from, to).expect("mailboxes")
}

/// What the client says to a server that takes every command, up to `DATA`.
fn said(extensions: &[&str], message: &Envelope) -> (String, Machine) {
    let mut machine = Machine::greeted(extensions);
    machine.begin(message, &[b"x\r\n"]);
    let mut said = String::new();
    loop {
        let sent = String::from_utf8(machine.take_sent()).expect("UTF-8");
        said.push_str(&sent);
        match sent.lines().last() {
            Some("DATA") | None => return (said, machine),
            Some(_) => machine.receive("250 2.0.0 Ok\r\n"),
        }
    }
}

#[test] // RFC 6531 §3.4: where it is needed, and nowhere else.
fn r6531_the_parameter_is_said_where_it_is_needed() {
    let plain = envelope("a@client.example", &["b@example.org"]);
    for (message, mail) in [
        (plain.clone(), "MAIL FROM:<a@client.example>\r\n"),
        (plain.with_utf8_header(), "MAIL FROM:<a@client.example> SMTPUTF8\r\n"),
        (envelope("<>", &["j\u{f6}rg@example.org"]), "MAIL FROM:<> SMTPUTF8\r\n"),
        (envelope("a@b\u{fc}cher.example", &["b@x.example"]), "MAIL FROM:<a@b\u{fc}cher.example> SMTPUTF8\r\n"),
        (envelope("\u{fc}@client.example", &["b@x.example"]), "MAIL FROM:<\u{fc}@client.example> SMTPUTF8\r\n"),
    ] {
        assert!(said(&["8BITMIME", "SMTPUTF8"], &message).0.starts_with(mail), "{message:?}");
    }
}

#[test] // RFC 5890 §2.3.2.1: an A-label is the same domain.
fn r6531_a_domain_goes_as_a_labels_where_that_is_all_it_takes() {
    let message = envelope("a@b\u{fc}cher.example", &["b@\u{fc}.example", "c@example.org"]);
    let (said, _) = said(&["8BITMIME"], &message);
    assert_eq!(
        said,
        "MAIL FROM:<a@xn--bcher-kva.example>\r\nRCPT TO:<b@xn--tda.example>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
    );
}

#[test] // RFC 6531 §3.2; STANDARDS.md R6531
fn r6531_what_needs_it_fails_where_it_is_not_offered() {
    for message in [
        envelope("a@client.example", &["b@example.org"]).with_utf8_header(),
        envelope("\u{fc}@client.example", &["b@example.org"]),
        envelope("a@client.example", &["\u{fc}@example.org", "\u{f6}@example.org"]),
    ] {
        let (said, mut machine) = said(&["8BITMIME", "PIPELINING"], &message);
        assert_eq!(said, "", "{message:?}");
        let report = machine.report();
        assert!(outcomes(&report).iter().all(|outcome| outcome == "failed 5.6.7"), "{report:?}");
        let error = report.recipients()[0].as_ref().expect_err("refused");
        assert_eq!((error.stage(), error.cause()), (SendStage::Local, &SendCause::NotAscii));
        assert!(machine.session.is_reusable());
    }
}

#[test] // STANDARDS.md R5321o: of several recipients only those fail that need it, wherever they stand.
fn r6531_a_recipient_that_needs_it_does_not_touch_the_others() {
    for extensions in [&["8BITMIME"][..], &["8BITMIME", "PIPELINING"]] {
        for needy in 0_u32..15 {
            let name =
                |place: u32| if needy >> place & 1 == 1 { format!("\u{fc}{place}") } else { format!("u{place}") };
            let recipients: Vec<_> = (0..4).map(|place| format!("{}@example.org", name(place))).collect();
            let message = Envelope::parse("a@client.example", &recipients).expect("mailboxes");
            let mut machine = Machine::greeted(extensions);
            machine.begin(&message, &[b"x\r\n"]);
            let mut said = Vec::new();
            while machine.reports.is_empty() {
                let sent = String::from_utf8(machine.take_sent()).expect("UTF-8");
                assert!(!sent.is_empty(), "{needy:04b}: {said:?}");
                for line in sent.lines() {
                    match line {
                        "DATA" => machine.receive("354 go on\r\n"),
                        "x" => {}
                        line => machine.receive(format!("250 2.0.0 {line}\r\n")),
                    }
                    said.push(line.to_owned());
                }
            }
            let report = machine.report();
            for (place, result) in report.recipients().iter().enumerate() {
                let is_needy = needy >> place & 1 == 1;
                assert_eq!(result.is_err(), is_needy, "{needy:04b} {report:?}");
                assert!(is_needy || said.contains(&format!("RCPT TO:<{}>", recipients[place])), "{said:?}");
            }
            assert!(said.iter().all(|line| line.is_ascii()), "{said:?}");
        }
    }
}

#[test] // RFC 6531 §3.7.1
fn r6531_the_client_calls_itself_by_a_labels() {
    let config = ClientConfig::new("b\u{fc}cher.example").expect("a name");
    assert!(format!("{config:?}").contains("xn--bcher-kva.example"), "{config:?}");
}
