//! `mta queue`: what an operator sees and does, and what the control socket bears.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use crate::common::smart_host::nobody;
use crate::common::{Mta, mta, text, wait_until};

/// A server whose mail for other hosts waits.
fn waiting_for_a_smart_host() -> Mta {
    Mta::with_config(&format!("[relay]\nsmart_host = \"{}\"\nclients = [\"127.0.0.0/8\"]\n", nobody()))
}

fn send(mta: &Mta, to: &[&str]) -> String {
    let output = mta.send("x@client.example", to, b"Subject: x\r\n\r\nHello\r\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim_end().rsplit(' ').next().expect("an id").to_owned()
}

/// The complaint of a command that fails, one line.
fn complaint(output: &Output) -> String {
    let complaint = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    complaint
}

#[test]
fn a_list_has_a_line_for_each_message_and_pages() {
    let mta = waiting_for_a_smart_host();
    assert_eq!(mta.queue_says(&["list"]), "the queue is empty\n");
    let ids = [
        send(&mta, &["a@example.org"]),
        send(&mta, &["b@example.org", "alice@localhost"]),
        send(&mta, &["c@example.org", "d@example.org", "e@example.org"]),
    ];
    wait_until("all were tried", || mta.queue_says(&["list"]).matches("1 attempt").count() == 3);
    let listed = mta.queue_says(&["list"]);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 4, "{listed}");
    assert!(lines[0].starts_with("id ") && lines[0].ends_with("envelope"), "{listed}");
    for ((line, id), recipients) in lines[1..].iter().zip(&ids).zip([
        "<a@example.org> via smtp:127.0.0.1:",
        "<b@example.org>, <alice@localhost> via smtp:127.0.0.1:",
        "<c@example.org>, <d@example.org>, 1 more via smtp:127.0.0.1:",
    ]) {
        let envelope = format!("  <x@client.example> -> {recipients}");
        assert!(line.starts_with(id.as_str()) && line.contains(&envelope) && line.contains(" B  next in "), "{line}");
        assert_eq!(line.find('<'), lines[0].find("envelope"), "aligned: {listed}");
    }
    let page = mta.queue_says(&["list", "--limit", "2"]);
    assert_eq!(page.lines().last(), Some(&*format!("more: mta queue list --after {}", ids[1])), "{page}");
    let page = mta.queue_says(&["list", "--after", &ids[1]]);
    assert!(page.lines().count() == 2 && page.contains(&ids[2]), "{page}");
    assert_eq!(mta.queue_says(&["list", "--after", &ids[2]]), "no more\n");
}

#[test]
fn show_says_why_a_message_does_not_move() {
    let mta = waiting_for_a_smart_host();
    let id = send(&mta, &["a@example.org", "alice@localhost"]);
    mta.deferred();
    let shown = mta.queue_says(&["show", &id]);
    for line in [
        format!("id          {id}"),
        "from        <x@client.example>".into(),
        "to          2 recipients, 1 without an outcome".into(),
        "client      127.0.0.1".into(),
    ] {
        assert!(shown.lines().any(|found| found == line), "{line} in {shown}");
    }
    assert!(shown.contains("expires     in 4 d") || shown.contains("expires     in 5 d"), "{shown}");
    assert!(shown.contains(", 1 attempt\n            next attempt in "), "{shown}");
    assert!(
        shown.contains("            <a@example.org>: 451 4.4.1 ") && shown.contains("connect: connection refused"),
        "{shown}"
    );
    mta.queue_says(&["hold", &id]);
    let shown = mta.queue_says(&["show", &id]);
    assert!(shown.contains("held        until it is released or removed; it does not expire meanwhile\n"), "{shown}");
    assert!(!shown.contains("expires ") && shown.contains("            held\n"), "{shown}");
}

#[test]
fn hold_release_retry_and_remove_do_what_they_say() {
    let mta = waiting_for_a_smart_host();
    let id = send(&mta, &["a@example.org", "b@example.org"]);
    mta.deferred();
    assert_eq!(mta.queue_says(&["hold", &id]), format!("{id} is held\n"));
    assert!(mta.queue_says(&["list"]).contains("  held, 1 attempt  "));
    mta.queue_says(&["retry", &id]);
    assert!(mta.queue_says(&["show", &id]).contains(", 1 attempt\n"), "what is held is not tried");
    assert_eq!(mta.queue_says(&["release", &id]), format!("{id} is released\n"));
    wait_until("it was tried again", || mta.queue_says(&["show", &id]).contains(", 2 attempts\n"));
    assert_eq!(mta.queue_says(&["retry", &id]), format!("{id} is due now\n"));
    wait_until("it was tried a third time", || mta.queue_says(&["show", &id]).contains(", 3 attempts\n"));
    let removed = format!("{id} is removed; 2 recipients had no outcome, and nobody is told\n");
    assert_eq!(mta.queue_says(&["remove", &id]), removed);
    assert_eq!(mta.queue_says(&["list"]), "the queue is empty\n");
    let totals = mta.queue_says(&["totals"]);
    let equation = "at start + taken = delivered + failed + quarantined + discarded + removed + queued\n\
                    0 + 2 = 0 + 0 + 0 + 0 + 2 + 0, none is missing\n";
    assert!(totals.contains(equation), "{totals}");
    assert!(totals.contains("\nnow: 0 messages, 0 held, 0 ready or in work, 0 in flight\n"), "{totals}");
    mta.logged("removed by an operator");
}

#[test] // What an operator did survives.
fn what_is_held_is_held_after_a_restart() {
    let mut mta = waiting_for_a_smart_host();
    let id = send(&mta, &["a@example.org"]);
    mta.deferred();
    mta.queue_says(&["hold", &id]);
    mta.kill();
    let mta = mta.restarted();
    assert!(mta.queue_says(&["list"]).contains("  held, 1 attempt  "));
    mta.queue_says(&["remove", &id]);
    mta.until_idle();
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let mut mta = waiting_for_a_smart_host();
    let id = send(&mta, &["a@example.org"]);
    mta.deferred();
    let absent = "0".repeat(26);
    for verb in ["show", "hold", "release", "retry", "remove"] {
        assert_eq!(complaint(&mta.queue(&[verb, &absent])), format!("{absent} is not in the queue\n"));
        for text in ["x", "\u{e9}", "a b\nc", ""] {
            let complaint = complaint(&mta.queue(&[verb, text]));
            assert!(complaint.contains("a queue id has 26 letters and digits") || text.is_empty(), "{complaint}");
        }
    }
    complaint(&mta.queue(&["list", "--after", "x\nremove y"]));
    let both = mta.queue(&["hold", &absent, &id]);
    assert_eq!(
        (both.status.code(), text(&both.stdout)),
        (Some(1), format!("{id} is held\n")),
        "the others all the same"
    );
    assert_eq!(mta.queue(&["show"]).status.code(), Some(2), "usage");

    let in_use = complaint(&mta.queue(&["fsck"]));
    let expected = format!("mta-data/.queue is in use by process {}", mta.process());
    assert!(in_use.contains(&expected) && in_use.ends_with("; stop it first\n"), "{in_use}");
    mta.terminate();
    for arguments in [&["list"][..], &["totals"], &["show", &id], &["retry", &id]] {
        let complaint = complaint(&mta.queue(arguments));
        assert!(complaint.starts_with("no server is running with its queue in /"), "{complaint}");
    }
    let checked = mta.queue_says(&["fsck"]);
    assert!(checked.starts_with("messages   1\nsegments   ") && checked.ends_with("\nok\n"), "{checked}");
    let nowhere = mta.directory.path().join("nowhere");
    let output = crate::common::mta().args(["queue", "fsck", "--data"]).arg(&nowhere).output().expect("it runs");
    assert_eq!(complaint(&output), format!("there is no queue in {}\n", nowhere.join(".queue").display()));
    assert!(!nowhere.exists(), "looking makes nothing");
}

#[test] // STANDARDS.md C8: what is damaged is reported and set aside, and all else is served.
fn damage_is_found_reported_and_set_aside() {
    let mut mta = waiting_for_a_smart_host();
    let (damaged, whole) = (send(&mta, &["a@example.org"]), send(&mta, &["b@example.org"]));
    wait_until("all were tried", || mta.queue_says(&["list"]).matches("1 attempt").count() == 2);
    mta.kill();
    let segment = first_segment(&mta);
    let mut octets = fs::read(&segment).expect("a segment");
    let place = octets.windows(14).position(|octets| octets == b"Subject: x\r\n\r\n").expect("the first message");
    octets[place] ^= 1;
    fs::write(&segment, octets).expect("written");
    let output = mta.queue(&["fsck"]);
    let said = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "the queue is damaged\n".into()), "{said}");
    assert!(said.contains("\ndamaged    "), "{said}");
    let mta = mta.restarted();
    mta.logged("what is damaged is set aside");
    assert!(mta.queue_says(&["show", &whole]).contains("<b@example.org>"), "all else is there");
    let shown = mta.queue(&["show", &damaged]);
    assert!(!text(&shown.stdout).contains("<b@example.org>"), "{}", text(&shown.stdout));
    send(&mta, &["alice@localhost"]);
    wait_until("mail is served", || mta.new_files("localhost/alice").len() == 1);
}

#[test] // SECURITY.md D-39
fn d39_only_the_owner_can_reach_the_queue() {
    let mta = Mta::start();
    let mode = |path: &str| fs::metadata(mta.data.join(path)).expect("it is there").permissions().mode() & 0o777;
    for directory in ["", ".queue", ".queue/log", ".queue/content", ".queue/incoming", ".queue/snapshots"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
    let segment = first_segment(&mta);
    let segment = segment.strip_prefix(&mta.data).expect("it is in there").to_str().expect("ASCII");
    for file in [".queue/control", ".queue/lock", segment] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

/// The segment that is written to first.
fn first_segment(mta: &Mta) -> PathBuf {
    let entries = fs::read_dir(mta.data.join(".queue/log")).expect("there is a log");
    entries.map(|entry| entry.expect("readable").path()).min().expect("there is a segment")
}

#[test] // SECURITY.md D-39: whatever comes in at the control socket, the server goes on.
fn d39_garbage_at_the_control_socket_harms_nobody() {
    let mut mta = Mta::start();
    let socket = mta.data.join(".queue/control");
    let connect = || {
        let stream = UnixStream::connect(&socket).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    };
    let endless = vec![b'x'; 512 << 10];
    for (garbage, answer) in [
        (&b"\n"[..], "error unknown request\n"),
        (b"destroy\n", "error unknown request\n"),
        (b"list 1 2 3 4\n", "error unknown request\n"),
        (b"list -1\n", "error `-1` is not a number\n"),
        (b"list 99999999999999999999999\n", "error `99999999999999999999999` is not a number\n"),
        (b"show \x1b[2J\n", "error `\\u{1b}[2J`: a queue id has 26 letters and digits\n"),
        (b"list 18446744073709551615\n", "ok\nthe queue is empty\n"),
        (b"list 0\n", "ok\nthe queue is empty\n"),
        (b"\0\0\0\0\n", "error unknown request\n"),
        (b"\xff\xfe\n", "error a request is one line of UTF-8\n"),
        (b"totals", "error a request is one line of UTF-8\n"),
        (&endless, ""),
    ] {
        let mut stream = connect();
        // The end of what it reads may come before the end of what is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(text(&said).starts_with(answer), "{:?}: {}", text(&garbage[..garbage.len().min(30)]), text(&said));
    }
    let silent: Vec<_> = (0..100).map(|_| connect()).collect();
    // Who says nothing is soon sent away, and the operator's turn comes.
    let mut list = crate::common::mta();
    list.args(["queue", "list", "--data"]).arg(&mta.data).stdout(std::process::Stdio::piped());
    let mut list = list.spawn().expect("it starts");
    wait_until("the operator has an answer", || list.try_wait().expect("a child").is_some());
    assert_eq!(text(&list.wait_with_output().expect("it has ended").stdout), "the queue is empty\n");
    send(&mta, &["alice@localhost"]);
    assert_eq!(mta.delivered("localhost/alice").len(), 1);
    drop(silent);
    mta.terminate();
    assert!(!mta.log().contains("panic"), "{}", mta.log());
}

#[test] // A socket that a crash left behind is in nobody's way.
fn a_stale_socket_is_replaced() {
    let mut first = Mta::start();
    first.kill();
    assert!(first.data.join(".queue/control").exists());
    let complaint = complaint(&first.queue(&["list"]));
    assert!(complaint.starts_with("no server is running"), "{complaint}");
    let mut second = first.restarted();
    assert_eq!(second.queue_says(&["list"]), "the queue is empty\n");
    second.terminate();
    assert!(!second.data.join(".queue/control").exists());
}

#[test] // The same configuration leads the server and the commands to the same queue.
fn a_queue_of_its_own_is_found_by_configuration() {
    let server = Mta::with_config("[queue]\ndirectory = \"elsewhere\"\n");
    let queue = |arguments: &[&str]| {
        mta().arg("queue").args(arguments).current_dir(server.directory.path()).output().expect("it runs")
    };
    assert_eq!(text(&queue(&["list", "--config", "mta.toml"]).stdout), "the queue is empty\n");
    assert_eq!(complaint(&queue(&["list"])), "no server is running with its queue in mta-data/.queue\n");
    assert!(server.directory.path().join("elsewhere/log").is_dir() && !server.data.join(".queue").exists());
}
