//! Runs every law over its seeds and over many mutations of them, so that `cargo test` needs neither a sanitizer nor
//! luck.
//!
//! The generator is our own and has a fixed start: the same tree runs the same inputs. What breaks a law is printed by
//! name or octets.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::{LAWS, Law};

/// Mutated inputs for each law. A session is run four times for each input, and so has fewer; a notification is long,
/// and takes as much time.
const MUTATIONS: usize = 20_000;
const MUTATIONS_OF_SESSIONS: usize = 4_000;
const MUTATIONS_OF_NOTIFICATIONS: usize = 4_000;
/// Each is a session with a socket.
const MUTATIONS_OF_MILTERS: usize = 2_000;
/// Each builds a spool, and opens it five times.
const MUTATIONS_OF_SPOOLS: usize = 1_000;
/// Longer inputs are cut; `cargo fuzz` goes further.
const LIMIT_OCTETS: usize = 2_000;

/// The files of a folder, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("readable folder").path();
            (path.file_name().expect("a file").to_string_lossy().into_owned(), fs::read(&path).expect("readable seed"))
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn t16_every_law_holds_for_its_seeds() {
    let mut broken = Vec::new();
    for (target, law) in LAWS {
        let seeds = seeds(target);
        assert!((10..=60).contains(&seeds.len()), "{target} has {} seeds", seeds.len());
        for (name, octets) in seeds {
            if !holds(law, &octets) {
                broken.push(format!("{target}/{name}"));
            }
        }
    }
    assert!(broken.is_empty(), "broken by {broken:?}");
}

#[test]
fn t16_every_law_holds_for_the_seeds_of_the_others() {
    let all: Vec<_> = LAWS.iter().flat_map(|(target, _)| seeds(target)).collect();
    for (target, law) in LAWS {
        for (name, octets) in &all {
            assert!(holds(law, octets), "{target} is broken by {name}");
        }
    }
}

fn mutations(target: &str, count: usize) {
    let (_, law) = LAWS.into_iter().find(|(name, _)| *name == target).expect("a target of that name");
    let seeds: Vec<_> = seeds(target).into_iter().map(|(_, octets)| octets).collect();
    let words = dictionary();
    let mut random = Random(0x5eed_0f5e_ed00);
    for number in 0..count {
        let octets = mutate(&mut random, &seeds, &words);
        assert!(holds(law, &octets), "{target}, mutation {number}: \"{}\"", octets.escape_ascii());
    }
}

/// Octets that broke a law have shown their message already.
fn holds(law: Law, octets: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| law(octets))).is_ok()
}

macro_rules! mutation_tests {
    ($($test:ident: $target:literal, $count:expr;)*) => {$(
        #[test]
        fn $test() {
            mutations($target, $count);
        }
    )*};
}

mutation_tests! {
    t16_no_mutation_breaks_the_law_of_lines: "line", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_commands: "command", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_paths: "path", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_parameters: "parameter", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_text: "text", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_sessions: "session", MUTATIONS_OF_SESSIONS;
    t16_no_mutation_breaks_the_law_of_chunks: "bdat", MUTATIONS_OF_SESSIONS;
    t16_no_mutation_breaks_the_law_of_sasl: "sasl", MUTATIONS_OF_SESSIONS;
    t16_no_mutation_breaks_the_law_of_content: "content", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_received: "received", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_notifications: "dsn", MUTATIONS_OF_NOTIFICATIONS;
    t16_no_mutation_breaks_the_law_of_lists_in_dns: "dns_list", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_authentication_results: "authentication_results", MUTATIONS_OF_SESSIONS;
    t16_no_mutation_breaks_the_law_of_client_replies: "client_reply", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_client_sessions: "client_session", MUTATIONS_OF_SESSIONS;
    t16_no_mutation_breaks_the_law_of_spool_records: "spool_record", MUTATIONS;
    t16_no_mutation_breaks_the_law_of_spool_recovery: "spool_recovery", MUTATIONS_OF_SPOOLS;
    t16_no_mutation_breaks_the_law_of_milters: "milter_reply", MUTATIONS_OF_MILTERS;
    t16_no_mutation_breaks_the_law_of_rewritten_addresses: "srs", MUTATIONS;
}

#[test] // A wrong line would make libFuzzer refuse to start.
fn the_dictionary_is_one_libfuzzer_can_read() {
    let words = dictionary();
    assert!(words.len() >= 40 && words.iter().all(|word| !word.is_empty()));
    assert!(
        words.contains(&b"\r\n.\r\n".to_vec()) && words.contains(&b"\"".to_vec()) && words.contains(&b"\xff".to_vec())
    );
}

/// The words of `smtp.dict`: between quotes, with `\\`, `\"` and `\xNN`.
fn dictionary() -> Vec<Vec<u8>> {
    let lines = include_str!("../smtp.dict").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let text = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).expect("a word in quotes");
            let mut octets = Vec::new();
            let mut rest = text.as_bytes();
            while let [first, behind @ ..] = rest {
                rest = behind;
                octets.push(match (first, rest) {
                    (b'\\', [b'x', high, low, ..]) => {
                        let digits = [*high, *low];
                        rest = &rest[3..];
                        let digits = std::str::from_utf8(&digits).expect("two digits");
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    (b'\\', [escaped @ (b'\\' | b'"'), ..]) => {
                        rest = &rest[1..];
                        *escaped
                    }
                    (b'\\', _) => panic!("unknown escape in {text}"),
                    (octet, _) => *octet,
                });
            }
            octets
        })
        .collect()
}

/// A small generator (xorshift, multiplied at its end): good enough to choose mutations.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(bits).expect("32 bits") % end.max(1)
    }

    fn octet(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }
}

/// One to four changes to a seed.
fn mutate(random: &mut Random, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len() + 1);
        let end = octets.len().min(at + 1 + random.below(12));
        match random.below(8) {
            0 if at < octets.len() => octets[at] = random.octet(),
            1 if at < octets.len() => octets[at] ^= 1 << random.below(8),
            2 => drop(octets.drain(at..end)),
            3 => {
                let copy = octets[at..end].to_vec();
                let to = random.below(octets.len() + 1);
                octets.splice(to..to, copy);
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                octets.truncate(at);
                octets.extend_from_slice(&other[from..]);
            }
            5 => {
                octets.push(0xff);
                octets.extend((0..=random.below(12)).map(|_| random.octet()));
            }
            _ => {
                octets.splice(at..at, words[random.below(words.len())].iter().copied());
            }
        }
    }
    octets.truncate(LIMIT_OCTETS);
    octets
}
