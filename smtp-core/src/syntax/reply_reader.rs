//! Reads replies as a server sends them: of several lines, cut anywhere, and not trusted (RFC 5321 §4.2).
//!
//! Lines end with CRLF and nothing else. A reply is bounded in octets and lines, its words are cleaned and cut, and what
//! is no reply ends the reading: nobody can tell what stands behind it.

use thiserror::Error;

use super::line::{Line, LineLimits, LineReader};
use super::reply::{EnhancedStatusCode, Reply, ReplyCode, ReplyText};

/// How large one reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Octets of all its lines, CRLFs included: 65,536.
    pub octets: usize,
    /// Its lines: 512.
    pub lines: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { octets: 64 << 10, lines: 512 }
    }
}

/// What came is no reply. Whoever reads on is out of step with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A line that does not start with a reply code of the grammar, and a space, a hyphen or nothing behind it.
    #[error("the server sent a line that is no reply")]
    Syntax,
    /// Lines of one reply have different codes (RFC 5321 §4.2.1).
    #[error("the server sent a reply with two codes")]
    Codes,
    /// Lines end with LF alone; a line ends with CRLF (RFC 5321 §2.3.8).
    #[error("the server sent a line that ends with LF alone")]
    BareLf,
    /// More octets or lines than [`ReplyLimits`] allow.
    #[error("the server sent a reply without an end")]
    TooLong,
}

impl ReplyError {
    /// Always: what a server says wrong today it may say right tomorrow.
    pub fn is_transient(&self) -> bool {
        true
    }
}

/// Collects replies from octets that arrive in arbitrary pieces.
///
/// Holds less than one line, and of the lines before it the words that fit in a [`Reply`].
#[derive(Debug, Default)]
pub struct ReplyReader {
    lines: LineReader,
    open: OpenReply,
}

/// The reply whose end has not arrived.
#[derive(Debug, Default)]
struct OpenReply {
    octets: usize,
    /// Octets of the lines that are complete.
    line_start: usize,
    lines: usize,
    digits: Option<[u8; 3]>,
    status: Option<EnhancedStatusCode>,
    text: String,
}

impl ReplyReader {
    /// A reader before the first octet of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a part of a reply has arrived.
    pub fn is_within_reply(&self) -> bool {
        self.open.octets > 0
    }

    /// Whether the waiting part of a line holds a bare LF: the mark of a server that ends lines with LF alone.
    pub fn has_bare_lf(&self) -> bool {
        self.lines.has_bare_lf()
    }

    /// Takes the next reply from the front of `input`; `each_line` gets the number of each of its lines, from 0, and
    /// what stands behind the code, as it came.
    ///
    /// `None` when the end of the reply has not arrived; all of `input` is taken then.
    ///
    /// # Errors
    /// [`ReplyError`]; the reader is of no use after it.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        limits: ReplyLimits,
        mut each_line: impl FnMut(usize, &[u8]),
    ) -> Option<Result<Reply, ReplyError>> {
        let Self { lines, open } = self;
        loop {
            let left = limits.octets.saturating_sub(open.line_start);
            let line_limits = LineLimits { line_octets: left, discard_octets: left as u64 };
            let before = input.len();
            let line = lines.next(input, line_limits, |line| open.take_line(line, &mut each_line));
            open.octets += before - input.len();
            match line? {
                Line::Complete(Ok(Some(code))) => {
                    let open = std::mem::take(open);
                    return Some(Ok(open.into_reply(code)));
                }
                Line::Complete(Ok(None)) if open.lines < limits.lines => open.line_start = open.octets,
                Line::Complete(Err(error)) => return Some(Err(error)),
                Line::Complete(Ok(None)) | Line::TooLong | Line::Endless => return Some(Err(ReplyError::TooLong)),
            }
        }
    }
}

impl OpenReply {
    /// The code, if this is the last line.
    fn take_line(
        &mut self,
        line: &[u8],
        each_line: &mut impl FnMut(usize, &[u8]),
    ) -> Result<Option<ReplyCode>, ReplyError> {
        let (digits, rest) = line.split_first_chunk::<3>().ok_or(ReplyError::Syntax)?;
        let code = read_code(*digits).ok_or(ReplyError::Syntax)?;
        let (is_last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return Err(ReplyError::Syntax),
        };
        if self.digits.is_some_and(|first| first != *digits) {
            return Err(ReplyError::Codes);
        }
        each_line(self.lines, text);
        self.add_words(*digits, code, text);
        self.digits = Some(*digits);
        self.lines += 1;
        Ok(is_last.then_some(code))
    }

    /// Joins the words of the lines by spaces; a status code that is repeated stands once (RFC 2034 §4).
    fn add_words(&mut self, digits: [u8; 3], code: ReplyCode, text: &[u8]) {
        let is_first = self.lines == 0;
        if is_first && !is_in_grammar(digits) {
            // What the server said is not lost, though a code outside the grammar cannot be passed on as one.
            self.push_word(&[b"(", &digits[..], b")"].concat());
        }
        let words = match split_status(text, code) {
            Some((status, words)) if is_first || self.status == Some(status) => {
                self.status = Some(status);
                words
            }
            _ => text,
        };
        self.push_word(words.trim_ascii());
    }

    fn push_word(&mut self, words: &[u8]) {
        if !self.text.is_empty() && !words.is_empty() {
            self.text.push(' ');
        }
        let room = ReplyText::LIMIT_OCTETS.saturating_sub(self.text.len());
        let printable = |&octet: &u8| if matches!(octet, b' '..=b'~') { char::from(octet) } else { '?' };
        self.text.extend(words.iter().take(room).map(printable));
    }

    fn into_reply(self, code: ReplyCode) -> Reply {
        match self.status {
            Some(status) => Reply::new(code, status, self.text),
            None => Reply::bare(code, self.text),
        }
    }
}

/// The code of those digits. One whose first digit is in the grammar of RFC 5321 §4.2 and whose second is not counts by
/// its first digit (§4.3.2): `571`, which is in use, is read as `550`.
fn read_code(digits: [u8; 3]) -> Option<ReplyCode> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, &digit| number * 10 + u16::from(digit - b'0'));
    if is_in_grammar(digits) { ReplyCode::new(number) } else { ReplyCode::new(number / 100 * 100 + 50) }
}

fn is_in_grammar(digits: [u8; 3]) -> bool {
    matches!(digits, [b'2'..=b'5', b'0'..=b'5', b'0'..=b'9'])
}

/// `5.1.1 text`, or the status code alone, where its class is that of the code (RFC 2034 §4, RFC 3463 §2).
fn split_status(text: &[u8], code: ReplyCode) -> Option<(EnhancedStatusCode, &[u8])> {
    let end = text.iter().position(|&octet| octet == b' ').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut numbers = word.split(|&octet| octet == b'.').map(read_number);
    let (class, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if numbers.next().is_some() || class != u16::from(code.class()) {
        return None;
    }
    Some((EnhancedStatusCode::new(code.class(), subject, detail)?, rest))
}

/// One to three digits, without leading zeros.
fn read_number(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=3).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let has_leading_zero = digits.len() > 1 && digits[0] == b'0';
    (is_number && !has_leading_zero)
        .then(|| digits.iter().fold(0, |number, &digit| number * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies and the error at their end.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: ReplyLimits) -> Vec<String> {
        let mut reader = ReplyReader::new();
        let mut found = Vec::new();
        for mut piece in pieces {
            while let Some(reply) = reader.next(&mut piece, limits, |_, _| {}) {
                found.push(reply.map_or_else(|error| format!("{error:?}"), |reply| reply.to_string()));
                if found.last().is_some_and(|last| !last.starts_with(|c: char| c.is_ascii_digit())) {
                    return found;
                }
            }
        }
        found
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        for (rfc, input, expected) in [
            ("RFC 5321 §4.2", "220 mx.example ESMTP\r\n", vec!["220 mx.example ESMTP"]),
            ("RFC 5321 §4.2: no text", "250\r\n", vec!["250"]),
            ("RFC 5321 §4.2.1", "250-a\r\n250-\r\n250 b\r\n354 c\r\n", vec!["250 a b", "354 c"]),
            ("RFC 2034 §4", "550 5.1.1 No such mailbox\r\n", vec!["550 5.1.1 No such mailbox"]),
            ("RFC 2034 §4", "550-5.1.1 No such\r\n550 5.1.1 mailbox\r\n", vec!["550 5.1.1 No such mailbox"]),
            ("RFC 2034 §4: another status stays text", "550-5.1.1 a\r\n550 5.1.2 b\r\n", vec!["550 5.1.1 a 5.1.2 b"]),
            ("RFC 2034 §4: no text", "550 5.7.2\r\n", vec!["550 5.7.2"]),
            ("RFC 2034 §4: another class", "250 5.1.1 Ok\r\n", vec!["250 5.1.1 Ok"]),
            ("RFC 3463 §2", "550 5.1.1234 x\r\n", vec!["550 5.1.1234 x"]),
            ("RFC 3463 §2", "550 5.01.1 x\r\n", vec!["550 5.01.1 x"]),
            ("RFC 5321 §4.3.2: by the first digit", "571 5.7.1 No\r\n", vec!["550 5.7.1 (571) No"]),
            ("RFC 5321 §4.3.2", "298-a\r\n298 b\r\n", vec!["250 (298) a b"]),
            ("RFC 5321 §4.2", "000 x\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "199 x\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "600 x\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "999 x\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "2500 x\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "25\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2", "hello\r\n", vec!["Syntax"]),
            ("RFC 5321 §4.2.1", "250-a\r\n550 b\r\n", vec!["Codes"]),
            ("RFC 5321 §2.3.8: LF ends nothing", "250 a\n550 b\r\n", vec!["250 a?550 b"]),
            ("SECURITY D-10", "550 \x1b[31m\0\u{fc}\r\n", vec!["550 ?[31m???"]),
        ] {
            let input = input.as_bytes();
            for cut in 0..=input.len() {
                let (before, behind) = input.split_at(cut);
                assert_eq!(read([before, behind], ReplyLimits::default()), expected, "{rfc}: {input:?} cut at {cut}");
            }
            assert_eq!(read(input.chunks(1), ReplyLimits::default()), expected, "{rfc}: octet by octet");
        }
    }

    #[test] // STANDARDS LI4, SECURITY D-35: 64 KiB and 512 lines in all.
    fn d35_a_reply_has_a_limit_in_octets_and_in_lines() {
        let limits = ReplyLimits::default();
        let lines = |count: usize| "250-x\r\n".repeat(count - 1) + "250 x\r\n";
        assert_eq!(read([lines(512).as_bytes()], limits).len(), 1);
        assert_eq!(read([lines(513).as_bytes()], limits), ["TooLong"]);
        let long = |octets: usize| format!("250 {}\r\n", "x".repeat(octets - 6));
        assert!(read([long(65_536).as_bytes()], limits)[0].starts_with("250 xxx"));
        assert_eq!(read([long(65_537).as_bytes()], limits), ["TooLong"]);
        assert_eq!(read(long(65_537).as_bytes().chunks(1), limits), ["TooLong"]);
        let two = format!("250-{}\r\n", "x".repeat(65_000)) + &long(531);
        assert_eq!(read([two.as_bytes()], limits), ["TooLong"]);
        assert_eq!(read([vec![b'2'; 65_537].as_slice()], limits), ["TooLong"]);
    }

    #[test]
    fn each_line_is_shown_as_it_came() {
        let mut reader = ReplyReader::new();
        let mut lines = Vec::new();
        let mut input = &b"250-mx.example\r\n250-SIZE 10\r\n250 \xff\r\nrest"[..];
        let reply = reader.next(&mut input, ReplyLimits::default(), |number, text| lines.push((number, text.to_vec())));
        assert_eq!(reply.expect("whole").expect("a reply").text(), "mx.example SIZE 10 ?");
        assert_eq!(lines, [(0, b"mx.example".to_vec()), (1, b"SIZE 10".to_vec()), (2, b"\xff".to_vec())]);
        assert_eq!(input, b"rest");
        assert!(!reader.is_within_reply());
    }
}
