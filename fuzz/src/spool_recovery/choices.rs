//! The input of a script, read once from its start.

/// Choices, 0 for ever behind the last.
#[derive(Debug)]
pub(super) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below that one, of two choices.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let number = usize::from(self.next()) << 8 | usize::from(self.next());
        // Sixteen bits spread over the whole range.
        (number * end.max(1)) >> 16
    }

    /// So many octets, or as many as there are.
    pub(super) fn take(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(octets.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
