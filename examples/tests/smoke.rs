//! Every example starts and does what its first line says; the one in the README is `hello`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An example that runs until the test is over.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    /// Starts an example and waits until it greets.
    fn start(name: &str, arguments: &[&str], address: &str) -> Self {
        let mut path = std::env::current_exe().expect("a test has a path");
        path.pop();
        path.pop();
        let child = Command::new(path.join("examples").join(name))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo builds the examples before it runs this test");
        let example = Self { child, address: address.to_owned() };
        let start = Instant::now();
        // A program that another test starts may hold, for a moment, the socket with which a free port was found.
        while !greets(address) {
            assert!(start.elapsed() < Duration::from_secs(30), "{name} does not listen on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        example
    }

    /// The last line of each reply to these commands, the greeting first.
    fn talk(&self, commands: &[&str]) -> Vec<String> {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a duration above zero");
        let mut reader = BufReader::new(stream.try_clone().expect("a stream can be cloned"));
        let mut replies = vec![last_line(&mut reader)];
        for command in commands {
            stream.write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
            replies.push(last_line(&mut reader));
        }
        replies
    }

    fn first_output(&mut self) -> String {
        let mut line = String::new();
        let output = self.child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("UTF-8");
        line
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn greets(address: &str) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("220 ")
}

fn last_line(reader: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a reply");
        if line.as_bytes().get(3) != Some(&b'-') {
            return line.trim_end().to_owned();
        }
    }
}

fn codes(replies: &[String]) -> Vec<&str> {
    replies.iter().map(|reply| reply.split(' ').next().unwrap_or_default()).collect()
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("bound").to_string()
}

const ENVELOPE: [&str; 2] = ["EHLO client.example", "MAIL FROM:<alice@client.example>"];

#[test]
fn hello_takes_mail_for_its_domain_and_for_no_other() {
    let address = "127.0.0.1:2525";
    if TcpListener::bind(address).is_err() {
        assert!(std::env::var_os("CI").is_none(), "{address} is in use");
        println!("skipped: {address} is in use");
        return;
    }
    let mut hello = Example::start("hello", &[], address);
    let commands = [
        &ENVELOPE[..],
        &["RCPT TO:<bob@other.example>", "RCPT TO:<bob@example.org>", "DATA", "Subject: hi\r\n\r\nhello\r\n.", "QUIT"],
    ]
    .concat();
    let replies = hello.talk(&commands);
    assert_eq!(codes(&replies), ["220", "250", "250", "550", "250", "354", "250", "221"], "{replies:?}");
    assert_eq!(replies[3], "550 5.7.1 Relaying denied");
    assert_eq!(hello.first_output(), "<alice@client.example> -> [<bob@example.org>]: 22 octets\n");
}

#[test]
fn hooks_knows_its_users_and_its_limit() {
    let address = free_address();
    let hooks = Example::start("hooks", &[&address], &address);
    let commands = [
        &ENVELOPE[..],
        &["RCPT TO:<nobody@example.org>", "RCPT TO:<alice@other.example>", "RCPT TO:<Alice@example.org>"],
        &[
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<bob@example.org>",
            "RCPT TO:<postmaster>",
        ],
    ]
    .concat();
    let replies = hooks.talk(&commands);
    assert_eq!(codes(&replies), ["220", "250", "250", "550", "550", "250", "250", "250", "451", "250"], "{replies:?}");
}

#[test]
fn mx_judges_keeps_and_delivers() {
    let address = free_address();
    let data = tempfile::tempdir().expect("a directory");
    let directory = data.path().to_str().expect("UTF-8");
    // No name server answers there: what is not known refuses nobody for good, and the null reverse-path needs none.
    let mx = Example::start("mx", &[&address, directory, "127.0.0.1:1"], &address);
    let content = "From: <bob@client.example>\r\n\r\nhello\r\n.";
    let commands = [
        &["EHLO client.example", "MAIL FROM:<>", "RCPT TO:<nobody@example.org>", "RCPT TO:<bob@other.example>"],
        &["RCPT TO:<alice@example.org>", "DATA", content, "QUIT"][..],
    ]
    .concat();
    let replies = mx.talk(&commands);
    assert_eq!(codes(&replies), ["220", "250", "250", "550", "550", "250", "354", "250", "221"], "{replies:?}");
    let inbox = data.path().join("example.org/alice/new");
    let start = Instant::now();
    let delivered = loop {
        let found = std::fs::read_dir(&inbox).ok().and_then(|mut found| found.next());
        assert!(start.elapsed() < Duration::from_secs(30), "nothing in {}", inbox.display());
        match found {
            Some(found) => break std::fs::read_to_string(found.expect("a file").path()).expect("text"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(delivered.contains("Authentication-Results: mx.example.org;"), "{delivered}");
}

#[test]
fn sink_takes_everything() {
    let address = free_address();
    let sink = Example::start("sink", &[&address], &address);
    let commands = [&ENVELOPE[..], &["RCPT TO:<anybody@any.example>", "DATA", ".", "QUIT"]].concat();
    let replies = sink.talk(&commands);
    assert_eq!(codes(&replies), ["220", "250", "250", "250", "354", "250", "221"], "{replies:?}");
}

#[test]
fn send_says_what_became_of_each_recipient() {
    let address = free_address();
    let _hooks = Example::start("hooks", &[&address], &address);
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    let mut send = Command::new(path.join("examples").join("send"))
        .args([&address, "alice@client.example", "alice@example.org", "nobody@example.org"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo builds the examples before it runs this test");
    send.stdin.take().expect("piped").write_all(b"Hello\n.\n").expect("it reads");
    let output = send.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("<alice@example.org>: 250 2.0.0 "), "{text}");
    assert_eq!(lines[1], "<nobody@example.org>: RCPT: 550 5.1.1 No such mailbox");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_example_of_the_readme_is_hello_and_has_at_most_15_lines() {
    let readme = include_str!("../../README.md");
    let block =
        readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a Rust block");
    let program = include_str!("../hello.rs");
    let code = program.split_once("\n\n").expect("the first line says what it is").1;
    assert_eq!(block, code);
    assert!(block.lines().count() <= 15, "{} lines", block.lines().count());
}
