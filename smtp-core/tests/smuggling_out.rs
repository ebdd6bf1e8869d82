//! T6: whatever content an application gives to the client, each receiver sees one message, or the client refuses to
//! send it (SECURITY D-2).
//!
//! Each case is content with a candidate of D-1, D-53 or D-54 in it and an envelope behind, given by one of the ways in
//! that there are, cut somewhere. What the client writes is read by receivers that are wrong about the end of content in
//! twelve ways, and by one that is right. To a server that takes binary messages, what is not lines goes by BDAT, octet for
//! octet. `--nocapture` shows the figures.

#[path = "smuggling/candidates.rs"]
#[allow(dead_code, reason = "the positions and segmentations of the other direction")]
mod candidates;
#[path = "smuggling_out/receivers.rs"]
mod receivers;
mod scripted;

use std::fmt;

use bytes::Bytes;
use smtp_core::{
    Chained, ClientConfig, ClientConnection, ClientLimits, ContentSource, Defect, FileContent, SendCause, SendError,
    SendReport, TransferProtocol,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use candidates::{Position, additional_crs, after_other_line_ends, product};
use receivers::RECEIVERS;
use scripted::{Machine, envelope};

/// What a smuggler puts behind the candidate.
const ENVELOPE: &[u8] =
    b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n";

/// What a number of cases gave.
#[derive(Default)]
struct Tally {
    cases: usize,
    sent: usize,
    refused: usize,
    smuggled: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, sent, refused, smuggled } = self;
        let receivers = RECEIVERS.len();
        write!(
            f,
            "T6: {cases} cases x {receivers} receivers, {smuggled} smuggled: {sent} are one message, {refused} refused"
        )
    }
}

impl Tally {
    /// `written` is all that the client wrote behind `354`; nothing where it did not come so far.
    fn count(&mut self, content: &[u8], report: &SendReport, written: &[u8], case: impl Fn() -> String) {
        self.cases += 1;
        let expected = match &report.recipients()[0] {
            Ok(_) => {
                assert_eq!(first_defect(content), None, "{}: defective content was sent", case());
                self.sent += 1;
                1
            }
            Err(error) => {
                assert_eq!(error.status().to_string(), "5.6.0", "{}: {error}", case());
                assert!(has_cause(error, first_defect(content)), "{}: {error}", case());
                self.refused += 1;
                0
            }
        };
        for receiver in &RECEIVERS {
            let messages = receiver.messages(written);
            self.smuggled += messages.saturating_sub(expected);
            assert_eq!(messages, expected, "{}: {} sees {messages} messages", case(), receiver.name);
        }
    }
}

fn has_cause(error: &SendError, defect: Option<Defect>) -> bool {
    matches!((error.cause(), defect), (SendCause::Defect(found), Some(defect)) if *found == defect)
}

/// RFC 5321 §2.3.8, read slowly.
fn first_defect(content: &[u8]) -> Option<Defect> {
    let next_is_lf = |at: usize| content.get(at + 1) == Some(&b'\n');
    (0..content.len()).find_map(|at| match content[at] {
        0 => Some(Defect::Nul),
        b'\n' if at == 0 || content[at - 1] != b'\r' => Some(Defect::BareLf),
        // A NUL behind a CR is the first to be seen.
        b'\r' if !next_is_lf(at) && content.get(at + 1) == Some(&0) => Some(Defect::Nul),
        b'\r' if !next_is_lf(at) => Some(Defect::BareCr),
        _ => None,
    })
}

fn candidates() -> Vec<Vec<u8>> {
    [product(), additional_crs(), after_other_line_ends()].concat()
}

fn content(position: Position, candidate: &[u8]) -> Vec<u8> {
    [&position.prefix(candidate.len()), candidate, ENVELOPE].concat()
}

/// Sends content in these chunks by a session value; what it wrote behind `354`.
fn send(chunks: &[&[u8]]) -> (SendReport, Vec<u8>) {
    send_over(Machine::greeted(&["PIPELINING", "8BITMIME"]), chunks)
}

/// The same to a server that speaks LMTP.
fn send_by_lmtp(chunks: &[&[u8]]) -> (SendReport, Vec<u8>) {
    let mut machine = Machine::new(ClientLimits::default());
    machine.session = machine.session.with_protocol(TransferProtocol::Lmtp);
    machine.receive("220 store LMTP\r\n");
    machine.receive("250-store\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
    assert_eq!(machine.take_sent(), b"LHLO client.example\r\n");
    send_over(machine, chunks)
}

fn send_over(mut machine: Machine, chunks: &[&[u8]]) -> (SendReport, Vec<u8>) {
    machine.begin(&envelope(&["jones"]), chunks);
    let mut written = Vec::new();
    if !machine.take_sent().is_empty() {
        machine.receive("250 Ok\r\n250 Ok\r\n354 Go\r\n");
        written = machine.take_sent();
        if machine.reports.is_empty() {
            machine.receive("250 Ok\r\n");
        }
    }
    (machine.report(), written)
}

#[test]
fn t6_d2_content_given_in_any_two_chunks() {
    let mut tally = Tally::default();
    for position in Position::NEAR {
        for candidate in candidates() {
            let content = content(position, &candidate);
            let start = content.len() - ENVELOPE.len() - candidate.len();
            let name = |cut: usize| format!("{} at {position:?} cut at {cut}", candidate.escape_ascii());
            let cuts = if candidate.len() > 20 {
                vec![0, start, start + 1, start + 7]
            } else {
                (0..=candidate.len() + 2).map(|cut| start + cut).collect()
            };
            for cut in cuts {
                let (before, behind) = content.split_at(cut);
                let (report, written) = send(&[before, behind]);
                tally.count(&content, &report, &written, || name(cut));
            }
            let single: Vec<_> = content.chunks(1).collect();
            let (report, written) = send(&single);
            tally.count(&content, &report, &written, || name(usize::MAX));
        }
    }
    println!("{tally} (chunks)");
    assert!(tally.cases >= 20_000 && tally.sent > 1000 && tally.refused > 1000, "{tally}");
}

#[test] // A count has one meaning for every receiver: the octets behind it are the content.
fn t6_d2_what_is_not_lines_goes_by_bdat() {
    let (mut by_data, mut by_bdat) = (0, 0);
    for (number, candidate) in candidates().into_iter().enumerate() {
        let content = content(Position::NEAR[number % 3], &candidate);
        let start = content.len() - ENVELOPE.len() - candidate.len();
        for cut in [0, start, start + 1, start + candidate.len()] {
            let mut machine = Machine::greeted(&["PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME"]);
            let (before, behind) = content.split_at(cut);
            machine.begin(&envelope(&["jones"]), &[before, behind]);
            let commands = String::from_utf8(machine.take_sent()).expect("ASCII");
            let is_text = first_defect(&content).is_none();
            assert_eq!(commands.ends_with("DATA\r\n"), is_text, "{}: {commands}", candidate.escape_ascii());
            if is_text {
                by_data += 1;
                continue;
            }
            assert!(commands.starts_with("MAIL FROM:<a@client.example> BODY=BINARYMIME\r\n"), "{commands}");
            machine.receive("250 Ok\r\n250 Ok\r\n");
            let expected = [format!("BDAT {} LAST\r\n", content.len()).as_bytes(), &content].concat();
            assert!(machine.take_sent() == expected, "{} cut at {cut}", candidate.escape_ascii());
            by_bdat += 1;
        }
    }
    println!("T6: {by_bdat} cases by BDAT, unchanged; {by_data} by DATA");
    assert!(by_bdat > 1000 && by_data > 100, "{by_bdat} {by_data}");
}

#[test] // RFC 2033 §4.2: the end of content is that of SMTP.
fn t6_d2_content_by_lmtp() {
    let mut tally = Tally::default();
    for position in Position::NEAR {
        for (number, candidate) in candidates().into_iter().enumerate() {
            let content = content(position, &candidate);
            let cut = content.len() - ENVELOPE.len() - number % (candidate.len() + 1);
            let (report, written) = send_by_lmtp(&[&content[..cut], &content[cut..]]);
            tally.count(&content, &report, &written, || format!("{} at {position:?}", candidate.escape_ascii()));
        }
    }
    println!("{tally} (LMTP)");
    assert!(tally.cases >= 3000 && tally.sent > 100 && tally.refused > 100, "{tally}");
}

#[test] // Here most is on the wire before the defect is seen.
fn t6_d2_content_across_the_border_of_a_block() {
    let mut tally = Tally::default();
    let positions: Vec<_> = Position::borders()
        .into_iter()
        .filter(|position| matches!(position, Position::Across { border: 65_536, .. }))
        .collect();
    for (number, candidate) in candidates().into_iter().enumerate() {
        // A debug build takes one of the places for each.
        let places = if cfg!(debug_assertions) { &positions[number % 3..=number % 3] } else { &positions[..] };
        for &position in places {
            let content = content(position, &candidate);
            let (report, written) = send(&[&content]);
            tally.count(&content, &report, &written, || format!("{} at {position:?}", candidate.escape_ascii()));
        }
    }
    println!("{tally} (blocks)");
    assert!(tally.cases >= 1000 && tally.sent > 100 && tally.refused > 100, "{tally}");
}

/// The same by the driver: what it writes behind `354` is kept by the server's end of the pipe.
async fn send_by_driver(source: Box<dyn ContentSource>) -> (SendReport, Vec<u8>) {
    let (near, far) = tokio::io::duplex(1 << 18);
    let server = tokio::spawn(serve(far));
    let config = ClientConfig::new("client.example").expect("a name");
    let mut connection = ClientConnection::over(near, &config).await.expect("it greets");
    let report = connection.send(&envelope(&["jones"]), source).await;
    drop(connection);
    (report, server.await.expect("no panic"))
}

/// A server that gives the replies to a message that is sent whole, and keeps what follows `DATA`.
async fn serve(mut stream: DuplexStream) -> Vec<u8> {
    let mut received = Vec::new();
    let mut start = 0;
    for (reply, awaited) in [
        ("220 mx\r\n", &b"EHLO client.example\r\n"[..]),
        ("250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n", b"DATA\r\n"),
        ("250 Ok\r\n250 Ok\r\n354 Go\r\n", b"\r\n.\r\n"),
        ("250 Ok\r\n", b"\0never"),
    ] {
        if stream.write_all(reply.as_bytes()).await.is_err() {
            break;
        }
        while !received.ends_with(awaited) {
            match stream.read_buf(&mut received).await {
                Ok(1..) => {}
                _ => return received.split_off(start.min(received.len())),
            }
        }
        if awaited == b"DATA\r\n" {
            start = received.len();
        } else if start == 0 {
            received.clear();
        }
    }
    received.split_off(start)
}

#[tokio::test]
async fn t6_d2_content_from_memory_and_from_files() {
    let directory = tempfile::tempdir().expect("made");
    let mut tally = Tally::default();
    for (number, candidate) in candidates().into_iter().enumerate() {
        let position = Position::NEAR[number % 3];
        let content = content(position, &candidate);
        let octets = Bytes::from(content.clone());
        let cut = content.len() - ENVELOPE.len() - number % (candidate.len() + 1);
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, &content).expect("written");
        let file = std::fs::File::open(&path).expect("opens");
        let sources: [(&str, Box<dyn ContentSource>); 4] = [
            ("memory", Box::new(octets.clone())),
            ("parts", Box::new(vec![octets.slice(..cut), octets.slice(cut..)])),
            ("chained", Box::new(Chained::new(octets.slice(..cut), octets.slice(cut..)))),
            ("file", Box::new(FileContent::new(file, 0, content.len() as u64))),
        ];
        for (way, source) in sources {
            let (report, written) = send_by_driver(source).await;
            tally.count(&content, &report, &written, || {
                format!("{} at {position:?} by {way}", candidate.escape_ascii())
            });
        }
        std::fs::remove_file(&path).expect("removed");
    }
    println!("{tally} (driver)");
    assert!(tally.cases >= 4000 && tally.sent > 100 && tally.refused > 100, "{tally}");
}
