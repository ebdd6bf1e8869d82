//! The law of content framing: the decoder equals a slow reading of RFC 5321 §4.1.1.4 and §4.5.2, however the octets
//! are cut.
//!
//! The reference looks at the whole input line by line and is meant to be seen to be right. The decoder looks at many
//! octets at a time and keeps a state between pieces; the two share no code.

use smtp_core::{DataDecoder, DataEncoder, Decoded, Defect};

use crate::control::{Control, split};

/// What was made of octets behind `354`.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    content: Vec<u8>,
    defect: Option<Defect>,
    /// What is left behind the end; `None` where there is no end.
    rest: Option<Vec<u8>>,
}

/// Checks the decoder in pieces and at once, then that it undoes the encoder.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    // Octets in front move the rest against the blocks in which the decoder works.
    let mut wire = vec![b'a'; usize::from(control.choice(0))];
    wire.extend_from_slice(octets);

    let expected = reference(&wire);
    for (how, found) in [
        ("at once", decode(&wire, Control::new(&[]), true)),
        ("octet by octet", decode(&wire, Control::new(&[]), false)),
        ("in pieces", decode(&wire, control, false)),
    ] {
        assert_eq!((found.defect, &found.rest), (expected.defect, &expected.rest), "{how}: {wire:?}");
        if expected.defect.is_none() {
            assert_eq!(found.content, expected.content, "{how}: {wire:?}");
        } else {
            assert!(expected.content.starts_with(&found.content), "{how}: more than what stood before the defect");
        }
    }
    encoding_is_undone(octets, control);
}

/// RFC 5321 §4.5.2, read slowly: lines end with CRLF; a line that is one dot is the end; otherwise a leading dot is
/// removed. The content of an outcome with a defect is what stands before it.
fn reference(wire: &[u8]) -> Outcome {
    let mut content = Vec::new();
    let mut start = 0;
    loop {
        let end = (start..wire.len()).find(|&at| wire[at..].starts_with(b"\r\n"));
        let line = &wire[start..end.unwrap_or(wire.len())];
        let is_end = end.is_some() && line == b".";
        let seen = end.map_or(wire.len(), |end| end + 2);
        if let Some((at, defect)) = first_defect(&wire[..seen]) {
            // The rest is found by going on: a defect does not move the end.
            let content = reference(&wire[..at]).content;
            return Outcome { content, defect: Some(defect), rest: rest_behind_end(wire) };
        }
        if is_end {
            return Outcome { content, defect: None, rest: Some(wire[seen..].to_vec()) };
        }
        let text = match line.strip_prefix(b".") {
            // Whether the line is the end is not known yet, so neither dot nor CR is content yet.
            Some(b"\r") if end.is_none() => b"",
            Some(text) => text,
            None => line,
        };
        content.extend_from_slice(text);
        if end.is_none() {
            return Outcome { content, defect: None, rest: None };
        }
        content.extend_from_slice(b"\r\n");
        start = seen;
    }
}

/// What stands behind the first line that is one dot.
fn rest_behind_end(wire: &[u8]) -> Option<Vec<u8>> {
    if let Some(rest) = wire.strip_prefix(b".\r\n") {
        return Some(rest.to_vec());
    }
    let at = wire.windows(5).position(|octets| octets == b"\r\n.\r\n")?;
    Some(wire[at + 5..].to_vec())
}

/// The first octet that shows a defect. A bare CR shows at the octet behind it.
fn first_defect(octets: &[u8]) -> Option<(usize, Defect)> {
    let before = |at: usize| at.checked_sub(1).map(|before| octets[before]);
    (0..octets.len()).find_map(|at| match octets[at] {
        b'\n' if before(at) != Some(b'\r') => Some((at, Defect::BareLf)),
        b'\n' => None,
        _ if before(at) == Some(b'\r') => Some((at, Defect::BareCr)),
        0 => Some((at, Defect::Nul)),
        _ => None,
    })
}

fn decode(wire: &[u8], control: Control<'_>, at_once: bool) -> Outcome {
    let pieces: Vec<_> =
        if at_once { std::iter::once(0..wire.len()).collect() } else { control.cuts(wire.len()).collect() };
    let mut decoder = DataDecoder::new();
    let mut content = Vec::new();
    for piece in pieces {
        let mut input = &wire[piece.clone()];
        while let Some(decoded) = decoder.next(&mut input) {
            match decoded {
                Decoded::Content(octets) => {
                    assert!(!octets.is_empty(), "a run of nothing would make a loop without progress");
                    content.extend_from_slice(octets);
                }
                Decoded::End => {
                    let rest = wire[piece.end - input.len()..].to_vec();
                    return Outcome { content, defect: decoder.defect(), rest: Some(rest) };
                }
            }
        }
        assert!(input.is_empty(), "what is not taken would be given twice");
    }
    Outcome { content, defect: decoder.defect(), rest: None }
}

fn encoding_is_undone(octets: &[u8], control: Control<'_>) {
    let canonical: Vec<u8> = octets
        .split(|&octet| octet == b'\n')
        .flat_map(|line| line.iter().copied().filter(|octet| !matches!(octet, 0 | b'\r')).chain(*b"\r\n"))
        .collect();
    let wire = encode(&canonical, control).expect("canonical content has no defect");
    let expected = Outcome { content: canonical, defect: None, rest: Some(Vec::new()) };
    assert_eq!(decode(&wire, control, false), expected, "{wire:?}");

    // What is not canonical is refused, never repaired.
    let ends_with_cr = octets.ends_with(b"\r");
    let encoded = encode(octets, control);
    assert_eq!(encoded.is_err(), ends_with_cr || first_defect(octets).is_some(), "{octets:?}");
}

fn encode(content: &[u8], control: Control<'_>) -> Result<Vec<u8>, Defect> {
    let mut wire = Vec::new();
    let mut encoder = DataEncoder::new();
    for piece in control.cuts(content.len()) {
        encoder.encode(&content[piece], &mut wire)?;
    }
    encoder.finish(&mut wire)?;
    Ok(wire)
}
