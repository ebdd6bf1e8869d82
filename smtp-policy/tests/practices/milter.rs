//! Filters that speak the milter protocol: each answer at each stage, each change, and all that goes wrong (SECURITY D-49, D-50;
//! PRACTICES P4).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_core::Domain;
use smtp_policy::{
    Chain, DecisionTrace, ForRoleMailboxes, Milter, MilterFallback, Preset, Replay, SessionTrace, TraceEntry,
    TraceSummary,
};

use crate::milter_script::{Act, EVERYTHING, Running, Script, packet};
use crate::support::{Delivered, Judged, Transcript, converse, converse_observed, message, table};

const USER: &str = "RCPT TO:<user@example.org>";
const OTHER: &str = "RCPT TO:<other@example.org>";
const POSTMASTER: &str = "RCPT TO:<postmaster@example.org>";
const CONTENT: &str = "A: 1\r\nSubject: s\r\n t\r\nA:2\r\n\r\nbody\r\nmore";

fn milter(filter: &Running) -> Milter {
    Milter::new(filter.address.clone(), &Domain::parse("mx.example.org").expect("a domain"))
}

async fn send(milter: Milter, recipients: &[&str]) -> Transcript {
    converse(vec![Arc::new(milter)], "192.0.2.1", &message(recipients, CONTENT)).await
}

/// The last reply, which answers the content or the first thing that was refused; and what was delivered.
async fn outcome(milter: Milter, recipients: &[&str]) -> (String, Vec<Delivered>) {
    let seen = send(milter, recipients).await;
    let refused = seen.replies.iter().find(|reply| reply.starts_with(['4', '5']));
    (refused.or(seen.replies.last()).cloned().unwrap_or_default(), seen.delivered)
}

fn go_on() -> Vec<u8> {
    packet(b'c', b"")
}

/// Changes, and then the word that it is accepted.
fn changing(changes: &[(u8, &[u8])]) -> Script {
    let said: Vec<u8> = changes.iter().flat_map(|(kind, data)| packet(*kind, data)).collect();
    Script::new().says(b'E', [said, packet(b'a', b"")].concat())
}

#[tokio::test]
async fn a_filter_is_told_everything_in_its_order_with_macros() {
    let filter = Script::agreeing(EVERYTHING, 0x10_0000).start().await;
    let (said, delivered) = outcome(milter(&filter), &[USER, OTHER]).await;
    assert!(said.starts_with("250 "), "{said}");
    assert_eq!(delivered.len(), 1);
    let told = filter.all();
    let commands = filter.commands();
    assert_eq!(
        commands[..commands.len().min(13)],
        [
            "O",
            "C[192.0.2.1]|4\0\u{1}192.0.2.1|".replace("4\0\u{1}", "4|\u{1}").as_str(),
            "Hclient.example|",
            "M<sender@client.example>|",
            "R<user@example.org>|",
            "R<other@example.org>|",
            "T",
            "LA| 1|",
            "LSubject| s\n t|",
            "LA|2|",
            "N",
            "Bbody\r\nmore\r\n",
            "E",
        ]
    );
    for (before, macros) in [
        ("C", "j|mx.example.org|"),
        ("C", "{client_addr}|192.0.2.1|"),
        ("C", "{daemon_name}|MTA|"),
        ("M", "{mail_addr}|sender@client.example|"),
        ("M", "i|"),
        ("R", "{rcpt_addr}|user@example.org|"),
        ("E", "i|"),
    ] {
        let is_there = |words: &String| words.starts_with(&format!("D{before}")) && words.contains(macros);
        assert!(told.iter().any(is_there), "{before} {macros}: {told:?}");
    }
}

#[tokio::test]
async fn a_filter_is_not_asked_what_it_does_without_and_not_waited_for_where_it_is_silent() {
    for (protocol, letters) in [
        (0, "OCHMRTLLLNBE"),
        (0x1, "OHMRTLLLNBE"),
        (0x2, "OCMRTLLLNBE"),
        (0x4, "OCHRTLLLNBE"),
        (0x8, "OCHMTLLLNBE"),
        (0x10, "OCHMRTLLLNE"),
        (0x20, "OCHMRTNBE"),
        (0x40, "OCHMRTLLLBE"),
        (0x200, "OCHMRLLLNBE"),
        (0x27f, "OE"),
        // It answers nothing but the end of the message.
        (0xf_f080, "OCHMRTLLLNBE"),
    ] {
        let filter = Script::agreeing(EVERYTHING, protocol).start().await;
        let (said, _) = outcome(milter(&filter), &[USER]).await;
        assert!(said.starts_with("250 "), "{protocol:x}: {said}");
        assert_eq!(filter.letters().trim_end_matches(['A', 'Q']), letters, "{protocol:x}");
    }
    // One of version 2 knows nothing of `DATA`.
    let mut script = Script::new();
    script.agrees[8] = 2;
    let filter = script.start().await;
    assert!(outcome(milter(&filter), &[USER]).await.0.starts_with("250 "));
    assert_eq!(filter.letters().trim_end_matches(['A', 'Q']), "OCHMRLLLNBE");
}

/// An answer, what the client reads, whether it can come behind `RCPT`, and what the copy becomes.
type Row = (Vec<u8>, &'static str, Option<&'static str>);

#[tokio::test] // SECURITY D-10, D-50
async fn d50_each_answer_at_each_stage() {
    let rows: Vec<Row> = vec![
        (packet(b'c', b""), "250 ", Some("Deliver")),
        (packet(b'a', b""), "250 ", Some("Deliver")),
        (packet(b'd', b""), "250 ", Some("Discard")),
        (packet(b'r', b""), "550 5.7.1 Refused by a filter", None),
        (packet(b't', b""), "451 4.7.1 ", None),
        (packet(b'y', b"554 5.7.9 No\r\n250 yes\0"), "451 4.7.1 ", None),
        (packet(b'y', b"554 5.7.9 No\x1b[1m\0"), "554 5.7.9 No?[1m", None),
        (packet(b'y', b"450 4.2.2 Later\0"), "450 4.2.2 Later", None),
        (packet(b'4', b""), "421 4.7.1 ", None),
        // What is no answer is a filter that is lost.
        (packet(b'f', b""), "451 4.7.1 ", None),
        (packet(b'O', &[0; 12]), "451 4.7.1 ", None),
        (packet(b'h', b"X\0y\0"), "451 4.7.1 ", None),
        (packet(b'?', b""), "451 4.7.1 ", None),
        (packet(b'y', b"550 no end"), "451 4.7.1 ", None),
        (b"\0\0\0\0".to_vec(), "451 4.7.1 ", None),
        (b"\xff\xff\xff\xffc".to_vec(), "451 4.7.1 ", None),
        (b"\0\x10\0\x01c".to_vec(), "451 4.7.1 ", None),
        ([go_on(), packet(b'r', b"")].concat(), "451 4.7.1 ", None),
        ([packet(b'p', b""), packet(b'p', b""), go_on()].concat(), "250 ", Some("Deliver")),
    ];
    for stage in *b"CHMRTLNBE" {
        for (number, (answer, reply, becomes)) in rows.iter().enumerate() {
            // At the end changes are what a filter is asked for; and nothing is asked afterwards.
            if stage == b'E' && [11, 17].contains(&number) {
                continue;
            }
            // Before there is a message none can be discarded.
            let is_wrong = b"CH".contains(&stage) && *becomes == Some("Discard");
            let (reply, becomes) = if is_wrong { (&"451 4.7.1 ", &None) } else { (reply, becomes) };
            let filter = Script::new().says(stage, answer.clone()).start().await;
            let (said, delivered) = outcome(milter(&filter), &[USER]).await;
            let place = format!("{} {}", char::from(stage), answer.escape_ascii());
            assert!(said.starts_with(reply), "{place}: {said}");
            let seen = delivered.first().map(|copy| copy.recipients[0].1.as_str());
            assert_eq!(seen.map(|it| it.split('(').next().unwrap_or(it)), *becomes, "{place}");
        }
    }
}

#[tokio::test]
async fn no_more_of_the_body_is_said_where_that_is_agreed() {
    for (protocol, reply) in [(0x400, "250 "), (0, "451 4.7.1 ")] {
        let filter = Script::agreeing(EVERYTHING, protocol).says(b'B', packet(b's', b"")).start().await;
        let content = format!("Subject: s\r\n\r\n{}", "x".repeat(70_000));
        let seen = converse(vec![Arc::new(milter(&filter))], "192.0.2.1", &message(&[USER], &content)).await;
        assert!(seen.replies.last().is_some_and(|said| said.starts_with(reply)), "{:?}", seen.replies);
        assert_eq!(filter.letters().matches('B').count(), 1, "of two parts of the body");
    }
}

#[tokio::test]
async fn each_change_is_made() {
    let filter = changing(&[
        (b'h', b"X-Last\0l\n m\0"),
        (b'i', b"\0\0\0\0X-Top\0t\0"),
        // Behind the one at the top, `Received`, and the first that arrived.
        (b'i', b"\0\0\0\x03X-Second\0u\0"),
        (b'm', b"\0\0\0\x02a\0three\0"),
        (b'm', b"\0\0\0\x01subject\0\0"),
        (b'b', b"new\r\n"),
        (b'p', b""),
        (b'b', b".\r\nbody\r\n"),
        (b'+', b"<added@other.example>\0"),
        (b'2', b"<asked@other.example>\0NOTIFY=FAILURE\0"),
        (b'-', b"<other@example.org>\0"),
        (b'-', b"<nobody@example.org>\0"),
        (b'e', b"<bounces@example.org>\0"),
    ])
    .start()
    .await;
    let (said, delivered) = outcome(milter(&filter), &[USER, OTHER]).await;
    assert!(said.starts_with("250 "), "{said}");
    let copy = &delivered[0];
    let (top, rest) = copy.text.split_once("\r\n").expect("lines");
    assert_eq!(top, "X-Top: t");
    assert!(rest.starts_with("Received: "), "{rest}");
    let expected = "\r\nA: 1\r\nX-Second: u\r\na: three\r\nX-Last: l\r\n m\r\n\r\nnew\r\n.\r\nbody\r\n";
    assert!(rest.ends_with(expected), "{rest}");
    assert_eq!(copy.reverse_path, "<bounces@example.org>");
    let recipients: Vec<_> = copy.recipients.iter().map(|(path, becomes)| (path.as_str(), &becomes[..7])).collect();
    let [user, other] = [("<user@example.org>", "Deliver"), ("<other@example.org>", "Discard")];
    assert_eq!(recipients, [user, other, ("<added@other.example>", "Deliver"), ("<asked@other.example>", "Deliver")]);
}

#[tokio::test] // SECURITY D-50, D-52, G2
async fn d50_an_impossible_change_defers_the_message_also_where_filters_fail_open() {
    for (actions, kind, data) in [
        (EVERYTHING, b'b', &b"bare\nLF\r\n"[..]),
        (EVERYTHING, b'b', b"bare\rCR\r\n"),
        (EVERYTHING, b'b', b"\0"),
        (EVERYTHING, b'h', b"X\0a\nBcc: b\0"),
        (EVERYTHING, b'h', b"X Y\0a\0"),
        (EVERYTHING, b'm', b"\0\0\0\x01A\0a\n\nbody\0"),
        (EVERYTHING, b'+', b"<no address>\0"),
        (EVERYTHING, b'+', b"<\xc3\xbc@other.example>\0"),
        (EVERYTHING, b'e', b"<a@b.example>\0SIZE=1\0"),
        // What it did not say it would do.
        (0xfd, b'b', b"body\r\n"),
        (0xee, b'h', b"X\0a\0"),
        (0x7b, b'+', b"<a@other.example>\0"),
        (0xf7, b'-', b"<user@example.org>\0"),
        (0xbf, b'e', b"<>\0"),
        (0xdf, b'q', b"reason\0"),
    ] {
        let said = [packet(kind, data), packet(b'a', b"")].concat();
        let filter = Script::agreeing(actions, 0).says(b'E', said).start().await;
        let (said, delivered) = outcome(milter(&filter).with_fallback(MilterFallback::Accept), &[USER]).await;
        let shown = data.escape_ascii();
        assert!(
            said.starts_with("451 4.7.1 ") && delivered.is_empty(),
            "{actions:x} {} {shown}: {said}",
            char::from(kind)
        );
    }
}

#[tokio::test] // SECURITY D-49
async fn d49_a_filter_that_dies_in_the_middle_changes_nothing() {
    let changes =
        [packet(b'h', b"X-Changed\0y\0"), packet(b'b', b"new body\r\n"), packet(b'+', b"<a@other.example>\0")];
    let said = [changes.concat(), packet(b'a', b"")].concat();
    for octets in 0..said.len() {
        for fallback in MilterFallback::ALL {
            let script = Script::new().on(b'E', Act::SaysAndLeaves(said[..octets].to_vec()));
            let filter = script.start().await;
            let (reply, delivered) = outcome(milter(&filter).with_fallback(fallback), &[USER]).await;
            let passes = fallback == MilterFallback::Accept && octets == 0;
            assert!(reply.starts_with(if passes { "250 " } else { "451 4.7.1 " }), "{octets} {fallback:?}: {reply}");
            assert_eq!(delivered.len(), usize::from(passes), "{octets} {fallback:?}");
            if let Some(copy) = delivered.first() {
                assert!(
                    copy.text.ends_with(&format!("\r\n{CONTENT}\r\n")) && copy.recipients.len() == 1,
                    "{}",
                    copy.text
                );
            }
        }
    }
}

#[tokio::test] // PRACTICES P9
async fn p9_which_filter_refused_whom_and_what_it_was_not_shown_is_told_in_the_trace() {
    for (stage, answer, expected) in [
        (b'C', packet(b'y', b"550 5.7.1 not you\0"), "`milter`: refused: 550 5.7.1 not you"),
        (b'M', packet(b't', b""), "`milter`: asked to come again: 451 4.7.1 "),
        (b'R', packet(b'r', b""), "`milter` on <user@example.org>: refused: 550 5.7.1 "),
        (b'E', packet(b'r', b""), "`milter`: refused: 550 5.7.1 "),
        (b'E', packet(b'd', b""), "`milter`: dropped"),
    ] {
        let filter = Script::new().says(stage, answer).start().await;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = lines.clone();
        let trace =
            Arc::new(DecisionTrace::new(move |line: &str| taken.lock().expect("no panic").push(line.to_owned())));
        let policy = milter(&filter).observed_by(trace.clone());
        converse_observed(trace, table(), vec![Arc::new(policy)], "192.0.2.1", &message(&[USER], CONTENT)).await;
        let lines = lines.lock().expect("no panic").clone();
        let entries: Vec<_> = lines.iter().filter_map(|line| TraceEntry::from_line(line).ok()).collect();
        let session = entries.iter().find_map(TraceEntry::session).expect("a session").to_owned();
        let page = SessionTrace::find(&session, || entries.iter().cloned()).expect("it is there").to_string();
        let place = format!("{}: it ", filter.address);
        assert!(page.contains(expected) && page.contains(&place), "{expected}: {page}");
        // No rules came to that, so no others would come to something else.
        let strict = Chain::new("other", Preset::BcpStrict);
        let mut replay = Replay::new(strict.rules());
        let mut summary = TraceSummary::new();
        for entry in &entries {
            assert!(replay.judge(entry).is_none());
            summary.add(entry);
        }
        assert_eq!(replay.judged(), 0);
        let is_counted = summary.to_string().contains(": milter\n");
        assert_eq!(is_counted, !expected.ends_with("dropped"), "{summary}");
    }
    let filter = Script::new().start().await;
    let judged = Judged::default();
    let policy = milter(&filter).with_octets(8).observed_by(judged.clone());
    let (said, _) = outcome(policy, &[USER]).await;
    let events = judged.events();
    let evidence = events.first().map(|event| event.findings[0].evidence.to_string()).unwrap_or_default();
    assert!(said.starts_with("250 ") && events.len() == 1, "{said} {events:?}");
    assert!(evidence.contains("octets, and it is shown 8 at most"), "{evidence}");
}

#[tokio::test] // The choice of the operator where a filter is away.
async fn a_filter_that_dies_hangs_or_is_away_has_mail_pass_or_come_again() {
    for stage in *b"OCHMRTLNBE" {
        for (act, time) in [(Act::SaysAndLeaves(Vec::new()), 60_000), (Act::Hangs, 200)] {
            for (fallback, expected) in [(MilterFallback::Accept, "250 "), (MilterFallback::TempFail, "451 4.7.1 ")] {
                let mut script = Script::new().on(stage, act.clone());
                if stage == b'O' {
                    // No agreement, in one way or another.
                    script.agrees = if time == 200 { packet(b'O', &[0xff; 12]) } else { packet(b'O', b"short") };
                }
                let filter = script.start().await;
                let judged = Judged::default();
                let milter = milter(&filter).with_fallback(fallback).with_time(Duration::from_millis(time));
                let (said, delivered) = outcome(milter.observed_by(judged.clone()), &[USER]).await;
                let place = format!("{} {act:?} {fallback:?}", char::from(stage));
                assert!(said.starts_with(expected), "{place}: {said}");
                assert_eq!(delivered.len(), usize::from(fallback == MilterFallback::Accept), "{place}");
                let events = judged.events();
                let told = events.iter().filter(|event| event.action.as_str() == fallback.as_str()).count();
                assert!(told == events.len() && (1..=3).contains(&told), "{place}: {events:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_filter_that_says_that_it_works_has_more_time() {
    for (times, expected) in [(6, "250 "), (0, "451 4.7.1 ")] {
        let act = if times == 0 { Act::Hangs } else { Act::Works(400, times, go_on()) };
        let filter = Script::new().on(b'E', act).start().await;
        // Less than the filter takes in all, and more than between two of its words, on a busy machine too.
        let (said, _) = outcome(milter(&filter).with_time(Duration::from_secs(2)), &[USER]).await;
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test]
async fn one_connection_lasts_for_a_session_and_each_message_starts_anew() {
    let filter = Script::new().start().await;
    let first = message(&[USER], "Subject: 1\r\n\r\nx");
    let begun = ["MAIL FROM:<b@client.example>", OTHER, "RSET"];
    let last = message(&[USER], "Subject: 2\r\n\r\ny");
    let lines: Vec<&str> = first.iter().chain(&begun).chain(&last[1..]).copied().collect();
    let seen = converse(vec![Arc::new(milter(&filter))], "192.0.2.1", &lines).await;
    assert_eq!(seen.delivered.len(), 2, "{:?}", seen.replies);
    let letters = filter.letters();
    assert!(letters.starts_with("OCHMRTLNBEAMRAMRTLNBE"), "{letters}");
    assert_eq!(letters.matches('O').count(), 1);
}

#[tokio::test]
async fn a_filter_that_died_is_found_again_with_the_next_message() {
    let filter = Script::new().on(b'A', Act::SaysAndLeaves(Vec::new())).start().await;
    let first = message(&[USER], "Subject: 1\r\n\r\nx");
    let lines: Vec<&str> = first.iter().chain(&first[1..]).copied().collect();
    let seen = converse(vec![Arc::new(milter(&filter))], "192.0.2.1", &lines).await;
    assert_eq!(seen.delivered.len(), 2, "{:?}", seen.replies);
    let letters = filter.letters().replace('Q', "");
    assert_eq!(letters.matches('O').count(), 2, "{letters}");
    assert!(letters.starts_with("OCHMRTLNBEA") && letters.contains("OCHMRTLNBE"), "{letters}");
}

#[tokio::test] // PRACTICES P4
async fn p4_role_mailboxes_are_named_to_filters_and_get_marked_mail_but_no_malware() {
    let refuses = || packet(b'y', b"550 5.7.1 Not wanted\0");
    for (stage, answer, meaning, reply, becomes) in [
        (b'R', refuses(), ForRoleMailboxes::Tagged, "250 ", Some("Deliver")),
        (b'R', refuses(), ForRoleMailboxes::Kept, "550 5.7.1 Not wanted", None),
        (b'C', refuses(), ForRoleMailboxes::Tagged, "250 ", Some("Junk")),
        (b'M', refuses(), ForRoleMailboxes::Tagged, "250 ", Some("Junk")),
        (b'E', refuses(), ForRoleMailboxes::Tagged, "250 ", Some("Junk")),
        (b'E', refuses(), ForRoleMailboxes::Kept, "550 5.7.1 Not wanted", None),
        (b'E', packet(b't', b""), ForRoleMailboxes::Tagged, "451 4.7.1 ", None),
        (b'E', packet(b'd', b""), ForRoleMailboxes::Tagged, "250 ", Some("Junk")),
        (b'E', packet(b'd', b""), ForRoleMailboxes::Kept, "250 ", Some("Discard")),
        (b'E', [packet(b'q', b"odd\0"), packet(b'a', b"")].concat(), ForRoleMailboxes::Tagged, "250 ", Some("Junk")),
        (
            b'E',
            [packet(b'q', b"odd\0"), packet(b'a', b"")].concat(),
            ForRoleMailboxes::Kept,
            "250 ",
            Some("Quarantine"),
        ),
    ] {
        let filter = Script::new().says(stage, answer.clone()).start().await;
        let (said, delivered) = outcome(milter(&filter).for_role_mailboxes(meaning), &[POSTMASTER]).await;
        let place = format!("{} {} {meaning:?}", char::from(stage), answer.escape_ascii());
        assert!(said.starts_with(reply), "{place}: {said}");
        let seen = delivered.first().map(|copy| copy.recipients[0].1.split('(').next().unwrap_or_default());
        assert_eq!(seen, becomes, "{place}");
        if let Some(copy) = delivered.first() {
            let marks = copy.fields("X-Spam-Flag");
            assert_eq!(marks.len(), usize::from(becomes == Some("Junk")), "{place}: {marks:?}");
        }
        if stage == b'E' {
            assert!(filter.commands().contains(&"R<postmaster@example.org>|".to_owned()), "{place}");
        }
    }
    // Of several recipients each gets what is right for it.
    let filter = Script::new().says(b'E', refuses()).start().await;
    let (said, delivered) = outcome(milter(&filter), &[USER, POSTMASTER]).await;
    assert!(said.starts_with("250 "), "{said}");
    let copies: Vec<_> = delivered[0].recipients.iter().map(|(_, becomes)| becomes.as_str()).collect();
    assert_eq!(copies, ["Junk", "Junk"], "plain SMTP has one answer (PRACTICES S33)");
}

#[tokio::test]
async fn each_filter_sees_the_message_as_those_before_it_changed_it() {
    let first = changing(&[(b'm', b"\0\0\0\x01Subject\0new\0"), (b'h', b"X-First\0f\0"), (b'b', b"new body\r\n")])
        .start()
        .await;
    let second = changing(&[(b'm', b"\0\0\0\x01X-First\0g\0"), (b'q', b"odd\0")]).start().await;
    let (said, delivered) = outcome(milter(&first).and(milter(&second)), &[USER]).await;
    assert!(said.starts_with("250 "), "{said}");
    let commands = second.commands();
    for told in ["LSubject|new|", "LX-First|f|", "Bnew body\r\n"] {
        assert!(commands.contains(&told.to_owned()), "{told}: {commands:?}");
    }
    assert!(
        delivered[0].text.ends_with("\r\nA: 1\r\nSubject: new\r\nA:2\r\nX-First: g\r\n\r\nnew body\r\n"),
        "{}",
        delivered[0].text
    );
    assert_eq!(delivered[0].recipients[0].1, "Quarantine(\"odd\")");
    // What the first did does not hold where the second is lost.
    let first = changing(&[(b'b', b"new body\r\n")]).start().await;
    let second = Script::new().on(b'E', Act::SaysAndLeaves(Vec::new())).start().await;
    let (said, delivered) = outcome(milter(&first).and(milter(&second)), &[USER]).await;
    assert!(said.starts_with("451 4.7.1 ") && delivered.is_empty(), "{said}");
}

#[tokio::test]
async fn large_content_is_not_shown_and_more_than_that_is_not_taken() {
    let filter = Script::new().says(b'B', packet(b'r', b"")).start().await;
    let (said, _) = outcome(milter(&filter).with_octets(10), &[USER]).await;
    assert!(said.starts_with("250 "), "{said}");
    assert_eq!(filter.letters().trim_end_matches(['A', 'Q']), "OCHMR");
    let parts: Vec<u8> = (0..20).flat_map(|_| packet(b'b', &vec![b'x'; 60_000])).collect();
    for (octets, reply) in [(100_u64, "451 4.7.1 "), (1 << 20, "250 ")] {
        let filter = Script::new().says(b'E', [parts.clone(), packet(b'a', b"")].concat()).start().await;
        let (said, _) = outcome(milter(&filter).with_octets(octets), &[USER]).await;
        assert!(said.starts_with(reply), "{octets}: {said}");
    }
}

#[tokio::test] // It may be there to sign it.
async fn filters_are_told_who_has_authenticated() {
    let filter = Script::new().start().await;
    let mut lines = message(&["RCPT TO:<x@other.example>"], CONTENT);
    lines.insert(1, "AUTH PLAIN AGFsaWNlAHNlY3JldA==");
    let seen = converse(vec![Arc::new(milter(&filter))], "192.0.2.1", &lines).await;
    assert_eq!(seen.delivered.len(), 1, "{:?}", seen.replies);
    let all = filter.all();
    let is_there = |told: &String| told.starts_with("DM") && told.contains("{auth_type}|PLAIN|{auth_authen}|alice|");
    assert!(all.iter().any(is_there), "{all:?}");
    assert!(!all.iter().any(|told| told.contains("secret")));
}
