//! RFC 2852 §4.1.4: where a client takes a message that has a time limit, and what it says of it.

use smtp_core::{ByMode, ClientLimits, DeliverBy, Envelope, SendCause, SendStage};

use crate::scripted::{Machine, outcomes};

/// A client of a server that offers that, and what it says of such a message.
fn said(offer: &str, by: DeliverBy) -> (Machine, String) {
    let mut machine = Machine::new(ClientLimits::default());
    machine.receive("220 mx.example.org ESMTP\r\n");
    machine.receive(format!("250-mx.example.org\r\n250 {offer}\r\n"));
    machine.take_sent();
    let envelope = Envelope::parse("a@client.example", ["b@example.org"]).expect("mailboxes").with_deliver_by(by);
    machine.begin(&envelope, &[b"x\r\n"]);
    let sent = String::from_utf8(machine.take_sent()).expect("ASCII");
    (machine, sent)
}

#[test] // RFC 2852 §4.1.4
fn r2852_the_time_that_is_left_is_said_where_it_is_offered() {
    let (notify, back) =
        (|seconds| DeliverBy::new(seconds, ByMode::Notify), |seconds| DeliverBy::new(seconds, ByMode::Return));
    for (offer, by, expected) in [
        ("DELIVERBY", back(120), " BY=120;R"),
        ("deliverby 100", back(100).with_trace(), " BY=100;RT"),
        ("DELIVERBY 100,x", notify(5), " BY=5;N"),
        ("DELIVERBY", notify(-5), " BY=-5;N"),
        ("8BITMIME", notify(5), ""),
    ] {
        let (_, sent) = said(offer, by);
        assert_eq!(sent, format!("MAIL FROM:<a@client.example>{expected}\r\n"), "{offer}");
    }
}

#[test] // RFC 2852 §4.1.4.1: what is to be returned goes only where that is kept to, and where there is time enough.
fn r2852_what_is_to_be_returned_goes_nowhere_else() {
    for (offer, seconds, cause, outcome) in [
        ("8BITMIME", 120, SendCause::DeliverByNotOffered, "failed 5.3.3"),
        ("DELIVERBYX", 120, SendCause::DeliverByNotOffered, "failed 5.3.3"),
        ("DELIVERBY 121", 120, SendCause::TooLate, "failed 5.4.7"),
        ("DELIVERBY", 0, SendCause::TooLate, "failed 5.4.7"),
        ("DELIVERBY x", -1, SendCause::TooLate, "failed 5.4.7"),
    ] {
        let (mut machine, sent) = said(offer, DeliverBy::new(seconds, ByMode::Return));
        assert_eq!(sent, "", "{offer}");
        let report = machine.report();
        assert_eq!(outcomes(&report), [outcome], "{offer}");
        let error = report.recipients()[0].as_ref().expect_err("it fails");
        assert_eq!((error.stage(), error.cause()), (SendStage::Local, &cause));
        assert!(machine.session.is_reusable());
    }
}
