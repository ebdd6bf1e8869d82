//! The log never holds up mail.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::common::{Dialogue, mta, wait_until};

#[test] // A pipe that nobody reads takes 64 KiB; then whoever writes to it stands still.
fn a_log_that_nobody_reads_holds_up_no_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = mta();
    command.args(["run", "--listen", "127.0.0.1:0"]).current_dir(directory.path()).env("RUST_LOG", "debug");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("it introduces itself");
    let address = line.split_whitespace().nth(2).and_then(|address| address.parse().ok()).expect("an address");
    let mut session = Dialogue::connect(address);
    session.expect(&[("EHLO client.example", "250")]);
    for _ in 0..200 {
        session.expect(&[
            ("MAIL FROM:<x@client.example>", "250"),
            ("RCPT TO:<alice@localhost>", "250"),
            ("DATA", "354"),
        ]);
        session.expect(&[(".", "250 2.0.0 Ok: queued as ")]);
    }
    drop(session);
    let _ = std::process::Command::new("kill").arg(child.id().to_string()).status();
    // It does not wait for ever for the log either.
    wait_until("it has ended", || child.try_wait().expect("a child").is_some());
    let mut log = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut log).expect("readable");
    let lines = log.matches(": accepted ").count();
    assert!(lines > 0 && lines < 200 && log.len() <= 64 << 10, "the pipe was full: {lines} lines");
}
