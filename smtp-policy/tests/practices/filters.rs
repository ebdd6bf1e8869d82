//! Filters that answer, lie, hang and leave: what a client of ours is told then (PRACTICES S18, S33; SECURITY D-49, D-50).

use std::sync::Arc;
use std::time::Duration;

use smtp_core::Content;
use smtp_policy::{
    Action, Chain, Clamd, FilterAddress, FilterLimits, Outcome, Preset, Rspamd, Rules, Spamd, Thresholds,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{converse, message};

/// How a filter behaves.
#[derive(Debug, Clone)]
enum Behaviour {
    /// Reads all that is expected, then says this.
    Says(&'static str),
    /// Says this at once and leaves.
    SaysAtOnce(&'static str),
    /// Never says anything.
    Hangs,
    /// Leaves in the middle of the content.
    Leaves,
    /// Talks without end.
    Babbles,
}

/// A filter for one connection; the task gives what it was sent.
async fn filter(behaviour: Behaviour, ends_with: &'static [u8]) -> (FilterAddress, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address").to_string().parse().expect("host and port");
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        serve(stream, behaviour, ends_with).await
    });
    (address, task)
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, ends_with: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    if let Behaviour::SaysAtOnce(answer) = behaviour {
        let _ = stream.write_all(answer.as_bytes()).await;
        return heard;
    }
    let mut chunk = vec![0; 4096];
    while !heard.ends_with(ends_with) {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(read) => heard.extend(&chunk[..read]),
        }
        if matches!(behaviour, Behaviour::Leaves) {
            return heard;
        }
    }
    match behaviour {
        Behaviour::Says(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Behaviour::Hangs => {
            // Until the other side gives up.
            while matches!(stream.read(&mut chunk).await, Ok(1..)) {}
        }
        Behaviour::Babbles => while stream.write_all(&[b'x'; 4096]).await.is_ok() {},
        Behaviour::SaysAtOnce(_) | Behaviour::Leaves => {}
    }
    heard
}

const CONTENT: &str = "Subject: x\r\n\r\nend of it";
/// What a filter of SMTP content hears last of it: the engine ends the last line.
const LAST: &[u8] = b"end of it\r\n";

/// Nobody waits long for one that hangs; the others have time, on a busy machine too.
fn limits(behaviour: &Behaviour) -> FilterLimits {
    let time = if matches!(behaviour, Behaviour::Hangs) { Duration::from_millis(200) } else { Duration::from_secs(60) };
    FilterLimits { time, ..FilterLimits::default() }
}

async fn last_reply(chain: Chain, recipient: &str) -> (String, usize) {
    let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &message(&[recipient], CONTENT)).await;
    (seen.replies.last().cloned().unwrap_or_default(), seen.delivered.len())
}

const USER: &str = "RCPT TO:<user@example.org>";
const POSTMASTER: &str = "RCPT TO:<postmaster@example.org>";

#[tokio::test] // PRACTICES S18
async fn s18_malware_is_refused_for_everybody_and_a_silent_scanner_defers() {
    for (behaviour, recipient, reply) in [
        (Behaviour::Says("stream: OK\0"), USER, "250 "),
        (
            Behaviour::Says("stream: Eicar-Test-Signature FOUND\0"),
            USER,
            "550 5.7.1 Malware found: Eicar-Test-Signature",
        ),
        (Behaviour::Says("stream: Eicar-Test-Signature FOUND\0"), POSTMASTER, "550 5.7.1 Malware found"),
        (Behaviour::SaysAtOnce("INSTREAM size limit exceeded. ERROR\0"), USER, "451 4.7.1 "),
        (Behaviour::SaysAtOnce(""), USER, "451 4.7.1 "),
        (Behaviour::Says("250 OK\r\nstream: OK\0"), USER, "451 4.7.1 "),
        (Behaviour::Hangs, USER, "451 4.7.1 "),
        (Behaviour::Leaves, USER, "451 4.7.1 "),
        (Behaviour::Babbles, USER, "451 4.7.1 "),
    ] {
        let (address, task) = filter(behaviour.clone(), &[0; 4]).await;
        let chain = Chain::new("filters", Preset::Bcp).with(Clamd::new(address).with_limits(limits(&behaviour)));
        let (said, delivered) = last_reply(chain, recipient).await;
        assert!(said.starts_with(reply), "{behaviour:?}: {said}");
        assert_eq!(delivered, usize::from(reply.starts_with('2')), "{behaviour:?}");
        let heard = task.await.expect("it ends");
        if matches!(behaviour, Behaviour::Says(_)) {
            let mut expected = b"zINSTREAM\0".to_vec();
            let content = format!("{CONTENT}\r\n");
            expected.extend(u32::try_from(content.len()).expect("short").to_be_bytes());
            expected.extend(content.as_bytes());
            expected.extend([0; 4]);
            assert_eq!(heard, expected);
        }
    }
}

#[tokio::test] // PRACTICES P1: the operator's choice where the scanner is away
async fn s18_whoever_says_so_lets_mail_through_while_the_scanner_is_away() -> Result<(), smtp_policy::UnknownPractice> {
    // Nobody listens on a port that was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address: FilterAddress = listener.local_addr().expect("bound").to_string().parse().expect("host and port");
    drop(listener);
    for (action, code) in
        [(Action::Observe, "250"), (Action::Tag, "250"), (Action::Defer, "451"), (Action::Reject, "451")]
    {
        let mut chain = Chain::new("filters", Preset::Bcp).with(Clamd::new(address.clone()));
        chain.rules_mut().set_action_for_unknown("malware", action)?;
        let (said, _) = last_reply(chain, USER).await;
        assert!(said.starts_with(code), "{action}: {said}");
    }
    Ok(())
}

#[tokio::test] // PRACTICES S33, P8
async fn s33_the_points_of_spamassassin_are_added_to_the_score() {
    let answer = |points: &str| -> &'static str {
        Box::leak(format!("SPAMD/1.1 0 EX_OK\r\nSpam: True ; {points} / 5.0\r\n\r\nA,B\r\n").into_boxed_str())
    };
    for (behaviour, reply) in [
        (Behaviour::Says(answer("4.9")), "250 "),
        (Behaviour::Says(answer("5.0")), "250 "),
        (Behaviour::Says(answer("12.3")), "550 5.7.1 "),
        (Behaviour::Says("SPAMD/1.0 76 Bad header line\r\n"), "451 4.7.1 "),
        (Behaviour::Hangs, "451 4.7.1 "),
        (Behaviour::Babbles, "451 4.7.1 "),
    ] {
        let (address, task) = filter(behaviour.clone(), LAST).await;
        let chain = Chain::new("filters", Preset::Bcp).with(Spamd::new(address).with_limits(limits(&behaviour)));
        let (said, _) = last_reply(chain, USER).await;
        assert!(said.starts_with(reply), "{behaviour:?}: {said}");
        let heard = String::from_utf8(task.await.expect("it ends")).expect("text");
        assert!(heard.starts_with("SYMBOLS SPAMC/1.5\r\nContent-length: 25\r\n\r\nSubject: x\r\n"), "{heard}");
    }
}

#[tokio::test] // PRACTICES S33
async fn s33_rspamd_decides_by_its_action() {
    let answer = |action: &str| -> &'static str {
        let body = format!(r#"{{"action":"{action}","score":7.0,"symbols":{{"BAYES_SPAM":{{}}}}}}"#);
        let length = body.len();
        Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_boxed_str())
    };
    for (behaviour, reply) in [
        (Behaviour::Says(answer("no action")), "250 "),
        (Behaviour::Says(answer("add header")), "250 "),
        (Behaviour::Says(answer("greylist")), "451 4.7.1 "),
        (Behaviour::Says(answer("reject")), "550 5.7.1 "),
        (
            Behaviour::Says("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
            "451 4.7.1 ",
        ),
        (Behaviour::Says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno answer"), "451 4.7.1 "),
        (Behaviour::Says("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{"), "451 4.7.1 "),
        (Behaviour::Hangs, "451 4.7.1 "),
        (Behaviour::Babbles, "451 4.7.1 "),
    ] {
        let (address, task) = filter(behaviour.clone(), LAST).await;
        let chain = Chain::new("filters", Preset::Bcp).with(Rspamd::new(address).with_limits(limits(&behaviour)));
        let (said, _) = last_reply(chain, USER).await;
        assert!(said.starts_with(reply), "{behaviour:?}: {said}");
        let heard = String::from_utf8(task.await.expect("it ends")).expect("text");
        assert!(heard.starts_with("POST /checkv2 HTTP/1.1\r\n"), "{heard}");
        for field in
            ["ip: 192.0.2.1", "helo: client.example", "from: <sender@client.example>", "rcpt: <user@example.org>"]
        {
            assert!(heard.contains(field), "{field} in {heard}");
        }
    }
}

#[tokio::test]
async fn larger_content_is_not_shown_and_passes() {
    let limits = FilterLimits { octets: 10, ..FilterLimits::default() };
    let nobody: FilterAddress = "127.0.0.1:1".parse().expect("host and port");
    let content = Content::new("more than ten octets");
    let clamd = Clamd::new(nobody.clone()).with_limits(limits).examine_content(&content).await;
    let spamd = Spamd::new(nobody.clone()).with_limits(limits).examine_content(&content, None).await;
    let rspamd = Rspamd::new(nobody).with_limits(limits).examine_content(&content, &[]).await;
    for finding in [clamd, spamd, rspamd.findings()[0].clone()] {
        assert_eq!(finding.outcome(), Outcome::Pass, "{finding}");
    }
}

#[test] // PRACTICES P2, S33
fn s33_by_preset() {
    let rules = |preset| Rules::new(preset).thresholds();
    let off = Thresholds { greylist: None, tag: None, reject: None };
    assert_eq!(rules(Preset::RfcStrict), off);
    for preset in [Preset::Bcp, Preset::BcpStrict] {
        assert_eq!((rules(preset).tag, rules(preset).reject), (Some(5), Some(10)));
    }
}
