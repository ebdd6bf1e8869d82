//! A line for each row, and the table at the end.

use std::collections::BTreeMap;
use std::fmt;

use crate::row::{Ending, Level, Row};

#[derive(Debug, Default)]
struct Tally {
    ok: usize,
    differs: [usize; 3],
    skipped: usize,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    by_rfc: BTreeMap<&'static str, Tally>,
}

impl Report {
    /// Prints the line of a row, and counts it.
    pub(crate) fn add(&mut self, rfc: &'static str, row: &Row, result: Result<(), Ending>) {
        let tally = self.by_rfc.entry(rfc).or_default();
        print!("RFC {rfc} §{:<9} {:<6} {}: ", row.section, row.level, row.says);
        match result {
            Ok(()) => {
                tally.ok += 1;
                println!("ok");
            }
            Err(Ending::Differs { expected, got }) => {
                tally.differs[row.level as usize] += 1;
                println!("differs: expected {expected}, got {got}");
            }
            Err(Ending::Skipped(why)) => {
                tally.skipped += 1;
                println!("skipped: {why}");
            }
        }
    }

    pub(crate) fn breaks_a_must(&self) -> bool {
        self.by_rfc.values().any(|tally| tally.differs[Level::Must as usize] > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| RFC | rows | ok | MUST differs | SHOULD differs | MAY differs | skipped |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let mut all = Tally::default();
        for (rfc, tally) in &self.by_rfc {
            tally.line(f, rfc)?;
            all.ok += tally.ok;
            all.skipped += tally.skipped;
            for (sum, differs) in all.differs.iter_mut().zip(tally.differs) {
                *sum += differs;
            }
        }
        all.line(f, "all")
    }
}

impl Tally {
    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let [must, should, may] = self.differs;
        let rows = self.ok + must + should + may + self.skipped;
        writeln!(f, "| {name} | {rows} | {} | {must} | {should} | {may} | {} |", self.ok, self.skipped)
    }
}
