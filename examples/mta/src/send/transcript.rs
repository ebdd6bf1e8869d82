//! A stream that shows the dialogue which passes through it: `C: ` and `S: ` in front of each line.
//!
//! It knows of SMTP only what decides whether a line may be shown. Content is counted instead, and credentials are left
//! out; for both it must know which command a reply answers, also where many were sent at once (RFC 2920).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smtp_core::{DataDecoder, Decoded, Line, LineLimits, LineReader, SafeText};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer lines are named instead of shown; however long they are, no more than this is held.
const LIMITS: LineLimits = LineLimits { line_octets: 64 << 10, discard_octets: u64::MAX };

/// A stream and a transcript of what passes. What cannot be written to the transcript is lost.
#[derive(Debug)]
pub(super) struct Transcript<S, W> {
    stream: S,
    dialogue: Dialogue<W>,
}

impl<S, W: Write> Transcript<S, W> {
    pub(super) fn new(stream: S, output: W) -> Self {
        Self { stream, dialogue: Dialogue::new(output) }
    }
}

impl<S: AsyncRead + Unpin, W: Write + Unpin> AsyncRead for Transcript<S, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.dialogue.server_said(&buffer.filled()[before..]);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin, W: Write + Unpin> AsyncWrite for Transcript<S, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, octets))?;
        self.dialogue.client_said(&octets[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A line of the client that awaits its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Data,
    Auth,
    /// Any other, and the connection itself, which the greeting answers.
    Other,
}

/// What a line of a reply says about its command (RFC 5321 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Other lines follow.
    Unfinished,
    /// 3yz: the server waits for more of it.
    GoOn,
    Done,
}

/// What the next octets of the client are.
#[derive(Debug)]
enum Next {
    Command,
    /// The answer to a challenge (RFC 4954 §4).
    Credentials,
    /// Behind `354`: so many octets of it have passed and were not mentioned.
    Content(DataDecoder, u64),
}

/// Both directions, cut into lines.
struct Dialogue<W> {
    output: W,
    client: LineReader,
    server: LineReader,
    next: Next,
    /// As many as the client sends at once.
    awaiting: VecDeque<Command>,
}

impl<W: Write> Dialogue<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            client: LineReader::new(),
            server: LineReader::new(),
            next: Next::Command,
            awaiting: VecDeque::from([Command::Other]),
        }
    }

    fn client_said(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if let Next::Content(decoder, count) = &mut self.next {
                match decoder.next(&mut octets) {
                    Some(Decoded::Content(content)) => *count += content.len() as u64,
                    Some(Decoded::End) => {
                        let text = format!("({count} octets of content)");
                        self.next = Next::Command;
                        self.awaiting.push_back(Command::Other);
                        self.show("C: ", &text);
                    }
                    None => {}
                }
                continue;
            }
            let is_secret = matches!(self.next, Next::Credentials) || self.awaiting.contains(&Command::Auth);
            let Some(line) = self.client.next(&mut octets, LIMITS, |line| command(line, is_secret)) else { break };
            // Who can no longer say what a line was takes it for the one that must not be shown.
            let (command, text) = shown(line).unwrap_or((Command::Auth, TOO_LONG.to_owned()));
            self.next = Next::Command;
            self.awaiting.push_back(command);
            self.show("C: ", &text);
        }
    }

    fn server_said(&mut self, mut octets: &[u8]) {
        while let Some(line) = self.server.next(&mut octets, LIMITS, reply_line) {
            if let Next::Content(_, count @ 1..) = &mut self.next {
                // A server that has seen enough does not wait for the end.
                let text = format!("({} octets of content so far)", std::mem::take(count));
                self.show("C: ", &text);
            }
            let (answer, text) = shown(line).unwrap_or((Answer::Done, TOO_LONG.to_owned()));
            self.show("S: ", &text);
            let command = if answer == Answer::Unfinished { None } else { self.awaiting.pop_front() };
            match (command, answer) {
                (Some(Command::Data), Answer::GoOn) => self.next = Next::Content(DataDecoder::new(), 0),
                (Some(Command::Auth), Answer::GoOn) => self.next = Next::Credentials,
                _ => {}
            }
        }
    }

    fn show(&mut self, direction: &str, text: &str) {
        let _ = writeln!(self.output, "{direction}{text}");
    }
}

impl<W> fmt::Debug for Dialogue<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialogue").field("next", &self.next).field("awaiting", &self.awaiting).finish_non_exhaustive()
    }
}

/// Stands for a line over the limit.
const TOO_LONG: &str = "(a line of more than 65536 octets)";

fn shown<T>(line: Line<T>) -> Option<T> {
    match line {
        Line::Complete(shown) => Some(shown),
        Line::TooLong | Line::Endless => None,
    }
}

fn safe(line: &[u8]) -> String {
    SafeText::from_octets(line).as_str().to_owned()
}

/// What a line of the client is, and what may be seen of it: of `AUTH` the mechanism alone (RFC 4954 §4).
fn command(line: &[u8], is_secret: bool) -> (Command, String) {
    if is_secret {
        return (Command::Auth, "(credentials)".to_owned());
    }
    if line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH")) {
        return (Command::Auth, mechanism(&line[4..]));
    }
    let command = if line.trim_ascii_end().eq_ignore_ascii_case(b"DATA") { Command::Data } else { Command::Other };
    (command, safe(line))
}

/// The octets that a mechanism can be named with, at most 20 (RFC 4422 §3.1).
fn mechanism(arguments: &[u8]) -> String {
    let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    let arguments = arguments.trim_ascii();
    let end = arguments.iter().position(|octet| !is_name(octet)).unwrap_or(arguments.len()).min(20);
    let (name, rest) = arguments.split_at(end);
    let hidden = if rest.is_empty() { "" } else { " (credentials)" };
    format!("AUTH {}{hidden}", safe(name)).trim_ascii_end().to_owned()
}

fn reply_line(line: &[u8]) -> (Answer, String) {
    let answer = match line {
        [_, _, _, b'-', ..] => Answer::Unfinished,
        [b'3', ..] => Answer::GoOn,
        _ => Answer::Done,
    };
    (answer, safe(line))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Plays a dialogue in pieces of so many octets; what is shown of it.
    fn transcript(dialogue: &[(char, &str)], piece_octets: usize) -> String {
        let mut output = Vec::new();
        let mut transcript = Dialogue::new(&mut output);
        for (side, text) in dialogue {
            for piece in text.as_bytes().chunks(piece_octets) {
                if *side == 'C' { transcript.client_said(piece) } else { transcript.server_said(piece) }
            }
        }
        String::from_utf8(output).expect("it is made harmless")
    }

    fn assert_shown(dialogue: &[(char, &str)], expected: &[&str]) {
        for piece_octets in [1, 2, 3, 5, 7, 11, 64, usize::MAX] {
            let shown = transcript(dialogue, piece_octets);
            assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "in pieces of {piece_octets}");
        }
    }

    #[test] // RFC 2920 §3.1: several commands in one write, several replies in one read.
    fn each_line_is_shown_for_itself_and_content_is_counted() {
        assert_shown(
            &[
                ('S', "220 mx\r\n"),
                ('C', "EHLO [127.0.0.1]\r\n"),
                ('S', "250-mx\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n"),
                ('C', "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n"),
                ('S', "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n"),
                ('C', "Subject: x\r\n\r\nDATA\r\n..\r\nAUTH x\r\n.\r\n"),
                ('S', "250 yes\r\n"),
                ('C', "QUIT\r\n"),
                ('S', "221-2.0.0\r\n221\r\n"),
            ],
            &[
                "S: 220 mx",
                "C: EHLO [127.0.0.1]",
                "S: 250-mx",
                "S: 250-PIPELINING",
                "S: 250 AUTH PLAIN",
                "C: MAIL FROM:<>",
                "C: RCPT TO:<a@b.example>",
                "C: DATA",
                "S: 250 2.1.0 Ok",
                "S: 250 2.1.5 Ok",
                "S: 354 go",
                "C: (31 octets of content)",
                "S: 250 yes",
                "C: QUIT",
                "S: 221-2.0.0",
                "S: 221",
            ],
        );
    }

    #[test] // RFC 2920 §3.1: behind a refused `DATA` come commands, behind 354 comes a dot at least.
    fn what_follows_data_depends_on_its_reply() {
        let before = [('S', "220 x\r\n"), ('C', "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")];
        let refused = [('S', "250-a\r\n250 x\r\n354 x\r\n554 no\r\n"), ('C', "RSET\r\n")];
        let shown = transcript(&[&before[..], &refused].concat(), 1);
        assert!(shown.ends_with("C: DATA\nS: 250-a\nS: 250 x\nS: 354 x\nS: 554 no\nC: RSET\n"), "{shown}");
        let nobody = [
            ('S', "250 x\r\n550 x\r\n354-go\r\n354 go\r\n"),
            ('C', ".\r\nMAIL FROM:<>\r\nDATA\r\n"),
            ('S', "554 x\r\n250 x\r\n354 x\r\n"),
            ('C', "abc\r\n.\r\n"),
        ];
        let shown = transcript(&[&before[..], &nobody].concat(), 1);
        assert!(shown.contains("S: 354 go\nC: (0 octets of content)\nC: MAIL FROM:<>\n"), "{shown}");
        assert!(shown.ends_with("S: 354 x\nC: (5 octets of content)\n"), "{shown}");
        let cut = [('S', "250 x\r\n250 x\r\n354 x\r\n"), ('C', "abc\r\ndef"), ('S', "552-too\r\n552 much\r\n")];
        let shown = transcript(&[&before[..], &cut].concat(), 1);
        assert!(shown.ends_with("S: 354 x\nC: (8 octets of content so far)\nS: 552-too\nS: 552 much\n"), "{shown}");
    }

    #[test] // RFC 4954 §4: with an initial response, with challenges, and with both in one write.
    fn credentials_are_never_shown() {
        assert_shown(
            &[
                ('S', "220 x\r\n"),
                ('C', "auth PLAIN c2VjcmV0\r\n"),
                ('S', "535 no\r\n"),
                ('C', "AUTH LOGIN\r\n"),
                ('S', "334 VXNlcg==\r\n"),
                ('C', "c2VjcmV0\r\n"),
                ('S', "334-a\r\n334 b\r\n"),
                ('C', "DATA\r\n"),
                ('S', "334 again\r\n"),
                ('C', "AUTH c2VjcmV0\r\n"),
                ('S', "235 yes\r\n"),
                ('C', "NOOP\r\nAUTH X-Y_1\tc2VjcmV0\r\nc2VjcmV0\r\n"),
                ('S', "250 x\r\n334\r\n"),
                ('C', "c2VjcmV0\r\n"),
                ('S', "500 x\r\n500 x\r\n"),
                ('C', "RSET\r\nAUTH\r\n"),
            ],
            &[
                "S: 220 x",
                "C: AUTH PLAIN (credentials)",
                "S: 535 no",
                "C: AUTH LOGIN",
                "S: 334 VXNlcg==",
                "C: (credentials)",
                "S: 334-a",
                "S: 334 b",
                "C: (credentials)",
                "S: 334 again",
                "C: (credentials)",
                "S: 235 yes",
                "C: NOOP",
                "C: AUTH X-Y_1 (credentials)",
                "C: (credentials)",
                "S: 250 x",
                "S: 334",
                "C: (credentials)",
                "S: 500 x",
                "S: 500 x",
                "C: RSET",
                "C: AUTH",
            ],
        );
        let long = format!("AUTH PLAIN {}\r\n", "c2VjcmV0".repeat(10_000));
        let dialogue = [('S', "220 x\r\n"), ('C', long.as_str()), ('S', "334\r\n"), ('C', "c2VjcmV0\r\n")];
        assert!(!transcript(&dialogue, 1000).contains("c2VjcmV0"));
    }

    #[test] // SECURITY.md D-26, D-35
    fn nothing_that_drives_a_terminal_is_shown_and_nothing_is_held_for_ever() {
        assert_shown(&[('S', "220 \x1b[31mx\0\u{202e}\ny\rz\r\n")], &["S: 220 ?[31mx???y?z"]);
        let long = format!("220 {}\r\n250 x\r\n", "x".repeat(100_000));
        assert_shown(&[('S', &long)], &["S: (a line of more than 65536 octets)", "S: 250 x"]);
    }

    #[tokio::test]
    async fn the_stream_passes_everything_on_unchanged() {
        // The far end takes three octets at a time, so that not every write is taken whole.
        let (near, mut far) = tokio::io::duplex(3);
        let mut output = Vec::new();
        let mut stream = Transcript::new(near, &mut output);
        let client = async {
            stream.write_all(b"EHLO x\r\n").await.expect("taken");
            stream.flush().await.expect("flushed");
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.expect("read");
            said
        };
        let server = async {
            let mut said = [0; 8];
            far.read_exact(&mut said).await.expect("read");
            far.write_all(b"220 x\r\n250 y\r\n").await.expect("taken");
            drop(far);
            said
        };
        let (said, heard) = tokio::join!(client, server);
        assert_eq!((&heard[..], &said[..]), (&b"EHLO x\r\n"[..], &b"220 x\r\n250 y\r\n"[..]));
        assert_eq!(output, b"C: EHLO x\nS: 220 x\nS: 250 y\n");
    }
}
