//! The control socket: a request is one line, the answer is text, then the connection ends.
//!
//! The socket lies in the directory of the queue, which only its owner can enter, so whoever can connect may do
//! everything (SECURITY.md D-39). Garbage is answered with an error. Who says nothing loses the connection soon, so that
//! no number of them keeps an operator waiting for long.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use smtp_queue::Queue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::answer;

/// The most octets of a request.
const REQUEST_OCTETS: u64 = 1024;
/// How long a client may take to send its request: 2 s. Ours sends it at once.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// How long the work and reading the answer may take: 1 min.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Requests that are answered at the same time; others wait to be accepted.
const CLIENTS: usize = 64;

/// The place of the socket.
pub(super) fn socket(queue: &Path) -> PathBuf {
    queue.join("control")
}

/// Answers requests until it is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Listens in the directory of a queue that this process owns.
    ///
    /// # Errors
    /// What the system gave.
    pub(crate) fn open(directory: &Path, queue: Queue) -> io::Result<Self> {
        let path = socket(directory);
        // The lock of the spool is ours, so a socket that is there belongs to nobody.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(serve(listener, queue));
        Ok(Self { path, task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // What cannot be removed is removed by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, queue: Queue) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors, for example: it may work again later.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let queue = queue.clone();
        tokio::spawn(async move {
            // Who does not read the answer does not want it.
            let _ = timeout(ANSWER_TIME, serve_one(stream, &queue)).await;
            drop(place);
        });
    }
}

async fn serve_one(mut stream: UnixStream, queue: &Queue) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_OCTETS));
    timeout(REQUEST_TIME, reader.read_until(b'\n', &mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let text = match line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()) {
        Some(request) => answer(queue, request).await,
        None => Err("a request is one line of UTF-8".into()),
    };
    let octets = match text {
        Ok(text) => format!("ok\n{text}"),
        Err(problem) => format!("error {problem}\n"),
    };
    writer.write_all(octets.as_bytes()).await?;
    writer.shutdown().await
}
