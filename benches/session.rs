//! What the protocol costs without a network: commands for each second through [`ServerSession`], and octets of content
//! for each second through [`DataDecoder`] alone and through a session, in pieces as they come from a socket.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use smtp_core::{
    Accepted, Connection, DataDecoder, Decoded, Domain, Lookup, LookupAnswer, Question, ServerSession, SessionConfig,
    SessionId, Stages, Step, Verdict,
};

/// What a large read gives.
const PIECE_OCTETS: usize = 64 << 10;
const CONTENT_OCTETS: usize = 8 << 20;
const MESSAGES: u64 = 100;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    commands(&mut criterion);
    content(&mut criterion);
    criterion.final_summary();
}

fn commands(criterion: &mut Criterion) {
    let message = "MAIL FROM:<alice@client.example> SIZE=20\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n\
                   Subject: hello\r\n\r\nhello\r\n.\r\n";
    let transcript = format!("EHLO client.example\r\n{}QUIT\r\n", message.repeat(100));
    let mut group = criterion.benchmark_group("session");
    group.sample_size(50).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(2 + 3 * MESSAGES));
    for (name, stages) in [("commands, no policy", Stages::NONE), ("commands, every stage asked", Stages::ALL)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut session = session(stages);
                assert_eq!(feed(&mut session, black_box(transcript.as_bytes())), MESSAGES);
                assert!(session.is_closed());
            });
        });
    }
    group.finish();
}

fn content(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("content");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    for (name, line) in [
        ("lines of 72 octets", format!("{}\r\n", "x".repeat(72))),
        ("lines of 990 octets", format!("{}\r\n", "x".repeat(990))),
        ("a dot before each line", format!("..{}\r\n", "x".repeat(70))),
    ] {
        let wire = format!("Subject: hello\r\n\r\n{}.\r\n", line.repeat(CONTENT_OCTETS / line.len()));
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(format!("decoder alone, {name}"), |bencher| {
            bencher.iter(|| assert!(decode(black_box(wire.as_bytes())) > CONTENT_OCTETS / 10 * 9));
        });
        group.bench_function(format!("session, {name}"), |bencher| {
            bencher.iter(|| {
                let mut session = session(Stages::NONE);
                let envelope = b"EHLO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n";
                feed(&mut session, envelope);
                let delivered: u64 =
                    black_box(wire.as_bytes()).chunks(PIECE_OCTETS).map(|piece| feed(&mut session, piece)).sum();
                assert_eq!(delivered, 1);
            });
        });
    }
    group.finish();
}

fn decode(wire: &[u8]) -> usize {
    let mut decoder = DataDecoder::new();
    let mut octets = 0;
    for mut piece in wire.chunks(PIECE_OCTETS) {
        while let Some(Decoded::Content(content)) = decoder.next(&mut piece) {
            octets += black_box(content).len();
        }
    }
    octets
}

fn session(stages: Stages) -> ServerSession {
    let hostname = Domain::parse("mx.example.org").expect("a domain");
    let config = SessionConfig { stages, refuse_early_talkers: false, ..SessionConfig::new(hostname) };
    let address = SocketAddr::from(([192, 0, 2, 1], 25));
    let connection = Connection::new(SessionId::new(1), address, address);
    ServerSession::new(Arc::new(config), Arc::new(connection), Instant::now())
}

/// Gives the session some input and yes to every question; says how many messages were delivered.
fn feed(session: &mut ServerSession, mut input: &[u8]) -> u64 {
    let now = Instant::now();
    let mut delivered = 0;
    while let Some(step) = session.poll(now, &mut input) {
        match step {
            Step::Content(octets) => {
                black_box(octets);
            }
            Step::Ask(question) => match question {
                Question::Connect(ask) => session.answer(now, ask, Verdict::Continue.into()),
                Question::Helo(ask) => session.answer(now, ask, Verdict::Continue.into()),
                Question::Mail(ask) => session.answer(now, ask, Verdict::Continue.into()),
                Question::Lookup(ask) => {
                    session.answer(now, ask, LookupAnswer { lookup: Ok(Lookup::Mailbox), is_role: false });
                }
                Question::Recipient(ask) => session.answer(now, ask, Verdict::Continue.into()),
                Question::Room(ask) => session.answer(now, ask, Ok(())),
                Question::Message(ask) => session.answer(now, ask, Verdict::Continue.into()),
                Question::Deliver(ask) => {
                    delivered += 1;
                    session.answer(now, ask, Ok(Accepted::all()));
                }
                other => unreachable!("a question of a later version: {other:?}"),
            },
        }
    }
    black_box(session.output());
    session.output_written();
    delivered
}
