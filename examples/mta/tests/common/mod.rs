//! The program in a process of its own: started, talked to, stopped, and what it stored.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod smart_host;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing in these tests takes so long, unless it hangs. Below the 30 s for which a shutdown waits by default.
const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) fn mta() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mta"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) struct Mta {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
    /// The directory in which the program runs; it lives on in a successor.
    pub(crate) directory: Arc<tempfile::TempDir>,
    arguments: Vec<String>,
    /// The lines up to the first empty one.
    pub(crate) introduction: String,
}

impl Mta {
    /// Without configuration, but for the port.
    pub(crate) fn start() -> Self {
        Self::spawn(&["run", "--listen", "127.0.0.1:0"], tempfile::tempdir().expect("a directory").into())
    }

    /// With a configuration, `[[listener]]` excepted.
    pub(crate) fn with_config(config: &str) -> Self {
        Self::in_directory(config, tempfile::tempdir().expect("a directory"))
    }

    /// The same, where something lies already.
    pub(crate) fn in_directory(config: &str, directory: tempfile::TempDir) -> Self {
        fs::write(directory.path().join("mta.toml"), config).expect("written");
        Self::spawn(&["run", "--config", "mta.toml", "--listen", "127.0.0.1:0"], directory.into())
    }

    /// With a configuration that says where to listen.
    pub(crate) fn with_listeners(config: &str) -> Self {
        Self::with_listeners_in(config, tempfile::tempdir().expect("a directory"))
    }

    /// The same, where something lies in the directory already.
    pub(crate) fn with_listeners_in(config: &str, directory: tempfile::TempDir) -> Self {
        fs::write(directory.path().join("mta.toml"), config).expect("written");
        Self::spawn(&["run", "--config", "mta.toml"], directory.into())
    }

    /// The same program in the same directory, after this one has ended.
    pub(crate) fn restarted(mut self) -> Self {
        assert!(self.child.try_wait().expect("a child").is_some(), "it still runs");
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Self::spawn(&arguments, self.directory.clone())
    }

    fn spawn(arguments: &[&str], directory: Arc<tempfile::TempDir>) -> Self {
        let log = fs::File::options().append(true).create(true).open(directory.path().join("log")).expect("a file");
        let mut command = mta();
        command.args(arguments).current_dir(directory.path());
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut introduction = String::new();
        while stdout.read_line(&mut introduction).expect("it introduces itself") > 1 {}
        let address = introduction.split_whitespace().nth(2).unwrap_or_default();
        let address = address.parse().unwrap_or_else(|_| panic!("no address in {introduction:?}"));
        let data = directory.path().join("mta-data");
        let arguments = arguments.iter().copied().map(Into::into).collect();
        Self { child, stdout, address, data, directory, arguments, introduction }
    }

    /// What it printed behind the introduction.
    pub(crate) fn rest_of_output(mut self) -> String {
        self.terminate();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("readable");
        rest
    }

    /// Waits until the log says so: it is written behind what it tells.
    pub(crate) fn logged(&self, words: &str) {
        wait_until(words, || self.log().contains(words));
    }

    /// As far as it is written. When the program has ended, it is whole.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("a log")
    }

    /// `mta send` to this server; `content` is its standard input.
    pub(crate) fn send(&self, from: &str, to: &[&str], content: &[u8]) -> Output {
        let mut command = mta();
        command.args(["send", "--server", &self.address.to_string(), "--from", from, "-"]);
        for mailbox in to {
            command.args(["--to", mailbox]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(content).expect("read");
        child.wait_with_output().expect("it ends")
    }

    /// `mta queue` for the queue of this server.
    pub(crate) fn queue(&self, arguments: &[&str]) -> Output {
        let mut command = mta();
        command.arg("queue").args(arguments).arg("--data").arg(&self.data);
        command.output().expect("it runs")
    }

    /// What a command that succeeds prints.
    pub(crate) fn queue_says(&self, arguments: &[&str]) -> String {
        let output = self.queue(arguments);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && complained.is_empty(), "{arguments:?}: {said}{complained}{}", self.log());
        said
    }

    /// The id of the one message in the queue, when an attempt has been made and recorded.
    pub(crate) fn deferred(&self) -> String {
        let mut listed = String::new();
        wait_until("an attempt has failed", || {
            listed = self.queue_says(&["list"]);
            listed.lines().count() == 2 && listed.contains("next in ") && listed.contains(" attempt")
        });
        listed.lines().nth(1).and_then(|line| line.split(' ').next()).expect("an id").to_owned()
    }

    /// Waits until every recipient of what was accepted has an outcome, and that is recorded.
    pub(crate) fn until_idle(&self) {
        wait_until("the queue is empty", || self.queue_says(&["list"]) == "the queue is empty\n");
    }

    /// The new files of a Maildir, when everything that was accepted is delivered.
    pub(crate) fn delivered(&self, maildir: &str) -> Vec<PathBuf> {
        self.until_idle();
        self.new_files(maildir)
    }

    pub(crate) fn connect(&self) -> Dialogue {
        Dialogue::connect(self.address)
    }

    /// Files of a Maildir, `new` only.
    pub(crate) fn new_files(&self, maildir: &str) -> Vec<PathBuf> {
        files(&self.data.join(maildir).join("new"))
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill");
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As a power cut would, but that the system lives on.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.wait();
    }

    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until that is so. It is looked at again and again, not timed.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// All files beneath a directory, links included; none where there is no such directory. The content of queued messages
/// is among them, wherever it lies; what the queue and the checks have for themselves is not.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    const OUR_OWN: [&str; 7] =
        [".queue/log", ".queue/snapshots", ".queue/lock", ".queue/control", ".quarantine", ".state", ".trace"];
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if OUR_OWN.iter().any(|place| path.ends_with(place)) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A session, command by command.
pub(crate) struct Dialogue {
    stream: BufReader<TcpStream>,
}

impl Dialogue {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut dialogue = Self { stream: BufReader::new(stream) };
        let greeting = dialogue.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        dialogue
    }

    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).expect("written");
    }

    /// The last line of the next reply, without its end; empty at the end of the session.
    pub(crate) fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("readable");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn command(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    /// Commands that are answered as they should be.
    pub(crate) fn expect(&mut self, dialogue: &[(&str, &str)]) {
        for (command, start) in dialogue {
            let reply = self.command(command);
            assert!(reply.starts_with(start), "{command}: {reply}");
        }
    }
}
