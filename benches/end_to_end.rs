//! What it costs to accept mail: messages for each second over loopback, from one client that sends one after another.
//!
//! The server is complete and runs in tokio with several threads; its delivery drops the message. The client is as
//! plain as it can be, and runs on the same processors: the figures are those of both together. A client that keeps its
//! connection sends a content and the next envelope in one write (RFC 2920), so a message costs it one round trip; one
//! that connects for each message has five.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use smtp_core::{Accepted, Limits, Message, Server};
use tokio::runtime::Runtime;

const ENVELOPE: &str = "MAIL FROM:<alice@client.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::new()?;
    let mut limits = Limits::default();
    limits.transactions = u32::MAX;
    let server = runtime.block_on(
        Server::builder("mx.example.org")
            .local_domain("example.org")
            .deliver(|message: Message| async move {
                drop(message);
                Ok(Accepted::all())
            })
            .limits(limits)
            .listen("127.0.0.1:0"),
    )?;
    let address = server.local_addresses()[0];
    runtime.spawn(server.run());

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("accept");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Elements(1));
    for kib in [1, 10, 100] {
        let content = content(kib << 10);
        let mut client = Client::connect(address)?;
        client.open(ENVELOPE)?;
        let next = format!("{content}{ENVELOPE}");
        group.bench_function(format!("{kib} KiB, one connection"), |bencher| {
            bencher.iter(|| client.open(&next).expect("the server goes on"));
        });
        client.send(&content)?;
        client.expect("250")?;
    }
    let content = content(1 << 10);
    group.bench_function("1 KiB, a connection for each", |bencher| {
        bencher.iter(|| one_message(address, &content).expect("the server goes on"));
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Lines of 72 octets, about so many in all, and the end.
fn content(octets: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(72));
    format!("Subject: hello\r\n\r\n{}.\r\n", line.repeat(octets / line.len()))
}

fn one_message(address: SocketAddr, content: &str) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    client.open(ENVELOPE)?;
    client.send(content)?;
    client.expect("250")?;
    client.send("QUIT\r\n")?;
    client.expect("221")
}

/// A client that trusts the server to answer in order, and notices when it does not.
struct Client {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Client {
    /// Connects and says `EHLO`.
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut client = Self { stream: BufReader::new(stream), line: String::new() };
        client.expect("220")?;
        client.send("EHLO client.example\r\n")?;
        client.expect("250")?;
        Ok(client)
    }

    /// Sends what ends with an envelope, and reads until content is wanted.
    fn open(&mut self, text: &str) -> io::Result<()> {
        self.send(text)?;
        while self.reply()? != 354 {
            if !self.line.starts_with("250") {
                return Err(self.unexpected());
            }
        }
        Ok(())
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    fn expect(&mut self, code: &str) -> io::Result<()> {
        self.reply()?;
        if self.line.starts_with(code) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The code of the next reply; its last line stays in `line`.
    fn reply(&mut self) -> io::Result<u16> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.line.as_bytes().get(3) == Some(&b' ') {
                return self.line[..3].parse().map_err(|_| self.unexpected());
            }
        }
    }

    fn unexpected(&self) -> io::Error {
        io::Error::other(format!("unexpected reply: {}", self.line.trim_end()))
    }
}
