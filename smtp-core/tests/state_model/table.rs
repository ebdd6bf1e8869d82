//! How often each (state, command, verdict) was met.

use std::fmt::Write;

use crate::model::Model;
use crate::steps::{Command, Verdict};

/// What of a state decides how commands are answered, besides the counts.
const STATES: [&str; 5] = ["before EHLO", "no transaction", "no recipient", "recipients", "chunks"];
const HELD: [&str; 3] = ["nothing held", "4yz held", "5yz held"];

/// The state with recipients, in which nothing is held.
pub(crate) const RECIPIENTS: usize = 3 * HELD.len();

/// The number of states.
pub(crate) const COUNT: usize = STATES.len() * HELD.len();

/// Where a state is on the way from the greeting to the content, and what is held in it: 0, 4 or 5.
pub(crate) const fn parts(state: usize) -> (usize, u8) {
    (state / HELD.len(), [0, 4, 5][state % HELD.len()])
}

/// The row of a state.
pub(crate) fn state(model: &Model) -> usize {
    let place = match &model.envelope {
        _ if !model.is_greeted => 0,
        None => 1,
        Some(_) if model.chunks.0 > 0 => 4,
        Some((_, recipients)) if recipients.is_empty() => 2,
        Some(_) => 3,
    };
    let held = match model.strongest() {
        None => 0,
        Some((no, _)) if !no.is_permanent => 1,
        Some(_) => 2,
    };
    place * HELD.len() + held
}

/// The rows of the table: for each command the least, by state, of its verdicts.
pub(crate) fn render(steps: &[(Command, Verdict)], counts: &[Vec<u32>]) -> String {
    let mut text = String::from("times that the rarest verdict of each command was met, by state\n");
    for (number, held) in HELD.iter().enumerate() {
        let _ = writeln!(text, "{held:>44}: {}", STATES.map(|state| format!("{state:>15}")).concat());
        let mut commands: Vec<Command> = Vec::new();
        for &(command, _) in steps {
            if commands.contains(&command) {
                continue;
            }
            commands.push(command);
            let of_command = || steps.iter().enumerate().filter(|(_, step)| step.0 == command).map(|(at, _)| at);
            let least = |state: usize| of_command().map(|at| counts[state * HELD.len() + number][at]).min();
            let row = [0, 1, 2, 3, 4].map(|state| format!("{:>15}", least(state).unwrap_or(0))).concat();
            let name = match command {
                Command::Idle(line, _) | Command::Wrong(line, _) => format!("{line:?}"),
                other => format!("{other:?}"),
            };
            let _ = writeln!(text, "{name:>38.38} x {:>3}: {row}", of_command().count());
        }
    }
    text
}
