//! What is sent appears in Maildirs, octet for octet, once for each mailbox.

use std::fs;
use std::process::Output;

use crate::common::{Mta, files};

/// The file of a message: the fields in front, and the content.
fn parts(file: &[u8], first_of_content: usize) -> (String, Vec<u8>) {
    let (header, content) = file.split_at(file.len() - first_of_content);
    (String::from_utf8(header.to_vec()).expect("our own fields are ASCII"), content.to_vec())
}

fn accepted(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("250 2.0.0 Ok: queued as "), "{text}");
    text.trim_end().rsplit(' ').next().expect("an id").to_owned()
}

#[test] // RFC 5321 §4.5.2: transparency; RFC 6152: eight bits; LI4: a message that is larger than what stays in memory.
fn a_message_appears_octet_for_octet() {
    let mta = Mta::start();
    let lines = (0..40_000).flat_map(|n| format!("{n:070}.\r\n").into_bytes());
    let large: Vec<u8> = b"Subject: large\r\n\r\n".iter().copied().chain(lines).collect();
    assert!(large.len() > 2_900_000);
    for content in [
        &b"Subject: plain\r\n\r\nHello\r\n"[..],
        b"Subject: dots\r\n\r\n.\r\n..\r\n...a\r\n.b.\r\n\r\n.\r\n",
        b"Subject: J\xc3\xbcrgen\r\n\r\n\x80\xff\xfe and Latin-1: \xfc\x01\x7f\r\n",
        b"Subject: no body\r\n",
        b"Subject: empty body\r\n\r\n",
        b"\r\nno header section\r\n",
        b"",
        &large,
    ] {
        accepted(&mta.send("bob@client.example", &["alice@localhost"], content));
        let there = mta.delivered("localhost/alice");
        assert_eq!(there.len(), 1);
        let file = fs::read(&there[0]).expect("a file");
        let (header, stored) = parts(&file, content.len());
        assert!(stored == content, "{header}");
        assert!(
            header
                .starts_with("Return-Path: <bob@client.example>\r\nDelivered-To: alice@localhost\r\nReceived: from [")
        );
        assert!(header.contains("ESMTP") && header.ends_with("+0000\r\n"), "{header}");
        fs::remove_file(&there[0]).expect("removed");
    }
    assert_eq!(files(&mta.data), Vec::<std::path::PathBuf>::new(), "neither in tmp nor in the queue");
}

#[test] // RFC 5321 §4.4: the null reverse-path is kept too.
fn the_null_reverse_path_is_shown() {
    let mta = Mta::start();
    accepted(&mta.send("<>", &["alice@localhost"], b"Subject: x\n\n.x\nLF alone\n"));
    let file = fs::read_to_string(&mta.delivered("localhost/alice")[0]).expect("a file");
    assert!(file.starts_with("Return-Path: <>\r\nDelivered-To: alice@localhost\r\n"), "{file}");
    assert!(file.ends_with("+0000\r\nSubject: x\r\n\r\n.x\r\nLF alone\r\n"), "{file}");
}

#[test] // RFC 5321 §4.5.1, RFC 2142, RFC 5233: names that everybody has lead to the one user, who gets one copy.
fn without_configuration_alice_reads_for_everybody() {
    let mta = Mta::start();
    for lines in ["mail for      alice@localhost", "mta-data/localhost/alice\n", "postmaster    alice@localhost"] {
        assert!(mta.introduction.contains(lines), "{}", mta.introduction);
    }
    let everybody =
        ["alice@localhost", "ALICE@LocalHost", "alice+x@localhost", "postmaster@localhost", "abuse@localhost"];
    for mailbox in everybody {
        accepted(&mta.send("bob@client.example", &[mailbox], b"\r\n"));
    }
    assert_eq!(mta.delivered("localhost/alice").len(), everybody.len());
    accepted(&mta.send("bob@client.example", &everybody, b"\r\n"));
    assert_eq!(mta.delivered("localhost/alice").len(), everybody.len() + 1);

    let mut bare = mta.connect();
    bare.expect(&[
        ("EHLO client.example", "250"),
        ("MAIL FROM:<>", "250"),
        ("RCPT TO:<Postmaster>", "250"),
        ("DATA", "354"),
    ]);
    bare.expect(&[(".", "250 2.0.0 Ok: queued as ")]);
    assert_eq!(mta.delivered("localhost/alice").len(), everybody.len() + 2);

    drop(bare);
    let refused = mta.send("bob@client.example", &["alice@localhost", "carol@localhost", "a@example.org"], b"\r\n");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && refused.stdout.starts_with(b"250 "), "one took it, two did not");
    assert!(text.contains("carol@localhost: 550 5.1.1") && text.contains("a@example.org: 550 5.7.1"), "{text}");

    let command = format!("send --server {} --to alice@localhost", mta.address);
    assert!(mta.rest_of_output().contains(&command), "what is printed to be copied names this server");
}

#[test]
fn an_alias_reaches_each_mailbox_once() {
    let mta = Mta::with_config(
        "domains = [\"localhost\", \"example.org\"]\nusers = [\"alice@localhost\", \"bob@localhost\", \"alice@example.org\"]\n\
         [aliases]\n\"all@example.org\" = [\"alice@localhost\", \"bob@localhost\", \"alice+all@localhost\"]\n",
    );
    accepted(&mta.send("x@client.example", &["all@example.org", "bob+x@localhost", "alice@localhost"], b"\r\n"));
    mta.until_idle();
    let delivered_to = |maildir: &str| -> Vec<String> {
        let content = |file: &std::path::PathBuf| fs::read_to_string(file).expect("a file");
        let line = |text: String| text.lines().nth(1).unwrap_or_default().to_owned();
        mta.new_files(maildir).iter().map(|file| line(content(file))).collect()
    };
    assert_eq!(delivered_to("localhost/alice"), ["Delivered-To: alice@localhost"]);
    assert_eq!(delivered_to("localhost/bob"), ["Delivered-To: bob@localhost"]);
    assert_eq!(delivered_to("example.org/alice").len(), 0);
}

#[test] // A message can be followed from its Received field and from the reply through the log to its file.
fn the_log_has_each_event_once_and_the_ids_that_join_them() {
    for format in ["text", "json"] {
        let mut mta = Mta::with_config(&format!("[log]\nformat = \"{format}\"\n"));
        let id = accepted(&mta.send("bob@client.example", &["alice@localhost"], b"Subject: x\r\n"));
        mta.until_idle();
        mta.terminate();
        let path = &mta.new_files("localhost/alice")[0];
        let file = fs::read_to_string(path).expect("a file").replace("\r\n ", " ");
        let (_, received) = file.split_once(" id ").expect("a Received field");
        let transaction = received.split([' ', ';', '\r']).next().expect("its id");
        let (session, _) = transaction.split_once('-').expect("session and number");
        let name = path.file_name().expect("a name").to_str().expect("ASCII");
        let log = mta.log();
        for (event, ids) in
            [("accepted", &[session, transaction, id.as_str()][..]), ("delivered", &[&id, "alice@localhost", name])]
        {
            let word = if format == "json" { format!("\"message\":\"{event}\"") } else { format!(": {event} ") };
            let lines: Vec<_> = log.lines().filter(|line| line.contains(&word)).collect();
            assert_eq!(lines.len(), 1, "{event}: {log}");
            assert!(ids.iter().all(|id| lines[0].contains(id)), "{event} {ids:?}: {log}");
        }
        for line in log.lines() {
            assert_eq!(line.starts_with('{') && line.ends_with('}'), format == "json", "{line}");
        }
        assert_eq!(log.lines().filter(|line| line.contains(&id)).count(), 2, "no event is told twice: {log}");
        assert!(!log.contains('\x1b'), "no colours in a file");
    }
}
