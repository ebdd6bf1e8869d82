//! What hooks can say and what comes of it: held refusals, exemptions, changes, dispositions, partial acceptance.

use std::io::Read as _;
use std::sync::{Arc, Mutex};

use smtp_core::{
    Accepted, Content, Disposition, Message, Policy, PolicyContext, Recipient, Refusal, ReversePath, SessionEvent,
    Stage, Stages, Verdict, async_trait,
};

use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

const MAIL: &str = "MAIL FROM:<a@client.example>\r\n";
const ALICE: &str = "RCPT TO:<alice@example.org>\r\n";
const ROLES: [&str; 4] = ["<postmaster>", "<POSTMASTER@example.org>", "<abuse@example.org>", "<security@example.org>"];

/// A session in which these stages refuse.
fn refusing(refusals: &[(Stage, Refusal)]) -> Machine {
    let mut machine = Machine::new(config());
    for (stage, refusal) in refusals {
        machine = machine.refusing(*stage, refusal.clone());
    }
    machine
}

#[test] // PRACTICES P1, P3, P7: reject before defer, otherwise the earliest; role mailboxes none of them.
fn p7_the_strongest_held_refusal_is_given_at_each_recipient() {
    let (connect, helo, mail) = (Stage::Connect, Stage::Helo, Stage::Mail);
    let (never, later) =
        (|detail| Refusal::permanent(7, detail, "No"), |detail| Refusal::transient(7, detail, "Later"));
    for (refusals, expected) in [
        (vec![(connect, never(11))], "550 5.7.11"),
        (vec![(helo, never(12))], "550 5.7.12"),
        (vec![(mail, never(13))], "550 5.7.13"),
        (vec![(connect, never(11)), (helo, never(12)), (mail, never(13))], "550 5.7.11"),
        (vec![(helo, never(12)), (mail, never(13))], "550 5.7.12"),
        (vec![(connect, later(11)), (helo, never(12)), (mail, never(13))], "550 5.7.12"),
        (vec![(connect, later(11)), (helo, later(12)), (mail, never(13))], "550 5.7.13"),
        (vec![(connect, later(11)), (helo, later(12)), (mail, later(13))], "451 4.7.11"),
        (vec![(mail, later(13))], "451 4.7.13"),
    ] {
        let mut machine = refusing(&refusals);
        assert_eq!(machine.replies(""), ["220"]);
        assert_eq!(machine.replies("EHLO client.example\r\n"), ["250"]);
        assert_eq!(machine.replies(MAIL), ["250 2.1.0"]);
        assert_eq!(machine.replies([ALICE, "RCPT TO:<bob@example.org>\r\n"].concat()), [expected, expected]);
        assert_eq!(machine.replies("RCPT TO:<nobody@example.org>\r\n"), ["550 5.1.1"], "S44: a true answer");
        assert_eq!(machine.replies("RCPT TO:<x@other.example>\r\n"), ["550 5.7.1"]);
        assert_eq!(machine.replies("RCPT TO:<error@example.org>\r\n"), ["451 4.3.0"]);
        assert_eq!(machine.replies("DATA\r\n"), ["554 5.5.1"]);
        for role in ROLES {
            assert_eq!(machine.replies(format!("RCPT TO:{role}\r\n")), ["250 2.1.5"], "{role}");
        }
        assert_eq!(machine.replies("DATA\r\n"), ["354"]);
        assert_eq!(machine.replies("x\r\n.\r\n"), ["250 2.0.0"]);
        assert_eq!(machine.delivered[0].recipients.len(), ROLES.len());
    }
}

#[test] // LI11: held refusals are no errors of the client.
fn li11_held_refusals_are_not_counted() {
    let mut machine = refusing(&[(Stage::Connect, Refusal::permanent(7, 1, "No"))]);
    machine.send("");
    machine.send("EHLO client.example\r\n");
    machine.send(MAIL);
    for _ in 0..200 {
        assert_eq!(machine.replies(ALICE), ["550 5.7.1"]);
    }
    assert!(!machine.is_closed());
}

#[test] // DESIGN: `and_close` of a held refusal acts after that RCPT.
fn a_held_refusal_that_closes_does_so_at_its_recipient() {
    for stage in [Stage::Connect, Stage::Helo, Stage::Mail] {
        let mut machine = refusing(&[(stage, Refusal::permanent(7, 1, "No").and_close())]);
        assert_eq!(machine.replies(""), ["220"]);
        assert_eq!(machine.replies("EHLO client.example\r\n"), ["250"]);
        assert_eq!(machine.replies(MAIL), ["250 2.1.0"]);
        assert_eq!(
            machine.replies("RCPT TO:<postmaster>\r\nRCPT TO:<nobody@example.org>\r\n"),
            ["250 2.1.5", "550 5.1.1"]
        );
        assert_eq!(
            machine.replies([ALICE, "RCPT TO:<postmaster>\r\nDATA\r\n"].concat()),
            ["550 5.7.1"],
            "{}",
            stage.as_str()
        );
        assert!(machine.is_closed() && machine.delivered.is_empty());
    }
    for (stage, expected) in [(Stage::Recipient, "550 5.7.1"), (Stage::Message, "550 5.7.1")] {
        let mut machine = refusing(&[(stage, Refusal::permanent(7, 1, "No").and_close())]);
        machine.send("");
        machine.send("EHLO client.example\r\n");
        let mut replies = machine.replies([MAIL, ALICE].concat());
        if stage == Stage::Message {
            replies = machine.replies("DATA\r\n");
            assert_eq!(replies, ["354"]);
            replies = machine.replies(["x\r\n.\r\n", MAIL].concat());
        }
        assert_eq!(replies.last().map(String::as_str), Some(expected));
        assert!(machine.is_closed());
    }
}

#[test] // P3a, RFC 5321 §3.1: said at once where it is asked for. §4.1.4: a refused EHLO changes nothing.
fn p3a_immediate_refusals_are_not_held() {
    let now = |transient| {
        let refusal = if transient { Refusal::transient(7, 0, "Busy") } else { Refusal::permanent(7, 1, "Go away") };
        refusal.immediately()
    };
    for (transient, expected) in [(true, "421 4.7.0"), (false, "554 5.7.1")] {
        let mut machine = refusing(&[(Stage::Connect, now(transient))]);
        assert_eq!(machine.replies(""), [expected]);
        assert!(machine.is_closed());
    }
    let mut machine = refusing(&[(Stage::Helo, now(false))]);
    machine.send("");
    assert_eq!(machine.replies("EHLO client.example\r\n"), ["550 5.7.1"]);
    assert_eq!(machine.replies(MAIL), ["503 5.5.1"], "it has not introduced itself");
    machine.verdicts.clear();
    assert_eq!(machine.replies("EHLO client.example\r\n"), ["250"]);
    assert_eq!(machine.replies([MAIL, ALICE].concat()), ["250 2.1.0", "250 2.1.5"]);
    machine.verdicts.insert(Stage::Helo, Verdict::Refuse(now(false)));
    assert_eq!(machine.replies("EHLO other.example\r\n"), ["550 5.7.1"]);
    assert_eq!(machine.replies("DATA\r\n"), ["354"], "the state is the one before EHLO");
}

/// Runs functions at `MAIL`, `RCPT` and the message.
type Act = Box<dyn Fn(&mut PolicyContext<'_>) -> Verdict + Send + Sync>;

struct Acts {
    name: &'static str,
    mail: Act,
    recipient: Act,
    message: Act,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Acts {
    fn new(name: &'static str, asked: &Arc<Mutex<Vec<&'static str>>>) -> Self {
        let nothing = || -> Act { Box::new(|_| Verdict::Continue) };
        Self { name, mail: nothing(), recipient: nothing(), message: nothing(), asked: asked.clone() }
    }
}

#[async_trait]
impl Policy for Acts {
    fn name(&self) -> &str {
        self.name
    }
    fn stages(&self) -> Stages {
        Stages::MAIL | Stages::RECIPIENT | Stages::MESSAGE
    }
    async fn mail(&self, cx: &mut PolicyContext<'_>, _: &ReversePath) -> Verdict {
        (self.mail)(cx)
    }
    async fn recipient(&self, cx: &mut PolicyContext<'_>, _: &Recipient) -> Verdict {
        self.asked.lock().expect("no panic").push(self.name);
        (self.recipient)(cx)
    }
    async fn message(&self, cx: &mut PolicyContext<'_>, _: &Content) -> Verdict {
        self.asked.lock().expect("no panic").push(self.name);
        (self.message)(cx)
    }
}

#[tokio::test(start_paused = true)] // DESIGN: `Exempt` waives the remaining policies of this stage for this recipient.
async fn exempt_waives_the_rest_of_its_stage_and_nothing_more() {
    in_process(async {
        let (inbox, log, asked) = (Inbox::default(), Log::default(), Arc::default());
        let mut first = Acts::new("first", &asked);
        first.recipient = Box::new(|cx| {
            let is_first = cx.transaction().is_some_and(|transaction| transaction.recipients().is_empty());
            if is_first { Verdict::Exempt } else { Verdict::Continue }
        });
        let mut second = Acts::new("second", &asked);
        second.recipient = Box::new(|_| Verdict::Refuse(Refusal::permanent(7, 1, "No")));
        let server = unbound(builder(&inbox, &log).policy(first).policy(second)).await;
        let mut client = open(&server);
        client.greet().await;
        client.ask(MAIL.trim(), "250").await;
        client.ask("RCPT TO:<nobody@example.org>", "550 5.1.1").await;
        client.ask("RCPT TO:<x@other.example>", "550 5.7.1").await;
        client.ask("RCPT TO:<postmaster@example.org>", "250 2.1.5").await;
        assert!(asked.lock().expect("no panic").is_empty(), "no policy for those, and none for role mailboxes");
        client.ask("RSET", "250").await;
        client.ask(MAIL.trim(), "250").await;
        client.ask("RCPT TO:<alice@example.org>", "250 2.1.5").await;
        client.ask("RCPT TO:<bob@example.org>", "550 5.7.1").await;
        client.ask("DATA", "354").await;
        client.ask("x\r\n.", "250 2.0.0").await;
        assert_eq!(*asked.lock().expect("no panic"), ["first", "first", "second", "first", "second"]);
    })
    .await;
}

#[tokio::test(start_paused = true)] // DESIGN: what a policy changes; the content itself is never re-written.
async fn header_fields_are_prepended_and_removed_around_the_content() {
    in_process(async {
        let (inbox, log, asked) = (Inbox::default(), Log::default(), Arc::default());
        let mut policy = Acts::new("header", &asked);
        policy.mail = Box::new(|cx| {
            cx.prepend_header("X-First", "1").expect("a field");
            Verdict::Continue
        });
        policy.message = Box::new(|cx| {
            cx.prepend_header("X-Second", "2").expect("a field");
            cx.remove_header("x-spam").expect("a name");
            assert!(cx.prepend_header("X-Bad", "a\r\nBcc: b").is_err());
            assert!(cx.prepend_header("X Bad", "a").is_err());
            assert!(cx.remove_header("X\r\n").is_err());
            Verdict::Continue
        });
        let server = unbound(builder(&inbox, &log).policy(policy)).await;
        let mut client = open(&server);
        client.greet().await;
        client.begin_content().await;
        let content = "X-Spam: yes\r\n more\r\nSubject: s\r\nX-SPAM: no\r\n\r\nX-Spam: body\r\n";
        client.send(format!("{content}.\r\n")).await;
        client.expect("250").await;
        let messages = inbox.messages();
        assert_eq!(messages[0].content().as_bytes().expect("in memory"), content.as_bytes());
        let mut text = String::new();
        messages[0].reader().expect("in memory").read_to_string(&mut text).expect("text");
        let names: Vec<_> = text.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])).collect();
        assert_eq!(names[..2], ["X-Second: 2", "X-First: 1"], "the last one added stands first");
        assert!(names[2].starts_with("Received: from client.example"));
        assert!(text.ends_with("\r\nSubject: s\r\n\r\nX-Spam: body\r\n"), "{text}");
        assert_eq!(text.matches("X-S").count(), 2, "{text}");
    })
    .await;
}

#[tokio::test(start_paused = true)] // DESIGN: peer and session last, transaction ends with its message.
async fn extensions_have_three_scopes() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Count(u32);
    in_process(async {
        let (inbox, log, asked) = (Inbox::default(), Log::default(), Arc::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut policy = Acts::new("counts", &asked);
        let notes = seen.clone();
        policy.mail = Box::new(move |cx| {
            let next = |count: Option<&Count>| Count(count.map_or(1, |count| count.0 + 1));
            let counts = (next(cx.peer().get()), next(cx.session().get()), next(cx.transaction_extensions().get()));
            cx.insert_peer(counts.0);
            cx.insert_session(counts.1);
            cx.insert_transaction(counts.2);
            notes.lock().expect("no panic").push((counts.0.0, counts.1.0, counts.2.0));
            Verdict::Continue
        });
        let server = unbound(builder(&inbox, &log).policy(policy)).await;
        let mut client = open(&server);
        client.greet().await;
        for _ in 0..2 {
            client.send_message().await;
            client.expect("250 2.0.0").await;
        }
        client.ask("EHLO again.example", "250").await;
        client.ask(MAIL.trim(), "250").await;
        let mut other = open(&server);
        other.greet().await;
        other.ask(MAIL.trim(), "250").await;
        assert_eq!(*seen.lock().expect("no panic"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (1, 1, 1)]);
        for message in inbox.messages().iter() {
            assert_eq!(message.extensions().get::<Count>(), Some(&Count(1)), "those of the transaction moved here");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // PRACTICES S33: what becomes of each copy; one answer for all in plain SMTP.
async fn dispositions_and_refused_recipients_reach_the_delivery() {
    in_process(async {
        let (inbox, log, asked) = (Inbox::default(), Log::default(), Arc::default());
        let mut policy = Acts::new("sorter", &asked);
        policy.message = Box::new(|cx| {
            cx.dispose(0, Disposition::Quarantine("odd".to_owned()));
            cx.dispose(1, Disposition::Discard("old".to_owned()));
            cx.refuse_recipient(2, Refusal::permanent(7, 1, "No"));
            cx.dispose(99, Disposition::Junk);
            Verdict::Continue
        });
        let server = unbound(builder(&inbox, &log).policy(policy)).await;
        let mut client = open(&server);
        client.greet().await;
        client.ask(MAIL.trim(), "250").await;
        for number in 0..4 {
            client.ask(&format!("RCPT TO:<user{number}@example.org>"), "250").await;
        }
        client.ask("DATA", "354").await;
        client.ask("x\r\n.", "250 2.0.0").await;
        let messages = inbox.messages();
        let dispositions: Vec<_> = messages[0].recipients().iter().map(|it| it.disposition().clone()).collect();
        let quarantine = Disposition::Quarantine("odd".to_owned());
        let discard = Disposition::Discard("old".to_owned());
        assert_eq!(dispositions, [quarantine, discard, Disposition::Junk, Disposition::Deliver]);
    })
    .await;
}

#[tokio::test(start_paused = true)] // DESIGN: where every recipient is refused, the message is; transient if one is.
async fn refusing_every_recipient_refuses_the_message() {
    in_process(async {
        for (transient, expected) in [(None, "550 5.7.1"), (Some(1), "451 4.7.1")] {
            let (inbox, log, asked) = (Inbox::default(), Log::default(), Arc::default());
            let mut policy = Acts::new("refuser", &asked);
            policy.message = Box::new(move |cx| {
                for index in 0..3 {
                    let is_transient = transient == Some(index);
                    let (later, never) = (Refusal::transient(7, 1, "Later"), Refusal::permanent(7, 1, "No"));
                    cx.refuse_recipient(index, if is_transient { later } else { never });
                }
                Verdict::Continue
            });
            let server = unbound(builder(&inbox, &log).policy(policy)).await;
            let mut client = open(&server);
            client.greet().await;
            client.ask(MAIL.trim(), "250").await;
            for number in 0..3 {
                client.ask(&format!("RCPT TO:<user{number}@example.org>"), "250").await;
            }
            client.ask("DATA", "354").await;
            client.ask("x\r\n.", expected).await;
            assert_eq!(inbox.len(), 0);
            client.ask("DATA", "503 5.5.1").await;
        }
    })
    .await;
}

/// What a delivery says of each of three recipients, what the client reads, and whether it is an acceptance in part.
type Row = (Vec<Result<(), Refusal>>, &'static str, Option<bool>);

#[tokio::test(start_paused = true)]
async fn partial_acceptance_has_one_answer() {
    let (no, later) = (|| Err(Refusal::permanent(2, 1, "Off")), || Err(Refusal::transient(2, 2, "Full")));
    let rows: Vec<Row> = vec![
        (vec![Ok(()), Ok(()), Ok(())], "250 2.0.0", Some(false)),
        (vec![], "250 2.0.0", Some(false)),
        (vec![Ok(()), no(), later()], "250 2.0.0", Some(true)),
        (vec![no(), no(), Ok(())], "250 2.0.0", Some(true)),
        (vec![no(), no(), no()], "550 5.2.1", None),
        (vec![no(), later(), no()], "451 4.2.2", None),
        // Missing ones count as taken.
        (vec![no()], "250 2.0.0", Some(true)),
        (vec![no(), no()], "250 2.0.0", Some(true)),
        // What is said of nobody counts for nothing: one recipient was taken.
        (vec![Ok(()), no(), no(), no()], "250 2.0.0", Some(true)),
    ];
    in_process(async move {
        let mut wrong = Vec::new();
        for (outcomes, expected, partial) in rows {
            let (inbox, log) = (Inbox::default(), Log::default());
            let said = outcomes.clone();
            let server = unbound(builder(&inbox, &log).deliver(move |_: Message| {
                let accepted = Accepted::each(said.clone());
                async move { Ok(accepted) }
            }))
            .await;
            let mut client = open(&server);
            client.greet().await;
            client.ask(MAIL.trim(), "250").await;
            for number in 0..3 {
                client.ask(&format!("RCPT TO:<user{number}@example.org>"), "250").await;
            }
            client.ask("DATA", "354").await;
            client.send("x\r\n.\r\n").await;
            let reply = client.reply().await.expect("a reply");
            let events = log.events();
            let found = events.iter().find_map(|event| match event {
                SessionEvent::Accepted { partial, recipients: 3, .. } => Some(*partial),
                _ => None,
            });
            if found != partial || !reply.starts_with(expected) {
                let outcomes: Vec<_> = outcomes.iter().map(|it| it.as_ref().map_err(ToString::to_string)).collect();
                wrong.push(format!("{outcomes:?}: {reply}, partial: {found:?}, not {expected}, {partial:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    })
    .await;
}

#[tokio::test(start_paused = true)] // The id of the queue is shown, as one clean line.
async fn the_queue_id_is_in_the_reply() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        for (id, expected) in
            [("4Tx1", "250 2.0.0 Ok: queued as 4Tx1"), ("a\r\n550 x", "250 2.0.0 Ok: queued as a??550 x")]
        {
            let server =
                unbound(builder(&inbox, &log).deliver(move |_: Message| async move { Ok(Accepted::queued(id)) })).await;
            let mut client = open(&server);
            client.greet().await;
            client.send_message().await;
            assert_eq!(client.reply().await.as_deref(), Some(expected));
        }
    })
    .await;
}
