//! The program finds nothing wrong with a sound server, and what is wrong with others.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use smtp_core::{Accepted, Message, Server};

/// What the program prints, and whether it was content.
fn ask(server: SocketAddr, arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-conformance"));
    let output = command.arg(server.to_string()).args(arguments).output().expect("it runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.success())
}

#[test]
fn a_sound_server_differs_in_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .deliver(|_message: Message| async move { Ok(Accepted::all()) })
        .listen("127.0.0.1:0");
    let server = runtime.block_on(server).expect("loopback has free ports");
    let address = server.local_addresses()[0];
    runtime.spawn(server.run());

    let (said, is_content) = ask(address, &["--to", "alice@example.org"]);
    assert!(is_content && !said.contains("differs: "), "{said}");
    let rows = said.lines().filter(|line| line.starts_with("RFC ")).count();
    let ok = said.lines().filter(|line| line.ends_with(": ok")).count();
    assert!(rows > 150 && ok > 120, "{rows} rows, {ok} ok");
    assert!(said.lines().any(|line| line.starts_with("| all | ")), "{said}");

    let (said, is_content) = ask(address, &["--rfc", "1870"]);
    assert!(
        is_content && said.lines().filter(|line| line.starts_with("RFC ")).all(|line| line.starts_with("RFC 1870 "))
    );
}

/// A server with the faults of a very old one: any line with a dot alone ends content, however the line before ended;
/// no order of commands; replies without status codes, though they were promised.
fn old_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || old_session(stream));
        }
    });
    address
}

fn old_session(mut stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).split(b'\n');
    let mut in_content = false;
    stream.write_all(b"220 old.example\r\n").ok()?;
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split(' ').next().unwrap_or_default().to_uppercase();
        let reply = match (in_content, &verb[..]) {
            (true, ".") => "250 taken",
            (true, _) => continue,
            (false, "EHLO") => "250-old.example\r\n250 ENHANCEDSTATUSCODES",
            (false, "DATA") => "354 go on",
            (false, "QUIT") => "221 bye",
            (false, _) => "250 fine",
        };
        in_content = verb == "DATA";
        stream.write_all(format!("{reply}\r\n").as_bytes()).ok()?;
        if verb == "QUIT" {
            break;
        }
    }
    Some(())
}

#[test]
fn what_an_old_server_does_wrong_is_found() {
    let (said, is_content) = ask(old_server(), &["--to", "alice@example.org"]);
    assert!(!is_content, "{said}");
    for rule in [
        "LF . LF ends nothing",
        "CRLF . LF ends nothing",
        "RCPT without MAIL is 503",
        "RSET empties the envelope",
        "an unknown command is a permanent error, and the session goes on",
        "an unknown parameter is 555",
        "a bare LF ends no command",
        "every reply but those to HELO and EHLO has a status code",
        "a server of SMTP does not know LHLO",
        "PLAIN in clear is refused",
    ] {
        assert!(said.contains(&format!("{rule}: differs: ")), "{rule}\n{said}");
    }
    assert!(said.contains("SIZE is not offered"), "{said}");
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("bound").to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtp-conformance"));
    let output = command.args([&address[..], "--reply-seconds", "1"]).output().expect("it ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("expected a reply, got silence"), "{complaint}");
}
