//! SECURITY.md D-13: no mailbox leads out of the directory of the data.

mod common;

use std::fs;
use std::path::Path;

use common::{Mta, files};

#[test]
fn d13_no_mailbox_leads_out_of_its_root() {
    let mta = Mta::with_config("domains = [\"localhost\", \"con.example\"]\nmailboxes = \"any\"\n");
    let before = files(mta.directory.path()).len();
    let long = |n: usize| format!("{}@localhost", "a".repeat(n));
    let mut session = mta.connect();
    session.expect(&[("EHLO client.example", "250")]);
    for (mailbox, reply, maildir) in [
        ("\"../../x\"@localhost", "250", Some("localhost/%2e%2e%2f%2e%2e%2fx")),
        ("\"/etc/passwd\"@localhost", "250", Some("localhost/%2fetc%2fpasswd")),
        ("a/b@localhost", "250", Some("localhost/a%2fb")),
        ("\".\"@localhost", "250", Some("localhost/%2e")),
        ("\"..\"@localhost", "250", Some("localhost/%2e%2e")),
        ("%2e%2e@localhost", "250", Some("localhost/%252e%252e")),
        ("nul@Con.Example", "250", Some("%63on.example/%6eul")),
        ("TMP@localhost", "250", Some("localhost/tmp")),
        ("\"\"@localhost", "550 5.1.1", None),
        ("+detail@localhost", "550 5.1.1", None),
        (&long(200), "250", Some(&*format!("localhost/{}", "a".repeat(200)))),
        (&long(300), "550 5.1.1", None),
        ("\"a\0b\"@localhost", "501 5.1.3", None),
        ("\"a\\\0b\"@localhost", "501 5.1.3", None),
        ("a@..", "501 5.1.3", None),
        ("a@../../x", "501 5.1.3", None),
        ("a@localhost/..", "501 5.1.3", None),
        ("a@.quarantine", "501 5.1.3", None),
        ("a@[127.0.0.1]", "550 5.7.1", None),
    ] {
        session.expect(&[("MAIL FROM:<>", "250"), (&format!("RCPT TO:<{mailbox}>"), reply)]);
        if let Some(maildir) = maildir {
            session.expect(&[("DATA", "354"), (".", "250")]);
            assert_eq!(mta.new_files(maildir).len(), 1, "{mailbox}: {:?}", files(&mta.data));
            fs::remove_dir_all(mta.data.join(maildir)).expect("removed");
        } else {
            session.expect(&[("RSET", "250")]);
        }
        assert_eq!(files(mta.directory.path()).len(), before, "{mailbox}: no file but that one");
    }
}

#[test] // A link in the place of a directory is trouble of ours, so the client may try again.
fn d13_a_link_is_not_followed() {
    let mta = Mta::start();
    for place in ["tmp", "new", "cur"] {
        let elsewhere = mta.directory.path().join("elsewhere");
        let directory = mta.data.join("localhost/alice").join(place);
        fs::create_dir(&elsewhere).expect("made");
        fs::remove_dir(&directory).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, &directory).expect("linked");
        let output = mta.send("bob@client.example", &["alice@localhost"], b"\r\n");
        assert_refused(&output, "451 4.3.0");
        assert_eq!(files(&elsewhere).len() + mta.new_files("localhost/alice").len(), 0, "{place}");
        fs::remove_file(&directory).expect("removed");
        fs::remove_dir(&elsewhere).expect("removed");
        let output = mta.send("bob@client.example", &["alice@localhost"], b"\r\n");
        assert!(output.status.success(), "what was missing is made again");
        fs::remove_file(&mta.new_files("localhost/alice")[0]).expect("removed");
    }
}

#[test] // SECURITY.md D-32: one Maildir of two cannot be written to; nobody gets a copy, and nothing is left.
fn d32_all_recipients_or_none() {
    let mta = Mta::with_config("users = [\"alice@localhost\", \"bob@localhost\"]\n");
    let large = [&b"\r\n"[..], &b"0123456789012345678901234567890123456789\r\n".repeat(10_000)].concat();
    for broken in ["localhost/bob", "localhost/bob/tmp", "localhost/bob/new"] {
        let broken = mta.data.join(broken);
        fs::remove_dir_all(&broken).expect("removed");
        fs::write(&broken, "").expect("written");
        for content in [&b"\r\n"[..], &large] {
            let output = mta.send("x@client.example", &["alice@localhost", "bob@localhost"], content);
            assert_refused(&output, "451 4.3.0");
            assert_eq!(files(&mta.data), [broken.as_path()], "no stray file");
        }
        assert!(mta.send("x@client.example", &["alice@localhost"], b"\r\n").status.success(), "others get theirs");
        fs::remove_file(&broken).expect("removed");
        assert!(mta.send("x@client.example", &["bob@localhost"], &large).status.success(), "it resumes by itself");
        for file in files(&mta.data) {
            fs::remove_file(file).expect("removed");
        }
    }
    assert_eq!(mta.log().matches("delivery failed").count(), 6, "{}", mta.log());
}

fn assert_refused(output: &std::process::Output, reply: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty() && text.contains(reply), "{text}");
}

#[test] // A data directory that cannot be is known at the start.
fn a_wrong_place_for_data_ends_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("file"), "").expect("written");
    for data in ["file", "file/data"] {
        let output = common::mta()
            .current_dir(directory.path())
            .args(["run", "--listen", "127.0.0.1:0", "--data", data])
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.starts_with(&format!("cannot open {data}: ")) && text.lines().count() == 1, "{text}");
    }
    assert_eq!(files(Path::new(directory.path())).len(), 1);
}
