//! The hash of a body that passes in pieces, canonicalized (RFC 6376 §3.4.3, §3.4.4).

use sha2::{Digest, Sha256};

/// How much a signature lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Simple,
    Relaxed,
}

/// What was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyHash {
    pub(crate) digest: Vec<u8>,
    /// Octets of the canonicalized body behind the limit, which are not hashed.
    pub(crate) left_out: u64,
}

/// Hashes a body. It keeps no more than a few octets of it.
#[derive(Debug)]
pub(crate) struct BodyHasher {
    form: Form,
    hash: Sha256,
    /// How many octets are yet to be hashed.
    room: u64,
    left_out: u64,
    /// Ends of lines that count only where something follows.
    line_ends: u64,
    space_is_due: bool,
    behind_cr: bool,
    is_empty: bool,
    pending: Vec<u8>,
}

const PENDING_OCTETS: usize = 4096;

impl BodyHasher {
    /// Of the first `limit` octets of the canonicalized body; all, where it is `None`.
    pub(crate) fn new(form: Form, limit: Option<u64>) -> Self {
        Self {
            form,
            hash: Sha256::new(),
            room: limit.unwrap_or(u64::MAX),
            left_out: 0,
            line_ends: 0,
            space_is_due: false,
            behind_cr: false,
            is_empty: true,
            pending: Vec::with_capacity(PENDING_OCTETS),
        }
    }

    /// The next octets.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        for &octet in octets {
            if std::mem::take(&mut self.behind_cr) {
                if octet == b'\n' {
                    self.line_ends += 1;
                    self.space_is_due = false;
                    continue;
                }
                self.content(b'\r');
            }
            match octet {
                b'\r' => self.behind_cr = true,
                b' ' | b'\t' if self.form == Form::Relaxed => self.space_is_due = true,
                _ => self.content(octet),
            }
        }
    }

    /// What it comes to.
    pub(crate) fn finish(mut self) -> BodyHash {
        if self.behind_cr {
            self.content(b'\r');
        }
        if !self.is_empty || self.form == Form::Simple {
            self.put(b'\r');
            self.put(b'\n');
        }
        self.hash.update(&self.pending);
        BodyHash { digest: self.hash.finalize().to_vec(), left_out: self.left_out }
    }

    /// An octet that is no end of a line: those before it count now.
    fn content(&mut self, octet: u8) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.put(b'\r');
            self.put(b'\n');
        }
        if std::mem::take(&mut self.space_is_due) {
            self.put(b' ');
        }
        self.put(octet);
        self.is_empty = false;
    }

    fn put(&mut self, octet: u8) {
        if self.room == 0 {
            self.left_out += 1;
            return;
        }
        self.room -= 1;
        self.pending.push(octet);
        if self.pending.len() == PENDING_OCTETS {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashed(form: Form, limit: Option<u64>, body: &[u8], piece: usize) -> BodyHash {
        let mut hasher = BodyHasher::new(form, limit);
        body.chunks(piece.max(1)).for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    fn plain(text: &str) -> Vec<u8> {
        Sha256::digest(text.as_bytes()).to_vec()
    }

    #[test] // RFC 6376 §3.4.3 to §3.4.5
    fn the_examples_of_the_rfc_and_empty_bodies() {
        for (body, simple, relaxed) in [
            (" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"),
            ("", "\r\n", ""),
            ("\r\n\r\n", "\r\n", ""),
            ("x", "x\r\n", "x\r\n"),
            ("x\r\n\r\ny\r\n", "x\r\n\r\ny\r\n", "x\r\n\r\ny\r\n"),
            // Lines of white space alone are empty lines once it is gone.
            ("x\r\n \t\r\n", "x\r\n \t\r\n", "x\r\n"),
            (" \t\r\n", " \t\r\n", ""),
            ("x \ry\n\r", "x \ry\n\r\r\n", "x \ry\n\r\r\n"),
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(hashed(Form::Simple, None, body.as_bytes(), piece).digest, plain(simple), "{body:?}");
                assert_eq!(hashed(Form::Relaxed, None, body.as_bytes(), piece).digest, plain(relaxed), "{body:?}");
            }
        }
    }

    #[test] // RFC 6376 §3.5, `l=`; SECURITY D-24
    fn d24_what_stands_behind_the_limit_is_counted() {
        let limited = hashed(Form::Simple, Some(3), b"x\r\nappended\r\n", 100);
        assert_eq!((limited.digest, limited.left_out), (plain("x\r\n"), 10));
        assert_eq!(hashed(Form::Simple, Some(3), b"x\r\n\r\n", 1).left_out, 0);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(body in "[a \t\r\n]{0,60}", piece in 1..9_usize, limit in proptest::option::of(0..40_u64)) {
            for form in [Form::Simple, Form::Relaxed] {
                let whole = hashed(form, limit, body.as_bytes(), body.len());
                prop_assert_eq!(&hashed(form, limit, body.as_bytes(), piece), &whole);
            }
        }
    }
}
