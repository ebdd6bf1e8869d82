//! Framing of commands: lines that end with CRLF and nothing else.
//!
//! A bare CR or LF does not end a line; it stays in it, where the grammar refuses it. A line that is too
//! long is discarded while it arrives, so the memory of a session does not grow with it.

use memchr::memchr_iter;

/// How long a line may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineLimits {
    /// Octets of a line, its CRLF included.
    pub line_octets: usize,
    /// Octets of a too long line that are discarded while its end is awaited.
    pub discard_octets: u64,
}

/// What was found at the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<T> {
    /// What was made of a line.
    Complete(T),
    /// A line over the limit, now ended; its octets are gone.
    TooLong,
    /// A line so long that its end is not waited for.
    Endless,
}

/// Collects lines from input that arrives in arbitrary pieces.
///
/// Holds less than one line between calls.
#[derive(Debug, Default)]
pub struct LineReader {
    /// The start of a line whose end has not arrived.
    partial: Vec<u8>,
    /// Octets of a too long line that were discarded so far.
    discarded: Option<u64>,
    /// Whether the last discarded octet was CR.
    after_cr: bool,
}

impl LineReader {
    /// A reader at the start of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the waiting part of a line holds a bare LF: the mark of a client that ends lines with LF alone.
    pub fn has_bare_lf(&self) -> bool {
        memchr_iter(b'\n', &self.partial).any(|at| at == 0 || self.partial[at - 1] != b'\r')
    }

    /// Whether the next line begins with `word`, in any case of letters. `None` where its beginning was discarded.
    pub(crate) fn begins_with(&self, input: &[u8], word: &[u8]) -> Option<bool> {
        let line = self.partial.iter().chain(input);
        let alike = line.zip(word).filter(|(octet, expected)| octet.eq_ignore_ascii_case(expected)).count();
        self.discarded.is_none().then_some(alike == word.len())
    }

    /// Takes the next line from the front of `input` and gives it to `parse`, without its CRLF.
    ///
    /// `None` when the end of the line has not arrived; all of `input` is taken then.
    pub fn next<T>(
        &mut self,
        input: &mut &[u8],
        limits: LineLimits,
        parse: impl FnOnce(&[u8]) -> T,
    ) -> Option<Line<T>> {
        let available = *input;
        let after_cr = if self.discarded.is_some() { self.after_cr } else { self.partial.last() == Some(&b'\r') };
        let held = self.discarded.unwrap_or(self.partial.len() as u64);
        let Some(end) = find_end(available, after_cr) else {
            *input = &[];
            return self.hold(available, held + available.len() as u64, limits);
        };
        let (line, rest) = available.split_at(end);
        *input = rest;
        let partial = std::mem::take(&mut self.partial);
        self.discarded = None;
        let length = held + line.len() as u64;
        Some(if length > limits.discard_octets {
            Line::Endless
        } else if length > limits.line_octets as u64 {
            Line::TooLong
        } else if partial.is_empty() {
            Line::Complete(parse(&line[..line.len() - 2]))
        } else {
            let mut whole = partial;
            whole.extend_from_slice(line);
            whole.truncate(whole.len() - 2);
            Line::Complete(parse(&whole))
        })
    }

    /// Keeps the start of a line, or counts it when it is too long already.
    fn hold<T>(&mut self, octets: &[u8], length: u64, limits: LineLimits) -> Option<Line<T>> {
        if self.discarded.is_none() && length < limits.line_octets as u64 {
            self.partial.extend_from_slice(octets);
            return None;
        }
        if let Some(&last) = octets.last() {
            self.after_cr = last == b'\r';
        }
        self.partial = Vec::new();
        self.discarded = Some(length);
        (length > limits.discard_octets).then_some(Line::Endless)
    }
}

/// Octets up to and with the first CRLF; `after_cr` says whether a CR came just before.
fn find_end(octets: &[u8], after_cr: bool) -> Option<usize> {
    memchr_iter(b'\n', octets).find(|&at| if at == 0 { after_cr } else { octets[at - 1] == b'\r' }).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LineLimits = LineLimits { line_octets: 10, discard_octets: 20 };

    fn lines(pieces: &[&[u8]]) -> Vec<Line<Vec<u8>>> {
        let mut reader = LineReader::new();
        let mut found = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(line) = reader.next(&mut piece, LIMITS, <[u8]>::to_vec) {
                found.push(line);
                if line_is_last(&found) {
                    return found;
                }
            }
        }
        found
    }

    fn line_is_last(found: &[Line<Vec<u8>>]) -> bool {
        found.last() == Some(&Line::Endless)
    }

    #[test] // RFC 5321 §2.3.8: CRLF ends a line, a bare CR or LF does not. §4.5.3.1.4: with a limit.
    fn only_crlf_ends_a_line_however_it_is_cut() {
        let full = |text: &str| Line::Complete(text.as_bytes().to_vec());
        for (input, expected) in [
            ("NOOP\r\n", vec![full("NOOP")]),
            ("\r\n\r\n", vec![full(""), full("")]),
            ("a\nb\r\n", vec![full("a\nb")]),
            ("a\rb\r\n", vec![full("a\rb")]),
            ("a\r\r\n", vec![full("a\r")]),
            ("\n\r\n", vec![full("\n")]),
            ("12345678\r\n", vec![full("12345678")]),
            ("123456789\r\n", vec![Line::TooLong]),
            ("12345678901\nx\r\nNOOP\r\n", vec![Line::TooLong, full("NOOP")]),
            ("123456789012345678\r\nok\r\n", vec![Line::TooLong, full("ok")]),
            ("1234567890123456789\r\n", vec![Line::Endless]),
            ("NOOP\r\nwithout end", vec![full("NOOP")]),
        ] {
            let input = input.as_bytes();
            for cut in 0..=input.len() {
                assert_eq!(lines(&[&input[..cut], &input[cut..]]), expected, "{input:?} cut at {cut}");
            }
            let single: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(lines(&single), expected, "{input:?} octet by octet");
        }
    }

    #[test]
    fn a_line_without_crlf_is_recognised() {
        let mut reader = LineReader::new();
        assert_eq!(reader.next(&mut &b"EHLO\n"[..], LIMITS, |_| ()), None);
        assert!(reader.has_bare_lf());
    }
}
