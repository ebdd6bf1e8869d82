//! The law of command framing: lines end at CRLF and nothing else, however the octets are cut (RFC 5321 §2.3.8,
//! §4.5.3.1.4).

use smtp_core::{Line, LineLimits, LineReader};

use crate::control::{Control, split};

/// Small, so that short inputs reach them.
const LIMITS: LineLimits = LineLimits { line_octets: 24, discard_octets: 60 };

/// The most octets that the debug form of a reader needs besides five for each octet it holds.
const DEBUG_OCTETS: usize = 120;

/// Checks the reader in pieces and at once against a slow reference, and that it holds less than one line.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let expected = reference(octets);
    let whole: Vec<_> = std::iter::once(0..octets.len()).collect();
    let single: Vec<_> = Control::new(&[]).cuts(octets.len()).collect();
    for pieces in [whole, single, control.cuts(octets.len()).collect()] {
        let mut reader = LineReader::new();
        let mut found = Vec::new();
        for piece in &pieces {
            let mut input = &octets[piece.clone()];
            while found.last() != Some(&Line::Endless) {
                let Some(line) = reader.next(&mut input, LIMITS, <[u8]>::to_vec) else {
                    assert!(input.is_empty(), "what is not taken would be given twice");
                    break;
                };
                found.push(line);
            }
            // What a reader holds shows only in its debug form, where an octet takes five at most ("255, ").
            let shown = format!("{reader:?}").len();
            assert!(shown <= DEBUG_OCTETS + 5 * LIMITS.line_octets, "holds more than a line: {reader:?}");
        }
        assert_eq!(found, expected, "{octets:?} in {pieces:?}");
    }
}

/// The lines of the whole input, one after another.
fn reference(mut octets: &[u8]) -> Vec<Line<Vec<u8>>> {
    let mut lines = Vec::new();
    loop {
        let end = octets.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2);
        let length = end.unwrap_or(octets.len());
        if length as u64 > LIMITS.discard_octets {
            lines.push(Line::Endless);
            return lines;
        }
        let Some(end) = end else { return lines };
        let is_too_long = length > LIMITS.line_octets;
        lines.push(if is_too_long { Line::TooLong } else { Line::Complete(octets[..end - 2].to_vec()) });
        octets = &octets[end..];
    }
}
