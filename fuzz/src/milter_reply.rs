//! What a filter says by the milter protocol (SECURITY D-49, D-50): the first octet is the command that it answers so, the others
//! are its answer, behind which it leaves.
//!
//! Whatever it says, the session ends with one answer to the client, a message is delivered if and only if that answer is
//! `250`, what is delivered is canonical, and what a slow reading of the protocol does not take for an agreement delivers
//! nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::{Accepted, DataEncoder, Domain, Message, Server};
use smtp_policy::Milter;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{UnixListener, UnixStream};

/// See the module.
///
/// # Panics
/// Where it is broken.
pub fn law(octets: &[u8]) {
    let Some((&command, answer)) = octets.split_first() else { return };
    // Another command is answered with an agreement, and then the answer is never said.
    let is_said = b"OCHMRTLNBE".contains(&command);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread of its own");
    let (said, delivered) = runtime.block_on(session(command, answer.to_vec()));
    assert_eq!(delivered.len(), usize::from(said.starts_with("250 ")), "{said}");
    for content in &delivered {
        let mut wire = Vec::new();
        let mut encoder = DataEncoder::new();
        assert!(encoder.encode(content, &mut wire).is_ok() && encoder.finish(&mut wire).is_ok(), "{content:?}");
    }
    if command == b'E' {
        assert!(delivered.is_empty() || is_agreement(answer), "a slow reading takes it for no agreement");
    } else if !is_said {
        assert_eq!(delivered.len(), 1, "{said}");
    }
}

/// Whether these are packets of which all but the last are changes or words of patience, and the last one agrees.
fn is_agreement(mut said: &[u8]) -> bool {
    loop {
        let Some((length, rest)) = said.split_first_chunk::<4>() else { return false };
        let length = length.iter().fold(0_usize, |sum, octet| sum * 256 + usize::from(*octet));
        let Some((&kind, behind)) = rest.get(..length).and_then(<[u8]>::split_first) else { return false };
        match kind {
            // To discard a message is to take it.
            b'a' | b'c' | b'd' => return true,
            b'p' | b'h' | b'i' | b'm' | b'+' | b'2' | b'-' | b'e' | b'b' | b'q' => said = &rest[1 + behind.len()..],
            _ => return false,
        }
    }
}

/// A socket that nobody else has.
fn place() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("milter-law-{}-{number}", std::process::id()))
}

/// The answer to a message, or the first refusal, and what was delivered.
async fn session(command: u8, answer: Vec<u8>) -> (String, Vec<Vec<u8>>) {
    let path = place();
    let listener = UnixListener::bind(&path).expect("a place of its own");
    let address = format!("unix:{}", path.display()).parse().expect("a path");
    let filter = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream, command, &answer).await;
        }
    });
    let inbox = Arc::new(Mutex::new(Vec::new()));
    let delivered = inbox.clone();
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .policy(Milter::new(address, &Domain::parse("mx.example.org").expect("a domain")))
        .deliver(move |message: Message| {
            let mut content = Vec::new();
            let read = message.reader().and_then(|mut reader| std::io::Read::read_to_end(&mut reader, &mut content));
            read.expect("it is in memory");
            delivered.lock().unwrap_or_else(PoisonError::into_inner).push(content);
            async { Ok(Accepted::all()) }
        })
        .bind()
        .await
        .expect("a valid configuration");
    let (near, far) = duplex(1 << 16);
    let (peer, local) = ("192.0.2.1:1".parse().expect("an address"), "192.0.2.25:25".parse().expect("an address"));
    let ((), said) = tokio::join!(server.serve_connection(far, peer, local), talk(near));
    filter.abort();
    std::fs::remove_file(&path).expect("it was made");
    let delivered = inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (said, delivered)
}

/// Sends one message; the answer to it, or the first refusal.
async fn talk(mut stream: DuplexStream) -> String {
    let mut said = reply(&mut stream).await;
    for line in [
        "EHLO client.example\r\n",
        "MAIL FROM:<a@client.example>\r\n",
        "RCPT TO:<user@example.org>\r\n",
        "DATA\r\n",
        "Subject: x\r\n y\r\n\r\nbody\r\n.\r\n",
    ] {
        if !said.starts_with(['2', '3']) {
            return said;
        }
        stream.write_all(line.as_bytes()).await.expect("a pipe");
        said = reply(&mut stream).await;
    }
    said
}

/// One reply, as a client reads it.
async fn reply(stream: &mut DuplexStream) -> String {
    let mut said = Vec::new();
    loop {
        let octet = stream.read_u8().await.expect("the server has the last word");
        said.push(octet);
        if octet == b'\n' && is_last_line(&said) {
            break;
        }
    }
    assert!(said.ends_with(b"\r\n") && said.iter().all(|octet| octet.is_ascii_graphic() || b" \r\n".contains(octet)));
    String::from_utf8_lossy(&said).into_owned()
}

fn is_last_line(said: &[u8]) -> bool {
    let start = said[..said.len() - 1].iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    said.get(start + 3) != Some(&b'-')
}

/// Agrees to everything but that command.
async fn serve(mut stream: UnixStream, command: u8, answer: &[u8]) -> Option<()> {
    loop {
        let length = stream.read_u32().await.ok()?;
        let mut packet = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut packet).await.ok()?;
        let letter = *packet.first()?;
        if letter == command && b"OCHMRTLNBE".contains(&letter) {
            // Who stayed behind half an answer would only be waited for.
            stream.write_all(answer).await.ok()?;
            return None;
        }
        match letter {
            b'O' => stream.write_all(b"\0\0\0\x0dO\0\0\0\x06\0\0\0\xff\0\0\0\0").await.ok()?,
            b'D' | b'A' | b'Q' => {}
            _ => stream.write_all(b"\0\0\0\x01c").await.ok()?,
        }
    }
}
