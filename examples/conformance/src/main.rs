//! Asks a server whether it keeps to the RFCs: `cargo run --release --bin smtp-conformance -- 127.0.0.1:2525`.
//!
//! Each row is a conversation of its own over a socket. It says `ok`, what differs, or why it was skipped; a table by RFC
//! comes last. The exit status is 0 where no row that says MUST differs, otherwise 1. Without `--to` no mail is sent.

use std::process::ExitCode;

use clap::Parser;

mod journal;
mod report;
mod row;
mod rows;
mod session;
mod stream;
mod target;

use report::Report;
use target::{Options, Target};

fn main() -> ExitCode {
    let target = match Target::probe(Options::parse()) {
        Ok(target) => target,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    println!("{target}\n");
    let mut report = Report::default();
    for rfc in rows::ALL {
        for row in rfc.rows {
            if target.is_wanted(rfc.number) {
                report.add(rfc.number, row, row.play(&target));
            }
        }
    }
    print!("{report}");
    if report.breaks_a_must() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
