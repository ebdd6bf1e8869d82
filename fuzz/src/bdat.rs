//! The law of chunks: content by `BDAT` is what was counted, however it is divided and cut (RFC 3030 §2).
//!
//! The octets under test are the content of one message, behind a header section. Choice 0 holds switches, those from 1 on
//! say where the content is divided into chunks, and where the wire is cut. A slow reading of RFC 3030 §2, R5321a and
//! LI17 says what must come of it.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use smtp_core::{Connection, Domain, ServerSession, SessionConfig, SessionId, Stages};

use crate::client::{Client, Record};
use crate::control::{Control, split};

/// Switches of choice 0.
const BINARY: u8 = 1;
const EMPTY_LAST: u8 = 2;
const IN_ONE_CHUNK: u8 = 4;

const HEADER: &[u8] = b"Subject: x\r\n\r\n";

/// Sends the message at once, octet by octet and in pieces.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let content = [HEADER, octets].concat();
    let is_binary = control.choice(0) & BINARY != 0;
    let chunks = chunks(content.len(), control);
    let (replies, is_whole) = expected(&content, &chunks, is_binary);
    let wire = wire(&content, &chunks);
    let start = Instant::now();
    let pieces: Vec<Range<usize>> = control.skip(1).cuts(wire.len()).collect();
    let single = (0..wire.len()).map(|at| at..at + 1).collect();
    let mut events = None;
    let at_once = std::iter::once(0..wire.len()).collect();
    for cuts in [at_once, single, pieces] {
        let record = run(&wire, cuts, is_binary, start);
        let mut got = codes(&record.output);
        // Greeting, EHLO, MAIL, RCPT; and at last the session is left alone until it ends.
        got.drain(..4);
        got.truncate(replies.len());
        assert_eq!(got, replies, "{chunks:?}");
        let delivered: Vec<&[u8]> = record.delivered.iter().map(|(_, content)| &content[..]).collect();
        let whole = is_whole.then_some(&content[..]);
        assert_eq!(delivered, whole.into_iter().collect::<Vec<_>>(), "{chunks:?}");
        assert_eq!(events.get_or_insert_with(|| record.events.clone()), &record.events);
    }
}

/// Where the content is divided; the last of these is the last chunk.
fn chunks(octets: usize, control: Control<'_>) -> Vec<Range<usize>> {
    let switches = control.choice(0);
    let whole = 0..octets;
    let mut chunks: Vec<_> = if switches & IN_ONE_CHUNK == 0 {
        control.skip(1).cuts(octets).collect()
    } else {
        std::iter::once(whole).collect()
    };
    if switches & EMPTY_LAST != 0 {
        chunks.push(octets..octets);
    }
    chunks
}

fn wire(content: &[u8], chunks: &[Range<usize>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let last = if number + 1 == chunks.len() { " LAST" } else { "" };
        wire.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(&content[chunk.clone()]);
    }
    wire.extend_from_slice(b"RSET\r\n");
    wire
}

/// The replies to the chunks and to `RSET`, and whether the message is delivered.
fn expected(content: &[u8], chunks: &[Range<usize>], is_binary: bool) -> (Vec<u16>, bool) {
    let mut replies = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let count = number + 1;
        if count > 100 && chunk.end < 512 * count {
            replies.push(421);
            return (replies, false);
        }
        if !is_binary && is_defective(&content[..chunk.end], count == chunks.len()) {
            replies.push(550);
            return (replies, false);
        }
        replies.push(250);
    }
    replies.push(250);
    (replies, true)
}

/// R5321a. What ends with CR may go on with LF.
fn is_defective(text: &[u8], is_whole: bool) -> bool {
    (0..text.len()).any(|at| match text[at] {
        0 => true,
        b'\r' => text.get(at + 1).map_or(is_whole, |&next| next != b'\n'),
        b'\n' => at == 0 || text[at - 1] != b'\r',
        _ => false,
    })
}

fn run(wire: &[u8], cuts: Vec<Range<usize>>, is_binary: bool, start: Instant) -> Record {
    let config = SessionConfig {
        honours_binarymime: true,
        stages: Stages::NONE,
        observed: true,
        ..SessionConfig::new(Domain::parse("mx.example.org").expect("a domain"))
    };
    let address = |last| SocketAddr::from(([192, 0, 2, last], 25));
    let connection = Connection::new(SessionId::new(1), address(1), address(2));
    let session = ServerSession::new(Arc::new(config), Arc::new(connection), start);
    let mut client = Client::new(session, Control::new(&[]), start);
    client.last_line_may_be_open = true;
    client.advance();
    let body = if is_binary { " BODY=BINARYMIME" } else { "" };
    client.send(b"EHLO c.example\r\n");
    client.send(format!("MAIL FROM:<a@c.example>{body}\r\nRCPT TO:<bob@example.org>\r\n").as_bytes());
    for piece in cuts {
        client.send(&wire[piece]);
    }
    client.finish()
}

/// The codes of all replies.
fn codes(output: &[u8]) -> Vec<u16> {
    let lines = output.split_inclusive(|&octet| octet == b'\n').filter(|line| line[3] == b' ');
    lines.map(|line| std::str::from_utf8(&line[..3]).expect("digits").parse().expect("a code")).collect()
}
