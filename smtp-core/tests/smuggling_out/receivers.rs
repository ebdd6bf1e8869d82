//! Receivers, each with a wrong idea of the end of content that some server has had, and one without.
//!
//! What no sender can prevent is not among them: a receiver that takes ordinary octets, as U+0085 within a line, for the
//! start of a line.

use memchr::memmem;

/// How a receiver finds the end.
pub(crate) struct Receiver {
    pub(crate) name: &'static str,
    /// What it does to the stream before it looks.
    prepare: fn(&[u8]) -> Vec<u8>,
    /// What it takes for the end besides `CRLF . CRLF`.
    ends: &'static [&'static [u8]],
}

const TRUE_END: &[u8] = b"\r\n.\r\n";

const fn receiver(name: &'static str, prepare: fn(&[u8]) -> Vec<u8>, ends: &'static [&'static [u8]]) -> Receiver {
    Receiver { name, prepare, ends }
}

fn unchanged(stream: &[u8]) -> Vec<u8> {
    stream.to_vec()
}

fn without(octet: u8) -> impl Fn(&[u8]) -> Vec<u8> {
    move |stream| stream.iter().copied().filter(|&other| other != octet).collect()
}

fn without_nul(stream: &[u8]) -> Vec<u8> {
    without(0)(stream)
}

fn without_cr(stream: &[u8]) -> Vec<u8> {
    without(b'\r')(stream)
}

fn cr_as_lf(stream: &[u8]) -> Vec<u8> {
    stream.iter().map(|&octet| if octet == b'\r' { b'\n' } else { octet }).collect()
}

/// CR CR LF counts as CRLF, as often as it comes.
fn repeated_cr_as_one(stream: &[u8]) -> Vec<u8> {
    let mut octets = stream.to_vec();
    octets.dedup_by(|next, before| (*next, *before) == (b'\r', b'\r'));
    octets
}

/// White space before a line end is dropped.
fn trimmed(stream: &[u8]) -> Vec<u8> {
    let mut octets: Vec<u8> = Vec::with_capacity(stream.len());
    for &octet in stream {
        if octet == b'\r' {
            while octets.last().is_some_and(|last| matches!(last, b' ' | b'\t' | 0x0b | 0x0c)) {
                octets.pop();
            }
        }
        octets.push(octet);
    }
    octets
}

pub(crate) const RECEIVERS: [Receiver; 13] = [
    receiver("strict", unchanged, &[]),
    receiver("LF . LF", unchanged, &[b"\n.\n"]),
    receiver("LF . CRLF", unchanged, &[b"\n.\r\n"]),
    receiver("CRLF . LF", unchanged, &[b"\r\n.\n"]),
    receiver("CR . CR", unchanged, &[b"\r.\r"]),
    receiver("CR . CRLF", unchanged, &[b"\r.\r\n"]),
    receiver("CRLF . CR", unchanged, &[b"\r\n.\r"]),
    receiver("many CRs are one", repeated_cr_as_one, &[]),
    receiver("drops NUL", without_nul, &[]),
    receiver("drops CR", without_cr, &[b"\n.\n"]),
    receiver("CR is LF", cr_as_lf, &[b"\n.\n"]),
    receiver("trims lines", trimmed, &[]),
    receiver(
        "other ends of a dot line",
        unchanged,
        &[b"\r\n.\x0b", b"\r\n.\x0c", b"\r\n.\x85", b"\r\n.\xe2\x80\xa8", b"\r\n.\0"],
    ),
];

impl Receiver {
    /// How many messages it sees in what a client writes behind `354`.
    pub(crate) fn messages(&self, stream: &[u8]) -> usize {
        // The line of `DATA` has ended before.
        let mut rest = (self.prepare)(&[b"\r\n", stream].concat());
        let mut messages = 0;
        while let Some(end) = self.end(&rest) {
            messages += 1;
            // What follows are commands; another `DATA` begins another message.
            rest.drain(..end);
            let Some(at) = memmem::find(&rest, b"DATA") else { break };
            rest.drain(..at + 4);
        }
        messages
    }

    /// The first octet behind the end.
    fn end(&self, stream: &[u8]) -> Option<usize> {
        let ends = std::iter::once(TRUE_END).chain(self.ends.iter().copied());
        ends.filter_map(|end| memmem::find(stream, end).map(|at| at + end.len())).min()
    }
}
