//! The law of a client session: whatever a server says, however it is cut, each recipient gets one result, and
//! nothing counts as delivered that was not wholly sent and taken (SECURITY.md D-35).
//!
//! The octets of a server are fed octet by octet. Then again in pieces, which never reach across a point where the
//! client has said something or was given a message: what comes in one piece with the reply before is another thing,
//! a reply to a command that was not sent yet. So a last run, with pieces across such points and writes that stop
//! anywhere, may end otherwise, and only what must hold always is looked at.
//!
//! Choice 0 holds switches, choice 1 says after how many octets the server pauses, and those from 2 on are lengths of
//! pauses and of writes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::control::{Control, split};
use crate::sender::{Record, Sender};

/// Switches of choice 0.
const SERVER_LEAVES: u8 = 32;

/// How the octets between two pauses are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Single,
    Turns,
    Pieces,
    Wild,
}

/// Runs the session cut in several ways.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let start = Instant::now();
    let (expected, turns) = run(octets, control, start, Cut::Single, &BTreeSet::new());
    for cut in [Cut::Turns, Cut::Pieces] {
        let (found, _) = run(octets, control, start, cut, &turns);
        assert_eq!(text(&found.sent), text(&expected.sent), "{cut:?}");
        assert_eq!(found.reports, expected.reports, "{cut:?}");
        assert_eq!(found.error, expected.error, "{cut:?}");
    }
    run(octets, control, start, Cut::Wild, &BTreeSet::new());
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Where the client has said something stands beside what came of it.
fn run(
    octets: &[u8],
    control: Control<'_>,
    start: Instant,
    cut: Cut,
    turns: &BTreeSet<usize>,
) -> (Record, BTreeSet<usize>) {
    let switches = control.choice(0);
    let choices = control.skip(2);
    let mut sender = Sender::new(switches, choices, start);
    sender.writes_in_parts = cut == Cut::Wild;
    let pause = usize::from(control.choice(1));
    let between_pauses = if pause == 0 { octets.len().max(1) } else { pause };
    let mut found = BTreeSet::new();
    let mut at = 0;
    for (number, part) in octets.chunks(between_pauses).enumerate() {
        let pieces: Vec<_> = match cut {
            Cut::Single => Control::new(&[]).cuts(part.len()).collect(),
            Cut::Turns => std::iter::once(0..part.len()).collect(),
            Cut::Pieces | Cut::Wild => choices.cuts(part.len()).collect(),
        };
        for piece in pieces {
            // Between two turns, as the first run has found them.
            let mut from = at + piece.start;
            let ends = turns.range(from + 1..at + piece.end).copied().chain([at + piece.end]);
            for end in ends {
                if sender.receive(&octets[from..end]) {
                    found.insert(end);
                }
                from = end;
            }
        }
        at += part.len();
        sender.pause(pause_length(choices.choice(number)));
    }
    if switches & SERVER_LEAVES != 0 {
        sender.server_leaves();
    }
    (sender.finish(), found)
}

/// Around the limits of a client.
fn pause_length(choice: u8) -> Duration {
    Duration::from_secs([0, 1, 19, 121, 181, 301, 601, 3601][usize::from(choice % 8)])
}
