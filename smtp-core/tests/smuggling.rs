//! T5: no octets but `CRLF . CRLF` end a message (SECURITY D-1, D-53, D-54).
//!
//! Each case is a stream behind `354`: text, a candidate that somebody may take for the end, an envelope that would be
//! smuggled, the true end, `QUIT`. A slow reference says which messages, octets and replies must come of it, and a
//! session must give just these, however the stream is cut into writes.
//!
//! A debug build takes fewer segmentations where the content is long, and pairs compositions instead of multiplying
//! them; `cargo test --release` runs all. `--nocapture` shows the figures. All is in clear text: framing does not know
//! what TLS is.

#[path = "smuggling/candidates.rs"]
mod candidates;
#[path = "smuggling/reference.rs"]
mod reference;
#[path = "smuggling/session.rs"]
mod session;
#[path = "smuggling/socket.rs"]
mod socket;
#[path = "smuggling/tally.rs"]
mod tally;

use std::collections::HashMap;

use candidates::{
    COMPOSITIONS_OF_END, Position, Segmentation, Stream, additional_crs, after_other_line_ends, compositions, product,
};
use reference::Reference;
use tally::Tally;

/// Whether there is time for everything.
const ALL: bool = !cfg!(debug_assertions);

#[test]
fn t5_d1_only_crlf_dot_crlf_ends_a_message_at_the_start_and_in_the_middle() {
    let mut tally = Tally::new();
    run(&mut tally, &product(), &Position::NEAR, near);
    tally.conclude("session value, near");
    assert!(tally.cases >= 100_000, "{} cases", tally.cases);
    assert_eq!(product().len(), 11 * 7 * 11);
}

#[test]
fn t5_d1_only_crlf_dot_crlf_ends_a_message_across_the_borders_of_buffers() {
    let mut tally = Tally::new();
    run(&mut tally, &product(), &Position::borders(), across);
    tally.conclude("session value, across borders");
    assert!(tally.cases >= 30_000, "{} cases", tally.cases);
}

#[test]
fn t5_d1_early_talkers_smuggle_nothing_either() {
    let config = session::config(true);
    let mut tally = Tally::new();
    for (position, candidate) in pairs(&Position::NEAR, &product()) {
        let stream = Stream::new(&position.prefix(candidate.len()), &candidate);
        for segmentation in paired(&candidate) {
            // Whether a client talks early depends on the writes, so the reference sees them too.
            let mut reference = Reference::new(true);
            stream.writes(segmentation).for_each(|write| reference.write(write));
            let got = session::run(&config, stream.writes(segmentation));
            let name = || name(&candidate, position, segmentation);
            if !tally.compare(&reference.outcome(), &got, name) {
                return tally.conclude("early talkers refused");
            }
        }
    }
    tally.conclude("session value, early talkers refused");
}

#[test]
fn t5_d1_lmtp_ends_a_message_where_smtp_does() {
    for refuses_early_talkers in [false, true] {
        let config = session::lmtp_config(refuses_early_talkers);
        let mut tally = Tally::new();
        for (position, candidate) in pairs(&Position::NEAR, &product()) {
            let stream = Stream::new(&position.prefix(candidate.len()), &candidate);
            for segmentation in paired(&candidate) {
                let mut reference = Reference::new(refuses_early_talkers);
                stream.writes(segmentation).for_each(|write| reference.write(write));
                let got = session::run(&config, stream.writes(segmentation));
                if !tally.compare(&reference.outcome(), &got, || name(&candidate, position, segmentation)) {
                    break;
                }
            }
        }
        tally.conclude("session value, LMTP");
    }
}

#[test]
fn t5_d53_additional_crs_end_nothing_and_an_empty_message_ends_at_once() {
    let mut tally = Tally::new();
    let positions = [&Position::NEAR[..], &Position::borders()[..3]].concat();
    run(&mut tally, &additional_crs(), &positions, |index, candidate, _| {
        let step = if ALL { 1 } else { 5 };
        let once = (1 + index % step..candidate.len()).step_by(step).map(Segmentation::Once);
        ends().chain(once).chain([Segmentation::Whole, Segmentation::Octets]).collect()
    });
    tally.conclude("session value, D-53");
    assert!(tally.with_end_in_candidate > 0, "an empty message is among them");
}

#[test]
fn t5_d54_how_the_line_before_ended_counts() {
    let mut tally = Tally::new();
    let positions = [&Position::NEAR[..], &Position::borders()].concat();
    run(&mut tally, &after_other_line_ends(), &positions, |_, candidate, position| {
        let all = (0..compositions(candidate.len())).map(|mask| composed(mask, 0));
        all.chain(ends()).chain(whole_and_single(position)).collect()
    });
    tally.conclude("session value, D-54");
    assert_eq!(tally.refused, tally.cases, "a bare CR or LF before the true end");
}

/// By `BDAT` a message ends where its count says (RFC 3030 §2), whatever looks like an end to somebody, in the chunk or
/// across two.
#[test]
fn t5_d1_no_octets_end_a_chunk() {
    let config = session::config(false);
    let (mut cases, mut refused) = (0, 0);
    for (number, (position, candidate)) in pairs(&Position::NEAR, &product()).into_iter().enumerate() {
        let smuggled = b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<b@example.org>\r\nBDAT 2 LAST\r\n\r\n";
        let content = [&position.prefix(candidate.len()), &candidate[..], smuggled].concat();
        let is_text = (0..content.len()).all(|at| match content[at] {
            0 => false,
            b'\r' => content.get(at + 1) == Some(&b'\n'),
            b'\n' => at > 0 && content[at - 1] == b'\r',
            _ => true,
        });
        let start = content.len() - smuggled.len() - candidate.len();
        for cut in start..=start + candidate.len() {
            let (first, second) = content.split_at(cut);
            let wire = [
                format!("BDAT {}\r\n", first.len()).as_bytes(),
                first,
                format!("BDAT {} LAST\r\n", second.len()).as_bytes(),
                second,
                b"QUIT\r\n",
            ]
            .concat();
            for is_binary in [false, true] {
                let size = if (number + cut) % 8 == 0 { 1 } else { wire.len() };
                let (messages, replies) = session::run_chunks(&config, is_binary, wire.chunks(size));
                let name = || format!("{} at {position:?} cut at {cut}, {is_binary}", candidate.escape_ascii());
                if is_text || is_binary {
                    assert!(messages == [&content[..]], "{}", name());
                    assert!(replies.ends_with("221 2.0.0\n"), "{}: {replies}", name());
                } else {
                    assert!(messages.is_empty() && replies.ends_with("550 5.5.2\n"), "{}: {replies}", name());
                    refused += 1;
                }
                cases += 1;
            }
        }
    }
    println!("T5: {cases} cases by BDAT, 0 smuggled, {refused} refused");
    assert!(cases > 10_000 && refused > 1000, "{cases} cases, {refused} refused");
}

/// Runs each candidate at each position in each of the segmentations that `choose` gives for it.
fn run(
    tally: &mut Tally,
    candidates: &[Vec<u8>],
    positions: &[Position],
    choose: impl Fn(usize, &[u8], Position) -> Vec<Segmentation>,
) {
    let config = session::config(false);
    // The reference is slow, and candidates of one length have the prefix in common.
    let mut prefixes: HashMap<(usize, usize), (Vec<u8>, Reference)> = HashMap::new();
    for (at, position) in positions.iter().enumerate() {
        prefixes.clear();
        for (index, candidate) in candidates.iter().enumerate() {
            let (prefix, reference) = prefixes.entry((at, candidate.len())).or_insert_with(|| {
                let prefix = position.prefix(candidate.len());
                let mut reference = Reference::new(false);
                reference.write(&prefix);
                (prefix, reference)
            });
            let stream = Stream::new(prefix, candidate);
            let mut reference = reference.clone();
            reference.write(stream.tail());
            let expected = reference.outcome();
            for segmentation in choose(index + at, candidate, *position) {
                let got = session::run(&config, stream.writes(segmentation));
                if !tally.compare(&expected, &got, || name(candidate, *position, segmentation)) {
                    return;
                }
            }
        }
    }
}

fn name(candidate: &[u8], position: Position, segmentation: Segmentation) -> String {
    format!("{} at {position:?} cut {segmentation:?}", candidate.escape_ascii())
}

fn pairs(positions: &[Position], candidates: &[Vec<u8>]) -> Vec<(Position, Vec<u8>)> {
    positions.iter().flat_map(|&position| candidates.iter().map(move |one| (position, one.clone()))).collect()
}

const fn composed(candidate: u128, end: u128) -> Segmentation {
    Segmentation::Composed { candidate, end: end % COMPOSITIONS_OF_END }
}

/// Every composition of the true end.
fn ends() -> impl Iterator<Item = Segmentation> {
    (0..COMPOSITIONS_OF_END).map(|end| composed(0, end))
}

fn whole_and_single(position: Position) -> impl Iterator<Item = Segmentation> {
    let buffers = match position {
        Position::Across { border, .. } => Some(Segmentation::Buffers(border)),
        _ => None,
    };
    [Segmentation::Whole, Segmentation::Octets].into_iter().chain(buffers)
}

/// Every composition of the candidate, each with one of the true end; every one of the true end; all at once; single
/// octets.
fn paired(candidate: &[u8]) -> Vec<Segmentation> {
    let all = (0..compositions(candidate.len())).map(|mask| composed(mask, mask));
    all.chain(ends()).chain([Segmentation::Whole, Segmentation::Octets]).collect()
}

/// Where the content is short: in release every composition of the candidate with every one of the true end.
fn near(_: usize, candidate: &[u8], _: Position) -> Vec<Segmentation> {
    if !ALL {
        return paired(candidate);
    }
    let product =
        (0..compositions(candidate.len())).flat_map(|mask| (0..COMPOSITIONS_OF_END).map(move |end| (mask, end)));
    let all = product.map(|(mask, end)| composed(mask, end));
    all.chain([Segmentation::Whole, Segmentation::Octets]).collect()
}

/// Where it is long: in release as [`paired`]; otherwise a composition that changes with candidate and position.
fn across(index: usize, candidate: &[u8], position: Position) -> Vec<Segmentation> {
    let few = whole_and_single(position);
    if ALL {
        return few.chain((0..compositions(candidate.len())).map(|mask| composed(mask, mask))).chain(ends()).collect();
    }
    let mask = (index as u128).wrapping_mul(0x9e37_79b9) >> 8;
    few.chain([composed(mask % compositions(candidate.len()), mask)]).collect()
}
