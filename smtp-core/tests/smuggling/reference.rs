//! A slow receiver, written from RFC 5321 alone: what must become of the octets behind `354`, one octet at a time.

use std::ops::Range;

/// What a receiver made of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// The content of each message that was delivered.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Reply code and enhanced status code, one reply a line.
    pub(crate) replies: String,
    /// The octets with which the server ended the session: from the first octet behind `354`, as exactly as is known.
    pub(crate) closed_at: Option<Range<usize>>,
}

impl Outcome {
    /// Whether `got` is the same; its end may be known less exactly.
    pub(crate) fn agrees(&self, got: &Self) -> bool {
        let ends_agree = match (&self.closed_at, &got.closed_at) {
            (Some(at), Some(within)) => within.start <= at.start && at.end <= within.end,
            (None, None) => true,
            _ => false,
        };
        ends_agree && self.replies == got.replies && self.messages == got.messages
    }

    pub(crate) fn reply(&mut self, reply: &str) {
        self.replies.push_str(reply);
        self.replies.push('\n');
    }
}

/// Where in a session the next octet stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Content,
    NoMail,
    NoRecipient,
    Recipient,
}

/// The receiver. It begins behind the `354` of a transaction that has a recipient.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    outcome: Outcome,
    /// All octets since `354`, or since the last command.
    octets: Vec<u8>,
    taken: usize,
    place: Place,
    /// Whether a client must wait for the reply to `DATA` (RFC 2920 §3.1).
    refuses_early_talkers: bool,
}

impl Reference {
    pub(crate) fn new(refuses_early_talkers: bool) -> Self {
        Self { refuses_early_talkers, ..Self::default() }
    }

    /// Takes one write of the client, whose octets arrive together.
    pub(crate) fn write(&mut self, octets: &[u8]) {
        for (at, &octet) in octets.iter().enumerate() {
            if self.outcome.closed_at.is_some() {
                return;
            }
            self.taken += 1;
            self.octets.push(octet);
            if self.place == Place::Content {
                self.look_for_end();
            } else {
                self.look_for_command(at + 1 < octets.len());
            }
        }
    }

    pub(crate) fn outcome(self) -> Outcome {
        self.outcome
    }

    /// RFC 5321 §4.1.1.4: `CRLF . CRLF`, where the first CRLF may be that of the `DATA` line.
    fn look_for_end(&mut self) {
        if self.octets != b".\r\n" && !self.octets.ends_with(b"\r\n.\r\n") {
            return;
        }
        let content = std::mem::take(&mut self.octets);
        let content = &content[..content.len() - b".\r\n".len()];
        self.place = Place::NoMail;
        if is_defective(content) {
            self.outcome.reply("550 5.5.2");
            self.close();
        } else {
            self.outcome.messages.push(without_transparency(content));
            self.outcome.reply("250 2.0.0");
        }
    }

    /// RFC 5321 §2.3.8: a line ends with CRLF, and with nothing else.
    fn look_for_command(&mut self, more_came_with_it: bool) {
        let Some(line) = self.octets.strip_suffix(b"\r\n") else { return };
        let is = |start: &[u8]| line.starts_with(start);
        let reply = match self.place {
            _ if line == b"QUIT" => "221 2.0.0",
            _ if line == b"DATA" && self.refuses_early_talkers && more_came_with_it => "554 5.5.0",
            Place::NoMail if is(b"MAIL FROM:<") => "250 2.1.0",
            Place::NoRecipient | Place::Recipient if is(b"RCPT TO:<") => "250 2.1.5",
            Place::NoRecipient if line == b"DATA" => "554 5.5.1",
            Place::Recipient if line == b"DATA" => "354",
            _ if line == b"DATA" || is(b"MAIL FROM:<") || is(b"RCPT TO:<") => "503 5.5.1",
            _ => "500 5.5.1",
        };
        self.place = match reply {
            "250 2.1.0" => Place::NoRecipient,
            "250 2.1.5" => Place::Recipient,
            "354" => Place::Content,
            _ => self.place,
        };
        self.octets.clear();
        self.outcome.reply(reply);
        if reply == "221 2.0.0" || reply == "554 5.5.0" {
            self.close();
        }
    }

    fn close(&mut self) {
        self.outcome.closed_at = Some(self.taken - 1..self.taken);
    }
}

/// RFC 5321 §2.3.8 and R5321a: a CR without LF, an LF without CR, or NUL.
fn is_defective(content: &[u8]) -> bool {
    let before = |at: usize| if at == 0 { None } else { Some(content[at - 1]) };
    content.iter().enumerate().any(|(at, &octet)| match octet {
        0 => true,
        b'\r' => content.get(at + 1) != Some(&b'\n'),
        b'\n' => before(at) != Some(b'\r'),
        _ => false,
    })
}

/// RFC 5321 §4.5.2: the first character of a line is dropped where it is a dot.
fn without_transparency(content: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut at_line_start = true;
    for &octet in content {
        if !(at_line_start && octet == b'.') {
            kept.push(octet);
        }
        at_line_start = octet == b'\n';
    }
    kept
}

/// `250-… 250 2.1.0 Ok` as it stands on the wire becomes `250 2.1.0`, one reply a line.
pub(crate) fn codes(wire: &[u8]) -> String {
    let mut outcome = Outcome::default();
    for line in String::from_utf8_lossy(wire).split_terminator("\r\n").filter(|line| line.get(3..4) != Some("-")) {
        let mut words = line.splitn(3, ' ');
        let code = words.next().unwrap_or_default();
        let status =
            words.next().filter(|word| word.split('.').filter(|part| part.parse::<u16>().is_ok()).count() == 3);
        outcome.reply(&status.map_or_else(|| code.to_owned(), |status| format!("{code} {status}")));
    }
    outcome.replies
}

#[test]
fn the_reference_itself_says_what_the_rfc_says() {
    let refused = (vec![], "550 5.5.2\n");
    for (rfc, stream, (messages, replies)) in [
        ("§4.1.1.4", &b".\r\nQUIT\r\n"[..], (vec![&b""[..]], "250 2.0.0\n221 2.0.0\n")),
        ("§4.1.1.4", b"a\r\n.\r\nQUIT\r\nNOOP\r\n", (vec![b"a\r\n"], "250 2.0.0\n221 2.0.0\n")),
        ("§4.5.2", b"..\r\n.b\r\n...\r\n.\r\n", (vec![b".\r\nb\r\n..\r\n"], "250 2.0.0\n")),
        ("§2.3.8", b"a\n.\r\nMAIL FROM:<x@y>\r\n.\r\nQUIT\r\n", refused.clone()),
        ("§2.3.8", b"a\r\n.\r\r\n.\r\nQUIT\r\n", refused.clone()),
        ("§2.3.8", b"a\0\r\n.\r\nQUIT\r\n", refused.clone()),
        ("§2.3.8", b"a\n.\n", (vec![], "")),
        (
            "§4.1.4",
            b".\r\nMAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nDATA\r\nb\r\n.\r\n",
            (vec![b"", b"b\r\n"], "250 2.0.0\n250 2.1.0\n250 2.1.5\n354\n250 2.0.0\n"),
        ),
        ("§4.1.4", b".\r\nRCPT TO:<z@y>\r\nDATA\r\n", (vec![b""], "250 2.0.0\n503 5.5.1\n503 5.5.1\n")),
    ] {
        let mut reference = Reference::new(false);
        reference.write(stream);
        let outcome = reference.outcome();
        assert_eq!(outcome.messages, messages, "{rfc}: {}", stream.escape_ascii());
        assert_eq!(outcome.replies, replies, "{rfc}: {}", stream.escape_ascii());
    }
}
