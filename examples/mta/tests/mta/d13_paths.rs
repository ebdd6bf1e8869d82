//! SECURITY.md D-13: no mailbox leads out of the directory of the data.

use std::fs;
use std::path::Path;

use crate::common::{Mta, files, text};

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
            assert_eq!(mta.delivered(maildir).len(), 1, "{mailbox}: {:?}", files(&mta.data));
            fs::remove_dir_all(mta.data.join(maildir)).expect("removed");
        } else {
            session.expect(&[("RSET", "250")]);
        }
        assert_eq!(files(mta.directory.path()).len(), before, "{mailbox}: no file but that one");
    }
}

#[test] // A link in the place of a directory is trouble of ours: the message waits until it is mended.
fn d13_a_link_is_not_followed() {
    let mta = Mta::start();
    for place in ["tmp", "new", "cur", ""] {
        let elsewhere = mta.directory.path().join("elsewhere");
        let directory = mta.data.join("localhost/alice").join(place);
        fs::create_dir(&elsewhere).expect("made");
        fs::remove_dir_all(&directory).expect("removed");
        let link = directory.components().collect::<std::path::PathBuf>();
        std::os::unix::fs::symlink(&elsewhere, &link).expect("linked");
        assert!(mta.send("bob@client.example", &["alice@localhost"], b"\r\n").status.success(), "it is queued");
        let id = mta.deferred();
        assert_eq!(files(&elsewhere).len() + mta.new_files("localhost/alice").len(), 0, "{place}");
        let shown = mta.queue_says(&["show", &id]);
        assert!(shown.contains("<alice@localhost>") && shown.contains("451 4.3.0 The mailbox cannot be"), "{shown}");
        fs::remove_file(&link).expect("removed");
        fs::remove_dir(&elsewhere).expect("removed");
        mta.queue_says(&["retry", &id]);
        assert_eq!(mta.delivered("localhost/alice").len(), 1, "what was missing is made again");
        fs::remove_file(&mta.new_files("localhost/alice")[0]).expect("removed");
    }
}

#[test] // SECURITY.md D-32: one Maildir of two cannot be written to; the other gets its copy, and nothing is left over.
fn d32_a_mailbox_that_fails_is_deferred_alone() {
    let mut mta = Mta::with_config("users = [\"alice@localhost\", \"bob@localhost\"]\n");
    let large = [&b"\r\n"[..], &b"0123456789012345678901234567890123456789\r\n".repeat(10_000)].concat();
    for broken in ["localhost/bob", "localhost/bob/tmp", "localhost/bob/new"] {
        let broken = mta.data.join(broken);
        for content in [&b"\r\n"[..], &large] {
            fs::remove_dir_all(&broken).expect("removed");
            fs::write(&broken, "").expect("written");
            let output = mta.send("x@client.example", &["alice@localhost", "bob@localhost"], content);
            assert!(output.status.success(), "{}", text(&output.stderr));
            let id = mta.deferred();
            let shown = mta.queue_says(&["show", &id]);
            assert!(shown.contains("<bob@localhost>: 451 4.3.0") && !shown.contains("<alice@localhost>"), "{shown}");
            let queued = mta.data.join(".queue/content").join(&id);
            let mut expected = vec![broken.clone()];
            expected.extend(mta.new_files("localhost/alice"));
            expected.extend((content.len() > 256 << 10).then_some(queued));
            expected.sort();
            assert_eq!((files(&mta.data), mta.new_files("localhost/alice").len()), (expected, 1), "no stray file");
            fs::remove_file(&broken).expect("removed");
            mta.queue_says(&["retry", &id]);
            assert_eq!(mta.delivered("localhost/bob").len(), 1, "it resumes");
            assert_eq!(mta.new_files("localhost/alice").len(), 1, "nobody gets it twice");
            for file in files(&mta.data) {
                fs::remove_file(file).expect("removed");
            }
        }
    }
    mta.terminate();
    assert_eq!(mta.log().matches(" deferred ").count(), 6, "{}", mta.log());
}

#[test] // STANDARDS.md Q10, Q11: however much mail waits for one mailbox, the others get theirs at once.
fn q11_a_mailbox_that_fails_holds_up_no_other() {
    let mta = Mta::with_config("users = [\"alice@localhost\", \"bob@localhost\"]\n");
    let broken = mta.data.join("localhost/bob");
    fs::remove_dir_all(&broken).expect("removed");
    fs::write(&broken, "").expect("written");
    for _ in 0..12 {
        assert!(mta.send("x@client.example", &["bob@localhost"], b"\r\n").status.success());
    }
    assert!(mta.send("x@client.example", &["alice@localhost"], b"\r\n").status.success());
    crate::common::wait_until("alice has hers", || mta.new_files("localhost/alice").len() == 1);
    crate::common::wait_until("all of it was tried", || mta.queue_says(&["list"]).matches("1 attempt").count() == 12);
}

#[test] // A data directory that cannot be is known at the start.
fn a_wrong_place_for_data_ends_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("file"), "").expect("written");
    for data in ["file", "file/data"] {
        let output = crate::common::mta()
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
