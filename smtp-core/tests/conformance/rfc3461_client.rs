//! RFC 3461: what a sender asks of notifications, passed on to those who offer `DSN`, and to nobody else.

use smtp_core::{Envelope, EnvelopeId, MessageDsn, Notify, OriginalRecipient, RecipientDsn, Ret};

use crate::scripted::{Machine, envelope, outcomes};

fn asking() -> Envelope {
    let original_recipient = Some(OriginalRecipient::new("rfc822", "Big+Jones@client.example").expect("valid"));
    let message =
        MessageDsn { ret: Some(Ret::Headers), envelope_id: Some(EnvelopeId::new("QQ 1=1").expect("in the grammar")) };
    let recipients = [
        RecipientDsn { notify: Some(Notify::SUCCESS | Notify::DELAY), original_recipient },
        RecipientDsn { notify: Some(Notify::NEVER), original_recipient: None },
    ];
    envelope(&["jones", "brown", "green"]).with_dsn(message, recipients)
}

#[test] // RFC 3461 §5.2.1 and §5.2.2: all of it, or nothing.
fn r3461a_what_is_asked_goes_only_where_it_is_offered() {
    for (extensions, passed_on, expected) in [
        (
            &["PIPELINING", "DSN"][..],
            true,
            "MAIL FROM:<a@client.example> RET=HDRS ENVID=QQ+201+3D1\r\n\
             RCPT TO:<jones@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Big+2BJones@client.example\r\n\
             RCPT TO:<brown@example.org> NOTIFY=NEVER\r\n\
             RCPT TO:<green@example.org>\r\nDATA\r\n",
        ),
        (
            &["PIPELINING", "DSNX"],
            false,
            "MAIL FROM:<a@client.example>\r\nRCPT TO:<jones@example.org>\r\nRCPT TO:<brown@example.org>\r\n\
             RCPT TO:<green@example.org>\r\nDATA\r\n",
        ),
    ] {
        let mut machine = Machine::greeted(extensions);
        machine.begin(&asking(), &[b"x\r\n"]);
        assert_eq!(String::from_utf8_lossy(&machine.take_sent()), expected);
        machine.receive("250 Ok\r\n250 Ok\r\n550 No\r\n250 Ok\r\n354 Go\r\n");
        machine.receive("250 Taken\r\n");
        let report = machine.report();
        assert_eq!(outcomes(&report), ["delivered 250", "failed 5.0.0", "delivered 250"]);
        assert_eq!(report.dsn_passed_on(), passed_on);
    }
}

#[test] // Where nothing was sent nothing was passed on.
fn r3461b_a_message_that_was_not_tried_passes_nothing_on() {
    let mut machine = Machine::greeted(&["DSN", "SIZE 1"]);
    machine.begin(&asking(), &[b"xxxx\r\n"]);
    let report = machine.report();
    assert!(report.recipients().iter().all(Result::is_err) && !report.dsn_passed_on());
}
