//! What each RFC demands, and each practice that the workspace keeps, as rows, and that each row has a proof.
//!
//! A row is a line of `rows/rfcNNNN.txt` or `rows/practices.txt`: section, level, who, the rule in our words, and its proof. That is the names of
//! tests (`file::function`), of checks against other software that `.ci/run` makes (`.ci/program::function`), or `asked: …`,
//! the rule by which `smtp-conformance` asks a server; or it is a reason, behind
//! `waived:` for what we leave, behind `not yet:` for what is not built and not offered.
//! `cargo test -p smtp-core --test conformance rows -- --nocapture` prints the table by RFC, each waiver and each gap.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

const LEVELS: [&str; 4] = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT"];
const WHO: [&str; 6] = ["server", "client", "queue", "both", "policy", "mta"];

/// What the practices of mail servers are called among the RFCs.
const PRACTICES: &str = "practices";

/// The documents, in the order of the table.
const RFCS: [&str; 17] = [
    "5321", "1870", "2033", "2920", "3030", "3207", "3461", "3865", "4954", "6409", "6531", "6710", "7293", "8314",
    "8689", "9422", PRACTICES,
];

#[derive(Debug)]
enum Proof {
    /// Names of tests and of checks, and rules of `smtp-conformance`.
    Tests(Vec<String>),
    Waived(String),
    NotYet(String),
}

#[derive(Debug)]
struct Row {
    rfc: &'static str,
    section: String,
    level: String,
    rule: String,
    proof: Proof,
}

impl Row {
    fn parse(rfc: &'static str, line: &str) -> Result<Self, String> {
        let fields: Vec<_> = line.split(" | ").map(str::trim).collect();
        let &[section, level, who, rule, proof] = &fields[..] else {
            return Err(format!("RFC {rfc}: not five fields: {line}"));
        };
        if fields.iter().any(|field| field.is_empty()) || !LEVELS.contains(&level) || !WHO.contains(&who) {
            return Err(format!("RFC {rfc}: an empty field, or one of another kind: {line}"));
        }
        let reason = |reason: &str| match reason.trim() {
            "" => Err(format!("RFC {rfc}: no reason: {line}")),
            reason => Ok(reason.to_owned()),
        };
        let proof = if let Some(why) = proof.strip_prefix("waived:") {
            Proof::Waived(reason(why)?)
        } else if let Some(why) = proof.strip_prefix("not yet:") {
            Proof::NotYet(reason(why)?)
        } else {
            Proof::Tests(tests(proof))
        };
        let (section, level, rule) = (section.to_owned(), level.to_owned(), rule.to_owned());
        Ok(Self { rfc, section, level, rule, proof })
    }
}

/// A rule behind `asked:` may hold commas, so it comes last.
fn tests(proof: &str) -> Vec<String> {
    let (names, asked) = proof.find("asked: ").map_or((proof, None), |at| (&proof[..at], Some(&proof[at..])));
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.chain(asked).map(str::to_owned).collect()
}

fn rows() -> Result<Vec<Row>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/rows");
    let mut rows = Vec::new();
    for rfc in RFCS {
        let file = if rfc == PRACTICES { format!("{rfc}.txt") } else { format!("rfc{rfc}.txt") };
        let text = fs::read_to_string(folder.join(file)).map_err(|error| format!("{rfc}: {error}"))?;
        for line in text.lines() {
            rows.push(Row::parse(rfc, line)?);
        }
    }
    Ok(rows)
}

/// The sources of the workspace, by path.
struct Sources(HashMap<PathBuf, String>);

impl Sources {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace holds this crate");
        let mut sources = Self(HashMap::new());
        for member in ["smtp-core", "smtp-queue", "smtp-policy", "examples"] {
            sources.add(root, &root.join(member));
        }
        for entry in fs::read_dir(root.join(".ci")).expect("a folder of the workspace").flatten() {
            // What Python has compiled is no text.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                sources.0.insert(Path::new(".ci").join(entry.file_name()), text);
            }
        }
        sources
    }

    fn add(&mut self, root: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder of the workspace").flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                self.add(root, &path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is UTF-8");
                let path = path.strip_prefix(root).expect("it is within").with_extension("");
                self.0.insert(path, text);
            }
        }
    }

    /// Whether a test has that name, in a file whose path ends so.
    fn have(&self, name: &str) -> bool {
        if let Some(rule) = name.strip_prefix("asked: ") {
            let rule = format!("\"{rule}\"");
            let is_asked = |(path, text): (&PathBuf, &String)| {
                path.starts_with("examples/conformance/src/rows") && text.contains(&rule)
            };
            return self.0.iter().any(is_asked);
        }
        let Some((file, function)) = name.split_once("::") else { return false };
        if file.starts_with(".ci/") {
            let is_run = self.0.get(Path::new(".ci/run")).is_some_and(|run| run.contains(file));
            return is_run && self.0.get(Path::new(file)).is_some_and(|text| has_check(text, function));
        }
        self.0.iter().any(|(path, text)| path.ends_with(file) && has_test(text, function))
    }
}

/// The attribute stands within a few lines above the function.
fn has_test(text: &str, function: &str) -> bool {
    text.match_indices(&format!("fn {function}(")).any(|(at, _)| {
        let above: Vec<_> = text[..at].lines().rev().take(4).collect();
        above.iter().take_while(|line| !line.starts_with('}')).any(|line| {
            let line = line.trim_start();
            line.starts_with("#[test]") || line.starts_with("#[tokio::test")
        })
    })
}

/// The function is there, and it is called.
fn has_check(text: &str, function: &str) -> bool {
    let call = format!("{function}(directory");
    let is_called = text.lines().any(|line| line.trim_start().starts_with(&call));
    text.contains(&format!("\ndef {function}(")) && is_called
}

/// What is wrong with the table; nothing, if all is well.
fn faults(rows: &[Row], sources: &Sources) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = HashSet::new();
    for row in rows {
        let name = format!("RFC {} §{}, {}", row.rfc, row.section, row.rule);
        match &row.proof {
            Proof::Tests(tests) => {
                let missing = tests.iter().filter(|test| !sources.have(test));
                faults.extend(missing.map(|test| format!("{name}: there is no {test}")));
            }
            // RFC 5321 is no extension; a waiver of the others would be a promise not kept.
            Proof::Waived(_) if row.rfc != "5321" && row.level.starts_with("MUST") => {
                faults.push(format!("{name}: a MUST of what is offered is waived"));
            }
            Proof::Waived(_) | Proof::NotYet(_) => {}
        }
        if !seen.insert((row.rfc, &row.section, &row.rule)) {
            faults.push(format!("{name}: it stands twice"));
        }
    }
    let waived = rows.iter().filter(|row| matches!(row.proof, Proof::Waived(_))).count();
    if waived * 20 > rows.len() {
        faults.push(format!("{waived} of {} rows are waived, more than 5 %", rows.len()));
    }
    faults
}

/// The table of the README.
fn table(rows: &[Row]) -> String {
    let line = |name: &str, of: &dyn Fn(&Row) -> bool| {
        let count = |kind: fn(&Proof) -> bool| rows.iter().filter(|row| of(row) && kind(&row.proof)).count();
        let proven = count(|proof| matches!(proof, Proof::Tests(_)));
        let waived = count(|proof| matches!(proof, Proof::Waived(_)));
        let not_yet = count(|proof| matches!(proof, Proof::NotYet(_)));
        format!("| {name} | {} | {proven} | {waived} | {not_yet} |\n", proven + waived + not_yet)
    };
    let mut table = String::from("| RFC | Rules | Proven | Waived | Not yet |\n|---|---|---|---|---|\n");
    for rfc in RFCS {
        table += &line(rfc, &|row| row.rfc == rfc);
    }
    table + &line("all", &|_| true)
}

#[test]
fn t17_each_rule_has_a_proof_or_a_reason() {
    let rows = rows().expect("the rows have their form");
    for row in &rows {
        match &row.proof {
            Proof::Waived(why) => {
                println!("waived: RFC {} §{} {}: {}: {why}", row.rfc, row.section, row.level, row.rule);
            }
            Proof::NotYet(why) => {
                println!("not yet: RFC {} §{} {}: {}: {why}", row.rfc, row.section, row.level, row.rule);
            }
            Proof::Tests(_) => {}
        }
    }
    println!("\n{}", table(&rows));
    let faults = faults(&rows, &Sources::read());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn t17_no_practice_is_forgotten() {
    let rows = rows().expect("the rows have their form");
    let named: Vec<_> = rows.iter().filter(|row| row.rfc == PRACTICES).map(|row| &*row.section).collect();
    for number in 1..=48 {
        assert!(named.contains(&&*format!("S{number}")), "S{number} has no row");
    }
}

#[test]
fn t17_the_readme_shows_the_table() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("the workspace has a README");
    let table = table(&rows().expect("the rows have their form"));
    assert!(readme.contains(&table), "README.md is to show\n{table}");
}

#[test]
fn t17_what_is_wrong_with_a_table_is_found() {
    for line in ["", "1 | MUST | server | a rule", "1 | MAY | server | a rule | a::b", "1 | MUST | server |  | a::b"] {
        assert!(Row::parse("5321", line).is_err(), "{line}");
    }
    assert!(Row::parse("5321", "1 | MUST | server | a rule | waived:").is_err());
    let sources = Sources::read();
    let proven = "1 | MUST | server | a rule | rows::t17_what_is_wrong_with_a_table_is_found";
    for (lines, fault) in [
        (vec!["1 | MUST | server | a rule | rows::no_such_test"], "there is no rows::no_such_test"),
        (vec!["1 | MUST | server | a rule | elsewhere::t17_the_readme_shows_the_table"], "there is no elsewhere::"),
        (vec!["1 | MUST | server | a rule | rows::faults"], "there is no rows::faults"),
        (vec!["1 | MUST | server | a rule | .ci/next_hops::with_nobody"], "there is no .ci/next_hops::with_nobody"),
        (vec!["1 | MUST | server | a rule | .ci/next_hops::send"], "there is no .ci/next_hops::send"),
        (vec!["1 | MUST | server | a rule | .ci/dovecot.py::program"], "there is no .ci/dovecot.py::program"),
        (vec!["1 | MUST | server | a rule | asked: never"], "there is no asked: never"),
        (vec!["1 | MUST | server | a rule | waived: no wish"], "a MUST of what is offered is waived"),
        (vec![proven, proven], "it stands twice"),
        (vec!["1 | SHOULD | server | a rule | waived: no wish"], "more than 5 %"),
    ] {
        let rows: Vec<_> = lines.iter().map(|line| Row::parse("1870", line).expect("a row")).collect();
        let found = faults(&rows, &sources);
        assert!(found.iter().any(|found| found.contains(fault)), "{lines:?}: {found:?}");
    }
    let row = Row::parse("1870", proven).expect("a row");
    assert_eq!(faults(&[row], &sources), [""; 0]);
}
