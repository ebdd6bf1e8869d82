//! SECURITY.md D-44 and D-45: whatever ends a transaction, the next command meets an empty envelope.

use std::time::Duration;

use smtp_core::{
    Accepted, Policy, PolicyContext, Recipient, Refusal, ReversePath, SessionConfig, Stage, Stages, Verdict,
    async_trait,
};

use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

const MAIL: &str = "MAIL FROM:<a@client.example>\r\n";
const RCPT: &str = "RCPT TO:<alice@example.org>\r\n";
const CONTENT: &str = "Subject: x\r\n\r\nx\r\n.\r\n";

fn refusals() -> [(&'static str, Refusal); 3] {
    [
        ("transient", Refusal::transient(7, 1, "Later")),
        ("permanent", Refusal::permanent(7, 1, "Never")),
        ("immediate", Refusal::permanent(7, 1, "Never").immediately()),
    ]
}

/// The envelope is empty, and a new transaction works and holds nothing of the old one.
fn assert_empty_envelope(machine: &mut Machine, after: &str) {
    assert!(!machine.is_closed(), "{after}: the session goes on");
    assert!(machine.session.transaction().is_none(), "{after}");
    for command in [RCPT, "DATA\r\n", "RCPT TO:<postmaster>\r\n"] {
        assert_eq!(machine.replies(command), ["503 5.5.1"], "{after}: {command}");
    }
    machine.verdicts.clear();
    machine.delivery = Ok(Accepted::all());
    machine.has_room = true;
    machine.stores_octets = usize::MAX;
    let before = machine.delivered.len();
    assert_eq!(machine.replies("MAIL FROM:<b@client.example>\r\nDATA\r\n"), ["250 2.1.0", "554 5.5.1"], "{after}");
    assert_eq!(machine.replies("RCPT TO:<bob@example.org>\r\nDATA\r\n"), ["250 2.1.5", "354"], "{after}");
    assert_eq!(machine.replies("fresh\r\n.\r\n"), ["250 2.0.0"], "{after}");
    let delivered = &machine.delivered[before..];
    assert_eq!(delivered.len(), 1, "{after}");
    assert_eq!(delivered[0].reverse_path, "<b@client.example>", "{after}");
    assert_eq!(delivered[0].recipients, ["<bob@example.org>"], "{after}");
    assert_eq!(delivered[0].content, b"fresh\r\n", "{after}");
}

#[test] // A transaction that MAIL does not begin leaves nothing.
fn d44_a_refused_mail_leaves_an_empty_envelope() {
    let mut machine = Machine::greeted(config()).refusing(Stage::Mail, Refusal::permanent(7, 1, "No").immediately());
    assert_eq!(machine.replies(MAIL), ["550 5.7.1"]);
    assert_empty_envelope(&mut machine, "MAIL refused at once");
    for line in ["MAIL FROM:<a@b.example> SIZE=99999999999\r\n", "MAIL FROM:<a@b.example> X=1\r\n", "MAIL FROM:<a\r\n"]
    {
        let mut machine = Machine::greeted(config());
        assert!(machine.replies(line)[0].starts_with('5'), "{line}");
        assert_empty_envelope(&mut machine, line);
    }
}

#[test] // A held refusal ends with its transaction.
fn d44_a_held_refusal_of_mail_is_gone_with_its_transaction() {
    for (kind, refusal) in refusals().into_iter().take(2) {
        let expected = format!("{} {}", refusal.reply().code(), refusal.reply().status().expect("it has one"));
        let mut machine = Machine::greeted(config()).refusing(Stage::Mail, refusal);
        assert_eq!(machine.replies([MAIL, RCPT, "DATA\r\n"].concat()), ["250 2.1.0", &expected, "554 5.5.1"], "{kind}");
        assert_eq!(machine.replies("RSET\r\n"), ["250 2.0.0"]);
        assert_empty_envelope(&mut machine, kind);
    }
}

#[test]
fn d44_a_refused_message_leaves_an_empty_envelope() {
    for stage in [Stage::Message, Stage::Deliver] {
        for (kind, refusal) in refusals() {
            let what = format!("{} at {}", kind, stage.as_str());
            let expected = format!("{} {}", refusal.reply().code(), refusal.reply().status().expect("it has one"));
            let mut machine = Machine::with_recipient(config());
            if stage == Stage::Deliver {
                machine.delivery = Err(refusal);
            } else {
                machine.verdicts.insert(stage, Verdict::Refuse(refusal));
            }
            assert_eq!(machine.replies("DATA\r\n"), ["354"], "{what}");
            assert_eq!(machine.replies(CONTENT), [expected], "{what}");
            assert!(machine.delivered.is_empty(), "{what}");
            assert_empty_envelope(&mut machine, &what);
        }
    }
}

#[test] // A refused recipient is not in the envelope, the others are.
fn d44_a_refused_recipient_is_not_in_the_envelope() {
    for (kind, refusal) in refusals() {
        let mut machine = Machine::with_recipient(config()).refusing(Stage::Recipient, refusal);
        assert!(!machine.replies("RCPT TO:<bob@example.org>\r\n")[0].starts_with('2'), "{kind}");
        machine.verdicts.clear();
        assert_eq!(machine.replies("DATA\r\n"), ["354"], "{kind}");
        assert_eq!(machine.replies(CONTENT), ["250 2.0.0"], "{kind}");
        assert_eq!(machine.delivered[0].recipients, ["<alice@example.org>"], "{kind}");
        machine.delivered.clear();
        assert_empty_envelope(&mut machine, kind);
    }
}

#[test] // The ends that the client, the limits and the store bring about.
fn d44_every_other_end_leaves_an_empty_envelope() {
    let mut small = config();
    small.limits.message_octets = 70_000;
    let overflow = format!("{}\r\n.\r\n", "x".repeat(70_000));
    let fields = format!("{}\r\n.\r\n", "A: b\r\n".repeat(1001));
    let hops = format!("{}\r\n.\r\n", "Received: x\r\n".repeat(101));
    for (after, input, expected) in [
        ("acceptance", &["DATA\r\n", CONTENT][..], "250 2.0.0"),
        ("overflow", &["DATA\r\n", &overflow], "552 5.3.4"),
        ("too many fields", &["DATA\r\n", &fields], "554 5.6.0"),
        ("a loop", &["DATA\r\n", &hops], "554 5.4.6"),
        ("RSET", &["RSET\r\n"], "250 2.0.0"),
        ("EHLO", &["EHLO other.example\r\n"], "250"),
        ("HELO", &["HELO other.example\r\n"], "250"),
    ] {
        let mut machine = Machine::with_recipient(small.clone());
        let replies: Vec<_> = input.iter().flat_map(|piece| machine.replies(piece)).collect();
        assert_eq!(replies.last().map(String::as_str), Some(expected), "{after}");
        machine.delivered.clear();
        assert_empty_envelope(&mut machine, after);
    }
}

#[test] // SECURITY D-32: no room before 354, and none while content comes.
fn d44_a_full_store_leaves_an_empty_envelope() {
    let mut machine = Machine::with_recipient(config());
    machine.has_room = false;
    assert_eq!(machine.replies("DATA\r\n"), ["452 4.3.1"]);
    assert_empty_envelope(&mut machine, "no room");
    let mut machine = Machine::with_recipient(config());
    machine.stores_octets = 3;
    assert_eq!(machine.replies("DATA\r\n"), ["354"]);
    assert_eq!(machine.replies(CONTENT), ["452 4.3.1"]);
    assert!(machine.delivered.is_empty());
    assert_empty_envelope(&mut machine, "storing failed");
}

#[test] // R5321a: bare LF, bare CR and NUL also end the session, and nothing behind them is executed.
fn d44_defective_content_ends_transaction_and_session() {
    for content in ["x\ny\r\n.\r\n", "x\ry\r\n.\r\n", "x\0y\r\n.\r\n"] {
        let mut machine = Machine::with_recipient(config());
        assert_eq!(machine.replies("DATA\r\n"), ["354"]);
        assert_eq!(machine.replies([content, MAIL, RCPT, "DATA\r\n", CONTENT].concat()), ["550 5.5.2"], "{content:?}");
        assert!(machine.is_closed() && machine.delivered.is_empty(), "{content:?}");
        assert!(machine.session.transaction().is_none());
    }
}

#[test] // What was refused one transaction ago counts no more: recipients, excess, verdicts (D-44).
fn d44_counters_of_a_transaction_start_anew() {
    let mut few = config();
    few.limits.recipients = 100;
    few.limits.excess_recipients = 5;
    let mut machine = Machine::greeted(few);
    for round in 0..3 {
        assert_eq!(machine.replies(MAIL), ["250 2.1.0"], "{round}");
        for number in 0..105 {
            let expected = if number < 100 { "250 2.1.5" } else { "452 4.5.3" };
            assert_eq!(machine.replies(format!("RCPT TO:<user{number}@example.org>\r\n")), [expected], "{round}");
        }
        assert_eq!(machine.replies("RSET\r\n"), ["250 2.0.0"]);
    }
}

/// How a hook goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Refuses,
    Panics,
    Hangs,
}

/// Goes wrong at one stage for `<a@client.example>`, and at connect and helo never.
struct Faulty(Stage, Fault);

impl Faulty {
    async fn fail(&self, stage: Stage, cx: &PolicyContext<'_>) -> Verdict {
        let is_victim = cx.transaction().is_some_and(|it| it.reverse_path().to_string() == "<a@client.example>");
        if stage != self.0 || !is_victim {
            return Verdict::Continue;
        }
        match self.1 {
            Fault::Refuses => Verdict::Refuse(Refusal::permanent(7, 1, "No")),
            Fault::Panics => panic!("a fault on purpose"),
            Fault::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Policy for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }
    fn stages(&self) -> Stages {
        Stages::ALL
    }
    async fn mail(&self, cx: &mut PolicyContext<'_>, _: &ReversePath) -> Verdict {
        self.fail(Stage::Mail, cx).await
    }
    async fn recipient(&self, cx: &mut PolicyContext<'_>, _: &Recipient) -> Verdict {
        self.fail(Stage::Recipient, cx).await
    }
    async fn message(&self, cx: &mut PolicyContext<'_>, _: &smtp_core::Content) -> Verdict {
        self.fail(Stage::Message, cx).await
    }
}

/// Goes through a transaction until something is refused; whether that came to pass.
async fn is_refused<S>(client: &mut Client<S>) -> bool
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for step in [MAIL, RCPT, "DATA\r\n", CONTENT] {
        client.send(step).await;
        let reply = client.reply().await.expect("the session goes on");
        if !reply.starts_with(['2', '3']) {
            return true;
        }
    }
    false
}

#[tokio::test(start_paused = true)] // The same through the driver, with panics and time limits.
async fn d44_a_hook_that_fails_leaves_an_empty_envelope() {
    in_process(async {
        for stage in [Stage::Mail, Stage::Recipient, Stage::Message] {
            for fault in [Fault::Refuses, Fault::Panics, Fault::Hangs] {
                let (inbox, log) = (Inbox::default(), Log::default());
                let server = unbound(builder(&inbox, &log).policy(Faulty(stage, fault))).await;
                let mut client = open(&server);
                client.greet().await;
                assert!(is_refused(&mut client).await, "{fault:?} at {}", stage.as_str());
                if matches!(stage, Stage::Mail | Stage::Recipient) {
                    client.send("RSET\r\n").await;
                    client.expect("250 2.0.0").await;
                }
                client.ask(RCPT.trim(), "503 5.5.1").await;
                client.ask("DATA", "503 5.5.1").await;
                client.ask("MAIL FROM:<b@client.example>", "250 2.1.0").await;
                client.ask("DATA", "554 5.5.1").await;
                client.ask("RCPT TO:<bob@example.org>", "250 2.1.5").await;
                client.ask("DATA", "354").await;
                client.ask("x\r\n.", "250 2.0.0").await;
                let messages = inbox.messages();
                assert_eq!(messages.len(), 1);
                assert_eq!(messages[0].recipients().len(), 1);
                assert_eq!(messages[0].recipients()[0].to_string(), "<bob@example.org>");
            }
        }
    })
    .await;
}

/// A store on which one delivery goes wrong, and the next does not.
#[tokio::test(start_paused = true)]
async fn d44_a_delivery_that_fails_leaves_an_empty_envelope() {
    in_process(async {
        for fault in [Fault::Refuses, Fault::Panics, Fault::Hangs] {
            let (inbox, log) = (Inbox::default(), Log::default());
            let kept = inbox.clone();
            let server = unbound(builder(&inbox, &log).deliver(move |message: smtp_core::Message| {
                let inbox = kept.clone();
                async move {
                    if message.reverse_path().to_string() == "<a@client.example>" {
                        match fault {
                            Fault::Refuses => return Err(Refusal::transient(3, 0, "Later")),
                            Fault::Panics => panic!("a fault on purpose"),
                            Fault::Hangs => std::future::pending().await,
                        }
                    }
                    inbox.messages().push(message);
                    Ok(Accepted::all())
                }
            }))
            .await;
            let mut client = open(&server);
            client.greet().await;
            client.send_message().await;
            client.expect("451 4.3.0").await;
            client.ask(RCPT.trim(), "503 5.5.1").await;
            client.ask("DATA", "503 5.5.1").await;
            client.ask("MAIL FROM:<b@client.example>", "250 2.1.0").await;
            client.ask("RCPT TO:<bob@example.org>", "250 2.1.5").await;
            client.ask("DATA", "354").await;
            client.ask("x\r\n.", "250 2.0.0").await;
            let messages = inbox.messages();
            assert_eq!(messages.len(), 1, "{fault:?}");
            assert_eq!(messages[0].recipients()[0].to_string(), "<bob@example.org>");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // A client that leaves in the middle leaves nothing to another one.
async fn d44_a_client_that_leaves_delivers_nothing() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log)).await;
        for point in
            ["MAIL FROM:<a@client.example>\r\n", "RCPT TO:<alice@example.org>\r\n", "DATA\r\n", "text\r\n", "."]
        {
            let mut client = open(&server);
            client.greet().await;
            for step in [MAIL, RCPT, "DATA\r\n", "text\r\n", "."] {
                client.send(step).await;
                if step.len() > 6 || step == "DATA\r\n" {
                    client.reply().await.expect("the session goes on");
                }
                if step == point {
                    break;
                }
            }
            drop(client);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(inbox.len(), 0);
        assert_eq!(server.handle().connections(), 0);
    })
    .await;
}

/// D-45: UTF-8 where it was not agreed upon resets the whole transaction or nothing.
#[test]
fn d45_utf8_without_smtputf8_resets_nothing() {
    let mixed: SessionConfig = config();
    for line in [
        "MAIL FROM:<ä@client.example>\r\n",
        "RCPT TO:<ä@example.org>\r\n",
        "RCPT TO:<alice@exämple.org>\r\n",
        "RCPT TO:<\"ä\"@example.org>\r\n",
        "RCPT TO:<alice@example.org> X=ä\r\n",
        "VRFY ä\r\n",
        "EXPN ä\r\n",
        "EHLO ä.example\r\n",
        "HELO ä\r\n",
        "DATA ä\r\n",
        "ä\r\n",
    ] {
        let mut machine = Machine::with_recipient(mixed.clone());
        let replies = machine.replies(line);
        assert_eq!(replies.len(), 1, "{line}");
        assert!(replies[0].starts_with('5') || line.starts_with("VRFY"), "{line}: {replies:?}");
        assert_eq!(machine.replies("RCPT TO:<bob@example.org>\r\n"), ["250 2.1.5"], "{line}");
        assert_eq!(machine.replies("DATA\r\n"), ["354"], "{line}");
        assert_eq!(machine.replies(CONTENT), ["250 2.0.0"], "{line}");
        assert_eq!(machine.delivered[0].recipients, ["<alice@example.org>", "<bob@example.org>"], "{line}");
        assert_eq!(machine.delivered[0].reverse_path, "<a@client.example>", "{line}");
    }
}
