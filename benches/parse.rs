//! What it costs to understand a command line or a path, and to write a reply: elements for each second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use smtp_core::{Command, EnhancedStatusCode, ForwardPath, Reply, ReplyCode, ReversePath};

const COMMANDS: [&str; 8] = [
    "EHLO client.example",
    "MAIL FROM:<alice@client.example> SIZE=10240 BODY=8BITMIME",
    "MAIL FROM:<>",
    "RCPT TO:<bob@example.org>",
    "RCPT TO:<postmaster>",
    "DATA",
    "RSET",
    "QUIT",
];

const PATHS: [&str; 6] = [
    "<alice@client.example>",
    "<first.last+tag@mail.sub.domain.example.org>",
    "<\"a quoted \\\"local part\\\"\"@example.org>",
    "<carol@[192.0.2.1]>",
    "<carol@[IPv6:2001:db8::1]>",
    "<@a.example,@b.example:dave@example.org>",
];

/// What a client sends that is not SMTP, or not quite.
const NOT_COMMANDS: [&str; 4] =
    ["GET / HTTP/1.1", "MAIL FROM:alice@client.example", "RCPT TO:<bob@exam ple.org>", "EHLO client_example!"];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("parse");
    group.sample_size(50).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    each(&mut group, "command lines", &COMMANDS, |line| drop(black_box(Command::parse(line.as_bytes()))));
    each(&mut group, "wrong lines", &NOT_COMMANDS, |line| drop(black_box(Command::parse(line.as_bytes()))));
    each(&mut group, "reverse-paths", &PATHS, |path| drop(black_box(ReversePath::parse(path))));
    each(&mut group, "forward-paths", &PATHS, |path| drop(black_box(ForwardPath::parse(path))));
    let mut output = Vec::with_capacity(512);
    each(&mut group, "replies written", &replies(), |reply| {
        output.clear();
        black_box(reply).write_to(&mut output);
        black_box(&output);
    });
    group.finish();
    criterion.final_summary();
}

fn each<T>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, elements: &[T], mut run: impl FnMut(&T)) {
    group.throughput(Throughput::Elements(elements.len() as u64));
    group.bench_function(name, |bencher| bencher.iter(|| black_box(elements).iter().for_each(&mut run)));
}

fn replies() -> [Reply; 3] {
    let reply = |code, (class, subject, detail), text: &'static str| {
        let code = ReplyCode::new(code).expect("a code of the grammar");
        Reply::new(code, EnhancedStatusCode::new(class, subject, detail).expect("a status of the grammar"), text)
    };
    [
        reply(250, (2, 1, 5), "Recipient ok"),
        reply(550, (5, 1, 1), "No such mailbox"),
        Reply::bare(ReplyCode::new(354).expect("a code of the grammar"), "End with <CR><LF>.<CR><LF>"),
    ]
}
