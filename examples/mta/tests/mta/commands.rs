//! `mta config` and `mta send`: what they print and how they end.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::mta;

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn what_show_prints_is_accepted_by_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/mta.toml");
    for file in [None, Some(example)] {
        let shown = mta().args(["config", "show"]).args(file).output().expect("it runs");
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        let copy = directory.path().join("shown.toml");
        fs::write(&copy, &shown.stdout).expect("written");
        let checked = mta().args(["config", "check"]).arg(&copy).output().expect("it runs");
        assert_eq!(
            (text(&checked.stdout).as_str(), checked.status.code()),
            ("ok\n", Some(0)),
            "{}",
            text(&checked.stderr)
        );
        let again = mta().args(["config", "show"]).arg(&copy).output().expect("it runs");
        assert_eq!(text(&again.stdout), text(&shown.stdout));
        for key in [
            "data = \"mta-data\"",
            "[queue]\ndirectory = \"mta-data/.queue\"\nfirst_retry_seconds = 300\nlongest_wait_seconds = 4000\n\
             lifetime_hours = 120\nconcurrency = 20\n",
            "[quarantine]\ndays = 30\nmessages = 100000\noctets = 1073741824\n",
            "[relay]\n",
            "message_octets = 52428800",
            "[[listener]]",
            "[log]",
        ] {
            assert!(text(&shown.stdout).contains(key), "{key}");
        }
        let relays =
            text(&shown.stdout).contains("smart_host = \"smtp.example.com:25\"\ntls = \"opportunistic\"\nclients = [");
        assert_eq!(relays, file.is_some(), "{}", text(&shown.stdout));
    }
}

#[test] // The same words, whoever reads the file.
fn a_wrong_configuration_is_refused_everywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("mta.toml"), "hostname = \"mx\"\n[limits]\n  recipient = 100\n").expect("written");
    for arguments in
        [&["config", "check", "mta.toml"][..], &["config", "show", "mta.toml"], &["run", "--config", "mta.toml"]]
    {
        let output = mta().current_dir(directory.path()).args(arguments).output().expect("it runs");
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{arguments:?}");
        assert!(error.starts_with("mta.toml:3:3: in `limits`: unknown key `recipient`, expected one of "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let missing = mta().args(["config", "check", "nowhere.toml"]).output().expect("it runs");
    assert_eq!(text(&missing.stderr), "nowhere.toml: cannot be read: No such file or directory (os error 2)\n");
}

/// A server that says what is in a script, a reply to each line that it reads, and returns what it read.
fn script(replies: &[&[u8]]) -> (String, JoinHandle<String>) {
    let replies: Vec<_> = replies.iter().map(|reply| reply.to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        // A client that waits for something else is not waited for.
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        let mut read = String::new();
        for reply in replies {
            if stream.write_all(&reply).is_err() {
                break;
            }
            let end = if reply.starts_with(b"354") && read.ends_with("DATA\r\n") { "\r\n.\r\n" } else { "\r\n" };
            read_until(&mut stream, &mut read, end);
        }
        read
    });
    (address, server)
}

fn read_until(stream: &mut TcpStream, read: &mut String, end: &str) {
    let start = read.len();
    let mut octet = [0];
    while !read[start..].ends_with(end) && matches!(stream.read(&mut octet), Ok(1)) {
        read.push(char::from(octet[0]));
    }
}

fn send(address: &str, arguments: &[&str]) -> Output {
    mta().args(["send", "--server", address, "--to", "a@example.org"]).args(arguments).output().expect("it runs")
}

#[test] // RFC 5321 §3.2: HELO where EHLO is unknown; then nothing is offered and nothing is used.
fn send_falls_back_to_helo() {
    let replies: &[&[u8]] = &[
        b"220-old\r\n220 server\r\n",
        b"502 5.5.1 What\r\n",
        b"250 old\r\n",
        b"250 ok\r\n",
        b"251 forwarded\r\n",
        b"354 go\r\n",
        b"250 yes\r\n",
        b"221 bye\r\n",
    ];
    let (address, server) = script(replies);
    let output = send(&address, &["--from", "<>"]);
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("250 yes\n", Some(0)),
        "{}",
        text(&output.stderr)
    );
    let read = server.join().expect("it ends");
    assert!(
        read.starts_with("EHLO [127.0.0.1]\r\nHELO [127.0.0.1]\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n"),
        "{read}"
    );
    assert!(read.ends_with("\r\n.\r\nQUIT\r\n"), "{read}");
}

#[test] // RFC 1870, RFC 6152: parameters where they are offered; `--verbose` shows both sides.
fn send_uses_what_is_offered() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("message");
    fs::write(&file, b"Subject: x\n\n.\xfc").expect("written");
    let offered: &[&[u8]] = &[
        b"220 x\r\n",
        b"250-x\r\n250-size 1000\r\n250 8BITMIME\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"354 go\r\n",
        b"250 \x1b[31myes\r\n",
        b"221 bye\r\n",
    ];
    let (address, server) = script(offered);
    let output = send(&address, &["--from", "b@example.org", "-v", file.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "250 ?[31myes\n", "SECURITY.md D-26: nothing drives the terminal");
    let read = server.join().expect("it ends");
    assert!(read.contains("MAIL FROM:<b@example.org> BODY=8BITMIME SIZE=18\r\n"), "{read}");
    assert!(read.contains("DATA\r\nSubject: x\r\n\r\n..\u{fc}\r\n.\r\n"), "{read}");
    let dialogue = [
        "S: 220 x",
        "C: EHLO [127.0.0.1]",
        "S: 250-x",
        "S: 250-size 1000",
        "S: 250 8BITMIME",
        "C: MAIL FROM:<b@example.org> BODY=8BITMIME SIZE=18",
        "S: 250 ok",
        "C: RCPT TO:<a@example.org>",
        "S: 250 ok",
        "C: DATA",
        "S: 354 go",
        "C: (18 octets of content)",
        "S: 250 ?[31myes",
        "C: QUIT",
        "S: 221 bye",
    ];
    assert_eq!(text(&output.stderr).lines().collect::<Vec<_>>(), dialogue);
}

#[test] // SECURITY.md D-35, and everything else that is no acceptance.
fn d35_send_fails_where_the_server_does() {
    let long = &b"250-x\r\n".repeat(600)[..];
    let endless = &vec![b'2'; 80_000][..];
    let rows: &[(&[&[u8]], &str)] = &[
        (&[b"554 no\r\n"], "greeting: 554 no\n"),
        (&[], "greeting: the server closed the connection\n"),
        (&[b"hello\r\n"], "greeting: the server sent a line that is no reply\n"),
        (&[b"999 x\r\n"], "greeting: the server sent a line that is no reply\n"),
        (&[b"220-x\r\n250 x\r\n"], "greeting: the server sent a reply with two codes\n"),
        (&[endless], "greeting: the server sent a reply without an end\n"),
        (&[b"220 x\r\n", long], "EHLO: the server sent a reply without an end\n"),
        (&[b"220 x\r\n", b"421 later\r\n"], "EHLO: 421 later\n"),
        (&[b"220 x\r\n", b"250 x\r\n", b"451 later\r\n"], "MAIL: 451 later\n"),
        (
            &[b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"550 5.1.1 no\r\n"],
            "a@example.org: 550 5.1.1 no\nnot sent: no recipient was taken\n",
        ),
        (&[b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"354 x\r\n"], "RCPT: 354 x, which means nothing here\n"),
        (
            &[b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"250 x\r\n", b"250 x\r\n"],
            "DATA: 250 x, which means nothing here\n",
        ),
        (
            &[b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"250 x\r\n", b"354 x\r\n", b"554 no\r\n"],
            "end of content: 554 no\n",
        ),
    ];
    for (replies, expected) in rows {
        let (address, server) = script(replies);
        let output = send(&address, &[]);
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{expected}: {error}");
        assert_eq!(error, *expected);
        server.join().expect("it ends");
    }
}

#[test] // Each refused recipient has a line; what became of the others is said once.
fn send_says_who_was_refused() {
    let (yes, no, all) =
        (&b"250 ok\r\n"[..], &b"550 5.1.1 no\r\n"[..], &["--to", "b@example.org", "--to", "c@example.org"]);
    let refused = "a@example.org: 550 5.1.1 no\n";
    for (replies, stdout, stderr) in [
        (&[no, yes, yes, b"354 x\r\n", b"250 taken\r\n"][..], "250 taken\n", "not sent to 1 of 3 recipients\n"),
        (&[no, yes, yes, b"354 x\r\n", b"451 later\r\n"], "", "end of content: 451 later\n"),
        (&[no, yes, yes, b"554 why\r\n"], "", "DATA: 554 why\n"),
        (
            &[no, yes, b"452 4.5.3 many\r\n", b"354 x\r\n", b"250 taken\r\n"],
            "250 taken\n",
            "c@example.org: 452 4.5.3 many\nnot sent to 2 of 3 recipients\n",
        ),
        (
            &[no, yes, b"421 bye\r\n"],
            "",
            "b@example.org: 421 bye\nc@example.org: 421 bye\nnot sent: no recipient was taken\n",
        ),
    ] {
        let (address, server) = script(&[&[&b"220 x\r\n"[..], yes, yes], replies].concat());
        let output = send(&address, all);
        assert_eq!(text(&output.stderr), format!("{refused}{stderr}"));
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), (stdout, Some(1)));
        server.join().expect("it ends");
    }
}

#[test]
fn send_says_where_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let error = text(&send(&address, &[]).stderr);
    assert_eq!(error, format!("cannot connect to {address}: connection refused\n"));
    let error = text(&send("127.0.0.1", &[]).stderr);
    assert_eq!(error, "cannot connect to 127.0.0.1: invalid socket address\n");
}

#[test] // SECURITY.md D-2, D-9: neither content nor addresses put anything else on the wire.
fn d9_send_refuses_what_is_not_one_address_and_canonical_content() {
    for arguments in
        [&["--from", "a@b\r\nRCPT TO:<x@y>"][..], &["--to", "a b@example.org"], &["--to", "<a@example.org>"]]
    {
        let output = send("127.0.0.1:9", arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("message");
    for (content, expected) in
        [(&b"a\r\n.\r\r\nb\r\n"[..], "bare CR"), (b"a\0", "NUL"), (b"a\r", "bare CR"), (b"\xfc", "8BITMIME")]
    {
        fs::write(&file, content).expect("written");
        let (address, server) = script(&[b"220 x\r\n", b"250 x\r\n", b"221 x\r\n"]);
        let output = send(&address, &[file.to_str().expect("UTF-8")]);
        assert!(!output.status.success() && text(&output.stderr).contains(expected), "{}", text(&output.stderr));
        let read = server.join().expect("it ends");
        assert_eq!(read, "EHLO [127.0.0.1]\r\nQUIT\r\n");
    }
}
