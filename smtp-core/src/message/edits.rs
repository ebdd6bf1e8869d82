//! Changes to the header section of a message whose content nobody rewrites.

use std::collections::BTreeSet;

use super::header_field::HeaderField;

/// Arriving fields of one name that are left out.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    name: Box<str>,
    /// Which of them, counted from the top and from 0; all, where it is `None`.
    places: Option<BTreeSet<usize>>,
}

impl Removal {
    pub(crate) fn all(name: &str) -> Self {
        Self { name: name.into(), places: None }
    }

    pub(crate) fn at(name: &str, places: impl IntoIterator<Item = usize>) -> Self {
        Self { name: name.into(), places: Some(places.into_iter().collect()) }
    }
}

/// Fields to put in front and names to leave out.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderEdits {
    /// The last one added stands first.
    prepended: Vec<HeaderField>,
    /// In the order in which they were added.
    completing: Vec<HeaderField>,
    removed: Vec<Removal>,
}

impl HeaderEdits {
    pub(crate) fn extend(&mut self, prepended: Vec<HeaderField>, completing: Vec<HeaderField>, removed: Vec<Removal>) {
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
        // How many fields of the name of each removal were met.
        let mut met = vec![0; self.removed.len()];
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
                dropping = field_name(line).is_some_and(|name| self.is_removed(name, &mut met));
            }
            if !dropping {
                kept.extend_from_slice(line);
            }
            rest = behind;
        }
        kept
    }

    fn is_removed(&self, name: &[u8], met: &mut [usize]) -> bool {
        let mut is_removed = false;
        for (removal, met) in self.removed.iter().zip(met) {
            if name.eq_ignore_ascii_case(removal.name.as_bytes()) {
                is_removed |= removal.places.as_ref().is_none_or(|places| places.contains(met));
                *met += 1;
            }
        }
        is_removed
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
        edits.extend(Vec::new(), Vec::new(), vec![Removal::all("X-Spam")]);
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

    #[test] // SECURITY D-24: of several fields of a name those that lie
    fn fields_go_by_their_place_among_those_of_their_name_as_they_arrived() {
        let head = "A: 0\r\na : 1\r\n more\r\nB: 0\r\nA: 2\r\nAB: 0\r\n\r\nA: body\r\n";
        for (removals, expected) in [
            (vec![Removal::at("a", [0])], "a : 1\r\n more\r\nB: 0\r\nA: 2\r\nAB: 0\r\n\r\nA: body\r\n"),
            (vec![Removal::at("A", [1, 9])], "A: 0\r\nB: 0\r\nA: 2\r\nAB: 0\r\n\r\nA: body\r\n"),
            // What one policy removes does not move what another means.
            (vec![Removal::at("A", [0]), Removal::at("A", [2])], "a : 1\r\n more\r\nB: 0\r\nAB: 0\r\n\r\nA: body\r\n"),
            (vec![Removal::at("A", [0]), Removal::all("B")], "a : 1\r\n more\r\nA: 2\r\nAB: 0\r\n\r\nA: body\r\n"),
            (vec![Removal::at("A", [])], head),
        ] {
            let mut edits = HeaderEdits::default();
            edits.extend(Vec::new(), Vec::new(), removals);
            assert_eq!(String::from_utf8_lossy(&edits.filter(head.as_bytes())), expected);
        }
    }
}
