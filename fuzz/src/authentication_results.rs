//! The law of `Authentication-Results`: what arrives in our name is left out in any spelling, and everything else stays as it was.

use std::cell::RefCell;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use smtp_core::{Accepted, Listener, Message, Server};
use smtp_policy::{Chain, Preset};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};

const OWN: &str = "mx.example.org";
const FIELD: &[u8] = b"authentication-results";

/// Sends the input, its lines ended as SMTP wants them, to a server that reports as `mx.example.org`, and compares what it stores.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let sent = lines(data);
    let Some(stored) = through_a_server(&sent) else { return };
    let (header, body) = split(&sent);
    let (stored, stored_body) = split(&stored);
    assert_eq!(body.escape_ascii().to_string(), stored_body.escape_ascii().to_string(), "the body stays");
    let (arrived, stored) = (fields(header), fields(stored));
    let (ours, rest) = stored.split_first().expect("ours is in front");
    assert_eq!(
        ours.escape_ascii().to_string(),
        b"Authentication-Results: mx.example.org; none\r\n".escape_ascii().to_string()
    );
    // Behind ours stand trace fields, then what arrived, without what was left out.
    let others = |fields: &[&[u8]]| {
        fields.iter().filter(|field| !is_results(field)).map(|field| field.to_vec()).collect::<Vec<_>>()
    };
    assert!(others(rest).ends_with(&others(&arrived)), "other fields stay: {:?}", sent.escape_ascii().to_string());
    let kept: Vec<_> = rest.iter().filter(|field| is_results(field)).collect();
    let mut left = kept.iter();
    let mut next = left.next();
    for field in arrived.iter().filter(|field| is_results(field)) {
        let is_kept = next.is_some_and(|next| **next == *field);
        if is_kept {
            assert!(!names_us(field), "left in: {}", field.escape_ascii());
            next = left.next();
        } else {
            assert!(might_name_us(field), "left out: {}", field.escape_ascii());
        }
    }
    assert_eq!(next, None, "nothing was made up");
}

/// The last message.
type Stored = Arc<Mutex<Option<Vec<u8>>>>;

/// What was stored of a message; `None` where it was refused.
fn through_a_server(content: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static SERVER: RefCell<(Runtime, Server, Stored)> = RefCell::new(server());
    }
    SERVER.with_borrow(|(runtime, server, stored)| {
        let dotted = [b"\r\n", content].concat();
        let mut said = b"EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster@example.org>\r\nDATA".to_vec();
        // RFC 5321 §4.5.2
        for line in dotted.split_inclusive(|&octet| octet == b'\n') {
            said.extend(if line.starts_with(b".") { &b"."[..] } else { b"" });
            said.extend(line);
        }
        said.extend(b".\r\nQUIT\r\n");
        runtime.block_on(async {
            let (mut client, stream) = duplex(1 << 20);
            client.write_all(&said).await.expect("there is room");
            client.shutdown().await.expect("a pipe");
            let [peer, local] = [1, 25].map(|last| SocketAddr::from(([192, 0, 2, last], 25)));
            server.serve_connection(stream, peer, local).await;
            let mut replies = Vec::new();
            client.read_to_end(&mut replies).await.expect("a pipe");
        });
        stored.lock().unwrap_or_else(PoisonError::into_inner).take()
    })
}

fn server() -> (Runtime, Server, Stored) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stored = Stored::default();
    let to_store = stored.clone();
    let builder = Server::builder(OWN)
        .local_domain("example.org")
        .policy(Chain::new("results", Preset::Bcp).reporting_as(&OWN.parse().expect("a domain")))
        .listener(Listener::new("127.0.0.1:0").refuse_early_talkers(false))
        .deliver(move |message: Message| {
            let mut octets = Vec::new();
            let read = message.reader().and_then(|mut reader| reader.read_to_end(&mut octets));
            read.expect("it is in memory");
            *to_store.lock().unwrap_or_else(PoisonError::into_inner) = Some(octets);
            async { Ok(Accepted::all()) }
        });
    let server = runtime.block_on(builder.bind()).expect("a valid configuration");
    (runtime, server, stored)
}

/// The input as lines that end with CRLF, without NUL and bare CR. It has a header section and a body.
fn lines(data: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for line in data.split(|&octet| octet == b'\n') {
        lines.extend(line.iter().filter(|octet| !matches!(octet, 0 | b'\r')).take(900));
        lines.extend(b"\r\n");
    }
    lines.extend(b"\r\nend\r\n");
    lines
}

/// The header section and what follows it.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    if message.starts_with(b"\r\n") {
        return (&[], message);
    }
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").expect("an empty line");
    message.split_at(end + 2)
}

/// Lines with those that continue them.
fn fields(header: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let mut start = 0;
    for (at, pair) in header.windows(2).enumerate() {
        if pair[0] == b'\n' && !matches!(pair[1], b' ' | b'\t') {
            fields.push(&header[start..=at]);
            start = at + 1;
        }
    }
    if start < header.len() {
        fields.push(&header[start..]);
    }
    fields
}

fn is_results(field: &[u8]) -> bool {
    let line = field.split(|&octet| octet == b'\n').next().unwrap_or_default();
    let Some(colon) = line.iter().position(|&octet| octet == b':') else { return false };
    line[..colon].trim_ascii_end().eq_ignore_ascii_case(FIELD)
}

fn value(field: &[u8]) -> String {
    let colon = field.iter().position(|&octet| octet == b':').expect("it has a name");
    String::from_utf8_lossy(&field[colon + 1..]).to_ascii_lowercase()
}

/// The plain spellings: our name first, behind white space and comments without comments in them, also as a quoted string.
fn names_us(field: &[u8]) -> bool {
    let value = value(field);
    let mut rest = value.trim_start();
    while let Some((comment, behind)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        if comment.contains(['(', '\\']) {
            return false;
        }
        rest = behind.trim_start();
    }
    let Some(behind) = rest.strip_prefix('"').unwrap_or(rest).strip_prefix(OWN) else { return false };
    behind.trim_start_matches(['"', '.']).chars().next().is_none_or(|c| c == ';' || c == '(' || c.is_ascii_whitespace())
}

/// Whether the letters of our name are there at all, or others that may stand for them.
fn might_name_us(field: &[u8]) -> bool {
    let value = value(field);
    let letters: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    !value.is_ascii() || without_comments(&value).contains("mxexampleorg") || letters.contains("mxexampleorg")
}

/// Letters and digits outside of comments.
fn without_comments(value: &str) -> String {
    let mut depth = 0_usize;
    let mut letters = String::new();
    for c in value.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 && c.is_ascii_alphanumeric() => letters.push(c),
            _ => {}
        }
    }
    letters
}
