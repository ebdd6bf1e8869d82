//! Splits the input of a target into the octets under test and the choices around them.
//!
//! What stands behind the last octet 255 are choices: how to cut, what to answer, how long to wait. Without such an
//! octet every choice is 0. So a seed is a plain file that shows what it tests, and a mutation reaches both halves.

use std::ops::Range;

/// Choices, read again from the start when they are used up.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    octets: &'a [u8],
}

impl<'a> Control<'a> {
    /// Choices from octets.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// The choice with that number; 0 where there are none.
    pub fn choice(&self, number: usize) -> u8 {
        if self.octets.is_empty() { 0 } else { self.octets[number % self.octets.len()] }
    }

    /// Whether no choice was made.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The choices from that number on, or none.
    #[must_use]
    pub fn skip(&self, count: usize) -> Self {
        Self { octets: self.octets.get(count..).unwrap_or_default() }
    }

    /// Ranges that cut `length` octets into pieces: mostly small ones, one octet each where no choice was made.
    pub fn cuts(self, length: usize) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        let pieces = (0_usize..).map(move |number| {
            let choice = usize::from(self.choice(number));
            let octets = if choice < 192 { 1 + choice % 8 } else { 1 + choice * 4 };
            let piece = at..length.min(at + octets);
            at = piece.end;
            piece
        });
        pieces.take_while(|piece| !piece.is_empty())
    }
}

/// The octets under test, and the choices.
pub fn split(data: &[u8]) -> (&[u8], Control<'_>) {
    match data.iter().rposition(|&octet| octet == 0xff) {
        Some(at) => (&data[..at], Control::new(&data[at + 1..])),
        None => (data, Control::new(&[])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_everything_once() {
        for control in [&b""[..], &[0, 7, 200], &[255, 3]] {
            let pieces: Vec<_> = Control::new(control).cuts(3000).collect();
            assert_eq!(pieces.first().map(|piece| piece.start), Some(0));
            assert_eq!(pieces.last().map(|piece| piece.end), Some(3000));
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn choices_stand_behind_the_last_255() {
        assert_eq!(split(b"ab").0, b"ab");
        let (octets, control) = split(b"a\xffb\xff\x05\x06");
        assert_eq!((octets, control.choice(0), control.choice(3)), (&b"a\xffb"[..], 5, 6));
    }
}
