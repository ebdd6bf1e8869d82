//! One way through a content: the header section line by line, of the body the lengths of its lines.

use std::io::{self, Read};

use memchr::memchr_iter;

use super::fields::{address_problem, date_problem};

/// The most octets of a line without its CRLF (RFC 5322 §2.1.1).
pub(super) const LINE_LIMIT_OCTETS: u64 = 998;
/// The most octets of a header section that are looked at: 1 MiB (ours). A session lets in 256 KiB (LI8).
const HEADER_LIMIT_OCTETS: usize = 1 << 20;
/// The most fields that are looked at: 10,000 (ours).
const FIELDS_LIMIT: usize = 10_000;
/// Octets that are read at once.
const STEP_OCTETS: usize = 64 << 10;
/// Fields of which there is one at most (RFC 5322 §3.6; RFC 2045 §3). `From` is counted by itself.
const ONCE: [&str; 12] = [
    "Date",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
    "Content-Type",
];
/// Fields of addresses (RFC 5322 §3.6.2, §3.6.3).
const OF_ADDRESSES: [&str; 6] = ["From", "Sender", "Reply-To", "To", "Cc", "Bcc"];

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) fields: usize,
    pub(super) from_fields: usize,
    /// Of each of [`ONCE`].
    counts: [usize; ONCE.len()],
    pub(super) has_message_id: bool,
    pub(super) date_problem: Option<String>,
    pub(super) address_problem: Option<String>,
    /// The first line that is no field and continues none.
    pub(super) no_field: Option<usize>,
    pub(super) is_not_ascii: bool,
    /// In octets, without its line break.
    pub(super) longest_line: u64,
    /// There is more of the header section than is looked at.
    pub(super) is_cut: bool,
}

impl Scanned {
    /// The names of fields that stand too often.
    pub(super) fn repeated(&self) -> Option<String> {
        let repeated = ONCE.iter().zip(self.counts).filter(|(_, count)| *count > 1);
        let names: Vec<_> = repeated.map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// A line of the header section that starts a field, with those that continue it.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.fields += 1;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        self.from_fields += usize::from(is("From"));
        self.has_message_id |= is("Message-ID");
        if let Some(place) = ONCE.iter().position(|known| is(known)) {
            self.counts[place] += 1;
        }
        if is("Date") && self.date_problem.is_none() {
            self.date_problem = date_problem(value);
        }
        if self.address_problem.is_none()
            && let Some(known) = OF_ADDRESSES.iter().find(|known| is(known))
        {
            self.address_problem = address_problem(value).map(|problem| format!("{known}: {problem}"));
        }
    }
}

/// Reads a content to its end.
pub(super) fn scan(mut content: impl Read) -> io::Result<Scanned> {
    let (mut scanned, mut header) = (Scanned::default(), Vec::new());
    let mut lengths = Lengths::default();
    let (mut buffer, mut is_header) = (vec![0; STEP_OCTETS], true);
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        lengths.watch(&buffer[..read]);
        if is_header {
            // The end may lie across both.
            let known = header.len().saturating_sub(3);
            header.extend_from_slice(&buffer[..read]);
            if let Some(end) = end(&header, known) {
                header.truncate(end);
                is_header = false;
            } else if header.len() >= HEADER_LIMIT_OCTETS {
                header.truncate(HEADER_LIMIT_OCTETS);
                scanned.is_cut = true;
                is_header = false;
            }
        }
    }
    scanned.longest_line = lengths.longest();
    look_at(&header, &mut scanned);
    if scanned.counts[0] == 0 {
        scanned.date_problem = Some("no Date field".to_owned());
    }
    Ok(scanned)
}

fn look_at(header: &[u8], scanned: &mut Scanned) {
    scanned.is_not_ascii = !header.is_ascii();
    let (mut rest, mut is_continued, mut line) = (header, false, 1);
    while !rest.is_empty() {
        let first_line = line_length(rest);
        let (mut length, mut next_line) = (first_line, line + 1);
        while matches!(rest.get(length), Some(b' ' | b'\t')) {
            length += line_length(&rest[length..]);
            next_line += 1;
        }
        let (lines, behind) = rest.split_at(length);
        rest = behind;
        if scanned.fields >= FIELDS_LIMIT {
            scanned.is_cut = true;
            return;
        }
        let colon = lines[..first_line].iter().position(|octet| *octet == b':');
        let field = colon.map(|colon| (lines[..colon].trim_ascii_end(), &lines[colon + 1..]));
        match field.filter(|(name, _)| !name.is_empty() && name.iter().all(u8::is_ascii_graphic)) {
            Some((name, value)) if is_continued || !matches!(lines[0], b' ' | b'\t') => scanned.field(name, value),
            // Its octets may be of the body, and of nobody's business.
            _ => scanned.no_field = scanned.no_field.or(Some(line)),
        }
        (is_continued, line) = (true, next_line);
    }
}

/// With its line break.
fn line_length(octets: &[u8]) -> usize {
    memchr::memchr(b'\n', octets).map_or(octets.len(), |at| at + 1)
}

/// Where the empty line begins; what is before `known` is known to have none.
fn end(octets: &[u8], known: usize) -> Option<usize> {
    if octets.starts_with(b"\r\n") {
        return Some(0);
    }
    memchr::memmem::find(&octets[known..], b"\n\r\n").map(|at| known + at + 1)
}

/// How long lines are.
#[derive(Debug, Default)]
struct Lengths {
    longest: u64,
    /// Of the line that is being read.
    this: u64,
    ends_with_cr: bool,
}

impl Lengths {
    fn watch(&mut self, octets: &[u8]) {
        let mut start = 0;
        for end in memchr_iter(b'\n', octets) {
            let line = &octets[start..end];
            let has_cr = if line.is_empty() { self.ends_with_cr } else { line.ends_with(b"\r") };
            self.longest = self.longest.max(self.this + line.len() as u64 - u64::from(has_cr));
            (self.this, self.ends_with_cr, start) = (0, false, end + 1);
        }
        let rest = &octets[start..];
        self.this += rest.len() as u64;
        if let Some(last) = rest.last() {
            self.ends_with_cr = *last == b'\r';
        }
    }

    fn longest(&self) -> u64 {
        self.longest.max(self.this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many octets at once.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (piece, rest) = self.0.split_at(length);
            buffer[..length].copy_from_slice(piece);
            self.0 = rest;
            Ok(length)
        }
    }

    #[test] // The laws: one octet at a time gives the same as all at once.
    fn pieces_of_any_size_give_the_same() {
        for content in [
            "From: a@b\r\nDate: x\r\n\r\nlonger than all\r\n",
            "\r\nFrom: a@b\r\n",
            "From: a@b\r\n",
            "From: a@b\r\n\r\n",
            "no end",
            "",
        ] {
            let whole = format!("{:?}", scan(content.as_bytes()).expect("in memory"));
            for size in 1..12 {
                let pieces = scan(Pieces(content.as_bytes(), size)).expect("in memory");
                assert_eq!(format!("{pieces:?}"), whole, "{content:?} by {size}");
            }
        }
        assert_eq!(scan(&b"ab\r\nabc\r\n\r\nabcd"[..]).expect("in memory").longest_line, 4);
    }

    #[test] // SECURITY D-25: of what is too large the start is looked at.
    fn d25_a_header_section_without_end_is_cut() {
        let content = io::repeat(b'x').take(10 << 20);
        let scanned = scan(content).expect("it can be read");
        assert_eq!((scanned.is_cut, scanned.longest_line, scanned.fields), (true, 10 << 20, 0));
        let many = "A: b\r\n".repeat(1_000_000);
        let scanned = scan(many.as_bytes()).expect("in memory");
        assert_eq!((scanned.is_cut, scanned.fields), (true, FIELDS_LIMIT));
    }
}
