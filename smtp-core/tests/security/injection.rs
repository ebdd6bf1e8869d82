//! SECURITY.md D-9, D-11 and D-13: what a client writes stays an address, and never becomes a line, a field or a path.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use smtp_core::{
    Connection, DateTime, Domain, ForwardPath, HeaderField, Host, Lookup, LookupError, Mailbox, Protocol, Received,
    RecipientLookup, Refusal, ReplyLimits, ReplyReader, ReversePath, SafeText, Stage, Transaction, async_trait,
};

use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, in_process, open, unbound};

/// Octets that end a line.
const BREAKS: [&str; 7] = ["\r", "\n", "\0", "\u{2028}", "\u{85}", "\n.\n", "\r\u{b}"];
/// Letters that a careless decoder makes into a line feed: it keeps the last octet of their number.
const LETTERS: [&str; 2] = ["\u{10a}", "\u{560a}"];

#[test]
fn d9_constructors_refuse_line_breaks() {
    for bad in BREAKS.into_iter().chain(["\r\n", "\r\nRCPT TO:<victim@other.example>"]) {
        for place in [
            "a{}b@example.org",
            "alice@exa{}mple.org",
            "alice@example.org{}",
            "{}alice@example.org",
            "\"a{}b\"@example.org",
        ] {
            let text = place.replace("{}", bad);
            assert!(Mailbox::parse(&text).is_err(), "{text:?}");
            assert!(ReversePath::parse(format!("<{text}>")).is_err(), "{text:?}");
            assert!(ForwardPath::parse(format!("<{text}>")).is_err(), "{text:?}");
        }
        assert!(Domain::parse(format!("exam{bad}ple.org")).is_err(), "{bad:?}");
        assert!(Host::parse(format!("[192.0.2.1{bad}]")).is_err(), "{bad:?}");
        assert!(Host::parse(format!("[tag:x{bad}y]")).is_err(), "{bad:?}");
        assert!(HeaderField::new(&format!("X{bad}Y"), "value").is_err(), "{bad:?}");
        if bad.chars().any(|c| c.is_ascii_control()) {
            assert!(HeaderField::new("X", &format!("a{bad}b")).is_err(), "{bad:?}");
        }
        let reply = Refusal::permanent(7, 1, format!("no{bad}250 yes")).to_string();
        assert!(reply.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{reply:?}");
    }
}

#[test] // The same octets on the wire: LF, CR and NUL alone do not end a line, so they are in the argument.
fn d9_the_server_refuses_line_breaks_in_arguments() {
    for bad in BREAKS {
        for (line, expected) in [
            ("MAIL FROM:<a{}b@client.example>", &["501 5.1.7"][..]),
            ("MAIL FROM:<\"a{}b\"@client.example>", &["501 5.1.7"]),
            ("MAIL FROM:<a@client{}.example>", &["501 5.1.7"]),
            ("MAIL FROM:<a@client.example>{}", &["501 5.5.4", "501 5.1.7"]),
            ("MAIL FROM:<a@client.example> SIZE=1{}0", &["501 5.5.4"]),
            ("MAIL FROM:<a@client.example> BODY=7{}BIT", &["501 5.5.4"]),
            ("EHLO client{}.example", &["501 5.5.4", "501 5.5.2"]),
            ("HELO client{}.example", &["501 5.5.4", "501 5.5.2"]),
            ("EHLO [192.0.2.1{}]", &["501 5.5.4", "501 5.5.2"]),
            ("DATA{}", &["501 5.5.4", "500 5.5.1"]),
            ("RSET{}", &["501 5.5.4", "500 5.5.1"]),
            ("QUIT{}", &["501 5.5.4", "500 5.5.1"]),
        ] {
            let line = line.replace("{}", bad);
            let mut machine = Machine::greeted(config());
            let replies = machine.replies(format!("{line}\r\n"));
            assert!(replies.len() == 1 && expected.contains(&replies[0].as_str()), "{line:?}: {replies:?}");
            assert!(!machine.is_closed() && machine.session.transaction().is_none(), "{line:?}");
        }
        for line in
            ["RCPT TO:<al{}ice@example.org>", "RCPT TO:<\"al{}ice\"@example.org>", "RCPT TO:<alice@exam{}ple.org>"]
        {
            let line = line.replace("{}", bad);
            let mut machine = Machine::with_recipient(config());
            machine.looked_up.clear();
            assert_eq!(machine.replies(format!("{line}\r\n")), ["501 5.1.3"], "{line:?}");
            assert!(machine.looked_up.is_empty(), "{line:?}");
        }
    }
}

#[test] // RFC 6531 §3.3: they are letters of a mailbox where the client says so, and of nothing else.
fn d9_letters_that_look_like_a_line_feed_stay_letters() {
    for letter in LETTERS {
        let mailbox = Mailbox::parse(format!("a{letter}b@example.org")).expect("a letter");
        assert!(mailbox.to_string().bytes().all(|octet| octet >= b' '), "{mailbox}");
        assert!(Host::parse(format!("[192.0.2.1{letter}]")).is_err() && Host::parse(format!("[x:y{letter}]")).is_err());
        assert!(HeaderField::new(&format!("X{letter}Y"), "value").is_err());
        let reply = Refusal::permanent(7, 1, format!("no{letter}250 yes")).to_string();
        assert!(reply.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{reply:?}");
        for (line, expected) in [
            ("MAIL FROM:<a{}b@client.example>", "553 5.6.7"),
            ("MAIL FROM:<\"a{}b\"@client.example>", "553 5.6.7"),
            ("MAIL FROM:<a@client.example>{}", "501 5.5.4"),
            ("MAIL FROM:<a@client.example> SIZE=1{}0", "501 5.5.4"),
            ("MAIL FROM:<a@client.example> ENVID=1{}0", "501 5.5.4"),
            ("EHLO client{}.example", "501 5.5.2"),
            ("DATA{}", "500 5.5.1"),
        ] {
            let line = line.replace("{}", letter);
            let mut machine = Machine::greeted(config());
            assert_eq!(machine.replies(format!("{line}\r\n")), [expected], "{line:?}");
        }
        let mut machine = Machine::with_recipient(config());
        assert_eq!(machine.replies(format!("RCPT TO:<al{letter}ice@example.org>\r\n")), ["553 5.6.7"]);
    }
}

#[test] // Percent signs are letters of a local-part, and nobody decodes them.
fn d9_percent_encoding_means_nothing() {
    let mut machine = Machine::greeted(config());
    let path = "<user%0d%0aRCPT%20TO:x@example.org>".replace(':', "%3a");
    assert_eq!(
        machine.replies(format!("MAIL FROM:{path}\r\nRCPT TO:{path}\r\nDATA\r\n")),
        ["250 2.1.0", "250 2.1.5", "354"]
    );
    assert_eq!(machine.looked_up, std::slice::from_ref(&path));
    assert_eq!(machine.replies(".\r\n"), ["250 2.0.0"]);
    assert_eq!((machine.delivered[0].reverse_path.as_str(), machine.delivered[0].recipients.len()), (&*path, 1));
}

#[test] // What a client wrote is not repeated to it: a reply is one printable line of at most 512 octets (LI4).
fn d9_replies_do_not_repeat_hostile_text() {
    let mut machine = Machine::greeted(config())
        .refusing(Stage::Recipient, Refusal::permanent(7, 1, format!("no\r\n250 2.1.5 {}\u{1b}[2J", "x".repeat(5000))));
    let output = machine.send("MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n\x1b[31m\x07\r\n");
    let lines: Vec<_> = output.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        assert!(line.len() + 2 <= 512 && line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{line:?}");
    }
}

/// What a header field is made of behind its name, without comments, quoted text and domain literals (RFC 5322 §3.2).
fn skeleton(value: &str) -> String {
    let mut kept = String::new();
    let (mut comments, mut quoted, mut literal) = (0_u32, false, false);
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if comments > 0 || quoted => assert!(characters.next().is_some(), "a backslash at the end"),
            '"' if comments == 0 && !literal => quoted = !quoted,
            '[' if comments == 0 && !quoted => literal = true,
            ']' if literal => literal = false,
            '(' if !quoted && !literal => comments += 1,
            ')' if !quoted && !literal => comments = comments.checked_sub(1).expect("a comment that was opened"),
            _ if comments > 0 || quoted || literal => {}
            c => kept.push(c),
        }
    }
    assert!(comments == 0 && !quoted && !literal, "something stays open in {value:?}");
    kept
}

/// The one field in `octets`: its name and its unfolded value.
fn only_field(octets: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(octets).expect("text");
    let lines: Vec<_> = text.strip_suffix("\r\n").expect("it ends with CRLF").split("\r\n").collect();
    for (place, line) in lines.iter().enumerate() {
        assert!(line.len() <= 998 && !line.contains(['\r', '\n', '\0']), "{line:?}");
        assert_eq!(line.starts_with([' ', '\t']), place > 0, "a continuation, and nothing else: {line:?}");
        assert!(!line.trim().is_empty(), "no line of white space");
    }
    let (name, value) = text.split_once(':').expect("a name");
    (name.to_owned(), value.replace("\r\n", "").trim().to_owned())
}

fn local_parts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z!#$%&'*+/=?^_`{|}~-]{1,64}",
        "\"([ !#-\\[\\]-~]|\\\\[ -~]){0,60}\"",
        Just(r#""\");by evil with x id y;(""#.to_owned()),
        "\"[;()<>@ ]{1,40}\"",
    ]
}

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9]{1,30}\\.example", Just("[192.0.2.7]".to_owned()), "\\[x:[!-Z^-~]{1,40}\\]"]
}

proptest! {
    #[test] // RFC 5321 §4.4: parse(generate(x)) has exactly the intended clauses, for every x.
    fn d11_received_has_exactly_its_clauses(
        helo in hosts(), from in local_parts(), from_host in hosts(), to in local_parts(),
        null in any::<bool>(), one in any::<bool>(),
    ) {
        let helo = Host::parse(&helo).expect("a host");
        let mailbox = Mailbox::parse(format!("{from}@{from_host}")).expect("a mailbox");
        let reverse_path = if null { ReversePath::Null } else { ReversePath::Mailbox(mailbox) };
        let forward_path = ForwardPath::parse(format!("<{to}@example.org>")).expect("a path");
        let by = Host::parse("mx.example.org").expect("a host");
        let received = Received {
            helo: &helo, client: "192.0.2.1".parse().expect("an address"), by: &by, with: Protocol::Esmtp, id: "0123-1",
            reverse_path: &reverse_path, recipient: one.then_some(&forward_path), priority: None, time: std::time::UNIX_EPOCH,
        };
        let field = received.to_field();
        let (name, value) = only_field(field.as_bytes());
        prop_assert_eq!(&name, "Received");
        let text = skeleton(&value);
        let (clauses, date) = text.split_once(';').expect("a semicolon before the date");
        prop_assert!(!date.contains(';'));
        prop_assert_eq!(date.trim(), DateTime::new(std::time::UNIX_EPOCH).to_string());
        let words: Vec<_> = clauses.split_whitespace().collect();
        let literal = helo.domain().is_none();
        let host = helo.to_string();
        let from_clause = if literal { vec!["from"] } else { vec!["from", &host] };
        let mut expected = from_clause;
        expected.extend(["by", "mx.example.org", "with", "ESMTP", "id", "0123-1"]);
        prop_assert_eq!(&words[..expected.len()], &expected[..]);
        prop_assert_eq!(words.len() - expected.len(), if one { 2 } else { 0 });
        prop_assert!(value.contains("(envelope-from <"));
    }

    #[test]
    fn d11_return_path_is_the_reverse_path(from in local_parts(), host in hosts()) {
        let path = ReversePath::parse(format!("<{from}@{host}>")).expect("a path");
        let (name, value) = only_field(smtp_core::return_path(&path).as_bytes());
        prop_assert_eq!(name, "Return-Path");
        prop_assert_eq!(ReversePath::parse(value).expect("a path again"), path);
    }
}

/// Notes what it is asked, and knows everybody.
#[derive(Clone, Default)]
struct Everybody(Arc<Mutex<Vec<ForwardPath>>>);

#[async_trait]
impl RecipientLookup for Everybody {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        self.0.lock().expect("no panic").push(to.clone());
        Ok(Lookup::Mailbox)
    }
}

/// D-12, D-13: lookups and deliveries see hostile mailboxes only as values of the grammar, and as they were sent.
#[tokio::test(start_paused = true)]
async fn d12_d13_hostile_mailboxes_arrive_as_validated_values_or_not_at_all() {
    let long = "x".repeat(300);
    let long_mailbox = format!("{long}@example.org");
    let rows: Vec<(&str, Option<&str>)> = vec![
        ("../../x@example.org", None),
        ("\"../../x\"@example.org", Some("../../x")),
        ("a/b@example.org", Some("a/b")),
        ("/etc/passwd@example.org", Some("/etc/passwd")),
        (".@example.org", None),
        ("..@example.org", None),
        ("\".\"@example.org", Some(".")),
        ("\"..\"@example.org", Some("..")),
        ("@example.org", None),
        ("\"\"@example.org", Some("")),
        ("a\0b@example.org", None),
        ("\"a\0b\"@example.org", None),
        ("%2e%2e@example.org", Some("%2e%2e")),
        ("%2e%2e%2fx@example.org", Some("%2e%2e%2fx")),
        ("nul@example.org", Some("nul")),
        ("\"c:\\\\con\"@example.org", Some("c:\\con")),
        ("alice@..", None),
        ("alice@.", None),
        ("alice@../example.org", None),
        ("alice@example..org", None),
        ("-rf@example.org", Some("-rf")),
        ("${IFS}@example.org", Some("${IFS}")),
        ("`id`@example.org", Some("`id`")),
        ("\"$(id)\"@example.org", Some("$(id)")),
        ("|cmd@example.org", Some("|cmd")),
        ("\"| cmd\"@example.org", Some("| cmd")),
        ("\"*)(uid=*\"@example.org", Some("*)(uid=*")),
        ("'--@example.org", Some("'--")),
        (&long_mailbox, Some(&long)),
    ];
    in_process(async {
        for (input, local_part) in rows {
            let (inbox, everybody) = (Inbox::default(), Everybody::default());
            let server = unbound(builder(&inbox, &Log::default()).recipients(everybody.clone())).await;
            let mut client = open(&server);
            client.greet().await;
            client.ask("MAIL FROM:<>", "250 2.1.0").await;
            client.send(format!("RCPT TO:<{input}>\r\n")).await;
            let Some(local_part) = local_part else {
                client.expect("501 5.1.3").await;
                assert!(everybody.0.lock().expect("no panic").is_empty(), "{input:?}");
                continue;
            };
            let reply = client.reply().await.expect("a reply");
            if reply.starts_with("501 5.1.3") {
                assert!(everybody.0.lock().expect("no panic").is_empty(), "{input:?}");
                continue; // LI1: longer than the RFC obliges us to take.
            }
            assert!(reply.starts_with("250 2.1.5"), "{input:?}: {reply}");
            client.ask("DATA", "354").await;
            client.ask(".", "250 2.0.0").await;
            assert_eq!(everybody.0.lock().expect("no panic")[0].local_part(), local_part, "{input:?}");
            let messages = inbox.messages();
            let mailbox = &messages[0].recipients()[0].mailboxes()[0];
            assert_eq!(mailbox.local_part().as_str(), local_part, "{input:?}");
            assert_eq!(mailbox.domain().map(Domain::as_str), Some("example.org"));
            assert_eq!(Mailbox::parse(mailbox.to_string()).as_ref(), Ok(mailbox), "it can be written and read");
        }
    })
    .await;
}

#[test] // What comes from DNS or from another server is one line, printable and not endless, wherever it is shown.
fn d10_text_of_others_is_one_clean_line() {
    let hostile = format!("mx\r\nX-Evil: 1\0\u{1b}[2J\u{202e}{}", "x".repeat(64 << 10));
    let shown = SafeText::from_octets(hostile.as_bytes());
    assert!(shown.as_str().len() <= SafeText::LIMIT_OCTETS && !shown.as_str().chars().any(char::is_control), "{shown}");
    assert!(!shown.as_str().contains('\u{202e}'));
    let mut reader = ReplyReader::new();
    let mut input = &b"550-no\x1b[2J\0\r\n550 \xff\xfeX: y\r\n"[..];
    let reply = reader.next(&mut input, ReplyLimits::default(), |_, _| ()).expect("whole").expect("in the limits");
    assert!(reply.to_string().bytes().all(|octet| matches!(octet, b' '..=b'~')), "{reply}");
    let field = HeaderField::new("X-Remote", shown.as_str()).expect("it is clean");
    let text = field.to_string();
    assert!(text.split("\r\n").skip(1).all(|line| line.starts_with(' ')), "one field: {text}");
    for name in ["mx\r\nRCPT.example", "mx\0.example", "mx\u{1b}.example"] {
        assert!(Domain::parse(name).is_err() && Host::parse(name).is_err(), "{name:?}");
    }
}
