//! Callouts as those see them who are called, and as clients see what comes of them (PRACTICES S40, S44; SECURITY D-27, D-51).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use smtp_core::{ClientConfig, Policy, ResolverTable, Stages};
use smtp_policy::{Action, CallForward, Callouts, Chain, Greylist, MemoryStateStore, Preset, Rate};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::support::{converse, converse_about, message, table};

/// A mail server that answers as it is told, and keeps what it was told.
struct Called {
    address: SocketAddr,
    sessions: Arc<Mutex<Vec<Vec<String>>>>,
}

/// Its reply to a line; nothing: it does not answer.
type Answering = fn(&str) -> &'static str;

impl Called {
    async fn start(greeting: &'static str, answer: Answering) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let sessions: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let all = sessions.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut sessions = all.lock().unwrap_or_else(PoisonError::into_inner);
                    sessions.push(Vec::new());
                    sessions.len() - 1
                };
                let all = all.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut said = greeting;
                    loop {
                        if !said.is_empty() && stream.write_all(format!("{said}\r\n").as_bytes()).await.is_err() {
                            return;
                        }
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let line = line.trim_end().to_owned();
                        said = answer(&line);
                        all.lock().unwrap_or_else(PoisonError::into_inner)[number].push(line);
                    }
                });
            }
        });
        Self { address, sessions }
    }

    fn sessions(&self) -> Vec<Vec<String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Knows `good@`, and offers what tempts a client to send `DATA` early.
fn usual(line: &str) -> &'static str {
    match line.get(..4) {
        Some("EHLO") => "250-victim.example\r\n250-CHUNKING\r\n250 PIPELINING",
        Some("RCPT") if line.contains("<good@") => "250 2.1.5 Ok",
        Some("RCPT") => "550 5.1.1 No such mailbox",
        Some("QUIT") => "221 2.0.0 Bye",
        _ => "250 2.0.0 Ok",
    }
}

const GREETING: &str = "220 victim.example ESMTP";

fn dns() -> ResolverTable {
    ResolverTable::new()
        .with_mx("plain.example", 20, "second.plain.example")
        .with_mx("plain.example", 10, "mx.plain.example")
        .with_address("mx.plain.example", "203.0.113.1")
        .with_address("bare.example", "203.0.113.2")
        .with_mx("spf.example", 10, "mx.plain.example")
        .with_txt("spf.example", "other words")
        .with_txt("spf.example", "v=spf1 ?all")
        .with_txt("words.example", "v=spf10 are other words")
        .with_mx("words.example", 10, "mx.plain.example")
        .with_mx("null.example", 0, ".")
        .with_mx("example.org", 10, "mx.plain.example")
        .with_unknown("slow.example")
}

fn config() -> ClientConfig {
    ClientConfig::new("mx.example.org").expect("a name")
}

fn callouts(dns: ResolverTable, called: &Called) -> Callouts {
    Callouts::new(dns, MemoryStateStore::new(), config())
        .with_domain("example.org".parse().expect("a domain"))
        .to_address(called.address)
}

/// A chain with both checks under that action.
fn chain(callouts: &Callouts, action: Action) -> Arc<Chain> {
    let chain = Chain::new("callouts", Preset::Bcp).with(callouts.of_senders());
    Arc::new(chain.with_action("callout-sender", action).expect("a practice"))
}

fn mail<'a>(from: &'a str, recipient: &'a str) -> Vec<&'a str> {
    vec!["EHLO client.example", from, recipient, "RSET"]
}

const USER: &str = "RCPT TO:<user@example.org>";

#[tokio::test] // PRACTICES S40: `MAIL FROM:<>`, never `DATA`, 450 4.1.8, cached
async fn s40_a_sender_is_asked_about_once_and_deferred_where_its_domain_does_not_know_it() {
    let called = Called::start(GREETING, usual).await;
    let chain = chain(&callouts(dns(), &called), Action::Defer);
    for (from, reply) in [
        ("MAIL FROM:<bad@plain.example>", "450 4.1.8 The sender cannot be verified"),
        ("MAIL FROM:<good@plain.example>", "250 "),
        ("MAIL FROM:<good@bare.example>", "250 "),
        ("MAIL FROM:<bad@words.example>", "450 4.1.8 "),
    ] {
        for _ in 0..3 {
            let seen = converse(vec![chain.clone()], "192.0.2.1", &mail(from, USER)).await;
            assert!(seen.replies[0].starts_with("250 ") && seen.replies[1].starts_with(reply), "{from}: {seen:?}");
        }
    }
    let sessions = called.sessions();
    assert_eq!(sessions.len(), 4, "each was asked about once: {sessions:?}");
    for (session, about) in sessions.iter().zip(["bad@plain", "good@plain", "good@bare", "bad@words"]) {
        let rcpt = format!("RCPT TO:<{about}.example>");
        assert_eq!(session[..], ["EHLO mx.example.org", "MAIL FROM:<>", &rcpt, "RSET", "QUIT"]);
    }
}

#[tokio::test] // PRACTICES S40, P4: never for `<>`, for domains with SPF, for ours, for role mailboxes, for literals
async fn s40_who_need_not_be_asked_about_is_not() {
    let called = Called::start(GREETING, usual).await;
    let callouts = callouts(dns(), &called);
    let both = Chain::new("callouts", Preset::Bcp).with(callouts.of_senders()).with(callouts.of_clients());
    let both = both.with_action("callout-sender", Action::Defer).expect("a practice");
    let chain = Arc::new(both.with_action("callout-client", Action::Defer).expect("a practice"));
    for (from, to) in [
        ("MAIL FROM:<>", USER),
        ("MAIL FROM:<bad@spf.example>", USER),
        ("MAIL FROM:<bad@EXAMPLE.org>", USER),
        ("MAIL FROM:<bad@[203.0.113.1]>", USER),
        ("MAIL FROM:<bad@null.example>", USER),
        ("MAIL FROM:<bad@gone.example>", USER),
        ("MAIL FROM:<bad@slow.example>", USER),
    ] {
        let seen = converse(vec![chain.clone()], "127.0.0.9", &mail(from, to)).await;
        assert!(seen.replies[1].starts_with("250 "), "{from}: {seen:?}");
    }
    for to in ["RCPT TO:<postmaster>", "RCPT TO:<abuse@example.org>", "RCPT TO:<nobody@example.org>"] {
        converse(vec![chain.clone()], "192.0.2.1", &mail("MAIL FROM:<bad@plain.example>", to)).await;
    }
    assert_eq!(called.sessions().len(), 0, "{:?}", called.sessions());
}

#[tokio::test] // PRACTICES S40: off / off / off
async fn s40_every_preset_calls_nobody() {
    let called = Called::start(GREETING, usual).await;
    let callouts = callouts(dns(), &called);
    for preset in Preset::ALL {
        let chain = Chain::new("off", preset).with(callouts.of_senders()).with(callouts.of_clients());
        assert_eq!(chain.stages(), Stages::NONE, "{preset:?}");
        let lines = message(&[USER], "\r\nx");
        assert_eq!(converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await.delivered.len(), 1);
    }
    assert!(called.sessions().is_empty());
}

#[tokio::test] // PRACTICES S40: the result only scores or defers
async fn s40_no_action_makes_a_permanent_refusal_of_it() {
    let called = Called::start(GREETING, usual).await;
    let callouts = callouts(dns(), &called);
    for action in Action::ALL {
        let seen =
            converse(vec![chain(&callouts, action)], "192.0.2.1", &mail("MAIL FROM:<bad@plain.example>", USER)).await;
        let expected = if action >= Action::Defer { "450 4.1.8" } else { "250" };
        assert!(seen.replies[1].starts_with(expected), "{action}: {seen:?}");
    }
}

/// A server that answers so to `MAIL` and `RCPT`.
macro_rules! answering {
    ($mail:literal, $rcpt:literal) => {
        |line: &str| match line.get(..4) {
            Some("MAIL") => $mail,
            Some("RCPT") => $rcpt,
            _ => "250 Ok",
        }
    };
}

#[tokio::test] // SECURITY D-51, PRACTICES P5
async fn d51_only_the_word_no_such_mailbox_is_remembered_as_that() {
    let servers: [(&'static str, Answering, &str); 14] = [
        (GREETING, answering!("250 Ok", "550 5.1.1 No such mailbox"), "450"),
        (GREETING, answering!("250 Ok", "550 5.1.10 Null MX"), "450"),
        (GREETING, answering!("250 Ok", "550 User unknown"), "450"),
        (GREETING, answering!("250 Ok", "551 User not local"), "450"),
        (GREETING, answering!("250 Ok", "250 Ok"), "250"),
        // What follows says nothing about the mailbox.
        (GREETING, answering!("250 Ok", "550 5.7.1 Blocked"), "250"),
        (GREETING, answering!("250 Ok", "554 5.7.1 Spam"), "250"),
        (GREETING, answering!("250 Ok", "550 5.1.8 Your domain"), "250"),
        (GREETING, answering!("250 Ok", "552 5.2.2 Full"), "250"),
        (GREETING, answering!("250 Ok", "451 4.7.1 Greylisted"), "250"),
        (GREETING, answering!("250 Ok", "503 5.5.1 What?"), "250"),
        (GREETING, answering!("550 5.1.1 No <> here", "550 5.1.1 No"), "250"),
        (GREETING, answering!("250 Ok", "421 4.3.2 Bye"), "250"),
        ("554 5.7.1 Not you", usual, "250"),
    ];
    for (place, (greeting, answer, expected)) in servers.into_iter().enumerate() {
        let called = Called::start(greeting, answer).await;
        let callouts = callouts(dns(), &called);
        let chain = chain(&callouts, Action::Defer);
        for _ in 0..2 {
            let lines = mail("MAIL FROM:<bad@plain.example>", USER);
            let seen = converse(vec![chain.clone()], "192.0.2.1", &lines).await;
            assert!(seen.replies[1].starts_with(expected), "{place}: {seen:?}");
        }
        assert_eq!(called.sessions().len(), 1, "{place}: who gives no answer is left alone for a while");
    }
}

#[tokio::test(start_paused = true)] // PRACTICES P5
async fn p5_a_server_that_is_silent_is_not_waited_for_and_refuses_nobody() {
    let silent: [(&'static str, Answering); 3] =
        [("", usual), (GREETING, |_| ""), (GREETING, answering!("250 Ok", ""))];
    for (greeting, answer) in silent {
        let called = Called::start(greeting, answer).await;
        let begun = tokio::time::Instant::now();
        let lines = mail("MAIL FROM:<bad@plain.example>", USER);
        let seen = converse(vec![chain(&callouts(dns(), &called), Action::Defer)], "192.0.2.1", &lines).await;
        assert!(seen.replies[1].starts_with("250 "), "{seen:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[tokio::test] // PRACTICES S40: 31 days good, 3 days bad
async fn s40_good_answers_hold_for_31_days_and_bad_ones_for_3() {
    let (day, now) = (24 * 60 * 60, Arc::new(AtomicU64::new(1_000_000_000)));
    let called = Called::start(GREETING, usual).await;
    let clock = now.clone();
    let time = move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed));
    let chain = chain(&callouts(dns(), &called).with_clock(time), Action::Score);
    for (from, days) in [("MAIL FROM:<good@plain.example>", 31), ("MAIL FROM:<bad@plain.example>", 3)] {
        let start = now.load(Ordering::Relaxed);
        for (seconds, calls) in [(0, 1), (days * day - 1, 1), (days * day, 2)] {
            now.store(start + seconds, Ordering::Relaxed);
            let before = called.sessions().len();
            converse(vec![chain.clone()], "192.0.2.1", &mail(from, USER)).await;
            let expected = usize::from(seconds == 0 || calls == 2);
            assert_eq!(called.sessions().len() - before, expected, "{from} after {seconds} s");
        }
    }
}

#[tokio::test] // PRACTICES S40: a banner probe of the client's address
async fn s40_a_client_is_asked_for_its_banner() {
    for (greeting, expected) in [(GREETING, "250 "), ("554 5.7.1 Not you", "250 "), ("hello there", "450 4.1.8 ")] {
        let called = Called::start(greeting, usual).await;
        let callouts = callouts(dns(), &called);
        let chain = Chain::new("callouts", Preset::Bcp).with(callouts.of_clients());
        let chain = Arc::new(chain.with_action("callout-client", Action::Defer).expect("a practice"));
        for from in ["MAIL FROM:<a@plain.example>", "MAIL FROM:<b@plain.example>"] {
            let seen = converse(vec![chain.clone()], "192.0.2.1", &mail(from, USER)).await;
            assert!(seen.replies[1].starts_with(expected), "{greeting}: {seen:?}");
        }
        let [session] = &called.sessions()[..] else { panic!("{:?}", called.sessions()) };
        assert!(session.iter().all(|line| line.starts_with("EHLO ") || line == "QUIT"), "{session:?}");
    }
    // Nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let callouts = Callouts::new(dns(), MemoryStateStore::new(), config()).to_address(address);
    let chain = Chain::new("callouts", Preset::Bcp).with(callouts.of_clients());
    let chain = Arc::new(chain.with_action("callout-client", Action::Defer).expect("a practice"));
    let seen = converse(vec![chain], "192.0.2.1", &mail("MAIL FROM:<a@plain.example>", USER)).await;
    assert!(seen.replies[1].starts_with("450 4.1.8 "), "{seen:?}");
}

#[tokio::test] // SECURITY D-34: loopback, own, unspecified, private and multicast targets are refused
async fn d34_nobody_makes_us_call_an_address_that_is_not_of_the_internet() {
    let called = Called::start(GREETING, usual).await;
    // The last is ours: the client came to it.
    for address in ["127.0.0.1", "::1", "0.0.0.0", "::", "10.1.2.3", "169.254.169.254", "224.0.0.1", "192.0.2.25"] {
        let dns = ResolverTable::new()
            .with_mx("inside.example", 10, "mx.inside.example")
            .with_address("mx.inside.example", address)
            .with_mx("both.example", 10, "both.both.example")
            .with_address("both.both.example", address)
            .with_address("both.both.example", "198.51.100.7");
        let callouts = callouts(dns, &called).with_own_network("198.51.100.0/24".parse().expect("a network"));
        for from in ["MAIL FROM:<bad@inside.example>", "MAIL FROM:<bad@both.example>"] {
            let seen = converse(vec![chain(&callouts, Action::Defer)], "192.0.2.1", &mail(from, USER)).await;
            assert!(seen.replies[1].starts_with("250 "), "{address}: {seen:?}");
        }
    }
    assert!(called.sessions().is_empty(), "{:?}", called.sessions());
}

/// Senders of one victim, by any number of domains.
async fn forged(messages: usize, domains: usize) -> (usize, usize) {
    let called = Called::start(GREETING, usual).await;
    let mut dns = ResolverTable::new();
    for domain in 0..domains {
        // All its domains are at addresses of one network.
        let name = format!("victim{domain}.example");
        dns = dns.with_address(&name, &format!("203.0.113.{}", domain % 250 + 1));
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let each = Rate::new(60, Duration::from_secs(3600)).with_burst(7);
    let callouts = callouts(dns, &called).with_clock(move || now).with_rate_for_each(each);
    let chain = chain(&callouts, Action::Score);
    let sessions = (0..messages).step_by(80).map(|first| {
        let mut lines = vec!["EHLO client.example".to_owned()];
        for number in first..(first + 80).min(messages) {
            lines.push(format!("MAIL FROM:<forged{number}@victim{}.example>", number % domains));
            lines.extend([USER.to_owned(), "RSET".to_owned()]);
        }
        let chain = chain.clone();
        async move {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let seen = converse(vec![chain], "192.0.2.1", &lines).await;
            seen.replies.iter().filter(|reply| reply.starts_with("250 2.1.5")).count()
        }
    });
    let mut sessions = sessions.collect::<Vec<_>>();
    let mut taken = 0;
    while !sessions.is_empty() {
        let group = sessions.drain(..sessions.len().min(4));
        taken += join_all(group).await.into_iter().sum::<usize>();
    }
    (taken, called.sessions().len())
}

#[tokio::test] // PRACTICES S40, SECURITY D-27 (T24): probes stay under the limit
async fn d27_ten_thousand_forged_reverse_paths_make_few_calls_to_their_victim() {
    // T24 wants 100,000, which `FORGED_MESSAGES` can say.
    let messages = std::env::var("FORGED_MESSAGES").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000);
    for domains in [1, 100] {
        let (taken, calls) = forged(messages, domains).await;
        assert_eq!(taken, messages, "who cannot be asked about is not refused");
        assert!((1..=7).contains(&calls), "{calls} calls to the victim of {domains} domains");
    }
}

#[tokio::test] // PRACTICES S40: one at a time for each target; rate limited in all
async fn d27_one_callout_at_a_time_and_not_more_than_the_rate() {
    let called = Called::start(GREETING, |line| if line.starts_with("MAIL") { "" } else { "250 Ok" }).await;
    let callouts = callouts(dns(), &called);
    let seen = chain(&callouts, Action::Defer);
    let hanging = converse(vec![seen.clone()], "192.0.2.1", &["EHLO c.example", "MAIL FROM:<a@plain.example>", USER]);
    let others = async {
        while called.sessions().is_empty() {
            tokio::task::yield_now().await;
        }
        let lines = ["EHLO c.example", "MAIL FROM:<b@plain.example>", USER, "RSET", "MAIL FROM:<c@bare.example>", USER];
        converse(vec![seen.clone()], "192.0.2.1", &lines).await
    };
    // What hangs is given up by who waits for it, and its place is free again.
    tokio::select! {
        _ = hanging => panic!("nobody answers"),
        others = others => assert!(others.replies[1].starts_with("250 ") && others.replies[4].starts_with("250 ")),
    }
    assert_eq!(called.sessions().len(), 1, "both hosts are in one network");
    let usual = Called::start(GREETING, usual).await;
    let minute = Duration::from_secs(60);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let callouts = self::callouts(dns(), &usual).with_rate(Rate::new(2, minute)).with_clock(move || now);
    for number in 0..5 {
        let from = format!("MAIL FROM:<bad{number}@plain.example>");
        let seen = converse(vec![chain(&callouts, Action::Defer)], "192.0.2.1", &mail(&from, USER)).await;
        assert!(seen.replies[1].starts_with(if number < 2 { "450 " } else { "250 " }), "{number}: {seen:?}");
    }
    assert_eq!(usual.sessions().len(), 2);
}

#[tokio::test] // PRACTICES S44, P7: others who ask about our recipients get true answers, greylisted or not
async fn s44_callouts_of_others_get_a_true_answer() {
    let called = Called::start(GREETING, usual).await;
    let callouts = callouts(dns(), &called);
    let greylist = Greylist::new(MemoryStateStore::new());
    let chain = Chain::new("all", Preset::BcpStrict).with(callouts.of_senders()).with(callouts.of_clients());
    let chain = chain.with_action("callout-sender", Action::Defer).expect("a practice");
    let chain = chain.with_action("callout-client", Action::Defer).expect("a practice");
    let chain: Arc<dyn Policy> = Arc::new(chain.with(greylist.clone()).with_greylisting(greylist));
    let lines = ["EHLO verifier.example", "MAIL FROM:<>", "RCPT TO:<nobody@example.org>", USER, "RSET", "QUIT"];
    let seen = converse(vec![chain], "192.0.2.1", &lines).await;
    assert!(seen.replies[1].starts_with("550 5.1.1 ") && seen.replies[2].starts_with("451 4.7.1 "), "{seen:?}");
    assert!(called.sessions().is_empty(), "nobody is called because of a callout");
}

/// Says these to a server whose next hop is that one.
async fn forwarded(recipients: &CallForward<smtp_core::MailboxTable>, lines: &[&str]) -> Vec<String> {
    let mut all = vec!["EHLO client.example", "MAIL FROM:<>"];
    all.extend(lines);
    converse_about(recipients.clone(), vec![], "192.0.2.1", &all).await.replies[1..].to_vec()
}

fn at_next_hop(called: &Called) -> CallForward<smtp_core::MailboxTable> {
    let mailbox = |text: &str| text.parse().expect("a mailbox");
    let table = table().with_mailbox(&mailbox("good@example.org")).with_mailbox(&mailbox("bad@example.org"));
    let domain: smtp_core::Domain = "example.org".parse().expect("a domain");
    CallForward::new(table, MemoryStateStore::new(), config()).with_next_hop(&domain, called.address.to_string())
}

#[tokio::test] // PRACTICES S17, S40: unknown at the next hop is 550 5.1.1, trouble is 451
async fn s40_the_next_hop_is_asked_about_recipients() {
    let called = Called::start(GREETING, usual).await;
    let recipients = at_next_hop(&called);
    let lines = [
        "RCPT TO:<good@example.org>",
        "RCPT TO:<bad@example.org>",
        "RCPT TO:<GOOD@EXAMPLE.ORG>",
        "RCPT TO:<good@example.org>",
        "RCPT TO:<bad@example.org>",
        "RCPT TO:<postmaster@example.org>",
        "RCPT TO:<postmaster>",
        "RCPT TO:<x@elsewhere.example>",
    ];
    let replies = forwarded(&recipients, &lines).await;
    for (reply, expected) in
        replies.iter().zip(["250 ", "550 5.1.1 ", "", "250 ", "550 5.1.1 ", "250 ", "250 ", "550 5.7.1 "])
    {
        assert!(reply.starts_with(expected), "{replies:?}");
    }
    let asked: Vec<_> = called.sessions().into_iter().map(|session| session[2].to_lowercase()).collect();
    let good = asked.iter().filter(|line| *line == "rcpt to:<good@example.org>").count();
    assert!(good <= 2 && asked.iter().filter(|line| line.contains("<bad@")).count() == 1, "{asked:?}");
    assert!(asked.len() <= 3, "{asked:?}");
    let trouble: [Answering; 2] = [answering!("250 Ok", "451 4.3.0 Later"), answering!("550 5.7.1 No", "550 5.1.1 No")];
    for answer in trouble {
        let called = Called::start(GREETING, answer).await;
        let replies = forwarded(&at_next_hop(&called), &["RCPT TO:<good@example.org>"]).await;
        assert!(replies[0].starts_with("451 4.3.0 "), "{replies:?}");
    }
    let gone = Called { address: "127.0.0.1:1".parse().expect("an address"), sessions: Arc::default() };
    let replies = forwarded(&at_next_hop(&gone), &["RCPT TO:<good@example.org>"]).await;
    assert!(replies[0].starts_with("451 4.3.0 "), "{replies:?}");
}
