//! The header section of arriving content, watched while it passes: its size, its fields, its `Received` fields.
//!
//! Nothing is kept of it. It ends at the first empty line; a line that is no field is passed over.

use memchr::memchr;

/// Counts what the limits LI8 and LI10 are about.
#[derive(Debug, Default)]
pub(crate) struct HeaderSection {
    octets: u64,
    fields: u32,
    received: u32,
    starts_with_space: bool,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    LineStart,
    /// In a name, of which so many octets equal those of `received`; `None` when they differ.
    Name(Option<usize>),
    /// Behind the name, on the line or on one that continues it.
    RestOfLine,
    /// Behind a CR at the start of a line.
    EmptyLine,
    Body,
}

const RECEIVED: &[u8; 8] = b"received";

impl HeaderSection {
    /// At the start of the content.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Octets of the header section so far.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Header fields so far.
    pub(crate) fn fields(&self) -> u32 {
        self.fields
    }

    /// `Received` fields so far (RFC 5321 §6.3).
    pub(crate) fn received_fields(&self) -> u32 {
        self.received
    }

    /// Whether the first line would continue the field that we put in front of it.
    pub(crate) fn starts_with_space(&self) -> bool {
        self.starts_with_space
    }

    /// Looks at the next octets of the content. Costs nothing behind the header section.
    #[inline]
    pub(crate) fn watch(&mut self, octets: &[u8]) {
        if self.place != Place::Body {
            self.watch_fields(octets);
        }
    }

    fn watch_fields(&mut self, mut octets: &[u8]) {
        while let Some((&octet, rest)) = octets.split_first() {
            if self.place == Place::RestOfLine {
                let Some(end) = memchr(b'\n', octets) else {
                    self.octets += octets.len() as u64;
                    return;
                };
                self.octets += end as u64 + 1;
                self.place = Place::LineStart;
                octets = &octets[end + 1..];
                continue;
            }
            if self.place == Place::EmptyLine && octet == b'\n' {
                self.place = Place::Body;
                return;
            }
            self.octets += 1;
            self.place = match self.place {
                Place::LineStart => self.start_line(octet),
                Place::Name(matched) => self.continue_name(matched, octet),
                // Binary content may have a bare CR there: this is no empty line.
                Place::EmptyLine => Place::RestOfLine,
                other => other,
            };
            if self.place == Place::Body {
                return;
            }
            octets = rest;
        }
    }

    fn start_line(&mut self, octet: u8) -> Place {
        match octet {
            b' ' | b'\t' => {
                self.starts_with_space |= self.octets == 1;
                Place::RestOfLine
            }
            b'\r' => Place::EmptyLine,
            _ => self.continue_name(Some(0), octet),
        }
    }

    fn continue_name(&mut self, matched: Option<usize>, octet: u8) -> Place {
        match octet {
            b':' => {
                self.fields += 1;
                self.received += u32::from(matched == Some(RECEIVED.len()));
                Place::RestOfLine
            }
            b'\n' => Place::LineStart,
            // White space between name and colon is obsolete, and read (RFC 5322 §4.5).
            b' ' | b'\t' => Place::Name(matched.filter(|&matched| matched == RECEIVED.len())),
            _ => {
                let expected = matched.and_then(|matched| Some((matched, RECEIVED.get(matched)?)));
                Place::Name(
                    expected
                        .and_then(|(matched, expected)| octet.eq_ignore_ascii_case(expected).then_some(matched + 1)),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ends() {
        for (content, octets, fields, received) in [
            ("", 0, 0, 0),
            ("\r\nReceived: x\r\n", 1, 0, 0),
            ("Received: a\r\nrEcEiVeD: b\r\nReceived : c\r\nSubject: d\r\n\r\nReceived: body\r\n", 53, 4, 3),
            ("Received-SPF: pass\r\nX-Received: a\r\nReceive: a\r\nReceivedd: b\r\n\r\n", 62, 4, 0),
            ("Received: a\r\n\tReceived: continued\r\n b\r\n\r\n", 40, 1, 1),
            ("no field at all\r\nReceived: a\r\n", 30, 1, 1),
            ("A: b\r\n\rReceived: a\r\nReceived: a\r\n\r\n", 34, 2, 1),
            ("Subject: a\r\nno field\r\nReceived: a\r\n\r\nbody", 36, 2, 1),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                let mut section = HeaderSection::new();
                content.as_bytes().chunks(size).for_each(|piece| section.watch(piece));
                assert_eq!(
                    (section.octets(), section.fields(), section.received_fields()),
                    (octets, fields, received),
                    "{content:?}"
                );
            }
        }
    }
}
