//! What is stored is read back, by later versions and by earlier ones, and no damage makes a reader panic.

use super::*;

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("valid")
}

fn envelope() -> Envelope {
    let id = QueueId::from_u128(77);
    let arrival = from_micros(1_700_000_000_123_456);
    let mut envelope = Envelope::new(id, arrival, ReversePath::parse("<\"a b\"@client.example>").expect("valid"))
        .with_recipient(mailbox("bob@example.org"))
        .with_recipient(mailbox("\"odd\\\"one\"@[192.0.2.1]"))
        .with_recipient(mailbox("J\u{f6}rg@b\u{fc}cher.example"));
    envelope.outgoing.push(ReversePath::Null);
    envelope.recipients[1].outgoing = 1;
    envelope.recipients[1].disposition = Disposition::Quarantine("looks odd".into());
    envelope.recipients[2].path = ForwardPath::Postmaster;
    envelope.recipients[2].is_role = true;
    envelope.recipients[2].disposition = Disposition::Junk;
    envelope.origin = Origin {
        transaction: "0123-1".into(),
        client: Some("2001:db8::1".parse().expect("valid")),
        identity: Some(Identity::new("alice")),
        treatment: Treatment::RelayClient,
        notification_of: Some(QueueId::from_u128(u128::MAX)),
    };
    envelope.body = Some(Body::EightBitMime);
    envelope.smtputf8 = true;
    envelope.requires_tls = true;
    envelope.tls_is_optional = true;
    envelope.priority = Priority::LOWEST;
    envelope.deliver_by = Some(DeliverByTime { time: from_micros(7), mode: ByMode::Return, trace: true });
    envelope.solicit = SolicitationClasses::parse("org.example:ADV,b").ok();
    envelope.release = Some(from_micros(1_700_000_100_000_000));
    envelope.sender_confirmed = true;
    envelope.deadline = Some(from_micros(u64::MAX));
    envelope.dsn = MessageDsn { ret: Some(Ret::Headers), envelope_id: Some(EnvelopeId::new("QQ 1=1").expect("valid")) };
    let original_recipient = Some(OriginalRecipient::new("rfc822", "a+b=c d@e").expect("valid"));
    envelope.recipients[0].dsn = RecipientDsn { notify: Some(Notify::NEVER), original_recipient };
    envelope.recipients[0].valid_since = ValidSince::parse("2014-04-03T23:01:00Z").ok();
    envelope.recipients[2].valid_since = ValidSince::parse("2014-04-03T23:01:00Z;C").ok();
    envelope.recipients[1].dsn.notify = Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY);
    envelope
}

fn progress() -> Progress {
    let mut progress = Progress::new("smtp:[192.0.2.1]:25".into(), [0, 2], from_micros(5));
    let status = EnhancedStatusCode::new(4, 7, 1).expect("valid");
    let reply = Reply::new(ReplyCode::new(451).expect("valid"), status, "later");
    progress.waiting[1].last = Some(Diagnosis { reply, remote: Some(SafeText::new("mx.example [192.0.2.1]")) });
    progress.attempts = 3;
    progress.last_attempt = Some(from_micros(4));
    progress.delay_notified = true;
    progress.late_notified = true;
    progress
}

#[test]
fn what_is_stored_is_read_back() {
    let small = Envelope::new(QueueId::from_u128(1), from_micros(0), ReversePath::Null)
        .with_recipient(mailbox("bob@example.org"));
    let binary = Envelope { body: Some(Body::BinaryMime), ..envelope() };
    for envelope in [small, envelope(), binary] {
        let mut octets = Vec::new();
        encode_envelope(&envelope, &mut octets);
        assert_eq!(decode_envelope(envelope.id, &octets), Ok(envelope));
    }
    for progress in [Progress::new("local".into(), [], from_micros(1)), progress()] {
        let mut octets = Vec::new();
        encode_progress(&progress, &mut octets);
        assert_eq!(decode_progress(&octets), Ok(progress));
    }
}

#[test] // RFC 6710 §5.1: by this alone a spool that was restarted knows who goes first.
fn r6710_the_priority_is_found_without_the_rest() {
    for priority in [Priority::LOWEST, Priority::NORMAL, Priority::HIGHEST] {
        let mut octets = Vec::new();
        encode_envelope(&Envelope { priority, ..envelope() }, &mut octets);
        assert_eq!(priority_of(&octets), priority);
    }
}

#[test] // A reply of the third class to a command that wants none is a diagnosis as well.
fn a_status_code_in_the_class_of_any_reply_is_read_back() {
    for code in [250, 354, 451, 550] {
        let mut progress = progress();
        let status = EnhancedStatusCode::new(5, 7, 1).expect("valid");
        let reply = Reply::new(ReplyCode::new(code).expect("valid"), status, "words");
        progress.waiting[0].last = Some(Diagnosis { reply, remote: None });
        let mut octets = Vec::new();
        encode_progress(&progress, &mut octets);
        assert_eq!(decode_progress(&octets), Ok(progress), "{code}");
    }
}

#[test]
fn fields_of_a_later_version_are_left_out() {
    let mut octets = Vec::new();
    put(&mut octets, 999, b"from the future");
    encode_envelope(&envelope(), &mut octets);
    put(&mut octets, 998, &[]);
    assert_eq!(decode_envelope(QueueId::from_u128(77), &octets), Ok(envelope()));
}

#[test] // RFC 3461 §4.1: nothing was said, so the default holds.
fn a_record_from_before_dsn_is_read_as_one_without_wishes() {
    let hex = "0100080000000000000000000000020002000000\
               3c3e04001500000001000f000000626f62406578616d706c652e6f7267050000000000";
    let octets: Vec<_> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits")).collect();
    let expected = Envelope::new(QueueId::from_u128(1), from_micros(0), ReversePath::Null)
        .with_recipient(mailbox("bob@example.org"));
    assert_eq!(decode_envelope(expected.id, &octets), Ok(expected.clone()));
    assert!(expected.dsn.is_empty() && expected.recipients[0].dsn.is_empty());
    // Without wishes, what is written is what was written before.
    let mut written = Vec::new();
    encode_envelope(&expected, &mut written);
    assert_eq!(written, octets);
}

#[test] // R3461b: NEVER that cannot be read is not the default.
fn a_wish_that_cannot_be_read_is_an_error() {
    let recipient = |tag, value: &[u8]| {
        let mut octets = Vec::new();
        put(&mut octets, recipient_tag::MAILBOX, b"bob@example.org");
        put(&mut octets, tag, value);
        decode_recipient(&octets).map(|recipient| recipient.dsn)
    };
    assert!(recipient(recipient_tag::NOTIFY, b"NEVER").is_ok_and(|dsn| dsn.notify == Some(Notify::NEVER)));
    for value in [&b""[..], b"NEVEr,", b"NEVER\r\n", b"\xff"] {
        assert!(recipient(recipient_tag::NOTIFY, value).is_err(), "{value:?}");
        assert!(recipient(recipient_tag::ORIGINAL_RECIPIENT, value).is_err(), "{value:?}");
    }
}

#[test]
fn no_damage_makes_a_reader_panic() {
    let mut octets = Vec::new();
    encode_envelope(&envelope(), &mut octets);
    let mut states = Vec::new();
    encode_progress(&progress(), &mut states);
    for octets in [octets, states] {
        for place in 0..octets.len() {
            let _ = (decode_envelope(QueueId::from_u128(1), &octets[..place]), decode_progress(&octets[..place]));
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = octets.clone();
                damaged[place] = value;
                let _ = (decode_envelope(QueueId::from_u128(1), &damaged), decode_progress(&damaged));
            }
        }
    }
}
