//! What of a message goes back to its sender: all of it, its header section, or nothing (RFC 6522 §3).
//!
//! The whole goes back only as it is: at most 100 KiB of lines that end with CRLF and are not too long. A header section
//! goes back whatever is in it, because it is text, which can be encoded (RFC 2045 §6.7).

use std::io::{self, Read};

use bytes::Bytes;
use memchr::{memchr, memrchr};

use crate::content::StoredContent;
use crate::header_section::HeaderSection;

/// The most octets of a line without CRLF (RFC 5322 §2.1.1).
const LINE_LIMIT_OCTETS: usize = 998;
/// The most octets of a line of quoted-printable (RFC 2045 §6.7).
const QUOTED_LINE_OCTETS: usize = 76;

/// What of a message goes back to its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedContent {
    extent: Extent,
    encoding: Encoding,
    octets: Bytes,
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Nothing,
    Whole,
    HeaderSection,
    /// The header section up to the limit.
    PartOfHeaderSection,
}

/// How it is written (RFC 2045 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    SevenBit,
    EightBit,
    QuotedPrintable,
}

impl Encoding {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::QuotedPrintable => "quoted-printable",
        }
    }
}

impl ReturnedContent {
    /// The most octets that go back: 100 KiB (STANDARDS.md Q7). Of larger messages only the header section does.
    pub const LIMIT_OCTETS: usize = 100 << 10;

    /// Nothing: the content cannot be read, or must not go back.
    pub fn nothing() -> Self {
        Self { extent: Extent::Nothing, encoding: Encoding::SevenBit, octets: Bytes::new() }
    }

    /// The whole, where it is small enough and can be returned as it is; otherwise its header section. Blocks where the
    /// content is in a file.
    ///
    /// # Errors
    /// What reading the file gave; [`ReturnedContent::nothing`] can go back then.
    pub fn whole(content: &StoredContent) -> io::Result<Self> {
        if content.len() > Self::LIMIT_OCTETS as u64 {
            return Self::header_section(content);
        }
        let mut octets = Vec::new();
        content.reader().read_to_end(&mut octets)?;
        match encoding_as_is(&octets) {
            _ if octets.is_empty() => Ok(Self::nothing()),
            Some(encoding) => Ok(Self { extent: Extent::Whole, encoding, octets: octets.into() }),
            None => Self::header_section(content),
        }
    }

    /// The header section, as far as it has not more than the limit. Blocks where the content is in a file.
    ///
    /// # Errors
    /// What reading the file gave; [`ReturnedContent::nothing`] can go back then.
    pub fn header_section(content: &StoredContent) -> io::Result<Self> {
        let section = HeaderSection::read(content, Self::LIMIT_OCTETS)?;
        let (octets, extent) = if section.is_complete() {
            (section.octets(), Extent::HeaderSection)
        } else {
            // Up to the end of the last line, where there is one.
            let end = memrchr(b'\n', section.octets()).map_or(section.octets().len(), |at| at + 1);
            (&section.octets()[..end], Extent::PartOfHeaderSection)
        };
        if octets.is_empty() {
            return Ok(Self::nothing());
        }
        Ok(match encoding_as_is(octets) {
            Some(Encoding::SevenBit) => {
                Self { extent, encoding: Encoding::SevenBit, octets: Bytes::copy_from_slice(octets) }
            }
            _ => Self { extent, encoding: Encoding::QuotedPrintable, octets: quoted_printable(octets).into() },
        })
    }

    /// The type of the part, where there is one.
    pub(super) fn media_type(&self) -> Option<&'static str> {
        match self.extent {
            Extent::Nothing => None,
            Extent::Whole => Some("message/rfc822"),
            Extent::HeaderSection | Extent::PartOfHeaderSection => Some("text/rfc822-headers"),
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// As they are written into the part.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// What is said of it to people.
    pub(super) fn sentence(&self) -> &'static str {
        match self.extent {
            Extent::Nothing => "It is not returned.",
            Extent::Whole => "It is returned below.",
            Extent::HeaderSection => "Its header section is returned below.",
            Extent::PartOfHeaderSection => "The first part of its header section is returned below.",
        }
    }
}

/// How octets go back as they are; `None` where they cannot: a bare CR or LF, a NUL, too long a line.
fn encoding_as_is(octets: &[u8]) -> Option<Encoding> {
    let mut rest = octets;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest);
        let line = match end {
            Some(end) => rest[..end].strip_suffix(b"\r")?,
            None => rest,
        };
        if line.len() > LINE_LIMIT_OCTETS || memchr::memchr2(b'\r', 0, line).is_some() {
            return None;
        }
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    Some(if octets.is_ascii() { Encoding::SevenBit } else { Encoding::EightBit })
}

/// Writes octets as lines of printable ASCII: CRLF stays, all else that is not text is escaped (RFC 2045 §6.7).
fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut quoted = Vec::with_capacity(octets.len() + octets.len() / 8);
    let mut line = 0;
    let mut rest = octets;
    while let [octet, behind @ ..] = rest {
        if let Some(behind) = rest.strip_prefix(b"\r\n") {
            quoted.extend_from_slice(b"\r\n");
            line = 0;
            rest = behind;
            continue;
        }
        let is_last = behind.is_empty() || behind.starts_with(b"\r\n");
        let is_plain = match octet {
            b'=' => false,
            // White space at the end of a line gets lost on the way.
            b' ' | b'\t' => !is_last,
            octet => octet.is_ascii_graphic(),
        };
        // The last place of a line is for the sign that it goes on.
        let width = if is_plain { 1 } else { 3 };
        if line + width >= QUOTED_LINE_OCTETS {
            quoted.extend_from_slice(b"=\r\n");
            line = 0;
        }
        if is_plain {
            quoted.push(*octet);
        } else {
            quoted.extend_from_slice(&[b'=', DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]);
        }
        line += width;
        rest = behind;
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(octets: impl Into<Bytes>) -> StoredContent {
        StoredContent::in_memory(Bytes::new(), octets.into())
    }

    fn whole(octets: impl Into<Bytes>) -> (Extent, Encoding, String) {
        let returned = ReturnedContent::whole(&stored(octets)).expect("in memory");
        (returned.extent, returned.encoding, String::from_utf8_lossy(&returned.octets).into_owned())
    }

    #[test] // STANDARDS.md Q7
    fn q7_the_whole_goes_back_up_to_the_limit_and_then_its_header_section() {
        let header = "Subject: x\r\nTo: y\r\n";
        let body = "line\r\n".repeat((ReturnedContent::LIMIT_OCTETS - header.len() - 2) / 6);
        let mut message = format!("{header}\r\n{body}");
        message.push_str(&"x".repeat(ReturnedContent::LIMIT_OCTETS - message.len()));
        assert_eq!(whole(message.clone()), (Extent::Whole, Encoding::SevenBit, message.clone()));
        message.push('x');
        assert_eq!(whole(message), (Extent::HeaderSection, Encoding::SevenBit, header.to_owned()));
    }

    #[test]
    fn what_cannot_go_back_as_it_is_goes_back_as_its_header_section() {
        let seven = |text: &str| (Extent::HeaderSection, Encoding::SevenBit, text.to_owned());
        let quoted = |text: &str| (Extent::HeaderSection, Encoding::QuotedPrintable, text.to_owned());
        let long = "x".repeat(999);
        for (octets, expected) in [
            (b"A: b\r\n\r\nbare\nline\r\n".to_vec(), seven("A: b\r\n")),
            (b"A: b\r\n\r\nbare\rline\r\n".to_vec(), seven("A: b\r\n")),
            (b"A: b\r\n\r\nnul\0\r\n".to_vec(), seven("A: b\r\n")),
            (format!("A: b\r\n\r\n{long}\r\n").into_bytes(), seven("A: b\r\n")),
            (b"A: b\nC: d\n\nbody\n".to_vec(), quoted("A: b=0AC: d=0A")),
            (b"A: b\rC: \xfc\0=\r\n\r\n\n".to_vec(), quoted("A: b=0DC: =FC=00=3D\r\n")),
            (b"A: b \r\nC: \t\r\n\n\r\n".to_vec(), seven("A: b \r\nC: \t\r\n")),
            (b"A:\0b \r\nC: \t\r\n\n\r\n".to_vec(), quoted("A:=00b=20\r\nC: =09\r\n")),
            (b"\r\nbare\n".to_vec(), (Extent::Nothing, Encoding::SevenBit, String::new())),
            (b"".to_vec(), (Extent::Nothing, Encoding::SevenBit, String::new())),
        ] {
            assert_eq!(whole(octets.clone()), expected, "{}", octets.escape_ascii());
        }
        let (extent, encoding, text) = whole(format!("A: {long}\r\n\r\n"));
        assert_eq!((extent, encoding), (Extent::HeaderSection, Encoding::QuotedPrintable));
        assert!(text.lines().all(|line| line.len() <= QUOTED_LINE_OCTETS));
        assert_eq!(text.replace("=\r\n", ""), format!("A: {long}\r\n"));
    }

    #[test] // RFC 2045 §6.4
    fn octets_above_127_go_back_as_they_are() {
        let returned = ReturnedContent::whole(&stored(&b"A: b\r\n\r\n\xff\r\n"[..])).expect("in memory");
        assert_eq!((returned.extent, returned.encoding), (Extent::Whole, Encoding::EightBit));
        assert_eq!(returned.octets(), b"A: b\r\n\r\n\xff\r\n");
    }

    #[test]
    fn a_header_section_without_end_is_cut_at_the_end_of_a_line() {
        let (extent, encoding, text) = whole("A: 0123456789\r\n".repeat(20_000));
        assert_eq!((extent, encoding), (Extent::PartOfHeaderSection, Encoding::SevenBit));
        assert!(text.ends_with("9\r\n") && ReturnedContent::LIMIT_OCTETS - text.len() < 15);
        let (extent, encoding, _) = whole("x".repeat(2 * ReturnedContent::LIMIT_OCTETS));
        assert_eq!((extent, encoding), (Extent::PartOfHeaderSection, Encoding::QuotedPrintable));
    }

    proptest::proptest! {
        #[test] // RFC 2045 §6.7: short lines of printable ASCII, none with white space at its end, and nothing is lost.
        fn quoted_printable_can_be_undone(octets in proptest::collection::vec(
            proptest::prop_oneof![proptest::num::u8::ANY, proptest::sample::select(&b"\r\n =\tA"[..])], 0..400)) {
            let quoted = quoted_printable(&octets);
            for line in quoted.split(|octet| *octet == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                proptest::prop_assert!(line.len() <= QUOTED_LINE_OCTETS && !line.ends_with(b" ") && !line.ends_with(b"\t"));
                proptest::prop_assert!(line.iter().all(|octet| matches!(octet, b'\t' | b' '..=b'~')));
            }
            let mut undone = Vec::new();
            let mut rest = &quoted[..];
            while let [octet, behind @ ..] = rest {
                rest = match (octet, behind) {
                    (b'=', [b'\r', b'\n', behind @ ..]) => behind,
                    (b'=', [high, low, behind @ ..]) => {
                        let digits = [*high, *low];
                        let digits = std::str::from_utf8(&digits)?;
                        undone.push(u8::from_str_radix(digits, 16)?);
                        behind
                    }
                    _ => { undone.push(*octet); behind }
                };
            }
            proptest::prop_assert_eq!(undone, octets);
        }
    }
}
