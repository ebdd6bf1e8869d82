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

/// A field that stands in the place of an arriving one.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    /// Which of the arriving fields of the name of `field`, counted from the top and from 0.
    pub(crate) place: usize,
    /// The name in front of the colon is that of the arriving field, but for the case of its letters.
    pub(crate) field: HeaderField,
}

/// A field among the arriving ones.
#[derive(Debug, Clone)]
pub(crate) struct Insertion {
    /// In front of which of all arriving fields, counted from 0; behind the last where there are fewer.
    pub(crate) place: usize,
    pub(crate) field: HeaderField,
}

/// Fields to put in front, in between or in the place of others, and names to leave out.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderEdits {
    /// The last one added stands first.
    prepended: Vec<HeaderField>,
    /// In the order in which they were added.
    completing: Vec<HeaderField>,
    removed: Vec<Removal>,
    replaced: Vec<Replacement>,
    inserted: Vec<Insertion>,
}

impl HeaderEdits {
    pub(crate) fn extend(&mut self, prepended: Vec<HeaderField>, completing: Vec<HeaderField>, removed: Vec<Removal>) {
        self.prepended.extend(prepended);
        self.completing.extend(completing);
        self.removed.extend(removed);
    }

    /// What is written among the arriving fields.
    pub(crate) fn extend_arriving(&mut self, replaced: Vec<Replacement>, inserted: Vec<Insertion>) {
        self.replaced.extend(replaced);
        self.inserted.extend(inserted);
    }

    /// Whether the header section is not written as it arrived.
    pub(crate) fn touches_arriving(&self) -> bool {
        !(self.removed.is_empty() && self.replaced.is_empty() && self.inserted.is_empty())
    }

    /// The fields in front, in the order in which they are written.
    pub(crate) fn prepended(&self) -> impl Iterator<Item = &HeaderField> {
        self.prepended.iter().rev()
    }

    /// The fields beneath the trace fields, in the order in which they are written.
    pub(crate) fn completing(&self) -> impl Iterator<Item = &HeaderField> {
        self.completing.iter()
    }

    /// The first octets of a message, with what is changed among the arriving fields. What follows the header section stays
    /// as it is. `head` must hold the whole header section.
    pub(crate) fn filter(&self, head: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(head.len());
        // How many fields of the name of each removal and of each replacement were met, and how many at all.
        let mut met = (vec![0; self.removed.len()], vec![0; self.replaced.len()]);
        let mut fields = 0;
        let mut rest = head;
        let mut dropping = false;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, behind) = rest.split_at(end);
            let continues = matches!(line[0], b' ' | b'\t');
            if !continues {
                if line == b"\r\n" {
                    break;
                }
                dropping = false;
                if let Some(name) = field_name(line) {
                    self.insert(&mut kept, |place| place == fields);
                    fields += 1;
                    let replacement = self.replacement(name, &mut met.1);
                    dropping = self.is_removed(name, &mut met.0);
                    if let Some(replacement) = replacement.filter(|_| !dropping) {
                        kept.extend_from_slice(replacement.as_bytes());
                        dropping = true;
                    }
                }
            }
            if !dropping {
                kept.extend_from_slice(line);
            }
            rest = behind;
        }
        if self.inserted.iter().any(|insertion| insertion.place >= fields) && !matches!(kept[..], [] | [.., b'\n']) {
            // By `BDAT` the last line may come without its end.
            kept.extend_from_slice(b"\r\n");
        }
        self.insert(&mut kept, |place| place >= fields);
        kept.extend_from_slice(rest);
        kept
    }

    /// Writes the fields that stand at some place, in the order in which they were added.
    fn insert(&self, kept: &mut Vec<u8>, is_here: impl Fn(usize) -> bool) {
        for insertion in self.inserted.iter().filter(|insertion| is_here(insertion.place)) {
            kept.extend_from_slice(insertion.field.as_bytes());
        }
    }

    /// What stands in the place of the field of that name; of several, what was said last.
    fn replacement(&self, name: &[u8], met: &mut [usize]) -> Option<&HeaderField> {
        let mut found = None;
        for (replacement, met) in self.replaced.iter().zip(met) {
            if name.eq_ignore_ascii_case(replacement.field.name().as_bytes()) {
                if *met == replacement.place {
                    found = Some(&replacement.field);
                }
                *met += 1;
            }
        }
        found
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
    use crate::message::header_field::HeaderFieldError;

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

    #[test] // what a filter adds and changes
    fn fields_are_inserted_and_replaced_at_their_places_among_those_that_arrived() -> Result<(), HeaderFieldError> {
        let field = HeaderField::new;
        let insertion = |place, name, value| Ok(Insertion { place, field: field(name, value)? });
        let replacement = |place, name, value| Ok(Replacement { place, field: field(name, value)? });
        let head = "A: 0\r\nno field\r\na : 1\r\n more\r\nB: 0\r\n\r\nA: body\r\n";
        for (head, replaced, inserted, removed, expected) in [
            (
                head,
                vec![],
                vec![insertion(0, "X", "y")?],
                vec![],
                "X: y\r\nA: 0\r\nno field\r\na : 1\r\n more\r\nB: 0\r\n\r\nA: body\r\n",
            ),
            (
                head,
                vec![replacement(1, "A", "2")?],
                vec![insertion(1, "X", "y")?, insertion(1, "Y", "z")?, insertion(usize::MAX, "Z", "")?],
                vec![],
                "A: 0\r\nno field\r\nX: y\r\nY: z\r\nA: 2\r\nB: 0\r\nZ:\r\n\r\nA: body\r\n",
            ),
            (
                head,
                vec![
                    replacement(0, "a", "1")?,
                    replacement(0, "A", "2")?,
                    replacement(7, "A", "3")?,
                    replacement(0, "B", "x")?,
                ],
                vec![],
                vec![Removal::all("B")],
                "A: 2\r\nno field\r\na : 1\r\n more\r\n\r\nA: body\r\n",
            ),
            ("", vec![], vec![insertion(0, "X", "y")?], vec![], "X: y\r\n"),
            ("\r\nbody", vec![], vec![insertion(3, "X", "y")?], vec![], "X: y\r\n\r\nbody"),
            ("A: 0", vec![], vec![insertion(3, "X", "y")?], vec![], "A: 0\r\nX: y\r\n"),
        ] {
            let mut edits = HeaderEdits::default();
            edits.extend(Vec::new(), Vec::new(), removed);
            edits.extend_arriving(replaced, inserted);
            assert!(edits.touches_arriving());
            assert_eq!(String::from_utf8_lossy(&edits.filter(head.as_bytes())), expected);
        }
        Ok(())
    }
}
