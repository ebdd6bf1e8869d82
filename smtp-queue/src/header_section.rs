//! The header section of a stored content, read without the rest.

use std::borrow::Cow;
use std::io;

use memchr::memmem;

use crate::content::StoredContent;

/// Octets that are read at once.
const STEP_OCTETS: usize = 16 << 10;

/// The first octets of a content: its header section, or as much of that as the limit allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderSection {
    octets: Vec<u8>,
    is_complete: bool,
}

impl HeaderSection {
    /// Reads it from a content. Blocks where that is in a file.
    pub(crate) fn read(content: &StoredContent, limit_octets: usize) -> io::Result<Self> {
        let mut octets = Vec::new();
        while octets.len() < limit_octets {
            let step = STEP_OCTETS.min(limit_octets - octets.len());
            let Some(chunk) = content.chunk(octets.len() as u64, step)? else {
                return Ok(Self { octets, is_complete: true });
            };
            // The end may lie across both.
            let known = octets.len().saturating_sub(2);
            octets.extend_from_slice(&chunk);
            if let Some(end) = end(&octets, known) {
                octets.truncate(end);
                return Ok(Self { octets, is_complete: true });
            }
        }
        Ok(Self { is_complete: octets.len() as u64 == content.len(), octets })
    }

    /// The octets, the CRLF of the last field included.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Whether there is no more of it.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The octets without the fields of these names and what continues them.
    pub(crate) fn without(&self, names: &[String]) -> Cow<'_, [u8]> {
        let is_named = |line: &[u8]| {
            let name = line.split(|octet| *octet == b':').next().filter(|name| name.len() < line.len());
            name.is_some_and(|name| names.iter().any(|one| name.trim_ascii_end().eq_ignore_ascii_case(one.as_bytes())))
        };
        let lines = || self.octets.split_inclusive(|octet| *octet == b'\n');
        if !lines().any(is_named) {
            return Cow::Borrowed(&self.octets);
        }
        let (mut kept, mut is_left_out) = (Vec::with_capacity(self.octets.len()), false);
        for line in lines() {
            if !matches!(line, [b' ' | b'\t', ..]) {
                is_left_out = is_named(line);
            }
            if !is_left_out {
                kept.extend_from_slice(line);
            }
        }
        Cow::Owned(kept)
    }

    /// The values of the fields of that name, unfolded and without white space around them.
    pub(crate) fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let mut values: Vec<Vec<u8>> = Vec::new();
        let mut is_wanted = false;
        for line in self.octets.split_inclusive(|octet| *octet == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                if let Some(value) = values.last_mut().filter(|_| is_wanted) {
                    value.extend_from_slice(line);
                }
                continue;
            }
            let (field, value) = line.split_at(line.iter().position(|octet| *octet == b':').unwrap_or(line.len()));
            is_wanted = field.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()) && !value.is_empty();
            if is_wanted {
                values.push(value[1..].to_vec());
            }
        }
        values.iter().map(|value| value.trim_ascii().to_vec()).collect()
    }
}

/// Where the empty line begins, however the ends of lines are written; what is before `known` is known to have none.
fn end(octets: &[u8], known: usize) -> Option<usize> {
    if octets.starts_with(b"\r\n") || octets.starts_with(b"\n") {
        return Some(0);
    }
    let ends = [memmem::find(&octets[known..], b"\n\r\n"), memmem::find(&octets[known..], b"\n\n")];
    ends.into_iter().flatten().min().map(|at| known + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn read(head: &str, body: &str, limit_octets: usize) -> HeaderSection {
        let content = StoredContent::in_memory(Bytes::from(head.to_owned()), Bytes::from(body.to_owned()));
        HeaderSection::read(&content, limit_octets).expect("in memory")
    }

    #[test] // Whatever part of the content the end lies in.
    fn the_section_ends_at_the_first_empty_line() {
        for (text, expected) in [
            ("A: b\r\n\r\nbody\r\n\r\n", 6),
            ("A: b\r\n\nbody\r\n\r\n", 6),
            ("A: b\n\r\nbody\n\n", 5),
            ("A: b\n\nbody\r\n\r\n", 5),
            ("\r\nbody\r\n\r\n", 0),
            ("\nbody\n\n", 0),
            ("A: b\r\nC: d", 10),
        ] {
            for cut in 0..text.len() {
                let section = read(&text[..cut], &text[cut..], 1000);
                assert_eq!(section.octets(), &text.as_bytes()[..expected], "{text:?} at {cut}");
                assert!(section.is_complete());
            }
        }
        let long = format!("{}\r\n\r\nbody", "x".repeat(3 * STEP_OCTETS - 2));
        for (limit_octets, expected, complete) in
            [(10, 10, false), (3 * STEP_OCTETS, 3 * STEP_OCTETS, false), (1 << 20, 3 * STEP_OCTETS, true)]
        {
            let section = read("", &long, limit_octets);
            assert_eq!((section.octets().len(), section.is_complete()), (expected, complete), "{limit_octets}");
        }
        assert!(read("", "A: b\r\n", 6).is_complete());
        assert!(!read("", "A: b\r\n", 5).is_complete());
    }

    #[test] // RFC 5322 §2.2.3; §4.5.8 for the space before the colon
    fn values_are_unfolded() {
        let section = read(
            "Delivered-To: a@b\r\n",
            " \r\nX: y\r\n z\r\ndelivered-to :\r\n\tc@d\r\nDelivered-To\r\n x\r\nDelivered-To-Not: e\r\n f\r\n\r\n\
             Delivered-To: g\r\n",
            1000,
        );
        assert_eq!(section.values("Delivered-To"), [&b"a@b"[..], b"c@d"]);
        assert!(read("", " continues: nothing\r\nA: b", 1000).values("continues").is_empty());
    }
}
