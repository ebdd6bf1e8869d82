//! RFC 8689 §4.2.1, step by step: what the client demands of a server before it says a word about such a message.

use smtp_core::{ClientLimits, Envelope, SendCause, SendStage, StartTls};

use crate::scripted::{Machine, outcomes};

/// What lies under the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Clear,
    /// TLS with whoever answered.
    Anybody,
    /// TLS from the start, and by `STARTTLS`, with a server whose certificate was verified.
    Verified,
    VerifiedByStartTls,
}

/// A client that has read in the answer to its last `EHLO` that these are offered.
fn greeted(below: Below, extensions: &[&str]) -> Machine {
    let mut machine = Machine::new(ClientLimits::default());
    let session = std::mem::replace(&mut machine.session, Machine::new(ClientLimits::default()).session);
    machine.session = match below {
        Below::Clear => session.with_verified_tls(),
        Below::Anybody => session.under_tls(),
        Below::Verified => session.under_tls().with_verified_tls(),
        Below::VerifiedByStartTls => session.with_verified_tls().with_starttls(StartTls::Required),
    };
    machine.receive("220 mx.example.org ESMTP\r\n");
    if below == Below::VerifiedByStartTls {
        machine.receive("250-mx.example.org\r\n250 STARTTLS\r\n");
        machine.receive("220 2.0.0 Go ahead\r\n");
        machine.session.tls_started(machine.now);
        machine.receive("");
    }
    let lines: Vec<_> = extensions.iter().map(|keyword| format!("250-{keyword}\r\n")).collect();
    machine.receive(format!("250-mx.example.org\r\n{}250 8BITMIME\r\n", lines.concat()));
    assert!(machine.session.is_reusable());
    machine.take_sent();
    machine
}

fn envelope(from: &str) -> Envelope {
    Envelope::parse(from, ["b@example.org", "c@example.org"]).expect("mailboxes")
}

#[test] // RFC 8689 §4.2.1: steps 4 and 5, and the status codes behind them.
fn r8689_without_verified_tls_or_the_promise_of_the_server_it_fails_unsaid() {
    let not_verified = (SendCause::TlsNotVerified, "failed 5.7.10");
    let not_offered = (SendCause::RequireTlsNotOffered, "failed 5.7.30");
    for (below, extensions, (cause, outcome)) in [
        (Below::Clear, &["REQUIRETLS", "PIPELINING"][..], &not_verified),
        (Below::Anybody, &["REQUIRETLS", "PIPELINING"], &not_verified),
        (Below::Anybody, &[], &not_verified),
        (Below::Verified, &["PIPELINING"], &not_offered),
        (Below::Verified, &["REQUIRETLSX", "X-REQUIRETLS"], &not_offered),
        (Below::VerifiedByStartTls, &[], &not_offered),
    ] {
        let mut machine = greeted(below, extensions);
        machine.begin(&envelope("a@client.example").with_requiretls(), &[b"x\r\n"]);
        assert_eq!(machine.take_sent(), b"", "{below:?} {extensions:?}");
        let report = machine.report();
        assert!(outcomes(&report).iter().all(|found| found == outcome), "{below:?} {extensions:?}: {report:?}");
        let error = report.recipients()[0].as_ref().expect_err("it fails");
        assert_eq!((error.stage(), error.cause()), (SendStage::Local, cause));
        // RFC 8689 §4.2.1: other messages may go to that server.
        assert!(machine.session.is_reusable());
        machine.begin(&envelope("a@client.example"), &[b"x\r\n"]);
        assert!(machine.take_sent().starts_with(b"MAIL FROM:<a@client.example>\r\n"), "{below:?} {extensions:?}");
    }
}

#[test] // RFC 8689 §4.2.1: the option goes along, where it is demanded and only there.
fn r8689_the_parameter_is_said_where_it_is_demanded() {
    for below in [Below::Verified, Below::VerifiedByStartTls] {
        for (message, mail) in [
            (envelope("a@client.example").with_requiretls(), "MAIL FROM:<a@client.example> REQUIRETLS\r\n"),
            (envelope("<>").with_requiretls(), "MAIL FROM:<> REQUIRETLS\r\n"),
            (envelope("a@client.example"), "MAIL FROM:<a@client.example>\r\n"),
        ] {
            let mut machine = greeted(below, &["requiretls"]);
            machine.begin(&message, &[b"x\r\n"]);
            assert_eq!(machine.take_sent(), mail.as_bytes(), "{below:?}");
        }
    }
}

#[test] // RFC 3207 §4.2; SECURITY.md D-5: what was offered in clear is no promise.
fn r8689_an_offer_from_before_tls_does_not_count() {
    let mut machine = Machine::new(ClientLimits::default());
    let session = std::mem::replace(&mut machine.session, Machine::new(ClientLimits::default()).session);
    machine.session = session.with_verified_tls().with_starttls(StartTls::Required);
    machine.receive("220 mx.example.org ESMTP\r\n");
    machine.receive("250-mx.example.org\r\n250-REQUIRETLS\r\n250 STARTTLS\r\n");
    machine.receive("220 2.0.0 Go ahead\r\n");
    machine.session.tls_started(machine.now);
    machine.receive("");
    machine.receive("250-mx.example.org\r\n250 8BITMIME\r\n");
    machine.begin(&envelope("a@client.example").with_requiretls(), &[b"x\r\n"]);
    assert!(outcomes(&machine.report()).iter().all(|outcome| outcome == "failed 5.7.30"));
}

#[test] // RFC 8689 §5: a notification is not lost for want of the keyword, and is never said without verified TLS.
fn r8689_under_the_null_reverse_path_verified_tls_is_enough() {
    let message = envelope("<>").with_requiretls();
    for below in [Below::Verified, Below::VerifiedByStartTls] {
        let mut machine = greeted(below, &[]);
        machine.begin(&message, &[b"x\r\n"]);
        assert_eq!(machine.take_sent(), b"MAIL FROM:<>\r\n", "{below:?}");
    }
    for below in [Below::Clear, Below::Anybody] {
        let mut machine = greeted(below, &["REQUIRETLS"]);
        machine.begin(&message, &[b"x\r\n"]);
        assert_eq!(machine.take_sent(), b"", "{below:?}");
        assert!(outcomes(&machine.report()).iter().all(|outcome| outcome == "failed 5.7.10"), "{below:?}");
    }
}
