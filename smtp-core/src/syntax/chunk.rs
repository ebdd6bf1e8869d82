//! Framing of content sent by `BDAT`: a count of octets in place of an end (RFC 3030 §2).
//!
//! A count leaves no doubt about where a chunk stops, so there is no transparency. Content that is not declared as binary
//! must still be lines: it may leave by `DATA` at the next hop, and a bare CR, a bare LF or NUL would mean something there.

use super::content::{Decoded, Defect, is_defect, plain_run};
use super::cursor::{Cursor, SyntaxError};

/// The most digits of a chunk size, as many as `SIZE=` may have (RFC 1870 §4): all numbers of 64 bits fit.
const SIZE_DIGITS: usize = 20;

/// What `BDAT` announces (RFC 3030 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// How many octets follow the CRLF of the command.
    pub octets: u64,
    /// `LAST`: the content is complete behind them.
    pub is_last: bool,
}

impl Chunk {
    /// The arguments of `BDAT`. A number that does not fit in 64 bits is none: nobody knows how much to read.
    pub(super) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        cursor.expect(b' ', "a space and a number of octets")?;
        cursor.skip_spaces();
        let digits = cursor.take_while(|octet| octet.is_ascii_digit());
        let size = if digits.len() > SIZE_DIGITS { None } else { std::str::from_utf8(digits).ok() };
        let octets = size.and_then(|digits| digits.parse().ok()).ok_or_else(|| cursor.error("a number of octets"))?;
        let has_space = cursor.peek() == Some(b' ');
        cursor.skip_spaces();
        let is_last = has_space && cursor.eat_word("LAST");
        cursor.skip_spaces();
        cursor.expect_end()?;
        Ok(Self { octets, is_last })
    }
}

/// Looks for what lines do not have, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct TextCheck {
    last: Option<u8>,
    defect: Option<Defect>,
}

impl TextCheck {
    /// The first defect so far.
    pub(crate) fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// Looks at the next octets. Behind a defect it no longer does.
    pub(crate) fn look(&mut self, octets: &[u8]) {
        if let (None, Some(&first)) = (self.defect, octets.first()) {
            self.look_at_pair(self.last.unwrap_or(b' '), first);
            let plain = plain_run(octets, is_defect);
            if let Some(&octet) = octets.get(plain + 1) {
                self.look_at_pair(octets[plain], octet);
            }
            self.last = octets.last().copied();
        }
    }

    fn look_at_pair(&mut self, before: u8, octet: u8) {
        let defect = match (before, octet) {
            (b'\r', b'\n') => return,
            (b'\r', _) => Defect::BareCr,
            (_, b'\n') => Defect::BareLf,
            (_, 0) => Defect::Nul,
            _ => return,
        };
        self.defect.get_or_insert(defect);
    }

    /// The text is complete: a CR at its end has no LF. Whether the last line ends with CRLF, or there is none.
    pub(crate) fn end(&mut self) -> bool {
        if self.last == Some(b'\r') {
            self.defect.get_or_insert(Defect::BareCr);
        }
        self.last.is_none_or(|octet| octet == b'\n')
    }
}

/// Takes the octets of chunks, and watches over their lines unless the content is binary.
///
/// Holds no octets: what it gives are slices of what it was given.
#[derive(Debug)]
pub struct ChunkDecoder {
    left: u64,
    text: Option<TextCheck>,
}

impl ChunkDecoder {
    /// A decoder before the first chunk. In binary content (`BODY=BINARYMIME`, RFC 3030 §3) every octet is as good as any
    /// other.
    pub fn new(is_binary: bool) -> Self {
        Self { left: 0, text: (!is_binary).then(TextCheck::default) }
    }

    /// So many more octets belong to the content.
    pub fn begin(&mut self, octets: u64) {
        self.left = self.left.saturating_add(octets);
    }

    /// There is no chunk behind this one.
    pub fn end(&mut self) {
        if let Some(text) = &mut self.text {
            text.end();
        }
    }

    /// The first defect seen so far. Once there is one, no more content is given.
    pub fn defect(&self) -> Option<Defect> {
        self.text.as_ref().and_then(TextCheck::defect)
    }

    /// Takes octets from the front of `input`, never more than belong to the chunk: some of its content, or
    /// [`Decoded::End`] where the chunk is complete. `None` when more input is needed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Decoded<'a>> {
        if self.left == 0 {
            return Some(Decoded::End);
        }
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (octets, rest) = input.split_at(here);
        *input = rest;
        self.left -= here as u64;
        if let Some(text) = &mut self.text {
            text.look(octets);
        }
        match self.defect() {
            None if !octets.is_empty() => Some(Decoded::Content(octets)),
            _ if self.left == 0 => Some(Decoded::End),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY D-14: a checked parse of 64 bits.
    fn d14_what_is_a_chunk_size_and_what_is_none() {
        let chunk = |octets, is_last| Some(Chunk { octets, is_last });
        for (rfc, input, expected) in [
            ("RFC 3030 §2", " 0", chunk(0, false)),
            ("RFC 3030 §2", " 0 LAST", chunk(0, true)),
            ("RFC 3030 §2", " 86 last", chunk(86, true)),
            ("RFC 5321 §4.1.1: trailing spaces", " 86 LAST ", chunk(86, true)),
            ("D-14: leading zeros", " 00000000000000000007", chunk(7, false)),
            ("D-14: too many of them", " 000000000000000000007", None),
            ("D-14: 2^32", " 4294967296", chunk(1 << 32, false)),
            ("D-14: 2^64-1", " 18446744073709551615", chunk(u64::MAX, false)),
            ("D-14: 2^64", " 18446744073709551616", None),
            ("D-14: 2^64+1", " 18446744073709551617 LAST", None),
            ("D-14: sign", " -1", None),
            ("D-14: sign", " +1", None),
            ("D-14: hexadecimal", " 0x10", None),
            ("D-14: hexadecimal", " ff", None),
            ("D-14: exponent", " 1e3", None),
            ("D-14: fraction", " 1.5", None),
            ("D-14: none", "", None),
            ("D-14: none", " ", None),
            ("D-14: none", " LAST", None),
            ("RFC 3030 §2: another word", " 5 FIRST", None),
            ("RFC 3030 §2: no space", " 5LAST", None),
            ("RFC 3030 §2: twice", " 5 LAST LAST", None),
            ("RFC 3030 §2: longer", " 5 LASTS", None),
            ("RFC 3030 §2: two numbers", " 5 5", None),
            ("D-14: not a digit of ASCII", " \u{0665}", None),
        ] {
            assert_eq!(Chunk::parse_at(&mut Cursor::new(input.as_bytes())).ok(), expected, "{rfc}: {input:?}");
        }
    }

    /// A slow reading of RFC 5321 §2.3.8: the first defect of the whole.
    fn slow(text: &[u8]) -> Option<Defect> {
        (0..text.len()).find_map(|at| {
            let before = at.checked_sub(1).map(|at| text[at]);
            match text[at] {
                b'\n' if before != Some(b'\r') => Some(Defect::BareLf),
                octet if before == Some(b'\r') && octet != b'\n' => Some(Defect::BareCr),
                0 => Some(Defect::Nul),
                b'\r' if at + 1 == text.len() => Some(Defect::BareCr),
                _ => None,
            }
        })
    }

    proptest::proptest! {
        #[test] // RFC 3030 §2: exactly so many octets, and the same content and defect for every cut.
        fn d14_a_chunk_takes_its_octets_and_no_other(
            wire in proptest::collection::vec(proptest::sample::select(b"\r\n.a\0".to_vec()), 0..300),
            text in "([a-z.]{0,200}\r\n){0,3}",
            octets in 0_usize..600,
            size in 1_usize..300,
            is_binary: bool,
        ) {
            let wire = [text.as_bytes(), &wire].concat();
            let octets = octets.min(wire.len());
            let mut decoder = ChunkDecoder::new(is_binary);
            decoder.begin(octets as u64);
            let (mut content, mut taken, mut has_ended) = (Vec::new(), 0, false);
            for piece in wire.chunks(size) {
                let mut rest = piece;
                while let Some(decoded) = decoder.next(&mut rest).filter(|_| !has_ended) {
                    match decoded {
                        Decoded::Content(octets) => content.extend_from_slice(octets),
                        Decoded::End => has_ended = true,
                    }
                }
                taken += piece.len() - rest.len();
            }
            decoder.end();
            proptest::prop_assert_eq!(taken, octets);
            let expected = if is_binary { None } else { slow(&wire[..octets]) };
            proptest::prop_assert_eq!(decoder.defect(), expected);
            if expected.is_none() {
                proptest::prop_assert_eq!(&content, &wire[..octets]);
            }
        }
    }
}
