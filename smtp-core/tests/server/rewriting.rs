//! What policies change of a whole message: fields where they stand, the body, the envelope; and what of it the client is told.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::{
    Accepted, Content, Defect, Disposition, EnvelopeChangeError, HeaderField, Listener, Mailbox, Message, Notify,
    Policy, PolicyContext, RecipientDsn, Refusal, ReversePath, Stages, Verdict, async_trait,
};

use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

/// Does this with a whole message, and keeps the content that it was shown.
struct Rewrites<F> {
    with: F,
    shown: Arc<Mutex<Vec<Content>>>,
}

impl<F: Fn(&mut PolicyContext<'_>) -> Verdict + Send + Sync> Rewrites<F> {
    fn new(with: F) -> Self {
        Self { with, shown: Arc::default() }
    }
}

#[async_trait]
impl<F: Fn(&mut PolicyContext<'_>) -> Verdict + Send + Sync> Policy for Rewrites<F> {
    fn name(&self) -> &'static str {
        "rewrites"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(content.clone());
        (self.with)(cx)
    }
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().expect("a mailbox")
}

fn field(name: &str, value: &str) -> HeaderField {
    HeaderField::new(name, value).expect("a field")
}

fn never() -> RecipientDsn {
    RecipientDsn { notify: Some(Notify::NEVER), ..RecipientDsn::default() }
}

const CONTENT: &str = "A: 1\r\nSubject: old\r\nA: 2\r\n\r\nold body\r\n";

#[tokio::test(start_paused = true)] // SECURITY G2, G3, D-52
async fn d52_a_message_is_rewritten_and_what_is_not_canonical_is_not_taken() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let rewrites = Rewrites::new(|cx| {
            cx.insert_header_at(1, field("X-Between", "1"));
            cx.replace_header_at(0, field("Subject", "new"));
            cx.append_header(field("X-Last", "1"));
            assert!(cx.remove_header_at("A", [1]).is_ok());
            for (body, defect) in
                [("a\rb", Defect::BareCr), ("a\nb", Defect::BareLf), ("\0", Defect::Nul), ("a\r", Defect::BareCr)]
            {
                assert_eq!(cx.replace_body(body), Err(defect), "{body:?}");
            }
            assert_eq!(cx.replace_body("new\r\n.\r\nbody\r\n"), Ok(()));
            let needed = Err(EnvelopeChangeError::NeedsSmtputf8);
            assert_eq!(cx.add_recipient(mailbox("\u{fc}@example.org"), never()), needed);
            assert_eq!(cx.set_reverse_path(ReversePath::Mailbox(mailbox("\u{fc}@example.org"))), needed);
            assert_eq!(cx.add_recipient(mailbox("archive@other.example"), never()), Ok(()));
            assert_eq!(cx.add_recipient(mailbox("archive@other.example"), never()), Ok(()), "once");
            assert_eq!(cx.add_recipient(mailbox("user0@example.org"), never()), Ok(()), "it is there already");
            assert_eq!(cx.add_recipient(mailbox("changed-my-mind@other.example"), never()), Ok(()));
            cx.remove_added_recipient(&mailbox("changed-my-mind@other.example"));
            cx.remove_recipient(1);
            cx.dispose(1, Disposition::Junk);
            cx.confirm_sender();
            assert_eq!(cx.set_reverse_path(ReversePath::Null), Ok(()));
            Verdict::Continue
        });
        let later = Rewrites::new(|_| Verdict::Continue);
        let (first, second) = (rewrites.shown.clone(), later.shown.clone());
        let server = unbound(builder(&inbox, &log).policy(rewrites).policy(later)).await;
        let mut client = open(&server);
        client.greet().await;
        client.ask("MAIL FROM:<a@client.example>", "250").await;
        for number in 0..2 {
            client.ask(&format!("RCPT TO:<user{number}@example.org>"), "250").await;
        }
        client.ask("DATA", "354").await;
        client.ask(&format!("{CONTENT}."), "250 2.0.0").await;
        let messages = inbox.messages();
        let mut text = String::new();
        messages[0].reader().expect("in memory").read_to_string(&mut text).expect("text");
        let expected = "\r\nA: 1\r\nX-Between: 1\r\nSubject: new\r\nX-Last: 1\r\n\r\nnew\r\n.\r\nbody\r\n";
        assert!(text.starts_with("Received: ") && text.ends_with(expected), "{text}");
        let shown = |shown: &Mutex<Vec<Content>>| {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&shown[0].to_bytes().expect("in memory")).into_owned()
        };
        assert_eq!(shown(&first), CONTENT);
        assert_eq!(
            shown(&second),
            CONTENT.replace("old body\r\n", "new\r\n.\r\nbody\r\n"),
            "who is asked later sees the body"
        );
        let recipients: Vec<_> = messages[0]
            .recipients()
            .iter()
            .map(|it| {
                (it.to_string(), it.is_added(), matches!(it.disposition(), Disposition::Discard(_)), it.dsn().notify)
            })
            .collect();
        assert_eq!(
            recipients,
            [
                ("<user0@example.org>".to_owned(), false, false, None),
                ("<user1@example.org>".to_owned(), false, true, None),
                ("<archive@other.example>".to_owned(), true, false, Some(Notify::NEVER)),
            ]
        );
        assert!(messages[0].reverse_path().is_null() && !messages[0].sender_confirmed());
        assert!(!text.contains("for <"), "who got a copy besides is nobody's business: {text}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_thousand_recipients_are_added() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = unbound(builder(&inbox, &log).policy(Rewrites::new(|cx| {
            for number in 0..1000 {
                assert_eq!(cx.add_recipient(mailbox(&format!("u{number}@other.example")), never()), Ok(()));
            }
            let more = cx.add_recipient(mailbox("more@other.example"), never());
            assert_eq!(more, Err(EnvelopeChangeError::TooManyRecipients));
            Verdict::Continue
        })))
        .await;
        let mut client = open(&server);
        client.greet().await;
        client.send_message().await;
        client.expect("250 2.0.0").await;
        assert_eq!(inbox.messages()[0].recipients().len(), 1001);
    })
    .await;
}

#[tokio::test(start_paused = true)] // What becomes of a recipient that a policy added is no part of any answer.
async fn the_client_is_never_answered_for_an_added_recipient() {
    let (ok, no) = (|| Ok(()), || Err(Refusal::permanent(2, 1, "Off")));
    in_process(async move {
        for (parameters, outcomes, replies) in [
            ("", vec![ok(), ok(), no()], vec!["250 2.0.0"]),
            ("", vec![no(), no(), ok()], vec!["550 5.2.1"]),
            (" PRDR", vec![ok(), no(), no()], vec!["353", "250 2.0.0", "550 5.2.1", "250 2.0.0"]),
            (" PRDR", vec![no(), no(), ok()], vec!["353", "550 5.2.1", "550 5.2.1", "550 5.2.1"]),
        ] {
            let (inbox, log) = (Inbox::default(), Log::default());
            let said = outcomes.clone();
            let rewrites = Rewrites::new(|cx| {
                assert_eq!(cx.add_recipient(mailbox("archive@other.example"), never()), Ok(()));
                Verdict::Continue
            });
            let prdr = Listener::new("127.0.0.1:0").prdr();
            let server =
                unbound(builder(&inbox, &log).policy(rewrites).listener(prdr).deliver(move |message: Message| {
                    assert_eq!(message.recipients().len(), 3);
                    let accepted = Accepted::each(said.clone());
                    async move { Ok(accepted) }
                }))
                .await;
            let mut client = open(&server);
            client.greet().await;
            client.ask(&format!("MAIL FROM:<a@client.example>{parameters}"), "250").await;
            for number in 0..2 {
                client.ask(&format!("RCPT TO:<user{number}@example.org>"), "250").await;
            }
            client.ask("DATA", "354").await;
            client.send("x\r\n.\r\n").await;
            for reply in replies {
                client.expect(reply).await;
            }
            client.ask("NOOP", "250").await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // SECURITY D-44: what was changed of a refused message is gone with it.
async fn d44_a_refused_message_leaves_no_change_behind() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let refuses = Arc::new(Mutex::new(true));
        let first = refuses.clone();
        let server = unbound(builder(&inbox, &log).policy(Rewrites::new(move |cx| {
            if !std::mem::take(&mut *first.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Verdict::Continue;
            }
            cx.append_header(field("X-Last", "1"));
            assert_eq!(cx.replace_body("new\r\n"), Ok(()));
            assert_eq!(cx.add_recipient(mailbox("archive@other.example"), never()), Ok(()));
            Verdict::Refuse(Refusal::transient(7, 1, "Later"))
        })))
        .await;
        let mut client = open(&server);
        client.greet().await;
        client.send_message().await;
        client.expect("451 4.7.1").await;
        client.send_message().await;
        client.expect("250 2.0.0").await;
        let messages = inbox.messages();
        assert_eq!((messages.len(), messages[0].recipients().len()), (1, 1));
        let mut text = String::new();
        messages[0].reader().expect("in memory").read_to_string(&mut text).expect("text");
        assert!(!text.contains("X-Last") && !text.ends_with("\r\n\r\nnew\r\n"), "{text}");
    })
    .await;
}
