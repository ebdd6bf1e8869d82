//! A position in the octets being parsed, and the error that names it.

use thiserror::Error;

/// Octets that are not in the grammar: where, and what would have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected {expected} at octet {offset}")]
pub struct SyntaxError {
    offset: usize,
    expected: &'static str,
}

impl SyntaxError {
    /// Octets before the place, counted from the start of what was parsed.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What the grammar has there.
    pub fn expected(&self) -> &'static str {
        self.expected
    }

    /// Never: the same octets will be as wrong tomorrow.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// Reads octets from left to right.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.input.len()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    pub(crate) fn next(&mut self) -> Option<u8> {
        let octet = self.peek()?;
        self.at += 1;
        Some(octet)
    }

    /// Steps over `octet` if it comes next.
    pub(crate) fn eat(&mut self, octet: u8) -> bool {
        let found = self.peek() == Some(octet);
        self.at += usize::from(found);
        found
    }

    /// Steps over `word` if it comes next, in any case of letters.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.rest().get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    pub(crate) fn take_while(&mut self, mut belongs: impl FnMut(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|&octet| !belongs(octet)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    pub(crate) fn skip_spaces(&mut self) {
        self.take_while(|octet| octet == b' ' || octet == b'\t');
    }

    pub(crate) fn expect(&mut self, octet: u8, name: &'static str) -> Result<(), SyntaxError> {
        if self.eat(octet) { Ok(()) } else { Err(self.error(name)) }
    }

    pub(crate) fn expect_end(&self) -> Result<(), SyntaxError> {
        if self.is_at_end() { Ok(()) } else { Err(self.error("the end")) }
    }

    pub(crate) fn error(&self, expected: &'static str) -> SyntaxError {
        SyntaxError { offset: self.at, expected }
    }
}
