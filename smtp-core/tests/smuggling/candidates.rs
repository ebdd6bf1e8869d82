//! What may look like an end of content to somebody, where it stands, and how it is cut into writes.

use std::ops::Range;

/// What may look like a line end (SECURITY D-1).
const LINE_ENDS: [&[u8]; 11] =
    [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0", b"\r\n\0", b"\x0b", b"\x0c", b"\x85", b"\xe2\x80\xa8"];
/// What may look like a dot.
const DOTS: [&[u8]; 7] = [b".", b"..", b" .", b". ", b".\0", b"\0.", b"\xe3\x80\x82"];
/// Sizes of buffers across which a candidate is laid.
const BORDERS: [usize; 4] = [4_096, 8_192, 16_384, 65_536];
/// The octets of the true end.
const TRUE_END: &[u8] = b"\r\n.\r\n";

/// D-1: the full product. The longest has nine octets.
pub(crate) fn product() -> Vec<Vec<u8>> {
    let pairs = LINE_ENDS.iter().flat_map(|before| DOTS.iter().map(move |dot| [*before, dot].concat()));
    pairs.flat_map(|start| LINE_ENDS.iter().map(move |after| [&start, *after].concat())).collect()
}

/// D-53: additional CRs before and behind the dot, with a line start before it and without.
pub(crate) fn additional_crs() -> Vec<Vec<u8>> {
    (0..=64)
        .map(|count| vec![b'\r'; count])
        .flat_map(|crs| {
            [
                [b"\r\n.", &crs[..], b"\r\n"].concat(),
                [&crs[..], b"\r\n.\r\n"].concat(),
                [b".", &crs[..], b"\r\n"].concat(),
                [&crs[..], b"\r\n.", &crs, b"\r\n"].concat(),
            ]
        })
        .collect()
}

/// D-54: the line before the dot ends otherwise.
pub(crate) fn after_other_line_ends() -> Vec<Vec<u8>> {
    [&b"\n.\r\n"[..], b"\n.\n", b"\r.\r\n", b"\r.\r", b"\n.\r", b"\r.\n", b"\n\n.\r\n", b"\n..\r\n"]
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect()
}

/// Where a candidate stands in the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Its first octets.
    Start,
    /// Behind the CRLF of a line.
    LineStart,
    /// Within a line.
    Middle,
    /// Its middle lies so many octets behind `354`.
    Across {
        /// The size of a buffer.
        border: usize,
        /// That, one less or one more.
        octets: usize,
    },
}

impl Position {
    pub(crate) const NEAR: [Self; 3] = [Self::Start, Self::LineStart, Self::Middle];

    pub(crate) fn borders() -> Vec<Self> {
        let around = |border| [border - 1, border, border + 1].map(|octets| Self::Across { border, octets });
        BORDERS.into_iter().flat_map(around).collect()
    }

    /// The octets before a candidate of that length.
    pub(crate) fn prefix(self, candidate_octets: usize) -> Vec<u8> {
        const HEAD: &[u8] = b"Subject: x\r\n\r\n..dotted\r\n";
        match self {
            Self::Start => Vec::new(),
            Self::LineStart => HEAD.to_vec(),
            Self::Middle => [HEAD, b"text"].concat(),
            Self::Across { octets, .. } => {
                let mut prefix = HEAD.to_vec();
                let length = octets - candidate_octets / 2;
                while prefix.len() + 80 < length {
                    prefix.extend_from_slice(b"A line with a dot. And another.........................\r\n");
                }
                prefix.resize(length, b'x');
                prefix
            }
        }
    }
}

/// What a client sends behind `354`: text, candidate, an envelope to smuggle, the true end, `QUIT`.
#[derive(Debug)]
pub(crate) struct Stream {
    octets: Vec<u8>,
    candidate: Range<usize>,
    end: Range<usize>,
}

impl Stream {
    pub(crate) fn new(prefix: &[u8], candidate: &[u8]) -> Self {
        const ENVELOPE: &[u8] =
            b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nevil";
        let octets = [prefix, candidate, ENVELOPE, TRUE_END, b"QUIT\r\n"].concat();
        let candidate = prefix.len()..prefix.len() + candidate.len();
        let end = candidate.end + ENVELOPE.len()..candidate.end + ENVELOPE.len() + TRUE_END.len();
        Self { octets, candidate, end }
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The octets behind the prefix.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.octets[self.candidate.start..]
    }

    /// The stream as it is cut.
    pub(crate) fn writes(&self, segmentation: Segmentation) -> impl Iterator<Item = &[u8]> {
        let mut cuts = segmentation.cuts(self);
        cuts.push(self.octets.len());
        let mut start = 0;
        cuts.into_iter().map(move |cut| {
            let write = &self.octets[start..cut];
            start = cut;
            write
        })
    }
}

/// How a stream is cut into writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segmentation {
    /// Not at all.
    Whole,
    /// One octet per write; a long prefix is one write.
    Octets,
    /// Into buffers of that size.
    Buffers(usize),
    /// Once, behind that octet of the candidate.
    Once(usize),
    /// Candidate and true end each by a composition: bit n set is a cut behind octet n.
    Composed {
        /// Of the candidate.
        candidate: u128,
        /// Of the true end.
        end: u128,
    },
}

impl Segmentation {
    fn cuts(self, stream: &Stream) -> Vec<usize> {
        let length = stream.octets.len();
        let composed = |range: &Range<usize>, mask: u128| -> Vec<usize> {
            (1..range.len()).take(128).filter(|n| mask >> (n - 1) & 1 == 1).map(|n| range.start + n).collect()
        };
        match self {
            Self::Whole => Vec::new(),
            Self::Octets if stream.candidate.start < 100 => (1..length).collect(),
            Self::Octets => (stream.candidate.start..length).collect(),
            Self::Buffers(size) => (size..length).step_by(size).collect(),
            Self::Once(octets) => vec![stream.candidate.start + octets],
            Self::Composed { candidate, end } => {
                let mut cuts = composed(&stream.candidate, candidate);
                cuts.extend(composed(&stream.end, end));
                cuts
            }
        }
    }
}

/// How many compositions the true end has.
pub(crate) const COMPOSITIONS_OF_END: u128 = 1 << (TRUE_END.len() - 1);

/// How many compositions that many octets have.
pub(crate) const fn compositions(octets: usize) -> u128 {
    1 << (octets - 1)
}
