//! Large content as a server makes it: in files.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::{Accepted, Content, ContentSettings, Message, Refusal, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

/// Content in files below that directory, one of about each of those sizes, received by a server in memory: a store may
/// take such files without copying them.
///
/// # Errors
/// Where no file can be made.
pub async fn contents_in_files(directory: &Path, sizes: &[usize]) -> io::Result<Vec<Content>> {
    let received = Arc::new(Mutex::new(Vec::new()));
    let keep = received.clone();
    let mut settings = ContentSettings::default();
    settings.memory_octets = 0;
    settings.directory = Some(directory.to_owned());
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .content(settings)
        .deliver(move |message: Message| {
            keep.lock().unwrap_or_else(PoisonError::into_inner).push(message.content().clone());
            async { Ok::<_, Refusal>(Accepted::all()) }
        })
        .listen("127.0.0.1:0")
        .await
        .map_err(io::Error::other)?;
    let (near, far) = duplex(64 << 10);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 25));
    let ((), sent) = tokio::join!(server.serve_connection(far, address, address), send(near, sizes));
    sent?;
    let received = std::mem::take(&mut *received.lock().unwrap_or_else(PoisonError::into_inner));
    if received.len() == sizes.len() { Ok(received) } else { Err(io::Error::other("not every message was taken")) }
}

async fn send(stream: DuplexStream, sizes: &[usize]) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    reply(&mut stream, "").await?;
    reply(&mut stream, "HELO client.example\r\n").await?;
    for (number, size) in sizes.iter().enumerate() {
        let line = format!("message {number}, and what follows is the same in every line of it\r\n");
        reply(&mut stream, "MAIL FROM:<>\r\n").await?;
        reply(&mut stream, "RCPT TO:<postmaster@example.org>\r\n").await?;
        reply(&mut stream, "DATA\r\n").await?;
        let content = line.repeat(size / line.len());
        reply(&mut stream, &format!("Subject: large\r\n\r\n{content}.\r\n")).await?;
    }
    reply(&mut stream, "QUIT\r\n").await
}

/// Says something and waits for the reply: one line, because nobody said `EHLO`.
async fn reply(stream: &mut BufReader<DuplexStream>, command: &str) -> io::Result<()> {
    stream.write_all(command.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.starts_with(['2', '3']) { Ok(()) } else { Err(io::Error::other(line)) }
}
