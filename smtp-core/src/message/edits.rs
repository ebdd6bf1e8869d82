//! Changes to the header section of a message whose content nobody rewrites.

use super::header_field::HeaderField;

/// Fields to put in front and names to leave out.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderEdits {
    /// The last one added stands first.
    prepended: Vec<HeaderField>,
    /// In the order in which they were added.
    completing: Vec<HeaderField>,
    removed: Vec<Box<str>>,
}

impl HeaderEdits {
    pub(crate) fn extend(&mut self, prepended: Vec<HeaderField>, completing: Vec<HeaderField>, removed: Vec<Box<str>>) {
        self.prepended.extend(prepended);
        self.completing.extend(completing);
        self.removed.extend(removed);
    }

    /// Whether arriving fields are left out.
    pub(crate) fn removes(&self) -> bool {
        !self.removed.is_empty()
    }

    /// The fields in front, in the order in which they are written.
    pub(crate) fn prepended(&self) -> impl Iterator<Item = &HeaderField> {
        self.prepended.iter().rev()
    }

    /// The fields beneath the trace fields, in the order in which they are written.
    pub(crate) fn completing(&self) -> impl Iterator<Item = &HeaderField> {
        self.completing.iter()
    }

    /// The first octets of a message, without the fields that are to be left out. What follows the header section stays
    /// as it is. `head` must hold the whole header section.
    pub(crate) fn filter(&self, head: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(head.len());
        let mut rest = head;
        let mut dropping = false;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(end);
            let continues = matches!(line[0], b' ' | b'\t');
            if !continues {
                if line == b"\r\n" {
                    kept.extend_from_slice(rest);
                    return kept;
                }
                let is_removed =
                    |name: &[u8]| self.removed.iter().any(|removed| name.eq_ignore_ascii_case(removed.as_bytes()));
                dropping = field_name(line).is_some_and(is_removed);
            }
            if !dropping {
                kept.extend_from_slice(line);
            }
            rest = behind;
        }
        kept
    }
}

/// The name of the field that starts on this line; white space before the colon is obsolete, and read (RFC 5322 §4.5).
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_fields_go_with_their_continuation_lines_and_nothing_else() {
        let mut edits = HeaderEdits::default();
        edits.extend(Vec::new(), Vec::new(), vec!["X-Spam".into()]);
        for (head, expected) in [
            ("X-Spam: a\r\n b\r\nSubject: s\r\n\r\nX-Spam: body\r\n", "Subject: s\r\n\r\nX-Spam: body\r\n"),
            ("Subject: s\r\nx-spam : a\r\n\r\n", "Subject: s\r\n\r\n"),
            ("X-Spammer: a\r\n\r\n", "X-Spammer: a\r\n\r\n"),
            ("no field\r\nX-Spam: a\r\nodd name: b\r\nX-Spam: c\r\n\r\n", "no field\r\nodd name: b\r\n\r\n"),
            ("\r\nX-Spam: a\r\n", "\r\nX-Spam: a\r\n"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&edits.filter(head.as_bytes())), expected);
        }
    }
}
