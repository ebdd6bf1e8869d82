//! Damages files as disks, file systems and people do, and says afterwards what was touched.

use std::ops::Range;

use super::choices::Choices;
use super::memory::Image;
use super::reader::{SECTOR, mend_segment, mend_sum};

/// More than this hides what one does.
const DAMAGES: usize = 6;

/// Damages an image. Earlier ones are where blocks come back from.
pub(super) fn damage(image: &mut Image, earlier: &[Image], choices: &mut Choices<'_>) {
    for _ in 0..DAMAGES {
        if choices.is_empty() {
            return;
        }
        let paths: Vec<String> = image.keys().cloned().collect();
        let Some(path) = paths.get(choices.below(paths.len())).cloned() else { return };
        let kind = choices.next();
        let octets = image.get_mut(&path).expect("it is there");
        let place = choices.below(octets.len());
        match kind % 16 {
            0..=3 if place < octets.len() => octets[place] ^= 1 << (kind / 16 % 8),
            4 | 5 => {
                let end = octets.len().min(place + choices.below(2000));
                octets[place..end].fill(choices.next());
            }
            6 => {
                let end = octets.len().min(place + choices.below(200));
                for octet in &mut octets[place..end] {
                    *octet = choices.next();
                }
            }
            7..=9 => {
                let other = choices.below(octets.len());
                swap(octets, place / SECTOR * SECTOR, other / SECTOR * SECTOR);
            }
            10 | 11 => {
                // The block as it was: of this file, or of the one whose place it took.
                let old = earlier.get(choices.below(earlier.len()));
                let old = old.and_then(|image| image.values().nth(choices.below(image.len())));
                let from = place / SECTOR * SECTOR;
                let end = octets.len().min(from + SECTOR * (1 + choices.below(8)));
                if let Some(old) = old.and_then(|old| old.get(from..end)) {
                    octets[from..end].copy_from_slice(old);
                }
            }
            12 => octets.truncate(place),
            13 => octets.truncate(place / SECTOR * SECTOR),
            14 => drop(image.remove(&path)),
            // A segment or snapshot that never was one of ours.
            _ => {
                let name = choices.next();
                image.insert(odd_name(name), choices.take(300).to_vec());
            }
        }
    }
}

fn swap(octets: &mut [u8], a: usize, b: usize) {
    let (low, high) = (a.min(b), a.max(b));
    if low == high || high + SECTOR > octets.len() {
        return;
    }
    let (front, back) = octets.split_at_mut(high);
    front[low..low + SECTOR].swap_with_slice(&mut back[..SECTOR]);
}

/// Names that a spool does not give, and some that it does.
pub(super) fn odd_name(choice: u8) -> String {
    let name = match choice % 20 {
        0 => "log/ffffffffffffffff.segment",
        1 => "log/+000000000000001.segment",
        2 => "log/000000000000000A.segment",
        3 => "log/1.segment",
        4 => "log/0000000000000001.segment~",
        5 => "log/0000000000000000.segment",
        6 => "log/7fffffffffffffff.segment",
        7 => "snapshots/ffffffffffffffff.snapshot",
        8 => "snapshots/1.snapshot",
        9 => "snapshots/+1.snapshot",
        10 => "snapshots/unfinished",
        11 => "snapshots/0000000000000000.snapshot",
        12 => "snapshots/7fffffffffffffff.snapshot",
        13 => "content/",
        14 => "content/0000000000000000000000000a",
        15 => "content/not a name",
        16 => "incoming/anything",
        17 => "log/0000000000000001.segment",
        18 => "snapshots/0000000000000001.snapshot",
        _ => "lost+found",
    };
    name.to_owned()
}

/// The ranges of each file that are not as they were; all of a file that is gone.
pub(super) fn touched(before: &Image, after: &Image) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    for (path, old) in before {
        let new = after.get(path).map_or(&[][..], Vec::as_slice);
        let mut place = 0;
        while place < old.len() {
            if old.get(place) == new.get(place) {
                place += 1;
                continue;
            }
            let from = place;
            while place < old.len() && old.get(place) != new.get(place) {
                place += 1;
            }
            found.push((path.clone(), from..place));
        }
    }
    found
}

/// Files that a law makes up whole: the first choices say what each is, the rest is in it.
pub(super) fn made_up(choices: &mut Choices<'_>) -> Image {
    let mut image = Image::new();
    for _ in 0..=choices.below(3) {
        let kind = choices.next();
        let path = match kind % 8 {
            0..=2 => format!("log/{:016x}.segment", 1 + kind / 8 % 3),
            3..=5 => format!("snapshots/{:016x}.snapshot", 1 + kind / 8 % 3),
            _ => odd_name(choices.next()),
        };
        let octets = choices.below(1 << 12);
        let mut octets = choices.take(octets).to_vec();
        if kind & 64 != 0 {
            mend(&path, &mut octets);
        }
        image.insert(path, octets);
    }
    image
}

fn mend(path: &str, octets: &mut Vec<u8>) {
    if path.starts_with("log/") {
        mend_segment(octets);
        octets.resize(octets.len().next_multiple_of(SECTOR), 0);
    } else {
        mend_sum(octets);
    }
}
