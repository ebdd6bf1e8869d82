//! Conversations as they are written down.
//!
//! `S:` is what the server says, `C:` what the client sends, `--` what else happens.

use std::collections::VecDeque;
use std::time::Duration;

use super::machine::Machine;

/// Plays a conversation with a new session.
pub(crate) fn transcript(script: &str) {
    play(&mut Machine::default(), script);
}

/// Plays a conversation.
///
/// - `C:` lines that follow each other are sent in one piece. `\r`, `\n`, `\0` and `\xHH` are what they say.
/// - `S:` is the next line of the server, or its beginning at a space. `S: 250 x` also stands for a reply of several
///   lines whose first is `250-x`; `S: 250-x` is that line alone.
/// - `-- 5 minutes pass`, `-- shutdown`, `-- the client leaves`, `-- closed`, `-- open`.
///
/// Whatever the server says must be in the script.
pub(crate) fn play(machine: &mut Machine, script: &str) {
    let mut said = Said::default();
    said.add(&machine.send(""));
    let mut to_send = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix("C:") {
            if to_send.is_empty() {
                said.assert_empty(line);
            }
            to_send.extend_from_slice(&unescape(text.strip_prefix(' ').unwrap_or(text)));
            to_send.extend_from_slice(b"\r\n");
            continue;
        }
        said.add(&machine.send(std::mem::take(&mut to_send)));
        if let Some(expected) = line.strip_prefix("S:") {
            said.expect(expected.trim());
        } else if let Some(event) = line.strip_prefix("--") {
            said.assert_empty(line);
            said.add(&happen(machine, event.trim()));
        } else {
            panic!("not a line of a transcript: {line}");
        }
    }
    said.add(&machine.send(to_send));
    said.assert_empty("the end");
}

fn happen(machine: &mut Machine, event: &str) -> String {
    match event {
        "shutdown" => return machine.shut_down(),
        "the client leaves" => machine.leave(),
        "closed" => assert!(machine.is_closed(), "the session should be closed"),
        "open" => assert!(!machine.is_closed(), "the session should be open"),
        _ => {
            let time = event.strip_suffix(" pass").and_then(duration);
            return machine.pass(time.unwrap_or_else(|| panic!("unknown event: {event}")));
        }
    }
    String::new()
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()? * seconds))
}

/// What the server said and the script did not mention yet.
#[derive(Default)]
struct Said(VecDeque<String>);

impl Said {
    fn add(&mut self, output: &str) {
        assert!(output.is_empty() || output.ends_with("\r\n"), "a reply ends with CRLF: {output:?}");
        self.0.extend(output.split_terminator("\r\n").map(str::to_owned));
    }

    fn assert_empty(&self, at: &str) {
        assert!(self.0.is_empty(), "before {at:?} the server also said {:?}", self.0);
    }

    fn expect(&mut self, expected: &str) {
        let line = self.0.pop_front().unwrap_or_else(|| panic!("the server did not say {expected:?}"));
        let has_more = line.as_bytes().get(3) == Some(&b'-');
        if has_more && expected.as_bytes().get(3) == Some(&b' ') {
            assert!(starts_with(&line.replacen('-', " ", 1), expected), "expected {expected:?}, got {line:?}");
            while self.0.pop_front().is_some_and(|line| line.as_bytes().get(3) == Some(&b'-')) {}
        } else {
            assert!(starts_with(&line, expected), "expected {expected:?}, got {line:?}");
        }
    }
}

/// Whether the line is `expected`, or goes on behind it with a space.
pub(crate) fn starts_with(line: &str, expected: &str) -> bool {
    line.strip_prefix(expected).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let escape = ["\\r", "\\n", "\\0"].iter().zip(*b"\r\n\0").find(|(escape, _)| rest.starts_with(**escape));
        let hex = rest.strip_prefix("\\x").and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        if let Some((_, octet)) = escape {
            octets.push(octet);
            rest = &rest[2..];
        } else if let Some(octet) = hex {
            octets.push(octet);
            rest = &rest[4..];
        } else {
            octets.extend_from_slice(&text.as_bytes()[text.len() - rest.len()..][..c.len_utf8()]);
            rest = &rest[c.len_utf8()..];
        }
    }
    octets
}
