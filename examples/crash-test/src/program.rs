//! The program under test, in a process of its own.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The most octets of the log that are shown where the program fails.
const SHOWN_LOG_OCTETS: i64 = 4000;

/// How to start it.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    directory: PathBuf,
}

impl Program {
    /// Writes its configuration: everything is relayed to `sink`, the queue lies in `directory`. What is deferred comes
    /// again soon, unless `waits_long`.
    ///
    /// # Errors
    /// What the system gave.
    pub(crate) fn new(path: PathBuf, directory: &Path, sink: SocketAddr, waits_long: bool) -> io::Result<Self> {
        let (first_retry, longest_wait) = if waits_long { (30, 300) } else { (1, 4) };
        let program = Self { path, directory: directory.to_owned() };
        let config = format!(
            "hostname = \"mta.example\"\ndomains = [\"local.example\"]\nmailboxes = \"any\"\ndata = {:?}\n\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n\n\
             [queue]\ndirectory = {:?}\nfirst_retry_seconds = {first_retry}\n\
             longest_wait_seconds = {longest_wait}\n\n\
             [relay]\nsmart_host = \"{sink}\"\nclients = [\"127.0.0.0/8\"]\n\n\
             [log]\nlevel = \"warn\"\n",
            directory.join("data").display().to_string(),
            program.queue().display().to_string(),
        );
        fs::write(program.config(), config)?;
        Ok(program)
    }

    fn config(&self) -> PathBuf {
        self.directory.join("mta.toml")
    }

    /// Where its queue lies.
    pub(crate) fn queue(&self) -> PathBuf {
        self.directory.join("queue")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts it.
    ///
    /// # Errors
    /// What the system gave.
    pub(crate) fn start(&self) -> io::Result<Running> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let child = Command::new(&self.path)
            .args(["run".as_ref(), "--config".as_ref(), self.config().as_os_str()])
            .current_dir(&self.directory)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", self.path.display())))?;
        Ok(Running { child })
    }

    /// One of its commands on the queue: what it printed.
    ///
    /// # Errors
    /// It did not end well; what it printed.
    pub(crate) async fn queue_command(&self, command: &str) -> io::Result<String> {
        let output = Command::new(&self.path)
            .args(["queue", command, "--config"])
            .arg(self.config())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output()
            .await?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(io::Error::other(format!("mta queue {command}: {text}"))) }
    }

    /// The end of what it logged.
    pub(crate) fn end_of_log(&self) -> String {
        let read = || {
            let mut file = File::open(self.log())?;
            let octets = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
            file.seek(SeekFrom::End(-octets.min(SHOWN_LOG_OCTETS)))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&end).into_owned())
        };
        read().unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// Lines of the log that say that it panicked.
    pub(crate) fn panics(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let mut lines = String::new();
        for line in log.split(|octet| *octet == b'\n').filter(|line| memchr::memmem::find(line, b"panicked").is_some())
        {
            let _ = writeln!(lines, "{}", String::from_utf8_lossy(line));
        }
        lines
    }
}

/// One life of it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Waits until it says where it listens.
    ///
    /// # Errors
    /// It ended, or said something else.
    pub(crate) async fn address(&mut self) -> io::Result<SocketAddr> {
        let output = self.child.stdout.take().ok_or_else(|| io::Error::other("its output has been read before"))?;
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.strip_prefix("listening on") {
                // What else it says is read, so that it is not held up by it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return address.trim().parse().map_err(io::Error::other);
            }
        }
        Err(io::Error::other("it ended before it listened"))
    }

    /// Waits until it says `220`.
    ///
    /// # Errors
    /// It did not, for a long time.
    pub(crate) async fn greeting(&mut self, address: SocketAddr, patience: Duration) -> io::Result<()> {
        let greeting = async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    let mut code = [0; 3];
                    if stream.read_exact(&mut code).await.is_ok() && code == *b"220" {
                        return;
                    }
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(patience, greeting).await.map_err(|_| io::Error::other("no 220"))
    }

    /// Ends it as a power cut would, as far as the program is concerned.
    ///
    /// # Errors
    /// It had ended by itself.
    pub(crate) async fn kill(mut self) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(io::Error::other(format!("it had ended by itself: {status}")));
        }
        self.child.kill().await
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// It did not end well, or not in time.
    pub(crate) async fn stop(mut self, patience: Duration) -> io::Result<()> {
        let process = self.child.id().ok_or_else(|| io::Error::other("it had ended by itself"))?;
        Command::new("kill").args(["-TERM", &process.to_string()]).status().await?;
        let status = timeout(patience, self.child.wait()).await;
        match status.map_err(|_| io::Error::other("it does not end at SIGTERM"))?? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("at SIGTERM it ended with {status}"))),
        }
    }
}
