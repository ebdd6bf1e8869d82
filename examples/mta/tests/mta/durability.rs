//! The system calls of a message: what is synced before `250`, what is synced before an outcome is recorded, and that no
//! call that fails gets a `250` or leaves anything behind.
//!
//! Watches the program with `strace`; where that is missing or forbidden, says so and checks nothing.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::{Mta, files, text, wait_until};

const CALLS: &str = "trace=openat,fsync,fdatasync,pwritev,linkat,rename,sendto";

/// `strace` on a running server.
struct Trace {
    child: Child,
    output: PathBuf,
}

impl Trace {
    /// `None` where it cannot be used.
    fn attach(mta: &Mta, arguments: &[&str]) -> Option<Self> {
        let output = mta.directory.path().join("trace");
        let process = mta.process().to_string();
        let mut child = Command::new("strace")
            .args(["-f", "-qq", "-y", "-s", "200", "-e", CALLS, "-o"])
            .arg(&output)
            .args(arguments)
            .args(["-p", &process])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .inspect_err(|error| assert!(std::env::var_os("CI").is_none(), "strace: {error}"))
            .ok()?;
        let mut has_ended = false;
        wait_until("strace has attached", || {
            has_ended = matches!(child.try_wait(), Ok(Some(_)));
            has_ended || all_threads_are_traced(&process)
        });
        (!has_ended).then_some(Self { child, output })
    }

    /// Lets go of the server; its calls, one line each, in the order in which they mattered: what is sent when the call
    /// begins, all else when it has returned.
    fn detach(mut self) -> Vec<String> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let trace = fs::read_to_string(&self.output).expect("a trace");
        let mut calls = Vec::new();
        let mut unfinished: HashMap<&str, &str> = HashMap::new();
        for line in trace.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
                if begun.trim_start().starts_with("sendto(") {
                    calls.push(begun.to_owned());
                } else {
                    unfinished.insert(thread, begun);
                }
            } else if let Some((_, rest)) = call.split_once(" resumed>") {
                calls.extend(unfinished.remove(thread).map(|begun| format!("{begun}{rest}")));
            } else {
                calls.push(call.to_owned());
            }
        }
        calls
    }
}

fn all_threads_are_traced(process: &str) -> bool {
    let threads: Vec<_> = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten().collect();
    !threads.is_empty()
        && threads.iter().all(|thread| {
            fs::read_to_string(thread.path().join("status"))
                .is_ok_and(|status| status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")))
        })
}

/// With all the segments of the log that it makes in advance, so that nothing else is made while it is watched.
fn two_users() -> Mta {
    let mta = Mta::with_config("users = [\"alice@localhost\", \"bob@localhost\"]\n");
    assert!(mta.send("x@client.example", &BOTH, b"\r\n").status.success());
    mta.until_idle();
    wait_until("the third segment is there", || {
        let log = mta.data.join(".queue/log");
        fs::read_dir(log).expect("a directory").count() >= 3
    });
    for file in files(&mta.data) {
        fs::remove_file(file).expect("removed");
    }
    mta
}

const BOTH: [&str; 2] = ["alice@localhost", "bob@localhost"];

/// Small enough for the log, and too large for it.
fn contents() -> [Vec<u8>; 2] {
    [b"\r\n".to_vec(), [&b"\r\n"[..], &b"0123456789012345678901234567890123456789\r\n".repeat(10_000)].concat()]
}

/// What a call that succeeded does for a message.
fn step(call: &str) -> Option<&'static str> {
    let is = |name: &str, what: &str| call.contains(name) && call.contains(what);
    let has_worked = !call.contains(" = -1 ");
    match () {
        () if is("sendto(", "\"250 2.0.0 Ok: queued") => Some("250"),
        () if !has_worked => None,
        () if is("pwritev(", "/.queue/log/") => Some("write record"),
        () if is("fdatasync(", "/.queue/log/") => Some("sync log"),
        () if is("fdatasync(", "/.queue/incoming/") => Some("sync content"),
        () if is("rename(", "/.queue/content/") => Some("name content"),
        () if is("fsync(", "/.queue/content>") => Some("sync its name"),
        () if is("openat(", "/tmp/1") && call.contains("O_CREAT|O_EXCL") => Some("create copy"),
        () if is("fsync(", "/tmp/1") => Some("sync copy"),
        () if is("rename(", "/new/1") => Some("rename copy"),
        () if is("fsync(", "/new>") => Some("sync new"),
        () => None,
    }
}

#[test] // T3, promise 1: the reply after the syncs; STANDARDS.md C6: the outcome after the copies.
fn the_reply_and_the_outcome_come_after_their_syncs() {
    let name = "the_reply_and_the_outcome_come_after_their_syncs";
    let of_large = ["sync content", "name content", "sync its name"];
    let accepted = ["write record", "sync log"];
    let copies = ["create copy", "sync copy", "rename copy", "sync new"].map(|step| [step; 2]).concat();
    for (content, of_content) in contents().iter().zip([&of_large[..0], &of_large]) {
        let mta = two_users();
        let Some(trace) = Trace::attach(&mta, &[]) else { return println!("skipped: {name}") };
        assert!(mta.send("x@client.example", &BOTH, content).status.success());
        mta.until_idle();
        let trace = trace.detach();
        let steps: Vec<_> = trace.iter().filter_map(|call| step(call)).collect();
        let to_disk: Vec<_> = steps.iter().copied().filter(|step| *step != "250").collect();
        assert_eq!(to_disk, [of_content, &accepted, &copies, &accepted].concat(), "{trace:#?}");
        let reply = steps.iter().position(|step| *step == "250").expect("a reply");
        let synced = steps.iter().position(|step| *step == "sync log").expect("a sync");
        assert!(synced < reply, "{trace:#?}");
    }
}

#[test] // The first message of a mailbox: each directory on the way is synced into its parent before its file counts,
// even if it is there already, because whoever made it may not have come so far.
fn directories_are_synced_first() {
    for is_there in [false, true] {
        let mta = Mta::with_config("domains = [\"localhost\"]\nmailboxes = \"any\"\n");
        for directory in ["tmp", "new", "cur"].iter().filter(|_| is_there) {
            fs::create_dir_all(mta.data.join("localhost/carol").join(directory)).expect("made");
        }
        let Some(trace) = Trace::attach(&mta, &[]) else { return println!("skipped: directories_are_synced_first") };
        assert!(mta.send("x@client.example", &["carol@localhost"], b"\r\n").status.success());
        mta.until_idle();
        let trace = trace.detach();
        let synced: Vec<_> = trace
            .iter()
            .filter(|call| call.contains("fsync("))
            .filter_map(|call| call.split(['<', '>']).nth(1)?.split_once("/mta-data"))
            .filter(|(_, path)| !path.starts_with("/.queue"))
            .map(|(_, path)| if path.contains("/tmp/") { "file" } else { path })
            .collect();
        assert_eq!(synced, ["", "/localhost", "/localhost/carol", "file", "/localhost/carol/new"], "{trace:#?}");
    }
}

#[test] // T3, SECURITY.md D-32: each call of an acceptance fails once.
fn d32_no_failing_call_leaves_a_file_or_gets_a_250() {
    let [small, large] = &contents();
    for (content, fault, reply, needs_restart) in [
        (small, "pwritev:error=ENOSPC:when=1", "452 4.3.1", false),
        (small, "pwritev:error=EIO:when=1", "451 4.3.0", true),
        (small, "fdatasync:error=EIO:when=1", "451 4.3.0", true),
        (large, "openat:error=ENOSPC:when=1", "452 4.3.1", false),
        (large, "openat:error=EMFILE:when=1", "452 4.3.1", false),
        (large, "fdatasync:error=EIO:when=1", "451 4.3.0", false),
        (large, "fdatasync:error=ENOSPC:when=1", "452 4.3.1", false),
        (large, "rename:error=EIO:when=1", "451 4.3.0", false),
        (large, "rename:error=EDQUOT:when=1", "452 4.3.1", false),
        (large, "fsync:error=EIO:when=1", "451 4.3.0", false),
        (large, "pwritev:error=ENOSPC:when=1", "452 4.3.1", false),
        (large, "pwritev:error=EIO:when=1", "451 4.3.0", true),
    ] {
        let mut mta = two_users();
        let Some(trace) = Trace::attach(&mta, &["-e", &format!("inject={fault}")]) else {
            return println!("skipped: d32_no_failing_call_leaves_a_file_or_gets_a_250");
        };
        let output = mta.send("x@client.example", &BOTH, content);
        let (trace, said) = (trace.detach(), text(&output.stderr));
        assert!(!output.status.success() && said.contains(reply), "{fault}: {said} {trace:#?}");
        assert_eq!(trace.iter().filter(|call| call.contains("(INJECTED)")).count(), 1, "{fault}: {trace:#?}");
        if needs_restart {
            let output = mta.send("x@client.example", &BOTH, content);
            assert!(!output.status.success(), "{fault}: nothing is taken by a store that has failed");
            mta.logged("the queue takes nothing until a restart");
            mta.terminate();
            mta = mta.restarted();
            // What was answered 451 may be there all the same, but whole.
            mta.until_idle();
            for file in files(&mta.data) {
                assert!(fs::read(&file).expect("a copy").ends_with(content), "{fault}");
                fs::remove_file(file).expect("removed");
            }
        }
        assert_eq!(files(&mta.data), Vec::<PathBuf>::new(), "{fault}: no stray file");
        assert!(mta.send("x@client.example", &BOTH, content).status.success(), "{fault}: it resumes");
        mta.until_idle();
        assert_eq!(files(&mta.data).len(), 2, "{fault}");
    }
}

#[test] // Content that cannot be linked into its place is copied there.
fn content_on_another_file_system_is_copied() {
    let (mta, [_, large]) = (two_users(), contents());
    let Some(trace) = Trace::attach(&mta, &["-e", "inject=linkat:error=EXDEV:when=1"]) else {
        return println!("skipped: content_on_another_file_system_is_copied");
    };
    assert!(mta.send("x@client.example", &BOTH, &large).status.success());
    mta.until_idle();
    let trace = trace.detach();
    let steps: Vec<_> = trace.iter().filter_map(|call| step(call)).take(5).collect();
    assert_eq!(steps, ["sync content", "name content", "sync its name", "write record", "sync log"], "{trace:#?}");
    assert_eq!(trace.iter().filter(|call| call.contains("(INJECTED)")).count(), 1, "{trace:#?}");
    assert_eq!(files(&mta.data).len(), 2);
}

#[test] // STANDARDS.md Q10, SECURITY.md D-32: a call of a delivery fails once, then always.
fn d32_a_delivery_that_fails_is_made_again_and_leaves_nothing() {
    for (fault, reply) in [
        ("openat:error=ENOSPC:when=1", None),
        ("openat:error=EDQUOT:when=2", None),
        ("openat:error=EMFILE:when=2", None),
        ("fsync:error=EIO:when=1", None),
        ("fsync:error=ENOSPC:when=2", None),
        ("fsync:error=EIO:when=3", None),
        ("fsync:error=EIO:when=4", None),
        ("rename:error=EIO:when=1", None),
        ("rename:error=ENOSPC:when=2", None),
        ("openat:error=ENOSPC", Some("452 4.3.1")),
        ("openat:error=EMFILE", Some("451 4.3.0")),
        ("fsync:error=EIO", Some("451 4.3.0")),
        ("rename:error=ENOSPC", Some("452 4.3.1")),
    ] {
        let mta = two_users();
        let Some(trace) = Trace::attach(&mta, &["-e", &format!("inject={fault}")]) else {
            return println!("skipped: d32_a_delivery_that_fails_is_made_again_and_leaves_nothing");
        };
        let output = mta.send("x@client.example", &BOTH, b"\r\n");
        assert!(output.status.success(), "{fault}: {}", text(&output.stderr));
        let deferred = reply.map(|reply| {
            let id = mta.deferred();
            let shown = mta.queue_says(&["show", &id]);
            assert_eq!(shown.matches(reply).count(), 2, "{fault}: once for each: {shown}");
            assert_eq!(files(&mta.data), Vec::<PathBuf>::new(), "{fault}: no stray file");
            id
        });
        if deferred.is_none() {
            mta.until_idle();
        }
        let trace = trace.detach();
        assert!(trace.iter().any(|call| call.contains("(INJECTED)")), "{fault}: {trace:#?}");
        if let Some(id) = deferred {
            mta.queue_says(&["retry", &id]);
            mta.until_idle();
        }
        let copies = BOTH.map(|mailbox| mta.new_files(&format!("localhost/{}", &mailbox[..mailbox.len() - 10])).len());
        assert_eq!((copies, files(&mta.data).len()), ([1, 1], 2), "{fault}: one copy for each, and nothing else");
    }
}
