//! The header section of arriving content: read once, taken apart as the engine does.

use std::io::{self, BufRead, BufReader};

use smtp_core::Content;

/// The header section, without the empty line behind it. The session has limited its size.
pub(crate) async fn header_section(content: &Content) -> io::Result<Vec<u8>> {
    if let Some(octets) = content.as_bytes() {
        return read_section(&octets[..]);
    }
    let content = content.clone();
    let read = tokio::task::spawn_blocking(move || read_section(BufReader::new(content.reader()?)));
    read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Reads as far as the empty line, and that.
pub(crate) fn read_section(mut content: impl BufRead) -> io::Result<Vec<u8>> {
    let mut section = Vec::new();
    loop {
        let start = section.len();
        content.read_until(b'\n', &mut section)?;
        if section.len() == start || &section[start..] == b"\r\n" {
            section.truncate(start);
            return Ok(section);
        }
    }
}

/// One field as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Without white space behind it, which is obsolete (RFC 5322 §4.5).
    pub(crate) name: &'a [u8],
    /// With that white space.
    pub(crate) name_as_written: &'a [u8],
    /// What follows the colon, folded, with its line breaks.
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields from the top. A line that is no field is passed over, and what continues it.
pub(crate) fn fields(section: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = section;
    std::iter::from_fn(move || {
        loop {
            let first_line = line_length(rest)?;
            let mut length = first_line;
            while matches!(rest.get(length), Some(b' ' | b'\t')) {
                length += line_length(&rest[length..])?;
            }
            let (field, behind) = rest.split_at(length);
            rest = behind;
            let Some(colon) = field[..first_line].iter().position(|&octet| octet == b':') else { continue };
            let name = field[..colon].trim_ascii_end();
            if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                return Some(Field { name, name_as_written: &field[..colon], value: &field[colon + 1..] });
            }
        }
    })
}

/// With its line break; `None` where there is no line.
fn line_length(octets: &[u8]) -> Option<usize> {
    let end = octets.iter().position(|&octet| octet == b'\n').map_or(octets.len(), |at| at + 1);
    (end > 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_their_continuation_lines_and_what_is_none() -> io::Result<()> {
        let content = "A: 1\r\nb :2\r\n 3\r\nno field\r\n X: y\r\n: z\r\nC:\r\n\r\nD: body\r\n";
        let section = read_section(content.as_bytes())?;
        let found: Vec<_> = fields(&section)
            .map(|field| (String::from_utf8_lossy(field.name), String::from_utf8_lossy(field.value)))
            .collect();
        let found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, [("A", " 1\r\n"), ("b", "2\r\n 3\r\n"), ("C", "\r\n")]);
        assert_eq!(fields(b"").count() + fields(b"A: without an end").count(), 1);
        Ok(())
    }
}
