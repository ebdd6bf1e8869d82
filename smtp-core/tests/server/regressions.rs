//! Faults that reviews found once, each with the case that showed it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use smtp_core::{
    Accepted, ConnectionLimits, ContentSettings, IpNet, Limits, Listener, Message, Policy, PolicyContext, Server,
    ServerBuilder, SessionEvent, Stages, Verdict, async_trait,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, in_process, open, start, unbound};

/// Continues, after a while.
struct Slow(Stages, Duration);

#[async_trait]
impl Policy for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn stages(&self) -> Stages {
        self.0
    }

    async fn connect(&self, _: &mut PolicyContext<'_>) -> Verdict {
        tokio::time::sleep(self.1).await;
        Verdict::Continue
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, _: &smtp_core::Content) -> Verdict {
        let removed = cx.remove_header("Authentication-Results");
        assert!(removed.is_ok(), "a name of a header field");
        Verdict::Continue
    }
}

fn stored(message: &Message) -> String {
    let mut octets = Vec::new();
    message.reader().expect("in memory").read_to_end(&mut octets).expect("in memory");
    String::from_utf8_lossy(&octets).into_owned()
}

#[tokio::test] // D-30, LI18: whoever is turned away and floods us is cut off, and takes no thread with it.
async fn d30_a_refused_client_that_floods_is_cut_off() {
    let mut connections = ConnectionLimits::default();
    connections.total = 1;
    let server = start(builder(&Inbox::default(), &Log::default()).connection_limits(connections)).await;
    let mut admitted = Client::connect(server.address).await;
    admitted.greet().await;
    let mut flooder = TcpStream::connect(server.address).await.expect("the server listens");
    let flood = tokio::spawn(async move {
        let octets = vec![b'x'; 1 << 16];
        let mut sent = 0_u64;
        while sent < 1 << 30 && flooder.write_all(&octets).await.is_ok() {
            sent += octets.len() as u64;
        }
        sent
    });
    for _ in 0..50 {
        admitted.ask("NOOP", "250").await;
    }
    let sent = flood.await.expect("no panic");
    assert!(sent < 64 << 20, "{sent} octets were taken from a client that was refused");
}

#[tokio::test(start_paused = true)] // D-3: however long the hook takes that comes before the reply.
async fn d3_a_slow_hook_does_not_disarm_the_check_for_early_talkers() {
    for milliseconds in [0, 500, 1500, 5000] {
        let policy = Slow(Stages::CONNECT, Duration::from_millis(milliseconds));
        let builder = builder(&Inbox::default(), &Log::default()).policy(policy);
        in_process(async {
            let mut client = open(&unbound(builder).await);
            client.send("EHLO client.example\r\n").await;
            client.expect("554 5.5.0").await;
            client.expect_closed().await;
        })
        .await;
    }
}

#[tokio::test] // D-20, S26: in whatever way a client sends a credential, it reaches no event.
async fn s26_credentials_reach_no_event() {
    for octets in [
        "EHLO x\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n",
        "AUTH\tPLAIN AGFsaWNlAHNlY3JldA==\r\n",
        "AUTH\tLOGIN\r\nAGFsaWNlAHNlY3JldA==\r\n",
        "EHLO x\r\n",
    ] {
        let (inbox, log) = (Inbox::default(), Log::default());
        let builder = builder(&inbox, &log);
        in_process(async {
            let mut client = open(&unbound(builder).await);
            client.expect("220").await;
            client.send(octets).await;
            client.send("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nAGFsaWNlAHNlY3JldA==\r\nQUIT\r\n").await;
            while client.reply().await.is_some() {}
        })
        .await;
        let events = format!("{:?}", log.events());
        assert!(!events.contains("AGFsaWNl"), "{octets:?}: {events}");
    }
}

/// How long a message of that content takes, with memory spent or not.
async fn time_of(content: &str, budget_octets: usize) -> Duration {
    let mut settings = ContentSettings::default();
    settings.budget_octets = budget_octets;
    let inbox = Inbox::default();
    let builder = builder(&inbox, &Log::default()).content(settings);
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.greet().await;
        client.begin_content().await;
        let start = Instant::now();
        client.send(content).await;
        client.expect("250 2.0.0").await;
        start.elapsed()
    })
    .await
}

#[tokio::test] // D-33, D-46: with memory spent, small pieces are still collected before they are written.
async fn d46_dots_are_not_written_one_by_one_when_memory_is_spent() {
    let dots = format!("Subject: dots\r\n\r\n{}.\r\n", "..\r\n".repeat(50_000));
    let (spent, free) = (time_of(&dots, 0).await, time_of(&dots, 1 << 30).await);
    assert!(spent < free * 8, "{spent:?} with memory spent, {free:?} with memory free");
}

#[tokio::test(start_paused = true)] // G4: "no limit" is a limit that never comes, and no panic.
async fn g4_the_longest_durations_are_no_overflow() {
    let mut limits = Limits::default();
    limits.session = Duration::MAX;
    limits.session_without_message = Duration::MAX;
    limits.command_timeout = Duration::MAX;
    limits.content_timeout = Duration::MAX;
    limits.error_delay = Duration::from_secs(1);
    limits.hook_timeout = Duration::MAX;
    limits.message_timeout = Duration::MAX;
    limits.deliver_timeout = Duration::MAX;
    limits.write_timeout = Duration::MAX;
    limits.linger = Duration::MAX;
    let inbox = Inbox::default();
    let builder = builder(&inbox, &Log::default()).limits(limits);
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.greet().await;
        for _ in 0..12 {
            client.ask("FOO", "500 5.5.1").await;
        }
        client.send_message().await;
        client.expect("250 2.0.0").await;
        client.ask("QUIT", "221").await;
    })
    .await;
    assert_eq!(inbox.len(), 1);
}

#[test] // D-31: whatever achieves nothing is counted.
fn d31_refused_sizes_and_empty_transactions_are_counted() {
    for (before, line) in [("", "MAIL FROM:<> SIZE=99999999999\r\n"), ("MAIL FROM:<>\r\n", "DATA\r\n")] {
        let mut machine = Machine::new(config());
        machine.replies("");
        machine.replies("EHLO client.example\r\n");
        machine.replies(before);
        let last = (0..200).map(|_| machine.replies(line)).find(|replies| replies == &["421 4.7.0"]);
        assert!(last.is_some(), "{line:?} is answered for ever");
    }
}

#[tokio::test] // S29, D-11: what the client calls itself never empties our trace field, and its content never continues it.
async fn d11_received_is_whole_whatever_the_client_says() {
    let inbox = Inbox::default();
    let builder = builder(&inbox, &Log::default());
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.expect("220").await;
        client.ask(&format!("EHLO [x:{}]", "a".repeat(1100)), "501 5.5.2").await;
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
        client.ask(&format!("EHLO {longest}"), "250").await;
        client.ask(&format!("MAIL FROM:<{}@client.example>", "a".repeat(1000)), "250").await;
        client.ask("RCPT TO:<alice@example.org>", "250").await;
        client.ask("DATA", "354").await;
        client.send("Subject: s\r\n\r\nx\r\n.\r\n").await;
        client.expect("250").await;
        client.begin_content().await;
        client.send(" (forged) continuation\r\nSubject: s\r\n\r\nx\r\n.\r\n").await;
        client.expect("554 5.6.0").await;
    })
    .await;
    let received = stored(&inbox.messages()[0]);
    assert!(received.starts_with("Received: from ") && received.contains("[192.0.2.1]"), "{received}");
    assert_eq!(inbox.len(), 1);
}

#[tokio::test] // R8601: a line that is no field does not hide the fields behind it.
async fn d24_a_removed_field_is_removed_wherever_it_stands() {
    let inbox = Inbox::default();
    let builder = builder(&inbox, &Log::default()).policy(Slow(Stages::MESSAGE, Duration::ZERO));
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.greet().await;
        client.begin_content().await;
        client.send("no field\r\nAuthentication-Results: forged\r\n forged\r\nSubject: s\r\n\r\nx\r\n.\r\n").await;
        client.expect("250").await;
    })
    .await;
    let text = stored(&inbox.messages()[0]);
    assert!(text.ends_with("no field\r\nSubject: s\r\n\r\nx\r\n") && !text.contains("forged"), "{text}");
}

#[tokio::test] // D-30, TO8: those who are idle when stress begins are the ones it must reach.
async fn d30_stress_reaches_sessions_that_are_already_idle() {
    let mut connections = ConnectionLimits::default();
    connections.total = 10;
    let mut limits = Limits::default();
    limits.command_timeout_under_stress = Duration::from_millis(300);
    let log = Log::default();
    let server = start(builder(&Inbox::default(), &log).connection_limits(connections).limits(limits)).await;
    let mut idle = Vec::new();
    for _ in 0..9 {
        let mut client = Client::connect(server.address).await;
        client.greet().await;
        idle.push(client);
    }
    for client in &mut idle {
        client.expect("421 4.4.2").await;
    }
}

#[tokio::test(start_paused = true)] // R2920: what was said before a half-close is answered, late or not.
async fn r2920_a_half_close_behind_a_delayed_reply_loses_nothing() {
    let inbox = Inbox::default();
    let builder = builder(&inbox, &Log::default());
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.greet().await;
        client.send(["FOO\r\n".repeat(12).as_str(), "NOOP\r\nQUIT\r\n"].concat()).await;
        client.stream.shutdown().await.expect("a pipe can be half-closed");
        for _ in 0..12 {
            client.expect("500").await;
        }
        client.expect("250").await;
        client.expect("221").await;
        client.expect_closed().await;
    })
    .await;
}

#[tokio::test] // LI-memory: the threshold is one, also for clients that announce less than they send.
async fn content_over_the_threshold_lies_in_a_file_whatever_was_announced() {
    let inbox = Inbox::default();
    let builder = builder(&inbox, &Log::default());
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.greet().await;
        client.ask("MAIL FROM:<> SIZE=261000", "250").await;
        client.ask("RCPT TO:<alice@example.org>", "250").await;
        client.ask("DATA", "354").await;
        client.send(format!("Subject: s\r\n\r\n{}.\r\n", "0123456789abcd\r\n".repeat(20_000))).await;
        client.expect("250").await;
    })
    .await;
    assert!(inbox.messages()[0].content().path().is_some());
}

#[test]
fn accepted_counts_the_recipients_that_there_are() {
    let refusal = || smtp_core::Refusal::permanent(1, 1, "No");
    assert!(Accepted::each([Err(refusal())]).is_partial(2));
    assert!(!Accepted::each([Ok(()), Err(refusal())]).is_partial(1));
    assert!(!Accepted::each([Err(refusal()), Err(refusal())]).is_partial(2));
    assert!(!Accepted::all().is_partial(2));
}

#[tokio::test] // D-43: a network wide enough to be an open relay is no configuration.
async fn d43_wide_relay_networks_are_refused() {
    for (network, is_allowed) in [
        ("0.0.0.0/0", false),
        ("8.0.0.0/7", false),
        ("10.0.0.0/8", true),
        ("::/0", false),
        ("2400::/7", false),
        ("2001:db8::/32", true),
        ("fc00::/7", true),
    ] {
        let network: IpNet = network.parse().expect("a network");
        let listener = Listener::new("127.0.0.1:0").relay_for(network);
        let server = builder(&Inbox::default(), &Log::default()).listener(listener).bind().await;
        assert_eq!(server.is_ok(), is_allowed, "{network}");
    }
}

#[tokio::test] // D-15: a lookup that does not know a local domain cannot make us relay to ourselves.
async fn d15_mail_for_a_local_domain_is_never_relayed() {
    let inbox = Inbox::default();
    let builder: ServerBuilder = builder(&inbox, &Log::default())
        .local_domain("local.example")
        .listener(Listener::new("127.0.0.1:0").relay_for("192.0.2.0/24".parse().expect("a network")));
    in_process(async {
        let mut client = open(&unbound(builder).await);
        client.greet().await;
        client.ask("MAIL FROM:<>", "250").await;
        client.ask("RCPT TO:<x@far.example>", "250 2.1.5").await;
        client.ask("RCPT TO:<x@local.example>", "550 5.1.1").await;
    })
    .await;
}

#[test]
fn a_server_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Server>();
    is_shared::<SessionEvent>();
}

#[test] // D-3: an HTTP request is answered once, however slowly it comes, and nothing of its body is read.
fn d3_an_http_request_ends_the_session_at_its_first_line() {
    for request in ["POST / HTTP/1.1\r\n", "GET http://x/ HTTP/1.0\r\n", "CONNECT x:25 http/1.1\r\n"] {
        let mut machine = Machine::new(config());
        machine.replies("");
        assert_eq!(machine.replies(request), ["554 5.5.0"], "{request:?}");
        assert!(machine.replies("EHLO client.example\r\n").is_empty());
    }
}
