//! SECURITY.md D-29: slow clients, at every stage, on virtual time; and clients that never read.

use std::rc::Rc;
use std::time::Duration;

use smtp_core::{CloseReason, Server, SessionEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::support::client::Client;
use crate::support::world::{Inbox, Log, builder, in_process, open, open_with, unbound};

const MINUTE: Duration = Duration::from_secs(60);

async fn server(inbox: &Inbox, log: &Log) -> Rc<Server> {
    unbound(builder(inbox, log)).await
}

fn is_closed_for(reason: CloseReason) -> impl Fn(&SessionEvent) -> bool {
    move |event| matches!(event, SessionEvent::Closed(why) if *why == reason)
}

/// Sends one octet each `pause` until the server says something; how long that took, and what it said.
async fn trickle(client: &mut Client<DuplexStream>, octets: &[u8], pause: Duration) -> (Duration, String) {
    let begin = Instant::now();
    for &octet in octets.iter().cycle().take(100_000) {
        if client.try_send([octet]).await.is_err() {
            break;
        }
        tokio::select! {
            reply = client.reply() => return (begin.elapsed(), reply.unwrap_or_default()),
            () = sleep(pause) => {}
        }
    }
    (begin.elapsed(), client.reply().await.unwrap_or_default())
}

/// What a client has done when it becomes slow.
async fn reach(client: &mut Client<DuplexStream>, stage: &str) {
    client.expect("220").await;
    if stage == "greeting" {
        return;
    }
    client.ask("EHLO client.example", "250").await;
    if stage == "EHLO" {
        return;
    }
    client.ask("MAIL FROM:<a@client.example>", "250 2.1.0").await;
    client.ask("RCPT TO:<alice@example.org>", "250 2.1.5").await;
}

#[tokio::test(start_paused = true)] // TO8: a command is whole within 5 min, whatever trickles in.
async fn d29_slow_commands_end_after_five_minutes() {
    in_process(async {
        for stage in ["greeting", "EHLO", "RCPT"] {
            for (octets, pause) in [(&b"A"[..], 10), (b"NOOP ", 1), (b"\n", 30), (b"\r", 59)] {
                let (inbox, log) = (Inbox::default(), Log::default());
                let server = server(&inbox, &log).await;
                let mut client = open(&server);
                reach(&mut client, stage).await;
                let (time, reply) = trickle(&mut client, octets, Duration::from_secs(pause)).await;
                assert!(reply.starts_with("421 4.4.2"), "{stage}, {octets:?}: {reply}");
                assert!((299..=360).contains(&time.as_secs()), "{stage}: {time:?}");
                client.expect_closed().await;
                until_gone(&server).await;
                assert_eq!(log.count(is_closed_for(CloseReason::Timeout)), 1);
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // TO5, TO8: silence.
async fn d29_silent_clients_end_at_the_limit_of_their_stage() {
    in_process(async {
        for (stage, minutes) in [("greeting", 5), ("EHLO", 5), ("RCPT", 5), ("content", 3)] {
            let (inbox, log) = (Inbox::default(), Log::default());
            let server = server(&inbox, &log).await;
            let mut client = open(&server);
            reach(&mut client, stage).await;
            if stage == "content" {
                client.ask("DATA", "354").await;
                client.send("Subject: x\r\n").await;
            }
            let begin = Instant::now();
            client.expect("421 4.4.2").await;
            assert_eq!(begin.elapsed().as_secs() / 60, minutes, "{stage}");
            client.expect_closed().await;
            assert_eq!(inbox.len(), 0);
        }
    })
    .await;
}

/// Sends content at that rate for 20 min, then its end; the reply.
async fn content_at(octets_per_second: usize) -> (Duration, String) {
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = server(&inbox, &log).await;
    let mut client = open(&server);
    reach(&mut client, "RCPT").await;
    client.ask("DATA", "354").await;
    let line = [&vec![b'x'; octets_per_second - 2][..], b"\r\n"].concat();
    client.send("\r\n").await; // No header section, so that its limit (LI8) plays no part.
    let begin = Instant::now();
    for _ in 0..20 * 60 {
        if client.try_send(&line).await.is_err() {
            break;
        }
        tokio::select! {
            reply = client.reply() => return (begin.elapsed(), reply.unwrap_or_default()),
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
    client.send(".\r\n").await;
    (begin.elapsed(), client.reply().await.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn to9_content_below_500_octets_a_second_ends() {
    in_process(async {
        for (rate, is_accepted) in
            [(3, false), (100, false), (400, false), (500, true), (501, true), (600, true), (5000, true)]
        {
            let (time, reply) = content_at(rate).await;
            if is_accepted {
                assert!(reply.starts_with("250 2.0.0"), "{rate}: {reply} after {time:?}");
            } else {
                assert!(reply.starts_with("421 4.4.2"), "{rate}: {reply} after {time:?}");
                assert!(time < 16 * MINUTE, "{rate}: {time:?}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // A fast start is no credit without end: silence ends the content after 3 min.
async fn to9_a_fast_start_does_not_pay_for_silence() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = server(&inbox, &log).await;
        let mut client = open(&server);
        reach(&mut client, "RCPT").await;
        client.ask("DATA", "354").await;
        client.send("x\r\n".repeat(500_000)).await;
        let begin = Instant::now();
        client.expect("421 4.4.2").await;
        assert!(begin.elapsed() <= 4 * MINUTE, "{:?}", begin.elapsed());
    })
    .await;
}

/// Waits until the session is gone; how long that took.
async fn until_gone(server: &Rc<Server>) -> Duration {
    let begin = Instant::now();
    sleep(Duration::from_secs(1)).await; // The session starts.
    for _ in 0..100_000 {
        if server.handle().connections() == 0 {
            return begin.elapsed();
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("the session never ends");
}

#[tokio::test(start_paused = true)] // The write time limit: who does not read is not waited for.
async fn d29_clients_that_never_read_are_ended() {
    in_process(async {
        let rcpt = "RCPT TO:<alice@example.org>\r\n".repeat(900);
        let group = format!("MAIL FROM:<a@client.example>\r\n{rcpt}DATA\r\n");
        for (what, pipe, greets, octets) in [
            ("the greeting", 8, false, String::new()),
            ("the reply to EHLO", 64, true, "EHLO client.example\r\n".to_owned()),
            ("the replies to a group", 1024, true, group),
            ("the replies to junk", 64, true, "x\r\n".repeat(10)),
        ] {
            let (inbox, log) = (Inbox::default(), Log::default());
            let server = server(&inbox, &log).await;
            let mut client = open_with(&server, pipe);
            if greets {
                client.expect("220").await;
                let (_read, mut write) = tokio::io::split(client.stream);
                let hello = if what == "the replies to a group" { "EHLO c.example\r\n" } else { "" };
                let keep = async {
                    let _ = write.write_all(hello.as_bytes()).await;
                    sleep(Duration::from_secs(1)).await;
                    let _ = write.write_all(octets.as_bytes()).await;
                    std::future::pending::<()>().await;
                };
                let time = tokio::select! { () = keep => unreachable!(), time = until_gone(&server) => time };
                assert!(time <= 6 * MINUTE, "{what}: {time:?}");
            } else {
                let time = until_gone(&server).await;
                assert!(time <= 6 * MINUTE, "{what}: {time:?}");
                drop(client);
            }
            assert_eq!(inbox.len(), 0, "{what}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)] // One octet a minute is not reading.
async fn d29_clients_that_read_too_slowly_are_ended() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = server(&inbox, &log).await;
        let mut client = open_with(&server, 16);
        let read = async {
            for _ in 0..1000 {
                let mut octet = [0];
                if !matches!(client.stream.read(&mut octet).await, Ok(1)) {
                    break;
                }
                sleep(MINUTE).await;
            }
        };
        let time = tokio::select! { time = until_gone(&server) => time, () = read => until_gone(&server).await };
        assert!(time <= 10 * MINUTE, "{time:?}");
        assert_eq!(log.count(is_closed_for(CloseReason::Network)), 1, "{:?}", log.events());
    })
    .await;
}

#[tokio::test(start_paused = true)] // LI15, D-31: a session that achieves nothing ends after an hour, however busy.
async fn li15_a_session_without_a_message_ends_after_an_hour() {
    in_process(async {
        let (inbox, log) = (Inbox::default(), Log::default());
        let server = server(&inbox, &log).await;
        let mut client = open(&server);
        client.greet().await;
        let begin = Instant::now();
        let mut last = String::new();
        for _ in 0..30 {
            if client.try_send("NOOP\r\n").await.is_err() {
                break;
            }
            last = client.reply().await.expect("a reply");
            if !last.starts_with("250") {
                break;
            }
            tokio::select! {
                reply = client.reply() => { last = reply.expect("a reply"); break }
                () = sleep(4 * MINUTE) => {}
            }
        }
        assert!(last.starts_with("421 4.4.2"), "{last}");
        assert_eq!(begin.elapsed().as_secs() / 60, 60);
    })
    .await;
}
