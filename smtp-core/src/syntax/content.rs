//! Framing of content sent by `DATA`: its end, and the transparency of leading dots (RFC 5321 §4.5.2).
//!
//! The end is `CRLF . CRLF` and nothing else, where the first CRLF may be that of the `DATA` line. Whatever looks like
//! an end to somebody else (`LF . LF`, `CR . CR`, and so on) holds a bare CR or a bare LF, and content with one of
//! these, or with NUL, is defective: it is read to its true end and then refused, so that no two servers can disagree
//! about where a message stops ("SMTP smuggling").
//!
//! Most octets are looked at sixteen or more at a time, by a loop that the compiler vectorises; only around line starts
//! with a dot, defects and the edges of a chunk is there work for each octet.

use std::fmt;

/// What makes content unfit to be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// A CR without an LF behind it.
    BareCr,
    /// An LF without a CR before it.
    BareLf,
    /// An octet 0.
    Nul,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareCr => "bare CR",
            Self::BareLf => "bare LF",
            Self::Nul => "NUL",
        })
    }
}

impl std::error::Error for Defect {}

/// What [`DataDecoder::next`] or [`ChunkDecoder::next`](super::chunk::ChunkDecoder::next) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Octets of the content, transparency removed.
    Content(&'a [u8]),
    /// The end of the content, or of one chunk of it; what is left of the input are commands.
    End,
}

/// What came just before the next octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// A CRLF, or nothing yet.
    LineStart,
    /// Anything else.
    Text,
    /// A CR.
    AfterCr,
    /// A dot at the start of a line.
    AfterDot,
    /// A dot at the start of a line, and a CR.
    AfterDotCr,
}

/// What becomes of one octet.
enum Fate {
    Keep,
    Drop,
    End,
}

/// Takes the octets that follow `354` apart into content and end.
///
/// Holds no octets: what it gives are slices of what it was given.
#[derive(Debug)]
pub struct DataDecoder {
    position: Position,
    defect: Option<Defect>,
}

impl Default for DataDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataDecoder {
    /// A decoder at the start of content.
    pub fn new() -> Self {
        Self { position: Position::LineStart, defect: None }
    }

    /// The first defect seen so far. Once there is one, no more content is given.
    pub fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// Takes octets from the front of `input`: the next run of content, or the end. `None` when more input is needed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Decoded<'a>> {
        let octets = *input;
        let (mut start, mut at) = (0, 0);
        while at < octets.len() {
            if at > 0 && matches!(self.position, Position::Text | Position::LineStart) {
                let plain = plain_run(&octets[at - 1..], needs_decision);
                if plain > 0 {
                    at += plain;
                    self.position = after_plain(octets[at - 1]);
                    continue;
                }
            }
            at += 1;
            match self.step(octets[at - 1]) {
                Fate::Keep => {}
                Fate::Drop => {
                    let run = &octets[start..at - 1];
                    start = at;
                    if !run.is_empty() && self.defect.is_none() {
                        *input = &octets[at..];
                        return Some(Decoded::Content(run));
                    }
                }
                Fate::End => {
                    *input = &octets[at..];
                    return Some(Decoded::End);
                }
            }
        }
        *input = &[];
        let run = &octets[start..];
        (!run.is_empty() && self.defect.is_none()).then_some(Decoded::Content(run))
    }

    /// The whole rule, one octet at a time.
    fn step(&mut self, octet: u8) -> Fate {
        use Position::{AfterCr, AfterDot, AfterDotCr, LineStart, Text};
        let (position, fate) = match (self.position, octet) {
            (LineStart, b'.') => (AfterDot, Fate::Drop),
            (LineStart | Text, b'\r') => (AfterCr, Fate::Keep),
            (AfterDot, b'\r') => (AfterDotCr, Fate::Drop),
            (AfterCr, b'\n') => (LineStart, Fate::Keep),
            (AfterDotCr, b'\n') => (LineStart, Fate::End),
            (AfterCr | AfterDotCr, b'\r') => {
                self.note(Defect::BareCr);
                (AfterCr, Fate::Keep)
            }
            (AfterCr | AfterDotCr, _) => {
                self.note(Defect::BareCr);
                (Text, Fate::Keep)
            }
            (LineStart | Text | AfterDot, b'\n') => {
                self.note(Defect::BareLf);
                (Text, Fate::Keep)
            }
            (LineStart | Text | AfterDot, _) => (Text, Fate::Keep),
        };
        if octet == 0 {
            self.note(Defect::Nul);
        }
        self.position = position;
        fate
    }

    fn note(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }
}

/// Octets compared at a time; small enough that a dot costs little, large enough to fill the vector units.
const BLOCK_OCTETS: usize = 128;

/// How many octets behind the first one are plain: `needs` says of none of them, knowing the one before, that it needs to
/// be looked at.
#[inline]
pub(super) fn plain_run(octets: &[u8], needs: impl Fn(u8, u8) -> bool) -> usize {
    let (before, here) = (&octets[..octets.len() - 1], &octets[1..]);
    let mut plain = 0;
    for (before, here) in before.chunks(BLOCK_OCTETS).zip(here.chunks(BLOCK_OCTETS)) {
        let any = before.iter().zip(here).fold(false, |any, (&before, &octet)| any | needs(before, octet));
        if any {
            let pairs = before.iter().zip(here);
            return plain + pairs.take_while(|&(&before, &octet)| !needs(before, octet)).count();
        }
        plain += here.len();
    }
    plain
}

/// A dot at a line start, or a defect. Without branches, so that the loop around it becomes vector instructions.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "lazy operators are branches")]
fn needs_decision(before: u8, octet: u8) -> bool {
    is_defect(before, octet) | ((octet == b'.') & (before == b'\n'))
}

/// A line break out of order, or NUL. Without branches, too.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "lazy operators are branches")]
pub(super) fn is_defect(before: u8, octet: u8) -> bool {
    ((octet == b'\n') ^ (before == b'\r')) | (octet == 0)
}

fn after_plain(last: u8) -> Position {
    match last {
        b'\n' => Position::LineStart,
        b'\r' => Position::AfterCr,
        _ => Position::Text,
    }
}

/// Writes content as it goes behind `354`: leading dots doubled, and the end.
#[derive(Debug)]
pub struct DataEncoder {
    position: Position,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataEncoder {
    /// An encoder at the start of content.
    pub fn new() -> Self {
        Self { position: Position::LineStart }
    }

    /// Appends `content` to `output` with transparency.
    ///
    /// # Errors
    /// [`Defect`] where the content has a bare CR, a bare LF or NUL: it must not be sent by `DATA`, because
    /// receivers disagree about what it means.
    pub fn encode(&mut self, content: &[u8], output: &mut Vec<u8>) -> Result<(), Defect> {
        output.reserve(content.len() + 16);
        let mut at = 0;
        while at < content.len() {
            if at > 0 && matches!(self.position, Position::Text | Position::LineStart) {
                let plain = plain_run(&content[at - 1..], needs_decision);
                if plain > 0 {
                    output.extend_from_slice(&content[at..at + plain]);
                    at += plain;
                    self.position = after_plain(content[at - 1]);
                    continue;
                }
            }
            let octet = content[at];
            at += 1;
            match (self.position, octet) {
                (_, 0) => return Err(Defect::Nul),
                (Position::AfterCr, b'\n') => self.position = Position::LineStart,
                (Position::AfterCr, _) => return Err(Defect::BareCr),
                (_, b'\n') => return Err(Defect::BareLf),
                (_, b'\r') => self.position = Position::AfterCr,
                (Position::LineStart, b'.') => {
                    output.push(b'.');
                    self.position = Position::Text;
                }
                _ => self.position = Position::Text,
            }
            output.push(octet);
        }
        Ok(())
    }

    /// Appends the end; a last line without CRLF gets one.
    ///
    /// # Errors
    /// [`Defect::BareCr`] where the content ends with CR.
    pub fn finish(self, output: &mut Vec<u8>) -> Result<(), Defect> {
        match self.position {
            Position::AfterCr => return Err(Defect::BareCr),
            Position::LineStart => {}
            _ => output.extend_from_slice(b"\r\n"),
        }
        output.extend_from_slice(b".\r\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, defect and what is left behind the end; `None` without an end.
    type Outcome = Option<(Vec<u8>, Option<Defect>, Vec<u8>)>;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let mut decoder = DataDecoder::new();
        let mut content = Vec::new();
        let mut rest: Option<Vec<u8>> = None;
        for mut piece in pieces {
            if let Some(rest) = &mut rest {
                rest.extend_from_slice(piece);
                continue;
            }
            while let Some(decoded) = decoder.next(&mut piece) {
                match decoded {
                    Decoded::Content(octets) => content.extend_from_slice(octets),
                    Decoded::End => {
                        rest = Some(piece.to_vec());
                        break;
                    }
                }
            }
        }
        if decoder.defect().is_some() {
            content.clear();
        }
        rest.map(|rest| (content, decoder.defect(), rest))
    }

    #[test]
    fn ends_dots_and_defects() {
        use Defect::{BareCr, BareLf, Nul};
        for (rfc, input, expected) in [
            ("RFC 5321 §4.1.1.4", &b".\r\n"[..], Some((&b""[..], None, &b""[..]))),
            ("RFC 5321 §4.1.1.4", b"a\r\n.\r\nQUIT\r\n", Some((b"a\r\n", None, b"QUIT\r\n"))),
            ("RFC 5321 §4.5.2", b"..\r\n.\r\n", Some((b".\r\n", None, b""))),
            ("RFC 5321 §4.5.2", b".a\r\n..b\r\n.\r\n", Some((b"a\r\n.b\r\n", None, b""))),
            ("RFC 5321 §4.5.2", b"a.\r\n.\r\n", Some((b"a.\r\n", None, b""))),
            ("RFC 5321 §4.5.2", b"a\r\n", None),
            ("RFC 5321 §2.3.8", b"a\n.\n.\r\nx\r\n.\r\n", Some((b"", Some(BareLf), b""))),
            ("RFC 5321 §2.3.8", b"a\r.\r\n.\r\n", Some((b"", Some(BareCr), b""))),
            ("RFC 5321 §2.3.8", b"a\r\n.\r\r\n.\r\n", Some((b"", Some(BareCr), b""))),
            ("RFC 5321 §2.3.8", b"a\r\r\n.\r\nx", Some((b"", Some(BareCr), b"x"))),
            ("RFC 5321 §2.3.8", b"a\r\n.\nb\r\n.\r\n", Some((b"", Some(BareLf), b""))),
            ("RFC 5321 §4.5.2", b"a\0\r\n.\r\n", Some((b"", Some(Nul), b""))),
            ("RFC 5321 §2.3.8", b"\n.\r\nMAIL", None),
        ] {
            let expected = expected.map(|(content, defect, rest)| (content.to_vec(), defect, rest.to_vec()));
            assert_eq!(decode([input]), expected, "{rfc}: {input:?}");
            assert_eq!(decode(input.chunks(1)), expected, "{rfc}: {input:?}, octet by octet");
        }
    }

    /// Octets of which most matter.
    fn octets(most: usize) -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(b"\r\n.a\0".to_vec()), 0..most)
    }

    proptest::proptest! {
        #[test] // RFC 5321 §4.5.2: receive(send(x)) = x for all canonical x, however it is cut.
        fn decoding_undoes_encoding(
            lines in proptest::collection::vec("[.a]{0,3}|[^\\r\\n\\x00]{0,300}", 0..20),
            size in 1_usize..700,
        ) {
            let content: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
            let mut wire = Vec::new();
            let mut encoder = DataEncoder::new();
            encoder.encode(&content, &mut wire)?;
            encoder.finish(&mut wire)?;
            proptest::prop_assert_eq!(decode(wire.chunks(size)), Some((content, None, Vec::new())));
        }

        #[test] // The vectorised path and one octet at a time are one decoder.
        fn cuts_change_nothing(input in octets(400), size in 1_usize..300) {
            proptest::prop_assert_eq!(decode(input.chunks(size)), decode(input.chunks(1)));
        }

        #[test]
        fn defective_content_is_never_encoded(input in octets(12)) {
            let mut wire = Vec::new();
            let mut encoder = DataEncoder::new();
            let encoded = encoder.encode(&input, &mut wire).and_then(|()| encoder.finish(&mut wire));
            if encoded.is_ok() {
                let mut expected = input.clone();
                if !(input.is_empty() || input.ends_with(b"\r\n")) {
                    expected.extend_from_slice(b"\r\n");
                }
                proptest::prop_assert_eq!(decode([&wire[..]]), Some((expected, None, Vec::new())));
            }
        }
    }
}
