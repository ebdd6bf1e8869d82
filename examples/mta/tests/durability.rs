//! The system calls of a delivery: `250` comes after the last sync, and no call that fails leaves anything behind.
//!
//! Watches the program with `strace`; where that is missing or forbidden, says so and checks nothing.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Mta, files};

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
            .args(["-f", "-qq", "-y", "-s", "200", "-e", "trace=openat,fsync,fdatasync,rename,sendto", "-o"])
            .arg(&output)
            .args(arguments)
            .args(["-p", &process])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .inspect_err(|error| assert!(std::env::var_os("CI").is_none(), "strace: {error}"))
            .ok()?;
        let start = Instant::now();
        while !all_threads_are_traced(&process) {
            if matches!(child.try_wait(), Ok(Some(_))) || start.elapsed() > Duration::from_secs(10) {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { child, output })
    }

    /// Lets go of the server; the lines that were written.
    fn detach(mut self) -> Vec<String> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        fs::read_to_string(&self.output).expect("a trace").lines().map(str::to_owned).collect()
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

fn two_users() -> Mta {
    Mta::with_config("users = [\"alice@localhost\", \"bob@localhost\"]\n")
}

const BOTH: [&str; 2] = ["alice@localhost", "bob@localhost"];

#[test] // T3, promise 1: the order of calls for two recipients.
fn a_250_comes_after_the_last_sync() {
    let mta = two_users();
    let Some(trace) = Trace::attach(&mta, &[]) else { return println!("skipped: a_250_comes_after_the_last_sync") };
    assert!(mta.send("x@client.example", &BOTH, b"\r\n").status.success());
    let trace = trace.detach();
    let call = |line: &String| {
        let is = |name: &str, what: &str| line.contains(name) && line.contains(what);
        match () {
            () if is("openat(", "/tmp/1") && line.contains("O_CREAT|O_EXCL") => Some("create"),
            () if is("fsync(", "/tmp/1") => Some("sync file"),
            () if is("rename(", "/new/1") => Some("rename"),
            () if is("fsync(", "/new>") => Some("sync new"),
            () if is("sendto(", "\"250 2.0.0 Ok: queued") => Some("250"),
            () => None,
        }
    };
    let calls: Vec<_> = trace.iter().filter_map(call).collect();
    let expected = ["create", "create", "sync file", "sync file", "rename", "rename", "sync new", "sync new", "250"];
    assert_eq!(calls, expected, "{trace:#?}");
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
        let trace = trace.detach();
        let synced: Vec<_> = trace
            .iter()
            .filter(|line| line.contains("fsync("))
            .filter_map(|line| line.split(['<', '>']).nth(1)?.split_once("/mta-data"))
            .map(|(_, path)| if path.contains("/tmp/") { "file" } else { path })
            .collect();
        assert_eq!(synced, ["", "/localhost", "/localhost/carol", "file", "/localhost/carol/new"], "{trace:#?}");
    }
}

#[test] // T3, SECURITY.md D-32: each call fails once.
fn d32_no_failing_call_leaves_a_file_or_gets_a_250() {
    for (fault, reply) in [
        ("openat:error=ENOSPC:when=1", "452 4.3.1"),
        ("openat:error=EDQUOT:when=2", "452 4.3.1"),
        ("openat:error=EMFILE:when=2", "451 4.3.0"),
        ("fsync:error=EIO:when=1", "451 4.3.0"),
        ("fsync:error=ENOSPC:when=2", "452 4.3.1"),
        ("fsync:error=EIO:when=3", "451 4.3.0"),
        ("fsync:error=EIO:when=4", "451 4.3.0"),
        ("rename:error=EIO:when=1", "451 4.3.0"),
        ("rename:error=ENOSPC:when=2", "452 4.3.1"),
    ] {
        let mta = two_users();
        let Some(trace) = Trace::attach(&mta, &["-e", &format!("inject={fault}")]) else {
            return println!("skipped: d32_no_failing_call_leaves_a_file_or_gets_a_250");
        };
        let output = mta.send("x@client.example", &BOTH, b"\r\n");
        let (trace, said) = (trace.detach(), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(reply), "{fault}: {said} {trace:#?}");
        assert_eq!(trace.iter().filter(|line| line.contains("(INJECTED)")).count(), 1, "{fault}: {trace:#?}");
        assert_eq!(files(&mta.data), Vec::<PathBuf>::new(), "{fault}: no stray file");
        assert!(mta.send("x@client.example", &BOTH, b"\r\n").status.success(), "{fault}: it resumes by itself");
        assert_eq!(files(&mta.data).len(), 2, "{fault}");
    }
}
